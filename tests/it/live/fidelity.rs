//! The simulator against the machine: a live run, simulated with the measured figures, has the same switches.

use tiershift::probe::clock::SystemClock;
use tiershift_core::time::Clock;
use tiershift_testkit::fidelity::compare;
use tiershift_testkit::gguf;
use tiershift_testkit::policy::{BY_COMMAND, policy};
use tiershift_testkit::server::chat;

use crate::live::{engine, serve, site};
use crate::support::run_in;

#[test]
fn a_live_run_and_its_simulation_switch_alike() {
    let Some(engine) = engine("a_live_run_and_its_simulation_switch_alike") else { return };
    let folder = site(&[("a", gguf::NANO), ("b", gguf::NANO)]);
    folder.put("policy.toml", &policy(BY_COMMAND));
    let line =
        format!("calibrate --allow-busy --llama-server {} --models models", engine.display());
    run_in(&folder, &line).exits(0);

    let mut daemon = serve(&engine, &folder);
    let mut clock = SystemClock::start();
    for turn in 0..TURNS {
        // The schedule of the trace: far enough apart that a simulated switch is also over before the next is requested.
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
    daemon.stop();

    let [log, catalog] = ["log.jsonl", "measured.toml"].map(|name| folder.join(name));
    assert!(compare(&log, &catalog).unwrap(), "they part: see above");
}

const TURNS: u64 = 4;
const TURN: std::time::Duration = std::time::Duration::from_secs(4);
