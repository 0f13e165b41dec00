//! A mapping file, checked and ready for use.

use std::sync::Arc;

use crate::files::document::{self, Document};
use crate::files::schema;
use crate::trace::TraceError;
use crate::trace::column::{self, Quantity};
use crate::trace::import::clock::TimeForm;
use crate::trace::import::number::{self, Unit};
use crate::trace::import::raw::{Combine, RawField, RawLayout, RawMapping, RawTime, Shape};
use crate::trace::import::template::Template;
use crate::trace::import::{Kind, Told};
use crate::wall::WallTime;

/// A checked mapping file.
#[derive(Clone, Debug, PartialEq)]
pub struct Mapping {
    pub(crate) name: String,
    pub(crate) about: String,
    pub(crate) kind: Kind,
    recognise: Vec<Vec<String>>,
    pub(crate) layout: RawLayout,
    /// Columns that must have one value for each field.
    pub(crate) same: Vec<usize>,
    /// Columns that determine whether a row counts, with the values that they must have.
    pub(crate) only: Vec<(usize, Vec<String>)>,
    pub(crate) text: Text,
    pub(crate) time: Time,
    pub(crate) fields: Vec<Field>,
    /// Every column that the time or a field reads, once each.
    pub(crate) columns: Vec<String>,
    pub(crate) gpu: Option<GpuRule>,
    /// Notes for users about traces in this format.
    pub(crate) notes: Vec<String>,
    /// Whether the user has named the columns.
    pub(crate) are_columns_told: bool,
}

/// The lines of a text as templates, specific ones before general ones. Empty for the other shapes.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Text(pub Vec<Line>);

/// A line that a text may have.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Line {
    pub sort: LineSort,
    pub template: Template,
    /// Its spelling in the mapping.
    pub written: String,
}

/// The purpose of a line of a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LineSort {
    Row,
    Told,
    Next,
    Skip,
}

/// How time is written. Columns are indices into the mapping's.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Time {
    pub columns: Vec<usize>,
    pub minus: Option<usize>,
    pub runs: bool,
    pub remedy: Option<String>,
    pub reading: Vec<usize>,
    pub forms: Vec<TimeForm>,
    /// Time between rows that have no time of their own.
    pub interval_ns: Option<i64>,
    /// The number of such rows in one reading, if the user has stated it.
    pub rows_in_reading: Option<usize>,
    /// When the file begins, if it does not state it.
    pub starts_at: Option<WallTime>,
    pub whole: bool,
    pub wall_clock: bool,
    pub sorted: bool,
    pub shortest_gap_ns: u64,
}

/// How the rows of the GPUs of one reading are distinguished. Columns are indices into the mapping's.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct GpuRule {
    pub by: Vec<usize>,
    /// Columns that identify them if they are of several makes.
    pub names: Vec<usize>,
    pub sweep_ns: i64,
}

/// How one native column is made: (plus - minus) / over x scale. Columns are indices into the mapping's.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Field {
    pub slot: usize,
    pub quantity: Quantity,
    pub unit: Option<Unit>,
    pub scale: f64,
    pub metric: Option<String>,
    pub assumed: bool,
    /// In native units.
    pub above: Option<f64>,
    pub plus: Vec<Term>,
    pub minus: Vec<Term>,
    pub over: Vec<Term>,
    pub nonzero: Vec<usize>,
    pub only: Vec<(usize, Vec<String>)>,
    pub rows: Combine,
    pub counter: bool,
}

/// A part of a sum.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Term {
    Column(usize),
    Constant(f64),
}

impl Term {
    pub(crate) fn column(&self) -> Option<usize> {
        match self {
            Self::Column(at) => Some(*at),
            Self::Constant(_) => None,
        }
    }
}

impl Field {
    /// Returns every column that it is made of.
    pub(crate) fn columns(&self) -> impl Iterator<Item = usize> {
        self.plus.iter().chain(&self.minus).chain(&self.over).filter_map(Term::column)
    }

    /// Returns the column that represents it in messages.
    pub(crate) fn first_column(&self) -> usize {
        self.columns().next().expect("a field without a column is refused")
    }
}

/// The columns of a mapping, each once.
#[derive(Default)]
struct Columns(Vec<String>);

impl Columns {
    fn index(&mut self, column: &String) -> usize {
        self.0.iter().position(|known| known == column).unwrap_or_else(|| {
            self.0.push(column.clone());
            self.0.len() - 1
        })
    }

