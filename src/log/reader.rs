//! Reads an event log line by line, and reports at the end whether it is complete.

use std::io::{self, BufRead, Read};
use std::path::Path;

use serde::Deserialize;
use tiershift_core::event::Record;
use tiershift_core::time::Timestamp;

use crate::files::packed::unpack;
use crate::files::progress::Progress;
use crate::files::whole_file::open_again;
use crate::log::run_log;
use crate::log::segments::Rest;
use crate::log::trailer::{self, AccountLine, ClockLine, Trailer};
use crate::log::{Header, LogLevel, LogVersion, Segment, header, version_1};
use crate::summary::Account;
use crate::wall::WallClock;

/// Reads a log's records in order, in constant memory. After the last one, [`LogReader::end`] returns how the log
/// ended.
pub struct LogReader {
    /// The name of the present segment; the only one, unless it is in a folder of them.
    name: String,
    input: Box<dyn BufRead + Send>,
    /// The header of the first segment.
    header: Header,
    clock: WallClock,
    account: Option<Account>,
    line: Vec<u8>,
    /// Lines and records of this segment.
    lines: u64,
    in_segment: u64,
    /// Records of all segments.
    records: u64,
    last: Option<(u64, Timestamp)>,
    /// For this segment, and for everything.
    digest: blake3::Hasher,
    content: blake3::Hasher,
    rest: Option<Rest>,
    fingerprint: Option<String>,
    end: Option<LogEnd>,
    progress: Progress,
}

/// How a log ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogEnd {
    /// Its writer closed it, and every byte is as it was written.
    Closed {
        /// Records read.
        records: u64,
        /// blake3 of every byte above the last line, of the last segment if there are several.
        digest: String,
    },
    /// Its writer was stopped, or is still writing. What was read is valid as far as it goes, but nothing proves that
    /// the last segment is unchanged.
    Torn {
        /// Records read.
        records: u64,
        /// Bytes of a last, half-written line that was left out.
        left_out: u64,
    },
}

impl LogReader {
    /// Opens a log: plain, gzip or zstd, recognised by its first bytes. A folder of segments, or one of them, is read
    /// from there to the last; a folder of recordings stands for its newest, and the folder of a run for the log in it.
    ///
    /// # Errors
    /// When it cannot be read, is not a log, or has a newer version.
    pub fn open(path: &Path) -> Result<Self, LogError> {
        let (rest, path) = if !path.is_dir() {
            (Rest::after(path), path.to_owned())
        } else if let Some(log) = run_log(path) {
            (None, log)
        } else {
            let (rest, first) = Rest::first_of(path)?;
            (Some(rest), first)
        };
        let name = path.display().to_string();
        let refuse = |source| LogError::Open { name: name.clone(), source };
        let file = open_again(&path).map_err(refuse)?;
        let progress = Progress::of(&file).map_err(refuse)?;
        let log = Self::new(&name, progress.count(file))?;
        // The sizes of later segments are not known yet.
        let progress = if rest.is_none() { progress } else { Progress::default() };
        Ok(Self { rest, progress, ..log })
    }

    /// Reads a log from any source. `name` stands for the file in errors.
    ///
    /// # Errors
    /// When it cannot be read, is not a log, or has a newer version.
    pub fn new(name: &str, input: impl Read + Send + 'static) -> Result<Self, LogError> {
        let Begun { input, header, line } = Begun::read(name, input)?;
        let digest = hash_of(&line);
        let clock = header.started_at.map(WallClock::from_start).unwrap_or_default();
        Ok(Self {
            clock,
            account: None,
            name: name.to_owned(),
            input,
            header,
            line,
            lines: 1,
            in_segment: 0,
            records: 0,
            last: None,
            content: digest.clone(),
            digest,
            rest: None,
            fingerprint: None,
            end: None,
            progress: Progress::default(),
        })
    }

