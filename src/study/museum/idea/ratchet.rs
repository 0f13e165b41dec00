//! Down when there is less room, and never up again.
//!
//! A model of a lowest value that is remembered: the smallest number of lanes that any short dip ever led to became the
//! limit for good (CambrianTech/continuum#4227); a context that shrinks at a failed load and stays small. It projects
//! as well as ours does. Left out: that a person may reset the value.

use tiershift_core::event::Input;
use tiershift_core::time::Timestamp;
use tiershift_core::units::Percent;

use crate::study::museum::fleet::{Fleet, Route};
use crate::study::museum::idea::Idea;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Ratchet;

impl Idea for Ratchet {
    const NAME: &str = "ratchet";
    const ABOUT: &str = "goes down when there is less room, and never up again";
    const ROUTE: Route = Route::Best;

    fn step(&mut self, _now: Timestamp, input: &Input, fleet: &mut Fleet) {
        if let Input::Sample(_) = input {
            fleet.go_to(fleet.best_below(LINE).min(fleet.goal()));
        }
    }
}

/// The line at which ours degrades, so that only the way back differs.
const LINE: Percent = Percent::new(90);
