//! The way from one model to another.
//!
//! [`Manager::advance`] looks at the state of every model and takes the next step towards the goal of the switch. A
//! model that serves is unloaded only when its successor has a place by the latest sample. An upgrade never stops it
//! while a request runs on it, and is called off if it finds no idle moment.

use std::collections::VecDeque;
use std::time::Duration;

use crate::catalog::{LadderId, Rung};
use crate::decision::{CalledOff, Reason, Urgency};
use crate::event::{Command, Notice, Output, Unanswered};
use crate::manager::lifecycle::{Lifecycle, Trigger};
use crate::manager::{Manager, ROOM_LOOKS, Setback};
use crate::place::{Beside, Fit, Resident};
use crate::request::CancelledBy;
use crate::settings::{AtDrainDeadline, Settings};
use crate::time::Timestamp;

/// A switch under way.
#[derive(Clone, Copy, Debug)]
pub(super) struct Switch {
    pub(super) from: Rung,
    pub(super) to: Rung,
    /// What served when it was given its goal: if the goal is above that, it may wait for an idle moment, and be called
    /// off.
    base: Rung,
    /// The model to serve with; `None` for nothing.
    pub(super) goal: Option<usize>,
    began: Timestamp,
    pub(super) urgency: Urgency,
    reason: Reason,
    /// Whether it checks nothing: neither a place for what follows nor requests that run on the serving model.
    pub(super) blind: bool,
    /// Whether it is made because requests name its goal: then it interrupts no reply, unless a space is short.
    pub(super) is_for_name: bool,
    /// When the time is over for what runs on the models that go. `None` before anything waits for it, and afterwards.
    pub(super) drain_until: Option<Timestamp>,
    /// Whether that moment has passed.
    pub(super) overdue: bool,
    /// When to look again for memory that an unloaded model has yet to give back.
    pub(super) next_look: Option<Timestamp>,
    /// Since when it has been waited for.
    room_since: Option<Timestamp>,
    /// Looks since the last reading.
    looks: u32,
    /// The rung that it led to before it was called off.
    called_off: Option<Rung>,
}

impl Switch {
    /// Raises its urgency to `urgency`, if it was lower: its deadline comes sooner. A critical shortage does not wait
    /// for what is loaded first.
    pub(super) fn press(&mut self, now: Timestamp, urgency: Urgency, settings: &Settings) {
        if urgency <= self.urgency {
            return;
        }
        self.urgency = urgency;
        if urgency == Urgency::Critical && !is_cut_when_critical(settings) {
            // What runs has as long as at any other time, counted from now if nothing waited for it before.
            if !self.overdue {
                self.drain_until.get_or_insert(now + settings.manager.drain_deadline);
            }
            return;
        }
        if self.drain_until.is_some() || self.overdue || urgency == Urgency::Critical {
            self.overdue = false;
            let until = now + drain_deadline(urgency, settings);
            self.drain_until = Some(self.drain_until.map_or(until, |before| before.min(until)));
        }
    }

    /// Returns whether it waits for memory that only others, or time, give back.
    pub(super) fn waits_for_others(&self) -> bool {
        self.next_look.is_some()
    }

    pub(super) fn is_up(&self) -> bool {
        self.to > self.base
    }
}

/// Returns whether a critical shortage has its own deadline, at which running replies are ended.
fn is_cut_when_critical(settings: &Settings) -> bool {
    settings.manager.at_critical_drain_deadline == AtDrainDeadline::Cancel
}

fn drain_deadline(urgency: Urgency, settings: &Settings) -> Duration {
    match urgency {
        Urgency::Critical if !is_cut_when_critical(settings) => settings.manager.drain_deadline,
        Urgency::Critical => settings.manager.critical_drain_deadline,
        Urgency::Immediate | Urgency::Graceful => settings.manager.drain_deadline,
    }
}

impl Manager {
    /// Begins a switch, or gives the one under way another goal. A downgrade never becomes less urgent.
    pub(super) fn begin(
        &mut self,
        now: Timestamp,
        goal: Option<usize>,
        urgency: Urgency,
        reason: Reason,
    ) {
        let to = goal.map_or(Rung::NONE, |goal| self.rung_of(goal));
        let mut switch = Switch {
            from: self.rung,
            to,
            base: self.rung,
            goal,
            began: now,
            urgency: Urgency::Graceful,
            reason,
            blind: false,
            is_for_name: false,
            drain_until: None,
            overdue: false,
            next_look: None,
            room_since: None,
            looks: 0,
            called_off: None,
        };
        if let Some(old) = self.switch {
            switch.from = old.from;
            switch.base = self.serving.map_or(old.base, |serving| self.rung_of(serving));
            switch.began = old.began;
            switch.drain_until = old.drain_until;
            switch.overdue = old.overdue;
            if to < old.to {
                switch.urgency = old.urgency;
            }
            switch.called_off = old.called_off;
            // Remember an upgrade that a shortage reverses: there will soon seem to be room for it again.
            let has_come = self.serving.is_some() && self.serving == old.goal;
            if old.is_up() && !has_come && to < old.to && urgency > Urgency::Graceful {
                switch.called_off.get_or_insert(old.to);
                self.setbacks.push(Setback::CalledOff(old.to, CalledOff::NoRoom));
            }
        }
        switch.press(now, urgency, &self.settings);
        self.switch = Some(switch);
    }

