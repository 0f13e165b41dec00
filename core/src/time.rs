//! Moments, spans, and gaps in a series.
//!
//! Time is an argument everywhere: controller, policy and manager get `now` and have no clock. Worlds, which wait,
//! implement [`Clock`].

use std::fmt;
use std::ops::{Add, AddAssign, Sub};
use std::str::FromStr;
use std::time::Duration;

use jiff::fmt::friendly::{SpanParser, SpanPrinter};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::units::{UnitError, human};

/// A moment, in nanoseconds since the run began. Reaches 584 years, so that no run wraps it.
///
/// # Examples
/// ```
/// use std::time::Duration;
/// use tiershift_core::time::Timestamp;
///
/// let later = Timestamp::from_secs(60) + Duration::from_secs(30);
/// assert_eq!(later.since(Timestamp::from_secs(60)), Duration::from_secs(30));
/// assert_eq!(Timestamp::from_secs(60).since(later), Duration::ZERO);
/// ```
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(transparent)]
pub struct Timestamp(u64);

impl Timestamp {
    /// The moment the run began.
    pub const ZERO: Self = Self(0);
    /// The last moment; stands for "never" in a deadline.
    pub const MAX: Self = Self(u64::MAX);

    /// Returns the moment `nanos` nanoseconds after the run began.
    pub const fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    /// Returns the moment `millis` milliseconds after the run began.
    pub const fn from_millis(millis: u64) -> Self {
        Self(millis.saturating_mul(NANOS_PER_SECOND / 1000))
    }

    /// Returns the moment `seconds` seconds after the run began.
    pub const fn from_secs(seconds: u64) -> Self {
        Self(seconds.saturating_mul(NANOS_PER_SECOND))
    }

    /// Returns the nanoseconds since the run began.
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// Returns the seconds since the run began.
    pub fn as_secs_f64(self) -> f64 {
        self.0 as f64 / NANOS_PER_SECOND as f64
    }

    /// Returns how long ago `earlier` was; zero if it is not earlier.
    #[inline]
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Timestamp {
    type Output = Self;
    /// Saturates at [`Timestamp::MAX`]: a deadline beyond that is never reached.
    #[inline]
    fn add(self, span: Duration) -> Self {
        Self(self.0.saturating_add(nanos(span)))
    }
}

impl AddAssign<Duration> for Timestamp {
    #[inline]
    fn add_assign(&mut self, span: Duration) {
        *self = *self + span;
    }
}

impl Sub<Duration> for Timestamp {
    type Output = Self;
    /// Saturates at [`Timestamp::ZERO`].
    #[inline]
    fn sub(self, span: Duration) -> Self {
        Self(self.0.saturating_sub(nanos(span)))
    }
}

/// How regularly moments follow one another: the one rule for gaps, whatever the interval.
///
/// The usual interval is estimated in one of two ways. A *mean* is for decisions as samples come: it moves an eighth of
/// the way with each interval, and a gap at most doubles it, so that one outage does not make outages usual, while a
/// lasting change of rhythm soon counts. A *median* is for judging a file: a few odd intervals do not move it at all.
#[derive(Clone, Debug)]
pub struct Rhythm {
    last: Option<Timestamp>,
    /// The usual interval [ns]; zero while it is unknown.
    usual: u64,
    /// The intervals behind a median.
    recent: Option<Box<Recent>>,
}

impl Rhythm {
    /// Uses a running mean as the usual interval.
    pub const fn of_mean() -> Self {
        Self { last: None, usual: 0, recent: None }
    }

    /// Uses the median of the last 64 as the usual interval.
    pub fn of_median() -> Self {
        let recent = Recent { intervals: [0; WINDOW], seen: 0 };
        Self { recent: Some(Box::new(recent)), ..Self::of_mean() }
    }

    /// Returns the usual interval; `None` while it is unknown.
    pub fn usual(&self) -> Option<Duration> {
        (self.usual > 0).then(|| Duration::from_nanos(self.usual))
    }

