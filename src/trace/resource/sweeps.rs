//! Rows of a public format, joined to readings of the machine.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::trace::TraceError;
use crate::trace::column::{self, MAX_GPUS, Slots};
use crate::trace::defects::{DefectKind, Defects, Place};
use crate::trace::import::mapping::{Field, Mapping};
use crate::trace::import::raw::{Combine, Shape};
use crate::trace::import::record::{Record, Records};
use crate::trace::resource::survey::Gpus;
use crate::trace::source::Source;

/// Rows of a public format, with the rows of one reading joined.
pub(super) struct MappedRows {
    mapping: Arc<Mapping>,
    pub(super) records: Records,
    gpus: Gpus,
    /// The values of the column that identifies the GPUs, if they are not numbers.
    labels: Vec<String>,
    /// The sweep that was last returned.
    pub(super) ready: Sweep,
    /// The sweep that is being assembled.
    next: Option<Sweep>,
    /// All sweeps, if they are not in the order of time.
    sorted: Option<std::collections::btree_map::IntoValues<i64, Sweep>>,
    /// The number of GPUs in all rows so far: each sample has a place for all of them.
    places: usize,
    /// The last value of each counter, its time, and the number of rows in it.
    counted: BTreeMap<usize, (i64, i64, i64)>,
    /// The last total of the one GPU, and how often it changed.
    total: Option<i64>,
    changes_of_total: u32,
}

/// Several rows that are one reading.
#[derive(Clone, Debug)]
pub(super) struct Sweep {
    pub(super) at: i64,
    pub(super) place: Place,
    /// The GPUs that it has, by their bits.
    gpus: u64,
    /// Whether one of its rows names no GPU.
    has_machine: bool,
    pub(super) slots: Slots,
    /// The byte of each slot's cell.
    pub(super) columns: Vec<u64>,
    /// The number of rows in each slot.
    rows: Vec<i64>,
}

impl MappedRows {
    pub(super) fn new(mapping: Arc<Mapping>, gpus: Gpus) -> Self {
        let records = Records::new(Arc::clone(&mapping));
        let nowhere = Place { line: 0, column: 0 };
        Self {
            mapping,
            records,
            gpus,
            labels: Vec::new(),
            ready: Sweep::new(Record { at: 0, place: nowhere }, 0),
            next: None,
            sorted: None,
            places: 0,
            counted: BTreeMap::new(),
            total: None,
            changes_of_total: 0,
        }
    }

    /// Returns the shape of the file.
    pub(super) fn shape(&self) -> Shape {
        self.mapping.layout.shape
    }

    /// Returns notes for the user on how the file was read.
    pub(super) fn notes(&self) -> Vec<String> {
        let mut notes = self.records.notes();
        if self.gpus == Gpus::One && self.mapping.gpu.is_some() && self.records.are_rows_bare() {
            notes.push(
                "rows name neither a time nor a GPU, and each was taken as a reading of one GPU: where a reading has \
                 several, say how many, `--gpus 2`"
                    .to_owned(),
            );
        }
        notes
    }

    /// Leaves the next sweep in `ready`.
    pub(super) fn next_sweep(
        &mut self,
        source: &mut Source,
        defects: &mut Defects,
    ) -> Result<Option<(i64, Place)>, TraceError> {
        let sweep = match self.mapping.time.sorted {
            true => self.next_in_order(source, defects)?,
            false => self.next_sorted(source, defects)?,
        };
        let Some(mut sweep) = sweep else { return Ok(None) };
        let rows = sweep.rows.clone();
        sweep.take_means(&self.mapping);
        self.take_rises(&mut sweep, &rows);
        self.ready = sweep;
        Ok(Some((self.ready.at, self.ready.place)))
    }

    fn next_in_order(
        &mut self,
        source: &mut Source,
        defects: &mut Defects,
    ) -> Result<Option<Sweep>, TraceError> {
        loop {
            let Some(record) = self.records.next(source, defects)? else {
                return Ok(self.next.take());
            };
            let Some((gpu, joins)) = self.place_in_sweep(record, defects)? else { continue };
            let is_machine = gpu.is_none();
            let mut done = None;
            if !joins {
                done = self.next.replace(Sweep::new(record, self.places));
            }
            let sweep = self.next.as_mut().expect("a row joins a sweep that there is");
            sweep.has_machine |= is_machine;
            sweep.take(&mut self.records, record.place.line, gpu, defects)?;
            self.places = self.places.max(sweep.slots.gpus());
            self.watch_total(record.place, defects)?;
            if done.is_some() {
                return Ok(done);
            }
        }
    }

