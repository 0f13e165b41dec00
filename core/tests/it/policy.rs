//! The rules of the proactive policy, one story each. A changed rule fails the story that is named after it.

use std::time::Duration;

use tiershift_core::catalog::{Catalog, RawCatalog, Rung};
use tiershift_core::decision::{Action, GateName, Odds, Reason};
use tiershift_core::event::{Input, Outcome};
use tiershift_core::request::{Request, RequestId};
use tiershift_core::sample::{GpuSample, Pressure, Rate, Resource, Space};
use tiershift_core::time::Timestamp;
use tiershift_core::units::{Bytes, Percent};

use crate::rig::{Rig, gib, minutes, rig, rig_with_models, seconds};

const SMALL: Rung = Rung(1);
const LARGE: Rung = Rung(3);

fn busy(percent: u32) -> Option<Rate> {
    Some(Rate { others: Percent::new(percent), own: Percent::ZERO })
}

fn under_pressure(percent: u32) -> Option<Pressure> {
    Some(Pressure { memory_some: Percent::new(percent), ..Pressure::default() })
}

/// GPUs with 16 GiB of memory, with this much of others' use.
fn gpus(others: &[f64]) -> Vec<GpuSample> {
    let total = Bytes::from_gib(16);
    let gpu = |&others: &f64| GpuSample {
        vram: Some(Space { total, others: gib(others), own: Bytes::ZERO }),
        ..GpuSample::default()
    };
    others.iter().map(gpu).collect()
}

/// Returns a bench with "small", which takes 2 GiB of main memory, and "large", which takes 2 GiB of it and 9 of a GPU's.
fn rig_with_large_on_gpu(settings: &str) -> Rig {
    let model = |(id, quality, vram): (&str, u32, &str)| {
        format!(
            "[[model]]\nid = \"{id}\"\ntier = \"{id}\"\nquality = \"{quality}%\"\nram = \"2GiB\"\n{vram}\n\
             load-warm = \"1s\"\nload-cold = \"2s\"\nprefill-tokens-per-second = 100.0\n\
             decode-tokens-per-second = 10.0\n",
        )
    };
    let models = [("small", 50, ""), ("large", 100, "vram = \"9GiB\"")].map(model);
    let catalog: RawCatalog = toml::from_str(&models.concat()).unwrap();
    Rig::new(settings, Catalog::try_from(catalog).unwrap())
}

/// Returns a bench on which "medium" serves beside others, after a second change upwards.
fn past_the_start(settings: &str, others: f64) -> Rig {
    let mut rig = rig(settings).serving("small");
    rig.sample(others);
    rig.switch("medium");
    rig.complete(others);
    rig.switch("auto");
    rig.outputs();
    rig
}

#[test]
fn a_larger_model_is_no_better_where_it_cannot_serve_what_is_asked_for() {
    let context = |id: &str| match id {
        "medium" => "context-tokens = 8192".to_owned(),
        _ => "context-tokens = 1000".to_owned(),
    };
    let settings = "performance-window = '1m'";
    let mut rig = rig_with_models(settings, context).serving("medium");
    rig.sample(1.0);
    rig.outputs();
    rig.ask(Request::chat(1, 4000, 10));
    rig.done(1);
    rig.check(&["accept #1", "start #1 on medium", "#1 done by medium in 0s"]);
    // Without that request, the policy would step up at once. The request is remembered for two windows.
    rig.samples(1.0, seconds(118));
    rig.check_hold(Reason::WouldNotServe { to: LARGE });
    rig.samples(1.0, minutes(10));
    rig.complete(1.0);
    assert_eq!(rig.outputs()[0], "up to large: room");
}

#[test]
fn a_climb_goes_past_a_rung_that_cannot_serve_what_waits() {
    let tasks = |id: &str| match id {
        "small" => "tasks = ['chat']\ncontext-tokens = 1000".to_owned(),
        "medium" => "tasks = ['chat']\ncontext-tokens = 8192".to_owned(),
        _ => "tasks = ['chat']\ncontext-tokens = 2000".to_owned(),
    };
    let mut rig = rig_with_models("manager.patience = '2h'", tasks).serving("small");
    rig.sample(1.0);
    rig.ask(Request::chat(1, 4000, 10));
    rig.samples(1.0, minutes(15));
    rig.complete(1.0);
    let outputs = rig.outputs();
    assert!(outputs.contains(&"start #1 on medium".to_owned()), "{outputs:?}");
}

#[test]
fn from_nothing_the_smallest_that_can_serve_what_waits_is_loaded() {
    let tasks = |id: &str| match id {
        "small" => "tasks = ['embedding']".to_owned(),
        "medium" => "tasks = ['chat']\nload-cold = '60s'".to_owned(),
        _ => "tasks = ['chat']\nload-cold = '120s'".to_owned(),
    };
    let mut rig = rig_with_models("manager.patience = '2h'", tasks);
    rig.samples(16.0, seconds(10));
    rig.request(1);
    rig.samples(5.0, minutes(2));
    let outputs = rig.outputs();
    assert!(outputs.contains(&"load medium".to_owned()), "{outputs:?}");
    assert!(!outputs.contains(&"load small".to_owned()), "{outputs:?}");
}

/// Returns a bench on which nothing is loaded any more, after others took all the memory.
fn turned_out(settings: &str, load_cold: &str) -> Rig {
    let mut rig =
        rig_with_models(settings, |_| format!("load-cold = \"{load_cold}\"")).serving("small");
    rig.sample(10.0);
    lose(&mut rig);
    rig
}

/// Lets others take all the memory, so that the serving model is unloaded.
#[track_caller]
fn lose(rig: &mut Rig) {
    rig.sample(15.0);
    rig.complete(15.0);
    rig.sample(15.0);
    rig.check_hold_kind("would-not-fit");
    rig.outputs();
}

/// Reads the machine every second until something is loaded, and returns the number of seconds since the first of these
/// readings.
#[track_caller]
fn rescued_after(rig: &mut Rig, others: f64) -> u64 {
    for waited in 0..1000 {
        rig.after(seconds(1));
        rig.sample_now(others);
        if rig.decision().action != Action::Hold {
            return waited;
        }
    }
    panic!("nothing was loaded: {:?}", rig.decision());
}

/// Shows a shortage for which the large model must step down, and completes the switch to "medium".
#[track_caller]
fn turn_out_of_large(rig: &mut Rig) {
    rig.outputs();
    rig.sample(6.0);
    assert_eq!(rig.outputs()[0], "down to medium, Immediate: above-degrade-line");
    rig.complete(6.0);
}

// The start.

#[test]
fn the_first_load_waits_for_nothing() {
    let mut rig = rig("");
    rig.sample(2.0);
    rig.check(&["up to large: room", "load large"]);
}

#[test]
fn the_first_load_goes_where_it_fits_whatever_the_upgrade_line_says() {
    let first_on = |others| {
        let mut rig = rig("upgrade-line = '10%'");
        rig.sample(others);
        rig.outputs().first().cloned()
    };
    // With 16 GiB, the degrade line is at 14.4.
    assert_eq!(first_on(5.3).as_deref(), Some("up to large: room"));
    assert_eq!(first_on(5.5).as_deref(), Some("up to medium: room"));
    assert_eq!(first_on(9.5).as_deref(), Some("up to small: room"));
    assert_eq!(first_on(12.3).as_deref(), Some("up to small: room"));
    assert_eq!(first_on(12.5), None);
}

