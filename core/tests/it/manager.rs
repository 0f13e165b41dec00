//! The rules by which models are loaded, serve, fail and are unloaded. Most stories order a tier, so that the policy has no
//! influence.

use tiershift_core::catalog::Rung;
use tiershift_core::decision::Reason;
use tiershift_core::event::{Input, Outcome};
use tiershift_core::sample::{GpuSample, Space};
use tiershift_core::units::Bytes;

use crate::rig::{Rig, gib, minutes, rig, rig_with_models, seconds};

/// Returns a bench on which a model has served for a minute beside this much of others' use [GiB]. Its tier is pinned: only
/// orders go higher.
fn rested(settings: &str, model: &str, others: f64) -> Rig {
    let mut rig = rig(&format!("manager.pin = '{model}'\n{settings}")).serving(model);
    rig.samples(others, minutes(1));
    rig.check(&[]);
    rig
}

// Switches.

#[test]
fn where_both_fit_the_new_model_loads_before_the_old_one_goes() {
    let mut rig = rested("", "small", 4.0);
    rig.switch("medium");
    rig.check(&["up to medium: asked", "load medium"]);
    rig.after(seconds(3));
    rig.loaded("medium");
    rig.check(&["serve medium", "unload small"]);
    rig.after(seconds(1));
    rig.unloaded("small");
    rig.check(&["small to medium in 4s"]);
}

#[test]
fn where_they_do_not_both_fit_the_old_model_goes_first() {
    let mut rig = rested("", "medium", 2.0);
    rig.switch("large");
    rig.check(&["up to large: asked", "serve none", "unload medium"]);
    rig.unloaded("medium");
    rig.check(&[]);
    // Its memory still shows until the next sample.
    rig.after(seconds(1) / 4);
    rig.check(&["load large"]);
    rig.loaded("large");
    rig.check(&["serve large", "medium to large in 250ms"]);
}

#[test]
fn a_loaded_model_counts_in_full_whatever_the_last_sample_shows() {
    let mut rig = rested("", "small", 1.0);
    rig.request(1);
    rig.switch("medium");
    rig.loaded("medium");
    rig.outputs();
    // The sample shows the 2 GiB of "small", which would leave room for "large" as well.
    rig.switch("large");
    rig.check(&["up to large: asked", "serve none", "unload medium"]);
}

#[test]
fn freed_memory_is_looked_for_four_times_a_second() {
    let mut rig = rested("", "medium", 2.0);
    rig.switch("large");
    rig.late = gib(5.0);
    rig.unloaded("medium");
    assert_eq!(rig.wakes_in(), Some(seconds(1) / 4));
    rig.after(seconds(1) / 4);
    assert_eq!(rig.wakes_in(), Some(seconds(1) / 4));
}

#[test]
fn memory_that_does_not_come_back_is_waited_for_until_the_settle_limit() {
    // 4 GiB of others' use, 9 that are not free yet and 2 for "small" exceed the line.
    let mut rig = rested("", "large", 4.0);
    rig.switch("small");
    rig.late = gib(9.0);
    rig.unloaded("large");
    rig.outputs();
    rig.samples(4.0, seconds(4));
    rig.check(&[]);
    rig.after(seconds(2));
    rig.check(&[
        "large to none in 5s 250ms, small called off",
        "notice large to none: asked",
        "order small refused: would-not-fit, again in 1m",
    ]);
    // Once the memory is free, there is room, which is used with care: a larger model may release its memory late again.
    rig.samples(4.0, minutes(1));
    rig.check(&[]);
    rig.late = gib(0.0);
    rig.switch("auto");
    rig.outputs();
    rig.change_after(4.0);
    assert_eq!(rig.outputs()[0], "up to small: room");
}