    /// Holds all rows, joins those of one time, and returns them in the order of time.
    fn next_sorted(
        &mut self,
        source: &mut Source,
        defects: &mut Defects,
    ) -> Result<Option<Sweep>, TraceError> {
        if let Some(sorted) = &mut self.sorted {
            return Ok(sorted.next());
        }
        let mut all: BTreeMap<i64, Sweep> = BTreeMap::new();
        while let Some(record) = self.records.next(source, defects)? {
            let Some(gpu) = self.gpu(record, defects)? else { continue };
            if all.len() == MOST_MOMENTS {
                let name = source.name().to_owned();
                return Err(TraceError::TooLong {
                    name,
                    limit: MOST_MOMENTS,
                    what: "moments to sort",
                });
            }
            let sweep = all.entry(record.at).or_insert_with(|| Sweep::new(record, 0));
            sweep.take(&mut self.records, record.place.line, gpu, defects)?;
        }
        Ok(self.sorted.insert(all.into_values()).next())
    }

    /// Returns the GPU of the present record, if it names one; nothing if the row was refused.
    fn gpu(
        &mut self,
        record: Record,
        defects: &mut Defects,
    ) -> Result<Option<Option<usize>>, TraceError> {
        let label = match (self.gpus, &self.mapping.gpu) {
            (Gpus::By(column), _) => self.records.text(column),
            (Gpus::Labelled, Some(rule)) => {
                rule.by.iter().find_map(|&column| self.records.text(column))
            }
            _ => None,
        };
        let Some(label) = label else { return Ok(Some(None)) };
        let number = label.parse().ok().filter(|&number: &usize| number < MAX_GPUS);
        let gpu = number.unwrap_or_else(|| {
            let known = self.labels.iter().position(|known| known == label);
            known.unwrap_or_else(|| {
                self.labels.push(label.to_owned());
                self.labels.len() - 1
            })
        });
        if gpu >= MAX_GPUS {
            self.labels.pop();
            defects.note(DefectKind::UnreadableRow, record.place, || {
                format!("one more GPU: at most {MAX_GPUS} are read")
            })?;
            return Ok(None);
        }
        Ok(Some(Some(gpu)))
    }

    /// Returns the GPU of the present record, if any, and whether it belongs to the previous sweep.
    fn place_in_sweep(
        &mut self,
        record: Record,
        defects: &mut Defects,
    ) -> Result<Option<(Option<usize>, bool)>, TraceError> {
        let Some(gpu) = self.gpu(record, defects)? else { return Ok(None) };
        let since = self.next.as_ref().map(|sweep| (sweep, record.at.checked_sub(sweep.at)));
        let is_within = |within: i64, since: Option<i64>| {
            since.is_some_and(|since| (0..=within).contains(&since))
        };
        Ok(Some(match (self.gpus, gpu, since) {
            (Gpus::By(_) | Gpus::Labelled, gpu, Some((sweep, since))) => {
                let within = self.mapping.gpu.as_ref().map_or(0, |rule| rule.sweep_ns);
                let is_new = match gpu {
                    Some(gpu) => sweep.gpus & (1 << gpu) == 0,
                    None => !sweep.has_machine,
                };
                (gpu, is_new && is_within(within, since))
            }
            (Gpus::Counted { gpus, within }, _, Some((sweep, since))) => {
                let rows = sweep.gpus.count_ones() as usize;
                // Each row comes a little after the one before.
                let within = within.saturating_mul(i64::try_from(rows).unwrap_or(1));
                match rows < gpus && is_within(within, since) {
                    true => (Some(rows), true),
                    false => (Some(0), false),
                }
            }
            (Gpus::By(_) | Gpus::Labelled, gpu, None) => (gpu, false),
            (_, gpu, _) => (gpu.or(Some(0)), false),
        }))
    }

