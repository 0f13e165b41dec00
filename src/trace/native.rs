//! The native resource CSV: read fast, written a row at a time.

use std::io::Write;

use tiershift_core::machine::Machine;
use tiershift_core::sample::{GpuSample, Rate, Sample, Space};
use tiershift_core::time::Timestamp;
use tiershift_core::units::Celsius;

use crate::trace::TraceError;
use crate::trace::column::{self, Slots};
use crate::trace::defects::{DefectKind, Defects, Place};
use crate::trace::source::{Line, Source};

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
    pub(super) fn new(source: &Source, columns: &[String]) -> Result<Self, TraceError> {
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

    /// Parses a line of nothing but digits and commas, with which `ahead` begins, into the slots. Returns its time and
    /// its length; `None` where there is anything else to look at, or the line may go on behind `ahead`.
    ///
    /// Where the cells end is found out first, so that no cell waits for the one before it.
    #[inline]
    pub(super) fn parse_plain(&mut self, ahead: &[u8]) -> Option<(i64, usize)> {
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

    /// Parses any line into the slots and returns its time, or `None` where the row was refused.
    #[cold]
    pub(super) fn parse_carefully(
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
    pub(super) fn byte_of(&self, bytes: &[u8], slot: usize) -> u64 {
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

/// Finds where cells end: at commas and line ends, a block at a time.
struct Ends<'a> {
    ahead: &'a [u8],
    /// Where the next block begins.
    next: usize,
    /// A bit for each byte of the block before it that is an end and was not taken out, from the lowest.
    marks: u64,
}

impl<'a> Ends<'a> {
    #[inline(always)]
    fn of(ahead: &'a [u8]) -> Self {
        Self { ahead, next: 0, marks: 0 }
    }

    /// Takes out the first; `None` where too few bytes are left to look at a block.
    #[inline(always)]
    fn next(&mut self) -> Option<usize> {
        while self.marks == 0 {
            let block: &[u8; BLOCK] =
                self.ahead.get(self.next..self.next + BLOCK)?.try_into().ok()?;
            for (index, eight) in block.chunks_exact(8).enumerate() {
                let word = u64::from_le_bytes(eight.try_into().expect("a chunk has eight bytes"));
                let found = equal_bytes(word, b',') | equal_bytes(word, b'\n');
                // Gathers the highest bit of each byte into the highest byte, in order.
                self.marks |=
                    ((found >> 7).wrapping_mul(0x0102_0408_1020_4080) >> 56) << (8 * index);
            }
            self.next += BLOCK;
        }
        let first = self.marks.trailing_zeros() as usize;
        self.marks &= self.marks - 1;
        Some(self.next - BLOCK + first)
    }
}

/// Returns the highest bit of each byte that is `wanted`.
///
/// # Source
/// H. S. Warren, "Hacker's Delight" (2012), section 6-1: exact, where shorter ways may mark a neighbour too.
#[inline(always)]
fn equal_bytes(word: u64, wanted: u8) -> u64 {
    let low = ONES * 0x7f;
    let differs = word ^ (ONES * u64::from(wanted));
    !(((differs & low) + low) | differs | low)
}

/// Reads the digits from `at` to `end`: `Some(None)` for none. Returns nothing where there is anything else among
/// them, there are more than eighteen, or too few bytes left to look at eight at once.
#[inline(always)]
fn plain_number(ahead: &[u8], at: usize, end: usize) -> Option<Option<i64>> {
    let length = end - at;
    let value = match length {
        0 => return Some(None),
        1..=8 => digits(word_at(ahead, at)?, length)?,
        9..=16 => {
            let (first, rest) = (word_at(ahead, at)?, word_at(ahead, at + 8)?);
            digits(first, 8)? * TEN_TO[length - 8] + digits(rest, length - 8)?
        }
        // A time after 115 days. Eighteen digits fit into 63 bits; a nineteenth might not.
        17..=18 => {
            let (first, then) = (word_at(ahead, at)?, word_at(ahead, at + 8)?);
            let sixteen = digits(first, 8)? * TEN_TO[8] + digits(then, 8)?;
            sixteen * TEN_TO[length - 16] + digits(word_at(ahead, at + 16)?, length - 16)?
        }
        _ => return None,
    };
    Some(Some(value as i64))
}

#[inline(always)]
fn word_at(ahead: &[u8], at: usize) -> Option<u64> {
    let eight = ahead.get(at..at + 8)?;
    Some(u64::from_le_bytes(eight.try_into().expect("the range is eight bytes long")))
}

/// Returns the number that the first `length` characters (one to eight) of a word are, from its lowest byte; nothing
/// where one of them is no digit.
///
/// # Source
/// D. Lemire, "Quickly parsing eight digits" (2018): neighbours are joined in pairs, fours and eights.
#[inline(always)]
fn digits(word: u64, length: usize) -> Option<u64> {
    // Shifting in zeros from below puts zeros before the number.
    let nibbles = (word ^ (ONES * 0x30)) << (8 * (8 - length as u32));
    // A digit is 0..=9 here and stays below 16 with six added.
    if (nibbles.wrapping_add(ONES * 0x06) | nibbles) & (ONES * 0xf0) != 0 {
        return None;
    }
    let pairs = nibbles.wrapping_mul(10).wrapping_add(nibbles >> 8) & 0x00ff_00ff_00ff_00ff;
    let fours = pairs.wrapping_mul(100).wrapping_add(pairs >> 16) & 0x0000_ffff_0000_ffff;
    Some(fours.wrapping_mul(10_000).wrapping_add(fours >> 32) & 0xffff_ffff)
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

/// Bytes whose ends are looked for at once: a bit of a word each.
const BLOCK: usize = 64;
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
        for byte in 0..=u8::MAX {
            for place in 0..8 {
                let mut bytes = *b"98765432";
                bytes[place] = byte;
                let word = u64::from_le_bytes(bytes);
                for length in 1..=8 {
                    let text = &bytes[..length];
                    let number = text.iter().fold(0, |n, b| n * 10 + u64::from(b & 0x0f));
                    let want = text.iter().all(u8::is_ascii_digit).then_some(number);
                    assert_eq!(digits(word, length), want, "{bytes:?}, {length} of them");
                }
                let marks = (0..8).filter(|&at| bytes[at] == b',').map(|at| 0x80 << (8 * at));
                assert_eq!(equal_bytes(word, b','), marks.sum::<u64>(), "{bytes:?}");
            }
        }
    }

    /// Parses a line of three columns, of which the second is the time, the quick way and the careful way.
    #[track_caller]
    fn check(text: &str, want: Option<[Option<i64>; 2]>) {
        let ahead = format!("{text}\n{}", "1,2,3\n".repeat(20));
        let bytes = text.strip_suffix('\r').unwrap_or(text).as_bytes();
        let line = Line { bytes, number: 1, ended: true };
        let slots = Slots::for_gpus(0);
        let mut rows = NativeRows { columns: vec![Some(1), None, Some(0)], slots };
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
