//! Watches the invariants of DESIGN from outside: it sees only what passes between controller and world.
//!
//! The manager checks before it commands; this checks again after, from its own book-keeping. A violation is a
//! defect of tiershift or of its policy, never of the scenario. The rules about *good* decisions hold for a policy that
//! promises them; the baselines promise nothing.

use std::collections::BTreeMap;
use std::time::Duration;

use tiershift_core::catalog::{Catalog, Rung};
use tiershift_core::decision::{Action, Decision, Reason};
use tiershift_core::event::{Adopted, Command, EventRef, Input, Observe, Outcome, Output};
use tiershift_core::model::{Footprint, Model, ModelId};
use tiershift_core::policy::Promises;
use tiershift_core::request::{End, RequestId};
use tiershift_core::sample::{Resource, Space};
use tiershift_core::settings::Settings;
use tiershift_core::time::Timestamp;
use tiershift_core::units::{Bytes, Percent};

use crate::sim::recovery::Recovery;

/// The checker.
pub(super) struct Checker {
    settings: Settings,
    catalog: Catalog,
    promises: Promises,
    now: Timestamp,
    /// The moment of the inputs before those of now.
    before: Timestamp,
    sample: Option<Reading>,
    models: BTreeMap<ModelId, Seen>,
    requests: BTreeMap<RequestId, Standing>,
    /// When the last switch was complete, and whether it went up.
    last_change: Option<(Timestamp, bool)>,
    changes: u64,
    /// Since when, and for how many samples, space has been over its limit without anything being done.
    over: Option<(Timestamp, u32)>,
    recovery: Recovery,
    stopping: bool,
    violations: Vec<String>,
    uncounted: u64,
}

/// What the checker keeps of the last sample: copied for every sample of every run, and so no more than it looks at.
#[derive(Clone, Debug, Default)]
struct Reading {
    at: Timestamp,
    memory: Option<Space>,
    /// One for each GPU.
    vram: Vec<Option<Space>>,
    /// Whether GPUs use main memory.
    shared: Vec<bool>,
    /// Others' use of the processors.
    cpu: Option<Percent>,
}

impl Reading {
    /// Returns whether what is on a GPU is in main memory, too.
    fn is_shared(&self, gpu: Option<u8>) -> bool {
        gpu.and_then(|gpu| self.shared.get(usize::from(gpu))).copied().unwrap_or(false)
    }

    /// Returns what a model that holds `most` can hold at most, by what is read as ours where it is.
    fn bound(&self, most: Footprint, gpu: Option<u8>) -> Footprint {
        let read = |space: Option<Space>| space.map_or(Bytes::MAX, |space| space.own);
        let vram = gpu.and_then(|gpu| self.vram.get(usize::from(gpu)).copied().flatten());
        Footprint { ram: most.ram.min(read(self.memory)), vram: most.vram.min(read(vram)) }
    }

    /// Returns whether a constrained space that holds something of ours is as `test` says. Asked for every sample.
    fn any_of_ours(&self, settings: &Settings, test: impl Fn(&Space) -> bool) -> bool {
        let is_so = |space: &Space| space.own > Bytes::ZERO && test(space);
        (settings.constrains(Resource::Memory) && self.memory.as_ref().is_some_and(is_so))
            || (settings.constrains(Resource::Vram) && self.vram.iter().flatten().any(is_so))
    }
}

/// What the checker knows of a model.
#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    state: State,
    gpu: Option<u8>,
    running: u32,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Absent,
    Loading,
    Ready,
    Unloading,
}

/// What the checker knows of a request that has not ended.
#[derive(Clone, Debug)]
struct Standing {
    arrived: Timestamp,
    patience: Duration,
    on: Option<ModelId>,
}

impl Observe for Checker {
    #[inline]
    fn observe(&mut self, now: Timestamp, event: EventRef<'_>) {
        match event {
            EventRef::Input(input) => self.input(now, input),
            EventRef::Output(output) => self.output(now, output),
        }
    }
}

