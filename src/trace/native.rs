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

/// The preamble of a native file: the magic line, then `# key: value` lines, in order.
pub(crate) fn read_preamble(
    source: &mut Source,
    magic: &str,
) -> Result<(Vec<(String, String)>, Vec<String>), TraceError> {
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
            return Ok((about, columns.split(',').map(|c| c.trim().to_owned()).collect()));
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
            let cell = number_at(bytes, &mut at);
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
    row: Vec<u8>,
}

impl<W: Write> NativeWriter<W> {
    /// Writes the preamble and the header. `about` becomes `# key: value` lines, in its order; `machine` says
    /// how many GPUs there are columns for.
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
        Ok(Self { output, gpus: machine.gpus.len(), row: Vec::new() })
    }

    /// Writes a row. GPUs beyond those of the header's machine are an error, never dropped.
    ///
    /// # Errors
    /// What the output says.
    pub fn write(&mut self, at: Timestamp, sample: &Sample, cpus: u32) -> std::io::Result<()> {
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
        self.cells(&[swap_own, (cpus > 0).then_some(u64::from(cpus))])?;
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

/// Reads the whole number that begins at `at` and moves `at` to the comma, or the end, behind it.
#[inline]
fn number_at(bytes: &[u8], at: &mut usize) -> Cell {
    let begin = *at;
    let negative = bytes.get(begin) == Some(&b'-');
    let digits = begin + usize::from(negative);
    let mut here = digits;
    let mut value: u64 = 0;
    while let Some(&byte) = bytes.get(here) {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            break;
        }
        value = value.wrapping_mul(10).wrapping_add(u64::from(digit));
        here += 1;
    }
    let clean = here == bytes.len() || bytes[here] == b',';
    let count = here - digits;
    // Eighteen digits fit into 63 bits; a nineteenth might not, and is left to the careful way.
    if clean && (1..=18).contains(&count) {
        *at = here;
        let value = value as i64;
        return Cell::Number(if negative { -value } else { value });
    }
    if clean && here == begin {
        return Cell::Missing;
    }
    careful_number_at(bytes, at)
}

#[cold]
fn careful_number_at(bytes: &[u8], at: &mut usize) -> Cell {
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

/// How much of a bad cell is quoted back.
pub(crate) const QUOTED_BYTES: usize = 40;
