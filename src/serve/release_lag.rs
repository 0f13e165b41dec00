//! Memory of an ended model that has yet to come back.
//!
//! A process that ends shows no memory some tenths of a second before the machine shows it free (900 MiB for 0.2 s,
//! measured 2026-11-25). If it counted as another program's, it would take a step down too far. So what others gain
//! while we lose still counts as ours, for as long as a release takes; the simulated machine behaves in the same way.

use tiershift_core::sample::Space;
use tiershift_core::time::Timestamp;
use tiershift_core::units::Bytes;

use crate::backend::LONGEST_LAG;

/// The memory that has yet to come back.
#[derive(Debug, Default)]
pub(super) struct ReleaseLag {
    /// Our models' use at the last sample.
    own: Bytes,
    /// Others' use before that of our models fell.
    others: Bytes,
    /// What has not been seen free.
    left: Bytes,
    /// The latest moment for it.
    until: Timestamp,
}

impl ReleaseLag {
    /// Takes a sample, and counts in it as ours what has yet to come back.
    pub(super) fn count(&mut self, now: Timestamp, space: &mut Space) {
        let fell = self.own - space.own;
        self.own = space.own;
        if fell > Bytes::ZERO {
            self.left += fell;
            self.until = now + LONGEST_LAG;
        }
        if now >= self.until {
            self.left = Bytes::ZERO;
        }
        // What was once seen free does not come again.
        self.left = self.left.min(space.others - self.others);
        if self.left == Bytes::ZERO {
            self.others = space.others;
        }
        space.others = space.others - self.left;
        space.own += self.left;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// Takes samples of (milliseconds, others, own), and returns them corrected, in MiB.
    fn counted<const N: usize>(readings: [(u64, u64, u64); N]) -> [(u64, u64); N] {
        let mut lag = ReleaseLag::default();
        readings.map(|(millis, others, own)| {
            let [total, others, own] = [16_384, others, own].map(Bytes::from_mib);
            let mut space = Space { total, others, own };
            lag.count(Timestamp::ZERO + Duration::from_millis(millis), &mut space);
            (space.others.get() >> 20, space.own.get() >> 20)
        })
    }

    #[test]
    fn what_others_gain_while_we_lose_is_ours_until_it_is_free() {
        let readings = [(0, 4281, 1106), (100, 5203, 24), (200, 5111, 0), (300, 4281, 0)];
        assert_eq!(counted(readings), [(4281, 1106), (4281, 946), (4281, 830), (4281, 0)]);
    }

    #[test]
    fn others_growth_counts_as_theirs_where_we_lose_nothing_or_less() {
        let readings = [(0, 4000, 1000), (100, 4300, 1000), (200, 6000, 0), (300, 4300, 0)];
        assert_eq!(counted(readings), [(4000, 1000), (4300, 1000), (5000, 1000), (4300, 0)]);
        // Once it was seen free, it is no longer ours: the next to take it is another program.
        let readings = [(0, 4000, 1000), (100, 4000, 0), (200, 5000, 0)];
        assert_eq!(counted(readings), [(4000, 1000), (4000, 0), (5000, 0)]);
    }

    #[test]
    fn what_does_not_come_back_is_anothers() {
        let readings = [(0, 4000, 1000), (100, 5000, 0), (2000, 5000, 0), (2100, 5000, 0)];
        assert_eq!(counted(readings), [(4000, 1000), (4000, 1000), (4000, 1000), (5000, 0)]);
    }
}