    fn all(&mut self, columns: &[String]) -> Vec<usize> {
        columns.iter().map(|column| self.index(column)).collect()
    }

    fn only<'a>(
        &mut self,
        only: impl IntoIterator<Item = (&'a String, &'a Vec<String>)>,
    ) -> Vec<(usize, Vec<String>)> {
        only.into_iter().map(|(column, is)| (self.index(column), is.clone())).collect()
    }

    fn terms(&mut self, columns: &[String]) -> Result<Vec<Term>, String> {
        let term = |column: &String| match column.strip_prefix('=') {
            None => Ok(Term::Column(self.index(column))),
            Some(number) => match number.trim().parse::<f64>() {
                Ok(number) if number.is_finite() => Ok(Term::Constant(number)),
                _ => Err(format!("`{column}` is not a number: write \"=100\" for a constant")),
            },
        };
        columns.iter().map(term).collect()
    }
}

impl Mapping {
    /// Parses and checks a mapping file.
    ///
    /// # Errors
    /// When it is not TOML, has an unknown key, or names something that does not exist.
    pub fn parse(name: &str, text: &str) -> Result<Self, TraceError> {
        let document = Document::new(name, text);
        let raw: RawMapping = document.read(&[])?;
        let refuse =
            |table: &str, key: &str, reason: &str| document.refuse_in(table, key, reason, REMEDY);
        let mut columns = Columns::default();
        let time = Time::parse(&raw.time, raw.kind, &mut columns)
            .map_err(|(key, reason)| refuse("time", key, &reason))?;
        let mut fields = Vec::new();
        for field in &raw.field {
            let parsed = Field::parse(field, raw.kind, &mut columns);
            fields.push(parsed.map_err(|(key, reason)| {
                document.refuse_entry("field", ("to", &field.to), key, &reason)
            })?);
        }
        if fields.is_empty() {
            return Err(document.refuse_key("field", "a mapping needs a [[field]]", REMEDY).into());
        }
        let gpu = raw.gpu.as_ref().map(|gpu| GpuRule {
            by: columns.all(&gpu.by),
            names: columns.all(&gpu.names),
            sweep_ns: i64::from(gpu.sweep_milliseconds) * 1_000_000,
        });
        let layout = raw.layout;
        let only = columns.only(&layout.only);
        let same = columns.all(&layout.same);
        let mut columns = columns.0;
        let text = Text::parse(&layout, &mut columns)
            .map_err(|(key, reason)| refuse("layout", key, &reason))?;
        check_layout(&layout).map_err(|(key, reason)| refuse("layout", key, &reason))?;
        Ok(Self {
            name: raw.name,
            about: raw.about,
            kind: raw.kind,
            recognise: raw.recognise.any,
            layout,
            same,
            only,
            text,
            time,
            fields,
            columns,
            gpu,
            notes: raw.notes,
            are_columns_told: false,
        })
    }

    /// Returns the mapping, completed with what the user states about the file.
    ///
    /// # Errors
    /// When the mapping requires something that was not stated.
    pub(crate) fn with(self: Arc<Self>, told: &Told, file: &str) -> Result<Arc<Self>, TraceError> {
        let refuse = |reason: String| TraceError::Ask { name: file.to_owned(), reason };
        let asks = self.fields.iter().any(|field| field.metric.is_some());
        let is_plain = *told == Told::default() && !asks;
        let mapping = if is_plain {
            self
        } else {
            let mut mapping = Arc::unwrap_or_clone(self);
            if let Some(interval) = told.interval {
                mapping.time.interval_ns =
                    Some(i64::try_from(interval.as_nanos()).unwrap_or(i64::MAX));
            }
            mapping.time.rows_in_reading = told.gpus.map(|gpus| gpus.max(1));
            mapping.time.starts_at = told.starts_at.or(mapping.time.starts_at);
            if !told.columns.is_empty() {
                mapping.layout.columns = Some(told.columns.clone());
                mapping.are_columns_told = true;
            }
            if asks {
                mapping.choose(told.metric.as_deref()).map_err(refuse)?;
            }
            Arc::new(mapping)
        };
        if mapping.time.columns.is_empty() && mapping.time.interval_ns.is_none() {
            return Err(refuse(format!(
                "{} has rows without a time: give the time between them, such as `--interval 1s`",
                mapping.name
            )));
        }
        Ok(mapping)
    }

