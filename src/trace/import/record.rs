//! Records of a public format, converted to the columns of a native trace.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use jiff::tz::Offset;
use serde_json::Value as Json;

use crate::trace::TraceError;
use crate::trace::defects::{DefectKind, Defects, Place, quoted};
use crate::trace::import::clock::{Clock, Lacks, Stamp, YEAR_1980, duration_nanoseconds};
use crate::trace::import::json::Scanner;
use crate::trace::import::mapping::{LineSort, Mapping};
use crate::trace::import::number::Unit;
use crate::trace::import::raw::Shape;
use crate::trace::import::table::Cell;
use crate::trace::source::Source;

mod cut;
mod json_rows;
mod prometheus;
mod value;

/// Reads the records of a file that a mapping describes.
#[derive(Clone, Debug)]
pub(crate) struct Records {
    mapping: Arc<Mapping>,
    header: Option<Header>,
    scanner: Scanner,
    /// Rows of the last JSON record that are still to come.
    queue: VecDeque<Json>,
    /// That record, and its position.
    parent: (Json, Place),
    /// The present record's cells, one for each column of the mapping.
    cells: Vec<Found>,
    /// The form of the last time: tried first.
    form: usize,
    clock: Clock,
    /// The offset from UTC of the first time, if it had one; `None` before there is a time.
    offset: Option<Option<Offset>>,
    beat: Beat,
    /// The last time of the file itself, and what is added to it: the length of the earlier runs.
    last_written: Option<i64>,
    runs_before: i64,
    /// Whether any record had a time.
    has_times: bool,
    /// For each field and each column that must have one value, that value.
    machines: Vec<Option<Vec<String>>>,
    /// The line above a header that names groups of its columns: its number and its cells.
    groups: Option<(u64, Vec<String>)>,
    /// The report that the file begins with; the date of the last one, and how many days it is after the first.
    first_period: Option<Period>,
    last_period: Option<(String, i16)>,
    /// For lines of metrics: the time written above them, and the present one's name with its labels.
    date: Option<String>,
    series: String,
    /// Whether the parts of a record were used, so that their values end.
    are_parts_used: bool,
    /// The number of lines above the header that name none of its columns, and what the first of them lacks.
    lines_above: u32,
    no_header: Option<(u64, String)>,
    /// Lines that came before the first header, with their numbers.
    early: VecDeque<(u64, Vec<u8>)>,
    /// Rows since the last header that had to be left out.
    left_out: u32,
    /// Whether a comma precedes fractions; `None` while that is not known.
    decimal_comma: Option<bool>,
    /// Whether stamps were read in a smaller unit than the mapping states.
    smaller_stamps: bool,
    /// The factors for bytes of main memory and of GPUs if their unit is smaller than the mapping states.
    smaller_units: [Option<f64>; 2],
    /// The range of each field's readings.
    seen: Vec<value::Seen>,
    /// Columns of the file that are not read, each once.
    unread: Vec<String>,
    /// The number of lines that each template of a text took.
    taken: Vec<u64>,
    buffer: Vec<u8>,
    /// Whether the present record is from a last line without a line end.
    is_cut: bool,
}

/// Counts rows that have no time of their own.
#[derive(Clone, Debug, Default)]
struct Beat {
    /// The last time that was read, and its text.
    told: Option<(String, i64)>,
    /// Readings since then, and rows.
    readings: i64,
    rows: usize,
    /// The values of the present reading.
    has: BTreeSet<String>,
}

/// A record's time and position. Its numbers are read by [`Records::fill`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct Record {
    pub at: i64,
    pub place: Place,
}

/// The positions of the mapping's columns in a table.
#[derive(Clone, Debug)]
struct Header {
    names: Vec<String>,
    /// Cells of the header line, including trailing empty ones.
    width: usize,
    positions: Vec<Option<usize>>,
    units: Vec<Option<Unit>>,
    /// Whether the file itself names them, not the mapping.
    is_of_file: bool,
    /// Whether the user has named the columns of this very file.
    is_of_person: bool,
    /// Whether any field is made of its columns.
    gives_fields: bool,
}