#[test]
fn the_smallest_goes_first_unless_a_larger_one_is_ready_at_most_15_seconds_later() {
    let first_of = |loads: [u64; 3]| {
        let load = |id: &str| match id {
            "small" => format!("load-cold = \"{}s\"", loads[0]),
            "medium" => format!("load-cold = \"{}s\"", loads[1]),
            _ => format!("load-cold = \"{}s\"", loads[2]),
        };
        let mut rig = rig_with_models("", load);
        rig.sample(2.0);
        rig.outputs().pop().unwrap()
    };
    assert_eq!(first_of([2, 5, 17]), "load large");
    assert_eq!(first_of([2, 5, 18]), "load medium");
    assert_eq!(first_of([2, 17, 18]), "load medium");
    assert_eq!(first_of([2, 18, 18]), "load small");
    assert_eq!(first_of([60, 70, 75]), "load large");
}

#[test]
fn a_larger_model_goes_first_only_where_that_is_worth_its_risk() {
    let first_on = |price: &str| {
        let mut rig = rig(&format!("price = '{price}'"));
        // Next to nothing is left beside "large".
        rig.sample(5.4);
        rig.outputs().pop().unwrap()
    };
    assert_eq!(first_on("1m"), "load large");
    assert_eq!(first_on("1h"), "load medium");
}

#[test]
fn the_start_climbs_at_once_where_both_models_fit_side_by_side() {
    let mut rig = rig("").serving("small");
    // As soon as readings have settled.
    assert_eq!(rig.change_after(3.3), seconds(2));
    rig.check(&["up to large: room", "load large"]);
}

#[test]
fn the_start_climbs_at_once_after_a_first_load_too() {
    let load = |id: &str| match id {
        "small" => String::new(),
        _ => "load-cold = \"30s\"".to_owned(),
    };
    let mut rig = rig_with_models("", load);
    rig.sample(2.0);
    rig.obey();
    assert_eq!(rig.change_after(2.0), seconds(2));
    rig.check(&[
        "up to small: room",
        "load small",
        "serve small",
        "none to small in 0s",
        "up to large: room",
        "load large",
    ]);
}

#[test]
fn the_start_climbs_once_and_what_does_not_fit_beside_waits_for_the_window() {
    let mut rig = rig("").serving("small");
    assert_eq!(rig.change_after(3.6), seconds(2));
    rig.check(&["up to medium: room", "load medium"]);
    rig.complete(3.6);
    rig.outputs();
    let changed = rig.now;
    rig.change_after(3.6);
    assert_eq!(rig.now.since(changed), minutes(5));
    assert_eq!(rig.outputs()[0], "up to large: room");
}

#[test]
fn the_start_climbs_at_once_only_where_the_odds_are_good() {
    let climbs_after = |prices: &str| {
        let mut rig = rig(prices).serving("small");
        // It fits now, and a little later beside "small" as well.
        rig.sample(5.2);
        rig.samples(3.3, seconds(10));
        rig.outputs().first().cloned()
    };
    assert_eq!(climbs_after("").as_deref(), Some("up to large: room"));
    assert_eq!(climbs_after("price = '3h'").as_deref(), Some("up to medium: room"));
    // Undoing that would not count as a reversal.
    assert_eq!(climbs_after("calm = '1h'").as_deref(), Some("up to large: room"));
}

#[test]
fn after_the_first_step_back_the_start_is_over() {
    let mut rig = rig("").serving("large");
    rig.sample(2.0);
    rig.sample(11.0);
    rig.complete(11.0);
    rig.outputs();
    // Both fit side by side.
    assert_eq!(rig.change_after(2.0), minutes(5));
    rig.check(&["up to large: room", "load large"]);
}

#[test]
fn new_settings_after_a_step_back_do_not_bring_the_start_back() {
    let mut rig = rig("").serving("large");
    rig.sample(2.0);
    rig.sample(11.0);
    rig.complete(11.0);
    rig.set("stabilization = '2m'");
    assert_eq!(rig.change_after(2.0), minutes(2));
}

#[test]
fn the_start_tier_is_loaded_first_and_left_like_any_other() {
    let mut rig = rig("manager.start = 'small'");
    rig.sample(2.0);
    rig.check(&["up to small: asked", "load small"]);
    rig.obey();
    rig.outputs();
    assert_eq!(rig.change_after(2.0), seconds(2));
    rig.check(&["up to large: room", "load large"]);
}

#[test]
fn a_start_tier_that_does_not_fit_is_not_loaded() {
    let mut rig = rig("manager.start = 'large'");
    rig.sample(6.0);
    rig.check(&["up to medium: room", "load medium"]);
}

// With nothing loaded.

#[test]
fn with_nothing_loaded_the_smallest_is_back_after_its_load_time_from_5_to_15_seconds() {
    let back_after = |load_cold| rescued_after(&mut turned_out("", load_cold), 10.0);
    assert_eq!(["1s", "5s", "12s", "15s", "2m"].map(back_after), [5, 5, 12, 15, 15]);
}

#[test]
fn each_rescue_that_is_lost_too_soon_doubles_the_wait_up_to_five_minutes() {
    let mut rig = turned_out("", "2s");
    for want in [5, 10, 20, 40, 80, 160, 300, 300] {
        assert_eq!(rescued_after(&mut rig, 10.0), want);
        rig.complete(10.0);
        lose(&mut rig);
    }
}

/// Returns the wait after a rescue that served beside others for about this long.
fn wait_after_a_rescue_of(settings: &str, span: Duration) -> u64 {
    let mut rig = turned_out(settings, "2s");
    rescued_after(&mut rig, 10.0);
    rig.complete(10.0);
    rig.samples(10.0, span);
    lose(&mut rig);
    rescued_after(&mut rig, 10.0)
}

#[test]
fn a_rescue_is_lost_too_soon_where_it_did_not_earn_its_price() {
    // Twice the price, for half of the best quality.
    assert_eq!(wait_after_a_rescue_of("", seconds(230)), 10);
    assert_eq!(wait_after_a_rescue_of("", seconds(240)), 5);
    assert_eq!(wait_after_a_rescue_of("price = '15s'", seconds(50)), 10);
    assert_eq!(wait_after_a_rescue_of("price = '15s'", seconds(60)), 5);
    // Five minutes of service are enough at any price.
    assert_eq!(wait_after_a_rescue_of("price = '1h'", seconds(290)), 10);
    assert_eq!(wait_after_a_rescue_of("price = '1h'", seconds(300)), 5);
}

#[test]
fn a_rescue_that_served_for_long_forgives_all_that_were_lost() {
    let mut rig = turned_out("", "2s");
    for span in [minutes(0), minutes(0), minutes(0), minutes(5)] {
        rescued_after(&mut rig, 10.0);
        rig.complete(10.0);
        rig.samples(10.0, span);
        lose(&mut rig);
    }
    assert_eq!(rescued_after(&mut rig, 10.0), 5);
}

