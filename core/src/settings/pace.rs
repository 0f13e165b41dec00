//! How readily tiers are changed: the wait between rungs, the price of a change, and obsolete keys.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::time::{SpanText, span_text};
use crate::units::UnitError;

/// How long conditions must stay good before an upgrade between rungs that serve: a span, or `"auto"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Stabilization {
    /// The same for every change.
    Span(Duration),
    /// A part of the time in which a change earns its price.
    Auto,
}

/// An obsolete key, which is ignored with a warning.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Lost {
    #[serde(skip)]
    given: bool,
}

impl Lost {
    /// Returns whether a file contains it.
    pub fn is_given(self) -> bool {
        self.given
    }
}

impl<'de> Deserialize<'de> for Lost {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        serde::de::IgnoredAny::deserialize(from)?;
        Ok(Self { given: true })
    }
}

/// How expensive changes are, as a preset.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Preset {
    /// Prefers the larger model, even for a short time.
    Eager,
    /// Between `eager` and `steady`.
    #[default]
    Balanced,
    /// Makes as few changes as possible.
    Steady,
}

impl Default for Stabilization {
    fn default() -> Self {
        Self::Span(LONGEST_AUTO)
    }
}

impl TryFrom<String> for Stabilization {
    type Error = UnitError;

    fn try_from(text: String) -> Result<Self, UnitError> {
        if text == AUTO {
            return Ok(Self::Auto);
        }
        let SpanText(span) = text.parse()?;
        Ok(Self::Span(span))
    }
}

impl From<Stabilization> for String {
    fn from(stabilization: Stabilization) -> Self {
        match stabilization {
            Stabilization::Span(span) => span_text(span),
            Stabilization::Auto => AUTO.to_owned(),
        }
    }
}

#[cfg(feature = "schema")]
impl schemars::JsonSchema for Stabilization {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Stabilization".into()
    }
    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        let span = SpanText::json_schema(generator);
        schemars::json_schema!({ "anyOf": [span, { "const": AUTO }] })
    }
}

impl Stabilization {
    /// Returns the wait for a change that earns its price in `break_even`.
    pub fn wait(self, break_even: Duration) -> Duration {
        match self {
            Self::Span(span) => span,
            Self::Auto => (break_even / AUTO_PART).min(LONGEST_AUTO),
        }
    }

    /// Returns the longest wait.
    pub fn longest(self) -> Duration {
        match self {
            Self::Span(span) => span,
            Self::Auto => LONGEST_AUTO,
        }
    }

    /// Returns the shortest wait.
    pub fn shortest(self) -> Duration {
        self.wait(Duration::ZERO)
    }
}

impl Preset {
    /// Returns the price and the calm that it stands for.
    pub fn prices(self) -> (Duration, Duration) {
        let (price, calm) = match self {
            Self::Eager => (20, 150),
            Self::Balanced => (60, 450),
            Self::Steady => (60, 3600),
        };
        (Duration::from_secs(price), Duration::from_secs(calm))
    }
}

/// The word for a wait that is derived from the price.
const AUTO: &str = "auto";

/// The wait of `stabilization = "auto"`: a quarter of the break-even time, so that even a change that lasts little
/// longer pays, and at most the original specification's wait.
const AUTO_PART: u32 = 4;
const LONGEST_AUTO: Duration = Duration::from_mins(5);
