//! When to come back: the advice for a client that is not served.

use std::time::Duration;

use crate::manager::Manager;
use crate::manager::lifecycle::Lifecycle;
use crate::manager::queue::ServedBy;
use crate::manager::switch::Switch;
use crate::time::Timestamp;

/// How long it will be until a request can be served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Expectation {
    pub(super) wait: Duration,
    /// Whether it is an estimate: it depends on more than what we do, such as others' memory and the length of replies.
    pub(super) depends_on_others: bool,
}

impl Manager {
    /// Sets how soon the policy would have something loaded while nothing is, judged by the present sample; `None` if
    /// nothing fits. Called before anything that may refuse a request.
    pub fn expect_ready_in(&mut self, wait: Option<Duration>) {
        self.ready_in = wait;
    }

    /// Returns whether nothing serves and no switch is under way: then only the policy knows when something will.
    pub fn serves_nothing(&self) -> bool {
        self.serving.is_none() && self.switch.is_none()
    }

    /// Returns how long a request that these models can serve would wait, at least a second.
    pub(super) fn expected_wait(&self, now: Timestamp, served_by: &ServedBy) -> Expectation {
        let expected = match (self.serving, self.switch) {
            (Some(serving), _) if served_by[serving] => self.queue_time(serving),
            (_, Some(switch)) if self.is_for_goal(served_by) => self.left_of(now, switch),
            (None, None) => match self.ready_in {
                Some(wait) => Expectation { wait, depends_on_others: false },
                None => self.patience_as_estimate(),
            },
            // An upgrade or a downgrade must come first, and whether there is room for it is unknown.
            (Some(_), _) | (None, Some(_)) => self.patience_as_estimate(),
        };
        Expectation { wait: expected.wait.max(SHORTEST_WAIT), ..expected }
    }

    /// Returns how long a client whose reply was cut off should wait: until the switch that caused it has something
    /// loaded.
    pub(super) fn wait_after_cut(&self, now: Timestamp) -> Duration {
        let left = match self.switch {
            Some(switch) if self.serving.is_none() => self.left_of(now, switch).wait,
            Some(_) | None => Duration::ZERO,
        };
        left.max(SHORTEST_WAIT)
    }

    /// Returns how long the queue ahead will take: that depends on the length of the replies.
    fn queue_time(&self, serving: usize) -> Expectation {
        let side_by_side = self.catalog.models()[serving].slots;
        let ahead = u32::try_from(self.queue.len()).unwrap_or(u32::MAX) / side_by_side + 1;
        Expectation { wait: self.mean_service.saturating_mul(ahead), depends_on_others: true }
    }

    /// Returns what is left of a switch while nothing serves, by the catalog's times: the rest of a failed model, the
    /// end of drains and unloads, the load.
    fn left_of(&self, now: Timestamp, switch: Switch) -> Expectation {
        let Some(goal) = switch.goal else { return self.patience_as_estimate() };
        let (model, slot) = (&self.catalog.models()[goal], &self.slots[goal]);
        let left_until = |at: Option<Timestamp>| at.map(|at| at.since(now)).unwrap_or_default();
        let (first, load) = match slot.state {
            Lifecycle::Ready | Lifecycle::Draining => (Duration::ZERO, Duration::ZERO),
            Lifecycle::Loading => {
                let loaded_by = slot.began + model.load_cold;
                // A late load has failed at its deadline.
                let ends = if loaded_by > now { Some(loaded_by) } else { slot.deadline };
                (left_until(ends), Duration::ZERO)
            }
            Lifecycle::Failed => (left_until(slot.deadline), model.load_cold),
            Lifecycle::Absent | Lifecycle::Unloading => {
                let rest = left_until(slot.rests_until);
                (self.unload_time().max(rest), model.load_cold)
            }
        };
        let drains = self.slots.iter().any(|slot| slot.running > 0);
        let drain = if drains { self.mean_service } else { Duration::ZERO };
        let depends_on_others = drains || switch.waits_for_others();
        Expectation { wait: first + drain + load, depends_on_others }
    }

    /// Returns how long the models that go take to unload.
    fn unload_time(&self) -> Duration {
        let going = self.slots.iter().zip(self.catalog.models());
        let going = going.filter(|(slot, _)| slot.state.is_resident());
        going.map(|(_, model)| model.unload).max().unwrap_or_default()
    }

    /// Returns the estimate for when nothing is known: others hold the memory that we would need.
    fn patience_as_estimate(&self) -> Expectation {
        Expectation { wait: self.settings.manager.patience, depends_on_others: true }
    }
}

/// One second: the smallest unit of the HTTP header, and no client should ask again sooner.
const SHORTEST_WAIT: Duration = Duration::from_secs(1);