    /// Adds a moment, and returns the interval before it if that was a gap: longer than `factor` usual intervals, and
    /// longer than `shortest`.
    #[inline]
    pub fn gap_before(
        &mut self,
        now: Timestamp,
        factor: u64,
        shortest: Duration,
    ) -> Option<Duration> {
        let last = self.last;
        let gap = self.gap_before_extra(now, factor, shortest);
        if let Some(last) = last {
            self.learn(now.0.saturating_sub(last.0));
        }
        gap
    }

    /// As [`Rhythm::gap_before`], for a moment that does not count for the usual interval.
    #[inline]
    pub fn gap_before_extra(
        &mut self,
        now: Timestamp,
        factor: u64,
        shortest: Duration,
    ) -> Option<Duration> {
        let last = self.last.replace(now)?;
        let (length, usual) = (now.0.saturating_sub(last.0), self.usual);
        let is_gap = usual > 0 && length > usual.saturating_mul(factor) && length > nanos(shortest);
        is_gap.then(|| Duration::from_nanos(length))
    }

    #[inline]
    fn learn(&mut self, length: u64) {
        let usual = self.usual;
        self.usual = match &mut self.recent {
            Some(recent) => recent.median_with(length).unwrap_or(usual),
            None if usual == 0 => length,
            // A repeated moment says nothing about how often there are samples.
            None if length == 0 => usual,
            None => {
                let step = length.min(usual.saturating_mul(2));
                usual.saturating_mul(7).saturating_add(step) / 8
            }
        };
    }
}

/// The last intervals [ns], a ring.
#[derive(Clone, Debug)]
struct Recent {
    intervals: [u64; WINDOW],
    seen: usize,
}

impl Recent {
    /// Adds an interval, and returns the median when it is recomputed: at 1, 2, 4 .. 64 intervals, then at every 64th.
    fn median_with(&mut self, interval: u64) -> Option<u64> {
        self.intervals[self.seen % WINDOW] = interval;
        self.seen += 1;
        let is_due =
            self.seen.is_multiple_of(WINDOW) || (self.seen < WINDOW && self.seen.is_power_of_two());
        is_due.then(|| {
            let mut sorted = self.intervals;
            let sorted = &mut sorted[..self.seen.min(WINDOW)];
            *sorted.select_nth_unstable((sorted.len() - 1) / 2).1
        })
    }
}

/// Reads the time and waits. The simulated clock jumps; the system clock sleeps.
pub trait Clock {
    /// Returns the present moment.
    fn now(&self) -> Timestamp;

    /// Waits until `deadline` and returns the moment reached, which may be later, or earlier if something woke the
    /// clock.
    fn wait_until(&mut self, deadline: Timestamp) -> Timestamp;
}

/// Returns the whole nanoseconds of `span`, saturating at 584 years.
#[inline]
pub const fn nanos(span: Duration) -> u64 {
    let nanos = span.as_nanos();
    if nanos > u64::MAX as u128 { u64::MAX } else { nanos as u64 }
}

/// Returns what is left of a wait after `passed`, if anything is.
#[inline]
pub fn left(wait: Duration, passed: Duration) -> Option<Duration> {
    wait.checked_sub(passed).filter(|left| !left.is_zero())
}

/// Returns the earliest of the given moments; [`Timestamp::MAX`] is never. Without a branch, because every step of a
/// run passes here.
#[inline]
pub fn earliest<const N: usize>(moments: [Option<Timestamp>; N]) -> Option<Timestamp> {
    let mut first = Timestamp::MAX;
    for moment in moments {
        first = first.min(moment.unwrap_or(Timestamp::MAX));
    }
    (first < Timestamp::MAX).then_some(first)
}

/// Returns a span of `seconds`, rounded to the nanosecond; zero for a negative value or NaN, and the longest span for a
/// value that is too large.
pub fn from_secs_f64(seconds: f64) -> Duration {
    // `as` saturates, and takes NaN to zero.
    Duration::from_nanos((seconds * NANOS_PER_SECOND as f64).round() as u64)
}

/// Returns a span as people write it: `5m`, `1h 30m`, `500ms`.
pub fn span_text(span: Duration) -> String {
    SpanPrinter::new().unsigned_duration_to_string(&span)
}

/// A span as in a settings file: `"5m"`, `"1h 30m"`, `"500ms"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SpanText(pub Duration);

impl fmt::Display for SpanText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&span_text(self.0))
    }
}

