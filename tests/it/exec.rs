//! A policy in another program, and the suite under another policy.

use tiershift_testkit::skip::is_installed;

use crate::support::{root, run_in};

/// Returns the option for a Python program as the policy; `answer` is its answer to `reading`.
fn program(answer: &str) -> String {
    let read = "import json, sys, time\nsetup = json.loads(sys.stdin.readline())['setup']\n";
    let each = "for line in sys.stdin:\n    reading = json.loads(line)['reading']\n    ";
    let code = format!("{read}{each}{answer}\n    sys.stdout.flush()\n");
    let command = format!("exec:python3 -c {}", shlex::try_quote(&code).unwrap());
    format!("--policy {}", shlex::try_quote(&command).unwrap())
}

#[test]
fn a_program_is_a_policy_whose_run_verifies_without_it() {
    if !is_installed("python3", "a_program_is_a_policy_whose_run_verifies_without_it") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let trace = root().join("traces/models-come-and-go.csv");
    let trace = trace.display();
    let largest = program("print(json.dumps({'tier': setup['tiers'][-1]['tier']}))");
    let replay = format!("replay {trace} {largest} --log full --out out --json");
    let summary = run_in(folder.path(), &replay).exits(0).json();
    assert_eq!(summary["policy"], "exec");
    assert!(summary["upgrades"].as_u64().unwrap() >= 2, "{summary}");
    let verified = run_in(folder.path(), "verify out/events.jsonl").exits(0).out;
    assert!(verified.contains("came out again"), "{verified}");
    let again = run_in(folder.path(), &replay).exits(0).json();
    assert_eq!(summary["log_digest"], again["log_digest"]);
    // A log that someone sends must not start programs on the reader's machine.
    let refused = run_in(folder.path(), "replay out/events.jsonl").exits(2).err;
    assert!(refused.contains("name it, as in --policy exec:"), "{refused}");
    let replayed = run_in(folder.path(), &format!("replay out/events.jsonl {largest} --json"));
    assert_eq!(replayed.exits(0).json()["upgrades"], summary["upgrades"]);
}

#[test]
fn a_program_stays_where_it_says_nothing_and_space_is_relieved_without_it() {
    if !is_installed(
        "python3",
        "a_program_stays_where_it_says_nothing_and_space_is_relieved_without_it",
    ) {
        return;
    }
    let scenarios = root().join("scenarios");
    let silent = program("print('{}')");
    let plain = format!("run {}/memory-pressure.toml {silent} --json", scenarios.display());
    let summary = run_in(root(), &plain).exits(1).json();
    assert_eq!((&summary["upgrades"], &summary["downgrades"]), (&1.into(), &0.into()));
    let hog = format!("run {}/outside-grab.toml {silent} --json", scenarios.display());
    let summary = run_in(root(), &hog).json();
    assert!(summary["violations"].as_array().unwrap().is_empty(), "{summary}");
}

#[test]
fn a_program_that_fails_is_named_with_the_line_and_the_remedy() {
    if !is_installed("python3", "a_program_that_fails_is_named_with_the_line_and_the_remedy") {
        return;
    }
    let stable = root().join("scenarios/stable.toml");
    let run =
        |policy: &str| run_in(root(), &format!("run {} {policy}", stable.display())).exits(2).err;
    let third =
        |what: &str| program(&format!("print('{{}}') if reading['at_ns'] < 4e9 else {what}"));
    let ended = run(&third("sys.exit(3)"));
    assert!(ended.contains("ended (exit status: 3) before it answered reading 3"), "{ended}");
    let wrong = run(&third("print('large')"));
    assert!(wrong.contains("line 3 of the policy"), "{wrong}");
    assert!(wrong.contains(r#"it must be like {"tier": "small"}"#), "{wrong}");
    let unknown = run(&third("print('{\"tier\": \"huge\"}')"));
    assert!(
        unknown.contains("unknown tier `huge`: known: large, medium, none, small"),
        "{unknown}"
    );
    let two = run(&program("print('{}\\n{}')"));
    assert!(two.contains("one line more than there were readings"), "{two}");
    let late = run(&format!("{} --set options.time-limit=5s", third("time.sleep(60)")));
    assert!(late.contains("did not answer reading 3 within 5s"), "{late}");
    let missing = run("--policy exec:no-such-program");
    assert!(missing.contains("cannot start the policy `no-such-program`"), "{missing}");
    assert!(run("--policy exec").contains("name it, as in --policy exec:"));
    assert!(run("--policy exec:").contains("is not a valid command line"));
}

#[test]
fn worlds_are_hunted_under_a_program_whose_end_ends_the_hunt() {
    if !is_installed("python3", "worlds_are_hunted_under_a_program_whose_end_ends_the_hunt") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let largest = program("print(json.dumps({'tier': setup['tiers'][-1]['tier']}))");
    let hunt = |rest: &str| run_in(folder.path(), &format!("hunt --seed 300 {rest}"));
    let one = hunt(&format!("--worlds 8 --jobs 1 {largest}")).exits(0);
    let two = hunt(&format!("--worlds 8 --jobs 2 {largest}")).exits(0);
    assert_eq!(one.out, two.out);
    assert!(one.out.starts_with("8 worlds (300 to 307), 0."), "{}", one.out);
    let dies = program("sys.exit(3)");
    let ended = hunt(&format!("--worlds 8 {dies}")).exits(2).err;
    assert!(ended.contains("world 300: the policy `python3"), "{ended}");
    assert!(ended.contains("ended (exit status: 3) before it answered reading 1"), "{ended}");
    assert!(hunt("--policy exec").exits(2).err.contains("name it, as in --policy exec:"));
    let file = hunt("--policy memory-only").exits(2).err;
    assert!(file.contains("each random scenario has its own settings"), "{file}");
}

#[test]
fn a_suite_is_checked_under_another_policy_by_its_expectations_alone() {
    let scenarios = root().join("scenarios");
    let check = |name: &str, policy: &str| {
        run_in(root(), &format!("check {}/{name}.toml {policy}", scenarios.display()))
    };
    let passed = check("stable", "--policy projecting").exits(0).out;
    assert!(passed.contains("1 passed, 0 failed"), "{passed}");
    let failed = check("no-projection", "--policy original").exits(1).out;
    assert!(failed.contains("reversals: got "), "{failed}");
    assert!(failed.contains("no-projection.toml --policy original --out"), "{failed}");
    assert!(!failed.contains("golden"), "{failed}");
}

#[cfg(feature = "serve")]
#[test]
fn a_program_may_follow_a_daemon_and_does_not_decide_for_it() {
    let serve = |option: &str| run_in(root(), &format!("serve --models . {option}"));
    let refused = serve("--policy exec:true").exits(2).err;
    assert!(
        refused.contains("run it beside another policy with --shadow exec:COMMAND"),
        "{refused}"
    );
}
