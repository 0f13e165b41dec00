//! A model needs free room beside the one that it replaces: our own use counts against us.
//!
//! A model of the guardrail that projects both models at once (lmstudio-ai/lmstudio-bug-tracker#1562,
//! raullenchai/Rapid-MLX#2439, timtoole02/Camelid#501), with a person who tries again every five minutes. A shortage
//! unloads. Left out: that such a guardrail may be switched off.

use std::time::Duration;

use tiershift_core::catalog::Rung;
use tiershift_core::event::Input;
use tiershift_core::time::Timestamp;
use tiershift_core::units::Percent;

use crate::study::museum::fleet::{Fleet, Route};
use crate::study::museum::idea::Idea;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct NoCredit {
    tried: Timestamp,
}

impl Idea for NoCredit {
    const NAME: &str = "no-credit";
    const ABOUT: &str = "wants room for a new model beside the one that it replaces";
    const ROUTE: Route = Route::Best;

    fn step(&mut self, now: Timestamp, input: &Input, fleet: &mut Fleet) {
        let Input::Sample(_) = input else { return };
        if !fleet.is_settled() {
            return;
        }
        let here = fleet.goal();
        let room_for = |rung: &Rung| {
            let space = fleet.space(*rung);
            space.is_some_and(|s| s.used() + fleet.need(*rung) <= s.total.share(LINE))
        };
        let is_over =
            here > Rung::NONE && fleet.space(here).is_some_and(|s| s.used() > s.total.share(LINE));
        if is_over {
            let below = (1..here.0).rev().map(Rung).find(room_for);
            fleet.go_to(below.unwrap_or(Rung::NONE));
            self.tried = now;
        } else if now.since(self.tried) >= EVERY {
            self.tried = now;
            if let Some(above) = (here.0 + 1..=fleet.top().0).rev().map(Rung).find(room_for) {
                fleet.go_to(above);
            }
        }
    }
}

/// The line at which ours degrades, so that only the credit differs.
const LINE: Percent = Percent::new(90);

/// As often as ours considers an upgrade.
const EVERY: Duration = Duration::from_mins(5);
