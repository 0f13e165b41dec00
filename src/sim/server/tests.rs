use tiershift_core::units::PercentText;

use super::*;

/// Returns when a load of "large" is seen to get on, in seconds, and what comes of it within half an hour.
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
        server.set_surroundings(Timestamp::ZERO, around);
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
