//! What has passed between controller and world, as far as the rules need it.

use std::borrow::Cow;

use tiershift_core::attribution::{Attribution, Holding, Phase};
use tiershift_core::catalog::{Catalog, Rung};
use tiershift_core::decision::{Action, Decision, Reason, Urgency};
use tiershift_core::demand::SLOW_FACTOR;
use tiershift_core::event::{
    Adopted, Command, CompanionNews, Input, Notice, Outcome, Output, Unanswered,
};
use tiershift_core::model::{Footprint, ModelId};
use tiershift_core::place::{Ladder, Resident, is_critical, share_of};
use tiershift_core::policy::Promises;
use tiershift_core::sample::Sample;
use tiershift_core::settings::Settings;
use tiershift_core::time::Timestamp;
use tiershift_core::units::{Bytes, Percent};

/// The book that all rules read.
pub(super) struct Book {
    pub(super) settings: Settings,
    pub(super) catalog: Catalog,
    pub(super) promises: Promises,
    /// The primary models of the rungs.
    pub(super) ladder: Ladder,
    pub(super) now: Timestamp,
    /// The spaces of the last plausible sample; when it was taken, and how many there were.
    pub(super) reading: Sample,
    pub(super) read_at: Option<Timestamp>,
    pub(super) readings: u64,
    /// One for each of the catalog's models, in the catalog's order.
    pub(super) models: Vec<Seen>,
    /// The ladder's model that admits requests, and its rung.
    pub(super) serving: Option<usize>,
    pub(super) rung: Rung,
    /// The model that serves, or the last one that did.
    pub(super) served_last: Option<usize>,
    /// The change that was decided and is not complete.
    pub(super) change: Option<Change>,
    /// When the last switch was complete, and whether it went up.
    pub(super) last_change: Option<(Timestamp, bool)>,
    pub(super) changes: u64,
    pub(super) stopping: bool,
    /// The part of a sample that is ours.
    attribution: Attribution,
}

/// What is known of a model.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Seen {
    pub(super) state: State,
    pub(super) gpu: Option<u8>,
    pub(super) running: u32,
    /// The number of samples before it was loaded.
    pub(super) loaded_after: u64,
    /// When it stopped serving.
    pub(super) left_at: Option<Timestamp>,
    /// Whether its server counts as broken: it is unloaded whatever follows it.
    pub(super) is_broken: bool,
    /// For a companion: whether it admits requests, and whether it was given up.
    pub(super) admits: bool,
    pub(super) given_up: Option<Change>,
    /// How often its unload was requested since the last answer.
    pub(super) asked: u32,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum State {
    #[default]
    Absent,
    Loading,
    Ready,
    Unloading,
}

/// A change that was decided.
#[derive(Clone, Copy, Debug)]
pub(super) struct Change {
    pub(super) to: Rung,
    /// The rung that served when it was decided, or that the change before it began from.
    base: Rung,
    pub(super) urgency: Urgency,
    /// When the first decision since the last complete change was taken.
    pub(super) since: Timestamp,
    /// Since when it has been critical.
    pub(super) critical_since: Option<Timestamp>,
    /// Whether a model broke on the way, so that another may stand in.
    pub(super) is_disturbed: bool,
}

impl Change {
    pub(super) fn is_up(&self) -> bool {
        self.to > self.base
    }
}

impl Book {
    pub(super) fn new(settings: &Settings, catalog: &Catalog, promises: Promises) -> Self {
        Self {
            settings: settings.clone(),
            catalog: catalog.clone(),
            promises,
            ladder: Ladder::new(settings, catalog),
            now: Timestamp::ZERO,
            reading: Sample::default(),
            read_at: None,
            readings: 0,
            models: vec![Seen::default(); catalog.models().len()],
            serving: None,
            rung: Rung::NONE,
            served_last: None,
            change: None,
            last_change: None,
            changes: 0,
            stopping: false,
            attribution: Attribution::new(settings.settle_limit),
        }
    }

    pub(super) fn change_settings(&mut self, settings: Settings) {
        self.ladder = Ladder::new(&settings, &self.catalog);
        self.attribution.set_settle_limit(settings.settle_limit);
        self.settings = settings;
    }

    pub(super) fn index_of(&self, id: &ModelId) -> Option<usize> {
        self.catalog.models().iter().position(|model| model.id == *id)
    }

    pub(super) fn footprint(&self, index: usize) -> Footprint {
        self.catalog.models()[index].footprint()
    }

    pub(super) fn name(&self, index: usize) -> &ModelId {
        &self.catalog.models()[index].id
    }

