use std::path::Path;

use tiershift_core::controller::Detail;
use tiershift_core::policy::Registry;
use tiershift_core::time::SpanText;
use tiershift_core::units::PercentText;

use super::*;
use crate::sim::physics::RawPhysics;
use crate::sim::simulate;
use crate::summary::Summary;

fn at(seconds: u64) -> Timestamp {
    Timestamp::from_secs(seconds)
}

/// A model of 8 GiB of video memory and 2 of main memory, at 100 tokens a second.
fn on_a_gpu(id: &str) -> Model {
    Model {
        vram: Bytes::from_gib(8),
        prefill_per_second: 100.0,
        decode_per_second: 100.0,
        request_overhead: Duration::ZERO,
        decode_halves_at: None,
        ..Model::of_size(id, id, Percent::new(50), Bytes::from_gib(2))
    }
}

/// Builds a server of two such models on GPUs 0 and 1, both loaded before 500 s, when the faults begin.
fn two_models(faults: &[FaultKind]) -> SimulatedServer {
    let raw = RawPhysics { load_jitter: 0.0, speed_jitter: 0.0, ..RawPhysics::default() };
    let fault = |kind: &FaultKind| Fault {
        at: at(500),
        until: Timestamp::MAX,
        probability: Percent::ONE_HUNDRED,
        kind: kind.clone(),
    };
    let faults: Vec<Fault> = faults.iter().map(fault).collect();
    let catalog = Catalog::new(vec![on_a_gpu("first"), on_a_gpu("second")]).unwrap();
    let mut server = SimulatedServer::new(&catalog, &raw.check().unwrap(), &faults, Seed(1));
    let gpu = GpuSurroundings::default();
    server.set_surroundings(at(0), &Surroundings { gpus: vec![gpu; 2], ..Surroundings::default() });
    for (model, gpu) in [("first", 0), ("second", 1)] {
        server.submit(at(0), &Command::Load { model: model.into(), gpu: Some(gpu) });
    }
    assert_eq!(said(&mut server, at(0), at(500)).len(), 2);
    server
}

/// Returns all outcomes between two moments, at the moments that the server announces itself.
fn said(server: &mut SimulatedServer, from: Timestamp, to: Timestamp) -> Vec<(Timestamp, Outcome)> {
    let mut outcomes = Vec::new();
    let mut now = from;
    while let Some(next) = server.next_wakeup().filter(|&next| next <= to) {
        now = next.max(now);
        outcomes.extend(std::iter::from_fn(|| server.poll(now)).map(|outcome| (now, outcome)));
    }
    outcomes
}

/// Returns the outcomes of one moment.
fn says(server: &mut SimulatedServer, now: Timestamp) -> Vec<Outcome> {
    said(server, now, now).into_iter().map(|(_, outcome)| outcome).collect()
}

/// Starts request 1 of 100 tokens each way on the first model and request 2 on the second, at 1000 s.
fn start_both(server: &mut SimulatedServer) {
    for (id, model) in [(1, "first"), (2, "second")] {
        server.announce(&Request::chat(id, 100, 100));
        let start = Command::Start { request: RequestId(id), model: model.into() };
        server.submit(at(1000), &start);
    }
}

/// Returns which requests are done between 1000 and 1100 s, and after how many whole seconds.
fn done(server: &mut SimulatedServer) -> Vec<(u64, u64)> {
    let is_done = |(now, outcome): (Timestamp, Outcome)| match outcome {
        Outcome::Done { request, .. } => Some((request.0, now.since(at(1000)).as_secs())),
        _ => None,
    };
    said(server, at(1000), at(1100)).into_iter().filter_map(is_done).collect()
}

#[test]
fn others_slow_the_models_on_their_own_gpu_and_no_other() {
    let mut server = two_models(&[]);
    let idle = GpuSurroundings::default();
    let busy = GpuSurroundings { others: Percent::new(50), ..idle };
    let surroundings = Surroundings {
        cpu_others: Percent::new(90),
        gpus: vec![idle, busy],
        ..Surroundings::default()
    };
    server.set_surroundings(at(1000), &surroundings);
    start_both(&mut server);
    assert_eq!([0, 1].map(|gpu| server.gpu_own(gpu)), [100, 50].map(Percent::new));
    assert_eq!(done(&mut server), [(1, 2), (2, 4)]);
}

