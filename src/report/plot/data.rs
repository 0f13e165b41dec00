//! What a plot needs of a run, gathered event by event in bounded memory.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tiershift_core::catalog::{Catalog, Rung};
use tiershift_core::decision::{Action, Decision, Reason, Urgency};
use tiershift_core::event::{Command, EventRef, Input, Observe, Outcome, Output};
use tiershift_core::model::ModelId;
use tiershift_core::request::{End, RequestId};
use tiershift_core::sample::{Rate, Resource, Sample, Space};
use tiershift_core::settings::Settings;
use tiershift_core::time::{Rhythm, Timestamp};
use tiershift_core::units::Bytes;

use crate::log::SAMPLE_SPACING;
use crate::report::plot::columns::{Columns, SpanColumns};
use crate::summary::Reversals;

/// Gathers what a plot shows while records go by. Some megabytes at most, however long the run.
#[derive(Clone, Debug)]
pub struct PlotData {
    pub(super) catalog: Catalog,
    pub(super) settings: Settings,
    pub(super) end: Timestamp,
    pub(super) memory: SpaceSeries,
    pub(super) cpu: RateSeries,
    pub(super) pressure: Columns,
    pub(super) gpus: Vec<GpuSeries>,
    /// Times without samples, in order.
    pub(super) gaps: Vec<(Timestamp, Timestamp)>,
    rhythm: Rhythm,
    /// Since when samples were due and did not come.
    missing_since: Option<Timestamp>,
    pub(super) rung: Columns,
    pub(super) phases: Stretches<Phase>,
    pub(super) waits: Stretches<Wait>,
    pub(super) changes: Vec<Change>,
    /// Changes that found no place in `changes`.
    pub(super) unmarked: u64,
    /// Where the last change that is not complete stands in `changes`.
    pending: Option<usize>,
    reversals: Reversals,
    /// Since when a model is loading, draining or unloading.
    busy: BTreeMap<ModelId, (Phase, Timestamp)>,
    /// The models that are ready and not told to unload.
    ready: BTreeSet<ModelId>,
    /// The wait that the last decision told of.
    waiting: Option<(Wait, Timestamp)>,
    pub(super) in_flight: Columns,
    pub(super) queued: Columns,
    /// Whether a request runs; only those that are open.
    open: BTreeMap<RequestId, bool>,
    running: u64,
    pub(super) latency: SpanColumns,
}

/// A space resource over time, in bytes.
#[derive(Clone, Debug, Default)]
pub(super) struct SpaceSeries {
    pub(super) others: Columns,
    pub(super) used: Columns,
    /// The most that there was.
    pub(super) total: Bytes,
    /// What upgrades would have brought it to.
    pub(super) projected: Columns,
}

/// A rate resource over time, in thousandths of a percent.
#[derive(Clone, Debug, Default)]
pub(super) struct RateSeries {
    pub(super) others: Columns,
    pub(super) used: Columns,
}

#[derive(Clone, Debug, Default)]
pub(super) struct GpuSeries {
    pub(super) vram: SpaceSeries,
    pub(super) utilization: RateSeries,
    /// The last reading of its memory.
    last: Space,
}

/// What a model is doing that takes time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Phase {
    Loading,
    Draining,
    Unloading,
}

/// Why an upgrade that fits is put off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Wait {
    Window,
    Backoff,
    Cooldown,
}

/// A change that was decided, or that came about without a decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Change {
    pub(super) at: Timestamp,
    pub(super) from: Rung,
    pub(super) to: Rung,
    /// `None`: no decision stands behind it, as when a model crashed.
    pub(super) reason: Option<Reason>,
    pub(super) urgency: Option<Urgency>,
    /// From the decision to the switch; `None` when it was given up.
    pub(super) took: Option<Duration>,
    /// Whether it undid the change before it within the reversal window.
    pub(super) reversal: bool,
}

impl Observe for PlotData {
    #[inline]
    fn observe(&mut self, now: Timestamp, event: EventRef<'_>) {
        match event {
            EventRef::Input(input) => self.input(now, input),
            EventRef::Output(output) => self.output(now, output),
        }
    }
}

