//! The event log: every input and output of the controller, in order, as JSON Lines.
//!
//! ```text
//! {"tiershift_log":2,"level":"full","name":"..","machine":{..},..,"setup_digest":"<blake3>"}
//! {"seq":0,"at_ns":0,"input":{"sample":{"memory":{"total_bytes":..,"others_bytes":..,"own_bytes":0}}}}
//! {"seq":1,"at_ns":0,"output":{"decision":{"action":"hold","rung":0,"reason":"no-data"}}}
//! {"clock":{"at_ns":..,"wall_time":".."}}
//! {"account":{"over_memory_ns":..,..}}
//! {"end":{"records":2,"sources":["<blake3 of a file>"],"fingerprint":"<blake3>","digest":"<blake3 of every byte above>"}}
//! ```
//!
//! A `clock` line occurs only where the wall clock of the recording was set, or hours of it were left out: it shows
//! that time from that moment on. An `account` line occurs in the log of a simulated run: what
//! its machine counted, of which samples show only moments.
//!
//! A file that ends without the last line was torn: its writer was stopped, or is still writing. A file with any
//! changed byte is refused, with the line if it is known. The reader accepts plain, gzip and zstd files, and the
//! segments of a log that is written in pieces ([`segments`]).

mod header;
mod reader;
mod run_file;
mod segments;
mod trailer;
mod version_1;
mod writer;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tiershift_core::event::Event;
use tiershift_core::time::Timestamp;

use crate::files::schema;

pub use header::{Header, Played, Source, digest_text};
pub use reader::{LogEnd, LogError, LogReader};
pub use run_file::{PACKED_LOG, PLAIN_LOG, RunLog, run_log};
pub use segments::{Segment, SegmentFile, pack, runs, segment_name, segments};
pub use writer::LogWriter;

/// The version of the log's format.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(transparent)]
pub struct LogVersion(pub u32);

impl LogVersion {
    /// The version that is written.
    ///
    /// # Changelog
    /// - 2 (2026-11): the first that we promise to keep. The digests of the sources are in the last line, so that a
    ///   replay reads its file once, and the fingerprint with them. The header no longer contains what follows from the
    ///   rest: policy and machine class. A replay states the moment at which its recording began. Reasons name the GPU.
    /// - 1 (2026-11): the first. It is read, plotted and replayed, but not verified: its reasons contain less.
    ///
    /// A newer version is refused. An older one is read: a commit that raises this number adds what changed here, and a
    /// module beside `version_1` that converts the older form.
    pub const CURRENT: Self = Self(2);
}

/// How much of a run its log contains.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum LogLevel {
    /// Everything.
    #[default]
    Full,
    /// Everything except what follows from the rest: gates, and holds for the same kind of reason as the decision
    /// before them. [`Retold`](crate::study::retold::Retold) asks the policy for them again.
    Inputs,
    /// What changed, and enough samples for a coarse plot:
    ///
    /// - decisions that change something, and holds for another kind of reason than the decision before them;
    /// - every command, outcome, request, cancellation, acceptance, end, switch and notice;
    /// - a sample at which a decision is written, and otherwise the first one after [`SAMPLE_SPACING`] without one;
    /// - the first missing sample of several in a row;
    /// - no time-outs.
    ///
    /// Records keep the sequence numbers that they would have in a complete log.
    ///
    /// [`SAMPLE_SPACING`]: crate::log::SAMPLE_SPACING
    Changes,
    /// Nothing at all: no file.
    Off,
}

impl LogLevel {
    /// Returns whether every input is in the log: `verify`, `replay` and the optimum need them.
    pub fn has_every_input(self) -> bool {
        matches!(self, Self::Full | Self::Inputs)
    }
}

/// A line of a log, for its schema: the first, a record, a mark of the wall clock, the account of a simulated machine, or the last.
#[derive(JsonSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "only its schema is of use")]
enum Line {
    /// The first line: what the run was made from.
    First(Box<Header>),
    /// What the controller received, or answered.
    Record(Record),
    /// What the wall clock showed at a moment, if that does not follow from the lines above.
    Clock(trailer::ClockLine),
    /// What the machine of a simulated run counted.
    Account(trailer::AccountLine),
    /// The last line.
    Last(trailer::Trailer),
}

/// An event. `seq` counts from zero; it has gaps if the level leaves records out.
#[derive(JsonSchema)]
#[expect(dead_code, reason = "only its schema is of use")]
struct Record {
    /// The record's number.
    seq: u64,
    /// When it happened, in nanoseconds since the run began.
    at_ns: Timestamp,
    #[serde(flatten)]
    event: Event,
}

/// Returns the JSON Schema of each line of an event log.
pub fn schema() -> String {
    schema::of_output::<Line>()
}

/// In a log of changes, a sample is written at least this often, if there is one. A month takes 43,200.
pub const SAMPLE_SPACING: std::time::Duration = std::time::Duration::from_mins(1);

#[cfg(test)]
mod tests;
