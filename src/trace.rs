//! Recorded series: resource traces (samples of a machine) and request traces (arrivals).
//!
//! [`ResourceReader`] and [`RequestReader`] stream any format, plain or compressed with gzip or Zstandard, in constant
//! memory, and count all defects. The format is recognised by the file's first lines ([`recognise`]); public formats
//! are described by mapping files ([`import`](mod@import)). [`NativeWriter`] writes our own format, and [`convert`]
//! converts any other to it. Times are relative to the first accepted row.
//!
#![doc = include_str!("trace/columns.md")]

use std::io;

use tiershift_core::machine::Machine;
use tiershift_core::time::Timestamp;
use tiershift_core::units::Bytes;

use crate::files::document::DocumentError;
use crate::trace::column::Assembler;
use crate::trace::source::Source;
use crate::wall::{Part, WallClock};

mod column;
mod convert;
mod cut;
mod dates;
mod defects;
pub mod import;
mod load;
mod native;
mod pace;
mod request;
mod resource;
mod source;
mod threaded;
mod utf16;

#[cfg(test)]
mod kinds;
#[cfg(test)]
mod properties;
#[cfg(test)]
mod public_data;
#[cfg(test)]
mod tests;

pub use crate::files::progress::Progress;
pub use convert::{Conversion, MADE_BY_IMPORT, convert, convert_to, extent, survey};
pub use defects::{Defect, DefectKind, Defects};
pub use import::{Format, Kind, Mapping, Told, recognise};
pub use load::{Loaded, load_requests, load_samples};
pub use native::writer::NativeWriter;
pub use request::RequestReader;
pub use request::writer::RequestWriter;
pub use resource::ResourceReader;
pub use threaded::ThreadedReader;

/// How a trace is to be read.
#[derive(Clone, Debug, Default)]
pub struct ReadOptions {
    /// The format of the file; `None`: recognise it.
    pub format: Option<Format>,
    /// Whether the first defect is an error.
    pub strict: bool,
    /// Totals for a file that gives a use without its total (GPU-Z, Afterburner). What the file itself states takes
    /// precedence.
    pub machine: Option<Machine>,
    /// What the user states about the file.
    pub told: Told,
    /// Whether silences of hours are left out of the moments, as for a replay.
    pub cut_silences: bool,
    /// The selected part of the trace, by its moments.
    pub part: Part,
}

impl ReadOptions {
    fn format_of(&self, source: &mut Source, wanted: Kind) -> Result<Format, TraceError> {
        let format = self.any_format_of(source)?;
        let name = source.name().to_owned();
        if format.kind() == wanted {
            return Ok(format);
        }
        let (format, about) = (format.name().to_owned(), format.about().to_owned());
        Err(TraceError::WrongKind { name, format, about, wanted })
    }

    fn any_format_of(&self, source: &mut Source) -> Result<Format, TraceError> {
        let name = source.name().to_owned();
        let head = source.head()?;
        if head.is_empty() {
            return Err(TraceError::Empty { name });
        }
        let binary = binary(head);
        let marked = head.starts_with(b"\xef\xbb\xbf");
        let format = match &self.format {
            Some(format) => Ok(format.clone()),
            None => recognise(head).map_err(|error| error.in_file(&name)),
        };
        // A log may have a hole of NUL bytes; a file that contains a known format's words is not binary data.
        if let Some(what) = binary
            && !format.as_ref().is_ok_and(|format| format.is_recognised_in(head))
        {
            return Err(TraceError::Binary { name, what });
        }
        let format = format?;
        if marked {
            // A byte order mark for UTF-8 is not part of the first cell.
            source.skip(3);
        }
        Ok(format)
    }
}

/// What a trace states about itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Header {
    /// Name of the format.
    pub format: String,
    /// The `# key: value` lines of a native trace, in their order.
    pub about: Vec<(String, String)>,
    /// The wall clock, if the trace states it. Complete at the end.
    pub clock: WallClock,
    /// Notes for the user about the trace: assumptions of its mapping, readings that could not be used. Complete at the
    /// end.
    pub notes: Vec<String>,
}

impl Header {
    /// Returns the value of a `# key: value` line.
    pub fn value(&self, key: &str) -> Option<&str> {
        self.about.iter().find(|(known, _)| known == key).map(|(_, value)| value.as_str())
    }

    fn read_about(&mut self, about: Vec<(String, String)>) {
        self.about = about;
    }