#[test]
fn what_is_spilled_on_a_gpu_slows_the_models_there() {
    let mut server = two_models(&[]);
    let whole = GpuSurroundings::default();
    let spilled = GpuSurroundings { spilled: Percent::new(50), ..whole };
    let surroundings = Surroundings { gpus: vec![whole, spilled], ..Surroundings::default() };
    server.set_surroundings(at(1000), &surroundings);
    start_both(&mut server);
    // 8 of 10 GiB are on the GPU: 1 + 0.8 * 0.5 * 6.14 times as long.
    assert_eq!(done(&mut server), [(1, 2), (2, 6)]);
}

#[test]
fn video_memory_comes_back_late_on_the_gpu_that_it_was_on() {
    let [min, max] = [4, 4].map(|seconds| SpanText(Duration::from_secs(seconds)));
    let mut server = two_models(&[FaultKind::ReleaseLag { min, max }]);
    server.submit(at(1000), &Command::Unload { model: "second".into() });
    let outcomes = said(&mut server, at(1000), at(1003));
    let [(unloaded, Outcome::Unloaded { .. })] = outcomes[..] else { panic!("{outcomes:?}") };
    let held = |server: &SimulatedServer, now| [0, 1].map(|gpu| server.vram(now, gpu));
    assert_eq!(held(&server, at(1003)), [Bytes::from_gib(8); 2]);
    let after = unloaded + Duration::from_secs(4);
    assert_eq!(server.next_wakeup(), Some(after));
    assert_eq!(says(&mut server, after), []);
    assert_eq!(held(&server, after), [Bytes::from_gib(8), Bytes::ZERO]);
}

#[test]
fn a_request_that_hangs_ends_when_it_is_cancelled_and_a_deaf_one_with_its_model() {
    let hang =
        |deaf| FaultKind::RequestHang { model: Some("first".to_owned()), count: Some(1), deaf };
    let cancel = Command::Cancel { request: RequestId(1) };
    let mut server = two_models(&[hang(false)]);
    start_both(&mut server);
    assert_eq!(done(&mut server), [(2, 2)]);
    server.submit(at(1200), &cancel);
    assert_eq!(says(&mut server, at(1200)), [Outcome::Cancelled { request: RequestId(1) }]);

    let mut server = two_models(&[hang(true)]);
    start_both(&mut server);
    server.submit(at(1000), &cancel);
    assert_eq!(done(&mut server), [(2, 2)]);
    server.submit(at(1200), &Command::Unload { model: "first".into() });
    let error = "the model was unloaded".to_owned();
    let want = [
        Outcome::Failed { request: RequestId(1), error },
        Outcome::Unloaded { model: "first".into() },
    ];
    let outcomes = said(&mut server, at(1200), at(1300)).into_iter().map(|(_, outcome)| outcome);
    assert_eq!(outcomes.collect::<Vec<_>>(), want);
}

#[test]
fn an_unload_that_is_not_confirmed_is_answered_when_it_is_asked_for_again() {
    let lost = FaultKind::UnloadUnconfirmed { model: None, count: Some(1) };
    let mut server = two_models(&[lost]);
    let unload = Command::Unload { model: "first".into() };
    server.submit(at(1000), &unload);
    assert_eq!(said(&mut server, at(1000), at(1100)), []);
    assert_eq!(server.vram(at(1100), 0), Bytes::ZERO, "it has gone all the same");
    server.submit(at(1100), &unload);
    assert_eq!(says(&mut server, at(1100)), [Outcome::Unloaded { model: "first".into() }]);
}

