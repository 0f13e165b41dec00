use std::collections::VecDeque;
use std::time::Duration;

use tiershift_core::catalog::{Catalog, LadderId, Rung};
use tiershift_core::decision::{Action, Decision, Reason, Urgency};
use tiershift_core::event::{Command, EventRef, Input, Observe, Outcome, Output, Verdict};
use tiershift_core::machine::MachineClass;
use tiershift_core::request::{End, Request, RequestId};
use tiershift_core::sample::{Pressure, Rate, Resource, Sample, Space};
use tiershift_core::settings::{RawSettings, Settings};
use tiershift_core::time::Timestamp;
use tiershift_core::units::{Bytes, Percent};

use super::*;
use crate::summary::Fold;

/// A made-up run: others' memory from a formula, and a careful or hasty rule.
struct Play {
    data: PlotData,
    fold: Fold,
    catalog: Catalog,
    now: Timestamp,
    rung: Rung,
    good_since: Option<Timestamp>,
    busy_until: Timestamp,
    planned: VecDeque<(Timestamp, Planned)>,
    request: u64,
}

#[derive(Clone, Debug)]
enum Planned {
    Unload(Rung),
    Unloaded(Rung),
    Load(Rung),
    Loaded(Rung),
    Switched(Rung, Rung, Duration),
    Start(u64),
    End(u64, Duration),
}

impl Play {
    fn new() -> Self {
        let catalog = Catalog::relative_to(TOTAL);
        let settings = Settings::new(RawSettings::default(), MachineClass::MidRange).unwrap();
        Self {
            data: PlotData::new(&catalog, &settings),
            fold: Fold::new(&catalog, Duration::from_mins(15)).judging_samples(&settings),
            catalog,
            now: Timestamp::ZERO,
            rung: Rung::NONE,
            good_since: None,
            busy_until: Timestamp::ZERO,
            planned: VecDeque::new(),
            request: 0,
        }
    }

    fn input(&mut self, input: &Input) {
        self.data.observe(self.now, EventRef::Input(input));
        self.fold.observe(self.now, EventRef::Input(input));
    }

    fn output(&mut self, output: &Output) {
        self.data.observe(self.now, EventRef::Output(output));
        self.fold.observe(self.now, EventRef::Output(output));
    }

    fn footprint(&self, rung: Rung) -> Bytes {
        self.catalog.primary(rung).map_or(Bytes::ZERO, |model| model.ram)
    }

    fn plan(&mut self, after: Duration, planned: Planned) {
        self.planned.push_back((self.now + after, planned));
    }

    fn carry_out(&mut self, until: Timestamp) {
        self.planned.make_contiguous().sort_by_key(|(at, _)| *at);
        while self.planned.front().is_some_and(|(at, _)| *at <= until) {
            let (at, planned) = self.planned.pop_front().unwrap();
            self.now = at;
            let model = |rung| self.catalog.primary(rung).unwrap().id.clone();
            match planned {
                Planned::Unload(rung) => {
                    let model = model(rung);
                    self.output(&Output::Serving {
                        ladder: LadderId::FIRST,
                        rung: Rung::NONE,
                        model: None,
                    });
                    self.output(&Output::Command(Command::Unload { model }));
                }
                Planned::Unloaded(rung) => {
                    self.input(&Input::Outcome(Outcome::Unloaded { model: model(rung) }));
                }
                Planned::Load(rung) => {
                    let model = model(rung);
                    self.output(&Output::Command(Command::Load { model, gpu: None }));
                }
                Planned::Loaded(rung) => {
                    self.input(&Input::Outcome(Outcome::Loaded { model: model(rung) }));
                    self.output(&Output::Serving { ladder: LadderId::FIRST, rung, model: None });
                }
                Planned::Switched(from, to, took) => {
                    self.output(&Output::Serving {
                        ladder: LadderId::FIRST,
                        rung: to,
                        model: None,
                    });
                    self.output(&Output::Switched {
                        ladder: LadderId::FIRST,
                        from,
                        to,
                        took,
                        called_off: None,
                    });
                }
                Planned::Start(id) => {
                    let model = model(self.rung.max(Rung(1)));
                    let request = RequestId(id);
                    self.output(&Output::Command(Command::Start { request, model }));
                }
                Planned::End(id, latency) => {
                    let model = model(self.rung.max(Rung(1)));
                    let request = RequestId(id);
                    let first_token = latency / 4;
                    let end = End::Done { model, first_token, latency, output_tokens: 10 };
                    self.output(&Output::Ended { request, end });
                }
            }
        }
        self.now = until;
    }