#[test]
fn no_line_no_rate_and_no_cooldown_keeps_the_smallest_out_where_it_fits() {
    let mut rig = turned_out("upgrade-line = '10%'\nmanager.switch-cooldown = '1h'", "2s");
    rig.rest.cpu = busy(100);
    rig.rest.pressure = under_pressure(100);
    assert_eq!(rescued_after(&mut rig, 12.3), 5);
    rig.check(&["up to small: room", "load small"]);
}

#[test]
fn with_nothing_loaded_one_bad_reading_starts_the_wait_over() {
    let mut rig = turned_out("", "10s");
    rig.samples(10.0, seconds(8));
    rig.sample(13.0);
    assert_eq!(rescued_after(&mut rig, 10.0), 10);
}

#[test]
fn with_nothing_loaded_a_larger_model_waits_no_longer_than_the_smallest() {
    let load = |id: &str| format!("load-cold = \"{}s\"", if id == "large" { 15 } else { 2 });
    let mut rig = rig_with_models("", load).serving("small");
    rig.sample(10.0);
    lose(&mut rig);
    assert_eq!(rescued_after(&mut rig, 2.0), 5);
    rig.check(&["up to large: room", "load large"]);
}

#[test]
fn from_nothing_it_goes_to_the_highest_rung_that_is_ready_nearly_as_soon() {
    let loaded_with = |settings: &str| {
        let mut rig = turned_out(settings, "2s");
        assert_eq!(rescued_after(&mut rig, 5.0), 5, "{settings}");
        rig.outputs().pop().unwrap()
    };
    assert_eq!(loaded_with(""), "load large");
    // Others' use moved by ten of 16 GiB, and little room is left beside the larger models.
    assert_eq!(loaded_with("calm = '2h'"), "load small");
}

// Window and cooldown.

#[test]
fn a_rung_must_fit_for_the_whole_window_before_an_upgrade() {
    let mut rig = rig("").serving("medium");
    rig.samples(7.0, minutes(20));
    rig.check_hold_kind("would-not-fit");
    rig.sample(2.0);
    rig.check_hold(Reason::Window { to: LARGE, remaining: minutes(5) });
    assert_eq!(rig.change_after(2.0), minutes(5) - seconds(2));
    rig.check(&["up to large: room", "serve none", "unload medium"]);
}

fn window_of(settings: &str) -> u64 {
    let mut rig = rig(settings).serving("medium");
    rig.samples(7.0, minutes(20));
    rig.change_after(2.0).as_secs()
}

#[test]
fn the_window_is_as_long_as_it_is_set() {
    assert_eq!(window_of("stabilization = '90s'"), 90);
    assert_eq!(window_of("stabilization = '10m'"), 600);
}

#[test]
fn an_automatic_window_is_a_quarter_of_the_time_that_earns_the_price_and_five_minutes_at_most() {
    // Twice the price for a quarter of the best quality, and a quarter of that time.
    let window_at = |price: &str| window_of(&format!("stabilization = 'auto'\nprice = '{price}'"));
    assert_eq!(["10s", "1m", "2m", "150s", "10m"].map(window_at), [20, 120, 240, 300, 300]);
}

#[test]
fn one_bad_reading_starts_the_window_over() {
    let mut rig = rig("").serving("medium");
    rig.samples(7.0, minutes(20));
    rig.samples(2.0, minutes(4));
    rig.sample(7.0);
    assert_eq!(rig.change_after(2.0), minutes(5));
}

#[test]
fn after_an_upgrade_the_window_passes_before_the_next() {
    let mut rig = rig("").serving("small");
    rig.sample(4.0);
    // The window of "large" begins while "medium" loads, the cooldown once that is loaded.
    rig.samples(4.0, minutes(2));
    rig.loaded("medium");
    rig.obey();
    rig.outputs();
    let changed = rig.now;
    rig.samples(4.0, minutes(4));
    rig.check_hold(Reason::Cooldown { to: Rung(3), remaining: minutes(1) });
    rig.change_after(4.0);
    assert_eq!(rig.now.since(changed), minutes(5));
}

/// Returns after how long "large" is loaded again, if there is room for it after the time `crowded`.
fn back_after(settings: &str, crowded: Duration) -> u64 {
    let mut rig = rig(settings).serving("large");
    rig.samples(2.0, minutes(1));
    turn_out_of_large(&mut rig);
    let changed = rig.now;
    rig.samples(6.0, crowded);
    rig.change_after(2.0);
    rig.now.since(changed).as_secs()
}

#[test]
fn a_step_down_is_taken_back_before_the_reversal_window_ends_only_where_that_pays() {
    // A quarter of the best quality for the rest of the 15 minutes, against 0.334 of `calm`: 150 s are worth 449.
    assert_eq!(back_after("", Duration::ZERO), 15 * 60);
    assert_eq!(back_after("calm = '450s'", Duration::ZERO), 15 * 60);
    assert_eq!(back_after("calm = '440s'", Duration::ZERO), 302);
    assert_eq!(back_after("calm = '0s'", Duration::ZERO), 302);
    // Later there is less to gain.
    assert_eq!(back_after("calm = '420s'", seconds(60)), 15 * 60);
    assert_eq!(back_after("calm = '200s'", seconds(60)), 362);
    assert_eq!(back_after("reversal-window = '8m'", Duration::ZERO), 8 * 60);
}

#[test]
fn the_end_of_the_reversal_window_is_what_is_waited_for() {
    let mut rig = rig("").serving("large");
    rig.samples(2.0, minutes(1));
    turn_out_of_large(&mut rig);
    rig.samples(2.0, minutes(6));
    rig.check_hold(Reason::Cooldown { to: Rung(3), remaining: minutes(9) });
}

#[test]
fn what_the_manager_would_drop_for_its_cooldown_is_held_under_any_policy() {
    for policy in ["proactive", "projecting"] {
        let cooldown = "stabilization = '1m'\nmanager.switch-cooldown = '10m'";
        let mut rig = past_the_start(&format!("policy = '{policy}'\n{cooldown}"), 2.0);
        let changed = rig.now;
        rig.samples(2.0, minutes(4));
        rig.check_hold(Reason::Cooldown { to: Rung(3), remaining: minutes(6) });
        rig.change_after(2.0);
        assert_eq!(rig.now.since(changed), minutes(10), "{policy}");
    }
}

// The upgrade line.

#[test]
fn no_upgrade_while_a_space_is_above_the_upgrade_line() {
    let mut rig = rig("upgrade-line = '50%'").serving("medium");
    rig.samples(3.0, minutes(20));
    let [used, line] = [50, 50].map(Percent::new);
    rig.check_hold(Reason::AboveUpgradeLine { resource: Resource::Memory, gpu: None, used, line });
    rig.check(&[]);
    // There was room for the whole window: only the present use was too high.
    assert_eq!(rig.change_after(2.9), seconds(0));
}

