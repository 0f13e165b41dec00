//! Numbers, units and times as public traces write them.

use std::str::FromStr;

use jiff::civil;
use jiff::tz::TimeZone;

use crate::trace::column::Quantity;

/// A unit of measurement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unit {
    /// Bytes times this.
    Bytes(u32),
    /// Gibibytes, too many for the above.
    Gib,
    Percent,
    Fraction,
    /// Milliseconds of one processor in a second.
    MillisecondsPerSecond,
    Celsius,
    One,
}

impl Unit {
    /// Returns what one of this unit is in a native column of `quantity`; `None` where it measures something
    /// else.
    pub(crate) fn factor(self, quantity: Quantity) -> Option<f64> {
        Some(match (self, quantity) {
            (Self::Bytes(factor), Quantity::Bytes) => f64::from(factor),
            (Self::Gib, Quantity::Bytes) => f64::from(1 << 30),
            (Self::Percent, Quantity::MilliPercent) => 1000.0,
            (Self::Fraction, Quantity::MilliPercent) => 100_000.0,
            (Self::MillisecondsPerSecond, Quantity::MilliPercent) => 100.0,
            (Self::Celsius, Quantity::MilliCelsius) => 1000.0,
            (Self::One, Quantity::Milli) => 1000.0,
            (Self::One, Quantity::Count) => 1.0,
            _ => return None,
        })
    }
}

impl FromStr for Unit {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Ok(match text.trim() {
            "B" => Self::Bytes(1),
            "KB" | "kB" => Self::Bytes(1000),
            "KiB" => Self::Bytes(1 << 10),
            "MB" => Self::Bytes(1_000_000),
            "MiB" => Self::Bytes(1 << 20),
            "GB" => Self::Bytes(1_000_000_000),
            "GiB" => Self::Gib,
            "%" => Self::Percent,
            "fraction" => Self::Fraction,
            "ms/s" => Self::MillisecondsPerSecond,
            "°C" | "C" => Self::Celsius,
            "1" => Self::One,
            other => {
                return Err(format!(
                    "unknown unit \"{other}\": use B, KB, KiB, MB, MiB, GB, GiB, %, fraction, ms/s, C or 1"
                ));
            }
        })
    }
}

/// How a time is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum TimeForm {
    /// `2017-09-03T14:10:11Z`; without an offset it is taken as UTC.
    Iso8601,
    /// A number of this many nanoseconds each.
    Count(u64),
    /// `strptime` directives.
    Pattern(String),
}

impl FromStr for TimeForm {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Ok(match text {
            "iso8601" => Self::Iso8601,
            "seconds" => Self::Count(1_000_000_000),
            "milliseconds" => Self::Count(1_000_000),
            "nanoseconds" => Self::Count(1),
            pattern if pattern.contains('%') => Self::Pattern(pattern.to_owned()),
            other => {
                return Err(format!(
                    "unknown time form \"{other}\": use iso8601, seconds, milliseconds, nanoseconds or \
                     a pattern such as \"%Y/%m/%d %H:%M:%S%.f\""
                ));
            }
        })
    }
}

impl TimeForm {
    /// Returns the nanoseconds that `text` stands for, since the epoch or since the file's own zero.
    pub(crate) fn parse(&self, text: &str) -> Option<i64> {
        match self {
            Self::Iso8601 => {
                let moment = text.parse::<jiff::Timestamp>().ok();
                moment.or_else(|| utc(text.parse().ok()?)).and_then(nanoseconds)
            }
            Self::Count(each) => decimal_nanoseconds(text, *each),
            Self::Pattern(pattern) => {
                let civil = civil::DateTime::strptime(pattern, text).ok()?;
                utc(civil).and_then(nanoseconds)
            }
        }
    }
}

/// Local times are taken as UTC: only differences count in a trace.
fn utc(civil: civil::DateTime) -> Option<jiff::Timestamp> {
    TimeZone::UTC.to_timestamp(civil).ok()
}

fn nanoseconds(moment: jiff::Timestamp) -> Option<i64> {
    i64::try_from(moment.as_nanosecond()).ok()
}

/// Parses a decimal number exactly: a float of today's epoch seconds is only good to a quarter microsecond.
pub(crate) fn decimal_nanoseconds(text: &str, each: u64) -> Option<i64> {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let (mantissa, exponent) = match digits.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, exponent.parse::<i32>().ok()?),
        None => (digits, 0),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
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
    i64::try_from(if negative { -value } else { value }).ok()
}

/// Splits `754 MiB` into its number and its unit's text.
pub(crate) fn split_unit(text: &str) -> (&str, &str) {
    let end = text.find(|c: char| c.is_whitespace() || c == '%').unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    (number, unit.trim())
}

/// Returns whether the first line of `head` has the shape `shape`: `9` stands for a digit, anything else for
/// itself.
pub(crate) fn looks_like(head: &str, shape: &str) -> bool {
    let mut seen = head.bytes();
    shape.bytes().all(|want| match seen.next() {
        Some(byte) if want == b'9' => byte.is_ascii_digit(),
        byte => byte == Some(want),
    })
}

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
            ("seconds", "1.6777216E7", Some(16_777_216_000_000_000)),
            ("seconds", "-1", Some(-1_000_000_000)),
            ("seconds", "1e-3", Some(1_000_000)),
            ("milliseconds", "3220530488.722", Some(3_220_530_488_722_000)),
            (day, "02-01-1970 00:00:00", Some(86_400_000_000_000)),
            (slash, "1970/01/01 00:00:00.635", Some(635_000_000)),
            (dash, "1970-01-01 00:00:00.9799600", Some(979_960_000)),
            (dash, "1970-01-01 00:00:00", Some(0)),
            ("seconds", "nan", None),
            ("seconds", "inf", None),
            ("seconds", "1e99999999999", None),
            ("seconds", "1e30", None),
            ("seconds", ".", None),
            ("iso8601", "yesterday", None),
            (day, "32-01-1970 00:00:00", None),
        ] {
            let parsed: TimeForm = form.parse().unwrap();
            assert_eq!(parsed.parse(text), want, "{text} as {form}");
        }
    }
}
