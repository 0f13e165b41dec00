//! Time in a trace: made relative to the first row, and checked for steps back, repeats, gaps and clocks that are set.

use std::time::Duration;

use tiershift_core::time::{Rhythm, Timestamp, nanos};

/// Follows the times of a trace.
#[derive(Clone, Debug)]
pub(crate) struct Pace {
    /// The time on the file's own scale at the moment zero; moved when the clock is set.
    zero: Option<i128>,
    last: i64,
    last_moment: Timestamp,
    rhythm: Rhythm,
    /// A silence up to this long is never a gap.
    shortest_gap: Duration,
    /// Whether silences of hours are left out of the moments.
    cuts: bool,
    /// Successive rows that are behind the last accepted one.
    behind: Option<Behind>,
}

/// Rows that are older than the last accepted one, but follow one another.
#[derive(Clone, Copy, Debug)]
struct Behind {
    first: i64,
    last: i64,
    rows: u32,
}

/// How a row's time relates to the one before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    Forward(Timestamp),
    /// Accepted, after a silence of this many nanoseconds.
    ForwardAfterGap(Timestamp, u64),
    /// Accepted, after a silence of this many nanoseconds that was left out.
    ForwardAfterCut(Timestamp, u64),
    /// Accepted: from here on the clock shows this many nanoseconds more (or less) than the rows before it allow.
    ClockSet(Timestamp, i128),
    /// The same moment again.
    Same(Timestamp),
    /// Earlier by this many nanoseconds.
    Backward(u64),
}

impl Pace {
    /// Silences up to `shortest_gap` nanoseconds are no gap. With `cuts`, a silence of hours is left out of the
    /// moments.
    pub(super) fn new(shortest_gap: u64, cuts: bool) -> Self {
        Self {
            zero: None,
            last: 0,
            last_moment: Timestamp::ZERO,
            rhythm: Rhythm::of_median(),
            shortest_gap: Duration::from_nanos(shortest_gap),
            cuts,
            behind: None,
        }
    }

    /// Returns whether a row is so far ahead of the one before that the row after it must be examined first: it may be
    /// a clock's mistake, or misplaced.
    #[inline]
    pub(super) fn leaps(&self, at: i64) -> bool {
        if self.zero.is_none() || at <= self.last {
            return false;
        }
        let interval = at.abs_diff(self.last);
        let is_gap = |usual| interval > nanos(usual).saturating_mul(GAP_FACTOR);
        self.rhythm.usual().map_or(interval >= LEAP, is_gap)
    }

    /// Returns whether a row that leaps is a clock's mistake: the row after it, if there is one, falls back to where
    /// time was.
    pub(super) fn leads_astray(&self, leap: i64, after: Option<i64>) -> bool {
        match after {
            Some(after) => (self.last..leap).contains(&after),
            None => leap.abs_diff(self.last) > LONGEST_SILENCE,
        }
    }

    /// Judges a row's time, in nanoseconds on the file's own scale. Only a step forward moves the pace. `after` is the
    /// time of the row after it, which is examined only after a leap.
    #[inline]
    pub(super) fn step(&mut self, at: i64, after: Option<i64>) -> Step {
        let Some(zero) = self.zero else {
            (self.zero, self.last) = (Some(i128::from(at)), at);
            self.rhythm.gap_before(Timestamp::ZERO, GAP_FACTOR, self.shortest_gap);
            return Step::Forward(Timestamp::ZERO);
        };
        if at < self.last {
            return self.fall_behind(at);
        }
        self.behind = None;
        let interval = at.abs_diff(self.last);
        if interval == 0 {
            return Step::Same(self.last_moment);
        }
        if interval >= LEAP
            && let Some(step) = self.leap(at, interval, after)
        {
            return step;
        }
        self.last = at;
        self.last_moment = Timestamp::from_nanos(moment(at, zero));
        match self.rhythm.gap_before(self.last_moment, GAP_FACTOR, self.shortest_gap) {
            Some(_) => Step::ForwardAfterGap(self.last_moment, interval),
            None => Step::Forward(self.last_moment),
        }
    }

