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

use schemars::JsonSchema;
use serde::Deserialize;

use crate::files::document::{self, Document};
use crate::files::schema;
use crate::files::whole_file::read_small_text;
use crate::trace::TraceError;
use crate::trace::column::{self, Quantity};
use crate::trace::import::number::{TimeForm, Unit};
use crate::trace::import::raw::{RawGpu, RawLayout, RawMapping, Shape};
use crate::trace::import::template::Template;
use crate::trace::native::{REQUEST_MAGIC, RESOURCE_MAGIC};

pub(crate) mod json;
pub(crate) mod number;
pub(crate) mod raw;
pub(crate) mod record;
pub(crate) mod table;
pub(crate) mod template;

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
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
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
            let known = document::suggestion(name, known.iter().map(Self::name));
            TraceError::UnknownFormatName { name: name.to_owned(), known }
        })
    }

    /// Reads a mapping file.
    ///
    /// # Errors
    /// Where the file cannot be read or is no mapping.
    pub fn from_file(path: &Path) -> Result<Self, TraceError> {
        let name = path.display().to_string();
        let text = read_small_text(path)
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
    /// Columns that say whether a row counts, with what they must hold.
    pub(crate) only: Vec<(usize, Vec<String>)>,
    pub(crate) text: Text,
    pub(crate) time: Time,
    pub(crate) fields: Vec<Field>,
    /// Every column that the time or a field reads, once each.
    pub(crate) columns: Vec<String>,
    pub(crate) gpu: Option<RawGpu>,
    /// What a user should know about traces of this format.
    pub(crate) notes: Vec<String>,
}

/// The lines of a text, ready to be cut. Empty for the other shapes.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Text {
    pub rows: Vec<Template>,
    pub told: Vec<Template>,
    pub skip: Vec<Template>,
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
    /// Whether the file does not say that this is what its column holds.
    pub assumed: bool,
    pub plus: Vec<usize>,
    pub minus: Vec<usize>,
    pub over: Vec<usize>,
}

impl Mapping {
    /// Parses and checks a mapping file.
    ///
    /// # Errors
    /// Where it is not TOML, has an unknown key, or names what does not exist.
    pub fn parse(name: &str, text: &str) -> Result<Self, TraceError> {
        let document = Document::new(name, text);
        let raw: RawMapping = document.read(&[])?;
        let refuse =
            |table: &str, key: &str, reason: &str| document.refuse_in(table, key, reason, REMEDY);
        let mut columns = Vec::new();
        let mut index = |column: &String| {
            columns.iter().position(|known| known == column).unwrap_or_else(|| {
                columns.push(column.clone());
                columns.len() - 1
            })
        };
        let forms: Result<_, String> = raw.time.forms.iter().map(|form| form.parse()).collect();
        let time = Time {
            columns: raw.time.columns.iter().map(&mut index).collect(),
            minus: raw.time.minus.as_ref().map(&mut index),
            forms: forms.map_err(|reason| refuse("time", "forms", &reason))?,
            wall_clock: raw.time.wall_clock,
            sorted: raw.time.sorted,
            shortest_gap_ns: raw.time.shortest_gap_seconds.saturating_mul(1_000_000_000),
        };
        if time.columns.is_empty() || time.forms.is_empty() {
            return Err(refuse("time", "columns", "`time` needs a column and a form").into());
        }
        if !time.sorted && raw.kind == Kind::Resource {
            return Err(refuse("time", "sorted", "only requests may be out of order").into());
        }
        let mut fields = Vec::new();
        for field in &raw.field {
            let refuse = |key: &str, reason: &str| {
                document.refuse_entry("field", ("to", &field.to), key, reason)
            };
            let slot = match raw.kind {
                Kind::Resource => column::slot(&field.to),
                Kind::Request => column::request_slot(&field.to),
            };
            let Some((slot, quantity)) = slot else {
                let known = match raw.kind {
                    Kind::Resource => column::names(1),
                    Kind::Request => column::REQUEST.map(|(name, _)| name.to_owned()).to_vec(),
                };
                let nearest = document::suggestion(&field.to, known.iter().map(String::as_str));
                let reason = format!("`{}` is no column of a native trace: {nearest}", field.to);
                return Err(refuse("to", &reason).into());
            };
            let unit: Unit =
                field.unit.parse().map_err(|reason: String| refuse("unit", &reason))?;
            if unit.factor(quantity).is_none() {
                let reason = format!("`{}` cannot be measured in \"{}\"", field.to, field.unit);
                return Err(refuse("unit", &reason).into());
            }
            if !field.scale.is_finite() || field.plus.is_empty() {
                let reason = format!("`{}` needs a column and a finite scale", field.to);
                return Err(refuse("plus", &reason).into());
            }
            let mut all = |names: &[String]| names.iter().map(&mut index).collect();
            let (plus, minus, over) = (all(&field.plus), all(&field.minus), all(&field.over));
            let (scale, assumed) = (field.scale, field.assumed);
            fields.push(Field { slot, quantity, unit, scale, assumed, plus, minus, over });
        }
        if fields.is_empty() {
            return Err(document.refuse_key("field", "a mapping needs a [[field]]", REMEDY).into());
        }
        if let Some(column) = raw.gpu.as_ref().and_then(|gpu| gpu.index.as_ref()) {
            index(column);
        }
        let layout = raw.layout;
        let only = layout.only.iter().map(|(column, is)| (index(column), is.clone())).collect();
        let text = Text::parse(&layout, &mut columns)
            .map_err(|(key, reason)| refuse("layout", key, &reason))?;
        if (layout.shape == Shape::Json) != layout.records.is_some() {
            let reason = "`records` belongs to shape \"json\" and is needed there";
            return Err(refuse("layout", "shape", reason).into());
        }
        if let Some(label) = &layout.encoding
            && encoding_rs::Encoding::for_label(label.as_bytes()).is_none()
        {
            let reason = format!("unknown encoding \"{label}\", try \"latin1\"");
            return Err(refuse("layout", "encoding", &reason).into());
        }
        Ok(Self {
            name: raw.name,
            about: raw.about,
            kind: raw.kind,
            recognise: raw.recognise.any,
            layout,
            only,
            text,
            time,
            fields,
            columns,
            gpu: raw.gpu,
            notes: raw.notes,
        })
    }

