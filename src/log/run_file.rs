//! The log of one run, as a file in the run's folder: plain, or compressed while it is written.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use crate::files::progress::{Counted, Progress};

/// The name of a plain log in its run's folder.
pub const PLAIN_LOG: &str = "events.jsonl";
/// The name of a compressed log in its run's folder.
pub const PACKED_LOG: &str = "events.jsonl.zst";

/// Returns the log in the folder of a run, if there is one. A run leaves one; if it was decompressed there, the plain
/// one is used.
pub fn run_log(folder: &Path) -> Option<PathBuf> {
    [PLAIN_LOG, PACKED_LOG].map(|name| folder.join(name)).into_iter().find(|log| log.is_file())
}

/// A log's file that is being written. The bytes are the same on every machine and with any number of threads.
pub struct RunLog {
    out: Out,
    written: Progress,
}

enum Out {
    Plain(BufWriter<Counted<File>>),
    /// Compressed in its own thread.
    Packed(Box<BufWriter<zstd::Encoder<'static, Counted<File>>>>),
}

impl RunLog {
    /// Creates the file in a run's folder.
    ///
    /// # Errors
    /// When it cannot be created, or the system provides no thread to compress it.
    pub fn create(folder: &Path, is_packed: bool) -> io::Result<Self> {
        let name = if is_packed { PACKED_LOG } else { PLAIN_LOG };
        let written = Progress::default();
        let file = written.count(File::create(folder.join(name))?);
        let out = if is_packed {
            let mut encoder = zstd::Encoder::new(file, LEVEL)?;
            encoder.multithread(1)?;
            Out::Packed(Box::new(BufWriter::with_capacity(BUFFER, encoder)))
        } else {
            Out::Plain(BufWriter::with_capacity(BUFFER, file))
        };
        Ok(Self { out, written })
    }

    /// Returns a view of the bytes that are on the disk so far.
    pub fn written(&self) -> Progress {
        self.written.clone()
    }

    /// Writes what is left.
    ///
    /// # Errors
    /// When that fails.
    pub fn close(self) -> io::Result<()> {
        match self.out {
            Out::Plain(mut file) => file.flush(),
            Out::Packed(packed) => {
                let encoder = packed.into_inner().map_err(io::IntoInnerError::into_error)?;
                encoder.finish().map(drop)
            }
        }
    }
}

impl Write for RunLog {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut self.out {
            Out::Plain(file) => file.write(bytes),
            Out::Packed(file) => file.write(bytes),
        }
    }

    /// Only [`RunLog::close`] flushes: a compressed block that ends early is a larger one.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Measured 2026-11-27 on the full logs of two recordings of `bitbrains_rnd` (7.9 and 5.2 MB): level 1 gives 320 and 218 kB,
/// level 3, the usual one, 370 and 238 kB, level 6 317 and 211 kB, level 9 284 and 192 kB for several times the work.
const LEVEL: i32 = 1;
/// Chosen: several lines at once for the compressing thread.
const BUFFER: usize = 64 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    /// Writes some megabytes in pieces of a length, and returns the file.
    fn packed(piece: usize) -> Vec<u8> {
        let folder = tempfile::tempdir().unwrap();
        let mut log = RunLog::create(folder.path(), true).unwrap();
        let text: Vec<u8> = (0..400_000u32)
            .flat_map(|number| {
                format!("{{\"seq\":{number},\"of\":{}}}\n", number % 97).into_bytes()
            })
            .collect();
        for piece in text.chunks(piece) {
            log.write_all(piece).unwrap();
        }
        let written = log.written();
        log.close().unwrap();
        let bytes = std::fs::read(run_log(folder.path()).unwrap()).unwrap();
        assert_eq!(written.passed(), bytes.len() as u64);
        assert!(zstd::decode_all(&bytes[..]).unwrap() == text, "what was packed comes out again");
        bytes
    }

    #[test]
    fn a_packed_log_is_the_same_bytes_on_every_run_however_it_is_cut() {
        let first = packed(29);
        assert!(first == packed(29) && first == packed(100_000));
    }
}
