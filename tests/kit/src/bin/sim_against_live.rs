//! Simulates a live run from its log, and prints both side by side: `sim_against_live LOG CATALOG`.
//!
//! LOG was written by `tiershift serve --record`, CATALOG by `tiershift calibrate`.

use std::path::Path;
use std::process::ExitCode;

use tiershift_testkit::fidelity::compare;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [log, catalog] = words.as_slice() else {
        eprintln!("usage: sim_against_live LOG CATALOG");
        return ExitCode::from(2);
    };
    match compare(Path::new(log), Path::new(catalog)) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(2)
        }
    }
}
