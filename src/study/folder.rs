//! The recordings that folders hold.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::log::{runs, segments};

/// A file that may be a recording, or a folder of segments that is one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordingFile {
    /// Where it is.
    pub path: PathBuf,
    /// What reports call it: its path, as it was given or found.
    pub name: String,
    /// The same below the folder that was given, without the ends of the file's name.
    pub short: PathBuf,
    /// Whether it was found in a folder, and not named.
    pub is_found: bool,
}

impl RecordingFile {
    /// Returns the file of this path.
    pub fn named(path: &Path) -> Self {
        Self::below(path.parent().unwrap_or(Path::new("")), path, false)
    }

    fn below(folder: &Path, path: &Path, is_found: bool) -> Self {
        let inside = path.strip_prefix(folder).unwrap_or(path);
        let file = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let stem = file.split('.').next().filter(|stem| !stem.is_empty()).unwrap_or(&file);
        let name = path.display().to_string();
        Self { path: path.to_owned(), name, short: inside.with_file_name(stem), is_found }
    }
}

/// Returns whether a path is a folder that stands for the recordings in it. A folder of segments is a log, and one of
/// runs stands for the newest of them.
pub fn is_folder_of_recordings(path: &Path) -> bool {
    let is_log = || {
        segments(path).is_ok_and(|segments| !segments.is_empty())
            || runs(path).is_ok_and(|runs| !runs.is_empty())
    };
    path.is_dir() && !is_log()
}

/// Returns the files that paths stand for: files as they are, folders as everything in them and below, in order of
/// path. Links to folders are not followed.
///
/// # Errors
/// When a folder cannot be listed, or holds nothing.
pub fn recordings(paths: &[PathBuf]) -> Result<Vec<RecordingFile>, FolderError> {
    let mut files = Vec::new();
    for path in paths {
        if !is_folder_of_recordings(path) {
            files.push(RecordingFile::named(path));
            continue;
        }
        let mut found = Vec::new();
        list(path, &mut found)?;
        if found.is_empty() {
            return Err(FolderError::Empty { path: path.clone() });
        }
        found.sort();
        files.extend(found.iter().map(|file| RecordingFile::below(path, file, true)));
    }
    Ok(files)
}

fn list(folder: &Path, found: &mut Vec<PathBuf>) -> Result<(), FolderError> {
    let refuse = |source| FolderError::List { path: folder.to_owned(), source };
    for entry in fs::read_dir(folder).map_err(refuse)? {
        let entry = entry.map_err(refuse)?;
        let path = entry.path();
        let is_log = || segments(&path).is_ok_and(|segments| !segments.is_empty());
        if entry.file_type().map_err(refuse)?.is_dir() && !is_log() {
            list(&path, found)?;
        } else {
            found.push(path);
        }
    }
    Ok(())
}

/// Why a folder was refused.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "each variant's message says what it is")]
pub enum FolderError {
    #[error("cannot list the folder `{}`", path.display())]
    List { path: PathBuf, source: io::Error },
    #[error("the folder `{}` is empty: give recordings, or a folder of them", path.display())]
    Empty { path: PathBuf },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_stands_for_everything_below_it_and_a_log_in_segments_is_one() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        for inner in ["b/deep", "a-log"] {
            fs::create_dir_all(root.join(inner)).unwrap();
        }
        for file in ["c.csv", "b/a.csv.gz", "b/deep/.x", "a-log/000001.jsonl"] {
            fs::write(root.join(file), b"").unwrap();
        }
        let found = recordings(&[root.to_owned(), PathBuf::from("one.csv")]);
        // A folder that holds a run is a folder of runs, as it was before folders of recordings were known.
        assert!(!is_folder_of_recordings(root));
        assert_eq!(found.unwrap().len(), 2);
        let found = recordings(&[root.join("b"), root.join("c.csv")]).unwrap();
        let shown: Vec<_> = found
            .iter()
            .map(|file| (file.path.strip_prefix(root).unwrap(), file.short.as_path()))
            .collect();
        let path = Path::new;
        let want = [
            (path("b/a.csv.gz"), path("a")),
            (path("b/deep/.x"), path("deep/.x")),
            (path("c.csv"), path("c")),
        ];
        assert_eq!(shown, want);
        let deeper = root.join("d");
        fs::create_dir_all(deeper.join("e/run")).unwrap();
        fs::write(deeper.join("e/run/000001.jsonl"), b"").unwrap();
        let found = recordings(&[deeper]).unwrap();
        assert_eq!(found[0].short, path("e/run"));
    }

    #[test]
    fn an_empty_folder_is_refused_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let error = recordings(&[folder.path().to_owned()]).unwrap_err().to_string();
        assert!(error.ends_with("is empty: give recordings, or a folder of them"), "{error}");
    }
}
