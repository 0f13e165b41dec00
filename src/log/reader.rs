//! Reads an event log line by line, and tells at the end whether it is whole.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;

use serde::Deserialize;

use crate::event::Record;
use crate::log::{Header, LogLevel, LogVersion, Trailer};
use crate::time::Timestamp;

/// Reads a log's records in order, in constant memory. After the last one, [`LogReader::end`] tells how
/// the log ended.
pub struct LogReader {
    name: String,
    input: Box<dyn BufRead + Send>,
    header: Header,
    line: Vec<u8>,
    lines: u64,
    records: u64,
    last: Option<(u64, Timestamp)>,
    digest: blake3::Hasher,
    end: Option<LogEnd>,
}

/// How a log ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogEnd {
    /// Its writer closed it, and every byte is as it was written.
    Closed {
        /// Records read.
        records: u64,
        /// blake3 of every byte above the last line.
        digest: String,
    },
    /// Its writer was stopped. What was read is good as far as it goes, but nothing proves it unchanged.
    Torn {
        /// Records read.
        records: u64,
        /// Bytes of a last, half written line that was left out.
        left_out: u64,
    },
}

impl LogReader {
    /// Opens a log: plain, gzip or zstd, told apart by its first bytes.
    ///
    /// # Errors
    /// What cannot be read, is no log, or is of a newer version.
    pub fn open(path: &Path) -> Result<Self, LogError> {
        let name = path.display().to_string();
        let file = File::open(path).map_err(|source| LogError::Read {
            name: name.clone(),
            line: 1,
            source,
        })?;
        Self::new(&name, file)
    }

    /// Reads a log from anything. `name` stands for the file in errors.
    ///
    /// # Errors
    /// What cannot be read, is no log, or is of a newer version.
    pub fn new(name: &str, input: impl Read + Send + 'static) -> Result<Self, LogError> {
        let name = name.to_owned();
        let fail = |source| LogError::Read { name: name.clone(), line: 1, source };
        let mut input = unpack(input).map_err(fail)?;
        let mut line = Vec::new();
        read_line(&mut input, &mut line).map_err(|error| error.at(&name, 1))?;
        if line.is_empty() {
            return Err(LogError::Empty { name });
        }
        let header = read_header(&name, &line)?;
        let mut digest = blake3::Hasher::new();
        digest.update(&line);
        Ok(Self { name, input, header, line, lines: 1, records: 0, last: None, digest, end: None })
    }

    /// Returns what the run was made from.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// Returns how the log ended; `None` until its last record was read, and after an error.
    pub fn end(&self) -> Option<&LogEnd> {
        self.end.as_ref()
    }

    /// Returns the number of the line that was read last, counted from one.
    pub fn line(&self) -> u64 {
        self.lines
    }

    fn read_next(&mut self) -> Result<Option<Record>, LogError> {
        let line = self.lines + 1;
        read_line(&mut self.input, &mut self.line).map_err(|error| error.at(&self.name, line))?;
        if self.line.is_empty() {
            self.end = Some(LogEnd::Torn { records: self.records, left_out: 0 });
            return Ok(None);
        }
        self.lines = line;
        if self.line.starts_with(TRAILER_STARTS) {
            return self.read_trailer().map(|()| None);
        }
        if self.line.last() != Some(&b'\n') {
            self.end =
                Some(LogEnd::Torn { records: self.records, left_out: self.line.len() as u64 });
            return Ok(None);
        }
        let record = read_record(self.header.version, &self.line)
            .map_err(|source| LogError::Record { name: self.name.clone(), line, source })?;
        self.check_order(&record)?;
        self.digest.update(&self.line);
        self.records += 1;
        Ok(Some(record))
    }

    fn check_order(&mut self, record: &Record) -> Result<(), LogError> {
        let (name, line) = (&self.name, self.lines);
        let full = self.header.level == LogLevel::Full;
        if let Some((_, at)) = self.last
            && record.at < at
        {
            return Err(LogError::Backwards { name: name.clone(), line });
        }
        let in_order = match self.last {
            Some((seq, _)) if full => record.seq == seq.saturating_add(1),
            Some((seq, _)) => record.seq > seq,
            None => !full || record.seq == 0,
        };
        if !in_order {
            return Err(LogError::Sequence { name: name.clone(), line, seq: record.seq });
        }
        self.last = Some((record.seq, record.at));
        Ok(())
    }

    /// The last line must be what the writer would write after these bytes, byte for byte.
    fn read_trailer(&mut self) -> Result<(), LogError> {
        let want = Trailer::new(self.records, &self.digest);
        let want_line = want.to_line();
        if self.line != want_line {
            if want_line.starts_with(&self.line) {
                let left_out = self.line.len() as u64;
                self.end = Some(LogEnd::Torn { records: self.records, left_out });
                return Ok(());
            }
            return Err(LogError::Changed { name: self.name.clone(), line: self.lines });
        }
        read_line(&mut self.input, &mut self.line)
            .map_err(|error| error.at(&self.name, self.lines + 1))?;
        if !self.line.is_empty() {
            return Err(LogError::AfterTheEnd { name: self.name.clone(), line: self.lines + 1 });
        }
        self.end = Some(LogEnd::Closed { records: self.records, digest: want.end.digest });
        Ok(())
    }
}

