//! The model manager: the state of each model, the queue of requests, and the switch from one model to another.
//!
//! It carries out a decision, whatever happens on the way: one private function, `advance`, looks at the state of every
//! model and takes the next step towards the goal. It is called after every input, so a switch has no script that could
//! be lost half way. Which rung is right is the policy's decision; the manager knows no policy.

mod asked;
mod expectation;
mod failure;
mod lifecycle;
mod loading;
mod named;
mod queue;
mod serving;
mod shortage;
mod switch;
mod tryout;
mod unloading;

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use crate::attribution::{Holding, Phase};
use crate::catalog::{Catalog, LadderId, Rung};
use crate::decision::{Action, CalledOff, Reason, Urgency};
use crate::event::{Adopted, Outcome, Output};
use crate::manager::asked::Asked;
use crate::manager::lifecycle::{Lifecycle, Slot, Trigger};
use crate::manager::named::Named;
use crate::manager::queue::Queue;
use crate::manager::serving::Running;
use crate::manager::switch::Switch;
use crate::model::{Footprint, Model};
use crate::place::{Beside, Fit, Projection, Resident, is_critical, place};
use crate::request::RequestId;
use crate::sample::{ResourceKey, Sample};
use crate::settings::Settings;
use crate::time::{Timestamp, earliest, left};
use crate::units::Bytes;

/// The manager.
#[derive(Clone, Debug)]
pub struct Manager {
    catalog: Catalog,
    settings: Settings,
    /// One slot for each of the catalog's models, in its order.
    slots: Vec<Slot>,
    /// The model that admits requests.
    serving: Option<usize>,
    switch: Option<Switch>,
    /// The rung of the last completed switch.
    rung: Rung,
    last_change: Option<(Timestamp, bool)>,
    /// When the switch cooldown began: the first load of a run replaces nothing, and starts none.
    cooling_since: Option<Timestamp>,
    /// The spaces of the last sample.
    seen: Sample,
    /// When it was taken.
    seen_at: Option<Timestamp>,
    /// Whether a model has gone since then: its memory may still be in the way, and the sample does not show that.
    gone_since: bool,
    /// What has gone since the controller last asked.
    gone: Vec<(Footprint, Option<u8>)>,
    /// What lingers of unloaded models, in main memory and on each GPU.
    lingering: Vec<Bytes>,
    /// How often memory came back later than a switch waits for it.
    late_releases: u32,
    queue: Queue,
    running: BTreeMap<RequestId, Running>,
    asked: Asked,
    /// The mean time that a request is served, for the `retry-after` of refused ones.
    mean_service: Duration,
    stopping: bool,
    /// Since when nothing is loaded or being loaded.
    empty_since: Option<Timestamp>,
    /// The last model that was loaded because requests name it.
    named: Option<Named>,
    /// How soon the policy would have something loaded while nothing is.
    ready_in: Option<Duration>,
    /// Whether a try-out is awaited or due.
    is_trying: bool,
    /// Rungs that failed, or to which a switch was called off, since the controller last asked.
    setbacks: Vec<Setback>,
}

/// What went wrong on the way to a rung.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Setback {
    /// A model of it did not load, or died.
    Broke(Rung),
    /// The switch to it was called off.
    CalledOff(Rung, CalledOff),
}

impl Manager {
    /// Builds a manager with nothing loaded.
    pub fn new(settings: &Settings, catalog: &Catalog) -> Self {
        Self {
            slots: vec![Slot::default(); catalog.models().len()],
            catalog: catalog.clone(),
            settings: settings.clone(),
            serving: None,
            switch: None,
            rung: Rung::NONE,
            last_change: None,
            cooling_since: None,
            seen: Sample::default(),
            seen_at: None,
            gone_since: false,
            gone: Vec::new(),
            lingering: Vec::new(),
            late_releases: 0,
            queue: Queue::default(),
            running: BTreeMap::new(),
            asked: Asked::new(catalog),
            mean_service: Duration::ZERO,
            stopping: false,
            empty_since: None,
            named: None,
            ready_in: None,
            is_trying: false,
            setbacks: Vec::new(),
        }
    }

    /// Continues under other settings, from where it is.
    pub fn set_settings(&mut self, settings: &Settings) {
        self.settings = settings.clone();
    }

    /// Returns the rung that serves or that the switch in progress leads to.
    pub fn rung(&self) -> Rung {
        self.switch.map_or(self.rung, |switch| switch.to)
    }

