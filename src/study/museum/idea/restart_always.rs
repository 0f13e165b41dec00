//! A dead model is started again at once, forever.
//!
//! A model of a supervisor whose restarts have no pause (`restart: always`), around the model that fitted first: what
//! users meet with servers that load again whatever was just ended (ollama/ollama#16830). Left out: that some
//! supervisors give up after a number of starts.

use tiershift_core::event::Input;
use tiershift_core::time::Timestamp;

use crate::study::museum::fleet::{Fleet, Route};
use crate::study::museum::idea::Idea;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct RestartAlways;

impl Idea for RestartAlways {
    const NAME: &str = "restart-always";
    const ABOUT: &str = "starts again what has died, at once and for ever";
    const ROUTE: Route = Route::Best;

    /// Keeps the first model, which the fleet loads whenever it is not there.
    fn step(&mut self, _now: Timestamp, _input: &Input, _fleet: &mut Fleet) {}
}
