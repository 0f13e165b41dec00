//! The bytes of a trace: opened, decompressed, hashed and cut into lines in constant memory.

use std::io::{self, BufRead, Read};
use std::path::Path;

use crate::files::packed::unpack;
use crate::files::progress::Progress;
use crate::files::whole_file::open_again;
use crate::trace::TraceError;
use crate::trace::utf16::Utf8;

/// A trace's bytes after decompression, read forwards once.
pub(crate) struct Source {
    name: String,
    input: Utf8<Box<dyn BufRead + Send>>,
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    /// The last line that was returned, or that `byte` has entered.
    line: u64,
    ended: bool,
    /// Why the input cannot be read further. Reported only after everything before it was returned.
    failure: Option<(io::ErrorKind, String)>,
    hasher: blake3::Hasher,
    progress: Progress,
}

/// A line without its end.
pub(crate) struct Line<'a> {
    pub bytes: &'a [u8],
    pub number: u64,
    /// Whether a line end followed; the last line of a truncated file has none.
    pub ended: bool,
}

impl Source {
    pub(crate) fn open(path: &Path) -> Result<Self, TraceError> {
        let name = path.display().to_string();
        let refuse = |source| TraceError::Open { name: name.clone(), source };
        let file = open_again(path).map_err(refuse)?;
        let total = file.metadata().map_err(refuse)?.len();
        Self::new(file, &name, Some(total))
    }

    pub(crate) fn new(
        input: impl Read + Send + 'static,
        name: &str,
        total: Option<u64>,
    ) -> Result<Self, TraceError> {
        let progress = Progress::up_to(total);
        let input = unpack(progress.count(input)).map_err(|source| TraceError::Read {
            name: name.to_owned(),
            line: 1,
            source,
        })?;
        Ok(Self {
            name: name.to_owned(),
            input: Utf8::of(input),
            buffer: vec![0; BUFFER_BYTES],
            start: 0,
            end: 0,
            line: 0,
            ended: false,
            failure: None,
            hasher: blake3::Hasher::new(),
            progress,
        })
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn progress(&self) -> Progress {
        self.progress.clone()
    }

    pub(crate) fn line_number(&self) -> u64 {
        self.line
    }

    /// Returns the digest of all bytes, after UTF-16 has become UTF-8; `None` before the end was reached.
    pub(crate) fn digest(&self) -> Option<blake3::Hash> {
        self.ended.then(|| self.hasher.finalize())
    }

    /// Returns up to [`HEAD_BYTES`] of what comes next without consuming it.
    pub(crate) fn head(&mut self) -> Result<&[u8], TraceError> {
        while !self.ended && self.end - self.start < HEAD_BYTES {
            match self.fill() {
                // What is there may be read before the error is met again.
                Err(_) if self.end > self.start => break,
                other => other?,
            }
        }
        Ok(&self.buffer[self.start..self.end.min(self.start + HEAD_BYTES)])
    }

    /// Consumes `count` bytes that `head` has shown.
    pub(crate) fn skip(&mut self, count: usize) {
        self.start = (self.start + count).min(self.end);
    }

    /// Takes the next line; `None` at the end.
    pub(crate) fn line(&mut self) -> Result<Option<Line<'_>>, TraceError> {
        let Some((length, ended)) = self.line_end(0)? else { return Ok(None) };
        Ok(Some(self.take(length, ended)))
    }

