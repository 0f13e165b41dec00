//! Quantities whose unit is in the type: [`Bytes`], [`Percent`], [`Celsius`].
//!
//! All three hold integers, so that sums, comparisons and files are exact on every platform. The printed form parses
//! back to the same value; binary multiples are marked (`GiB`).

use std::borrow::Cow;
use std::fmt;
use std::ops::{Add, AddAssign, Sub};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// An amount of memory. Arithmetic saturates: a machine has no negative memory, and a hostile input
/// must not wrap.
///
/// # Examples
/// ```
/// use tiershift_core::units::{Bytes, Percent};
///
/// let memory: Bytes = "16GiB".parse()?;
/// assert_eq!(memory.share(Percent::new(25)).to_string(), "4GiB");
/// assert_eq!(Bytes::from_gib(1) - memory, Bytes::ZERO);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(transparent)]
pub struct Bytes(u64);

impl Bytes {
    /// No memory.
    pub const ZERO: Self = Self(0);
    /// The largest amount.
    pub const MAX: Self = Self(u64::MAX);

    /// Returns an amount of `count` bytes.
    pub const fn new(count: u64) -> Self {
        Self(count)
    }

    /// Returns an amount of `count` KiB.
    pub const fn from_kib(count: u64) -> Self {
        Self(count.saturating_mul(1 << 10))
    }

    /// Returns an amount of `count` MiB.
    pub const fn from_mib(count: u64) -> Self {
        Self(count.saturating_mul(1 << 20))
    }

    /// Returns an amount of `count` GiB.
    pub const fn from_gib(count: u64) -> Self {
        Self(count.saturating_mul(1 << 30))
    }

    /// Returns the number of bytes.
    pub const fn get(self) -> u64 {
        self.0
    }

    /// Returns the number of GiB, for plots and people only.
    pub fn as_gib(self) -> f64 {
        self.0 as f64 / (1u64 << 30) as f64
    }

    /// Returns `share` of this amount, rounded down.
    #[inline]
    pub fn share(self, share: Percent) -> Self {
        // 128-bit division is a call; up to 184 TB of whole shares it is not needed.
        if let Some(scaled) = self.0.checked_mul(u64::from(share.0)) {
            return Self(scaled / u64::from(Percent::ONE_HUNDRED.0));
        }
        let scaled = u128::from(self.0) * u128::from(share.0) / u128::from(Percent::ONE_HUNDRED.0);
        Self(u64::try_from(scaled).unwrap_or(u64::MAX))
    }

    /// Returns the absolute difference of two amounts.
    pub const fn abs_diff(self, other: Self) -> Self {
        Self(self.0.abs_diff(other.0))
    }

    /// Returns `self * factor`, saturating.
    pub const fn saturating_mul(self, factor: u64) -> Self {
        Self(self.0.saturating_mul(factor))
    }
}

impl Add for Bytes {
    type Output = Self;
    #[inline]
    fn add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
}

impl AddAssign for Bytes {
    #[inline]
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

impl Sub for Bytes {
    type Output = Self;
    #[inline]
    fn sub(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }
}

impl std::iter::Sum for Bytes {
    fn sum<I: Iterator<Item = Self>>(amounts: I) -> Self {
        amounts.fold(Self::ZERO, Add::add)
    }
}

impl fmt::Display for Bytes {
    /// Prints the largest binary unit that divides the amount exactly (`16GiB`, `1536MiB`, `17B`).
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (unit, size) in BINARY_UNITS {
            if self.0 >= size && self.0.is_multiple_of(size) {
                return write!(f, "{}{unit}", self.0 / size);
            }
        }
        write!(f, "{}B", self.0)
    }
}

impl FromStr for Bytes {
    type Err = UnitError;

    /// Parses a whole or decimal number and a unit: `16GiB`, `1.5 GiB`, `500MB`, `0`. A number alone is in bytes,
    /// unless it is so small that its unit must be missing.
    fn from_str(text: &str) -> Result<Self, UnitError> {
        let refuse = || UnitError {
            text: text.to_owned(),
            want: "an amount of memory such as \"16GiB\", \"1536MiB\" or \"500MB\"".into(),
        };
        if !text.trim_start().starts_with(|c: char| c.is_ascii_digit()) {
            return Err(refuse());
        }
        let parsed: bytesize::ByteSize = text.parse().map_err(|_| refuse())?;
        let (number, bytes) = (text.trim(), parsed.as_u64());
        let has_unit = number.ends_with(|c: char| c.is_ascii_alphabetic());
        if !has_unit && bytes > 0 && bytes < LEAST_WITHOUT_UNIT {
            let unit = if bytes <= MOST_GIB { "GiB" } else { "MiB" };
            return Err(UnitError {
                text: text.to_owned(),
                want: format!(
                    "an amount of memory with its unit: did you mean \"{number}{unit}\"? For bytes, write \"{number}B\""
                )
                .into(),
            });
        }
        Ok(Self(bytes))
    }
}