/// A report of a day of a machine, as the line above its tables names them.
#[derive(Clone, Debug)]
struct Period {
    machine: String,
    date: String,
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
            last_written: None,
            runs_before: 0,
            has_times: false,
            machines: vec![None; mapping.fields.len()],
            groups: None,
            first_period: None,
            last_period: None,
            date: None,
            series: String::new(),
            are_parts_used: false,
            lines_above: 0,
            no_header: None,
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

    /// Reads the next record with a time; `None` at the end.
    pub(crate) fn next(
        &mut self,
        source: &mut Source,
        defects: &mut Defects,
    ) -> Result<Option<Record>, TraceError> {
        loop {
            let line = match self.mapping.layout.shape {
                Shape::Table => self.next_row(source, defects)?,
                Shape::Text => self.next_text(source, defects)?,
                Shape::Prometheus => self.next_series(source, defects)?,
                Shape::JsonLines | Shape::Json => self.next_value(source, defects)?,
            };
            let Some(place) = line else {
                if self.mapping.layout.shape == Shape::Table && self.header.is_none() {
                    if let Some((line, reason)) = self.no_header.take() {
                        return Err(source.malformed(line, 1, reason));
                    }
                    let rejected = match self.early.len() {
                        0 => "it has no header line".to_owned(),
                        rows => format!("it has {rows} rows and no header line"),
                    };
                    return Err(TraceError::NoRows { name: source.name().to_owned(), rejected });
                }
                return Ok(None);
            };
            let Some(at) = self.time(place.line, defects)? else { continue };
            self.has_times = true;
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

    /// Returns the record's text in a column of the mapping.
    pub(crate) fn text(&self, column: usize) -> Option<&str> {
        let cell = &self.cells[column];
        (cell.presence == Presence::Text).then_some(cell.text.as_str())
    }

    /// Returns what the user can do about a file in which no record had a time; `None` if one had, or there is no
    /// remedy.
    pub(crate) fn remedy_for_times(&self) -> Option<&str> {
        let time = &self.mapping.time;
        time.remedy.as_deref().filter(|_| !self.has_times && time.interval_ns.is_none())
    }

    /// Returns what the user can do about times that are above the rows of a run, each of which has another.
    pub(crate) fn remedy_for_times_above(&self) -> Option<&str> {
        let (layout, time) = (&self.mapping.layout, &self.mapping.time);
        time.remedy.as_deref().filter(|_| layout.leave_out_again && time.interval_ns.is_none())
    }

    /// Returns whether rows have neither a time nor a name of their GPU, nor has the user stated how many there are.
    pub(crate) fn are_rows_bare(&self) -> bool {
        let is_untimed = self.beat.told.as_ref().is_some_and(|(time, _)| time.is_empty());
        is_untimed && self.beat.has.is_empty() && self.mapping.time.rows_in_reading.is_none()
    }

    /// Returns what is missing in times, so that they give no date.
    pub(crate) fn lacks(&self) -> Option<Lacks> {
        self.clock.lacks
    }

    /// Returns the offset from UTC of the first time.
    pub(crate) fn offset(&self) -> Option<Offset> {
        self.offset.flatten()
    }

    /// Returns notes for the user on how the file was read so far.
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
        if let (Some(first), Some((last, days))) = (&self.first_period, &self.last_period)
            && *days != 0
        {
            notes.push(format!(
                "the file has reports of several days: that of {last} was taken to begin {} h after that of {}",
                i32::from(*days) * 24,
                first.date
            ));
        }
        let mut lines = Vec::new();
        for (sort, key) in [
            (LineSort::Row, "rows"),
            (LineSort::Told, "told"),
            (LineSort::Next, "next"),
            (LineSort::Skip, "skip"),
        ] {
            let templates = self.mapping.text.0.iter().zip(&self.taken);
            // Skipping matters only if it took something.
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

    /// Reads the record's time; `None` if it was refused.
    fn time(&mut self, line: u64, defects: &mut Defects) -> Result<Option<i64>, TraceError> {
        let mapping = Arc::clone(&self.mapping);
        let time = &mapping.time;
        let is_untimed =
            time.columns.iter().all(|&at| self.cells[at].presence == Presence::NoColumn);
        if let (true, Some(interval)) = (is_untimed, time.interval_ns) {
            let readings = self.beat(None);
            return Ok(readings.checked_mul(interval));
        }
        let mut text = String::new();
        for &at in &time.columns {
            if self.cells[at].presence == Presence::NoColumn {
                continue;
            }
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
            if let (true, Some(written)) = (time.runs, at) {
                at = self.after_runs(written, place, defects)?;
            }
            self.offset.get_or_insert_with(|| time.forms[form].offset(&text));
            self.judge_stamp(form, &text, stamp, place, defects)?;
        }
        if let Some(minus) = time.minus {
            let taken = duration_nanoseconds(&self.cells[minus].text);
            at = at.zip(taken).and_then(|(at, taken)| at.checked_sub(taken));
        }
        if at.is_none() {
            let is_duration = self.cells[time.columns[0]].presence == Presence::Text
                && parsed.is_some()
                && time.minus.is_some();
            defects.note(DefectKind::UnreadableTime, place, || match time.minus {
                Some(minus) if is_duration => format!(
                    "\"{}\" is not a duration, which {} subtracts from the time",
                    quoted(&self.cells[minus].text),
                    mapping.name
                ),
                _ => format!("\"{}\" is not a time in the form of {}", quoted(&text), mapping.name),
            })?;
        }
        if let (Some(at), Some(_)) = (at, time.interval_ns) {
            self.beat(Some((text, at)));
        }
        Ok(at)
    }

    /// Returns a time since a start, after those of the earlier runs, whose clock started over. The pause between runs
    /// is not recorded: the next run is assumed to begin where the one before ends.
    fn after_runs(
        &mut self,
        written: i64,
        place: Place,
        defects: &mut Defects,
    ) -> Result<Option<i64>, TraceError> {
        if written >= YEAR_1980 {
            return Ok(Some(written));
        }
        let last = self.last_written.replace(written);
        if let Some(last) = last.filter(|&last| written < last) {
            self.runs_before = self.runs_before.saturating_add(last);
            defects.note(DefectKind::ClockSet, place, || {
                "another run begins and its clock starts over: it is taken to follow the run before it directly".to_owned()
            })?;
        }
        Ok(written.checked_add(self.runs_before))
    }

    /// Checks whether a stamp is in another unit, or of another format, than the mapping states.
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
                    "the time {} is beyond all dates in the unit of {}: times are read in the next smaller unit that \
                     gives a date",
                    quoted(text),
                    self.mapping.name
                )
            })?;
        }
        Ok(())
    }

    /// Counts a reading of rows that have no time of their own, and returns how many there were since the last time
    /// that was read. A row that the reading does not have yet, such as one of another GPU, belongs to it.
    fn beat(&mut self, told: Option<(String, i64)>) -> i64 {
        let row = self.name_in_reading();
        let rows_in_reading = self.mapping.time.rows_in_reading.unwrap_or(1);
        let beat = &mut self.beat;
        if told.is_some() {
            *beat = Beat { told, readings: 0, rows: 1, has: row.into_iter().collect() };
            return 0;
        }
        match row {
            Some(row) if !beat.has.is_empty() && !beat.has.contains(&row) => {
                beat.has.insert(row);
            }
            row => {
                // The very first row is the beginning. Rows that name no GPU are of as many as the user states.
                let is_first = beat.told.is_none();
                let begins = row.is_some() || beat.rows.is_multiple_of(rows_in_reading);
                beat.readings += i64::from(!is_first && begins);
                beat.rows += 1;
                beat.told.get_or_insert_default();
                beat.has = row.into_iter().collect();
            }
        }
        beat.readings
    }

    /// Returns what distinguishes the present row from the others of its reading.
    fn name_in_reading(&self) -> Option<String> {
        if self.mapping.layout.shape == Shape::Prometheus {
            return Some(self.series_name().to_owned());
        }
        let reading = &self.mapping.time.reading;
        if !reading.is_empty() {
            let texts = reading.iter().map(|&column| self.text(column).unwrap_or_default());
            return Some(texts.collect::<Vec<_>>().join("\0"));
        }
        let by = self.mapping.gpu.as_ref().map_or(&[][..], |rule| &rule.by);
        by.iter().find_map(|&column| self.text(column)).map(str::to_owned)
    }
}

/// The most columns that are named in a note. Chosen: a line of them.
const NAMED: usize = 8;
