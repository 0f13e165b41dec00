//! Findings of random worlds: a story for each kind, with the rule that it broke.

use tiershift_core::catalog::{Catalog, RawCatalog};
use tiershift_core::decision::Reason;
use tiershift_core::model::Task;
use tiershift_core::request::Request;
use tiershift_core::sample::{GpuSample, Space};
use tiershift_core::units::Bytes;

use crate::rig::{Rig, gib, minutes, rig, rig_with_models, seconds};

/// Puts GPUs of 24 GiB into the machine, with this much of others' use.
fn put_gpus(rig: &mut Rig, others: &[f64]) {
    let gpu = |&others: &f64| GpuSample {
        vram: Some(Space { total: Bytes::from_gib(24), others: gib(others), own: Bytes::ZERO }),
        ..GpuSample::default()
    };
    rig.rest.gpus = others.iter().map(gpu).collect();
}

/// Returns a rig with a "small" model with these needs, and a "large" one on a GPU that takes next to nothing of main
/// memory.
fn rig_of_two(settings: &str, small_needs: &str) -> Rig {
    let table = |id: &str, quality: u8, needs: &str| {
        format!(
            "[[model]]\nid = '{id}'\ntier = '{id}'\nquality = '{quality}%'\n{needs}\n\
             load-warm = '2s'\nload-cold = '2s'\n\
             prefill-tokens-per-second = 100.0\ndecode-tokens-per-second = 10.0\n"
        )
    };
    let small = table("small", 50, small_needs);
    let large = table("large", 100, "ram = '1MiB'\nvram = '20GiB'");
    let catalog: RawCatalog = toml::from_str(&(small + &large)).unwrap();
    Rig::new(settings, Catalog::try_from(catalog).unwrap())
}

// S9: no serving model is unloaded for one without a place.

#[test]
fn a_model_that_finishes_what_runs_serves_on_where_the_room_of_its_successor_goes_meanwhile() {
    let mut rig = rig("").serving("medium");
    rig.samples(2.0, minutes(1));
    rig.request(1);
    rig.switch("large");
    rig.after(minutes(2));
    rig.outputs();
    // The order has stopped its service; now others take the room for "large".
    rig.sample(7.0);
    rig.check(&[
        "serve medium",
        "medium to medium in 2m 2s, large called off",
        "order large refused: would-not-fit, again in 1m",
    ]);
    rig.done(1);
    rig.check(&["#1 done by medium in 2m 2s"]);
}

#[test]
fn a_step_down_that_nothing_forces_is_called_off_where_its_goal_is_crowded_out_while_it_loads() {
    let mut rig = rig_of_two("", "ram = '4GiB'");
    put_gpus(&mut rig, &[0.0]);
    rig.sample(1.0);
    rig.complete(1.0);
    rig.samples(1.0, minutes(1));
    rig.outputs();
    rig.switch("small");
    rig.check(&["down to small, Graceful: asked", "load small"]);
    // Half of it is loaded, and others take the rest.
    rig.late = gib(2.0);
    rig.sample(12.5);
    rig.check(&["unload small"]);
    rig.late = Bytes::ZERO;
    rig.complete(12.5);
    rig.check(&[
        "large to large in 2s, small called off",
        "order small refused: would-not-fit, again in 1m",
    ]);
}

#[test]
fn memory_that_outlives_the_settle_limit_is_nobody_s_to_give_back() {
    let mut rig = rig("").serving("large");
    rig.samples(1.0, minutes(1));
    rig.switch("small");
    rig.complete(1.0);
    // "large" is reported as unloaded, but 9 GiB of it are still in use.
    rig.late = gib(9.0);
    rig.samples(1.0, seconds(4));
    rig.outputs();
    rig.switch("auto");
    rig.samples(1.0, minutes(30));
    rig.check_hold_kind("would-not-fit");
    let lines = rig.outputs();
    assert_eq!(lines, ["order auto released"], "\"small\" serves on");
    rig.late = Bytes::ZERO;
    rig.change_after(1.0);
}

#[test]
fn what_a_loaded_model_has_leaked_goes_with_it() {
    let mut rig = rig("").serving("medium");
    rig.samples(1.0, minutes(1));
    // It has grown by 4 GiB, and no model was unloaded before it.
    rig.late = gib(4.0);
    rig.change_after(1.0);
    rig.check(&["up to large: room", "serve none", "unload medium"]);
}

// S4: no load takes a space over its line, by the truth of the machine.

