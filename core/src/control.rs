//! What answers a run's inputs, and what it promises: our controller or, in a comparing simulation, a model of another
//! program.

use std::time::Duration;

use crate::event::{Input, Output};
use crate::time::Timestamp;

/// Answers one input at a time. As for a policy, the same calls give the same answers, without clock, I/O or
/// randomness.
pub trait Control {
    /// Takes one input. Its outputs are drained before the next one comes.
    fn handle(&mut self, now: Timestamp, input: &Input);

    /// Returns the next output of the last input.
    fn poll_output(&mut self) -> Option<Output>;

    /// Returns the moment at which [`Input::Timeout`] is wanted, if nothing else happens.
    fn poll_timeout(&self) -> Option<Timestamp> {
        None
    }

    /// Returns whether a fresh sample would change what happens next; `request_waits` if a request is about to be
    /// judged.
    fn wants_sample(&self, _now: Timestamp, _request_waits: bool) -> bool {
        false
    }

    /// Returns what holds for all its answers. A simulation's checker verifies it.
    fn promises(&self) -> Promises {
        Promises::default()
    }
}

/// What a policy, or a controller with it, promises; by default nothing. A promise that is broken in a simulated run is
/// a violation in the run's summary. Changes that a person ordered do not count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Promises {
    /// No upgrade between rungs that serve is decided sooner than this after the last change, except the one that
    /// follows the first load of a run.
    pub window: Option<Duration>,
    /// No upgrade reverses a downgrade within the reversal window, except from nothing loaded.
    pub no_reversal: bool,
    /// An upgrade is decided on the latest sample, and what it loads fits beside the others' use. Between rungs that
    /// serve, each space that the higher one needs more of is below the upgrade line.
    pub upgrades_fit: bool,
    /// A constrained space above its limit that holds one of our models is answered with a step down within this time
    /// and four samples, whether requests run or not. The duration of the step itself is not included: running requests
    /// within their drain deadline, and the unload.
    pub relief_within: Option<Duration>,
    /// Once a rung has fitted without a break for this long, and no line or rate forbids the change, it or a better one
    /// is loaded. Not promised if the time of replies has a limit.
    pub recovery_within: Option<Duration>,
    /// The same while nothing is loaded; `recovery_within` if this is not promised.
    pub rescue_within: Option<Duration>,
    /// How much longer either may take after a model has broken, or a switch was called off.
    pub retry_within: Option<Duration>,
    /// A decision to change has an effect: the number of decisions in a row without any is at most the number of rungs,
    /// plus a few.
    pub decisions_count: bool,
    /// What the manager of this crate ensures under any policy: a model is loaded on a fresh sample and within the
    /// degrade line, no serving model is unloaded for one without a place, no running request is interrupted before its
    /// deadline or waited for without end, and an order is carried out or refused.
    pub manager_keeps_word: bool,
}
