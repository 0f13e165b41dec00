//! Public formats, each described by a small mapping file.
//!
//! A mapping (TOML; the built-in ones are in `import/presets`) says how a file is cut into records
//! (`[layout]`), how its time is written (`[time]`), which of its columns make which column of a native trace
//! (`[[field]]`), and by which words the format is recognised (`[recognise]`). One importer reads them all;
//! there is no code for any single format.
//!
#![doc = include_str!("import/mapping.md")]

use std::path::Path;
use std::sync::Arc;

use serde::Deserialize;

use crate::trace::TraceError;
use crate::trace::column::{self, Quantity};
use crate::trace::import::number::{TimeForm, Unit};
use crate::trace::native::{REQUEST_MAGIC, RESOURCE_MAGIC};
use crate::trace::request;

pub(crate) mod json;
pub(crate) mod number;
pub(crate) mod record;
pub(crate) mod table;

/// What a file is: a native trace, or one that a mapping describes.
#[derive(Clone, Debug, PartialEq)]
pub enum Format {
    /// tiershift's own resource CSV.
    NativeResource,
    /// tiershift's own request CSV.
    NativeRequest,
    /// A public format.
    Mapped(Arc<Mapping>),
}

/// What a trace holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// Samples of a machine.
    Resource,
    /// Arrivals of requests.
    Request,
}

impl Format {
    /// Returns the formats that are built in: the native ones first, then the presets as they are tried.
    pub fn known() -> Vec<Self> {
        let presets = PRESETS.iter().map(|(name, text)| {
            let mapping = Mapping::parse(name, text).expect("the tests parse every preset");
            Self::Mapped(Arc::new(mapping))
        });
        [Self::NativeResource, Self::NativeRequest].into_iter().chain(presets).collect()
    }

    /// Returns the built-in format called `name`, or the one that the mapping file at that path describes.
    ///
    /// # Errors
    /// Where there is no such format, or the file is no mapping.
    pub fn named(name: &str) -> Result<Self, TraceError> {
        if Path::new(name).extension().is_some_and(|extension| extension == "toml") {
            return Self::from_file(Path::new(name));
        }
        let known = Self::known();
        known.iter().find(|format| format.name() == name).cloned().ok_or_else(|| {
            let mut names: Vec<_> = known.iter().map(Self::name).collect();
            names.sort_unstable();
            TraceError::UnknownFormatName { name: name.to_owned(), known: names.join(", ") }
        })
    }

    /// Reads a mapping file.
    ///
    /// # Errors
    /// Where the file cannot be read or is no mapping.
    pub fn from_file(path: &Path) -> Result<Self, TraceError> {
        let name = path.display().to_string();
        let text = std::fs::read_to_string(path)
            .map_err(|source| TraceError::Open { name: name.clone(), source })?;
        Ok(Self::Mapped(Arc::new(Mapping::parse(&name, &text)?)))
    }

    /// Returns the name by which `--format` asks for it.
    pub fn name(&self) -> &str {
        match self {
            Self::NativeResource => "tiershift-resource",
            Self::NativeRequest => "tiershift-request",
            Self::Mapped(mapping) => &mapping.name,
        }
    }

    /// Returns what it is, in a line.
    pub fn about(&self) -> &str {
        match self {
            Self::NativeResource => "tiershift resource trace (CSV)",
            Self::NativeRequest => "tiershift request trace (CSV)",
            Self::Mapped(mapping) => &mapping.about,
        }
    }

    /// Returns what it holds.
    pub fn kind(&self) -> Kind {
        match self {
            Self::NativeResource => Kind::Resource,
            Self::NativeRequest => Kind::Request,
            Self::Mapped(mapping) => mapping.kind,
        }
    }

    /// Returns whether a file that begins so shows this format's signs.
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
/// [`TraceError::UnknownFormat`], which lists the formats that are known.
pub fn recognise(head: &[u8]) -> Result<Format, TraceError> {
    let text = String::from_utf8_lossy(head);
    let text = text.trim_start_matches('\u{feff}');
    let known = Format::known();
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
    })
}

