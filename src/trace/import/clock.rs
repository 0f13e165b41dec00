//! Times as public traces write them, and the clock that makes one sequence of them.

use std::collections::BTreeMap;
use std::str::FromStr;

use jiff::civil;
use jiff::fmt::strtime::BrokenDownTime;
use jiff::fmt::temporal::Pieces;
use jiff::tz::{Offset, TimeZone};

/// How a time is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum TimeForm {
    /// `2017-09-03T14:10:11Z`; without an offset it counts as UTC.
    Iso8601,
    /// A number in units of this many nanoseconds.
    Count(u64),
    /// `strptime` directives. Date, year or hour may be missing. If it is open, anything may follow.
    Pattern { pattern: String, open: bool },
    /// Numbers with anything between them, in units of these numbers of nanoseconds, which are added up.
    Sum(Vec<u64>),
}

/// What a time states about the moment. All in nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stamp {
    /// Since the epoch, or since the file's own zero.
    Moment(i64),
    /// Of a year that was left out: here it is [`LEAP_YEAR`].
    OfYear(civil::DateTime),
    /// Since midnight.
    OfDay(i64),
}

impl FromStr for TimeForm {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Ok(match text {
            "iso8601" => Self::Iso8601,
            "seconds" => Self::Count(SECOND as u64),
            "milliseconds" => Self::Count(1_000_000),
            "microseconds" => Self::Count(1000),
            "nanoseconds" => Self::Count(1),
            pattern if pattern.contains('%') => {
                let (pattern, open) = match pattern.strip_suffix('*') {
                    Some(beginning) => (beginning, true),
                    None => (pattern, false),
                };
                Self::Pattern { pattern: pattern.to_owned(), open }
            }
            other => Self::Sum(units(other).ok_or_else(|| {
                format!(
                    "unknown time form \"{other}\": use iso8601, seconds, milliseconds, microseconds, nanoseconds, \
                     a pattern such as \"%Y/%m/%d %H:%M:%S%.f\", or units whose numbers are added up such as \"m.s.ms\""
                )
            })?),
        })
    }
}

/// Reads `m.s.ms`.
fn units(text: &str) -> Option<Vec<u64>> {
    let parts = text.split(|c: char| !c.is_ascii_alphabetic()).filter(|part| !part.is_empty());
    let units: Vec<_> = parts.map(unit_nanoseconds).collect::<Option<_>>()?;
    (units.len() > 1).then_some(units)
}

/// Returns the length of a unit of time.
fn unit_nanoseconds(unit: &str) -> Option<u64> {
    Some(match unit {
        "d" => 86_400 * SECOND as u64,
        "h" => 3600 * SECOND as u64,
        "m" => 60 * SECOND as u64,
        "s" => SECOND as u64,
        "ms" => 1_000_000,
        "us" => 1000,
        "ns" => 1,
        _ => return None,
    })
}

impl TimeForm {
    /// Returns what `text` states about the moment.
    pub(crate) fn parse(&self, text: &str) -> Option<Stamp> {
        match self {
            Self::Iso8601 => {
                let moment = text.parse::<jiff::Timestamp>().ok();
                moment.or_else(|| utc(text.parse().ok()?)).and_then(nanoseconds).map(Stamp::Moment)
            }
            Self::Count(each) => decimal_nanoseconds(text, *each).map(Stamp::Moment),
            Self::Pattern { pattern, open } => {
                let time = match open {
                    true => BrokenDownTime::parse_prefix(pattern, text).ok()?.0,
                    false => BrokenDownTime::parse(pattern, text).ok()?,
                };
                broken_down(time)
            }
            Self::Sum(units) => {
                let parts =
                    text.split(|c: char| !c.is_ascii_digit()).filter(|part| !part.is_empty());
                let numbers: Vec<i64> =
                    parts.map(|part| part.parse().ok()).collect::<Option<_>>()?;
                if numbers.len() != units.len() || !text.starts_with(|c: char| c.is_ascii_digit()) {
                    return None;
                }
                let terms = numbers.iter().zip(units);
                let sum = terms.map(|(&n, &each)| i128::from(n) * i128::from(each)).sum::<i128>();
                i64::try_from(sum).ok().map(Stamp::Moment)
            }
        }
    }