    /// Returns whether an outcome means that a model came up so slow that it counts as a failed load.
    pub(super) fn is_slow_load(&self, outcome: &Outcome) -> bool {
        let Outcome::Tried(tried) = outcome else { return false };
        let Some(model) = self.catalog.model(&tried.model) else { return false };
        let by_catalog = f64::from(tried.output_tokens) / model.decode_per_second;
        tried.decoded_in.as_secs_f64() >= f64::from(SLOW_FACTOR) * by_catalog
    }

    /// Returns whether there is a sample that may gate a command.
    pub(super) fn is_read(&self) -> bool {
        self.read_at.is_some_and(|at| self.now.since(at) <= self.settings.stale_after)
    }

    /// Returns whether there was one, and it is too old.
    #[inline]
    pub(super) fn is_after_a_gap(&self) -> bool {
        self.read_at.is_some_and(|at| self.now.since(at) > self.settings.stale_after)
    }

    /// Returns whether the server still has to unload a model; it is not waited for without end.
    pub(super) fn is_leaving(&self, index: usize) -> bool {
        let seen = &self.models[index];
        seen.state == State::Unloading && seen.asked <= UNLOADS_WAITED_FOR
    }

    /// Returns whether a model finishes its requests and takes nothing new.
    pub(super) fn is_draining(&self, index: usize) -> bool {
        let seen = &self.models[index];
        let admits = self.serving == Some(index) || seen.admits;
        seen.state == State::Ready && seen.running > 0 && !admits
    }

    /// Returns whether a model is a companion.
    pub(super) fn is_companion(&self, index: usize) -> bool {
        self.catalog.models()[index].companion
    }

    /// Returns the change for which a model would be unloaded.
    pub(super) fn change_of(&self, index: usize) -> Option<Change> {
        if self.is_companion(index) { self.models[index].given_up } else { self.change }
    }

    /// Returns whether a model is loaded, or its unload was requested and samples still show it.
    fn is_there(&self, index: usize) -> bool {
        match self.models[index].state {
            State::Absent => false,
            State::Loading | State::Ready => true,
            State::Unloading if self.models[index].asked > UNLOADS_WAITED_FOR => false,
            State::Unloading => {
                let stays = |seen: &Seen| matches!(seen.state, State::Loading | State::Ready);
                let rest = self.resident(|_, seen| stays(seen));
                let mut mine = Resident::default();
                mine.add(self.footprint(index), self.models[index].gpu);
                self.reading.spaces().any(|(key, space)| {
                    let [mine, rest] = [&mine, &rest].map(|it| it.within(key, &self.reading));
                    mine > Bytes::ZERO && space.own > rest + mine.share(LEFT_OF_WHAT_HAS_GONE)
                })
            }
        }
    }

