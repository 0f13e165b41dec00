//! Shared by the kit's programs: words of the command line, and exit codes.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Runs a program with its words, and returns its exit code: 0 success, 1 a check failed, 2 could
/// not run.
pub fn run(program: impl FnOnce(&[String]) -> Result<bool, Box<dyn Error>>) -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    match program(&words) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(2)
        }
    }
}

/// Returns the absolute path of an existing file or folder.
///
/// # Errors
/// If it does not exist.
pub fn whole_path(word: &String) -> Result<PathBuf, String> {
    Path::new(word).canonicalize().map_err(|error| format!("`{word}`: {error}"))
}
