//! The right model for the available room, but only once no request runs or waits, however short memory is.
//!
//! A model of eviction from which a model in use is safe while new requests continue to reach it: a scheduler whose
//! victim comes back to life (ollama/ollama#17408), a rollout that waits for an idle moment without refusing work. It
//! projects as well as ours does. Left out: that in the one the wait ends only with the server's restart.

use tiershift_core::event::Input;
use tiershift_core::time::Timestamp;
use tiershift_core::units::Percent;

use crate::study::museum::fleet::{Fleet, Route};
use crate::study::museum::idea::Idea;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct WaitForIdle;

impl Idea for WaitForIdle {
    const NAME: &str = "wait-for-idle";
    const ABOUT: &str = "picks the right model, but switches only once no request runs or waits";
    const ROUTE: Route = Route::Best;

    fn step(&mut self, _now: Timestamp, input: &Input, fleet: &mut Fleet) {
        if let Input::Sample(_) = input
            && fleet.is_settled()
            && fleet.is_idle()
        {
            fleet.go_to(fleet.best_below(LINE));
        }
    }
}

/// The line at which ours degrades, so that only the wait differs.
const LINE: Percent = Percent::new(90);