impl Iterator for LogReader {
    type Item = Result<Record, LogError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.end.is_some() {
            return None;
        }
        self.read_next().transpose()
    }
}

impl std::fmt::Debug for LogReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LogReader")
            .field("name", &self.name)
            .field("line", &self.lines)
            .field("end", &self.end)
            .finish_non_exhaustive()
    }
}

/// Why a log was refused.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "each variant's message says what it is")]
pub enum LogError {
    #[error("{name}: the file is empty, and no event log: make one with --log full")]
    Empty { name: String },
    #[error(
        "{name}:1: this is no event log, whose first line begins with {{\"tiershift_log\":1: give an events.jsonl"
    )]
    NotALog { name: String },
    #[error("{name}:1: the header of this log cannot be read: make the log again")]
    Header { name: String, source: serde_json::Error },
    #[error(
        "{name}:1: the header does not have the fingerprint that it states: it was changed after it was written; make the log again"
    )]
    Fingerprint { name: String },
    #[error(
        "{name}:1: this log is of format {found}, and this tiershift reads up to {}: install a newer tiershift, or make the log again with this one", LogVersion::CURRENT.0
    )]
    Newer { name: String, found: u32 },
    #[error(
        "{name}:1: there is no log format {found}: the first line was changed; make the log again"
    )]
    NoSuchVersion { name: String, found: u32 },
    #[error(
        "{name}:{line}: this is no record of an event log: the line was changed; make the log again"
    )]
    Record { name: String, line: u64, source: serde_json::Error },
    #[error(
        "{name}:{line}: record {seq} does not follow the one above it: lines are missing or were changed"
    )]
    Sequence { name: String, line: u64, seq: u64 },
    #[error("{name}:{line}: time runs backwards here: lines were moved or changed")]
    Backwards { name: String, line: u64 },
    #[error(
        "{name}:{line}: the lines above do not have the digest that this one states: a byte of the log was changed; make the log again"
    )]
    Changed { name: String, line: u64 },
    #[error("{name}:{line}: the log was closed above this line: remove what was added")]
    AfterTheEnd { name: String, line: u64 },
    #[error("{name}:{line}: the line is longer than {LONGEST_LINE} bytes: this is no event log")]
    LongLine { name: String, line: u64 },
    #[error("{name}:{line}: the file cannot be read")]
    Read { name: String, line: u64, source: io::Error },
}

enum LineError {
    Long,
    Read(io::Error),
}

impl LineError {
    fn at(self, name: &str, line: u64) -> LogError {
        let name = name.to_owned();
        match self {
            Self::Long => LogError::LongLine { name, line },
            Self::Read(source) => LogError::Read { name, line, source },
        }
    }
}

/// Reads up to and with the next line break. What is no text file may hold no break at all, so that the
/// length is bounded.
fn read_line(input: &mut impl BufRead, line: &mut Vec<u8>) -> Result<(), LineError> {
    line.clear();
    input.take(LONGEST_LINE).read_until(b'\n', line).map_err(LineError::Read)?;
    if line.len() as u64 == LONGEST_LINE { Err(LineError::Long) } else { Ok(()) }
}

fn read_header(name: &str, line: &[u8]) -> Result<Header, LogError> {
    /// The one key that every version has.
    #[derive(Deserialize)]
    struct Versioned {
        tiershift_log: LogVersion,
    }
    let name = || name.to_owned();
    let version = serde_json::from_slice::<Versioned>(line)
        .map_err(|_| LogError::NotALog { name: name() })?
        .tiershift_log;
    let header: Header = match version.0 {
        1 => serde_json::from_slice(line)
            .map_err(|source| LogError::Header { name: name(), source })?,
        0 => return Err(LogError::NoSuchVersion { name: name(), found: 0 }),
        found => return Err(LogError::Newer { name: name(), found }),
    };
    if header.fingerprint != header.fingerprint() {
        return Err(LogError::Fingerprint { name: name() });
    }
    Ok(header)
}

fn read_record(version: LogVersion, line: &[u8]) -> Result<Record, serde_json::Error> {
    match version.0 {
        1 => serde_json::from_slice(line),
        other => unreachable!("the header of version {other} was refused"),
    }
}

fn unpack(input: impl Read + Send + 'static) -> io::Result<Box<dyn BufRead + Send>> {
    let mut input = BufReader::with_capacity(BUFFER, input);
    let start = input.fill_buf()?;
    Ok(if start.starts_with(&GZIP_MAGIC) {
        Box::new(BufReader::with_capacity(BUFFER, flate2::bufread::MultiGzDecoder::new(input)))
    } else if start.starts_with(&ZSTD_MAGIC) {
        Box::new(BufReader::with_capacity(BUFFER, zstd::Decoder::with_buffer(input)?))
    } else {
        Box::new(input)
    })
}

/// RFC 1952, section 2.3.1.
const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];
/// RFC 8878, section 3.1.1.
const ZSTD_MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];
const TRAILER_STARTS: &[u8] = b"{\"end\":";
/// A header with 32 tiers of models takes some 20 KiB, an error of a model server perhaps more.
const LONGEST_LINE: u64 = 16 << 20;
const BUFFER: usize = 64 << 10;