    /// Returns the offset from UTC of a time of this form, if it states one. Counts since the epoch are UTC.
    pub(crate) fn offset(&self, text: &str) -> Option<Offset> {
        match self {
            Self::Iso8601 => Pieces::parse(text).ok()?.to_numeric_offset(),
            Self::Count(_) => Some(Offset::UTC),
            Self::Pattern { pattern, open } => {
                let time = match open {
                    true => BrokenDownTime::parse_prefix(pattern, text).ok()?.0,
                    false => BrokenDownTime::parse(pattern, text).ok()?,
                };
                let is_utc = ["UTC", "GMT", "Z"].iter().any(|utc| pattern.ends_with(utc));
                time.offset().or(is_utc.then_some(Offset::UTC))
            }
            Self::Sum(_) => None,
        }
    }

    /// Returns whether a number of this form is so large that it is beyond all dates, and probably in a smaller unit.
    pub(crate) fn is_smaller_than_said(&self, text: &str) -> bool {
        match self {
            Self::Count(each) => {
                exact(text, *each).is_some_and(|value| i64::try_from(value).is_err())
            }
            _ => false,
        }
    }
}

fn broken_down(mut time: BrokenDownTime) -> Option<Stamp> {
    if let Some(moment) = time.timestamp() {
        return nanoseconds(moment).map(Stamp::Moment);
    }
    let has_day = time.month().is_some() && time.day().is_some();
    if has_day && time.year().is_none() {
        time.set_year(Some(LEAP_YEAR)).ok()?;
        // A weekday belongs to the year in which it was written.
        time.set_weekday(None);
        return time.to_datetime().ok().map(Stamp::OfYear);
    }
    if let Ok(civil) = time.to_datetime() {
        // With an offset, the moment is exact; otherwise local times are taken as UTC.
        let moment = match time.offset() {
            Some(offset) => offset.to_timestamp(civil).ok(),
            None => utc(civil),
        };
        return moment.and_then(nanoseconds).map(Stamp::Moment);
    }
    if has_day || time.year().is_some() {
        return None;
    }
    let since_midnight = |time: civil::Time| {
        let since = time.duration_since(civil::Time::midnight());
        i64::try_from(since.as_nanos()).ok()
    };
    if time.hour().is_some() {
        return time.to_time().ok().and_then(since_midnight).map(Stamp::OfDay);
    }
    // Minutes and seconds since a beginning.
    let parts = [
        (time.minute().map(i64::from)?, 60 * SECOND),
        (time.second().map_or(0, i64::from), SECOND),
        (time.subsec_nanosecond().map_or(0, i64::from), 1),
    ];
    Some(Stamp::Moment(parts.iter().map(|(n, each)| n * each).sum()))
}

/// Local times are taken as UTC: only differences count in a trace.
fn utc(civil: civil::DateTime) -> Option<jiff::Timestamp> {
    TimeZone::UTC.to_timestamp(civil).ok()
}

fn nanoseconds(moment: jiff::Timestamp) -> Option<i64> {
    i64::try_from(moment.as_nanosecond()).ok()
}

/// Parses a decimal number exactly: a float of today's epoch seconds is only accurate to a quarter of a microsecond. A
/// number beyond all dates is read in the next smaller unit in which it is a date.
pub(crate) fn decimal_nanoseconds(text: &str, each: u64) -> Option<i64> {
    let mut value = exact(text, each)?;
    if let Ok(value) = i64::try_from(value) {
        return Some(value);
    }
    for _ in 0..3 {
        value /= 1000;
        if let Ok(value) = i64::try_from(value) {
            return (value >= YEAR_1980).then_some(value);
        }
    }
    None
}

/// Parses a duration: a number of seconds, or numbers with units, the largest first, as Go writes them (`1m53.8s`).
pub(crate) fn duration_nanoseconds(text: &str) -> Option<i64> {
    let is_number = |c: char| c.is_ascii_digit() || matches!(c, '.' | ',');
    let mut sum: i64 = 0;
    let mut rest = text.trim();
    loop {
        let end = rest.find(|c| !is_number(c)).unwrap_or(rest.len());
        let (number, behind) = rest.split_at(end);
        let behind = behind.trim_start();
        let end = behind.find(|c: char| is_number(c) || c.is_whitespace()).unwrap_or(behind.len());
        let (unit, behind) = behind.split_at(end);
        let each = match unit {
            // A bare number must be the whole text.
            "" if number.len() == text.trim().len() => SECOND as u64,
            "µs" | "μs" => 1000,
            unit => unit_nanoseconds(unit)?,
        };
        sum = sum.checked_add(i64::try_from(exact(number, each)?).ok()?)?;
        rest = behind.trim_start();
        if rest.is_empty() {
            return Some(sum);
        }
    }
}