    /// Takes the next step of the switch, if there is one, then starts what can start.
    pub(super) fn advance(&mut self, now: Timestamp, out: &mut VecDeque<Output>) {
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
        self.note_emptiness(now);
        self.start_waiting(now, out);
    }

    /// Empties every slot. Returns whether another step can follow at once.
    fn advance_to_nothing(&mut self, now: Timestamp, out: &mut VecDeque<Output>) -> bool {
        self.serve_from(now, None, out);
        self.drain_all_except(now, None, out);
        self.complete_if_alone(now, None, out)
    }

    /// Brings `goal` to serve. Returns whether another step can follow at once.
    fn advance_to(&mut self, now: Timestamp, goal: usize, out: &mut VecDeque<Output>) -> bool {
        match self.slots[goal].state {
            Lifecycle::Ready => {
                self.serve_from(now, Some(goal), out);
                self.drain_all_except(now, Some(goal), out);
                self.complete_if_alone(now, Some(goal), out)
            }
            Lifecycle::Draining if self.slots[goal].tryout.reloads => {
                // Slow is better than nothing, in case its room has been taken since.
                if !self.place_alone(&self.catalog.models()[goal]).is_there() {
                    self.slots[goal].tryout.reloads = false;
                    return true;
                }
                self.unload_if_idle(now, goal, out);
                false
            }
            // Wanted again before it had gone: nothing is loaded twice, and nothing waits for its end.
            Lifecycle::Draining => {
                self.pass(goal, Trigger::Resume);
                true
            }
            Lifecycle::Loading => {
                // What was taken out of service for the goal goes as soon as it is idle, not only once the load is
                // done.
                if self.serving.is_none() {
                    self.drain_all_except(now, Some(goal), out);
                }
                false
            }
            Lifecycle::Unloading | Lifecycle::Failed => {
                self.make_way_if_forced(now, out);
                self.serve_meanwhile(now, out);
                false
            }
            Lifecycle::Absent => {
                let rest = self.slots[goal].rests_until.filter(|&until| until > now);
                self.slots[goal].deadline = rest;
                if rest.is_none() {
                    return self.make_room_and_load(now, goal, out);
                }
                self.make_way_if_forced(now, out);
                self.serve_meanwhile(now, out);
                false
            }
        }
    }

    /// Ends the switch once every model but `keep` has gone, or will not be unloaded by its server.
    fn complete_if_alone(
        &mut self,
        now: Timestamp,
        keep: Option<usize>,
        out: &mut VecDeque<Output>,
    ) -> bool {
        let is_left = |index: usize| {
            Some(index) != keep && self.slots[index].state.is_resident() && !self.is_lost(index)
        };
        let alone = !(0..self.slots.len()).any(is_left);
        if alone {
            self.complete(now, out);
        }
        alone
    }

    /// Loads `goal` beside what is loaded if both fit, or else makes room for it.
    fn make_room_and_load(
        &mut self,
        now: Timestamp,
        goal: usize,
        out: &mut VecDeque<Output>,
    ) -> bool {
        for index in 0..self.slots.len() {
            // Never two loads at once: the one that is no longer wanted is unloaded, and its end is waited for.
            if self.slots[index].state == Lifecycle::Loading {
                self.unload(now, index, out);
            }
        }
        let is_leaving =
            |index: usize| self.slots[index].state == Lifecycle::Unloading && !self.is_lost(index);
        if (0..self.slots.len()).any(is_leaving) {
            return false;
        }
        if !self.sees_what_is_there(now) {
            self.look_again(now);
            return false;
        }
        if let Some(switch) = &mut self.switch {
            switch.next_look = None;
        }
        let resident = self.resident();
        let limit = |total| self.settings.degrade_limit(total);
        let fit = self.place(&self.catalog.models()[goal], Beside::Resident(&resident), limit);
        if let Fit::Fits(place) = fit {
            self.load(now, goal, place.gpu, out);
            self.limit_a_load_beside(now, out);
            return false;
        }
        let holds = |state| matches!(state, Lifecycle::Ready | Lifecycle::Draining);
        if self.slots.iter().any(|slot| holds(slot.state)) {
            self.make_room(now, goal, out)
        } else {
            self.wait_for_room(now, goal, &resident, out)
        }
    }

