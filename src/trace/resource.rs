//! Resource traces of any format, read forwards in constant memory.

use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use tiershift_core::machine::Machine;
use tiershift_core::sample::Sample;
use tiershift_core::time::Timestamp;

use crate::trace::column::{self, Assembler, MAX_GPUS, Slots};
use crate::trace::defects::{DefectKind, Defects, Place};
use crate::trace::import::record::Records;
use crate::trace::import::{Format, Kind, Mapping};
use crate::trace::native::rows::NativeRows;
use crate::trace::native::{Preamble, RESOURCE_MAGIC, read_preamble};
use crate::trace::pace::{Pace, Step};
use crate::trace::source::{Progress, Source};
use crate::trace::{Header, ReadOptions, TraceError};

/// Reads a resource trace, sample by sample.
pub struct ResourceReader {
    source: Source,
    rows: Rows,
    header: Header,
    wall_clock: bool,
    pace: Pace,
    assembler: Assembler,
    defects: Defects,
    samples: u64,
}

enum Rows {
    Native(NativeRows),
    Mapped(Box<MappedRows>),
}

impl ResourceReader {
    /// Opens a trace. Its format is recognised unless the options name it; `.gz` and `.zst` are unpacked,
    /// whatever the file is called.
    ///
    /// # Errors
    /// Where the file cannot be opened, is empty or binary, or is of no known or of the wrong format.
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
        let mut wall_clock = false;
        let rows = match format {
            Format::Mapped(mapping) => {
                shortest_gap_ns = mapping.time.shortest_gap_ns;
                wall_clock = mapping.time.wall_clock;
                header.notes.clone_from(&mapping.notes);
                Rows::Mapped(Box::new(MappedRows::new(mapping)))
            }
            Format::NativeResource | Format::NativeRequest => {
                let Preamble { about, columns } = read_preamble(&mut source, RESOURCE_MAGIC)?;
                let rows = NativeRows::new(&source, &columns)?;
                header.read_about(about);
                if let Some(cpus) = header.value("cpus").and_then(|cpus| cpus.parse().ok()) {
                    assembler.machine.cpus = cpus;
                }
                Rows::Native(rows)
            }
        };
        let defects = Defects::new(source.name(), options.strict);
        let pace = Pace::new(shortest_gap_ns);
        Ok(Self { source, rows, header, wall_clock, pace, assembler, defects, samples: 0 })
    }

    /// Returns the next sample and its time since the first; `None` at the end.
    ///
    /// # Errors
    /// Where the file cannot be read on, or holds no sample at all; with `strict`, at the first defect.
    #[expect(
        clippy::should_implement_trait,
        reason = "an iterator's item could not be borrowed or fail once"
    )]
    pub fn next(&mut self) -> Result<Option<(Timestamp, Sample)>, TraceError> {
        let mut sample = Sample::default();
        Ok(self.next_into(&mut sample)?.map(|at| (at, sample)))
    }

    /// As [`ResourceReader::next`], into a sample that is used again: nothing is allocated for a row.
    ///
    /// # Errors
    /// As [`ResourceReader::next`]. What `sample` holds after an error or at the end means nothing.
    pub fn next_into(&mut self, sample: &mut Sample) -> Result<Option<Timestamp>, TraceError> {
        loop {
            let Some((at, place)) = self.next_row(sample)? else {
                if self.samples == 0 {
                    let name = self.source.name().to_owned();
                    let rejected = match self.defects.warnings() {
                        empty if empty.is_empty() => "it has no rows".to_owned(),
                        warnings => warnings.join("; "),
                    };
                    return Err(TraceError::NoRows { name, rejected });
                }
                self.header.finish(&self.assembler);
                return Ok(None);
            };
            let at = match self.pace.step(at) {
                Step::Forward(at) => at,
                Step::ForwardAfterGap(at, nanos) => {
                    self.defects.note(DefectKind::Gap, place, || {
                        format!("nothing for {} s before this row", seconds(nanos))
                    })?;
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
                Step::TooFar(nanos) => {
                    self.defects.note(DefectKind::UnreadableTime, place, || {
                        format!("{} s after the row before: the clock is wrong", seconds(nanos))
                    })?;
                    continue;
                }
            };
            if self.samples == 0 && self.wall_clock {
                self.header.started_at = self
                    .pace
                    .first()
                    .and_then(|at| jiff::Timestamp::from_nanosecond(i128::from(at)).ok());
            }
            self.samples += 1;
            self.assembler.learn(sample);
            return Ok(Some(at));
        }
    }

    /// Takes the time, place and sample of the next row that tells anything.
    fn next_row(&mut self, sample: &mut Sample) -> Result<Option<(i64, Place)>, TraceError> {
        let Self { source, rows, assembler, defects, .. } = self;
        loop {
            let (at, place, told) = match rows {
                Rows::Native(rows) => {
                    let (line, at) = if let Some((at, length)) = rows.parse_plain(source.ahead()) {
                        (source.take(length, true), at)
                    } else {
                        let Some(line) = source.line()? else { return Ok(None) };
                        let Some(at) = rows.parse_carefully(&line, defects)? else { continue };
                        (line, at)
                    };
                    let byte_of = |slot| rows.byte_of(line.bytes, slot);
                    let told =
                        assembler.assemble(&rows.slots, line.number, byte_of, defects, sample)?;
                    (at, Place { line: line.number, column: 1 }, told)
                }
                Rows::Mapped(rows) => {
                    let Some((at, place)) = rows.next_sweep(source, defects)? else {
                        return Ok(None);
                    };
                    let Sweep { slots, columns, .. } = &rows.ready;
                    let byte_of = |slot: usize| columns.get(slot).copied().unwrap_or(1);
                    let told = assembler.assemble(slots, place.line, byte_of, defects, sample)?;
                    (at, place, told)
                }
            };
            if told {
                return Ok(Some((at, place)));
            }
            defects.note(DefectKind::BlankRow, place, || {
                "the row says nothing but the time".to_owned()
            })?;
        }
    }

    /// Returns what was wrong so far.
    pub fn defects(&self) -> &Defects {
        &self.defects
    }

    /// Returns what is known of the machine: what the options told and the samples so far say. Zero or empty
    /// is unknown.
    pub fn machine(&self) -> &Machine {
        &self.assembler.machine
    }

    /// Returns what the file says about itself.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// Returns the samples that were read so far.
    pub fn samples(&self) -> u64 {
        self.samples
    }

    /// Returns how far the reader has come; the handle stays good while the reader moves on.
    pub fn progress(&self) -> Progress {
        self.source.progress()
    }

    /// Returns the digest of the trace's bytes, unpacked; `None` before the end.
    pub fn digest(&self) -> Option<blake3::Hash> {
        self.source.digest()
    }
}

