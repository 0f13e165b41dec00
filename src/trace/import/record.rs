//! Records of a public format, brought to the columns of a native trace.

use std::sync::Arc;

use crate::trace::TraceError;
use crate::trace::column::{self, Slots};
use crate::trace::defects::{DefectKind, Defects, Place, quoted};
use crate::trace::import::json::Scanner;
use crate::trace::import::number::{self, Unit};
use crate::trace::import::raw::Shape;
use crate::trace::import::table::Cell;
use crate::trace::import::{Field, Mapping};
use crate::trace::source::Source;

mod cut;

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
}
