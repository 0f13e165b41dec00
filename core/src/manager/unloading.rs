//! Unloads: requested again if they are not answered, and finally judged by what samples show.

use std::collections::VecDeque;
use std::time::Duration;

use crate::event::{Command, Notice, Output, Unanswered};
use crate::manager::Manager;
use crate::manager::lifecycle::{Lifecycle, Trigger, UNLOAD_ATTEMPTS};
use crate::place::Resident;
use crate::time::Timestamp;
use crate::units::{Bytes, Percent};

impl Manager {
    pub(super) fn unload_if_idle(
        &mut self,
        now: Timestamp,
        index: usize,
        out: &mut VecDeque<Output>,
    ) {
        if self.slots[index].running == 0 {
            self.unload(now, index, out);
        }
    }

    pub(super) fn unload(&mut self, now: Timestamp, index: usize, out: &mut VecDeque<Output>) {
        self.heal(now, index);
        self.pass(index, Trigger::Unload);
        let asked = self.slots[index].asked.min(MOST_UNLOAD_DOUBLINGS);
        self.slots[index].deadline = Some(now + UNLOAD_TIMEOUT.saturating_mul(1 << asked));
        let model = self.catalog.models()[index].id.clone();
        out.push_back(Output::Command(Command::Unload { model }));
    }

    /// Requests an unload again that was not answered, or relies on what samples show.
    pub(super) fn pass_unload_timeout(
        &mut self,
        now: Timestamp,
        index: usize,
        out: &mut VecDeque<Output>,
    ) {
        if self.stopping || self.shows_gone(index) {
            self.count_as_gone(index, out);
            return;
        }
        self.slots[index].asked += 1;
        if self.slots[index].asked == UNLOAD_ATTEMPTS {
            self.wait_no_longer(index, out);
            if self.switch.is_some_and(|switch| switch.goal == Some(index)) {
                let stand_in = self.stand_in_for(now, index);
                self.fall_back_to(stand_in);
            }
        }
        self.unload(now, index, out);
    }

    /// Finds out from a sample whether a model has gone whose unload was not answered in time.
    pub(super) fn find_what_has_gone(&mut self, out: &mut VecDeque<Output>) {
        for index in 0..self.slots.len() {
            let slot = &self.slots[index];
            if slot.state == Lifecycle::Unloading && slot.asked > 0 && self.shows_gone(index) {
                self.count_as_gone(index, out);
            }
        }
    }

    /// Counts a model as unloaded although its server has not said so.
    fn count_as_gone(&mut self, index: usize, out: &mut VecDeque<Output>) {
        if !self.is_lost(index) {
            self.wait_no_longer(index, out);
        }
        self.pass(index, Trigger::Unloaded);
        (self.slots[index].deadline, self.slots[index].asked) = (None, 0);
    }

    /// Stops waiting for an unload that the server does not answer.
    fn wait_no_longer(&mut self, index: usize, out: &mut VecDeque<Output>) {
        self.note_gone(index);
        let model = self.catalog.models()[index].id.clone();
        out.push_back(Output::Notice(Notice::Unanswered { model, what: Unanswered::Unload }));
    }

    /// Returns whether the server will not unload a model. Its memory counts as taken, and is not waited for.
    pub(super) fn is_lost(&self, index: usize) -> bool {
        self.slots[index].is_lost()
    }

    /// Returns whether the last sample shows next to nothing of what a model held.
    fn shows_gone(&self, index: usize) -> bool {
        let (model, gpu) = (&self.catalog.models()[index], self.slots[index].gpu);
        let mut rest = Resident::default();
        for (other, slot) in self.slots.iter().enumerate() {
            if other != index && slot.state.is_resident() {
                rest.add(self.catalog.models()[other].footprint(), slot.gpu);
            }
        }
        let need = model.footprint();
        let (held, own, left) = if need.vram > Bytes::ZERO {
            let Some(gpu) = gpu else { return false };
            let space = self.seen.gpus.get(usize::from(gpu)).and_then(|reading| reading.vram);
            (need.vram, space.map(|space| space.own), rest.vram_on(gpu))
        } else {
            (need.ram, self.seen.memory.map(|space| space.own), rest.ram())
        };
        let space = gpu.filter(|_| need.vram > Bytes::ZERO).map_or(0, |gpu| 1 + usize::from(gpu));
        let lingering = self.lingering.get(space).copied().unwrap_or(Bytes::ZERO);
        own.is_some_and(|own| own + lingering <= left + held.share(LEFT_OF_WHAT_HAS_GONE))
    }
}

/// An unload that is not answered within this time is requested again, less and less often (llama-server's stop
/// time-out is 10 s).
pub(super) const UNLOAD_TIMEOUT: Duration = Duration::from_secs(15);

/// Limits the time between two such requests to eight minutes.
const MOST_UNLOAD_DOUBLINGS: u32 = 5;

/// A model is gone when samples show at most this share of it. Chosen: more than the error of a sample, less than any
/// weights.
const LEFT_OF_WHAT_HAS_GONE: Percent = Percent::new(25);
