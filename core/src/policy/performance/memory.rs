//! What is remembered of a rung that was left for being slow: it is tried again, after twice the time each time.

use std::time::Duration;

use crate::settings::Settings;
use crate::time::Timestamp;

/// The state for one rung.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct SlowMemory {
    /// How often it was slow, less what good service has compensated.
    level: u32,
    since: Timestamp,
    measured: Duration,
    limit: Duration,
    /// How long it has served well since.
    well_for: Duration,
}

/// The bounds of what is remembered.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    /// How long a rung with a clean record is kept away; each time that it proves slow doubles this.
    usual: Duration,
    /// The longest that it is ever remembered.
    longest: Duration,
    /// The least good service that compensates for one time.
    good: Duration,
}

impl Bounds {
    pub(super) fn new(settings: &Settings) -> Self {
        // However short the reversal window is, a slow rung stays slow for some time.
        let usual = settings.reversal_window.max(settings.performance_window / 5);
        Self { usual, longest: usual * LONGEST_IN_USUAL, good: usual * GOOD_IN_USUAL }
    }

    fn wait(&self, level: u32) -> Duration {
        self.usual.saturating_mul(1 << level.min(MOST_DOUBLINGS)).min(self.longest)
    }
}

impl SlowMemory {
    /// Counts that the rung is left now because it broke a limit. Coming back to it forgives nothing; serving well
    /// does: one time for as long as the rung was kept away, and at least three reversal windows.
    pub(super) fn fail(
        &mut self,
        now: Timestamp,
        measured: Duration,
        limit: Duration,
        bounds: Bounds,
    ) {
        if self.in_force(now, bounds).is_some() {
            // It is still there, or was brought back regardless: that is the same time.
            self.measured = measured;
            self.limit = limit;
            return;
        }
        let mut well_for = self.well_for;
        while self.level > 0 {
            let price = bounds.wait(self.level).max(bounds.good);
            let Some(left) = well_for.checked_sub(price) else { break };
            well_for = left;
            self.level -= 1;
        }
        let level = (self.level + 1).min(MOST_DOUBLINGS);
        *self = Self { level, since: now, measured, limit, well_for: Duration::ZERO };
    }

    pub(super) fn serve_well(&mut self, span: Duration) {
        self.well_for = self.well_for.saturating_add(span);
    }

    /// Returns whether the rung was slow so long ago that it is tried whatever is predicted for it: the catalog may be
    /// wrong about what was measured once.
    pub(super) fn is_due_for_a_try(&self, now: Timestamp, bounds: Bounds) -> bool {
        self.level > 0 && now.since(self.since) >= bounds.longest
    }

    /// Returns what was measured and the limit that it broke, while the rung is kept away because of it.
    pub(super) fn in_force(&self, now: Timestamp, bounds: Bounds) -> Option<(Duration, Duration)> {
        let holds = self.level > 0 && now.since(self.since) < bounds.wait(self.level);
        holds.then_some((self.measured, self.limit))
    }
}

/// The longest memory in reversal windows: with the default of 15 min it is a day. A machine is not the same from one
/// day to the next.
const LONGEST_IN_USUAL: u32 = 96;

/// The least good service that compensates for one time, in reversal windows: by default three quarters of an hour.
/// Chosen: longer than a rung serves well by chance.
const GOOD_IN_USUAL: u32 = 3;

/// Seven doublings take the reversal window past the longest memory.
const MOST_DOUBLINGS: u32 = 7;

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_mins(1);
    const BOUNDS: Bounds = Bounds {
        usual: Duration::from_mins(15),
        longest: Duration::from_hours(24),
        good: Duration::from_mins(45),
    };

    /// Returns for how many minutes a rung is kept away that was slow after each of these numbers of good minutes.
    fn kept_away(well_for: &[u32]) -> Vec<u64> {
        let mut memory = SlowMemory::default();
        let mut now = Timestamp::ZERO;
        let kept = |&good: &u32| {
            memory.serve_well(MINUTE * good);
            memory.fail(now, MINUTE, MINUTE, BOUNDS);
            let since = now;
            while memory.in_force(now, BOUNDS).is_some() {
                now += MINUTE;
            }
            now.since(since).as_secs() / 60
        };
        well_for.iter().map(kept).collect()
    }

    #[test]
    fn each_time_doubles_the_memory_up_to_a_day() {
        assert_eq!(kept_away(&[0; 8]), [30, 60, 120, 240, 480, 960, 1440, 1440]);
    }

    #[test]
    fn only_good_service_makes_up_for_a_time_and_it_takes_as_long_as_the_rung_was_kept_away() {
        assert_eq!(kept_away(&[0, 44]), [30, 60]);
        assert_eq!(kept_away(&[0, 45]), [30, 30]);
        assert_eq!(kept_away(&[0, 0, 59]), [30, 60, 120]);
        assert_eq!(kept_away(&[0, 0, 60]), [30, 60, 60]);
        assert_eq!(kept_away(&[0, 0, 105]), [30, 60, 30]);
    }

    #[test]
    fn what_is_said_twice_counts_once() {
        let mut memory = SlowMemory::default();
        for second in 0..3 {
            memory.fail(Timestamp::from_secs(second), MINUTE, MINUTE, BOUNDS);
        }
        assert!(memory.in_force(Timestamp::from_secs(1799), BOUNDS).is_some());
        assert!(memory.in_force(Timestamp::from_secs(1800), BOUNDS).is_none());
    }
}
