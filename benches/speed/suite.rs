//! The whole regression suite, as `tiershift check` runs it.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tiershift::scenario;
use tiershift::sim::simulate;
use tiershift::study::suite::scenario_files;
use tiershift_core::controller::Detail;
use tiershift_core::policy::Registry;

use crate::table::{Row, Table, duel};

pub(crate) fn measure(table: &mut Table) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios");
    let files = scenario_files(std::slice::from_ref(&folder)).expect("the scenarios are there");
    let (took, peer) = duel(ROUNDS, || check(&folder), || play_once(&files));
    table.push(Row {
        what: format!("`tiershift check`, {} scenarios, as many jobs as processors", files.len()),
        figure: format!("{:.2} s", took.as_secs_f64()),
        limit: "10 s",
        peer: format!("each once, one after the other, log off ({:.2} s)", peer.as_secs_f64()),
        ratio: took.as_secs_f64() / peer.as_secs_f64(),
    });
}

fn check(folder: &Path) {
    let status = Command::new(env!("CARGO_BIN_EXE_tiershift"))
        .arg("check")
        .arg(folder)
        .stdout(Stdio::null())
        .status()
        .expect("the command was built for this");
    if !status.success() {
        eprintln!("  the suite does not pass: {status}");
    }
}

fn play_once(files: &[PathBuf]) {
    for file in files {
        let scenario =
            scenario::load(file, &Registry::built_in()).expect("the suite's scenarios are valid");
        simulate(scenario.situation(), &Registry::built_in(), Detail::Silent, &mut [])
            .expect("the suite's scenarios can be run");
    }
}

const ROUNDS: u32 = 2;
