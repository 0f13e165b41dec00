//! The gallery can be reproduced byte for byte; CI runs this with a debug build and with a release build.

use std::fs;
use std::path::Path;

use crate::support::{files, root, tiershift};

/// Runs the command of a report into a separate folder and compares every file.
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
fn every_report_is_in_the_list() {
    let listed = fs::read_to_string(root().join("reports/README.md")).unwrap();
    for name in names(&root().join("reports")) {
        assert!(name == "README.md" || listed.contains(&format!("`{name}`")), "reports/{name}");
    }
    // The only picture that cannot be reproduced is a screenshot.
    let pictures = names(&root().join("reports")).into_iter().filter(|name| name.contains(".png"));
    assert_eq!(pictures.collect::<Vec<_>>(), ["page.png"]);
    let bytes: u64 =
        files(&root().join("reports")).iter().map(|file| file.metadata().unwrap().len()).sum();
    assert!(bytes < 4_000_000, "{bytes} bytes are too many to keep");
}

#[test]
fn replays_come_out_again() {
    check("memory-hog", &["replay", "traces/memory-hog.csv", "--log", "full"], 0);
    check("models-come-and-go", &["replay", "traces/models-come-and-go.csv", "--log", "off"], 0);
}

/// Compares a file of the gallery with the newly written one.
#[track_caller]
fn compare(name: &str, again: &Path) {
    let [committed, again] =
        [&root().join("reports").join(name), again].map(|file| fs::read(file).unwrap_or_default());
    assert!(committed == again, "reports/{name} did not come out again: see reports/README.md");
}

/// Runs tiershift in a folder.
#[track_caller]
fn run(folder: &Path, arguments: &[&str], want_code: i32) {
    let done = tiershift().args(arguments).current_dir(folder).output().unwrap();
    assert_eq!(done.status.code(), Some(want_code), "{}", String::from_utf8_lossy(&done.stderr));
}

#[test]
fn pages_come_out_again() {
    let out = tempfile::tempdir().unwrap();
    let again = out.path().join("page.html");
    let again_at = again.to_str().unwrap();
    run(root(), &["replay", "traces/models-come-and-go.csv", "--html", again_at], 0);
    compare("models-come-and-go.html", &again);
    let mut compared = vec!["compare"];
    for (name, folder) in [
        ("reports/month", "out/month"),
        ("scenarios/day-night", "out/day-night"),
        ("scenarios/hourly-blip", "out/hourly-blip"),
    ] {
        let scenario = root().join(format!("{name}.toml"));
        run(out.path(), &["run", scenario.to_str().unwrap(), "--out", folder], 0);
        compared.push(folder);
    }
    compared.extend(["--policies", "proactive,projecting,original", "--html", again_at]);
    run(out.path(), &compared, 0);
    compare("comparison.html", &again);
}

/// Runs a scenario under its own policy and under another, and draws both.
#[track_caller]
fn check_pair(name: &str, scenario: &str, policy: &str, want_code: i32) {
    let out = tempfile::tempdir().unwrap();
    let folder = |name: &str| out.path().join("out").join(name).to_str().unwrap().to_owned();
    run(root(), &["run", scenario, "--out", &folder("ours")], 0);
    run(root(), &["run", scenario, "--policy", policy, "--out", &folder(policy)], want_code);
    let other = format!("out/{policy}");
    run(out.path(), &["plot", "out/ours", "--over", &other, "--out", "pair.svg"], 0);
    compare(name, &out.path().join("pair.svg"));
}

#[test]
fn the_pairs_of_the_museum_come_out_again() {
    for (name, idea) in [
        ("over-the-line-by-our-own", "single-line"),
        ("victim-comes-back-to-life", "wait-for-idle"),
        ("lowest-value-for-good", "ratchet"),
    ] {
        let scenario = format!("scenarios/museum/{name}.toml");
        check_pair(&format!("{name}.svg"), &scenario, idea, 1);
    }
}

#[test]
fn pairs_of_policies_come_out_again() {
    check_pair("no-projection.svg", "scenarios/no-projection.toml", "original", 1);
    check_pair("month.svg", "reports/month.toml", "original", 0);
}

#[test]
fn a_machine_with_two_gpus_comes_out_again() {
    let out = tempfile::tempdir().unwrap();
    let folder = out.path().join("gpus");
    let run_out =
        ["run", "scenarios/two-gpus.toml", "--log", "off", "--out", folder.to_str().unwrap()];
    run(root(), &run_out, 0);
    compare("two-gpus.svg", &folder.join("decisions.svg"));
}

#[test]
fn a_live_run_comes_out_again() {
    let out = tempfile::tempdir().unwrap();
    let again = out.path().join("live.svg");
    run(root(), &["verify", "reports/live"], 0);
    run(root(), &["plot", "reports/live", "--out", again.to_str().unwrap()], 0);
    compare("live.svg", &again);
}
