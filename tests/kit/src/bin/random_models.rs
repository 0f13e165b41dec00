//! Writes three model files for users who have no models yet and want to try the daemon: `random_models FOLDER`.
//!
//! They are real: a model server loads them with its ordinary loader and answers at the speed of real models of their
//! size. Their weights are random, so they talk nonsense. A file that already exists is left as it is.

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
            // Complete or absent: a model server must not find half a file.
            let half = path.with_extension("half");
            gguf::write(&half, shape)?;
            fs::rename(half, &path)?;
        }
        println!("{:4} MB  {}", fs::metadata(&path)?.len() / 1_000_000, path.display());
    }
    Ok(())
}

/// Each is named after the tier that it will be.
const MODELS: [(&str, gguf::Shape); 3] =
    [("small.gguf", gguf::TINY), ("medium.gguf", gguf::SMALL), ("large.gguf", gguf::MEDIUM)];
