//! Files of every earlier version can still be read.

use std::path::PathBuf;

use tiershift::log::{LogEnd, LogError, LogReader};
use tiershift::trace::{ReadOptions, ResourceReader};
use tiershift_core::event::Record;
use tiershift_core::time::Timestamp;

use crate::support::{root, run_in, short};

fn file(name: &str) -> PathBuf {
    root().join("tests/it/formats").join(name)
}

/// Reads a log to its end and returns its records and what its last line contains about the run.
fn read(name: &str) -> (Vec<Record>, String, LogEnd) {
    let mut log = LogReader::open(&file(name)).unwrap();
    let records: Vec<Record> = log.by_ref().map(Result::unwrap).collect();
    let fingerprint = log.fingerprint().expect("the log was closed").to_owned();
    (records, fingerprint, log.end().unwrap().clone())
}

#[test]
fn a_log_of_version_1_is_read_whole() {
    let (records, _, end) = read("log-1.jsonl");
    assert_eq!(records.len(), 140);
    assert_eq!(records.last().unwrap().at, Timestamp::from_secs(960));
    let digest = "d1ce8f6a3fa24d68754234e3bd6821cdfd7c9fc4dda4a6d18ec975f5969e6211".to_owned();
    assert_eq!(end, LogEnd::Closed { records: 140, digest });
}

#[test]
fn a_log_of_version_1_is_explained_plotted_and_replayed_but_not_verified() {
    let folder = tempfile::tempdir().unwrap();
    let log = short(&file("log-1.jsonl"));
    let explained = run_in(root(), &format!("explain {log}")).exits(0).out;
    assert!(explained.contains("none → large: fits"), "{explained}");
    let out = folder.path().display();
    run_in(root(), &format!("plot {log} --out {out}/plot.svg")).exits(0);
    let replayed = run_in(root(), &format!("replay {log} --json")).exits(0).json();
    assert_eq!(replayed["downgrades"], 1);
    let refused = run_in(root(), &format!("verify {log}")).exits(1);
    let said = refused.out + &refused.err;
    assert!(said.contains("the log has format 1"), "{said}");
}

#[test]
fn a_log_of_version_2_is_read_whole() {
    let (records, fingerprint, end) = read("log-2.jsonl");
    assert_eq!(records.len(), 140);
    assert_eq!(fingerprint, "e7dd62604cbd49b8a518341dd1f07e43e48b802c2fcb5b287f477bb669f2048a");
    let digest = "fc26b580ec7b3bc485d1ac82fc015892ec0de3596193bc286539f8bc361a359c".to_owned();
    assert_eq!(end, LogEnd::Closed { records: 140, digest });
}

#[test]
fn a_log_of_version_1_with_a_changed_byte_is_refused() {
    let text = std::fs::read_to_string(file("log-1.jsonl")).unwrap();
    let read = |text: String| {
        let log = LogReader::new("log", std::io::Cursor::new(text.into_bytes()))?;
        log.collect::<Result<Vec<_>, _>>()
    };
    let header = read(text.replacen("\"seed\":1", "\"seed\":2", 1)).unwrap_err();
    assert!(matches!(header, LogError::Fingerprint { .. }), "{header}");
    let record = read(text.replacen("\"cpus\":8", "\"cpus\":9", 1)).unwrap_err();
    assert!(matches!(record, LogError::Fingerprint { .. }), "{record}");
    let trailer = read(text.replacen("{\"end\":{\"records\":140", "{\"end\":{\"records\":141", 1));
    assert!(matches!(trailer.unwrap_err(), LogError::Changed { .. }));
}

#[test]
fn a_trace_of_version_1_is_read_whole() {
    let mut trace = ResourceReader::open(&file("trace-1.csv"), &ReadOptions::default()).unwrap();
    let mut last = None;
    let mut samples = 0;
    while let Some((at, sample)) = trace.next().unwrap() {
        samples += 1;
        last = Some((at, sample));
    }
    assert_eq!(samples, 6);
    assert_eq!(last.unwrap().0, Timestamp::from_secs(18));
    assert_eq!(trace.machine().cpus, 8);
    let started_at = trace.header().clock.started_at().map(|at| at.to_string());
    assert_eq!(started_at.as_deref(), Some("2026-11-20T08:15:00Z"));
}
