//! A mapping file as it is written, before anything in it is checked.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;
use tiershift_core::time::SpanText;

use crate::trace::import::Kind;
use crate::wall::WallTime;

/// The description of a public format, for converting it to a native trace.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct RawMapping {
    /// Name of the format, for `--format`.
    pub name: String,
    /// Description of the format, in one line.
    pub about: String,
    pub kind: Kind,
    /// Notes for users about traces in this format.
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

/// The words by which the format is recognised: all words of any one list must be in the head of the file.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct RawRecognise {
    /// Lists of words. A `^` stands for the file's beginning, and after it `9` for any digit.
    pub any: Vec<Vec<String>>,
}

/// How the file is cut into records and cells.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct RawLayout {
    pub shape: Shape,
    /// Character between the cells of a table; spaces and tabs around a cell are ignored.
    #[serde(default = "comma")]
    pub separator: char,
    /// Prefixes of lines to skip.
    pub comment: Option<String>,
    /// Names for the columns of a table that has no header.
    pub columns: Option<Vec<String>>,
    /// Rows that count: those whose cell in each of these columns has one of these values. Tables without the column
    /// are not affected.
    #[serde(default)]
    pub only: BTreeMap<String, Vec<String>>,
    /// Lines to skip: those whose first cell is one of these. A `*` at the end lets anything follow.
    #[serde(default)]
    pub ignore: Vec<String>,
    /// Lines that begin a report of another day or machine.
    pub period: Option<RawPeriod>,
    /// Beginnings of lines that name the columns, wherever they are. A `#` before the names is ignored.
    #[serde(default)]
    pub header_marks: Vec<String>,
    /// Whether a line without any number, except that of its time, names the columns, wherever it is.
    #[serde(default)]
    pub word_header: bool,
    /// Meaning of the first cell, if it marks the kind of a line.
    pub tag: Option<RawTag>,
    /// Path of the records in a JSON file, with `*` for every key or index.
    pub records: Option<String>,
    /// Rows within a JSON record: the elements of the array at this pointer. Columns are looked for in the element,
    /// those that begin with `^` in the record.
    pub each: Option<String>,
    /// Whether each column of a JSON record is an array, with one element per row.
    #[serde(default)]
    pub arrays: bool,
    /// Templates of the lines of text that give a record, such as `{time}: MA={available} {}`. If several templates fit
    /// a line, including those of `told`, `next` and `skip`, the one with the most words is used.
    #[serde(default)]
    pub rows: Vec<String>,
    /// Templates of lines of text whose cells apply to every record after them.
    #[serde(default)]
    pub told: Vec<String>,
    /// Templates of lines of text whose cells apply only to the next record, for a record that takes several lines.
    #[serde(default)]
    pub next: Vec<String>,
    /// Lines of text to skip.
    #[serde(default)]
    pub skip: Vec<String>,
    /// Columns that must have one value for each field, such as the name of the machine. A second value is refused.
    #[serde(default)]
    pub same: Vec<String>,
    /// Whether the line above a header names groups of its columns, each from its own position on. A column is then
    /// called `group/name`.
    #[serde(default)]
    pub groups: bool,
    /// Number of rows to leave out at the beginning and after each header, for averages since the boot.
    #[serde(default)]
    pub leave_out: u32,
    /// Whether they are left out again below each time that is written above rows: what writes it starts the tool anew.
    #[serde(default)]
    pub leave_out_again: bool,
    /// Character between a number's whole part and its fraction. Default: detected.
    pub decimal: Option<char>,
    /// Encoding of lines that are not UTF-8.
    pub encoding: Option<String>,
    /// Texts that mean "no value", besides an empty cell.
    #[serde(default)]
    pub missing: Vec<String>,
}

/// The possible shapes of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Shape {
    /// Lines of cells between separators, below a header.
    Table,
    /// Lines of plain text, each cut by a template.
    Text,
    /// Lines of the Prometheus text format: a column for each label, `__name__`, `value` and `timestamp`.
    Prometheus,
    /// One JSON object per line.
    JsonLines,
    /// One large JSON value.
    Json,
}

/// The meanings of the first cell of a line.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct RawTag {
    /// A line of column names, wherever it is.
    pub header: String,
    /// A row. Without it, every other line is one.
    pub sample: Option<String>,
    /// Lines to skip.
    #[serde(default)]
    pub ignore: Vec<String>,
}

/// Lines above the tables of a report, such as `Linux 6.1 (box) 03/04/31`.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct RawPeriod {
    /// First cell of such a line. A date among its other cells is the day of the report.
    pub mark: String,
    /// Place of the cell that names the machine, from 1. A second machine is refused.
    pub machine: Option<usize>,
}

/// How the time of a record is written.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct RawTime {
    /// Columns of the time, joined by a space if there are several. None if the rows have no time: then `interval` is
    /// the time between them.
    #[serde(default)]
    pub columns: Vec<String>,
    /// Column of a duration to subtract, for logs that record the end: seconds, or with units (`95.2 ms`, `1m53.8s`).
    pub minus: Option<String>,
    /// Whether times since a start that fall back belong to another run, which was appended. With `minus`, this is
    /// checked before the subtraction.
    #[serde(default)]
    pub runs: bool,
    /// What the user can do about a file without any time; part of the error message.
    pub remedy: Option<String>,
    /// For rows without a time: columns whose values occur once per reading; a repeated value begins the next reading.
    /// Default: those that identify the GPUs.
    #[serde(default)]
    pub reading: Vec<String>,
    /// `strptime` patterns, iso8601, seconds, milliseconds, microseconds or nanoseconds, or units for numbers that are
    /// added up (`m.s.ms`); tried in this order.
    #[serde(default)]
    pub forms: Vec<String>,
    /// Time between rows that have no time of their own. With `columns`, the first of them has that time.
    pub interval: Option<SpanText>,
    /// Beginning of a file that does not state it: 2026-01-31T02:13:00, followed by +01:00 or Z if the offset from UTC
    /// is known. Times without a date or a year take only the missing part from it.
    #[schemars(with = "Option<String>")]
    pub starts_at: Option<WallTime>,
    /// Whether stamps are whole numbers: a stamp with a fraction belongs to another format, and is refused.
    #[serde(default)]
    pub whole: bool,
    /// Whether the clock is a calendar clock; a monotonic one has no date.
    #[serde(default = "yes")]
    pub wall_clock: bool,
    /// Whether records are in the order of time. If not, they are sorted; those of a resource trace with the same time
    /// are joined.
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

/// Rows that are the GPUs of one machine, one after the other.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct RawGpu {
    /// Columns that identify the GPUs, the best first: a number, a bus or serial number. Without any of them, rows are
    /// numbered within a sweep, as far as the times separate sweeps.
    #[serde(default)]
    pub by: Vec<String>,
    /// Columns that identify the GPUs if they are of several makes.
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
    /// Word by which `--metric` selects this field. It is for a column whose content the file does not state; without
    /// the option the file is refused.
    pub metric: Option<String>,
    /// Whether the meaning of the column is an assumption. Then the first impossible value refuses the file.
    #[serde(default)]
    pub assumed: bool,
    /// For an assumed column: some reading must be above this, or the file is refused. In `unit`.
    pub above: Option<f64>,
    #[serde(default)]
    pub plus: Vec<String>,
    #[serde(default)]
    pub minus: Vec<String>,
    #[serde(default)]
    pub over: Vec<String>,
    /// Columns in which zero means "not known": if one is zero, the next field with the same `to` is used.
    #[serde(default)]
    pub nonzero: Vec<String>,
    /// Rows from which this field is read: those whose cell in each of these columns has one of these values.
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