impl PlotData {
    /// Begins at zero with nothing loaded.
    pub fn new(catalog: &Catalog, settings: &Settings) -> Self {
        let mut rung = Columns::default();
        rung.add(Timestamp::ZERO, 0);
        Self {
            catalog: catalog.clone(),
            settings: settings.clone(),
            end: Timestamp::ZERO,
            memory: SpaceSeries::default(),
            cpu: RateSeries::default(),
            pressure: Columns::default(),
            gpus: Vec::new(),
            gaps: Vec::new(),
            rhythm: Rhythm::of_mean(),
            missing_since: None,
            rung,
            phases: Stretches::default(),
            waits: Stretches::default(),
            changes: Vec::new(),
            unmarked: 0,
            pending: None,
            reversals: Reversals::default(),
            busy: BTreeMap::new(),
            ready: BTreeSet::new(),
            waiting: None,
            in_flight: Columns::default(),
            queued: Columns::default(),
            open: BTreeMap::new(),
            running: 0,
            latency: SpanColumns::default(),
        }
    }

    /// Takes in something that the controller was told.
    fn input(&mut self, now: Timestamp, input: &Input) {
        self.end = self.end.max(now);
        match input {
            Input::Sample(sample) => self.sample(now, sample),
            Input::SampleMissing { .. } => {
                self.missing_since = self.missing_since.or(Some(now));
            }
            Input::Outcome(outcome) => self.outcome(now, outcome),
            Input::Adopt { models } => {
                self.ready.extend(models.iter().map(|adopted| adopted.model.clone()));
            }
            Input::Request(_)
            | Input::Cancel { .. }
            | Input::Timeout
            | Input::Settings(_)
            | Input::Switch { .. }
            | Input::Shutdown => {}
        }
    }

    /// Takes in something that the controller answered.
    fn output(&mut self, now: Timestamp, output: &Output) {
        self.end = self.end.max(now);
        match output {
            Output::Decision(decision) => self.decision(now, decision),
            Output::Command(command) => self.command(now, command),
            Output::Accepted { request, .. } => {
                let was = self.open.insert(*request, false);
                self.running -= u64::from(was == Some(true));
                self.count_requests(now);
            }
            Output::Ended { request, end } => {
                if let Some(running) = self.open.remove(request) {
                    self.running -= u64::from(running);
                    self.count_requests(now);
                }
                if let End::Done { latency, .. } = end {
                    self.latency.add(now, *latency);
                }
            }
            Output::Serving { rung } => self.rung.add(now, u64::from(rung.0)),
            Output::Switched { from, to, took } => self.switched(now, *from, *to, *took),
            Output::Notice(_) => {}
        }
    }

    /// Closes what is still open. The run lasted until `end` at least.
    pub fn finish(&mut self, end: Timestamp) {
        self.end = self.end.max(end);
        for (model, (phase, since)) in std::mem::take(&mut self.busy) {
            self.add_phase(phase, &model, since, self.end);
        }
        self.note_wait(self.end, None);
        if !self.in_flight.is_empty() {
            self.count_requests(self.end);
        }
        if let Some(since) = self.missing_since.take() {
            self.gaps.push((since, self.end));
        }
    }

    fn sample(&mut self, now: Timestamp, sample: &Sample) {
        // A thinned out log has a sample a minute, and more of them where decisions change.
        let silence = self.rhythm.gap_before(now, GAP_FACTOR, SAMPLE_SPACING * 2);
        let since = self.missing_since.take().or(silence.map(|silence| now - silence));
        if let Some(since) = since
            && self.gaps.len() < MOST_GAPS
        {
            self.gaps.push((since, now));
        }
        self.memory.add(now, sample.memory.as_ref());
        self.cpu.add(now, sample.cpu.as_ref());
        if let Some(pressure) = &sample.pressure {
            self.pressure.add(now, u64::from(pressure.memory_some.milli()));
        }
        let shown = sample.gpus.len().min(MOST_GPUS);
        if self.gpus.len() < shown {
            self.gpus.resize(shown, GpuSeries::default());
        }
        for (series, gpu) in self.gpus.iter_mut().zip(&sample.gpus) {
            series.vram.add(now, gpu.vram.as_ref());
            series.last = gpu.vram.unwrap_or(series.last);
            series.utilization.add(now, gpu.utilization.as_ref());
        }
    }

