//! Requests that name a model: it is loaded for them when its turn comes, and no reply is interrupted.

use tiershift_core::request::{Request, Target};

use crate::rig::{Rig, minutes, rig, seconds};

fn named(id: u64, model: &str) -> Request {
    Request { target: Target::Model(model.into()), connected: true, ..Request::chat(id, 10, 10) }
}

/// Returns a bench on which "medium" has served for a while.
fn bench(settings: &str) -> Rig {
    let mut rig = rig(settings).serving("medium");
    rig.samples(6.0, minutes(1));
    rig.outputs();
    rig
}

#[test]
fn what_names_the_model_that_serves_starts_at_once() {
    let mut rig = bench("");
    rig.ask(named(1, "medium"));
    rig.check(&["accept #1", "start #1 on medium"]);
}

#[test]
fn a_model_is_loaded_for_its_name_when_what_runs_has_finished() {
    let mut rig = bench("manager.at-drain-deadline = \"cancel\"");
    rig.request(1);
    rig.outputs();
    rig.ask(named(2, "small"));
    // There is room beside it: running requests continue.
    rig.check(&["queue #2", "down to small, Graceful: asked", "load small"]);
    rig.loaded("small");
    rig.check(&["serve small", "start #2 on small"]);
    rig.after(minutes(5));
    rig.check(&[]);
    rig.done(1);
    assert_eq!(rig.outputs()[1..], ["unload medium"]);
}

#[test]
fn what_runs_beside_a_named_model_is_cut_off_where_its_space_is_wanted_back() {
    let mut rig = bench("manager.at-drain-deadline = \"cancel\"");
    rig.request(1);
    rig.outputs();
    rig.ask(named(2, "small"));
    rig.loaded("small");
    rig.samples(2.0, minutes(5));
    rig.outputs();
    // 8 + 2 + 5 is above the line, 8 + 2 is not.
    rig.sample(8.0);
    rig.check(&["cancel #1"]);
    rig.cancelled(1);
    assert_eq!(rig.outputs()[1..], ["unload medium"]);
}

#[test]
fn nobody_is_degraded_by_a_name_and_it_stays_for_a_time() {
    let mut rig =
        bench("stabilization = \"10s\"\nreversal-window = \"10s\"\nprice = \"0s\"\ncalm = \"0s\"");
    rig.ask(named(1, "small"));
    rig.complete(6.0);
    rig.done(1);
    rig.samples(1.0, minutes(4));
    rig.check_hold_kind("named");
    let lines = rig.outputs();
    assert!(
        !lines.iter().any(|line| line.contains("degraded") || line.starts_with("up to")),
        "{lines:?}"
    );
    rig.samples(1.0, minutes(3));
    let lines = rig.outputs();
    assert!(lines.iter().any(|line| line.starts_with("up to large")), "{lines:?}");
}

#[test]
fn each_name_has_its_turn_and_no_sooner_than_the_last_one_has_stayed() {
    let mut rig = bench("");
    for (id, model) in [(1, "small"), (2, "medium"), (3, "small")] {
        rig.ask(named(id, model));
    }
    // The serving model needs no turn.
    let lines = rig.outputs();
    assert_eq!(lines[..2], ["queue #1", "down to small, Graceful: asked"]);
    rig.complete(6.0);
    rig.done(2);
    rig.complete(6.0);
    rig.outputs();
    rig.ask(named(4, "medium"));
    rig.samples(6.0, minutes(4));
    assert!(!rig.outputs().iter().any(|line| line.starts_with("up")), "it has not stayed yet");
    rig.done(1);
    rig.done(3);
    rig.samples(6.0, minutes(1) + seconds(10));
    let lines = rig.outputs();
    assert!(lines.contains(&"up to medium: asked".to_owned()), "{lines:?}");
    rig.complete(6.0);
    assert!(rig.outputs().contains(&"start #4 on medium".to_owned()));
}

#[test]
fn what_waits_for_the_name_that_was_loaded_goes_before_another_name() {
    let mut rig = bench("manager.named-stays = \"1s\"\nmanager.switch-cooldown = \"0s\"");
    for id in 1..=3 {
        rig.ask(named(id, "small"));
    }
    rig.ask(named(4, "large"));
    rig.complete(1.0);
    rig.outputs();
    rig.samples(1.0, seconds(30));
    assert!(!rig.outputs().iter().any(|line| line.starts_with("up")), "#3 waits for a slot");
    rig.done(1);
    assert_eq!(rig.outputs()[1..3], ["start #3 on small", "up to large: asked"]);
}

#[test]
fn a_name_without_room_is_refused_when_its_patience_is_over() {
    let mut rig = bench("");
    rig.ask(named(1, "large"));
    rig.check(&["queue #1"]);
    rig.samples(6.0, seconds(58));
    rig.check(&[]);
    rig.samples(6.0, seconds(4));
    rig.check(&["#1 Deadline, again in about 1m"]);
}

#[test]
fn an_order_goes_before_a_name_and_says_until_when() {
    let mut rig = bench("");
    rig.switch_for("small", minutes(10));
    rig.complete(6.0);
    rig.outputs();
    rig.ask(named(1, "medium"));
    rig.check(&["#1 HeldElsewhere, again in 10m"]);
    rig.ask(named(2, "small"));
    rig.check(&["accept #2", "start #2 on small"]);
    rig.switch("auto");
    rig.outputs();
    // A waiting request gets its answer when the order arrives.
    rig.ask(named(3, "medium"));
    rig.check(&["queue #3"]);
    rig.switch("small");
    assert!(rig.outputs().contains(&"#3 HeldElsewhere".to_owned()));
}

#[test]
fn beside_a_pinned_tier_no_name_is_loaded() {
    let mut rig = bench("manager.pin = \"medium\"");
    rig.ask(named(1, "small"));
    rig.check(&["#1 HeldElsewhere"]);
    rig.ask(named(2, "medium"));
    rig.check(&["accept #2", "start #2 on medium"]);
}
