//! The demand on the models, for the policy: what waits, what runs late, what was refused, and what only a higher rung
//! can serve.

use std::time::Duration;

use crate::catalog::{Catalog, Rung, Rungs};
use crate::demand::{Demand, SLOW_FACTOR};
use crate::manager::Manager;
use crate::manager::queue::ServedBy;
use crate::model::Model;
use crate::request::{Request, Target};
use crate::time::Timestamp;

/// The state behind it.
#[derive(Clone, Debug)]
pub(super) struct Asked {
    /// When the serving model began to serve.
    pub(super) serving_since: Timestamp,
    /// Requests refused since the last sample because every slot was taken.
    refused: u32,
    /// By rung: when a request was last refused that the present rung could not serve and this one can.
    unserved: Vec<Option<Timestamp>>,
    /// The last of these moments, while it is remembered.
    last_unserved: Option<Timestamp>,
    /// By rung: when the present rung was last given a request that this one cannot serve.
    unfit: Vec<Option<Timestamp>>,
    /// The last of these moments, while it is remembered.
    last_unfit: Option<Timestamp>,
    /// How many times longer than requested replies have been; at least 1. What a client requests may be a guess.
    stretch: f64,
}

impl Asked {
    pub(super) fn new(catalog: &Catalog) -> Self {
        Self {
            serving_since: Timestamp::ZERO,
            refused: 0,
            unserved: vec![None; usize::from(catalog.top().0) + 1],
            last_unserved: None,
            unfit: vec![None; usize::from(catalog.top().0) + 1],
            last_unfit: None,
            stretch: 1.0,
        }
    }

    /// Returns whether a request that arrived at this moment had to wait for the serving model to be loaded.
    pub(super) fn waited_for_a_switch(&self, arrived: Timestamp) -> bool {
        arrived < self.serving_since
    }

    /// Returns how long a request runs before it is late.
    pub(super) fn late_after(&self, by_catalog: Duration) -> Duration {
        let factor = f64::from(SLOW_FACTOR) * self.stretch;
        crate::time::from_secs_f64(by_catalog.as_secs_f64() * factor)
    }

    /// Learns from a reply how much longer than requested replies are.
    pub(super) fn note_length(&mut self, asked: u32, got: u32) {
        let beyond = f64::from(got) / f64::from(asked.max(1));
        let forgotten = 1.0 + (self.stretch - 1.0) * STRETCH_KEPT;
        self.stretch = beyond.max(forgotten);
    }
}

impl Manager {
    /// Returns the demand on the models now, and restarts the count of refusals.
    #[inline]
    pub fn take_demand(&mut self, now: Timestamp) -> Demand {
        let is_quiet = self.running.is_empty()
            && self.queue.len() == 0
            && self.asked.refused == 0
            && self.asked.last_unserved.is_none()
            && self.asked.last_unfit.is_none();
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
        (demand.only_above, demand.not_above) = self.rungs_remembered(now);
        for served_by in self.queue.kinds().filter(|kind| !self.is_for_present(kind)) {
            demand.only_above = demand.only_above | self.rungs_above_for(served_by);
        }
        if !self.is_full() {
            return demand;
        }
        for (waiting, served_by) in self.queue.iter() {
            if self.is_for_present(served_by) && !self.asked.waited_for_a_switch(waiting.arrived) {
                demand.waiting += 1;
                let age = Some(now.since(waiting.arrived));
                demand.oldest_waiting = demand.oldest_waiting.max(age);
            }
        }
        demand
    }

    /// Notes the refusal of a request that arrived at `arrived`.
    pub(super) fn note_refusal(&mut self, now: Timestamp, request: &Request, arrived: Timestamp) {
        if self.is_for_present(&self.served_by(request))
            && self.is_full()
            && !self.asked.waited_for_a_switch(arrived)
        {
            self.asked.refused += 1;
        }
        self.note_unserved(now, request);
    }

    /// Notes that a request ended without having run, if that is because the present rung cannot serve it.
    pub(super) fn note_unserved(&mut self, now: Timestamp, request: &Request) {
        let served_by = self.served_by(request);
        if self.is_for_present(&served_by) {
            return;
        }
        let above = self.rungs_above_for(&served_by);
        if !above.is_empty() {
            note(&mut self.asked.unserved, above, now);
            self.asked.last_unserved = Some(now);
        }
    }

