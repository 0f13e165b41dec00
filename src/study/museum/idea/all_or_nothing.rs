//! Under pressure everything is unloaded; what was there is loaded again when it fits.
//!
//! A model of reactions to a shortage that know no smaller model: a server that unloads all of its models when one has
//! run out of memory, an enforcer that evicts at every soft signal and pays for it with the next request
//! (jundot/omlx#3338). It projects as well as ours does. Left out: that the one evicts the least recently used first.

use tiershift_core::catalog::Rung;
use tiershift_core::event::Input;
use tiershift_core::time::Timestamp;
use tiershift_core::units::Percent;

use crate::study::museum::fleet::{Fleet, Route};
use crate::study::museum::idea::Idea;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct AllOrNothing {
    /// What was there before the first shortage.
    model: Option<Rung>,
}

impl Idea for AllOrNothing {
    const NAME: &str = "all-or-nothing";
    const ABOUT: &str =
        "unloads everything under pressure, and loads what was there again when it fits";
    const ROUTE: Route = Route::Best;

    fn step(&mut self, _now: Timestamp, input: &Input, fleet: &mut Fleet) {
        let Input::Sample(_) = input else { return };
        let model = *self.model.get_or_insert(fleet.goal());
        let fits = fleet.best_below(LINE) >= model;
        fleet.go_to(if fits { model } else { Rung::NONE });
    }
}

/// The line at which ours degrades, so that only the way down differs.
const LINE: Percent = Percent::new(90);