    /// Returns the GPU that the model of that rung is on, or is being loaded to.
    pub fn gpu(&self) -> Option<u8> {
        let index = self.switch.map_or(self.serving, |switch| switch.goal)?;
        let slot = &self.slots[index];
        let is_there = matches!(slot.phase(), Some(Phase::Coming | Phase::There));
        slot.gpu.filter(|_| is_there)
    }

    /// Returns whether a switch is in progress.
    pub fn is_switching(&self) -> bool {
        self.switch.is_some()
    }

    /// Returns whether it is stopping.
    pub fn is_stopping(&self) -> bool {
        self.stopping
    }

    /// Returns whether nothing runs and nothing waits.
    pub fn is_idle(&self) -> bool {
        self.running.is_empty() && self.queue.len() == 0
    }

    /// Returns when the last switch was complete, and whether it went up.
    pub fn last_change(&self) -> Option<(Timestamp, bool)> {
        self.last_change
    }

    /// Returns how much longer only a shortage may cause a switch. There is no such wait while nothing serves.
    pub fn cooldown_remaining(&self, now: Timestamp) -> Option<Duration> {
        let at = self.cooling_since.filter(|_| self.rung != Rung::NONE)?;
        left(self.settings.manager.switch_cooldown, now.since(at))
    }

    /// Returns whether a fresh sample would let a switch continue: it waits for freed memory.
    pub fn waits_for_room(&self) -> bool {
        self.switch.is_some_and(|switch| switch.next_look.is_some())
    }

    /// Returns how long it waits for freed memory: on a machine on which that came back late, longer than the settings
    /// say.
    pub(crate) fn settle_limit(&self) -> Duration {
        self.settings.settle_limit.saturating_mul(1 << self.late_releases.min(MOST_LIMIT_DOUBLINGS))
    }

    /// Returns whether the switch under way waits for nothing but the rest of a model that failed.
    pub(crate) fn waits_for_a_rest(&self) -> bool {
        let Some(goal) = self.switch.and_then(|switch| switch.goal) else { return false };
        let is_at_rest = |index: usize| {
            let Slot { state, .. } = self.slots[index];
            matches!(state, Lifecycle::Absent | Lifecycle::Failed) || self.is_lost(index)
        };
        self.slots[goal].deadline.is_some() && (0..self.slots.len()).all(is_at_rest)
    }

    /// Returns the time between two looks for freed memory.
    pub fn look_interval(&self) -> Duration {
        (self.settings.settle_limit / ROOM_LOOKS).max(SHORTEST_LOOK)
    }

    /// Returns whether a space that holds one of our models is nearly full.
    pub fn is_critically_short(&self) -> bool {
        is_critical(&self.seen, &self.settings)
    }

    /// Returns whether a rung's model would fit now in place of the one that serves.
    pub fn has_room_for(&self, rung: Rung) -> bool {
        self.fit_in_place(rung).is_none_or(Fit::is_there)
    }

    /// Returns where a rung's model would fit once everything loaded has gone; `None` for the rung without a model.
    fn fit_in_place(&self, rung: Rung) -> Option<Fit> {
        self.catalog.primary(rung).map(|model| self.place_alone(model))
    }

    fn place_alone(&self, model: &Model) -> Fit {
        self.place(model, Beside::Nothing, |total| self.settings.degrade_limit(total))
    }

    /// Returns whether a model would have a place once the memory of all unloaded models had come back.
    fn would_fit_once_all_is_back(&self, model: &Model) -> bool {
        let mut seen = self.seen.clone();
        for (key, space) in seen.spaces_mut() {
            let index = key.gpu.map_or(0, |gpu| 1 + usize::from(gpu));
            space.others = space.others - self.lingering.get(index).copied().unwrap_or(Bytes::ZERO);
        }
        let limit = |total| self.settings.degrade_limit(total);
        place(model.footprint_to_load(), Beside::Nothing, &seen, &self.settings, limit).is_there()
    }

    /// Returns why an action would not be carried out: what is decided is done. What a shortage forces is always
    /// carried out.
    pub fn objection(&self, now: Timestamp, action: Action) -> Option<Reason> {
        let to = match action {
            Action::Hold => return None,
            Action::Upgrade { to } | Action::Downgrade { to, urgency: Urgency::Graceful } => to,
            Action::Downgrade { .. } => return None,
        };
        // Of two waits, the longer one is reported: a client that waited for the shorter one would be refused again.
        let rest = self.rest_remaining(now, to);
        match self.cooldown_remaining(now) {
            Some(remaining) if rest.is_none_or(|rest| rest <= remaining) => {
                Some(Reason::Cooldown { to, remaining })
            }
            _ => self.obstacle(now, to),
        }
    }

