//! The numbers of a record, in the units of native columns.

use tiershift_core::units::Bytes;

use crate::trace::TraceError;
use crate::trace::column::{self, Quantity};
use crate::trace::defects::{DefectKind, Defects, Place, quoted};
use crate::trace::import::mapping::{Field, Term};
use crate::trace::import::number;
use crate::trace::import::record::{Presence, Records};
use crate::trace::import::table;

/// The range of a field's readings, to detect a mistaken unit.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Seen {
    readings: u64,
    most: f64,
    has_fractions: bool,
    /// Whether the file itself states the unit.
    is_stated: bool,
    /// Whether two units were reported already.
    is_noted: bool,
}

impl Records {
    /// Passes each native column that the record gives to `set`, with its field and the byte of its first cell.
    pub(crate) fn fill(
        &mut self,
        line: u64,
        defects: &mut Defects,
        mut set: impl FnMut(&Field, i64, u64),
    ) -> Result<(), TraceError> {
        let mapping = std::sync::Arc::clone(&self.mapping);
        let mut decided: Vec<usize> = Vec::new();
        for (index, field) in mapping.fields.iter().enumerate() {
            let exists = |at: usize| self.cells[at].presence != Presence::NoColumn;
            let is_meant =
                field.only.iter().all(|(at, wanted)| wanted.contains(&self.cells[*at].text));
            // Several fields for one slot are alternatives: the first whose columns the file has.
            if !is_meant
                || decided.contains(&field.slot)
                || !field.columns().chain(field.nonzero.iter().copied()).all(exists)
            {
                continue;
            }
            let is_told = |&at: &usize| {
                let (digits, _) = number::split_unit(&self.cells[at].text);
                number::decimal(digits, self.decimal_comma).is_some_and(|number| number != 0.0)
            };
            if !field.nonzero.iter().all(is_told) {
                continue;
            }
            decided.push(field.slot);
            if field.columns().any(|at| self.cells[at].presence == Presence::Missing) {
                continue;
            }
            if let Some(value) = self.value(index, field, line, defects)? {
                self.judge_machine(index, field, line, defects)?;
                set(field, value, self.cells[field.first_column()].column);
            }
        }
        Ok(())
    }

    /// Refuses a second machine in the rows of a field: its numbers could not be distinguished from those of the first.
    fn judge_machine(
        &mut self,
        index: usize,
        field: &Field,
        line: u64,
        defects: &Defects,
    ) -> Result<(), TraceError> {
        if self.mapping.same.is_empty() {
            return Ok(());
        }
        let is_known = self.machines[index].as_ref().is_some_and(|known| {
            known.iter().zip(&self.mapping.same).all(|(text, &at)| *text == self.cells[at].text)
        });
        if is_known {
            return Ok(());
        }
        let texts: Vec<_> =
            self.mapping.same.iter().map(|&at| self.cells[at].text.clone()).collect();
        let Some(known) = self.machines[index].replace(texts.clone()) else { return Ok(()) };
        let place = Place { line, column: self.cells[field.first_column()].column };
        let differing = (0..texts.len()).find(|&at| texts[at] != known[at]).unwrap_or_default();
        let reason = format!(
            "rows of several machines: `{}` is \"{}\" and \"{}\": keep those of one",
            self.mapping.columns[self.mapping.same[differing]],
            quoted(&known[differing]),
            quoted(&texts[differing])
        );
        Err(defects.refuse(place, reason))
    }

