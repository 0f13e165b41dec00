//! The native resource CSV: read fast, written a row at a time.

use std::io::Write;

use crate::hardware::Machine;
use crate::sample::{GpuSample, Rate, Sample, Space};
use crate::time::Timestamp;
use crate::trace::TraceError;
use crate::trace::column::{self, Slots};
use crate::trace::defects::{DefectKind, Defects, Place};
use crate::trace::source::{Line, Source};
use crate::units::Celsius;

/// First line of a native resource trace, before the version.
pub(crate) const RESOURCE_MAGIC: &str = "# tiershift resource trace ";
/// First line of a native request trace, before the version.
pub(crate) const REQUEST_MAGIC: &str = "# tiershift request trace ";
/// The version that is written, and the newest that is read. 1: the first.
pub(crate) const VERSION: u32 = 1;

/// What comes before the rows of a native file.
pub(crate) struct Preamble {
    /// The `# key: value` lines, in order.
    pub about: Vec<(String, String)>,
    pub columns: Vec<String>,
}

/// Reads the magic line, the `#` lines and the header.
pub(crate) fn read_preamble(source: &mut Source, magic: &str) -> Result<Preamble, TraceError> {
    let name = source.name().to_owned();
    let mut about = Vec::new();
    while let Some(line) = source.line()? {
        let number = line.number;
        let Ok(text) = std::str::from_utf8(line.bytes) else {
            return Err(source.malformed(number, 1, "the preamble is not UTF-8"));
        };
        if number == 1 && text.trim_start_matches('\u{feff}').starts_with(magic) {
            let version = text.trim_start_matches('\u{feff}')[magic.len()..].trim();
            match version.parse::<u32>() {
                Ok(1..=VERSION) => {}
                Ok(version) if version > VERSION => {
                    return Err(TraceError::NewerVersion { name, version, newest: VERSION });
                }
                _ => {
                    let reason = format!("\"{version}\" is no version: write `{magic}{VERSION}`");
                    return Err(source.malformed(1, magic.len() as u64 + 1, reason));
                }
            }
        } else if let Some(comment) = text.strip_prefix('#') {
            if let Some((key, value)) = comment.split_once(':') {
                about.push((key.trim().to_owned(), value.trim().to_owned()));
            }
        } else if !text.trim().is_empty() {
            let columns = text.trim_start_matches('\u{feff}');
            let columns = columns.split(',').map(|c| c.trim().to_owned()).collect();
            return Ok(Preamble { about, columns });
        }
    }
    Err(TraceError::NoRows { name, rejected: "it has no header line".to_owned() })
}

/// Reads the rows of a native resource CSV.
#[derive(Clone, Debug)]
pub(crate) struct NativeRows {
    /// The slot of each column; `None` for the time.
    columns: Vec<Option<usize>>,
    pub slots: Slots,
}

impl NativeRows {
    /// Reads the header.
    pub fn new(source: &Source, columns: &[String]) -> Result<Self, TraceError> {
        let line = source.line_number();
        let mut slots = Vec::new();
        let mut gpus = 0;
        let mut byte = 1;
        for (at, name) in columns.iter().enumerate() {
            let slot = match name.as_str() {
                "at_ns" => None,
                name => match column::slot(name) {
                    Some((slot, _)) => Some(slot),
                    None => return Err(source.malformed(line, byte, unknown_column(name))),
                },
            };
            if columns[..at].contains(name) {
                let reason = format!("the column `{name}` is given twice: remove one");
                return Err(source.malformed(line, byte, reason));
            }
            if let Some(slot) = slot.filter(|&slot| slot >= column::BASE.len()) {
                gpus = gpus.max((slot - column::BASE.len()) / column::GPU.len() + 1);
            }
            slots.push(slot);
            byte += name.len() as u64 + 1;
        }
        if !slots.contains(&None) {
            let reason = "the header has no column `at_ns` (nanoseconds since the trace began)";
            return Err(source.malformed(line, 1, reason));
        }
        Ok(Self { columns: slots, slots: Slots::for_gpus(gpus) })
    }

    /// Parses a line into the slots and returns its time, or `None` where the row was refused.
    pub fn parse(
        &mut self,
        line: &Line<'_>,
        defects: &mut Defects,
    ) -> Result<Option<i64>, TraceError> {
        match self.parse_plain(line) {
            Some(time) => Ok(Some(time)),
            None => self.parse_carefully(line, defects),
        }
    }