#[test]
fn what_was_loaded_after_the_last_reading_counts_beside_what_that_shows() {
    let mut rig = rig("manager.try-out = false").serving("large");
    rig.samples(1.0, minutes(1));
    // It dies, and its memory is not yet free when it is loaded again.
    rig.late = gib(4.0);
    rig.crashed("large");
    rig.after(seconds(1));
    rig.check(&["serve none", "load large"]);
    rig.loaded("large");
    rig.outputs();
    rig.switch("small");
    // 1 + 4 + 9 + 2 GiB are too much.
    rig.check(&["down to small, Graceful: asked", "serve none", "unload large"]);
}

// L2: a space above its line is relieved.

#[test]
fn a_switch_looks_at_the_gpu_that_its_goal_is_on_and_not_at_one_where_it_would_fit() {
    let on_gpu = |id: &str| format!("vram = '{}GiB'", if id == "small" { 4 } else { 15 });
    let mut rig = rig_with_models("manager.pin = 'small'", on_gpu);
    put_gpus(&mut rig, &[0.0, 12.0]);
    rig.sample(1.0);
    rig.complete(1.0);
    rig.samples(1.0, minutes(1));
    rig.outputs();
    // "small" is on the first GPU. Running requests continue while a switch to it, from nothing to itself, cannot end.
    rig.request(1);
    rig.check(&["accept #1", "start #1 on small"]);
    put_gpus(&mut rig, &[19.0, 0.0]);
    rig.sample(1.0);
    rig.check(&["down to none, Immediate: above-degrade-line", "serve none"]);
}

#[test]
fn a_step_down_from_what_an_upgrade_has_just_brought_is_none_up_from_what_served_before() {
    let mut rig = rig("").serving("small");
    rig.samples(1.0, minutes(1));
    rig.request(1);
    rig.switch("large");
    rig.loaded("large");
    rig.request(2);
    rig.outputs();
    // "small" still finishes its running requests, and "large" is no longer wanted: it does not wait for an idle moment.
    rig.sample(7.0);
    rig.check(&["down to medium, Critical: above-degrade-line", "serve none"]);
    rig.after(seconds(10));
    rig.check(&["cancel #1", "cancel #2"]);
}

#[test]
fn what_makes_way_for_a_shortage_is_no_stand_in_for_a_successor_that_does_not_load() {
    let mut rig = rig("manager.load-attempts = 1").serving("large");
    rig.samples(1.0, minutes(1));
    rig.request(1);
    rig.sample(5.6);
    rig.check(&[
        "accept #1",
        "start #1 on large",
        "down to medium, Immediate: above-degrade-line",
        "serve none",
    ]);
    rig.done(1);
    rig.complete_but_fail("medium", 5.6);
    let lines = rig.outputs();
    assert!(lines.contains(&"serve small".to_owned()), "{lines:?}");

    let mut rig = rig_with_models("manager.load-attempts = 1", |_| String::new()).serving("large");
    rig.samples(1.0, minutes(1));
    rig.request(1);
    rig.sample(3.0);
    rig.switch("small");
    rig.outputs();
    // It loads beside "large", for which others then leave no room; then it fails, and the running requests are not done yet.
    rig.sample(6.0);
    rig.load_failed("small");
    rig.sample(6.0);
    let lines = rig.outputs();
    assert!(!lines.contains(&"serve large".to_owned()), "{lines:?}");
}

#[test]
fn a_gpu_that_others_fill_takes_nothing_away_that_is_not_on_it() {
    let on_gpu = |id: &str| if id == "large" { "vram = '20GiB'" } else { "" }.to_owned();
    let mut rig = rig_with_models("", on_gpu);
    put_gpus(&mut rig, &[10.0]);
    rig.sample(3.0);
    rig.complete(3.0);
    rig.samples(3.0, minutes(5));
    rig.outputs();
    for step in 0..20 {
        put_gpus(&mut rig, &[12.0 + f64::from(step)]);
        rig.sample(3.0);
    }
    rig.check(&[]);
}

// S11: a wait that depends only on us is kept.

#[test]
fn of_two_waits_the_longer_one_is_named() {
    let mut rig = rig("manager.load-attempts = 1\nmanager.load-retry = '20m'").serving("medium");
    rig.samples(2.0, minutes(6));
    rig.switch("large");
    rig.complete_but_fail("large", 2.0);
    rig.outputs();
    rig.switch("large");
    let refused = rig.outputs();
    assert!(refused[0].starts_with("order large refused: backoff, again in 1"), "{refused:?}");
    rig.sample(2.0);
    let Reason::Backoff { remaining, .. } = rig.decision().reason else {
        panic!("{:?}", rig.decision().reason);
    };
    assert!(remaining > minutes(19), "{remaining:?}");
}

