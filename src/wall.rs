//! The wall clock of a recording: the date and the time of day while it was made.
//!
//! It is data of the recording, with the offset from UTC if the recording states it. Nothing here reads the system's
//! clock or time zones, so that a run has the same result on every machine.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use jiff::civil::{DateTime, Time};
use jiff::fmt::temporal::Pieces;
use jiff::tz::Offset;
use jiff::{SignedDuration, Span, Timestamp as Instant};
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use tiershift_core::time::{SpanText, Timestamp, span_text};

mod part;

pub use part::Part;

/// A date and a time of day as a recording writes them, with the offset from UTC if it is known.
///
/// # Examples
/// ```
/// use tiershift::wall::WallTime;
///
/// let known: WallTime = "2026-01-31T02:13:00+01:00".parse()?;
/// assert_eq!(known.to_string(), "2026-01-31T02:13:00+01:00");
/// let local: WallTime = "2026-01-31 02:13".parse()?;
/// assert_eq!(local.described(), "2026-01-31 02:13:00, UTC offset unknown");
/// # Ok::<(), tiershift::wall::WallTimeError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WallTime {
    civil: DateTime,
    offset: Option<Offset>,
}

impl WallTime {
    /// Returns a calendar time; without an offset it is the local time of an unknown place.
    pub fn new(civil: DateTime, offset: Option<Offset>) -> Self {
        Self { civil, offset }
    }

    /// Returns the time that is `nanos` nanoseconds after the beginning of 1970: in UTC if the offset is known, or else
    /// in local time. `None` beyond the calendar.
    pub fn from_nanos(nanos: i128, offset: Option<Offset>) -> Option<Self> {
        let instant = Instant::from_nanosecond(nanos).ok()?;
        Some(Self { civil: offset.unwrap_or(Offset::UTC).to_datetime(instant), offset })
    }

    /// Returns the number for [`WallTime::from_nanos`].
    pub fn nanos(self) -> i128 {
        let instant = self.offset.unwrap_or(Offset::UTC).to_timestamp(self.civil);
        // A year 9999 that an offset moves beyond the calendar.
        instant.unwrap_or(Instant::MAX).as_nanosecond()
    }

    /// Returns the date and the time of day.
    pub fn civil(self) -> DateTime {
        self.civil
    }

    /// Returns the offset from UTC, if it is known.
    pub fn offset(self) -> Option<Offset> {
        self.offset
    }

    /// Returns the time `span` later, with the same offset.
    #[must_use]
    pub fn after(self, span: Duration) -> Self {
        Self { civil: self.civil.saturating_add(span), offset: self.offset }
    }

    /// Returns how much later it is than `other`. If one of them has no offset, both are taken as local times of one
    /// place.
    pub fn since(self, other: Self) -> SignedDuration {
        match (self.offset, other.offset) {
            (Some(_), Some(_)) => SignedDuration::from_nanos_i128(self.nanos() - other.nanos()),
            _ => self.civil.duration_since(other.civil),
        }
    }

    /// Returns the date and the time to the second, as reports show it: `2026-01-31 02:13:00`.
    pub fn short(self) -> String {
        self.civil.strftime("%Y-%m-%d %H:%M:%S").to_string()
    }

    /// Returns it for users, including what is not known of it: `2026-01-31 02:13:00, UTC offset unknown`.
    pub fn described(self) -> String {
        format!("{}, {}", self.short(), self.offset_described())
    }

    /// Returns the offset for users: `UTC`, `UTC+01:00` or `UTC offset unknown`.
    pub fn offset_described(self) -> String {
        match self.offset {
            Some(Offset::UTC) => "UTC".to_owned(),
            Some(offset) => format!("UTC{}", offset_text(offset)),
            None => "UTC offset unknown".to_owned(),
        }
    }
}

fn offset_text(offset: Offset) -> String {
    let minutes = offset.seconds() / 60;
    let sign = if minutes < 0 { '-' } else { '+' };
    format!("{sign}{:02}:{:02}", minutes.abs() / 60, minutes.abs() % 60)
}

/// RFC 3339 if the offset is known; otherwise the same without an offset.
impl fmt::Display for WallTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.civil)?;
        match self.offset {
            Some(Offset::UTC) => f.write_str("Z"),
            Some(offset) => f.write_str(&offset_text(offset)),
            None => Ok(()),
        }
    }
}

impl FromStr for WallTime {
    type Err = WallTimeError;