/// A part of a hundred, in thousandths of a percent. May exceed 100 %: a machine can be overcommitted.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(transparent)]
pub struct Percent(u32);

impl Percent {
    /// Nothing.
    pub const ZERO: Self = Self(0);
    /// All of it.
    pub const ONE_HUNDRED: Self = Self(100_000);

    /// Returns `percent` whole percent.
    pub const fn new(percent: u32) -> Self {
        Self(percent.saturating_mul(1000))
    }

    /// Returns an amount given in thousandths of a percent.
    pub const fn from_milli(milli_percent: u32) -> Self {
        Self(milli_percent)
    }

    /// Returns the thousandths of a percent.
    pub const fn milli(self) -> u32 {
        self.0
    }

    /// Returns `part` of `whole`, rounded down; zero if `whole` is zero.
    #[inline]
    pub fn of(part: Bytes, whole: Bytes) -> Self {
        Self::of_count(part.0, whole.0).unwrap_or(Self::ZERO)
    }

    /// Returns `part` of `whole` as counts of anything, rounded down; `None` if `whole` is zero.
    #[inline]
    pub fn of_count(part: u64, whole: u64) -> Option<Self> {
        // The quick path holds for counts below 2^47 (128 TiB of bytes).
        let milli = if part < 1 << 47 {
            (part * u64::from(Self::ONE_HUNDRED.0)).checked_div(whole)?
        } else {
            let wide = u128::from(part) * u128::from(Self::ONE_HUNDRED.0);
            u64::try_from(wide.checked_div(u128::from(whole))?).unwrap_or(u64::MAX)
        };
        Some(Self(u32::try_from(milli).unwrap_or(u32::MAX)))
    }

    /// Returns the nearest thousandth of a percent, or `None` for a value that is not finite or is negative.
    pub fn from_f64(percent: f64) -> Option<Self> {
        let milli = (percent * 1000.0).round();
        (milli.is_finite() && (0.0..=f64::from(u32::MAX)).contains(&milli))
            .then_some(Self(milli as u32))
    }

    /// Returns the percentage as a float, for plots and people only.
    pub fn as_f64(self) -> f64 {
        f64::from(self.0) / 1000.0
    }

    /// Returns the fraction of one (0.5 for 50 %).
    pub fn fraction(self) -> f64 {
        f64::from(self.0) / f64::from(Self::ONE_HUNDRED.0)
    }
}

impl Add for Percent {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
}

impl Sub for Percent {
    type Output = Self;
    fn sub(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }
}

impl fmt::Display for Percent {
    /// Prints the fewest decimals that are exact (`80%`, `56.25%`).
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, milli) = (self.0 / 1000, self.0 % 1000);
        match milli {
            0 => write!(f, "{whole}%"),
            _ => write!(f, "{whole}.{}%", format!("{milli:03}").trim_end_matches('0')),
        }
    }
}

impl FromStr for Percent {
    type Err = UnitError;

    /// Parses a non-negative number followed by `%`.
    fn from_str(text: &str) -> Result<Self, UnitError> {
        let refuse = || UnitError {
            text: text.to_owned(),
            want: "a percentage such as \"80%\" or \"56.25%\"".into(),
        };
        let number = text.trim().strip_suffix('%').ok_or_else(refuse)?.trim_end();
        if !number.starts_with(|c: char| c.is_ascii_digit()) {
            return Err(refuse());
        }
        number.parse().ok().and_then(Self::from_f64).ok_or_else(refuse)
    }
}

/// A temperature, in thousandths of a degree Celsius.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(transparent)]
pub struct Celsius(i32);

impl Celsius {
    /// Returns a temperature given in thousandths of a degree.
    pub const fn from_milli(milli_celsius: i32) -> Self {
        Self(milli_celsius)
    }

    /// Returns the thousandths of a degree.
    pub const fn milli(self) -> i32 {
        self.0
    }

    /// Returns the nearest thousandth of a degree, or `None` for a value that is not finite or out of range.
    pub fn from_f64(celsius: f64) -> Option<Self> {
        let milli = (celsius * 1000.0).round();
        (milli.is_finite() && (f64::from(i32::MIN)..=f64::from(i32::MAX)).contains(&milli))
            .then_some(Self(milli as i32))
    }

    /// Returns the degrees as a float, for plots and people only.
    pub fn as_f64(self) -> f64 {
        f64::from(self.0) / 1000.0
    }
}

impl fmt::Display for Celsius {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.1}°C", self.as_f64())
    }
}

/// The text that was given in place of a quantity.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("\"{text}\" is not {want}")]
pub struct UnitError {
    pub(crate) text: String,
    pub(crate) want: Cow<'static, str>,
}

