//! The required result of a run: bounds on its figures, tiers at moments, events in order, events that must not happen.

mod checker;
mod pattern;

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tiershift_core::catalog::Catalog;
use tiershift_core::time::{SpanText, span_text};
use tiershift_core::units::PercentText;

pub use checker::{Checker, Unmet};
pub use pattern::{Pattern, PatternKind};

/// The `[expect]` table. What is not given is not checked, except for the invariants: no run may break one.
///
/// A bound is an exact number (`switches = 0`) or a range (`switches = { max = 3 }`). Counts, seconds and shares are
/// those of the run's summary.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Expect {
    /// Completed changes of the serving tier, including the first load.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub switches: Option<Bound<u64>>,
    /// Switches to a larger model.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub upgrades: Option<Bound<u64>>,
    /// Switches to a smaller model or to none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub downgrades: Option<Bound<u64>>,
    /// Changes undone within the policy's `reversal-window`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reversals: Option<Bound<u64>>,
    /// Most switches in any 60 minutes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub switches_per_hour: Option<Bound<u64>>,
    /// Reversals and wasted loads together.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub flap_budget: Option<u64>,
    /// Models loaded and dropped before they served anything.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wasted_loads: Option<Bound<u64>>,
    /// Loads begun.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub loads: Option<Bound<u64>>,
    /// Loads that failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failed_loads: Option<Bound<u64>>,
    /// Seconds with a space resource above the degrade line.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seconds_above_degrade_line: Option<Bound<f64>>,
    /// Seconds with more memory in use than the machine has.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seconds_over_memory: Option<Bound<f64>>,
    /// Seconds with more video memory in use than a GPU has, for any GPU; none on a machine without one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seconds_over_vram: Option<Bound<f64>>,
    /// The part of the seconds over memory that a policy which reacts to each sample at once would have avoided.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seconds_over_memory_avoidable: Option<Bound<f64>>,
    /// How often memory and swap were both exhausted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub out_of_memory_events: Option<Bound<u64>>,
    /// The tier that serves at the end; `none` if none does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub final_tier: Option<String>,
    /// The tier that serves at a moment.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tier_at: Vec<TierAt>,
    /// A tier that serves at some moment of a window.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tier_within: Vec<TierWithin>,
    /// Requests that arrived.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub arrived: Option<Bound<u64>>,
    /// Requests completed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub done: Option<Bound<u64>>,
    /// Requests that failed because of the model or its server.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failed: Option<Bound<u64>>,
    /// Requests that were stopped.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cancelled: Option<Bound<u64>>,
    /// Requests refused, at once or after waiting.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rejected: Option<Bound<u64>>,
    /// Requests that had not ended at the end of the run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub open: Option<Bound<u64>>,
    /// Median time from arrival to the last token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub latency_p50: Option<Bound<SpanText>>,
    /// 95th percentile of the time from arrival to the last token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub latency_p95: Option<Bound<SpanText>>,
    /// 99th percentile of the time from arrival to the last token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub latency_p99: Option<Bound<SpanText>>,
    /// 95th percentile of the time from arrival to the first token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_token_p95: Option<Bound<SpanText>>,
    /// Share of the ended requests that were done.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub availability: Option<Bound<PercentText>>,
    /// Quality of the serving model, averaged over time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quality: Option<Bound<PercentText>>,
    /// Events that must happen, in this order. Others may happen between them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub order: Vec<Pattern>,
    /// Events that must never happen.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub never: Vec<Pattern>,
    /// How often an event may happen in a window.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub events: Vec<EventCount>,
}

/// The tier that must serve at a moment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct TierAt {
    /// The moment.
    pub at: SpanText,
    /// The tier, or `none`.
    pub tier: String,
}

/// A tier that must serve at some moment of a window.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct TierWithin {
    /// The tier, or `none`.
    pub tier: String,
    /// Beginning of the window.
    pub from: SpanText,
    /// Length of the window.
    pub within: SpanText,
}

/// How often an event may happen in a window.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct EventCount {
    /// The event.
    pub event: Pattern,
    /// Beginning of the window. Default: the start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<SpanText>,
    /// End of the window, not included. Default: the run's end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<SpanText>,
    /// How often. Default `{ min = 1 }`.
    #[serde(default = "at_least_once")]
    pub count: Bound<u64>,
}

/// A number that a figure must have, or a range that it must be in.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged, expecting = "a bound is a value, { max = value }, { min = value } or both")]
pub enum Bound<T> {
    /// The value itself.
    Exactly(T),
    /// At least `min`, at most `max`.
    Between(Range<T>),
}

/// A range, including its ends.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Range<T> {
    /// The least.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min: Option<T>,
    /// The most.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max: Option<T>,
}

/// The `[baseline]` table: a policy that must *not* meet the expectations. If it meets them, the scenario proves
/// nothing.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Baseline {
    /// The policy.
    pub policy: tiershift_core::settings::PolicyName,
    /// Keys of `[expect]` that it must violate, all of them.
    pub fails: Vec<String>,
}

impl<T> Bound<T> {
    fn limits(&self) -> (Option<&T>, Option<&T>) {
        match self {
            Self::Exactly(value) => (Some(value), Some(value)),
            Self::Between(range) => (range.min.as_ref(), range.max.as_ref()),
        }
    }
}

/// How a bound's value is compared with a summary's figure, and shown.
pub trait Figure {
    /// Returns the value in the summary's unit.
    fn figure(&self) -> f64;
    /// Returns the value in human units.
    fn shown(&self) -> String;
}