    fn switch(&mut self, to: Rung, action: Action, reason: Reason, drain: Duration) {
        let from = self.rung;
        let gates = Vec::new();
        self.output(&Output::Decision(Decision { action, rung: from, reason, gates }));
        let second = Duration::from_secs(1);
        let mut after = drain;
        if from > Rung::NONE {
            self.plan(after, Planned::Unload(from));
            after += second;
            self.plan(after, Planned::Unloaded(from));
        }
        if to > Rung::NONE {
            self.plan(after, Planned::Load(to));
            after += second * 8;
            self.plan(after, Planned::Loaded(to));
        }
        self.plan(after, Planned::Switched(from, to, after));
        self.rung = to;
        self.busy_until = self.now + after;
        self.good_since = None;
    }

    /// Steps down when use is above 90 %, and up after `window` in which the next rung fits under `limit`.
    fn decide(&mut self, others: Bytes, window: Duration, limit: Percent) {
        let resource = Resource::Memory;
        let degrade = TOTAL.share(Percent::new(90));
        let used = others + self.footprint(self.rung);
        let hold = |reason, rung| {
            Output::Decision(Decision { action: Action::Hold, rung, reason, gates: vec![] })
        };
        if self.now < self.busy_until {
            return self.output(&hold(Reason::Switching, self.rung));
        }
        if used > degrade && self.rung > Rung::NONE {
            let to = Rung(self.rung.0 - 1);
            let action = Action::Downgrade { to, urgency: Urgency::Immediate };
            let reason = Reason::AboveDegradeLine { resource, gpu: None, used, limit: degrade };
            return self.switch(to, action, reason, Duration::from_secs(6));
        }
        if self.rung == self.catalog.top() {
            return self.output(&hold(Reason::AtTop, self.rung));
        }
        let to = Rung(self.rung.0 + 1);
        let (projected, limit) = (others + self.footprint(to), TOTAL.share(limit));
        if projected > limit {
            self.good_since = None;
            return self.output(&hold(
                Reason::WouldNotFit { to, resource, gpu: None, projected, limit },
                self.rung,
            ));
        }
        let good_for = self.now.since(*self.good_since.get_or_insert(self.now));
        if good_for < window {
            let remaining = window - good_for;
            return self.output(&hold(Reason::Window { to, remaining }, self.rung));
        }
        let reason = Reason::Room { resource, gpu: None, projected, limit, good_for, odds: None };
        self.switch(to, Action::Upgrade { to }, reason, Duration::ZERO);
    }
}

/// The properties of a run.
struct Script {
    seconds: u64,
    step: u64,
    /// Others' use in MiB at a second.
    others: fn(u64) -> u64,
    window: Duration,
    limit: Percent,
    /// Seconds between requests.
    requests: Option<u64>,
}

fn play(script: &Script) -> (PlotData, Summary) {
    let mut run = Play::new();
    let noise = |n: u64| n.wrapping_mul(6_364_136_223_846_793_005).rotate_left(23) >> 40;
    for second in (0..=script.seconds).step_by(script.step as usize) {
        let at = Timestamp::from_secs(second);
        run.carry_out(at);
        let others = Bytes::from_mib((script.others)(second) + noise(second) % 200);
        let own = run.footprint(run.rung);
        let busy =
            noise(second + 1) % 30_000 + if noise(second / 600) % 5 == 0 { 60_000 } else { 0 };
        let others_cpu = Percent::from_milli(busy as u32);
        let own_cpu = Percent::from_milli(if script.requests.is_some() { 15_000 } else { 0 });
        let gap = (script.seconds / 2..script.seconds / 2 + script.seconds / 30).contains(&second);
        if gap && script.seconds < 1000 {
            run.input(&Input::SampleMissing { error: "not there".to_owned() });
            continue;
        }
        run.input(&Input::Sample(Sample {
            memory: Some(Space { total: TOTAL, others, own }),
            cpu: Some(Rate { others: others_cpu, own: own_cpu }),
            pressure: script.requests.map(|_| Pressure {
                memory_some: Percent::from_milli((noise(second / 100) % 20_000) as u32),
                ..Pressure::default()
            }),
            ..Sample::default()
        }));
        run.decide(others, script.window, script.limit);
        if script.requests.is_some_and(|every| second % every < script.step)
            && run.rung > Rung::NONE
        {
            run.request += 1;
            let id = run.request;
            run.input(&Input::Request(Request::chat(id, 100, 100)));
            let verdict = Verdict::Proceed;
            run.output(&Output::Accepted { request: RequestId(id), verdict });
            let wait = Duration::from_millis(noise(id) % 9000);
            let latency = wait + Duration::from_millis(800 + noise(id + 7) % 20_000);
            run.plan(wait, Planned::Start(id));
            run.plan(latency, Planned::End(id, latency));
        }
    }
    let end = Timestamp::from_secs(script.seconds);
    run.carry_out(end);
    run.data.finish(end);
    let mut summary = run.fold.finish(end);
    summary.policy = "made up".to_owned();
    (run.data, summary)
}