    /// A GPU's total does not come and go: otherwise rows are of several GPUs, and nothing identifies them.
    fn watch_total(&mut self, place: Place, defects: &Defects) -> Result<(), TraceError> {
        if self.gpus != Gpus::One || self.mapping.gpu.is_none() {
            return Ok(());
        }
        let total = self
            .next
            .as_ref()
            .and_then(|sweep| sweep.slots.0.get(column::gpu_slot(0)).copied().flatten());
        let (Some(now), Some(before)) = (total, self.total.replace(total.unwrap_or(0))) else {
            return Ok(());
        };
        let differs = now.abs_diff(before) > now.unsigned_abs() / 50;
        self.changes_of_total += u32::from(differs && before > 0);
        if self.changes_of_total < 2 {
            return Ok(());
        }
        let reason = "the total of video memory changes from row to row, so that the rows are of several GPUs, and no \
                      column tells which: record `index` with them, or say how many GPUs each reading has, `--gpus 2`";
        Err(defects.refuse(place, reason.to_owned()))
    }

    /// Replaces counters by their increase per second.
    fn take_rises(&mut self, sweep: &mut Sweep, rows: &[i64]) {
        if !self.mapping.fields.iter().any(|field| field.counter) {
            return;
        }
        for slot in 0..sweep.slots.0.len() {
            let is_counter =
                |field: &Field| field.counter && field.slot == column::of_first_gpu(slot);
            if !self.mapping.fields.iter().any(is_counter) {
                continue;
            }
            let Some(value) = sweep.slots.0[slot] else { continue };
            let rows = rows.get(slot).copied().unwrap_or(1);
            let before = self.counted.insert(slot, (sweep.at, value, rows));
            sweep.slots.0[slot] = before.and_then(|(at, before, rows_before)| {
                let nanos = i128::from(sweep.at) - i128::from(at);
                let rise = i128::from(value) - i128::from(before);
                // A counter that falls began again; one with more or fewer rows is another sum.
                let is_sound = nanos > 0 && rise >= 0 && rows == rows_before;
                is_sound.then(|| i64::try_from(rise * 1_000_000_000 / nanos).unwrap_or(i64::MAX))
            });
        }
    }
}

impl Sweep {
    fn new(record: Record, gpus: usize) -> Self {
        let Record { at, place } = record;
        Self {
            at,
            place,
            gpus: 0,
            has_machine: false,
            slots: Slots::for_gpus(gpus),
            columns: Vec::new(),
            rows: Vec::new(),
        }
    }

    /// Adds the present record, as the reading of the GPU with that number, or of none.
    fn take(
        &mut self,
        records: &mut Records,
        line: u64,
        gpu: Option<usize>,
        defects: &mut Defects,
    ) -> Result<(), TraceError> {
        self.gpus |= gpu.map_or(0, |gpu| 1 << gpu);
        let gpu = gpu.unwrap_or(0);
        records.fill(line, defects, |field, value, column| {
            let first = column::gpu_slot(0);
            let slot = match field.slot {
                slot if slot < first => slot,
                slot => slot + column::gpu_slot(gpu) - first,
            };
            let known = self.slots.0.get(slot).copied().flatten();
            self.slots.set(
                slot,
                match (field.rows, known) {
                    (Combine::Last, _) | (_, None) => value,
                    (Combine::Sum | Combine::Mean, Some(known)) => known.saturating_add(value),
                    (Combine::Max, Some(known)) => known.max(value),
                },
            );
            if self.columns.len() <= slot {
                self.columns.resize(slot + 1, 1);
                self.rows.resize(slot + 1, 0);
            }
            self.columns[slot] = column;
            self.rows[slot] += 1;
        })
    }

    fn take_means(&mut self, mapping: &Mapping) {
        for field in mapping.fields.iter().filter(|field| field.rows == Combine::Mean) {
            for (slot, rows) in self.rows.iter_mut().enumerate() {
                if column::of_first_gpu(slot) == field.slot
                    && *rows > 1
                    && let Some(sum) = &mut self.slots.0[slot]
                {
                    *sum /= *rows;
                    *rows = 1;
                }
            }
        }
    }
}

/// The most moments that are held for sorting. Chosen: ten days at one per second, some 400 bytes each.
const MOST_MOMENTS: usize = 1_000_000;
