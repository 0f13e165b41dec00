//! What hangs: a GPU's driver, and model servers that are there and do nothing any more.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::live::daemon::{Daemon, POLICY, chat, engine, log_text, signal};
use crate::live::gguf;
use crate::support::run_in;

/// A GPU driver's library for a machine without a GPU. While the file HANG is there, it answers nothing.
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

/// Builds the library where a daemon finds it, or says which test is skipped for want of a compiler.
fn driver(test: &str, folder: &Path) -> Option<()> {
    fs::write(folder.join("driver.c"), DRIVER).unwrap();
    let hang = format!("-DHANG=\"{}\"", folder.join("hang").display());
    let built = Command::new("cc")
        .args(["-shared", "-fPIC", "-o", "libnvidia-ml.so", "driver.c", &hang])
        .current_dir(folder)
        .status();
    if let Err(error) = &built {
        eprintln!("SKIPPED {test}: no C compiler is to be had here: {error}");
        return None;
    }
    assert!(built.unwrap().success(), "the library does not build");
    Some(())
}

#[test]
fn a_gpu_driver_that_hangs_stops_no_reply() {
    let name = "a_gpu_driver_that_hangs_stops_no_reply";
    let Some(engine) = engine(name) else { return };
    let place = tempfile::tempdir().unwrap();
    let folder = place.path();
    if driver(name, folder).is_none() {
        return;
    }
    fs::create_dir(folder.join("models")).unwrap();
    gguf::place(&folder.join("models"), "a", gguf::TINY);
    // A reading is good for longer than this takes, so that requests need no new one.
    fs::write(folder.join("policy.toml"), format!("stale-after = \"5m\"\n{POLICY}")).unwrap();
    let child = Command::new(snapbox::cmd::cargo_bin!("tiershift"))
        .current_dir(folder)
        .args(["serve", "--port", "0", "--policy", "policy.toml", "--models", "models"])
        .args(["--log", "log.jsonl", "--llama-server"])
        .arg(&engine)
        .env("LD_LIBRARY_PATH", folder)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut daemon = Daemon::of(child, folder);
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
    // It ends in good order, too.
    fs::write(folder.join("hang"), "").unwrap();
    daemon.wait_for("the missing reading", is_stale);
    signal("TERM", daemon.child.id());
    assert_eq!(daemon.wait(), Some(0));
    run_in(folder, "verify log.jsonl").exits(0);
    let log = log_text(&folder.join("log.jsonl"));
    for error in ["no reading came within 1s", "a reading has hung for "] {
        assert!(log.contains(error), "the log does not say \"{error}\"");
    }
}
