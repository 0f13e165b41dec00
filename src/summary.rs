//! What a run came to, in numbers: the shape of `summary.json`.

use serde::Serialize;

use crate::catalog::Rung;
use crate::time::Timestamp;

/// The figures of a run. Counts are exact; seconds and fractions are rounded to six decimals when written.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Summary {
    /// Digest of everything that determines the run: trace or scenario, settings, catalog, seed, log format.
    pub fingerprint: String,
    /// Digest of the event log that came out; absent with the log off.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log_digest: Option<String>,
    /// Name of the policy that decided.
    pub policy: String,
    /// Length of the run in virtual seconds.
    pub seconds: f64,
    /// Readings of the machine that the controller was given.
    pub samples: u64,
    /// Readings that were missing.
    pub samples_missing: u64,
    /// Rows of the trace that were refused, with counts by reason in `warnings`.
    pub rejected_rows: u64,
    /// Completed changes of the serving rung.
    pub switches: u64,
    /// Switches upwards.
    pub upgrades: u64,
    /// Switches downwards.
    pub downgrades: u64,
    /// Changes undone within the reversal window: A to B, then back to A or beyond.
    pub reversals: u64,
    /// Most switches in any 60 minutes.
    pub switches_per_hour_peak: u64,
    /// Models loaded and dropped before they served anything.
    pub wasted_loads: u64,
    /// Loads begun.
    pub loads: u64,
    /// Loads that failed.
    pub failed_loads: u64,
    /// Time spent loading models.
    pub reload_seconds: f64,
    /// Shortest time between two completed switches; absent with fewer than two.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shortest_dwell_seconds: Option<f64>,
    /// Time with any space resource above the degrade line.
    pub seconds_above_degrade_line: f64,
    /// Time with memory use above the machine's memory.
    pub seconds_over_memory: f64,
    /// The part of it that a policy which reacts to each sample at once could not have avoided either.
    pub seconds_over_memory_unavoidable: f64,
    /// Times memory and swap were both exhausted.
    pub out_of_memory_events: u64,
    /// Quality of the serving model, averaged over time; nothing loaded counts zero.
    pub quality_served_fraction: f64,
    /// Seconds served from each rung, by tier name in ladder order, `none` first.
    pub tier_seconds: Vec<TierSeconds>,
    /// What became of the requests.
    pub requests: RequestCounts,
    /// Time from arrival to the last token of requests that were done.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub latency_ms: Option<Percentiles>,
    /// Time from arrival to the first token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_token_ms: Option<Percentiles>,
    /// Share of ended requests that were done.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub availability: Option<f64>,
    /// Rung at the end.
    pub final_tier: String,
    /// Broken invariants. Not empty means a defect of tiershift.
    pub violations: Vec<String>,
    /// What a reader should know about the input.
    pub warnings: Vec<String>,
    /// The serving rung over time: each change with its moment, beginning at zero.
    #[serde(skip)]
    pub timeline: Vec<(Timestamp, Rung)>,
}

/// Time on one rung.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct TierSeconds {
    /// Name of the tier.
    pub tier: String,
    /// Seconds served from it.
    pub seconds: f64,
}

/// What became of the requests. `accepted = done + failed + cancelled + rejected after waiting + still open`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct RequestCounts {
    /// Arrived.
    pub arrived: u64,
    /// Taken on: started or queued.
    pub accepted: u64,
    /// Completed.
    pub done: u64,
    /// Broken by the model or its server.
    pub failed: u64,
    /// Refused, at once or after waiting.
    pub rejected: u64,
    /// Stopped.
    pub cancelled: u64,
    /// Not ended when the run was.
    pub open: u64,
}

/// Points of a distribution, in milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Percentiles {
    /// Median.
    pub p50: f64,
    /// 95th percentile.
    pub p95: f64,
    /// 99th percentile.
    pub p99: f64,
}
