//! A plan is carried out once it has been the same for a while; any other plan restarts the count.
//!
//! A model of a debounce that flapping input starves: each flip of a power mode changed the plan and reset the count of
//! sustained readings, so that no change could pass (CambrianTech/continuum#4163). It projects as well as ours does.
//! Left out: lanes and windows; the plan is a tier.

use std::time::Duration;

use tiershift_core::catalog::Rung;
use tiershift_core::event::Input;
use tiershift_core::time::Timestamp;
use tiershift_core::units::Percent;

use crate::study::museum::fleet::{Fleet, Route};
use crate::study::museum::idea::Idea;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct RestartingDebounce {
    plan: Rung,
    since: Timestamp,
}

impl Idea for RestartingDebounce {
    const NAME: &str = "restarting-debounce";
    const ABOUT: &str = "carries a plan out once it has been the same for a while; any other plan starts the count again";
    const ROUTE: Route = Route::Best;

    fn step(&mut self, now: Timestamp, input: &Input, fleet: &mut Fleet) {
        let Input::Sample(_) = input else { return };
        let plan = fleet.best_below(LINE);
        if plan != self.plan {
            (self.plan, self.since) = (plan, now);
        }
        if now.since(self.since) >= SUSTAINED {
            fleet.go_to(plan);
        }
    }
}

/// The line at which ours degrades, so that only the count differs.
const LINE: Percent = Percent::new(90);

/// Continuum's readiness budget.
const SUSTAINED: Duration = Duration::from_secs(90);