    /// Takes the serving model out of service for one that has a place once it has gone.
    fn make_room(&mut self, now: Timestamp, goal: usize, out: &mut VecDeque<Output>) -> bool {
        let switch = self.switch.expect("only a switch makes room");
        // What must go for a shortage goes, whatever follows it.
        let is_forced = switch.urgency > Urgency::Graceful || switch.blind;
        if !is_forced && !self.place_alone(&self.catalog.models()[goal]).is_there() {
            self.call_off(CalledOff::NoRoom);
            return true;
        }
        if switch.is_up()
            && !switch.overdue
            && !switch.blind
            && let Some(serving) = self.serving
            && self.slots[serving].running > 0
            // If its end would end a shortage, the serving model takes nothing new.
            && !self.is_short()
        {
            self.start_drain_clock(now);
            return false;
        }
        self.serve_from(now, None, out);
        self.drain_all_except(now, None, out);
        false
    }

    /// Waits for memory of ours that comes back late. What is missing at the end has been taken by others or will not
    /// come: then nothing is loaded until the policy sees room.
    fn wait_for_room(
        &mut self,
        now: Timestamp,
        goal: usize,
        resident: &Resident,
        out: &mut VecDeque<Output>,
    ) -> bool {
        let (limit, interval) = (self.settle_limit(), self.look_interval());
        let switch = self.switch.as_mut().expect("only a switch waits for room");
        let until = *switch.room_since.get_or_insert(now) + limit;
        // The last look is at the end of that time, not shortly before.
        if self.seen_at.is_none_or(|seen| seen < until) {
            let next = now + interval;
            switch.next_look = Some(if now < until { next.min(until) } else { next });
            return false;
        }
        let is_blind = switch.blind;
        let model = &self.catalog.models()[goal];
        let fit = self.place(model, Beside::Resident(resident), |total| total);
        if let Some(place) = fit.place().filter(|_| is_blind) {
            self.load(now, goal, place.gpu, out);
            return false;
        }
        // The policy sees by itself what others took or the server does not release. Memory that comes back late will
        // soon look like room, and be as late again: then it is waited for longer.
        let is_any_lost = (0..self.slots.len()).any(|index| self.is_lost(index));
        let is_late = !is_any_lost && self.would_fit_once_all_is_back(model);
        if is_late {
            self.late_releases = self.late_releases.saturating_add(1);
            self.call_off(CalledOff::NoRoom);
        } else {
            self.give_up();
        }
        true
    }

    /// Returns whether the last sample shows the machine as it is: it is fresh, and none of our models has been
    /// unloaded since.
    fn sees_what_is_there(&self, now: Timestamp) -> bool {
        let is_fresh = |at| now.since(at) <= self.settings.stale_after;
        !self.gone_since && self.seen_at.is_some_and(is_fresh)
    }

    /// Asks for another sample soon. If the machine cannot be read, it stops asking until it can.
    fn look_again(&mut self, now: Timestamp) {
        let interval = self.look_interval();
        let switch = self.switch.as_mut().expect("only a switch waits for a reading");
        if switch.next_look.is_none_or(|look| look <= now) {
            switch.looks += 1;
            switch.next_look = (switch.looks <= ROOM_LOOKS).then(|| now + interval);
        }
    }

    /// Notes that there is a new sample.
    pub(super) fn note_reading(&mut self) {
        if let Some(switch) = &mut self.switch {
            switch.looks = 0;
        }
    }

    /// Changes the goal to another model, or to nothing.
    pub(super) fn fall_back_to(&mut self, goal: Option<usize>) {
        let to = goal.map_or(Rung::NONE, |goal| self.rung_of(goal));
        if let Some(switch) = &mut self.switch {
            switch.goal = goal;
            switch.to = to;
            switch.room_since = None;
            switch.next_look = None;
        }
    }

    /// Stays with the model that serves, or has just stopped serving, and lets the policy know, so that it is not tried
    /// again at once.
    pub(super) fn call_off(&mut self, cause: CalledOff) {
        if let Some(switch) = &self.switch {
            self.setbacks.push(Setback::CalledOff(switch.to, cause));
        }
        self.give_up();
    }

    fn give_up(&mut self) {
        // What was taken out of service and is still there is wanted again.
        let is_there = |&index: &usize| self.slots[index].state == Lifecycle::Draining;
        let stays = self.serving.or_else(|| (0..self.slots.len()).find(is_there));
        if let Some(switch) = &mut self.switch {
            switch.called_off.get_or_insert(switch.to);
            self.fall_back_to(stays);
        }
    }

