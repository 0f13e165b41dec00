//! The recordings in folders.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Component, Path, PathBuf};

use crate::log::{run_log, runs, segments};

/// A file that may be a recording, or a folder of segments that is one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordingFile {
    /// Its path.
    pub path: PathBuf,
    /// Its name in reports: its path, as it was given or found.
    pub name: String,
    /// The same, relative to the folder that was given, without the extensions of the file's name.
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

    /// Returns its possible names, the shortest first: ends of its path, without the extensions of the file's name and
    /// with them.
    fn ends(&self) -> [Vec<PathBuf>; 2] {
        let is_name = |part: &Component<'_>| matches!(part, Component::Normal(_));
        let parts: Vec<_> = self.path.components().filter(is_name).collect();
        let shortest = self.short.components().filter(is_name).count().clamp(1, parts.len().max(1));
        let ends = (shortest..=parts.len())
            .map(|count| parts[parts.len() - count..].iter().collect::<PathBuf>());
        let stem = self.short.file_name().unwrap_or_default();
        let stems: Vec<PathBuf> = ends.clone().map(|end| end.with_file_name(stem)).collect();
        if stems.is_empty() {
            return [vec![self.short.clone()], vec![self.short.clone()]];
        }
        [stems, ends.collect()]
    }
}

/// Returns a folder for each file, to write its results into: the shortest end of its path that distinguishes it from
/// the others, such as `420`, or `2013-7/420` beside `2013-8/420`. Files of one folder that share a name keep their
/// extensions. `None` for a file that is named twice.
pub fn distinct_folders(files: &[RecordingFile]) -> Vec<Option<PathBuf>> {
    let mut folders: Vec<Option<PathBuf>> = vec![None; files.len()];
    let mut groups: BTreeMap<&Path, Vec<usize>> = BTreeMap::new();
    for (place, file) in files.iter().enumerate() {
        groups.entry(&file.short).or_default().push(place);
    }
    // A file that is alone comes first: longer names must avoid its name.
    let mut groups: Vec<Vec<usize>> = groups.into_values().collect();
    groups.sort_by_key(Vec::len);
    let mut taken = BTreeSet::new();
    for group in groups {
        let ends: Vec<[Vec<PathBuf>; 2]> = group.iter().map(|&place| files[place].ends()).collect();
        let most = ends.iter().map(|[stems, _]| stems.len()).max().unwrap_or(0);
        let distinct = (0..2 * most).find_map(|length| {
            let of = |ends: &[Vec<PathBuf>; 2]| {
                let ends = &ends[length / most];
                ends[(length % most).min(ends.len() - 1)].clone()
            };
            let names: Vec<PathBuf> = ends.iter().map(of).collect();
            let all: BTreeSet<&PathBuf> = names.iter().collect();
            let is_distinct =
                all.len() == names.len() && names.iter().all(|name| !taken.contains(name));
            is_distinct.then_some(names)
        });
        for (place, name) in group.into_iter().zip(distinct.into_iter().flatten()) {
            taken.insert(name.clone());
            folders[place] = Some(name);
        }
    }
    folders
}

/// Returns whether a path is a folder that stands for the recordings in it. The folder of a run is a log, and so is one
/// of segments; a daemon's folder of recordings stands for the newest of them.
pub fn is_folder_of_recordings(path: &Path) -> bool {
    let is_log = || {
        run_log(path).is_some()
            || segments(path).is_ok_and(|segments| !segments.is_empty())
            || runs(path).is_ok_and(|runs| !runs.is_empty())
    };
    path.is_dir() && !is_log()
}

/// Returns the files that paths stand for: files as they are, folders as everything in them and below, in order of
/// path. Links to folders are not followed.
///
/// # Errors
/// When a folder cannot be listed, or is empty.
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
        let is_log = || {
            run_log(&path).is_some() || segments(&path).is_ok_and(|segments| !segments.is_empty())
        };
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
        // A folder that contains a run is a folder of runs, as it was before folders of recordings existed.
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

    #[track_caller]
    fn check_folders(paths: &[&str], want: &[Option<&str>]) {
        let files: Vec<_> =
            paths.iter().map(|path| RecordingFile::named(Path::new(path))).collect();
        let got = distinct_folders(&files);
        let got: Vec<_> =
            got.iter().map(|name| name.as_deref().map(|name| name.to_str().unwrap())).collect();
        assert_eq!(got, want, "{paths:?}");
    }

    #[test]
    fn traces_of_one_name_get_the_shortest_folders_that_tell_them_apart() {
        check_folders(&["a/one.csv", "b/two.csv.gz"], &[Some("one"), Some("two")]);
        check_folders(
            &["x/2013-7/420.csv", "x/2013-8/420.csv", "x/2013-8/9.csv"],
            &[Some("2013-7/420"), Some("2013-8/420"), Some("9")],
        );
        check_folders(&["/a/x/1.csv", "/b/x/1.csv"], &[Some("a/x/1"), Some("b/x/1")]);
        check_folders(&["x/a.csv", "x/a.json"], &[Some("a.csv"), Some("a.json")]);
        check_folders(&["a.csv", "x/a.csv"], &[Some("a"), Some("x/a")]);
        check_folders(&["x/a.csv", "x/a.csv", "b.csv"], &[None, None, Some("b")]);
    }

    #[test]
    fn an_empty_folder_is_refused_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let error = recordings(&[folder.path().to_owned()]).unwrap_err().to_string();
        assert!(error.ends_with("is empty: give recordings, or a folder of them"), "{error}");
    }
}
