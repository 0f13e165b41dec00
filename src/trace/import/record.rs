//! Records of a public format, brought to the columns of a native trace.

use std::sync::Arc;

use serde_json::Value as Json;

use crate::trace::TraceError;
use crate::trace::column::{self, Slots};
use crate::trace::defects::{DefectKind, Defects, Place};
use crate::trace::import::json::Scanner;
use crate::trace::import::number::{self, Unit};
use crate::trace::import::raw::Shape;
use crate::trace::import::table::{self, Cell};
use crate::trace::import::template::Template;
use crate::trace::import::{Field, Mapping};
use crate::trace::native::QUOTED_BYTES;
use crate::trace::source::Source;

/// Reads the records of a file that a mapping describes.
#[derive(Clone, Debug)]
pub(crate) struct Records {
    mapping: Arc<Mapping>,
    header: Option<Header>,
    scanner: Scanner,
    /// The present record's cells, one for each column of the mapping.
    cells: Vec<Found>,
    /// The form in which the last time was written: tried first.
    form: usize,
    buffer: Vec<u8>,
}

/// A record's time and place. Its numbers are asked for with [`Records::fill`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct Record {
    pub at: i64,
    pub place: Place,
}

/// Where the mapping's columns are in a table.
#[derive(Clone, Debug)]
struct Header {
    names: Vec<String>,
    /// Cells that the header line had, trailing empty ones included.
    width: usize,
    positions: Vec<Option<usize>>,
    units: Vec<Option<Unit>>,
}

/// A column in the present record.
#[derive(Clone, Debug, Default)]
struct Found {
    presence: Presence,
    text: String,
    column: u64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Presence {
    /// The file has no such column.
    #[default]
    NoColumn,
    Missing,
    Text,
}

impl Records {
    pub(crate) fn new(mapping: Arc<Mapping>) -> Self {
        let scanner = Scanner::new(mapping.layout.records.as_deref().unwrap_or_default());
        let cells = vec![Found::default(); mapping.columns.len()];
        let mut records =
            Self { mapping, header: None, scanner, cells, form: 0, buffer: Vec::new() };
        if let Some(columns) = records.mapping.layout.columns.clone() {
            let cells: Vec<_> = columns.iter().map(|name| Cell { column: 1, text: name }).collect();
            records.header = Some(records.place_columns(&cells, cells.len()));
        }
        records
    }

    /// Reads on to the next record with a time; `None` at the end.
    pub(crate) fn next(
        &mut self,
        source: &mut Source,
        defects: &mut Defects,
    ) -> Result<Option<Record>, TraceError> {
        loop {
            let line = match self.mapping.layout.shape {
                Shape::Table => self.next_row(source, defects)?,
                Shape::Text => self.next_text(source, defects)?,
                Shape::JsonLines | Shape::Json => self.next_value(source, defects)?,
            };
            let Some(place) = line else {
                if self.mapping.layout.shape == Shape::Table && self.header.is_none() {
                    let rejected = "it has no header line".to_owned();
                    return Err(TraceError::NoRows { name: source.name().to_owned(), rejected });
                }
                return Ok(None);
            };
            if let Some(at) = self.time(place.line, defects)? {
                return Ok(Some(Record { at, place }));
            }
        }
    }

    /// Returns the number of the GPU that the record speaks of, where the format has such a column.
    pub(crate) fn gpu(&self) -> Option<usize> {
        let name = self.mapping.gpu.as_ref()?.index.as_ref()?;
        let at = self.mapping.columns.iter().position(|column| column == name)?;
        self.cells[at]
            .text
            .trim()
            .parse()
            .ok()
            .filter(|_| self.cells[at].presence == Presence::Text)
    }

    /// Hands each native column that the record gives to `set`, with the byte of its first cell.
    pub(crate) fn fill(
        &self,
        line: u64,
        defects: &mut Defects,
        mut set: impl FnMut(usize, i64, u64),
    ) -> Result<(), TraceError> {
        let mut decided = Slots(Vec::new());
        decided.0.resize(self.mapping.fields.iter().map(|f| f.slot).max().unwrap_or(0) + 1, None);
        for field in &self.mapping.fields {
            let all = || field.plus.iter().chain(&field.minus).chain(&field.over);
            let exists = all().all(|&at| self.cells[at].presence != Presence::NoColumn);
            // Several fields for one slot are alternatives: the first whose columns the file has.
            if !exists || decided.0[field.slot].is_some() {
                continue;
            }
            decided.0[field.slot] = Some(1);
            if all().any(|&at| self.cells[at].presence == Presence::Missing) {
                continue;
            }
            if let Some(value) = self.value(field, line, defects)? {
                set(field.slot, value, self.cells[field.plus[0]].column);
            }
        }
        Ok(())
    }

