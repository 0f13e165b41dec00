//! A situation built by hand, and its result: `cargo run --example simulate`.
//!
//! A machine with 16 GiB, and one chat request a minute. Other programs use 4 GiB, and 9 GiB between the 25th
//! and the 50th minute. No file is read, no model is run and no real time passes: an hour takes some milliseconds.

use std::error::Error;
use std::time::Duration;

use tiershift::sim::physics::Physics;
use tiershift::sim::workload::{Recorded, Workload};
use tiershift::sim::{Ground, Situation, simulate};
use tiershift_core::controller::Detail;
use tiershift_core::machine::Machine;
use tiershift_core::policy::Registry;
use tiershift_core::request::Request;
use tiershift_core::sample::{Sample, Space};
use tiershift_core::setup::Setup;
use tiershift_core::time::Timestamp;
use tiershift_core::units::Bytes;

fn main() -> Result<(), Box<dyn Error>> {
    let total = Bytes::from_gib(16);

    // Others' use, read every two seconds. The simulation adds the use of our models.
    let samples = (0..1800).map(move |i| {
        let at = Timestamp::from_secs(2 * i);
        let is_busy = (25 * 60..50 * 60).contains(&(2 * i));
        let others = Bytes::from_gib(if is_busy { 9 } else { 4 });
        let memory = Some(Space { total, others, own: Bytes::ZERO });
        Ok((at, Sample { memory, ..Sample::default() }))
    });

    // The requests: 200 tokens in, 100 out.
    let requests = (1..60).map(|minute| Recorded {
        at: Timestamp::from_secs(60 * minute),
        request: Request::chat(minute, 200, 100),
    });

    let situation = Situation {
        // The default policy and three models, here of 2, 5 and 9 GiB.
        setup: Setup::of_machine(Machine { memory: total, cpus: 8, ..Machine::default() }),
        physics: Physics::default(),
        faults: vec![],
        actions: vec![],
        workloads: vec![Workload::of_recorded(requests.collect(), false)],
        ground: Ground::recorded(samples),
        adviser: None,
        duration: Some(Duration::from_hours(1)),
    };
    let summary = simulate(situation, &Registry::built_in(), Detail::Silent, &mut [])?;

    println!("{} up, {} down, {} undone", summary.upgrades, summary.downgrades, summary.reversals);
    for tier in &summary.tier_seconds {
        println!("{:>8} served for {:4.0} s", tier.tier, tier.seconds);
    }
    println!("{} of 59 requests done", summary.requests.done);
    println!("{:.0} s with more in use than the machine has", summary.seconds_over_memory);

    // The same inputs give the same outcome, on every machine.
    assert_eq!((summary.upgrades, summary.downgrades, summary.reversals), (2, 1, 0));
    // The last request is still being answered at the end of the hour.
    assert_eq!((summary.requests.done, summary.requests.open), (58, 1));
    // The simulation checks the controller after each step; this must always be empty.
    assert!(summary.violations.is_empty());
    Ok(())
}
