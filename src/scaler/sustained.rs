//! Tells a sustained high rate from a spike (after oomd's `pressure_rising_beyond`).
//!
//! A rate resource is an emergency only if it has been above its line for a while, still is, and is not
//! falling fast.

use std::time::Duration;

use crate::time::Timestamp;
use crate::units::Percent;

/// Watches one rate resource.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sustained {
    high_since: Option<Timestamp>,
    /// Mean over the readings since `high_since`, in thousandths of a percent.
    mean_milli: u64,
    readings: u64,
    now_at: Percent,
}

impl Sustained {
    /// Takes a reading and returns how long the rate has been above `line`.
    pub(crate) fn observe(&mut self, now: Timestamp, used: Percent, line: Percent) -> Duration {
        self.now_at = used;
        if used < line {
            self.reset();
            return Duration::ZERO;
        }
        let since = *self.high_since.get_or_insert(now);
        self.readings += 1;
        let milli = u64::from(used.milli());
        self.mean_milli = (self.mean_milli * (self.readings - 1) + milli) / self.readings;
        now.since(since)
    }

    /// Returns whether the last reading is below `share` of the mean while high.
    pub(crate) fn is_falling(&self, share: Percent) -> bool {
        let mean = Percent::from_milli(u32::try_from(self.mean_milli).unwrap_or(u32::MAX));
        u64::from(self.now_at.milli()) * u64::from(Percent::ONE_HUNDRED.milli())
            < u64::from(mean.milli()) * u64::from(share.milli())
    }

    /// Starts over: a step down was taken, and its effect must be seen before the next.
    pub(crate) fn reset(&mut self) {
        *self = Self { now_at: self.now_at, ..Self::default() };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spike_never_lasts_and_a_plateau_does() {
        let mut cpu = Sustained::default();
        let line = Percent::new(90);
        let mut at = |seconds, percent| {
            cpu.observe(Timestamp::from_secs(seconds), Percent::new(percent), line)
        };
        assert_eq!(at(0, 100), Duration::ZERO);
        assert_eq!(at(2, 40), Duration::ZERO);
        assert_eq!(at(4, 95), Duration::ZERO);
        assert_eq!(at(34, 95), Duration::from_secs(30));
    }

    #[test]
    fn a_fast_fall_is_seen() {
        let mut pressure = Sustained::default();
        for seconds in 0..10 {
            pressure.observe(Timestamp::from_secs(seconds), Percent::new(100), Percent::new(50));
        }
        assert!(!pressure.is_falling(Percent::new(85)));
        pressure.observe(Timestamp::from_secs(10), Percent::new(60), Percent::new(50));
        assert!(pressure.is_falling(Percent::new(85)));
    }
}
