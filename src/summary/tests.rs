use std::time::Duration;

use tiershift_core::catalog::{Catalog, LadderId};
use tiershift_core::event::{Command, EventRef, Input, Observe, Outcome, Output, Verdict};
use tiershift_core::machine::MachineClass;
use tiershift_core::model::ModelId;
use tiershift_core::request::{CancelledBy, End, Rejection, Request, RequestId};
use tiershift_core::sample::{Sample, Space};
use tiershift_core::settings::{RawSettings, Settings};
use tiershift_core::units::Bytes;

use super::*;

const WINDOW: Duration = Duration::from_mins(15);

/// Builds a fold by hand. Models are `small` (quality 0.5), `medium` (0.75) and `large` (1).
struct Hand {
    fold: Fold,
    now: Timestamp,
}

impl Hand {
    fn new() -> Self {
        let fold = Fold::new(&Catalog::relative_to(Bytes::from_gib(16)), WINDOW);
        Self { fold, now: Timestamp::ZERO }
    }

    fn at(&mut self, secs: u64) -> &mut Self {
        self.now = Timestamp::from_secs(secs);
        self
    }

    fn input(&mut self, input: &Input) -> &mut Self {
        self.fold.observe(self.now, EventRef::Input(input));
        self
    }

    fn output(&mut self, output: &Output) -> &mut Self {
        self.fold.observe(self.now, EventRef::Output(output));
        self
    }

    fn load(&mut self, model: &str) -> &mut Self {
        self.output(&Output::Command(Command::Load { model: model.into(), gpu: None }))
    }

    fn loaded(&mut self, model: &str) -> &mut Self {
        self.input(&Input::Outcome(Outcome::Loaded { model: model.into() }))
    }

    fn unload(&mut self, model: &str) -> &mut Self {
        self.output(&Output::Command(Command::Unload { model: model.into() }))
    }

    fn unloaded(&mut self, model: &str) -> &mut Self {
        self.input(&Input::Outcome(Outcome::Unloaded { model: model.into() }))
    }

    fn switched(&mut self, from: u8, to: u8) -> &mut Self {
        let took = Duration::ZERO;
        self.output(&Output::Switched {
            ladder: LadderId::FIRST,
            from: Rung(from),
            to: Rung(to),
            took,
            called_off: None,
        })
    }

    fn serving(&mut self, rung: u8) -> &mut Self {
        self.output(&Output::Serving { ladder: LadderId::FIRST, rung: Rung(rung), model: None })
    }

    fn request(&mut self, id: u64) -> &mut Self {
        let request = RequestId(id);
        self.input(&Input::Request(Request::chat(id, 10, 10)))
            .output(&Output::Accepted { request, verdict: Verdict::Proceed })
    }

    fn start(&mut self, id: u64, model: &str) -> &mut Self {
        let model = model.into();
        self.output(&Output::Command(Command::Start { request: RequestId(id), model }))
    }

    fn ended(&mut self, id: u64, end: End) -> &mut Self {
        self.output(&Output::Ended { request: RequestId(id), end })
    }

    fn finish(&self, secs: u64) -> Summary {
        self.fold.clone().finish(Timestamp::from_secs(secs))
    }
}

fn done(first_token: u64, latency: u64) -> End {
    End::Done {
        model: ModelId::from("small"),
        first_token: Duration::from_millis(first_token),
        latency: Duration::from_millis(latency),
        output_tokens: 10,
    }
}

impl Comparison {
    /// Returns the comparison of a run whose score is this share of the best.
    pub(crate) fn of_share(share: f64) -> Self {
        let optimum = Optimum { quality: 0.8, switches: 4, score: 0.75 };
        Self {
            price_seconds: 60.0,
            score: 0.75 * share,
            optimum,
            optimum_without_reversals: optimum,
            share_of_optimum: Some(share),
            share_of_optimum_without_reversals: Some(share),
            seconds_at_none_while_smallest_fitted: 12.4,
            seconds_below_best_fitting: 100.0,
            tier_seconds_fitting: Vec::new(),
        }
    }
}

