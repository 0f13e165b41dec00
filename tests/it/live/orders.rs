//! What users meet with the default settings: orders, upgrades behind a long reply, a shortage during a reply, a
//! model that keeps dying.

use std::time::Duration;

use serde_json::Value;
use tiershift::log::LogReader;
use tiershift::probe::system::SystemProbe;
use tiershift_core::decision::{Action, Decision, Urgency};
use tiershift_core::event::{Command, Event, Input, Output};
use tiershift_core::time::Timestamp;
use tiershift_core::units::{Bytes, Percent};
use tiershift_testkit::daemon::Daemon;
use tiershift_testkit::gguf;
use tiershift_testkit::gpu::Gpu;
use tiershift_testkit::process::{children, signal};
use tiershift_testkit::server::{chat, json as body};
use tiershift_testkit::site::Site;
use tiershift_testkit::skip::skip;

use crate::live::story::{Story, log_text};
use crate::live::{SERVE, daemon, engine, site};
use crate::support::run_in;

/// An entry of a catalog. The real memory use does not matter here, nor the speed, which is higher than stated.
pub(super) fn model(id: &str, tier: &str, quality: u32, takes: &str) -> String {
    format!(
        "[[model]]\nid = \"{id}\"\ntier = \"{tier}\"\nquality = \"{quality}%\"\nfile = \"{id}.gguf\"\n{takes}\n\
         context-tokens = 4096\nload-warm = \"200ms\"\nload-cold = \"1s\"\n\
         prefill-tokens-per-second = 200\ndecode-tokens-per-second = 5\n\n"
    )
}

/// Returns a site with two models, and a policy in which only `changes` differ from the defaults.
fn place(changes: &str, takes: [&str; 2]) -> Site {
    place_with("b", changes, takes)
}

/// As [`place`], with a name for the larger model.
fn place_with(name: &str, changes: &str, takes: [&str; 2]) -> Site {
    furnish(site(&[("a", gguf::TINY), (name, gguf::SMALL)]), name, changes, takes)
}

fn furnish(folder: Site, name: &str, changes: &str, [small, large]: [&str; 2]) -> Site {
    folder.put("policy.toml", changes);
    let catalog = model("a", "small", 50, small) + &model(name, "large", 100, large);
    folder.put("catalog.toml", &catalog);
    folder
}

fn start(engine: &std::path::Path, folder: &Site) -> Daemon {
    daemon(engine, folder).arguments(SERVE).arguments("--catalog catalog.toml").start()
}

fn tier(tier: &'static str) -> impl Fn(&Value) -> bool {
    move |status| status["tier"] == tier
}

/// The lines of the machine's class suit whole machines; what others do on this one must not matter here.
pub(super) const FROM_LARGE: &str =
    "constrain = [\"memory\", \"vram\"]\n[manager]\nstart = \"large\"";

pub(super) const SLIGHT: [&str; 2] = ["ram = \"100MiB\"", "ram = \"300MiB\""];

#[test]
fn an_order_waits_for_the_cooldown_and_holds_until_somebody_says_auto() {
    let name = "an_order_waits_for_the_cooldown_and_holds_until_somebody_says_auto";
    let Some(engine) = engine(name) else { return };
    let folder = place(FROM_LARGE, SLIGHT);
    let mut daemon = start(&engine, &folder);
    daemon.wait_for("the largest", tier("large"));

    let asked = daemon.post("/switch", "{\"tier\":\"small\"}");
    assert!(asked.starts_with("HTTP/1.1 202 "), "{asked}");
    assert_eq!(body(&asked)["follows_in_seconds"], 0.0, "{asked}");
    daemon.wait_for("the end of the switch", |status| status["switches"] == 2);
    assert_eq!(body(&daemon.get("/status"))["tier"], "small");

    // Within the cooldown of that order: it is carried out after the cooldown, and the answer states so.
    let asked = daemon.post("/switch", "{\"tier\":\"none\",\"for\":\"5s\"}");
    assert!(asked.starts_with("HTTP/1.1 202 "), "{asked}");
    let wait = body(&asked)["follows_in_seconds"].as_f64().unwrap();
    assert!(wait > 0.0 && wait <= 30.0, "{asked}");
    assert_eq!(body(&daemon.get("/status"))["order"]["tier"], "none");
    daemon.wait_for("the free memory", tier("none"));
    // The order has expired: the policy loads a model again.
    daemon.wait_for("a model again", |status| status["tier"] != "none");
    assert_eq!(body(&daemon.get("/status"))["order"], Value::Null);

    // An order prevails over the policy, which would load the largest model at once.
    let asked = daemon.post("/switch", "{\"tier\":\"small\"}");
    assert!(asked.starts_with("HTTP/1.1 202 "), "{asked}");
    daemon.wait_for("the order", |status| {
        status["tier"] == "small" && status["order"]["tier"] == "small"
    });
    let released = daemon.post("/switch", "{\"tier\":\"auto\"}");
    assert!(released.starts_with("HTTP/1.1 200 "), "{released}");
    assert_eq!(body(&daemon.get("/status"))["order"], Value::Null);
    daemon.stop();
    run_in(&folder, "verify log.jsonl").exits(0);
}