/// A checked mapping file.
#[derive(Clone, Debug, PartialEq)]
pub struct Mapping {
    pub(crate) name: String,
    pub(crate) about: String,
    pub(crate) kind: Kind,
    recognise: Vec<Vec<String>>,
    pub(crate) layout: RawLayout,
    pub(crate) time: Time,
    pub(crate) fields: Vec<Field>,
    /// Every column that the time or a field reads, once each.
    pub(crate) columns: Vec<String>,
    pub(crate) gpu: Option<RawGpu>,
    /// What a user should know about traces of this format.
    pub(crate) notes: Vec<String>,
}

/// How time is written. Columns are indices into the mapping's.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Time {
    pub columns: Vec<usize>,
    pub minus: Option<usize>,
    pub forms: Vec<TimeForm>,
    pub wall_clock: bool,
    pub sorted: bool,
    pub shortest_gap_ns: u64,
}

/// How one native column is made: (plus - minus) / over x scale. Columns are indices into the mapping's.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Field {
    pub slot: usize,
    pub quantity: Quantity,
    pub unit: Unit,
    pub scale: f64,
    pub plus: Vec<usize>,
    pub minus: Vec<usize>,
    pub over: Vec<usize>,
}

/// The file as written.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct RawMapping {
    name: String,
    about: String,
    kind: Kind,
    #[serde(default)]
    notes: Vec<String>,
    #[serde(default)]
    recognise: RawRecognise,
    layout: RawLayout,
    time: RawTime,
    gpu: Option<RawGpu>,
    #[serde(default)]
    field: Vec<RawField>,
}

/// By which words the format is known: all words of any one list must be in the head of the file.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct RawRecognise {
    any: Vec<Vec<String>>,
}

/// How the file is cut into records and cells.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct RawLayout {
    pub shape: Shape,
    /// Between the cells of a table; spaces and tabs around a cell do not count.
    #[serde(default = "comma")]
    pub separator: char,
    /// Lines that begin so are skipped.
    pub comment: Option<String>,
    /// Names for the columns of a table that has no header.
    pub columns: Option<Vec<String>>,
    /// The first cell tells what a line is.
    pub tag: Option<RawTag>,
    /// Where the records are in a JSON file: a path with `*` for every key or index.
    pub records: Option<String>,
    /// Encoding of lines that are not UTF-8.
    pub encoding: Option<String>,
    /// What stands for "no value", beside an empty cell.
    #[serde(default)]
    pub missing: Vec<String>,
}

/// The shapes a file may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Shape {
    Table,
    JsonLines,
    Json,
}

/// What the first cell of a line says.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct RawTag {
    pub header: String,
    pub sample: String,
    #[serde(default)]
    pub ignore: Vec<String>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct RawTime {
    /// Joined by a space where there are several.
    columns: Vec<String>,
    /// Seconds to take off: for logs that write the end.
    minus: Option<String>,
    forms: Vec<String>,
    #[serde(default = "yes")]
    wall_clock: bool,
    #[serde(default = "yes")]
    sorted: bool,
    /// A silence up to this many seconds is no gap.
    #[serde(default)]
    shortest_gap_seconds: u64,
}

/// Rows that are one machine's GPUs, one after the other.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct RawGpu {
    /// The column with the GPU's number. Without it, rows count up within the sweep.
    pub index: Option<String>,
    /// Rows of one sweep are at most this far apart.
    pub sweep_milliseconds: u32,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct RawField {
    to: String,
    unit: String,
    #[serde(default = "one")]
    scale: f64,
    plus: Vec<String>,
    #[serde(default)]
    minus: Vec<String>,
    #[serde(default)]
    over: Vec<String>,
}

