//! How recent requests ended: whether a rung is failing.

use std::collections::VecDeque;
use std::time::Duration;

use crate::time::Timestamp;

/// The ends of a rung's requests.
#[derive(Clone, Debug)]
pub(super) struct Failures {
    window: Duration,
    in_a_row: u32,
    /// The ends in the window, in order; `true` for a failure of the model.
    ends: VecDeque<(Timestamp, bool)>,
    /// How many of them are failures.
    recent: u32,
}

impl Failures {
    /// Builds it without ends. Failures among successes count while they are in the window.
    pub(super) fn new(window: Duration) -> Self {
        Self { window, in_a_row: 0, ends: VecDeque::new(), recent: 0 }
    }

    pub(super) fn clear(&mut self) {
        self.in_a_row = 0;
        self.ends.clear();
        self.recent = 0;
    }
    pub(super) fn record(&mut self, now: Timestamp, has_failed: bool) {
        self.in_a_row = if has_failed { self.in_a_row.saturating_add(1) } else { 0 };
        self.recent += u32::from(has_failed);
        self.ends.push_back((now, has_failed));
        self.drop_older(now);
    }

    /// Returns the number of failures, if it is too high: `limit` in a row, or as many in the window if they are half
    /// of what ended.
    pub(super) fn too_many(&mut self, now: Timestamp, limit: u32) -> Option<u32> {
        if self.in_a_row >= limit {
            return Some(self.in_a_row);
        }
        if self.recent < limit {
            return None;
        }
        self.drop_older(now);
        let is_half = self.recent as usize * 2 >= self.ends.len();
        (self.recent >= limit && is_half).then_some(self.recent)
    }

    fn drop_older(&mut self, now: Timestamp) {
        while let Some(&(at, has_failed)) = self.ends.front()
            && (now.since(at) > self.window || self.ends.len() > MOST_ENDS)
        {
            self.ends.pop_front();
            self.recent -= u32::from(has_failed);
        }
    }
}

/// Limits memory: the last 512 ends are enough.
const MOST_ENDS: usize = 512;

#[cfg(test)]
mod tests {
    use super::*;

    /// Records ends, one every few seconds, an `x` for a failure, and checks whether three are too many after it.
    #[track_caller]
    fn check(every: u64, ends: &str, want: Option<u32>) {
        let mut failures = Failures::new(Duration::from_mins(2));
        let mut now = Timestamp::ZERO;
        for end in ends.chars() {
            now += Duration::from_secs(every);
            failures.record(now, end == 'x');
        }
        assert_eq!(failures.too_many(now, 3), want, "{ends} every {every} s");
    }

    #[test]
    fn some_in_a_row_are_too_many_and_a_success_forgives_them() {
        check(1000, "xx", None);
        check(1000, "xxx", Some(3));
        check(1000, "xxxx", Some(4));
        check(1000, "xxx.", None);
    }

    #[test]
    fn half_of_what_ended_of_late_is_too_much() {
        check(1, "x.x.x.", Some(3));
        check(1, "x.x.x..", None);
        check(1, "x.x.", None);
        check(1, "..............x.x.x.", None);
        check(50, "x.x.x.x.", None);
        check(20, ".....x.xx.x.", Some(4));
    }
}
