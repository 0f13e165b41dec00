//! The moments of a run that a page draws: each is one sample, or several in a long run.

use tiershift_core::decision::{Action, Decision, Gate, GateName, Reason};
use tiershift_core::sample::{Rate, Resource, ResourceKey, Sample, Space};
use tiershift_core::settings::Settings;
use tiershift_core::time::Timestamp;
use tiershift_core::units::{Bytes, Percent};

/// The moments of a run, in order of time and in bounded memory.
#[derive(Clone, Debug)]
pub(super) struct Moments {
    pub(super) list: Vec<Moment>,
    /// How many samples each stands for; the last may contain fewer.
    pub(super) readings_each: usize,
    readings_in_last: usize,
}

/// What was read, decided and served from one moment to the next.
#[derive(Clone, Debug, Default)]
pub(super) struct Moment {
    /// Of the first sample.
    pub(super) at: Timestamp,
    pub(super) memory: SpaceCell,
    pub(super) cpu: RateCell,
    pub(super) pressure: RateCell,
    /// In the machine's order.
    pub(super) gpus: Vec<GpuCell>,
    pub(super) requests: RequestCell,
    /// The decision: the last change or, without a change, the last hold.
    pub(super) decided: Option<Decided>,
    /// In order of their names.
    pub(super) gates: Vec<GateCell>,
}

/// A space. Empty if it was not read.
#[derive(Clone, Debug, Default)]
pub(super) struct SpaceCell {
    pub(super) others: Extent,
    pub(super) used: Extent,
    /// The use after upgrades, as projected.
    pub(super) projected: Extent,
    pub(super) total: Bytes,
    /// If it constrains decisions.
    pub(super) lines: Option<SpaceLines>,
}

/// The lines of a space.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SpaceLines {
    pub(super) degrade: Bytes,
    pub(super) preventive: Bytes,
    pub(super) upgrade: Bytes,
}

/// A rate. Nothing is counted if it was not read.
#[derive(Clone, Debug, Default)]
pub(super) struct RateCell {
    others: u64,
    used: u64,
    most: u64,
    count: u64,
    /// Degrade and upgrade, if it constrains decisions.
    pub(super) lines: Option<(Percent, Percent)>,
}

#[derive(Clone, Debug, Default)]
pub(super) struct GpuCell {
    pub(super) vram: SpaceCell,
    pub(super) utilization: RateCell,
}

/// Requests, and the outcomes of those that ended.
#[derive(Clone, Debug, Default)]
pub(super) struct RequestCell {
    /// The most at once.
    pub(super) running: u64,
    pub(super) waiting: u64,
    pub(super) refused: u64,
    pub(super) failed: u64,
    /// In milliseconds, of completed requests.
    pub(super) latency: Extent,
}

/// A decision, without its gates.
#[derive(Clone, Copy, Debug)]
pub(super) struct Decided {
    pub(super) action: Action,
    pub(super) reason: Reason,
    pub(super) on: tiershift_core::catalog::Rung,
}

/// The rungs for which a gate was evaluated, and those for which it was closed at some time, one bit per rung; bit zero
/// is a gate of every upgrade.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct GateCell {
    pub(super) name: GateName,
    pub(super) asked: u64,
    pub(super) closed: u64,
}

/// The smallest and the largest value; empty while the smallest is the larger.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Extent {
    min: u64,
    max: u64,
}

impl Default for Moments {
    fn default() -> Self {
        Self { list: Vec::new(), readings_each: 1, readings_in_last: 0 }
    }
}

impl Moments {
    /// Begins a moment, or continues the last one if that stands for several samples.
    pub(super) fn reading(&mut self, now: Timestamp) {
        if !self.list.is_empty() && self.readings_in_last < self.readings_each {
            self.readings_in_last += 1;
            return;
        }
        let (most, factor) = match self.readings_each {
            1 => (MOST_SINGLE, FIRST_FACTOR),
            _ => (MOST_JOINED, 2),
        };
        if self.list.len() >= most {
            self.join(factor);
        }
        self.list.push(Moment { at: now, ..Moment::default() });
        self.readings_in_last = 1;
    }

    /// Returns the present moment; events before the first sample belong to one at the beginning.
    pub(super) fn last(&mut self) -> &mut Moment {
        if self.list.is_empty() {
            self.list.push(Moment::default());
        }
        self.list.last_mut().expect("there is one now")
    }

    fn join(&mut self, factor: usize) {
        let mut joined: Vec<Moment> = Vec::with_capacity(self.list.len() / factor + 1);
        for (place, moment) in self.list.drain(..).enumerate() {
            match joined.last_mut() {
                Some(last) if place % factor != 0 => last.join(moment),
                _ => joined.push(moment),
            }
        }
        self.list = joined;
        self.readings_each *= factor;
    }
}