    /// Returns the last sample as the ladder should see it: what companions may grow to is others' use.
    pub(super) fn ladders_share(&self) -> Cow<'_, Sample> {
        if self.catalog.companions().is_empty() {
            return Cow::Borrowed(&self.reading);
        }
        let (mut ladder, mut companions) = (Resident::default(), Resident::default());
        for (index, seen) in self.models.iter().enumerate().filter(|(it, _)| self.is_there(*it)) {
            let part = if self.is_companion(index) { &mut companions } else { &mut ladder };
            if seen.state == State::Loading && seen.loaded_after == self.readings {
                part.add_unread(self.footprint(index), seen.gpu);
            } else {
                part.add(self.footprint(index), seen.gpu);
            }
        }
        let limit = |total| self.settings.degrade_limit(total);
        Cow::Owned(share_of(&self.reading, &ladder, &companions, limit))
    }

    /// Returns whether a switch waits for the server, or for running requests.
    pub(super) fn is_in_flight(&self) -> bool {
        (0..self.models.len()).any(|index| {
            self.models[index].state == State::Loading
                || self.is_leaving(index)
                || self.is_draining(index)
        })
    }

    /// Returns what is loaded, or was requested and has not gone, of the models that `choose` picks.
    pub(super) fn resident(&self, choose: impl Fn(usize, &Seen) -> bool) -> Resident {
        let mut resident = Resident::default();
        for (index, seen) in self.models.iter().enumerate() {
            if choose(index, seen) {
                resident.add(self.footprint(index), seen.gpu);
            }
        }
        resident
    }

    /// Takes the spaces of a plausible sample, corrected, and the pressure on memory.
    #[inline]
    pub(super) fn read(&mut self, sample: &Sample) {
        let mut attribution = std::mem::take(&mut self.attribution);
        let corrected = attribution.correct(self.now, sample, &self.holdings());
        self.attribution = attribution;
        let sample = corrected.as_ref().unwrap_or(sample);
        self.reading.memory = sample.memory;
        self.reading.pressure = sample.pressure;
        if !(self.reading.gpus.is_empty() && sample.gpus.is_empty()) {
            self.reading.gpus.clone_from(&sample.gpus);
        }
        self.read_at = Some(self.now);
        self.readings += 1;
        if self.change.is_some() || self.models.iter().any(|seen| seen.given_up.is_some()) {
            self.note_shortage();
        }
    }

    /// Returns what our models hold, as far as their server reports them and unloads them when asked.
    fn holdings(&self) -> impl Iterator<Item = Holding> + Clone {
        self.models.iter().zip(self.catalog.models()).filter_map(|(seen, model)| {
            let (need, phase) = match seen.state {
                State::Absent => return None,
                State::Loading => (model.footprint_to_load(), Phase::Coming),
                State::Ready => (model.footprint(), Phase::There),
                State::Unloading if seen.asked > UNLOADS_WAITED_FOR => return None,
                State::Unloading => (model.footprint(), Phase::Going),
            };
            Some(Holding { need, gpu: seen.gpu, phase })
        })
    }

    /// Notes that an unload is not waited for: samples show that the model has gone, or it was requested often enough.
    /// A manager that only says so is still held to the answer.
    fn take_unanswered_unload(&mut self, index: usize) {
        let has_gone = self.models[index].state == State::Unloading && !self.is_there(index);
        if has_gone {
            self.models[index].state = State::Absent;
        }
        if has_gone || self.models[index].asked >= UNLOADS_WAITED_FOR {
            self.note_gone(index);
        }
    }

    fn note_gone(&mut self, index: usize) {
        let need = self.catalog.models()[index].footprint_to_load();
        self.attribution.note_gone(self.now, need, self.models[index].gpu);
    }

    /// Makes a change that is under way urgent in a critical shortage.
    fn note_shortage(&mut self) {
        if !is_critical(&self.reading, &self.settings) {
            return;
        }
        let given_up = self.models.iter_mut().filter_map(|seen| seen.given_up.as_mut());
        for change in self.change.iter_mut().chain(given_up) {
            change.urgency = Urgency::Critical;
            change.critical_since.get_or_insert(self.now);
        }
    }

    /// Takes any other input, before the rules see its answer.
    pub(super) fn take_input(&mut self, input: &Input) {
        match input {
            Input::Outcome(outcome) => self.take_outcome(outcome),
            Input::Adopt { models } => {
                for Adopted { model, gpu } in models {
                    if let Some(index) = self.index_of(model) {
                        self.models[index] =
                            Seen { state: State::Ready, gpu: *gpu, ..Seen::default() };
                    }
                }
            }
            Input::Shutdown => self.stopping = true,
            Input::Sample(_)
            | Input::SampleMissing { .. }
            | Input::Request(_)
            | Input::Cancel { .. }
            | Input::Timeout
            | Input::Settings(_)
            | Input::Switch { .. }
            | Input::Advice(_) => {}
        }
    }

    fn take_outcome(&mut self, outcome: &Outcome) {
        let (model, is_ready) = match outcome {
            Outcome::Loaded { model } => (model, true),
            Outcome::LoadFailed { model, .. }
            | Outcome::Unloaded { model }
            | Outcome::Crashed { model, .. } => (model, false),
            Outcome::Loading { .. }
            | Outcome::Tried(_)
            | Outcome::Done { .. }
            | Outcome::Failed { .. }
            | Outcome::Cancelled { .. } => return,
        };
        if is_break(outcome) {
            self.disturb();
        }
        let Some(index) = self.index_of(model) else { return };
        let seen = &mut self.models[index];
        match (is_ready, seen.state) {
            (true, State::Loading) => seen.state = State::Ready,
            // A load that completes after its unload was commanded is still on its way out, and a late answer does not
            // bring back a model that is not there.
            (true, State::Absent | State::Ready | State::Unloading) => {}
            (false, State::Absent) => {}
            (false, State::Loading | State::Ready | State::Unloading) => {
                // Requests that run on it end by themselves: the answer to an old unload may arrive when it serves
                // again.
                *seen = Seen { gpu: seen.gpu, running: seen.running, ..Seen::default() };
                self.note_gone(index);
            }
        }
    }

    fn disturb(&mut self) {
        if let Some(change) = &mut self.change {
            change.is_disturbed = true;
        }
    }

    /// Notes that the manager makes a change that was not decided: a model that died, or that came up slow, is loaded
    /// again, or another stands in. Its next steps show which.
    fn note_own_change(&mut self) {
        if self.change.is_none() {
            self.change = Some(Change {
                to: self.rung,
                base: self.rung,
                urgency: Urgency::Graceful,
                since: self.now,
                critical_since: None,
                is_disturbed: true,
            });
            self.note_shortage();
        }
    }

    /// Takes an output, after the rules have seen it.
    pub(super) fn take_output(&mut self, output: &Output) {
        let is_own_change = match output {
            Output::Serving { .. } => true,
            Output::Command(Command::Load { model, .. }) => {
                self.index_of(model).is_some_and(|index| !self.is_companion(index))
            }
            _ => false,
        };
        if is_own_change {
            self.note_own_change();
        }
        match output {
            Output::Decision(decision) => self.take_decision(decision),
            Output::Command(Command::Load { model, gpu }) => {
                if let Some(index) = self.index_of(model) {
                    let (loaded_after, running) = (self.readings, self.models[index].running);
                    self.models[index] = Seen {
                        state: State::Loading,
                        gpu: *gpu,
                        loaded_after,
                        running,
                        ..Seen::default()
                    };
                }
            }
            Output::Command(Command::Unload { model }) => {
                if let Some(index) = self.index_of(model) {
                    let seen = &mut self.models[index];
                    seen.state = State::Unloading;
                    seen.asked += 1;
                }
            }
            Output::Command(
                Command::Start { .. } | Command::Cancel { .. } | Command::Try { .. },
            ) => {}
            Output::Serving { rung, model, .. } => {
                let index = model.as_ref().and_then(|model| self.index_of(model));
                if let Some(before) = self.serving.filter(|&before| Some(before) != index) {
                    self.models[before].left_at = Some(self.now);
                }
                self.serving = index;
                self.served_last = index.or(self.served_last);
                self.rung = *rung;
            }
            Output::Switched { from, to, .. } => {
                self.change = None;
                if from != to {
                    self.changes += 1;
                    self.last_change = Some((self.now, to > from));
                }
            }
            Output::Companion { model, news } => self.take_companion(model, *news),
            Output::Notice(Notice::Unanswered { model, what }) => {
                self.disturb();
                let Some(index) = self.index_of(model) else { return };
                match what {
                    Unanswered::Load => {}
                    Unanswered::Request => self.models[index].is_broken = true,
                    Unanswered::Unload => self.take_unanswered_unload(index),
                }
            }
            Output::Notice(_)
            | Output::Accepted { .. }
            | Output::Ended { .. }
            | Output::Order { .. }
            | Output::Consult(_) => {}
        }
    }

    fn take_companion(&mut self, model: &ModelId, news: CompanionNews) {
        let Some(index) = self.index_of(model) else { return };
        let seen = &mut self.models[index];
        match news {
            CompanionNews::Serves => seen.admits = true,
            CompanionNews::ServesNoMore => {
                seen.admits = false;
                seen.left_at = Some(self.now);
            }
            CompanionNews::Wanted { .. } => seen.given_up = None,
            CompanionNews::GivenUp { .. } => {
                let is_critical = is_critical(&self.reading, &self.settings);
                seen.given_up = Some(Change {
                    to: Rung::NONE,
                    base: Rung::NONE,
                    urgency: if is_critical { Urgency::Critical } else { Urgency::Immediate },
                    since: self.now,
                    critical_since: is_critical.then_some(self.now),
                    is_disturbed: false,
                });
            }
        }
    }

    fn take_decision(&mut self, decision: &Decision) {
        let (to, urgency) = match decision.action {
            Action::Hold => return,
            Action::Upgrade { to } => (to, Urgency::Graceful),
            Action::Downgrade { to, urgency } => (to, urgency),
        };
        let before = self.change;
        // A downgrade never becomes less urgent.
        let pressed = before.filter(|before| to < before.to);
        let critical = (urgency == Urgency::Critical).then_some(self.now);
        self.change = Some(Change {
            to,
            base: match (before, self.serving) {
                (Some(before), None) => before.base,
                _ => self.rung,
            },
            urgency: pressed.map_or(urgency, |before| before.urgency.max(urgency)),
            since: before.map_or(self.now, |before| before.since),
            // Another goal gives what runs no more time.
            critical_since: before.and_then(|before| before.critical_since).or(critical),
            is_disturbed: false,
        });
        self.note_shortage();
    }
}

/// Returns whether an outcome means that a model did not load or died.
pub(super) fn is_break(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::LoadFailed { .. } | Outcome::Crashed { .. })
}

/// Returns whether a decision is a step down because space is short.
pub(super) fn is_for_space(reason: &Reason) -> bool {
    matches!(reason, Reason::AboveDegradeLine { .. } | Reason::Exhaustion { .. })
}

/// A model is gone when samples show at most this share of it; the same as in the manager.
const LEFT_OF_WHAT_HAS_GONE: Percent = Percent::new(25);

/// After this many requests, an unload is no longer waited for; the same as in the manager.
const UNLOADS_WAITED_FOR: u32 = 3;