#[test]
fn memory_that_once_came_back_late_is_waited_for_twice_as_long_the_next_time() {
    let mut rig = rested("", "large", 4.0);
    let released_after_seven_seconds = |rig: &mut Rig| {
        rig.switch("small");
        rig.late = gib(9.0);
        rig.unloaded("large");
        rig.samples(4.0, seconds(6));
        rig.late = Bytes::ZERO;
        rig.sample(4.0);
        rig.outputs()
    };
    let outputs = released_after_seven_seconds(&mut rig);
    assert!(outputs.contains(&"large to none in 5s 250ms, small called off".to_owned()));
    for tier in ["small", "large"] {
        rig.samples(4.0, minutes(1));
        rig.switch(tier);
        rig.complete(4.0);
    }
    rig.samples(4.0, minutes(1));
    rig.outputs();
    let outputs = released_after_seven_seconds(&mut rig);
    assert_eq!(outputs.last().unwrap(), "load small");
}

#[test]
fn a_switch_that_no_shortage_forces_comes_no_sooner_than_the_cooldown_after_the_last() {
    let mut rig = rested("", "small", 4.0);
    // A load that replaced nothing starts no cooldown.
    rig.switch("medium");
    rig.complete(4.0);
    rig.outputs();
    rig.samples(4.0, seconds(28));
    rig.switch("small");
    rig.check(&["order small in 2s"]);
    rig.sample(4.0);
    rig.check(&["down to small, Graceful: asked", "load small"]);
}

#[test]
fn a_shortage_does_not_wait_for_the_cooldown() {
    let mut rig = rig("").serving("large");
    rig.sample(2.0);
    rig.sample(6.0);
    rig.check(&["down to medium, Immediate: above-degrade-line", "serve none", "unload large"]);
}

#[test]
fn a_tier_that_is_unknown_or_does_not_fit_is_refused() {
    let mut rig = rested("", "small", 6.0);
    rig.switch("large");
    rig.check(&["order large refused: would-not-fit, again in 1m"]);
    rig.switch("huge");
    rig.check(&["order huge unknown"]);
    rig.switch("small");
    rig.check(&[]);
    rig.switch("none");
    rig.obey();
    rig.check(&[
        "down to none, Graceful: asked",
        "serve none",
        "unload small",
        "small to none in 0s",
        "notice small to none: asked",
    ]);
}

#[test]
fn two_models_never_load_at_once() {
    let mut rig = rested("", "small", 1.0);
    rig.switch("large");
    rig.after(seconds(1));
    rig.switch("medium");
    rig.check(&[
        "up to large: asked",
        "load large",
        "down to medium, Graceful: asked",
        "unload large",
    ]);
    rig.unloaded("large");
    rig.check(&["load medium"]);
}

#[test]
fn a_load_that_is_no_longer_wanted_is_ended_and_what_serves_stays() {
    let mut rig = rested("", "small", 1.0);
    rig.switch("large");
    rig.switch("small");
    rig.obey();
    rig.check(&[
        "up to large: asked",
        "load large",
        "down to small, Graceful: asked",
        "unload large",
        "small to small in 0s",
    ]);
}

#[test]
fn a_model_that_is_wanted_again_before_it_has_gone_is_not_loaded_twice() {
    let mut rig = rested("", "medium", 2.0);
    rig.request(1);
    rig.outputs();
    rig.switch("small");
    rig.loaded("small");
    rig.check(&["down to small, Graceful: asked", "load small", "serve small"]);
    rig.switch("medium");
    rig.obey();
    rig.check(&["up to medium: asked", "serve medium", "unload small", "medium to medium in 0s"]);
}

#[test]
fn a_load_that_others_crowd_out_is_given_up_and_what_serves_stays() {
    let mut rig = rested("", "small", 4.0);
    rig.switch("medium");
    rig.outputs();
    // With this much, "small" and the loaded half of "medium" are over the line.
    rig.late = gib(3.0);
    rig.sample(9.5);
    rig.obey();
    rig.check(&[
        "unload medium",
        "small to small in 2s, medium called off",
        "order medium refused: would-not-fit, again in 1m",
    ]);
}