    /// Returns the wall clock that the `#` lines of a native trace describe: `started_at`, and a `clock_at` for each
    /// moment from which on it shows something else.
    fn read_clock(&mut self) -> WallClock {
        let mut clock = WallClock::default();
        let mut wrong = Vec::new();
        for (key, value) in &self.about {
            let mark = match key.as_str() {
                STARTED_AT => value.parse().ok().map(|start| (Timestamp::ZERO, start)),
                CLOCK_AT => value.split_once(' ').and_then(|(at, shows)| {
                    Some((Timestamp::from_nanos(at.parse().ok()?), shows.parse().ok()?))
                }),
                _ => continue,
            };
            match mark {
                Some((at, shows)) => clock.set(at, shows),
                None => wrong.push(format!("`# {key}: {value}` is not a time, and is left out")),
            }
        }
        wrong.into_iter().for_each(|note| self.note(note));
        clock
    }

    fn finish(&mut self, assembler: &Assembler) {
        let machine = &assembler.machine;
        let lacking = |total: Bytes| total == Bytes::ZERO;
        let note = |what: &str, option: &str| {
            format!(
                "the trace gives the {what} in use but not how much there is, so that {what} is left out: tell the \
                 machine's total, `{option}`"
            )
        };
        if assembler.memory_without_total && lacking(machine.memory) {
            self.note(note("memory", "--memory SIZE"));
        }
        if assembler.memory_without_use && lacking(machine.memory) {
            self.note(
                "the trace gives how much memory there is, but no use of it that can be trusted (one that may count the page \
                 cache is none): memory is left out"
                    .to_owned(),
            );
        }
        let total_of = |gpu: usize| machine.gpus.get(gpu).copied().unwrap_or_default();
        let is_without = |gpu: &usize| {
            assembler.vram_without_total & (1 << *gpu) != 0 && lacking(total_of(*gpu))
        };
        let without: Vec<_> = (0..column::MAX_GPUS).filter(is_without).collect();
        match without.as_slice() {
            [] => {}
            _ if machine.gpus.iter().chain(&assembler.given.gpus).all(|total| lacking(*total)) => {
                self.note(note("video memory", "--vram SIZE, one for each GPU"));
            }
            some => {
                let some: Vec<_> = some.iter().map(|gpu| format!("GPU {gpu}")).collect();
                let what = format!("video memory of {}", some.join(", "));
                self.note(note(&what, "--vram SIZE,SIZE, one for each GPU from GPU 0 on"));
            }
        }
    }

    fn note(&mut self, note: String) {
        if !self.notes.contains(&note) {
            self.notes.push(note);
        }
    }
}

/// Keys of a native trace's lines about its wall clock.
const STARTED_AT: &str = "started_at";
const CLOCK_AT: &str = "clock_at";

/// Returns what a file is that is not text, and the remedy.
fn binary(head: &[u8]) -> Option<&'static str> {
    if head.starts_with(b"PK\x03\x04") {
        Some("a ZIP archive: unpack it")
    } else if SYSSTAT_MAGICS.iter().any(|magic| head.starts_with(magic)) {
        Some("sysstat's own data: `sadf -d FILE -- -u -r > FILE.csv` makes text of it")
    } else if head.contains(&0) {
        Some("binary data: give a trace as text, or text packed with gzip or Zstandard")
    } else {
        None
    }
}

/// `SYSSTAT_MAGIC` of sysstat's `sa.h`, with which its files begin, in either order of bytes.
const SYSSTAT_MAGICS: [[u8; 2]; 2] = [[0x96, 0xd5], [0xd5, 0x96]];

