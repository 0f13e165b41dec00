//! A short request of our own after each load: whether the model came up as fast as the catalog says.
//!
//! A model that was placed badly, some of its layers left on the processor, stays slow until it is loaded again, and nobody
//! learns of it before users have waited. Left alone on purpose: a model whose speeds are a guess.

use std::collections::VecDeque;
use std::time::Duration;

use crate::catalog::Rung;
use crate::decision::{Reason, Urgency};
use crate::demand::SLOW_FACTOR;
use crate::event::{Command, Notice, Output, Tried};
use crate::manager::lifecycle::{Lifecycle, Trigger};
use crate::manager::{Manager, Setback};
use crate::model::Task;
use crate::time::{Timestamp, from_secs_f64};
use crate::units::Percent;

impl Manager {
    /// Tries a model that has just been loaded.
    pub(super) fn try_out(&mut self, index: usize, out: &mut VecDeque<Output>) {
        let model = &self.catalog.models()[index];
        let tryout = &mut self.slots[index].tryout;
        (tryout.reloads, tryout.beside) = (false, 0);
        tryout.is_awaited =
            self.settings.manager.try_out && !model.speeds_guessed && model.can(Task::Chat);
        if tryout.is_awaited {
            out.push_back(Output::Command(Command::Try { model: model.id.clone() }));
        }
    }

    /// Notes that a request runs beside a try-out.
    pub(super) fn note_beside_tryout(&mut self, index: usize) {
        let slot = &mut self.slots[index];
        slot.tryout.beside = slot.tryout.beside.max(slot.running);
    }

    /// Takes how a try-out went. What came up slow is loaded again, once; then another stands in, where one can.
    pub(super) fn handle_tried(
        &mut self,
        now: Timestamp,
        tried: &Tried,
        out: &mut VecDeque<Output>,
    ) {
        if self.catalog.model(&tried.model).is_none() {
            return;
        }
        let index = self.index_of(tried.model.as_str());
        let was_awaited = std::mem::take(&mut self.slots[index].tryout.is_awaited);
        if !was_awaited || self.slots[index].state != Lifecycle::Ready {
            return;
        }
        let by_catalog = self.by_catalog(index, tried.output_tokens);
        let side_by_side = 1 + self.slots[index].tryout.beside;
        let limit = by_catalog.saturating_mul(SLOW_FACTOR * side_by_side);
        if tried.decoded_in <= limit {
            self.slots[index].tryout.slow_loads = 0;
            return;
        }
        // Somebody else's doing, which another load does not mend.
        if self.is_contended(index) {
            return;
        }
        self.slots[index].tryout.slow_loads += 1;
        let slow_loads = self.slots[index].tryout.slow_loads;
        let rung = self.rung_of(index);
        if slow_loads == 1 {
            let (took, by_catalog) = (tried.decoded_in, by_catalog);
            out.push_back(Output::Notice(Notice::SlowLoad { rung, took, by_catalog }));
        }
        // On its way out, or not what is wanted.
        if self.stopping
            || self.serving != Some(index)
            || self.switch.is_some_and(|it| it.goal != Some(index))
        {
            return;
        }
        let reason = Reason::SlowLoad { took: tried.decoded_in, by_catalog };
        let has_place = self.place_alone(&self.catalog.models()[index]).is_there();
        if slow_loads < self.settings.manager.load_attempts && has_place {
            self.begin_again(now, index, reason, out);
        } else {
            self.setbacks.push(Setback::Broke(rung));
            // Slow is better than nothing.
            let Some(other) = self.stand_in_for_slow(index) else { return };
            self.begin(now, Some(other), Urgency::Graceful, reason);
        }
        self.advance(now, out);
    }

    fn by_catalog(&self, index: usize, tokens: u32) -> Duration {
        from_secs_f64(f64::from(tokens) / self.catalog.models()[index].decode_per_second)
    }

    /// Drains and unloads a model in order to load it again.
    fn begin_again(
        &mut self,
        now: Timestamp,
        index: usize,
        reason: Reason,
        out: &mut VecDeque<Output>,
    ) {
        self.begin(now, Some(index), Urgency::Graceful, reason);
        self.serve_from(now, None, out);
        self.pass(index, Trigger::Drain);
        self.slots[index].tryout.reloads = true;
        self.start_drain_clock(now);
    }

    /// Returns whether others take so much of a processor or GPU, or of its memory, that a model may be slow for that. Whichever it
    /// is: one on a GPU waits for the processor too, and which GPU a driver means by a number is not always certain.
    fn is_contended(&self, index: usize) -> bool {
        let gpus = self.seen.gpus.iter().map(|gpu| gpu.utilization);
        let mut rates = std::iter::once(self.seen.cpu).chain(gpus).flatten();
        rates.any(|rate| rate.others >= CONTENDED) || self.is_crowded_out(index)
    }

    /// Returns what to serve with instead of a model that comes up slow: its first fallback, else the best lower rung, that has
    /// room and has not come up slow as often.
    fn stand_in_for_slow(&self, slow: usize) -> Option<usize> {
        let attempts = self.settings.manager.load_attempts;
        let is_sound = |&index: &usize| {
            let slot = &self.slots[index];
            slot.tryout.slow_loads < attempts
                && slot.state != Lifecycle::Failed
                && self.place_alone(&self.catalog.models()[index]).is_there()
        };
        let fallbacks = self.catalog.models()[slow].fallbacks.iter();
        let fallbacks = fallbacks.map(|id| self.index_of(id.as_str()));
        let lower = (1..self.rung_of(slow).0).rev();
        let lower = lower.filter_map(|rung| self.catalog.primary_index(Rung(rung)));
        fallbacks.chain(lower).find(is_sound)
    }
}

/// Where others take less, more than half of the speed is left, and not a third.
const CONTENDED: Percent = Percent::new(50);
