//! The shapes that others' use can have.

use std::f64::consts::TAU;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tiershift_core::sample::Sample;
use tiershift_core::time::{SpanText, Timestamp, nanos};
use tiershift_core::units::{Bytes, Percent, PercentText, UnitError, human};

use super::Series;
use crate::sim::rng::Seed;

/// The amount that a `[[background]]` table adds over time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "shape", rename_all = "kebab-case", rename_all_fields = "kebab-case")]
#[serde(deny_unknown_fields)]
pub enum RawShape {
    /// The same amount throughout.
    Constant {
        /// The amount.
        level: Amount,
    },
    /// `from` until `at`, then `to`, and `from` again after `until`.
    Step {
        /// Before. Default: nothing.
        #[serde(default)]
        from: Amount,
        /// The value after.
        to: Amount,
    },
    /// `from` until `at`, then in a straight line to `to`, reached at `until` (default: the run's end) and kept.
    Ramp {
        /// Before. Default: nothing.
        #[serde(default)]
        from: Amount,
        /// The value after.
        to: Amount,
    },
    /// From `from` in a straight line to `to` in each period, then back at once: a cache that is filled and
    /// flushed.
    Saw {
        /// Low point. Default: nothing.
        #[serde(default)]
        from: Amount,
        /// High point.
        to: Amount,
        /// Length of one period.
        period: SpanText,
    },
    /// A cosine that begins at `from`, is at `to` half a period later, and returns.
    Sine {
        /// One end. Default: nothing.
        #[serde(default)]
        from: Amount,
        /// The other end.
        to: Amount,
        /// Length of one period.
        period: SpanText,
    },
    /// One burst in each period, at a random moment of it or after `offset`: a build, a page that is opened.
    Burst {
        /// Between bursts. Default: nothing.
        #[serde(default)]
        from: Amount,
        /// During a burst.
        to: Amount,
        /// Length of the period that has one burst.
        period: SpanText,
        /// Length of a burst; not longer than the period.
        length: SpanText,
        /// Time from the beginning of each period to its burst, which must end within the period. Default: random.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        offset: Option<SpanText>,
        /// Probability of a burst in each period. Default `100%`.
        #[serde(default = "certain")]
        chance: PercentText,
    },
    /// Grows steadily from `at`, and is gone at `until`: the program is closed.
    Leak {
        /// Growth per minute.
        per_minute: Amount,
        /// Amount at which it stops growing. Default: never.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        to: Option<Amount>,
    },
    /// Wanders evenly between minus and plus the amplitude, in straight lines between random values. It is added to
    /// another shape; their sum never falls below zero.
    Noise {
        /// Largest distance from zero.
        amplitude: Amount,
        /// Time between random values. Default `10s`.
        #[serde(default = "noise_cell")]
        every: SpanText,
    },
    /// The others' use of a recorded resource trace, with each reading held until the next.
    Trace(Play),
}

/// How a trace is played.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Play {
    /// The trace, relative to the scenario's file.
    pub file: String,
    /// Skip this much of the trace. Default `0s`.
    #[serde(default = "no_time")]
    pub offset: SpanText,
    /// Begin again at the end. Default false: the last reading is held.
    #[serde(default, rename = "loop")]
    pub repeat: bool,
    /// Factor on every reading. Default `100%`.
    #[serde(default = "certain")]
    pub scale: PercentText,
    /// Read amounts as shares of the trace's machine, and use the same shares of this one. Default false: amounts are
    /// kept in bytes.
    #[serde(default)]
    pub relative: bool,
}

/// An amount of memory, or a share of the resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Amount {
    /// Bytes of a space resource.
    Bytes(Bytes),
    /// A share of a space resource, or of the time of a rate resource.
    Share(Percent),
}

impl RawShape {
    /// Returns the value at `now`: bytes if the resource has a `total`, or else thousandths of a percent.
    pub(super) fn value(
        &self,
        at: Timestamp,
        until: Timestamp,
        now: Timestamp,
        total: Option<Bytes>,
        seed: Seed,
        place: usize,
    ) -> f64 {
        let open = (at..until).contains(&now);
        let into = now.since(at);
        let of = |amount: &Amount| amount.of(total);
        match self {
            Self::Step { from, to } => of(if open { to } else { from }),
            Self::Ramp { from, to } => {
                let part = (seconds(into) / seconds(until.since(at)).max(MOMENT)).min(1.0);
                mix(of(from), of(to), if now < at { 0.0 } else { part })
            }
            _ if !open => 0.0,
            Self::Constant { level } => of(level),
            Self::Saw { from, to, period } => {
                mix(of(from), of(to), seconds(rest(into, period.0)) / seconds(period.0))
            }
            Self::Sine { from, to, period } => {
                let turn = seconds(rest(into, period.0)) / seconds(period.0);
                mix(of(from), of(to), (1.0 - libm::cos(TAU * turn)) / 2.0)
            }
            Self::Burst { from, to, period, length, offset, chance } => {
                let mut draw = seed.stream(&cell_label("burst", place, cell(into, period.0)));
                let happens = draw.happens(chance.0.fraction());
                let slack = period.0.saturating_sub(length.0);
                let begins = match offset {
                    Some(offset) => offset.0,
                    None => Duration::from_nanos(draw.below(nanos(slack).saturating_add(1))),
                };
                let during =
                    rest(into, period.0).checked_sub(begins).is_some_and(|since| since < length.0);
                of(if happens && during { to } else { from })
            }
            Self::Leak { per_minute, to } => {
                let grown = of(per_minute) * seconds(into) / 60.0;
                to.as_ref().map_or(grown, |cap| grown.min(of(cap)))
            }
            Self::Noise { amplitude, every } => {
                let index = cell(into, every.0);
                let node = |index| {
                    let draw = seed.stream(&cell_label("noise", place, index)).unit();
                    of(amplitude) * (2.0 * draw - 1.0)
                };
                let part = seconds(rest(into, every.0)) / seconds(every.0);
                mix(node(index), node(index + 1), part)
            }
            Self::Trace(_) => 0.0,
        }
    }