impl From<SpanText> for Duration {
    fn from(text: SpanText) -> Self {
        text.0
    }
}

impl FromStr for SpanText {
    type Err = UnitError;

    /// Parses numbers with units, from days to nanoseconds: `5m`, `1h 30m`, `1.5s`, `2d`. A number without a unit is
    /// refused, and so is a negative span.
    fn from_str(text: &str) -> Result<Self, UnitError> {
        let want = "a span such as \"5m\", \"1h 30m\" or \"500ms\"";
        let refuse = || UnitError { text: text.to_owned(), want: want.into() };
        parse_span(text).map(Self).ok_or_else(refuse)
    }
}

impl Serialize for SpanText {
    fn serialize<S: Serializer>(&self, out: S) -> Result<S::Ok, S::Error> {
        human::serialize(self, out)
    }
}

impl<'de> Deserialize<'de> for SpanText {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        human::deserialize(input)
    }
}

/// Reads a span. A day is 24 hours here; the calendar library's parser does not accept days, because theirs vary.
fn parse_span(text: &str) -> Option<Duration> {
    let parse = |text: &str| SpanParser::new().parse_unsigned_duration(text).ok();
    let Some((days, rest)) = text.split_once('d') else { return parse(text) };
    let days = Duration::from_secs(days.trim().parse::<u64>().ok()?.checked_mul(86_400)?);
    if rest.trim().is_empty() { Some(days) } else { days.checked_add(parse(rest.trim_start())?) }
}

#[cfg(feature = "schema")]
impl schemars::JsonSchema for SpanText {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "SpanText".into()
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "type": "string",
            // The usual spellings; the reader accepts more.
            "pattern": "^([0-9]+(\\.[0-9]+)? *(d|h|hours?|m|min|mins|minutes?|s|sec|secs|seconds?|ms|us|µs|ns)[ ,]*)+$",
            "examples": ["5m", "1h 30m", "500ms"]
        })
    }
}

/// Spans in logs, for `#[serde(with = "duration_ns")]`: whole nanoseconds. A type where serde takes a module, so that
/// schemas accept it too.
#[expect(non_camel_case_types, reason = "it stands where serde takes a module")]
#[derive(Debug)]
pub struct duration_ns;

/// The same for a span that may be absent.
#[expect(non_camel_case_types, reason = "it stands where serde takes a module")]
#[derive(Debug)]
pub struct duration_ns_or_none;

impl duration_ns {
    /// Writes the nanoseconds.
    pub fn serialize<S: Serializer>(span: &Duration, out: S) -> Result<S::Ok, S::Error> {
        out.serialize_u64(nanos(*span))
    }

    /// Reads the nanoseconds.
    pub fn deserialize<'de, D: Deserializer<'de>>(input: D) -> Result<Duration, D::Error> {
        u64::deserialize(input).map(Duration::from_nanos)
    }
}

impl duration_ns_or_none {
    /// Writes the nanoseconds or nothing.
    pub fn serialize<S: Serializer>(span: &Option<Duration>, out: S) -> Result<S::Ok, S::Error> {
        match span {
            Some(span) => out.serialize_some(&nanos(*span)),
            None => out.serialize_none(),
        }
    }

    /// Reads the nanoseconds or nothing.
    pub fn deserialize<'de, D: Deserializer<'de>>(input: D) -> Result<Option<Duration>, D::Error> {
        Ok(Option::<u64>::deserialize(input)?.map(Duration::from_nanos))
    }
}

#[cfg(feature = "schema")]
impl schemars::JsonSchema for duration_ns {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Nanoseconds".into()
    }
    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        u64::json_schema(generator)
    }
}

#[cfg(feature = "schema")]
impl schemars::JsonSchema for duration_ns_or_none {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "NanosecondsOrNone".into()
    }
    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        Option::<u64>::json_schema(generator)
    }
}

/// Intervals of a median. Chosen: with an interval of a minute, 64 follow a change of sampling within an hour, at 3 ns
/// each.
const WINDOW: usize = 64;

