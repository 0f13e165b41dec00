//! Hours of switches: does a daemon grow?

use std::error::Error;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use tiershift::probe::clock::SystemClock;
use tiershift_core::time::{Clock, Timestamp};
use tiershift_testkit::process::Footprint;

use crate::Tools;

/// Switches a daemon in a folder with `models` between its two smallest tiers, once in each `period` until `span` is
/// over, with requests all the time. Prints the daemon's use at regular moments, verifies the recording at the end, and
/// returns whether the daemon did not grow and the recording verifies.
///
/// # Errors
/// A folder that cannot be written to, and a process that cannot be read.
pub(crate) fn soak(
    tools: Tools<'_>,
    folder: &Path,
    span: Duration,
    period: Duration,
) -> Result<bool, Box<dyn Error>> {
    fs::write(folder.join("serve.toml"), CONFIG)?;
    let arguments = "--config serve.toml --record recordings";
    let mut daemon = tools.daemon(folder).arguments(arguments).start();
    let turns = (span.as_nanos() / period.as_nanos().max(1)).max(4);
    let mut clock = SystemClock::start();
    let mut readings = Vec::new();
    println!("    time  switches  resident   descriptors  threads  servers");
    for turn in 0..turns {
        let next = clock.now() + period;
        let tier = if turn % 2 == 0 { "medium" } else { "small" };
        daemon.post("/switch", &format!("{{\"tier\":\"{tier}\"}}"));
        // These are served before, during and after the switch.
        for _ in 0..REQUESTS {
            let reply = daemon.post("/v1/completions", &completion(WORDS));
            if !reply.contains("data: [DONE]") {
                return Err(reply.into());
            }
        }
        // One client disconnects in the middle of a reply.
        daemon.send_post("/v1/completions", &completion(3000)).until("data: ");
        daemon.get("/metrics");
        daemon
            .wait_for(tier, |status| status["tier"] == tier && status["requests"]["running"] == 0);
        clock.wait_until(next);
        let footprint = Footprint::of(daemon.child.id())?;
        readings.push(footprint);
        if (turn + 1) * PARTS / turns > turn * PARTS / turns {
            println!(
                "{:6.0} s  {:8}  {:5.1} MiB  {:11}  {:7}  {:7}",
                clock.now().since(Timestamp::ZERO).as_secs_f64(),
                turn + 1,
                footprint.resident_mib(),
                footprint.descriptors,
                footprint.threads,
                footprint.children,
            );
        }
    }
    daemon.stop();
    let verified =
        Command::new(tools.tiershift).args(["verify"]).arg(folder.join("recordings")).status()?;
    Ok(judge(&readings) && verified.success())
}

/// Returns whether the use in the last quarter is no higher than in the second: in the first,
/// everything that a daemon needs once is allocated. Medians, because some readings fall into a switch.
fn judge(readings: &[Footprint]) -> bool {
    let quarter = readings.len() / 4;
    let [early, late] = [&readings[quarter..2 * quarter], &readings[3 * quarter..]];
    let held = |of: &Footprint| {
        [of.resident_kib, of.descriptors as u64, of.threads as u64, of.children as u64]
    };
    let spares = [SPARE_KIB, 0, 0, 0];
    let names = ["KiB resident", "descriptors", "threads", "servers"];
    let mut is_steady = true;
    for (which, name) in names.into_iter().enumerate() {
        let [before, after] = [early, late].map(|of| {
            let mut amounts: Vec<u64> = of.iter().map(|one| held(one)[which]).collect();
            amounts.sort_unstable();
            amounts[amounts.len() / 2]
        });
        println!("second quarter and last: {before} and {after} {name}");
        is_steady &= after <= before + spares[which];
    }
    println!("{}", if is_steady { "it does not grow" } else { "IT GROWS" });
    is_steady
}

fn completion(tokens: u32) -> String {
    format!("{{\"prompt\":\"the cat\",\"stream\":true,\"max_tokens\":{tokens}}}")
}

/// Up and down only by order; segments so small that many are finished and packed in an hour.
const CONFIG: &str = r#"
[policy]
stabilization = "24h"
constrain = ["memory"]
[policy.manager]
start = "small"
switch-cooldown = "0s"
[recording]
segment-size = "256KiB"
"#;

/// In each turn; one more is left before its end.
const REQUESTS: usize = 3;
const WORDS: u32 = 8;

/// How many lines are printed.
const PARTS: u128 = 20;

/// What the allocator may vary by. Chosen: in an hour with a switch every 10 s, a leak of 6 KiB for each switch exceeds it.
const SPARE_KIB: u64 = 1 << 10;
