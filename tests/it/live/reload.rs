//! The config of a running daemon: what may change does, the rest is refused by name, and the log still verifies.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use tiershift::probe::clock::SystemClock;
use tiershift_core::time::{Clock, Timestamp};

use crate::live::daemon::{Daemon, PATIENCE, POLICY, POLL, engine, signal};
use crate::live::gguf;
use crate::support::run_in;

fn configure(folder: &Path, stabilization: &str, rest: &str) {
    let policy =
        POLICY.replace("stabilization = \"1s\"", &format!("stabilization = {stabilization}"));
    let policy = policy.replace("[manager]", "[policy.manager]");
    let config = format!(
        "[models]\nfolder = \"models\"\n[log]\nfolder = \"recordings\"\n{rest}\n[policy]{policy}"
    );
    fs::write(folder.join("serve.toml"), config).unwrap();
}

/// Waits until the daemon has said this.
#[track_caller]
fn wait_for_words(folder: &Path, words: &str) {
    let mut clock = SystemClock::start();
    loop {
        let said = fs::read_to_string(folder.join("stderr.txt")).unwrap();
        if said.contains(words) {
            return;
        }
        assert!(clock.now() < Timestamp::ZERO + PATIENCE, "{words:?} is not said: {said}");
        clock.wait_until(clock.now() + POLL);
    }
}

#[test]
fn a_policy_is_reloaded_and_whatever_else_changed_is_refused() {
    let Some(engine) = engine("a_policy_is_reloaded_and_whatever_else_changed_is_refused") else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    fs::create_dir(folder.join("models")).unwrap();
    gguf::place(&folder.join("models"), "a", gguf::TINY);
    gguf::place(&folder.join("models"), "b", gguf::SMALL);
    configure(folder, "\"1h\"", "");
    let child = Command::new(snapbox::cmd::cargo_bin!("tiershift"))
        .current_dir(folder)
        .args(["serve", "--config", "serve.toml", "--port", "0", "--llama-server"])
        .arg(&*engine)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(fs::File::create(folder.join("stderr.txt")).unwrap())
        .spawn()
        .unwrap();
    let mut daemon = Daemon::of(child, folder);
    daemon.wait_for("the first model", |status| status["tier"] == "small");

    configure(folder, "\"soon\"", "");
    signal("HUP", daemon.child.id());
    wait_for_words(folder, "serve.toml:");
    wait_for_words(folder, "\"soon\" is not a span");
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
    signal("TERM", daemon.child.id());
    assert_eq!(daemon.wait(), Some(0));
    run_in(folder, "verify recordings").exits(0);
    let replayed = run_in(folder, "replay recordings --json").json();
    assert!(replayed["warnings"].to_string().contains("changed 1 times"), "{replayed}");
}
