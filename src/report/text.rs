//! A run's figures as a short table for people.

use comfy_table::{ContentArrangement, Table, presets};
use tiershift_core::text;

use crate::summary::{CompanionFigures, Comparison, Percentiles, Summary, TierSeconds};
use crate::wall::WallTime;

/// Returns the most important figures, one per line, without colours.
pub fn text_summary(summary: &Summary) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    for (name, value) in figures(summary) {
        table.add_row([name.to_owned(), value]);
    }
    if let Some(names) = table.column_mut(0) {
        names.set_padding((0, 2));
    }
    let mut text = String::new();
    for line in table.lines() {
        text.push_str(line.trim_end());
        text.push('\n');
    }
    for violation in &summary.violations {
        text.push_str(&format!("violation: {violation}\n"));
    }
    for warning in &summary.warnings {
        text.push_str(&format!("warning: {warning}\n"));
    }
    text
}

/// Returns the figures with their names.
pub(super) fn figures(summary: &Summary) -> Vec<(&'static str, String)> {
    let mut samples = format!("{}", summary.samples);
    for (count, what) in
        [(summary.samples_missing, "missing"), (summary.rejected_rows, "rows rejected")]
    {
        if count > 0 {
            samples.push_str(&format!(", {count} {what}"));
        }
    }
    let started_at = summary.started_at.map(WallTime::described);
    let mut rows = vec![("policy", summary.policy.clone())];
    rows.extend(started_at.map(|started_at| ("started at", started_at)));
    rows.extend([
        ("time", text::seconds(summary.seconds)),
        ("samples", samples),
        (
            "switches",
            format!(
                "{} ({} up, {} down), {}, at most {} an hour",
                summary.switches,
                summary.upgrades,
                summary.downgrades,
                text::count(summary.reversals, "reversal"),
                summary.switches_per_hour_peak
            ),
        ),
        (
            "loads",
            format!(
                "{} ({} wasted, {} failed), {} loading",
                summary.loads,
                summary.wasted_loads,
                summary.failed_loads,
                text::seconds(summary.reload_seconds)
            ),
        ),
        ("quality served", format!("{:.3}", summary.quality_served_fraction)),
        ("tiers", tiers(summary)),
    ]);
    rows.extend(summary.companions.iter().map(|it| ("companions", companion(it, summary))));
    if let Some(comparison) = &summary.comparison {
        rows.push(("would have fitted", shares(&comparison.tier_seconds_fitting, summary.seconds)));
        rows.push(("optimum", optimum(comparison)));
        rows.push((
            "below best fitting",
            format!(
                "{}; {} at none while the smallest fitted",
                text::seconds(comparison.seconds_below_best_fitting),
                text::seconds(comparison.seconds_at_none_while_smallest_fitted)
            ),
        ));
    }
    rows.extend([
        ("above degrade line", text::seconds(summary.seconds_above_degrade_line)),
        (
            "over memory",
            format!(
                "{} ({} unavoidable){}",
                text::seconds(summary.seconds_over_memory),
                text::seconds(summary.seconds_over_memory_unavoidable),
                match summary.out_of_memory_events {
                    0 => String::new(),
                    times => {
                        format!("; memory and swap exhausted {}", text::count(times, "time"))
                    }
                }
            ),
        ),
    ]);
    rows.extend(over_vram(summary).map(|over| ("over video memory", over)));
    let requests = &summary.requests;
    if requests.arrived > 0 {
        let availability =
            summary.availability.map(|share| format!(", {:.2}% available", share * 100.0));
        rows.push((
            "requests",
            format!(
                "{} arrived: {} done, {} failed, {} rejected, {} cancelled, {} open{}",
                requests.arrived,
                requests.done,
                requests.failed,
                requests.rejected,
                requests.cancelled,
                requests.open,
                availability.unwrap_or_default()
            ),
        ));
    }
    for (name, spans) in [("latency", summary.latency_ms), ("first token", summary.first_token_ms)]
    {
        if let Some(spans) = spans {
            rows.push((name, percentiles(&spans)));
        }
    }
    rows.push(("fingerprint", summary.fingerprint.clone()));
    if let Some(digest) = &summary.log_digest {
        rows.push(("log digest", digest.clone()));
    }
    rows
}

