//! A log in pieces: a folder of segments, which continue one log from the first to the last.
//!
//! ```text
//! recordings/                what a daemon is given to write into
//!   20261124T031500Z/        one run
//!     000001.jsonl.zst       finished segments are packed
//!     000002.jsonl           the one that is written
//! ```
//!
//! Each segment is a complete log file. The header of a later one names its number, its first record, and the digest
//! that closes the one before it, so that none can be left out, changed or exchanged unseen. The oldest may be gone: a
//! folder with a size limit drops them.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::files::whole_file::WholeFile;
use crate::log::LogError;

/// A segment's place in its log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Segment {
    /// Its number, counted from one.
    pub number: u32,
    /// The sequence number of its first record.
    pub first_seq: u64,
    /// The digest that closes the segment before it.
    pub after: String,
}

/// A segment's file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SegmentFile {
    /// Its number, counted from one.
    pub number: u32,
    /// Its path.
    pub path: PathBuf,
    /// Its size on the disk.
    pub bytes: u64,
}

/// Returns the name of a segment that is being written.
pub fn segment_name(number: u32) -> String {
    format!("{number:06}{PLAIN}")
}

/// Returns the segments in a folder, in their order. One that exists both compressed and uncompressed counts once: it
/// was compressed, and its writer was stopped before it deleted the other.
///
/// # Errors
/// When the folder cannot be read.
pub fn segments(folder: &Path) -> io::Result<Vec<SegmentFile>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let Some((number, is_packed)) = entry.file_name().to_str().and_then(numbered) else {
            continue;
        };
        // One that was compressed or dropped since is gone.
        let Ok(about) = entry.metadata() else { continue };
        let file = SegmentFile { number, path: entry.path(), bytes: about.len() };
        found.push((number, !is_packed, file));
    }
    found.sort_by_key(|&(number, is_plain, _)| (number, is_plain));
    found.dedup_by_key(|(number, ..)| *number);
    Ok(found.into_iter().map(|(.., file)| file).collect())
}

/// Returns the runs in a folder of recordings, the oldest first.
///
/// # Errors
/// When the folder cannot be read.
pub fn runs(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if segments(&path).is_ok_and(|segments| !segments.is_empty()) {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

/// Compresses a finished segment: the compressed file is complete before the other is deleted.
///
/// # Errors
/// When it cannot be read or written; the segment then stays as it is.
pub fn pack(path: &Path) -> io::Result<()> {
    let mut packed = WholeFile::create(&packed_path(path))?;
    let mut encoder = zstd::Encoder::new(&mut packed, zstd::DEFAULT_COMPRESSION_LEVEL)?;
    io::copy(&mut File::open(path)?, &mut encoder)?;
    encoder.finish()?.flush()?;
    packed.finish()?;
    fs::remove_file(path)
}

/// The rest of a log while one of its segments is being read.
#[derive(Debug)]
pub(super) struct Rest {
    folder: PathBuf,
    number: u32,
}

impl Rest {
    /// Finds the first segment of a log in a folder: of the run in that folder, or of the newest run below it.
    pub(super) fn first_of(folder: &Path) -> Result<(Self, PathBuf), LogError> {
        let name = || folder.display().to_string();
        let refuse = |source| LogError::Open { name: name(), source };
        let newest = || Ok(runs(folder)?.pop());
        let own = segments(folder).map_err(refuse)?;
        let (folder, found) = match own.is_empty() {
            false => (folder.to_owned(), own),
            true => match newest().map_err(refuse)? {
                Some(run) => {
                    let found = segments(&run).map_err(refuse)?;
                    (run, found)
                }
                None => return Err(LogError::NoSegments { name: name() }),
            },
        };
        match found.into_iter().next() {
            Some(SegmentFile { number, path, .. }) => Ok((Self { folder, number }, path)),
            None => Err(LogError::NoSegments { name: name() }),
        }
    }

    /// Returns what follows a file, if its name is a segment's.
    pub(super) fn after(path: &Path) -> Option<Self> {
        let (number, _) = path.file_name()?.to_str().and_then(numbered)?;
        Some(Self { folder: path.parent()?.to_owned(), number })
    }

    /// Opens the next segment; `None` if there is none yet.
    pub(super) fn next(&mut self) -> Result<Option<(String, File)>, LogError> {
        let number = self.number + 1;
        let plain = self.folder.join(segment_name(number));
        let packed = packed_path(&plain);
        // It may be compressed between two looks; then it is found at the third.
        for path in [&packed, &plain, &packed] {
            let name = path.display().to_string();
            match File::open(path) {
                Ok(file) => {
                    self.number = number;
                    return Ok(Some((name, file)));
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(source) => return Err(LogError::Open { name, source }),
            }
        }
        let name = || self.folder.display().to_string();
        let later = segments(&self.folder)
            .map_err(|source| LogError::Open { name: name(), source })?
            .into_iter()
            .find(|segment| segment.number > number);
        match later {
            Some(later) => Err(LogError::Gap { name: name(), number, later: later.number }),
            None => Ok(None),
        }
    }

    /// Returns the number of the last segment that was opened.
    pub(super) fn number(&self) -> u32 {
        self.number
    }
}

/// Returns a segment's number and whether it is compressed, if a file's name is a segment's.
fn numbered(name: &str) -> Option<(u32, bool)> {
    let (stem, is_packed) = match name.strip_suffix(PACKED) {
        Some(plain) => (plain.strip_suffix(PLAIN)?, true),
        None => (name.strip_suffix(PLAIN)?, false),
    };
    let is_number = stem.len() >= 6 && stem.bytes().all(|byte| byte.is_ascii_digit());
    let number = stem.parse().ok().filter(|&number| is_number && number > 0)?;
    Some((number, is_packed))
}

fn packed_path(plain: &Path) -> PathBuf {
    let mut path = plain.as_os_str().to_owned();
    path.push(PACKED);
    path.into()
}

const PLAIN: &str = ".jsonl";
const PACKED: &str = ".zst";