#[test]
fn nothing_loads_on_a_gpu_that_is_lost() {
    let mut server = two_models(&[FaultKind::GpuLost { gpu: 0, crash: true }]);
    server.lose_gpu(at(1000), 0);
    server.submit(at(1000), &Command::Load { model: "first".into(), gpu: Some(0) });
    let lost = "the GPU is lost".to_owned();
    let model: ModelId = "first".into();
    let want = [
        Outcome::Crashed { model: model.clone(), error: lost.clone() },
        Outcome::LoadFailed { model, error: lost },
    ];
    assert_eq!(says(&mut server, at(1000)), want);
}

#[test]
fn allocations_fail_on_a_full_gpu_for_loads_first_and_then_for_models_at_work() {
    let mut server = two_models(&[]);
    assert!(!server.fail_allocations(at(1000), 0, Bytes::from_gib(1)), "an idle model stays");
    start_both(&mut server);
    assert!(server.fail_allocations(at(1000), 0, Bytes::from_gib(1)));
    let outcomes = says(&mut server, at(1000));
    let [Outcome::Failed { request, .. }, Outcome::Crashed { model, .. }] = &outcomes[..] else {
        panic!("{outcomes:?}")
    };
    assert_eq!((request.0, model.as_str()), (1, "first"));
    // The second one is working, so a load of the first beside it is what fails.
    server.submit(at(1001), &Command::Load { model: "first".into(), gpu: Some(1) });
    assert!(server.fail_allocations(at(1001), 1, Bytes::from_gib(1)));
    let outcomes = says(&mut server, at(1001));
    let [Outcome::LoadFailed { model, .. }] = &outcomes[..] else { panic!("{outcomes:?}") };
    assert_eq!(model.as_str(), "first");
}

/// Runs a scenario of 16 GiB, 2 of swap, and a model of 9 that `fixed` loads.
fn run(tables: &str) -> Summary {
    let text = format!(
        "duration = \"1h\"\n[machine]\nmemory = \"16GiB\"\nswap = \"2GiB\"\n[policy]\npolicy = \"fixed\"\n\
         [policy.manager]\nstart = \"large\"\n{tables}"
    );
    let scenario = crate::scenario::parse(&text, "x.toml", Path::new(""), &Registry::built_in());
    let situation = scenario.unwrap_or_else(|error| panic!("{error}")).situation();
    simulate(situation, &Registry::built_in(), Detail::Silent, &mut []).unwrap()
}

#[test]
fn the_out_of_memory_killer_takes_whom_it_is_set_to() {
    let others = "[[background]]\nresource = \"memory\"\nshape = \"constant\"\nlevel = \"3GiB\"\n\
        [[background]]\nresource = \"memory\"\nshape = \"step\"\nto = \"8GiB\"\nat = \"20m\"\nuntil = \"25m\"\n";
    let killer = |who: &str| run(&format!("[physics]\noom-killer = \"{who}\"\n{others}"));
    let nobody = killer("off");
    assert_eq!((nobody.out_of_memory_events, nobody.seconds_over_memory), (1, 300.0));
    // The larger of the two is gone for a minute, comes back, and is killed again, five times in all.
    let theirs = killer("largest-of-others");
    assert_eq!((theirs.out_of_memory_events, theirs.seconds_over_memory), (5, 0.0));
    assert_eq!(theirs.loads, 1);
    let ours = killer("largest-of-ours");
    assert!(ours.loads > 1 && ours.out_of_memory_events >= 1, "{ours:?}");
    assert!(ours.seconds_over_memory < 300.0, "{}", ours.seconds_over_memory);
}

#[test]
fn time_over_video_memory_is_counted_for_each_gpu() {
    let text = "duration = \"1h\"\n[machine]\nmemory = \"16GiB\"\ngpus = [\"8GiB\", \"8GiB\"]\n\
        [[background]]\nresource = \"vram\"\ngpu = 1\nshape = \"step\"\nto = \"9GiB\"\nat = \"20m\"\nuntil = \"21m\"\n";
    let scenario = crate::scenario::parse(text, "x.toml", Path::new(""), &Registry::built_in());
    let situation = scenario.unwrap().situation();
    let summary = simulate(situation, &Registry::built_in(), Detail::Silent, &mut []).unwrap();
    assert_eq!(summary.seconds_over_vram, Some(60.0));
    assert_eq!(summary.seconds_over_vram_by_gpu, [0.0, 60.0]);
}