impl Checker {
    pub(super) fn new(settings: &Settings, catalog: &Catalog, promises: Promises) -> Self {
        Self {
            settings: settings.clone(),
            catalog: catalog.clone(),
            promises,
            recovery: Recovery::new(settings, catalog, &promises),
            now: Timestamp::ZERO,
            before: Timestamp::ZERO,
            sample: None,
            models: BTreeMap::new(),
            requests: BTreeMap::new(),
            last_change: None,
            changes: 0,
            over: None,
            stopping: false,
            violations: Vec::new(),
            uncounted: 0,
        }
    }

    fn input(&mut self, now: Timestamp, input: &Input) {
        if now < self.now {
            self.report("S7", format!("time ran back from {} s", self.now.as_secs_f64()));
        }
        if now > self.now {
            self.before = self.now;
        }
        self.now = now;
        match input {
            // What cannot be is no reading.
            Input::Sample(sample) if !sample.is_plausible() => self.recovery.disturb(),
            Input::Sample(sample) => {
                let known = self.sample.get_or_insert_default();
                known.at = now;
                known.memory = sample.memory;
                known.vram.clear();
                known.vram.extend(sample.gpus.iter().map(|gpu| gpu.vram));
                known.shared.clear();
                known.shared.extend(sample.gpus.iter().map(|gpu| gpu.shared));
                known.cpu = sample.cpu.map(|rate| rate.others);
                self.check_relief();
                if let Some((rung, lasted)) = self.recovery.observe(now, sample) {
                    let tier = self.catalog.tier_name(rung);
                    let what =
                        format!("{tier} had room for {} s and was not loaded", lasted.as_secs());
                    self.report("L3", what);
                }
            }
            Input::Request(request) => {
                let patience = request.patience.unwrap_or(self.settings.manager.patience);
                let standing = Standing { arrived: now, patience, on: None };
                if self.requests.insert(request.id, standing).is_some() {
                    self.report("S2", format!("request {} arrived twice", request.id));
                }
            }
            Input::Outcome(outcome) => {
                if let Outcome::LoadFailed { .. } | Outcome::Crashed { .. } = outcome {
                    self.recovery.disturb();
                }
                self.outcome(outcome);
            }
            Input::Adopt { models } => {
                for Adopted { model, gpu } in models {
                    let seen = Seen { state: State::Ready, gpu: *gpu, running: 0 };
                    self.models.insert(model.clone(), seen);
                }
            }
            Input::Shutdown => {
                self.stopping = true;
                self.recovery.serves(self.catalog.top());
            }
            Input::SampleMissing { .. } | Input::Switch { .. } => self.recovery.disturb(),
            // A simulation keeps to its settings.
            Input::Cancel { .. } | Input::Timeout | Input::Advice(_) | Input::Settings(_) => {}
        }
    }

    fn output(&mut self, now: Timestamp, output: &Output) {
        match output {
            Output::Command(command) => self.command(command),
            Output::Decision(decision) => self.decision(decision),
            Output::Ended { request, end } => self.ended(now, *request, end),
            Output::Switched { from, to, .. } => {
                if from != to {
                    self.changes += 1;
                    self.last_change = Some((now, to > from));
                }
            }
            Output::Serving { rung, .. } => self.recovery.serves(*rung),
            Output::Accepted { .. }
            | Output::Order { .. }
            | Output::Consult(_)
            | Output::Notice(_) => {}
        }
    }

    /// Returns what was broken, in order; the first [`MOST_REPORTED`] in full.
    pub(super) fn finish(mut self, end: Timestamp) -> Vec<String> {
        self.now = end;
        let late: Vec<RequestId> = self
            .requests
            .iter()
            .filter(|(_, standing)| {
                standing.on.is_none() && end.since(standing.arrived) > standing.patience
            })
            .map(|(&id, _)| id)
            .collect();
        for id in late {
            self.report(
                "L1",
                format!("request {id} was neither started nor refused within its patience"),
            );
        }
        if self.uncounted > 0 {
            self.violations.push(format!("and {} more", self.uncounted));
        }
        self.violations
    }