#[test]
fn the_upgrade_line_counts_only_where_the_higher_rung_needs_more() {
    let step = |others: f64, on_gpu: f64| {
        let mut rig = rig_with_large_on_gpu("upgrade-line = '30%'").serving("small");
        rig.rest.gpus = gpus(&[on_gpu]);
        rig.samples(others, minutes(20));
        rig.outputs().first().cloned().unwrap_or(rig.decision().reason.kind().to_owned())
    };
    assert_eq!(step(10.0, 1.0), "up to large: room");
    assert_eq!(step(2.0, 5.0), "above-upgrade-line");
    // Here all models take the same amount of the GPU.
    let vram = |_: &str| "vram = \"2GiB\"".to_owned();
    let mut rig = rig_with_models("upgrade-line = '50%'", vram).serving("medium");
    rig.rest.gpus = gpus(&[8.0]);
    rig.samples(2.0, minutes(20));
    assert_eq!(rig.outputs()[0], "up to large: room");
}

#[test]
fn no_rate_keeps_an_upgrade_away() {
    let mut rig = past_the_start("", 2.0);
    rig.rest.cpu = busy(100);
    rig.rest.pressure = under_pressure(100);
    rig.change_after(2.0);
    assert_eq!(rig.outputs()[0], "up to large: room");
}

// Risk.

/// Returns a bench on which others' use has risen to 9.3 of 16 GiB in a few minutes. At 4.6, there are 0.8 GiB to spare
/// beside "large".
fn restless(settings: &str) -> Rig {
    let mut rig = past_the_start(settings, 0.0);
    for step in 0..=93 {
        rig.sample(0.1 * f64::from(step));
    }
    rig.check(&[]);
    rig
}

#[test]
fn an_upgrade_that_would_likely_be_lost_too_soon_is_too_risky() {
    let mut rig = restless("");
    rig.samples(4.6, minutes(5));
    rig.check_hold_kind("window");
    rig.sample(4.6);
    let milli = Percent::from_milli;
    let odds = Odds {
        spare: milli(5_002),
        moved: milli(58_123),
        risk: milli(78_916),
        worth: milli(56_604),
    };
    let (to, resource, good_for) = (LARGE, Resource::Memory, minutes(5));
    rig.check_hold(Reason::TooRisky { to, resource, gpu: None, good_for, odds });
}

#[test]
fn unbroken_room_opens_the_gate_however_much_others_moved() {
    // A quarter of the best quality, for as long as there was room, equals twice the price and `calm`.
    let goes_after = |settings: &str| restless(settings).change_after(4.6).as_secs();
    assert_eq!(goes_after(""), 23 * 60);
    assert_eq!(goes_after("price = '1m'\ncalm = '200s'"), 5 * 60);
}

#[test]
fn where_others_do_not_move_a_little_room_is_enough() {
    let mut rig = past_the_start("", 5.3);
    let changed = rig.now;
    rig.change_after(5.3);
    assert_eq!(rig.now.since(changed), minutes(5));
    assert_eq!(rig.outputs()[0], "up to large: room");
}

#[test]
fn more_calm_holds_for_longer() {
    let goes_after = |calm: &str| {
        let mut rig = restless(&format!("calm = '{calm}'"));
        rig.change_after(4.6).as_secs() / 60
    };
    assert_eq!(["0s", "450s", "1h"].map(goes_after), [5, 23, 30]);
}

#[test]
fn where_changes_cost_nothing_the_window_is_all_that_holds() {
    let free = "price = '0s'\ncalm = '0s'";
    assert_eq!(restless(free).change_after(4.6), minutes(5));
    let mut rig = past_the_start(&format!("{free}\nstabilization = 'auto'"), 9.3);
    rig.samples(9.3, minutes(1));
    assert_eq!(rig.change_after(4.6), seconds(0));
}

// The highest rung that fits.

#[test]
fn up_it_goes_straight_to_the_highest_rung_that_fits() {
    let mut rig = rig("calm = '0s'").serving("large");
    rig.sample(2.0);
    rig.switch("small");
    rig.complete(2.0);
    rig.switch("auto");
    rig.outputs();
    rig.change_after(2.0);
    assert_eq!(rig.outputs()[0], "up to large: room");
}

#[test]
fn a_rung_that_waits_for_its_window_keeps_no_lower_one_away() {
    let mut rig = rig("calm = '0s'").serving("large");
    rig.sample(2.0);
    rig.switch("small");
    rig.complete(6.0);
    rig.switch("auto");
    rig.samples(6.0, minutes(4));
    rig.outputs();
    assert!(rig.change_after(2.0) <= minutes(1));
    assert_eq!(rig.outputs()[0], "up to medium: room");
}

// Missing readings.

/// Returns a bench on which "large" has had room for four of the five minutes.
fn four_minutes_of_room() -> Rig {
    let mut rig = rig("").serving("medium");
    rig.samples(7.0, minutes(20));
    rig.samples(2.0, minutes(4));
    rig.check_hold(Reason::Window { to: LARGE, remaining: seconds(62) });
    rig
}

#[test]
fn what_was_not_seen_is_left_out_of_the_window_and_does_not_spoil_it() {
    let mut rig = four_minutes_of_room();
    // A reading within `stale-after` leaves no gap.
    rig.after(seconds(8));
    rig.sample(2.0);
    rig.check_hold(Reason::Window { to: LARGE, remaining: seconds(52) });
    rig.after(seconds(9));
    rig.sample(2.0);
    rig.check_hold(Reason::Window { to: LARGE, remaining: seconds(52) });
}

#[test]
fn readings_that_fail_are_left_out_of_the_window() {
    let mut rig = four_minutes_of_room();
    for reading in 1..=30 {
        rig.after(seconds(2));
        rig.feed(&Input::SampleMissing { error: "no".to_owned() });
        rig.check_hold(Reason::Stale { age: seconds(2 * reading) });
    }
    rig.sample(2.0);
    rig.check_hold(Reason::Window { to: LARGE, remaining: seconds(62) });
}

#[test]
fn readings_that_cannot_be_are_left_out_of_the_window() {
    let mut rig = four_minutes_of_room();
    for reading in 1..=30 {
        rig.sample(2.0 * 1024.0);
        rig.check_hold(Reason::Stale { age: seconds(2 * reading) });
    }
    rig.sample(2.0);
    rig.check_hold(Reason::Window { to: LARGE, remaining: seconds(62) });
}

#[test]
fn a_sleep_of_half_an_hour_starts_the_window_over() {
    let left_after = |slept| {
        let mut rig = four_minutes_of_room();
        rig.after(slept);
        rig.sample_now(2.0);
        rig.decision().reason
    };
    let window = |left| Reason::Window { to: LARGE, remaining: seconds(left) };
    assert_eq!(left_after(minutes(29)), window(62));
    assert_eq!(left_after(minutes(30)), window(300));
    assert_eq!(left_after(minutes(600)), window(300));
}

#[test]
fn readings_at_odd_times_do_not_starve_the_larger_model() {
    let mut rig = rig("").serving("medium");
    rig.samples(7.0, minutes(20));
    let began = rig.now;
    for pause in [1, 11, 4, 7, 40, 2, 9, 3, 10, 6, 40, 5, 8].into_iter().cycle().take(300) {
        rig.after(seconds(pause));
        rig.sample_now(2.0);
        if rig.decision().action != Action::Hold {
            break;
        }
    }
    assert_eq!(rig.outputs()[0], "up to large: room");
    let took = rig.now.since(began);
    assert!(took > minutes(5) && took < minutes(12), "{took:?}");
}