#[test]
fn a_model_goes_to_the_gpu_with_the_most_room() {
    let vram = |id: &str| format!("vram = \"{}GiB\"", if id == "small" { 2 } else { 5 });
    let placed = |others: [f64; 2]| {
        let mut rig = rig_with_models("", vram);
        let total = Bytes::from_gib(12);
        let gpu = |others| GpuSample {
            vram: Some(Space { total, others: gib(others), own: Bytes::ZERO }),
            ..GpuSample::default()
        };
        rig.rest.gpus = others.map(gpu).to_vec();
        rig.sample(2.0);
        rig.outputs().pop().unwrap()
    };
    assert_eq!(placed([4.0, 1.0]), "load large on gpu 1");
    assert_eq!(placed([1.0, 4.0]), "load large on gpu 0");
    assert_eq!(placed([1.0, 1.0]), "load large on gpu 0");
}

// Upgrades.

/// Returns a bench on which "medium" serves a request and "large", which does not fit beside it, would fit in its place.
fn upgrading_behind_a_reply() -> Rig {
    let mut rig = rig("").serving("medium");
    rig.samples(2.0, minutes(4));
    rig.request(1);
    rig.outputs();
    rig.change_after(2.0);
    rig.check(&["up to large: room"]);
    rig
}

#[test]
fn an_upgrade_waits_for_an_idle_moment_of_what_serves() {
    let mut rig = upgrading_behind_a_reply();
    rig.request(2);
    rig.check(&["accept #2", "start #2 on medium"]);
    rig.done(1);
    rig.check(&["#1 done by medium in 1m 2s"]);
    rig.done(2);
    rig.check(&["#2 done by medium in 0s", "serve none", "unload medium"]);
}

#[test]
fn an_upgrade_that_finds_no_idle_moment_is_called_off_and_tried_again_later_and_later() {
    let mut rig = upgrading_behind_a_reply();
    for wait in [5, 10, 20] {
        rig.samples(2.0, minutes(2));
        rig.check(&["medium to medium in 2m, large called off"]);
        let called_off = rig.now;
        rig.change_after(2.0);
        rig.check(&["up to large: room"]);
        assert_eq!(rig.now.since(called_off).as_secs() / 60, wait);
    }
    rig.done(1);
    assert_eq!(rig.outputs()[1..], ["serve none", "unload medium"]);
}

#[test]
fn an_upgrade_that_found_no_idle_moment_is_made_at_the_next_one() {
    let mut rig = upgrading_behind_a_reply();
    rig.samples(2.0, minutes(3));
    rig.outputs();
    rig.done(1);
    rig.check(&["#1 done by medium in 4m 2s"]);
    rig.sample(2.0);
    rig.check(&["up to large: room", "serve none", "unload medium"]);
}

#[test]
fn an_upgrade_whose_room_goes_while_it_waits_takes_nothing_away() {
    let mut rig = upgrading_behind_a_reply();
    rig.sample(8.0);
    rig.check(&["medium to medium in 2s, large called off"]);
    rig.done(1);
    rig.check(&["#1 done by medium in 1m 4s"]);
}

#[test]
fn an_upgrade_that_somebody_ordered_takes_nothing_new_after_its_deadline() {
    let mut rig = rested("", "medium", 2.0);
    rig.request(1);
    rig.switch("large");
    rig.check(&["accept #1", "start #1 on medium", "up to large: asked"]);
    rig.samples(2.0, minutes(2) - seconds(2));
    rig.request(2);
    rig.check(&["accept #2", "start #2 on medium"]);
    rig.sample(2.0);
    rig.check(&["serve none"]);
    rig.request(3);
    rig.done(1);
    rig.done(2);
    rig.check(&["queue #3", "#1 done by medium in 2m", "#2 done by medium in 2s", "unload medium"]);
}

// Orders.

#[test]
fn an_order_holds_until_somebody_says_auto() {
    let mut rig = rig("").serving("medium");
    rig.samples(2.0, minutes(1));
    rig.switch("small");
    rig.complete(2.0);
    rig.outputs();
    rig.samples(2.0, minutes(120));
    rig.check_hold(Reason::Ordered { to: Rung(1), remaining: None });
    rig.check(&[]);
    rig.switch("auto");
    rig.check(&["order auto released"]);
    rig.change_after(2.0);
    assert_eq!(rig.outputs()[0], "up to large: room");
}