    /// Parses a line of nothing but digits and commas; `None` where there is anything else to look at.
    fn parse_plain(&mut self, line: &Line<'_>) -> Option<i64> {
        let (wide, slots) = (line.wide, &mut self.slots.0[..]);
        let (last, before) = self.columns.split_last()?;
        let mut at = 0;
        let mut time = None;
        for slot in before {
            let (value, end) = plain_number(wide, at)?;
            // The line's end is no digit and no comma, so that this never leaves the line.
            if wide.get(end) != Some(&b',') {
                return None;
            }
            match slot {
                Some(slot) => slots[*slot] = value,
                None => time = value,
            }
            at = end + 1;
        }
        let (value, end) = plain_number(wide, at)?;
        match last {
            Some(slot) => slots[*slot] = value,
            None => time = value,
        }
        if end == line.bytes.len() && line.ended { time } else { None }
    }

    #[cold]
    fn parse_carefully(
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
                        format!("`at_ns` is \"{text}\": whole nanoseconds below 2^63 are wanted")
                    })?;
                    return Ok(None);
                }
                (Cell::Other, Some(_)) => {
                    let kind = kind_of(&text_of(bytes, begin));
                    defects.note(kind, place, || {
                        format!("\"{}\" is no whole number", text_of(bytes, begin))
                    })?;
                }
            }
        }
        Ok(time)
    }

    /// Returns the byte (from one) at which the cell of `slot` begins.
    pub fn byte_of(&self, bytes: &[u8], slot: usize) -> u64 {
        let Some(column) = self.columns.iter().position(|known| *known == Some(slot)) else {
            return 1;
        };
        let cells = bytes.split(|byte| *byte == b',').take(column);
        cells.map(|cell| cell.len() as u64 + 1).sum::<u64>() + 1
    }
}

/// Writes native resource CSV. Each row is handed to the file at once: a kill costs one row at most.
pub struct NativeWriter<W: Write> {
    output: W,
    gpus: usize,
    cpus: u32,
    row: Vec<u8>,
}

impl<W: Write> NativeWriter<W> {
    /// Writes the preamble and the header. `about` becomes `# key: value` lines, in its order; `machine` says
    /// how many GPUs there are columns for, and the processors.
    ///
    /// # Errors
    /// What the output says.
    pub fn new(
        mut output: W,
        machine: &Machine,
        about: &[(String, String)],
    ) -> std::io::Result<Self> {
        let mut head = format!("{RESOURCE_MAGIC}{VERSION}\n");
        for (key, value) in about {
            // A line end inside would begin a row.
            let line = format!("# {key}: {value}").replace(['\n', '\r'], " ");
            head.push_str(&line);
            head.push('\n');
        }
        head.push_str("at_ns,");
        head.push_str(&column::names(machine.gpus.len()).join(","));
        head.push('\n');
        output.write_all(head.as_bytes())?;
        output.flush()?;
        Ok(Self { output, gpus: machine.gpus.len(), cpus: machine.cpus, row: Vec::new() })
    }

    /// Writes a row. GPUs beyond those of the header's machine are an error, never dropped.
    ///
    /// # Errors
    /// What the output says.
    pub fn write(&mut self, at: Timestamp, sample: &Sample) -> std::io::Result<()> {
        if sample.gpus.len() > self.gpus {
            let reason = format!(
                "the sample has {} GPUs, the header {}: begin a new trace",
                sample.gpus.len(),
                self.gpus
            );
            return Err(std::io::Error::new(std::io::ErrorKind::InvalidInput, reason));
        }
        self.row.clear();
        write!(self.row, "{}", at.as_nanos())?;
        let space = |space: Option<Space>| {
            space.map_or([None; 3], |s| {
                [Some(s.total.get()), Some(s.others.get()), Some(s.own.get())]
            })
        };
        let rate = |rate: Option<Rate>| {
            rate.map_or([None; 2], |r| [r.others, r.own].map(|p| Some(u64::from(p.milli()))))
        };
        self.cells(&space(sample.memory))?;
        let [total, others, swap_own] = space(sample.swap);
        self.cells(&[total, others])?;
        self.cells(&rate(sample.cpu))?;
        self.cells(&[sample.load_milli.map(u64::from)])?;
        let pressure = sample.pressure.map_or([None; 4], |p| {
            [p.memory_some, p.memory_full, p.cpu_some, p.io_some]
                .map(|percent| Some(u64::from(percent.milli())))
        });
        self.cells(&pressure)?;
        self.celsius(sample.cpu_temperature)?;
        self.cells(&[swap_own, (self.cpus > 0).then_some(u64::from(self.cpus))])?;
        for gpu in 0..self.gpus {
            let gpu = sample.gpus.get(gpu).copied().unwrap_or(GpuSample::default());
            self.cells(&space(gpu.vram))?;
            self.cells(&rate(gpu.utilization))?;
            self.celsius(gpu.temperature)?;
        }
        self.row.push(b'\n');
        self.output.write_all(&self.row)?;
        self.output.flush()
    }

    /// Returns the output.
    pub fn into_inner(self) -> W {
        self.output
    }