    fn value(
        &self,
        field: &Field,
        line: u64,
        defects: &mut Defects,
    ) -> Result<Option<i64>, TraceError> {
        let place = Place { line, column: self.cells[field.plus[0]].column };
        let mut sum = 0.0;
        let terms = field.plus.iter().map(|at| (at, 1.0));
        for (&at, sign) in terms.chain(field.minus.iter().map(|at| (at, -1.0))) {
            match self.number(at, Some(field), line, defects)? {
                Some(number) => sum += sign * number,
                None => return Ok(None),
            }
        }
        let mut value = sum * field.scale;
        if !field.over.is_empty() {
            let mut divisor = 0.0;
            for &at in &field.over {
                match self.number(at, None, line, defects)? {
                    Some(number) => divisor += number,
                    None => return Ok(None),
                }
            }
            value /= divisor;
        }
        let value = value.round();
        if field.assumed && !field.quantity.may_be(value) {
            let column = &self.mapping.columns[field.plus[0]];
            let reason = format!(
                "`{column}` was taken as `{}`, for {} does not say what it is, and {} cannot be: describe the file \
                 in a mapping of your own",
                column::name_of(field.slot),
                self.mapping.name,
                self.cells[field.plus[0]].text
            );
            return Err(defects.refuse(place, reason));
        }
        // 2^62: well inside an i64, so that the cast is exact, and four million terabytes.
        if value.abs() <= 4_611_686_018_427_387_904.0 {
            return Ok(Some(value as i64));
        }
        defects.note(DefectKind::ImpossibleValue, place, || {
            format!("{} comes to {value}", self.mapping.columns[field.plus[0]])
        })?;
        Ok(None)
    }

    /// Reads a cell's number, in native units where it belongs to a field.
    fn number(
        &self,
        at: usize,
        field: Option<&Field>,
        line: u64,
        defects: &mut Defects,
    ) -> Result<Option<f64>, TraceError> {
        let cell = &self.cells[at];
        let place = Place { line, column: cell.column };
        let (digits, unit) = number::split_unit(&cell.text);
        let stated = if unit.is_empty() {
            self.header.as_ref().and_then(|header| header.units[at])
        } else {
            unit.parse().ok()
        };
        let factor = match (field, stated) {
            (None, _) => Some(1.0),
            (Some(field), Some(unit)) => unit.factor(field.quantity),
            (Some(field), None) if unit.is_empty() => field.unit.factor(field.quantity),
            (Some(_), None) => None,
        };
        let parsed = digits.parse::<f64>().ok();
        let (Some(factor), Some(number)) = (factor, parsed) else {
            let column = &self.mapping.columns[at];
            defects.note(DefectKind::UnreadableCell, place, || {
                format!("`{column}` is \"{}\", which is no number of its unit", quoted(&cell.text))
            })?;
            return Ok(None);
        };
        if !number.is_finite() {
            let column = &self.mapping.columns[at];
            defects.note(DefectKind::ImpossibleValue, place, || {
                format!("`{column}` is \"{}\"", quoted(&cell.text))
            })?;
            return Ok(None);
        }
        Ok(Some(number * factor))
    }

    /// Reads the record's time; `None` where it was refused.
    fn time(&mut self, line: u64, defects: &mut Defects) -> Result<Option<i64>, TraceError> {
        let time = &self.mapping.time;
        let mut text = String::new();
        for &at in &time.columns {
            if !text.is_empty() {
                text.push(' ');
            }
            text.push_str(&self.cells[at].text);
        }
        let order = std::iter::once(self.form).chain(0..time.forms.len());
        let parsed =
            order.map(|form| (form, time.forms[form].parse(&text))).find(|p| p.1.is_some());
        let mut at = parsed.and_then(|(form, at)| {
            self.form = form;
            at
        });
        if let Some(minus) = time.minus {
            let taken = number::decimal_nanoseconds(&self.cells[minus].text, 1_000_000_000);
            at = at.zip(taken).and_then(|(at, taken)| at.checked_sub(taken));
        }
        if at.is_none() {
            let place = Place { line, column: self.cells[time.columns[0]].column.max(1) };
            defects.note(DefectKind::UnreadableTime, place, || {
                format!(
                    "\"{}\" is no time of the form that {} has",
                    quoted(&text),
                    self.mapping.name
                )
            })?;
        }
        Ok(at)
    }

