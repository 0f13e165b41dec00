//! A killed daemon leaves its models behind; the next one takes them over.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use tiershift_testkit::daemon::Daemon;
use tiershift_testkit::gguf;
use tiershift_testkit::policy::{BY_COMMAND, POLICY, policy};
use tiershift_testkit::process::{servers_of, signal};
use tiershift_testkit::server::chat;
use tiershift_testkit::site::Site;

use crate::live::story::log_text;
use crate::live::{engine, site};
use crate::support::run_in;

fn folder() -> Site {
    site(&[("a", gguf::TINY), ("b", gguf::SMALL)])
}

fn daemon(engine: &Path, folder: &Path, log: &str) -> Daemon {
    let arguments = format!("--models models --policy policy.toml --record {log}");
    crate::live::daemon(engine, folder).arguments(&arguments).start()
}

/// Kills a daemon, which cannot react, and returns the model processes that it leaves behind.
fn kill(daemon: Daemon, folder: &Path) -> Vec<u32> {
    daemon.kill_alone();
    servers_of(folder)
}

/// Returns whether a process waits for the other end of a pipe to be opened, by Linux's name for that wait.
fn waits_at_a_pipe(pid: u32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/wchan")).is_ok_and(|place| place == "wait_for_partner")
}

/// Stops a daemon as a user does, asserts that no process is left, and returns its log, which must verify.
#[track_caller]
fn stop(mut daemon: Daemon, folder: &Path, log: &str) -> String {
    daemon.stop();
    assert_eq!(servers_of(folder), Vec::<u32>::new());
    let verified = run_in(folder, &format!("verify {log}")).exits(0);
    assert!(verified.out.contains("verified"), "{}", verified.out);
    log_text(&folder.join(log))
}

#[test]
fn a_killed_daemons_model_is_served_by_the_next_one_without_a_load() {
    let name = "a_killed_daemons_model_is_served_by_the_next_one_without_a_load";
    let Some(engine) = engine(name) else { return };
    let folder = &*folder();
    let first = daemon(&engine, folder, "first");
    first.wait_for("the upgrade", |status| status["tier"] == "medium" && status["switches"] == 2);
    let mut stream = first.ask(&chat("the cat", 3000));
    stream.until("data: ");
    let left = kill(first, folder);
    assert_eq!(left.len(), 1, "the model outlives its daemon");

    let second = daemon(&engine, folder, "second");
    let served = second.ask(&chat("the dog", 4)).rest();
    assert!(served.contains("x-tiershift-model: b\r\n"), "{served}");
    assert!(served.contains("data: [DONE]"), "{served}");
    assert_eq!(servers_of(folder), left, "it is the same process");

    // An adopted model is watched like any other: its death is noticed, and it is loaded again.
    signal("KILL", left[0]);
    second.wait_for("its death", |_| {
        let now = servers_of(folder);
        !now.is_empty() && now != left
    });
    let served = second.ask(&chat("the fox", 4)).rest();
    assert!(served.contains("data: [DONE]"), "{served}");

    let log = stop(second, folder, "second");
    assert!(log.contains(r#""input":{"adopt":{"models":[{"model":"b"}]}}"#), "{log}");
    let crash = log.find(r#""crashed""#).expect("its end is in the log");
    assert!(!log[..crash].contains(r#""load""#), "nothing was loaded before it");
}

#[test]
fn what_a_daemon_left_half_loaded_is_ended_and_the_rest_adopted() {
    let name = "what_a_daemon_left_half_loaded_is_ended_and_the_rest_adopted";
    let Some(engine) = engine(name) else { return };
    let folder = &*folder();
    fs::write(folder.join("policy.toml"), policy(BY_COMMAND)).unwrap();
    let first = daemon(&engine, folder, "first");
    first.wait_for("the first model", |status| status["tier"] == "small");
    let small = servers_of(folder);
    // From here on the second model is a pipe without a writer: a load that begins and never ends.
    let (model, aside) = (folder.join("models/b.gguf"), folder.join("aside"));
    fs::rename(&model, &aside).unwrap();
    assert!(Command::new("mkfifo").arg(&model).status().unwrap().success());
    first.post("/switch", "{\"tier\":\"medium\"}");
    // Until it waits there it writes output, and would die when the daemon no longer reads that.
    first.wait_for("the half load", |_| servers_of(folder).into_iter().any(waits_at_a_pipe));
    let left = kill(first, folder);
    assert_eq!(left.len(), 2, "both processes outlive their daemon");

    fs::rename(&aside, &model).unwrap();
    fs::write(folder.join("policy.toml"), POLICY).unwrap();
    let second = daemon(&engine, folder, "second");
    assert_eq!(servers_of(folder), small, "the half loaded one is gone, the other one serves on");
    let served = second.ask(&chat("the dog", 4)).rest();
    assert!(served.contains("x-tiershift-model: a\r\n"), "{served}");
    second.wait_for("the switch, done again", |status| {
        status["tier"] == "medium" && status["switches"] == 2
    });
    let log = stop(second, folder, "second");
    assert!(log.contains(r#""input":{"adopt":{"models":[{"model":"a"}]}}"#), "{log}");
}

#[test]
fn a_model_that_would_be_started_otherwise_today_is_not_adopted() {
    let name = "a_model_that_would_be_started_otherwise_today_is_not_adopted";
    let Some(engine) = engine(name) else { return };
    let folder = &*folder();
    let first = daemon(&engine, folder, "first");
    first.wait_for("a model", |status| status["tier"] != "none");
    // A process that merely inherited the mark is not one of ours.
    let models = folder.join("models").canonicalize().unwrap();
    let mut bystander = Command::new("sleep")
        .arg("1000")
        .env("TIERSHIFT_SERVES_FROM", &models)
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    kill(first, folder);
    fs::rename(models.join("b.gguf"), models.join("c.gguf")).unwrap();
    fs::rename(models.join("a.gguf"), models.join("d.gguf")).unwrap();
    let second = daemon(&engine, folder, "second");
    assert!(servers_of(folder).len() <= 1, "what the first one left has gone");
    second.wait_for("a model of today", |status| status["tier"] != "none");
    let is_running = bystander.try_wait().unwrap().is_none();
    bystander.kill().unwrap();
    bystander.wait().unwrap();
    assert!(is_running, "it is left alone");

    // Only one daemon can serve from a folder.
    let another = run_in(folder, "serve --port 0 --models models --llama-server true").exits(2);
    assert!(another.err.contains("another daemon serves from"), "{}", another.err);
    let log = stop(second, folder, "second");
    assert!(!log.contains("adopt"), "{log}");
}
