//! The daemon in operation: its messages to the service manager, its journal, its hooks.

use std::fs;
use std::os::linux::fs::MetadataExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::Command;

use serde_json::Value;
use tiershift_testkit::gguf;
use tiershift_testkit::policy::{BY_COMMAND, config, policy};
use tiershift_testkit::process::{children, signal};
use tiershift_testkit::server::{chat, json};
use tiershift_testkit::wait::{PATIENCE, wait_until};

use crate::live::{daemon, engine, site};

const SERVE: &str = "--models models --policy policy.toml";

/// Returns the daemon's standard error, line by line.
fn journal(folder: &Path) -> Vec<String> {
    fs::read_to_string(folder.join("stderr.txt")).unwrap().lines().map(str::to_owned).collect()
}

#[test]
fn its_service_manager_hears_that_it_serves_lives_and_stops() {
    let Some(engine) = engine("its_service_manager_hears_that_it_serves_lives_and_stops") else {
        return;
    };
    let folder = site(&[("a", gguf::TINY)]);
    let manager = UnixDatagram::bind(folder.join("notify")).unwrap();
    manager.set_read_timeout(Some(PATIENCE)).unwrap();
    let hear = |what: &str| {
        let mut bytes = [0; 1024];
        loop {
            let length = manager.recv(&mut bytes).unwrap_or_else(|error| panic!("{what}: {error}"));
            let said = String::from_utf8_lossy(&bytes[..length]).into_owned();
            if said.contains(what) {
                return said;
            }
        }
    };
    let mut daemon = daemon(&engine, &folder)
        .arguments(SERVE)
        .variable("NOTIFY_SOCKET", folder.join("notify"))
        .variable("WATCHDOG_USEC", "900000")
        .start();
    hear("READY=1");
    hear("STATUS=serves small (a)");
    hear("WATCHDOG=1");
    hear("WATCHDOG=1");
    signal("TERM", daemon.child.id());
    // The drain deadline of two minutes, and some time after it.
    assert_eq!(hear("STOPPING=1"), "STOPPING=1\nEXTEND_TIMEOUT_USEC=150000000");
    assert_eq!(daemon.wait(), Some(0));
}

#[test]
fn a_signal_to_the_whole_group_cuts_nothing_and_a_second_one_is_told_by_the_exit_code() {
    let name = "a_signal_to_the_whole_group_cuts_nothing_and_a_second_one_is_told_by_the_exit_code";
    let Some(engine) = engine(name) else { return };
    let folder = site(&[("a", gguf::TINY)]);
    let start = || {
        let daemon = daemon(&engine, &folder).arguments(SERVE).in_a_group().errors_in("stderr.txt");
        let daemon = daemon.start();
        daemon.wait_for("a model", |status| status["tier"] == "small");
        assert!(!children(daemon.child.id()).is_empty(), "a model runs");
        daemon
    };
    let signal_all = |group: u32| {
        let line = format!("kill -s TERM -- -{group}");
        assert!(Command::new("sh").args(["-c", &line]).status().unwrap().success(), "{line}");
    };
    let mut first = start();
    let streams: Vec<_> = (0..2)
        .map(|_| {
            let mut stream = first.ask(&chat("the end", 60));
            stream.until("data: ");
            stream
        })
        .collect();
    signal_all(first.child.id());
    for stream in streams {
        let stream = stream.rest();
        assert!(stream.contains("data: [DONE]") && !stream.contains("error"), "{stream}");
    }
    assert_eq!(first.wait(), Some(0));
    assert!(journal(&folder).last().unwrap().ends_with(" stopped"), "{:?}", journal(&folder));

    let mut second = start();
    let mut stream = second.ask(&chat("the end", 2000));
    stream.until("data: ");
    signal_all(second.child.id());
    wait_until("the stop", || journal(&folder).iter().any(|line| line.contains("stopping: ")));
    signal_all(second.child.id());
    assert_eq!(second.wait(), Some(1));
    let last = journal(&folder).pop().unwrap();
    assert!(last.ends_with("stopped: 1 reply was cut"), "{last}");
}

