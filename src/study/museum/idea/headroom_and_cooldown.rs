//! A fixed reserve is kept free: a tier down when it is not, a tier up when it is with some to spare, and a pause after
//! each. What the next tier would take is not considered.
//!
//! A model of governors by reserve, dead-band and calm-down, with the figures of atomantic/PortOS#6243; that one only
//! releases models and leaves reloading to the next request, here it happens by itself. Left out: least recently used
//! first, and pins.

use std::time::Duration;

use tiershift_core::catalog::Rung;
use tiershift_core::event::Input;
use tiershift_core::time::Timestamp;
use tiershift_core::units::Bytes;

use crate::study::museum::fleet::{Fleet, Route};
use crate::study::museum::idea::Idea;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct HeadroomAndCooldown {
    short_since: Option<Timestamp>,
    changed: Timestamp,
}

impl Idea for HeadroomAndCooldown {
    const NAME: &str = "headroom-and-cooldown";
    const ABOUT: &str = "keeps a fixed reserve free: a tier down or up, and a pause after each, without asking what the next tier takes";
    const ROUTE: Route = Route::Best;

    fn step(&mut self, now: Timestamp, input: &Input, fleet: &mut Fleet) {
        let Input::Sample(_) = input else { return };
        let here = fleet.goal();
        let Some(free) = fleet.space(here.max(Rung(1))).map(|space| space.free()) else { return };
        self.short_since = (free < RESERVE).then(|| self.short_since.unwrap_or(now));
        if !fleet.is_settled() || now.since(self.changed) < COOLDOWN {
            return;
        }
        let is_short = self.short_since.is_some_and(|since| now.since(since) >= SUSTAINED);
        if is_short && here > Rung::NONE {
            fleet.go_to(Rung(here.0 - 1));
        } else if free > RESERVE + BAND && here < fleet.top() {
            fleet.go_to(Rung(here.0 + 1));
        } else {
            return;
        }
        self.changed = now;
    }
}

/// This and what follows: atomantic/PortOS#6243.
const RESERVE: Bytes = Bytes::from_gib(4);
const BAND: Bytes = Bytes::from_gib(2);
const SUSTAINED: Duration = Duration::from_secs(30);
const COOLDOWN: Duration = Duration::from_mins(1);
