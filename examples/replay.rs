//! Replays a recording of a real machine with simulated models, and prints each change with its reason:
//! `cargo run --example replay [TRACE]`.
//!
//! The trace contains others' use; the simulation adds the use of our models. The default trace is half an hour in which
//! other programs as large as models come and go.

use std::error::Error;
use std::path::Path;

use tiershift::sim::simulate;
use tiershift::study::replay::Recording;
use tiershift::trace::ReadOptions;
use tiershift_core::catalog::Catalog;
use tiershift_core::controller::Detail;
use tiershift_core::decision::Action;
use tiershift_core::event::{EventRef, Observe, Output};
use tiershift_core::policy::Registry;
use tiershift_core::setup::Setup;
use tiershift_core::text;
use tiershift_core::time::Timestamp;

/// Follows the run: every input and output of the controller passes here, in order.
struct Changes {
    catalog: Catalog,
    count: usize,
}

impl Observe for Changes {
    fn observe(&mut self, at: Timestamp, event: EventRef<'_>) {
        let EventRef::Output(Output::Decision(decision)) = event else { return };
        if decision.action != Action::Hold {
            self.count += 1;
            println!(
                "{:>8}  {}: {}",
                text::span(at.since(Timestamp::ZERO)),
                text::action(decision.action, &self.catalog),
                text::reason(&decision.reason, &self.catalog),
            );
        }
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let default = concat!(env!("CARGO_MANIFEST_DIR"), "/traces/models-come-and-go.csv");
    let trace = std::env::args().nth(1).unwrap_or_else(|| default.to_owned());

    let recording = Recording::open(Path::new(&trace), &ReadOptions::default())?;
    // The default policy, and three models whose sizes suit the machine.
    let setup = Setup::of_machine(recording.machine().clone());
    let mut changes = Changes { catalog: setup.catalog.clone(), count: 0 };
    let no_requests = vec![];
    let nobody_watches = || {};
    let situation = recording.situation(setup, no_requests, nobody_watches);
    let summary = simulate(situation, &Registry::built_in(), Detail::Changes, &mut [&mut changes])?;

    println!("{} decisions to change, {} switches", changes.count, summary.switches);
    println!("{:.0} s over the machine's memory", summary.seconds_over_memory);
    // Rows that the reader refused or corrected, if any; known once the whole file is read.
    for warning in recording.defects().iter().flat_map(tiershift::trace::Defects::warnings) {
        println!("note: {warning}");
    }
    assert!(summary.violations.is_empty());
    Ok(())
}
