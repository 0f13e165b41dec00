//! What is done about a model that does not load, dies, or is crowded out: it rests, and another stands in.

use crate::catalog::Rung;
use crate::decision::{Reason, Urgency};
use crate::manager::lifecycle::Lifecycle;
use crate::manager::{Manager, Switch};
use crate::place::overruns;
use crate::time::Timestamp;
use crate::units::Bytes;

impl Manager {
    /// Counts a failure of a model, and looks for another goal when it was the goal once too often.
    pub(super) fn note_failure(&mut self, now: Timestamp, index: usize) {
        let manager = &self.settings.manager;
        let slot = &mut self.slots[index];
        slot.failures += 1;
        let doublings = (slot.failures - 1).min(MOST_RETRY_DOUBLINGS);
        slot.deadline = Some(now + manager.load_retry.saturating_mul(1 << doublings));
        if slot.failures < manager.load_attempts {
            return;
        }
        let rung = self.rung_of(index);
        self.broken.push(rung);
        let Some(goal) = self.switch.and_then(|switch| switch.goal).filter(|&goal| goal == index)
        else {
            return;
        };
        let stand_in = self.stand_in_for(goal);
        let to = stand_in.map_or(Rung::NONE, |index| self.rung_of(index));
        let switch = self.switch.as_mut().expect("its goal has just been read");
        switch.goal = stand_in;
        switch.to = to;
    }

    /// Gives up a load beside the model that serves, when others take the room that both were found to fit in. The one
    /// that serves stays; whether it can is then judged as at any other time.
    pub(super) fn give_up_a_load_that_others_crowd_out(&mut self) {
        let Some(Switch { goal: Some(goal), .. }) = self.switch else { return };
        let Some(serving) = self.serving.filter(|&serving| serving != goal) else { return };
        if self.slots[goal].state != Lifecycle::Loading || !self.is_crowded_out(goal) {
            return;
        }
        self.broken.push(self.rung_of(goal));
        let to = self.rung_of(serving);
        if let Some(switch) = &mut self.switch {
            switch.goal = Some(serving);
            switch.to = to;
        }
    }

    /// Returns whether a space that a model is being loaded into is over its line. Others, which the switch may be to
    /// relieve, say nothing about the load.
    pub(super) fn is_crowded_out(&self, index: usize) -> bool {
        let (model, gpu) = (&self.catalog.models()[index], self.slots[index].gpu);
        let limit = |total| self.settings.degrade_limit(total);
        overruns(&self.seen, &self.settings, limit).any(|over| match over.gpu {
            None => model.footprint_to_load().ram > Bytes::ZERO,
            Some(_) => over.gpu == gpu,
        })
    }

    /// Returns what to serve with instead of a model that does not load: its first fallback that has not failed as
    /// often and fits, then what is ready now, then the best such lower rung.
    fn stand_in_for(&self, failed: usize) -> Option<usize> {
        let manager = &self.settings.manager;
        let is_sound = |&index: &usize| {
            let model = &self.catalog.models()[index];
            self.slots[index].failures < manager.load_attempts && self.has_room_for_model(model)
        };
        let alive = |state| matches!(state, Lifecycle::Ready | Lifecycle::Draining);
        let ready = (0..self.slots.len()).find(|&i| alive(self.slots[i].state));
        let fallbacks = self.catalog.models()[failed].fallbacks.iter();
        let mut fallbacks = fallbacks.map(|id| self.index_of(id.as_str())).filter(is_sound);
        let mut lower = (1..self.rung_of(failed).0).rev().filter_map(|rung| {
            let model = self.catalog.primary(Rung(rung))?;
            Some(self.index_of(model.id.as_str())).filter(is_sound)
        });
        fallbacks.next().or(ready).or_else(|| lower.next())
    }

    /// Begins to bring back a model that died while it served.
    pub(super) fn recover(&mut self, now: Timestamp, index: usize) {
        if self.switch.is_some() || self.stopping {
            return;
        }
        let goal = if self.slots[index].failures < self.settings.manager.load_attempts {
            Some(index)
        } else {
            self.stand_in_for(index)
        };
        let to = goal.map_or(Rung::NONE, |goal| self.rung_of(goal));
        let reason = Reason::Failing { failures: self.slots[index].failures };
        self.switch = Some(Switch {
            from: self.rung,
            to,
            goal,
            began: now,
            urgency: Urgency::Immediate,
            reason,
            waiting_for_room: None,
        });
    }
}

/// Failed loads wait at most 32 times the first wait.
const MOST_RETRY_DOUBLINGS: u32 = 5;
