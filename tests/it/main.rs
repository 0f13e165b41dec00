//! The integration tests, in one binary: the code's rules, the command line, determinism, properties, scenarios.

mod cli;
mod determinism;
#[cfg(all(feature = "serve", target_os = "linux"))]
mod gguf;
mod properties;
mod scenarios;
#[cfg(all(feature = "serve", target_os = "linux"))]
mod serve;
mod support;
mod tidy;
