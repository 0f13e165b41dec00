//! The part of tiershift that decides: policies, model manager, controller, their data types, and the loop that drives
//! them.
//!
//! One [`Controller`](controller::Controller) takes one input at a time and answers with outputs. [`driver::run`] closes
//! the loop over a [`World`](driver::World), simulated or real.
//!
//! # What is not here
//! No I/O, no clock, no randomness, no threads: time is an argument, and everything that acts on the machine is behind
//! the traits of a world. The same inputs give the same outputs on every platform.

pub mod attribution;
pub mod backend;
pub mod catalog;
pub mod control;
pub mod controller;
pub mod decision;
pub mod demand;
pub mod driver;
pub mod event;
pub mod machine;
pub mod manager;
pub mod model;
pub mod place;
pub mod policy;
pub mod probe;
pub mod request;
pub mod sample;
pub mod settings;
pub mod setup;
pub mod text;
pub mod time;
pub mod units;