#[test]
fn quality_and_tier_time_are_those_of_the_serving_model() {
    let mut run = Hand::new();
    // Small is ready from 10 to 100; the switch to large unloads it first: 20 s without a model.
    run.at(0).load("small").at(10).loaded("small").serving(1).switched(0, 1);
    run.at(100).serving(0).unload("small").at(101).unloaded("small").load("large");
    run.at(120).loaded("large").serving(3).switched(1, 3);
    // Medium is ready beside it from 180, and serves from 190 on.
    run.at(170).load("medium").at(180).loaded("medium");
    run.at(190).serving(2).switched(3, 2).unload("large").at(191).unloaded("large");
    let got = run.finish(200);
    let tiers: Vec<(&str, f64)> =
        got.tier_seconds.iter().map(|time| (time.tier.as_str(), time.seconds)).collect();
    assert_eq!(tiers, [("none", 30.0), ("small", 90.0), ("medium", 10.0), ("large", 70.0)]);
    // (90 x 0.5 + 10 x 0.75 + 70 x 1) / 200
    assert_eq!(got.quality_served_fraction, 0.6125);
    assert_eq!(got.reload_seconds, 10.0 + 19.0 + 10.0);
    assert_eq!((got.loads, got.final_tier.as_str()), (3, "medium"));
    assert_eq!((got.switches, got.upgrades, got.downgrades), (3, 2, 1));
    let times: Vec<(u64, u8)> =
        got.timeline.iter().map(|(at, rung)| (at.as_nanos() / 1_000_000_000, rung.0)).collect();
    assert_eq!(times, [(0, 0), (10, 1), (100, 0), (120, 3), (190, 2)]);
}

#[test]
fn a_reversal_undoes_the_direction_within_the_window() {
    #[track_caller]
    fn check(switches: &[(u64, u8, u8)], want: u64) {
        let mut run = Hand::new();
        for &(secs, from, to) in switches {
            run.at(secs).switched(from, to);
        }
        assert_eq!(run.finish(10_000).reversals, want, "{switches:?}");
    }
    check(&[(0, 0, 1), (100, 1, 2), (200, 2, 3)], 0);
    check(&[(0, 0, 1), (10, 1, 0)], 0);
    check(&[(0, 0, 1), (100, 1, 2), (999, 2, 1)], 1);
    check(&[(0, 0, 1), (100, 1, 2), (1000, 2, 1)], 0);
    check(&[(0, 0, 2), (10, 2, 1), (20, 1, 2), (30, 2, 3)], 1);
    check(&[(0, 0, 2), (10, 2, 3), (20, 3, 3), (30, 3, 1), (40, 1, 2)], 2);
}

#[test]
fn the_peak_and_the_dwell_are_those_of_completed_switches() {
    let mut run = Hand::new();
    for (secs, from, to) in [(0, 0, 1), (3599, 1, 2), (3600, 2, 1), (7198, 1, 2), (7199, 2, 3)] {
        run.at(secs).switched(from, to);
    }
    let got = run.finish(8000);
    // 3599, 3600, 7198; at 7199 the first of them is an hour old.
    assert_eq!(got.switches_per_hour_peak, 3);
    assert_eq!(got.shortest_dwell_seconds, Some(1.0));
    assert_eq!(Hand::new().at(5).switched(0, 1).finish(9).shortest_dwell_seconds, None);
}

#[test]
fn what_is_unloaded_because_the_run_is_stopped_is_no_switch() {
    let mut run = Hand::new();
    run.at(10).switched(0, 1).at(1000).input(&Input::Shutdown).switched(1, 0);
    let got = run.finish(1001);
    assert_eq!((got.switches, got.downgrades, got.shortest_dwell_seconds), (1, 0, None));
}

#[test]
fn a_load_is_wasted_when_it_is_dropped_before_it_served() {
    let mut quiet = Hand::new();
    quiet.at(0).load("small").at(10).loaded("small").at(100).unload("small").unloaded("small");
    assert_eq!(quiet.finish(9000).wasted_loads, 1, "dropped after 90 s without requests");
    quiet.at(200).load("large").at(210).loaded("large");
    quiet.at(1110).unload("large").unloaded("large");
    assert_eq!(quiet.finish(9000).wasted_loads, 1, "dropped after the window without requests");
    let mut busy = quiet;
    busy.at(2000).load("small").at(2010).loaded("small").request(1).start(1, "small");
    busy.at(2020).unload("small").unloaded("small");
    assert_eq!(busy.finish(9000).wasted_loads, 2, "with requests, both of the idle ones count");
    busy.at(3000).load("large").at(3005).unload("large").at(3006).unloaded("large");
    assert_eq!(busy.finish(9000).wasted_loads, 3, "given up half way");
    assert_eq!(busy.finish(9000).reload_seconds, 10.0 + 10.0 + 10.0 + 6.0);
    busy.at(4000).load("medium").at(4010).loaded("medium");
    let crash = Outcome::Crashed { model: "medium".into(), error: String::new() };
    busy.at(4020).input(&Input::Outcome(crash));
    assert_eq!(busy.finish(9000).wasted_loads, 4, "crashed before it served");
    busy.at(5000).load("medium").at(5010).loaded("medium").at(5020).input(&Input::Shutdown);
    busy.unload("medium").at(5021).unloaded("medium");
    assert_eq!(busy.finish(9000).wasted_loads, 4, "what a shutdown drops is not wasted");
}