    fn next_row(
        &mut self,
        source: &mut Source,
        defects: &mut Defects,
    ) -> Result<Option<Place>, TraceError> {
        let mapping = Arc::clone(&self.mapping);
        let layout = &mapping.layout;
        while let Some(line) = source.line()? {
            let number = line.number;
            let here = Place { line: number, column: 1 };
            let Some(text) = table::decode(line.bytes, layout.encoding.as_deref()) else {
                defects.note(DefectKind::UnreadableRow, here, || NOT_UTF_8.to_owned())?;
                continue;
            };
            let text = text.trim_start_matches('\u{feff}');
            // A run of NUL is a hole: the machine stopped before the file system wrote what was there.
            let (text, hole) = match text.split_once('\0') {
                Some((before, _)) => (before, true),
                None => (text, false),
            };
            if hole {
                let place = Place { line: number, column: text.len() as u64 + 1 };
                defects.note(DefectKind::UnreadableRow, place, || {
                    "NUL bytes: what stood here and in the rest of the line is lost".to_owned()
                })?;
                // The part of a row before a hole may end inside a number; a header's names are still good.
                if self.header.is_some() {
                    continue;
                }
            }
            if layout.comment.as_ref().is_some_and(|mark| text.starts_with(mark.as_str())) {
                continue;
            }
            let mut cells = Vec::new();
            let width = table::cells(text, layout.separator, &mut cells);
            let Some(first) = cells.first() else {
                defects.note(DefectKind::BlankRow, here, || "an empty line".to_owned())?;
                continue;
            };
            let is_header = match &layout.tag {
                Some(tag) if layout_ignores(&tag.ignore, first.text) => continue,
                Some(tag) if first.text == tag.header => true,
                Some(tag) if tag.sample.as_ref().is_none_or(|sample| first.text == sample) => false,
                Some(_) => {
                    defects.note(DefectKind::UnreadableRow, here, || {
                        format!("a line of an unknown sort, \"{}\"", quoted(first.text))
                    })?;
                    continue;
                }
                None => self.header.as_ref().is_none_or(|header| header.is_repeated_by(&cells)),
            };
            if is_header {
                // A tagged header may come again: the tool was started again.
                if self.header.is_some() && layout.tag.is_none() {
                    defects.note(DefectKind::RepeatedHeader, here, || {
                        "the header once more".to_owned()
                    })?;
                }
                let header = self.place_columns(&cells, width);
                if let Some(missing) = header.lacks(&mapping) {
                    let reason = format!(
                        "the header has no column `{missing}`, which {} needs",
                        mapping.name
                    );
                    return Err(source.malformed(number, 1, reason));
                }
                self.header = Some(header);
                continue;
            }
            let Some(header) = &self.header else {
                defects.note(DefectKind::UnreadableRow, here, || {
                    "a row before the header that would explain it".to_owned()
                })?;
                continue;
            };
            if width < header.names.len() || cells.len() > header.width {
                defects.note(DefectKind::UnreadableRow, here, || {
                    format!("the row has {width} cells, the header has {}", header.names.len())
                })?;
                continue;
            }
            let mut column = 1;
            for (found, position) in self.cells.iter_mut().zip(&header.positions) {
                found.set(
                    position.map(|at| cells.get(at).map_or(("", 1), |c| (c.text, c.column))),
                    &layout.missing,
                );
            }
            if !self.counts() {
                continue;
            }
            if let Some(&time) = mapping.time.columns.first() {
                column = self.cells[time].column.max(column);
            }
            return Ok(Some(Place { line: number, column }));
        }
        Ok(None)
    }

    /// Whether the present row is one of those that the mapping wants.
    fn counts(&self) -> bool {
        self.mapping.only.iter().all(|(at, wanted)| {
            let cell = &self.cells[*at];
            cell.presence == Presence::NoColumn || wanted.contains(&cell.text)
        })
    }

    fn next_text(
        &mut self,
        source: &mut Source,
        defects: &mut Defects,
    ) -> Result<Option<Place>, TraceError> {
        let mapping = Arc::clone(&self.mapping);
        let lines = &mapping.text;
        while let Some(line) = source.line()? {
            let place = Place { line: line.number, column: 1 };
            let Some(text) = table::decode(line.bytes, mapping.layout.encoding.as_deref()) else {
                defects.note(DefectKind::UnreadableRow, place, || NOT_UTF_8.to_owned())?;
                continue;
            };
            let text = text.trim_start_matches('\u{feff}');
            if lines.skip.iter().any(|template| template.cut(text, |_, _| {}))
                || self.take_text(&lines.told, text)
            {
                continue;
            }
            // What another sort of row has said is no part of this one.
            for name in lines.rows.iter().flat_map(Template::names) {
                self.cells[mapping.column(name)].set(None, &[]);
            }
            if self.take_text(&lines.rows, text) {
                if self.counts() {
                    return Ok(Some(place));
                }
            } else if text.trim().is_empty() {
                defects.note(DefectKind::BlankRow, place, || "an empty line".to_owned())?;
            } else {
                defects.note(DefectKind::UnreadableRow, place, || {
                    format!("\"{}\" is no line that {} has", quoted(text), mapping.name)
                })?;
            }
        }
        Ok(None)
    }

