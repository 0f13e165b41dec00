//! The columns of native traces, and the one place where a row's numbers become a sample.
//!
//! Every format is first converted to these columns (integers in the units of their names), so that every check is made
//! once, here, whatever the file was.

use tiershift_core::machine::Machine;
use tiershift_core::sample::{GpuSample, Pressure, Rate, Sample, Space};
use tiershift_core::units::{Bytes, Celsius, Percent};

use crate::trace::TraceError;
use crate::trace::defects::{DefectKind, Defects, Place};

/// What a column counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Quantity {
    Bytes,
    MilliPercent,
    MilliCelsius,
    /// Thousandths of one.
    Milli,
    Count,
}

impl Quantity {
    /// Returns whether a value is possible for this quantity, whatever the column.
    pub(crate) fn may_be(self, value: f64) -> bool {
        match self {
            Self::MilliPercent => (0.0..=HIGHEST_RATE as f64).contains(&value),
            Self::MilliCelsius => (COLDEST as f64..=HOTTEST as f64).contains(&value),
            Self::Bytes | Self::Milli | Self::Count => value >= 0.0,
        }
    }
}

/// The columns that do not belong to a GPU, in writing order; then those that only a mapping may give.
pub(crate) const BASE: [(&str, Quantity); 20] = [
    ("memory_total_bytes", Quantity::Bytes),
    ("memory_others_bytes", Quantity::Bytes),
    ("memory_own_bytes", Quantity::Bytes),
    ("swap_total_bytes", Quantity::Bytes),
    ("swap_others_bytes", Quantity::Bytes),
    ("cpu_others_milli_percent", Quantity::MilliPercent),
    ("cpu_own_milli_percent", Quantity::MilliPercent),
    ("load_milli", Quantity::Milli),
    ("pressure_memory_some_milli_percent", Quantity::MilliPercent),
    ("pressure_memory_full_milli_percent", Quantity::MilliPercent),
    ("pressure_cpu_some_milli_percent", Quantity::MilliPercent),
    ("pressure_io_some_milli_percent", Quantity::MilliPercent),
    ("cpu_temperature_milli_celsius", Quantity::MilliCelsius),
    ("swap_own_bytes", Quantity::Bytes),
    ("cpus", Quantity::Count),
    ("memory_available_bytes", Quantity::Bytes),
    ("memory_used_milli_percent", Quantity::MilliPercent),
    ("swap_available_bytes", Quantity::Bytes),
    ("swap_used_milli_percent", Quantity::MilliPercent),
    ("cpu_idle_milli_percent", Quantity::MilliPercent),
];
/// How many of them a native trace has.
const NATIVE_BASE: usize = 15;

/// The columns of each GPU, after `gpu0_`, `gpu1_` and so on; then those that only a mapping may give.
pub(crate) const GPU: [(&str, Quantity); 8] = [
    ("vram_total_bytes", Quantity::Bytes),
    ("vram_others_bytes", Quantity::Bytes),
    ("vram_own_bytes", Quantity::Bytes),
    ("utilization_others_milli_percent", Quantity::MilliPercent),
    ("utilization_own_milli_percent", Quantity::MilliPercent),
    ("temperature_milli_celsius", Quantity::MilliCelsius),
    ("vram_available_bytes", Quantity::Bytes),
    ("vram_used_milli_percent", Quantity::MilliPercent),
];
const NATIVE_GPU: usize = 6;

/// The columns of a request trace that a mapping may give, in the order of their slots.
pub(crate) const REQUEST: [(&str, Quantity); 2] =
    [("prompt_tokens", Quantity::Count), ("output_tokens", Quantity::Count)];

const MEMORY: usize = 0;
const SWAP: usize = 3;
const CPU: usize = 5;
const LOAD: usize = 7;
const PRESSURE: usize = 8;
const CPU_TEMPERATURE: usize = 12;
const SWAP_OWN: usize = 13;
const CPUS: usize = 14;
const MEMORY_LEFT: usize = 15;
const SWAP_LEFT: usize = 17;
const CPU_IDLE: usize = 19;
const VRAM_LEFT: usize = 6;

/// Returns the slot of the native trace's column with this name.
pub(crate) fn native_slot(name: &str) -> Option<usize> {
    slot(name).map(|(slot, _)| slot).filter(|&slot| match slot.checked_sub(BASE.len()) {
        None => slot < NATIVE_BASE,
        Some(at) => at % GPU.len() < NATIVE_GPU,
    })
}

