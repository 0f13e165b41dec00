//! The integration tests, in one binary: the code's rules, the command line, determinism, properties, scenarios.

#![expect(clippy::unwrap_used, reason = "what helps a test is a test too")]

mod canaries;
mod check;
mod cli;
mod compare;
mod determinism;
mod exec;
mod formats;
mod fuzz;
#[cfg(all(feature = "serve", target_os = "linux"))]
mod guide;
mod html;
mod hunt;
#[cfg(all(feature = "serve", target_os = "linux"))]
mod live;
mod marks;
mod metamorphic;
mod museum;
mod optimum;
mod options;
mod outputs;
#[cfg(all(feature = "serve", target_os = "linux"))]
mod packaging;
mod policies;
mod properties;
mod reports;
mod scenarios;
mod schemas;
mod second_readers;
mod small_worlds;
mod support;
mod sweep;
mod tidy;
mod tune;
mod wall_clock;
