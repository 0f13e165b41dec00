//! The config of a running daemon: what may change does, the rest is refused by name, and the log still verifies.

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

/// Waits until the daemon has said this.
#[track_caller]
fn wait_for_words(folder: &Path, words: &str) {
    wait_for(|| {
        let said = fs::read_to_string(folder.join("stderr.txt")).unwrap();
        if said.contains(words) { Ok(()) } else { Err(format!("{words:?} is not said: {said}")) }
    });
}

#[test]
fn a_policy_is_reloaded_and_whatever_else_changed_is_refused() {
    let Some(engine) = engine("a_policy_is_reloaded_and_whatever_else_changed_is_refused") else {
        return;
    };
    let folder = &*site(&[("a", gguf::TINY), ("b", gguf::SMALL)]);
    // Both models fit side by side: but for the pin, the start would climb at once.
    configure(folder, "\"1h\"\nmanager.pin = \"small\"", "");
    let daemon = crate::live::daemon(&engine, folder).arguments("--config serve.toml");
    let mut daemon = daemon.errors_in("stderr.txt").start();
    daemon.wait_for("the first model", |status| status["tier"] == "small");

    configure(folder, "\"soon\"", "");
    fs::hard_link(folder.join("models/a.gguf"), folder.join("models/c.gguf")).unwrap();
    signal("HUP", daemon.child.id());
    wait_for_words(folder, "serve.toml:");
    wait_for_words(folder, "\"soon\" is not a span");
    wait_for_words(folder, "note: `c.gguf` is new in the folder of models: restart the daemon");
    configure(
        folder,
        "\"1s\"",
        "[shadow]\npolicy = \"projecting\"\n[listen]\nhost = \"127.0.0.2\"",
    );
    signal("HUP", daemon.child.id());
    wait_for_words(folder, "listen, shadow cannot change while it runs");
    configure(folder, "\"1s\"", "");
    signal("HUP", daemon.child.id());
    wait_for_words(folder, "its policy holds from now on");
    daemon.wait_for("what only the new policy allows", |status| status["tier"] == "medium");
    daemon.stop();
    run_in(folder, "verify recordings").exits(0);
    let replayed = run_in(folder, "replay recordings --json").json();
    assert!(replayed["warnings"].to_string().contains("changed 1 times"), "{replayed}");
}
