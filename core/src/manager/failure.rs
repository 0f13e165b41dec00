//! What happens when a model does not load, dies, is crowded out, or its server does not answer: it rests, and another
//! stands in.

use std::collections::VecDeque;
use std::time::Duration;

use crate::catalog::Rung;
use crate::decision::{CalledOff, Reason, Urgency};
use crate::event::{Notice, Output, Unanswered};
use crate::manager::lifecycle::{Lifecycle, Trigger};
use crate::manager::{Manager, Setback};
use crate::place::overruns;
use crate::request::{End, RequestId};
use crate::time::{Timestamp, left};
use crate::units::Bytes;

impl Manager {
    /// Counts a failure of a model, lets it rest, and looks for another goal once the goal has failed too often. A
    /// model's first death is worth another try at once.
    pub(super) fn note_failure(
        &mut self,
        now: Timestamp,
        index: usize,
        has_died: bool,
        out: &mut VecDeque<Output>,
    ) {
        self.heal(now, index);
        let manager = &self.settings.manager;
        let slot = &mut self.slots[index];
        slot.failures += 1;
        slot.failed_at = now;
        let earlier = slot.failures - 1;
        let rest = match earlier.checked_sub(u32::from(has_died)) {
            None => Duration::ZERO,
            Some(doublings) => {
                manager.load_retry.saturating_mul(1 << doublings.min(MOST_RETRY_DOUBLINGS))
            }
        };
        slot.rests_until = Some(now + rest);
        if slot.state == Lifecycle::Failed {
            slot.deadline = slot.rests_until;
        }
        let failures = slot.failures;
        if failures < manager.load_attempts {
            return;
        }
        if !std::mem::replace(&mut slot.told, true) {
            let model = self.catalog.models()[index].id.clone();
            out.push_back(Output::Notice(Notice::KeepsFailing { model, failures }));
        }
        self.setbacks.push(Setback::Broke(self.rung_of(index)));
        if self.switch.is_some_and(|switch| switch.goal == Some(index)) {
            let stand_in = self.stand_in_for(now, index);
            self.fall_back_to(stand_in);
        }
    }

    /// Forgets a model's failures if it has served well since, for at least a reversal window.
    pub(super) fn heal(&mut self, now: Timestamp, index: usize) {
        let good = self.settings.reversal_window;
        let slot = &mut self.slots[index];
        if slot.ready_since.take().is_some_and(|since| now.since(since) >= good) {
            slot.failures = 0;
            slot.told = false;
        }
    }

    /// Returns how much longer a rung's model is not loaded, because it failed or its server will not unload it.
    pub(super) fn rest_remaining(&self, now: Timestamp, rung: Rung) -> Option<Duration> {
        self.rest_of(now, self.index_of(self.catalog.primary(rung)?.id.as_str()))
    }

    /// Returns the same for a model.
    pub(super) fn rest_of(&self, now: Timestamp, index: usize) -> Option<Duration> {
        let slot = &self.slots[index];
        // Of two waits, the longer one: the rest after a failure goes on while the unload is not answered.
        let until = slot.rests_until.max(slot.deadline.filter(|_| self.is_lost(index)));
        let until = until.filter(|&until| until > now)?;
        left(until.since(now), Duration::ZERO)
    }

    /// Gives up a load beside the model that serves when others take the room in which both fitted. In an upgrade, the
    /// serving model stays, and is judged as at any other time. It also stays in a downgrade that nothing forces, if
    /// the other model would not fit without it either. Otherwise it is unloaded first.
    pub(super) fn give_up_a_load_that_others_crowd_out(
        &mut self,
        now: Timestamp,
        out: &mut VecDeque<Output>,
    ) {
        let Some(switch) = self.switch else { return };
        let Some(goal) = switch.goal else { return };
        let is_beside = self.serving.is_some_and(|serving| serving != goal);
        let is_crowded_out =
            is_beside && self.slots[goal].state == Lifecycle::Loading && self.is_crowded_out(goal);
        if !is_crowded_out {
            return;
        }
        let is_homeless = || !self.place_alone(&self.catalog.models()[goal]).is_there();
        if switch.is_up() || (switch.urgency == Urgency::Graceful && is_homeless()) {
            self.call_off(CalledOff::NoRoom);
        } else {
            self.serve_from(now, None, out);
            self.drain_all_except(now, Some(goal), out);
        }
    }

    /// Returns whether a space that a model is being loaded into is over its line. Other spaces, which the switch may
    /// be meant to relieve, do not count against the load.
    pub(super) fn is_crowded_out(&self, index: usize) -> bool {
        let (model, gpu) = (&self.catalog.models()[index], self.slots[index].gpu);
        let limit = |total| self.settings.degrade_limit(total);
        overruns(&self.seen, &self.settings, limit).any(|over| match over.gpu {
            None => model.footprint_to_load().ram > Bytes::ZERO,
            Some(_) => over.gpu == gpu,
        })
    }