#[test]
fn a_crash_ends_serving_and_a_reload_resumes_it() {
    let mut run = Hand::new();
    run.at(0).load("large").loaded("large").serving(3).switched(0, 3);
    let crash = Outcome::Crashed { model: "large".into(), error: String::new() };
    run.at(50).input(&Input::Outcome(crash)).serving(0).load("large");
    let failed = Outcome::LoadFailed { model: "large".into(), error: String::new() };
    run.at(60).input(&Input::Outcome(failed)).load("large").at(70).loaded("large").serving(3);
    let got = run.finish(100);
    assert_eq!(got.quality_served_fraction, 0.8);
    assert_eq!((got.loads, got.failed_loads, got.reload_seconds), (3, 1, 20.0));
}

#[test]
fn requests_are_counted_once_by_their_end() {
    let mut run = Hand::new();
    for id in 0..6 {
        run.request(id);
    }
    run.input(&Input::Request(Request::chat(6, 1, 1)));
    let reason = Rejection::QueueFull;
    run.ended(6, End::Rejected { reason, retry_after: None, estimate: false });
    run.ended(0, done(100, 1000)).ended(1, done(200, 2000)).ended(2, done(300, 3000));
    run.ended(3, End::Failed { error: String::new() });
    run.ended(4, End::Cancelled { by: CancelledBy::Client, retry_after: None });
    let got = run.finish(100);
    let want = RequestCounts {
        arrived: 7,
        accepted: 6,
        done: 3,
        failed: 1,
        rejected: 1,
        cancelled: 1,
        open: 1,
    };
    assert_eq!(got.requests, want);
    // 3 done of 6 ended, less the one whose client hung up.
    assert_eq!(got.availability, Some(0.6));
    assert_eq!(got.latency_ms, Some(Percentiles { p50: 2000.0, p95: 3000.0, p99: 3000.0 }));
    assert_eq!(got.first_token_ms, Some(Percentiles { p50: 200.0, p95: 300.0, p99: 300.0 }));
}

#[test]
fn time_above_the_lines_is_held_from_sample_to_sample() {
    let settings = Settings::new(RawSettings::default(), MachineClass::MidRange).unwrap();
    let mut run = Hand::new();
    run.fold = run.fold.judging_samples(&settings);
    // Of 20 GiB, the degrade limit is 18.
    for (secs, others, own) in [(0, 10, 5), (10, 14, 5), (20, 16, 5), (30, 21, 0), (45, 2, 0)] {
        let [total, others, own] = [20, others, own].map(Bytes::from_gib);
        let memory = Some(Space { total, others, own });
        run.at(secs).input(&Input::Sample(Sample { memory, ..Sample::default() }));
    }
    run.input(&Input::SampleMissing { error: String::new() });
    let got = run.finish(100);
    assert_eq!((got.samples, got.samples_missing), (5, 1));
    assert_eq!(got.seconds_above_degrade_line, 35.0);
    assert_eq!(got.seconds_over_memory, 25.0);
    assert_eq!(got.seconds_over_memory_unavoidable, 15.0);
    assert_eq!(got.out_of_memory_events, 1);
    run.fold.set_account(Account { over_memory: Duration::from_secs(3), ..Account::default() });
    let got = run.finish(100);
    assert_eq!((got.seconds_over_memory, got.seconds_above_degrade_line), (3.0, 0.0));
}

#[test]
fn the_summary_is_written_in_stable_order_with_six_decimals() {
    let mut run = Hand::new();
    run.at(0)
        .load("small")
        .at(1)
        .loaded("small")
        .serving(1)
        .switched(0, 1)
        .request(1)
        .start(1, "small");
    run.ended(1, done(100, 1234));
    insta::assert_snapshot!(run.finish(3).to_json());
}
