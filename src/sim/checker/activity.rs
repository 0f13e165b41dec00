//! L4: no livelock. Time-outs without effect are few in any second, and so are successive decisions without effect. The
//! driver itself limits what happens at one moment.

use std::time::Duration;

use tiershift_core::decision::{Action, Decision};
use tiershift_core::event::Output;
use tiershift_core::time::Timestamp;

use crate::sim::checker::book::Book;
use crate::sim::checker::violations::Violations;

/// Watches for work without effect.
#[derive(Default)]
pub(super) struct Activity {
    /// Decisions to change since anything changed.
    decisions: u32,
    /// Whether the last input was a time-out that has had no effect so far.
    is_idle_timeout: bool,
    /// When the second began in which time-outs without effect are counted, and how many there were.
    second: Timestamp,
    idle_timeouts: u32,
}

impl Activity {
    /// Takes the next input.
    #[inline]
    pub(super) fn take_input(&mut self, book: &Book, is_timeout: bool, out: &mut Violations) {
        if std::mem::replace(&mut self.is_idle_timeout, is_timeout) {
            self.count(book, out);
        }
    }

    fn count(&mut self, book: &Book, out: &mut Violations) {
        if book.now.since(self.second) >= Duration::from_secs(1) {
            self.second = book.now;
            self.idle_timeouts = 0;
        }
        self.idle_timeouts += 1;
        if self.idle_timeouts == MOST_IDLE_TIMEOUTS {
            let count = self.idle_timeouts;
            out.report(book.now, "L4", format!("{count} time-outs in a second led to nothing"));
        }
    }

    /// Takes an output.
    #[inline]
    pub(super) fn take_output(&mut self, output: &Output) {
        self.is_idle_timeout = false;
        if matches!(output, Output::Command(_) | Output::Serving { .. } | Output::Switched { .. }) {
            self.decisions = 0;
        }
    }

    /// Takes a decision.
    pub(super) fn take_decision(&mut self, book: &Book, decision: &Decision, out: &mut Violations) {
        if decision.action == Action::Hold || !book.promises.decisions_count {
            return;
        }
        self.decisions += 1;
        let most = u32::from(book.catalog.top().0) + MOST_WITHOUT_EFFECT;
        if self.decisions == most + 1 {
            out.report(
                book.now,
                "L4",
                format!("more than {most} decisions in a row change nothing"),
            );
        }
    }
}

/// The most time-outs without effect in a second. Chosen: memory that comes back late is looked for four times a
/// second, and a queue, an order and each model may have its own deadline.
const MOST_IDLE_TIMEOUTS: u32 = 100;

/// Successive decisions without effect, beyond one for each rung: others may rise past one rung after another while
/// running requests finish. Chosen: a decision that is repeated at every sample is noticed within ten of them.
const MOST_WITHOUT_EFFECT: u32 = 4;