#[test]
fn a_percentage_of_memory_that_is_no_share_is_refused_by_its_key() {
    let mistake = |physics: RawPhysics| physics.check().unwrap_err().0;
    let zero = Some(PercentText(Percent::ZERO));
    let raw = RawPhysics { spilled_speed: zero, ..RawPhysics::default() };
    assert_eq!(mistake(raw), "spilled-speed");
    let unused = Some(PercentText(Percent::new(20)));
    assert_eq!(
        mistake(RawPhysics { spilled_speed: unused, ..RawPhysics::default() }),
        "spilled-speed"
    );
}

/// Returns when a load of "large" is seen to make progress, in seconds, and its outcome within half an hour.
fn load_of_large(fault: FaultKind) -> (Vec<f64>, Option<Outcome>) {
    let catalog = Catalog::relative_to(Bytes::from_gib(16));
    let until = Timestamp::MAX;
    let probability = Percent::ONE_HUNDRED;
    let faults = [Fault { at: Timestamp::ZERO, until, probability, kind: fault }];
    let physics = Physics { load_jitter: 0.0, ..Physics::default() };
    let mut server = SimulatedServer::new(&catalog, &physics, &faults, Seed(1));
    server.submit(Timestamp::ZERO, &Command::Load { model: "large".into(), gpu: None });
    let mut seen = Vec::new();
    while let Some(now) = server.next_wakeup().filter(|&at| at <= Timestamp::from_secs(1800)) {
        match server.poll(now) {
            Some(Outcome::Loading { model }) => {
                assert_eq!(model.as_str(), "large");
                seen.push(now.as_secs_f64());
            }
            Some(outcome) => return (seen, Some(outcome)),
            None => {}
        }
    }
    (seen, None)
}

#[test]
fn a_slow_load_is_seen_to_get_on_until_it_is_complete() {
    // 8.8 s, ten times as slow.
    let (seen, end) = load_of_large(FaultKind::LoadSlow { model: None, factor: 10.0 });
    assert_eq!(seen, [2.0, 22.0, 42.0, 62.0, 82.0]);
    assert_eq!(end, Some(Outcome::Loaded { model: "large".into() }));
}

#[test]
fn a_load_that_gets_stuck_is_seen_to_get_on_once_at_most() {
    let share = |percent| PercentText(Percent::new(percent));
    let half = FaultKind::LoadHalf { model: None, count: None, share: share(50) };
    assert_eq!(load_of_large(half), (vec![2.0], None));
}

#[test]
fn a_model_is_tried_at_the_speed_that_it_came_up_with() {
    let catalog = Catalog::relative_to(Bytes::from_gib(16));
    let kind = FaultKind::StickySlow {
        resource: Resource::Memory,
        above: PercentText(Percent::new(90)),
        factor: 0.25,
    };
    let (at, until, probability) = (Timestamp::ZERO, Timestamp::MAX, Percent::ONE_HUNDRED);
    let sticky = [Fault { at, until, probability, kind }];
    let tried_in = |memory_used| {
        let physics = Physics { load_jitter: 0.0, ..Physics::default() };
        let mut server = SimulatedServer::new(&catalog, &physics, &sticky, Seed(1));
        let around = Surroundings { memory_used, ..Surroundings::default() };
        server.set_surroundings(Timestamp::ZERO, &around);
        server.submit(Timestamp::ZERO, &Command::Load { model: "large".into(), gpu: None });
        while let Some(now) = server.next_wakeup() {
            match server.poll(now) {
                Some(Outcome::Loaded { model }) => server.submit(now, &Command::Try { model }),
                Some(Outcome::Tried(tried)) => return tried.decoded_in.as_millis(),
                Some(_) | None => {}
            }
        }
        panic!("a model that was tried is answered for");
    };
    // 8 x 9 GiB at 20 GB/s.
    assert_eq!([50, 95].map(Percent::new).map(tried_in), [3865, 15_461]);
}
