//! Time in a trace: made relative to the first row, and watched for steps back, repeats and gaps.

use std::time::Duration;

use tiershift_core::time::{Rhythm, Timestamp};

/// Follows the times of a trace.
#[derive(Clone, Debug)]
pub(crate) struct Pace {
    first: Option<i64>,
    last: i64,
    rhythm: Rhythm,
    /// A silence up to this long is never a gap.
    shortest_gap: Duration,
}

/// How a row's time stands to the one before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    Forward(Timestamp),
    /// Accepted, after a silence of so many nanoseconds.
    ForwardAfterGap(Timestamp, u64),
    /// The same moment once more.
    Same(Timestamp),
    /// Earlier by so many nanoseconds.
    Backward(u64),
    /// Later by so much that the clock must be wrong.
    TooFar(u64),
}

impl Pace {
    pub(super) fn new(shortest_gap: u64) -> Self {
        let shortest_gap = Duration::from_nanos(shortest_gap);
        Self { first: None, last: 0, rhythm: Rhythm::of_median(), shortest_gap }
    }

    /// Judges a row's time, in nanoseconds on the file's own scale. Only a step forward moves the pace.
    #[inline]
    pub(super) fn step(&mut self, at: i64) -> Step {
        let Some(first) = self.first else {
            (self.first, self.last) = (Some(at), at);
            self.rhythm.gap_before(Timestamp::ZERO, GAP_FACTOR, self.shortest_gap);
            return Step::Forward(Timestamp::ZERO);
        };
        let interval = at.abs_diff(self.last);
        if at < self.last {
            return Step::Backward(interval);
        }
        let moment = Timestamp::from_nanos(at.abs_diff(first));
        if interval == 0 {
            return Step::Same(moment);
        }
        if interval > LONGEST_SILENCE {
            return Step::TooFar(interval);
        }
        self.last = at;
        match self.rhythm.gap_before(moment, GAP_FACTOR, self.shortest_gap) {
            Some(_) => Step::ForwardAfterGap(moment, interval),
            None => Step::Forward(moment),
        }
    }

    /// Returns the first accepted time on the file's own scale.
    pub(super) fn first(&self) -> Option<i64> {
        self.first
    }
}

/// A silence longer than this many usual intervals is a gap. Chosen: one missed reading is jitter, two are not.
const GAP_FACTOR: u64 = 3;
/// One row with a clock far in the future would otherwise reject everything after it. Chosen: no machine is
/// traced over a silence of a year.
const LONGEST_SILENCE: u64 = 366 * 86_400 * 1_000_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_is_judged_against_the_last_accepted_row() {
        let second = 1_000_000_000;
        let mut pace = Pace::new(0);
        let at = |seconds| Timestamp::from_secs(seconds);
        for (seconds, want) in [
            (100, Step::Forward(at(0))),
            (101, Step::Forward(at(1))),
            (102, Step::Forward(at(2))),
            (101, Step::Backward(1_000_000_000)),
            (102, Step::Same(at(2))),
            (105, Step::Forward(at(5))),
            (109, Step::ForwardAfterGap(at(9), 4_000_000_000)),
            (99_999_999, Step::TooFar(99_999_890_000_000_000)),
            (110, Step::Forward(at(10))),
        ] {
            assert_eq!(pace.step(seconds * second), want, "at {seconds} s");
        }
    }
}
