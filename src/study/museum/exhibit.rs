//! One incident: its outcome under the idea behind it, and under ours.

use std::path::Path;
use std::time::Duration;

use tiershift_core::policy::Registry;
use tiershift_core::text;
use tiershift_core::time::span_text;

use crate::scenario;
use crate::study::suite::{self, SuiteError};
use crate::summary::{Percentiles, Summary};

/// The outcome of an incident.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Exhibit {
    /// The scenario's name.
    pub scenario: String,
    /// The public report, as `owner/repository#number`.
    pub incident: String,
    /// The idea: the baseline's policy.
    pub idea: String,
    /// The key of `[expect]` that shows most: the first of the baseline's `fails` that is a figure.
    pub figure: String,
    /// That figure under the idea.
    pub under_idea: String,
    /// The same under the scenario's own policy.
    pub under_ours: String,
    /// Whether the idea violates everything that the baseline states it must.
    pub idea_is_red: bool,
    /// Whether ours meets every expectation.
    pub ours_is_green: bool,
}

/// Plays the scenario of a file under its own policy and under its baseline; `None` if it is not about an incident.
///
/// # Errors
/// When the scenario cannot be read or run at all.
pub fn exhibit(path: &Path, policies: &Registry) -> Result<Option<Exhibit>, SuiteError> {
    let scenario = scenario::load(path, policies)?;
    let (Some(incident), Some(baseline)) = (&scenario.incident, &scenario.baseline) else {
        return Ok(None);
    };
    let ours = suite::play(&scenario, None, policies)?;
    let idea = suite::play(&scenario.clone().with_policy(&baseline.policy), None, policies)?;
    let shown = |key: &String| {
        Some((key.clone(), figure(key, &idea.summary)?, figure(key, &ours.summary)?))
    };
    let telling = baseline.fails.iter().find_map(shown);
    let (figure, under_idea, under_ours) = telling.unwrap_or_default();
    Ok(Some(Exhibit {
        scenario: scenario.name.clone(),
        incident: incident.clone(),
        idea: baseline.policy.name().to_owned(),
        figure,
        under_idea,
        under_ours,
        idea_is_red: baseline.fails.iter().all(|key| idea.unmet_keys.contains(&key.as_str())),
        ours_is_green: ours.unmet.is_empty(),
    }))
}

/// Returns the figure of a summary that a key of `[expect]` is about, in human units; `None` if the key is not about a
/// figure.
fn figure(key: &str, summary: &Summary) -> Option<String> {
    let requests = &summary.requests;
    let count = |count: u64| Some(count.to_string());
    let seconds = |seconds: f64| Some(text::seconds(seconds));
    let share = |share: f64| Some(format!("{:.1}%", share * 100.0));
    let span = |points: Option<Percentiles>, of: fn(Percentiles) -> f64| {
        // A hundredth of a second is enough.
        let rounded = |ms: f64| Duration::from_millis((ms / 10.0).round() as u64 * 10);
        Some(points.map_or_else(|| "none".to_owned(), |points| span_text(rounded(of(points)))))
    };
    match key {
        "switches" => count(summary.switches),
        "upgrades" => count(summary.upgrades),
        "downgrades" => count(summary.downgrades),
        "reversals" => count(summary.reversals),
        "wasted-loads" => count(summary.wasted_loads),
        "loads" => count(summary.loads),
        "failed-loads" => count(summary.failed_loads),
        "out-of-memory-events" => count(summary.out_of_memory_events),
        "done" => count(requests.done),
        "failed" => count(requests.failed),
        "cancelled" => count(requests.cancelled),
        "rejected" => count(requests.rejected),
        "open" => count(requests.open),
        "seconds-above-degrade-line" => seconds(summary.seconds_above_degrade_line),
        "seconds-over-memory" => seconds(summary.seconds_over_memory),
        "latency-p50" => span(summary.latency_ms, |points| points.p50),
        "latency-p95" => span(summary.latency_ms, |points| points.p95),
        "latency-p99" => span(summary.latency_ms, |points| points.p99),
        "first-token-p95" => span(summary.first_token_ms, |points| points.p95),
        "availability" => share(summary.availability.unwrap_or(0.0)),
        "quality" => share(summary.quality_served_fraction),
        "final-tier" => Some(summary.final_tier.clone()),
        _ => None,
    }
}
