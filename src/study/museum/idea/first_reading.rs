//! The best model that fits, by each single reading, at once and both ways.
//!
//! A model of planning anew on every reading: on a dip shorter than a switch, on a sensor's mistaken unit
//! (lemonade-sdk/lemonade#2648), in the midst of a relaunch of its own (CambrianTech/continuum#1975). It projects as
//! well as ours does. Left out: lanes and windows; the plan is a tier.

use tiershift_core::event::Input;
use tiershift_core::time::Timestamp;
use tiershift_core::units::Percent;

use crate::study::museum::fleet::{Fleet, Route};
use crate::study::museum::idea::Idea;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct FirstReading;

impl Idea for FirstReading {
    const NAME: &str = "first-reading";
    const ABOUT: &str =
        "goes to the best model that fits by each single reading, at once and both ways";
    const ROUTE: Route = Route::Best;

    fn step(&mut self, _now: Timestamp, input: &Input, fleet: &mut Fleet) {
        if let Input::Sample(_) = input {
            fleet.go_to(fleet.best_below(LINE));
        }
    }
}

/// The line at which ours degrades, so that only the haste differs.
const LINE: Percent = Percent::new(90);
