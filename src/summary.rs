//! The result of a run in numbers: the shape of `summary.json`, and the [`Fold`] that computes it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize, Serializer};
use tiershift_core::catalog::Rung;
use tiershift_core::time::Timestamp;

use crate::wall::WallTime;

mod account;
mod fold;
mod latency;
mod open_changes;

pub use account::{Account, OverVram};
pub use fold::Fold;
pub(crate) use fold::Reversals;
pub(crate) use open_changes::OpenChanges;

/// The figures of a run. Counts are exact; seconds and fractions are rounded to six decimals when written.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Summary {
    /// Digest of everything that determines the run: trace or scenario, settings, catalog, seed, log format.
    pub fingerprint: String,
    /// Digest of the resulting event log; absent with the log off.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log_digest: Option<String>,
    /// Name of the policy that decided.
    pub policy: String,
    /// Date and time of the run's beginning as the recording writes it, with its offset from UTC if known; absent if
    /// the recording does not state it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<WallTime>,
    /// Length of the run in virtual seconds.
    #[serde(serialize_with = "six_decimals")]
    pub seconds: f64,
    /// Readings of the machine that the controller was given.
    pub samples: u64,
    /// Readings that were missing.
    pub samples_missing: u64,
    /// Rows of the trace that were refused, with counts by reason in `warnings`.
    pub rejected_rows: u64,
    /// Requests of a request trace that arrived before the machine was recorded, after it, or during a silence of
    /// hours; absent if there are none.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub requests_left_out: u64,
    /// Completed changes of the serving rung.
    pub switches: u64,
    /// Switches that were called off on the way: no idle moment was found for an upgrade, or its room was gone.
    pub switches_called_off: u64,
    /// Orders that were refused, at once or later.
    pub orders_refused: u64,
    /// Switches upwards.
    pub upgrades: u64,
    /// Switches downwards.
    pub downgrades: u64,
    /// Switches that go in the opposite direction of the one before them and complete less than the reversal window
    /// after it; the first load of a run has none before it.
    pub reversals: u64,
    /// Most switches in any 60 minutes, not including the last moment.
    pub switches_per_hour_peak: u64,
    /// Models loaded, or half loaded, and dropped before they served anything. In a run without requests, where no
    /// model serves anything, loads that were dropped within the reversal window. What is dropped because the run is
    /// shut down is not wasted.
    pub wasted_loads: u64,
    /// Loads begun.
    pub loads: u64,
    /// Loads that failed.
    pub failed_loads: u64,
    /// Processes of models that died.
    pub crashes: u64,
    /// Loads, unloads and requests that the server did not answer in time.
    pub timeouts: u64,
    /// Time spent loading models, including failed and abandoned loads.
    #[serde(serialize_with = "six_decimals")]
    pub reload_seconds: f64,
    /// Shortest time between two completed switches; absent with fewer than two.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "six_decimals_or_none")]
    pub shortest_dwell_seconds: Option<f64>,
    /// Time with any space resource above the degrade line.
    #[serde(serialize_with = "six_decimals")]
    pub seconds_above_degrade_line: f64,
    /// Time with memory use above the machine's memory.
    #[serde(serialize_with = "six_decimals")]
    pub seconds_over_memory: f64,
    /// How much of that time is unavoidable, even with the best rung that fits and a reaction to each sample at once:
    /// the time in which others alone are over the memory and, after each jump of others that leaves too little for the
    /// best rung that fitted before it, the time of an unload. It follows from others' use alone, so that it is the
    /// same for every policy: one with less loaded may be over memory for a shorter time than this. With others that
    /// react to the free room, in a scenario, it differs.
    #[serde(serialize_with = "six_decimals")]
    pub seconds_over_memory_unavoidable: f64,
    /// Time with use of video memory above that of a GPU, for any GPU; absent if the machine has no GPU. Unlike for
    /// memory, the unavoidable part is not computed: for one space it follows from others' use alone, but here it
    /// depends on where each policy has put its models.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        serialize_with = "six_decimals_or_none"
    )]
    pub seconds_over_vram: Option<f64>,
    /// The same for each GPU, in the machine's order; absent with fewer than two.
    #[serde(default, skip_serializing_if = "Vec::is_empty", serialize_with = "six_decimals_each")]
    pub seconds_over_vram_by_gpu: Vec<f64>,
    /// How often memory and swap were both exhausted.
    pub out_of_memory_events: u64,
    /// Quality of the serving model, averaged over time. Time without a ready model counts zero, including the time
    /// between the unloading of one model and the readiness of the next.
    #[serde(serialize_with = "six_decimals")]
    pub quality_served_fraction: f64,
    /// Quality of the model that answered, averaged over the requests that clients did not cancel; one that was refused
    /// or broke counts zero.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "six_decimals_or_none")]
    pub quality_by_requests: Option<f64>,
    /// The comparison of the run with the best possible schedule; absent if no optimum was computed.
    #[serde(flatten)]
    pub comparison: Option<Comparison>,
    /// Seconds in which a model of each rung served, by tier name in ladder order, `none` first.
    pub tier_seconds: Vec<TierSeconds>,
    /// The figures of each companion, in the catalog's order; absent if there are none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub companions: Vec<CompanionFigures>,
    /// The outcomes of the requests.
    pub requests: RequestCounts,
    /// Time from arrival to the last token of completed requests.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub latency_ms: Option<Percentiles>,
    /// Time from arrival to the first token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_token_ms: Option<Percentiles>,
    /// Share of ended requests that were done. A client that hung up does not count against it.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "six_decimals_or_none")]
    pub availability: Option<f64>,
    /// Tier that serves at the end.
    pub final_tier: String,
    /// Broken invariants. Not empty means a defect of tiershift.
    pub violations: Vec<String>,
    /// Warnings about the input.
    pub warnings: Vec<String>,
    /// The rung over time: each completed switch with its moment, after the rung at zero.
    #[serde(skip)]
    pub timeline: Vec<(Timestamp, Rung)>,
    /// Its times under memory pressure to the nanosecond, for the line of the log.
    #[serde(skip)]
    pub account: Account,
}

