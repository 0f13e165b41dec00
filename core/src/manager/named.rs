//! Requests that name a model: whose turn it is, and the switch to that model.

use std::collections::VecDeque;
use std::time::Duration;

use crate::catalog::Rung;
use crate::decision::{Reason, Urgency};
use crate::event::Output;
use crate::manager::Manager;
use crate::manager::queue::{ServedBy, Waiting};
use crate::time::{Timestamp, earliest, left};

/// The last model that was loaded because requests name it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Named {
    at: Timestamp,
    index: usize,
    /// Whether nothing else has taken precedence since.
    stays: bool,
}

impl Manager {
    /// Returns the model to load next because a request names it: of those that have a place, the one with the longest
    /// wait. `None` if that is the serving one, or while requests wait that were already there when the serving model
    /// was loaded for them: they are all served first.
    pub(crate) fn named_next(&self, now: Timestamp) -> Option<usize> {
        if !self.queue.kinds().any(ServedBy::is_named) {
            return None;
        }
        let named = || {
            self.queue.iter().filter_map(|(waiting, served_by)| Some((waiting, served_by.named()?)))
        };
        let was_there = |waiting: &Waiting| self.named.is_some_and(|it| waiting.arrived <= it.at);
        let goes_first =
            |(waiting, index): (&Waiting, usize)| self.serving == Some(index) && was_there(waiting);
        if named().any(goes_first) {
            return None;
        }
        let (_, first) = named().find(|&(_, index)| {
            self.serving == Some(index) || self.obstacle_to(now, index).is_none()
        })?;
        (self.serving != Some(first)).then_some(first)
    }

    /// Returns how much longer no model is loaded by name: during the switch cooldown, and while the last one stays.
    pub(crate) fn named_waits(&self, now: Timestamp) -> Option<Duration> {
        let stays = self.named.and_then(|it| self.left_of_stay(now, it));
        self.cooldown_remaining(now).max(stays)
    }

    /// Returns when a model may be loaded for a waiting request that names it.
    pub(crate) fn next_named(&self, now: Timestamp) -> Option<Timestamp> {
        let wait = self.named_waits(now)?;
        let is_held_up = self.switch.is_some() || self.stopping;
        (!is_held_up && self.named_next(now).is_some()).then(|| now + wait)
    }

    /// Returns the rung of the model that was loaded by name and stays, and for how much longer it stays.
    pub(crate) fn named_stay(&self, now: Timestamp) -> Option<(Rung, Duration)> {
        let named = self.named.filter(|it| it.stays)?;
        let goal = self.switch.map_or(self.serving, |switch| switch.goal);
        let is_there = goal == Some(named.index);
        Some((self.rung(), self.left_of_stay(now, named)?)).filter(|_| is_there)
    }

    fn left_of_stay(&self, now: Timestamp, named: Named) -> Option<Duration> {
        left(self.settings.manager.named_stays, now.since(named.at))
    }

    /// Ends the stay of the model that was loaded by name: something else came first. The next name does not get its
    /// turn sooner.
    pub(crate) fn end_named_stay(&mut self) {
        if let Some(named) = &mut self.named {
            named.stays = false;
        }
    }

    /// Switches to a model because requests name it. What runs is finished first.
    pub(crate) fn go_to_named(&mut self, now: Timestamp, index: usize, out: &mut VecDeque<Output>) {
        self.named = Some(Named { at: now, index, stays: true });
        self.begin(now, Some(index), Urgency::Graceful, Reason::Asked);
        if let Some(switch) = &mut self.switch {
            switch.is_for_name = true;
        }
        self.advance(now, out);
    }

    /// Refuses what waits for a model of another rung than the one that an order keeps loaded.
    pub(crate) fn refuse_names_but(
        &mut self,
        rung: Rung,
        retry_after: Option<Duration>,
        out: &mut VecDeque<Output>,
    ) {
        let kinds = self.queue.kinds();
        let others = kinds.filter(|kind| kind.named().is_some_and(|it| self.rung_of(it) != rung));
        let others: Vec<_> = others.cloned().collect();
        for kind in others {
            while let Some(waiting) = self.queue.pop_first(|served_by| *served_by == kind) {
                self.refuse_for_another(&waiting.request, retry_after, out);
            }
        }
    }

    /// Returns the earlier of the next time-out and the next turn of a name.
    pub(crate) fn next_timeout_with_names(&self, now: Timestamp) -> Option<Timestamp> {
        earliest([self.next_timeout(), self.next_named(now)])
    }
}