fn exact(text: &str, each: u64) -> Option<i128> {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let (mantissa, exponent) = match digits.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, exponent.parse::<i32>().ok()?),
        None => (digits, 0),
    };
    let (whole, fraction) = mantissa.split_once(['.', ',']).unwrap_or((mantissa, ""));
    let bare = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    if whole.len() + fraction.len() == 0 || !bare(whole) || !bare(fraction) || fraction.len() > 30 {
        return None;
    }
    let mut value: i128 = 0;
    for digit in whole.bytes().chain(fraction.bytes()) {
        value = value.checked_mul(10)?.checked_add(i128::from(digit - b'0'))?;
    }
    value = value.checked_mul(i128::from(each))?;
    let shift = exponent.checked_sub(i32::try_from(fraction.len()).ok()?)?;
    let ten_to = |power: u32| 10_i128.checked_pow(power);
    value = if shift >= 0 {
        value.checked_mul(ten_to(shift.unsigned_abs())?)?
    } else {
        // Beyond 38 digits nothing is left.
        ten_to(shift.unsigned_abs()).map_or(0, |divisor| value / divisor)
    };
    Some(if negative { -value } else { value })
}

/// Makes one sequence of stamps that leave out the year or the day.
#[derive(Clone, Debug)]
pub(crate) struct Clock {
    /// The year of the first date without one.
    year: i16,
    /// The day or year in which the present period begins, counted from the first one.
    begins: i16,
    last: Option<i64>,
    /// The number of days or years that have passed.
    passed: i16,
    /// The columns of the present table, and how far each other table of the period has come.
    table: Vec<String>,
    tables: BTreeMap<Vec<String>, (Option<i64>, i16)>,
    /// What a stamp left out.
    pub lacks: Option<Lacks>,
}

/// What stamps leave out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lacks {
    Year,
    Date,
}

impl Clock {
    /// Begins in a year; if it is not known, in one that is not a leap year, so that 28 February and 1 March are
    /// neighbours.
    pub(crate) fn new(year: Option<i16>) -> Self {
        Self {
            year: year.unwrap_or(YEAR),
            begins: 0,
            last: None,
            passed: 0,
            table: Vec::new(),
            tables: BTreeMap::new(),
            lacks: None,
        }
    }

    /// Returns the moment of a stamp, after those before it.
    pub(crate) fn moment(&mut self, stamp: Stamp) -> Option<i64> {
        let (lacks, round) = match stamp {
            Stamp::Moment(at) => return Some(at),
            Stamp::OfDay(_) => (Lacks::Date, DAY),
            Stamp::OfYear(_) => (Lacks::Year, 365 * DAY),
        };
        self.lacks = Some(lacks);
        let mut at = self.unwrapped(stamp);
        // Midnight, or New Year's Eve; a clock that was set back goes back by less.
        if let (Some(last), Some(then)) = (self.last, at)
            && then < last - round / 2
        {
            self.passed = self.passed.checked_add(1)?;
            at = self.unwrapped(stamp);
        }
        self.last = at.or(self.last);
        at
    }

    /// Returns the moment of a stamp in the present day or year.
    fn unwrapped(&self, stamp: Stamp) -> Option<i64> {
        match stamp {
            Stamp::Moment(at) => Some(at),
            Stamp::OfDay(at) => at.checked_add(i64::from(self.passed) * DAY),
            Stamp::OfYear(civil) => {
                let year = self.year.checked_add(self.passed)?;
                // 29 February exists only in leap years.
                utc(civil.with().year(year).build().ok()?).and_then(nanoseconds)
            }
        }
    }

    /// Turns to the table with these columns. Tables of one period follow one another or alternate: a new one begins
    /// with the period, and one that was there before goes on where it was.
    pub(crate) fn turn_to(&mut self, table: Vec<String>) {
        if table == self.table {
            return;
        }
        let left = std::mem::replace(&mut self.table, table);
        if self.tables.len() < MOST_TABLES || self.tables.contains_key(&left) {
            self.tables.insert(left, (self.last, self.passed));
        }
        let known = self.tables.get(&self.table).copied();
        (self.last, self.passed) = known.unwrap_or((None, self.begins));
    }