/// Nanoseconds in a second.
pub const NANOS_PER_SECOND: u64 = 1_000_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_long_run_wraps_nothing() {
        let later = Timestamp::ZERO + Duration::from_secs(400 * 86_400);
        assert_eq!(later.since(Timestamp::from_secs(86_400)), Duration::from_secs(399 * 86_400));
    }

    #[test]
    fn spans_print_and_parse_to_the_same_value() {
        for nanos in [0, 1, 1_000_000, 1_500_000_000, 300_000_000_000, 86_400_000_000_000] {
            let span = SpanText(Duration::from_nanos(nanos));
            assert_eq!(span.to_string().parse(), Ok(span), "{span}");
            let json = serde_json::to_string(&span).unwrap();
            assert_eq!(serde_json::from_str::<SpanText>(&json).unwrap(), span, "{json}");
        }
    }

    #[test]
    fn a_span_is_numbers_with_units_and_a_day_is_24_hours() {
        for (text, millis) in [
            ("5m", 300_000),
            ("1h 30m", 5_400_000),
            ("1h30m", 5_400_000),
            ("500ms", 500),
            ("1.5s", 1500),
            ("0s", 0),
            ("1d", 86_400_000),
            ("2 d", 172_800_000),
            ("1d 12h", 129_600_000),
            ("1d12h", 129_600_000),
        ] {
            assert_eq!(text.parse(), Ok(SpanText(Duration::from_millis(millis))), "{text}");
        }
    }

    #[test]
    fn what_is_not_a_span_is_refused_with_examples() {
        for text in [
            "",
            "soon",
            "5",
            "m",
            "-5m",
            "5m \"",
            "90y",
            "d",
            "1.5d",
            "-1d",
            "1d 1d",
            "99999999999999999999d",
            "1d soon",
        ] {
            let error = text.parse::<SpanText>().unwrap_err().to_string();
            let want = format!("\"{text}\" is not a span such as \"5m\", \"1h 30m\" or \"500ms\"");
            assert_eq!(error, want);
        }
    }

    /// Returns the gaps among intervals of these lengths, in seconds.
    fn gaps(mut rhythm: Rhythm, seconds: &[u64]) -> Vec<u64> {
        let mut now = Timestamp::from_secs(7);
        let shortest = Duration::from_secs(5);
        assert_eq!(rhythm.gap_before(now, 3, shortest), None, "nothing came before the first");
        let gaps = seconds.iter().filter_map(|&seconds| {
            now += Duration::from_secs(seconds);
            rhythm.gap_before(now, 3, shortest).map(|gap| gap.as_secs())
        });
        gaps.collect()
    }

    #[test]
    fn a_gap_is_longer_than_usual_and_longer_than_the_shortest() {
        for rhythm in [Rhythm::of_mean(), Rhythm::of_median()] {
            // Five seconds are five usual intervals, but not longer than the shortest gap.
            assert_eq!(gaps(rhythm.clone(), &[1, 1, 1, 5, 1, 6, 1, 1]), [6]);
            assert_eq!(gaps(rhythm.clone(), &[60, 60, 180, 60, 60, 240, 60]), [240]);
            assert_eq!(gaps(rhythm, &[600, 600, 600]), [0; 0]);
        }
    }

    #[test]
    fn a_mean_follows_a_new_rhythm_and_a_median_is_not_moved_by_a_few_odd_intervals() {
        let slower = [[10; 8], [100; 8], [100; 8]].concat();
        // An eighth of the way each time: after eleven of them a hundred seconds are less than three usual intervals.
        assert_eq!(gaps(Rhythm::of_mean(), &slower).len(), 11);
        let odd = [[100, 100, 1, 100]; 16].concat();
        assert_eq!(gaps(Rhythm::of_median(), &[odd, vec![400]].concat()), [400]);
    }

    #[test]
    fn the_ends_saturate() {
        assert_eq!(Timestamp::MAX + Duration::MAX, Timestamp::MAX);
        assert_eq!(Timestamp::ZERO - Duration::from_secs(1), Timestamp::ZERO);
        assert_eq!(Timestamp::ZERO.since(Timestamp::MAX), Duration::ZERO);
        assert_eq!(from_secs_f64(f64::NAN), Duration::ZERO);
        assert_eq!(from_secs_f64(-1.0), Duration::ZERO);
        assert_eq!(from_secs_f64(f64::INFINITY), Duration::from_nanos(u64::MAX));
    }
}