    /// Returns what the run was made from.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// Reads to the end, and returns the last moment.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn end_moment(&mut self) -> Result<Timestamp, LogError> {
        let mut end = Timestamp::ZERO;
        for record in self {
            end = record?.at;
        }
        Ok(end)
    }

    /// Returns the wall clock, as far as the log states it; complete at its end.
    pub fn clock(&self) -> &WallClock {
        &self.clock
    }

    /// Returns what the machine of a simulated run counted, once the log was read to its end.
    pub fn account(&self) -> Option<&Account> {
        self.account.as_ref()
    }

    /// Returns how the log ended; `None` until its last record was read, and after an error.
    pub fn end(&self) -> Option<&LogEnd> {
        self.end.as_ref()
    }

    /// Returns the fingerprint of the run, once its log was read to its proper end.
    pub fn fingerprint(&self) -> Option<&str> {
        self.fingerprint.as_deref()
    }

    /// Returns a view of the progress in the file; it counts nothing if the log is not one file.
    pub fn progress(&self) -> Progress {
        self.progress.clone()
    }

    /// Returns the records read so far.
    pub fn records(&self) -> u64 {
        self.records
    }

    /// Returns the digest of all complete lines that were read so far, uncompressed: of all bytes of a log that was
    /// read to its end and is closed.
    pub fn digest(&self) -> blake3::Hash {
        self.content.finalize()
    }

    /// Returns the position of the last line that was read: the file's name, and the line counted from one.
    pub fn place(&self) -> String {
        format!("{}:{}", self.name, self.lines)
    }

    fn read_next(&mut self) -> Result<Option<Record>, LogError> {
        loop {
            let line = self.lines + 1;
            let is_cut = match read_line(&mut self.input, &mut self.line) {
                Ok(()) => false,
                Err(LineError::Cut) => true,
                Err(error) => return Err(error.at(&self.name, line)),
            };
            if is_cut || self.line.is_empty() {
                self.tear();
                return Ok(None);
            }
            self.lines = line;
            if self.line.starts_with(trailer::STARTS) {
                match self.read_trailer()? {
                    Goes::On => continue,
                    Goes::NoFurther => return Ok(None),
                }
            }
            if self.line.last() != Some(&b'\n') {
                self.tear();
                return Ok(None);
            }
            let unreadable = |source| LogError::Record { name: self.name.clone(), line, source };
            if self.line.starts_with(trailer::CLOCK_STARTS) {
                let ClockLine { clock } = serde_json::from_slice(&self.line).map_err(unreadable)?;
                self.clock.set(clock.at, clock.wall_time);
                self.count_bytes();
                continue;
            }
            if self.line.starts_with(trailer::ACCOUNT_STARTS) {
                let line: AccountLine = serde_json::from_slice(&self.line).map_err(unreadable)?;
                self.account = Some(line.account);
                self.count_bytes();
                continue;
            }
            let record = serde_json::from_slice(&self.line).map_err(unreadable)?;
            self.check_order(&record)?;
            self.count_bytes();
            self.records += 1;
            self.in_segment += 1;
            return Ok(Some(record));
        }
    }

    /// Takes the line that was read into the digests.
    fn count_bytes(&mut self) {
        self.digest.update(&self.line);
        self.content.update(&self.line);
    }

    fn tear(&mut self) {
        let left_out = self.line.len() as u64;
        self.end = Some(LogEnd::Torn { records: self.records, left_out });
    }

    fn check_order(&mut self, record: &Record) -> Result<(), LogError> {
        let (name, line) = (&self.name, self.lines);
        let full = self.header.level == LogLevel::Full;
        if let Some((_, at)) = self.last
            && record.at < at
        {
            return Err(LogError::Backwards { name: name.clone(), line });
        }
        let first = self.header.segment.as_ref().map_or(0, |segment| segment.first_seq);
        let in_order = match self.last {
            Some((seq, _)) if full => record.seq == seq.saturating_add(1),
            Some((seq, _)) => record.seq > seq,
            None => !full || record.seq == first,
        };
        if !in_order {
            return Err(LogError::Sequence { name: name.clone(), line, seq: record.seq });
        }
        self.last = Some((record.seq, record.at));
        Ok(())
    }

    /// Checks that the last line is what the writer would write after these bytes, byte for byte.
    fn read_trailer(&mut self) -> Result<Goes, LogError> {
        let changed = || LogError::Changed { name: self.name.clone(), line: self.lines };
        if self.line.last() != Some(&b'\n') {
            self.tear();
            return Ok(Goes::NoFurther);
        }
        let found: Trailer = serde_json::from_slice(&self.line).map_err(|_| changed())?;
        let sources = found.end.sources;
        let want = Trailer::new(&self.header, self.in_segment, &sources, &self.digest);
        if self.line != want.to_line() {
            return Err(changed());
        }
        self.fingerprint = Some(self.header.fingerprint(&sources));
        self.content.update(&self.line);
        match read_line(&mut self.input, &mut self.line) {
            // Only the compressor's last bytes are cut off here: every line is there.
            Ok(()) | Err(LineError::Cut) => {}
            Err(error) => return Err(error.at(&self.name, self.lines + 1)),
        }
        if !self.line.is_empty() {
            return Err(LogError::AfterTheEnd { name: self.name.clone(), line: self.lines + 1 });
        }
        self.begin_next(want.end.digest)
    }

    /// Moves on to the next segment, if there is one.
    fn begin_next(&mut self, after: String) -> Result<Goes, LogError> {
        let next = match &mut self.rest {
            Some(rest) => rest.next()?.map(|(name, file)| (name, file, rest.number())),
            None => None,
        };
        let Some((name, file, number)) = next else {
            self.end = Some(LogEnd::Closed { records: self.records, digest: after });
            return Ok(Goes::NoFurther);
        };
        let Begun { input, header, line } = match Begun::read(&name, file) {
            Ok(begun) => begun,
            // It was begun, but its first line is incomplete.
            Err(LogError::Empty { .. } | LogError::Cut { .. }) => {
                self.line.clear();
                self.tear();
                return Ok(Goes::NoFurther);
            }
            Err(error) => return Err(error),
        };
        let first_seq = self.last.map_or(0, |(seq, _)| seq.saturating_add(1));
        let want =
            Header { segment: Some(Segment { number, first_seq, after }), ..self.header.clone() };
        if header != want {
            return Err(LogError::NotNext { name });
        }
        self.digest = hash_of(&line);
        self.content.update(&line);
        (self.name, self.input, self.line) = (name, input, line);
        (self.lines, self.in_segment) = (1, 0);
        Ok(Goes::On)
    }
}