/// Returns the time over the memory of GPUs, separately for each if there are several.
fn over_vram(summary: &Summary) -> Option<String> {
    let any = text::seconds(summary.seconds_over_vram?);
    let each = (0..).zip(&summary.seconds_over_vram_by_gpu);
    let each: Vec<String> = each
        .filter(|&(_, &seconds)| seconds > 0.0)
        .map(|(gpu, &seconds): (u32, _)| format!("GPU {gpu} {}", text::seconds(seconds)))
        .collect();
    Some(if each.is_empty() { any } else { format!("{any} ({})", each.join(", ")) })
}

fn optimum(comparison: &Comparison) -> String {
    let best = &comparison.optimum;
    let found = format!("quality {:.3} in {}", best.quality, text::count(best.switches, "switch"));
    match (comparison.share_of_optimum, comparison.share_of_optimum_without_reversals) {
        (Some(free), Some(one_way)) => format!(
            "{found}; ours {free:.3} of its score ({one_way:.3} of the best without reversals)"
        ),
        (Some(free), None) => format!("{found}; ours {free:.3} of its score"),
        (None, _) => format!(
            "{found}: no switch is worth its price ({}) in this run, which is too short or has no room",
            text::seconds(comparison.price_seconds)
        ),
    }
}

fn tiers(summary: &Summary) -> String {
    let tiers = summary.tier_seconds.iter().filter(|time| time.seconds > 0.0);
    shares(tiers, summary.seconds)
}

/// Returns the share of all seconds that each tier has: `small 12.5%, large 87.5%`.
fn shares<'a>(tiers: impl IntoIterator<Item = &'a TierSeconds>, seconds: f64) -> String {
    let share = |part: f64| if seconds > 0.0 { part / seconds * 100.0 } else { 0.0 };
    let each = tiers.into_iter().map(|time| format!("{} {:.1}%", time.tier, share(time.seconds)));
    each.collect::<Vec<_>>().join(", ")
}

fn companion(figures: &CompanionFigures, summary: &Summary) -> String {
    let share = if summary.seconds > 0.0 { figures.seconds / summary.seconds } else { 0.0 };
    let CompanionFigures { model, loads, given_up, .. } = figures;
    let (loads, times) = (text::count(*loads, "load"), text::count(*given_up, "time"));
    format!("{model} {:.1}%, {loads}, given up {times}", share * 100.0)
}

fn percentiles(spans: &Percentiles) -> String {
    let text = |millis: f64| text::seconds(millis / 1000.0);
    format!("p50 {}, p95 {}, p99 {}", text(spans.p50), text(spans.p95), text(spans.p99))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::summary::{Optimum, RequestCounts};

    #[test]
    fn the_figures_fit_on_a_screen() {
        let tier = |tier: &str, seconds| TierSeconds { tier: tier.to_owned(), seconds };
        let summary = Summary {
            fingerprint: "00ff".to_owned(),
            log_digest: Some("ff00".to_owned()),
            policy: "proactive".to_owned(),
            started_at: Some("2026-01-31T02:13:00+01:00".parse().unwrap()),
            seconds: 99_360.0,
            samples: 49_680,
            rejected_rows: 12,
            switches: 6,
            upgrades: 4,
            downgrades: 2,
            switches_per_hour_peak: 1,
            loads: 6,
            reload_seconds: 31.5,
            seconds_over_memory: 12.25,
            quality_served_fraction: 0.75432,
            comparison: Some(Comparison {
                score: 0.750,
                optimum: Optimum { quality: 0.842, switches: 12, score: 0.834 },
                share_of_optimum: Some(0.899),
                share_of_optimum_without_reversals: Some(0.995),
                seconds_at_none_while_smallest_fitted: 12.0,
                seconds_below_best_fitting: 512.0,
                tier_seconds_fitting: vec![tier("small", 99_360.0), tier("large", 99_310.32)],
                ..Comparison::default()
            }),
            tier_seconds: vec![tier("none", 99.36), tier("small", 0.0), tier("large", 99_260.64)],
            requests: RequestCounts {
                arrived: 100,
                accepted: 99,
                done: 98,
                rejected: 2,
                ..RequestCounts::default()
            },
            latency_ms: Some(Percentiles { p50: 950.0, p95: 12_000.0, p99: 61_000.0 }),
            availability: Some(0.98),
            warnings: vec!["12 rows rejected: not a number".to_owned()],
            ..Summary::default()
        };
        insta::assert_snapshot!(text_summary(&summary));
    }
}