    /// Notes that the present rung was given a request: a higher rung that cannot serve it would be no better.
    pub(super) fn note_served(&mut self, now: Timestamp, request: &Request) {
        let models = self.catalog.models();
        let unfit = self.catalog.rungs_where(|model| !request.is_for(&models[model]));
        let unfit = unfit.above(self.rung());
        if !unfit.is_empty() {
            note(&mut self.asked.unfit, unfit, now);
            self.asked.last_unfit = Some(now);
        }
    }

    /// Returns which models can serve a request at all.
    pub(super) fn served_by(&self, request: &Request) -> ServedBy {
        let is_meant = |model: &Model| match &request.target {
            Target::Model(id) => model.id == *id,
            Target::Auto | Target::Tier(_) => true,
        };
        let each = self.catalog.models().iter();
        let is_named = matches!(request.target, Target::Model(_));
        ServedBy::new(each.map(|model| is_meant(model) && request.is_for(model)), is_named)
    }

    /// Returns whether the model that serves, or that the switch in progress leads to, is among these.
    pub(super) fn is_for_present(&self, served_by: &ServedBy) -> bool {
        match self.serving {
            Some(present) => served_by[present],
            None => self.is_for_goal(served_by),
        }
    }

    /// Returns whether a switch under way leads to one of these models.
    pub(super) fn is_for_goal(&self, served_by: &ServedBy) -> bool {
        self.switch.and_then(|switch| switch.goal).is_some_and(|goal| served_by[goal])
    }

    pub(crate) fn rung_of(&self, index: usize) -> Rung {
        let model = &self.catalog.models()[index];
        self.catalog.rung_of_tier(&model.tier).expect("every model of a catalog stands on a rung")
    }

    pub(super) fn index_of(&self, id: &str) -> usize {
        self.catalog
            .models()
            .iter()
            .position(|model| model.id.as_str() == id)
            .expect("ids come from this catalog")
    }

    pub(super) fn is_primary(&self, index: usize) -> bool {
        self.catalog.primary_index(self.rung_of(index)) == Some(index)
    }

    pub(super) fn is_full(&self) -> bool {
        self.serving
            .is_some_and(|index| self.slots[index].running >= self.catalog.models()[index].slots)
    }

    /// Returns the rungs above the present one whose primary model is among these.
    pub(super) fn rungs_above_for(&self, served_by: &ServedBy) -> Rungs {
        // A request that names a model waits for that model: it causes no climb.
        if served_by.is_named() {
            return Rungs::EMPTY;
        }
        self.catalog.rungs_where(|model| served_by[model]).above(self.rung())
    }

    /// Returns the rungs above the present one that could have served what was refused recently, and those that could
    /// not have served what the present one was given.
    fn rungs_remembered(&mut self, now: Timestamp) -> (Rungs, Rungs) {
        let memory = self.settings.performance_window * UNSERVED_MEMORY;
        let present = self.rung();
        let is_recent = |at: Option<Timestamp>| at.is_some_and(|at| now.since(at) < memory);
        let recall = |moments: &[Option<Timestamp>], last: &mut Option<Timestamp>| {
            if !is_recent(*last) {
                *last = None;
                return Rungs::EMPTY;
            }
            let rungs = (0..).map(Rung).zip(moments);
            let recent = rungs.filter(|(_, at)| is_recent(**at)).map(|(rung, _)| rung);
            recent.collect::<Rungs>().above(present)
        };
        let Asked { unserved, last_unserved, unfit, last_unfit, .. } = &mut self.asked;
        (recall(unserved, last_unserved), recall(unfit, last_unfit))
    }
}

fn note(moments: &mut [Option<Timestamp>], rungs: Rungs, now: Timestamp) {
    for (rung, at) in (0..).map(Rung).zip(moments) {
        if rungs.contains(rung) {
            *at = Some(now);
        }
    }
}

/// A request that only a higher rung could have served, or that one could not, is remembered for this many performance
/// windows. Chosen: ten minutes with the default; a refused client asks again within minutes, and long prompts come
/// some minutes apart.
const UNSERVED_MEMORY: u32 = 2;

/// The part of the stretch that is kept with each reply. Chosen: half is forgotten after seven replies of the requested
/// length.
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
        // Replies of the requested length let it be forgotten: half after seven.
        for _ in 0..7 {
            asked.note_length(256, 256);
        }
        assert_eq!(late_after(&asked), 159);
    }
}