    fn decision(&mut self, now: Timestamp, decision: &Decision) {
        match decision.reason {
            Reason::Room { resource, projected, limit, .. }
            | Reason::WouldNotFit { resource, projected, limit, .. } => {
                let series = match resource {
                    Resource::Vram => self.gpu_of(limit).map(|gpu| &mut gpu.vram),
                    Resource::Memory => Some(&mut self.memory),
                    Resource::Cpu | Resource::Gpu | Resource::Pressure => None,
                };
                if let Some(series) = series {
                    series.projected.add(now, projected.get());
                }
            }
            _ => {}
        }
        let wait = match decision.reason {
            Reason::Window { .. } => Some(Wait::Window),
            Reason::Backoff { .. } => Some(Wait::Backoff),
            Reason::Cooldown { .. } => Some(Wait::Cooldown),
            _ => None,
        };
        self.note_wait(now, wait);
        let (to, urgency) = match decision.action {
            Action::Hold => return,
            Action::Upgrade { to } => (to, None),
            Action::Downgrade { to, urgency } => (to, Some(urgency)),
        };
        self.note_change(Change {
            at: now,
            from: decision.rung,
            to,
            reason: Some(decision.reason),
            urgency,
            took: None,
            reversal: false,
        });
        self.pending = self.changes.len().checked_sub(1);
        // The model that served drains from now until it is told to unload.
        self.drain(now, decision.rung);
    }

    /// Returns the GPU that a projection speaks of, which names its limit only: of those that could have such a
    /// limit, the one with the most room beside the others' use, as placement takes it.
    fn gpu_of(&mut self, limit: Bytes) -> Option<&mut GpuSeries> {
        let large_enough = self.gpus.iter_mut().filter(|gpu| gpu.last.total >= limit);
        large_enough.max_by_key(|gpu| gpu.last.total - gpu.last.others)
    }

    /// Whatever is ready on this rung has begun to drain.
    fn drain(&mut self, now: Timestamp, rung: Rung) {
        for model in self.ready.iter().filter(|model| self.catalog.rung_of(model) == Some(rung)) {
            self.busy.entry(model.clone()).or_insert((Phase::Draining, now));
        }
    }

    fn note_wait(&mut self, now: Timestamp, wait: Option<Wait>) {
        if self.waiting.map(|(wait, _)| wait) != wait {
            if let Some((wait, since)) = self.waiting.take() {
                self.waits.add(wait, Rung::NONE, since, now);
            }
            self.waiting = wait.map(|wait| (wait, now));
        }
    }

    fn note_change(&mut self, change: Change) {
        if self.changes.len() < MOST_CHANGES {
            self.changes.push(change);
        } else {
            self.unmarked += 1;
        }
    }

    fn switched(&mut self, now: Timestamp, from: Rung, to: Rung, took: Duration) {
        // What serves does not drain, whatever was planned for it.
        let catalog = &self.catalog;
        self.busy.retain(|model, (phase, _)| {
            *phase != Phase::Draining || catalog.rung_of(model) != Some(to)
        });
        let decided = self.pending.take();
        if from == to {
            return;
        }
        let window = self.settings.raw().reversal_window.0;
        let reversal = self.reversals.note(now, from, to, window);
        match decided.and_then(|place| self.changes.get_mut(place)) {
            Some(change) if change.to == to && change.took.is_none() => {
                change.took = Some(took);
                change.reversal = reversal;
            }
            Some(_) | None => self.note_change(Change {
                at: now,
                from,
                to,
                reason: None,
                urgency: None,
                took: Some(took),
                reversal,
            }),
        }
    }

    fn command(&mut self, now: Timestamp, command: &Command) {
        match command {
            Command::Load { model, .. } => {
                // A model that still serves while the next one loads begins to drain when that is ready.
                self.busy.retain(|_, (phase, _)| *phase != Phase::Draining);
                self.enter(now, model, Some(Phase::Loading));
            }
            Command::Unload { model } => {
                self.ready.remove(model);
                self.enter(now, model, Some(Phase::Unloading));
            }
            Command::Start { request, .. } => {
                let was = self.open.insert(*request, true);
                self.running += u64::from(was != Some(true));
                self.count_requests(now);
            }
            Command::Cancel { .. } => {}
        }
    }

    fn outcome(&mut self, now: Timestamp, outcome: &Outcome) {
        match outcome {
            Outcome::Loaded { model } => {
                self.enter(now, model, None);
                let leaving = self.pending.and_then(|place| self.changes.get(place));
                if let Some(from) = leaving.map(|change| change.from) {
                    self.drain(now, from);
                }
                self.ready.insert(model.clone());
            }
            Outcome::LoadFailed { model, .. }
            | Outcome::Unloaded { model }
            | Outcome::Crashed { model, .. } => {
                self.ready.remove(model);
                self.enter(now, model, None);
            }
            Outcome::Done { .. } | Outcome::Failed { .. } | Outcome::Cancelled { .. } => {}
        }
    }

