//! How far a file has been read or written.

use std::fs::File;
use std::io::{self, Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// The progress of a reader or a writer, in bytes of the file as it is stored. May be queried from another thread.
#[derive(Clone, Debug, Default)]
pub struct Progress {
    passed: Arc<AtomicU64>,
    total: Option<u64>,
}

impl Progress {
    /// Returns a counter up to a total, if that is known.
    pub(crate) fn up_to(total: Option<u64>) -> Self {
        Self { passed: Arc::default(), total }
    }

    /// Returns a counter of a file's bytes.
    ///
    /// # Errors
    /// When its size cannot be read.
    pub(crate) fn of(file: &File) -> io::Result<Self> {
        Ok(Self::up_to(Some(file.metadata()?.len())))
    }

    /// Returns the bytes that were read or written so far.
    pub fn passed(&self) -> u64 {
        self.passed.load(Ordering::Relaxed)
    }

    /// Returns the size of the file; `None` if it is not a file.
    pub fn total(&self) -> Option<u64> {
        self.total
    }

    /// Returns a file whose bytes are counted as they pass.
    pub(crate) fn count<F>(&self, file: F) -> Counted<F> {
        Counted { file, passed: Arc::clone(&self.passed) }
    }
}

/// A reader or a writer whose bytes are counted.
pub(crate) struct Counted<F> {
    file: F,
    passed: Arc<AtomicU64>,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read(buffer)?;
        self.passed.fetch_add(count as u64, Ordering::Relaxed);
        Ok(count)
    }
}

impl<W: Write> Write for Counted<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.file.write(bytes)?;
        self.passed.fetch_add(count as u64, Ordering::Relaxed);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}