/// Rows of a public format, with the rows of one sweep over the GPUs put together.
struct MappedRows {
    mapping: Arc<Mapping>,
    records: Records,
    /// The sweep that was handed out last.
    ready: Sweep,
    /// The sweep that is being put together.
    next: Option<Sweep>,
    /// GPUs that any row spoke of: each sample has a place for all of them.
    gpus: usize,
}

/// Several rows that are one reading.
#[derive(Clone, Debug)]
struct Sweep {
    at: i64,
    place: Place,
    /// The GPU of the last row.
    gpu: usize,
    slots: Slots,
    /// The byte of each slot's cell.
    columns: Vec<u64>,
}

impl MappedRows {
    fn new(mapping: Arc<Mapping>) -> Self {
        let records = Records::new(Arc::clone(&mapping));
        let place = Place { line: 0, column: 0 };
        let ready = Sweep { at: 0, place, gpu: 0, slots: Slots::for_gpus(0), columns: Vec::new() };
        Self { mapping, records, ready, next: None, gpus: 0 }
    }

    /// Leaves the next sweep in `ready`.
    fn next_sweep(
        &mut self,
        source: &mut Source,
        defects: &mut Defects,
    ) -> Result<Option<(i64, Place)>, TraceError> {
        loop {
            let Some(record) = self.records.next(source, defects)? else {
                let Some(last) = self.next.take() else { return Ok(None) };
                self.ready = last;
                break;
            };
            let (gpu, joins) = self.place_in_sweep(record.at);
            if gpu >= MAX_GPUS {
                defects.note(DefectKind::UnreadableRow, record.place, || {
                    format!("GPU {gpu}: at most {MAX_GPUS} are read")
                })?;
                continue;
            }
            if joins && let Some(sweep) = &mut self.next {
                sweep.gpu = gpu;
                sweep.take(&self.records, record.place.line, gpu, defects)?;
                self.gpus = self.gpus.max(sweep.slots.gpus());
                continue;
            }
            let mut sweep = Sweep {
                at: record.at,
                place: record.place,
                gpu,
                slots: Slots::for_gpus(self.gpus),
                columns: Vec::new(),
            };
            sweep.take(&self.records, record.place.line, gpu, defects)?;
            self.gpus = self.gpus.max(sweep.slots.gpus());
            if let Some(done) = self.next.replace(sweep) {
                self.ready = done;
                break;
            }
        }
        Ok(Some((self.ready.at, self.ready.place)))
    }

    /// Returns which GPU the present record speaks of, and whether it belongs to the sweep before it.
    fn place_in_sweep(&self, at: i64) -> (usize, bool) {
        let Some(rule) = &self.mapping.gpu else { return (0, false) };
        let close = self.next.as_ref().filter(|sweep| {
            let limit = i64::from(rule.sweep_milliseconds) * 1_000_000;
            at >= sweep.at && at.saturating_sub(sweep.at) <= limit
        });
        match (self.records.gpu(), close) {
            (Some(gpu), Some(sweep)) => (gpu, gpu > sweep.gpu),
            (Some(gpu), None) => (gpu, false),
            (None, Some(sweep)) if rule.index.is_none() => (sweep.gpu + 1, true),
            (None, _) => (0, false),
        }
    }
}

impl Sweep {
    /// Adds the present record, as the reading of the GPU of that number.
    fn take(
        &mut self,
        records: &Records,
        line: u64,
        gpu: usize,
        defects: &mut Defects,
    ) -> Result<(), TraceError> {
        records.fill(line, defects, |slot, value, column| {
            let first = column::gpu_slot(0);
            let slot = if slot < first { slot } else { slot + column::gpu_slot(gpu) - first };
            self.slots.set(slot, value);
            if self.columns.len() <= slot {
                self.columns.resize(slot + 1, 1);
            }
            self.columns[slot] = column;
        })
    }
}

fn seconds(nanos: u64) -> f64 {
    nanos as f64 / 1e9
}
