//! Files inside the program, so that it can be tried without a checkout: the suite, and one recording.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::files::whole_file::unfinished::Unfinished;

/// The files, by their paths in the project, in order.
const FILES: &[(&str, &[u8])] = include!(concat!(env!("OUT_DIR"), "/built_in.rs"));

/// The recording of `replay --demo`.
pub(crate) const DEMO: &str = "traces/models-come-and-go.csv";

/// Built-in files in a temporary folder, where every reader accepts them, as long as this is kept.
#[derive(Debug)]
pub(crate) struct BuiltIn {
    folder: TempDir,
    _unfinished: Unfinished,
}

impl BuiltIn {
    /// Unpacks the files whose paths begin with this.
    ///
    /// # Errors
    /// When no temporary folder can be written.
    pub(crate) fn unpack(below: &str) -> io::Result<Self> {
        let mut builder = tempfile::Builder::new();
        let (folder, unfinished) = Unfinished::create(|| builder.prefix(".tiershift-").tempdir())?;
        for (name, bytes) in FILES.iter().filter(|(name, _)| name.starts_with(below)) {
            let path = folder.path().join(name);
            if let Some(parent) = path.parent() {
                fs::create_dir_all(parent)?;
            }
            fs::write(path, bytes)?;
        }
        Ok(Self { folder, _unfinished: unfinished })
    }

    /// Returns the present path of a file or folder.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Returns a text with paths as in the project, not as they are now.
    pub(crate) fn shown(&self, text: &str) -> String {
        text.replace(&self.path("").display().to_string(), "")
    }
}

/// Returns the path of the built-in scenario of this name.
pub(crate) fn scenario(name: &str) -> Option<&'static str> {
    let mut names = FILES.iter().map(|&(file, _)| file);
    names.find(|file| {
        let file = Path::new(file);
        let is_in_suite = !file.parent().is_some_and(|folder| folder.ends_with("catalogs"));
        is_in_suite
            && file.extension().is_some_and(|end| end == "toml")
            && file.file_stem().is_some_and(|stem| stem == name)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_built_in_is_what_the_project_has() {
        let project = Path::new(env!("CARGO_MANIFEST_DIR"));
        let mut there = vec![project.join(DEMO)];
        let mut open = vec![project.join("scenarios")];
        while let Some(folder) = open.pop() {
            for entry in fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() { open.push(path) } else { there.push(path) }
            }
        }
        assert_eq!(FILES.len(), there.len());
        for path in there {
            let name = path.strip_prefix(project).unwrap().to_str().unwrap().replace('\\', "/");
            let built_in = FILES.iter().find(|(file, _)| *file == name);
            let (_, bytes) = built_in.unwrap_or_else(|| panic!("{name} is not built in"));
            assert!(*bytes == fs::read(&path).unwrap(), "{name} differs: build again");
        }
    }

    #[test]
    fn a_scenario_is_found_by_its_name_and_a_catalog_is_none() {
        assert_eq!(scenario("idle"), Some("scenarios/idle.toml"));
        assert_eq!(scenario("plan-that-flips"), Some("scenarios/museum/plan-that-flips.toml"));
        assert_eq!((scenario("workstation"), scenario("idl")), (None, None));
    }
}