    /// Returns what blocks a rung, apart from the switch cooldown: its rest after a failure, or lack of room.
    pub fn obstacle(&self, now: Timestamp, to: Rung) -> Option<Reason> {
        let index = self.catalog.primary_index(to)?;
        self.obstacle_to(now, index)
    }

    /// Returns the same for a model, which need not be the primary one of its rung.
    pub(super) fn obstacle_to(&self, now: Timestamp, index: usize) -> Option<Reason> {
        let to = self.rung_of(index);
        if let Some(remaining) = self.rest_of(now, index) {
            return Some(Reason::Backoff { to, remaining });
        }
        match self.place_alone(&self.catalog.models()[index]) {
            Fit::Fits(_) => None,
            Fit::Short(Projection { resource, gpu, projected, limit, .. }) => {
                Some(Reason::WouldNotFit { to, resource, gpu, projected, limit })
            }
            Fit::Unknown(ResourceKey { resource, gpu }) => {
                Some(Reason::NotRead { to, resource, gpu })
            }
        }
    }

    /// Extends the wait in a policy's reason to what it will really be: a rung may have to rest for longer here.
    #[inline]
    pub fn lengthen_wait(&self, now: Timestamp, reason: &mut Reason) {
        if let Reason::Cooldown { remaining, .. } = reason {
            *remaining = self.cooldown_remaining(now).map_or(*remaining, |it| it.max(*remaining));
        }
        if let Reason::Cooldown { to, remaining } | Reason::Backoff { to, remaining } = *reason
            && let Some(rest) = self.rest_remaining(now, to).filter(|&rest| rest > remaining)
        {
            *reason = Reason::Backoff { to, remaining: rest };
        }
    }

    fn place(
        &self,
        model: &Model,
        beside: Beside<'_>,
        limit_of: impl Fn(Bytes) -> Bytes + Copy,
    ) -> Fit {
        place(model.footprint_to_load(), beside, &self.seen, &self.settings, limit_of)
    }

    /// Returns whether anything went wrong since [`Manager::take_setbacks`] was last called.
    pub(crate) fn has_setbacks(&self) -> bool {
        !self.setbacks.is_empty()
    }

    /// Takes out what went wrong since the last call.
    pub(crate) fn take_setbacks(&mut self) -> Vec<Setback> {
        std::mem::take(&mut self.setbacks)
    }

    /// Returns what its models hold, except those that the server will not unload.
    #[inline]
    pub(crate) fn holdings(&self) -> impl Iterator<Item = Holding> + Clone {
        self.slots.iter().zip(self.catalog.models()).filter_map(|(slot, model)| {
            let phase = slot.phase()?;
            let need = match phase {
                Phase::Coming => model.footprint_to_load(),
                Phase::There | Phase::Going => model.footprint(),
            };
            Some(Holding { need, gpu: slot.gpu, phase })
        })
    }

    /// Takes out what has gone since the last call: reported as unloaded, or given up because its server will not
    /// unload it.
    pub(crate) fn take_gone(&mut self) -> Vec<(Footprint, Option<u8>)> {
        std::mem::take(&mut self.gone)
    }

    /// Returns whether anything lingered by the last reading.
    #[inline]
    pub(crate) fn has_lingering(&self) -> bool {
        self.lingering.iter().any(|&left| left > Bytes::ZERO)
    }

    /// Sets what lingers of unloaded models in main memory and on each GPU; it counts as others' use.
    pub(crate) fn set_lingering(&mut self, lingering: &[Bytes]) {
        self.lingering.clear();
        self.lingering.extend_from_slice(lingering);
    }

    /// Takes a sample's spaces, and returns whether that may have moved anything forward.
    #[inline]
    pub fn handle_sample(
        &mut self,
        now: Timestamp,
        sample: &Sample,
        out: &mut VecDeque<Output>,
    ) -> bool {
        (self.seen.memory, self.seen.cpu) = (sample.memory, sample.cpu);
        if !(self.seen.gpus.is_empty() && sample.gpus.is_empty()) {
            self.seen.gpus.clone_from(&sample.gpus);
        }
        self.seen_at = Some(now);
        self.gone_since = false;
        self.heed_tryouts(out);
        if self.switch.is_none() && self.queue.len() == 0 {
            return false;
        }
        self.note_reading();
        self.find_what_has_gone(out);
        self.heed_shortage(now);
        self.give_up_a_load_that_others_crowd_out(now, out);
        self.limit_a_load_beside(now, out);
        // Requests that waited for a fresh sample can start too.
        self.advance(now, out);
        true
    }