/// Whether there is more to read.
enum Goes {
    On,
    NoFurther,
}

/// A file whose first line was read.
struct Begun {
    input: Box<dyn BufRead + Send>,
    header: Header,
    line: Vec<u8>,
}

impl Begun {
    fn read(name: &str, input: impl Read + Send + 'static) -> Result<Self, LogError> {
        let cut = || LogError::Cut { name: name.to_owned() };
        let mut input = match unpack(input) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Err(cut()),
            unpacked => unpacked.map_err(|source| LineError::Read(source).at(name, 1))?,
        };
        let mut line = Vec::new();
        read_line(&mut input, &mut line).map_err(|error| error.at(name, 1))?;
        if line.is_empty() {
            return Err(LogError::Empty { name: name.to_owned() });
        }
        let begins = HEADER_STARTS.len().min(line.len());
        if line.last() != Some(&b'\n') && line[..begins] == HEADER_STARTS[..begins] {
            return Err(cut());
        }
        let header = read_header(name, &line)?;
        Ok(Self { input, header, line })
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
    #[error("{name}: the file is empty: write an event log with --log full")]
    Empty { name: String },
    #[error(
        "{name}:1: this is not an event log: the first line of one begins with `{{\"tiershift_log\":`. Give an events.jsonl"
    )]
    NotALog { name: String },
    #[error("{name}:1: the header of this log cannot be read: write the log again")]
    Header { name: String, source: serde_json::Error },
    #[error(
        "{name}:1: the header does not match its fingerprint: it was changed after it was written; write the log again"
    )]
    Fingerprint { name: String },
    #[error(
        "{name}:1: this log has format {found}, but this version of tiershift reads formats up to {}: install a newer version, or write the log again with this one", LogVersion::CURRENT.0
    )]
    Newer { name: String, found: u32 },
    #[error(
        "{name}:1: log format {found} does not exist: the first line was changed; write the log again"
    )]
    NoSuchVersion { name: String, found: u32 },
    #[error(
        "{name}:{line}: this line is not a record of an event log: it was changed; write the log again"
    )]
    Record { name: String, line: u64, source: serde_json::Error },
    #[error(
        "{name}:{line}: record {seq} does not follow the one above it: lines are missing or were changed"
    )]
    Sequence { name: String, line: u64, seq: u64 },
    #[error("{name}:{line}: time runs backwards here: lines were moved or changed")]
    Backwards { name: String, line: u64 },
    #[error(
        "{name}:{line}: the digest in this line does not match the lines above: the log was changed; write it again"
    )]
    Changed { name: String, line: u64 },
    #[error("{name}:{line}: the log ends above this line: remove the lines that were added")]
    AfterTheEnd { name: String, line: u64 },
    #[error(
        "{name}:{line}: the line is longer than {LONGEST_LINE} bytes: this is not an event log"
    )]
    LongLine { name: String, line: u64 },
    #[error("{name}:{line}: the file cannot be read")]
    Read { name: String, line: u64, source: io::Error },
    #[error("cannot open {name}: check the path")]
    Open { name: String, source: io::Error },
    #[error(
        "{name}: the file ends within its first line, so nothing can be read: write the log again"
    )]
    Cut { name: String },
    #[error(
        "{name} is a folder without a log: it has neither events.jsonl.zst or events.jsonl nor segments such as 000001.jsonl. Give a log"
    )]
    NoSegments { name: String },
    #[error(
        "{name}: segment {number} is missing, but {later} is there: restore it, or give {later}"
    )]
    Gap { name: String, number: u32, later: u32 },
    #[error(
        "{name}:1: this segment does not continue the one before it: one of them was changed or replaced"
    )]
    NotNext { name: String },
}