    fn from_str(text: &str) -> Result<Self, WallTimeError> {
        let refused = || WallTimeError { text: text.to_owned() };
        let pieces = Pieces::parse(text).map_err(|_| refused())?;
        let time = pieces.time().unwrap_or(Time::midnight());
        let civil = DateTime::from_parts(pieces.date(), time);
        let offset = pieces.to_numeric_offset();
        // Offsets with seconds are from the 19th century, and RFC 3339 cannot write them.
        match offset {
            Some(offset) if offset.seconds() % 60 != 0 => Err(refused()),
            _ => Ok(Self { civil, offset }),
        }
    }
}

/// Why a text is not a time.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "\"{text}\" is not a time such as 2026-01-31T02:13:00, with +01:00 or Z behind it where the offset is known"
)]
pub struct WallTimeError {
    text: String,
}

impl Serialize for WallTime {
    fn serialize<S: Serializer>(&self, out: S) -> Result<S::Ok, S::Error> {
        out.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for WallTime {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(input)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

impl JsonSchema for WallTime {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "WallTime".into()
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "type": "string",
            "description": "A date and time of day, with the offset from UTC where that is known.",
            "examples": ["2026-01-31T02:13:00+01:00", "2026-01-31T02:13:00"]
        })
    }
}

/// What the wall clock showed at each moment of a run. It runs with the run's time from one mark to the next: there is
/// a new mark where the clock was set, and where a replay leaves out hours. Empty if the recording does not state it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WallClock {
    /// In order, the first at the run's beginning.
    marks: Vec<WallMark>,
}

/// What the wall clock showed at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WallMark {
    /// The moment.
    #[serde(rename = "at_ns")]
    pub at: Timestamp,
    /// What the clock showed then.
    pub wall_time: WallTime,
}

impl WallClock {
    /// Returns the clock of a run that began at this time, and was never set.
    pub fn from_start(start: WallTime) -> Self {
        Self { marks: vec![WallMark { at: Timestamp::ZERO, wall_time: start }] }
    }

    /// Returns what it showed when the run began.
    pub fn started_at(&self) -> Option<WallTime> {
        self.marks.first().map(|mark| mark.wall_time)
    }

    /// Returns what it shows at a moment.
    pub fn at(&self, moment: Timestamp) -> Option<WallTime> {
        let after = self.marks.partition_point(|mark| mark.at <= moment);
        let mark = self.marks.get(after.saturating_sub(1))?;
        Some(mark.wall_time.after(moment.since(mark.at)))
    }

    /// Returns a moment for users: what the clock shows or, if that is unknown, the time since the run began, as `since`
    /// writes it.
    pub fn moment_text(&self, moment: Timestamp, since: impl Fn(Duration) -> String) -> String {
        match self.at(moment) {
            Some(time) => time.short(),
            None => since(moment.since(Timestamp::ZERO)),
        }
    }

    /// Returns the moments at which it shows a time, in a run that lasts until `end`, in order: none if that time is
    /// before or after the run or was left out, several if the clock was set back.
    pub fn moments_of(&self, time: WallTime, end: Timestamp) -> Vec<Timestamp> {
        let ends = self.later_marks().iter().map(|mark| mark.at);
        let pieces = self.marks.iter().zip(ends.chain([end + Duration::from_nanos(1)]));
        let moments = pieces.filter_map(|(mark, until)| {
            let since = Duration::try_from(time.since(mark.wall_time)).ok()?;
            Some(mark.at + since).filter(|&at| at < until && at <= end)
        });
        moments.collect()
    }

    /// Adds what the clock shows from a moment on; what was known of later moments is forgotten. The first mark is
    /// extended back to the beginning.
    pub fn set(&mut self, at: Timestamp, wall_time: WallTime) {
        self.marks.retain(|mark| mark.at < at);
        let mark = match self.marks.is_empty() {
            false => WallMark { at, wall_time },
            true => {
                let since = at.since(Timestamp::ZERO);
                let civil = wall_time.civil.saturating_sub(since);
                let wall_time = WallTime { civil, ..wall_time };
                WallMark { at: Timestamp::ZERO, wall_time }
            }
        };
        self.marks.push(mark);
    }

    /// Returns the clock of a run that begins at this moment of the present one.
    #[must_use]
    pub fn from_moment(&self, begin: Timestamp) -> Self {
        let mut clock = Self::default();
        if let Some(shows) = self.at(begin) {
            clock.set(Timestamp::ZERO, shows);
        }
        for mark in self.marks.iter().filter(|mark| mark.at > begin) {
            clock.set(Timestamp::ZERO + mark.at.since(begin), mark.wall_time);
        }
        clock
    }

    /// Returns the marks, in order.
    pub fn marks(&self) -> &[WallMark] {
        &self.marks
    }

