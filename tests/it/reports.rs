//! The committed reports come out again, byte for byte; CI runs this with a debug and with a release build.

use std::fs;
use std::path::Path;

use crate::support::{root, tiershift};

/// Runs the command of a report into a folder of its own and compares every file.
#[track_caller]
fn check(folder: &str, arguments: &[&str], want_code: i32) {
    let out = tempfile::tempdir().unwrap();
    let again = out.path().join(folder);
    let done =
        tiershift().args(arguments).arg("--out").arg(&again).current_dir(root()).output().unwrap();
    assert_eq!(done.status.code(), Some(want_code), "{}", String::from_utf8_lossy(&done.stderr));
    let committed = root().join("reports").join(folder);
    let mut wanted = names(&committed);
    wanted.retain(|name| cfg!(feature = "png") || name != "decisions.png");
    assert_eq!(wanted, names(&again), "the files of {folder}");
    for name in wanted {
        let same = fs::read(committed.join(&name)).unwrap() == fs::read(again.join(&name)).unwrap();
        assert!(same, "reports/{folder}/{name} did not come out again: see reports/README.md");
    }
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

#[test]
fn nothing_lies_among_the_reports_that_is_not_told_of() {
    let told = fs::read_to_string(root().join("reports/README.md")).unwrap();
    for name in names(&root().join("reports")) {
        assert!(name == "README.md" || told.contains(&format!("`{name}`")), "reports/{name}");
    }
    // The only one that does not come out again: a photograph, so to speak.
    let pictures = names(&root().join("reports")).into_iter().filter(|name| name.contains('.'));
    assert_eq!(pictures.collect::<Vec<_>>(), ["README.md", "models-come-and-go.html", "page.png"]);
}

#[test]
fn replays_come_out_again() {
    check("memory-hog", &["replay", "traces/memory-hog.csv", "--log", "full"], 0);
    check("models-come-and-go", &["replay", "traces/models-come-and-go.csv", "--log", "off"], 0);
}

#[test]
fn a_page_comes_out_again() {
    let out = tempfile::tempdir().unwrap();
    let again = out.path().join("page.html");
    let replay = ["replay", "traces/models-come-and-go.csv", "--html"];
    let done = tiershift().args(replay).arg(&again).output().unwrap();
    assert_eq!(done.status.code(), Some(0), "{}", String::from_utf8_lossy(&done.stderr));
    let [committed, again] = [root().join("reports/models-come-and-go.html"), again]
        .map(|page| fs::read(page).unwrap_or_default());
    assert!(committed == again, "reports/models-come-and-go.html: see reports/README.md");
    assert!(committed.len() < 150_000, "{} bytes are too many to keep", committed.len());
}

#[test]
fn scenario_runs_come_out_again() {
    check("no-projection", &["run", "scenarios/no-projection.toml", "--log", "off"], 0);
    check("day-night", &["run", "scenarios/day-night.toml", "--log", "off"], 0);
    let original = ["run", "scenarios/no-projection.toml", "--policy", "original", "--log", "off"];
    check("no-projection-original", &original, 1);
}

#[test]
fn the_pairs_of_the_museum_come_out_again() {
    let pairs = [
        ("over-the-line-by-our-own", "single-line"),
        ("victim-comes-back-to-life", "wait-for-idle"),
        ("lowest-value-for-good", "ratchet"),
    ];
    for (name, idea) in pairs {
        let scenario = format!("scenarios/museum/{name}.toml");
        check(name, &["run", &scenario, "--log", "off"], 0);
        let under_idea = ["run", &scenario, "--policy", idea, "--log", "off"];
        check(&format!("{name}-{idea}"), &under_idea, 1);
    }
}
