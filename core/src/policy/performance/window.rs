//! The replies of a sliding window, and the figures that limits apply to.

use std::collections::VecDeque;
use std::time::Duration;

use crate::demand::ReplyTimes;
use crate::time::Timestamp;

/// A figure that may have a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Figure {
    /// Arrival to last token.
    Latency,
    /// Arrival to first token.
    FirstToken,
}

impl Figure {
    pub(super) const ALL: [Self; 2] = [Self::Latency, Self::FirstToken];

    fn of(self, reply: &ReplyTimes) -> Duration {
        match self {
            Self::Latency => reply.latency,
            Self::FirstToken => reply.first_token,
        }
    }
}

/// The limit of each figure that has one, by [`Figure::ALL`].
pub(super) type Limits = [Option<Duration>; Figure::ALL.len()];

/// Replies in order of their end, with their totals.
#[derive(Clone, Debug, Default)]
pub(super) struct Replies {
    held: VecDeque<(Timestamp, ReplyTimes)>,
    /// By figure, over all held replies.
    sums: [Sum; Figure::ALL.len()],
    /// A buffer for computing percentiles, kept to avoid an allocation at each reply.
    scratch: Vec<Duration>,
}

/// The totals of the held replies in one figure.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Sum {
    /// The 95th percentile (nearest rank).
    p95: Duration,
    /// How many are over the limit.
    pub(super) over: u32,
    /// How many of those were slow by the catalog.
    pub(super) slow: u32,
}

impl Replies {
    pub(super) fn len(&self) -> u32 {
        u32::try_from(self.held.len()).expect("few replies are held")
    }

    pub(super) fn push(
        &mut self,
        now: Timestamp,
        reply: ReplyTimes,
        oldest: Timestamp,
        limits: &Limits,
    ) {
        self.held.push_back((now, reply));
        if !self.drop_older(oldest, limits) {
            self.sum_up(limits);
        }
    }

    /// Drops replies that ended before `oldest`. Returns whether there were any.
    pub(super) fn drop_older(&mut self, oldest: Timestamp, limits: &Limits) -> bool {
        let before = self.held.len();
        while self.held.front().is_some_and(|&(at, _)| at < oldest)
            || self.held.len() > MOST_REPLIES
        {
            self.held.pop_front();
        }
        let has_dropped = self.held.len() < before;
        if has_dropped {
            self.sum_up(limits);
        }
        has_dropped
    }

    pub(super) fn clear(&mut self) {
        self.held.clear();
        self.sums = [Sum::default(); Figure::ALL.len()];
    }

    pub(super) fn sum(&self, figure: Figure) -> Sum {
        self.sums[figure as usize]
    }

    /// Returns the 95th percentile; `None` for fewer than `minimum` replies.
    pub(super) fn p95(&self, figure: Figure, minimum: u32) -> Option<Duration> {
        (self.len() >= minimum.max(1)).then_some(self.sum(figure).p95)
    }

    /// Computes the totals; the only work that grows with the window, done when the window has changed.
    fn sum_up(&mut self, limits: &Limits) {
        for figure in Figure::ALL {
            let sum = &mut self.sums[figure as usize];
            *sum = Sum::default();
            let (Some(limit), false) = (limits[figure as usize], self.held.is_empty()) else {
                continue;
            };
            self.scratch.clear();
            for (_, reply) in &self.held {
                let took = figure.of(reply);
                self.scratch.push(took);
                if took > limit {
                    sum.over += 1;
                    sum.slow += u32::from(reply.is_slow_by_catalog());
                }
            }
            let rank = rank_of_p95(self.scratch.len());
            sum.p95 = *self.scratch.select_nth_unstable(rank - 1).1;
        }
    }
}

/// Returns the rank of the 95th percentile among `count`, from one on.
pub(super) const fn rank_of_p95(count: usize) -> usize {
    (count * 95).div_ceil(100)
}

/// Limits memory and the work of a percentile: 512 replies determine the 95th percentile to within 1 %.
const MOST_REPLIES: usize = 512;
