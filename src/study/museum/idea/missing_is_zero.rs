//! A missing reading counts as zero.
//!
//! A model of a collector that fills in zero for a reading that failed, and of an analyser that believes it
//! (llm-d/llm-d-autoscaling#360, #1543). With readings it steps down at once, and up after the model has fitted for
//! five minutes. Left out: there it was the length of a queue, here it is memory.

use std::time::Duration;

use tiershift_core::catalog::Rung;
use tiershift_core::event::Input;
use tiershift_core::time::Timestamp;
use tiershift_core::units::Percent;

use crate::study::museum::fleet::{Fleet, Route};
use crate::study::museum::idea::Idea;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct MissingIsZero {
    /// The rung above the loaded one that has fitted, and since when.
    fits: Option<(Rung, Timestamp)>,
}

impl Idea for MissingIsZero {
    const NAME: &str = "missing-is-zero";
    const ABOUT: &str = "takes what could not be read for zero";
    const ROUTE: Route = Route::Best;

    fn step(&mut self, now: Timestamp, input: &Input, fleet: &mut Fleet) {
        let best = match input {
            Input::Sample(_) => fleet.best_below(LINE),
            Input::SampleMissing { .. } => fleet.best_on_an_empty_machine(LINE),
            _ => return,
        };
        let here = fleet.goal();
        if best < here {
            fleet.go_to(best);
        }
        if best <= here {
            self.fits = None;
            return;
        }
        let (_, since) = *self.fits.get_or_insert((best, now));
        if now.since(since) >= WINDOW {
            fleet.go_to(best);
        }
    }
}

/// As ours, so that only the missing readings differ.
const LINE: Percent = Percent::new(90);
const WINDOW: Duration = Duration::from_mins(5);