#[test]
fn an_order_for_a_time_ends_by_itself() {
    let mut rig = rig("").serving("medium");
    rig.samples(2.0, minutes(1));
    rig.switch_for("none", minutes(30));
    rig.obey();
    rig.check(&[
        "order none until 1860 s",
        "down to none, Graceful: asked",
        "serve none",
        "unload medium",
        "medium to none in 0s",
        "notice medium to none: asked",
    ]);
    rig.samples(2.0, minutes(29));
    rig.check_hold(Reason::Ordered { to: Rung(0), remaining: Some(minutes(1)) });
    rig.check(&[]);
    rig.change_after(2.0);
    rig.check(&["order none released", "up to large: room", "load large"]);
}

#[test]
fn a_shortage_wins_over_an_order_which_is_come_back_to() {
    let mut rig = rig("").serving("small");
    rig.samples(2.0, minutes(1));
    rig.switch("medium");
    rig.complete(2.0);
    rig.outputs();
    rig.sample(10.0);
    assert_eq!(rig.outputs()[0], "down to small, Immediate: above-degrade-line");
    rig.complete(10.0);
    rig.outputs();
    rig.change_after(2.0);
    assert_eq!(rig.outputs()[0], "up to medium: asked");
}

#[test]
fn an_order_takes_the_place_of_one_that_waits() {
    let mut rig = rested("", "small", 4.0);
    rig.switch("medium");
    rig.complete(4.0);
    rig.outputs();
    rig.switch("none");
    rig.switch("small");
    rig.check(&["order none in 30s", "order small in 30s"]);
    rig.samples(4.0, seconds(30));
    rig.check(&["down to small, Graceful: asked", "load small"]);
}

// Adoption.

#[test]
fn what_is_loaded_already_serves_and_the_start_tier_is_forgotten() {
    let mut rig = rig("manager.start = 'small'");
    rig.adopt(&["medium"]);
    rig.check(&["serve medium", "none to medium in 0s"]);
    rig.samples(2.0, minutes(1));
    rig.check(&[]);
}

#[test]
fn of_several_models_the_best_serves_and_the_rest_goes() {
    let mut rig = rig("");
    rig.adopt(&["large", "small", "unknown"]);
    rig.obey();
    rig.check(&["serve large", "unload small", "none to large in 0s"]);
}

#[test]
fn what_is_above_the_pinned_tier_is_not_kept() {
    let mut rig = rig("manager.pin = 'medium'");
    rig.adopt(&["large", "medium"]);
    rig.obey();
    rig.check(&["serve medium", "unload large", "none to medium in 0s"]);
}

// Failures.

#[test]
fn a_failed_load_rests_before_it_is_tried_again() {
    let mut rig = rested("", "small", 1.0);
    rig.switch("medium");
    rig.load_failed("medium");
    rig.outputs();
    rig.after(seconds(9));
    rig.check(&[]);
    rig.after(seconds(1));
    rig.check(&["load medium"]);
    rig.obey();
    rig.check(&["serve medium", "unload small", "small to medium in 10s"]);
}

#[test]
fn the_rest_doubles_with_each_failure_up_to_32_times() {
    let mut rig = rested("manager.load-attempts = 99", "small", 1.0);
    rig.switch("medium");
    for want in [10, 20, 40, 80, 160, 320, 320] {
        rig.outputs();
        rig.load_failed("medium");
        assert_eq!(rig.wakes_in(), Some(seconds(want)));
        rig.after(seconds(want));
        rig.check(&["load medium"]);
    }
}