impl Figure for u64 {
    fn figure(&self) -> f64 {
        // Counts of a run stay far below 2^53.
        *self as f64
    }
    fn shown(&self) -> String {
        self.to_string()
    }
}

impl Figure for f64 {
    fn figure(&self) -> f64 {
        *self
    }
    fn shown(&self) -> String {
        self.to_string()
    }
}

impl Figure for SpanText {
    /// Milliseconds.
    fn figure(&self) -> f64 {
        self.0.as_secs_f64() * 1000.0
    }
    fn shown(&self) -> String {
        span_text(self.0)
    }
}

impl Figure for PercentText {
    /// A fraction of one.
    fn figure(&self) -> f64 {
        self.0.fraction()
    }
    fn shown(&self) -> String {
        self.0.to_string()
    }
}

impl<T: Figure> Bound<T> {
    /// Returns whether the figure is within the bound.
    pub fn holds(&self, got: f64) -> bool {
        let (min, max) = self.limits();
        min.is_none_or(|min| got >= min.figure()) && max.is_none_or(|max| got <= max.figure())
    }

    /// Returns whether the bound allows everything, or nothing.
    fn is_void(&self) -> bool {
        match self.limits() {
            (None, None) => true,
            (Some(min), Some(max)) => min.figure() > max.figure(),
            (Some(_), None) | (None, Some(_)) => false,
        }
    }
}

impl<T: Figure> fmt::Display for Bound<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exactly(value) => f.write_str(&value.shown()),
            Self::Between(Range { min: Some(min), max: Some(max) }) => {
                write!(f, "{} to {}", min.shown(), max.shown())
            }
            Self::Between(Range { min: Some(min), max: None }) => {
                write!(f, "at least {}", min.shown())
            }
            Self::Between(Range { min: None, max: Some(max) }) => {
                write!(f, "at most {}", max.shown())
            }
            Self::Between(Range { min: None, max: None }) => f.write_str("anything"),
        }
    }
}

impl Expect {
    /// Returns a checker that observes the run and is then given its summary.
    pub fn checker<'e>(&'e self, catalog: &'e Catalog) -> Checker<'e> {
        Checker::new(self, catalog)
    }

    /// Returns the keys that are given, in the order of the documentation.
    pub fn keys(&self) -> Vec<String> {
        // The file form knows which keys are written, and their names.
        match toml::Table::try_from(self) {
            Ok(table) => table.keys().cloned().collect(),
            Err(_) => Vec::new(),
        }
    }

    /// Returns every tier that is named, with its key.
    pub(super) fn tiers(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let at = self.tier_at.iter().map(|want| ("tier-at", want.tier.as_str()));
        let within = self.tier_within.iter().map(|want| ("tier-within", want.tier.as_str()));
        self.final_tier.iter().map(|tier| ("final-tier", tier.as_str())).chain(at).chain(within)
    }

    /// Returns every event pattern, with its key.
    pub(super) fn patterns(&self) -> impl Iterator<Item = (&'static str, &Pattern)> {
        let order = self.order.iter().map(|pattern| ("order", pattern));
        let never = self.never.iter().map(|pattern| ("never", pattern));
        order.chain(never).chain(self.events.iter().map(|want| ("events", &want.event)))
    }

    /// Returns every moment that is named, with its key.
    pub(super) fn moments(&self) -> impl Iterator<Item = (&'static str, SpanText)> {
        let at = self.tier_at.iter().map(|want| ("tier-at", want.at));
        let within = self.tier_within.iter().map(|want| ("tier-within", want.from));
        let from = self.events.iter().filter_map(|want| Some(("events", want.from?)));
        at.chain(within).chain(from)
    }

    /// Returns the key of a bound that allows everything, or nothing.
    pub(super) fn void_bound(&self) -> Option<&'static str> {
        let counts = [
            ("switches", &self.switches),
            ("upgrades", &self.upgrades),
            ("downgrades", &self.downgrades),
            ("reversals", &self.reversals),
            ("switches-per-hour", &self.switches_per_hour),
            ("wasted-loads", &self.wasted_loads),
            ("loads", &self.loads),
            ("failed-loads", &self.failed_loads),
            ("out-of-memory-events", &self.out_of_memory_events),
            ("arrived", &self.arrived),
            ("done", &self.done),
            ("failed", &self.failed),
            ("cancelled", &self.cancelled),
            ("rejected", &self.rejected),
            ("open", &self.open),
        ];
        let seconds = [
            ("seconds-above-degrade-line", &self.seconds_above_degrade_line),
            ("seconds-over-memory", &self.seconds_over_memory),
            ("seconds-over-vram", &self.seconds_over_vram),
            ("seconds-over-memory-avoidable", &self.seconds_over_memory_avoidable),
        ];
        let spans = [
            ("latency-p50", &self.latency_p50),
            ("latency-p95", &self.latency_p95),
            ("latency-p99", &self.latency_p99),
            ("first-token-p95", &self.first_token_p95),
        ];
        let shares = [("availability", &self.availability), ("quality", &self.quality)];
        void(&counts)
            .or_else(|| void(&seconds))
            .or_else(|| void(&spans))
            .or_else(|| void(&shares))
            .or_else(|| self.events.iter().any(|e| e.count.is_void()).then_some("events"))
    }
}

fn void<T: Figure>(bounds: &[(&'static str, &Option<Bound<T>>)]) -> Option<&'static str> {
    let is_void = |bound: &&Option<Bound<T>>| bound.as_ref().is_some_and(Bound::is_void);
    bounds.iter().find(|(_, bound)| is_void(bound)).map(|(key, _)| *key)
}

fn at_least_once() -> Bound<u64> {
    Bound::Between(Range { min: Some(1), max: None })
}
