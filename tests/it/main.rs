//! The integration tests, in one binary: the code's rules, the command line, determinism, properties, scenarios.

#![expect(clippy::unwrap_used, reason = "what helps a test is a test too")]

mod cli;
mod determinism;
#[cfg(all(feature = "serve", target_os = "linux"))]
mod gguf;
mod properties;
mod reports;
mod scenarios;
#[cfg(all(feature = "serve", target_os = "linux"))]
mod serve;
mod support;
mod tidy;