#[test]
fn good_service_for_a_reversal_window_forgives_a_failure() {
    let second_failure_after = |served| {
        let mut rig = rested("", "small", 1.0);
        rig.switch("medium");
        rig.load_failed("medium");
        rig.after(seconds(10));
        rig.obey();
        rig.samples(1.0, served);
        rig.outputs();
        rig.crashed("medium");
        rig.after(seconds(1));
        rig.outputs()
    };
    let stood_in_for = ["notice medium failed 2 times", "serve none", "load small"];
    assert_eq!(second_failure_after(minutes(14)), stood_in_for);
    assert_eq!(second_failure_after(minutes(15)), ["serve none", "load medium"]);
}

#[test]
fn a_load_that_gets_on_is_not_given_up_and_one_that_stops_is_after_a_minute() {
    let mut rig = rested("", "small", 4.0);
    rig.switch("medium");
    rig.outputs();
    // Ten times its limit where no progress is visible.
    for _ in 0..60 {
        rig.after(seconds(20));
        rig.outcome(Outcome::Loading { model: "medium".into() });
    }
    rig.after(seconds(59));
    rig.check(&[]);
    rig.after(seconds(1));
    rig.check(&["notice medium did not answer: Load", "unload medium"]);
    // Too late, for one that is not loading, and for one that is not in the catalog.
    for model in ["medium", "small", "other"] {
        rig.outcome(Outcome::Loading { model: model.into() });
    }
    rig.check(&[]);
}

#[test]
fn a_load_without_an_answer_has_failed_at_its_time_out() {
    let timeout = |_: &str| "load-timeout = \"20s\"".to_owned();
    let mut rig = rig_with_models("manager.pin = 'small'", timeout).serving("small");
    rig.samples(1.0, minutes(1));
    rig.switch("medium");
    rig.outputs();
    rig.after(seconds(19));
    rig.check(&[]);
    rig.after(seconds(1));
    rig.check(&["notice medium did not answer: Load", "unload medium"]);
    rig.unloaded("medium");
    rig.after(seconds(9));
    rig.check(&[]);
    rig.after(seconds(1));
    rig.check(&["load medium"]);
}

#[test]
fn an_unload_without_an_answer_is_asked_for_less_and_less_often_and_then_not_waited_for() {
    let mut rig = rested("", "small", 1.0);
    rig.switch("none");
    rig.outputs();
    for wait in [15, 30] {
        rig.after(seconds(wait - 1));
        rig.check(&[]);
        rig.after(seconds(1));
        rig.check(&["unload small"]);
    }
    rig.after(minutes(1));
    rig.check(&[
        "notice small did not answer: Unload",
        "unload small",
        "small to none in 1m 45s",
        "notice small to none: asked",
    ]);
    // Its memory counts as in use.
    rig.switch("auto");
    rig.samples(5.0, minutes(20));
    assert!(rig.outputs().iter().all(|line| line != "load large"));
}

#[test]
fn readings_that_show_a_model_gone_stand_for_an_unload_without_an_answer() {
    let mut rig = rested("", "small", 1.0);
    rig.switch("none");
    rig.vanish("small");
    rig.sample(1.0);
    rig.outputs();
    rig.after(seconds(13));
    rig.check(&[
        "notice small did not answer: Unload",
        "small to none in 15s",
        "notice small to none: asked",
    ]);
    // The next unload is waited for as if it were the first.
    rig.switch("small");
    rig.obey();
    rig.samples(1.0, seconds(30));
    rig.switch("none");
    rig.outputs();
    rig.after(seconds(15));
    rig.check(&["unload small"]);
}

#[test]
fn the_wait_for_a_model_that_rests_and_is_not_unloaded_either_is_the_longer_one() {
    let timeout = |_: &str| "load-timeout = \"20s\"".to_owned();
    let settings = "manager.pin = 'small'\nmanager.load-retry = '10m'\nmanager.load-attempts = 1";
    let mut rig = rig_with_models(settings, timeout).serving("small");
    rig.samples(1.0, minutes(1));
    rig.switch("medium");
    rig.after(seconds(20));
    // Its server does not answer for a quarter, half and all of a minute, and is asked again after two.
    rig.after(seconds(105));
    rig.outputs();
    rig.sample(1.0);
    rig.switch("medium");
    rig.check(&["order medium refused: backoff, again in 8m 13s"]);
}