/// Returns the slot of the column with this name, with its quantity.
pub(crate) fn slot(name: &str) -> Option<(usize, Quantity)> {
    if let Some(at) = BASE.iter().position(|(known, _)| *known == name) {
        return Some((at, BASE[at].1));
    }
    let (gpu, rest) = name.strip_prefix("gpu")?.split_once('_')?;
    let gpu: usize = gpu.parse().ok().filter(|&gpu| gpu < MAX_GPUS)?;
    let at = GPU.iter().position(|(known, _)| *known == rest)?;
    Some((gpu_slot(gpu) + at, GPU[at].1))
}

/// Returns the slot of the request trace's column with this name, with its quantity.
pub(crate) fn request_slot(name: &str) -> Option<(usize, Quantity)> {
    let at = REQUEST.iter().position(|(known, _)| *known == name)?;
    Some((at, REQUEST[at].1))
}

/// Returns the name of a slot's column.
pub(crate) fn name_of(slot: usize) -> String {
    match slot.checked_sub(BASE.len()) {
        None => BASE[slot].0.to_owned(),
        Some(at) => format!("gpu{}_{}", at / GPU.len(), GPU[at % GPU.len()].0),
    }
}

/// Returns the first slot of a GPU.
pub(crate) fn gpu_slot(gpu: usize) -> usize {
    BASE.len() + gpu * GPU.len()
}

/// Returns the corresponding slot of the first GPU.
pub(crate) fn of_first_gpu(slot: usize) -> usize {
    slot.checked_sub(BASE.len()).map_or(slot, |at| BASE.len() + at % GPU.len())
}

/// Returns every column name of a native trace of a machine of `gpus` GPUs.
pub(crate) fn names(gpus: usize) -> Vec<String> {
    let base = BASE[..NATIVE_BASE].iter().map(|(name, _)| (*name).to_owned());
    let gpu = |gpu| GPU[..NATIVE_GPU].iter().map(move |(name, _)| format!("gpu{gpu}_{name}"));
    base.chain((0..gpus).flat_map(gpu)).collect()
}

/// Returns every column name that a mapping may give for the first GPU's machine.
pub(crate) fn mapping_names() -> Vec<String> {
    let base = BASE.iter().map(|(name, _)| (*name).to_owned());
    base.chain(GPU.iter().map(|(name, _)| format!("gpu0_{name}"))).collect()
}

/// One row's numbers, by slot.
#[derive(Clone, Debug, Default)]
pub(crate) struct Slots(pub Vec<Option<i64>>);

impl Slots {
    pub(super) fn for_gpus(gpus: usize) -> Self {
        Self(vec![None; gpu_slot(gpus)])
    }

    #[inline]
    pub(super) fn clear(&mut self) {
        self.0.fill(None);
    }

    /// Sets a slot, making room for its GPU.
    pub(super) fn set(&mut self, slot: usize, value: i64) {
        if slot >= self.0.len() {
            let gpus = (slot - BASE.len()) / GPU.len() + 1;
            self.0.resize(gpu_slot(gpus), None);
        }
        self.0[slot] = Some(value);
    }

    pub(super) fn gpus(&self) -> usize {
        (self.0.len() - BASE.len()) / GPU.len()
    }
}

/// Turns rows into samples and collects what they show about the machine.
#[derive(Clone, Debug)]
pub(crate) struct Assembler {
    /// The totals from the options, for files that give a use without its total.
    pub given: Machine,
    /// The totals of what the file gives the use of; grows with the rows.
    pub machine: Machine,
    /// Whether memory use was seen without a total; the same for each GPU's video memory, by its bit.
    pub memory_without_total: bool,
    pub vram_without_total: u64,
    /// Whether memory was given without any use of it.
    pub memory_without_use: bool,
    /// Whether every total of the machine is known.
    settled: bool,
}

impl Assembler {
    pub(super) fn new(given: Option<Machine>) -> Self {
        let given = given.unwrap_or_default();
        Self {
            // A total alone is not a resource: models that were placed there would never be loaded.
            machine: Machine { memory: Bytes::ZERO, gpus: Vec::new(), ..given.clone() },
            given,
            memory_without_total: false,
            vram_without_total: 0,
            memory_without_use: false,
            settled: false,
        }
    }

