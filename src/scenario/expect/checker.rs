//! Compares a run with its expectations.

use std::fmt;

use tiershift_core::catalog::Catalog;
use tiershift_core::event::{EventRef, Observe, Output};
use tiershift_core::time::{Timestamp, span_text};

use super::{Bound, Expect, Figure};
use crate::summary::Summary;

/// Observes a run, every event of it, and compares its summary at the end.
#[derive(Clone, Debug)]
pub struct Checker<'e> {
    expect: &'e Expect,
    catalog: &'e Catalog,
    /// Events observed.
    seq: u64,
    /// Patterns of `order` that have happened.
    in_order: usize,
    /// The first event that violated each pattern of `never`.
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
    /// The result of the run.
    pub got: String,
    /// What was expected.
    pub want: String,
}

impl fmt::Display for Unmet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: got {}, want {}", self.expectation, self.got, self.want)
    }
}

impl Observe for Checker<'_> {
    fn observe(&mut self, at: Timestamp, event: EventRef<'_>) {
        let catalog = self.catalog;
        if let EventRef::Output(Output::Serving { rung, .. }) = event {
            self.tiers.push((at, catalog.tier_name(*rung).to_owned()));
        }
        if self.expect.order.get(self.in_order).is_some_and(|next| next.matches(event, catalog)) {
            self.in_order += 1;
        }
        for (pattern, broken) in self.expect.never.iter().zip(&mut self.broken) {
            if broken.is_none() && pattern.matches(event, catalog) {
                *broken = Some((at, self.seq));
            }
        }
        for (want, count) in self.expect.events.iter().zip(&mut self.counts) {
            let from = want.from.map_or(Timestamp::ZERO, |from| Timestamp::ZERO + from.0);
            let until = want.until.map_or(Timestamp::MAX, |until| Timestamp::ZERO + until.0);
            if (from..until).contains(&at) && want.event.matches(event, catalog) {
                *count += 1;
            }
        }
        self.seq += 1;
    }
}

impl<'e> Checker<'e> {
    pub(super) fn new(expect: &'e Expect, catalog: &'e Catalog) -> Self {
        Self {
            expect,
            catalog,
            seq: 0,
            in_order: 0,
            broken: vec![None; expect.never.len()],
            counts: vec![0; expect.events.len()],
            tiers: vec![(Timestamp::ZERO, NO_TIER.to_owned())],
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
            let got = format!("{} broken; the first: {first}", summary.violations.len());
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
        let over = want.seconds_over_vram.as_ref();
        check(unmet, "seconds-over-vram", over, &got.seconds_over_vram.unwrap_or(0.0));
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
        let millis =
            |ms: f64| Shown(ms, span_text(tiershift_core::time::from_secs_f64(ms / 1000.0)));
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
        let got = got.map_or_else(|| "no request to judge by".to_owned(), |Shown(_, text)| text);
        unmet.push(Unmet { expectation, got, want: want.to_string() });
    }
}

const NO_TIER: &str = "none";

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tiershift_core::catalog::{LadderId, Rung};
    use tiershift_core::decision::{Action, Decision, Reason, Urgency};
    use tiershift_core::event::{
        Command, CompanionNews, Event, Input, Notice, OrderNews, Outcome, Verdict,
    };
    use tiershift_core::model::{Model, ModelId};
    use tiershift_core::request::{CancelledBy, End, Rejection, Request, RequestId};
    use tiershift_core::units::Bytes;

    use super::*;
    use crate::summary::{Percentiles, RequestCounts};

    fn expect(text: &str) -> Expect {
        toml::from_str(text).unwrap_or_else(|error| panic!("{error}"))
    }

    /// Returns the unmet expectations for these events at these seconds and this summary.
    fn unmet(text: &str, events: &[(u64, Event)], summary: &Summary) -> Vec<String> {
        let expect = expect(text);
        let catalog = Catalog::relative_to(Bytes::from_gib(16));
        let mut checker = expect.checker(&catalog);
        for (second, event) in events {
            checker.observe(Timestamp::from_secs(*second), event.as_ref());
        }
        checker.finish(summary).iter().map(ToString::to_string).collect()
    }

    fn decide(action: Action, reason: Reason) -> Event {
        Event::Output(Output::Decision(Decision {
            action,
            rung: Rung(2),
            reason,
            gates: Vec::new(),
        }))
    }