impl Moment {
    pub(super) fn read(&mut self, sample: &Sample, settings: &Settings) {
        self.memory.add(sample.memory.as_ref(), Resource::Memory, settings);
        self.cpu.add(sample.cpu.as_ref(), Resource::Cpu, settings);
        let pressure = sample.pressure.map(|pressure| pressure.memory_some);
        let pressure = pressure.map(|others| Rate { others, ..Rate::default() });
        self.pressure.add(pressure.as_ref(), Resource::Pressure, settings);
        if self.gpus.len() < sample.gpus.len() {
            self.gpus.resize_with(sample.gpus.len(), GpuCell::default);
        }
        for (cell, gpu) in self.gpus.iter_mut().zip(&sample.gpus) {
            cell.vram.add(gpu.vram.as_ref(), Resource::Vram, settings);
            cell.utilization.add(gpu.utilization.as_ref(), Resource::Gpu, settings);
        }
    }

    pub(super) fn decide(&mut self, decision: &Decision) {
        let &Decision { action, reason, rung: on, .. } = decision;
        if let Reason::Room { resource, gpu, projected, .. }
        | Reason::WouldNotFit { resource, gpu, projected, .. } = reason
            && let Some(space) = self.space_mut(ResourceKey { resource, gpu })
        {
            space.projected.add(projected.get());
        }
        self.add_decided(Decided { action, reason, on });
        for gate in &decision.gates {
            self.add_gate(gate);
        }
    }

    fn add_gate(&mut self, gate: &Gate) {
        let bit = 1 << gate.rung.map_or(0, |rung| rung.0);
        let closed = if gate.open { 0 } else { bit };
        self.add_gate_cell(GateCell { name: gate.name, asked: bit, closed });
    }

    fn add_gate_cell(&mut self, cell: GateCell) {
        match self.gates.binary_search_by_key(&cell.name, |known| known.name) {
            Ok(place) => {
                self.gates[place].asked |= cell.asked;
                self.gates[place].closed |= cell.closed;
            }
            Err(place) => self.gates.insert(place, cell),
        }
    }

    fn add_decided(&mut self, later: Decided) {
        let is_change = |decided: &Decided| decided.action != Action::Hold;
        if is_change(&later) || !self.decided.as_ref().is_some_and(is_change) {
            self.decided = Some(later);
        }
    }

    fn space_mut(&mut self, key: ResourceKey) -> Option<&mut SpaceCell> {
        match key.resource {
            Resource::Memory => Some(&mut self.memory),
            // A log of version 1 does not state which.
            Resource::Vram => self.gpus.get_mut(usize::from(key.gpu?)).map(|gpu| &mut gpu.vram),
            Resource::Cpu | Resource::Gpu | Resource::Pressure => None,
        }
    }

    fn join(&mut self, later: Self) {
        self.memory.join(&later.memory);
        self.cpu.join(&later.cpu);
        self.pressure.join(&later.pressure);
        if self.gpus.len() < later.gpus.len() {
            self.gpus.resize_with(later.gpus.len(), GpuCell::default);
        }
        for (gpu, later) in self.gpus.iter_mut().zip(&later.gpus) {
            gpu.vram.join(&later.vram);
            gpu.utilization.join(&later.utilization);
        }
        self.requests.join(&later.requests);
        if let Some(decided) = later.decided {
            self.add_decided(decided);
        }
        for gate in later.gates {
            self.add_gate_cell(gate);
        }
    }
}

impl SpaceCell {
    fn add(&mut self, space: Option<&Space>, resource: Resource, settings: &Settings) {
        let Some(space) = space else { return };
        self.others.add(space.others.get());
        self.used.add(space.used().get());
        self.total = space.total;
        self.lines = settings.constrains(resource).then(|| SpaceLines {
            degrade: settings.degrade_limit(space.total),
            preventive: space.total.share(settings.preventive_line),
            upgrade: space.total.share(settings.upgrade_line),
        });
    }

    fn join(&mut self, later: &Self) {
        self.others.join(later.others);
        self.used.join(later.used);
        self.projected.join(later.projected);
        if later.used.get().is_some() {
            self.total = later.total;
            self.lines = later.lines;
        }
    }
}

impl RateCell {
    fn add(&mut self, rate: Option<&Rate>, resource: Resource, settings: &Settings) {
        let Some(rate) = rate else { return };
        let used = u64::from(rate.used().milli());
        self.others += u64::from(rate.others.milli());
        self.used += used;
        self.most = self.most.max(used);
        self.count += 1;
        let lines = match resource {
            Resource::Pressure => (settings.pressure_degrade_line, settings.pressure_upgrade_line),
            _ => (settings.degrade_line, settings.upgrade_line),
        };
        self.lines = settings.constrains(resource).then_some(lines);
    }