impl Mapping {
    /// Parses and checks a mapping file.
    ///
    /// # Errors
    /// Where it is not TOML, has an unknown key, or names what does not exist.
    pub fn parse(name: &str, text: &str) -> Result<Self, TraceError> {
        let refuse = |reason: String| TraceError::Mapping { name: name.to_owned(), reason };
        let raw: RawMapping = toml::from_str(text).map_err(|error| refuse(error.to_string()))?;
        let mut columns = Vec::new();
        let mut index = |column: &String| {
            columns.iter().position(|known| known == column).unwrap_or_else(|| {
                columns.push(column.clone());
                columns.len() - 1
            })
        };
        let forms: Result<_, _> = raw.time.forms.iter().map(|form| form.parse()).collect();
        let time = Time {
            columns: raw.time.columns.iter().map(&mut index).collect(),
            minus: raw.time.minus.as_ref().map(&mut index),
            forms: forms.map_err(refuse)?,
            wall_clock: raw.time.wall_clock,
            sorted: raw.time.sorted,
            shortest_gap_ns: raw.time.shortest_gap_seconds.saturating_mul(1_000_000_000),
        };
        if time.columns.is_empty() || time.forms.is_empty() {
            return Err(refuse("`time` needs a column and a form".to_owned()));
        }
        if !time.sorted && raw.kind == Kind::Resource {
            return Err(refuse("only requests may be out of order".to_owned()));
        }
        let mut fields = Vec::new();
        for field in &raw.field {
            let slot = match raw.kind {
                Kind::Resource => column::slot(&field.to),
                Kind::Request => request::slot(&field.to),
            };
            let Some((slot, quantity)) = slot else {
                let reason = format!("`to = \"{}\"` is no column of a native trace", field.to);
                return Err(refuse(reason));
            };
            let unit: Unit = field.unit.parse().map_err(refuse)?;
            if unit.factor(quantity).is_none() {
                let reason = format!("`{}` cannot be measured in \"{}\"", field.to, field.unit);
                return Err(refuse(reason));
            }
            if !field.scale.is_finite() || field.plus.is_empty() {
                return Err(refuse(format!("`{}` needs a column and a finite scale", field.to)));
            }
            let mut all = |names: &[String]| names.iter().map(&mut index).collect();
            let (plus, minus, over) = (all(&field.plus), all(&field.minus), all(&field.over));
            fields.push(Field { slot, quantity, unit, scale: field.scale, plus, minus, over });
        }
        if fields.is_empty() {
            return Err(refuse("a mapping needs at least one [[field]]".to_owned()));
        }
        if let Some(column) = raw.gpu.as_ref().and_then(|gpu| gpu.index.as_ref()) {
            index(column);
        }
        let layout = raw.layout;
        if (layout.shape == Shape::Json) != layout.records.is_some() {
            return Err(refuse(
                "`records` belongs to shape \"json\" and is needed there".to_owned(),
            ));
        }
        if let Some(label) = &layout.encoding
            && encoding_rs::Encoding::for_label(label.as_bytes()).is_none()
        {
            return Err(refuse(format!("unknown encoding \"{label}\", try \"latin1\"")));
        }
        Ok(Self {
            name: raw.name,
            about: raw.about,
            kind: raw.kind,
            recognise: raw.recognise.any,
            layout,
            time,
            fields,
            columns,
            gpu: raw.gpu,
            notes: raw.notes,
        })
    }

    fn fits(&self, head: &str) -> bool {
        self.recognise.iter().any(|signs| {
            signs.iter().all(|sign| match sign.strip_prefix('^') {
                Some(shape) => number::looks_like(head, shape),
                None => head.contains(sign.as_str()),
            })
        })
    }
}

fn comma() -> char {
    ','
}

fn yes() -> bool {
    true
}

fn one() -> f64 {
    1.0
}

macro_rules! presets {
    ($($name:literal),* $(,)?) => {
        [$(($name, include_str!(concat!("import/presets/", $name, ".toml")))),*]
    };
}

/// The built-in mappings, in the order in which they are tried: the more particular first.
const PRESETS: [(&str, &str); 14] = presets![
    "pmrep",
    "gwa-t-12",
    "afterburner",
    "gpu-z",
    "nvidia-smi",
    "nvidia-smi-headless",
    "sadf-json",
    "burstgpt-gpu",
    "nab",
    "azure-llm",
    "mooncake",
    "burstgpt-detail",
    "inferencex",
    "vllm-bench",
];
