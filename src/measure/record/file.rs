//! The file of a recording: never overwrites unasked, and never ends in half a row.

use std::fs::{File, OpenOptions};
use std::io::{self, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use crate::measure::record::RecordError;

/// A file that is written row by row.
///
/// Other files are written under a temporary name and then renamed. This one is not: what is recorded before a kill
/// must be found under the name that was given.
#[derive(Debug)]
pub struct RecordingFile {
    file: File,
    path: PathBuf,
    /// Length of the complete rows.
    kept: u64,
}

impl RecordingFile {
    /// Creates the file at `path`.
    ///
    /// # Errors
    /// When it cannot be created, or exists and `overwrite` is false.
    pub fn create(path: &Path, overwrite: bool) -> Result<Self, RecordError> {
        let mut options = OpenOptions::new();
        options.write(true);
        match overwrite {
            true => options.create(true).truncate(true),
            false => options.create_new(true),
        };
        let place = || path.to_path_buf();
        match options.open(path) {
            Ok(file) => Ok(Self { file, path: place(), kept: 0 }),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                Err(RecordError::Exists { path: place() })
            }
            Err(source) => Err(RecordError::Create { path: place(), source }),
        }
    }

    /// Ensures that the rows are on the disk.
    ///
    /// # Errors
    /// When the disk reports that they are not.
    pub fn finish(self) -> io::Result<()> {
        self.file.sync_all()
    }

    /// Removes the file again, for a recording without content. A device stays.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn discard(self) -> io::Result<()> {
        if self.file.metadata()?.is_file() { std::fs::remove_file(&self.path) } else { Ok(()) }
    }
}

impl Write for RecordingFile {
    fn write(&mut self, row: &[u8]) -> io::Result<usize> {
        self.write_all(row)?;
        Ok(row.len())
    }

    /// Writes a complete row or nothing. There is no buffer: after a kill, every row is with the system.
    fn write_all(&mut self, row: &[u8]) -> io::Result<()> {
        let written = self.file.write_all(row);
        if written.is_err() {
            // A full disk takes part of a row first. If even truncating fails, the reader drops the half row, because
            // it does not end in a line end.
            let _ = self.file.set_len(self.kept);
            let _ = self.file.seek(SeekFrom::Start(self.kept));
            return written;
        }
        self.kept += row.len() as u64;
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_existing_file_is_kept_unless_told_otherwise() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.csv");
        std::fs::write(&path, "precious").unwrap();
        let error = RecordingFile::create(&path, false).unwrap_err();
        assert!(error.to_string().contains("exists"), "{error}");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "precious");

        RecordingFile::create(&path, true).unwrap().write_all(b"row\n").unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "row\n");
    }

    #[test]
    fn a_row_is_in_the_file_before_the_next() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.csv");
        let mut file = RecordingFile::create(&path, false).unwrap();
        for (row, want) in [("1\n", "1\n"), ("22\n", "1\n22\n")] {
            file.write_all(row.as_bytes()).unwrap();
            assert_eq!(std::fs::read_to_string(&path).unwrap(), want);
        }
        file.finish().unwrap();
    }

    #[test]
    fn a_place_that_cannot_be_written_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("no/such/folder/a.csv");
        let error = RecordingFile::create(&path, false).unwrap_err();
        assert!(error.to_string().contains("no/such/folder/a.csv"), "{error}");
        assert!(RecordingFile::create(folder.path(), true).is_err(), "a folder is not a file");
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn a_full_disk_is_an_error() {
        let mut full = RecordingFile::create(Path::new("/dev/full"), true).unwrap();
        let error = full.write_all(b"row\n").unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
    }

    #[test]
    fn a_recording_that_came_to_nothing_leaves_no_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.csv");
        RecordingFile::create(&path, false).unwrap().discard().unwrap();
        assert!(!path.exists());
        #[cfg(target_os = "linux")]
        {
            let null = Path::new("/dev/null");
            RecordingFile::create(null, true).unwrap().discard().unwrap();
            assert!(null.exists());
        }
    }
}
