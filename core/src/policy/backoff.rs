//! Learned back-off: an upgrade that had to be undone makes the next one wait for more.
//!
//! What a mistake teaches is how long good times last on this machine. If a rung lasted half an hour before it
//! had to be left, half an hour's room says nothing; so the next try asks for conditions that have been good
//! for twice as long as the rung lasted, and for twice as long as the last try asked.

use std::time::Duration;

use crate::time::Timestamp;

/// What one rung has taught.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Backoff {
    /// Mistakes in force.
    level: u32,
    /// When the last mistake was made, or the last was forgiven: both start the clock of the next.
    since: Timestamp,
    /// How long the rung lasted the last time.
    lasted: Duration,
}

/// The bounds of what is learned.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    /// The wait before anything is learned.
    pub(crate) least: Duration,
    /// The longest wait.
    pub(crate) most: Duration,
}

impl Backoff {
    /// Counts a mistake made now: the rung lasted so long and had to be left. The level stops where the wait
    /// reaches its bound, so that healing is not spent on doublings that had no effect.
    pub(crate) fn fail(&mut self, now: Timestamp, lasted: Duration, bounds: Bounds) {
        if self.doubled(bounds) < bounds.most {
            self.level = (self.level + 1).min(MAX_LEVEL);
        }
        self.since = now;
        self.lasted = lasted;
    }

    /// Forgives a mistake for each `span` of good time.
    pub(crate) fn heal(&mut self, now: Timestamp, span: Duration) {
        if self.level > 0 && now.since(self.since) >= span {
            self.level -= 1;
            self.since = now;
            self.lasted /= 2;
        }
    }

    /// Returns how long conditions must have been good, and how long after the last mistake; `None` when
    /// there is none to learn from.
    pub(crate) fn wait(&self, bounds: Bounds) -> Option<Duration> {
        let wait = self.doubled(bounds).max(self.lasted.saturating_mul(2)).min(bounds.most);
        (self.level > 0).then_some(wait)
    }

    /// Returns the moment of the last mistake.
    pub(crate) fn since(&self) -> Timestamp {
        self.since
    }

    fn doubled(&self, bounds: Bounds) -> Duration {
        bounds.least.saturating_mul(1 << self.level)
    }
}

/// Keeps the shift in range where the least wait is next to nothing.
const MAX_LEVEL: u32 = 16;

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: Bounds = Bounds { least: Duration::from_mins(5), most: Duration::from_hours(1) };

    fn minutes(backoff: &Backoff) -> Option<u64> {
        backoff.wait(BOUNDS).map(|wait| wait.as_secs() / 60)
    }

    #[test]
    fn mistakes_double_the_wait_and_good_time_halves_it() {
        let mut backoff = Backoff::default();
        assert_eq!(minutes(&backoff), None);
        for want in [10, 20, 40, 60, 60] {
            backoff.fail(Timestamp::ZERO, Duration::ZERO, BOUNDS);
            assert_eq!(minutes(&backoff), Some(want));
        }
        let mut now = Timestamp::ZERO;
        for want in [Some(40), Some(20), Some(10), None] {
            now += BOUNDS.least;
            backoff.heal(now, BOUNDS.least);
            assert_eq!(minutes(&backoff), want);
        }
    }

    #[test]
    fn good_times_that_end_are_waited_out_twice() {
        let mut backoff = Backoff::default();
        backoff.fail(Timestamp::ZERO, Duration::from_mins(25), BOUNDS);
        assert_eq!(minutes(&backoff), Some(50));
        backoff.fail(Timestamp::ZERO, Duration::from_mins(55), BOUNDS);
        assert_eq!(minutes(&backoff), Some(60), "bounded");
    }
}
