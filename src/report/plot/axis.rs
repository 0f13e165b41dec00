//! Readable ticks.

use std::time::Duration;

use tiershift_core::time::Timestamp;

use crate::wall::{WallClock, WallTime};

/// Ticks on a row of the time axis.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct TimeAxis {
    /// The unit of the labels.
    pub(super) caption: String,
    pub(super) ticks: Vec<(Timestamp, String)>,
}

/// Returns about a dozen ticks from `begin` to `end`, at round times since the run began.
pub(super) fn time_axis(begin: Timestamp, end: Timestamp) -> TimeAxis {
    let [begin, secs] = [begin, end].map(|at| at.as_nanos().div_ceil(NANOS));
    let step = step_of(secs.saturating_sub(begin));
    let (caption, label): (_, fn(u64) -> String) = match step {
        _ if secs <= 120 => ("seconds", |secs| format!("{secs}")),
        ..60 if secs > 2 * HOUR => ("hours:minutes:seconds", |secs| {
            format!("{}:{:02}:{:02}", secs / HOUR, secs % HOUR / 60, secs % 60)
        }),
        ..60 => ("minutes:seconds", |secs| format!("{}:{:02}", secs / 60, secs % 60)),
        60..HOUR if secs <= 2 * HOUR => ("minutes", |secs| format!("{}", secs / 60)),
        60..HOUR => ("hours:minutes", |secs| format!("{}:{:02}", secs / HOUR, secs % HOUR / 60)),
        HOUR..DAY => ("hours", |secs| format!("{}", secs / HOUR)),
        _ => ("days", |secs| format!("{}", secs / DAY)),
    };
    let ticks = (begin.div_ceil(step)..=secs / step).map(|n| n * step);
    let ticks = ticks.map(|secs| (Timestamp::from_secs(secs), label(secs)));
    TimeAxis { caption: caption.to_owned(), ticks: ticks.filter(|(at, _)| *at <= end).collect() }
}

/// Returns the seconds from one tick to the next.
fn step_of(secs: u64) -> u64 {
    let step = STEPS.iter().copied().find(|step| secs / step <= MOST_TICKS);
    step.unwrap_or_else(|| (secs / MOST_TICKS).next_multiple_of(100 * DAY).max(1))
}

/// Returns about a dozen ticks from `begin` to `end`, at round times of the wall clock; `None` if the run has none. The
/// label of the first tick of each day is the date. `is_free` returns whether a label has room after one at an earlier
/// tick: a label without room is left out, and one before a date makes way for it.
pub(super) fn wall_axis(
    clock: &WallClock,
    begin: Timestamp,
    end: Timestamp,
    is_free: impl Fn(&(Timestamp, String), &(Timestamp, String)) -> bool,
) -> Option<TimeAxis> {
    let clock = clock.from_moment(begin);
    let end = Timestamp::ZERO + end.since(begin);
    let start = clock.started_at()?;
    let step = step_of(end.as_nanos().div_ceil(NANOS));
    let form = if step < 60 { "%H:%M:%S" } else { "%H:%M" };
    let mut ticks: Vec<(Timestamp, String)> = Vec::new();
    let mut date = start.civil().date();
    let marks = clock.marks();
    let ends = marks.iter().skip(1).map(|mark| mark.at).chain([end + Duration::from_nanos(1)]);
    for (mark, until) in marks.iter().zip(ends) {
        // As the clock's face shows it, whatever its offset.
        let face = WallTime::new(mark.wall_time.civil(), None).nanos();
        let step = i128::from(step * NANOS);
        let mut behind = (face + step - 1).div_euclid(step) * step - face;
        while let Ok(nanos) = u64::try_from(behind)
            && let at = mark.at + Duration::from_nanos(nanos)
            && at < until.min(end + Duration::from_nanos(1))
        {
            behind += step;
            let shown = mark.wall_time.after(Duration::from_nanos(nanos)).civil();
            let is_new_day = shown.date() != date;
            let form = match is_new_day || step >= i128::from(DAY * NANOS) {
                true if shown.date().year() != date.year() => "%Y-%m-%d",
                true => "%b %-d",
                false => form,
            };
            let tick = (begin + at.since(Timestamp::ZERO), shown.strftime(form).to_string());
            if is_new_day {
                while ticks.last().is_some_and(|last| !is_free(last, &tick)) {
                    ticks.pop();
                }
            } else if ticks.last().is_some_and(|last| !is_free(last, &tick)) {
                continue;
            }
            date = shown.date();
            ticks.push(tick);
        }
    }
    Some(TimeAxis { caption: start.offset_described(), ticks })
}