#[track_caller]
fn check_stand_in(fallbacks: &str, serving: Option<&str>, want: &[&str]) {
    let fallback = |id: &str| if id == "large" { fallbacks.to_owned() } else { String::new() };
    let mut rig = match serving {
        Some(model) => {
            rig_with_models(&format!("manager.pin = '{model}'"), fallback).serving(model)
        }
        None => rig_with_models("", fallback),
    };
    rig.samples(1.0, seconds(30));
    rig.switch("large");
    rig.load_failed("large");
    rig.after(seconds(10));
    rig.outputs();
    rig.load_failed("large");
    rig.after(seconds(1));
    let told = rig.outputs();
    assert_eq!(told[0], "notice large failed 2 times");
    assert_eq!(told[1..], *want);
}

#[test]
fn a_model_that_does_not_load_is_stood_in_for() {
    // By its fallbacks first, then by the serving model, then by the best below.
    let refused = "order large refused: backoff, again in 20s";
    check_stand_in("fallbacks = [\"small\"]", None, &["load small"]);
    check_stand_in("fallbacks = [\"medium\", \"small\"]", Some("small"), &["load medium"]);
    check_stand_in("", Some("small"), &["small to small in 10s", refused]);
    check_stand_in("", None, &["load medium"]);
}

#[test]
fn a_model_that_has_just_failed_stands_in_for_no_other() {
    let fallback = |id: &str| match id {
        "large" => "fallbacks = [\"medium\", \"small\"]".to_owned(),
        _ => String::new(),
    };
    let settings = "manager.load-attempts = 1\nmanager.pin = 'small'";
    let mut rig = rig_with_models(settings, fallback).serving("small");
    rig.samples(1.0, minutes(1));
    rig.switch("medium");
    rig.load_failed("medium");
    rig.after(seconds(1));
    rig.outputs();
    rig.switch("large");
    rig.load_failed("large");
    rig.check(&[
        "up to large: asked",
        "load large",
        "notice large failed 1 times",
        "small to small in 0s",
        "order large refused: backoff, again in 10s",
    ]);
}

#[test]
fn a_stand_in_that_does_not_load_either_is_stood_in_for() {
    let mut rig = rig("manager.load-attempts = 1");
    rig.sample(2.0);
    for model in ["large", "medium", "small"] {
        rig.load_failed(model);
        rig.after(seconds(1));
    }
    rig.check(&[
        "up to large: room",
        "load large",
        "notice large failed 1 times",
        "load medium",
        "notice medium failed 1 times",
        "load small",
        "notice small failed 1 times",
        "none to none in 2s",
    ]);
}

#[test]
fn the_first_time_that_a_model_dies_it_is_brought_back_at_once_and_then_later_and_later() {
    let mut rig = rested("manager.load-attempts = 99", "medium", 1.0);
    for rest in [0, 10, 20, 40] {
        rig.crashed("medium");
        rig.check(&["serve none"]);
        rig.after(seconds(rest).saturating_sub(seconds(1)));
        rig.check(&[]);
        rig.after(seconds(1));
        rig.check(&["load medium"]);
        rig.loaded("medium");
        rig.outputs();
        rig.samples(1.0, minutes(1));
    }
}

#[test]
fn a_model_that_dies_once_too_often_is_stood_in_for() {
    let mut rig = rested("manager.load-attempts = 1", "medium", 1.0);
    rig.crashed("medium");
    rig.after(seconds(1));
    rig.check(&["notice medium failed 1 times", "serve none", "load small"]);
    rig.loaded("small");
    rig.check(&["serve small", "medium to small in 1s", "notice medium to small: failing"]);
}

#[test]
fn a_model_that_dies_while_it_drains_is_gone() {
    let mut rig = rested("", "medium", 1.0);
    rig.request(1);
    rig.switch("small");
    rig.loaded("small");
    rig.outputs();
    rig.failed(1);
    rig.check(&["#1 failed", "unload medium"]);
    rig.crashed("medium");
    rig.check(&["medium to small in 0s", "notice medium to small: asked"]);
}

