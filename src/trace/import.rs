//! Public formats, each described by a small mapping file.
//!
//! A mapping (TOML; the built-in ones are in `import/presets`) states how a file is cut into records (`[layout]`), how
//! its time is written (`[time]`), which of its columns make which column of a native trace (`[[field]]`), and by which
//! words the format is recognised (`[recognise]`). One importer reads them all; there is no code for any single format.
//!
#![doc = include_str!("import/mapping.md")]

use std::path::Path;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::files::document;
use crate::files::whole_file::read_small_text;
use crate::trace::TraceError;
use crate::trace::native::{REQUEST_MAGIC, RESOURCE_MAGIC};
use crate::wall::WallTime;

pub(crate) mod clock;
pub(crate) mod json;
pub(crate) mod mapping;
pub(crate) mod number;
pub(crate) mod raw;
pub(crate) mod record;
mod sketch;
pub(crate) mod table;
pub(crate) mod template;

pub use mapping::{Mapping, schema};
pub use sketch::sketch;

/// What the user states about a file that the file itself does not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Told {
    /// The time between rows that have no time.
    pub interval: Option<Duration>,
    /// When the file begins, for one whose rows have no date.
    pub starts_at: Option<WallTime>,
    /// The content of a column whose format does not state it.
    pub metric: Option<String>,
    /// The number of GPUs in a reading, for rows that do not identify theirs.
    pub gpus: Option<usize>,
    /// The names of the columns, for a table without a header.
    pub columns: Vec<String>,
}

/// The format of a file: a native trace, or one that a mapping describes.
#[derive(Clone, Debug, PartialEq)]
pub enum Format {
    /// tiershift's own resource CSV.
    NativeResource,
    /// tiershift's own request CSV.
    NativeRequest,
    /// A public format.
    Mapped(Arc<Mapping>),
}

/// The content of a trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// Samples of a machine.
    Resource,
    /// Arrivals of requests.
    Request,
}

impl Format {
    /// Returns the built-in formats: the native ones first, then the presets in the order in which they are tried.
    pub fn known() -> Vec<Self> {
        KNOWN.clone()
    }

    fn parse_known() -> Vec<Self> {
        let presets = PRESETS.iter().map(|(name, text)| {
            let mapping = Mapping::parse(name, text).expect("the tests parse every preset");
            Self::Mapped(Arc::new(mapping))
        });
        [Self::NativeResource, Self::NativeRequest].into_iter().chain(presets).collect()
    }

    /// Returns the built-in format called `name`, or the one that the mapping file at that path describes.
    ///
    /// # Errors
    /// When there is no such format, or the file is not a mapping.
    pub fn named(name: &str) -> Result<Self, TraceError> {
        if Path::new(name).extension().is_some_and(|extension| extension == "toml") {
            return Self::from_file(Path::new(name));
        }
        let known = Self::known();
        known.iter().find(|format| format.name() == name).cloned().ok_or_else(|| {
            let known = document::suggestion(name, known.iter().map(Self::name));
            TraceError::UnknownFormatName { name: name.to_owned(), known }
        })
    }

    /// Reads a mapping file.
    ///
    /// # Errors
    /// When the file cannot be read or is not a mapping.
    pub fn from_file(path: &Path) -> Result<Self, TraceError> {
        let name = path.display().to_string();
        let text = read_small_text(path)
            .map_err(|source| TraceError::Open { name: name.clone(), source })?;
        Ok(Self::Mapped(Arc::new(Mapping::parse(&name, &text)?)))
    }

    /// Returns its name for `--format`.
    pub fn name(&self) -> &str {
        match self {
            Self::NativeResource => "tiershift-resource",
            Self::NativeRequest => "tiershift-request",
            Self::Mapped(mapping) => &mapping.name,
        }
    }

    /// Returns a description of one line.
    pub fn about(&self) -> &str {
        match self {
            Self::NativeResource => "tiershift resource trace (CSV)",
            Self::NativeRequest => "tiershift request trace (CSV)",
            Self::Mapped(mapping) => &mapping.about,
        }
    }

    /// Returns its content.
    pub fn kind(&self) -> Kind {
        match self {
            Self::NativeResource => Kind::Resource,
            Self::NativeRequest => Kind::Request,
            Self::Mapped(mapping) => mapping.kind,
        }
    }

