//! Shared by the tests: the project's files, and the command.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use flate2::read::DeflateDecoder;
use snapbox::cmd::{Command, cargo_bin};

/// Returns the project's folder.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Returns every file of the project below `folder`, sorted by name, without build outputs and a person's private
/// files.
pub(crate) fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut entries: Vec<PathBuf> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    entries.sort();
    for entry in entries {
        let name = entry.file_name().unwrap().to_string_lossy().into_owned();
        if entry.is_dir() {
            if !NOT_OURS.contains(&name.as_str()) {
                found.extend(files(&entry));
            }
        } else if name != ".git" {
            found.push(entry);
        }
    }
    found
}

/// Returns a path relative to the project's folder.
pub(crate) fn short(path: &Path) -> String {
    path.strip_prefix(root()).unwrap_or(path).to_string_lossy().replace('\\', "/")
}

/// Returns the command, to be run in the project's folder. `TIERSHIFT_PROGRAM` may name another build: the release
/// build must write the same bytes.
pub(crate) fn tiershift() -> Command {
    let other = std::env::var_os("TIERSHIFT_PROGRAM").map(PathBuf::from);
    Command::new(other.unwrap_or_else(|| cargo_bin!("tiershift").to_owned()))
        .current_dir(root())
        .stdin("")
        .env_remove("CLICOLOR_FORCE")
        .env_remove("COLUMNS")
}

/// Folders that git ignores, and git's own.
const NOT_OURS: [&str; 6] =
    [".git", "target", "out", "proptest-regressions", "corpus", "artifacts"];

/// The result of a run of the command.
pub(crate) struct Ran {
    pub(crate) line: String,
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Ran {
    /// Asserts the exit code.
    #[track_caller]
    pub(crate) fn exits(self, code: i32) -> Self {
        let Self { line, out, err, .. } = &self;
        assert_eq!(self.code, code, "tiershift {line}\nstdout: {out}\nstderr: {err}");
        self
    }

    /// Returns standard output as JSON.
    #[track_caller]
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.out)
            .unwrap_or_else(|error| panic!("tiershift {}: {error}\n{}", self.line, self.out))
    }
}

/// Runs the command in `folder` with arguments that hold no spaces.
pub(crate) fn run_in(folder: &Path, line: &str) -> Ran {
    run_with(folder, line, Vec::new())
}

/// As [`run_in`], with text for standard input.
pub(crate) fn run_with(folder: &Path, line: &str, input: Vec<u8>) -> Ran {
    let words = shlex::split(line).expect("its quotes are closed");
    let output = tiershift().current_dir(folder).stdin(input).args(words).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("output is text");
    Ran {
        line: line.to_owned(),
        code: output.status.code().expect("no signal ended it"),
        out: text(output.stdout),
        err: text(output.stderr),
    }
}

/// Returns the data in an HTML page.
pub(crate) fn held_by(page: &str) -> serde_json::Value {
    let (_, rest) = page.split_once("id=\"data\">").unwrap();
    let packed = STANDARD.decode(rest.split_once('<').unwrap().0).unwrap();
    serde_json::from_reader(DeflateDecoder::new(&packed[..])).unwrap()
}

/// Returns every file below a folder with its bytes, by name.
pub(crate) fn contents(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    files(folder)
        .into_iter()
        .map(|path| {
            let name = path.strip_prefix(folder).unwrap().to_string_lossy().into_owned();
            (name, fs::read(&path).unwrap())
        })
        .collect()
}

/// Returns a native resource trace of a machine with 16 GiB, with each of `others` [GiB] in use by others for a
/// minute.
pub(crate) fn trace(others: &[f64]) -> String {
    let mut text = "# tiershift resource trace 1\n\
        at_ns,memory_total_bytes,memory_others_bytes,memory_own_bytes,cpu_others_milli_percent\n"
        .to_owned();
    for (minute, gib) in others.iter().enumerate() {
        for second in (0..60).step_by(2) {
            let at = (minute as u64 * 60 + second) * 1_000_000_000;
            let bytes = (gib * GIB) as u64;
            writeln!(text, "{at},{},{bytes},0,5000", 16 * GIB as u64).unwrap();
        }
    }
    text
}

const GIB: f64 = 1_073_741_824.0;
