//! Properties of a disk, and a file whose disk may be full for a while.

use std::io::{self, Write};
use std::path::Path;

/// Collects what is written and passes it to a file when it is flushed. What the file does not accept is held, in
/// order, and passed on with a later flush: nothing is lost while its disk has no room, and nothing is written twice.
pub(super) struct HoldingWriter<W> {
    file: W,
    held: Vec<u8>,
}

impl<W: Write> HoldingWriter<W> {
    pub(super) fn new(file: W) -> Self {
        Self { file, held: Vec::new() }
    }

    /// Returns how many bytes the file has not accepted.
    pub(super) fn held_bytes(&self) -> usize {
        self.held.len()
    }
}

impl<W: Write> Write for HoldingWriter<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.held.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        let mut taken = 0;
        let flushed = loop {
            match self.file.write(&self.held[taken..]) {
                _ if taken == self.held.len() => break self.file.flush(),
                Ok(0) => break Err(io::ErrorKind::WriteZero.into()),
                Ok(bytes) => taken += bytes,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => break Err(error),
            }
        };
        self.held.drain(..taken);
        self.held.shrink_to(KEPT_CAPACITY);
        flushed
    }
}

/// Returns the free space on the disk of a folder, or of the nearest existing one above it; `None` if it is not known.
#[cfg(unix)]
pub(super) fn free_bytes(folder: &Path) -> Option<u64> {
    let about = folder.ancestors().find_map(|folder| rustix::fs::statvfs(folder).ok())?;
    Some(about.f_bavail.saturating_mul(about.f_frsize))
}

#[cfg(not(unix))]
pub(super) fn free_bytes(_: &Path) -> Option<u64> {
    None
}

/// Returns whether a disk may later accept what it did not accept now.
pub(super) fn is_disk_error(error: &io::Error) -> bool {
    use io::ErrorKind::{QuotaExceeded, ReadOnlyFilesystem, StorageFull};
    matches!(error.kind(), StorageFull | ReadOnlyFilesystem | QuotaExceeded)
}

/// Chosen: more than a busy daemon writes from one flush to the next, and little compared with what it takes anyway.
const KEPT_CAPACITY: usize = 64 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    /// Accepts this many bytes, seven at a time.
    struct Disk {
        taken: Vec<u8>,
        size: usize,
    }

    impl Write for Disk {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let count = bytes.len().min(7).min(self.size - self.taken.len());
            if count == 0 && !bytes.is_empty() {
                return Err(io::ErrorKind::StorageFull.into());
            }
            self.taken.extend_from_slice(&bytes[..count]);
            Ok(count)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn what_a_full_disk_does_not_take_is_written_when_it_has_room_once_and_in_order() {
        let mut writer = HoldingWriter::new(Disk { taken: Vec::new(), size: 25 });
        let text: Vec<u8> = (0..100).collect();
        writer.write_all(&text[..40]).unwrap();
        assert_eq!(writer.flush().unwrap_err().kind(), io::ErrorKind::StorageFull);
        assert_eq!(writer.held_bytes(), 15);
        writer.write_all(&text[40..]).unwrap();
        writer.file.size = 60;
        assert!(writer.flush().is_err());
        writer.file.size = 1000;
        writer.flush().unwrap();
        assert_eq!((writer.held_bytes(), &writer.file.taken), (0, &text));
        writer.flush().unwrap();
        assert_eq!(writer.file.taken, text);
    }
}
