//! Compares a run with what was expected of it.

use std::fmt;

use super::{Bound, Expect, Figure};
use crate::catalog::Catalog;
use crate::event::{Event, Output, Record};
use crate::summary::Summary;
use crate::time::{Timestamp, span_text};

/// Watches a run's records, in order, and compares its summary at the end.
///
/// It needs records in which every change is written (`--log changes` or `full`); they need not be kept.
#[derive(Clone, Debug)]
pub struct Checker<'e> {
    expect: &'e Expect,
    /// Patterns of `order` that have happened.
    in_order: usize,
    /// The first event that broke each pattern of `never`.
    broken: Vec<Option<(Timestamp, u64)>>,
    /// How often each of `events` happened in its window.
    counts: Vec<u64>,
    /// The serving tier over time: each change, the first at zero.
    tiers: Vec<(Timestamp, String)>,
}

/// An expectation that was not met.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unmet {
    /// The key in `[expect]`; `violations` for broken invariants, which no key allows.
    pub expectation: &'static str,
    /// What came of the run.
    pub got: String,
    /// What was expected.
    pub want: String,
}

impl fmt::Display for Unmet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: got {}, want {}", self.expectation, self.got, self.want)
    }
}

impl<'e> Checker<'e> {
    pub(super) fn new(expect: &'e Expect) -> Self {
        Self {
            expect,
            in_order: 0,
            broken: vec![None; expect.never.len()],
            counts: vec![0; expect.events.len()],
            tiers: vec![(Timestamp::ZERO, NO_TIER.to_owned())],
        }
    }

    /// Takes the next record.
    pub fn observe(&mut self, record: &Record, catalog: &Catalog) {
        let event = &record.event;
        if let Event::Output(Output::Switched { from, to, .. }) = event
            && from != to
        {
            self.tiers.push((record.at, catalog.tier_name(*to).to_owned()));
        }
        if self.expect.order.get(self.in_order).is_some_and(|next| next.matches(event, catalog)) {
            self.in_order += 1;
        }
        for (pattern, broken) in self.expect.never.iter().zip(&mut self.broken) {
            if broken.is_none() && pattern.matches(event, catalog) {
                *broken = Some((record.at, record.seq));
            }
        }
        for (want, count) in self.expect.events.iter().zip(&mut self.counts) {
            let from = want.from.map_or(Timestamp::ZERO, |from| Timestamp::ZERO + from.0);
            let until = want.until.map_or(Timestamp::MAX, |until| Timestamp::ZERO + until.0);
            if (from..until).contains(&record.at) && want.event.matches(event, catalog) {
                *count += 1;
            }
        }
    }

    /// Returns the expectations that the run did not meet, in the order of the documentation.
    pub fn finish(&self, summary: &Summary) -> Vec<Unmet> {
        let mut unmet = Vec::new();
        self.compare_figures(summary, &mut unmet);
        self.compare_tiers(summary, &mut unmet);
        self.compare_requests(summary, &mut unmet);
        self.compare_events(&mut unmet);
        if let Some(first) = summary.violations.first() {
            let got = format!("{} broken, the first: {first}", summary.violations.len());
            unmet.push(Unmet { expectation: "violations", got, want: "0".to_owned() });
        }
        unmet
    }

    fn compare_figures(&self, got: &Summary, unmet: &mut Vec<Unmet>) {
        let want = self.expect;
        check(unmet, "switches", want.switches.as_ref(), &got.switches);
        check(unmet, "upgrades", want.upgrades.as_ref(), &got.upgrades);
        check(unmet, "downgrades", want.downgrades.as_ref(), &got.downgrades);
        check(unmet, "reversals", want.reversals.as_ref(), &got.reversals);
        let per_hour = want.switches_per_hour.as_ref();
        check(unmet, "switches-per-hour", per_hour, &got.switches_per_hour_peak);
        let flaps = got.reversals + got.wasted_loads;
        if let Some(budget) = want.flap_budget.filter(|budget| flaps > *budget) {
            unmet.push(Unmet {
                expectation: "flap-budget",
                got: format!(
                    "{flaps} ({} reversals, {} wasted loads)",
                    got.reversals, got.wasted_loads
                ),
                want: format!("at most {budget}"),
            });
        }
        check(unmet, "wasted-loads", want.wasted_loads.as_ref(), &got.wasted_loads);
        check(unmet, "loads", want.loads.as_ref(), &got.loads);
        check(unmet, "failed-loads", want.failed_loads.as_ref(), &got.failed_loads);
        let above = want.seconds_above_degrade_line.as_ref();
        check(unmet, "seconds-above-degrade-line", above, &got.seconds_above_degrade_line);
        let over = want.seconds_over_memory.as_ref();
        check(unmet, "seconds-over-memory", over, &got.seconds_over_memory);
        let avoidable = got.seconds_over_memory - got.seconds_over_memory_unavoidable;
        let over = want.seconds_over_memory_avoidable.as_ref();
        check(unmet, "seconds-over-memory-avoidable", over, &avoidable.max(0.0));
        let events = want.out_of_memory_events.as_ref();
        check(unmet, "out-of-memory-events", events, &got.out_of_memory_events);
    }

