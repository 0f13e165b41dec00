//! Numbers and units as public traces write them.

use std::fmt;
use std::str::FromStr;

use crate::trace::column::Quantity;

/// A unit of measurement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unit {
    /// This many bytes.
    Bytes(u64),
    Percent,
    Fraction,
    /// Milliseconds of one processor per second.
    MillisecondsPerSecond,
    Celsius,
    One,
}

impl Unit {
    /// Returns the factor from this unit to a native column of `quantity`; `None` if it measures something else.
    pub(crate) fn factor(self, quantity: Quantity) -> Option<f64> {
        Some(match (self, quantity) {
            (Self::Bytes(factor), Quantity::Bytes) => factor as f64,
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
            "B" | "bytes" | "Bytes" => Self::Bytes(1),
            "KB" | "kB" => Self::Bytes(1000),
            "KiB" | "kiB" | "Ki" => Self::Bytes(1 << 10),
            "MB" => Self::Bytes(1_000_000),
            "MiB" | "Mi" => Self::Bytes(1 << 20),
            "GB" => Self::Bytes(1_000_000_000),
            "GiB" | "Gi" => Self::Bytes(1 << 30),
            "TB" => Self::Bytes(1_000_000_000_000),
            "TiB" | "Ti" => Self::Bytes(1 << 40),
            "%" => Self::Percent,
            "fraction" => Self::Fraction,
            "ms/s" => Self::MillisecondsPerSecond,
            "°C" | "C" => Self::Celsius,
            "1" => Self::One,
            other => {
                return Err(format!(
                    "unknown unit \"{other}\": use B, KB, KiB, MB, MiB, GB, GiB, TB, TiB, %, fraction, ms/s, C or 1"
                ));
            }
        })
    }
}

impl Unit {
    /// Returns whether the two may be the same word for different things: MB, which some write for MiB.
    pub(crate) fn is_alike(self, other: Self) -> bool {
        match (self, other) {
            // 2.4 % for each step of a thousand.
            (Self::Bytes(one), Self::Bytes(other)) => {
                one.max(other) as f64 / (one.min(other) as f64) < 1.2
            }
            _ => self == other,
        }
    }
}

impl fmt::Display for Unit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Bytes(1) => "B",
            Self::Bytes(1000) => "KB",
            Self::Bytes(0x400) => "KiB",
            Self::Bytes(1_000_000) => "MB",
            Self::Bytes(0x10_0000) => "MiB",
            Self::Bytes(1_000_000_000) => "GB",
            Self::Bytes(0x4000_0000) => "GiB",
            Self::Bytes(1_000_000_000_000) => "TB",
            Self::Bytes(_) => "TiB",
            Self::Percent => "%",
            Self::Fraction => "fraction",
            Self::MillisecondsPerSecond => "ms/s",
            Self::Celsius => "C",
            Self::One => "1",
        })
    }
}

/// Reads a number as people and programs write it. `comma` is whether a comma precedes the fraction; if that is not
/// known, a comma counts only where it can be nothing else.
pub(crate) fn decimal(text: &str, comma: Option<bool>) -> Option<f64> {
    if !text.contains(',') {
        // With a decimal comma, a point groups digits: 1.024 would be a thousand.
        let grouped = comma == Some(true) && text.contains('.');
        return text.parse().ok().filter(|_| !grouped);
    }
    match (is_decimal_comma(text), comma) {
        (Some(true), None | Some(true)) | (None, Some(true)) => {
            text.replacen(',', ".", 1).parse().ok()
        }
        (Some(false), None | Some(false)) | (None, Some(false)) => {
            text.replace(',', "").parse().ok()
        }
        _ => None,
    }
}

/// Returns whether the comma of a number precedes its fraction, or groups digits; `None` if it may do either.
pub(crate) fn is_decimal_comma(text: &str) -> Option<bool> {
    let (_, behind) = text.rsplit_once(',')?;
    let groups = text.matches(',').count() > 1 || behind.contains('.');
    let digits = behind.chars().take_while(char::is_ascii_digit).count();
    match (groups, digits) {
        (true, _) => Some(false),
        (false, 3) => None,
        (false, _) => Some(true),
    }
}

/// Splits `754 MiB` or `24576MiB` into its number and its unit's text.
pub(crate) fn split_unit(text: &str) -> (&str, &str) {
    let is_exponent = |at: usize| {
        let behind = text[at + 1..].trim_start_matches(['+', '-']);
        text[..at].ends_with(|c: char| c.is_ascii_digit() || c == '.')
            && behind.starts_with(|c: char| c.is_ascii_digit())
    };
    let begins_unit = |&(at, c): &(usize, char)| match c {
        '0'..='9' | '.' | ',' | '+' | '-' => false,
        'e' | 'E' => !is_exponent(at),
        _ => true,
    };
    let end = text.char_indices().find(begins_unit).map_or(text.len(), |(at, _)| at);
    // A word, such as `nan`, is not a unit.
    if end == 0 {
        return (text, "");
    }
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
    fn numbers_are_cut_from_their_units() {
        for (text, want) in [
            ("754 MiB", ("754", "MiB")),
            ("24576MiB", ("24576", "MiB")),
            ("5.23 GiB", ("5.23", "GiB")),
            ("40%", ("40", "%")),
            ("1.6E3", ("1.6E3", "")),
            ("2e-3 s", ("2e-3", "s")),
            ("3EB", ("3", "EB")),
            ("-4,5 °C", ("-4,5", "°C")),
            ("nan", ("nan", "")),
        ] {
            assert_eq!(split_unit(text), want, "{text}");
        }
    }

    #[test]
    fn a_comma_is_read_only_where_it_means_one_thing() {
        for (text, comma, want) in [
            ("12,5", None, Some(12.5)),
            ("12,5", Some(false), None),
            ("1,234", None, None),
            ("1,234", Some(true), Some(1.234)),
            ("1,234", Some(false), Some(1234.0)),
            ("1,234.5", None, Some(1234.5)),
            ("1,234,567", None, Some(1_234_567.0)),
            ("1.5", None, Some(1.5)),
            ("1.5", Some(true), None),
            ("15", Some(true), Some(15.0)),
        ] {
            assert_eq!(decimal(text, comma), want, "{text} with {comma:?}");
        }
    }

    #[test]
    fn mb_and_mib_are_alike_and_mib_and_gib_are_not() {
        let unit = |text: &str| text.parse::<Unit>().unwrap();
        assert!(unit("MB").is_alike(unit("MiB")) && unit("TB").is_alike(unit("TiB")));
        assert!(!unit("MiB").is_alike(unit("GiB")) && !unit("%").is_alike(unit("MiB")));
        for text in [
            "B", "KB", "KiB", "MB", "MiB", "GB", "GiB", "TB", "TiB", "%", "fraction", "ms/s", "C",
            "1",
        ] {
            assert_eq!(unit(text).to_string(), text);
        }
    }
}