#[test]
fn answers_about_models_that_are_not_managed_change_nothing() {
    let mut rig = rested("", "medium", 1.0);
    rig.loaded("somebody-elses");
    rig.crashed("somebody-elses");
    rig.loaded("large");
    rig.unloaded("small");
    rig.check(&[]);
}

// Draining.

/// Returns a bench on which "medium" serves a request and must be replaced by "small", which is loaded.
fn draining(settings: &str) -> Rig {
    let mut rig = rested(settings, "medium", 1.0);
    rig.request(1);
    rig.switch("small");
    rig.loaded("small");
    rig.check(&[
        "accept #1",
        "start #1 on medium",
        "down to small, Graceful: asked",
        "load small",
        "serve small",
    ]);
    rig
}

#[test]
fn a_model_goes_when_its_last_request_has_ended() {
    let mut rig = draining("");
    rig.after(seconds(7));
    rig.done(1);
    rig.check(&["#1 done by medium in 7s", "unload medium"]);
}

#[test]
fn what_still_runs_at_the_drain_deadline_is_waited_for() {
    let mut rig = draining("");
    rig.after(minutes(60));
    rig.check(&[]);
    rig.done(1);
    rig.check(&["#1 done by medium in 1h", "unload medium"]);
}

#[test]
fn what_still_runs_at_the_drain_deadline_is_cancelled_where_the_settings_say_so() {
    let mut rig = draining("manager.at-drain-deadline = 'cancel'");
    rig.after(minutes(2) - seconds(1));
    rig.check(&[]);
    rig.after(seconds(1));
    rig.check(&["cancel #1"]);
    rig.cancelled(1);
    rig.check(&["#1 cancelled by DrainDeadline", "unload medium"]);
}

#[test]
fn under_a_critical_shortage_what_still_runs_after_a_short_time_is_cut() {
    let mut rig = rested("", "medium", 1.0);
    rig.request(1);
    rig.outputs();
    rig.sample(15.5);
    rig.check(&["down to none, Critical: above-degrade-line", "serve none"]);
    rig.after(seconds(9));
    rig.check(&[]);
    rig.after(seconds(1));
    rig.check(&["cancel #1"]);
    rig.cancelled(1);
    rig.check(&["#1 cancelled by DrainDeadline", "unload medium"]);
}

#[test]
fn under_a_critical_shortage_it_is_waited_for_where_the_settings_say_so() {
    let mut rig = rested("manager.at-critical-drain-deadline = 'wait'", "medium", 1.0);
    rig.request(1);
    rig.sample(15.5);
    rig.outputs();
    rig.after(minutes(10));
    rig.check(&[]);
}

#[test]
fn where_a_critical_shortage_is_no_exception_what_runs_has_as_long_as_at_any_other_time() {
    let settings =
        "manager.at-critical-drain-deadline = 'wait'\nmanager.at-drain-deadline = 'cancel'";
    let mut rig = rested(settings, "medium", 1.0);
    rig.request(1);
    rig.sample(15.5);
    rig.outputs();
    rig.after(minutes(2) - seconds(1));
    rig.check(&[]);
    rig.after(seconds(1));
    rig.check(&["cancel #1"]);

    // A shortage that becomes critical meanwhile starts no second deadline.
    let mut rig = draining(settings);
    rig.sample(9.9);
    rig.after(seconds(60));
    rig.sample(15.5);
    rig.outputs();
    rig.after(seconds(56));
    assert_eq!(rig.outputs().pop().as_deref(), Some("cancel #1"));
}

#[test]
fn a_shortage_that_becomes_critical_shortens_the_wait() {
    let mut rig = rested("", "medium", 1.0);
    rig.request(1);
    rig.outputs();
    rig.sample(9.9);
    rig.check(&["down to small, Immediate: above-degrade-line", "serve none"]);
    rig.samples(9.9, minutes(1));
    rig.check(&[]);
    rig.sample(11.0);
    rig.after(seconds(10));
    rig.check(&["cancel #1"]);
}