    fn join(&mut self, later: &Self) {
        self.others += later.others;
        self.used += later.used;
        self.most = self.most.max(later.most);
        self.count += later.count;
        if later.count > 0 {
            self.lines = later.lines;
        }
    }

    /// Returns the means of others' use and of all use in thousandths of a percent, and the most.
    pub(super) fn figures(&self) -> Option<[u64; 3]> {
        let mean = |sum: u64| sum.checked_div(self.count);
        Some([mean(self.others)?, mean(self.used)?, self.most])
    }
}

impl RequestCell {
    pub(super) fn count(&mut self, [running, waiting]: [u64; 2]) {
        self.running = self.running.max(running);
        self.waiting = self.waiting.max(waiting);
    }

    fn join(&mut self, later: &Self) {
        self.count([later.running, later.waiting]);
        self.refused += later.refused;
        self.failed += later.failed;
        self.latency.join(later.latency);
    }
}

impl Default for Extent {
    fn default() -> Self {
        Self { min: u64::MAX, max: 0 }
    }
}

impl Extent {
    pub(super) fn add(&mut self, value: u64) {
        self.join(Self { min: value, max: value });
    }

    fn join(&mut self, other: Self) {
        self.min = self.min.min(other.min);
        self.max = self.max.max(other.max);
    }

    /// Returns the smallest and the largest value.
    pub(super) fn get(self) -> Option<(u64, u64)> {
        (self.min <= self.max).then_some((self.min, self.max))
    }
}

/// A day of readings every two seconds has 43,200, and is shown whole.
const MOST_SINGLE: usize = 50_000;
/// Each joined moment has a smallest and a largest value. Chosen: ten per pixel of a wide screen, so that it can be
/// enlarged.
const MOST_JOINED: usize = 20_000;
const FIRST_FACTOR: usize = 5;

#[cfg(test)]
mod tests {
    use tiershift_core::catalog::Rung;
    use tiershift_core::machine::MachineClass;
    use tiershift_core::settings::RawSettings;

    use super::*;

    fn settings() -> Settings {
        Settings::new(RawSettings::default(), MachineClass::MidRange).unwrap()
    }

    fn sample(others: u64) -> Sample {
        let space =
            Space { total: Bytes::from_gib(16), others: Bytes::new(others), own: Bytes::ZERO };
        Sample { memory: Some(space), ..Sample::default() }
    }

    #[test]
    fn a_day_is_kept_reading_by_reading() {
        let (mut moments, settings) = (Moments::default(), settings());
        for reading in 0..43_200 {
            moments.reading(Timestamp::from_secs(reading * 2));
            moments.last().read(&sample(reading), &settings);
        }
        assert_eq!((moments.list.len(), moments.readings_each), (43_200, 1));
        let at = |place: usize| (moments.list[place].at, moments.list[place].memory.others.get());
        assert_eq!(at(40_000), (Timestamp::from_secs(80_000), Some((40_000, 40_000))));
    }

    #[test]
    fn a_month_keeps_its_peaks_its_changes_and_what_was_closed() {
        let (mut moments, settings) = (Moments::default(), settings());
        let hold = Decision::new(Rung(1), Action::Hold, Reason::AtTop);
        for reading in 0..1_300_000u64 {
            moments.reading(Timestamp::from_secs(reading * 2));
            let peak = if reading == 700_001 { 1 << 33 } else { 1 << 30 };
            moments.last().read(&sample(peak), &settings);
            let mut decision = hold.clone();
            if reading == 700_001 {
                decision.action = Action::Upgrade { to: Rung(2) };
            }
            let (value, limit) = (
                tiershift_core::decision::Measure::Count(0),
                tiershift_core::decision::Measure::Count(0),
            );
            let (name, rung) = (GateName::Window, Some(Rung(2)));
            decision.gates = vec![Gate { name, rung, open: reading != 700_002, value, limit }];
            moments.last().decide(&decision);
        }
        assert!(moments.list.len() <= MOST_JOINED);
        let of_peak = 700_001 / moments.readings_each;
        let moment = &moments.list[of_peak];
        assert_eq!(moment.memory.others.get(), Some((1 << 30, 1 << 33)));
        assert_eq!(moment.decided.unwrap().action, Action::Upgrade { to: Rung(2) });
        assert_eq!(moment.gates, [GateCell { name: GateName::Window, asked: 4, closed: 4 }]);
        let closed = moments.list.iter().filter(|moment| moment.gates[0].closed != 0).count();
        assert_eq!(closed, 1);
    }
}
