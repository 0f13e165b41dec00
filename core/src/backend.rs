//! Runs models: a simulated server or a real one, behind one trait.

use crate::event::{Command, Outcome};
use crate::time::Timestamp;

/// Runs models. Every command is answered by an outcome, sooner or later, or never where the server hangs.
pub trait Backend {
    /// Hands over a command. A request that is started by it is one that this backend's world handed in.
    fn submit(&mut self, now: Timestamp, command: &Command);

    /// Returns the next outcome that has happened by `now`.
    fn poll(&mut self, now: Timestamp) -> Option<Outcome>;

    /// Returns the moment at which `poll` will have something to say, if nothing else happens.
    fn next_wakeup(&self) -> Option<Timestamp>;
}
