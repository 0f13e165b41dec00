//! The simulator against the machine: what happened live, played again with what was measured, switches alike.

use std::fs;

use tiershift::probe::clock::SystemClock;
use tiershift_core::time::Clock;

use crate::live::daemon::{Daemon, POLICY, chat, engine, signal};
use crate::live::gguf;
use crate::support::run_in;

// The command that a person runs is the one that is tested.
#[path = "../../../examples/sim_against_live.rs"]
#[expect(dead_code, reason = "its entry is for the command line")]
mod sim_against_live;

#[test]
fn a_live_run_and_its_simulation_switch_alike() {
    let Some(engine) = engine("a_live_run_and_its_simulation_switch_alike") else { return };
    let folder = tempfile::tempdir().unwrap();
    let models = folder.path().join("models");
    fs::create_dir(&models).unwrap();
    for name in ["a", "b"] {
        gguf::place(&models, name, gguf::NANO);
    }
    // Up by command only.
    let policy = POLICY.replace("stabilization = \"1s\"", "stabilization = \"1h\"");
    fs::write(folder.path().join("policy.toml"), policy).unwrap();
    let line = format!("calibrate --llama-server {} --models models", engine.display());
    run_in(folder.path(), &line).exits(0);

    let mut daemon = Daemon::start(&engine, folder.path());
    let mut clock = SystemClock::start();
    for turn in 0..TURNS {
        // The schedule of the trace: far enough apart that a simulated switch is over, too, when the next is asked for.
        let next = clock.now() + TURN;
        for _ in 0..3 {
            let reply = daemon.ask(&chat("the cat", 4)).rest();
            assert!(reply.contains("data: [DONE]"), "{reply}");
        }
        clock.wait_until(next);
        let tier = if turn % 2 == 0 { "medium" } else { "small" };
        daemon.post("/switch", &format!("{{\"tier\":\"{tier}\"}}"));
        daemon.wait_for(tier, |status| status["switches"] == turn + 2);
    }
    clock.wait_until(clock.now() + TURN);
    signal("TERM", daemon.child.id());
    assert_eq!(daemon.wait(), Some(0));

    let [log, catalog] = ["log.jsonl", "measured.toml"].map(|name| folder.path().join(name));
    assert!(sim_against_live::compare(&log, &catalog).unwrap(), "they part: see above");
}

const TURNS: u64 = 4;
const TURN: std::time::Duration = std::time::Duration::from_secs(4);