    fn down(to: u8) -> Event {
        let action = Action::Downgrade { to: Rung(to), urgency: Urgency::Immediate };
        decide(action, Reason::Failing { failures: 3 })
    }

    fn switched(from: u8, to: u8) -> Event {
        Event::Output(Output::Switched {
            ladder: LadderId::FIRST,
            from: Rung(from),
            to: Rung(to),
            took: Duration::from_secs(1),
            called_off: None,
        })
    }

    fn serving(rung: u8) -> Event {
        let rung = Rung(rung);
        Event::Output(Output::Serving { ladder: LadderId::FIRST, rung, model: None })
    }

    fn called_off(rung: u8) -> Event {
        let mut event = switched(2, 2);
        if let Event::Output(Output::Switched { called_off, .. }) = &mut event {
            *called_off = Some(Rung(rung));
        }
        event
    }

    fn order(news: OrderNews) -> Event {
        Event::Output(Output::Order { tier: "small".to_owned(), news })
    }

    fn ended(id: u64, end: End) -> Event {
        Event::Output(Output::Ended { request: RequestId(id), end })
    }

    fn done(id: u64, model: &str) -> Event {
        ended(
            id,
            End::Done {
                model: ModelId::from(model),
                first_token: Duration::ZERO,
                latency: Duration::ZERO,
                output_tokens: 1,
            },
        )
    }

    fn command(command: Command) -> Event {
        Event::Output(Output::Command(command))
    }

    fn outcome(outcome: Outcome) -> Event {
        Event::Input(Input::Outcome(outcome))
    }

    #[test]
    fn each_figure_is_held_against_its_bound() {
        let summary = Summary {
            switches: 7,
            reversals: 2,
            wasted_loads: 1,
            seconds_over_memory: 12.0,
            seconds_over_memory_unavoidable: 10.0,
            quality_served_fraction: 0.75,
            requests: RequestCounts { done: 98, rejected: 2, ..RequestCounts::default() },
            latency_ms: Some(Percentiles { p50: 900.0, p95: 2500.0, p99: 4000.0 }),
            availability: Some(0.98),
            final_tier: "medium".to_owned(),
            ..Summary::default()
        };
        let check = |text: &str, want: &[&str]| assert_eq!(unmet(text, &[], &summary), want);
        check("switches = 7", &[]);
        check("switches = 3", &["switches: got 7, want 3"]);
        check("switches = { max = 3 }", &["switches: got 7, want at most 3"]);
        check("switches = { min = 8 }", &["switches: got 7, want at least 8"]);
        check("switches = { min = 7, max = 7 }", &[]);
        check("switches = { min = 1, max = 3 }", &["switches: got 7, want 1 to 3"]);
        check("upgrades = 0\ndowngrades = 0\nloads = 0\nfailed-loads = 0", &[]);
        check("flap-budget = 3", &[]);
        check(
            "flap-budget = 2",
            &["flap-budget: got 3 (2 reversals, 1 wasted loads), want at most 2"],
        );
        check("seconds-over-memory = 0.0", &["seconds-over-memory: got 12, want 0"]);
        check("seconds-over-memory-avoidable = { max = 2.0 }", &[]);
        check(
            "seconds-over-memory-avoidable = { max = 1.5 }",
            &["seconds-over-memory-avoidable: got 2, want at most 1.5"],
        );
        check("rejected = 0\ndone = { min = 98 }", &["rejected: got 2, want 0"]);
        check("latency-p50 = { max = \"1s\" }\nlatency-p99 = { max = \"4s\" }", &[]);
        check("latency-p95 = { max = \"2s\" }", &["latency-p95: got 2s 500ms, want at most 2s"]);
        check(
            "first-token-p95 = { max = \"2s\" }",
            &["first-token-p95: got no request to judge by, want at most 2s"],
        );
        check("availability = { min = \"98%\" }\nquality = { min = \"75%\", max = \"80%\" }", &[]);
        check(
            "availability = { min = \"99%\" }",
            &["availability: got 98.000%, want at least 99%"],
        );
        check("quality = { min = \"76%\" }", &["quality: got 75.000%, want at least 76%"]);
        check("final-tier = \"large\"", &["final-tier: got medium, want large"]);
    }

