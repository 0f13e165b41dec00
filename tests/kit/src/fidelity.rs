//! The simulator against the machine: a live run is simulated from its log with measured figures.
//!
//! The requests, the ordered tiers and the others' use come from the log; the times of loads and replies come from the
//! catalog, and the figures of the machine from its comments. Model files are in the page cache, as they are when the daemon
//! has run before.

use std::error::Error;
use std::path::Path;

use tiershift::files::catalog;
use tiershift::log::LogReader;
use tiershift::sim::physics::{Physics, RawPhysics};
use tiershift::sim::simulate;
use tiershift::study::replay::Recording;
use tiershift::summary::{Fold, Percentiles, Summary};
use tiershift::trace::ReadOptions;
use tiershift_core::catalog::{Catalog, Rung};
use tiershift_core::controller::Detail;
use tiershift_core::event::{Event, Observe, Output, Record};
use tiershift_core::policy::Registry;
use tiershift_core::setup::Setup;
use tiershift_core::time::Timestamp;

/// Simulates the log of a daemon with the catalog of a calibration, prints both runs side by side, and returns whether
/// they have the same switches.
///
/// # Errors
/// Files that cannot be read, and a catalog that was not made by `tiershift calibrate`.
pub fn compare(log: &Path, catalog: &Path) -> Result<bool, Box<dyn Error>> {
    let name = catalog.display().to_string();
    let text = std::fs::read_to_string(catalog)?;
    let physics = physics(&text)?;
    let catalog = catalog::parse(&text, &name)?;
    let (live_switches, live) = live(log)?;
    let (sim_switches, sim) = simulated(log, &catalog, physics)?;
    println!("{:24} {:>12} {:>12} {:>9}", "", "live", "simulated", "error");
    print_spans("latency", live.latency_ms.as_ref(), sim.latency_ms.as_ref());
    print_spans("first token", live.first_token_ms.as_ref(), sim.first_token_ms.as_ref());
    let tiers = |rungs: &[Rung]| {
        rungs.iter().map(|rung| catalog.tier_name(*rung)).collect::<Vec<_>>().join(" ")
    };
    println!("switches, live:      {}", tiers(&live_switches));
    println!("switches, simulated: {}", tiers(&sim_switches));
    Ok(live_switches == sim_switches)
}

fn live(log: &Path) -> Result<(Vec<Rung>, Summary), Box<dyn Error>> {
    let mut reader = LogReader::open(log)?;
    let settings = reader.header().checked_settings()?;
    let catalog = reader.header().checked_catalog()?;
    let mut fold = Fold::new(&catalog, settings.reversal_window);
    let (mut switches, mut end) = (Vec::new(), Timestamp::ZERO);
    for record in &mut reader {
        let record = record?;
        end = record.at;
        fold.observe(record.at, record.event.as_ref());
        switches.extend(switched(&record));
    }
    // A daemon unloads when it is stopped; a replay is not stopped.
    if switches.last() == Some(&Rung::NONE) {
        switches.pop();
    }
    Ok((switches, fold.finish(end)))
}

/// Returns the machine as a catalog's comments describe it, in the form of a scenario's `[physics]` table.
fn physics(catalog: &str) -> Result<Physics, Box<dyn Error>> {
    let comments = catalog.lines().map_while(|line| line.strip_prefix('#')).map(str::trim);
    let keys: Vec<&str> = comments.skip_while(|line| *line != "[physics]").skip(1).collect();
    if keys.is_empty() {
        return Err(
            "the catalog says nothing of the machine: make it with tiershift calibrate".into()
        );
    }
    let told: RawPhysics = toml::from_str(&keys.join("\n"))?;
    let measured =
        RawPhysics { load_jitter: 0.0, speed_jitter: 0.0, page_cache_warm: true, ..told };
    Ok(measured.check().map_err(|(key, want)| format!("`{key}` must be {want}"))?)
}

fn simulated(
    log: &Path,
    catalog: &Catalog,
    physics: Physics,
) -> Result<(Vec<Rung>, Summary), Box<dyn Error>> {
    let recording = Recording::open(log, &ReadOptions::default())?;
    let origin = recording.origin().ok_or("it is not an event log")?;
    let workloads = vec![origin.requests.as_counted().workload(false)];
    let setup = Setup { catalog: catalog.clone(), seed: 1, ..origin.setup.clone() };
    let mut situation = recording.situation(setup, workloads, || {});
    situation.physics = physics;
    let mut records: Vec<Record> = Vec::new();
    let summary = simulate(situation, &Registry::built_in(), Detail::Changes, &mut [&mut records])?;
    Ok((records.iter().filter_map(switched).collect(), summary))
}

fn switched(record: &Record) -> Option<Rung> {
    match &record.event {
        Event::Output(Output::Switched { from, to, .. }) if from != to => Some(*to),
        Event::Output(_) | Event::Input(_) => None,
    }
}

fn print_spans(name: &str, live: Option<&Percentiles>, simulated: Option<&Percentiles>) {
    let (Some(live), Some(simulated)) = (live, simulated) else { return };
    let rows = [
        ("p50", live.p50, simulated.p50),
        ("p95", live.p95, simulated.p95),
        ("p99", live.p99, simulated.p99),
    ];
    for (place, live, simulated) in rows {
        let error = (simulated / live - 1.0) * 100.0;
        let name = format!("{name} {place}");
        println!("{name:24} {live:>9.1} ms {simulated:>9.1} ms {error:>+7.1} %");
    }
}
