//! What the programs of the kit share: words of the command line, and how they end.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Runs a program with its words, and returns its exit code: 0 where all is well, 1 where something is not, 2 where it
/// could not be done.
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

/// Returns the whole path of a file or folder that is there.
///
/// # Errors
/// Where there is none.
pub fn whole_path(word: &String) -> Result<PathBuf, String> {
    Path::new(word).canonicalize().map_err(|error| format!("`{word}`: {error}"))
}