    #[test]
    fn a_broken_invariant_is_unmet_whatever_was_expected() {
        let summary = Summary { violations: vec!["S3 at 5s".to_owned()], ..Summary::default() };
        assert_eq!(
            unmet("", &[], &summary),
            ["violations: got 1 broken; the first: S3 at 5s, want 0"]
        );
    }

    #[test]
    fn tiers_are_those_that_served_at_the_moment() {
        let events = [(5, serving(2)), (100, switched(2, 2)), (200, serving(1))];
        let check = |text: &str, want: &[&str]| {
            assert_eq!(unmet(text, &events, &Summary::default()), want, "{text}");
        };
        check(
            "tier-at = [{ at = \"4s\", tier = \"none\" }, { at = \"5s\", tier = \"medium\" }]",
            &[],
        );
        check(
            "tier-at = [{ at = \"150s\", tier = \"medium\" }, { at = \"1h\", tier = \"small\" }]",
            &[],
        );
        check(
            "tier-at = [{ at = \"199s\", tier = \"small\" }]",
            &["tier-at: got medium, want small at 3m 19s"],
        );
        check("tier-within = [{ tier = \"small\", from = \"100s\", within = \"100s\" }]", &[]);
        check("tier-within = [{ tier = \"medium\", from = \"100s\", within = \"1s\" }]", &[]);
        check(
            "tier-within = [{ tier = \"small\", from = \"1s\", within = \"198s\" }]",
            &["tier-within: got none, then medium, want small within 3m 18s from 1s"],
        );
    }

    #[test]
    fn events_must_happen_in_their_order() {
        let events = [
            (1, down(1)),
            (2, done(3, "large")),
            (3, command(Command::Unload { model: ModelId::from("large") })),
            (4, switched(3, 1)),
        ];
        let check = |text: &str, want: &[&str]| {
            assert_eq!(unmet(text, &events, &Summary::default()), want, "{text}");
        };
        check(
            "order = [\"downgrade:small\", \"done:#3\", \"unload:large\", \"switched:small\"]",
            &[],
        );
        check("order = [\"downgrade\", \"switched\"]", &[]);
        check(
            "order = [\"unload:large\", \"done:#3\"]",
            &[
                "order: got `done:#3` did not happen after `unload:large`, want unload:large, then done:#3",
            ],
        );
        check("order = [\"upgrade\"]", &["order: got `upgrade` did not happen, want upgrade"]);
        check(
            "order = [\"done\", \"done\"]",
            &["order: got `done` did not happen after `done`, want done, then done"],
        );
    }

    #[test]
    fn what_must_never_happen_and_how_often_what_may() {
        let events = [(1, down(1)), (60, down(1)), (120, down(0))];
        let check = |text: &str, want: &[&str]| {
            assert_eq!(unmet(text, &events, &Summary::default()), want, "{text}");
        };
        check("never = [\"upgrade\", \"downgrade:medium\", \"because:slow\"]", &[]);
        check(
            "never = [\"downgrade:none\"]",
            &["never: got `downgrade:none` at 2m (record 2), want never `downgrade:none`"],
        );
        check("events = [{ event = \"downgrade\" }]", &[]);
        check(
            "events = [{ event = \"downgrade\", from = \"1s\", until = \"60s\", count = 1 }]",
            &[],
        );
        check(
            "events = [{ event = \"downgrade\", from = \"60s\", count = 3 }]",
            &["events: got 2, want 3 times `downgrade` from 1m"],
        );
        check(
            "events = [{ event = \"upgrade\", until = \"60s\" }]",
            &["events: got 0, want at least 1 times `upgrade` until 1m"],
        );
    }

