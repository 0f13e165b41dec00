use tiershift_core::catalog::{LadderId, Rung};
use tiershift_core::decision::Urgency;
use tiershift_core::event::OrderNews;
use tiershift_core::machine::MachineClass;
use tiershift_core::policy::Registry;
use tiershift_core::request::{End, Request, RequestId};
use tiershift_core::sample::{Pressure, Sample, Space};
use tiershift_core::units::{Bytes, Percent};

use super::*;

/// Returns a checker of our policy, without the promises of the manager.
fn checker() -> Checker {
    checker_with("", false)
}

/// Returns a checker with settings in the form of a policy file.
fn checker_with(settings: &str, manager_keeps_word: bool) -> Checker {
    let settings =
        Settings::new(toml::from_str(settings).unwrap(), MachineClass::MidRange).unwrap();
    let catalog = Catalog::relative_to(Bytes::from_gib(16));
    let policy = Registry::built_in().build(&settings, &catalog).unwrap();
    let mut promises = policy.promises();
    promises.manager_keeps_word = manager_keeps_word;
    Checker::new(&settings, &catalog, promises)
}

fn command(command: Command) -> Output {
    Output::Command(command)
}

fn serving(rung: u8, model: Option<&str>) -> Output {
    let (rung, model) = (Rung(rung), model.map(Into::into));
    Output::Serving { ladder: LadderId::FIRST, rung, model }
}

/// Lets "small" load and serve.
fn serve_small(checker: &mut Checker) {
    checker.input(Timestamp::ZERO, &memory(1, 0));
    checker.output(&command(Command::Load { model: "small".into(), gpu: None }));
    checker.input(Timestamp::ZERO, &Input::Outcome(Outcome::Loaded { model: "small".into() }));
    checker.output(&serving(1, Some("small")));
    let (ladder, from, to) = (LadderId::FIRST, Rung::NONE, Rung(1));
    let took = std::time::Duration::ZERO;
    checker.output(&Output::Switched { ladder, from, to, took, called_off: None });
}

/// Takes "small" out of service without a decision, and cuts its requests after this many seconds.
fn cut_after(seconds: u64) -> Vec<String> {
    let mut checker = checker_with("manager.at-drain-deadline = 'cancel'", true);
    serve_small(&mut checker);
    let at = Timestamp::from_secs;
    checker.input(at(1), &Input::Request(Request::chat(1, 1, 1)));
    checker.output(&command(Command::Start { request: RequestId(1), model: "small".into() }));
    checker.input(at(2), &Input::Timeout);
    checker.output(&serving(0, None));
    checker.input(at(2 + seconds), &Input::Timeout);
    checker.output(&command(Command::Cancel { request: RequestId(1) }));
    let violations = checker.violations.finish();
    violations.iter().map(|text| text.split(' ').next().unwrap().to_owned()).collect()
}

#[test]
fn what_the_manager_begins_by_itself_has_a_drain_deadline_too() {
    assert_eq!(cut_after(120), [""; 0]);
    assert_eq!(cut_after(60), ["S6"]);
}

/// Reads memory that lingers for this long after "large" has gone, then unloads "small" for "large".
fn leave_for_large_after(seconds: u64) -> Vec<String> {
    let mut checker = checker_with("", true);
    serve_small(&mut checker);
    let at = Timestamp::from_secs;
    let large = || "large".into();
    checker.output(&command(Command::Load { model: large(), gpu: None }));
    checker.input(at(1), &Input::Outcome(Outcome::Loaded { model: large() }));
    checker.output(&command(Command::Unload { model: large() }));
    checker.input(at(2), &Input::Outcome(Outcome::Unloaded { model: large() }));
    checker.input(at(2 + seconds), &memory(1, 2 + 9));
    checker.book.change = None;
    checker.output(&Output::Decision(Decision {
        action: Action::Upgrade { to: Rung(3) },
        rung: Rung(1),
        reason: Reason::Asked,
        gates: Vec::new(),
    }));
    checker.output(&command(Command::Unload { model: "small".into() }));
    let violations = checker.violations.finish();
    violations.iter().map(|text| text.split(' ').next().unwrap().to_owned()).collect()
}

#[test]
fn memory_that_outlives_the_settle_limit_is_no_place_for_what_follows() {
    assert_eq!(leave_for_large_after(3), [""; 0], "it may still come back");
    assert_eq!(leave_for_large_after(6), ["S9"]);
}

fn memory(others: u64, own: u64) -> Input {
    let [total, others, own] = [16, others, own].map(Bytes::from_gib);
    Input::Sample(Sample { memory: Some(Space { total, others, own }), ..Sample::default() })
}

/// Adds memory pressure above the upgrade line to a sample.
fn pressed(input: Input) -> Input {
    let Input::Sample(sample) = input else { unreachable!("only readings are pressed") };
    let pressure = Pressure { memory_some: Percent::new(15), ..Pressure::default() };
    Input::Sample(Sample { pressure: Some(pressure), ..sample })
}