    /// Returns the marks that do not follow from the start.
    pub fn later_marks(&self) -> &[WallMark] {
        self.marks.get(1..).unwrap_or_default()
    }
}

/// A moment of a run as a user writes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// `1h30m`: since the run began.
    Span(Duration),
    /// `02:13`: by the wall clock, on the day of the run that has it.
    TimeOfDay(Time),
    /// `2026-01-31T02:13`: by the wall clock.
    Date(WallTime),
}

impl FromStr for When {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        // With a colon it is a time, which a lenient parser would take for a span; and a date with a time would be
        // mistaken for a time.
        let is_time = text.contains(':');
        let span = || text.parse::<SpanText>().ok().filter(|_| !is_time);
        let time = || text.parse::<Time>().ok().filter(|_| is_time).map(Self::TimeOfDay);
        let date = text.parse().ok().map(Self::Date);
        date.or_else(time).or_else(|| span().map(|span| Self::Span(span.0))).ok_or_else(|| {
            "a span such as 1h30m, a time of day such as 02:13, or a date and time such as 2026-01-31T02:13 is wanted"
                .to_owned()
        })
    }
}

impl When {
    /// Returns the moment in a run that lasts until `end`.
    ///
    /// # Errors
    /// When the run has no wall clock, never shows that time, or shows it more than once; each message names the
    /// remedy.
    pub fn moment(self, clock: &WallClock, end: Timestamp) -> Result<Timestamp, WhenError> {
        let Some(start) = clock.started_at() else {
            return match self {
                Self::Span(span) => Ok(Timestamp::ZERO + span),
                Self::TimeOfDay(_) | Self::Date(_) => Err(WhenError::NoClock),
            };
        };
        let found: Vec<(Timestamp, WallTime)> = match self {
            Self::Span(span) => return Ok(Timestamp::ZERO + span),
            Self::Date(date) if date.offset().is_some() && start.offset().is_none() => {
                return Err(WhenError::NoOffset);
            }
            Self::Date(date) => {
                clock.moments_of(date, end).into_iter().map(|at| (at, date)).collect()
            }
            Self::TimeOfDay(time) => {
                let shown = |mark: &WallMark| mark.wall_time.civil().date();
                let first = clock.marks().iter().map(shown).min();
                let last = clock.at(end).map(|last| last.civil().date());
                let last = clock.marks().iter().map(shown).chain(last).max();
                let days = first.into_iter().flat_map(|first| first.series(Span::new().days(1)));
                let days = days.take_while(|day| last.is_some_and(|last| *day <= last));
                days.flat_map(|day| {
                    let date = WallTime::new(day.to_datetime(time), start.offset());
                    clock.moments_of(date, end).into_iter().map(move |at| (at, date))
                })
                .take(MOST_DAYS + 1)
                .collect()
            }
        };
        match found.as_slice() {
            [(at, _)] => Ok(*at),
            [] => {
                let [from, to] = [Timestamp::ZERO, end].map(|at| clock.at(at));
                let text = |time: Option<WallTime>| time.map_or_else(String::new, WallTime::short);
                Err(WhenError::Outside { from: text(from), to: text(to) })
            }
            several => {
                let each = several.iter().take(MOST_DAYS).map(|(at, date)| {
                    format!(
                        "{} ({} since the beginning)",
                        date.civil(),
                        span_text(at.since(Timestamp::ZERO))
                    )
                });
                let mut each = each.collect::<Vec<_>>().join(", ");
                if several.len() > MOST_DAYS {
                    each.push_str(" and more");
                }
                Err(WhenError::Several { each })
            }
        }
    }
}

/// Why a moment that a user gave is not one of a run.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "each variant's message says what it is")]
pub enum WhenError {
    #[error(
        "the recording does not state its date and time: give a span since its beginning, such as 1h30m"
    )]
    NoClock,
    #[error("the recording does not state its offset from UTC: give the time without one")]
    NoOffset,
    #[error(
        "the recording has no such time: it goes from {from} to {to}, and a replay leaves silences of hours out"
    )]
    Outside { from: String, to: String },
    #[error("the recording has that time more than once: {each}; give the date, or the span")]
    Several { each: String },
}

