//! The ideas, one per file: each a model of how a kind of program decides, with what it leaves out. None is a copy of
//! code.

use tiershift_core::control::Control;
use tiershift_core::event::{Input, Output};
use tiershift_core::time::{Timestamp, earliest};

use crate::study::museum::fleet::{Fleet, Route};

pub(super) mod all_or_nothing;
pub(super) mod first_reading;
pub(super) mod headroom_and_cooldown;
pub(super) mod keep_alive;
pub(super) mod latest_request_wins;
pub(super) mod load_on_request;
pub(super) mod lru_by_count;
pub(super) mod missing_is_zero;
pub(super) mod no_credit;
pub(super) mod ratchet;
pub(super) mod restart_always;
pub(super) mod restarting_debounce;
pub(super) mod single_line;
pub(super) mod stacked_margins;
pub(super) mod wait_for_idle;

/// How a program decides which models are loaded. The [`Fleet`] carries it out.
pub(super) trait Idea {
    /// Its name in policy files and reasons.
    const NAME: &str;

    /// What it does, in a sentence without a full stop.
    const ABOUT: &str;

    /// The model that a request goes to.
    const ROUTE: Route;

    /// Looks at an input that the fleet has taken, and instructs the fleet what to load and unload.
    fn step(&mut self, now: Timestamp, input: &Input, fleet: &mut Fleet);

    /// Returns when it wants to look again, if nothing happens before.
    fn wakeup(&self, _fleet: &Fleet) -> Option<Timestamp> {
        None
    }
}

/// An idea with its own fleet, in place of the controller.
#[derive(Debug)]
pub(super) struct Played<I> {
    pub(super) idea: I,
    pub(super) fleet: Fleet,
}

impl<I: Idea> Control for Played<I> {
    fn handle(&mut self, now: Timestamp, input: &Input) {
        self.fleet.take(now, input);
        if !self.fleet.is_stopping() {
            self.idea.step(now, input, &mut self.fleet);
        }
        self.fleet.settle(now);
    }

    fn poll_output(&mut self) -> Option<Output> {
        self.fleet.poll_output()
    }

    fn poll_timeout(&self) -> Option<Timestamp> {
        earliest([self.fleet.next_deadline(), self.idea.wakeup(&self.fleet)])
    }
}