enum LineError {
    /// Compressed data ends in the middle.
    Cut,
    Long,
    Read(io::Error),
}

impl LineError {
    fn at(self, name: &str, line: u64) -> LogError {
        let name = name.to_owned();
        match self {
            Self::Cut => LogError::Cut { name },
            Self::Long => LogError::LongLine { name, line },
            Self::Read(source) => LogError::Read { name, line, source },
        }
    }
}

/// Reads up to and including the next line break. A file that is not text may contain no break at all, so the length is
/// limited.
fn read_line(input: &mut impl BufRead, line: &mut Vec<u8>) -> Result<(), LineError> {
    line.clear();
    input.take(LONGEST_LINE).read_until(b'\n', line).map_err(|error| match error.kind() {
        io::ErrorKind::UnexpectedEof => LineError::Cut,
        _ => LineError::Read(error),
    })?;
    if line.len() as u64 == LONGEST_LINE { Err(LineError::Long) } else { Ok(()) }
}

fn hash_of(line: &[u8]) -> blake3::Hasher {
    let mut hasher = blake3::Hasher::new();
    hasher.update(line);
    hasher
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
    let read = match version.0 {
        1 => version_1::read,
        2 => header::read,
        0 => return Err(LogError::NoSuchVersion { name: name(), found: 0 }),
        found => return Err(LogError::Newer { name: name(), found }),
    };
    // A line that is not text was cut or changed, like one that is not JSON.
    let line = String::from_utf8_lossy(line);
    match read(&line).map_err(|source| LogError::Header { name: name(), source })? {
        Some(header) => Ok(header),
        None => Err(LogError::Fingerprint { name: name() }),
    }
}

const HEADER_STARTS: &[u8] = b"{\"tiershift_log\":";
/// A header with 32 tiers of models takes some 20 KiB, an error of a model server perhaps more.
const LONGEST_LINE: u64 = 16 << 20;
