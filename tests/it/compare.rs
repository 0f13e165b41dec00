//! `tiershift compare` through the command line: the figures of `replay` side by side, whatever the number of jobs.

use std::fs;

use serde_json::Value;
use tiershift_testkit::skip::is_installed;

use crate::support::{held_by, root, run_in, tiershift, trace};

/// A folder of recordings on which policies differ, a calm recording, and a file that is no recording.
fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let put = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
    fs::create_dir(folder.path().join("all")).unwrap();
    put("all/busy.csv", &trace(&[[4.0; 8], [11.0; 8]].concat().repeat(9)));
    put("all/calm.csv", &trace(&[4.0; 60]));
    put("all/notes.txt", "nothing to replay\n");
    put("steady.toml", "policy = \"proactive\"\npreset = \"steady\"\n");
    folder
}

#[test]
fn a_run_of_compare_is_that_of_replay() {
    let folder = folder();
    let line = "compare all --policies proactive,original,steady.toml --set price=10s --seed 7";
    let compared = run_in(folder.path(), &format!("{line} --json")).exits(0).json();
    let names = [
        ("quality_served_fraction", "quality_served_fraction"),
        ("switches", "switches"),
        ("reversals", "reversals"),
        ("wasted_loads", "wasted_loads"),
        ("share_of_optimum", "share_of_optimum"),
        ("share_of_optimum_without_reversals", "share_of_optimum_without_reversals"),
        ("seconds_at_none_while_smallest_fitted", "seconds_at_none_while_smallest_fitted"),
    ];
    for (place, policy) in ["proactive", "original", "steady.toml"].iter().enumerate() {
        for (number, recording) in ["all/busy.csv", "all/calm.csv"].iter().enumerate() {
            let line = format!("replay {recording} --policy {policy} --set price=10s --seed 7");
            let replayed = run_in(folder.path(), &format!("{line} --json")).exits(0).json();
            let shown = &compared["recordings"][number]["policies"][place];
            assert_eq!(shown["policy"], *policy);
            for (key, name) in names {
                let [got, want] = [&shown["figures"][key], &replayed[name]].map(Value::as_f64);
                assert_eq!(got, want, "{recording}, {policy}: {key}");
            }
        }
    }
    assert_eq!(compared["recordings"][2]["skipped"], "in no known format");
    let original = &compared["overall"][1]["against_first"]["differences"];
    assert_eq!(original["reversals"]["outcome"], "worse", "{original}");
}

#[test]
fn a_policy_does_not_differ_from_itself_and_intervals_come_with_seeds() {
    let folder = folder();
    let line = "compare all/busy.csv --policies proactive,proactive,original --seeds 3";
    let one = run_in(folder.path(), &format!("{line} --jobs 1")).exits(0);
    let four = run_in(folder.path(), &format!("{line} --jobs 4")).exits(0);
    assert_eq!(one.out, four.out);
    let json = run_in(folder.path(), &format!("{line} --json")).exits(0).json();
    let overall = &json["overall"];
    let itself = overall[1]["against_first"]["differences"].as_object().unwrap();
    assert!(itself.values().all(|it| it["outcome"] == "no-difference" && it["mean"] == 0.0));
    assert!(itself.values().all(|it| it["plus_minus"].is_null()));
    let other = &overall[2]["against_first"]["differences"]["share_of_optimum"];
    assert!(other["plus_minus"].as_f64().unwrap() > 0.0, "{other}");
    assert_eq!(other["outcome"], "worse");
    // A file that is given by name must be a recording.
    run_in(folder.path(), "compare all/notes.txt --policies proactive,fixed").exits(2);
}

#[test]
fn a_program_is_compared_as_any_policy() {
    if !is_installed("python3", "a_program_is_compared_as_any_policy") {
        return;
    }
    let folder = folder();
    let program = root().join("examples/policy.py");
    let line = format!("exec:python3 {}", program.display());
    let ran = tiershift()
        .current_dir(folder.path())
        .args(["compare", "all/calm.csv", "--csv", "--policies", "proactive", "--policies", &line])
        .output()
        .unwrap();
    let out = String::from_utf8(ran.stdout).unwrap();
    let rows: Vec<&str> = out.lines().collect();
    assert_eq!(rows.len(), 3, "{out}\n{}", String::from_utf8_lossy(&ran.stderr));
    assert!(rows[0].starts_with("recording,policy,seed,counts,hours,quality_served_fraction,"));
    assert!(rows[2].starts_with("all/calm.csv,exec:python3 "), "{}", rows[2]);
}