    /// Does what a drain deadline requires once it has passed.
    pub(super) fn pass_drain_deadline(&mut self, now: Timestamp, out: &mut VecDeque<Output>) {
        let Some(switch) = &mut self.switch else { return };
        if switch.drain_until.is_none_or(|until| until > now) {
            return;
        }
        switch.drain_until = None;
        switch.overdue = true;
        let Switch { goal, reason, .. } = *switch;
        let waits_for_an_idle_moment = switch.is_up()
            && self.serving != goal
            && goal.is_some_and(|goal| self.slots[goal].state == Lifecycle::Absent);
        // An upgrade that the user asked for is carried out: nothing new is started, and what runs is finished.
        if waits_for_an_idle_moment && reason != Reason::Asked && self.serving.is_some() {
            self.call_off(CalledOff::Busy);
        }
        self.limit_a_load_beside(now, out);
        self.cut_what_is_overdue(now, out);
    }

    /// Ends what still runs on a model that is to be unloaded, if its deadline has passed and the settings say so.
    fn cut_what_is_overdue(&mut self, now: Timestamp, out: &mut VecDeque<Output>) {
        let Some(switch) = self.switch.filter(|switch| switch.overdue) else { return };
        let manager = &self.settings.manager;
        let at_any_time = manager.at_drain_deadline == AtDrainDeadline::Cancel
            && !switch.is_up()
            // A switch to a named model interrupts no reply, unless a space is short.
            && (!switch.is_for_name || self.is_short());
        let (cuts, by) = match switch.urgency {
            _ if self.stopping => (true, CancelledBy::Shutdown),
            Urgency::Critical => {
                (is_cut_when_critical(&self.settings) || at_any_time, CancelledBy::DrainDeadline)
            }
            Urgency::Graceful | Urgency::Immediate => (at_any_time, CancelledBy::DrainDeadline),
        };
        if !cuts {
            return;
        }
        for index in 0..self.slots.len() {
            if self.slots[index].state == Lifecycle::Draining {
                self.cancel_running_on(now, index, by, out);
            }
        }
    }

    fn load(&mut self, now: Timestamp, index: usize, gpu: Option<u8>, out: &mut VecDeque<Output>) {
        if let Some(switch) = &mut self.switch {
            switch.room_since = None;
            switch.next_look = None;
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
    pub(super) fn drain_all_except(
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
                    self.unload_if_idle(now, index, out);
                }
                Lifecycle::Loading => self.unload(now, index, out),
                Lifecycle::Draining => self.unload_if_idle(now, index, out),
                Lifecycle::Absent | Lifecycle::Unloading | Lifecycle::Failed => {}
            }
        }
        if self.slots.iter().any(|slot| slot.state == Lifecycle::Draining) {
            self.start_drain_clock(now);
            self.cut_what_is_overdue(now, out);
        }
    }

    pub(super) fn start_drain_clock(&mut self, now: Timestamp) {
        let Some(switch) = &mut self.switch else { return };
        if switch.drain_until.is_none() && !switch.overdue {
            switch.drain_until = Some(now + drain_deadline(switch.urgency, &self.settings));
        }
    }

    /// Does what the deadline of a state requires.
    pub(super) fn pass_deadline(
        &mut self,
        now: Timestamp,
        index: usize,
        out: &mut VecDeque<Output>,
    ) {
        self.slots[index].deadline = None;
        match self.slots[index].state {
            Lifecycle::Loading => {
                let model = self.catalog.models()[index].id.clone();
                let what = Unanswered::Load;
                out.push_back(Output::Notice(Notice::Unanswered { model, what }));
                self.note_failure(now, index, false, out);
                self.unload(now, index, out);
            }
            Lifecycle::Unloading => self.pass_unload_timeout(now, index, out),
            Lifecycle::Failed => self.pass(index, Trigger::Retry),
            // The rest after a load that was given up is over: the next step of the switch deals with it.
            Lifecycle::Absent | Lifecycle::Ready | Lifecycle::Draining => {}
        }
    }

    fn complete(&mut self, now: Timestamp, out: &mut VecDeque<Output>) {
        let switch = self.switch.take().expect("only a switch completes");
        let Switch { from, to, began, reason, called_off, is_for_name, .. } = switch;
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
            called_off,
        });
        // A client that names a smaller model has asked for less.
        if to < from && !self.stopping && !is_for_name {
            out.push_back(Output::Notice(Notice::Degraded { from, to, reason }));
        }
    }
}

/// The most steps that a switch takes at one moment; beyond it, the rest is left to the next input.
const MOST_STEPS: u32 = 8;
