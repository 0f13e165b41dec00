//! The optimum through the command line: a bound for every policy, independent of the policy that ran, and a table for a folder.

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::support::{root, run_in, trace};

/// A folder with recordings at two depths, and files that are no recordings.
fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let put = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
    fs::create_dir_all(folder.path().join("all/deep")).unwrap();
    put("all/calm.csv", &trace(&[4.0; 60]));
    put("all/deep/busy.csv", &trace(&[[4.0; 8], [11.0; 8]].concat().repeat(5)));
    put("all/short.csv", &trace(&[4.0; 5]));
    put("all/notes.txt", "nothing to replay\n");
    put(
        "all/silent.csv",
        "# tiershift resource trace 1\nat_ns,cpu_others_milli_percent\n0,5\n1000,5\n",
    );
    folder
}

fn replayed(folder: &Path, arguments: &str) -> Value {
    run_in(folder, &format!("replay {arguments} --json")).exits(0).json()
}

#[test]
fn no_policy_that_keeps_to_the_lines_beats_the_optimum_which_is_the_same_for_all() {
    for recording in ["models-come-and-go", "memory-hog", "idle"] {
        let mut optima = Vec::new();
        for policy in ["proactive", "projecting", "original", "fixed"] {
            let line = format!("traces/{recording}.csv --policy {policy} --set price=5s");
            let summary = replayed(root(), &line);
            // A load may be a few percent faster than its catalog states.
            let share = summary["share_of_optimum"].as_f64().unwrap_or_default();
            let keeps_to_lines = ["proactive", "projecting"].contains(&policy);
            assert!(share <= 1.001 || !keeps_to_lines, "{recording}, {policy}: {share}");
            let score = |optimum: &str| summary[optimum]["score"].as_f64().unwrap();
            optima.push(["optimum", "optimum_without_reversals"].map(score));
        }
        // A run ends with the last action of its policy, some seconds after the recording.
        let is_near = |one: &[f64; 2]| (0..2).all(|i| (one[i] - optima[0][i]).abs() < 0.005);
        assert!(optima.iter().all(is_near), "{recording}: {optima:?}");
    }
}

#[test]
fn without_an_oracle_nothing_is_compared_and_nothing_else_changes() {
    let with = replayed(root(), "traces/models-come-and-go.csv --set price=5s");
    let without = replayed(root(), "traces/models-come-and-go.csv --set price=5s --no-oracle");
    let (with, without) = (with.as_object().unwrap(), without.as_object().unwrap());
    let added: Vec<&String> = with.keys().filter(|key| !without.contains_key(*key)).collect();
    assert_eq!(
        added,
        [
            "optimum",
            "optimum_without_reversals",
            "price_seconds",
            "score",
            "seconds_at_none_while_smallest_fitted",
            "seconds_below_best_fitting",
            "share_of_optimum",
            "share_of_optimum_without_reversals",
            "tier_seconds_fitting",
        ]
    );
    assert!(without.iter().all(|(key, value)| with[key] == *value));
    run_in(root(), "run scenarios/stable.toml --no-oracle").exits(0);
}

#[test]
fn a_folder_is_one_table_whatever_the_number_of_jobs() {
    let folder = folder();
    let one = run_in(folder.path(), "replay all --set price=10s --log off").exits(0);
    let four = run_in(folder.path(), "replay all --set price=10s --log off --jobs 4").exits(0);
    assert_eq!(one.out, four.out);
    let lines: Vec<&str> = one.out.lines().collect();
    let begins = [
        "recording",
        "",
        "all/calm.csv",
        "all/deep/busy.csv",
        "all/short.csv *",
        "mean of 2",
        "columns: ",
        "lowest share of the optimum: ",
        "lowest share of the optimum without reversals: ",
        "* not in the means",
        "skipped all/notes.txt: in no known format",
        "skipped all/silent.csv: the trace records neither memory",
    ];
    assert_eq!(lines.len(), begins.len(), "{}", one.out);
    for (line, begin) in lines.iter().zip(begins) {
        assert!(line.starts_with(begin), "{line}\nwant {begin}");
    }
    let rows = replayed(folder.path(), "all --set price=10s");
    let counts: Vec<Option<bool>> =
        rows.as_array().unwrap().iter().map(|row| row["counts"].as_bool()).collect();
    assert_eq!(counts, [true, true, false, false, false].map(Some));
    assert!(rows[0]["summary"]["optimum"]["score"].is_f64() && rows[2]["skipped"].is_string());
}

#[test]
fn a_folder_of_recordings_is_written_into_a_folder_like_it() {
    let folder = folder();
    run_in(folder.path(), "replay all --out out").exits(0);
    for name in ["out/calm", "out/deep/busy", "out/short"] {
        assert!(folder.path().join(name).join("summary.json").exists(), "{name}");
    }
    assert!(!folder.path().join("out/notes").exists());
    run_in(folder.path(), "replay all/notes.txt").exits(2);
    fs::create_dir(folder.path().join("none")).unwrap();
    fs::copy(folder.path().join("all/notes.txt"), folder.path().join("none/a.txt")).unwrap();
    let ran = run_in(folder.path(), "replay none").exits(2);
    assert!(ran.err.contains("none of these recordings can be replayed"), "{}", ran.err);
    assert!(ran.out.contains("skipped none/a.txt"), "{}", ran.out);
}