    /// Takes the cells of a line that fits one of the templates. What an earlier line told stays.
    fn take_text(&mut self, templates: &[Template], text: &str) -> bool {
        let Self { mapping, cells, .. } = self;
        templates.iter().any(|template| {
            template.cut(text, |name, cell| {
                let cell = Some((cell.text, cell.column));
                cells[mapping.column(name)].set(cell, &mapping.layout.missing);
            })
        })
    }

    fn next_value(
        &mut self,
        source: &mut Source,
        defects: &mut Defects,
    ) -> Result<Option<Place>, TraceError> {
        let mapping = Arc::clone(&self.mapping);
        loop {
            let place = if mapping.layout.shape == Shape::JsonLines {
                let Some(line) = source.line()? else { return Ok(None) };
                self.buffer.clear();
                self.buffer.extend_from_slice(line.bytes);
                Place { line: line.number, column: 1 }
            } else {
                let Some(start) = self.scanner.next(source, &mut self.buffer)? else {
                    return Ok(None);
                };
                Place { line: start.line, column: start.column }
            };
            if self.buffer.trim_ascii().is_empty() {
                defects.note(DefectKind::BlankRow, place, || "an empty line".to_owned())?;
                continue;
            }
            match serde_json::from_slice::<Json>(&self.buffer) {
                Ok(json @ Json::Object(_)) => {
                    for (found, name) in self.cells.iter_mut().zip(&mapping.columns) {
                        let value = match name.starts_with('/') {
                            true => json.pointer(name),
                            false => json.get(name),
                        };
                        let text = value.map(|value| match value {
                            Json::Null => String::new(),
                            Json::String(text) => text.clone(),
                            other => other.to_string(),
                        });
                        let text = text.as_ref().map(|text| (text.as_str(), place.column));
                        found.set(text, &mapping.layout.missing);
                    }
                    return Ok(Some(place));
                }
                Ok(_) => {
                    defects.note(DefectKind::UnreadableRow, place, || {
                        "a record that is no JSON object".to_owned()
                    })?;
                }
                Err(error) => {
                    let within = error.line().saturating_sub(1) as u64;
                    let column = match within {
                        0 => place.column + error.column().saturating_sub(1) as u64,
                        _ => error.column() as u64,
                    };
                    let place = Place { line: place.line + within, column };
                    defects.note(DefectKind::UnreadableRow, place, || {
                        format!("a record that is no JSON: {error}")
                    })?;
                }
            }
        }
    }

    fn place_columns(&self, cells: &[Cell<'_>], width: usize) -> Header {
        let positions: Vec<_> =
            self.mapping.columns.iter().map(|name| table::find(cells, name)).collect();
        let units = positions.iter().zip(&self.mapping.columns).map(|(position, name)| {
            let header = cells.get((*position)?)?.text;
            // Where the mapping names the column with its brackets, it has also said what they mean.
            table::unit_of(header).filter(|_| header != name)?.parse().ok()
        });
        Header {
            names: cells.iter().map(|cell| cell.text.to_owned()).collect(),
            width,
            units: units.collect(),
            positions,
        }
    }
}

impl Header {
    fn is_repeated_by(&self, cells: &[Cell<'_>]) -> bool {
        self.names.iter().map(String::as_str).eq(cells.iter().map(|cell| cell.text))
    }

    /// Returns a column of the time that is not there.
    fn lacks<'a>(&self, mapping: &'a Mapping) -> Option<&'a str> {
        let needed = mapping.time.columns.iter().chain(&mapping.time.minus);
        let missing = needed.copied().find(|&at| self.positions[at].is_none());
        missing.map(|at| mapping.columns[at].as_str())
    }
}

impl Found {
    fn set(&mut self, cell: Option<(&str, u64)>, missing: &[String]) {
        self.text.clear();
        let Some((text, column)) = cell else {
            self.presence = Presence::NoColumn;
            return;
        };
        self.column = column;
        if text.is_empty() || missing.iter().any(|mark| mark == text) {
            self.presence = Presence::Missing;
        } else {
            self.presence = Presence::Text;
            self.text.push_str(text);
        }
    }
}

const NOT_UTF_8: &str = "not UTF-8";

fn layout_ignores(ignored: &[String], tag: &str) -> bool {
    ignored.iter().any(|known| known == tag)
}

pub(crate) fn quoted(text: &str) -> String {
    text.chars().take(QUOTED_BYTES).collect()
}
