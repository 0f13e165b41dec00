//! Writes three model files to try the daemon with, for users who have no models yet: `random_models FOLDER`.
//!
//! They are real: a model server loads them with its ordinary loader and answers at the speed of real models of their
//! size. Their weights are random, so they talk nonsense. A file that exists already is left as it is.

use std::fs;
use std::io;
use std::path::Path;
use std::process::ExitCode;

use tiershift_testkit::gguf;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [folder] = words.as_slice() else {
        eprintln!("usage: random_models FOLDER");
        return ExitCode::from(2);
    };
    match write_all(Path::new(folder)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: cannot write to `{folder}`: {error}");
            ExitCode::from(2)
        }
    }
}

fn write_all(folder: &Path) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    for (name, shape) in MODELS {
        let path = folder.join(name);
        if !path.exists() {
            // Whole or not there: a model server must not meet half of one.
            let half = path.with_extension("half");
            gguf::write(&half, shape)?;
            fs::rename(half, &path)?;
        }
        println!("{:4} MB  {}", fs::metadata(&path)?.len() / 1_000_000, path.display());
    }
    Ok(())
}

/// Each is named after the tier that it comes to be.
const MODELS: [(&str, gguf::Shape); 3] =
    [("small.gguf", gguf::TINY), ("medium.gguf", gguf::SMALL), ("large.gguf", gguf::MEDIUM)];
