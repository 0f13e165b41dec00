//! A second policy beside the first: the same as a replay of the log under it, and without effect.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use serde_json::Value;
use tiershift_testkit::gguf;
use tiershift_testkit::policy::policy;
use tiershift_testkit::server::chat;
use tiershift_testkit::skip::is_installed;

use crate::live::{daemon, engine, site};
use crate::support::run_in;

#[test]
fn a_shadow_is_the_replay_of_the_log_fed_while_it_is_written() {
    let Some(engine) = engine("a_shadow_is_the_replay_of_the_log_fed_while_it_is_written") else {
        return;
    };
    let folder = site(&[("a", gguf::TINY), ("b", gguf::SMALL)]);
    // The shadow stays where it began; the real one goes up.
    folder.put("shadow.toml", &policy("manager.pin = \"small\""));
    let folder = &*folder;
    let arguments =
        "--models models --policy policy.toml --record recordings --shadow shadow.toml --json";
    let mut daemon = daemon(&engine, folder).arguments(arguments).start();
    daemon.wait_for("the upgrade", |status| status["tier"] == "medium");
    for _ in 0..5 {
        assert!(daemon.ask(&chat("the cat", 4)).rest().contains("data: [DONE]"));
    }
    // On a busy machine a load takes long: the larger model has to serve for long enough to be worth it.
    daemon.wait_for("the shadow", |status| {
        let shadow = &status["shadow"];
        shadow["tier"] == "small"
            && shadow["differences"] == 1
            && shadow["saved"]["quality_gained"].as_f64() < Some(0.0)
    });
    daemon.stop();

    let said = daemon.printed();
    let report: Value = serde_json::from_str(&said).unwrap_or_else(|e| panic!("{e}: {said}"));
    assert_eq!(report["state"], "ended", "{report:#}");
    let last = &report["last_difference"];
    assert_eq!((&last["real"][0], &last["shadow"][0]), (&"medium".into(), &"small".into()));
    assert!(last["shadow"][1].to_string().contains("fixed"), "it says why it stays: {last:#}");
    assert_eq!(report["saved"]["switches"], 1, "{report:#}");
    assert!(report["saved"]["quality_gained"].as_f64() < Some(0.0), "{report:#}");
    let agreement = report["agreement"].as_f64().unwrap();
    assert!(agreement > 0.0 && agreement < 1.0, "{agreement}");

    let line = "replay recordings --policy shadow.toml --no-oracle --json";
    let (mut replayed, mut summary) = (run_in(folder, line).json(), report["summary"].clone());
    let fingerprint = replayed["fingerprint"].clone();
    for summary in [&mut replayed, &mut summary] {
        // Known only to a reader of files.
        for key in ["fingerprint", "warnings", "rejected_rows"] {
            assert!(summary.as_object_mut().unwrap().remove(key).is_some(), "{key}");
        }
    }
    let began = replayed.as_object_mut().unwrap().remove("started_at");
    assert!(began.is_some(), "the log says when the run began");
    assert_eq!(summary, replayed);
    assert_eq!(summary["requests"]["done"], 5);
    // With the server's counts it is another run.
    let counted = run_in(folder, "replay recordings --policy shadow.toml --counted --json").json();
    assert_eq!(counted["requests"]["done"], 5);
    assert_ne!(counted["fingerprint"], fingerprint);
    assert_ne!(counted["first_token_ms"], replayed["first_token_ms"]);
    // The shadow had no effect: the log is that of the real policy.
    run_in(folder, "verify recordings").exits(0);
}

#[test]
fn a_program_may_be_the_shadow_and_its_end_stops_nothing_else() {
    let name = "a_program_may_be_the_shadow_and_its_end_stops_nothing_else";
    let Some(engine) = engine(name).filter(|_| is_installed("python3", name)) else { return };
    let folder = site(&[("a", gguf::TINY), ("b", gguf::SMALL)]);
    let answer = "print('{\"tier\": \"small\"}', flush=True)";
    let start = |name: &str, body: &str| {
        let text = format!("#!/usr/bin/env python3\nimport sys\nsys.stdin.readline()\n{body}\n");
        folder.put(name, &text);
        fs::set_permissions(folder.join(name), fs::Permissions::from_mode(0o755)).unwrap();
        let arguments = format!("--models models --policy policy.toml --shadow exec:./{name}");
        daemon(&engine, &folder).arguments(&arguments).errors_in("errors.txt").start()
    };
    let mut stays = start("stays", &format!("for line in sys.stdin:\n    {answer}"));
    stays.wait_for("the shadow", |status| {
        status["tier"] == "medium" && status["shadow"]["tier"] == "small"
    });
    stays.stop();
    let mut dies = start("dies", &format!("sys.stdin.readline()\n{answer}\nsys.exit(3)"));
    dies.wait_for("its end", |status| {
        let error = status["shadow"]["state"]["failed"]["error"].as_str().unwrap_or_default();
        error.contains("ended (exit status: 3) before it answered reading 2")
    });
    assert!(dies.ask(&chat("the cat", 4)).rest().contains("data: [DONE]"));
    dies.stop();
    let errors = fs::read_to_string(folder.join("errors.txt")).unwrap();
    assert!(errors.contains("the shadow stopped, serving continues"), "{errors}");
}