    /// Of the fields among which the user must choose, keeps only the chosen one.
    fn choose(&mut self, metric: Option<&str>) -> Result<(), String> {
        let is_chosen = |field: &Field| field.metric.is_none() || field.metric.as_deref() == metric;
        let mut metrics: Vec<_> = self.fields.iter().filter_map(|f| f.metric.as_deref()).collect();
        metrics.dedup();
        if metric.is_none_or(|metric| !metrics.contains(&metric)) {
            let column = self.fields.iter().find(|field| field.metric.is_some());
            let column = column.map_or("", |field| &self.columns[field.first_column()]);
            return Err(format!(
                "{} does not say what its column `{column}` holds: say so with `--metric`, one of {}, or describe the \
                 file in a mapping",
                self.name,
                metrics.join(", ")
            ));
        }
        self.fields.retain(is_chosen);
        Ok(())
    }

    /// Returns the index of a text's column in the mapping.
    pub(crate) fn column(&self, name: &str) -> usize {
        let at = self.columns.iter().position(|column| column == name);
        at.expect("each cell of a template is a column")
    }

    pub(crate) fn fits(&self, head: &str) -> bool {
        self.recognise.iter().any(|signs| signs.iter().all(|sign| is_in(head, sign)))
    }

    /// Returns the signs of the list that has most of them in `head`: those that are there, and those that are not.
    pub(crate) fn nearest_signs(&self, head: &str) -> Option<(Vec<&str>, Vec<&str>)> {
        let lists = self.recognise.iter().map(|signs| {
            let signs = signs.iter().map(String::as_str);
            signs.partition::<Vec<_>, _>(|sign| is_in(head, sign))
        });
        // The first among equally near ones.
        lists.rev().max_by_key(|(met, unmet)| (met.len() * 1000) / (met.len() + unmet.len()).max(1))
    }
}

/// Returns whether a sign is in the head of a file. A mark at its beginning anchors it at the file's beginning (`^`) or
/// at that of a line (`|`).
fn is_in(head: &str, sign: &str) -> bool {
    if let Some(shape) = sign.strip_prefix('^') {
        return number::looks_like(head, shape);
    }
    match sign.strip_prefix('|') {
        Some(shape) => head.lines().any(|line| number::looks_like(line, shape)),
        None => head.contains(sign),
    }
}