    /// Begins another period, this many days or years after the first.
    pub(crate) fn begin_period(&mut self, begins: i16) {
        self.begins = begins;
        (self.last, self.passed) = (None, begins);
        self.tables.clear();
    }
}

/// Returns the number of days from one date to another, in the form of both that brings them nearest: `03/04/31` is in
/// March or in April, by the country.
pub(crate) fn days_between(from: &str, to: &str) -> Option<i16> {
    let days = DATES.iter().filter_map(|form| {
        let date = |text| civil::Date::strptime(form, text).ok();
        let span = date(to)?.duration_since(date(from)?);
        i16::try_from(span.as_hours() / 24).ok()
    });
    days.min_by_key(|days| days.unsigned_abs())
}

/// Returns whether a text is a date.
pub(crate) fn is_date(text: &str) -> bool {
    DATES.iter().any(|form| civil::Date::strptime(form, text).is_ok())
}

/// The forms in which tools write a date above their tables.
const DATES: [&str; 8] = [
    "%Y-%m-%d", "%m/%d/%Y", "%d/%m/%Y", "%m/%d/%y", "%d/%m/%y", "%d.%m.%Y", "%d.%m.%y", "%Y/%m/%d",
];
/// The most tables of one period whose times are followed. Chosen: sysstat has fewer than a hundred.
const MOST_TABLES: usize = 256;
/// The year of dates without one, if it is not known.
const YEAR: i16 = 2001;
/// It has every day that any year has.
const LEAP_YEAR: i16 = 2000;
const SECOND: i64 = 1_000_000_000;
const DAY: i64 = 86_400 * SECOND;
/// Times before 1980 come from a clock that was never set, or count from their own beginning. In nanoseconds since
/// 1970.
pub(crate) const YEAR_1980: i64 = 315_532_800 * SECOND;
/// The range of dates in which a bare number is probably a time. In nanoseconds since 1970.
pub(crate) const OUR_DAYS: std::ops::Range<i64> = 946_684_800 * SECOND..4_102_444_800 * SECOND;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_exactly_in_every_form() {
        let day = "%d-%m-%Y %H:%M:%S";
        let slash = "%Y/%m/%d %H:%M:%S%.f";
        let dash = "%Y-%m-%d %H:%M:%S%.f";
        for (form, text, want) in [
            ("iso8601", "1970-01-01T00:00:01Z", Some(1_000_000_000)),
            ("iso8601", "1970-01-01 00:00:01", Some(1_000_000_000)),
            ("iso8601", "1970-01-01T01:00:01+01:00", Some(1_000_000_000)),
            ("seconds", "1746556382.8348258", Some(1_746_556_382_834_825_800)),
            ("seconds", "1746556382,5", Some(1_746_556_382_500_000_000)),
            ("seconds", "1.6777216E7", Some(16_777_216_000_000_000)),
            ("seconds", "-1", Some(-1_000_000_000)),
            ("seconds", "1e-3", Some(1_000_000)),
            ("seconds", "1746556382834", Some(1_746_556_382_834_000_000)),
            ("seconds", "1746556382834825", Some(1_746_556_382_834_825_000)),
            ("milliseconds", "1746556382834825", Some(1_746_556_382_834_825_000)),
            ("milliseconds", "3220530488.722", Some(3_220_530_488_722_000)),
            ("microseconds", "5", Some(5000)),
            (day, "02-01-1970 00:00:00", Some(86_400_000_000_000)),
            (slash, "1970/01/01 00:00:00.635", Some(635_000_000)),
            (dash, "1970-01-01 00:00:00.9799600", Some(979_960_000)),
            (dash, "1970-01-01 00:00:00", Some(0)),
            ("%Y-%m-%d %H:%M:%S %z", "1970-01-01 01:00:00 +0100", Some(0)),
            ("m.s.ms.us", "1.35.200.007", Some(95_200_007_000)),
            ("m s ms", "1 35 200", Some(95_200_000_000)),
            ("%M %S %f", "1 35 200", Some(95_200_000_000)),
            ("m.s.ms", "1.35", None),
            ("seconds", "nan", None),
            ("seconds", "inf", None),
            ("seconds", "1e99999999999", None),
            ("seconds", "1e30", None),
            ("seconds", "20000000000", None),
            ("seconds", ".", None),
            ("iso8601", "yesterday", None),
            (day, "32-01-1970 00:00:00", None),
        ] {
            let parsed: TimeForm = form.parse().unwrap();
            assert_eq!(parsed.parse(text), want.map(Stamp::Moment), "{text} as {form}");
        }
        for wrong in ["fortnights", "m.x", "s"] {
            assert!(wrong.parse::<TimeForm>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn durations_are_read_with_their_units() {
        for (text, want) in [
            ("2295.13 ms", Some(2_295_130_000)),
            ("167.327294ms", Some(167_327_294)),
            ("1m53.5s", Some(113_500_000_000)),
            ("1m 2s", Some(62_000_000_000)),
            ("17.5µs", Some(17_500)),
            ("3.25", Some(3_250_000_000)),
            ("3,25", Some(3_250_000_000)),
            ("3 4", None),
            ("3 4s", None),
            ("ms", None),
            ("5 parsecs", None),
            ("", None),
            ("-3", None),
        ] {
            assert_eq!(duration_nanoseconds(text), want, "{text}");
        }
    }

    #[track_caller]
    fn course_in(year: Option<i16>, form: &str, texts: &[&str], want: &[i64]) {
        let form: TimeForm = form.parse().unwrap();
        let mut clock = Clock::new(year);
        let moments = texts.iter().map(|text| clock.moment(form.parse(text).unwrap()).unwrap());
        let moments: Vec<i64> = moments.collect();
        let since: Vec<i64> = moments.iter().map(|at| (at - moments[0]) / SECOND).collect();
        assert_eq!(since, want, "{texts:?}");
    }

    #[track_caller]
    fn course(form: &str, texts: &[&str], want: &[i64]) {
        course_in(None, form, texts, want);
    }

    #[test]
    fn a_year_that_a_person_says_has_its_own_days() {
        let february = ["28-02 23:59:59", "29-02 23:59:59", "01-03 00:00:01"];
        course_in(Some(2024), "%d-%m %H:%M:%S", &february, &[0, 86_400, 86_402]);
        let new_year = ["31-12 23:59:59", "01-01 00:00:01", "01-03 00:00:01"];
        course_in(Some(2024), "%d-%m %H:%M:%S", &new_year, &[0, 2, 59 * 86_400 + 2]);
    }

    #[test]
    fn the_offset_is_the_one_that_is_written() {
        let hour = jiff::tz::offset(1);
        for (form, text, want) in [
            ("iso8601", "2026-01-31T02:13:00+01:00", Some(hour)),
            ("iso8601", "2026-01-31T02:13:00Z", Some(Offset::UTC)),
            ("iso8601", "2026-01-31 02:13:00", None),
            ("seconds", "1769821980", Some(Offset::UTC)),
            ("%Y-%m-%d %H:%M:%S %z", "2026-01-31 02:13:00 +0100", Some(hour)),
            ("%Y-%m-%d %H:%M:%S UTC", "2026-01-31 02:13:00 UTC", Some(Offset::UTC)),
            ("%Y-%m-%d %H:%M:%S", "2026-01-31 02:13:00", None),
            ("m.s.ms", "1.2.3", None),
        ] {
            let form: TimeForm = form.parse().unwrap();
            assert_eq!(form.offset(text), want, "{text}");
        }
    }

    #[test]
    fn times_of_day_go_on_over_midnight_and_dates_over_new_year() {
        course(
            "%H:%M:%S",
            &["23:59:50", "00:00:00", "00:00:10", "23:59:59", "00:00:01"],
            &[0, 10, 20, 86_409, 86_411],
        );
        course("%H:%M:%S", &["10:00:00", "09:59:59"], &[0, -1]);
        course("%I:%M:%S %p*", &["11:59:59 PM  all", "12:00:00 AM  all"], &[0, 1]);
        course("%d-%m %H:%M:%S", &["31-12 23:59:59", "01-01 00:00:01"], &[0, 2]);
        course("%a %b %d %H:%M:%S", &["Wed Feb 28 23:59:59", "Thu Mar  1 00:00:00"], &[0, 1]);
    }
}
