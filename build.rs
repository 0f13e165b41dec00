//! Lists the files that are built into the program: the suite, and the recording of `replay --demo`.
//!
//! Done here and not in a macro, so that the next build includes files that were added.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::{env, fs, io};

fn main() -> io::Result<()> {
    let mut files = Vec::new();
    for name in BUILT_IN {
        println!("cargo::rerun-if-changed={name}");
        collect(Path::new(name), &mut files)?;
    }
    files.sort();
    let mut list = String::from("&[\n");
    for file in files {
        let name = file.to_str().expect("the names of our files are text").replace('\\', "/");
        writeln!(
            list,
            "(\"{name}\", include_bytes!(concat!(env!(\"CARGO_MANIFEST_DIR\"), \"/{name}\"))),"
        )
        .expect("a string takes all");
    }
    list.push(']');
    let folder = env::var_os("OUT_DIR").expect("cargo names a folder to write into");
    fs::write(PathBuf::from(folder).join("built_in.rs"), list)
}

fn collect(path: &Path, files: &mut Vec<PathBuf>) -> io::Result<()> {
    if path.is_dir() {
        for entry in fs::read_dir(path)? {
            collect(&entry?.path(), files)?;
        }
    } else {
        files.push(path.to_owned());
    }
    Ok(())
}

/// Files, and folders with all their contents.
const BUILT_IN: [&str; 2] = ["scenarios", "traces/models-come-and-go.csv"];
