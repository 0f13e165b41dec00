//! A shortage does not wait for its consequences. Each story was found by the random hunt.

use crate::rig::{gib, rig, seconds};

#[test]
fn what_was_crowded_out_of_service_goes_as_soon_as_it_is_idle_and_not_with_the_end_of_the_load() {
    let mut rig = rig("").serving("large");
    rig.samples(1.0, seconds(60));
    rig.request(1);
    rig.switch("small");
    rig.check(&["accept #1", "start #1 on large", "down to small, Graceful: asked", "load small"]);
    // Both fitted side by side; now others take the room, and half of "small" is loaded.
    rig.late = gib(1.0);
    rig.sample(4.5);
    rig.check(&["serve none"]);
    rig.done(1);
    rig.check(&["#1 done by large in 2s", "unload large"]);
}

#[test]
fn what_must_go_for_a_shortage_does_not_wait_until_its_successor_has_rested() {
    let mut rig = rig("manager.load-retry = '1m'").serving("medium");
    rig.samples(1.0, seconds(60));
    rig.switch("small");
    rig.load_failed("small");
    rig.outputs();
    rig.sample(11.0);
    let lines = rig.outputs();
    assert!(lines.contains(&"unload medium".to_owned()), "{lines:?}");
}
