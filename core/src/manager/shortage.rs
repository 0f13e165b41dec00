//! What a shortage does to a switch under way: it waits neither for a resting successor nor long for one that loads.

use std::collections::VecDeque;

use crate::decision::{CalledOff, Urgency};
use crate::event::Output;
use crate::manager::Manager;
use crate::manager::lifecycle::Lifecycle;
use crate::manager::switch::Switch;
use crate::place::{is_critical, overruns};
use crate::time::Timestamp;

impl Manager {
    /// Reacts to a critical shortage during a switch: an upgrade that has nothing ready yet is given up, and what runs
    /// on a model that goes has less time.
    pub(super) fn heed_shortage(&mut self, now: Timestamp) {
        let Some(switch) = self.switch else { return };
        if switch.urgency == Urgency::Critical || !is_critical(&self.seen, &self.settings) {
            return;
        }
        let is_luxury =
            switch.is_up() && self.serving.is_some_and(|serving| switch.goal != Some(serving));
        if is_luxury {
            self.call_off(CalledOff::NoRoom);
        }
        if let Some(switch) = &mut self.switch {
            switch.press(now, Urgency::Critical, &self.settings);
        }
    }

    /// Takes what must go for a shortage out of service while its successor rests: the shortage cannot wait for that.
    pub(super) fn make_way_if_forced(&mut self, now: Timestamp, out: &mut VecDeque<Output>) {
        if self.is_forced_by_shortage() {
            self.serve_from(now, None, out);
            self.drain_all_except(now, None, out);
        }
    }

    /// Returns whether the switch is a downgrade, or was made urgent on its way up, while a space is over its line.
    fn is_forced_by_shortage(&self) -> bool {
        let is_forced = |switch: Switch| !switch.is_up() || switch.urgency > Urgency::Graceful;
        self.switch.is_some_and(is_forced) && self.is_short()
    }

    /// Returns whether a space that holds one of our models is over its line.
    pub(super) fn is_short(&self) -> bool {
        let limit = |total| self.settings.degrade_limit(total);
        overruns(&self.seen, &self.settings, limit).next().is_some()
    }

    /// While a successor loads beside the serving model during a shortage, limits how long that model serves on to one
    /// drain. In an upgrade too: the short space is then not the one that the larger model loads into, or the load
    /// would be called off.
    pub(super) fn limit_a_load_beside(&mut self, now: Timestamp, out: &mut VecDeque<Output>) {
        let Some(Switch { goal: Some(goal), overdue, .. }) = self.switch else { return };
        let is_beside = self.serving.is_some_and(|serving| serving != goal)
            && self.slots[goal].state == Lifecycle::Loading;
        if !is_beside || !self.is_short() {
            return;
        }
        if overdue {
            self.serve_from(now, None, out);
            self.drain_all_except(now, Some(goal), out);
        } else {
            self.start_drain_clock(now);
        }
    }
}
