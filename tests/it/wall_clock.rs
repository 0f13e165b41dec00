//! The wall clock of a recording in the input and output of the verbs.

use std::fs;
use std::path::Path;

use crate::support::run_in;

/// Writes a recording of an hour from 23:30 on, and three requests: a minute before it, half an hour into it, and an hour
/// after its end.
fn write_recordings(folder: &Path, began: &str, requests_began: &str) {
    let mut machine = format!(
        "# tiershift resource trace 1\n# started_at: {began}\nat_ns,memory_total_bytes,memory_others_bytes\n"
    );
    for minute in 0..=60_u64 {
        let row = format!("{},17179869184,4294967296\n", minute * 60_000_000_000);
        machine.push_str(&row);
    }
    fs::write(folder.join("machine.csv"), machine).unwrap();
    let mut requests = format!(
        "# tiershift request trace 1\n# started_at: {requests_began}\nat_ns,prompt_tokens,output_tokens\n"
    );
    for minute in [0_u64, 31, 121] {
        requests.push_str(&format!("{},10,5\n", minute * 60_000_000_000));
    }
    fs::write(folder.join("requests.csv"), requests).unwrap();
}

#[test]
fn the_date_of_a_recording_is_in_what_its_replay_writes() {
    let folder = tempfile::tempdir().unwrap();
    write_recordings(folder.path(), "2026-01-30T23:30:00+01:00", "2026-01-30T23:29:00+01:00");
    let replay = "replay machine.csv --out out --json";
    let summary = run_in(folder.path(), replay).exits(0).json();
    assert_eq!(summary["started_at"], "2026-01-30T23:30:00+01:00");
    let decisions = fs::read_to_string(folder.path().join("out/decisions.csv")).unwrap();
    let mut lines = decisions.lines();
    assert!(lines.next().unwrap().starts_with("at_s,wall_time,event,"), "{decisions}");
    assert!(lines.next().unwrap().starts_with("0,2026-01-30T23:30:00+01:00,"), "{decisions}");
    // A log keeps it.
    let again = run_in(folder.path(), "replay out --json").exits(0).json();
    assert_eq!(again["started_at"], summary["started_at"]);
}

#[test]
fn a_decision_is_explained_at_a_time_of_the_wall_clock() {
    let folder = tempfile::tempdir().unwrap();
    write_recordings(folder.path(), "2026-01-30T23:30:00+01:00", "2026-01-30T23:29:00+01:00");
    run_in(folder.path(), "replay machine.csv --out out").exits(0);
    for when in ["00:10", "2026-01-31T00:10", "40m"] {
        let said = run_in(folder.path(), &format!("explain out --at {when}")).exits(0).out;
        assert!(
            said.contains("         40m  2026-01-31 00:10:00  hold on large"),
            "{when}: {said}"
        );
    }
    let early = run_in(folder.path(), "explain out --at 12:00").exits(2).err;
    assert!(early.contains("from 2026-01-30 23:30:00 to 2026-01-31 00:30:00"), "{early}");
}

#[test]
fn requests_come_when_the_wall_clock_shows_their_time() {
    let folder = tempfile::tempdir().unwrap();
    let replay = |options: &str| {
        let line = format!("replay machine.csv --requests requests.csv --json {options}");
        let summary = run_in(folder.path(), &line).exits(0).json();
        let count = |of: &serde_json::Value| of.as_u64().unwrap_or_default();
        (count(&summary["requests"]["arrived"]), count(&summary["requests_left_out"]), summary)
    };
    write_recordings(folder.path(), "2026-01-30T23:30:00+01:00", "2026-01-30T22:29:00Z");
    let (arrived, left_out, summary) = replay("");
    assert_eq!((arrived, left_out), (1, 2), "{summary}");
    assert!(summary["warnings"].to_string().contains("2 requests did not come while"), "{summary}");
    // Played from the start, the last request comes after the end of the recording.
    let (arrived, left_out, summary) = replay("--requests-at start");
    assert_eq!((arrived, left_out), (2, 0), "{summary}");
    // If one file has no offset, that of the other applies to both, and a note reports it.
    write_recordings(folder.path(), "2026-01-30T23:30:00+01:00", "2026-01-30T23:29:00");
    let (arrived, left_out, summary) = replay("");
    assert_eq!((arrived, left_out), (1, 2), "{summary}");
    assert!(summary["warnings"].to_string().contains("no offset from UTC"), "{summary}");
    // With different days, they are played from the start unless the wall clock was requested.
    write_recordings(folder.path(), "2026-01-30T23:30:00+01:00", "2026-03-01T08:00:00+01:00");
    let (arrived, left_out, summary) = replay("");
    assert_eq!((arrived, left_out), (2, 0), "{summary}");
    assert!(summary["warnings"].to_string().contains("played from its start"), "{summary}");
    let line = "replay machine.csv --requests requests.csv --requests-at clock";
    let refused = run_in(folder.path(), line).exits(2).err;
    assert!(refused.contains("none of them came during it"), "{refused}");
}