    /// Returns the key whose value is not valid, and what it must be.
    pub(crate) fn mistake(&self, is_space: bool) -> Option<(&'static str, &'static str)> {
        if let Some((key, _)) = self.period().filter(|(_, period)| period.is_zero()) {
            return Some((key, "more than nothing"));
        }
        if let Self::Burst { period, length, offset, chance, .. } = self {
            if length > period || length.0.is_zero() {
                return Some(("length", "more than nothing and no longer than `period`"));
            }
            if offset.as_ref().is_some_and(|offset| offset.0.saturating_add(length.0) > period.0) {
                return Some(("offset", "early enough for the burst to end within its `period`"));
            }
            if chance.0 > Percent::ONE_HUNDRED {
                return Some(("chance", "at most 100%"));
            }
        }
        let (key, _) = self.amounts().into_iter().find(|(_, amount)| !amount.suits(is_space))?;
        Some((key, "a share such as \"30%\": the resource is a rate, not an amount"))
    }

    /// Returns every amount with its key.
    fn amounts(&self) -> Vec<(&'static str, Amount)> {
        match self {
            Self::Constant { level } => vec![("level", *level)],
            Self::Step { from, to }
            | Self::Ramp { from, to }
            | Self::Saw { from, to, .. }
            | Self::Sine { from, to, .. }
            | Self::Burst { from, to, .. } => vec![("from", *from), ("to", *to)],
            Self::Leak { per_minute, to: Some(to) } => {
                vec![("per-minute", *per_minute), ("to", *to)]
            }
            Self::Leak { per_minute, to: None } => vec![("per-minute", *per_minute)],
            Self::Noise { amplitude, .. } => vec![("amplitude", *amplitude)],
            Self::Trace(_) => Vec::new(),
        }
    }

    /// Returns the length of a repetition, with its key.
    fn period(&self) -> Option<(&'static str, Duration)> {
        match self {
            Self::Saw { period, .. } | Self::Sine { period, .. } | Self::Burst { period, .. } => {
                Some(("period", period.0))
            }
            Self::Noise { every, .. } => Some(("every", every.0)),
            Self::Constant { .. }
            | Self::Step { .. }
            | Self::Ramp { .. }
            | Self::Leak { .. }
            | Self::Trace(_) => None,
        }
    }
}

impl Play {
    /// Returns the sample at `into` the playing; `None` before there is one.
    pub(super) fn reading<'s>(&self, series: &'s Series, into: Duration) -> Option<&'s Sample> {
        let into = into.saturating_add(self.offset.0);
        Some(series.at(if self.repeat { rest(into, series.length()) } else { into }))
    }
}

impl Amount {
    pub(super) fn of(self, total: Option<Bytes>) -> f64 {
        match (self, total) {
            (Self::Bytes(bytes), _) => bytes.get() as f64,
            (Self::Share(share), Some(total)) => total.share(share).get() as f64,
            (Self::Share(share), None) => f64::from(share.milli()),
        }
    }

    /// Returns whether it is a valid unit for the resource. Zero is valid for both.
    fn suits(self, is_space: bool) -> bool {
        is_space || !matches!(self, Self::Bytes(bytes) if bytes != Bytes::ZERO)
    }
}

impl Default for Amount {
    fn default() -> Self {
        Self::Bytes(Bytes::ZERO)
    }
}

impl fmt::Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bytes(bytes) => bytes.fmt(f),
            Self::Share(share) => share.fmt(f),
        }
    }
}

impl FromStr for Amount {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        match text.trim_end().ends_with('%') {
            true => text.parse().map(Self::Share),
            false => text.parse().map(Self::Bytes),
        }
    }
}

impl Serialize for Amount {
    fn serialize<S: serde::Serializer>(&self, out: S) -> Result<S::Ok, S::Error> {
        human::serialize(self, out)
    }
}

impl<'de> Deserialize<'de> for Amount {
    fn deserialize<D: serde::Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        human::deserialize(input)
    }
}

impl JsonSchema for Amount {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Amount".into()
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "string", "examples": ["3GiB", "40%"] })
    }
}

/// Names the stream for one cell of time of one layer.
fn cell_label(shape: &str, place: usize, cell: u64) -> String {
    format!("background.{place}.{shape}.{cell}")
}

/// Returns the number of whole periods in a span.
fn cell(into: Duration, period: Duration) -> u64 {
    nanos(into) / nanos(period).max(1)
}

/// Returns what is left of a span after its whole periods.
fn rest(into: Duration, period: Duration) -> Duration {
    Duration::from_nanos(nanos(into) % nanos(period).max(1))
}

fn seconds(span: Duration) -> f64 {
    span.as_secs_f64()
}

fn mix(from: f64, to: f64, part: f64) -> f64 {
    from + (to - from) * part
}

fn certain() -> PercentText {
    PercentText(Percent::ONE_HUNDRED)
}

fn noise_cell() -> SpanText {
    SpanText(Duration::from_secs(10))
}

fn no_time() -> SpanText {
    SpanText(Duration::ZERO)
}

/// A ramp of length zero is a step: it lasts at least one nanosecond.
const MOMENT: f64 = 1e-9;
