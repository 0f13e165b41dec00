//! The rules of the short request that follows each load.

use std::time::Duration;

use tiershift_core::event::{Outcome, Tried};
use tiershift_core::sample::Rate;
use tiershift_core::units::Percent;

use crate::rig::{Rig, minutes, rig_with_models, seconds};

impl Rig {
    /// Answers a try-out: eight tokens in this time.
    fn tried(&mut self, model: &str, decoded_in: Duration) {
        let (model, output_tokens) = (model.into(), 8);
        self.outcome(Outcome::Tried(Tried { model, output_tokens, decoded_in }));
    }
}

/// Returns a bench on which "large" has just been loaded in place of "medium". It decodes four tokens a second: eight
/// take two seconds, and six are too many.
fn just_loaded(settings: &str, change: &str) -> Rig {
    let settings = format!("manager.pin = 'large'\n{settings}");
    let mut rig = rig_with_models(&settings, |_| change.to_owned()).serving("medium");
    rig.samples(2.0, minutes(1));
    rig.complete(2.0);
    rig.switch("large");
    rig.complete(2.0);
    rig.outputs();
    rig
}

const ENOUGH: Duration = seconds(6);
const TOO_LONG: Duration = Duration::from_millis(6001);

#[test]
fn a_model_that_comes_up_slow_is_loaded_again_once_and_then_another_stands_in() {
    let mut rig = just_loaded("", "");
    rig.request(1);
    rig.outputs();
    rig.done(1);
    rig.outputs();
    rig.tried("large", TOO_LONG);
    rig.check(&[]);
    // A request ran beside it: that is inconclusive before the model was tried alone.
    rig.sample(2.0);
    rig.tried("large", TOO_LONG);
    rig.check(&["notice large came up slow", "serve none", "unload large"]);
    rig.unloaded("large");
    rig.sample(2.0);
    rig.complete(2.0);
    rig.check(&["load large", "serve large", "large to large in 2s"]);
    rig.tried("large", TOO_LONG);
    rig.complete(2.0);
    rig.check(&[
        "serve none",
        "unload large",
        "load medium",
        "serve medium",
        "large to medium in 2s",
        "notice large to medium: slow-load",
    ]);
}

#[test]
fn a_model_that_is_fast_enough_stays() {
    let mut rig = just_loaded("", "");
    rig.tried("large", ENOUGH);
    // Once for each load.
    rig.tried("large", TOO_LONG);
    rig.check(&[]);
}

/// Reads the machine with this share of the processor used by others.
fn read_with_others(rig: &mut Rig, percent: u32) {
    rig.rest.cpu = Some(Rate { others: Percent::new(percent), own: Percent::ZERO });
    rig.sample(2.0);
}

#[test]
fn a_model_that_is_slow_while_others_are_in_its_way_is_tried_again_when_they_are_not() {
    // Any reading since the load may show others' use, not only the last.
    for others in [[50, 0, 0], [0, 50, 0], [0, 0, 50]] {
        let mut rig = just_loaded("", "");
        for percent in others {
            read_with_others(&mut rig, percent);
        }
        rig.tried("large", TOO_LONG);
        rig.check(&[]);
        // A try-out that is not due is ignored.
        rig.tried("large", TOO_LONG);
        rig.check(&[]);
        read_with_others(&mut rig, 50);
        rig.tried("large", TOO_LONG);
        rig.check(&[]);
        read_with_others(&mut rig, 0);
        rig.tried("large", TOO_LONG);
        rig.check(&["notice large came up slow", "serve none", "unload large"]);
    }
}

#[test]
fn a_model_that_is_slow_however_much_the_requests_beside_it_take_is_loaded_again() {
    let mut rig = just_loaded("", "");
    rig.request(1);
    rig.done(1);
    rig.outputs();
    rig.tried("large", ENOUGH * 2 + Duration::from_millis(1));
    rig.check(&["notice large came up slow", "serve none", "unload large"]);
}

#[test]
fn a_slow_model_whose_room_goes_before_it_is_idle_serves_on() {
    let mut rig = just_loaded("", "");
    rig.request(1);
    rig.outputs();
    rig.tried("large", TOO_LONG * 2);
    rig.check(&["notice large came up slow", "serve none"]);
    rig.sample(5.4);
    rig.check(&[]);
    rig.sample(5.6);
    let lines = rig.outputs();
    assert!(lines.contains(&"serve large".to_owned()), "{lines:?}");
}

#[test]
fn what_runs_is_finished_before_a_slow_model_is_loaded_again() {
    let mut rig = just_loaded("", "");
    rig.request(1);
    rig.outputs();
    rig.tried("large", TOO_LONG * 2);
    rig.check(&["notice large came up slow", "serve none"]);
    rig.request(2);
    rig.check(&["queue #2"]);
    rig.done(1);
    rig.check(&["#1 done by large in 0s", "unload large"]);
    rig.complete(2.0);
    assert_eq!(rig.outputs().pop().as_deref(), Some("start #2 on large"));
}

#[test]
fn where_nothing_can_stand_in_slow_is_better_than_nothing() {
    let mut rig = just_loaded("", "load-timeout = '1h'");
    for _ in 0..2 {
        rig.tried("large", TOO_LONG);
        rig.complete(2.0);
    }
    rig.outputs();
    // Now "medium" in its turn, and then "small".
    for _ in 0..2 {
        rig.tried("medium", minutes(1));
        rig.complete(2.0);
    }
    for _ in 0..2 {
        rig.tried("small", minutes(1));
        rig.complete(2.0);
    }
    let lines = rig.outputs();
    assert_eq!(lines.last().map(String::as_str), Some("small to small in 2s"), "{lines:?}");
    rig.request(1);
    rig.check(&["accept #1", "start #1 on small"]);
}

#[test]
fn no_load_is_judged_by_a_guess_or_where_that_is_switched_off() {
    for (settings, change) in [("manager.try-out = false", ""), ("", "speeds-guessed = true")] {
        let mut rig = just_loaded(settings, change);
        rig.tried("large", minutes(1));
        rig.check(&[]);
    }
}