#[test]
fn a_request_that_is_never_answered_has_an_end_and_its_server_is_replaced() {
    let mut rig = rested("manager.reply-limit = '10m'", "medium", 1.0);
    rig.request(1);
    rig.outputs();
    rig.after(minutes(10));
    rig.check(&[
        "notice medium did not answer: Request",
        "#1 failed",
        "unload medium",
        "serve none",
    ]);
    rig.unloaded("medium");
    rig.after(seconds(1));
    rig.check(&["load medium"]);
}

// Shutdown and settings.

#[test]
fn a_shutdown_refuses_what_waits_finishes_what_runs_and_unloads() {
    let mut rig = rested("", "medium", 1.0);
    for id in 1..=3 {
        rig.request(id);
    }
    rig.outputs();
    rig.feed(&Input::Shutdown);
    rig.check(&["#3 ShuttingDown", "serve none"]);
    rig.request(4);
    rig.check(&["#4 ShuttingDown"]);
    rig.done(1);
    rig.check(&["#1 done by medium in 0s"]);
    rig.after(minutes(2));
    rig.check(&["cancel #2"]);
    rig.cancelled(2);
    rig.unloaded("medium");
    rig.check(&["#2 cancelled by Shutdown", "unload medium", "medium to none in 2m"]);
    rig.samples(1.0, minutes(60));
    rig.check_hold_kind("stopping");
    rig.switch("small");
    rig.check(&["order small refused: stopping, again in 1m"]);
}

#[test]
fn a_shutdown_ends_whatever_the_server_answers() {
    let mut rig = rested("", "medium", 1.0);
    rig.request(1);
    rig.sample(10.0);
    rig.after(minutes(5));
    rig.outputs();
    // A request that has been draining for longer than its deadline gets the shutdown's, then the time for a cancel and an unload.
    rig.feed(&Input::Shutdown);
    rig.after(minutes(2));
    rig.check(&["cancel #1"]);
    rig.after(seconds(15));
    rig.check(&["#1 cancelled by Shutdown", "unload medium"]);
    rig.after(seconds(15));
    rig.check(&["notice medium did not answer: Unload", "medium to none in 2m 30s"]);
}

#[test]
fn new_settings_apply_at_once_and_the_models_stay() {
    let mut rig = rig("").serving("medium");
    rig.samples(2.0, minutes(1));
    rig.set("manager.pin = 'medium'");
    rig.samples(2.0, minutes(60));
    rig.check_hold_kind("fixed");
    rig.set("stabilization = '1m'");
    assert_eq!(rig.change_after(2.0), minutes(1));
    rig.check(&["up to large: room", "serve none", "unload medium"]);
}

#[test]
fn new_settings_forget_nothing_that_mistakes_have_taught() {
    let mut rig = upgrading_behind_a_reply();
    rig.samples(2.0, minutes(2));
    rig.check(&["medium to medium in 2m, large called off"]);
    let called_off = rig.now;
    rig.set("price = '50s'");
    rig.change_after(2.0);
    rig.outputs();
    rig.samples(2.0, minutes(2));
    rig.set("price = '40s'");
    rig.outputs();
    rig.change_after(2.0);
    assert_eq!(rig.now.since(called_off).as_secs() / 60, 5 + 2 + 10);
    // A new policy has learned nothing.
    rig.samples(2.0, minutes(2));
    rig.set("policy = 'projecting'");
    assert!(rig.change_after(2.0) < minutes(10));
}

#[test]
fn invalid_settings_change_nothing() {
    let mut rig = rig("").serving("medium");
    rig.samples(2.0, minutes(1));
    rig.set("manager.pin = 'huge'\nstabilization = '1m'");
    rig.set("upgrade-line = '95%'\nstabilization = '1m'");
    rig.change_after(2.0);
    // Five minutes after the first sample.
    assert_eq!(rig.now.as_secs_f64(), 302.0);
}
