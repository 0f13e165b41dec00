//! The first line: what the run was made from.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::value::{RawValue, to_raw_value};
use tiershift_core::catalog::{Catalog, CatalogError, RawCatalog};
use tiershift_core::machine::Machine;
use tiershift_core::settings::{RawSettings, Settings, SettingsError};
use tiershift_core::setup::Setup;

use crate::log::{LogLevel, LogVersion, Segment};
use crate::wall::{Part, WallTime};

/// The first line.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Header {
    /// The format of the lines below.
    #[serde(rename = "tiershift_log")]
    pub version: LogVersion,
    /// What is left out.
    pub level: LogLevel,
    /// The name of the run: that of the scenario or the trace.
    pub name: String,
    /// The machine.
    pub machine: Machine,
    /// The seed of every random stream.
    pub seed: u64,
    /// The files that the run reads, in order. The last line has their digests.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sources: Vec<Source>,
    /// The policy's settings, complete.
    pub settings: RawSettings,
    /// The ladder.
    pub catalog: RawCatalog,
    /// When the run, or the recording that it replays, began, if known. Read from the system's clock only in live runs,
    /// so that all others are the same bytes every time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<WallTime>,
    /// The place in a log of several segments; absent in the first of them, and in a log of one file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub segment: Option<Segment>,
    /// Digest of everything above that determines the run; filled in by [`Header::seal`].
    pub setup_digest: String,
}

/// A file that a run was made from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Source {
    /// Name of the file, without its folder: a log reveals nothing about the machine that wrote it.
    pub name: String,
    /// How it was played, if not unchanged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub played: Option<Played>,
    /// The part of it that was played, if not all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub part: Option<Part>,
}

/// How the requests of a file were played.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Played {
    /// Repeatedly.
    Repeated,
    /// With prompts and replies as long as a server counted them.
    AsCounted,
    /// At the moments when the wall clock of the recording showed their times.
    AtWallTime,
}

impl Header {
    /// Returns the header of a run, sealed.
    pub fn of(setup: &Setup, level: LogLevel, name: &str, sources: Vec<Source>) -> Self {
        Self {
            version: LogVersion::CURRENT,
            level,
            name: name.to_owned(),
            machine: setup.machine.clone(),
            seed: setup.seed,
            sources,
            settings: setup.settings.clone(),
            catalog: RawCatalog::from(&setup.catalog),
            started_at: None,
            segment: None,
            setup_digest: String::new(),
        }
        .seal()
    }

    /// Returns the name of the run with the part of its recording that was played, if not all.
    pub fn title(&self) -> String {
        match self.sources.first().and_then(|source| source.part) {
            Some(part) => format!("{}, {}", self.name, part.text()),
            None => self.name.clone(),
        }
    }

    /// Returns the setup of the run.
    ///
    /// # Errors
    /// When the log was edited so that its catalog is not valid.
    pub fn setup(&self) -> Result<Setup, CatalogError> {
        Ok(Setup {
            machine: self.machine.clone(),
            catalog: self.checked_catalog()?,
            settings: self.settings.clone(),
            seed: self.seed,
        })
    }

    /// Returns the digest of everything that determines the run, except the bytes of its sources: format, settings,
    /// machine, catalog, seed, and how the sources were played. The names of run and files, the level of the log, the
    /// moment of the start and the place among segments determine nothing, and are left out.
    pub fn setup_digest(&self) -> String {
        let as_written = "plain data with text keys is always JSON";
        let machine = to_raw_value(&self.machine).expect(as_written);
        let settings = to_raw_value(&self.settings).expect(as_written);
        let catalog = to_raw_value(&self.catalog).expect(as_written);
        digest_of(&Determinants {
            tiershift_log: self.version,
            machine: &machine,
            seed: self.seed,
            played: played(&self.sources),
            parts: parts(&self.sources),
            settings: &settings,
            catalog: &catalog,
        })
    }

    /// Fills in the digest.
    #[must_use]
    pub fn seal(mut self) -> Self {
        self.setup_digest = self.setup_digest();
        self
    }

    /// Returns the fingerprint of the run: the digest of everything that determines it, with those of its sources.
    pub fn fingerprint(&self, sources: &[String]) -> String {
        digest_of(&(&self.setup_digest, sources))
    }

    /// Returns the checked settings.
    ///
    /// # Errors
    /// When the log was edited so that its settings are not valid.
    pub fn checked_settings(&self) -> Result<Settings, SettingsError> {
        Settings::new(self.settings.clone(), self.machine.class())
    }

    /// Returns the checked catalog.
    ///
    /// # Errors
    /// When the log was edited so that its catalog is not valid.
    pub fn checked_catalog(&self) -> Result<Catalog, CatalogError> {
        Catalog::try_from(self.catalog.clone())
    }
}

/// What determines a run, exactly as in the first line: a key that a later version adds or drops does not change the
/// digest of an existing log. These fields, in this order, as compact JSON.
#[derive(Serialize)]
struct Determinants<'a> {
    tiershift_log: LogVersion,
    machine: &'a RawValue,
    seed: u64,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    played: Vec<Played>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    parts: Vec<Part>,
    settings: &'a RawValue,
    catalog: &'a RawValue,
}

/// Reads a first line of this version; `None` if its digest is not the one that it states.
pub(super) fn read(line: &str) -> Result<Option<Header>, serde_json::Error> {
    #[derive(Deserialize)]
    struct AsWritten<'a> {
        #[serde(borrow)]
        machine: &'a RawValue,
        #[serde(borrow)]
        settings: &'a RawValue,
        #[serde(borrow)]
        catalog: &'a RawValue,
    }
    let header: Header = serde_json::from_str(line)?;
    let AsWritten { machine, settings, catalog } = serde_json::from_str(line)?;
    let determinants = Determinants {
        tiershift_log: header.version,
        machine,
        seed: header.seed,
        played: played(&header.sources),
        parts: parts(&header.sources),
        settings,
        catalog,
    };
    let is_sealed = digest_of(&determinants) == header.setup_digest;
    Ok(is_sealed.then_some(header))
}

fn played(sources: &[Source]) -> Vec<Played> {
    sources.iter().filter_map(|source| source.played).collect()
}

fn parts(sources: &[Source]) -> Vec<Part> {
    sources.iter().filter_map(|source| source.part).collect()
}

/// Returns a digest as in logs and summaries.
pub fn digest_text(digest: blake3::Hash) -> String {
    digest.to_hex().to_string()
}

/// Returns the digest of a value's compact JSON.
pub(super) fn digest_of(value: &impl Serialize) -> String {
    let json = serde_json::to_vec(value).expect("plain data with text keys is always JSON");
    digest_text(blake3::hash(&json))
}