#[test]
fn nothing_is_known_before_the_first_reading() {
    let mut rig = rig("");
    rig.feed(&Input::SampleMissing { error: "no".to_owned() });
    rig.check_hold(Reason::NoData);
}

// Spaces.

fn all_on_gpu(id: &str) -> String {
    format!("vram = \"{}GiB\"", if id == "small" { 2 } else { 5 })
}

#[test]
fn nothing_is_loaded_into_a_space_that_is_not_read_and_that_is_said_once() {
    let mut rig = rig_with_models("", all_on_gpu);
    rig.rest.gpus = vec![GpuSample::default()];
    rig.sample(2.0);
    let (to, resource, gpu) = (SMALL, Resource::Vram, None);
    rig.check_hold(Reason::NotRead { to, resource, gpu });
    rig.check(&["notice small needs vram"]);
    rig.samples(2.0, minutes(20));
    rig.check(&[]);
    rig.rest.gpus = gpus(&[1.0]);
    rig.sample(2.0);
    rig.check(&["up to large: room", "load large on gpu 0"]);
}

#[test]
fn a_gpu_that_is_no_longer_read_keeps_its_model() {
    for gone in [vec![], vec![GpuSample::default()]] {
        let mut rig = rig_with_models("", all_on_gpu);
        rig.rest.gpus = gpus(&[1.0]);
        rig.sample(2.0);
        rig.obey();
        rig.samples(2.0, minutes(1));
        rig.outputs();
        rig.rest.gpus = gone;
        rig.samples(2.0, minutes(20));
        rig.check(&[]);
    }
}

#[test]
fn a_full_gpu_says_nothing_of_a_model_on_the_processor() {
    let mut rig = rig_with_large_on_gpu("");
    rig.rest.gpus = gpus(&[16.0]);
    rig.sample(2.0);
    rig.check(&["up to small: room", "load small"]);
    rig.obey();
    rig.outputs();
    rig.samples(2.0, minutes(20));
    rig.check_hold_kind("would-not-fit");
    rig.check(&[]);
}

// Models that fail.

/// Lets a model that is loaded in place of "medium" fail, and "medium" return; returns the time of the failure.
#[track_caller]
fn fail_to_load_large(rig: &mut Rig) -> Timestamp {
    rig.obey_all_but("large");
    rig.sample(2.0);
    rig.load_failed("large");
    let failed = rig.now;
    rig.complete(2.0);
    rig.outputs();
    failed
}

#[test]
fn a_rung_whose_model_did_not_load_waits_for_ever_longer_up_to_two_hours() {
    let mut rig = rig("manager.load-attempts = 1");
    rig.sample(2.0);
    let mut failed = fail_to_load_large(&mut rig);
    for want in [10, 20, 40, 80, 120, 120] {
        rig.samples(2.0, minutes(9));
        rig.check_hold_kind("backoff");
        rig.change_after(2.0);
        assert_eq!(rig.outputs()[0], "up to large: room");
        assert_eq!(rig.now.since(failed).as_secs() / 60, want);
        failed = fail_to_load_large(&mut rig);
    }
}

#[test]
fn a_rung_that_serves_is_forgiven_what_broke_before() {
    let waits_after = |served| {
        let mut rig = rig("manager.load-attempts = 1\nreversal-window = '1m'");
        rig.sample(2.0);
        fail_to_load_large(&mut rig);
        rig.change_after(2.0);
        rig.complete(2.0);
        rig.samples(2.0, served);
        let failed = rig.now;
        rig.crashed("large");
        rig.complete(2.0);
        rig.change_after(2.0);
        assert!(rig.outputs().contains(&"up to large: room".to_owned()));
        rig.now.since(failed).as_secs() / 60
    };
    assert_eq!(waits_after(minutes(1)), 20);
    assert_eq!(waits_after(minutes(5)), 10);
}

#[test]
fn from_nothing_a_larger_rung_that_broke_is_passed_over() {
    let mut rig = rig("manager.load-attempts = 1");
    rig.sample(2.0);
    fail_to_load_large(&mut rig);
    rig.sample(15.0);
    rig.complete(15.0);
    rig.outputs();
    rescued_after(&mut rig, 2.0);
    rig.check(&["up to medium: room", "load medium"]);
}

#[test]
fn the_smallest_is_tried_again_as_often_as_the_manager_rests() {
    let mut rig = rig("");
    let mut loads = Vec::new();
    for _ in 0..400 {
        rig.sample(10.0);
        if rig.outputs().contains(&"load small".to_owned()) {
            loads.push(rig.now.as_secs_f64());
            rig.load_failed("small");
        }
    }
    assert_eq!(loads, [2.0, 12.0, 32.0, 72.0, 152.0, 312.0, 632.0]);
}

#[test]
fn what_is_larger_than_the_model_that_broke_waits_too() {
    let mut rig = rig("manager.load-attempts = 1").serving("small");
    rig.sample(2.0);
    rig.switch("medium");
    rig.load_failed("medium");
    rig.complete(2.0);
    rig.outputs();
    rig.sample(2.0);
    rig.check_hold_kind("backoff");
    let failed = rig.now;
    rig.change_after(2.0);
    rig.check(&["up to large: room", "load large"]);
    assert_eq!(rig.now.since(failed).as_secs() / 60, 9);
}

// Settling.

/// Returns a bench on which "small" has just replaced "large", whose memory still shows.
fn large_shows_late() -> Rig {
    let mut rig = rig("").serving("large");
    rig.samples(1.0, minutes(1));
    rig.switch("small");
    rig.late = gib(9.0);
    rig.complete(1.0);
    rig.switch("auto");
    rig.outputs();
    rig
}

#[test]
fn freed_memory_that_shows_late_causes_no_second_step_down() {
    let mut rig = large_shows_late();
    rig.sample(4.0);
    rig.check_hold(Reason::Settling { since: seconds(2) });
    rig.late = Bytes::ZERO;
    rig.sample(4.0);
    rig.check_hold(Reason::Settling { since: seconds(4) });
    rig.sample(4.0);
    rig.check_hold_kind("window");
}

#[test]
fn two_readings_that_agree_are_judged() {
    let mut rig = large_shows_late();
    rig.sample(4.0);
    rig.check(&[]);
    rig.sample(4.0);
    assert_eq!(rig.outputs()[0], "down to none, Immediate: above-degrade-line");
}

#[test]
fn readings_that_never_settle_are_judged_at_the_limit() {
    let mut rig = large_shows_late();
    for late in [9.0, 8.5] {
        rig.late = gib(late);
        rig.sample(4.0);
        rig.check_hold_kind("settling");
    }
    rig.late = gib(9.0);
    rig.sample(4.0);
    assert_eq!(rig.outputs()[0], "down to none, Immediate: above-degrade-line");
}

#[test]
fn own_memory_is_not_judged_while_a_switch_is_under_way() {
    let mut rig = rig("");
    rig.sample(4.0);
    rig.late = gib(12.0);
    rig.samples(4.0, seconds(20));
    rig.check_hold(Reason::Switching);
    rig.check(&["up to large: room", "load large"]);
    rig.late = Bytes::ZERO;
    rig.sample(6.0);
    assert_eq!(rig.outputs()[0], "down to medium, Immediate: above-degrade-line");
}