    /// A long silence: the clock was set, or the machine was off. `None` if it is an ordinary interval, or stays.
    #[cold]
    fn leap(&mut self, at: i64, interval: u64, after: Option<i64>) -> Option<Step> {
        // A step that is longer than any silence is not an interval either.
        let next = after.and_then(|after| u64::try_from(after.saturating_sub(at)).ok());
        let next = next.filter(|step| (1..=LONGEST_SILENCE).contains(step));
        let known = self.rhythm.usual().map(nanos).or(next);
        if interval > LONGEST_SILENCE {
            let usual = known.unwrap_or(SECOND);
            let moment = self.resume(at, usual);
            return Some(Step::ClockSet(moment, i128::from(interval) - i128::from(usual)));
        }
        let usual = known?;
        let is_cut = self.cuts && interval >= LEFT_OUT && interval / usual > GAP_FACTOR;
        if !is_cut || nanos(self.shortest_gap) >= interval {
            return None;
        }
        // Only a gap is left of it, so that what follows is not taken for the next reading of the same sequence.
        let moment = self.resume(at, usual.saturating_mul(GAP_FACTOR + 1));
        Some(Step::ForwardAfterCut(moment, interval))
    }

    /// Continues with a clock that shows `at`, `pause` nanoseconds after the last accepted row.
    fn resume(&mut self, at: i64, pause: u64) -> Timestamp {
        let moment = self.last_moment + Duration::from_nanos(pause);
        self.zero = Some(i128::from(at) - i128::from(moment.as_nanos()));
        (self.last, self.last_moment, self.behind) = (at, moment, None);
        self.rhythm.gap_before_extra(moment, GAP_FACTOR, self.shortest_gap);
        moment
    }

    /// Handles a row that is older than the last accepted one. When several of them follow one another, the clock was
    /// set back, by a user or for the winter, or another run was appended.
    #[cold]
    fn fall_behind(&mut self, at: i64) -> Step {
        let by = self.last.abs_diff(at);
        let behind = match self.behind {
            Some(Behind { first, last, rows })
                if at > last && at.abs_diff(last) <= LONGEST_SILENCE =>
            {
                Behind { first, last: at, rows: rows + 1 }
            }
            Some(behind) if at == behind.last => behind,
            _ => Behind { first: at, last: at, rows: 1 },
        };
        self.behind = Some(behind);
        if behind.rows < ROWS_OF_A_CLOCK {
            return Step::Backward(by);
        }
        let span = behind.first.abs_diff(at);
        let usual = self.rhythm.usual().map_or(span / u64::from(behind.rows - 1), nanos);
        let last = self.last;
        let moment = self.resume(at, usual.saturating_add(span));
        let expected = i128::from(last) + i128::from(usual) + i128::from(span);
        Step::ClockSet(moment, i128::from(at) - expected)
    }

    /// Continues with a clock that is unrelated to the one before: that of another run in the same file.
    pub(super) fn restart(&mut self, at: i64) {
        if self.zero.is_some() && at <= self.last {
            let usual = self.rhythm.usual().map_or(SECOND, nanos);
            // The row itself comes one usual interval later; it is judged like any other.
            self.resume(at.saturating_sub(i64::try_from(usual).unwrap_or(SECOND as i64)), 0);
        }
    }
}

fn moment(at: i64, zero: i128) -> u64 {
    u64::try_from(i128::from(at) - zero).unwrap_or_default()
}

const SECOND: u64 = 1_000_000_000;
/// A silence longer than this many usual intervals is a gap. Chosen: one missed reading is jitter, two are not.
const GAP_FACTOR: u64 = 3;
/// A silence that counts as long if the usual interval is not known. Chosen: shorter than any that is left out.
const LEAP: u64 = 10 * 60 * SECOND;
/// From this length on, a silence that is a gap is left out of a replay. Chosen: within an hour, the last reading may
/// still hold; a night later it does not.
const LEFT_OUT: u64 = 3600 * SECOND;
/// A longer silence is a clock that was set, usually from 1970 at boot. Chosen: no machine is traced over a silence of
/// a year.
const LONGEST_SILENCE: u64 = 366 * 86_400 * SECOND;
/// This many successive rows that are behind are a clock that was set back. Chosen: two may be rows that two writers
/// wrote in the wrong order.
const ROWS_OF_A_CLOCK: u32 = 3;