fn scripts() -> Vec<(&'static str, Script)> {
    let window = Duration::from_mins(5);
    let limit = Percent::new(85);
    vec![
        (
            "ten minutes, one switch",
            Script { seconds: 600, step: 2, others: |_| 9000, window, limit, requests: Some(7) },
        ),
        (
            "ten minutes, a sudden loss",
            Script {
                seconds: 900,
                step: 2,
                others: |s| if (500..700).contains(&s) { 14_500 } else { 3000 },
                window: Duration::from_secs(30),
                limit,
                requests: Some(4),
            },
        ),
        (
            "27 hours, nine switches",
            Script {
                seconds: 99_360,
                step: 10,
                others: |s| match s {
                    0..40_000 => 3000 + s / 20,
                    40_000..60_000 => 9000,
                    60_000..61_000 => 14_900,
                    _ => 4000,
                },
                window,
                limit,
                requests: None,
            },
        ),
        (
            "27 hours, hasty: hundreds of switches",
            Script {
                seconds: 99_360,
                step: 10,
                others: |s| 3000 + 4 * (s % 3600).abs_diff(1800),
                window: Duration::from_secs(60),
                limit: Percent::new(94),
                requests: Some(60),
            },
        ),
        (
            "thirty days",
            Script {
                seconds: 30 * 86_400,
                step: 60,
                others: |s| 2500 + (s % 86_400).abs_diff(43_200) / 5 + s / 2000,
                window,
                limit,
                requests: Some(600),
            },
        ),
    ]
}

/// Draws one run.
fn svg(name: &str, data: &PlotData, summary: &Summary) -> String {
    let title = Title { name: name.to_owned(), ..Title::default() };
    super::svg(&[Run { title: &title, data, summary }])
}

#[cfg(feature = "png")]
fn png(name: &str, data: &PlotData, summary: &Summary) -> Vec<u8> {
    let title = Title { name: name.to_owned(), ..Title::default() };
    super::png(&[Run { title: &title, data, summary }])
}

/// Run with `TIERSHIFT_PLOTS=folder` to look at the pictures.
#[test]
fn plots_are_the_same_bytes_twice_and_hold_only_whole_coordinates() {
    for (name, script) in scripts() {
        let (data, summary) = play(&script);
        let picture = svg(name, &data, &summary);
        let again = play(&script);
        assert!(picture == svg(name, &again.0, &again.1), "{name}");
        assert!(picture.len() < 700_000, "{name}: {} bytes", picture.len());
        for points in picture.split("points=\"").skip(1) {
            let (points, _) = points.split_once('"').unwrap();
            let whole = |point: &str| point.is_empty() || point.parse::<i32>().is_ok();
            assert!(points.split([',', ' ']).all(whole), "{points}");
        }
        #[cfg(feature = "png")]
        let bitmap = png(name, &data, &summary);
        #[cfg(feature = "png")]
        assert!(bitmap == png(name, &data, &summary), "{name}");
        if let Ok(folder) = std::env::var("TIERSHIFT_PLOTS") {
            let file = std::path::Path::new(&folder).join(name.replace([' ', ',', ':'], "_"));
            std::fs::write(file.with_extension("svg"), &picture).unwrap();
            #[cfg(feature = "png")]
            std::fs::write(file.with_extension("png"), &bitmap).unwrap();
        }
    }
}

