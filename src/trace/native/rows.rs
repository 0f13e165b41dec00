//! Rows of native resource CSV: a fast path for plain rows, a careful one for others.

use crate::trace::TraceError;
use crate::trace::column::{self, Slots};
use crate::trace::defects::{DefectKind, Defects, Place, QUOTED_BYTES};
use crate::trace::native::rows::digits::{Ends, plain_number};
use crate::trace::source::{Line, Source};

mod digits;

/// Reads the rows of a native resource CSV.
#[derive(Clone, Debug)]
pub(crate) struct NativeRows {
    /// The slot of each column; `None` for the time.
    columns: Vec<Option<usize>>,
    pub slots: Slots,
    /// Whether another run has begun in the file, with its own header.
    pub is_restarted: bool,
}

impl NativeRows {
    /// Reads the header.
    pub(crate) fn new(source: &Source, columns: &[String]) -> Result<Self, TraceError> {
        let line = source.line_number();
        Self::of_header(columns, |byte, reason| source.malformed(line, byte, reason))
    }

    fn of_header(
        columns: &[String],
        refuse: impl Fn(u64, String) -> TraceError,
    ) -> Result<Self, TraceError> {
        let mut slots = Vec::new();
        let mut gpus = 0;
        let mut byte = 1;
        for (at, name) in columns.iter().enumerate() {
            let slot = match name.as_str() {
                "at_ns" => None,
                name => match column::native_slot(name) {
                    Some(slot) => Some(slot),
                    None => return Err(refuse(byte, unknown_column(name))),
                },
            };
            if columns[..at].contains(name) {
                let reason = format!("the column `{name}` is given twice: remove one");
                return Err(refuse(byte, reason));
            }
            if let Some(slot) = slot.filter(|&slot| slot >= column::BASE.len()) {
                gpus = gpus.max((slot - column::BASE.len()) / column::GPU.len() + 1);
            }
            slots.push(slot);
            byte += name.len() as u64 + 1;
        }
        if !slots.contains(&None) {
            let reason = "the header has no column `at_ns` (nanoseconds since the trace began)";
            return Err(refuse(1, reason.to_owned()));
        }
        Ok(Self { columns: slots, slots: Slots::for_gpus(gpus), is_restarted: false })
    }

    /// Parses a line that consists only of digits and commas, at the beginning of `ahead`, into the slots. Returns its
    /// time and its length; `None` if it contains anything else, or may continue beyond `ahead`.
    ///
    /// The ends of the cells are found first, so that no cell waits for the one before it.
    #[inline]
    pub(crate) fn parse_plain(&mut self, ahead: &[u8]) -> Option<(i64, usize)> {
        let slots = &mut self.slots.0[..];
        let mut ends = Ends::of(ahead);
        let (mut at, mut time, mut length) = (0, None, 0);
        let last = self.columns.len() - 1;
        for (index, slot) in self.columns.iter().enumerate() {
            let mut end = ends.next()?;
            if ahead[end] != if index == last { b'\n' } else { b',' } {
                return None;
            }
            length = end;
            if index == last && end > at && ahead[end - 1] == b'\r' {
                end -= 1;
            }
            let value = plain_number(ahead, at, end)?;
            match slot {
                Some(slot) => slots[*slot] = value,
                None => time = value,
            }
            at = end + 1;
        }
        time.map(|time| (time, length))
    }

    /// Parses any line into the slots and returns its time, or `None` if the row was refused.
    #[cold]
    pub(crate) fn parse_carefully(
        &mut self,
        line: &Line<'_>,
        defects: &mut Defects,
    ) -> Result<Option<i64>, TraceError> {
        self.slots.clear();
        let number = line.number;
        if !line.ended {
            let place = Place { line: number, column: line.bytes.len() as u64 + 1 };
            defects.note(DefectKind::UnreadableRow, place, || {
                "the last line is cut off: a row ends with a line end".to_owned()
            })?;
            return Ok(None);
        }
        let bytes = line.bytes;
        if self.begins_again(bytes, number, defects)? {
            return Ok(None);
        }
        let mut at = 0;
        let mut time = None;
        let last = self.columns.len() - 1;
        for (index, &slot) in self.columns.iter().enumerate() {
            let begin = at;
            let cell = cell_at(bytes, &mut at);
            let place = Place { line: number, column: begin as u64 + 1 };
            if (at == bytes.len()) != (index == last) {
                return refuse_width(bytes, self.columns.len(), place, defects);
            }
            at += 1;
            match (cell, slot) {
                (Cell::Number(value), Some(slot)) => self.slots.0[slot] = Some(value),
                (Cell::Number(value), None) if value >= 0 => time = Some(value),
                (Cell::Missing, Some(_)) => {}
                (_, None) => {
                    defects.note(DefectKind::UnreadableTime, place, || {
                        let text = text_of(bytes, begin);
                        format!(
                            "`at_ns` is \"{text}\": it must be an integer of nanoseconds below 2^63"
                        )
                    })?;
                    return Ok(None);
                }
                (Cell::Other, Some(_)) => {
                    let kind = kind_of(&text_of(bytes, begin));
                    defects.note(kind, place, || {
                        format!("\"{}\" is not an integer", text_of(bytes, begin))
                    })?;
                }
            }
        }
        Ok(time)
    }