#[test]
fn a_wait_that_was_short_for_a_wish_stays_so_when_the_wish_is_over() {
    let sees = |id: &str| if id == "large" { "tasks = ['chat', 'vision']" } else { "" }.to_owned();
    let mut rig = rig_with_models("calm = '20m'", sees).serving("medium");
    rig.samples(6.0, minutes(1));
    rig.ask(Request { task: Task::Vision, ..Request::chat(1, 10, 10) });
    rig.samples(6.0, minutes(7));
    rig.switch("small");
    rig.complete(6.0);
    rig.switch("auto");
    rig.samples(2.0, minutes(5) - seconds(10));
    let remaining = match rig.decision().reason {
        Reason::Cooldown { remaining, .. } | Reason::Window { remaining, .. } => remaining,
        other => panic!("{other:?}"),
    };
    assert!(remaining < minutes(1), "{remaining:?}");
    rig.samples(2.0, seconds(20));
    let kind = rig.decision().reason.kind();
    assert!(kind != "cooldown", "{:?}", rig.decision().reason);
}

#[test]
fn a_cooldown_that_is_said_to_be_over_by_the_next_reading_is() {
    // With a quarter of the quality to gain, one of these makes a return worthwhile at the end of the window, but not a second
    // later.
    for calm in 445..=450 {
        let mut rig = rig(&format!("calm = '{calm}s'")).serving("large");
        rig.samples(1.0, minutes(10));
        rig.switch("medium");
        rig.complete(1.0);
        rig.switch("auto");
        let (mut is_over, mut waits) = (false, 0);
        for _ in 0..200 {
            rig.sample(1.0);
            let Reason::Cooldown { remaining, .. } = rig.decision().reason else { continue };
            assert!(!is_over, "calm {calm} s: {remaining:?} more");
            waits += 1;
            is_over = remaining <= seconds(2);
        }
        assert!(waits > 100, "calm {calm} s: {waits}");
    }
}

// L2: a shortage is relieved.

#[test]
fn an_order_that_would_end_a_shortage_does_not_wait_for_an_idle_moment() {
    // Others fill main memory, of which "large" takes next to nothing.
    let mut rig = rig_of_two("manager.start = 'small'", "ram = '4GiB'\nvram = '8GiB'\nslots = 2");
    put_gpus(&mut rig, &[1.0]);
    rig.sample(1.0);
    rig.complete(1.0);
    rig.request(1);
    rig.outputs();
    rig.switch("large");
    rig.request(2);
    rig.check(&["up to large: asked", "accept #2", "start #2 on small"]);
    rig.sample(11.0);
    rig.request(3);
    rig.check(&["serve none", "queue #3"]);
}

#[test]
fn what_a_shortage_forces_out_while_it_loads_goes_although_its_successor_rests() {
    let mut rig = rig("manager.load-retry = '10m'\nmanager.load-attempts = 9");
    rig.sample(1.0);
    rig.switch("medium");
    rig.obey_all_but("medium");
    rig.sample(1.0);
    rig.load_failed("medium");
    rig.switch("large");
    rig.sample(1.0);
    rig.switch("auto");
    rig.outputs();
    // "large" is half there. From nothing loaded, the step down to "medium" leads up.
    rig.late = gib(9.0);
    rig.sample(6.0);
    rig.check(&["down to medium, Immediate: above-degrade-line", "unload large"]);
}

// S10: an order is carried out or refused.

#[test]
fn what_has_loaded_serves_while_what_is_wanted_in_its_place_rests() {
    let mut rig = rig("manager.load-attempts = 1\nmanager.load-retry = '10m'");
    rig.sample(11.0);
    rig.load_failed("small");
    rig.samples(11.0, seconds(30));
    rig.outputs();
    rig.sample(8.0);
    rig.switch("medium");
    rig.check(&["up to medium: asked", "load medium"]);
    // Others make it too much for a moment, and "small" cannot be loaded yet.
    rig.sample(10.5);
    rig.sample(8.0);
    rig.loaded("medium");
    let lines = rig.outputs();
    assert!(lines.contains(&"serve medium".to_owned()), "{lines:?}");
}

