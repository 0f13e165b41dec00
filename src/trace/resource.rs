//! Resource traces of any format, read forwards in constant memory.

use std::io::Read;
use std::path::Path;

use tiershift_core::machine::Machine;
use tiershift_core::sample::Sample;
use tiershift_core::time::Timestamp;

use crate::files::progress::Progress;
use crate::trace::column::Assembler;
use crate::trace::cut::Cut;
use crate::trace::dates::Dates;
use crate::trace::defects::{DefectKind, Defects, Place};
use crate::trace::import::raw::Shape;
use crate::trace::import::{Format, Kind};
use crate::trace::native::rows::NativeRows;
use crate::trace::native::{Preamble, RESOURCE_MAGIC, read_preamble};
use crate::trace::pace::{Pace, Step};
use crate::trace::resource::sweeps::MappedRows;
use crate::trace::source::Source;
use crate::trace::{Header, ReadOptions, TraceError};

mod survey;
mod sweeps;

/// Reads a resource trace, sample by sample.
pub struct ResourceReader {
    source: Source,
    rows: Rows,
    header: Header,
    dates: Dates,
    pace: Pace,
    cut: Cut,
    assembler: Assembler,
    defects: Defects,
    /// The number in the whole file.
    samples: u64,
    /// A row that was read ahead.
    ahead: Option<Row>,
    ahead_sample: Sample,
}

/// A row's time and place.
#[derive(Clone, Copy, Debug)]
struct Row {
    at: i64,
    place: Place,
    /// Whether another run begins with it, whose times are unrelated to those before.
    restarts: bool,
}

enum Rows {
    Native(NativeRows),
    Mapped(Box<MappedRows>),
}

impl ResourceReader {
    /// Opens a trace. Its format is recognised unless the options name it; `.gz` and `.zst` are decompressed, whatever
    /// the file is called.
    ///
    /// # Errors
    /// When the file cannot be opened, is empty or binary, or is of no known or of the wrong format.
    pub fn open(path: &Path, options: &ReadOptions) -> Result<Self, TraceError> {
        Self::new(Source::open(path)?, options)
    }

    /// Reads a trace from anywhere; `name` stands for the file in messages.
    ///
    /// # Errors
    /// As [`ResourceReader::open`].
    pub fn from_reader(
        input: impl Read + Send + 'static,
        name: &str,
        options: &ReadOptions,
    ) -> Result<Self, TraceError> {
        Self::new(Source::new(input, name, None)?, options)
    }

    fn new(mut source: Source, options: &ReadOptions) -> Result<Self, TraceError> {
        let format = options.format_of(&mut source, Kind::Resource)?;
        let mut header = Header { format: format.name().to_owned(), ..Header::default() };
        let mut assembler = Assembler::new(options.machine.clone());
        let mut shortest_gap_ns = 0;
        let dates;
        let rows = match format {
            Format::Mapped(mapping) => {
                let mapping = mapping.with(&options.told, source.name())?;
                shortest_gap_ns = mapping.time.shortest_gap_ns;
                dates = Dates::of_times(&mapping.time);
                header.notes.clone_from(&mapping.notes);
                let name = source.name().to_owned();
                let gpus = survey::gpus(&mapping, &options.told, source.head()?, &name)?;
                let mut rows = MappedRows::new(mapping, gpus);
                if rows.shape() == Shape::Text {
                    rows.records.foretell(&String::from_utf8_lossy(source.head()?));
                }
                Rows::Mapped(Box::new(rows))
            }
            Format::NativeResource | Format::NativeRequest => {
                let Preamble { about, columns } = read_preamble(&mut source, RESOURCE_MAGIC)?;
                let rows = NativeRows::new(&source, &columns)?;
                header.read_about(about);
                dates = Dates::of_preamble(header.read_clock(), options.told.starts_at);
                if let Some(cpus) = header.value("cpus").and_then(|cpus| cpus.parse().ok()) {
                    assembler.machine.cpus = cpus;
                }
                Rows::Native(rows)
            }
        };
        let defects = Defects::new(source.name(), options.strict);
        let pace = Pace::new(shortest_gap_ns, options.cut_silences);
        Ok(Self {
            source,
            rows,
            header,
            dates,
            pace,
            cut: Cut::new(options.part),
            assembler,
            defects,
            samples: 0,
            ahead: None,
            ahead_sample: Sample::default(),
        })
    }

