//! Owns the models' lives, the queue, and the switch from one model to another. Pure: it knows no policy.
//!
//! Told a decision, it brings the world to it, whatever happens on the way: one private function,
//! `advance`, looks at where every model is and takes the next step towards the goal. It is called after every
//! input, so a switch has no script that could be lost half way. Left alone on purpose: which rung is right.

mod asked;
mod expectation;
mod failure;
mod lifecycle;
mod loading;
mod queue;
mod serving;
mod tryout;

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use crate::catalog::{Catalog, LadderId, Rung};
use crate::decision::{Action, Reason, Urgency};
use crate::event::{Adopted, Command, Notice, Outcome, Output};
use crate::manager::asked::Asked;
use crate::manager::lifecycle::{Lifecycle, Slot, Trigger};
use crate::manager::queue::Queue;
use crate::manager::serving::Running;
use crate::model::Model;
use crate::place::{Beside, Fit, Resident, place};
use crate::request::{CancelledBy, RequestId};
use crate::sample::Sample;
use crate::settings::{AtDrainDeadline, Settings};
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
    /// Since when the switch cooldown runs: the first load of a run replaces nothing, and starts none.
    cooling_since: Option<Timestamp>,
    /// The spaces of the last sample.
    seen: Sample,
    queue: Queue,
    running: BTreeMap<RequestId, Running>,
    asked: Asked,
    /// Mean time that a request is served, for the retry-after of those that are not.
    mean_service: Duration,
    stopping: bool,
    /// In what time the policy would have something loaded where nothing is.
    ready_in: Option<Duration>,
    /// Rungs that failed since the controller last asked.
    broken: Vec<Rung>,
}

/// A switch under way.
#[derive(Clone, Copy, Debug)]
struct Switch {
    from: Rung,
    to: Rung,
    /// The model to serve with; `None` for nothing.
    goal: Option<usize>,
    began: Timestamp,
    urgency: Urgency,
    reason: Reason,
    /// Set while the old model is gone and only its memory is waited for.
    waiting_for_room: Option<RoomWait>,
}

