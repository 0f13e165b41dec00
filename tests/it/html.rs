//! `--html`: the page of a run is the same from the run and from its log, and changes no other output.

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::support::{contents, held_by, root, run_in, trace};

/// Returns the run in a page.
fn run_of(page: &Path) -> Value {
    held_by(&fs::read_to_string(page).unwrap())["runs"][0].take()
}

#[test]
fn a_page_is_the_same_from_a_run_and_from_its_log_and_changes_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let place = |name: &str| folder.path().join(name);
    let run = |line: &str| run_in(folder.path(), line).exits(0);
    fs::write(place("host.csv"), trace(&[2.0, 2.0, 3.0, 12.0, 14.0, 3.0, 3.0, 2.0])).unwrap();
    run("replay host.csv --out bare");
    run("replay host.csv --out run --html run.html");
    run("replay host.csv --html again.html --out run --force");
    run("replay host.csv --html alone.html");
    run("plot run --html log.html");
    let same = |a: &str, b: &str| fs::read(place(a)).unwrap() == fs::read(place(b)).unwrap();
    assert!(contents(&place("bare")) == contents(&place("run")));
    assert!(same("run.html", "again.html"), "the same run, the same bytes");
    assert!(!place("decisions.svg").exists(), "the page alone was asked for");
    let [mut of_run, mut of_log] = ["run.html", "log.html"].map(|name| run_of(&place(name)));
    let summary = fs::read_to_string(place("run/summary.json")).unwrap();
    let samples = serde_json::from_str::<Value>(&summary).unwrap()["samples"].as_u64();
    assert_eq!(of_run["at"].as_array().unwrap().len() as u64, samples.unwrap(), "every reading");
    assert!(of_run["changes"]["to"].as_array().unwrap().len() >= 3);
    let gates = of_run["gates"].as_array().unwrap().iter();
    assert!(gates.clone().any(|gate| gate["name"] == "window"), "{gates:?}");
    assert!(of_run["optimum"].as_array().unwrap().len() > 1);
    // A log contains neither its future name nor the notes of the reader.
    for run in [&mut of_run, &mut of_log] {
        run["figures"].take();
        run["warnings"].take();
    }
    assert_eq!(of_run, of_log);

    for level in ["changes", "off"] {
        run(&format!("replay host.csv --out {level} --log {level}"));
        run(&format!("replay host.csv --out {level}-page --log {level} --html {level}.html"));
        let of = |name: &str| contents(&place(name));
        assert!(of(level) == of(&format!("{level}-page")), "{level}");
    }
    assert!(same("off.html", "alone.html"), "what is logged is not what is shown");
}

#[test]
fn a_page_is_of_one_run_or_of_a_part_of_it() {
    let folder = tempfile::tempdir().unwrap();
    let place = |name: &str| folder.path().join(name);
    let run = |line: &str| run_in(folder.path(), line);
    fs::write(place("host.csv"), trace(&[2.0, 2.0, 3.0, 12.0, 14.0, 3.0])).unwrap();
    fs::create_dir(place("hosts")).unwrap();
    fs::copy(place("host.csv"), place("hosts/host.csv")).unwrap();
    for line in ["replay host.csv hosts/host.csv --html a.html", "replay hosts --html a.html"] {
        let err = run(line).exits(2).err;
        assert!(err.contains("--html shows one run"), "{err}");
    }
    let err = run("replay host.csv --html - --json").exits(2).err;
    assert!(err.contains("standard output"), "{err}");
    let printed = run("replay host.csv --html -").exits(0).out;
    run("replay host.csv --html b.html").exits(0);
    run("replay host.csv --out run").exits(0);
    assert!(printed == fs::read_to_string(place("b.html")).unwrap(), "the page and nothing else");

    run("plot run --html part.html --from 2m --to 4m").exits(0);
    let part = run_of(&place("part.html"));
    assert_eq!((part["begin"].as_u64(), part["end"].as_u64()), (Some(120_000), Some(240_000)));
    let moments = part["at"].as_array().unwrap();
    assert_eq!(moments[0].as_u64(), Some(120_000));
    let last = moments.iter().map(|delta| delta.as_u64().unwrap()).sum::<u64>();
    assert_eq!(last, 240_000, "both ends belong to it");
    assert!(
        part["steps"][0][1].as_u64() > Some(0),
        "what served before is known: {}",
        part["steps"]
    );

    run("replay host.csv --from 2m --to 4m --html replayed.html --out replayed").exits(0);
    let replayed = run_of(&place("replayed.html"));
    assert_eq!(replayed["title"], "host.csv, from 2m to 4m");
    let plot = fs::read_to_string(place("replayed/decisions.svg")).unwrap();
    assert!(plot.contains(">host.csv, from 2m to 4m<"), "{}", &plot[..plot.len().min(2000)]);
}

#[test]
fn the_page_of_a_suite_has_every_scenario_in_its_folder_with_what_failed() {
    let folder = tempfile::tempdir().unwrap();
    let place = |name: &str| folder.path().join(name);
    fs::create_dir(place("more")).unwrap();
    fs::copy(root().join("scenarios/memory-pressure.toml"), place("more/ok.toml")).unwrap();
    let strict = "# Nothing may be loaded.\nduration = \"10m\"\n[machine]\nmemory = \"16GiB\"\n[expect]\nswitches = 0\n";
    fs::write(place("strict.toml"), strict).unwrap();
    fs::write(place("broken.toml"), "duration = </script>\n").unwrap();
    run_in(folder.path(), "check more --bless").exits(0);
    let line = "check strict.toml broken.toml more";
    let text = run_in(folder.path(), line).exits(2).out;
    let written = run_in(folder.path(), &format!("{line} --html page.html")).exits(2).out;
    // Each run has its own times.
    let untimed = |text: &str| text.replace(|c: char| c.is_ascii_digit() || ". ".contains(c), "");
    let wanted = format!("{text}page written to page.html\n");
    assert_eq!(untimed(&written), untimed(&wanted), "nothing else changes");
    let printed = run_in(folder.path(), &format!("{line} --html -")).exits(2).out;
    let page = fs::read_to_string(place("page.html")).unwrap();
    assert_eq!(printed, page, "the same results, the same bytes");
    let held = held_by(&page);
    let [here, more] = [&held["folders"][0], &held["folders"][1]];
    assert_eq!((&here["name"], &more["name"]), (&"".into(), &"more".into()));
    let [strict, broken] = [&here["scenarios"][0], &here["scenarios"][1]];
    assert_eq!(strict["description"], "Nothing may be loaded.");
    let failures = strict["failures"].as_array().unwrap();
    assert!(failures.iter().any(|it| it.as_str().unwrap().starts_with("switches")), "{strict}");
    assert!(strict["repeat"].as_str().unwrap().starts_with("tiershift run strict.toml"));
    assert!(broken["failures"][0].as_str().unwrap().contains("broken.toml"), "{broken}");
    assert_eq!(broken["figures"].as_array().unwrap().len(), 0);
    let ok = &more["scenarios"][0];
    assert_eq!(ok["failures"].as_array().unwrap().len(), 0);
    let columns = held["columns"].as_array().unwrap();
    assert_eq!(ok["figures"].as_array().unwrap().len(), columns.len());
    run_in(folder.path(), "check more --museum --html page.html").exits(2);
}