    /// Returns the next sample of the selected part and its time since the first of it; `None` at the end of the file.
    ///
    /// # Errors
    /// When the file cannot be read further, or contains no sample at all; with `strict`, at the first defect.
    #[expect(
        clippy::should_implement_trait,
        reason = "an iterator's item could not be borrowed or fail once"
    )]
    pub fn next(&mut self) -> Result<Option<(Timestamp, Sample)>, TraceError> {
        let mut sample = Sample::default();
        Ok(self.next_into(&mut sample)?.map(|at| (at, sample)))
    }

    /// As [`ResourceReader::next`], into a sample that is reused: nothing is allocated for a row.
    ///
    /// # Errors
    /// As [`ResourceReader::next`]. The content of `sample` after an error or at the end has no meaning.
    pub fn next_into(&mut self, sample: &mut Sample) -> Result<Option<Timestamp>, TraceError> {
        loop {
            let Some(Row { at, place, restarts }) = self.next_row(sample)? else {
                self.finish()?;
                return Ok(None);
            };
            if restarts {
                self.pace.restart(at);
            }
            let mut after = None;
            if self.pace.leaps(at) {
                after = self.look_ahead()?;
                if self.pace.leads_astray(at, after) {
                    self.defects.note(DefectKind::UnreadableTime, place, || {
                        "far ahead of the rows before and after it: the clock is wrong".to_owned()
                    })?;
                    continue;
                }
            }
            let shows = at;
            let at = match self.pace.step(at, after) {
                Step::Forward(at) => at,
                Step::ForwardAfterGap(at, nanos) => {
                    self.defects.note(DefectKind::Gap, place, || {
                        format!("nothing for {} s before this row", seconds(nanos))
                    })?;
                    at
                }
                Step::ForwardAfterCut(at, nanos) => {
                    self.defects.note(DefectKind::LeftOut, place, || {
                        format!("nothing for {} s before this row", seconds(nanos))
                    })?;
                    self.mark(at, shows);
                    at
                }
                Step::ClockSet(at, by) => {
                    self.defects.note(DefectKind::ClockSet, place, || clock_set(by))?;
                    self.mark(at, shows);
                    at
                }
                Step::Same(_) => {
                    self.defects.note(DefectKind::DuplicateTime, place, || {
                        "the same time as the row before".to_owned()
                    })?;
                    continue;
                }
                Step::Backward(nanos) => {
                    self.defects.note(DefectKind::BackwardTime, place, || {
                        format!("{} s earlier than the row before", seconds(nanos))
                    })?;
                    continue;
                }
            };
            if self.samples == 0 || shows >= self.dates.next {
                self.mark(at, shows);
            }
            self.samples += 1;
            self.assembler.learn(sample);
            if let Some(at) = self.cut.place(at) {
                if self.cut.rows() == 1 {
                    self.header.clock = self.cut.clock();
                }
                return Ok(Some(at));
            }
        }
    }

    /// Notes what the wall clock shows at a row.
    fn mark(&mut self, moment: Timestamp, at: i64) {
        let records = match &self.rows {
            Rows::Mapped(rows) => Some(&rows.records),
            Rows::Native(_) => None,
        };
        self.dates.mark(&mut self.cut.whole_clock, moment, at, records);
        self.header.clock = self.cut.clock();
        if let Some(note) = self.dates.take_note() {
            self.header.note(note);
        }
    }

    /// Judges the file as a whole, at its end.
    fn finish(&mut self) -> Result<(), TraceError> {
        let rejected = || match self.defects.warnings() {
            empty if empty.is_empty() => "it has no rows".to_owned(),
            warnings => warnings.join("; "),
        };
        let name = || self.source.name().to_owned();
        let notes = match &self.rows {
            Rows::Mapped(rows) => rows.notes(),
            Rows::Native(_) => Vec::new(),
        };
        if self.samples == 0
            && let Rows::Mapped(rows) = &self.rows
            && let Some(remedy) = rows.records.remedy_for_times()
        {
            let reason = format!("nothing in it has a time: {remedy}");
            return Err(TraceError::Ask { name: name(), reason });
        }
        if self.samples == 0 {
            let mut rejected = vec![rejected()];
            rejected.extend(notes);
            let mut header = Header::default();
            header.finish(&self.assembler);
            rejected.extend(header.notes);
            return Err(TraceError::NoRows { name: name(), rejected: rejected.join("; ") });
        }
        self.cut.check(self.source.name())?;
        let memory = self.assembler.machine.memory;
        if let Rows::Mapped(rows) = &self.rows
            && let Some(reason) =
                rows.records.doubt().or_else(|| rows.records.doubt_available(memory))
        {
            return Err(TraceError::Ask { name: name(), reason });
        }
        if self.defects.count(DefectKind::DuplicateTime) > 0
            && let Rows::Mapped(rows) = &self.rows
            && let Some(remedy) = rows.records.remedy_for_times_above()
        {
            let reason = format!("a time is above several rows, which have none: {remedy}");
            return Err(TraceError::Ask { name: name(), reason });
        }
        if self.defects.misplaced(self.is_text()) > self.samples {
            return Err(TraceError::MostlyRejected {
                name: name(),
                rejected: self.defects.why_most_are_rejected(),
            });
        }
        self.header.notes.extend(notes);
        self.header.finish(&self.assembler);
        Ok(())
    }

    /// Returns whether lines that are not rows are ordinary.
    fn is_text(&self) -> bool {
        matches!(&self.rows, Rows::Mapped(rows) if rows.shape() == Shape::Text)
    }

    /// Returns the time of the row after the present one, which is kept for its turn.
    fn look_ahead(&mut self) -> Result<Option<i64>, TraceError> {
        if self.ahead.is_none() {
            let mut sample = std::mem::take(&mut self.ahead_sample);
            self.ahead = self.read_row(&mut sample)?;
            self.ahead_sample = sample;
        }
        Ok(self.ahead.filter(|row| !row.restarts).map(|row| row.at))
    }

    fn next_row(&mut self, sample: &mut Sample) -> Result<Option<Row>, TraceError> {
        if let Some(row) = self.ahead.take() {
            std::mem::swap(sample, &mut self.ahead_sample);
            return Ok(Some(row));
        }
        self.read_row(sample)
    }

    /// Reads the time, position and sample of the next row that has any value.
    fn read_row(&mut self, sample: &mut Sample) -> Result<Option<Row>, TraceError> {
        let Self { source, rows, assembler, defects, .. } = self;
        loop {
            let mut restarts = false;
            let (at, place, told) = match rows {
                Rows::Native(rows) => {
                    let (line, at) = if let Some((at, length)) = rows.parse_plain(source.ahead()) {
                        (source.take(length, true), at)
                    } else {
                        let Some(line) = source.line()? else { return Ok(None) };
                        let Some(at) = rows.parse_carefully(&line, defects)? else { continue };
                        (line, at)
                    };
                    restarts = std::mem::take(&mut rows.is_restarted);
                    let byte_of = |slot| rows.byte_of(line.bytes, slot);
                    let told =
                        assembler.assemble(&rows.slots, line.number, byte_of, defects, sample)?;
                    (at, Place { line: line.number, column: 1 }, told)
                }
                Rows::Mapped(rows) => {
                    let Some((at, place)) = rows.next_sweep(source, defects)? else {
                        return Ok(None);
                    };
                    let sweep = &rows.ready;
                    let byte_of = |slot: usize| sweep.columns.get(slot).copied().unwrap_or(1);
                    let told =
                        assembler.assemble(&sweep.slots, place.line, byte_of, defects, sample)?;
                    (at, place, told)
                }
            };
            if told {
                return Ok(Some(Row { at, place, restarts }));
            }
            defects.note(DefectKind::BlankRow, place, || "the row has only a time".to_owned())?;
        }
    }

    /// Returns the defects so far.
    pub fn defects(&self) -> &Defects {
        &self.defects
    }

    /// Returns what is known of the machine from the samples so far, with totals from the options where these lack them.
    /// Zero or empty is unknown.
    pub fn machine(&self) -> &Machine {
        &self.assembler.machine
    }

    /// Returns what the file states about itself.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// Returns whether the trace has so far given a use whose total is not known.
    pub fn lacks_a_total(&self) -> bool {
        self.assembler.memory_without_total || self.assembler.vram_without_total != 0
    }

    /// Returns the samples that were returned so far.
    pub fn samples(&self) -> u64 {
        self.cut.rows()
    }

    /// Returns the reader's progress; the handle stays valid while the reader moves on.
    pub fn progress(&self) -> Progress {
        self.source.progress()
    }

    /// Returns the digest of the trace's uncompressed bytes; `None` before the end.
    pub fn digest(&self) -> Option<blake3::Hash> {
        self.source.digest()
    }
}

fn seconds(nanos: u64) -> f64 {
    nanos as f64 / 1e9
}

/// Returns by how much a clock was set, as text.
pub(super) fn clock_set(by: i128) -> String {
    let way = if by < 0 { "back" } else { "forward" };
    format!(
        "the clock was set {way} by about {} s, or another run begins",
        by.unsigned_abs() / 1_000_000_000
    )
}