#[test]
fn an_svg_is_text_that_can_be_reviewed() {
    let mut run = Play::new();
    let degrade = Reason::AboveDegradeLine {
        resource: Resource::Memory,
        gpu: None,
        used: Bytes::from_gib(15),
        limit: Bytes::from_gib(14),
    };
    for (second, own) in [(0, 2), (60, 5), (120, 2)] {
        run.now = Timestamp::from_secs(second);
        let memory = Space { total: TOTAL, others: Bytes::from_gib(8), own: Bytes::from_gib(own) };
        run.input(&Input::Sample(Sample { memory: Some(memory), ..Sample::default() }));
    }
    run.rung = Rung(2);
    let action = Action::Downgrade { to: Rung(1), urgency: Urgency::Critical };
    run.switch(Rung(1), action, degrade, Duration::ZERO);
    let end = Timestamp::from_secs(180);
    run.carry_out(end);
    run.data.finish(end);
    insta::assert_snapshot!(svg("a < b & \"c\"", &run.data, &run.fold.finish(end)));
}

#[test]
fn what_is_projected_stands_at_the_gpu_that_its_reason_names() {
    let gib = Bytes::from_gib;
    let vram = Some(Space { total: gib(24), others: gib(5), own: Bytes::ZERO });
    let gpus = vec![tiershift_core::sample::GpuSample { vram, ..Default::default() }; 2];
    for (gpu, want) in [
        (Some(0), [true, false]),
        (Some(1), [false, true]),
        // One that plots do not show, and a log of version 1, which names none.
        (Some(9), [false, false]),
        (None, [false, false]),
    ] {
        let mut run = Play::new();
        run.input(&Input::Sample(Sample { gpus: gpus.clone(), ..Sample::default() }));
        let (to, resource) = (Rung(1), Resource::Vram);
        let reason = Reason::WouldNotFit { to, resource, gpu, projected: gib(23), limit: gib(20) };
        let action = Action::Hold;
        run.output(&Output::Decision(Decision { action, rung: Rung(0), reason, gates: vec![] }));
        run.data.finish(Timestamp::from_secs(1));
        let got: Vec<bool> =
            run.data.gpus.iter().map(|gpu| !gpu.vram.projected.is_empty()).collect();
        assert_eq!(got, want, "{gpu:?}");
    }
}

#[test]
fn nothing_and_everything_at_once_can_be_drawn() {
    let empty = Play::new();
    let picture = svg("", &empty.data, &empty.fold.finish(Timestamp::ZERO));
    assert!(picture.contains("No change was decided."));

    let mut run = Play::new();
    let most = Space { total: Bytes::MAX, others: Bytes::MAX, own: Bytes::MAX };
    let rate = Rate { others: Percent::from_milli(u32::MAX), own: Percent::ONE_HUNDRED };
    let gpu = tiershift_core::sample::GpuSample {
        vram: Some(most),
        utilization: Some(rate),
        temperature: None,
        shared: false,
    };
    let sample =
        Sample { memory: Some(most), cpu: Some(rate), gpus: vec![gpu; 9], ..Sample::default() };
    for now in [Timestamp::ZERO, Timestamp::from_nanos(1), Timestamp::MAX] {
        run.now = now;
        run.input(&Input::Sample(sample.clone()));
        let reason = Reason::WouldNotFit {
            to: Rung(200),
            resource: Resource::Vram,
            gpu: None,
            projected: Bytes::MAX,
            limit: Bytes::ZERO,
        };
        let action = Action::Upgrade { to: Rung(200) };
        run.output(&Output::Decision(Decision { action, rung: Rung(99), reason, gates: vec![] }));
        let took = Duration::MAX;
        run.output(&Output::Switched {
            ladder: LadderId::FIRST,
            from: Rung(200),
            to: Rung(255),
            took,
            called_off: None,
        });
        let request = RequestId(1);
        for _ in 0..2 {
            run.output(&Output::Accepted { request, verdict: Verdict::Queue });
            run.output(&Output::Command(Command::Start { request, model: "small".into() }));
        }
        let latency = Duration::MAX;
        let end = End::Done { model: "?".into(), first_token: latency, latency, output_tokens: 0 };
        run.output(&Output::Ended { request, end });
    }
    run.data.finish(Timestamp::MAX);
    let summary = run.fold.finish(Timestamp::MAX);
    assert!(svg("", &run.data, &summary).len() < 1_000_000);
    #[cfg(feature = "png")]
    assert!(png("", &run.data, &summary).starts_with(b"\x89PNG"));
}

mod layout;

const TOTAL: Bytes = Bytes::from_gib(16);