    /// Turns a row into a sample. `column_of` finds the byte of a slot's cell, for a defect's position. Returns whether
    /// the row had any value.
    #[inline]
    pub(super) fn assemble(
        &mut self,
        slots: &Slots,
        line: u64,
        column_of: impl Fn(usize) -> u64,
        defects: &mut Defects,
        sample: &mut Sample,
    ) -> Result<bool, TraceError> {
        let mut row = Row { slots: &slots.0, line, column_of, defects };
        if let Some(cpus) = row.get(CPUS) {
            self.machine.cpus = u32::try_from(cpus).unwrap_or_default();
        }
        // A row without a total refers to the known one.
        let known = |total: Bytes, given: Bytes| if total == Bytes::ZERO { given } else { total };
        let total = known(self.machine.memory, self.given.memory);
        sample.memory = row.space(MEMORY, MEMORY + 2, MEMORY_LEFT, total, "memory")?;
        self.memory_without_total |=
            sample.memory.is_none() && row.lacks_total(MEMORY, MEMORY_LEFT);
        self.memory_without_use |= sample.memory.is_none() && row.lacks_use(MEMORY, MEMORY_LEFT);
        sample.swap = row.space(SWAP, SWAP_OWN, SWAP_LEFT, self.machine.swap, "swap")?;
        sample.cpu = row.rate(CPU, Some(CPU_IDLE), "processor use")?;
        sample.load_milli = match row.get(LOAD) {
            Some(load) => row.within(LOAD, load, 0, i64::from(u32::MAX), "load")?,
            None => None,
        }
        .and_then(|load| u32::try_from(load).ok());
        sample.pressure = row.pressure()?;
        sample.cpu_temperature = row.celsius(CPU_TEMPERATURE)?;
        let gpus = slots.gpus();
        sample.gpus.resize(gpus, GpuSample::default());
        for (gpu, reading) in sample.gpus.iter_mut().enumerate() {
            let first = gpu_slot(gpu);
            let of = |machine: &Machine| machine.gpus.get(gpu).copied().unwrap_or_default();
            let total = known(of(&self.machine), of(&self.given));
            reading.vram = row.space(first, first + 2, first + VRAM_LEFT, total, "video memory")?;
            if reading.vram.is_none() && row.lacks_total(first, first + VRAM_LEFT) {
                self.vram_without_total |= 1 << gpu;
            }
            reading.utilization = row.rate(first + 3, None, "GPU use")?;
            reading.temperature = row.celsius(first + 5)?;
        }
        Ok(sample.memory.is_some()
            || sample.swap.is_some()
            || sample.cpu.is_some()
            || sample.load_milli.is_some()
            || sample.pressure.is_some()
            || sample.cpu_temperature.is_some()
            || sample.gpus.iter().any(|gpu| *gpu != GpuSample::default()))
    }

    /// Learns the machine's totals from a sample.
    #[inline]
    pub(super) fn learn(&mut self, sample: &Sample) {
        if !self.settled || sample.gpus.len() > self.machine.gpus.len() {
            self.learn_totals(sample);
        }
    }

    fn learn_totals(&mut self, sample: &Sample) {
        // The file takes precedence over the options, and its earlier values over its later ones.
        let known = |space: Option<Space>, so_far: Bytes, given: Bytes| match space {
            Some(space) if so_far == Bytes::ZERO || so_far == given => space.total,
            _ => so_far,
        };
        self.machine.memory = known(sample.memory, self.machine.memory, self.given.memory);
        self.machine.swap = known(sample.swap, self.machine.swap, self.given.swap);
        for (gpu, reading) in sample.gpus.iter().enumerate() {
            if self.machine.gpus.len() <= gpu {
                self.machine.gpus.push(Bytes::ZERO);
            }
            let given = self.given.gpus.get(gpu).copied().unwrap_or_default();
            self.machine.gpus[gpu] = known(reading.vram, self.machine.gpus[gpu], given);
        }
        let Machine { memory, swap, gpus, .. } = &self.machine;
        self.settled = !gpus.iter().chain([memory, swap]).any(|total| *total == Bytes::ZERO);
    }
}

