//! The `tiershift` command. See [`tiershift::cli`].

use std::process::ExitCode;

fn main() -> ExitCode {
    tiershift::cli::run()
}