/// The most days that a message lists. Chosen: a line or two of them.
const MOST_DAYS: usize = 7;

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn time(text: &str) -> WallTime {
        text.parse().unwrap()
    }

    #[test]
    fn a_time_is_written_as_it_was_read_with_its_offset_or_without() {
        for (text, want) in [
            ("2026-01-31T02:13:00+01:00", "2026-01-31T02:13:00+01:00"),
            ("2026-01-31T02:13:00.25-03:30", "2026-01-31T02:13:00.25-03:30"),
            ("2026-01-31 02:13:00Z", "2026-01-31T02:13:00Z"),
            ("2026-01-31 02:13", "2026-01-31T02:13:00"),
            ("2026-01-31", "2026-01-31T00:00:00"),
        ] {
            assert_eq!(time(text).to_string(), want, "{text}");
            assert_eq!(time(want), time(text), "{text}");
            let back = WallTime::from_nanos(time(text).nanos(), time(text).offset());
            assert_eq!(back, Some(time(text)), "{text}");
        }
        for wrong in ["02:13", "tomorrow", "2026-02-30", "2026-01-31T02:13:00+00:00:30", ""] {
            assert!(wrong.parse::<WallTime>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn times_of_known_offsets_are_compared_as_moments_and_others_as_they_stand() {
        let apart = |a: &str, b: &str| time(a).since(time(b)).as_secs();
        assert_eq!(apart("2026-01-31T02:00:00+01:00", "2026-01-31T00:00:00Z"), 3600);
        assert_eq!(apart("2026-01-31T02:00:00", "2026-01-31T00:00:00Z"), 7200);
        assert_eq!(apart("2026-01-31T02:00:00", "2026-01-31T03:00:00"), -3600);
    }

    #[test]
    fn a_moment_is_a_span_a_time_of_day_or_a_date() {
        let mut clock = WallClock::from_start(time("2026-01-31T22:00:00+01:00"));
        let end = Timestamp::from_secs(36_000);
        let moment = |clock: &WallClock, text: &str| {
            let when: When = text.parse().unwrap();
            when.moment(clock, end)
                .map(|at| at.as_nanos() / 1_000_000_000)
                .map_err(|e| e.to_string())
        };
        for (text, want) in [
            ("1h 30m", 5400),
            ("02:13", 15_180),
            ("23:59:30", 7170),
            ("2026-02-01T02:13", 15_180),
            ("2026-02-01 01:13Z", 15_180),
        ] {
            assert_eq!(moment(&clock, text), Ok(want), "{text}");
        }
        for (text, word) in [
            ("12:00", "from 2026-01-31 22:00:00 to 2026-02-01 08:00:00"),
            ("2026-01-30T02:13", "it goes from"),
        ] {
            assert!(moment(&clock, text).unwrap_err().contains(word), "{text}");
        }
        // Set back by an hour.
        clock.set(Timestamp::from_secs(7200), time("2026-01-31T23:00:00+01:00"));
        let twice = moment(&clock, "23:30").unwrap_err();
        assert!(
            twice.contains(
                "2026-01-31T23:30:00 (1h 30m since the beginning), 2026-01-31T23:30:00 (2h 30m"
            ),
            "{twice}"
        );
        let unknown = WallClock::default();
        assert!(moment(&unknown, "02:13").unwrap_err().contains("give a span"));
        assert_eq!(moment(&unknown, "5s"), Ok(5));
        let local = WallClock::from_start(time("2026-01-31T22:00:00"));
        assert!(moment(&local, "2026-02-01T02:13Z").unwrap_err().contains("without one"));
        assert!("soon".parse::<When>().is_err() && "12".parse::<When>().is_err());
    }

    #[test]
    fn a_clock_runs_on_from_its_last_mark() {
        let mut clock = WallClock::default();
        assert_eq!((clock.at(Timestamp::ZERO), clock.started_at()), (None, None));
        let secs = Timestamp::from_secs;
        clock.set(secs(0), time("2026-01-31T23:59:50"));
        clock.set(secs(60), time("2026-02-03T08:00:00"));
        let shows = |clock: &WallClock, at| clock.moment_text(secs(at), span_text);
        assert_eq!(shows(&WallClock::default(), 90), "1m 30s");
        assert_eq!(shows(&clock, 20), "2026-02-01 00:00:10");
        assert_eq!(shows(&clock, 59), "2026-02-01 00:00:49");
        assert_eq!(shows(&clock, 61), "2026-02-03 08:00:01");
        let later = clock.from_moment(secs(20));
        assert_eq!(later.started_at(), Some(time("2026-02-01T00:00:10")));
        assert_eq!((shows(&later, 39), shows(&later, 41)), (shows(&clock, 59), shows(&clock, 61)));
        assert_eq!(clock.from_moment(secs(61)).started_at(), Some(time("2026-02-03T08:00:01")));
        clock.set(secs(60), time("2026-02-04T08:00:00"));
        assert_eq!(
            (shows(&clock, 60), clock.later_marks().len()),
            ("2026-02-04 08:00:00".into(), 1)
        );
    }
}