    fn compare_tiers(&self, got: &Summary, unmet: &mut Vec<Unmet>) {
        if let Some(want) = self.expect.final_tier.as_ref().filter(|want| **want != got.final_tier)
        {
            unmet.push(Unmet {
                expectation: "final-tier",
                got: got.final_tier.clone(),
                want: want.clone(),
            });
        }
        for want in &self.expect.tier_at {
            let tier = self.tier_at(Timestamp::ZERO + want.at.0);
            if tier != want.tier {
                unmet.push(Unmet {
                    expectation: "tier-at",
                    got: tier.to_owned(),
                    want: format!("{} at {}", want.tier, span_text(want.at.0)),
                });
            }
        }
        for want in &self.expect.tier_within {
            let from = Timestamp::ZERO + want.from.0;
            let until = from + want.within.0;
            let during = self.tiers.iter().filter(|(at, _)| (from..=until).contains(at));
            let mut served = vec![self.tier_at(from)];
            served.extend(during.map(|(_, tier)| tier.as_str()));
            if !served.contains(&want.tier.as_str()) {
                unmet.push(Unmet {
                    expectation: "tier-within",
                    got: served.join(", then "),
                    want: format!(
                        "{} within {} from {}",
                        want.tier,
                        span_text(want.within.0),
                        span_text(want.from.0)
                    ),
                });
            }
        }
    }

    fn compare_requests(&self, got: &Summary, unmet: &mut Vec<Unmet>) {
        let want = self.expect;
        check(unmet, "arrived", want.arrived.as_ref(), &got.requests.arrived);
        check(unmet, "done", want.done.as_ref(), &got.requests.done);
        check(unmet, "failed", want.failed.as_ref(), &got.requests.failed);
        check(unmet, "cancelled", want.cancelled.as_ref(), &got.requests.cancelled);
        check(unmet, "rejected", want.rejected.as_ref(), &got.requests.rejected);
        check(unmet, "open", want.open.as_ref(), &got.requests.open);
        let millis = |ms: f64| Shown(ms, span_text(crate::time::from_secs_f64(ms / 1000.0)));
        let latency = |pick: fn(&crate::summary::Percentiles) -> f64| {
            got.latency_ms.as_ref().map(|points| millis(pick(points)))
        };
        check_some(unmet, "latency-p50", want.latency_p50.as_ref(), latency(|p| p.p50));
        check_some(unmet, "latency-p95", want.latency_p95.as_ref(), latency(|p| p.p95));
        check_some(unmet, "latency-p99", want.latency_p99.as_ref(), latency(|p| p.p99));
        let first_token = got.first_token_ms.as_ref().map(|points| millis(points.p95));
        check_some(unmet, "first-token-p95", want.first_token_p95.as_ref(), first_token);
        let share = |fraction: f64| Shown(fraction, format!("{:.3}%", fraction * 100.0));
        check_some(unmet, "availability", want.availability.as_ref(), got.availability.map(share));
        let quality = Some(share(got.quality_served_fraction));
        check_some(unmet, "quality", want.quality.as_ref(), quality);
    }

    fn compare_events(&self, unmet: &mut Vec<Unmet>) {
        let want = self.expect;
        if let Some(missing) = want.order.get(self.in_order) {
            let before = match self.in_order.checked_sub(1) {
                Some(last) => format!("`{missing}` did not happen after `{}`", want.order[last]),
                None => format!("`{missing}` did not happen"),
            };
            let patterns: Vec<String> = want.order.iter().map(ToString::to_string).collect();
            unmet.push(Unmet { expectation: "order", got: before, want: patterns.join(", then ") });
        }
        for (pattern, broken) in want.never.iter().zip(&self.broken) {
            if let Some((at, seq)) = broken {
                let moment = span_text(std::time::Duration::from_nanos(at.as_nanos()));
                unmet.push(Unmet {
                    expectation: "never",
                    got: format!("`{pattern}` at {moment} (record {seq})"),
                    want: format!("never `{pattern}`"),
                });
            }
        }
        for (want, count) in want.events.iter().zip(&self.counts) {
            if !want.count.holds(count.figure()) {
                let from = want.from.map(|from| format!(" from {}", span_text(from.0)));
                let until = want.until.map(|until| format!(" until {}", span_text(until.0)));
                unmet.push(Unmet {
                    expectation: "events",
                    got: count.to_string(),
                    want: format!(
                        "{} times `{}`{}{}",
                        want.count,
                        want.event,
                        from.unwrap_or_default(),
                        until.unwrap_or_default()
                    ),
                });
            }
        }
    }

    fn tier_at(&self, moment: Timestamp) -> &str {
        let after = self.tiers.partition_point(|(at, _)| *at <= moment);
        self.tiers[..after].last().map_or(NO_TIER, |(_, tier)| tier)
    }
}

/// A figure and the way it is shown.
struct Shown(f64, String);

fn check<T: Figure, G: Figure>(
    unmet: &mut Vec<Unmet>,
    expectation: &'static str,
    want: Option<&Bound<T>>,
    got: &G,
) {
    check_some(unmet, expectation, want, Some(Shown(got.figure(), got.shown())));
}

fn check_some<T: Figure>(
    unmet: &mut Vec<Unmet>,
    expectation: &'static str,
    want: Option<&Bound<T>>,
    got: Option<Shown>,
) {
    let Some(want) = want else { return };
    if !got.as_ref().is_some_and(|Shown(figure, _)| want.holds(*figure)) {
        let got = got.map_or_else(|| "no request that tells".to_owned(), |Shown(_, text)| text);
        unmet.push(Unmet { expectation, got, want: want.to_string() });
    }
}

const NO_TIER: &str = "none";
