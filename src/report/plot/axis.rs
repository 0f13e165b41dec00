//! Ticks that people can read.

use tiershift_core::time::Timestamp;

/// Ticks on the time axis.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct TimeAxis {
    /// What the labels count.
    pub(super) caption: &'static str,
    pub(super) ticks: Vec<(Timestamp, String)>,
}

/// Returns about a dozen ticks from zero to `end`.
pub(super) fn time_axis(end: Timestamp) -> TimeAxis {
    let secs = end.as_nanos().div_ceil(NANOS);
    let step = STEPS.iter().copied().find(|step| secs / step <= MOST_TICKS);
    let step = step.unwrap_or_else(|| (secs / MOST_TICKS).next_multiple_of(100 * DAY).max(1));
    let (caption, label): (_, fn(u64) -> String) = match step {
        _ if secs <= 120 => ("seconds", |secs| format!("{secs}")),
        ..60 => ("minutes:seconds", |secs| format!("{}:{:02}", secs / 60, secs % 60)),
        60..HOUR if secs <= 2 * HOUR => ("minutes", |secs| format!("{}", secs / 60)),
        60..HOUR => ("hours:minutes", |secs| format!("{}:{:02}", secs / HOUR, secs % HOUR / 60)),
        HOUR..DAY => ("hours", |secs| format!("{}", secs / HOUR)),
        _ => ("days", |secs| format!("{}", secs / DAY)),
    };
    let ticks = (0..=secs / step).map(|n| n * step);
    let ticks = ticks.map(|secs| (Timestamp::from_secs(secs), label(secs)));
    TimeAxis { caption, ticks: ticks.filter(|(at, _)| *at <= end).collect() }
}

/// Returns the step of some three to six ticks from zero to `most`: 1, 2 or 5 times a power of ten.
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
        let axis = time_axis(Timestamp::from_secs(secs));
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