    fn command(&mut self, command: &Command) {
        match command {
            Command::Load { model, gpu } => {
                self.recovery.disturb();
                self.check_load(model, *gpu);
                let seen = self.models.entry(model.clone()).or_default();
                *seen = Seen { state: State::Loading, gpu: *gpu, running: 0 };
            }
            Command::Unload { model } => {
                let seen = self.models.entry(model.clone()).or_default();
                let running = seen.running;
                seen.state = State::Unloading;
                self.over = None;
                if running > 0 {
                    self.report(
                        "S6",
                        format!("{model} was unloaded under {running} running requests"),
                    );
                }
            }
            Command::Start { request, model } => {
                let state = self.models.get(model).map_or(State::Absent, |seen| seen.state);
                if state != State::Ready {
                    self.report(
                        "S1",
                        format!("request {request} was started on {model}, which is {state:?}"),
                    );
                }
                self.models.entry(model.clone()).or_default().running += 1;
                match self.requests.get_mut(request) {
                    Some(standing) => standing.on = Some(model.clone()),
                    None => self
                        .report("S2", format!("request {request} was started and had not arrived")),
                }
            }
            Command::Cancel { .. } | Command::Try { .. } => {}
        }
    }

    fn outcome(&mut self, outcome: &Outcome) {
        let (model, state) = match outcome {
            Outcome::Loaded { model } => (model, State::Ready),
            Outcome::LoadFailed { model, .. }
            | Outcome::Unloaded { model }
            | Outcome::Crashed { model, .. } => (model, State::Absent),
            Outcome::Loading { .. }
            | Outcome::Tried(_)
            | Outcome::Done { .. }
            | Outcome::Failed { .. }
            | Outcome::Cancelled { .. } => return,
        };
        if matches!(outcome, Outcome::LoadFailed { .. } | Outcome::Crashed { .. }) {
            self.recovery.breaks();
        }
        let seen = self.models.entry(model.clone()).or_default();
        // A load that completes after its unload was commanded is still on its way out.
        if !(state == State::Ready && seen.state == State::Unloading) {
            seen.state = state;
        }
    }

    fn ended(&mut self, now: Timestamp, request: RequestId, end: &End) {
        let Some(standing) = self.requests.remove(&request) else {
            self.report("S2", format!("request {request} ended again, or never arrived"));
            return;
        };
        if let Some(model) = standing.on {
            let seen = self.models.entry(model).or_default();
            seen.running = seen.running.saturating_sub(1);
        } else if matches!(end, End::Rejected { .. })
            && now.since(standing.arrived) > standing.patience + SLACK
            // A clock that has jumped leaves no earlier moment to refuse it at.
            && self.before.since(standing.arrived) > standing.patience
        {
            self.report("L1", format!("request {request} was refused after its patience was over"));
        }
    }

    /// S3 and S4: what a load would lead to.
    fn check_load(&mut self, model: &ModelId, gpu: Option<u8>) {
        let Some(sample) = &self.sample else { return };
        let Some(wanted) = self.catalog.model(model) else {
            self.report("S4", format!("{model} was loaded and is not in the catalog"));
            return;
        };
        let in_memory = |need: Footprint, gpu: Option<u8>| {
            need.ram + if sample.is_shared(gpu) { need.vram } else { Bytes::ZERO }
        };
        let Footprint { mut vram, .. } = wanted.footprint_to_load();
        let mut ram = in_memory(wanted.footprint_to_load(), gpu);
        let mut loading = false;
        for (id, seen) in &self.models {
            let Some(resident) = self.catalog.model(id).filter(|_| seen.state != State::Absent)
            else {
                continue;
            };
            loading |= seen.state == State::Loading;
            let mut held = resident.footprint();
            if seen.state == State::Unloading {
                // Nobody may ever say that it has gone: it holds no more than is read as ours.
                held = sample.bound(held, seen.gpu);
            }
            ram += in_memory(held, seen.gpu);
            if seen.gpu == gpu {
                vram += held.vram;
            }
        }
        let over = |space: &Space, own: Bytes| space.others + own > space.total;
        let memory_over = sample.memory.is_some_and(|space| over(&space, ram))
            && self.settings.constrains(Resource::Memory);
        let vram_over = gpu
            .and_then(|gpu| *sample.vram.get(usize::from(gpu))?)
            .is_some_and(|space| over(&space, vram) && self.settings.constrains(Resource::Vram));
        if loading && (memory_over || vram_over) {
            self.report(
                "S3",
                format!("{model} was loaded beside another load, and both do not fit"),
            );
        }
        if self.promises.upgrades_fit && (memory_over || vram_over) {
            self.report(
                "S4",
                format!("loading {model} takes the projected use over the machine's memory"),
            );
        }
    }

