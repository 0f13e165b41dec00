//! What is asked of the models, for the policy: who waits, what runs late, who was refused, and what only a higher rung
//! can serve.

use std::time::Duration;

use crate::catalog::{Catalog, Rung};
use crate::demand::{Demand, SLOW_FACTOR};
use crate::manager::Manager;
use crate::manager::serving::is_for;
use crate::model::Model;
use crate::request::Request;
use crate::time::Timestamp;

/// What is kept to tell it.
#[derive(Clone, Debug)]
pub(super) struct Asked {
    /// Since when the serving model serves.
    pub(super) serving_since: Timestamp,
    /// Requests refused since the last sample because every slot was taken.
    refused: u32,
    /// By rung: when a request was last refused that the rung of that moment could not serve, and this one can.
    unserved: Vec<Option<Timestamp>>,
    /// The last of these moments, while it is remembered.
    last_unserved: Option<Timestamp>,
    /// How many times as long as was asked for replies have been; at least 1. What a client asks for may be a guess.
    stretch: f64,
}

impl Asked {
    pub(super) fn new(catalog: &Catalog) -> Self {
        Self {
            serving_since: Timestamp::ZERO,
            refused: 0,
            unserved: vec![None; usize::from(catalog.top().0) + 1],
            last_unserved: None,
            stretch: 1.0,
        }
    }

    /// Returns whether a request that arrived then had to wait for the serving model to be there.
    pub(super) fn waited_for_a_switch(&self, arrived: Timestamp) -> bool {
        arrived < self.serving_since
    }

    /// Returns how long a request runs before it is late.
    pub(super) fn late_after(&self, by_catalog: Duration) -> Duration {
        let factor = f64::from(SLOW_FACTOR) * self.stretch;
        crate::time::from_secs_f64(by_catalog.as_secs_f64() * factor)
    }

    /// Learns from a reply how much longer than asked for replies are.
    pub(super) fn note_length(&mut self, asked: u32, got: u32) {
        let beyond = f64::from(got) / f64::from(asked.max(1));
        let forgotten = 1.0 + (self.stretch - 1.0) * STRETCH_KEPT;
        self.stretch = beyond.max(forgotten);
    }
}

impl Manager {
    /// Returns what is asked of the models now, and begins to count refusals anew.
    #[inline]
    pub fn take_demand(&mut self, now: Timestamp) -> Demand {
        let is_quiet = self.running.is_empty()
            && self.queue.len() == 0
            && self.asked.refused == 0
            && self.asked.last_unserved.is_none();
        if is_quiet { Demand::NONE } else { self.look_at_demand(now) }
    }

    #[inline(never)]
    fn look_at_demand(&mut self, now: Timestamp) -> Demand {
        let mut demand =
            Demand { refused: std::mem::take(&mut self.asked.refused), ..Demand::NONE };
        for running in self.running.values().filter(|run| Some(run.model) == self.serving) {
            let (age, ran) = (now.since(running.counted_from), now.since(running.started));
            demand.running += 1;
            if ran > running.late_after {
                demand.late += 1;
                demand.youngest_late =
                    Some(demand.youngest_late.map_or(age, |other| other.min(age)));
            }
        }
        demand.only_above = self.refused_for_want_of_more(now);
        let present = self.present_model();
        let is_full = self.is_full();
        for waiting in self.queue.iter() {
            if !present.is_some_and(|model| is_for(model, &waiting.request)) {
                let above = self.lowest_above(&waiting.request);
                demand.only_above = [demand.only_above, above].into_iter().flatten().min();
            } else if is_full && !self.asked.waited_for_a_switch(waiting.arrived) {
                demand.waiting += 1;
                let age = Some(now.since(waiting.arrived));
                demand.oldest_waiting = demand.oldest_waiting.max(age);
            }
        }
        demand
    }

    /// Notes that a request was refused which arrived then.
    pub(super) fn note_refusal(&mut self, now: Timestamp, request: &Request, arrived: Timestamp) {
        let is_for_present = self.present_model().is_some_and(|model| is_for(model, request));
        if is_for_present && self.is_full() && !self.asked.waited_for_a_switch(arrived) {
            self.asked.refused += 1;
        }
        self.note_unserved(now, request);
    }

    /// Notes that a request ended without having run, where that is because the present rung cannot serve it.
    pub(super) fn note_unserved(&mut self, now: Timestamp, request: &Request) {
        if self.present_model().is_some_and(|model| is_for(model, request)) {
            return;
        }
        if let Some(rung) = self.lowest_above(request) {
            self.asked.unserved[usize::from(rung.0)] = Some(now);
            self.asked.last_unserved = Some(now);
        }
    }

    /// Returns the model that serves or that a switch under way leads to.
    fn present_model(&self) -> Option<&Model> {
        match self.serving {
            Some(index) => Some(&self.catalog.models()[index]),
            None => self.catalog.primary(self.rung()),
        }
    }

    pub(super) fn is_full(&self) -> bool {
        self.serving
            .is_some_and(|index| self.slots[index].running >= self.catalog.models()[index].slots)
    }

    /// Returns the lowest rung above the present one whose primary model can serve a request.
    fn lowest_above(&self, request: &Request) -> Option<Rung> {
        let present = self.rung();
        self.catalog.rungs_up().find(|&rung| {
            let model = self.catalog.primary(rung);
            rung > present && model.is_some_and(|model| is_for(model, request))
        })
    }

    /// Returns the lowest rung above the present one that could have served what was refused of late.
    fn refused_for_want_of_more(&mut self, now: Timestamp) -> Option<Rung> {
        let memory = self.settings.performance_window * UNSERVED_MEMORY;
        let is_recent = |at: Option<Timestamp>| at.is_some_and(|at| now.since(at) < memory);
        if !is_recent(self.asked.last_unserved) {
            self.asked.last_unserved = None;
            return None;
        }
        let present = self.rung();
        self.catalog
            .rungs_up()
            .find(|&rung| rung > present && is_recent(self.asked.unserved[usize::from(rung.0)]))
    }
}

/// A request that only a higher rung could have served is remembered for so many performance windows. Chosen: ten minutes
/// with the default; who is refused asks again within some minutes, and long prompts come some minutes apart.
const UNSERVED_MEMORY: u32 = 2;

/// What is kept, with each reply, of how much longer than asked for replies have been. Chosen: half is forgotten after
/// seven replies of the length asked for.
const STRETCH_KEPT: f64 = 0.9;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::Bytes;

    #[test]
    fn a_request_is_late_later_where_replies_are_longer_than_asked_for() {
        let mut asked = Asked::new(&Catalog::relative_to(Bytes::from_gib(16)));
        let late_after = |asked: &Asked| asked.late_after(Duration::from_secs(10)).as_secs();
        assert_eq!(late_after(&asked), 30);
        asked.note_length(100, 50);
        assert_eq!(late_after(&asked), 30);
        asked.note_length(256, 2560);
        assert_eq!(late_after(&asked), 300);
        // Replies of the length asked for let it be forgotten, half after seven.
        for _ in 0..7 {
            asked.note_length(256, 256);
        }
        assert_eq!(late_after(&asked), 159);
    }
}
