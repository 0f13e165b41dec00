//! Requests of users over time: the settings of a workload. [`Workloads`] draws the arrivals.

mod arrivals;

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tiershift_core::model::Task;
use tiershift_core::request::{ClientId, Request, Target};
use tiershift_core::time::{SpanText, Timestamp};
use tiershift_core::units::{Percent, PercentText, human};

use crate::sim::rng::Stream;

pub(crate) use arrivals::supply::lap;
pub use arrivals::{Arrival, Workloads};

/// A stream of requests, checked.
#[derive(Clone, Debug, PartialEq)]
pub struct Workload {
    /// When requests arrive.
    pub arrivals: Arrivals,
    /// Length of the prompts; a trace brings its own.
    pub prompt_tokens: Tokens,
    /// Length of the replies; a trace brings its own.
    pub output_tokens: Tokens,
    /// Kind of work.
    pub task: Task,
    /// What the requests want to be served by.
    pub target: Target,
    /// Higher goes first.
    pub priority: u8,
    /// The client.
    pub client: Option<ClientId>,
    /// How long a request may wait to start; `None`: the manager's setting.
    pub patience: Option<Duration>,
    /// Whether its clients stay connected.
    pub connected: bool,
    /// The probability that a client hangs up.
    pub cancel: Percent,
    /// How long after its arrival it does.
    pub cancel_after: Duration,
    /// No request before this.
    pub at: Timestamp,
    /// No request at or after this.
    pub until: Timestamp,
    /// The requests of a trace, in order of time, counted from the first.
    pub recorded: Option<Arc<[Recorded]>>,
}

/// One request of a recorded trace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recorded {
    /// When it arrived, counted from the trace's first.
    pub at: Timestamp,
    /// The request. Its id is the trace's, not the run's.
    pub request: Request,
}

impl Recorded {
    /// Returns the requests of a trace that was loaded.
    pub fn all(rows: Vec<(Timestamp, Request)>) -> Arc<[Self]> {
        rows.into_iter().map(|(at, request)| Self { at, request }).collect()
    }
}

impl Workload {
    /// Returns the workload that plays recorded requests, once or again and again.
    pub fn of_recorded(recorded: Arc<[Recorded]>, repeat: bool) -> Self {
        Self {
            arrivals: Arrivals::Trace { file: String::new(), repeat, speed: as_recorded() },
            // A trace brings its own lengths.
            prompt_tokens: Tokens::Fixed(1),
            output_tokens: Tokens::Fixed(1),
            task: Task::default(),
            target: Target::default(),
            priority: 0,
            client: None,
            patience: None,
            connected: false,
            cancel: Percent::ZERO,
            cancel_after: Duration::ZERO,
            at: Timestamp::ZERO,
            until: Timestamp::MAX,
            recorded: Some(recorded),
        }
    }
}

/// One `[[workload]]` table.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
// Serde refuses unknown keys in the flattened part; the schema must state that for editors.
#[schemars(extend("unevaluatedProperties" = false))]
pub struct RawWorkload {
    /// Length of the prompts. Default 500. Not for a trace.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prompt_tokens: Option<Tokens>,
    /// Length of the replies. Default 200; nothing for a task without a reply. Not for a trace.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output_tokens: Option<Tokens>,
    /// Kind of work. Default `chat`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub task: Option<Task>,
    /// The tier that the requests name. Default: whatever serves.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tier: Option<String>,
    /// The model that the requests name. Default: whatever serves.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// Higher goes first. Default 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub priority: Option<u8>,
    /// The number of the client: requests of equal priority start in turns, one from each client. Default: all
    /// workloads without a number share one client.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client: Option<u64>,
    /// How long a request may wait to start. Default: the policy's `manager.patience`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub patience: Option<SpanText>,
    /// Whether clients stay connected, as those of `serve` do: their requests wait without limit while a model that can
    /// serve them is loaded or being loaded. Default false.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connected: Option<bool>,
    /// Probability that a client hangs up before its reply is complete. Default `0%`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cancel: Option<PercentText>,
    /// How long after its request such a client hangs up. Default `2s`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cancel_after: Option<SpanText>,
    /// When the workload begins. Default: at the start.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub at: Option<SpanText>,
    /// When it ends. Default: with the run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<SpanText>,
    /// When requests arrive.
    #[serde(flatten)]
    pub arrivals: Arrivals,
}

