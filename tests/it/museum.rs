//! The museum is complete: every incident is cited, red under its idea and green under our policy, and every idea has an incident.

use std::collections::BTreeSet;
use std::fs;

use tiershift::study::museum;
use tiershift_core::policy::Registry;

use crate::support::{files, root, run_in};

#[test]
fn every_incident_is_red_under_its_idea_and_green_under_ours() {
    let shown = run_in(root(), "check --museum --json").exits(0).json();
    let exhibits = shown.as_array().unwrap();
    let text = |one: &serde_json::Value, key: &str| one[key].as_str().unwrap().to_owned();
    let scenarios: BTreeSet<String> = exhibits.iter().map(|one| text(one, "scenario")).collect();
    let incidents: BTreeSet<String> = exhibits.iter().map(|one| text(one, "incident")).collect();
    let shown_ideas: BTreeSet<String> = exhibits.iter().map(|one| text(one, "idea")).collect();
    for one in exhibits {
        assert!(one["idea_is_red"] == true && one["ours_is_green"] == true, "{one}");
        assert!(!text(one, "figure").is_empty(), "no figure tells of {one}");
        assert_ne!(one["under_idea"], one["under_ours"], "{one}");
    }
    assert!(exhibits.len() >= 16, "{}", exhibits.len());
    assert_eq!(incidents.len(), exhibits.len(), "each incident once");
    let folder = root().join("scenarios/museum");
    let is_scenario = |path: &std::path::PathBuf| path.extension().is_some_and(|end| end == "toml");
    let there: BTreeSet<String> = files(&folder)
        .iter()
        .filter(|path| is_scenario(path))
        .map(|path| path.file_stem().unwrap().to_string_lossy().into_owned())
        .collect();
    assert_eq!(scenarios, there, "every file of scenarios/museum is an incident");
    for idea in museum::ideas() {
        assert!(shown_ideas.contains(idea), "{idea} has no incident");
    }
    let policies = museum::with_ideas(&Registry::built_in());
    let known: BTreeSet<&str> = policies.names().collect();
    assert!(shown_ideas.iter().all(|idea| known.contains(idea.as_str())), "{shown_ideas:?}");
}

#[test]
fn the_head_of_each_file_names_its_report() {
    for path in files(&root().join("scenarios/museum")) {
        if path.extension().is_none_or(|end| end != "toml") {
            continue;
        }
        let text = fs::read_to_string(&path).unwrap();
        let named = text.lines().find_map(|line| line.strip_prefix("incident = "));
        let named = named.unwrap_or_else(|| panic!("{}: no incident", path.display()));
        let head = text.lines().next().unwrap_or_default();
        assert!(head.starts_with(&format!("# {}", named.trim_matches('"'))), "{}", path.display());
    }
}

#[test]
fn the_readme_shows_the_table() {
    let ran = run_in(root(), "check --museum").exits(0);
    let readme = fs::read_to_string(root().join("README.md")).unwrap();
    let table: String =
        ran.out.lines().filter(|l| l.starts_with('|')).map(|l| format!("{l}\n")).collect();
    assert!(readme.contains(&table), "paste the output of `tiershift check --museum`:\n{table}");
}

#[test]
fn an_idea_is_short() {
    for path in files(&root().join("src/study/museum/idea")) {
        let lines = fs::read_to_string(&path).unwrap().lines().count();
        assert!(lines <= 80, "{}: {lines} lines", path.display());
    }
}

#[test]
fn a_name_that_is_taken_stays_whose_it_is() {
    let mut mine = Registry::built_in();
    mine.register("single-line", |_, _, _| {
        Err(tiershift_core::policy::PolicyError::Refused("mine".to_owned()))
    });
    let all = museum::with_ideas(&mine);
    let count = |policies: &Registry| policies.names().count();
    assert_eq!(count(&all), count(&mine) + museum::ideas().count() - 1);
}
