//! The answer of `/status`: one type for the daemon that writes it, and for the page and `tiershift status` that read
//! it.

use std::collections::BTreeMap;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tiershift_core::catalog::Rung;
use tiershift_core::decision::{Decision, Gate};
use tiershift_core::event::Notice;
use tiershift_core::model::ModelId;
use tiershift_core::sample::{Resource, Sample};
use tiershift_core::time::{Timestamp, duration_ns};
use tiershift_core::units::{Bytes, Percent};

use crate::backend::remote::OwnSource;
use crate::files::schema;
use crate::serve::shadow::compare::ShadowReport;

/// The state of a running daemon.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Status {
    /// The daemon's version.
    pub version: String,
    /// Time since the start.
    #[serde(rename = "uptime_ns")]
    pub uptime: Timestamp,
    /// When the machine was last read.
    #[serde(rename = "sampled_at_ns")]
    pub sampled_at: Option<Timestamp>,
    /// The sampling interval. A sample older than three intervals no longer describes the machine.
    #[serde(rename = "sampling_interval_ns", with = "duration_ns")]
    #[schemars(with = "u64")]
    pub sampling_interval: Duration,
    /// The tier that serves; `none` if none does.
    pub tier: String,
    /// The model that serves.
    pub model: Option<ModelId>,
    /// The models beside the ladder, in the catalog's order.
    pub companions: Vec<Companion>,
    /// The order that is in effect, if there is one.
    pub order: Option<Ordered>,
    /// The rung of the tier that serves.
    pub rung: Rung,
    /// The highest rung of the ladder.
    pub top_rung: Rung,
    /// The names of all tiers, from nothing upwards.
    pub tiers: Vec<String>,
    /// Whether it is stopping: it accepts no new requests and finishes the running ones.
    pub is_stopping: bool,
    /// Each resource that was sampled, with the lines that decide on it.
    pub lines: Vec<ResourceUse>,
    /// The decision, the gates and the notice below, as text.
    pub words: Words,
    /// Recent events, oldest first.
    pub last: Vec<HistoryEntry>,
    /// The times of the last replies.
    pub latencies: Latencies,
    /// The last sample.
    #[schemars(with = "Option<Logged>")]
    pub resources: Option<Sample>,
    /// The decision on it, with every gate of the next upgrade.
    #[schemars(with = "Option<Logged>")]
    pub decision: Option<Decision>,
    /// The gates that keep the next rung from being loaded now.
    #[schemars(with = "Vec<Logged>")]
    pub why_not_higher: Vec<Gate>,
    /// The last decision that changed something.
    pub last_change: Option<TimedDecision>,
    /// Completed switches to another tier.
    pub switches: u64,
    /// The last notice, as long as it is true.
    #[schemars(with = "Option<Logged>")]
    pub notice: Option<Notice>,
    /// How many requests there are and were.
    pub requests: Requests,
    /// Whether a log is written.
    pub recording: Recording,
    /// The comparison with the shadow policy, if there is one.
    #[schemars(with = "Option<Logged>")]
    pub shadow: Option<ShadowReport>,
    /// The source of the figure for each loaded model's own use.
    pub own_use_from: BTreeMap<ModelId, OwnSource>,
}

/// A model beside the ladder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Companion {
    /// The model.
    pub model: ModelId,
    /// Whether it serves; otherwise it waits for space.
    pub serves: bool,
}

/// A tier that was ordered. The order is in effect until its time is over, or until `auto` is ordered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Ordered {
    /// The tier; `none` for nothing.
    pub tier: String,
    /// When it is carried out, or was: after the switch cooldown.
    #[serde(rename = "starts_ns")]
    pub starts: Timestamp,
    /// When it ends by itself.
    #[serde(rename = "until_ns")]
    pub until: Option<Timestamp>,
}

/// A resource's use, and the lines that decide on it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ResourceUse {
    /// The resource, with the GPU's number if there are several.
    pub name: String,
    /// The resource.
    pub resource: Resource,
    /// Share in use by all programs.
    #[serde(rename = "used_milli_percent")]
    pub used: Percent,
    /// Share in use by our models.
    #[serde(rename = "own_milli_percent")]
    pub own: Percent,
    /// Upgrades need use below this.
    #[serde(rename = "upgrade_line_milli_percent")]
    pub upgrade_line: Percent,
    /// The policy steps down above this.
    #[serde(rename = "degrade_line_milli_percent")]
    pub degrade_line: Percent,
    /// For a space: what is in use.
    pub used_bytes: Option<Bytes>,
    /// For a space: its size.
    pub total_bytes: Option<Bytes>,
    /// Whether the policy uses it.
    pub constrains: bool,
}

/// The typed reasons as text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Words {
    /// The last decision.
    pub decision: Option<String>,
    /// A line for each closed gate, with the tier that it blocks.
    pub why_not_higher: Vec<String>,
    /// The notice.
    pub notice: Option<String>,
}

/// A decision and its moment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TimedDecision {
    /// When.
    #[serde(rename = "at_ns")]
    pub at: Timestamp,
    /// What was decided, and why.
    #[schemars(with = "Logged")]
    pub decision: Decision,
}

/// An event that users want to see.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct HistoryEntry {
    /// When.
    #[serde(rename = "at_ns")]
    pub at: Timestamp,
    /// Its kind: `hold`, `upgrade`, `downgrade`, `serving`, `failure` or `notice`.
    pub kind: String,
    /// What happened, as text.
    pub text: String,
}

/// The times of the last replies.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Latencies {
    /// How many there are.
    pub replies: usize,
    /// From arrival to the first token: the median.
    #[serde(rename = "first_token_p50_ns", with = "duration_ns")]
    #[schemars(with = "u64")]
    pub first_token_p50: Duration,
    /// From arrival to the first token: the 95th percentile.
    #[serde(rename = "first_token_p95_ns", with = "duration_ns")]
    #[schemars(with = "u64")]
    pub first_token_p95: Duration,
    /// From arrival to the last token: the median.
    #[serde(rename = "latency_p50_ns", with = "duration_ns")]
    #[schemars(with = "u64")]
    pub latency_p50: Duration,
    /// From arrival to the first token: the 95th percentile.
    #[serde(rename = "latency_p95_ns", with = "duration_ns")]
    #[schemars(with = "u64")]
    pub latency_p95: Duration,
}

/// How many requests there are, and how finished ones ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Requests {
    /// Accepted, and not started.
    pub waiting: usize,
    /// Started, and not ended.
    pub running: usize,
    /// Completed.
    pub done: u64,
    /// Failed because of the model or its server.
    pub failed: u64,
    /// Stopped.
    pub cancelled: u64,
    /// Refused, at once or after waiting.
    pub rejected: u64,
}

/// Whether a log is written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Recording {
    /// Recording is off.
    Off,
    /// Recording is on.
    On {
        /// The name of the run's folder.
        run: String,
        /// The segment being written.
        segment: u32,
        /// Disk space of all finished segments, including those of older runs.
        kept_bytes: u64,
        /// Old segments that were deleted since the start.
        dropped_segments: u64,
    },
    /// The log cannot be written at the moment; new records are held in memory until it can, so that nothing is
    /// missing.
    Held {
        /// Why.
        error: String,
    },
    /// The log cannot be written at the moment, and new records are lost; writing is retried.
    Stopped {
        /// Why.
        error: String,
    },
}

/// Returns the JSON Schema of a status.
pub fn schema() -> String {
    schema::text::<Status>()
}

/// The schema of parts that have the same form as in a log, which may grow.
type Logged = serde_json::Map<String, serde_json::Value>;
