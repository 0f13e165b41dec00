//! The rules of the proactive policy, one story each. A rule that changes fails the story that is named after it.

use std::time::Duration;

use tiershift_core::catalog::Rung;
use tiershift_core::decision::Reason;
use tiershift_core::event::{Input, Outcome};
use tiershift_core::request::{Request, RequestId};
use tiershift_core::sample::{Pressure, Rate, Resource};
use tiershift_core::units::{Bytes, Percent};

use crate::rig::{Rig, gib, minutes, rig, rig_with_models, seconds};

const LARGE: Rung = Rung(3);

fn busy(percent: u32) -> Option<Rate> {
    Some(Rate { others: Percent::new(percent), own: Percent::ZERO })
}

/// Shows a shortage that the large model must give way to, and lets the switch to "medium" go through.
#[track_caller]
fn turn_out_of_large(rig: &mut Rig) {
    rig.outputs();
    rig.sample(6.0);
    assert_eq!(rig.outputs()[0], "down to medium, Immediate: above-degrade-line");
    rig.complete(6.0);
}

// The first load.

#[test]
fn the_first_load_waits_for_nothing() {
    let mut rig = rig("");
    rig.sample(2.0);
    rig.check(&["up to large: room", "load large"]);
}

#[test]
fn the_first_load_stays_under_the_upgrade_line_too() {
    let first_on = |others| {
        let mut rig = rig("");
        rig.sample(others);
        rig.outputs().first().cloned()
    };
    // Of 16 GiB, the upgrade line is at 12.8; later loads may reach 13.6.
    assert_eq!(first_on(3.7).as_deref(), Some("up to large: room"));
    assert_eq!(first_on(3.9).as_deref(), Some("up to medium: room"));
    assert_eq!(first_on(12.7), None);
}

#[test]
fn the_start_tier_is_loaded_first_and_left_like_any_other() {
    let mut rig = rig("manager.start = 'small'");
    rig.sample(2.0);
    rig.check(&["up to small: asked", "load small"]);
    rig.obey();
    rig.outputs();
    assert_eq!(rig.change_after(2.0), minutes(5) - seconds(2));
    rig.check(&["up to large: room", "load large"]);
}