    /// Returns where a column of a text is among the mapping's.
    pub(crate) fn column(&self, name: &str) -> usize {
        let at = self.columns.iter().position(|column| column == name);
        at.expect("each cell of a template is a column")
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

impl Text {
    /// Checks the templates of a text, and adds to `columns` what nobody else wants of their cells.
    /// A refusal names the key of `[layout]` that it is about.
    fn parse(
        layout: &RawLayout,
        columns: &mut Vec<String>,
    ) -> Result<Self, (&'static str, String)> {
        let all = |key, texts: &[String]| -> Result<Vec<_>, _> {
            let each = texts.iter().map(|text| Template::parse(text));
            each.collect::<Result<_, _>>().map_err(|reason| (key, reason))
        };
        let rows = all("rows", &layout.rows)?;
        let (told, skip) = (all("told", &layout.told)?, all("skip", &layout.skip)?);
        if (layout.shape == Shape::Text) == rows.is_empty() {
            let reason = "`rows` belongs to shape \"text\" and is needed there";
            return Err(("shape", reason.to_owned()));
        }
        let named: Vec<_> = rows.iter().chain(&told).flat_map(Template::names).collect();
        if let Some(column) = columns.iter().find(|column| !named.contains(&column.as_str()))
            && !rows.is_empty()
        {
            let reason = format!("no template has a cell `{column}`: write {{{column}}} into one");
            return Err(("rows", reason));
        }
        for name in named {
            if !columns.iter().any(|column| column == name) {
                columns.push(name.to_owned());
            }
        }
        Ok(Self { rows, told, skip })
    }
}

const REMEDY: &str = "`tiershift schema mapping` tells what may stand here";

/// Returns the JSON Schema of a mapping file.
pub fn schema() -> String {
    schema::text::<RawMapping>()
}

macro_rules! presets {
    ($($name:literal),* $(,)?) => {
        [$(($name, include_str!(concat!("import/presets/", $name, ".toml")))),*]
    };
}

/// The built-in mappings, in the order in which they are tried: the more particular first.
const PRESETS: [(&str, &str); 19] = presets![
    "pmrep",
    "gwa-t-12",
    "afterburner",
    "gpu-z",
    "nvidia-smi",
    "nvidia-smi-headless",
    "sadf-json",
    "sadf-d",
    "burstgpt-gpu",
    "nezha-pod",
    "exathlon",
    "mem2log",
    "psi2log",
    "nab",
    "azure-llm",
    "mooncake",
    "burstgpt-detail",
    "inferencex",
    "vllm-bench",
];