/// Why a trace cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum TraceError {
    /// The file cannot be opened.
    #[error("cannot open {name}: check the path")]
    Open {
        /// The file.
        name: String,
        /// The system's error.
        #[source]
        source: io::Error,
    },
    /// The file cannot be read further.
    #[error("{name}:{line}: cannot be read from here on")]
    Read {
        /// The file.
        name: String,
        /// The line that was not reached.
        line: u64,
        /// The error of the system or the decompressor.
        #[source]
        source: io::Error,
    },
    /// The compressed data ends too early.
    #[error("{name}:{line}: the packed data ends here, cut off: fetch or record the file again")]
    Truncated {
        /// The file.
        name: String,
        /// The line that is not complete.
        line: u64,
        /// The decompressor's error.
        #[source]
        source: io::Error,
    },
    /// The file is empty.
    #[error("{name} is empty: record or fetch it again")]
    Empty {
        /// The file.
        name: String,
    },
    /// The file is not text.
    #[error("{name} is {what}")]
    Binary {
        /// The file.
        name: String,
        /// What it is, and the remedy.
        what: &'static str,
    },
    /// The format is not recognised.
    #[error(
        "{name} is in no known format (resources: {resources}; requests: {requests}){nearest}: name the format with \
         --format, or describe it in a mapping file: `tiershift import --sketch FILE` drafts one, the README tells how it \
         goes on"
    )]
    UnknownFormat {
        /// The file.
        name: String,
        /// Formats of resource traces.
        resources: String,
        /// Formats of request traces.
        requests: String,
        /// Those that come nearest, and what each lacks.
        nearest: String,
    },
    /// There is no format of that name.
    #[error("unknown format `{name}`: {known}, or the path of a mapping file (.toml)")]
    UnknownFormatName {
        /// The name that was given.
        name: String,
        /// The nearest format, and all of them, sorted.
        known: String,
    },
    /// The file is the other kind of trace.
    #[error("{name} is {format} ({about}): {} is wanted here", match wanted {
        Kind::Resource => "a resource trace",
        Kind::Request => "a request trace",
    })]
    WrongKind {
        /// The file.
        name: String,
        /// Its format.
        format: String,
        /// What that is.
        about: String,
        /// What was wanted.
        wanted: Kind,
    },
    /// The file was written by a newer tiershift.
    #[error(
        "{name}:1: the trace has version {version}, this tiershift reads up to {newest}: install a newer one"
    )]
    NewerVersion {
        /// The file.
        name: String,
        /// Its version.
        version: u32,
        /// The newest that is read.
        newest: u32,
    },
    /// The file cannot be understood from some position on.
    #[error("{name}:{line}:{column}: {reason}")]
    Malformed {
        /// The file.
        name: String,
        /// Line, from one.
        line: u64,
        /// Byte of the line, from one.
        column: u64,
        /// What was found and what is wanted.
        reason: String,
    },
    /// A mapping file is not valid.
    #[error(transparent)]
    Mapping(#[from] DocumentError),
    /// There was a defect, and none is allowed.
    #[error("{name}:{line}:{column}: {kind}: {reason} (strict reading allows no defect)")]
    Strict {
        /// The file.
        name: String,
        /// Line, from one.
        line: u64,
        /// Byte of the line, from one.
        column: u64,
        /// The kind of defect.
        kind: DefectKind,
        /// What was found and what is wanted.
        reason: String,
    },
    /// No row could be used.
    #[error("{name} has no row that can be used: {rejected}")]
    NoRows {
        /// The file.
        name: String,
        /// Why not.
        rejected: String,
    },
    /// Most rows were refused, so the rest does not represent the file.
    #[error(
        "{name}: more rows were rejected than read, so the rest does not represent the file: {rejected}"
    )]
    MostlyRejected {
        /// The file.
        name: String,
        /// What was wrong with them.
        rejected: String,
    },
    /// The file leaves something open that the user must state.
    #[error("{name}: {reason}")]
    Ask {
        /// The file.
        name: String,
        /// What is open, and the option that settles it.
        reason: String,
    },
    /// Arrivals that must be sorted are too many to hold.
    #[error("{name} has more than {limit} requests that are out of order: sort and split it first")]
    TooManyToSort {
        /// The file.
        name: String,
        /// The maximum.
        limit: usize,
    },
    /// The trace is too long to be held.
    #[error("{name} has more than {limit} {what}: cut it")]
    TooLong {
        /// The file.
        name: String,
        /// The maximum.
        limit: usize,
        /// What its rows are.
        what: &'static str,
    },
    /// The output cannot be written.
    #[error("cannot write {name}: check the folder and the space left")]
    Write {
        /// The file.
        name: String,
        /// The system's error.
        #[source]
        source: io::Error,
    },
}

impl TraceError {
    /// Adds the file, which only the caller knows.
    fn in_file(self, file: &str) -> Self {
        match self {
            Self::UnknownFormat { resources, requests, nearest, .. } => {
                Self::UnknownFormat { name: file.to_owned(), resources, requests, nearest }
            }
            other => other,
        }
    }
}
