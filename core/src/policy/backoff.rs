//! Back-off after failures: each further one doubles the wait before the next try, and serving for a time without one
//! halves it.

use std::time::Duration;

use crate::time::Timestamp;

/// The state for one rung.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Backoff {
    /// Failures in force.
    level: u32,
    /// When the last failure was, or the last one was forgiven: from then, the next one is counted down.
    since: Timestamp,
}

/// The bounds of the wait.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    /// Half of the wait after the first failure.
    pub(crate) least: Duration,
    /// The longest wait.
    pub(crate) most: Duration,
}

impl Backoff {
    /// Counts a failure now. The level stops where the wait reaches its bound, so that forgiving is not spent on
    /// doublings without effect.
    pub(crate) fn fail(&mut self, now: Timestamp, bounds: Bounds) {
        if self.doubled(bounds) < bounds.most {
            self.level = (self.level + 1).min(MAX_LEVEL);
        }
        self.since = now;
    }

    /// Forgives a failure for each `span` that the rung has served since. The time before it was tried again does not
    /// count.
    pub(crate) fn heal(&mut self, now: Timestamp, serves_since: Timestamp, span: Duration) {
        if self.level > 0 && now.since(self.since.max(serves_since)) >= span {
            self.level -= 1;
            self.since = now;
        }
    }

    /// Returns whether a failure counts.
    pub(crate) fn is_in_force(&self) -> bool {
        self.level > 0
    }

    /// Returns how long the rung is not tried after the last failure; `None` when no failure counts any more.
    pub(crate) fn wait(&self, bounds: Bounds) -> Option<Duration> {
        self.is_in_force().then(|| self.doubled(bounds).min(bounds.most))
    }

    /// Returns the moment of the last failure.
    pub(crate) fn since(&self) -> Timestamp {
        self.since
    }

    fn doubled(&self, bounds: Bounds) -> Duration {
        bounds.least.saturating_mul(1 << self.level)
    }
}

/// Keeps the shift in range if the least wait is nearly zero.
const MAX_LEVEL: u32 = 16;

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: Bounds = Bounds { least: Duration::from_mins(5), most: Duration::from_hours(1) };

    fn minutes(backoff: &Backoff) -> Option<u64> {
        backoff.wait(BOUNDS).map(|wait| wait.as_secs() / 60)
    }

    #[test]
    fn failures_double_the_wait_and_good_service_halves_it() {
        let mut backoff = Backoff::default();
        assert_eq!(minutes(&backoff), None);
        for want in [10, 20, 40, 60, 60] {
            backoff.fail(Timestamp::ZERO, BOUNDS);
            assert_eq!(minutes(&backoff), Some(want));
        }
        let mut now = Timestamp::ZERO;
        for want in [Some(40), Some(20), Some(10), None] {
            now += BOUNDS.least;
            backoff.heal(now, Timestamp::ZERO, BOUNDS.least);
            assert_eq!(minutes(&backoff), want);
        }
    }

    #[test]
    fn the_wait_for_the_next_try_forgives_nothing() {
        let mut backoff = Backoff::default();
        backoff.fail(Timestamp::ZERO, BOUNDS);
        let loaded = Timestamp::from_secs(600);
        for (second, want) in [(600, Some(10)), (899, Some(10)), (900, None)] {
            backoff.heal(Timestamp::from_secs(second), loaded, BOUNDS.least);
            assert_eq!(minutes(&backoff), want, "{second} s");
        }
    }
}