// Stepping down.

#[track_caller]
fn check_shortage(others: f64, want: Option<&str>) {
    let mut rig = rig("").serving("large");
    rig.samples(2.0, minutes(1));
    rig.sample(others);
    let line = rig.outputs().into_iter().next();
    assert_eq!(line.as_deref(), want, "others use {others} GiB");
}

#[test]
fn above_the_degrade_line_it_steps_down_at_once_to_what_fits() {
    check_shortage(5.3, None);
    check_shortage(5.5, Some("down to medium, Immediate: above-degrade-line"));
    check_shortage(6.4, Some("down to medium, Immediate: above-degrade-line"));
}

#[test]
fn a_machine_that_is_all_but_full_is_critical() {
    check_shortage(6.6, Some("down to medium, Critical: above-degrade-line"));
    check_shortage(11.0, Some("down to small, Critical: above-degrade-line"));
    check_shortage(13.0, Some("down to none, Critical: above-degrade-line"));
}

#[test]
fn a_shortage_goes_straight_to_the_highest_rung_that_fits() {
    // The degrade line is at 14.4 GiB.
    check_shortage(9.3, Some("down to medium, Critical: above-degrade-line"));
    check_shortage(9.5, Some("down to small, Critical: above-degrade-line"));
    check_shortage(12.3, Some("down to small, Critical: above-degrade-line"));
    check_shortage(12.5, Some("down to none, Critical: above-degrade-line"));
}

#[test]
fn the_free_floor_counts_where_it_leaves_less_than_the_line() {
    let floor = "free-floor = '4GiB'\nfree-floor-share = '50%'";
    let mut rig = rig(floor).serving("large");
    rig.samples(2.0, minutes(1));
    rig.check(&[]);
    rig.sample(3.1);
    assert_eq!(rig.outputs()[0], "down to medium, Immediate: above-degrade-line");
}

#[test]
fn a_rise_that_would_fill_the_machine_during_a_step_down_is_acted_on_early() {
    let fill = |per_sample: f64| {
        let mut rig = rig("").serving("large");
        for step in 0_u32.. {
            rig.sample(1.0 + f64::from(step) * per_sample);
            if let Some(line) = rig.outputs().into_iter().next() {
                return line;
            }
        }
        unreachable!("it fills up")
    };
    assert_eq!(fill(0.6), "down to medium, Immediate: exhaustion");
    assert_eq!(fill(0.05), "down to medium, Immediate: above-degrade-line");
}

#[test]
fn a_rise_below_the_preventive_line_changes_nothing() {
    // Half a GiB each second fills the machine in six seconds, but 13 GiB are below 85 %.
    let mut rig = rig("").serving("large");
    for others in [1.0, 2.0, 3.0, 4.0] {
        rig.sample(others);
    }
    rig.check(&[]);
    rig.sample(5.0);
    assert_eq!(rig.outputs()[0], "down to medium, Immediate: exhaustion");
}

// Rates.

/// Returns a bench on which a model of the ladder serves two requests, and a third waits.
fn in_demand(settings: &str, model: &str, others: f64) -> Rig {
    let mut rig = rig(&format!("manager.patience = '1h'\n{settings}")).serving(model);
    rig.samples(others, minutes(1));
    for id in 1..=3 {
        rig.request(id);
    }
    rig.outputs();
    rig
}

#[test]
fn an_idle_model_minds_no_rate() {
    let mut rig = rig("").serving("large");
    rig.rest.cpu = busy(100);
    rig.rest.pressure = under_pressure(100);
    rig.samples(2.0, minutes(60));
    // Requests that are served at once do not suffer either.
    for id in 1..=60 {
        rig.request(id);
        rig.sample(2.0);
        rig.done(id);
    }
    rig.check_hold(Reason::AtTop);
    assert!(rig.outputs().iter().all(|line| !line.starts_with("down")));
}

#[test]
fn a_busy_processor_steps_a_model_with_a_queue_down_once_it_has_lasted() {
    let mut rig = in_demand("", "large", 2.0);
    rig.rest.cpu = busy(95);
    // With each reading one request ends and another arrives: none is late.
    for ended in 1..=15 {
        rig.sample(2.0);
        rig.done(ended);
        rig.request(ended + 3);
    }
    assert!(rig.outputs().iter().all(|line| !line.starts_with("down")));
    rig.sample(2.0);
    assert_eq!(rig.outputs()[0], "down to medium, Graceful: sustained-load");
}

#[test]
fn a_busy_processor_steps_a_model_whose_replies_are_late_down() {
    // By the catalog, "large" takes 2.6 s for this; a request is late after three times as long.
    let stepped_after = |requests: u64| {
        let mut rig = rig_with_models("", |_| String::new()).serving("large");
        rig.samples(2.0, minutes(1));
        (1..=requests).for_each(|id| rig.request(id));
        rig.outputs();
        rig.rest.cpu = busy(95);
        rig.samples(2.0, minutes(2));
        rig.outputs().first().cloned()
    };
    assert_eq!(stepped_after(1).as_deref(), Some("down to medium, Graceful: sustained-load"));
    assert_eq!(stepped_after(0), None);
}

#[test]
fn each_step_down_for_a_rate_is_one_rung_and_judged_on_its_own_time() {
    let mut rig = in_demand("manager.switch-cooldown = '0s'", "large", 2.0);
    rig.rest.cpu = busy(95);
    rig.change_after(2.0);
    (1..=2).for_each(|id| rig.done(id));
    rig.done(3);
    rig.complete(2.0);
    (4..=6).for_each(|id| rig.request(id));
    rig.outputs();
    assert_eq!(rig.change_after(2.0), seconds(30));
    assert_eq!(rig.outputs()[0], "down to small, Graceful: sustained-load");
}

#[test]
fn a_step_down_for_a_rate_passes_a_rung_that_has_no_place() {
    // "medium" needs a GPU, which the machine lacks.
    let change = |id: &str| if id == "medium" { "vram = '20GiB'" } else { "" }.to_owned();
    let mut rig = rig_with_models("manager.patience = '1h'", change).serving("large");
    rig.samples(2.0, minutes(1));
    (1..=3).for_each(|id| rig.request(id));
    rig.outputs();
    rig.rest.cpu = busy(95);
    rig.change_after(2.0);
    assert_eq!(rig.outputs()[0], "down to small, Graceful: sustained-load");
}

#[test]
fn a_spike_of_the_processor_is_no_emergency() {
    let mut rig = in_demand("", "large", 2.0);
    for _ in 0..10 {
        rig.rest.cpu = busy(95);
        rig.samples(2.0, seconds(28));
        rig.rest.cpu = busy(50);
        rig.sample(2.0);
    }
    rig.check(&[]);
}

#[test]
fn a_gap_in_the_readings_lets_a_rate_start_over() {
    let mut rig = in_demand("", "large", 2.0);
    rig.rest.cpu = busy(95);
    rig.samples(2.0, seconds(28));
    rig.after(seconds(12));
    assert_eq!(rig.change_after(2.0), seconds(30));
}