    /// Takes a decision to change. A hold means nothing to the manager. A `blind` one is carried out whether there is a
    /// place for what follows or not.
    pub fn handle_decision(
        &mut self,
        now: Timestamp,
        action: Action,
        reason: Reason,
        blind: bool,
        out: &mut VecDeque<Output>,
    ) {
        let (to, urgency) = match action {
            Action::Hold => return,
            Action::Upgrade { to } => (to, Urgency::Graceful),
            Action::Downgrade { to, urgency } => (to, urgency),
        };
        if self.stopping || (to == self.rung() && !self.is_switching()) {
            return;
        }
        let goal = self.catalog.primary(to).map(|model| self.index_of(model.id.as_str()));
        self.begin(now, goal, urgency, reason);
        if let Some(switch) = &mut self.switch {
            switch.blind = blind;
        }
        self.advance(now, out);
    }

    /// Takes the backend's answer about a model; answers about requests go to `handle_request_outcome`.
    pub fn handle_model_outcome(
        &mut self,
        now: Timestamp,
        outcome: &Outcome,
        out: &mut VecDeque<Output>,
    ) {
        let (model, happening) = match outcome {
            Outcome::Loading { model } => return self.note_progress(now, model),
            Outcome::Tried(tried) => return self.handle_tried(now, tried, out),
            Outcome::Loaded { model } => (model, Trigger::Loaded),
            Outcome::LoadFailed { model, .. } => (model, Trigger::LoadFailed),
            Outcome::Unloaded { model } => (model, Trigger::Unloaded),
            Outcome::Crashed { model, .. } => (model, Trigger::Crashed),
            Outcome::Done { .. } | Outcome::Failed { .. } | Outcome::Cancelled { .. } => return,
        };
        // A server may know models that we do not manage; they are not our concern.
        if self.catalog.model(model).is_none() {
            return;
        }
        let index = self.index_of(model.as_str());
        let before = self.slots[index].state;
        self.pass(index, happening);
        let after = self.slots[index].state;
        if after != before {
            self.slots[index].deadline = None;
            self.slots[index].asked = 0;
        }
        if before.is_resident() && !after.is_resident() {
            self.gone_since = true;
            self.note_gone(index);
        }
        if after == Lifecycle::Ready && before == Lifecycle::Loading {
            self.slots[index].ready_since = Some(now);
            self.try_out(index, out);
        }
        if after == Lifecycle::Failed && before != Lifecycle::Failed {
            let has_died = before != Lifecycle::Loading;
            self.note_failure(now, index, has_died, out);
        }
        if after != Lifecycle::Ready && self.serving == Some(index) {
            self.serve_from(now, None, out);
            self.recover(now, index);
        }
        self.advance(now, out);
    }

    /// Takes over what is already loaded: the best of it, no higher than `highest`, serves, and the rest is unloaded.
    pub fn handle_adoption(
        &mut self,
        now: Timestamp,
        models: &[Adopted],
        highest: Option<Rung>,
        out: &mut VecDeque<Output>,
    ) {
        for Adopted { model, gpu } in models {
            // A server may have models that we do not manage; they are not our concern.
            if self.catalog.model(model).is_some() {
                let index = self.index_of(model.as_str());
                self.pass(index, Trigger::Adopted);
                self.slots[index].gpu = *gpu;
            }
        }
        // A decision that came first takes precedence.
        if self.stopping || self.serving.is_some() || self.switch.is_some() {
            return;
        }
        let goal = (0..self.slots.len())
            .filter(|&index| self.slots[index].state == Lifecycle::Ready)
            .filter(|&index| highest.is_none_or(|highest| self.rung_of(index) <= highest))
            // The highest rung; on it the primary model, or else the best of several.
            .max_by_key(|&index| (self.rung_of(index), self.is_primary(index), index));
        self.begin(now, goal, Urgency::Graceful, Reason::Asked);
        self.advance(now, out);
    }

