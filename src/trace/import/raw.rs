//! A mapping file as it is written, before anything in it is checked.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;
use tiershift_core::time::SpanText;

use crate::trace::import::Kind;
use crate::wall::WallTime;

/// How a public format becomes a native trace.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct RawMapping {
    /// What `--format` calls it.
    pub name: String,
    /// What the format is, in one line.
    pub about: String,
    pub kind: Kind,
    /// What users should know about traces in this format.
    #[serde(default)]
    pub notes: Vec<String>,
    #[serde(default)]
    pub recognise: RawRecognise,
    pub layout: RawLayout,
    #[serde(default)]
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
    /// Prefixes of lines to skip.
    pub comment: Option<String>,
    /// Names for the columns of a table that has no header.
    pub columns: Option<Vec<String>>,
    /// Rows that count: those whose cell in each of these columns is one of these. A table without the column is
    /// not concerned.
    #[serde(default)]
    pub only: BTreeMap<String, Vec<String>>,
    /// Lines to skip: those whose first cell is one of these.
    #[serde(default)]
    pub ignore: Vec<String>,
    /// Lines that begin so name the columns, wherever they stand. A `#` before the names is none of them.
    #[serde(default)]
    pub header_marks: Vec<String>,
    /// Whether a line without any number, but for that of its time, names the columns, wherever it stands.
    #[serde(default)]
    pub word_header: bool,
    /// The first cell says what a line is.
    pub tag: Option<RawTag>,
    /// Where the records are in a JSON file: a path with `*` for every key or index.
    pub records: Option<String>,
    /// Rows within a JSON record: the elements of the array at this pointer. Columns are looked for in the element, those
    /// that begin with `^` in the record.
    pub each: Option<String>,
    /// Whether each column of a JSON record is an array, with an element for each row.
    #[serde(default)]
    pub arrays: bool,
    /// What a line of text is that gives a record, `{time}: MA={available} {}`. Of all templates that fit a line, also those
    /// of `told`, `next` and `skip`, the one with the most words is taken.
    #[serde(default)]
    pub rows: Vec<String>,
    /// Lines of text whose cells hold for every record after them.
    #[serde(default)]
    pub told: Vec<String>,
    /// Lines of text whose cells hold for the next record only: a record that takes several lines.
    #[serde(default)]
    pub next: Vec<String>,
    /// Lines of text to skip.
    #[serde(default)]
    pub skip: Vec<String>,
    /// Columns that have one value for each field: the machine that a row is of. A second value is refused.
    #[serde(default)]
    pub same: Vec<String>,
    /// Whether the line above a header names groups of its columns, each from its own place on. A column is then called
    /// `group/name`.
    #[serde(default)]
    pub groups: bool,
    /// Rows to leave out at the beginning and after each header: averages since the boot, mostly.
    #[serde(default)]
    pub leave_out: u32,
    /// The mark between a number's whole part and its fraction; found out where it is not given.
    pub decimal: Option<char>,
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
    /// Lines of the Prometheus text format: a column for each label, `__name__`, `value` and `timestamp`.
    Prometheus,
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
    /// Lines to skip.
    #[serde(default)]
    pub ignore: Vec<String>,
}