/// Returns the step for about three to six ticks from zero to `most`: 1, 2 or 5 times a power of ten.
pub(super) fn value_step(most: f64) -> f64 {
    let mut step = 1.0;
    while step * 6.0 < most {
        step *= 10.0;
    }
    while step > 1e-6 && step * 0.6 >= most {
        step /= 10.0;
    }
    for finer in [0.2, 0.5] {
        if step * finer * 6.0 >= most {
            return step * finer;
        }
    }
    step
}

const NANOS: u64 = 1_000_000_000;
const HOUR: u64 = 3600;
const DAY: u64 = 86_400;
const MOST_TICKS: u64 = 14;
const STEPS: [u64; 21] = [
    1,
    2,
    5,
    10,
    15,
    30,
    60,
    120,
    300,
    600,
    900,
    1800,
    HOUR,
    2 * HOUR,
    3 * HOUR,
    6 * HOUR,
    12 * HOUR,
    DAY,
    2 * DAY,
    5 * DAY,
    30 * DAY,
];

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(secs: u64, want: &str) {
        let axis = time_axis(Timestamp::ZERO, Timestamp::from_secs(secs));
        let labels: Vec<&str> = axis.ticks.iter().map(|(_, label)| label.as_str()).collect();
        assert_eq!(format!("{}: {}", axis.caption, labels.join(" ")), want);
    }

    #[test]
    fn time_is_told_in_the_unit_that_fits() {
        check(0, "seconds: 0");
        check(10, "seconds: 0 1 2 3 4 5 6 7 8 9 10");
        check(600, "minutes: 0 1 2 3 4 5 6 7 8 9 10");
        check(
            200,
            "minutes:seconds: 0:00 0:15 0:30 0:45 1:00 1:15 1:30 1:45 2:00 2:15 2:30 2:45 3:00 3:15",
        );
        check(
            3 * 3600,
            "hours:minutes: 0:00 0:15 0:30 0:45 1:00 1:15 1:30 1:45 2:00 2:15 2:30 2:45 3:00",
        );
        check(99_360, "hours: 0 2 4 6 8 10 12 14 16 18 20 22 24 26");
        check(30 * 86_400, "days: 0 5 10 15 20 25 30");
    }

    #[track_caller]
    fn check_wall(clock: &WallClock, secs: u64, want: &str) {
        let apart = |a: &(Timestamp, String), b: &(Timestamp, String)| {
            b.0.since(a.0) * 40 >= Duration::from_secs(secs)
        };
        let axis = wall_axis(clock, Timestamp::ZERO, Timestamp::from_secs(secs), apart).unwrap();
        let labels: Vec<&str> = axis.ticks.iter().map(|(_, label)| label.as_str()).collect();
        assert_eq!(format!("{}: {}", axis.caption, labels.join(" ")), want);
    }

    #[test]
    fn the_wall_clock_has_round_times_and_the_date_where_the_day_changes() {
        let clock = |start: &str| WallClock::from_start(start.parse().unwrap());
        check_wall(
            &clock("2026-01-31T23:57:10+01:00"),
            600,
            "UTC+01:00: 23:58 23:59 Feb 1 00:01 00:02 00:03 00:04 00:05 00:06 00:07",
        );
        check_wall(
            &clock("2025-12-31T20:00:00"),
            99_360,
            "UTC offset unknown: 20:00 22:00 2026-01-01 02:00 04:00 06:00 08:00 10:00 12:00 14:00 16:00 18:00 20:00 22:00",
        );
        check_wall(
            &clock("2026-01-31T23:59:58.5Z"),
            5,
            "UTC: 23:59:59 Feb 1 00:00:01 00:00:02 00:00:03",
        );
        check_wall(
            &clock("2026-01-31T12:00:00Z"),
            4 * 86_400,
            "UTC: 12:00 Feb 1 12:00 Feb 2 12:00 Feb 3 12:00 Feb 4 12:00",
        );
        // A night that a replay left out; the date has room, the time before it has none.
        let mut cut = clock("2026-01-31T12:00:00Z");
        cut.set(Timestamp::from_secs(301), "2026-02-01T08:00:01Z".parse().unwrap());
        check_wall(
            &cut,
            600,
            "UTC: 12:00 12:01 12:02 12:03 12:04 12:05 Feb 1 08:02 08:03 08:04 08:05",
        );
    }

    #[test]
    fn value_steps_are_round() {
        for (most, want) in [
            (1.0, 0.2),
            (3.0, 0.5),
            (16.0, 5.0),
            (17.0, 5.0),
            (100.0, 20.0),
            (130.0, 50.0),
            (0.05, 0.01),
        ] {
            assert_eq!(value_step(most), want, "{most}");
        }
    }
}