#[test]
fn an_order_waits_for_the_cooldown_that_ran_when_it_was_given_and_for_no_later_one() {
    let mut rig = rig("").serving("small");
    rig.samples(2.0, minutes(1));
    rig.switch("medium");
    rig.complete(2.0);
    rig.outputs();
    rig.switch("large");
    rig.check(&["order large in 30s"]);
    // A shortage forces a step down meanwhile, and another cooldown begins.
    rig.samples(2.0, seconds(20));
    rig.sample(10.0);
    rig.complete(10.0);
    rig.outputs();
    rig.samples(10.0, seconds(10));
    rig.check(&["order large refused: would-not-fit, again in 1m"]);
}

#[test]
fn an_order_does_not_wait_for_the_rest_of_a_model_to_which_a_shortage_leads() {
    let mut rig = rig("manager.pin = 'small'");
    rig.sample(4.0);
    for wait in [10, 20, 40, 80, 160] {
        rig.load_failed("small");
        rig.samples(4.0, seconds(wait));
    }
    rig.load_failed("small");
    rig.sample(4.0);
    rig.outputs();
    rig.switch("medium");
    rig.check(&["up to medium: asked", "load medium"]);
    // Half of it is loaded, and others take the rest.
    rig.late = gib(2.6);
    rig.sample(12.0);
    rig.late = Bytes::ZERO;
    rig.unloaded("medium");
    rig.sample(12.0);
    rig.check(&[
        "down to small, Critical: above-degrade-line",
        "unload medium",
        "order medium refused: would-not-fit, again in 1m",
    ]);
    // There is room again, and "small" rests for another four minutes.
    rig.samples(4.0, minutes(1));
    rig.check(&[]);
    rig.switch("medium");
    rig.check(&["up to medium: asked", "load medium"]);
}

// A server that answers late, or answers something that was not requested.

#[test]
fn a_request_on_a_model_that_has_gone_unasked_is_given_up_like_any_other() {
    let mut rig = rig("manager.reply-limit = '1m'").serving("medium");
    rig.samples(2.0, minutes(1));
    rig.request(1);
    rig.unloaded("medium");
    rig.outputs();
    rig.samples(2.0, minutes(1));
    let lines = rig.outputs();
    assert!(lines.contains(&"#1 failed".to_owned()), "{lines:?}");
    assert!(!lines.iter().any(|line| line.starts_with("unload")), "{lines:?}");
}

// Loads without end: a rescue that a shortage reverses.

#[test]
fn a_rescue_that_is_taken_back_before_it_serves_is_a_lost_one() {
    let mut rig = rig("");
    rig.sample(15.0);
    let mut waits = Vec::new();
    for _ in 0..6 {
        let waited = rig.change_after(10.0);
        waits.push(waited.as_secs());
        // Before it is loaded, others take the room.
        rig.sample(15.8);
        rig.complete(15.8);
        rig.outputs();
    }
    assert!(waits.is_sorted() && waits[5] >= 16 * waits[0].max(5), "{waits:?}");
}

// Own use that is read as others'.

#[test]
fn where_our_use_is_read_as_others_what_came_with_a_load_is_ours() {
    let mut rig = rig("");
    rig.blind = true;
    rig.sample(2.0);
    rig.complete(2.0);
    rig.check(&["up to large: room", "load large", "serve large", "none to large in 0s"]);
    rig.samples(2.0, minutes(60));
    rig.check(&[]);
    // Others' use rises and is noticed: 6 + 9 GiB are too much.
    rig.sample(6.0);
    rig.check(&["down to medium, Immediate: above-degrade-line", "serve none", "unload large"]);
    rig.complete(6.0);
    assert_eq!(rig.outputs().pop().as_deref(), Some("notice large to medium: above-degrade-line"));
    rig.samples(6.0, minutes(60));
    rig.check(&[]);
}

#[test]
fn a_gpu_that_fills_is_not_left_full_while_a_larger_model_loads_elsewhere() {
    let on_gpu = |id: &str| if id == "small" { "vram = '8GiB'" } else { "" }.to_owned();
    let settings = "manager.pin = 'small'\nmanager.drain-deadline = '30s'";
    let mut rig = rig_with_models(settings, on_gpu);
    put_gpus(&mut rig, &[10.0]);
    rig.sample(1.0);
    rig.complete(1.0);
    rig.samples(1.0, minutes(1));
    rig.outputs();
    rig.switch("medium");
    rig.check(&["up to medium: asked", "load medium"]);
    // Others fill the GPU while "medium" loads in main memory.
    put_gpus(&mut rig, &[15.0]);
    rig.samples(1.0, seconds(20));
    rig.check(&[]);
    rig.samples(1.0, seconds(20));
    rig.check(&["serve none", "unload small"]);
}
