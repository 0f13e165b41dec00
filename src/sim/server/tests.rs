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