#[test]
fn the_journal_has_each_switch_with_its_reason_and_cost() {
    let Some(engine) = engine("the_journal_has_each_switch_with_its_reason_and_cost") else {
        return;
    };
    let folder = site(&[("a", gguf::TINY), ("b", gguf::SMALL)]);
    folder.put("policy.toml", &policy(BY_COMMAND));
    let is = |tier: &'static str| move |status: &Value| status["tier"] == tier;
    let tour = |arguments: &str, stream: Option<String>| {
        let mut daemon = daemon(&engine, &folder).arguments(SERVE).arguments(arguments);
        daemon = daemon.errors_in("stderr.txt");
        if let Some(stream) = stream {
            daemon = daemon.variable("JOURNAL_STREAM", stream);
        }
        let mut daemon = daemon.start();
        // The upgrade is complete once the smaller model is unloaded.
        daemon.wait_for("the climb of the start", |status| status["switches"] == 2);
        for (tier, switches) in [("small", 3), ("medium", 4)] {
            let asked = daemon.post("/switch", &format!("{{\"tier\":\"{tier}\"}}"));
            assert!(asked.starts_with("HTTP/1.1 202 "), "{asked}");
            daemon.wait_for("the order", |status| status["switches"] == switches);
        }
        // Without its file it is not loaded again, and the smaller model replaces it.
        let (file, kept) = (folder.join("models/b.gguf"), folder.join("kept"));
        fs::rename(&file, &kept).unwrap();
        children(daemon.child.id()).into_iter().for_each(|child| signal("KILL", child));
        daemon.wait_for("what is smaller", is("small"));
        fs::rename(&kept, &file).unwrap();
        daemon.stop();
        journal(&folder)
    };
    let told = tour("", None);
    let has = |what: &str| {
        let found = told.iter().find(|line| line.contains(what));
        found.unwrap_or_else(|| panic!("no {what:?} in {told:#?}"))
    };
    assert!(has("model: `a`: tier small, ").contains("estimated: "), "{told:#?}");
    let reads = has("memory of ");
    assert!(
        reads.contains("GiB: upgrade below ") && reads.contains("by the policy: cpu"),
        "{reads}"
    );
    let first = has("switched: none → small: ");
    assert!(first.contains("(took ") && first.contains(" of it to load)"), "{first}");
    // Date and time precede every line that is not the continuation of another.
    let time = first.split(' ').next().unwrap();
    assert!(time.len() == "2026-11-28T02:13:05Z".len() && time.ends_with('Z'), "{first}");
    assert!(has("switched: medium → small: ").contains("asked for"), "{told:#?}");
    assert!(has("failure: b crashed: ").contains("SIGKILL"), "{told:#?}");
    assert!(has("switched: medium → small: b did not load: ").contains("(took "), "{told:#?}");
    assert!(told.iter().all(|line| !line.contains(" decision: ")), "{told:#?}");

    // Under journald, the journal has the time; -v gives more detail.
    let file = fs::metadata(folder.join("stderr.txt")).unwrap();
    let stream = format!("{}:{}", file.st_dev(), file.st_ino());
    let told = tour("-v", Some(stream));
    assert!(told.iter().any(|line| line.starts_with("switched: none → small: ")), "{told:#?}");
    assert!(told.iter().any(|line| line.starts_with("decision: ")), "{told:#?}");
    assert!(told.iter().any(|line| line.starts_with("loaded: b, in ")), "{told:#?}");

    let told = tour("--log-format json", None);
    let events: Vec<Value> = told.iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    let of = |kind: &str| {
        let of_kind = events.iter().filter(|event| event["event"] == kind);
        of_kind.collect::<Vec<_>>()
    };
    assert!(of("switched").len() >= 3, "{events:#?}");
    assert_eq!(of("switched")[0]["to"], "small");
    assert!(of("switched")[0]["load_ns"].as_u64() > Some(0));
    let models = events.iter().filter(|event| event["kind"] == "model").count();
    assert_eq!(models, 2, "{events:#?}");
    assert!(of("reads")[0]["lines"][0]["total_bytes"].as_u64() > Some(0));
    assert!(events.iter().all(|event| event["time"].is_string()), "{events:#?}");
    assert_eq!(of("stopped").len(), 1);
}

#[test]
fn hooks_get_what_happened_one_after_the_other_and_hold_nobody_up() {
    let Some(engine) = engine("hooks_get_what_happened_one_after_the_other_and_hold_nobody_up")
    else {
        return;
    };
    let folder = site(&[("a", gguf::TINY), ("b", gguf::SMALL)]);
    let script = |name: &str, text: &str| {
        folder.put(name, text);
        let executable = fs::Permissions::from_mode(0o755);
        fs::set_permissions(folder.join(name), executable).unwrap();
    };
    // Paths in the config are relative to its folder, and files that the command writes are relative to the daemon's.
    script("change.sh", "#!/bin/sh\n{ cat; echo; } >> \"$1\"\n");
    let others = "[models]\nfolder = \"models\"\n[hooks]\non-change = [\"./change.sh\", \"changes.jsonl\"]\n";
    folder.put("serve.toml", &config(others, &policy(BY_COMMAND)));
    let is = |tier: &'static str| move |status: &Value| status["tier"] == tier;
    let start = || {
        let daemon = daemon(&engine, &folder).arguments("--config serve.toml");
        daemon.errors_in("stderr.txt").start()
    };
    let mut first = start();
    first.wait_for("the climb of the start", |status| status["switches"] == 2);
    first.post("/switch", "{\"tier\":\"small\"}");
    let changes = || {
        let text = fs::read_to_string(folder.join("changes.jsonl")).unwrap_or_default();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect::<Vec<Value>>()
    };
    wait_until("the hooks", || changes().len() == 3);
    first.stop();
    let changes = changes();
    assert_eq!((&changes[0]["from"], &changes[0]["to"]), (&"none".into(), &"small".into()));
    assert_eq!(changes[1]["event"], "change");
    assert_eq!(changes[1]["decision"]["action"]["upgrade"]["to"], 2, "{}", changes[1]);
    assert!(changes[2]["text"].as_str().unwrap().contains("asked for"), "{}", changes[2]);
    assert!(changes[1]["load_ns"].as_u64() > Some(0) && changes[1]["time"].is_string());

    // A hook that hangs is ended with all processes that it started, and reported.
    script("change.sh", "#!/bin/sh\necho $$ > hung.txt\nsleep 300 | cat\n");
    let slow = others.replace("[hooks]", "[hooks]\ntime-limit = \"1s\"");
    folder.put("serve.toml", &config(&slow, &policy(BY_COMMAND)));
    let mut second = start();
    second.wait_for("a model", is("medium"));
    assert!(second.ask(&chat("the cat", 4)).rest().contains("data: [DONE]"));
    wait_until("its end", || {
        journal(&folder).iter().any(|line| line.contains("error: the hook `on-change`: "))
    });
    let said = journal(&folder).join("\n");
    assert!(said.contains("change.sh` took longer than 1s, and was ended"), "{said}");
    let group = fs::read_to_string(folder.join("hung.txt")).unwrap();
    let line = format!("kill -s 0 -- -{} 2>/dev/null", group.trim());
    wait_until("its children's end", || {
        !Command::new("sh").args(["-c", &line]).status().unwrap().success()
    });
    assert_eq!(json(&second.get("/status"))["tier"], "medium");
    second.stop();
}
