//! A file that is complete or absent: written under a temporary name, then renamed. And how files of other origin are
//! opened: never one that would be waited for, or read, without end.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

use crate::files::whole_file::unfinished::Unfinished;

pub(crate) mod unfinished;

/// A file that is being written. If dropped unfinished, it leaves what was there before.
#[derive(Debug)]
pub struct WholeFile {
    place: PathBuf,
    written: Written,
}

#[derive(Debug)]
enum Written {
    Beside(NamedTempFile, Unfinished),
    /// A pipe or a device: a file in its place would replace it for all programs.
    Straight(File),
}

impl WholeFile {
    /// Begins a file for this place, with the permissions of any new file. A missing folder is created.
    ///
    /// # Errors
    /// When the folder cannot be created or written.
    pub fn create(place: &Path) -> io::Result<Self> {
        // A link stays one: its target is rewritten.
        let place = std::fs::canonicalize(place).unwrap_or_else(|_| place.to_owned());
        if std::fs::metadata(&place).is_ok_and(|about| !about.is_file() && !about.is_dir()) {
            let written = Written::Straight(File::options().write(true).open(&place)?);
            return Ok(Self { place, written });
        }
        let folder = place.parent().filter(|folder| !folder.as_os_str().is_empty());
        let mut builder = tempfile::Builder::new();
        builder.prefix(".tiershift-");
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            // A temporary file is readable by its owner only; this one has the permissions that the umask allows.
            builder.permissions(std::fs::Permissions::from_mode(0o666));
        }
        let folder = folder.unwrap_or(Path::new("."));
        std::fs::create_dir_all(folder)?;
        let (beside, unfinished) = Unfinished::create(|| builder.tempfile_in(folder))?;
        Ok(Self { place, written: Written::Beside(beside, unfinished) })
    }

    /// Puts the file in its place.
    ///
    /// # Errors
    /// When its last bytes cannot be written, or it cannot be renamed.
    pub fn finish(self) -> io::Result<()> {
        if let Written::Beside(beside, _unfinished) = self.written {
            beside.as_file().sync_all()?;
            beside.persist(&self.place)?;
        }
        Ok(())
    }
}

impl Write for WholeFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut self.written {
            Written::Beside(file, _) => file.write(bytes),
            Written::Straight(file) => file.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match &mut self.written {
            Written::Beside(file, _) => file.flush(),
            Written::Straight(file) => file.flush(),
        }
    }
}

/// Opens a file that is read more than once: to recognise it, for its digest, for its content.
///
/// # Errors
/// When it cannot be opened, or is a folder, a pipe (that would be empty the second time) or a device.
pub(crate) fn open_again(path: &Path) -> io::Result<File> {
    let about = std::fs::metadata(path)?;
    if about.is_dir() {
        return Err(io::Error::other("it is a folder"));
    }
    if !about.is_file() {
        return Err(io::Error::other(
            "it is a pipe or a device, and is read more than once: write it into a file first",
        ));
    }
    File::open(path)
}

/// Reads a text file that a user wrote, as a whole.
///
/// # Errors
/// When it cannot be read, or is larger than any such text.
pub(crate) fn read_small(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(LARGEST_TEXT + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > LARGEST_TEXT {
        return Err(io::Error::other(
            "it is larger than 16 MiB, too large for a file of this kind",
        ));
    }
    Ok(bytes)
}

/// Like [`read_small`], but invalid UTF-8 is a plain I/O error.
///
/// # Errors
/// Also when it is not UTF-8.
pub(crate) fn read_small_text(path: &Path) -> io::Result<String> {
    String::from_utf8(read_small(path)?).map_err(|error| {
        let offset = error.utf8_error().valid_up_to();
        io::Error::other(format!("invalid UTF-8 at byte {offset}"))
    })
}

/// Chosen: a thousand times a long scenario, and small enough that a device without end is refused at once.
const LARGEST_TEXT: u64 = 16 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(unix)]
    #[test]
    fn a_link_and_a_pipe_stay_what_they_are() {
        use std::os::unix::fs::{FileTypeExt, symlink};

        let folder = tempfile::tempdir().unwrap();
        let (target, link) = (folder.path().join("target"), folder.path().join("link"));
        std::fs::write(&target, "before").unwrap();
        symlink(&target, &link).unwrap();
        let mut file = WholeFile::create(&link).unwrap();
        file.write_all(b"after").unwrap();
        file.finish().unwrap();
        assert!(std::fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(std::fs::read_to_string(&target).unwrap(), "after");

        let pipe = folder.path().join("pipe");
        let made = std::process::Command::new("mkfifo").arg(&pipe).status().unwrap();
        assert!(made.success());
        // Opened for both, so that neither side waits for the other.
        let mut reader = File::options().read(true).write(true).open(&pipe).unwrap();
        let mut file = WholeFile::create(&pipe).unwrap();
        file.write_all(b"row").unwrap();
        file.finish().unwrap();
        let mut seen = [0; 3];
        reader.read_exact(&mut seen).unwrap();
        assert_eq!(&seen, b"row");
        assert!(std::fs::metadata(&pipe).unwrap().file_type().is_fifo());
    }

    #[cfg(unix)]
    #[test]
    fn a_pipe_is_not_waited_for_and_a_device_without_end_is_not_read() {
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("pipe");
        let made = std::process::Command::new("mkfifo").arg(&pipe).status().unwrap();
        assert!(made.success());
        let refused = open_again(&pipe).unwrap_err().to_string();
        assert!(refused.contains("write it into a file first"), "{refused}");
        assert!(open_again(folder.path()).unwrap_err().to_string().contains("a folder"));
        assert!(open_again(Path::new("/dev/zero")).is_err());
        let refused = read_small_text(Path::new("/dev/zero")).unwrap_err().to_string();
        assert!(refused.contains("larger than 16 MiB"), "{refused}");
    }

    #[test]
    fn an_unfinished_file_leaves_what_was_there() {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().join("a.txt");
        std::fs::write(&place, "before").unwrap();
        let mut file = WholeFile::create(&place).unwrap();
        file.write_all(b"half").unwrap();
        drop(file);
        assert_eq!(std::fs::read_to_string(&place).unwrap(), "before");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
        let mut file = WholeFile::create(&place).unwrap();
        file.write_all(b"after").unwrap();
        file.finish().unwrap();
        assert_eq!(std::fs::read_to_string(&place).unwrap(), "after");
    }
}