impl Summary {
    /// Returns the bytes of `summary.json`.
    pub fn to_json(&self) -> String {
        let mut json =
            serde_json::to_string_pretty(self).expect("plain data with text keys is always JSON");
        json.push('\n');
        json
    }
}

/// The comparison of the run with the best possible schedule, chosen with knowledge of the whole recording. The score
/// of a schedule is the quality served, less [`price`](tiershift_core::settings::RawSettings::price) times the quality
/// of the top rung for each switch, averaged over the run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Comparison {
    /// The cost of a switch, in seconds of the top rung's service.
    #[serde(serialize_with = "six_decimals")]
    pub price_seconds: f64,
    /// Score of this run.
    #[serde(serialize_with = "six_decimals")]
    pub score: f64,
    /// The best schedule of all.
    pub optimum: Optimum,
    /// The best schedule without a reversal.
    pub optimum_without_reversals: Optimum,
    /// Score of this run as a share of the optimum's; absent if that is not above zero.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        serialize_with = "six_decimals_or_none"
    )]
    pub share_of_optimum: Option<f64>,
    /// The same for the optimum without reversals.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        serialize_with = "six_decimals_or_none"
    )]
    pub share_of_optimum_without_reversals: Option<f64>,
    /// Time in which nothing served although the smallest rung fitted.
    #[serde(serialize_with = "six_decimals")]
    pub seconds_at_none_while_smallest_fitted: f64,
    /// Time in which what served was below the highest rung that fitted.
    #[serde(serialize_with = "six_decimals")]
    pub seconds_below_best_fitting: f64,
    /// Seconds in which each rung fitted beside others' use, whatever served, by tier name in ladder order.
    #[serde(default)]
    pub tier_seconds_fitting: Vec<TierSeconds>,
}

/// The result of the best schedule.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Optimum {
    /// Quality of what serves, averaged over time.
    #[serde(serialize_with = "six_decimals")]
    pub quality: f64,
    /// Its switches.
    pub switches: u64,
    /// Its score.
    #[serde(serialize_with = "six_decimals")]
    pub score: f64,
}

/// Time on one rung.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TierSeconds {
    /// Name of the tier.
    pub tier: String,
    /// Seconds in which it served.
    #[serde(serialize_with = "six_decimals")]
    pub seconds: f64,
}

/// The figures of a companion.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct CompanionFigures {
    /// The model.
    pub model: String,
    /// Seconds in which it served.
    #[serde(serialize_with = "six_decimals")]
    pub seconds: f64,
    /// How often it was loaded because there was room.
    pub loads: u64,
    /// How often it was given up because space was short.
    pub given_up: u64,
}

/// The outcomes of the requests. `accepted = done + failed + cancelled + rejected after waiting + still open`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RequestCounts {
    /// Arrived.
    pub arrived: u64,
    /// Accepted: started or queued.
    pub accepted: u64,
    /// Completed.
    pub done: u64,
    /// Failed because of the model or its server.
    pub failed: u64,
    /// Refused, at once or after waiting.
    pub rejected: u64,
    /// Stopped.
    pub cancelled: u64,
    /// Not ended at the end of the run.
    pub open: u64,
}

/// Points of a distribution, in milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Percentiles {
    /// Median.
    #[serde(serialize_with = "six_decimals")]
    pub p50: f64,
    /// 95th percentile.
    #[serde(serialize_with = "six_decimals")]
    pub p95: f64,
    /// 99th percentile.
    #[serde(serialize_with = "six_decimals")]
    pub p99: f64,
}

fn is_zero(count: &u64) -> bool {
    *count == 0
}

/// Seconds and shares are written to the millionth: smaller differences are rounding, not measurement.
fn six_decimals<S: Serializer>(value: &f64, out: S) -> Result<S::Ok, S::Error> {
    out.serialize_f64((value * 1e6).round() / 1e6)
}

fn six_decimals_or_none<S: Serializer>(value: &Option<f64>, out: S) -> Result<S::Ok, S::Error> {
    match value {
        Some(value) => six_decimals(value, out),
        None => out.serialize_none(),
    }
}

fn six_decimals_each<S: Serializer>(values: &[f64], out: S) -> Result<S::Ok, S::Error> {
    out.collect_seq(values.iter().map(|value| (value * 1e6).round() / 1e6))
}

/// The beginning of the warning that explains why no model was ever loaded.
pub const NONE_LOADED: &str = "no model was loaded";

#[cfg(test)]
mod tests;