/// The keys of [`RawWorkload`] itself.
pub(crate) const COMMON_KEYS: &[&str] = &[
    "prompt-tokens",
    "output-tokens",
    "task",
    "tier",
    "model",
    "priority",
    "client",
    "patience",
    "connected",
    "cancel",
    "cancel-after",
    "at",
    "until",
    "kind",
];

/// When requests arrive.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "kebab-case", rename_all_fields = "kebab-case")]
#[serde(deny_unknown_fields)]
pub enum Arrivals {
    /// Requests independent of each other, at a constant rate.
    Poisson {
        /// The average rate.
        rate: ArrivalRate,
    },
    /// Bursts of many requests at once.
    Burst {
        /// Requests in a burst.
        count: u32,
        /// Time from burst to burst; the first comes at once.
        every: SpanText,
        /// The requests of a burst are spread evenly at random over this span. Default `0s`: all at one moment.
        #[serde(default = "no_time")]
        spread: SpanText,
    },
    /// Independent of each other, at a rate that rises and falls as a cosine, beginning at the lowest.
    DayNight {
        /// The lowest rate.
        night: ArrivalRate,
        /// The highest rate.
        day: ArrivalRate,
        /// Time from night to night. Default `24h`.
        #[serde(default = "one_day")]
        period: SpanText,
    },
    /// Users who wait for their reply, think, and ask again.
    ClosedLoop {
        /// Number of users.
        users: u32,
        /// Mean of the exponential time between a reply and the next request. A user also thinks once before its first
        /// request.
        think: SpanText,
    },
    /// Requests at given moments.
    Fixed {
        /// The moments, counted from `at`.
        times: Vec<SpanText>,
    },
    /// As recorded in a request trace. The table's task, tier, model, priority and patience override those of the
    /// trace.
    Trace {
        /// The trace, relative to the scenario's file.
        file: String,
        /// Begin again at the end, one mean gap after the last request. Default false.
        #[serde(default, rename = "loop")]
        repeat: bool,
        /// Factor on the speed of the recording. Default 1.
        #[serde(default = "as_recorded")]
        speed: f64,
    },
}

/// A number of requests in a span of time: `"6/min"`, `"0.5/s"`, `"120/h"`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ArrivalRate {
    count: f64,
    unit: RateUnit,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum RateUnit {
    Second,
    Minute,
    Hour,
}

impl ArrivalRate {
    /// Returns the requests per second.
    pub fn per_second(self) -> f64 {
        let (_, seconds) = self.unit.name();
        self.count / seconds
    }
}

impl RateUnit {
    const ALL: [Self; 3] = [Self::Second, Self::Minute, Self::Hour];

    fn name(self) -> (&'static str, f64) {
        match self {
            Self::Second => ("s", 1.0),
            Self::Minute => ("min", 60.0),
            Self::Hour => ("h", 3600.0),
        }
    }
}

impl fmt::Display for ArrivalRate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.count, self.unit.name().0)
    }
}

impl FromStr for ArrivalRate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let refuse =
            || format!("\"{text}\" is not a rate such as \"6/min\", \"0.5/s\" or \"120/h\"");
        let (count, unit) = text.split_once('/').ok_or_else(refuse)?;
        let unit = RateUnit::ALL.into_iter().find(|known| known.name().0 == unit.trim());
        let count: f64 = count.trim().parse().map_err(|_| refuse())?;
        match unit {
            Some(unit) if count.is_finite() && count >= 0.0 => Ok(Self { count, unit }),
            _ => Err(refuse()),
        }
    }
}

impl Serialize for ArrivalRate {
    fn serialize<S: serde::Serializer>(&self, out: S) -> Result<S::Ok, S::Error> {
        human::serialize(self, out)
    }
}

impl<'de> Deserialize<'de> for ArrivalRate {
    fn deserialize<D: serde::Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        human::deserialize(input)
    }
}

impl JsonSchema for ArrivalRate {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Rate".into()
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "type": "string", "pattern": "^[0-9.]+ ?/ ?(s|min|h)$", "examples": ["6/min", "0.5/s"]
        })
    }
}

/// The length of texts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(
    untagged,
    expecting = "tokens are a number (500), a range ([100, 900]) or { median = 400, shape = 0.8 }"
)]
pub enum Tokens {
    /// All the same.
    Fixed(u32),
    /// Evenly between the two, ends included.
    Range([u32; 2]),
    /// Log-normal, as real prompts are.
    LogNormal(LogNormalTokens),
}

