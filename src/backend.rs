//! Runs models: a simulated server or a real one, behind one trait.

use crate::event::{Command, Outcome};
use crate::request::Request;
use crate::time::Timestamp;

/// Runs models. Every command is answered by an outcome, sooner or later, or never where the server hangs.
pub trait Backend {
    /// Hands over a command. `request` is given with [`Command::Start`] and with nothing else.
    fn submit(&mut self, now: Timestamp, command: &Command, request: Option<&Request>);

    /// Returns the next outcome that has happened by `now`.
    fn poll(&mut self, now: Timestamp) -> Option<Outcome>;

    /// Returns the moment at which `poll` will have something to say, if nothing else happens.
    fn next_wakeup(&self) -> Option<Timestamp>;
}
