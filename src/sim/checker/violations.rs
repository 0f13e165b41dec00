//! The broken invariants, in order.

use tiershift_core::time::Timestamp;

/// The broken invariants; the first [`MOST_REPORTED`] in full.
#[derive(Default)]
pub(super) struct Violations {
    reported: Vec<String>,
    uncounted: u64,
}

impl Violations {
    #[cold]
    pub(super) fn report(&mut self, now: Timestamp, rule: &str, what: impl Into<String>) {
        if self.reported.len() < MOST_REPORTED {
            let what = what.into();
            self.reported.push(format!("{rule} at {} s: {what}", now.as_secs_f64()));
        } else {
            self.uncounted += 1;
        }
    }

    pub(super) fn finish(mut self) -> Vec<String> {
        if self.uncounted > 0 {
            self.reported.push(format!("and {} more", self.uncounted));
        }
        self.reported
    }
}

/// The most violations that are reported in full; one is enough to fail a run, and thousands would fill the memory.
const MOST_REPORTED: usize = 20;