type Refused = (&'static str, String);

impl Time {
    fn parse(raw: &RawTime, kind: Kind, columns: &mut Columns) -> Result<Self, Refused> {
        let forms: Result<_, String> = raw.forms.iter().map(|form| form.parse()).collect();
        let time = Self {
            columns: columns.all(&raw.columns),
            minus: raw.minus.as_ref().map(|column| columns.index(column)),
            runs: raw.runs,
            remedy: raw.remedy.clone(),
            reading: columns.all(&raw.reading),
            forms: forms.map_err(|reason| ("forms", reason))?,
            interval_ns: raw
                .interval
                .map(|span| i64::try_from(span.0.as_nanos()).unwrap_or(i64::MAX)),
            rows_in_reading: None,
            starts_at: raw.starts_at,
            whole: raw.whole,
            wall_clock: raw.wall_clock && !raw.columns.is_empty(),
            sorted: raw.sorted,
            shortest_gap_ns: raw.shortest_gap_seconds.saturating_mul(1_000_000_000),
        };
        if time.columns.is_empty() != time.forms.is_empty() {
            return Err(("columns", "`time` needs both a column and a form".to_owned()));
        }
        if time.interval_ns == Some(0) {
            return Err(("interval", "an interval is longer than nothing".to_owned()));
        }
        if kind == Kind::Request && time.columns.is_empty() {
            return Err((
                "columns",
                "requests need a time: give the name of its column".to_owned(),
            ));
        }
        Ok(time)
    }
}

impl Field {
    fn parse(raw: &RawField, kind: Kind, columns: &mut Columns) -> Result<Self, Refused> {
        let slot = match kind {
            Kind::Resource => column::slot(&raw.to),
            Kind::Request => column::request_slot(&raw.to),
        };
        let Some((slot, quantity)) = slot else {
            let known = match kind {
                Kind::Resource => column::mapping_names(),
                Kind::Request => column::REQUEST.map(|(name, _)| name.to_owned()).to_vec(),
            };
            let nearest = document::suggestion(&raw.to, known.iter().map(String::as_str));
            return Err((
                "to",
                format!("`{}` is not a column of a native trace: {nearest}", raw.to),
            ));
        };
        let unit: Option<Unit> = raw
            .unit
            .as_ref()
            .map(|unit| unit.parse())
            .transpose()
            .map_err(|reason| ("unit", reason))?;
        if let Some(text) = &raw.unit
            && unit.is_some_and(|unit| unit.factor(quantity).is_none())
        {
            return Err(("unit", format!("`{}` cannot be measured in \"{text}\"", raw.to)));
        }
        if kind == Kind::Request && (raw.counter || raw.rows != Combine::Last) {
            return Err(("rows", "each row of a request trace is one request".to_owned()));
        }
        let terms = |names: &[String], columns: &mut Columns| {
            columns.terms(names).map_err(|reason| ("plus", reason))
        };
        let field = Self {
            slot,
            quantity,
            unit,
            scale: raw.scale,
            metric: raw.metric.clone(),
            assumed: raw.assumed,
            above: raw
                .above
                .map(|above| above * unit.and_then(|u| u.factor(quantity)).unwrap_or(1.0)),
            plus: terms(&raw.plus, columns)?,
            minus: terms(&raw.minus, columns)?,
            over: terms(&raw.over, columns)?,
            nonzero: columns.all(&raw.nonzero),
            only: columns.only(&raw.only),
            rows: raw.rows,
            counter: raw.counter,
        };
        if !field.scale.is_finite() || field.plus.is_empty() || field.columns().next().is_none() {
            let reason = format!(
                "`{}` needs a column in `plus` and a finite scale (what is left of a space goes to \
                 `memory_available_bytes` and its like)",
                raw.to
            );
            return Err(("plus", reason));
        }
        Ok(field)
    }
}

impl Text {
    /// Checks the templates of a text, and adds to `columns` those of their cells that are not used otherwise. A
    /// refusal names the key of `[layout]` that it is about.
    fn parse(layout: &RawLayout, columns: &mut Vec<String>) -> Result<Self, Refused> {
        let mut lines = Vec::new();
        for (key, sort, texts) in [
            ("rows", LineSort::Row, &layout.rows),
            ("told", LineSort::Told, &layout.told),
            ("next", LineSort::Next, &layout.next),
            ("skip", LineSort::Skip, &layout.skip),
        ] {
            for written in texts {
                let template = Template::parse(written).map_err(|reason| (key, reason))?;
                lines.push(Line { sort, template, written: written.clone() });
            }
        }
        if (layout.shape == Shape::Text) == layout.rows.is_empty() {
            let reason = "`rows` belongs to shape \"text\" and is needed there";
            return Err(("shape", reason.to_owned()));
        }
        let named = lines.iter().filter(|line| line.sort != LineSort::Skip);
        let named: Vec<_> = named.flat_map(|line| line.template.names()).collect();
        if let Some(column) = columns.iter().find(|column| !named.contains(&column.as_str()))
            && !lines.is_empty()
        {
            let reason = format!("no template has a cell `{column}`: write {{{column}}} into one");
            return Err(("rows", reason));
        }
        for name in named {
            if !columns.iter().any(|column| column == name) {
                columns.push(name.to_owned());
            }
        }
        // Stable: among equally specific ones the first in the file counts.
        lines.sort_by_key(|line| std::cmp::Reverse(line.template.letters()));
        Ok(Self(lines))
    }
}

fn check_layout(layout: &RawLayout) -> Result<(), Refused> {
    if (layout.shape == Shape::Json) != layout.records.is_some() {
        let reason = "`records` belongs to shape \"json\" and is needed there";
        return Err(("shape", reason.to_owned()));
    }
    let is_json = matches!(layout.shape, Shape::Json | Shape::JsonLines);
    if !is_json && (layout.each.is_some() || layout.arrays) {
        return Err(("shape", "`each` and `arrays` belong to JSON".to_owned()));
    }
    if layout.each.is_some() && layout.arrays {
        return Err((
            "arrays",
            "`each` and `arrays` are two ways to say where rows are".to_owned(),
        ));
    }
    if layout.groups && layout.shape != Shape::Table {
        return Err(("groups", "`groups` belongs to shape \"table\"".to_owned()));
    }
    if layout.decimal.is_some_and(|mark| mark != ',' && mark != '.') {
        return Err(("decimal", "a fraction begins with \",\" or \".\"".to_owned()));
    }
    if let Some(label) = &layout.encoding
        && encoding_rs::Encoding::for_label(label.as_bytes()).is_none()
    {
        return Err(("encoding", format!("unknown encoding \"{label}\", try \"latin1\"")));
    }
    Ok(())
}

const REMEDY: &str = "see `tiershift schema mapping`";

/// Returns the JSON Schema of a mapping file.
pub fn schema() -> String {
    schema::text::<RawMapping>()
}
