//! Records of a public format, brought to the columns of a native trace.

use std::collections::VecDeque;
use std::sync::Arc;

use jiff::tz::Offset;
use serde_json::Value as Json;

use crate::trace::TraceError;
use crate::trace::defects::{DefectKind, Defects, Place, quoted};
use crate::trace::import::clock::{Clock, Lacks, Stamp};
use crate::trace::import::json::Scanner;
use crate::trace::import::mapping::{LineSort, Mapping};
use crate::trace::import::number::Unit;
use crate::trace::import::raw::Shape;
use crate::trace::import::table::Cell;
use crate::trace::source::Source;

mod cut;
mod json_rows;
mod value;

/// Reads the records of a file that a mapping describes.
#[derive(Clone, Debug)]
pub(crate) struct Records {
    mapping: Arc<Mapping>,
    header: Option<Header>,
    scanner: Scanner,
    /// Rows of the last JSON record that are still to come.
    queue: VecDeque<Json>,
    /// That record, and its place.
    parent: (Json, Place),
    /// The present record's cells, one for each column of the mapping.
    cells: Vec<Found>,
    /// The form in which the last time was written: tried first.
    form: usize,
    clock: Clock,
    /// The offset from UTC of the first time, where it was written; `None` before there is a time.
    offset: Option<Option<Offset>>,
    beat: Beat,
    /// Lines that came before the first header, with their numbers.
    early: VecDeque<(u64, Vec<u8>)>,
    /// Rows since the last header that were to be left out.
    left_out: u32,
    /// Whether a comma stands before fractions; `None` while that is not known.
    decimal_comma: Option<bool>,
    /// Whether stamps were taken in a smaller unit than the mapping says.
    smaller_stamps: bool,
    /// By what bytes of main memory and of GPUs are scaled whose unit is smaller than the mapping believes.
    smaller_units: [Option<f64>; 2],
    /// What the readings of each field were like.
    seen: Vec<value::Seen>,
    /// Columns of the file that nothing reads, each once.
    unread: Vec<String>,
    /// Lines of a text that each of its templates took.
    taken: Vec<u64>,
    buffer: Vec<u8>,
    /// Whether the present record is of a last line without a line end.
    is_cut: bool,
}