/// How the time of a record is written.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct RawTime {
    /// Joined by a space where there are several. None where the rows have no time: then `interval` says how far they are
    /// apart.
    #[serde(default)]
    pub columns: Vec<String>,
    /// A duration to take off, for logs that write the end: seconds, or with units (`95.2 ms`, `1m53.8s`).
    pub minus: Option<String>,
    /// Whether times since a start that fall back are of another run, which was appended. Where there is `minus`, that is
    /// seen before it is taken off.
    #[serde(default)]
    pub runs: bool,
    /// What a person can do about a file without any time. It is said where such a file is refused.
    pub remedy: Option<String>,
    /// Columns of rows without a time that a reading has once each: a row that the reading has already begins the next one.
    /// Default: those that identify the GPUs.
    #[serde(default)]
    pub reading: Vec<String>,
    /// `strptime` patterns, iso8601, seconds, milliseconds, microseconds or nanoseconds, or units for numbers that are added
    /// up (`m.s.ms`); tried in this order.
    #[serde(default)]
    pub forms: Vec<String>,
    /// Time between rows that have no time of their own. With `columns`, the first of them has that time.
    pub interval: Option<SpanText>,
    /// When a file begins that does not say it: 2026-01-31T02:13:00, with +01:00 or Z behind it where the offset from UTC is
    /// known. Of times without a date or a year, only what they leave out is taken from it.
    #[schemars(with = "Option<String>")]
    pub starts_at: Option<WallTime>,
    /// Whether stamps are whole numbers: one with a fraction is of another format, and refused.
    #[serde(default)]
    pub whole: bool,
    /// Whether the clock is a calendar's; a monotonic one has no date.
    #[serde(default = "yes")]
    pub wall_clock: bool,
    /// Whether records stand in the order of time. Where they do not, they are sorted; those of a resource trace that have
    /// one time are put together.
    #[serde(default = "yes")]
    pub sorted: bool,
    /// A silence up to this many seconds is not a gap.
    #[serde(default)]
    pub shortest_gap_seconds: u64,
}

impl Default for RawTime {
    fn default() -> Self {
        Self {
            columns: Vec::new(),
            minus: None,
            runs: false,
            remedy: None,
            reading: Vec::new(),
            forms: Vec::new(),
            interval: None,
            starts_at: None,
            whole: false,
            wall_clock: true,
            sorted: true,
            shortest_gap_seconds: 0,
        }
    }
}

/// Rows that are one machine's GPUs, one after the other.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct RawGpu {
    /// Columns that identify the GPUs, the best first: a number, a bus or serial number. Without any of them, rows
    /// count up within the sweep, as far as the times separate sweeps.
    #[serde(default)]
    pub by: Vec<String>,
    /// Columns that identify the GPUs where they are of several makes.
    #[serde(default)]
    pub names: Vec<String>,
    /// Rows of one sweep are at most this far apart.
    pub sweep_milliseconds: u32,
}

/// How a column of the native trace is made: (plus - minus) / over x scale. A column called `=100` is the number 100.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct RawField {
    /// The column of the native trace, or one that only mappings have: `memory_available_bytes`, `memory_used_milli_percent`,
    /// the same of `swap` and of `gpu0_vram` and so on, `cpu_idle_milli_percent`.
    pub to: String,
    /// B, KB, KiB, MB, MiB, GB, GiB, TB, TiB, %, fraction, ms/s, C or 1. Without it, each cell or the header must give it.
    pub unit: Option<String>,
    #[serde(default = "one")]
    pub scale: f64,
    /// Under which word `--metric` asks for this field. A file does not say what such a column holds; without the option it
    /// is refused.
    pub metric: Option<String>,
    /// Whether the file does not say that this is what its column holds. The first value that cannot be then refuses the
    /// file.
    #[serde(default)]
    pub assumed: bool,
    /// Of an assumed column: some reading is above this, or the file is refused. In `unit`.
    pub above: Option<f64>,
    #[serde(default)]
    pub plus: Vec<String>,
    #[serde(default)]
    pub minus: Vec<String>,
    #[serde(default)]
    pub over: Vec<String>,
    /// Columns that must not be zero, for zero stands for "not known": the next field with the same `to` is taken then.
    #[serde(default)]
    pub nonzero: Vec<String>,
    /// Rows from which this field is read: those whose cell in each of these columns is one of these.
    #[serde(default)]
    pub only: BTreeMap<String, Vec<String>>,
    /// How several rows of one reading are combined.
    #[serde(default)]
    pub rows: Combine,
    /// Whether the number is a counter: the value is its increase per second.
    #[serde(default)]
    pub counter: bool,
}

/// How several rows for one column of one reading are combined.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Combine {
    /// The last one counts.
    #[default]
    Last,
    Sum,
    Mean,
    Max,
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