/// A row while it is being checked.
struct Row<'a, F> {
    slots: &'a [Option<i64>],
    line: u64,
    column_of: F,
    defects: &'a mut Defects,
}

impl<F: Fn(usize) -> u64> Row<'_, F> {
    #[inline]
    fn get(&self, slot: usize) -> Option<i64> {
        self.slots[slot]
    }

    fn lacks_use(&self, first: usize, left: usize) -> bool {
        let uses = [first + 1, left, left + 1];
        self.get(first).is_some() && uses.iter().all(|&slot| self.get(slot).is_none())
    }

    fn lacks_total(&self, first: usize, left: usize) -> bool {
        let uses = [first + 1, left, left + 1];
        self.get(first).is_none() && uses.iter().any(|&slot| self.get(slot).is_some())
    }

    #[cold]
    fn note(
        &mut self,
        slot: usize,
        kind: DefectKind,
        reason: impl FnOnce() -> String,
    ) -> Result<(), TraceError> {
        let place = Place { line: self.line, column: (self.column_of)(slot) };
        self.defects.note(kind, place, reason)
    }

    #[inline]
    fn within(
        &mut self,
        slot: usize,
        value: i64,
        least: i64,
        most: i64,
        what: &str,
    ) -> Result<Option<i64>, TraceError> {
        if (least..=most).contains(&value) {
            return Ok(Some(value));
        }
        self.note(slot, DefectKind::ImpossibleValue, || match most {
            i64::MAX => format!("{what} cannot be {value}: it is at least {least}"),
            _ => format!("{what} cannot be {value}: it lies between {least} and {most}"),
        })?;
        Ok(None)
    }

    /// Reads a resource that is filled: total, others' use and own use. From `left` on are the other ways to state the
    /// use: what is left, and the share that is used.
    #[inline]
    fn space(
        &mut self,
        first: usize,
        own: usize,
        left: usize,
        told: Bytes,
        what: &str,
    ) -> Result<Option<Space>, TraceError> {
        let bytes = |value: i64| Bytes::new(value.unsigned_abs());
        // True of every sound row: checked before anything else.
        if let (Some(total), Some(others)) = (self.get(first), self.get(first + 1)) {
            let own = self.get(own).unwrap_or(0);
            if total > 0 && others >= 0 && own >= 0 && others.saturating_add(own) <= total {
                let (total, others, own) = (bytes(total), bytes(others), bytes(own));
                return Ok(Some(Space { total, others, own }));
            }
        }
        self.weigh_space(first, own, left, told, what)
    }

    #[inline(never)]
    fn weigh_space(
        &mut self,
        first: usize,
        own: usize,
        left: usize,
        told: Bytes,
        what: &str,
    ) -> Result<Option<Space>, TraceError> {
        let uses = [first + 1, left, left + 1];
        let Some(use_slot) = uses.into_iter().find(|&slot| self.get(slot).is_some()) else {
            return Ok(None);
        };
        let total = match self.get(first) {
            Some(total) => {
                // No swap is ordinary; no memory is not.
                let least = i64::from(first != SWAP);
                self.within(first, total, least, i64::MAX, what)?
            }
            None => {
                let told = i64::try_from(told.get()).ok().filter(|&told| told > 0);
                // What is used and what is left make up the total.
                let parts = self.get(first + 1).zip(self.get(left));
                told.or_else(|| parts.and_then(|(used, left)| used.checked_add(left)))
                    .filter(|&total| total > 0)
            }
        };
        let own = match self.get(own) {
            Some(value) => self.within(own, value, 0, i64::MAX, what)?,
            None => None,
        };
        let value = self.get(use_slot).unwrap_or_default();
        let most = if use_slot == left + 1 { HIGHEST_RATE } else { i64::MAX };
        let Some(value) = self.within(use_slot, value, 0, most, what)? else { return Ok(None) };
        let Some(total) = total else { return Ok(None) };
        let others = if use_slot == first + 1 {
            value
        } else if use_slot == left {
            if value > total {
                self.note(use_slot, DefectKind::ImpossibleValue, || {
                    format!("more of {what} is left ({value} bytes) than there is ({total})")
                })?;
                return Ok(None);
            }
            total - value
        } else {
            let share = i128::from(total) * i128::from(value.min(ALL)) / i128::from(ALL);
            i64::try_from(share).unwrap_or(total)
        };
        let bytes = |value: i64| Bytes::new(value.unsigned_abs());
        let space =
            Space { total: bytes(total), others: bytes(others), own: bytes(own.unwrap_or(0)) };
        if space.used() > space.total {
            self.note(use_slot, DefectKind::OverTotal, || {
                format!("{} of {what} are in use, but there are only {}", space.used(), space.total)
            })?;
        }
        Ok(Some(space))
    }

    /// Reads a resource that is consumed: others' use and own use. `idle` is the slot of what is left of it.
    #[inline]
    fn rate(
        &mut self,
        first: usize,
        idle: Option<usize>,
        what: &str,
    ) -> Result<Option<Rate>, TraceError> {
        let idle = idle.and_then(|slot| self.get(slot)).map(|idle| ALL - idle);
        let (others, own) = (self.get(first).or(idle), self.get(first + 1));
        let Some(reading) = others.or(own) else { return Ok(None) };
        let (others, own) =
            if others.is_some() { (reading, own.unwrap_or(0)) } else { (0, reading) };
        let used = others.saturating_add(own);
        if others >= 0 && own >= 0 && used <= HIGHEST_RATE {
            return Ok(Some(Rate { others: milli(others), own: milli(own) }));
        }
        self.weigh_rate(first, others, own, what)
    }

    /// The busiest readings matter most: a rate above the maximum counts as the maximum.
    #[cold]
    fn weigh_rate(
        &mut self,
        first: usize,
        others: i64,
        own: i64,
        what: &str,
    ) -> Result<Option<Rate>, TraceError> {
        let used = others.saturating_add(own);
        if others < 0 || own < 0 || used > UNBELIEVABLE_RATE {
            self.note(first, DefectKind::ImpossibleValue, || {
                format!("{what} cannot be {} %", used as f64 / 1000.0)
            })?;
            return Ok(None);
        }
        self.note(first, DefectKind::AboveAll, || format!("{what} of {} %", used as f64 / 1000.0))?;
        let own = own.min(ALL);
        Ok(Some(Rate { others: milli(others.min(ALL - own)), own: milli(own) }))
    }

    #[inline]
    fn pressure(&mut self) -> Result<Option<Pressure>, TraceError> {
        let mut seen = [None; 4];
        for (at, value) in seen.iter_mut().enumerate() {
            let slot = PRESSURE + at;
            if let Some(reading) = self.get(slot) {
                *value = self.within(
                    slot,
                    reading,
                    0,
                    HIGHEST_RATE,
                    "pressure in thousandths of a percent",
                )?;
                // A part that was given and is impossible is not zero: the sum is unknown.
                if value.is_none() {
                    return Ok(None);
                }
            }
        }
        if seen == [None; 4] {
            return Ok(None);
        }
        let [memory_some, memory_full, cpu_some, io_some] =
            seen.map(|value| milli(value.unwrap_or(0)));
        Ok(Some(Pressure { memory_some, memory_full, cpu_some, io_some }))
    }

    #[inline]
    fn celsius(&mut self, slot: usize) -> Result<Option<Celsius>, TraceError> {
        let Some(value) = self.get(slot) else { return Ok(None) };
        let value =
            self.within(slot, value, COLDEST, HOTTEST, "a temperature in thousandths of a degree")?;
        Ok(value.and_then(|milli| i32::try_from(milli).ok()).map(Celsius::from_milli))
    }
}

fn milli(value: i64) -> Percent {
    Percent::from_milli(u32::try_from(value).unwrap_or(u32::MAX))
}

/// The most GPUs of a trace. Chosen: four times the largest machine sold (DGX, 16).
pub(crate) const MAX_GPUS: usize = 64;
/// A higher rate is impossible. Half a percent is allowed for counters that are read at slightly different times (0.2 %
/// in the pmrep archives).
const HIGHEST_RATE: i64 = 100_500;
/// All of a resource, in thousandths of a percent.
const ALL: i64 = 100_000;
/// Shares of several processors add up to more than one. Chosen: as many as the largest machine sold has threads; a
/// larger number is something else.
const UNBELIEVABLE_RATE: i64 = 1024 * ALL;
/// Chosen: no sensor in a running computer shows less (an unplugged one shows -128 °C), or more.
const COLDEST: i64 = -60_000;
const HOTTEST: i64 = 250_000;
