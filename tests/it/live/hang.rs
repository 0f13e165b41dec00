//! Hangs: of a GPU's driver, and of model servers that still exist but no longer respond.

use std::cell::Cell;
use std::fs;
use std::path::Path;
use std::process::Command;

use tiershift_testkit::daemon::Daemon;
use tiershift_testkit::gguf;
use tiershift_testkit::policy::{BY_COMMAND, policy};
use tiershift_testkit::process::{is_there, servers_of, signal};
use tiershift_testkit::server::chat;
use tiershift_testkit::site::Site;
use tiershift_testkit::skip::skip;

use crate::live::story::log_text;
use crate::live::{SERVE, engine, site};
use crate::support::run_in;

/// A GPU driver's library for a machine without a GPU. While the file HANG exists, it does not answer.
const DRIVER: &str = r"
#include <unistd.h>
int nvmlInit_v2(void) { return 0; }
int nvmlShutdown(void) { return 0; }
int nvmlDeviceGetCount_v2(unsigned *count) {
  while (access(HANG, F_OK) == 0) usleep(10000);
  *count = 0;
  return 0;
}
";

/// Builds the library where a daemon finds it, or reports that the test is skipped because there is no compiler.
fn driver(test: &str, folder: &Path) -> Option<()> {
    fs::write(folder.join("driver.c"), DRIVER).unwrap();
    let hang = format!("-DHANG=\"{}\"", folder.join("hang").display());
    let built = Command::new("cc")
        .args(["-shared", "-fPIC", "-o", "libnvidia-ml.so", "driver.c", &hang])
        .current_dir(folder)
        .status();
    if let Err(error) = &built {
        skip("cc", test, &error.to_string());
        return None;
    }
    assert!(built.unwrap().success(), "the library does not build");
    Some(())
}

#[test]
fn a_gpu_driver_that_hangs_stops_no_reply() {
    let name = "a_gpu_driver_that_hangs_stops_no_reply";
    let Some(engine) = engine(name) else { return };
    let folder = site(&[("a", gguf::TINY)]);
    if driver(name, &folder).is_none() {
        return;
    }
    // A reading stays valid for longer than this takes, so that requests need no new one.
    folder.put("policy.toml", &policy("stale-after = \"5m\""));
    let daemon = crate::live::daemon(&engine, &folder).arguments(SERVE);
    let mut daemon = daemon.variable("LD_LIBRARY_PATH", &*folder).start();
    daemon.wait_for("a model", |status| status["tier"] == "small");
    let is_stale = |status: &serde_json::Value| status["decision"]["reason"]["stale"].is_object();
    for _ in 0..2 {
        fs::write(folder.join("hang"), "").unwrap();
        daemon.wait_for("the missing reading", is_stale);
        for _ in 0..3 {
            let reply = daemon.ask(&chat("the cat", 4)).rest();
            assert!(reply.contains("data: [DONE]"), "{reply}");
        }
        fs::remove_file(folder.join("hang")).unwrap();
        daemon.wait_for("a reading", |status| !is_stale(status));
    }
    // The daemon also stops normally.
    fs::write(folder.join("hang"), "").unwrap();
    daemon.wait_for("the missing reading", is_stale);
    daemon.stop();
    run_in(&folder, "verify log.jsonl").exits(0);
    let log = log_text(&folder.join("log.jsonl"));
    for error in ["no reading came within 1s", "a reading has hung for "] {
        assert!(log.contains(error), "the log does not say \"{error}\"");
    }
}

/// Two models; the larger one is soon given up when it does not load.
const CATALOG: &str = r#"
[[model]]
id = "a"
tier = "small"
quality = "50%"
ram = "100MiB"
context-tokens = 4096
load-warm = "100ms"
load-cold = "1s"
prefill-tokens-per-second = 1000
decode-tokens-per-second = 500

[[model]]
id = "b"
tier = "medium"
quality = "100%"
ram = "300MiB"
context-tokens = 4096
load-warm = "200ms"
load-cold = "1s"
load-timeout = "5s"
prefill-tokens-per-second = 200
decode-tokens-per-second = 50
"#;

