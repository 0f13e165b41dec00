//! `tiershift tune`: a recommendation must hold on data that the search has not seen.

use std::fs;

use crate::support::{run_in, trace};

/// Others' use in GiB, minute by minute, of a machine that alternates between twenty minutes with room and twenty without.
fn tides(count: usize) -> Vec<f64> {
    [[3.0; 20], [11.0; 20]].concat().into_iter().cycle().take(count).collect()
}

#[test]
fn what_is_found_holds_on_what_was_held_back_and_is_a_policy_file() {
    let folder = tempfile::tempdir().unwrap();
    let put = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
    put("tides.csv", &trace(&tides(3000)));
    put(
        "search.toml",
        "stabilization = [\"0s\", \"5m\", \"15m\"]\nrate-sustained = [\"30s\", \"1m\"]\n",
    );
    // A policy that waits fifteen minutes before an upgrade has little left of twenty.
    let line =
        "tune tides.csv --search search.toml --set stabilization=15m --recipe eager --trials 12";
    let tuned = run_in(folder.path(), &format!("{line} --out tuned.toml --jobs 1")).exits(0);
    assert!(tuned.out.contains("best there: stabilization = \"0s\"\n"), "{}", tuned.out);
    assert!(tuned.out.contains("\nrecommended: +"), "{}", tuned.out);
    let file = fs::read_to_string(folder.path().join("tuned.toml")).unwrap();
    assert!(file.starts_with("# Found by tiershift tune"), "{file}");
    assert!(file.contains("tides.csv"), "{file}");
    assert!(file.ends_with("\npreset = \"eager\"\nstabilization = \"0s\"\n"), "{file}");
    let again = run_in(folder.path(), &format!("{line} --out tuned.toml --jobs 3")).exits(0);
    assert_eq!(again.out, tuned.out);
    let quality = |options: &str| {
        let json =
            run_in(folder.path(), &format!("replay tides.csv {options} --json")).exits(0).json();
        json["quality_served_fraction"].as_f64().unwrap()
    };
    let [there, found] = [quality("--set stabilization=15m"), quality("--policy tuned.toml")];
    assert!(found > there + 0.05, "{there} {found}");
    put("tuned.toml", "policy = \"proactive\"\n");
    let refused = run_in(folder.path(), &format!("{line} --out tuned.toml")).exits(2);
    assert!(refused.err.contains("was not written by tiershift"), "{}", refused.err);
}

#[test]
fn where_nothing_matters_nothing_is_recommended() {
    let folder = tempfile::tempdir().unwrap();
    let put = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
    put("calm.csv", &trace(&[3.0; 900]));
    put("short.csv", &trace(&[3.0; 30]));
    let tuned = run_in(folder.path(), "tune calm.csv --trials 20 --out tuned.toml").exits(0);
    assert!(
        tuned.out.contains("no candidate is better than the current settings"),
        "{}",
        tuned.out
    );
    assert!(!folder.path().join("tuned.toml").exists());
    let json = run_in(folder.path(), "tune calm.csv --trials 20 --json").exits(0).json();
    assert_eq!(json["found"]["settings"], serde_json::json!({}));
    let refused = run_in(folder.path(), "tune short.csv").exits(2);
    assert!(
        refused.err.contains("no recording can be used for tuning: short.csv: too short"),
        "{}",
        refused.err
    );
}

#[test]
fn what_cannot_be_searched_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let put = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
    put("calm.csv", &trace(&[3.0; 300]));
    for (text, want) in [
        ("prise = [\"1s\"]", "did you mean `price`?"),
        ("price = []", "price: the list has no value"),
        ("", "lists no setting to search"),
    ] {
        put("search.toml", text);
        let ran = run_in(folder.path(), "tune calm.csv --search search.toml").exits(2);
        assert!(ran.err.contains(want), "{}", ran.err);
    }
    let ran = run_in(folder.path(), "tune calm.csv --policy exec:true").exits(2);
    assert!(ran.err.contains("tune cannot change the settings of a program"), "{}", ran.err);
}
