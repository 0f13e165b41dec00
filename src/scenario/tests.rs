use std::path::PathBuf;

use super::file::read;
use super::*;

/// Returns every committed scenario, in order of its name.
fn committed() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios");
    let mut paths: Vec<PathBuf> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "toml"))
        .collect();
    paths.sort();
    assert!(!paths.is_empty());
    paths
}

#[test]
fn every_committed_scenario_is_valid_and_says_what_must_happen() {
    for path in committed() {
        let scenario = load(&path).unwrap_or_else(|error| panic!("{error}"));
        assert!(scenario.description.len() > 60, "{}: {}", scenario.name, scenario.description);
        assert!(!scenario.expect.keys().is_empty(), "{} expects nothing", scenario.name);
    }
}

#[test]
fn every_committed_scenario_survives_being_written() {
    for path in committed() {
        let text = fs::read_to_string(&path).unwrap();
        let raw = read(&Document::new("x.toml", &text)).unwrap();
        let written = raw.to_toml().unwrap();
        let again = read(&Document::new("again.toml", &written))
            .unwrap_or_else(|error| panic!("{}: {error}\n{written}", path.display()));
        assert_eq!(again, raw, "{}\n{written}", path.display());
    }
}
