//! A short request of our own after each load: whether the model came up as fast as the catalog states.
//!
//! A badly placed model, with some of its layers left on the processor, stays slow until it is loaded again, and
//! otherwise only its users would notice. Models whose speeds are a guess are not tried.

use std::collections::VecDeque;
use std::time::Duration;

use crate::catalog::Rung;
use crate::decision::{Reason, Urgency};
use crate::demand::SLOW_FACTOR;
use crate::event::{Command, Notice, Output, Tried};
use crate::manager::lifecycle::{Lifecycle, Slot, Trigger, Tryout};
use crate::manager::{Manager, Setback};
use crate::model::Task;
use crate::time::{Timestamp, from_secs_f64};
use crate::units::Percent;

impl Manager {
    /// Tries a model that has just been loaded.
    pub(super) fn try_out(&mut self, index: usize, out: &mut VecDeque<Output>) {
        let model = &self.catalog.models()[index];
        let can_be =
            self.settings.manager.try_out && !model.speeds_guessed && model.can(Task::Chat);
        let tryout = &mut self.slots[index].tryout;
        *tryout = Tryout { slow_loads: tryout.slow_loads, ..Tryout::default() };
        if can_be {
            self.begin_tryout(index, out);
        }
    }

    fn begin_tryout(&mut self, index: usize, out: &mut VecDeque<Output>) {
        let is_contended = self.is_contended(index);
        let slot = &mut self.slots[index];
        let Tryout { slow_loads, reloads, made, .. } = slot.tryout;
        slot.tryout = Tryout {
            is_awaited: true,
            is_due: false,
            made: made + 1,
            beside: slot.running,
            is_contended,
            slow_loads,
            reloads,
        };
        self.is_trying = true;
        let model = self.catalog.models()[index].id.clone();
        out.push_back(Output::Command(Command::Try { model }));
    }

    /// Notes that a request runs beside a try-out.
    pub(super) fn note_beside_tryout(&mut self, index: usize) {
        let slot = &mut self.slots[index];
        slot.tryout.beside = slot.tryout.beside.max(slot.running);
    }

    /// Notes from a sample whether others slow down a try-out, and repeats an inconclusive one when neither they nor
    /// requests would.
    pub(super) fn heed_tryouts(&mut self, out: &mut VecDeque<Output>) {
        if !self.is_trying {
            return;
        }
        self.is_trying = false;
        for index in 0..self.slots.len() {
            let Slot { state, running, tryout, .. } = self.slots[index];
            if state != Lifecycle::Ready || !(tryout.is_awaited || tryout.is_due) {
                continue;
            }
            self.is_trying = true;
            let is_contended = self.is_contended(index);
            self.slots[index].tryout.is_contended |= is_contended;
            let is_idle = running == 0 && self.serving == Some(index) && self.switch.is_none();
            if tryout.is_due && is_idle && !is_contended {
                self.begin_tryout(index, out);
            }
        }
    }

    /// Takes the result of a try-out. A model that came up slow is loaded again, once; after that another stands in, if
    /// one can. Requests beside it, or others, may be what made it slow: then the result is inconclusive, and the
    /// try-out is repeated.
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
        let tryout = &mut self.slots[index].tryout;
        let was_awaited = std::mem::take(&mut tryout.is_awaited);
        let Tryout { beside, is_contended, made, .. } = *tryout;
        if !was_awaited || self.slots[index].state != Lifecycle::Ready {
            return;
        }
        let by_catalog = self.by_catalog(index, tried.output_tokens);
        let limit = by_catalog.saturating_mul(SLOW_FACTOR);
        if tried.decoded_in <= limit {
            self.slots[index].tryout.slow_loads = 0;
            return;
        }
        // No request beside it takes more than the try-out itself.
        let is_slow_at_best = tried.decoded_in > limit.saturating_mul(1 + beside);
        if is_contended || self.is_contended(index) || !is_slow_at_best {
            self.slots[index].tryout.is_due = made < MOST_TRYOUTS;
            return;
        }
        self.slots[index].tryout.slow_loads += 1;
        let slow_loads = self.slots[index].tryout.slow_loads;
        let rung = self.rung_of(index);
        if slow_loads == 1 {
            let (took, by_catalog) = (tried.decoded_in, by_catalog);
            out.push_back(Output::Notice(Notice::SlowLoad { rung, took, by_catalog }));
        }
        // On its way out, or not the goal.
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

    /// Returns whether others take so much of a processor or GPU, or of its memory, that a model may be slow because of
    /// it. Any of them counts: a model on a GPU waits for the processor too, and which GPU a driver means by a number
    /// is not always certain.
    fn is_contended(&self, index: usize) -> bool {
        let gpus = self.seen.gpus.iter().map(|gpu| gpu.utilization);
        let mut rates = std::iter::once(self.seen.cpu).chain(gpus).flatten();
        rates.any(|rate| rate.others >= CONTENDED) || self.is_crowded_out(index)
    }

    /// Returns what to serve with instead of a model that comes up slow: its first fallback, or else the best lower
    /// rung, that has room and has not come up slow as often.
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

/// The most try-outs of one load. Chosen: a model that is never left alone for some seconds is judged by its replies.
const MOST_TRYOUTS: u32 = 8;

/// If others take less than this, more than half of the speed is left, not a third.
const CONTENDED: Percent = Percent::new(50);