#[test]
fn pressure_that_lasts_steps_down_where_half_of_the_memory_is_used() {
    let stepped_after = |others: f64| {
        let mut rig = in_demand("rate-sustained = '10s'", "medium", others);
        rig.rest.pressure = under_pressure(60);
        rig.samples(others, seconds(12));
        rig.outputs().first().cloned()
    };
    assert_eq!(stepped_after(3.1).as_deref(), Some("down to small, Graceful: sustained-load"));
    assert_eq!(stepped_after(2.9), None);
}

#[test]
fn a_busy_processor_never_leaves_nothing_loaded() {
    let mut rig = in_demand("", "small", 10.0);
    rig.rest.cpu = busy(95);
    rig.samples(10.0, minutes(10));
    rig.check(&[]);
}

#[test]
fn a_model_on_a_gpu_minds_that_and_not_the_processor() {
    let mut rig = rig_with_large_on_gpu("manager.patience = '1h'");
    rig.rest.gpus = gpus(&[1.0]);
    rig.sample(2.0);
    rig.complete(2.0);
    (1..=3).for_each(|id| rig.request(id));
    rig.rest.cpu = busy(100);
    rig.samples(2.0, minutes(5));
    assert_eq!(rig.outputs()[..2], ["up to large: room", "load large on gpu 0"]);
    rig.rest.gpus[0].utilization = busy(95);
    assert_eq!(rig.change_after(2.0), seconds(30));
    assert_eq!(rig.outputs()[0], "down to small, Graceful: sustained-load");
}

#[test]
fn what_is_not_constrained_is_passed_over() {
    let mut rig = in_demand("constrain = ['memory']", "large", 2.0);
    rig.rest.cpu = busy(100);
    rig.rest.pressure = under_pressure(100);
    rig.samples(2.0, minutes(10));
    rig.check_hold(Reason::AtTop);
}

// Service.

/// Serves requests one after another, each with these times to its first token and to its last; then reads
/// the machine.
fn serve(rig: &mut Rig, times: u64, first_token: Duration, latency: Duration) {
    for request in (0..times).map(RequestId) {
        rig.sample_now(2.0);
        rig.request(request.0);
        rig.after(latency);
        let (prompt_tokens, output_tokens) = (None, 1);
        rig.outcome(Outcome::Done { request, first_token, prompt_tokens, output_tokens });
    }
    rig.outputs();
    rig.sample(2.0);
}

/// Breaks a limit on "large" repeatedly, and checks how long "large" stays unloaded each time.
#[track_caller]
fn check_left_for(limit: &str, first_token: Duration, latency: Duration, want: [u64; 4]) {
    let mut rig = rig(&format!("{limit}\nperformance-minimum = 3")).serving("large");
    let left_for = want.map(|_| {
        serve(&mut rig, 3, first_token, latency);
        assert_eq!(rig.outputs()[0], "down to medium, Graceful: slow");
        let left = rig.now;
        rig.complete(2.0);
        rig.samples(2.0, minutes(14));
        rig.change_after(2.0);
        assert!(rig.outputs().contains(&"up to large: room".to_owned()), "{limit}");
        let left_for = rig.now.since(left).as_secs() / 60;
        rig.complete(2.0);
        left_for
    });
    assert_eq!(left_for, want, "{limit}");
}

#[test]
fn what_breaks_a_limit_whenever_it_serves_is_tried_less_and_less_often() {
    check_left_for("latency-limit = '10s'", seconds(1), seconds(11), [30, 60, 120, 240]);
    check_left_for("first-token-limit = '2s'", seconds(3), seconds(11), [30, 60, 120, 240]);
}

#[test]
fn while_a_slow_rung_is_remembered_its_figure_and_the_limit_are_the_reason() {
    let limits = "latency-limit = '10s'\nperformance-minimum = 3";
    let mut rig = rig(limits).serving("large");
    serve(&mut rig, 3, seconds(1), seconds(11));
    rig.complete(2.0);
    rig.samples(2.0, minutes(16));
    let (predicted, limit) = (seconds(11), seconds(10));
    rig.check_hold(Reason::WouldBeSlow { to: LARGE, predicted, limit });
}

#[test]
fn a_model_that_is_far_too_slow_is_left_before_anything_has_ended() {
    // By the catalog, "large" takes 2.6 s for ten tokens of a prompt and ten of a reply.
    let left_after = |settings: &str| {
        let mut rig = rig_with_models(settings, |_| String::new()).serving("large");
        rig.sample(2.0);
        rig.request(1);
        rig.request(2);
        let begun = rig.now;
        rig.outputs();
        for _ in 0..150 {
            rig.sample(2.0);
            if let Some(line) = rig.outputs().first() {
                assert_eq!(line, "down to medium, Graceful: slow", "{settings}");
                return Some(rig.now.since(begun));
            }
        }
        None
    };
    // A request is late after three times as long, and that must last for half a minute.
    assert_eq!(left_after("latency-limit = '5s'"), Some(seconds(38)));
    assert_eq!(left_after("latency-limit = '20s'"), Some(seconds(52)));
    assert_eq!(left_after("latency-limit = '10m'"), None);
    assert_eq!(left_after(""), None);
}

#[test]
fn the_wait_in_the_queue_is_a_part_of_the_time_to_the_first_token() {
    let limits = "first-token-limit = '20s'\nperformance-minimum = 3";
    let mut rig = rig(limits).serving("large");
    rig.sample(2.0);
    // Two slots: the other requests wait for 26 s, and their first token then comes at once.
    for request in 1..=4 {
        rig.request(request);
    }
    rig.samples(2.0, seconds(25));
    for request in 1..=4 {
        rig.done(request);
    }
    rig.outputs();
    rig.sample(2.0);
    assert_eq!(rig.outputs()[0], "down to medium, Graceful: slow");
}

#[test]
fn the_wait_for_a_switch_is_not_held_against_the_rung_that_it_led_to() {
    let mut rig = rig("first-token-limit = '20s'\nperformance-minimum = 1").serving("medium");
    rig.samples(2.0, minutes(1));
    rig.switch("large");
    rig.request(1);
    rig.samples(2.0, seconds(30));
    rig.complete(2.0);
    rig.done(1);
    rig.outputs();
    rig.sample(2.0);
    rig.check(&[]);
}

#[test]
fn what_only_a_higher_rung_can_serve_is_worth_an_early_return() {
    let left_for = |calm: &str, prompt_tokens| {
        let context = |id: &str| match id {
            "large" => String::new(),
            _ => "context-tokens = 1000".to_owned(),
        };
        let settings = format!("calm = '{calm}'");
        let mut rig = rig_with_models(&settings, context).serving("large");
        rig.samples(2.0, minutes(1));
        turn_out_of_large(&mut rig);
        let left = rig.now;
        rig.samples(2.0, minutes(6));
        rig.ask(Request::chat(1, prompt_tokens, 10));
        rig.change_after(2.0);
        rig.now.since(left).as_secs() / 60
    };
    assert_eq!(left_for("450s", 100), 15);
    assert_eq!(left_for("450s", 2000), 6);
    assert_eq!(left_for("10h", 2000), 6);
}

#[test]
fn too_few_slow_replies_say_nothing() {
    let mut rig = rig("latency-limit = '10s'\nperformance-minimum = 3").serving("large");
    serve(&mut rig, 2, seconds(1), seconds(11));
    rig.check_hold(Reason::AtTop);
    rig.check(&[]);
}