    fn cells(&mut self, values: &[Option<u64>]) -> std::io::Result<()> {
        for value in values {
            match value {
                Some(value) => write!(self.row, ",{value}")?,
                None => self.row.push(b','),
            }
        }
        Ok(())
    }

    fn celsius(&mut self, value: Option<Celsius>) -> std::io::Result<()> {
        match value {
            Some(value) => write!(self.row, ",{}", value.milli()),
            None => {
                self.row.push(b',');
                Ok(())
            }
        }
    }
}

enum Cell {
    Missing,
    Number(i64),
    /// Anything else, up to the next comma.
    Other,
}

/// Reads the digits that begin at `at`, none to eighteen, and returns their number (`None` for no digit) and
/// where they end. Returns nothing where there are more, or too few bytes left to look at eight at once.
#[inline(always)]
fn plain_number(wide: &[u8], at: usize) -> Option<(Option<i64>, usize)> {
    let (mut length, mut value) = leading_digits(word_at(wide, at)?);
    if length == 8 {
        let (more, part) = leading_digits(word_at(wide, at + 8)?);
        value = value * TEN_TO[more] + part;
        length += more;
        if more == 8 {
            let (more, part) = leading_digits(word_at(wide, at + 16)?);
            // Eighteen digits fit into 63 bits; a nineteenth might not.
            if more > 2 {
                return None;
            }
            value = value * TEN_TO[more] + part;
            length += more;
        }
    }
    Some(((length > 0).then_some(value as i64), at + length))
}

#[inline(always)]
fn word_at(wide: &[u8], at: usize) -> Option<u64> {
    let eight = wide.get(at..at + 8)?;
    Some(u64::from_le_bytes(eight.try_into().expect("the range is eight bytes long")))
}

/// Returns how many of the eight characters of a word, from its lowest byte, are digits, and their number.
/// A loop over the digits of each cell costs a mispredicted branch for each; this costs three
/// multiplications, and took the reader from 0.56 to 0.84 times the speed of `csv`'s byte records.
///
/// # Source
/// D. Lemire, "Quickly parsing eight digits" (2018): neighbours are joined in pairs, fours and eights.
#[inline(always)]
fn leading_digits(word: u64) -> (usize, u64) {
    let nibbles = word ^ (ONES * 0x30);
    // A digit is 0..=9 here and stays below 16 with six added; a carry only reaches later characters.
    let others = (nibbles.wrapping_add(ONES * 0x06) | nibbles) & (ONES * 0xf0);
    let length = (others.trailing_zeros() / 8) as usize;
    // Shifting in zeros from below puts zeros before the number. In two steps, for 64 is no legal shift.
    let rest = 4 * (8 - length as u32);
    let digits = (nibbles << rest) << rest;
    let pairs = digits.wrapping_mul(10).wrapping_add(digits >> 8) & 0x00ff_00ff_00ff_00ff;
    let fours = pairs.wrapping_mul(100).wrapping_add(pairs >> 16) & 0x0000_ffff_0000_ffff;
    let eight = fours.wrapping_mul(10_000).wrapping_add(fours >> 32) & 0xffff_ffff;
    (length, eight)
}

/// Reads the cell that begins at `at` and moves `at` to the comma, or the end, behind it.
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

/// A number that cannot be is told apart from a word.
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

/// One in each byte.
const ONES: u64 = 0x0101_0101_0101_0101;
const TEN_TO: [u64; 9] = [1, 10, 100, 1000, 10_000, 100_000, 1_000_000, 10_000_000, 100_000_000];
/// How much of a bad cell is quoted back.
pub(crate) const QUOTED_BYTES: usize = 40;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_are_read_eight_at_a_time_as_one_at_a_time() {
        for (text, want) in [
            ("12345678", (8, 12_345_678)),
            ("00000000", (8, 0)),
            ("99999999", (8, 99_999_999)),
            ("1,345678", (1, 1)),
            ("1234567,", (7, 1_234_567)),
            (",1234567", (0, 0)),
            ("12/34567", (2, 12)),
            ("12:34567", (2, 12)),
            ("123\u{7f}4567", (3, 123)),
            ("12\u{ff}3456", (2, 12)),
        ] {
            let word = u64::from_le_bytes(text.as_bytes()[..8].try_into().unwrap());
            assert_eq!(leading_digits(word), want, "{text}");
        }
        for byte in 0..=u8::MAX {
            for place in 0..8 {
                let mut bytes = *b"98765432";
                bytes[place] = byte;
                let length = bytes.iter().take_while(|byte| byte.is_ascii_digit()).count();
                let number = bytes[..length].iter().fold(0, |n, b| n * 10 + u64::from(b - b'0'));
                assert_eq!(
                    leading_digits(u64::from_le_bytes(bytes)),
                    (length, number),
                    "{bytes:?}"
                );
            }
        }
    }
}
