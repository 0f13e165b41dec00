//! A mapping file as it is written, before anything in it is checked.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::trace::import::Kind;

/// How a public format becomes a native trace.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct RawMapping {
    /// What `--format` calls it.
    pub name: String,
    /// What it is, in a line.
    pub about: String,
    pub kind: Kind,
    /// What a user should know about traces of this format.
    #[serde(default)]
    pub notes: Vec<String>,
    #[serde(default)]
    pub recognise: RawRecognise,
    pub layout: RawLayout,
    pub time: RawTime,
    pub gpu: Option<RawGpu>,
    #[serde(default)]
    pub field: Vec<RawField>,
}

/// By which words the format is known: all words of any one list must be in the head of the file.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct RawRecognise {
    /// `^` stands for the file's beginning, and behind it `9` for any digit.
    pub any: Vec<Vec<String>>,
}

/// How the file is cut into records and cells.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
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
    /// Rows that count: those whose cell in each of these columns is one of these. A table without the column is
    /// not concerned.
    #[serde(default)]
    pub only: BTreeMap<String, Vec<String>>,
    /// The first cell tells what a line is.
    pub tag: Option<RawTag>,
    /// Where the records are in a JSON file: a path with `*` for every key or index.
    pub records: Option<String>,
    /// What a line of text is that gives a record: the first template that fits cuts it, `{time}: MA={available} {}`.
    #[serde(default)]
    pub rows: Vec<String>,
    /// Lines of text whose cells hold for every record after them.
    #[serde(default)]
    pub told: Vec<String>,
    /// Lines of text that say nothing.
    #[serde(default)]
    pub skip: Vec<String>,
    /// Encoding of lines that are not UTF-8.
    pub encoding: Option<String>,
    /// What stands for "no value", beside an empty cell.
    #[serde(default)]
    pub missing: Vec<String>,
}

/// The shapes a file may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Shape {
    /// Lines of cells between separators, below a header.
    Table,
    /// Lines of plain text, each cut by a template.
    Text,
    /// A JSON object in each line.
    JsonLines,
    /// One large JSON value.
    Json,
}

/// What the first cell of a line says.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct RawTag {
    /// A line of column names, wherever it stands.
    pub header: String,
    /// A row. Without it, every other line is one.
    pub sample: Option<String>,
    /// Lines that say nothing.
    #[serde(default)]
    pub ignore: Vec<String>,
}

/// How the time of a record is written.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct RawTime {
    /// Joined by a space where there are several.
    pub columns: Vec<String>,
    /// Seconds to take off: for logs that write the end.
    pub minus: Option<String>,
    /// `strptime` patterns, iso8601, seconds, milliseconds or nanoseconds; tried in this order.
    pub forms: Vec<String>,
    /// Whether the clock is a calendar's; a monotonic one tells no date.
    #[serde(default = "yes")]
    pub wall_clock: bool,
    /// Whether requests stand in the order of their arrival.
    #[serde(default = "yes")]
    pub sorted: bool,
    /// A silence up to this many seconds is no gap.
    #[serde(default)]
    pub shortest_gap_seconds: u64,
}

/// Rows that are one machine's GPUs, one after the other.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct RawGpu {
    /// The column with the GPU's number. Without it, rows count up within the sweep.
    pub index: Option<String>,
    /// Rows of one sweep are at most this far apart.
    pub sweep_milliseconds: u32,
}

/// How a column of the native trace is made: (plus - minus) / over x scale.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct RawField {
    /// The column of the native trace.
    pub to: String,
    /// B, KB, KiB, MB, MiB, GB, GiB, %, fraction, ms/s, C or 1.
    pub unit: String,
    #[serde(default = "one")]
    pub scale: f64,
    /// Whether the file does not say that this is what its column holds. The first value that cannot be then
    /// refuses the file, where it would otherwise count as missing.
    #[serde(default)]
    pub assumed: bool,
    pub plus: Vec<String>,
    #[serde(default)]
    pub minus: Vec<String>,
    #[serde(default)]
    pub over: Vec<String>,
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
