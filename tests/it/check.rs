//! `tiershift check` as a user runs it: part of a suite by name, accepted stories, and the built-in suite, which
//! needs no checkout.

use std::fs;
use std::path::Path;

use tempfile::TempDir;

use crate::support::{Ran, contents, root, run_in, tiershift};

/// Runs the command in an empty folder, and asserts that it leaves no file there and none in the folder for temporary
/// files.
#[track_caller]
fn run_in_empty(line: &str) -> Ran {
    let (folder, temporary) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let words = shlex::split(line).unwrap();
    let command = tiershift().current_dir(folder.path()).env("TMPDIR", temporary.path());
    let output = command.args(words).output().unwrap();
    for folder in [&folder, &temporary] {
        assert!(contents(folder.path()).is_empty(), "tiershift {line} left files");
        assert_eq!(fs::read_dir(folder).unwrap().count(), 0, "tiershift {line} left a folder");
    }
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Ran {
        line: line.to_owned(),
        code: output.status.code().unwrap(),
        out: text(output.stdout),
        err: text(output.stderr),
    }
}

/// A suite of three scenarios, one of which cannot pass.
fn suite() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("scenarios")).unwrap();
    let head = "duration = \"5m\"\n[machine]\nmemory = \"16GiB\"\n";
    let expects = format!("{head}[expect]\nswitches = {{ min = 99 }}\n");
    for (name, text) in [("calm", head), ("calm-too", head), ("asks-too-much", &expects)] {
        let path = folder.path().join("scenarios").join(name).with_extension("toml");
        fs::write(path, text).unwrap();
    }
    folder
}

#[track_caller]
fn golden(folder: &Path, name: &str) -> bool {
    folder.join("scenarios/golden").join(name).with_extension("txt").exists()
}

#[test]
fn the_suite_that_is_built_in_is_checked_where_there_is_no_other() {
    let ran = run_in_empty("check sudden-loss plan-that-flips world-1369").exits(0);
    assert!(ran.out.contains("3 passed, 0 failed"), "{}", ran.out);
    assert!(ran.err.contains("no folder `scenarios` here"), "{}", ran.err);
    // The message about a failing scenario names no temporary folder.
    let ran = run_in_empty("check sudden-loss --policy original").exits(1);
    assert!(ran.out.contains("repeat: tiershift run sudden-loss --policy original"), "{}", ran.out);
    let ran = run_in_empty("check idle --bless").exits(2);
    assert!(ran.err.contains("cannot be changed"), "{}", ran.err);
}

#[test]
fn the_museum_and_the_scenarios_that_are_built_in_can_be_played() {
    let ran = run_in_empty("check --museum plan-that-flips --json").exits(0);
    assert_eq!(ran.json()[0]["scenario"], "plan-that-flips");
    let ran = run_in_empty("run sudden-loss").exits(0);
    let of_file = run_in(root(), "run scenarios/sudden-loss.toml").exits(0);
    let without_name = |text: &str| text.split_once('\n').unwrap().1.to_owned();
    assert_eq!(without_name(&ran.out), without_name(&of_file.out));
}

#[test]
fn the_demo_is_the_recording_of_the_project() {
    let ran = run_in_empty("replay --demo --json").exits(0);
    assert_eq!(ran.out, run_in(root(), "replay traces/models-come-and-go.csv --json").out);
    let ran = run_in_empty("replay --demo").exits(0);
    assert!(ran.out.starts_with("traces/models-come-and-go.csv\n"), "{}", ran.out);
}

#[test]
fn a_part_of_a_name_chooses_scenarios_and_what_failed_comes_last_with_its_time() {
    let folder = suite();
    run_in(folder.path(), "check calm --bless").exits(0);
    assert!(golden(folder.path(), "calm") && golden(folder.path(), "calm-too"));
    let ran = run_in(folder.path(), "check calm --junit new/folder/check.xml").exits(0);
    assert!(ran.out.contains("2 passed, 0 failed in "), "{}", ran.out);
    assert!(folder.path().join("new/folder/check.xml").exists());
    let ran = run_in(folder.path(), "check").exits(1);
    let names: Vec<&str> =
        ran.out.lines().filter(|line| !line.starts_with(' ')).map(|line| &line[..12]).collect();
    assert_eq!(names, ["ok      calm", "ok      calm", "FAILED  asks", "2 passed, 1 "]);
    assert!(ran.out.lines().next().unwrap().ends_with(" s"), "{}", ran.out);
    let rows = run_in(folder.path(), "check calm-too scenarios --json").exits(0).json();
    assert_eq!(rows.as_array().unwrap().len(), 1, "a part of a name chooses from a folder, too");
    assert!(rows[0]["seconds"].is_f64(), "{rows}");
    let ran = run_in(folder.path(), "check calm-tow").exits(2);
    assert!(ran.err.contains("did you mean `calm-too`?"), "{}", ran.err);
}

#[test]
fn the_story_of_a_scenario_that_fails_is_accepted_by_force_only() {
    let folder = suite();
    let ran = run_in(folder.path(), "check asks --bless").exits(1);
    assert!(ran.out.contains("not written, because the scenario fails; --force"), "{}", ran.out);
    assert!(!golden(folder.path(), "asks-too-much"));
    run_in(folder.path(), "check asks --bless --force").exits(1);
    assert!(golden(folder.path(), "asks-too-much"));
}