    #[test]
    fn every_pattern_knows_its_event_and_no_other() {
        let large = ModelId::from("large");
        let id = RequestId(4);
        let error = String::new;
        let rejected =
            End::Rejected { reason: Rejection::QueueFull, retry_after: None, estimate: false };
        let cancelled = End::Cancelled { by: CancelledBy::Client, retry_after: None };
        let up = decide(Action::Upgrade { to: Rung(3) }, Reason::Asked);
        let degraded = Notice::Degraded { from: Rung(3), to: Rung(2), reason: Reason::Asked };
        let companion = |news| Event::Output(Output::Companion { model: ModelId::from("e"), news });
        let accepted = |verdict| Event::Output(Output::Accepted { request: id, verdict });
        let table: Vec<(Event, &[&str])> = vec![
            (up, &["upgrade:large", "because:asked"]),
            (down(0), &["downgrade:none", "because:failing"]),
            (decide(Action::Hold, Reason::AtTop), &["hold:at-top"]),
            (switched(1, 3), &["switched:large"]),
            (called_off(3), &["gave-up:large"]),
            (command(Command::Load { model: large.clone(), gpu: None }), &["load:large"]),
            (command(Command::Unload { model: large.clone() }), &["unload:large"]),
            (
                command(Command::Start { request: id, model: large.clone() }),
                &["start:#4", "start:large"],
            ),
            (command(Command::Cancel { request: id }), &["cancel:#4"]),
            (outcome(Outcome::Loaded { model: large.clone() }), &["loaded:large"]),
            (
                outcome(Outcome::LoadFailed { model: large.clone(), error: error() }),
                &["load-failed:large"],
            ),
            (outcome(Outcome::Unloaded { model: large.clone() }), &["unloaded:large"]),
            (outcome(Outcome::Crashed { model: large, error: error() }), &["crash:large"]),
            (Event::Input(Input::Request(Request::chat(4, 1, 1))), &["request:#4"]),
            (Event::Input(Input::Cancel { request: id }), &["hang-up:#4"]),
            (accepted(Verdict::Proceed), &["accepted:#4"]),
            (accepted(Verdict::Queue), &["accepted:#4", "queued:#4"]),
            (accepted(Verdict::ProceedSmaller { rung: Rung(1) }), &["accepted:#4", "smaller:#4"]),
            (done(4, "large"), &["done:#4", "done:large"]),
            (ended(4, End::Failed { error: error() }), &["failed:#4"]),
            (ended(4, cancelled), &["cancelled:#4", "cancelled:client"]),
            (ended(4, rejected), &["rejected:#4", "rejected:queue-full"]),
            (Event::Output(Output::Notice(degraded)), &["notice:degraded"]),
            (Event::Input(Input::SampleMissing { error: error() }), &["sample-missing"]),
            (
                Event::Input(Input::Switch { tier: "small".to_owned(), for_: None }),
                &["asked:small"],
            ),
            (order(OrderNews::Taken { wait: None, until: None }), &["order-taken:small"]),
            (order(OrderNews::Unknown), &["order-refused:small"]),
            (order(OrderNews::Released), &["order-released:small"]),
            (companion(CompanionNews::Wanted { reason: Reason::Asked }), &["companion-wanted:e"]),
            (
                companion(CompanionNews::GivenUp { reason: Reason::Asked }),
                &["companion-given-up:e"],
            ),
            (companion(CompanionNews::Serves), &["companion-serves:e"]),
            (companion(CompanionNews::ServesNoMore), &["companion-gone:e"]),
            (Event::Input(Input::Shutdown), &["shutdown"]),
            (Event::Input(Input::Timeout), &[]),
        ];
        let mut models = Catalog::relative_to(Bytes::from_gib(16)).models().to_vec();
        models.push(Model { id: "e".into(), companion: true, ..models[0].clone() });
        let catalog = Catalog::new(models).unwrap();
        let all: std::collections::BTreeSet<&str> =
            table.iter().flat_map(|(_, patterns)| patterns.iter().copied()).collect();
        let kinds: std::collections::BTreeSet<&str> =
            all.iter().map(|pattern| pattern.split(':').next().unwrap()).collect();
        assert_eq!(kinds.len(), super::super::PatternKind::ALL.len(), "every kind is in the table");
        for (event, patterns) in &table {
            for pattern in &all {
                let parsed: super::super::Pattern = pattern.parse().unwrap();
                assert_eq!(parsed.mistake(&catalog, &[]), None, "{pattern}");
                let want = patterns.contains(pattern);
                assert_eq!(
                    parsed.matches(event.as_ref(), &catalog),
                    want,
                    "{pattern} and {event:?}"
                );
                let kind: super::super::Pattern =
                    pattern.split(':').next().unwrap().parse().unwrap();
                let of_kind =
                    patterns.iter().any(|p| p.split(':').next() == pattern.split(':').next());
                assert_eq!(kind.matches(event.as_ref(), &catalog), of_kind, "{kind} and {event:?}");
            }
        }
    }
}