    /// S5: what an upgrade must not be.
    fn decision(&mut self, decision: &Decision) {
        let Action::Upgrade { to } = decision.action else {
            if let Action::Downgrade { .. } = decision.action {
                self.over = None;
            }
            return;
        };
        if matches!(decision.reason, Reason::Asked) {
            return;
        }
        // From nothing loaded other waits hold, and the climb after the first load belongs to the start.
        let is_between_rungs = decision.rung != Rung::NONE && self.changes > 1;
        if let Some((last, was_up)) = self.last_change.filter(|_| is_between_rungs) {
            let since = self.now.since(last);
            if self.promises.window.is_some_and(|window| since < window) {
                self.report("S5", "an upgrade inside the stabilization window");
            } else if self.promises.no_reversal && !was_up && since < self.settings.reversal_window
            {
                self.report("S5", "an upgrade that takes a downgrade back");
            }
        }
        if !self.promises.upgrades_fit {
            return;
        }
        let Some(sample) = &self.sample else {
            self.report("S5", "an upgrade without a sample".to_owned());
            return;
        };
        if sample.at != self.now {
            self.report("S5", "an upgrade on a sample that is not the latest".to_owned());
            return;
        }
        // A rescue is not an upgrade; between rungs, a space counts where the higher one takes more of it.
        let need =
            |rung| self.catalog.primary(rung).map(Model::footprint_to_load).unwrap_or_default();
        let [from, to] = [decision.rung, to].map(need);
        let line = self.settings.upgrade_line;
        let is_high = |space: &Space| Percent::of(space.used(), space.total) >= line;
        let high = if decision.rung == Rung::NONE {
            None
        } else if to.ram > from.ram
            && self.settings.constrains(Resource::Memory)
            && sample.memory.iter().any(is_high)
        {
            Some("memory")
        } else if to.vram > from.vram
            && self.settings.constrains(Resource::Vram)
            && sample.vram.iter().flatten().any(|space| space.own > Bytes::ZERO && is_high(space))
        {
            Some("video memory")
        } else {
            None
        };
        if let Some(what) = high {
            self.report("S5", format!("an upgrade with {what} above {line}"));
        }
    }

    /// L2: pressure that is ours to relieve leads to a step down.
    fn check_relief(&mut self) {
        let (Some(sample), Some(bound)) = (&self.sample, self.promises.relief_within) else {
            return;
        };
        if self.stopping {
            return;
        }
        let limit = |space: &Space| self.settings.degrade_limit(space.total);
        // Most samples end here, before anything is looked up.
        if !sample.any_of_ours(&self.settings, |space| space.used() > limit(space)) {
            self.over = None;
            return;
        }
        let resident = self.models.values().any(|seen| seen.state == State::Ready);
        let leaving = self.models.values().any(|seen| seen.state == State::Unloading);
        let busy = self.models.values().any(|seen| seen.running > 0);
        if !resident || leaving || busy {
            self.over = None;
            return;
        }
        let (since, samples) = self.over.map_or((self.now, 1), |(since, n)| (since, n + 1));
        self.over = Some((since, samples));
        if samples > RELIEF_SAMPLES && self.now.since(since) > bound {
            self.over = None;
            self.report("L2", format!("space above its limit for {bound:?} and nothing was done"));
        }
    }

    fn report(&mut self, rule: &str, what: impl Into<String>) {
        if self.violations.len() < MOST_REPORTED {
            let what = what.into();
            self.violations.push(format!("{rule} at {} s: {what}", self.now.as_secs_f64()));
        } else {
            self.uncounted += 1;
        }
    }
}

/// Violations that are told in full; one is enough to fail a run, and thousands fill a memory.
const MOST_REPORTED: usize = 20;

/// A deadline is met at the input after it.
const SLACK: Duration = Duration::from_millis(1);

/// Readings over the limit before relief is overdue: one to see it, one in which a switch completes, one to settle.
const RELIEF_SAMPLES: u32 = 4;

#[cfg(test)]
mod tests;
