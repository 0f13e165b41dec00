//! `tiershift hunt` and `tiershift minimise` through the command line: the same worlds whatever the number of jobs, and findings
//! are minimised.

use std::fs;

use tiershift::study::minimise::shown;
use tiershift_testkit::canary;

use crate::support::{root, run_in};

#[test]
fn a_hunt_is_the_same_whatever_the_number_of_jobs() {
    let folder = tempfile::tempdir().unwrap();
    let line = "hunt --worlds 300 --seed 300";
    let one = run_in(folder.path(), &format!("{line} --jobs 1")).exits(0);
    let two = run_in(folder.path(), &format!("{line} --jobs 2")).exits(0);
    assert_eq!(one.out, two.out);
    // The second round has worlds that are combined from parts of others.
    let which = "300 worlds (300 to 577, and 22 made of parts), 0.";
    assert!(one.out.starts_with(which), "{}", one.out);
    assert!(one.err.contains("worlds a second"), "{}", one.err);
    let json = run_in(folder.path(), "hunt --worlds 40 --seed 300 --json").exits(0).json();
    assert_eq!((json["worlds"].as_u64(), json["first_world"].as_u64()), (Some(40), Some(300)));
    assert!(json["virtual_seconds"].as_f64().unwrap() > 3600.0);
    assert!(json["situations"].as_u64().unwrap() > 100);
    assert!(!folder.path().join("out").exists());
}

#[test]
fn a_world_made_of_parts_is_played_by_its_name() {
    let folder = tempfile::tempdir().unwrap();
    let whole = run_in(folder.path(), "hunt --world 300 --print").exits(0).out;
    let made = run_in(folder.path(), "hunt --world 300+faults=12 --print").exits(0).out;
    let of_twelve = run_in(folder.path(), "hunt --world 12 --print").exits(0).out;
    let lines = |text: &str| text.lines().map(str::to_owned).collect::<Vec<_>>();
    let faults = |text: &str| {
        let faults = lines(text).into_iter().skip_while(|line| !line.starts_with("fault ="));
        faults.take_while(|line| line != "]").collect::<Vec<_>>()
    };
    assert_ne!(faults(&whole), faults(&made));
    assert_eq!(faults(&of_twelve).len(), faults(&made).len());
    assert!(lines(&whole).iter().filter(|line| !lines(&made).contains(line)).count() < 12);
    let played = run_in(folder.path(), "hunt --world 300+faults=12").exits(0).out;
    assert!(played.starts_with("1 world (300+faults=12), 0."), "{played}");
    let refused = run_in(folder.path(), "hunt --world 300+weather=1").exits(2).err;
    assert!(refused.contains("unknown part `weather`"), "{refused}");
}

/// Canaries are not policies of the command, and a sound controller breaks nothing. The written findings are therefore tested
/// through the library, with the flaws registered.
#[test]
fn what_a_canary_breaks_is_made_small_and_shows_the_same() {
    let policies = canary::registry();
    let mut lines = Vec::new();
    for canary in canary::ALL.iter().take(6) {
        let document: toml::Table = canary.scenario().parse().unwrap();
        let keep = format!("invariant {}", canary.rule).parse().unwrap();
        let small = tiershift::study::minimise::minimise(&document, &keep, 3000, root(), &policies);
        let small =
            small.unwrap_or_else(|| panic!("{} does not break {}", canary.name, canary.rule));
        let again = shown(&small.text, root(), &policies);
        assert!(again.contains(&small.shown), "{}: {}\n{again:#?}", canary.name, small.text);
        let count = small.text.lines().count();
        assert!(count <= 15, "{}: {count} lines\n{}", canary.name, small.text);
        lines.push(count);
    }
    assert_eq!(lines.len(), 6);
}

#[test]
fn a_scenario_is_made_small_under_another_policy_and_repeats_by_itself() {
    let folder = tempfile::tempdir().unwrap();
    let scenario = root().join("scenarios/no-projection.toml");
    let line = format!("minimise {} --policy original", scenario.display());
    let run = |rest: &str| {
        let words: Vec<String> = line.split(' ').map(str::to_owned).collect();
        let ran = crate::support::tiershift()
            .current_dir(folder.path())
            .args(words)
            .args(["--keep", "expect switches"])
            .args(rest.split_whitespace())
            .output()
            .unwrap();
        (ran.status.code(), String::from_utf8(ran.stdout).unwrap())
    };
    let (code, printed) = run("");
    assert_eq!(code, Some(0));
    let (code, told) = run("--out small.toml");
    assert_eq!(code, Some(0));
    assert!(told.starts_with("switches: got ") && told.contains("written to small.toml"), "{told}");
    let written = fs::read_to_string(folder.path().join("small.toml")).unwrap();
    let repeat = "# Repeat: tiershift run small.toml\n";
    assert_eq!(written.replace(repeat, ""), printed);
    let ran = run_in(folder.path(), "run small.toml").exits(1);
    assert!(ran.out.contains("not as expected: switches: got "), "{}", ran.out);
    // Files of other origin are not overwritten; files of the same command are.
    assert_eq!(run("--out small.toml").0, Some(0));
    fs::write(folder.path().join("mine.toml"), "mine").unwrap();
    assert_eq!(run("--out mine.toml").0, Some(2));
    let stable = root().join("scenarios/stable.toml");
    let ran = run_in(folder.path(), &format!("minimise {}", stable.display())).exits(1);
    assert!(ran.out.contains("runs as expected"), "{}", ran.out);
}