/// A wait for memory that a gone model has yet to give back.
#[derive(Clone, Copy, Debug)]
struct RoomWait {
    since: Timestamp,
    next_look: Timestamp,
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
            queue: Queue::default(),
            running: BTreeMap::new(),
            asked: Asked::new(catalog),
            mean_service: Duration::ZERO,
            stopping: false,
            ready_in: None,
            broken: Vec::new(),
        }
    }

    /// Goes on under other settings, from where it is.
    pub fn set_settings(&mut self, settings: &Settings) {
        self.settings = settings.clone();
    }

    /// Returns the rung that serves or that a switch under way leads to.
    pub fn rung(&self) -> Rung {
        self.switch.map_or(self.rung, |switch| switch.to)
    }

    /// Returns whether a switch is under way.
    pub fn is_switching(&self) -> bool {
        self.switch.is_some()
    }

    /// Returns whether it is stopping.
    pub fn is_stopping(&self) -> bool {
        self.stopping
    }

    /// Returns when the last switch was complete, and whether it went up.
    pub fn last_change(&self) -> Option<(Timestamp, bool)> {
        self.last_change
    }

    /// Returns for how long yet no switch is made that no shortage forces. While nothing serves, whoever can be served is.
    pub fn cooldown_remaining(&self, now: Timestamp) -> Option<Duration> {
        let at = self.cooling_since.filter(|_| self.rung != Rung::NONE)?;
        left(self.settings.manager.switch_cooldown, now.since(at))
    }

    /// Returns whether a fresh sample would let a switch go on: freed memory is waited for.
    pub fn waits_for_room(&self) -> bool {
        self.switch.is_some_and(|switch| switch.waiting_for_room.is_some())
    }

    /// Returns whether a rung's model would fit now in place of the serving one.
    pub fn has_room_for(&self, rung: Rung) -> bool {
        self.catalog.primary(rung).is_none_or(|model| self.has_room_for_model(model))
    }

    fn has_room_for_model(&self, model: &Model) -> bool {
        self.place(model, Beside::Nothing, |total| self.settings.degrade_limit(total)).is_there()
    }

    fn place(
        &self,
        model: &Model,
        beside: Beside<'_>,
        limit_of: impl Fn(Bytes) -> Bytes + Copy,
    ) -> Fit {
        place(model.footprint_to_load(), beside, &self.seen, &self.settings, limit_of)
    }

    /// Returns whether a rung failed since [`Manager::take_broken`] was last called.
    pub fn has_broken(&self) -> bool {
        !self.broken.is_empty()
    }

    /// Takes out the rungs that failed since the last call.
    pub fn take_broken(&mut self) -> Vec<Rung> {
        std::mem::take(&mut self.broken)
    }

    /// Takes a sample's spaces, and returns whether that may have moved anything on.
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
        if self.switch.is_none() && self.queue.len() == 0 {
            return false;
        }
        self.give_up_a_load_that_others_crowd_out();
        // Requests that were held back for want of a fresh sample can start as well.
        self.advance(now, out);
        true
    }

    /// Takes a decision to change. A hold is nothing to the manager.
    pub fn handle_decision(
        &mut self,
        now: Timestamp,
        action: Action,
        reason: Reason,
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
        if urgency == Urgency::Graceful && self.cooldown_remaining(now).is_some() {
            return;
        }
        let goal = self.catalog.primary(to).map(|model| self.index_of(model.id.as_str()));
        let (from, began) = self.switch.map_or((self.rung, now), |old| (old.from, old.began));
        self.switch =
            Some(Switch { from, to, goal, began, urgency, reason, waiting_for_room: None });
        self.advance(now, out);
    }

    /// Takes the backend's answer about a model; answers about requests are `handle_request_outcome`'s.
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
        // A server may know models that we do not manage; they are no concern of ours.
        if self.catalog.model(model).is_none() {
            return;
        }
        let index = self.index_of(model.as_str());
        let before = self.slots[index].state;
        self.pass(index, happening);
        let after = self.slots[index].state;
        if after != before {
            self.slots[index].deadline = None;
        }
        if after == Lifecycle::Ready && before == Lifecycle::Loading {
            self.slots[index].failures = 0;
            self.try_out(index, out);
        }
        if after == Lifecycle::Failed && before != Lifecycle::Failed {
            self.note_failure(now, index);
        }
        if after != Lifecycle::Ready && self.serving == Some(index) {
            self.serve_from(now, None, out);
            self.recover(now, index);
        }
        self.advance(now, out);
    }

    /// Takes over what is loaded already: the best of it serves, no higher than `highest`, and the rest goes.
    pub fn handle_adoption(
        &mut self,
        now: Timestamp,
        models: &[Adopted],
        highest: Option<Rung>,
        out: &mut VecDeque<Output>,
    ) {
        for Adopted { model, gpu } in models {
            // A server may have models that we do not manage; they are no concern of ours.
            if self.catalog.model(model).is_some() {
                let index = self.index_of(model.as_str());
                self.pass(index, Trigger::Adopted);
                self.slots[index].gpu = *gpu;
            }
        }
        // A decision that came first knows better what to do with them.
        if self.stopping || self.serving.is_some() || self.switch.is_some() {
            return;
        }
        let goal = (0..self.slots.len())
            .filter(|&index| self.slots[index].state == Lifecycle::Ready)
            .filter(|&index| highest.is_none_or(|highest| self.rung_of(index) <= highest))
            // The highest rung; its primary model, else its best among several.
            .max_by_key(|&index| (self.rung_of(index), self.is_primary(index), index));
        self.switch = Some(Switch {
            from: self.rung,
            to: goal.map_or(Rung::NONE, |goal| self.rung_of(goal)),
            goal,
            began: now,
            urgency: Urgency::Graceful,
            reason: Reason::Asked,
            waiting_for_room: None,
        });
        self.advance(now, out);
    }

    /// Takes the moment that `next_timeout` named.
    pub fn handle_timeout(&mut self, now: Timestamp, out: &mut VecDeque<Output>) {
        while let Some(expired) = self.queue.pop_expired(now) {
            self.expire(now, &expired, out);
        }
        for index in 0..self.slots.len() {
            if self.slots[index].deadline.is_some_and(|deadline| deadline <= now) {
                self.pass_deadline(now, index, out);
            }
        }
        self.advance(now, out);
    }

    /// Stops: refuses what waits, finishes what runs within the drain deadline, cancels what is left, unloads.
    pub fn handle_shutdown(&mut self, now: Timestamp, out: &mut VecDeque<Output>) {
        self.stopping = true;
        self.refuse_all(out);
        let from = self.rung;
        self.switch = Some(Switch {
            from,
            to: Rung::NONE,
            goal: None,
            began: now,
            urgency: Urgency::Graceful,
            reason: Reason::Asked,
            waiting_for_room: None,
        });
        self.advance(now, out);
    }

    /// Returns the next moment at which `handle_timeout` has something to do.
    pub fn next_timeout(&self) -> Option<Timestamp> {
        let slots = self.slots.iter().fold(None, |first, slot| earliest([first, slot.deadline]));
        let wait = self.switch.and_then(|switch| switch.waiting_for_room);
        let room = wait.map(|wait| wait.next_look);
        earliest([slots, room, self.queue.next_deadline()])
    }

    /// Takes the next step of the switch, if there is one, then starts what can start.
    fn advance(&mut self, now: Timestamp, out: &mut VecDeque<Output>) {
        // Each pass takes one step, and a switch has few: unload, load, serve, unload the rest.
        for _ in 0..MOST_STEPS {
            let Some(switch) = self.switch else { break };
            let moved = match switch.goal {
                None => self.advance_to_nothing(now, out),
                Some(goal) => self.advance_to(now, goal, out),
            };
            if !moved {
                break;
            }
        }
        self.start_waiting(now, out);
    }

    /// Empties every slot. Returns whether another step can follow at once.
    fn advance_to_nothing(&mut self, now: Timestamp, out: &mut VecDeque<Output>) -> bool {
        self.serve_from(now, None, out);
        self.drain_all_except(now, None, out);
        if self.slots.iter().any(|slot| slot.state.is_resident()) {
            return false;
        }
        self.complete(now, out);
        true
    }

    /// Brings `goal` to serve. Returns whether another step can follow at once.
    fn advance_to(&mut self, now: Timestamp, goal: usize, out: &mut VecDeque<Output>) -> bool {
        match self.slots[goal].state {
            Lifecycle::Ready => {
                self.serve_from(now, Some(goal), out);
                self.drain_all_except(now, Some(goal), out);
                let others_gone = self
                    .slots
                    .iter()
                    .enumerate()
                    .all(|(i, slot)| i == goal || !slot.state.is_resident());
                if others_gone {
                    self.complete(now, out);
                }
                others_gone
            }
            Lifecycle::Draining if self.slots[goal].tryout.reloads => {
                self.unload_if_idle(now, goal, out);
                false
            }
            // Wanted again before it had gone: nothing is loaded twice, nothing waits for its end.
            Lifecycle::Draining => {
                self.pass(goal, Trigger::Resume);
                self.slots[goal].deadline = None;
                true
            }
            Lifecycle::Loading | Lifecycle::Unloading => false,
            Lifecycle::Failed => false,
            Lifecycle::Absent => self.make_room_and_load(now, goal, out),
        }
    }

    /// Loads `goal` beside what is loaded where both fit, else empties the machine first.
    fn make_room_and_load(
        &mut self,
        now: Timestamp,
        goal: usize,
        out: &mut VecDeque<Output>,
    ) -> bool {
        for index in 0..self.slots.len() {
            // Never two loads at once: the one that is no longer wanted goes, and its end is waited for.
            if self.slots[index].state == Lifecycle::Loading {
                self.unload(now, index, out);
            }
        }
        if self.slots.iter().any(|slot| slot.state == Lifecycle::Unloading) {
            return false;
        }
        let model = &self.catalog.models()[goal];
        let resident = self.resident_footprint();
        let limit = |total| self.settings.degrade_limit(total);
        match self.place(model, Beside::Resident(&resident), limit) {
            Fit::Fits(place) => {
                self.load(now, goal, place.gpu, out);
                return false;
            }
            Fit::Short(_) | Fit::Unknown(_)
                if self.slots.iter().any(|slot| slot.state.is_resident()) =>
            {
                self.serve_from(now, None, out);
                self.drain_all_except(now, None, out);
                return false;
            }
            Fit::Short(_) | Fit::Unknown(_) => {}
        }
        // Nothing of ours is left and it still does not fit: memory that comes back late, or others' doing.
        let switch = self.switch.as_mut().expect("only a switch makes room");
        let since = switch.waiting_for_room.map_or(now, |wait| wait.since);
        let bound = since + self.settings.settle_limit;
        if now < bound {
            let next_look = (now + ROOM_POLL).min(bound);
            switch.waiting_for_room = Some(RoomWait { since, next_look });
            return false;
        }
        let fit = self.place(model, Beside::Resident(&resident), |total| total);
        if let Some(place) = fit.place() {
            self.load(now, goal, place.gpu, out);
        } else if let Some(switch) = &mut self.switch {
            // The memory has not come back, whatever the server said, or somebody took it: stay with nothing until the
            // policy sees room.
            switch.to = Rung::NONE;
            switch.goal = None;
            return true;
        }
        false
    }

    fn load(&mut self, now: Timestamp, index: usize, gpu: Option<u8>, out: &mut VecDeque<Output>) {
        if let Some(switch) = &mut self.switch {
            switch.waiting_for_room = None;
        }
        let model = &self.catalog.models()[index];
        self.slots[index].gpu = gpu;
        self.slots[index].began = now;
        self.slots[index].deadline = Some(now + model.load_timeout);
        let command = Command::Load { model: model.id.clone(), gpu };
        self.pass(index, Trigger::Load);
        out.push_back(Output::Command(command));
    }

    /// Drains and unloads every model but `keep`.
    fn drain_all_except(
        &mut self,
        now: Timestamp,
        keep: Option<usize>,
        out: &mut VecDeque<Output>,
    ) {
        for index in 0..self.slots.len() {
            if Some(index) == keep {
                continue;
            }
            match self.slots[index].state {
                Lifecycle::Ready => {
                    self.pass(index, Trigger::Drain);
                    self.slots[index].deadline = Some(now + self.drain_deadline());
                    self.unload_if_idle(now, index, out);
                }
                Lifecycle::Loading => self.unload(now, index, out),
                Lifecycle::Draining => self.unload_if_idle(now, index, out),
                Lifecycle::Absent | Lifecycle::Unloading | Lifecycle::Failed => {}
            }
        }
    }

    fn drain_deadline(&self) -> Duration {
        let manager = &self.settings.manager;
        match self.switch.map(|switch| switch.urgency) {
            Some(Urgency::Critical) => manager.critical_drain_deadline,
            Some(Urgency::Immediate | Urgency::Graceful) | None => manager.drain_deadline,
        }
    }

    fn unload_if_idle(&mut self, now: Timestamp, index: usize, out: &mut VecDeque<Output>) {
        if self.slots[index].running == 0 {
            self.unload(now, index, out);
        }
    }

    fn unload(&mut self, now: Timestamp, index: usize, out: &mut VecDeque<Output>) {
        self.pass(index, Trigger::Unload);
        self.slots[index].deadline = Some(now + UNLOAD_TIMEOUT);
        let model = self.catalog.models()[index].id.clone();
        out.push_back(Output::Command(Command::Unload { model }));
    }

    /// Does what a state's deadline asks for.
    fn pass_deadline(&mut self, now: Timestamp, index: usize, out: &mut VecDeque<Output>) {
        self.slots[index].deadline = None;
        match self.slots[index].state {
            Lifecycle::Loading => {
                self.note_failure(now, index);
                self.unload(now, index, out);
            }
            Lifecycle::Draining => {
                let cancel = self.stopping
                    || self.settings.manager.at_drain_deadline == AtDrainDeadline::Cancel;
                if cancel {
                    let by = if self.stopping {
                        CancelledBy::Shutdown
                    } else {
                        CancelledBy::DrainDeadline
                    };
                    self.cancel_running_on(index, by, out);
                }
            }
            // No answer to an unload: ask again; until it answers, its memory counts as taken.
            Lifecycle::Unloading => self.unload(now, index, out),
            Lifecycle::Failed => self.pass(index, Trigger::Retry),
            Lifecycle::Absent | Lifecycle::Ready => {}
        }
    }

    fn complete(&mut self, now: Timestamp, out: &mut VecDeque<Output>) {
        let switch = self.switch.take().expect("only a switch completes");
        let Switch { from, to, began, reason, .. } = switch;
        self.rung = to;
        if from != to {
            self.cooling_since = self.last_change.map(|_| now);
            self.last_change = Some((now, to > from));
        }
        out.push_back(Output::Switched {
            ladder: LadderId::FIRST,
            from,
            to,
            took: now.since(began),
        });
        if to < from && !self.stopping {
            out.push_back(Output::Notice(Notice::Degraded { from, to, reason }));
        }
    }

    fn serve_from(&mut self, now: Timestamp, model: Option<usize>, out: &mut VecDeque<Output>) {
        if self.serving == model {
            return;
        }
        self.serving = model;
        self.asked.serving_since = now;
        let rung = model.map_or(Rung::NONE, |index| self.rung_of(index));
        out.push_back(Output::Serving { ladder: LadderId::FIRST, rung });
        if model.is_some() {
            self.refuse_what_is_not_loaded(now, out);
        }
    }

    fn resident_footprint(&self) -> Resident {
        let mut resident = Resident::default();
        for (slot, model) in self.slots.iter().zip(self.catalog.models()) {
            if slot.state.is_resident() {
                resident.add(model.footprint(), slot.gpu);
            }
        }
        resident
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

/// How often freed memory is looked for (Ollama's 250 ms).
pub(crate) const ROOM_POLL: Duration = Duration::from_millis(250);

/// An unload that is not answered within this is asked for again (llama-server's stop time-out is 10 s).
const UNLOAD_TIMEOUT: Duration = Duration::from_secs(15);

/// No switch takes more steps at one moment; reaching it leaves the rest to the next input.
const MOST_STEPS: u32 = 8;