    fn enter(&mut self, now: Timestamp, model: &ModelId, phase: Option<Phase>) {
        let before = match phase {
            Some(phase) => self.busy.insert(model.clone(), (phase, now)),
            None => self.busy.remove(model),
        };
        if let Some((phase, since)) = before {
            self.add_phase(phase, model, since, now);
        }
    }

    fn add_phase(&mut self, phase: Phase, model: &ModelId, since: Timestamp, until: Timestamp) {
        if let Some(rung) = self.catalog.rung_of(model) {
            self.phases.add(phase, rung, since, until);
        }
    }

    fn count_requests(&mut self, now: Timestamp) {
        if self.in_flight.is_empty() {
            self.in_flight.step(Timestamp::ZERO, 0);
            self.queued.step(Timestamp::ZERO, 0);
        }
        self.in_flight.step(now, self.running * REQUEST);
        self.queued.step(now, (self.open.len() as u64 - self.running) * REQUEST);
    }
}

impl SpaceSeries {
    fn add(&mut self, now: Timestamp, space: Option<&Space>) {
        if let Some(space) = space {
            self.others.add(now, space.others.get());
            self.used.add(now, space.used().get());
            self.total = self.total.max(space.total);
        }
    }
}

impl RateSeries {
    fn add(&mut self, now: Timestamp, rate: Option<&Rate>) {
        if let Some(rate) = rate {
            self.others.add(now, u64::from(rate.others.milli()));
            self.used.add(now, u64::from(rate.used().milli()));
        }
    }
}

/// Stretches of time, each of a kind and on a rung, in order of their ends. When there are too many, those of
/// one kind that all but touch become one.
#[derive(Clone, Debug)]
pub(super) struct Stretches<K> {
    pub(super) list: Vec<(K, Rung, Timestamp, Timestamp)>,
}

impl<K> Default for Stretches<K> {
    fn default() -> Self {
        Self { list: Vec::new() }
    }
}

impl<K: Copy + Ord> Stretches<K> {
    fn add(&mut self, kind: K, rung: Rung, from: Timestamp, to: Timestamp) {
        if self.list.len() >= MOST_STRETCHES {
            let mut apart = Duration::from_nanos(to.as_nanos() >> 12);
            while self.list.len() > MOST_STRETCHES / 2 {
                self.coalesce(apart);
                apart *= 2;
            }
        }
        self.list.push((kind, rung, from, to));
    }

    fn coalesce(&mut self, apart: Duration) {
        let mut joined: BTreeMap<(K, Rung), Vec<(Timestamp, Timestamp)>> = BTreeMap::new();
        for (kind, rung, from, to) in self.list.drain(..) {
            let list = joined.entry((kind, rung)).or_default();
            match list.last_mut() {
                Some(last) if from.since(last.1) <= apart => last.1 = last.1.max(to),
                _ => list.push((from, to)),
            }
        }
        for ((kind, rung), list) in joined {
            self.list.extend(list.into_iter().map(|(from, to)| (kind, rung, from, to)));
        }
        self.list.sort_by_key(|&(kind, rung, from, to)| (to, from, kind, rung));
    }
}

/// Requests are counted in thousandths, so that their mean is not rounded to whole ones.
pub(super) const REQUEST: u64 = 1000;
/// Plots show the first GPUs of a machine; more would make a picture that nobody can read.
const MOST_GPUS: usize = 4;
/// A silence of so many usual intervals is shown. Chosen: it is wider than the line between two samples.
const GAP_FACTOR: u64 = 10;
const MOST_GAPS: usize = 512;
/// Marks closer than a pixel cannot be told apart; a month of the worst policy that we know has 3,415.
const MOST_CHANGES: usize = 8192;
const MOST_STRETCHES: usize = 20_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stretches_are_joined_when_there_are_too_many_and_cover_the_same_time() {
        let mut stretches = Stretches::default();
        for second in 0..200_000 {
            let at = Timestamp::from_secs(second * 10);
            stretches.add(
                Phase::Loading,
                Rung((second % 3) as u8),
                at,
                at + Duration::from_secs(5),
            );
        }
        assert!(stretches.list.len() <= MOST_STRETCHES);
        let covered: u64 =
            stretches.list.iter().map(|&(_, _, from, to)| to.since(from).as_nanos() as u64).sum();
        assert!(covered >= 200_000 * 5_000_000_000);
        assert_eq!(stretches.list.iter().map(|stretch| stretch.2).min(), Some(Timestamp::ZERO));
    }
}