/// Returns whether a field may be left out of a file, for `#[serde(skip_serializing_if)]`: it has its default.
pub fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// Reads and writes a quantity in human units, for `#[serde(with = "human")]` in settings files.
pub mod human {
    use std::fmt::Display;
    use std::str::FromStr;

    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serializer};

    /// Writes the printed form.
    pub fn serialize<T: Display, S: Serializer>(value: &T, out: S) -> Result<S::Ok, S::Error> {
        out.collect_str(value)
    }

    /// Parses the printed form.
    pub fn deserialize<'de, T, D>(input: D) -> Result<T, D::Error>
    where
        T: FromStr<Err: Display>,
        D: Deserializer<'de>,
    {
        String::deserialize(input)?.parse().map_err(D::Error::custom)
    }
}

macro_rules! text_quantity {
    ($(#[$doc:meta])* $name:ident($inner:ty), $pattern:literal, $example:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub struct $name(pub $inner);

        impl Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, out: S) -> Result<S::Ok, S::Error> {
                out.collect_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
                human::deserialize(input).map(Self)
            }
        }

        impl From<$name> for $inner {
            fn from(text: $name) -> Self {
                text.0
            }
        }

        #[cfg(feature = "schema")]

        impl schemars::JsonSchema for $name {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($name).into()
            }
            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                schemars::json_schema!({ "type": "string", "pattern": $pattern, "examples": [$example] })
            }
        }
    };
}

text_quantity!(
    /// [`Bytes`] as in a settings file: `"16GiB"`.
    BytesText(Bytes), r"^[0-9.]+ ?([KMGT]i?)?B?$", "16GiB"
);
text_quantity!(
    /// [`Percent`] as in a settings file: `"80%"`.
    PercentText(Percent), r"^[0-9.]+ ?%$", "80%"
);

/// A number of bytes below this lacks its unit. Chosen: no machine, model or limit is this small.
const LEAST_WITHOUT_UNIT: u64 = 1 << 20;
/// Up to this, a number without its unit was meant in GiB; above, in MiB. Chosen: some write 16384 for 16 GiB.
const MOST_GIB: u64 = 1024;

const BINARY_UNITS: [(&str, u64); 4] =
    [("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_print_and_parse_to_the_same_value() {
        for count in [0, 1, 1023, 1024, 1536 << 20, 16 << 30, (16 << 30) + 1, 3 << 40, u64::MAX] {
            let printed = Bytes(count).to_string();
            assert_eq!(printed.parse(), Ok(Bytes(count)), "{printed}");
        }
    }

    #[test]
    fn a_small_number_of_bytes_is_asked_for_its_unit() {
        let asked = |text: &str| text.parse::<Bytes>().unwrap_err().to_string();
        assert_eq!(
            asked("64"),
            "\"64\" is not an amount of memory with its unit: did you mean \"64GiB\"? For bytes, write \"64B\""
        );
        assert!(asked("1024").contains("did you mean \"1024GiB\"?"));
        assert!(asked("16384").contains("did you mean \"16384MiB\"?"));
        for (text, bytes) in [("64B", 64), ("0", 0), ("1048576", 1 << 20), ("64 GiB", 64 << 30)] {
            assert_eq!(text.parse(), Ok(Bytes(bytes)), "{text}");
        }
    }

    #[test]
    fn percent_prints_and_parses_to_the_same_value() {
        for milli in [0, 1, 999, 1000, 56_250, 80_000, 100_000, 134_070, u32::MAX] {
            let printed = Percent(milli).to_string();
            assert_eq!(printed.parse(), Ok(Percent(milli)), "{printed}");
        }
    }

    #[test]
    fn what_is_no_quantity_is_refused() {
        for text in ["", "-1GiB", "GiB", "1 parsec", "NaN", "inf"] {
            assert!(text.parse::<Bytes>().is_err(), "{text:?} as bytes");
        }
        for text in ["", "80", "-1%", "NaN%", "inf%", "1e99%", "%"] {
            assert!(text.parse::<Percent>().is_err(), "{text:?} as percent");
        }
    }

    #[test]
    fn a_share_is_exact_at_the_ends() {
        assert_eq!(Bytes::MAX.share(Percent::ONE_HUNDRED), Bytes::MAX);
        assert_eq!(Bytes::from_gib(16).share(Percent::from_milli(56_250)), Bytes::from_gib(9));
        assert_eq!(Percent::of(Bytes::MAX, Bytes::MAX), Percent::ONE_HUNDRED);
        assert_eq!(Percent::of(Bytes::from_gib(9), Bytes::from_gib(16)), Percent(56_250));
        assert_eq!(Percent::of(Bytes::from_gib(9), Bytes::ZERO), Percent::ZERO);
        assert_eq!(Percent::of_count(1, 3), Some(Percent(33_333)));
        assert_eq!(Percent::of_count(u64::MAX, 0), None);
        assert_eq!(Percent::of_count(u64::MAX, 1), Some(Percent(u32::MAX)));
    }
}
