//! The event log: every input and output of the controller, in order, as JSON Lines.
//!
//! ```text
//! {"tiershift_log":1,"level":"full","name":"..","policy":"proactive",..,"fingerprint":"<blake3>"}
//! {"seq":0,"at_ns":0,"input":{"sample":{"memory":{"total_bytes":..,"others_bytes":..,"own_bytes":0}}}}
//! {"seq":1,"at_ns":0,"output":{"decision":{"action":"hold","rung":0,"reason":"no-data"}}}
//! {"end":{"records":2,"digest":"<blake3 of every byte above>"}}
//! ```
//!
//! A file that ends without the last line was torn: its writer was stopped, or still writes. A file of which any byte
//! was changed is refused, with the line where that can be told. Reading takes plain, gzip and zstd files, and the
//! segments of a log that is written in pieces ([`segments`]).

use serde::{Deserialize, Serialize};
use tiershift_core::catalog::{Catalog, CatalogError, RawCatalog};
use tiershift_core::machine::{Machine, MachineClass};
use tiershift_core::settings::{RawSettings, Settings, SettingsError};

mod reader;
mod segments;
mod writer;

pub use reader::{LogEnd, LogError, LogReader};
pub use segments::{Segment, SegmentFile, pack, runs, segment_name, segments};
pub use writer::LogWriter;

/// The version of the log's format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct LogVersion(pub u32);

impl LogVersion {
    /// The version that is written.
    ///
    /// # Changelog
    /// - 1 (2026-11): the first.
    ///
    /// A newer version is refused. An older one is read: whoever raises this number writes what changed here,
    /// and an arm in `reader::read_header` and `reader::read_record` that brings the older form up to date.
    pub const CURRENT: Self = Self(1);
}

/// How much of a run its log holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LogLevel {
    /// Everything. `verify` and replay need it.
    #[default]
    Full,
    /// What changed, and enough samples for a coarse plot:
    ///
    /// - decisions that change something, and holds for another kind of reason than the decision before them;
    /// - every command, outcome, request, cancellation, acceptance, end, switch and notice;
    /// - a sample at which a decision is written, and else the first one after [`SAMPLE_SPACING`] without one;
    /// - the first missing sample of a row of them;
    /// - no time-outs.
    ///
    /// Records keep the sequence numbers that they have in the full log.
    ///
    /// [`SAMPLE_SPACING`]: crate::log::SAMPLE_SPACING
    Changes,
    /// Nothing at all: no file.
    Off,
}

/// In a log of changes, a sample is written at least this often, where there is one. A month takes 43,200.
pub const SAMPLE_SPACING: std::time::Duration = std::time::Duration::from_mins(1);

/// The first line: what the run was made from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Header {
    /// The format of the lines below.
    #[serde(rename = "tiershift_log")]
    pub version: LogVersion,
    /// What was left out.
    pub level: LogLevel,
    /// What people call this run: the scenario's or the trace's name.
    pub name: String,
    /// What people call the policy.
    pub policy: String,
    /// The class of machine that the settings were resolved for.
    pub machine_class: MachineClass,
    /// The machine.
    pub machine: Machine,
    /// The seed of every random stream.
    pub seed: u64,
    /// The files that were read, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sources: Vec<Source>,
    /// The policy's settings, complete.
    pub settings: RawSettings,
    /// The ladder.
    pub catalog: RawCatalog,
    /// When the run began; live runs only, so that all others are the same bytes every time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<String>,
    /// The place in a log of several segments; absent in the first of them, and in a log of one file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub segment: Option<Segment>,
    /// Digest of everything above that determines the run; filled in by [`Header::seal`].
    pub fingerprint: String,
}

/// A file that a run was made from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Source {
    /// Name of the file, without its folder: a log tells nothing about the machine that wrote it.
    pub name: String,
    /// blake3 of its bytes.
    pub digest: String,
    /// How it was played, where that was not as it stands.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub played: Option<Played>,
}

/// How the requests of a file were played.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Played {
    /// Again and again.
    Repeated,
    /// With prompts and replies as long as a server counted them.
    AsCounted,
}

impl Header {
    /// Returns the digest of everything that determines the run: format, settings, machine class, machine, catalog,
    /// seed, the bytes of the sources and how they were played. The names of run, policy and files, the level of the log, the moment of the
    /// start and the place among segments determine nothing, and are left out.
    pub fn fingerprint(&self) -> String {
        /// The canonical form: these fields, in this order, as compact JSON.
        #[derive(Serialize)]
        struct Determinants<'a> {
            tiershift_log: LogVersion,
            machine_class: MachineClass,
            machine: &'a Machine,
            seed: u64,
            sources: Vec<&'a str>,
            #[serde(skip_serializing_if = "Vec::is_empty")]
            played: Vec<Played>,
            settings: &'a RawSettings,
            catalog: &'a RawCatalog,
        }
        let determinants = Determinants {
            tiershift_log: self.version,
            machine_class: self.machine_class,
            machine: &self.machine,
            seed: self.seed,
            sources: self.sources.iter().map(|source| source.digest.as_str()).collect(),
            played: self.sources.iter().filter_map(|source| source.played).collect(),
            settings: &self.settings,
            catalog: &self.catalog,
        };
        let canonical =
            serde_json::to_vec(&determinants).expect("plain data with text keys is always JSON");
        blake3::hash(&canonical).to_hex().to_string()
    }

    /// Fills in the fingerprint.
    #[must_use]
    pub fn seal(mut self) -> Self {
        self.fingerprint = self.fingerprint();
        self
    }

    /// Returns the checked settings.
    ///
    /// # Errors
    /// Where a person edited the log into settings that cannot be.
    pub fn checked_settings(&self) -> Result<Settings, SettingsError> {
        Settings::new(self.settings.clone(), self.machine_class)
    }

    /// Returns the checked catalog.
    ///
    /// # Errors
    /// Where a person edited the log into a catalog that cannot be.
    pub fn checked_catalog(&self) -> Result<Catalog, CatalogError> {
        Catalog::try_from(self.catalog.clone())
    }
}

/// The last line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Trailer {
    end: TrailerEnd,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct TrailerEnd {
    /// Lines between the first and this one.
    records: u64,
    /// blake3 of every byte above this line.
    digest: String,
}

impl Trailer {
    fn new(records: u64, digest: &blake3::Hasher) -> Self {
        let digest = digest.finalize().to_hex().to_string();
        Self { end: TrailerEnd { records, digest } }
    }

    fn to_line(&self) -> Vec<u8> {
        let mut line = serde_json::to_vec(self).expect("plain data with text keys is always JSON");
        line.push(b'\n');
        line
    }
}

#[cfg(test)]
mod tests;