    fn value(
        &mut self,
        index: usize,
        field: &Field,
        line: u64,
        defects: &mut Defects,
    ) -> Result<Option<i64>, TraceError> {
        let first = field.first_column();
        let place = Place { line, column: self.cells[first].column };
        let Some(plus) = self.sum(&field.plus, Some((index, field)), line, defects)? else {
            return Ok(None);
        };
        let Some(minus) = self.sum(&field.minus, Some((index, field)), line, defects)? else {
            return Ok(None);
        };
        let mut value = (plus - minus) * field.scale;
        if !field.over.is_empty() {
            let Some(divisor) = self.sum(&field.over, None, line, defects)? else {
                return Ok(None);
            };
            value /= divisor;
        }
        if let Some(scale) = self.smaller_unit(index, field, value, place, defects)? {
            value *= scale;
        }
        let seen = &mut self.seen[index];
        seen.readings += 1;
        seen.most = seen.most.max(value);
        let value = value.round();
        let is_named_by_person = self.header.as_ref().is_some_and(|header| header.is_of_person);
        if field.assumed && !is_named_by_person && !field.quantity.may_be(value) {
            let column = &self.mapping.columns[first];
            let reason = format!(
                "`{column}` was taken as `{}`, for {} does not say what it is, and {} cannot be: name the columns, \
                 `--columns NAME,..`, or describe the file in a mapping",
                column::name_of(field.slot),
                self.mapping.name,
                self.cells[first].text
            );
            return Err(defects.refuse(place, reason));
        }
        // 2^62: well inside an i64, so that the cast is exact, and four million terabytes.
        if value.abs() <= 4_611_686_018_427_387_904.0 {
            return Ok(Some(value as i64));
        }
        defects.note(DefectKind::ImpossibleValue, place, || {
            format!("{} comes to {value}", self.mapping.columns[first])
        })?;
        Ok(None)
    }

    fn sum(
        &mut self,
        terms: &[Term],
        field: Option<(usize, &Field)>,
        line: u64,
        defects: &mut Defects,
    ) -> Result<Option<f64>, TraceError> {
        let mut sum = 0.0;
        for term in terms {
            let number = match term {
                Term::Column(at) => self.number(*at, field, line, defects)?,
                // A constant is in the mapping's unit.
                Term::Constant(number) => {
                    let unit = field.and_then(|(_, field)| field.unit?.factor(field.quantity));
                    Some(number * unit.unwrap_or(1.0))
                }
            };
            match number {
                Some(number) => sum += number,
                None => return Ok(None),
            }
        }
        Ok(Some(sum))
    }

    /// Reads a cell's number, in native units if it belongs to a field.
    fn number(
        &mut self,
        at: usize,
        field: Option<(usize, &Field)>,
        line: u64,
        defects: &mut Defects,
    ) -> Result<Option<f64>, TraceError> {
        let place = Place { line, column: self.cells[at].column };
        let text = std::mem::take(&mut self.cells[at].text);
        let number = self.number_of(&text, at, field, place, defects);
        self.cells[at].text = text;
        number
    }

    fn number_of(
        &mut self,
        text: &str,
        at: usize,
        field: Option<(usize, &Field)>,
        place: Place,
        defects: &mut Defects,
    ) -> Result<Option<f64>, TraceError> {
        let (digits, unit) = number::split_unit(text);
        if self.decimal_comma.is_none() {
            self.decimal_comma = number::is_decimal_comma(digits);
        }
        let parsed = number::decimal(digits, self.decimal_comma);
        let is_fraction = parsed.is_some_and(|number| number.fract() != 0.0);
        let factor = match field {
            None => Some(1.0),
            Some((index, field)) => {
                self.seen[index].has_fractions |= is_fraction;
                self.factor(at, index, field, unit, place, defects)?
            }
        };
        let (Some(factor), Some(number)) = (factor, parsed) else {
            let column = &self.mapping.columns[at];
            let is_comma = parsed.is_none() && digits.contains(',');
            defects.note(DefectKind::UnreadableCell, place, || {
                let what = match is_comma {
                    true => "whose comma may begin a fraction or group digits: say `decimal` in a mapping",
                    false => "which is not a number in its unit",
                };
                format!("`{column}` is \"{}\", {what}", quoted(text))
            })?;
            return Ok(None);
        };
        if !number.is_finite() {
            let column = &self.mapping.columns[at];
            defects.note(DefectKind::ImpossibleValue, place, || {
                format!("`{column}` is \"{}\"", quoted(text))
            })?;
            return Ok(None);
        }
        Ok(Some(number * factor))
    }