#[test]
fn an_order_that_has_no_place_is_refused_with_the_reason_and_when_to_ask_again() {
    let name = "an_order_that_has_no_place_is_refused_with_the_reason_and_when_to_ask_again";
    let Some(engine) = engine(name) else { return };
    let folder = place("constrain = [\"memory\"]", ["ram = \"100MiB\"", "ram = \"9TiB\""]);
    let mut daemon = start(&engine, &folder);
    daemon.wait_for("the smaller", tier("small"));
    let refused = daemon.post("/switch", "{\"tier\":\"large\"}");
    assert!(refused.starts_with("HTTP/1.1 409 "), "{refused}");
    assert!(refused.contains("retry-after: "), "{refused}");
    let error = &body(&refused)["error"];
    assert_eq!(error["code"], "order_refused");
    assert!(error["message"].as_str().unwrap().contains("would bring memory to"), "{refused}");
    daemon.stop();
}

#[test]
fn an_upgrade_behind_a_long_stream_refuses_nobody() {
    let name = "an_upgrade_behind_a_long_stream_refuses_nobody";
    let Some(engine) = engine(name) else { return };
    // Each fits alone, but not both: a third and a half of the machine.
    let memory = SystemProbe::new().machine().memory;
    let share = |part| format!("ram = \"{}B\"", memory.share(Percent::new(part)).get());
    let changes = "constrain = [\"memory\"]\nstabilization = \"2s\"\n[manager]\nstart = \"small\"";
    // The smaller one is slow, so that its reply is long.
    let folder = site(&[("a", gguf::SMALL), ("b", gguf::TINY)]);
    let folder = furnish(folder, "b", changes, [&share(35), &share(56)]);
    let mut daemon = start(&engine, &folder);
    daemon.wait_for("the smaller", tier("small"));
    let mut long = daemon.ask(&chat("the cat", 3900));
    long.until("data: ");
    daemon.wait_for("the upgrade", |status| {
        status["decision"]["reason"].as_str() == Some("switching")
    });
    for _ in 0..3 {
        let reply = daemon.ask(&chat("the dog", 4)).rest();
        assert!(reply.contains("x-tiershift-tier: small\r\n"), "{reply}");
        assert!(reply.contains("data: [DONE]"), "{reply}");
    }
    // It runs all the while; when its client disconnects, the other model follows.
    long.until("data: ");
    assert_eq!(body(&daemon.get("/status"))["tier"], "small");
    drop(long);
    daemon.wait_for("the larger", tier("large"));
    daemon.stop();
    assert_eq!(Story::read(&folder.join("log.jsonl")).ends(), [3, 0, 1, 0]);
    run_in(&folder, "verify log.jsonl").exits(0);
}