/// Counts rows that have no time of their own.
#[derive(Clone, Debug, Default)]
struct Beat {
    /// The time that was told last, and how it was written.
    told: Option<(String, i64)>,
    /// Readings since then.
    readings: i64,
    /// The GPUs that the present reading has.
    gpus: Vec<String>,
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
    /// Whether the file says so itself, not the mapping.
    is_of_file: bool,
    /// Whether a person has named the columns of this very file.
    is_of_person: bool,
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
        let mut records = Self {
            header: None,
            scanner,
            queue: VecDeque::new(),
            parent: (Json::Null, Place { line: 0, column: 0 }),
            cells,
            form: 0,
            clock: Clock::new(mapping.time.starts_at.map(|start| start.civil().year())),
            offset: None,
            beat: Beat::default(),
            early: VecDeque::new(),
            left_out: 0,
            decimal_comma: mapping.layout.decimal.map(|mark| mark == ','),
            smaller_stamps: false,
            smaller_units: [None; 2],
            seen: vec![value::Seen::default(); mapping.fields.len()],
            unread: Vec::new(),
            taken: vec![0; mapping.text.0.len()],
            buffer: Vec::new(),
            is_cut: false,
            mapping,
        };
        if let Some(columns) = records.mapping.layout.columns.clone() {
            let cells: Vec<_> = columns.iter().map(|name| Cell { column: 1, text: name }).collect();
            let header = records.place_columns(&cells, cells.len());
            let is_of_person = records.mapping.are_columns_told;
            records.header = Some(Header { is_of_file: false, is_of_person, ..header });
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
                    let rejected = match self.early.len() {
                        0 => "it has no header line".to_owned(),
                        rows => format!("it has {rows} rows and no header line"),
                    };
                    return Err(TraceError::NoRows { name: source.name().to_owned(), rejected });
                }
                return Ok(None);
            };
            let Some(at) = self.time(place.line, defects)? else { continue };
            if self.left_out < self.mapping.layout.leave_out {
                self.left_out += 1;
                continue;
            }
            if self.is_cut {
                defects.note(DefectKind::NoLineEnd, place, || {
                    "the last line has no line end".to_owned()
                })?;
            }
            return Ok(Some(Record { at, place }));
        }
    }

    /// Returns what the record says in a column of the mapping.
    pub(crate) fn text(&self, column: usize) -> Option<&str> {
        let cell = &self.cells[column];
        (cell.presence == Presence::Text).then_some(cell.text.as_str())
    }

    /// Returns what times leave out, so that they tell no date.
    pub(crate) fn lacks(&self) -> Option<Lacks> {
        self.clock.lacks
    }

    /// Returns the offset from UTC with which the first time is written.
    pub(crate) fn offset(&self) -> Option<Offset> {
        self.offset.flatten()
    }

    /// Returns what a user should know about how the file was read so far.
    pub(crate) fn notes(&self) -> Vec<String> {
        let mut notes = self.notes_of_fields();
        if !self.unread.is_empty() {
            let named: Vec<_> =
                self.unread.iter().take(NAMED).map(|name| format!("`{name}`")).collect();
            let more = match self.unread.len().saturating_sub(NAMED) {
                0 => String::new(),
                more => format!(" and {more} more"),
            };
            notes.push(format!("columns that were not read: {}{more}", named.join(", ")));
        }
        let mut lines = Vec::new();
        for (sort, key) in
            [(LineSort::Row, "rows"), (LineSort::Told, "told"), (LineSort::Skip, "skip")]
        {
            let templates = self.mapping.text.0.iter().zip(&self.taken);
            // What is skipped matters where it took something.
            let counted = templates.filter(|(line, taken)| {
                line.sort == sort && (**taken > 0 || sort != LineSort::Skip)
            });
            lines
                .extend(counted.map(|(line, taken)| format!("{key} \"{}\" {taken}", line.written)));
        }
        if !lines.is_empty() {
            notes.push(format!("lines that each template took: {}", lines.join(", ")));
        }
        notes
    }

    /// Reads the record's time; `None` where it was refused.
    fn time(&mut self, line: u64, defects: &mut Defects) -> Result<Option<i64>, TraceError> {
        let mapping = Arc::clone(&self.mapping);
        let time = &mapping.time;
        if let (true, Some(interval)) = (time.columns.is_empty(), time.interval_ns) {
            let readings = self.beat(None);
            return Ok(readings.checked_mul(interval));
        }
        let mut text = String::new();
        for &at in &time.columns {
            if !text.is_empty() {
                text.push(' ');
            }
            text.push_str(&self.cells[at].text);
        }
        let place = Place { line, column: self.cells[time.columns[0]].column.max(1) };
        if let (Some(interval), Some((told, at))) = (time.interval_ns, self.beat.told.clone())
            && told == text
        {
            let readings = self.beat(None);
            return Ok(readings.checked_mul(interval).and_then(|since| at.checked_add(since)));
        }
        let order = std::iter::once(self.form).chain(0..time.forms.len());
        let parsed = order
            .map(|form| (form, time.forms[form].parse(&text)))
            .find_map(|(form, stamp)| Some((form, stamp?)));
        let mut at = None;
        if let Some((form, stamp)) = parsed {
            self.form = form;
            at = self.clock.moment(stamp);
            self.offset.get_or_insert_with(|| time.forms[form].offset(&text));
            self.judge_stamp(form, &text, stamp, place, defects)?;
        }
        if let Some(minus) = time.minus {
            let taken = super::clock::decimal_nanoseconds(&self.cells[minus].text, 1_000_000_000);
            at = at.zip(taken).and_then(|(at, taken)| at.checked_sub(taken));
        }
        if at.is_none() {
            defects.note(DefectKind::UnreadableTime, place, || {
                format!("\"{}\" is no time of the form that {} has", quoted(&text), mapping.name)
            })?;
        }
        if let (Some(at), Some(_)) = (at, time.interval_ns) {
            self.beat(Some((text, at)));
        }
        Ok(at)
    }

    /// A stamp may be of another unit, or of another format, than the mapping believes.
    fn judge_stamp(
        &mut self,
        form: usize,
        text: &str,
        stamp: Stamp,
        place: Place,
        defects: &mut Defects,
    ) -> Result<(), TraceError> {
        let time = &self.mapping.time;
        if time.whole && text.contains(['.', ',']) {
            let reason = format!(
                "\"{}\" has a fraction, and times of {} are whole numbers: this is of another format, describe it in \
                 a mapping",
                quoted(text),
                self.mapping.name
            );
            return Err(defects.refuse(place, reason));
        }
        let is_epoch = matches!(stamp, Stamp::Moment(_));
        if is_epoch && !self.smaller_stamps && time.forms[form].is_smaller_than_said(text) {
            self.smaller_stamps = true;
            defects.note(DefectKind::Unit, place, || {
                format!(
                    "the time {} lies behind all dates in the unit of {}: times are read in the next smaller one that \
                     gives a date",
                    quoted(text),
                    self.mapping.name
                )
            })?;
        }
        Ok(())
    }

    /// Counts a reading of rows that have no time of their own, and returns how many there were since the time that was told
    /// last. A row of a GPU that the reading does not have yet belongs to it.
    fn beat(&mut self, told: Option<(String, i64)>) -> i64 {
        let by = self.mapping.gpu.as_ref().map_or(&[][..], |rule| &rule.by);
        let gpu = by.iter().find_map(|&column| self.text(column)).map(str::to_owned);
        let beat = &mut self.beat;
        if told.is_some() {
            *beat = Beat { told, readings: 0, gpus: gpu.into_iter().collect() };
            return 0;
        }
        match gpu {
            Some(gpu) if !beat.gpus.is_empty() && !beat.gpus.contains(&gpu) => beat.gpus.push(gpu),
            gpu => {
                // The first row of all is the beginning.
                let is_first = beat.told.is_none();
                beat.readings += i64::from(!is_first);
                beat.told.get_or_insert_default();
                beat.gpus = gpu.into_iter().collect();
            }
        }
        beat.readings
    }
}

/// Columns that are named in a note. Chosen: a line of them.
const NAMED: usize = 8;