    /// Returns what to serve with instead of a model that does not load: its first fallback that fits and has not
    /// failed as often, then what is ready now, then the best such lower rung.
    pub(super) fn stand_in_for(&self, now: Timestamp, failed: usize) -> Option<usize> {
        let is_sound = |&index: &usize| {
            let slot = &self.slots[index];
            let has_failed = slot.failures >= self.settings.manager.load_attempts
                && now.since(slot.failed_at) < FAILURES_KEPT;
            index != failed
                && !has_failed
                && !self.is_lost(index)
                && self.place_alone(&self.catalog.models()[index]).is_there()
        };
        let alive = |state| matches!(state, Lifecycle::Ready | Lifecycle::Draining);
        // What a shortage has just taken out of service is not brought back.
        let ready = (0..self.slots.len()).find(|&index| {
            index != failed && alive(self.slots[index].state) && !self.is_crowded_out(index)
        });
        let fallbacks = self.catalog.models()[failed].fallbacks.iter();
        let mut fallbacks = fallbacks.map(|id| self.index_of(id.as_str())).filter(is_sound);
        let mut lower = (1..self.rung_of(failed).0).rev().filter_map(|rung| {
            let model = self.catalog.primary(Rung(rung))?;
            Some(self.index_of(model.id.as_str())).filter(is_sound)
        });
        fallbacks.next().or(ready).or_else(|| lower.next())
    }

    /// While the goal rests, serves with a model that was loaded for an earlier goal.
    pub(super) fn serve_meanwhile(&mut self, now: Timestamp, out: &mut VecDeque<Output>) {
        let is_there = |&index: &usize| {
            self.slots[index].state == Lifecycle::Ready && !self.is_crowded_out(index)
        };
        if self.serving.is_none()
            && let Some(index) = (0..self.slots.len()).find(is_there)
        {
            self.serve_from(now, Some(index), out);
        }
    }

    /// Begins to bring back a model that died while it served.
    pub(super) fn recover(&mut self, now: Timestamp, index: usize) {
        if self.switch.is_some() || self.stopping {
            return;
        }
        let goal = if self.slots[index].failures < self.settings.manager.load_attempts {
            Some(index)
        } else {
            self.stand_in_for(now, index)
        };
        let reason = Reason::Failing { failures: self.slots[index].failures };
        self.begin(now, goal, Urgency::Immediate, reason);
    }

    /// Ends the requests that their server has not answered in time: those that it was asked to stop, and those that
    /// run for longer than any reply should, whose server counts as broken.
    pub(super) fn give_up_what_is_not_answered(
        &mut self,
        now: Timestamp,
        out: &mut VecDeque<Output>,
    ) {
        let overdue = |(&id, running): (&RequestId, &super::Running)| {
            (running.given_up_at <= now).then_some((id, running.model, running.cancelled_by))
        };
        let overdue: Vec<_> = self.running.iter().filter_map(overdue).collect();
        for (id, model, cancelled_by) in overdue {
            match cancelled_by {
                Some(by) => {
                    self.running.remove(&id);
                    self.slots[model].running -= 1;
                    let retry_after = self.retry_after_cut(now, by);
                    let end = End::Cancelled { by, retry_after };
                    out.push_back(Output::Ended { request: id, end });
                }
                // Its server's other requests ended with the first.
                None if self.running.contains_key(&id) => self.declare_broken(now, model, out),
                None => {}
            }
        }
    }

    /// Declares a model's server broken: its requests fail, and it is unloaded and failed over. A model that has gone
    /// without answering them is neither.
    fn declare_broken(&mut self, now: Timestamp, index: usize, out: &mut VecDeque<Output>) {
        let model = self.catalog.models()[index].id.clone();
        let what = Unanswered::Request;
        out.push_back(Output::Notice(Notice::Unanswered { model, what }));
        self.running.retain(|&request, running| {
            if running.model == index {
                let error = "the model's server does not answer; it is being replaced".to_owned();
                out.push_back(Output::Ended { request, end: End::Failed { error } });
            }
            running.model != index
        });
        self.slots[index].running = 0;
        if !matches!(self.slots[index].state, Lifecycle::Ready | Lifecycle::Draining) {
            return;
        }
        self.note_failure(now, index, true, out);
        if self.slots[index].state == Lifecycle::Ready {
            self.pass(index, Trigger::Drain);
        }
        self.unload(now, index, out);
        if self.serving == Some(index) {
            self.serve_from(now, None, out);
            self.recover(now, index);
        }
    }
}

/// The wait after failed loads grows to at most 32 times the first one.
const MOST_RETRY_DOUBLINGS: u32 = 5;

/// A model that failed too often is no stand-in for this long. Chosen: about what the policy's own waits add up to.
const FAILURES_KEPT: Duration = Duration::from_hours(1);