#[test]
fn a_part_of_a_recording_is_replayed_imported_and_drawn() {
    let folder = tempfile::tempdir().unwrap();
    write_recordings(folder.path(), "2026-01-30T23:30:00+01:00", "2026-01-30T23:29:00+01:00");
    let run = |line: &str| run_in(folder.path(), line);
    let whole = run("replay machine.csv --out whole --json").exits(0).json();
    for part in
        ["--from 23:50 --to 00:20", "--from 20m --to 50m", "--from 20m --to 2026-01-31T00:20"]
    {
        let summary = run(&format!("replay machine.csv --out part --json {part}")).exits(0).json();
        assert_eq!(summary["started_at"], "2026-01-30T23:50:00+01:00", "{part}");
        assert_eq!(
            (&summary["samples"], &summary["seconds"]),
            (&31.into(), &1800.0.into()),
            "{part}"
        );
        assert_ne!(summary["fingerprint"], whole["fingerprint"], "{part}");
        run("verify part").exits(0);
        // A log of the whole recording has the same part.
        let again = run(&format!("replay whole --json {part}")).exits(0).json();
        assert_eq!((&again["started_at"], &again["samples"]), (&summary["started_at"], &31.into()));
    }
    // The wall clock places the requests: one of the three falls into the part.
    let laid = run("replay machine.csv --from 23:50 --to 00:20 --requests requests.csv --json");
    let laid = laid.exits(0).json();
    assert_eq!((&laid["requests"]["arrived"], &laid["requests_left_out"]), (&1.into(), &2.into()));

    run("import machine.csv part.csv --from 23:50 --to 00:20").exits(0);
    let imported = run("replay part.csv --json").exits(0).json();
    assert_eq!((&imported["samples"], &imported["started_at"]), (&31.into(), &laid["started_at"]));
    run("import requests.csv one.csv --from 31m --to 31m").exits(0);
    let one = fs::read_to_string(folder.path().join("one.csv")).unwrap();
    assert!(one.contains("# started_at: 2026-01-31T00:00:00+01:00\n"), "{one}");
    assert!(one.ends_with("\n0,10,5,chat,,0,\n"), "{one}");

    run("plot whole --from 00:00 --to 00:20 --out part.svg").exits(0);
    let part = fs::read_to_string(folder.path().join("part.svg")).unwrap();
    assert!(part.contains("from 2026-01-31 00:00:00 to 2026-01-31 00:20:00"), "{part}");
    assert!(part.contains("00:18") && !part.contains("23:3"), "{part}");
}

#[test]
fn a_part_that_a_recording_does_not_have_is_refused_with_what_it_has() {
    let folder = tempfile::tempdir().unwrap();
    write_recordings(folder.path(), "2026-01-30T23:30:00+01:00", "2026-01-30T23:29:00+01:00");
    let run = |line: &str| run_in(folder.path(), line);
    run("replay machine.csv --out whole").exits(0);
    for (line, word) in [
        (
            "replay machine.csv --from 2h",
            "nothing from 2h on: it lasts 1h, from 2026-01-30 23:30:00",
        ),
        ("replay whole --from 2h", "nothing from 2h on: it lasts 1h"),
        ("import machine.csv part.csv --from 61s --to 119s", "nothing from 1m 1s on up to 1m 59s"),
        ("plot whole --from 2h", "nothing from 2h on: it lasts 1h"),
        ("replay machine.csv --to 12:00", "--to: the recording has no such time"),
        ("replay machine.csv --from 20m --to 10m", "swap them"),
    ] {
        let err = run(line).exits(2).err;
        assert!(err.contains(word), "{line}: {err}");
    }
    assert!(!folder.path().join("part.csv").exists());
}
