//! Reloading the config of a running daemon: permitted changes apply, others are refused by name, and the log still verifies.

use std::fs;
use std::path::Path;

use tiershift_testkit::gguf;
use tiershift_testkit::policy::{config, policy};
use tiershift_testkit::process::signal;
use tiershift_testkit::wait::wait_for;

use crate::live::{engine, site};
use crate::support::run_in;

fn configure(folder: &Path, stabilization: &str, others: &str) {
    let policy = policy(&format!("stabilization = {stabilization}"));
    let models = "[models]\nfolder = \"models\"\n[recording]\nfolder = \"recordings\"\n";
    let config = config(&format!("{models}{others}"), &policy);
    fs::write(folder.join("serve.toml"), config).unwrap();
}

/// Waits until the daemon has printed this text.
#[track_caller]
fn wait_for_words(folder: &Path, words: &str) {
    wait_for(|| {
        let said = fs::read_to_string(folder.join("stderr.txt")).unwrap();
        if said.contains(words) { Ok(()) } else { Err(format!("{words:?} is not said: {said}")) }
    });
}

#[test]
fn a_policy_is_reloaded_and_whatever_else_changed_is_named() {
    let Some(engine) = engine("a_policy_is_reloaded_and_whatever_else_changed_is_named") else {
        return;
    };
    let folder = &*site(&[("a", gguf::TINY), ("b", gguf::SMALL)]);
    // Both models fit side by side: without the pin, the daemon would step up at once.
    configure(folder, "\"1h\"\nmanager.pin = \"small\"", "");
    let daemon = crate::live::daemon(&engine, folder).arguments("--config serve.toml");
    let mut daemon = daemon.errors_in("stderr.txt").start();
    daemon.wait_for("the first model", |status| status["tier"] == "small");

    configure(folder, "\"soon\"", "");
    signal("HUP", daemon.child.id());
    wait_for_words(folder, "serve.toml:");
    wait_for_words(folder, "\"soon\" is not a span");
    // Permitted changes apply, and the others are named.
    configure(
        folder,
        "\"1s\"",
        "[shadow]\npolicy = \"projecting\"\n[listen]\nhost = \"127.0.0.2\"",
    );
    gguf::write(&folder.join("models/c.gguf"), gguf::NANO).unwrap();
    signal("HUP", daemon.child.id());
    wait_for_words(folder, "the new policy is in effect (manager.pin, stabilization changed)");
    wait_for_words(folder, "listen, shadow can only change with a restart");
    wait_for_words(
        folder,
        "in the models folder, `c.gguf` is new: restart the daemon to use the change",
    );
    daemon.wait_for("what only the new policy allows", |status| status["tier"] == "medium");
    configure(folder, "\"1s\"", "");
    signal("HUP", daemon.child.id());
    wait_for_words(folder, "its policy is the same");
    daemon.stop();
    run_in(folder, "verify recordings").exits(0);
    let replayed = run_in(folder, "replay recordings --json").json();
    assert!(replayed["warnings"].to_string().contains("changed 1 times"), "{replayed}");
}