/// Log-normal lengths.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct LogNormalTokens {
    /// Median length.
    pub median: u32,
    /// Standard deviation of the logarithm. About 1 in the Azure traces of 2023.
    pub shape: f64,
    /// Longest length. Default 100000.
    #[serde(default = "longest_text")]
    pub max: u32,
}

impl Tokens {
    /// Returns a length; at least one token if it is drawn.
    pub fn draw(&self, stream: &mut Stream) -> u32 {
        let tokens = match self {
            Self::Fixed(tokens) => return *tokens,
            Self::Range([least, most]) => {
                let width = u64::from(most - least) + 1;
                least
                    + u32::try_from(stream.below(width))
                        .expect("a range of u32 is narrower than u32")
            }
            Self::LogNormal(LogNormalTokens { median, shape, max }) => {
                // `as` saturates.
                (stream.log_normal(f64::from(*median), *shape).round() as u32).min(*max)
            }
        };
        tokens.max(1)
    }

    /// Returns what the value must be, if it is not valid.
    pub(crate) fn mistake(&self) -> Option<&'static str> {
        match self {
            Self::Fixed(0) => Some("at least one token"),
            Self::Range([least, most]) if least > most => {
                Some("a range whose first number is smaller")
            }
            Self::Range([0, _]) => Some("at least one token"),
            Self::LogNormal(LogNormalTokens { median, shape, max }) => {
                let fits = *median > 0 && max >= median && (0.0..=LARGEST_SHAPE).contains(shape);
                (!fits).then_some(
                    "a median above zero, a shape from 0 to 5 and a `max` not below the median",
                )
            }
            Self::Fixed(_) | Self::Range(_) => None,
        }
    }
}

impl Arrivals {
    /// Returns the key whose value is not valid, and what it must be.
    pub(crate) fn mistake(&self) -> Option<(&'static str, &'static str)> {
        let positive = |rate: &ArrivalRate| rate.per_second() > 0.0;
        match self {
            Self::Poisson { rate } if !positive(rate) => Some(("rate", "more than nothing")),
            Self::Burst { count: 0, .. } => Some(("count", "at least 1")),
            Self::Burst { every, .. } if every.0.is_zero() => Some(("every", "more than nothing")),
            Self::Burst { every, spread, .. } if spread > every => {
                Some(("spread", "no longer than `every`"))
            }
            Self::DayNight { day, .. } if !positive(day) => Some(("day", "more than nothing")),
            Self::DayNight { day, night, .. } if night.per_second() > day.per_second() => {
                Some(("night", "no more than `day`"))
            }
            Self::DayNight { period, .. } if period.0.is_zero() => {
                Some(("period", "more than nothing"))
            }
            Self::ClosedLoop { users, .. } if !(1..=MOST_USERS).contains(users) => {
                Some(("users", "from 1 to 10000"))
            }
            Self::ClosedLoop { think, .. } if think.0.is_zero() => Some((
                "think",
                "more than nothing, or a refused user would ask again at the same moment",
            )),
            Self::Fixed { times } if times.is_empty() => Some(("times", "at least one moment")),
            Self::Trace { speed, .. } if !(speed.is_finite() && *speed > 0.0 && *speed <= 1e6) => {
                Some(("speed", "a number above zero and at most 1000000"))
            }
            _ => None,
        }
    }

    /// Returns the approximate number of requests in a span, to refuse what would fill the memory.
    pub(crate) fn expected(&self, span: Duration) -> f64 {
        let seconds = span.as_secs_f64();
        match self {
            Self::Poisson { rate } => rate.per_second() * seconds,
            Self::Burst { count, every, .. } => {
                f64::from(*count) * (seconds / every.0.as_secs_f64()).max(1.0)
            }
            Self::DayNight { day, .. } => day.per_second() * seconds,
            Self::ClosedLoop { users, think } => {
                f64::from(*users) * seconds / think.0.as_secs_f64()
            }
            Self::Fixed { times } => times.len() as f64,
            // A trace is already in memory; looped, it has its own rate.
            Self::Trace { .. } => 0.0,
        }
    }
}

fn no_time() -> SpanText {
    SpanText(Duration::ZERO)
}

fn one_day() -> SpanText {
    SpanText(Duration::from_hours(24))
}

fn as_recorded() -> f64 {
    1.0
}

fn longest_text() -> u32 {
    100_000
}

/// Each user has its own streams; ten thousand of them are 6 MB.
const MOST_USERS: u32 = 10_000;

/// A log-normal of shape 5 spans twelve decades: no texts do.
const LARGEST_SHAPE: f64 = 5.0;
