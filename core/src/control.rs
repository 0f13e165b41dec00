//! Who answers a run's inputs: our controller or, where a simulation compares, a model of somebody else's.

use crate::event::{Input, Output};
use crate::time::Timestamp;

/// Answers one input at a time. As of a policy: the same calls give the same answers, without clock, I/O or randomness.
pub trait Control {
    /// Takes one input. Its outputs are drained before the next one comes.
    fn handle(&mut self, now: Timestamp, input: &Input);

    /// Returns the next output of the last input.
    fn poll_output(&mut self) -> Option<Output>;

    /// Returns the moment at which [`Input::Timeout`] is wanted, if nothing else happens.
    fn poll_timeout(&self) -> Option<Timestamp> {
        None
    }

    /// Returns whether a fresh sample would change what happens next, where `request_waits` to be judged.
    fn wants_sample(&self, _now: Timestamp, _request_waits: bool) -> bool {
        false
    }
}
