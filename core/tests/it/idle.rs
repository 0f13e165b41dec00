//! An idle model is unloaded, and loaded again for the next request.

use crate::rig::{Rig, minutes, rig, seconds};

/// Returns a bench on which "large" was unloaded because it had no requests for ten minutes.
fn idle() -> Rig {
    let mut rig = rig("manager.idle-unload = \"10m\"").serving("large");
    rig.change_after(2.0);
    assert_eq!(rig.outputs()[0], "down to none, Graceful: idle");
    rig.unloaded("large");
    rig.samples(2.0, minutes(5));
    rig.outputs();
    rig.check_hold_kind("idle");
    rig
}

#[test]
fn the_next_request_loads_what_had_its_place_before() {
    let mut rig = idle();
    rig.request(1);
    rig.check(&["up to large: asked", "load large", "queue #1"]);
    rig.loaded("large");
    rig.check(&["serve large", "none to large in 0s", "start #1 on large"]);
}

#[test]
fn the_best_below_it_that_has_room_is_loaded_where_it_has_none() {
    let mut rig = idle();
    rig.sample(7.0);
    rig.outputs();
    rig.request(1);
    rig.check(&["up to medium: asked", "load medium", "queue #1"]);
}

#[test]
fn what_a_shortage_took_since_then_is_not_loaded_for_a_request() {
    let mut rig = rig("manager.idle-unload = \"10m\"").serving("large");
    rig.change_after(2.0);
    rig.outputs();
    // A request arrives while it unloads.
    rig.request(1);
    rig.unloaded("large");
    rig.outputs();
    rig.change_after(2.0);
    rig.obey();
    rig.done(1);
    rig.samples(2.0, minutes(1));
    rig.samples(15.0, seconds(4));
    rig.obey();
    rig.samples(15.0, seconds(20));
    rig.sample(2.0);
    rig.outputs();
    rig.request(2);
    let lines = rig.outputs();
    assert!(!lines.iter().any(|line| line.starts_with("up to")), "{lines:?}");
}
