//! How far a file has been read.

use std::fs::File;
use std::io::{self, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// How far a reader has come, in bytes of the file as it is stored. May be asked from another thread.
#[derive(Clone, Debug, Default)]
pub struct Progress {
    read: Arc<AtomicU64>,
    total: Option<u64>,
}

impl Progress {
    /// Returns what counts up to a total, where that is known.
    pub(crate) fn up_to(total: Option<u64>) -> Self {
        Self { read: Arc::default(), total }
    }

    /// Returns what counts the bytes of a file.
    ///
    /// # Errors
    /// Where its size cannot be read.
    pub(crate) fn of(file: &File) -> io::Result<Self> {
        Ok(Self::up_to(Some(file.metadata()?.len())))
    }

    /// Returns the bytes read so far.
    pub fn read(&self) -> u64 {
        self.read.load(Ordering::Relaxed)
    }

    /// Returns the size of the file; `None` for what is none.
    pub fn total(&self) -> Option<u64> {
        self.total
    }

    /// Returns a reader that counts what it hands out.
    pub(crate) fn count<R: Read>(&self, input: R) -> Counted<R> {
        Counted { input, read: Arc::clone(&self.read) }
    }
}

/// A reader whose bytes are counted.
pub(crate) struct Counted<R> {
    input: R,
    read: Arc<AtomicU64>,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.input.read(buffer)?;
        self.read.fetch_add(count as u64, Ordering::Relaxed);
        Ok(count)
    }
}