#[test]
fn a_model_that_keeps_dying_is_stood_in_for_and_the_user_is_told_once() {
    let name = "a_model_that_keeps_dying_is_stood_in_for_and_the_user_is_told_once";
    let Some(engine) = engine(name) else { return };
    let folder = place(FROM_LARGE, SLIGHT);
    let mut daemon = start(&engine, &folder);
    daemon.wait_for("the largest", tier("large"));
    let kill = || {
        let killed = children(daemon.child.id());
        killed.iter().for_each(|&pid| signal("KILL", pid));
        killed
    };
    // The first time it is loaded again at once.
    let killed = kill();
    daemon.wait_for("its return", |status| {
        let is_another = children(daemon.child.id()).iter().all(|pid| !killed.contains(pid));
        status["tier"] == "large" && is_another
    });
    let reply = daemon.ask(&chat("the cat", 4)).rest();
    assert!(reply.contains("x-tiershift-tier: large\r\n"), "{reply}");
    kill();
    daemon.wait_for("its stand-in", tier("small"));
    let reply = daemon.ask(&chat("the dog", 4)).rest();
    assert!(reply.contains("x-tiershift-tier: small\r\n"), "{reply}");
    daemon.stop();
    run_in(&folder, "verify log.jsonl").exits(0);
    assert_eq!(log_text(&folder.join("log.jsonl")).matches("\"keeps-failing\"").count(), 1);
}

#[test]
fn a_critical_shortage_cuts_a_stream_with_an_error_and_is_over_within_seconds() {
    let name = "a_critical_shortage_cuts_a_stream_with_an_error_and_is_over_within_seconds";
    let Some(engine) = engine(name) else { return };
    let takes = ["ram = \"100MiB\"", "ram = \"300MiB\"\nvram = \"4GiB\""];
    // The replacement of the driver recognises the process by the name of its model.
    let folder = place_with("on-the-gpu", FROM_LARGE, takes);
    let own = Bytes::from_gib(4);
    let gpu = match Gpu::build(&folder, Bytes::from_gib(8), "on-the-gpu.gguf", own) {
        Ok(gpu) => gpu,
        Err(why) => return skip("cc", name, &why),
    };
    let mut builder = daemon(&engine, &folder).arguments(SERVE).arguments("--catalog catalog.toml");
    for (variable, value) in gpu.variables() {
        builder = builder.variable(variable, value);
    }
    let mut daemon = builder.start();
    daemon.wait_for("the one on the GPU", tier("large"));
    let mut stream = daemon.ask(&chat("the cat", 3500));
    stream.until("data: ");
    gpu.set_others(Bytes::from_gib(4));
    let stream = stream.rest();
    assert!(stream.contains("\"error\"") && !stream.contains("data: [DONE]"), "it was not cut");
    assert!(stream.contains("try again in "), "it is not told when to come back");
    daemon.wait_for("the smaller", tier("small"));
    let reply = daemon.ask(&chat("the dog", 4)).rest();
    assert!(reply.contains("data: [DONE]"), "{reply}");
    daemon
        .wait_for("the memory", |status| status["resources"]["gpus"][0]["vram"]["own_bytes"] == 0);
    daemon.stop();
    run_in(&folder, "verify log.jsonl").exits(0);

    // By the recording's own clock: ten seconds for the reply, then the memory is freed.
    let mut log = LogReader::open(&folder.join("log.jsonl")).unwrap();
    let (mut seen, mut cut, mut relieved) = (None, None, None);
    for record in &mut log {
        let record = record.unwrap();
        match record.event {
            Event::Output(Output::Decision(Decision {
                action: Action::Downgrade { urgency: Urgency::Critical, .. },
                ..
            })) => _ = seen.get_or_insert(record.at),
            Event::Output(Output::Command(Command::Cancel { .. })) => cut = Some(record.at),
            Event::Input(Input::Sample(sample)) if cut.is_some() && relieved.is_none() => {
                let vram = sample.gpus[0].vram.unwrap();
                relieved = (vram.used() < vram.total.share(Percent::new(90))).then_some(record.at);
            }
            _ => {}
        }
    }
    let since = |at: Option<Timestamp>| at.unwrap().since(seen.unwrap());
    assert!(since(cut) >= Duration::from_secs(10), "{cut:?} after {seen:?}");
    assert!(since(relieved) < Duration::from_secs(15), "{relieved:?} after {seen:?}");
}