    /// Returns whether a file with this beginning shows the signs of this format.
    pub(crate) fn is_recognised_in(&self, head: &[u8]) -> bool {
        self.fits(String::from_utf8_lossy(head).trim_start_matches('\u{feff}'))
    }

    fn fits(&self, head: &str) -> bool {
        match self {
            Self::NativeResource => head.starts_with(RESOURCE_MAGIC),
            Self::NativeRequest => head.starts_with(REQUEST_MAGIC),
            Self::Mapped(mapping) => mapping.fits(head),
        }
    }
}

/// Recognises the format of a file by its first bytes (after decompression).
///
/// # Errors
/// [`TraceError::UnknownFormat`], which lists the known formats.
pub fn recognise(head: &[u8]) -> Result<Format, TraceError> {
    let text = String::from_utf8_lossy(head);
    let text = text.trim_start_matches('\u{feff}');
    let known = &*KNOWN;
    if let Some(found) = known.iter().find(|format| format.fits(text)) {
        return Ok(found.clone());
    }
    let list = |kind| {
        let of_kind = known.iter().filter(|format| format.kind() == kind);
        of_kind.map(Format::name).collect::<Vec<_>>().join(", ")
    };
    Err(TraceError::UnknownFormat {
        name: "the file".to_owned(),
        resources: list(Kind::Resource),
        requests: list(Kind::Request),
        nearest: nearest(known, text),
    })
}

/// Returns which formats come nearest to a file that none fits, and what each lacks.
fn nearest(known: &[Format], head: &str) -> String {
    let mapped = known.iter().filter_map(|format| match format {
        Format::Mapped(mapping) => Some((mapping, mapping.nearest_signs(head)?)),
        _ => None,
    });
    // A separator or a word of two letters is in any file.
    let says_something =
        |sign: &&str| sign.chars().filter(|c| c.is_alphanumeric()).count() >= LEAST_SIGN;
    let mut near: Vec<_> = mapped.filter(|(_, (met, _))| met.iter().any(says_something)).collect();
    // Stable: among equally near ones the first.
    near.sort_by_key(|(_, (met, unmet))| {
        std::cmp::Reverse(met.len() * 1000 / (met.len() + unmet.len()))
    });
    let each = near.iter().take(3).map(|(mapping, (met, unmet))| {
        let quoted = |signs: &[&str]| {
            signs
                .iter()
                .map(|sign| format!("`{}`", sign.trim_start_matches('|')))
                .collect::<Vec<_>>()
                .join(", ")
        };
        format!("{} (has {}, lacks {})", mapping.name, quoted(met), quoted(unmet))
    });
    match each.collect::<Vec<_>>() {
        none if none.is_empty() => String::new(),
        some => format!("; nearest: {}", some.join("; ")),
    }
}

/// The built-in formats, parsed once.
static KNOWN: LazyLock<Vec<Format>> = LazyLock::new(Format::parse_known);
/// The fewest letters of a sign that is worth a hint. Chosen: shorter words are in files of every kind.
const LEAST_SIGN: usize = 4;

macro_rules! presets {
    ($($name:literal),* $(,)?) => {
        &[$(($name, include_str!(concat!("import/presets/", $name, ".toml")))),*]
    };
}

/// The built-in mappings, in the order in which they are tried: more specific ones first.
const PRESETS: &[(&str, &str)] = presets![
    "pmrep",
    "gwa-t-12",
    "afterburner",
    "gpu-z",
    "nvidia-smi",
    "nvidia-smi-headless",
    "gpu-logger",
    "nvidia-smi-dmon",
    "nvidia-smi-screen",
    "sadf-json",
    "sadf-d",
    "sadf-p",
    "sar",
    "vmstat-t",
    "vmstat",
    "dstat",
    "docker-stats",
    "top",
    "typeperf",
    "hwinfo",
    "hwinfo-semicolon",
    "tegrastats",
    "prometheus-json",
    "prometheus",
    "ollama",
    "burstgpt-gpu",
    "nezha-pod",
    "exathlon",
    "mem2log",
    "psi2log",
    "nab",
    "azure-llm",
    "qwen-bailian",
    "mooncake",
    "burstgpt",
    "burstgpt-detail",
    "inferencex",
    "vllm-bench",
    "llama-server",
];
