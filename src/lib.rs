//! tiershift decides which size of a local language model a machine should run right now.

pub mod backend;
pub mod catalog;
pub mod document;
pub mod event;
pub mod hardware;
pub mod probe;
pub mod request;
pub mod rng;
pub mod sample;
pub mod scenario;
pub mod settings;
pub mod summary;
pub mod time;
pub mod trace;
pub mod units;
