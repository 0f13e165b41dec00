//! One line: a tier down while any space is used above it, a tier up while none is.
//!
//! A model of eviction at one threshold without a band, which looks at every space whether anything of ours is in it or
//! not: Lemonade's pressure monitor (lemonade-sdk/lemonade#2631) and continuum's power mode before it had a second line
//! (CambrianTech/continuum#4163). Left out: the score by which the one chooses among several idle models.

use std::time::Duration;

use tiershift_core::catalog::Rung;
use tiershift_core::event::Input;
use tiershift_core::time::Timestamp;
use tiershift_core::units::Percent;

use crate::study::museum::fleet::{Fleet, Route};
use crate::study::museum::idea::Idea;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct SingleLine {
    above: bool,
    since: Timestamp,
}

impl Idea for SingleLine {
    const NAME: &str = "single-line";
    const ABOUT: &str =
        "has one line: a tier down while a space is above it, a tier up while none is";
    const ROUTE: Route = Route::Best;

    fn step(&mut self, now: Timestamp, input: &Input, fleet: &mut Fleet) {
        let Input::Sample(sample) = input else { return };
        let above = sample.spaces().any(|(_, space)| Percent::of(space.used(), space.total) > LINE);
        if above != self.above || !fleet.is_settled() {
            (self.above, self.since) = (above, now);
        }
        if now.since(self.since) < STEADY {
            return;
        }
        let here = fleet.goal();
        if above && here > Rung::NONE {
            fleet.go_to(Rung(here.0 - 1));
        } else if !above && here < fleet.top() {
            fleet.go_to(Rung(here.0 + 1));
        }
    }
}

/// Lemonade's default.
const LINE: Percent = Percent::new(90);

/// The shorter of the times between two evictions in lemonade-sdk/lemonade#2631.
const STEADY: Duration = Duration::from_secs(30);
