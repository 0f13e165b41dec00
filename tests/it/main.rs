//! The integration tests, in one binary: the code's rules, the command line, determinism, properties, scenarios.

mod cli;
mod determinism;
mod properties;
mod scenarios;
mod support;
mod tidy;