#[test]
fn a_start_tier_that_does_not_fit_is_not_loaded() {
    let mut rig = rig("manager.start = 'large'");
    rig.sample(6.0);
    rig.check(&["up to medium: room", "load medium"]);
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

#[test]
fn the_window_is_as_long_as_it_is_set() {
    let mut rig = rig("stabilization = '90s'").serving("medium");
    rig.samples(7.0, minutes(20));
    assert_eq!(rig.change_after(2.0), seconds(90));
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
fn a_reading_that_is_missing_starts_the_window_over() {
    let mut rig = rig("").serving("medium");
    rig.samples(7.0, minutes(20));
    rig.samples(2.0, minutes(4));
    rig.after(seconds(2));
    rig.feed(&Input::SampleMissing { error: "no".to_owned() });
    rig.check_hold(Reason::Stale { age: seconds(2) });
    assert_eq!(rig.change_after(2.0), minutes(5));
}

#[test]
fn a_reading_that_cannot_be_is_missing() {
    let mut rig = rig("").serving("medium");
    rig.samples(7.0, minutes(20));
    rig.samples(2.0, minutes(4));
    rig.sample(2.0 * 1024.0);
    rig.check_hold(Reason::Stale { age: seconds(2) });
    assert_eq!(rig.change_after(2.0), minutes(5));
}

#[test]
fn a_gap_in_the_readings_starts_the_window_over() {
    let mut rig = rig("").serving("medium");
    rig.samples(7.0, minutes(20));
    rig.samples(2.0, minutes(4));
    // No later than `stale-after` is no gap.
    rig.after(seconds(8));
    rig.sample(2.0);
    rig.check_hold(Reason::Window { to: LARGE, remaining: seconds(52) });
    rig.after(seconds(9));
    rig.sample(2.0);
    rig.check_hold(Reason::Window { to: LARGE, remaining: minutes(5) });
}

#[test]
fn nothing_is_known_before_the_first_reading() {
    let mut rig = rig("");
    rig.feed(&Input::SampleMissing { error: "no".to_owned() });
    rig.check_hold(Reason::NoData);
}

#[test]
fn after_an_upgrade_the_cooldown_passes_before_the_next() {
    let mut rig = rig("");
    rig.sample(4.0);
    // The window of "large" begins while "medium" loads, the cooldown when that has loaded.
    rig.samples(4.0, seconds(20));
    rig.loaded("medium");
    rig.check(&["up to medium: room", "load medium", "serve medium", "none to medium in 20s"]);
    let changed = rig.now;
    rig.samples(4.0, minutes(4));
    rig.check_hold(Reason::Cooldown { remaining: minutes(1) });
    rig.change_after(4.0);
    assert_eq!(rig.now.since(changed), minutes(5));
}

#[test]
fn after_a_downgrade_the_cooldown_lasts_as_long_as_the_reversal_window() {
    let mut rig = rig("mistake-window = '0s'").serving("large");
    rig.samples(2.0, minutes(1));
    turn_out_of_large(&mut rig);
    let changed = rig.now;
    rig.samples(2.0, minutes(6));
    rig.check_hold(Reason::Cooldown { remaining: minutes(9) });
    rig.change_after(2.0);
    assert_eq!(rig.now.since(changed), minutes(15));
}

#[test]
fn with_nothing_loaded_the_cooldown_is_no_longer_than_the_window() {
    let mut rig = rig("mistake-window = '0s'").serving("small");
    rig.samples(2.0, minutes(1));
    rig.sample(15.0);
    rig.complete(15.0);
    rig.check(&[
        "down to none, Critical: above-degrade-line",
        "serve none",
        "unload small",
        "small to none in 0s",
        "notice small to none: above-degrade-line",
    ]);
    assert_eq!(rig.change_after(2.0), minutes(5));
    rig.check(&["up to large: room", "load large"]);
}

// Back-off.

#[test]
fn a_rung_that_had_to_be_left_must_fit_for_twice_as_long_as_it_lasted() {
    let mut rig = rig("").serving("large");
    rig.samples(2.0, minutes(20));
    turn_out_of_large(&mut rig);
    rig.samples(2.0, minutes(16));
    rig.check_hold_kind("backoff");
    rig.sample(6.0);
    assert_eq!(rig.change_after(2.0), 2 * (minutes(20) + seconds(2)));
}

#[test]
fn each_mistake_doubles_the_wait_up_to_its_limit() {
    let mut rig = rig("reversal-window = '1m'\nbackoff-limit = '1h'").serving("large");
    rig.samples(2.0, seconds(10));
    for want in [10, 20, 40, 60, 60] {
        turn_out_of_large(&mut rig);
        assert_eq!(rig.change_after(2.0), minutes(want));
        rig.complete(2.0);
    }
}

#[test]
fn a_rung_that_lasted_was_no_mistake() {
    let mut rig = rig("reversal-window = '1m'").serving("large");
    rig.samples(2.0, minutes(45));
    turn_out_of_large(&mut rig);
    assert_eq!(rig.change_after(2.0), minutes(5));
}

#[test]
fn good_time_on_a_rung_forgives_a_mistake() {
    let mut rig = rig("reversal-window = '1m'").serving("large");
    rig.samples(2.0, seconds(10));
    turn_out_of_large(&mut rig);
    rig.change_after(2.0);
    rig.complete(2.0);
    rig.samples(2.0, minutes(46));
    turn_out_of_large(&mut rig);
    assert_eq!(rig.change_after(2.0), minutes(5));
}

#[test]
fn a_limit_of_zero_turns_back_off_off() {
    let mut rig = rig("reversal-window = '1m'\nbackoff-limit = '0s'").serving("large");
    rig.samples(2.0, minutes(20));
    turn_out_of_large(&mut rig);
    assert_eq!(rig.change_after(2.0), minutes(5));
}

#[test]
fn what_a_lower_rung_was_turned_out_of_a_higher_one_would_be_too() {
    let mut rig = rig("reversal-window = '1m'").serving("medium");
    rig.samples(2.0, seconds(10));
    rig.sample(10.0);
    rig.complete(10.0);
    rig.outputs();
    assert_eq!(rig.change_after(2.0), minutes(10));
    rig.check(&["up to large: room", "load large"]);
}

#[test]
fn the_smallest_model_is_tried_again_whatever_was_learned() {
    let mut rig = rig("").serving("small");
    rig.samples(2.0, seconds(10));
    rig.sample(15.0);
    rig.complete(15.0);
    rig.outputs();
    assert_eq!(rig.change_after(2.0), minutes(5));
    rig.check(&["up to small: room", "load small"]);
}

#[test]
fn a_model_that_did_not_load_is_backed_off_from() {
    let mut rig = rig("");
    rig.sample(2.0);
    rig.load_failed("large");
    rig.after(seconds(10));
    rig.load_failed("large");
    rig.obey();
    rig.check(&[
        "up to large: room",
        "load large",
        "load large",
        "load medium",
        "serve medium",
        "none to medium in 10s",
    ]);
    let changed = rig.now;
    rig.change_after(2.0);
    assert_eq!(rig.now.since(changed), minutes(10));
}

// Settling.

/// Returns a bench on which "small" has just taken over from "large", whose memory still shows.
fn large_shows_late() -> Rig {
    let mut rig = rig("").serving("large");
    rig.samples(4.0, minutes(1));
    rig.switch("small");
    rig.late = gib(9.0);
    rig.complete(4.0);
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
    rig.check_hold_kind("cooldown");
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
    for late in [9.0, 8.5, 9.0] {
        rig.late = gib(late);
        rig.sample(4.0);
        rig.check_hold_kind("settling");
    }
    rig.late = gib(8.5);
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
    rig.check(&["up to medium: room", "load medium"]);
    rig.late = Bytes::ZERO;
    rig.sample(10.0);
    assert_eq!(rig.outputs()[0], "down to small, Immediate: above-degrade-line");
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
fn a_shortage_takes_a_rung_that_fits_without_the_margin_rather_than_none() {
    // The margin ends at 13.6 GiB, and the degrade line is at 14.4.
    check_shortage(12.2, Some("down to small, Critical: above-degrade-line"));
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
    assert_eq!(fill(0.45), "down to medium, Immediate: exhaustion");
    assert_eq!(fill(0.05), "down to medium, Immediate: above-degrade-line");
}

#[test]
fn a_rise_below_the_preventive_line_changes_nothing() {
    // Half a GiB each second fills the machine in six seconds, but 13 GiB are not yet 85 %.
    let mut rig = rig("").serving("large");
    for others in [1.0, 2.0, 3.0, 4.0] {
        rig.sample(others);
    }
    rig.check(&[]);
    rig.sample(5.0);
    assert_eq!(rig.outputs()[0], "down to medium, Immediate: exhaustion");
}

// Rates.

#[test]
fn a_busy_processor_steps_down_once_it_has_lasted() {
    let mut rig = rig("").serving("large");
    rig.samples(2.0, minutes(1));
    rig.rest.cpu = busy(95);
    assert_eq!(rig.change_after(2.0), seconds(30));
    assert_eq!(rig.outputs()[0], "down to medium, Graceful: sustained-load");
    rig.complete(2.0);
    rig.outputs();
    // The next step is judged on its own thirty seconds.
    assert_eq!(rig.change_after(2.0), seconds(30));
}

#[test]
fn a_spike_of_the_processor_is_no_emergency() {
    let mut rig = rig("").serving("large");
    rig.samples(2.0, minutes(1));
    for _ in 0..10 {
        rig.rest.cpu = busy(95);
        rig.samples(2.0, seconds(28));
        rig.rest.cpu = busy(50);
        rig.sample(2.0);
    }
    rig.check(&[]);
}

#[test]
fn pressure_that_lasts_steps_down() {
    let mut rig = rig("rate-sustained = '10s'").serving("large");
    rig.samples(2.0, minutes(1));
    let memory_some = Percent::new(60);
    rig.rest.pressure = Some(Pressure { memory_some, ..Pressure::default() });
    assert_eq!(rig.change_after(2.0), seconds(10));
    assert_eq!(rig.outputs()[0], "down to medium, Graceful: sustained-load");
}

#[test]
fn a_busy_processor_never_leaves_nothing_loaded() {
    let mut rig = rig("").serving("small");
    rig.rest.cpu = busy(95);
    rig.samples(2.0, minutes(10));
    rig.check_hold_kind("sustained-load");
    rig.check(&[]);
}

#[test]
fn what_is_not_constrained_is_passed_over() {
    let mut rig = rig("constrain = ['memory']").serving("large");
    rig.rest.cpu = busy(100);
    rig.samples(2.0, minutes(10));
    rig.check_hold(Reason::AtTop);
}

#[test]
fn no_upgrade_while_a_resource_is_above_the_upgrade_line() {
    let mut rig = rig("").serving("medium");
    rig.rest.cpu = busy(80);
    rig.samples(2.0, minutes(20));
    let [used, line] = [80, 80].map(Percent::new);
    rig.check_hold(Reason::AboveUpgradeLine { resource: Resource::Cpu, gpu: None, used, line });
    rig.check(&[]);
    rig.rest.cpu = busy(79);
    assert_eq!(rig.change_after(2.0), minutes(5));
}

#[test]
fn a_busy_processor_does_not_keep_the_first_model_from_loading() {
    let mut rig = rig("");
    rig.rest.cpu = busy(85);
    rig.sample(2.0);
    rig.check(&["up to small: room", "load small"]);
}

// Room.

#[test]
fn an_upgrade_stays_below_the_line_that_would_undo_it() {
    let goes_up_on = |others| {
        let mut rig = rig("").serving("medium");
        rig.samples(others, minutes(20));
        rig.outputs().first().map(|line| line.starts_with("up to large"))
    };
    assert_eq!(goes_up_on(4.5), Some(true));
    assert_eq!(goes_up_on(4.7), None);
}

#[test]
fn what_others_use_is_forecast_before_an_upgrade() {
    // A hundredth of a GiB each second: by the end of the window 4 GiB, which leave room for "large", but not for the
    // five minutes after.
    let mut rig = rig("").serving("small");
    for second in (0_u32..=300).step_by(2) {
        rig.sample(1.0 + 0.01 * f64::from(second));
    }
    rig.check(&["up to medium: room", "load medium"]);
}

#[test]
fn a_lower_rung_is_not_taken_while_a_higher_one_waits_for_its_window() {
    let mut rig = rig("").serving("small");
    // "medium" fits from the beginning, "large" from the sixth minute on.
    rig.samples(5.0, minutes(4));
    rig.samples(2.0, minutes(3));
    rig.check_hold_kind("window");
    rig.check(&[]);
    rig.change_after(2.0);
    rig.check(&["up to large: room", "load large"]);
}

#[test]
fn with_nothing_loaded_a_lower_rung_is_taken_while_a_higher_one_waits_for_its_window() {
    let mut rig = rig("mistake-window = '0s'").serving("small");
    rig.samples(10.0, minutes(1));
    rig.sample(15.0);
    rig.complete(15.0);
    rig.samples(10.0, minutes(4));
    rig.outputs();
    assert_eq!(rig.change_after(2.0), minutes(1));
    rig.check(&["up to small: room", "load small"]);
}

// Service.

/// Serves requests one after another, each with its first token after some time and its last after more; then reads
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

/// Breaks a limit on "large" again and again, and checks for how long it is left each time.
#[track_caller]
fn check_left_for(limit: &str, first_token: Duration, latency: Duration, want: [u64; 4]) {
    let more = "\nperformance-minimum = 3\nbackoff-limit = '0s'";
    let mut rig = rig(&format!("{limit}{more}")).serving("large");
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
    // It is late after three times as long, and that must last for half a minute.
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
    // Two slots: the others wait for 26 s, and their first token then comes at once.
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
fn what_only_a_higher_rung_can_serve_shortens_the_learned_wait() {
    let left_for = |prompt_tokens| {
        let context = |id: &str| match id {
            "large" => String::new(),
            _ => "context-tokens = 1000".to_owned(),
        };
        let mut rig = rig_with_models("", context).serving("large");
        rig.samples(2.0, minutes(20));
        turn_out_of_large(&mut rig);
        let left = rig.now;
        rig.samples(2.0, minutes(14));
        rig.ask(Request::chat(1, prompt_tokens, 10));
        rig.change_after(2.0);
        rig.now.since(left).as_secs() / 60
    };
    assert_eq!(left_for(100), 40);
    assert_eq!(left_for(2000), 15);
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
    let limits = "latency-limit = '10s'\nperformance-minimum = 3";
    let mut rig = rig_with_models(limits, |_| String::new()).serving("small");
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
        // The model server found fault with it: that ends as cancelled, though nobody asked for that.
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

// Pins and wishes.

#[test]
fn no_upgrade_passes_the_pinned_tier() {
    let mut rig = rig("manager.pin = 'medium'");
    rig.sample(2.0);
    rig.obey();
    rig.check(&["up to medium: room", "load medium", "serve medium", "none to medium in 0s"]);
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
    assert_eq!(rig.change_after(4.5), minutes(5));
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
    // 10 and 2 GiB are under 80 %; that "large" will not fit is not looked at.
    assert_eq!(rig.change_after(10.0), minutes(5));
    assert_eq!(rig.outputs()[0], "up to medium: room");
}