#[track_caller]
fn check(watch: impl FnOnce(&mut Checker), want: &[&str]) {
    let mut checker = checker();
    watch(&mut checker);
    let got = checker.finish(Timestamp::from_secs(1000));
    let rules: Vec<&str> = got.iter().map(|text| text.split(' ').next().unwrap()).collect();
    assert_eq!(rules, want, "{got:?}");
}

#[test]
fn each_rule_has_a_run_that_breaks_it() {
    let zero = Timestamp::ZERO;
    let at = Timestamp::from_secs;
    let load = |model: &str| Output::Command(Command::Load { model: model.into(), gpu: None });
    let unload = |model: &str| Output::Command(Command::Unload { model: model.into() });
    let loaded = |model: &str| Input::Outcome(Outcome::Loaded { model: model.into() });
    let start = |id, model: &str| {
        Output::Command(Command::Start { request: RequestId(id), model: model.into() })
    };
    let failed =
        |id| Output::Ended { request: RequestId(id), end: End::Failed { error: String::new() } };
    let upgrade = |reason| {
        Output::Decision(Decision {
            action: Action::Upgrade { to: Rung(2) },
            rung: Rung(1),
            reason,
            gates: Vec::new(),
        })
    };
    check(
        |c| {
            c.input(zero, &Input::Request(Request::chat(1, 1, 1)));
            c.output(&start(1, "small"));
        },
        &["S1"],
    );
    check(
        |c| {
            c.input(zero, &Input::Request(Request::chat(1, 1, 1)));
            c.output(&failed(1));
            c.output(&failed(1));
        },
        &["S2"],
    );
    check(
        |c| {
            c.input(zero, &memory(4, 0));
            c.output(&load("large"));
            c.output(&load("medium"));
        },
        &["S3", "S4"],
    );
    check(
        |c| {
            c.input(zero, &memory(10, 0));
            c.output(&load("large"));
        },
        &["S4"],
    );
    check(
        |c| {
            c.input(zero, &memory(14, 0));
            c.output(&upgrade(Reason::NoData));
        },
        &["S5"],
    );
    for (others, rules) in [(8, &["S5"][..]), (5, &[])] {
        check(
            |c| {
                serve_small(c);
                c.input(zero, &pressed(memory(others, 2)));
                c.output(&upgrade(Reason::NoData));
            },
            rules,
        );
    }
    check(
        |c| {
            c.input(zero, &memory(4, 0));
            c.output(&load("small"));
            c.input(zero, &loaded("small"));
            c.input(zero, &Input::Request(Request::chat(1, 1, 1)));
            c.output(&start(1, "small"));
            c.output(&unload("small"));
        },
        &["S6"],
    );
    check(
        |c| {
            c.input(at(5), &memory(4, 0));
            c.input(at(4), &memory(4, 0));
        },
        &["S7"],
    );
    check(|c| c.input(zero, &Input::Request(Request::chat(1, 1, 1))), &["L1"]);
    check(
        |c| {
            c.output(&load("large"));
            c.input(zero, &loaded("large"));
            for second in 0..20 {
                c.input(at(second), &memory(7, 9));
            }
        },
        &["L2"],
    );
    check(
        |c| {
            c.output(&Output::Serving { ladder: LadderId::FIRST, rung: Rung(1), model: None });
            // All waits together add up to just under an hour, most of it for the age of the room to outweigh the risk.
            for step in 0..(60 * 60 / 2) {
                c.input(at(step * 2), &memory(4, 2));
            }
        },
        &["L3"],
    );
}

#[test]
fn a_run_as_it_should_be_breaks_nothing() {
    check(
        |c| {
            let at = Timestamp::from_secs;
            c.input(at(0), &memory(4, 0));
            let load = Command::Load { model: "large".into(), gpu: None };
            c.output(&Output::Command(load));
            c.input(at(5), &Input::Outcome(Outcome::Loaded { model: "large".into() }));
            for second in 10..20 {
                c.input(at(second), &memory(7, 9));
                if second == 11 {
                    c.output(&Output::Decision(Decision {
                        action: Action::Downgrade { to: Rung(1), urgency: Urgency::Immediate },
                        rung: Rung(3),
                        reason: Reason::NoData,
                        gates: Vec::new(),
                    }));
                    let model = "large".into();
                    c.output(&Output::Command(Command::Unload { model }));
                }
            }
        },
        &[],
    );
}

#[test]
fn an_order_is_carried_out_however_soon_it_is_undone() {
    let mut checker = checker_with("", true);
    serve_small(&mut checker);
    let at = Timestamp::from_secs;
    let tier = || "medium".to_owned();
    checker.input(at(10), &Input::Switch { tier: tier(), for_: None });
    let news = OrderNews::Taken { wait: None, until: None };
    checker.output(&Output::Order { tier: tier(), news });
    let (ladder, from, to) = (LadderId::FIRST, Rung(1), Rung(2));
    let took = std::time::Duration::ZERO;
    checker.output(&serving(2, Some("medium")));
    checker.output(&Output::Switched { ladder, from, to, took, called_off: None });
    checker.output(&serving(0, None));
    for second in 11..600 {
        checker.input(at(second), &memory(14, 0));
    }
    assert_eq!(checker.violations.finish(), [""; 0]);
}
