//! Runs models: a simulated server or a real one, behind one trait.

use crate::event::{Command, Outcome};
use crate::time::Timestamp;

/// Runs models. Every command is answered by an outcome, sooner or later, or never if the server hangs.
pub trait Backend {
    /// Passes on a command. A request that it starts has come from this backend's world.
    fn submit(&mut self, now: Timestamp, command: &Command);

    /// Returns the next outcome that has happened by `now`.
    fn poll(&mut self, now: Timestamp) -> Option<Outcome>;

    /// Returns the moment at which `poll` will return something, if nothing else happens.
    fn next_wakeup(&self) -> Option<Timestamp>;
}