/// A daemon that steps up only by order.
fn start(engine: &Path) -> (Site, Daemon) {
    let folder = site(&[("a", gguf::TINY), ("b", gguf::TINY)]);
    folder.put("policy.toml", &policy(BY_COMMAND));
    folder.put("catalog.toml", CATALOG);
    let daemon = crate::live::daemon(engine, &folder).arguments(SERVE);
    let daemon = daemon.arguments("--catalog catalog.toml").start();
    daemon.wait_for("the first model", |status| status["tier"] == "small");
    (folder, daemon)
}

#[test]
fn a_server_that_hangs_is_ended_and_another_takes_its_place() {
    let name = "a_server_that_hangs_is_ended_and_another_takes_its_place";
    let Some(engine) = engine(name) else { return };
    let (folder, mut daemon) = start(&engine);
    let folder = &*folder;
    // With a stream, which ends with an error, and a waiting request, which is served afterwards.
    let mut streams: Vec<_> = (0..2).map(|_| daemon.ask(&chat("the cat", 3000))).collect();
    for stream in &mut streams {
        stream.until("data: ");
    }
    let waits = daemon.ask(&chat("the dog", 4));
    let hung = servers_of(folder)[0];
    signal("STOP", hung);
    for stream in streams {
        let stream = stream.rest();
        assert!(stream.contains("\"code\":\"model_failed\""), "{stream}");
    }
    let served = waits.rest();
    assert!(served.contains("data: [DONE]"), "{served}");
    assert!(!is_there(hung), "the process that hung is left behind");

    // When stopped while its model hangs, the daemon ends, and so does the model.
    let hung = servers_of(folder)[0];
    signal("STOP", hung);
    daemon.stop();
    assert!(!is_there(hung), "the process that hung is left behind");
    run_in(folder, "verify log.jsonl").exits(0);
    let log = log_text(&folder.join("log.jsonl"));
    assert_eq!(log.matches("its process hung, and was ended").count(), 1, "{log}");
}

#[test]
fn a_server_that_hangs_on_its_way_in_or_out_stops_no_reply() {
    let name = "a_server_that_hangs_on_its_way_in_or_out_stops_no_reply";
    let Some(engine) = engine(name) else { return };
    let (folder, mut daemon) = start(&engine);
    let folder = &*folder;
    let small = servers_of(folder);
    // A pipe without a writer: a load that begins and never ends.
    let (model, aside) = (folder.join("models/b.gguf"), folder.join("aside"));
    fs::rename(&model, &aside).unwrap();
    assert!(Command::new("mkfifo").arg(&model).status().unwrap().success());
    daemon.post("/switch", "{\"tier\":\"medium\"}");
    // A process that is starting another program cannot be recognised by its environment for a moment, so its id is kept.
    let half = Cell::new(None);
    daemon.wait_for("the load", |_| {
        half.set(servers_of(folder).into_iter().find(|pid| !small.contains(pid)));
        half.get().is_some()
    });
    let half = half.get().unwrap();
    signal("STOP", half);
    let served = daemon.ask(&chat("the cat", 4)).rest();
    assert!(served.contains("x-tiershift-tier: small\r\n"), "{served}");
    daemon.wait_for("the end of the half load", |_| !is_there(half));
    fs::remove_file(&model).unwrap();
    fs::rename(&aside, &model).unwrap();

    // The reverse: a model that should unload, and does not.
    let tier = |tier: &'static str| move |status: &serde_json::Value| status["tier"] == tier;
    let is_on_b =
        |_: &serde_json::Value| matches!(servers_of(folder)[..], [pid] if pid != small[0]);
    signal("STOP", small[0]);
    // Ordered repeatedly: the daemon may not have noticed yet that the first order has failed.
    daemon.wait_for("the other model", |status| {
        let is_there = tier("medium")(status);
        if !is_there {
            daemon.post("/switch", "{\"tier\":\"medium\"}");
        }
        is_there
    });
    let served = daemon.ask(&chat("the dog", 4)).rest();
    assert!(served.contains("x-tiershift-tier: medium\r\n"), "{served}");
    daemon.wait_for("the end of the first", is_on_b);
    let served = daemon.ask(&chat("the fox", 4)).rest();
    assert!(served.contains("data: [DONE]"), "{served}");
    daemon.stop();
    run_in(folder, "verify log.jsonl").exits(0);
}