    /// Takes a line that belongs to another run's preamble or header. Returns whether it was one.
    fn begins_again(
        &mut self,
        bytes: &[u8],
        line: u64,
        defects: &mut Defects,
    ) -> Result<bool, TraceError> {
        if bytes.starts_with(b"#") {
            return Ok(true);
        }
        let text = String::from_utf8_lossy(bytes);
        let names: Vec<String> = text.split(',').map(|name| name.trim().to_owned()).collect();
        if !names.iter().any(|name| name == "at_ns") {
            return Ok(false);
        }
        let here = Place { line, column: 1 };
        defects.note(DefectKind::RepeatedHeader, here, || {
            "another header: it applies to the rows after it".to_owned()
        })?;
        let gpus = self.slots.gpus();
        let header = Self::of_header(&names, |column, reason| {
            defects.refuse(Place { line, column }, reason)
        })?;
        let gpus = gpus.max(header.slots.gpus());
        *self = Self { slots: Slots::for_gpus(gpus), is_restarted: true, ..header };
        Ok(true)
    }

    /// Returns the byte (from one) at which the cell of `slot` begins.
    pub(crate) fn byte_of(&self, bytes: &[u8], slot: usize) -> u64 {
        let Some(column) = self.columns.iter().position(|known| *known == Some(slot)) else {
            return 1;
        };
        let cells = bytes.split(|byte| *byte == b',').take(column);
        cells.map(|cell| cell.len() as u64 + 1).sum::<u64>() + 1
    }
}

enum Cell {
    Missing,
    Number(i64),
    /// Anything else, up to the next comma.
    Other,
}

/// Reads the cell that begins at `at` and moves `at` to the comma, or the end, after it.
fn cell_at(bytes: &[u8], at: &mut usize) -> Cell {
    let begin = *at;
    let length = bytes[begin.min(bytes.len())..].iter().position(|byte| *byte == b',');
    *at = length.map_or(bytes.len(), |length| begin + length);
    let text = text_of(bytes, begin);
    match text.trim() {
        "" => Cell::Missing,
        text => text.parse().map_or(Cell::Other, Cell::Number),
    }
}

/// Distinguishes an impossible number from a word.
fn kind_of(text: &str) -> DefectKind {
    match text.trim().parse::<f64>() {
        Ok(_) => DefectKind::ImpossibleValue,
        Err(_) => DefectKind::UnreadableCell,
    }
}

#[cold]
fn refuse_width(
    bytes: &[u8],
    want: usize,
    place: Place,
    defects: &mut Defects,
) -> Result<Option<i64>, TraceError> {
    let blank = bytes.trim_ascii().is_empty();
    let kind = if blank { DefectKind::BlankRow } else { DefectKind::UnreadableRow };
    defects.note(kind, place, || {
        let cells = bytes.split(|byte| *byte == b',').count();
        format!("the row has {cells} cells, the header has {want}")
    })?;
    Ok(None)
}

fn text_of(bytes: &[u8], begin: usize) -> String {
    let rest = &bytes[begin.min(bytes.len())..];
    let cell = rest.split(|byte| *byte == b',').next().unwrap_or_default();
    String::from_utf8_lossy(&cell[..cell.len().min(QUOTED_BYTES)]).into_owned()
}

fn unknown_column(name: &str) -> String {
    let known = column::names(1);
    let near = known
        .iter()
        .map(|known| (strsim::jaro_winkler(known, name), known))
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map_or("", |(_, known)| known);
    format!("unknown column `{name}`, did you mean `{near}`?")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Parses a line of three columns, the second being the time, in the fast and in the careful way.
    #[track_caller]
    fn check(text: &str, want: Option<[Option<i64>; 2]>) {
        let ahead = format!("{text}\n{}", "1,2,3\n".repeat(20));
        let bytes = text.strip_suffix('\r').unwrap_or(text).as_bytes();
        let line = Line { bytes, number: 1, ended: true };
        let slots = Slots::for_gpus(0);
        let mut rows =
            NativeRows { columns: vec![Some(1), None, Some(0)], slots, is_restarted: false };
        let quick = rows.parse_plain(ahead.as_bytes());
        let quick = quick.map(|(time, length)| {
            assert_eq!(length, text.len());
            (time, rows.slots.0.clone())
        });
        let told = |slots: &[Option<i64>]| [slots[1], slots[0]];
        assert_eq!(quick.as_ref().map(|(_, slots)| told(slots)), want, "{text:?}");
        let careful = rows.parse_carefully(&line, &mut Defects::new("test", false)).unwrap();
        if let Some((time, slots)) = quick {
            assert_eq!((careful, &rows.slots.0), (Some(time), &slots), "{text:?}");
        }
    }

    #[test]
    fn what_the_quick_way_reads_the_careful_way_reads_alike() {
        check("1,2,3", Some([Some(1), Some(3)]));
        check("1,2,3\r", Some([Some(1), Some(3)]));
        check(",123456789,", Some([None, None]));
        check("12345678,1,123456789", Some([Some(12_345_678), Some(123_456_789)]));
        check("1234567890123456,1,0", Some([Some(1_234_567_890_123_456), Some(0)]));
        check("12345678901234567,1,0", Some([Some(12_345_678_901_234_567), Some(0)]));
        check("999999999999999999,1,0", Some([Some(999_999_999_999_999_999), Some(0)]));
        for odd in [
            "1234567890123456789,1,0",
            "1,,3",
            "1,2",
            "1,2,3,4",
            "",
            "-1,2,3",
            "1, 2,3",
            "1,2,3 ",
            "1,2.5,3",
            "1,2,x",
            "1\r,2,3",
        ] {
            check(odd, None);
        }
    }
}