#[cfg(test)]
mod tests {
    use super::*;

    const S: i64 = 1_000_000_000;

    #[track_caller]
    fn check(pace: &mut Pace, steps: &[(i64, Step)]) {
        for (seconds, want) in steps {
            assert_eq!(pace.step(seconds * S, None), *want, "at {seconds} s");
        }
    }

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_secs(seconds)
    }

    #[test]
    fn time_is_judged_against_the_last_accepted_row() {
        let mut pace = Pace::new(0, false);
        check(
            &mut pace,
            &[
                (100, Step::Forward(at(0))),
                (101, Step::Forward(at(1))),
                (102, Step::Forward(at(2))),
                (101, Step::Backward(SECOND)),
                (102, Step::Same(at(2))),
                (105, Step::Forward(at(5))),
                (109, Step::ForwardAfterGap(at(9), 4 * SECOND)),
                (110, Step::Forward(at(10))),
            ],
        );
    }

    #[test]
    fn a_row_far_ahead_of_its_neighbours_is_astray() {
        let mut pace = Pace::new(0, false);
        check(&mut pace, &[(100, Step::Forward(at(0))), (101, Step::Forward(at(1)))]);
        let day = 86_400 * S;
        assert!(!pace.leaps(102 * S) && pace.leaps(day));
        assert!(pace.leads_astray(day, Some(103 * S)));
        assert!(!pace.leads_astray(day, Some(day + S)));
        assert!(!pace.leads_astray(day, None));
        assert!(pace.leads_astray(400 * day, None));
    }

    #[test]
    fn a_clock_that_is_set_back_or_far_forward_goes_on_in_its_own_steps() {
        let mut pace = Pace::new(0, false);
        check(
            &mut pace,
            &[
                (7200, Step::Forward(at(0))),
                (7210, Step::Forward(at(10))),
                (3620, Step::Backward(3590 * SECOND)),
                (3630, Step::Backward(3580 * SECOND)),
                (3640, Step::ClockSet(at(40), -3600 * i128::from(SECOND))),
                (3650, Step::Forward(at(50))),
                (1_700_000_000, Step::ClockSet(at(60), 1_699_996_340 * i128::from(SECOND))),
                (1_700_000_010, Step::Forward(at(70))),
            ],
        );
        assert_eq!(pace.zero, Some(1_699_999_940 * i128::from(S)));
    }

    #[test]
    fn of_rows_years_apart_none_lasts_for_years() {
        let mut pace = Pace::new(0, false);
        pace.step(2 * S, None);
        let years = [1_700_000_000, 5_000_000_000, 7_000_000_000_i64];
        let after = years.iter().skip(1).map(|year| Some(year * S)).chain([None]);
        let steps = years.iter().zip(after).map(|(year, after)| pace.step(year * S, after));
        let moments = steps.map(|step| match step {
            Step::ClockSet(moment, _) => moment,
            other => panic!("{other:?}"),
        });
        assert_eq!(moments.collect::<Vec<_>>(), [at(1), at(2), at(3)]);
        // Rows that are behind belong to one clock only if they follow one another.
        for behind in [0, 1, 2_000_000_000, 2_000_000_001] {
            let step = pace.step(behind * S, None);
            assert!(matches!(step, Step::Backward(_)), "{behind}: {step:?}");
        }
    }

    #[test]
    fn a_silence_of_hours_is_left_out_where_that_is_wanted() {
        let mut pace = Pace::new(0, true);
        check(
            &mut pace,
            &[
                (0, Step::Forward(at(0))),
                (10, Step::Forward(at(10))),
                (20, Step::Forward(at(20))),
                (9020, Step::ForwardAfterCut(at(60), 9000 * SECOND)),
                (9030, Step::Forward(at(70))),
            ],
        );
        let mut hourly = Pace::new(0, true);
        check(&mut hourly, &[(0, Step::Forward(at(0))), (3600, Step::Forward(at(3600)))]);
        check(&mut hourly, &[(10_800, Step::Forward(at(10_800)))]);
    }
}
