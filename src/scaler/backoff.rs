//! Learned back-off: an upgrade that had to be undone makes the next wait longer.

use std::time::Duration;

use crate::time::Timestamp;

/// What one rung has taught.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Backoff {
    /// Doublings in force.
    level: u32,
    /// When the last mistake was made, or the last halving: both start the clock of the next.
    since: Option<Timestamp>,
}

impl Backoff {
    /// Counts a mistake made now. The level stops where the wait reaches `limit`, so that healing is not
    /// spent on doublings that had no effect.
    pub(crate) fn fail(&mut self, now: Timestamp, base: Duration, limit: Duration) {
        if base.saturating_mul(1 << self.level) < limit {
            self.level = (self.level + 1).min(MAX_LEVEL);
        }
        self.since = Some(now);
    }

    /// Halves the wait for each `span` of good time.
    pub(crate) fn heal(&mut self, now: Timestamp, span: Duration) {
        if let Some(since) = self.since
            && self.level > 0
            && now.since(since) >= span
        {
            self.level -= 1;
            self.since = Some(now);
        }
    }

    /// Returns the moment before which the rung must not be tried: the last mistake plus `base`, doubled for each
    /// level, at most `limit`.
    pub(crate) fn until(&self, base: Duration, limit: Duration) -> Option<Timestamp> {
        let since = self.since.filter(|_| self.level > 0)?;
        Some(since + base.saturating_mul(1 << self.level).min(limit))
    }
}

/// Keeps the shift in range where the base is next to nothing.
const MAX_LEVEL: u32 = 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mistakes_double_the_wait_and_good_time_halves_it() {
        let (base, limit) = (Duration::from_mins(5), Duration::from_hours(1));
        let wait = |backoff: &Backoff| {
            backoff.until(base, limit).map(|until| until.since(Timestamp::ZERO))
        };
        let mut backoff = Backoff::default();
        assert_eq!(wait(&backoff), None);
        backoff.fail(Timestamp::ZERO, base, limit);
        assert_eq!(wait(&backoff), Some(2 * base));
        backoff.fail(Timestamp::ZERO, base, limit);
        assert_eq!(wait(&backoff), Some(4 * base));
        for _ in 0..20 {
            backoff.fail(Timestamp::ZERO, base, limit);
        }
        assert_eq!(wait(&backoff), Some(Duration::from_hours(1)));
        let mut now = Timestamp::ZERO;
        for _ in 0..4 {
            now += base;
            backoff.heal(now, base);
        }
        assert_eq!(wait(&backoff), None);
    }
}
