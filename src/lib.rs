//! tiershift decides which size of a local language model a machine should run right now.

pub mod backend;
pub mod catalog;
pub mod controller;
pub mod document;
pub mod driver;
pub mod event;
pub mod hardware;
pub mod log;
pub mod manager;
pub mod probe;
pub mod record;
pub mod replay;
pub mod report;
pub mod request;
pub mod rng;
pub mod sample;
pub mod scaler;
pub mod scenario;
pub mod settings;
pub mod sim;
pub mod summary;
pub mod time;
pub mod trace;
pub mod units;