    /// Returns the factor from a cell's unit to native units; `None` if its unit measures something else, or is not
    /// stated.
    ///
    /// The mapping takes precedence on what a word means (MB are MiB on Windows), and which unit a header should have
    /// named. Only a cell with another unit than the others is believed, because each cell may state its own.
    fn factor(
        &mut self,
        at: usize,
        index: usize,
        field: &Field,
        of_cell: &str,
        place: Place,
        defects: &mut Defects,
    ) -> Result<Option<f64>, TraceError> {
        let of_header = self.header.as_ref().and_then(|header| header.units[at]);
        let (stated, is_cell) = match of_cell {
            "" => (of_header, false),
            unit => match unit.parse().ok() {
                None => return Ok(None),
                unit => (unit, true),
            },
        };
        let seen = &mut self.seen[index];
        seen.is_stated |= stated.is_some();
        let (unit, other) = match (field.unit, stated) {
            (Some(unit), None) => return Ok(unit.factor(field.quantity)),
            (None, Some(unit)) => return Ok(unit.factor(field.quantity)),
            (None, None) => return Ok(None),
            (Some(mapped), Some(stated)) if stated.factor(field.quantity).is_none() => {
                if is_cell {
                    return Ok(None);
                }
                (mapped, stated)
            }
            (Some(mapped), Some(stated)) if is_cell && !stated.is_alike(mapped) => (stated, mapped),
            (Some(mapped), Some(stated)) => (mapped, stated),
        };
        if unit.factor(field.quantity) != other.factor(field.quantity) && !seen.is_noted {
            seen.is_noted = true;
            let column = &self.mapping.columns[at];
            let (who, other_who) = match (is_cell && Some(unit) == stated, is_cell) {
                (true, _) => ("the cell", "the mapping"),
                (false, true) => ("the mapping", "the cell"),
                (false, false) => ("the mapping", "the header"),
            };
            defects.note(DefectKind::Unit, place, || {
                format!("`{column}` is in {unit} by {who} and in {other} by {other_who}: {unit} was taken")
            })?;
        }
        Ok(unit.factor(field.quantity))
    }

    /// Returns the factor for a number of bytes that the file has in a smaller unit than the mapping states, which
    /// shows when there would be more memory than in the world's largest machines. All columns of a space are alike.
    fn smaller_unit(
        &mut self,
        index: usize,
        field: &Field,
        value: f64,
        place: Place,
        defects: &mut Defects,
    ) -> Result<Option<f64>, TraceError> {
        let Some(factor) = field.unit.and_then(|unit| unit.factor(Quantity::Bytes)) else {
            return Ok(None);
        };
        if field.quantity != Quantity::Bytes || factor <= 1.0 || self.seen[index].is_stated {
            return Ok(None);
        }
        let is_gpu = field.slot >= column::gpu_slot(0);
        let most = if is_gpu { MOST_VRAM } else { MOST_MEMORY };
        let known = self.smaller_units[usize::from(is_gpu)];
        if known.is_some() || value <= most || !value.is_finite() {
            return Ok(known);
        }
        let column = &self.mapping.columns[field.first_column()];
        let candidates = [(1.0, "B"), (1024.0, "KiB"), (1_048_576.0, "MiB")];
        let fits = |&(other, _): &(f64, &str)| {
            other < factor && (LEAST_TOTAL..=most).contains(&(value / factor * other))
        };
        let mut fitting = candidates.into_iter().filter(fits);
        let (Some((other, name)), None) = (fitting.next(), fitting.next()) else {
            let reason = format!(
                "`{column}` comes to {value} bytes, more than any machine has: say its unit in a mapping"
            );
            return Err(defects.refuse(place, reason));
        };
        defects.note(DefectKind::Unit, place, || {
            format!("`{column}` comes to {value} bytes, more than any machine has: it is read in {name} from here on")
        })?;
        self.smaller_units[usize::from(is_gpu)] = Some(other / factor);
        Ok(self.smaller_units[usize::from(is_gpu)])
    }

