//! A share of a share: one margin for the machine, one for the plan, and the model must fit into both.
//!
//! A model of margins for one risk that multiply: 0.80 of what is there, and 0.85 of that, left 25 of 37 GB for a need of
//! 27.4 GB (CambrianTech/continuum#4230). Down at once, up after five minutes. Left out: the window and the lanes
//! that the plan could have given up instead of the model.

use std::time::Duration;

use tiershift_core::event::Input;
use tiershift_core::sample::Space;
use tiershift_core::time::Timestamp;
use tiershift_core::units::Percent;

use crate::study::museum::fleet::{Fleet, Route};
use crate::study::museum::idea::Idea;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct StackedMargins {
    /// Since when a higher tier has been within the margins.
    better_since: Option<Timestamp>,
}

impl Idea for StackedMargins {
    const NAME: &str = "stacked-margins";
    const ABOUT: &str =
        "keeps one margin for the machine and another for the plan, and a model must fit into both";
    const ROUTE: Route = Route::Best;

    fn step(&mut self, now: Timestamp, input: &Input, fleet: &mut Fleet) {
        let Input::Sample(_) = input else { return };
        let budget = |space: Space| (space.total - space.others).share(MACHINE).share(PLAN);
        let fits = |rung| fleet.space(rung).is_some_and(|space| fleet.need(rung) <= budget(space));
        let best = fleet.rungs().rev().find(|&rung| fits(rung)).unwrap_or_default();
        if best <= fleet.goal() {
            fleet.go_to(best);
            self.better_since = None;
        } else if now.since(*self.better_since.get_or_insert(now)) >= WINDOW {
            fleet.go_to(best);
        }
    }
}

/// This and the next: CambrianTech/continuum#4230.
const MACHINE: Percent = Percent::new(80);
const PLAN: Percent = Percent::new(85);

/// As ours, so that only the margins differ.
const WINDOW: Duration = Duration::from_mins(5);
