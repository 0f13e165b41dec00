//! A second policy beside the first: the same as a replay of the log under it, and no effect on anything.

use std::fs;
use std::io::Read;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::live::daemon::{Daemon, POLICY, chat, engine, signal};
use crate::live::gguf;
use crate::support::run_in;

#[test]
fn a_shadow_is_the_replay_of_the_log_fed_while_it_is_written() {
    let Some(engine) = engine("a_shadow_is_the_replay_of_the_log_fed_while_it_is_written") else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    fs::create_dir(folder.join("models")).unwrap();
    gguf::place(&folder.join("models"), "a", gguf::TINY);
    gguf::place(&folder.join("models"), "b", gguf::SMALL);
    // The shadow stays where it began; the real one goes up after a second.
    let patient = POLICY.replace("stabilization = \"1s\"", "stabilization = \"1h\"");
    fs::write(folder.join("shadow.toml"), &patient).unwrap();
    fs::write(folder.join("policy.toml"), POLICY).unwrap();
    let arguments = "serve --port 0 --models models --policy policy.toml --log recordings --shadow shadow.toml --json";
    let child = Command::new(snapbox::cmd::cargo_bin!("tiershift"))
        .current_dir(folder)
        .args(arguments.split(' '))
        .arg("--llama-server")
        .arg(&*engine)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let (mut daemon, mut stdout) = Daemon::of_json(child, folder);
    daemon.wait_for("the upgrade", |status| status["tier"] == "medium");
    for _ in 0..5 {
        assert!(daemon.ask(&chat("the cat", 4)).rest().contains("data: [DONE]"));
    }
    daemon.wait_for("the shadow", |status| {
        status["shadow"]["tier"] == "small" && status["shadow"]["differences"] == 1
    });
    signal("TERM", daemon.child.id());
    assert_eq!(daemon.wait(), Some(0));

    let mut said = String::new();
    stdout.read_to_string(&mut said).unwrap();
    let report: Value = serde_json::from_str(&said).unwrap_or_else(|e| panic!("{e}: {said}"));
    assert_eq!(report["state"], "ended", "{report:#}");
    let last = &report["last_difference"];
    assert_eq!((&last["real"][0], &last["shadow"][0]), (&"medium".into(), &"small".into()));
    assert!(
        last["shadow"][1].to_string().contains("remaining_ns"),
        "it says why it stays: {last:#}"
    );
    assert_eq!(report["saved"]["switches"], 1, "{report:#}");
    assert!(report["saved"]["quality_gained"].as_f64() < Some(0.0), "{report:#}");
    let agreement = report["agreement"].as_f64().unwrap();
    assert!(agreement > 0.0 && agreement < 1.0, "{agreement}");

    let line = "replay recordings --policy shadow.toml --json";
    let (mut replayed, mut summary) = (run_in(folder, line).json(), report["summary"].clone());
    let fingerprint = replayed["fingerprint"].clone();
    for summary in [&mut replayed, &mut summary] {
        // What only a reader of files knows.
        for key in ["fingerprint", "warnings", "rejected_rows"] {
            assert!(summary.as_object_mut().unwrap().remove(key).is_some(), "{key}");
        }
    }
    assert_eq!(summary, replayed);
    assert_eq!(summary["requests"]["done"], 5);
    // With the server's counts it is another run.
    let counted = run_in(folder, "replay recordings --policy shadow.toml --counted --json").json();
    assert_eq!(counted["requests"]["done"], 5);
    assert_ne!(counted["fingerprint"], fingerprint);
    assert_ne!(counted["first_token_ms"], replayed["first_token_ms"]);
    // It had no effect: the log is the real policy's.
    run_in(folder, "verify recordings").exits(0);
}