    /// Returns why the columns of a file that does not name them cannot have the assumed meaning.
    pub(crate) fn doubt(&self) -> Option<String> {
        if self.header.as_ref().is_some_and(|header| header.is_of_person) {
            return None;
        }
        let fields = self.mapping.fields.iter().zip(&self.seen);
        let mut doubtful = fields.filter(|(field, seen)| {
            seen.readings > 0 && field.above.is_some_and(|above| seen.most <= above)
        });
        let (field, _) = doubtful.next()?;
        Some(format!(
            "the file names no columns, and the one that was taken as `{}` may be something else, by its numbers: name the \
             columns, `--columns NAME,..`",
            column::name_of(field.slot)
        ))
    }

    /// Returns why the numbers of the memory that is available cannot be in the unit of the mapping: there was never a
    /// thousandth of the total, with which no machine goes on.
    pub(crate) fn doubt_available(&self, total: Bytes) -> Option<String> {
        let fields = self.mapping.fields.iter().zip(&self.seen);
        let is_available = |field: &Field| column::name_of(field.slot) == "memory_available_bytes";
        let seen =
            fields.filter(|(field, seen)| is_available(field) && seen.readings >= ENOUGH_READINGS);
        let most = seen.map(|(_, seen)| seen.most).reduce(f64::max)?;
        let is_too_little = most * 1000.0 < total.get() as f64;
        is_too_little.then(|| {
            format!(
                "the memory that is available is never more than {most} bytes, of {total}: the numbers are probably in a \
                 larger unit than that of {}, as with `vmstat -S M`: record them without that option, or say their unit in a \
                 mapping",
                self.mapping.name
            )
        })
    }

    /// Returns notes on odd readings of fields.
    pub(super) fn notes_of_fields(&self) -> Vec<String> {
        let fields = self.mapping.fields.iter().zip(&self.seen);
        fields.filter_map(|(field, seen)| self.note_of(field, *seen)).collect()
    }

    fn note_of(&self, field: &Field, seen: Seen) -> Option<String> {
        let column = &self.mapping.columns[field.first_column()];
        let to = column::name_of(field.slot);
        let says_percent = seen.is_stated || column.contains('%');
        // Fractions that are taken for percent reach at most one percent.
        let may_be_fraction = field.quantity == Quantity::MilliPercent
            && field.unit == Some(number::Unit::Percent)
            && field.over.is_empty()
            && !field.counter
            && seen.has_fractions
            && !says_percent
            && seen.readings >= ENOUGH_READINGS
            && (0.0..=1000.0).contains(&seen.most);
        if may_be_fraction {
            return Some(format!(
                "`{column}` was read as percent, and no reading is above 1: where it is a fraction of one, say \
                 unit = \"fraction\" in a mapping"
            ));
        }
        let is_total = field.quantity == Quantity::Bytes
            && to.ends_with("_total_bytes")
            && !to.starts_with("swap");
        let says_unit = seen.is_stated || table::unit_of(column).is_some();
        if is_total && !says_unit && seen.readings > 0 && seen.most < LEAST_TOTAL {
            let least = seen.most;
            return Some(format!(
                "`{column}` comes to no more than {least} bytes in all: if it is in another unit, say so in a mapping"
            ));
        }
        None
    }
}

/// The number of readings from which on their range is evidence of their unit. Chosen: the second may be a coincidence.
const ENOUGH_READINGS: u64 = 2;
/// A smaller machine or GPU runs no model. Chosen: less than any that was sold in twenty years.
const LEAST_TOTAL: f64 = 67_108_864.0;
/// More than the largest machines have. Chosen: 64 TiB is the most that the largest servers take, four times the video
/// memory of an eight-way board.
const MOST_MEMORY: f64 = 64.0 * 1_099_511_627_776.0;
const MOST_VRAM: f64 = 2.0 * 1_099_511_627_776.0;