    /// Takes the next row of a table: a line, or several if `is_open` returns that a line ends within a quoted cell. A
    /// quote that is never closed does not count.
    pub(crate) fn row(
        &mut self,
        is_open: impl Fn(&[u8]) -> bool,
    ) -> Result<Option<Line<'_>>, TraceError> {
        let mut end = match self.line_end(0)? {
            None => return Ok(None),
            Some(end) => end,
        };
        let first = end;
        while is_open(&self.buffer[self.start..self.start + end.0]) {
            if !end.1 || end.0 > LONGEST_ROW {
                end = first;
                break;
            }
            // Nothing closes in a line without a quote.
            let closing = loop {
                let from = end.0 + 1;
                let Some(next) = self.line_end(from)? else { break None };
                end = next;
                let added = &self.buffer[self.start + from..self.start + next.0];
                if added.contains(&b'"') || !next.1 || next.0 > LONGEST_ROW {
                    break Some(next);
                }
            };
            if closing.is_none() {
                end = first;
                break;
            }
        }
        let within = self.buffer[self.start..self.start + end.0].iter();
        let lines = within.filter(|byte| **byte == b'\n').count() as u64;
        let line = self.line + 1;
        self.line += lines;
        let taken = self.take(end.0, end.1);
        Ok(Some(Line { number: line, ..taken }))
    }

    /// Returns the length of what is before the first line end at or after `from`, and whether there is one; `None` if
    /// the input ends at `from`.
    fn line_end(&mut self, from: usize) -> Result<Option<(usize, bool)>, TraceError> {
        let mut searched = from;
        loop {
            let pending = &self.buffer[self.start..self.end];
            let unseen = pending.get(searched..).unwrap_or_default();
            // `skip_until` is the standard library's access to its vectorised search for a byte.
            let step = (&*unseen).skip_until(b'\n').unwrap_or_default();
            if step > 0 && unseen[step - 1] == b'\n' {
                return Ok(Some((searched + step - 1, true)));
            }
            searched = pending.len().max(from);
            if self.ended {
                return Ok((searched > from).then_some((searched, false)));
            }
            if searched > LINE_LIMIT {
                return Err(self.malformed(self.line + 1, 1, LINE_TOO_LONG));
            }
            self.fill()?;
        }
    }

    /// Returns what is already in the buffer.
    pub(crate) fn ahead(&self) -> &[u8] {
        &self.buffer[self.start..self.end]
    }

    /// Takes a line of this many bytes, which are in the buffer, and its end, if there is one.
    pub(crate) fn take(&mut self, length: usize, ended: bool) -> Line<'_> {
        let from = self.start;
        self.start = (from + length + 1).min(self.end);
        self.line += 1;
        let bytes = &self.buffer[from..from + length];
        Line { bytes: bytes.strip_suffix(b"\r").unwrap_or(bytes), number: self.line, ended }
    }

    /// Takes the next byte; `None` at the end. Not to be mixed with `line` within one line.
    pub(crate) fn byte(&mut self) -> Result<Option<u8>, TraceError> {
        self.line = self.line.max(1);
        while self.start == self.end {
            if self.ended {
                return Ok(None);
            }
            self.fill()?;
        }
        let byte = self.buffer[self.start];
        self.start += 1;
        self.line += u64::from(byte == b'\n');
        Ok(Some(byte))
    }

    pub(crate) fn malformed(
        &self,
        line: u64,
        column: u64,
        reason: impl Into<String>,
    ) -> TraceError {
        TraceError::Malformed { name: self.name.clone(), line, column, reason: reason.into() }
    }

    fn fill(&mut self) -> Result<(), TraceError> {
        if self.start > 0 {
            self.buffer.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        if self.end == self.buffer.len() {
            self.buffer.resize(self.buffer.len() * 2, 0);
        }
        if self.failure.is_none() {
            match self.input.read(&mut self.buffer[self.end..]) {
                Ok(0) => self.ended = true,
                Ok(count) => {
                    self.hasher.update(&self.buffer[self.end..self.end + count]);
                    self.end += count;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => self.failure = Some((error.kind(), error.to_string())),
            }
        }
        let Some((kind, text)) = &self.failure else { return Ok(()) };
        let source = io::Error::new(*kind, text.clone());
        let (name, line) = (self.name.clone(), self.line + 1);
        Err(match kind {
            io::ErrorKind::UnexpectedEof => TraceError::Truncated { name, line, source },
            _ => TraceError::Read { name, line, source },
        })
    }
}

/// How much recognition may examine. Chosen: an Afterburner header of 100 sensors takes 15 KiB.
pub(crate) const HEAD_BYTES: usize = 32 << 10;
/// The longest line, and the longest JSON record. Chosen: fifty times the longest seen (20 KiB, sadf with all
/// processors), and small enough that a file without line ends is refused at once.
pub(crate) const LINE_LIMIT: usize = 1 << 20;
/// The longest row of several lines. Chosen: a prompt of 200 000 characters fits, and a stray quote costs little.
const LONGEST_ROW: usize = 256 << 10;
pub(crate) const LINE_TOO_LONG: &str =
    "this line is longer than 1 MiB, so this is not a trace: give a file with one row per line";
/// The size of one read. Chosen: larger reads were not faster.
const BUFFER_BYTES: usize = 256 << 10;