#[test]
fn a_late_first_token_steps_down() {
    let mut rig = rig("first-token-limit = '2s'\nperformance-minimum = 3").serving("large");
    serve(&mut rig, 3, seconds(2), seconds(15));
    rig.check(&[]);
    serve(&mut rig, 1, seconds(3), seconds(15));
    rig.check(&[]);
    serve(&mut rig, 1, seconds(3), seconds(15));
    assert_eq!(rig.outputs()[0], "down to medium, Graceful: slow");
}

#[test]
fn a_model_that_would_be_too_slow_is_passed_over_for_one_that_is_not() {
    // By the catalog, "small" decodes 18 tokens a second, "medium" 7 and "large" 4.
    let settings = "latency-limit = '10s'\nperformance-minimum = 3\ncalm = '0s'";
    let mut rig = rig_with_models(settings, |_| String::new()).serving("medium");
    rig.sample(2.0);
    rig.switch("small");
    rig.complete(2.0);
    rig.switch("auto");
    rig.samples(2.0, minutes(4));
    serve(&mut rig, 3, seconds(1), seconds(3));
    rig.change_after(2.0);
    rig.check(&["up to medium: room", "load medium"]);
}

#[test]
fn failures_in_a_row_step_down_and_a_success_forgives_them() {
    let mut rig = rig("").serving("large");
    rig.samples(2.0, minutes(1));
    for (id, is_done) in [(0, false), (1, false), (2, true), (3, false), (4, false)] {
        rig.samples(2.0, minutes(1));
        rig.request(id);
        if is_done { rig.done(id) } else { rig.failed(id) }
    }
    rig.outputs();
    rig.sample(2.0);
    rig.check(&[]);
    rig.request(5);
    rig.failed(5);
    rig.outputs();
    rig.sample(2.0);
    assert_eq!(rig.outputs()[0], "down to medium, Graceful: failing");
}

#[test]
fn failures_that_are_half_of_what_ends_step_down_too() {
    let mut rig = rig("").serving("large");
    rig.samples(2.0, minutes(1));
    for id in 0..5 {
        rig.sample(2.0);
        rig.request(id);
        if id % 2 == 0 { rig.failed(id) } else { rig.done(id) }
    }
    rig.outputs();
    rig.sample(2.0);
    assert_eq!(rig.outputs()[0], "down to medium, Graceful: failing");
}

#[test]
fn a_request_that_is_refused_for_what_it_is_and_one_that_was_cancelled_are_no_failures() {
    let mut rig = rig("").serving("large");
    rig.samples(2.0, minutes(1));
    for id in 0..6 {
        rig.request(id);
        // The model server refused it: the request then ends as cancelled, although no client cancelled it.
        rig.cancelled(id);
    }
    for id in 6..12 {
        rig.request(id);
        rig.feed(&Input::Cancel { request: RequestId(id) });
        rig.failed(id);
    }
    rig.outputs();
    rig.sample(2.0);
    rig.check(&[]);
}

// Gates.

#[test]
fn the_gates_of_every_higher_rung_are_told() {
    let told = |rig: &Rig| {
        let gates = &rig.decision().gates;
        let names = |rung: Option<Rung>| -> Vec<GateName> {
            gates.iter().filter(|gate| gate.rung == rung).map(|gate| gate.name).collect()
        };
        [None, Some(SMALL), Some(Rung(2)), Some(LARGE)].map(names)
    };
    use GateName::{Backoff, Cooldown, Fresh, Idle, Projection, Risk, UpgradeLine, Window};
    let memory = Resource::Memory;
    let mut rig = rig("manager.load-attempts = 1");
    rig.sample(7.0);
    // The smallest rung that fits has no further gates, and one that does not fit has no odds.
    let waits = vec![Projection(memory), Window];
    let weighed = vec![Projection(memory), Window, Risk];
    let want = [vec![Fresh, Idle], waits.clone(), weighed, waits];
    assert_eq!(told(&rig), want);
    rig.load_failed("medium");
    rig.complete(2.0);
    rig.sample(2.0);
    let waits = [Projection(memory), UpgradeLine(memory), Window, Cooldown, Backoff, Risk].to_vec();
    assert_eq!(told(&rig), [vec![Fresh, Idle], vec![], waits.clone(), waits]);
    let gate =
        |name, rung| rig.decision().gates.iter().find(|g| (g.name, g.rung) == (name, Some(rung)));
    assert!(gate(Projection(memory), LARGE).unwrap().open);
    assert!(!gate(Backoff, LARGE).unwrap().open);
}

// Pins and suggestions.

#[test]
fn no_upgrade_passes_the_pinned_tier() {
    let mut rig = rig("manager.pin = 'medium'");
    rig.sample(2.0);
    rig.obey();
    rig.check(&["up to medium: asked", "load medium", "serve medium", "none to medium in 0s"]);
    rig.samples(2.0, minutes(60));
    rig.check_hold(Reason::Fixed);
    rig.check(&[]);
}

#[test]
fn only_a_shortage_of_memory_leaves_the_pinned_tier() {
    let mut rig = rig("manager.pin = 'large'").serving("large");
    rig.rest.cpu = busy(100);
    rig.samples(2.0, minutes(10));
    rig.check(&[]);
    rig.sample(6.0);
    assert_eq!(rig.outputs()[0], "down to medium, Immediate: above-degrade-line");
}

#[test]
fn after_a_long_time_on_the_smallest_tier_what_would_help_is_suggested_once() {
    let mut rig = rig("suggestion-after = '1h'").serving("small");
    rig.samples(10.0, minutes(60));
    rig.check(&[]);
    rig.sample(10.0);
    rig.check(&["notice smallest for 1h: would-not-fit"]);
    rig.samples(10.0, minutes(180));
    rig.check(&[]);
}

// The baselines.

#[test]
fn the_fixed_policy_stays_whatever_happens() {
    let mut rig = rig("policy = 'fixed'");
    rig.sample(2.0);
    rig.obey();
    assert_eq!(rig.outputs()[0], "up to large: room");
    rig.samples(15.0, minutes(60));
    rig.check_hold(Reason::Fixed);
    rig.check(&[]);
}

#[test]
fn the_projecting_baseline_waits_for_window_and_rest() {
    let mut rig = rig("policy = 'projecting'");
    assert_eq!(rig.change_after(4.5), seconds(0));
    assert_eq!(rig.outputs()[0], "up to large: room");
    rig.complete(4.5);
    rig.sample(6.0);
    assert!(rig.outputs().contains(&"down to medium, Immediate: above-degrade-line".to_owned()));
    rig.complete(6.0);
    let changed = rig.now;
    rig.change_after(2.0);
    assert_eq!(rig.now.since(changed), minutes(5) + seconds(2));
}

#[test]
fn the_original_looks_at_present_use_only() {
    let mut rig = rig("policy = 'original'").serving("small");
    // 10 and 2 GiB are under 80 %; it ignores that "large" will not fit.
    assert_eq!(rig.change_after(10.0), minutes(5));
    assert_eq!(rig.outputs()[0], "up to medium: room");
}
