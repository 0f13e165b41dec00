//! The test kit: shared by the tests of the live side and by measurements.
//!
//! [`site::Site`] is a folder to serve from, with [models](gguf) of random weights; [`daemon::Daemon`] is the daemon as a
//! process in it, [`engine::Engine`] the real llama-server behind it, [`server::Server`] the client's view of either.
//! The programs beside it (`cargo run -p tiershift-testkit --bin NAME`) are thin: their code is here, so that tests run
//! the same code as people.
//!
//! # Panics
//! On any error: the test has then failed, or the measurement is void.

#![expect(clippy::unwrap_used, reason = "what helps a test is a test too")]

pub mod canary;
pub mod daemon;
pub mod engine;
pub mod fidelity;
pub mod fuzz;
pub mod gguf;
pub mod gpu;
pub mod hog;
pub mod player;
pub mod policy;
pub mod process;
pub mod program;
pub mod server;
pub mod site;
pub mod skip;
pub mod wait;