#[test]
fn two_runs_are_compared_by_their_logs_with_the_decisions_behind_each_parting() {
    let folder = folder();
    for (policy, out) in [("proactive", "one"), ("original", "two")] {
        let line = format!("replay all/busy.csv --policy {policy} --out {out}");
        run_in(folder.path(), &line).exits(0);
    }
    let same = run_in(folder.path(), "compare one one").exits(0);
    assert!(same.out.contains("the same tiers served throughout"), "{}", same.out);
    assert!(same.out.contains("(100.0 %)"), "{}", same.out);
    let text = run_in(folder.path(), "compare one two").exits(0).out;
    assert!(text.contains("right two (original)"), "{text}");
    let json = run_in(folder.path(), "compare one two --json").exits(0).json();
    let partings = json["partings"].as_array().unwrap();
    assert!(!partings.is_empty());
    // A log does not contain what happens between two readings.
    let figures = |side: usize| json["runs"][side]["figures"].as_object().unwrap();
    assert!([0, 1].iter().all(|&it| !figures(it).contains_key("seconds_over_memory_avoidable")));
    assert!(!text.contains("s over"), "{text}");
    let sum = |key: &str| partings.iter().map(|it| it[key].as_f64().unwrap()).sum::<f64>();
    let [seconds, same] =
        [&json["seconds"], &json["same_tier_seconds"]].map(|v| v.as_f64().unwrap());
    assert!((same + sum("seconds") - seconds).abs() < 1e-3, "{same} of {seconds}");
    // The difference in quality results from the parts where the runs diverge.
    let quality = |side: usize| {
        let figures = &json["runs"][side]["figures"];
        let hours = figures["hours"].as_f64().unwrap();
        figures["quality_served_fraction"].as_f64().unwrap() * hours * 3600.0
    };
    let apart = quality(1) - quality(0);
    assert!((sum("right_gains_seconds") - apart).abs() < 15.0, "{apart}");
    for parting in partings {
        let decided = parting["decisions"].as_array().unwrap();
        let is_change = |it: &&Value| it["decision"]["action"] != "hold";
        assert!(decided.iter().filter(is_change).count() > 0, "{parting}");
        assert_ne!(parting["tiers"][0], parting["tiers"][1]);
    }
    let refused = run_in(folder.path(), "compare all/busy.csv all/calm.csv").exits(2);
    assert!(refused.err.contains("--policies"), "{}", refused.err);
    run_in(folder.path(), "compare all").exits(2);
}

#[test]
fn the_page_of_a_comparison_says_what_json_says_and_fetches_nothing() {
    let folder = folder();
    let line = "compare all --policies proactive,original --seeds 2";
    let text = run_in(folder.path(), line).exits(0).out;
    let written = run_in(folder.path(), &format!("{line} --html page.html")).exits(0).out;
    assert_eq!(written, format!("{text}page written to page.html\n"), "nothing else changes");
    let json = run_in(folder.path(), &format!("{line} --json --html again.html")).exits(0).json();
    let printed = run_in(folder.path(), &format!("{line} --html -")).exits(0).out;
    let read = |name: &str| fs::read_to_string(folder.path().join(name)).unwrap();
    let page = read("page.html");
    assert_eq!(page, read("again.html"), "the same comparison, the same bytes");
    assert_eq!(printed, page);
    let addresses = ["src=\"http", "href=\"http", "url(http", "fetch(", "import("];
    for address in addresses {
        assert!(!page.contains(address), "{address}");
    }
    assert!(page.len() < 250_000, "{}", page.len());
    let document = held_by(&page);
    assert_eq!(document["about"], "3 recordings, 1 of them skipped; 2 policies, 2 seeds");
    assert_eq!(document["skipped"][0][0], "all/notes.txt");
    let place = |key: &str| {
        let columns = document["columns"].as_array().unwrap();
        columns.iter().position(|column| column["key"] == key).unwrap()
    };
    for (policy, overall) in json["overall"].as_array().unwrap().iter().enumerate() {
        let shown = document["policies"][policy]["figures"][place("reversals")].as_f64();
        let mean = overall["figures"]["reversals"]["mean"].as_f64();
        assert!((shown.unwrap() - mean.unwrap()).abs() <= 0.051, "{shown:?}, {mean:?}");
    }
    assert_eq!(document["front"], serde_json::json!([0]), "{text}");
}

#[test]
fn a_page_and_another_form_are_not_both_printed() {
    let folder = folder();
    for form in ["--json", "--csv", "--markdown"] {
        let line = format!("compare all/calm.csv --policies proactive,fixed --html - {form}");
        let refused = run_in(folder.path(), &line).exits(2).err;
        assert!(refused.contains(&format!("{form} and --html -")), "{refused}");
    }
}

#[test]
fn the_page_of_two_logs_is_that_of_plot_over() {
    let folder = folder();
    run_in(folder.path(), "replay all/calm.csv --out one").exits(0);
    let refused = run_in(folder.path(), "compare one one --html page.html").exits(2).err;
    assert!(refused.contains("tiershift plot one --over one --html FILE"), "{refused}");
}
