//! A dry run of the daemon: it decides and records, and loads nothing.

use tiershift_testkit::daemon::Daemon;
use tiershift_testkit::gguf;
use tiershift_testkit::process::{children, servers_of};
use tiershift_testkit::server::{chat, json};

use snapbox::cmd::cargo_bin;

use crate::live::story::log_text;
use crate::live::{SERVE, site};
use crate::support::run_in;

#[test]
fn a_dry_run_decides_and_records_and_loads_nothing() {
    let folder = site(&[("a", gguf::TINY), ("b", gguf::SMALL)]);
    let daemon = Daemon::builder(cargo_bin!("tiershift"), &folder).arguments(SERVE);
    // This program does not exist, and is not needed.
    let mut daemon = daemon.arguments("--dry-run --llama-server ./nowhere").start();
    daemon.wait_for("the upgrade", |status| status["tier"] == "medium");
    daemon.wait_for("memory as if it were loaded", |status| {
        let own = status["resources"]["memory"]["own_bytes"].as_u64().unwrap_or_default();
        (200_000_000..1_000_000_000).contains(&own)
    });
    assert_eq!(children(daemon.child.id()), Vec::<u32>::new());
    assert_eq!(servers_of(&folder), Vec::<u32>::new());
    let refused = daemon.ask(&chat("the cat", 2)).rest();
    assert!(refused.starts_with("HTTP/1.1 503 "), "{refused}");
    assert_eq!(json(&refused)["error"]["code"], "dry_run");
    assert!(daemon.post("/switch", "{\"tier\":\"small\"}").starts_with("HTTP/1.1 202 "));
    daemon.wait_for("the order", |status| status["tier"] == "small");
    daemon.stop();
    let verified = run_in(&folder, "verify log.jsonl").exits(0);
    assert!(verified.out.contains("verified"), "{}", verified.out);
    let log = log_text(&folder.join("log.jsonl"));
    assert!(log.lines().next().unwrap().contains("\"name\":\"dry run\""), "{log}");
}