    /// Takes the moment that `next_timeout` named.
    pub fn handle_timeout(&mut self, now: Timestamp, out: &mut VecDeque<Output>) {
        self.expire(now, out);
        for index in 0..self.slots.len() {
            if self.slots[index].deadline.is_some_and(|deadline| deadline <= now) {
                self.pass_deadline(now, index, out);
            }
        }
        self.give_up_what_is_not_answered(now, out);
        self.pass_drain_deadline(now, out);
        self.advance(now, out);
    }

    /// Stops: refuses what waits, lets what runs finish within the drain deadline, cancels the rest, unloads.
    pub fn handle_shutdown(&mut self, now: Timestamp, out: &mut VecDeque<Output>) {
        self.stopping = true;
        self.refuse_all(out);
        self.switch = None;
        self.begin(now, None, Urgency::Graceful, Reason::Asked);
        self.advance(now, out);
    }

    /// Returns the next moment at which `handle_timeout` has something to do.
    pub fn next_timeout(&self) -> Option<Timestamp> {
        let slots = self.slots.iter().fold(None, |first, slot| earliest([first, slot.deadline]));
        let running = self
            .running
            .values()
            .fold(None, |first, running| earliest([first, Some(running.given_up_at)]));
        let (look, drain) =
            self.switch.map_or((None, None), |switch| (switch.next_look, switch.drain_until));
        earliest([slots, running, look, drain, self.queue.next_deadline()])
    }

    fn serve_from(&mut self, now: Timestamp, model: Option<usize>, out: &mut VecDeque<Output>) {
        if self.serving == model {
            return;
        }
        self.serving = model;
        self.asked.serving_since = now;
        let rung = model.map_or(Rung::NONE, |index| self.rung_of(index));
        let model = model.map(|index| self.catalog.models()[index].id.clone());
        out.push_back(Output::Serving { ladder: LadderId::FIRST, rung, model });
        if self.serving.is_some() {
            self.refuse_what_is_not_loaded(now, out);
        }
    }

    /// Returns what is loaded, with what it may grow to, except what the server will not unload: there, what is read
    /// counts.
    pub(crate) fn resident(&self) -> Resident {
        let mut resident = Resident::default();
        for (slot, model) in self.slots.iter().zip(self.catalog.models()) {
            // What was loaded before we started has no load time.
            let is_unread =
                self.seen_at.is_some_and(|seen| slot.began >= seen) && slot.began > Timestamp::ZERO;
            match slot.phase() {
                Some(Phase::Coming | Phase::There) if is_unread => {
                    resident.add_unread(model.footprint(), slot.gpu);
                }
                Some(_) => resident.add(model.footprint(), slot.gpu),
                None => {}
            }
        }
        resident
    }

    /// Notes that a sample of now exists; it is passed in later.
    pub(crate) fn note_sample(&mut self, now: Timestamp) {
        self.seen_at = Some(now);
    }

    /// Replaces the spaces of the last sample after our share of it has changed.
    pub(crate) fn see(&mut self, share: &Sample, has_gone: bool) {
        self.seen.memory = share.memory;
        self.seen.gpus.clone_from(&share.gpus);
        self.gone_since |= has_gone;
    }

    /// Returns whether a model has gone since the last sample.
    pub(crate) fn has_gone(&self) -> bool {
        self.gone_since
    }

    /// Returns whether a rung's model rests after it failed.
    pub(crate) fn rests(&self, now: Timestamp, rung: Rung) -> bool {
        self.rest_remaining(now, rung).is_some()
    }

    /// Notes that a model no longer holds memory of ours, because its server reported so or does not answer.
    fn note_gone(&mut self, index: usize) {
        let need = self.catalog.models()[index].footprint_to_load();
        self.gone.push((need, self.slots[index].gpu));
    }

    fn pass(&mut self, index: usize, happening: Trigger) {
        let state = self.slots[index].state;
        let next = state.after(happening);
        assert!(
            next.is_some(),
            "a manager never asks for {happening:?} of a model that is {state:?}"
        );
        self.slots[index].state = next.unwrap_or(state);
    }
}

/// Freed memory is looked for this often within the settle limit (Ollama: every 250 ms, for 5 s).
pub(crate) const ROOM_LOOKS: u32 = 20;

/// Limits the wait for freed memory to eight times the settle limit: 40 s by default. Chosen: nothing serves meanwhile,
/// and releases that were measured took 0.2 s to 1.5 s.
const MOST_LIMIT_DOUBLINGS: u32 = 3;

/// The shortest time between two looks, however short the limit is.
const SHORTEST_LOOK: Duration = Duration::from_millis(10);
