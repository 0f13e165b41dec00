//! Options that every verb has: errors as JSON, quiet, colours; and exit codes, the same on every verb.

use std::fs;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::{root, run_in, tiershift, trace};

fn workshop() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let put = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
    put("good.csv", &trace(&[4.0; 6]));
    put("plain.toml", "duration = \"5m\"\n[machine]\nmemory = \"16GiB\"\n");
    put("unknown-key.toml", "duration = \"1m\"\n[machine]\nmemry = \"16GiB\"\n");
    put("misspelt.csv", "# tiershift resource trace 1\nat_ns,memory_totl_bytes\n0,1\n");
    put("no-log.jsonl", "{}\n");
    fs::create_dir(folder.path().join("models")).unwrap();
    folder
}

#[test]
fn errors_are_one_object_of_json_where_json_is_asked_for() {
    let folder = workshop();
    let cases = [
        (
            "run unknown-key.toml --json",
            "unknown key `memry`",
            json!({ "file": "unknown-key.toml", "line": 3, "column": 1 }),
            "did you mean `memory`?",
        ),
        (
            "--json replay misspelt.csv",
            "unknown column",
            json!({ "file": "misspelt.csv", "line": 2, "column": 7 }),
            "",
        ),
        ("replay nowhere.csv --json", "cannot open nowhere.csv: check the path", Value::Null, ""),
        ("replay good.csv --josn --json", "unexpected argument '--josn'", Value::Null, "--json"),
        ("unheard-of --json", "unrecognized subcommand", Value::Null, ""),
        #[cfg(feature = "serve")]
        ("status --url http://127.0.0.1:1 --json", "127.0.0.1:1", Value::Null, ""),
    ];
    for (line, error, place, remedy) in cases {
        let ran = run_in(folder.path(), line).exits(2);
        assert_eq!(ran.out, "", "{line}");
        let said: Value = serde_json::from_str(&ran.err)
            .unwrap_or_else(|why| panic!("tiershift {line}: {why}\n{}", ran.err));
        assert!(said["error"].as_str().unwrap().contains(error), "{line}: {said}");
        assert_eq!(said["place"], place, "{line}");
        assert!(said["remedy"].as_str().unwrap_or_default().contains(remedy), "{line}: {said}");
        assert_eq!(said["exit_code"], 2, "{line}");
        assert_eq!(said.as_object().unwrap().len(), 4, "{line}: {said}");
    }
}

#[test]
fn notes_are_json_where_json_is_asked_for_and_quiet_leaves_them_out() {
    let folder = workshop();
    let line = "check world-1369";
    let told = run_in(folder.path(), line).exits(0);
    assert!(told.err.starts_with("note: there is no folder `scenarios` here"), "{}", told.err);
    let as_json = run_in(folder.path(), &format!("{line} --json")).exits(0);
    let note: Value = serde_json::from_str(&as_json.err).unwrap();
    assert!(note["note"].as_str().unwrap().starts_with("there is no folder"), "{note}");
    for quiet in ["-q", "--quiet"] {
        let ran = run_in(folder.path(), &format!("{line} {quiet}")).exits(0);
        assert_eq!(ran.err, "");
        assert!(ran.out.contains("1 passed"), "results are printed: {}", ran.out);
    }
    let refused = run_in(folder.path(), "-q replay nowhere.csv").exits(2);
    assert!(refused.err.contains("check the path"), "errors are printed: {}", refused.err);
}

#[test]
fn colours_are_as_they_are_asked_for() {
    let folder = workshop();
    let has_colour = |words: &[&str], variables: &[(&str, &str)]| {
        let command = tiershift().current_dir(folder.path()).args(words);
        let command =
            variables.iter().fold(command, |command, (name, value)| command.env(name, value));
        let output = command.output().unwrap();
        output.stdout.contains(&0x1b) || output.stderr.contains(&0x1b)
    };
    for words in [&["--help"][..], &["replay", "nowhere"], &["check", "world-1369"]] {
        let with = |color: &[&'static str]| [words, color].concat();
        assert!(!has_colour(words, &[]), "{words:?}: it is no terminal");
        assert!(has_colour(&with(&["--color", "always"]), &[]), "{words:?}");
        assert!(has_colour(&with(&["--color=always"]), &[("NO_COLOR", "1")]), "{words:?}");
        let forced = [("CLICOLOR_FORCE", "1")];
        assert!(has_colour(words, &forced), "{words:?}");
        assert!(!has_colour(&with(&["--color", "never"]), &forced), "{words:?}");
    }
}

/// Bad input gives 2 on every verb, and a failed check 1 on every verb that checks.
#[test]
fn exit_codes_are_the_same_on_every_verb() {
    let folder = workshop();
    run_in(folder.path(), "replay good.csv -o good").exits(0);
    let bad_input = [
        "replay nowhere.csv",
        "compare nowhere.csv --policies proactive,original",
        "sweep nowhere.toml -o swept",
        "tune nowhere.csv",
        "hunt --world nothing",
        "minimise nowhere.toml",
        "run nowhere.toml",
        "check nowhere.toml",
        "check unknown-key.toml",
        "check --museum nowhere.toml",
        "import nowhere.csv new.csv",
        "plot nowhere -o new.svg",
        "explain no-log.jsonl",
        "diff nowhere good",
        "verify nowhere",
        "schema nothing",
        "policies nothing",
        "completions nothing",
        "man good.csv/below",
        #[cfg(feature = "live")]
        "record new.csv --interval soon",
        #[cfg(feature = "live")]
        "hardware --nonsense",
        #[cfg(feature = "serve")]
        "serve --models models --llama-server nowhere",
        #[cfg(feature = "serve")]
        "status --url http://127.0.0.1:1",
        #[cfg(feature = "serve")]
        "calibrate models",
    ];
    let mut verbs = std::collections::BTreeSet::new();
    for line in bad_input {
        let ran = run_in(folder.path(), line).exits(2);
        // One bad file is refused even beside good ones.
        let is_refused = ran.err.contains("error: ") || ran.out.contains("FAILED");
        assert!(is_refused, "tiershift {line}: {}{}", ran.out, ran.err);
        verbs.insert(line.split(' ').next().unwrap());
    }
    let help = run_in(root(), "--help").out;
    let listed = help.split("Commands:\n").nth(1).unwrap().split("\n\n").next().unwrap();
    for verb in listed.lines().filter_map(|line| line.strip_prefix("  ")?.split(' ').next()) {
        assert!(
            verb.is_empty() || verb == "help" || verbs.contains(verb),
            "{verb} is not in the table"
        );
    }
    let failed = [
        "run plain-but.toml",
        "check plain-but.toml",
        "diff good other",
        "verify torn.jsonl",
        "check sudden-loss --policy original",
    ];
    let demanding = "duration = \"5m\"\n[machine]\nmemory = \"16GiB\"\n[expect]\nswitches = 99\n";
    fs::write(folder.path().join("plain-but.toml"), demanding).unwrap();
    run_in(folder.path(), "replay good.csv -o other --policy fixed --log full").exits(0);
    let log = fs::read(folder.path().join("other/events.jsonl")).unwrap();
    fs::write(folder.path().join("torn.jsonl"), &log[..log.len() / 2]).unwrap();
    for line in failed {
        run_in(folder.path(), line).exits(1);
    }
}

#[test]
fn a_file_of_another_verb_is_answered_with_that_verb() {
    let folder = workshop();
    let cases = [
        (
            "replay plain.toml",
            "`plain.toml` is a scenario, not a recording",
            "`tiershift run plain.toml`",
        ),
        ("replay unknown-key.toml", "is a scenario", "`tiershift run unknown-key.toml`"),
        ("compare plain.toml --policies fixed", "is a scenario", "`tiershift run plain.toml`"),
        (
            "run good.csv",
            "`good.csv` is a recording, not a scenario",
            "`tiershift replay good.csv`",
        ),
        ("run good", "is a recording", "`tiershift replay good`"),
    ];
    run_in(folder.path(), "replay good.csv -o good").exits(0);
    for (line, what, verb) in cases {
        let ran = run_in(folder.path(), line).exits(2);
        assert!(ran.err.contains(what) && ran.err.contains(verb), "tiershift {line}: {}", ran.err);
    }
    let ran = run_in(folder.path(), "check good.csv").exits(2);
    assert!(ran.out.contains("`tiershift replay good.csv`"), "{}", ran.out);
}

#[test]
fn a_size_without_its_unit_is_asked_for_it() {
    let folder = workshop();
    let ran = run_in(folder.path(), "replay good.csv --memory 64").exits(2);
    assert!(ran.err.contains("did you mean \"64GiB\"?"), "{}", ran.err);
    let text = "duration = \"5m\"\n[machine]\nmemory = \"16384\"\n";
    fs::write(folder.path().join("bare.toml"), text).unwrap();
    let ran = run_in(folder.path(), "run bare.toml").exits(2);
    assert!(ran.err.contains("bare.toml:3:") && ran.err.contains("16384MiB"), "{}", ran.err);
}

#[test]
fn a_size_in_a_decimal_unit_is_noted_once_with_what_it_is() {
    let folder = workshop();
    let note = |line: &str| run_in(folder.path(), line).exits(0).err;
    for (option, wanted) in [
        (
            "--vram 24GB,24GB",
            "note: 24GB is 22.4 GiB, because GB is a decimal unit: did you mean 24GiB?",
        ),
        ("--memory 16g", "note: 16g is 14.9 GiB, because g is a decimal unit: did you mean 16GiB?"),
    ] {
        let said = note(&format!("compare good.csv --policies fixed {option}"));
        assert_eq!(said.matches(wanted).count(), 1, "{option}: {said}");
    }
    for option in ["--vram 24GiB", "--vram 24gib", "--memory 17179869184", "--memory 17179869184B"]
    {
        let said = note(&format!("replay good.csv {option}"));
        assert!(!said.contains("did you mean"), "{option}: {said}");
    }
}

#[test]
fn a_total_of_what_a_recording_does_not_have_changes_nothing() {
    let folder = workshop();
    let row =
        |second: u32| format!("2026/01/01 00:00:{second:02}.000, X, 5 %, 100 MiB, 24576 MiB\n");
    let head = "timestamp, name, utilization.gpu [%], memory.used [MiB], memory.total [MiB]\n";
    let rows: String = (0..60).map(row).collect();
    fs::write(folder.path().join("gpu.csv"), format!("{head}{rows}")).unwrap();
    for (recording, option, what) in
        [("good.csv", "--vram 24GiB", "video memory"), ("gpu.csv", "--memory 32GiB", "memory")]
    {
        for line in [
            format!("replay {recording}"),
            format!("compare {recording} --policies proactive,original --csv"),
        ] {
            let [without, with] = ["", option]
                .map(|option| run_in(folder.path(), &format!("{line} {option}")).exits(0));
            assert_eq!(with.out, without.out, "{line} {option}");
        }
        let ran = run_in(folder.path(), &format!("replay {recording} {option}")).exits(0);
        let note = format!("{recording} does not record {what}: {}", &option[..option.len() - 6]);
        assert!(ran.err.contains(&note), "{note}: {}", ran.err);
    }
    let refused = run_in(folder.path(), "replay good.csv --vram 24GiB --ladder vram").exits(2);
    assert!(refused.err.contains("does not record video memory"), "{}", refused.err);
}

#[test]
fn policies_are_listed_and_explained() {
    let all = run_in(root(), "policies --json").exits(0).json();
    let guide = fs::read_to_string(root().join("docs/policies.md")).unwrap();
    let keys = run_in(root(), "schema policy").exits(0).out;
    let list = run_in(root(), "policies").exits(0).out;
    for policy in all.as_array().unwrap() {
        let (name, summary) =
            (policy["name"].as_str().unwrap(), policy["summary"].as_str().unwrap());
        assert!(!summary.is_empty() && list.contains(summary), "{policy}");
        let is_museum = policy["kind"] == "museum";
        assert!(
            is_museum || guide.contains(&format!("`{name}`")),
            "docs/policies.md has no {name}"
        );
        for key in policy["settings"].as_array().into_iter().flatten() {
            let key = key.as_str().unwrap().trim_start_matches("manager.");
            assert!(
                keys.contains(&format!("\"{key}\":")),
                "{name} goes by {key}, which is no setting"
            );
        }
    }
    let one = run_in(root(), "policies proactive").exits(0).out;
    for wanted in ["no upgrade within 5m of the last change", "every key of a policy file"] {
        assert!(one.contains(wanted), "{wanted}: {one}");
    }
    let fixed = run_in(root(), "policies fixed exec").exits(0).out;
    for wanted in ["uses: manager.start", "command, max-age, time-limit"] {
        assert!(fixed.contains(wanted), "{wanted}: {fixed}");
    }
    let refused = run_in(root(), "policies proactiv").exits(2);
    assert!(refused.err.contains("did you mean `proactive`?"), "{}", refused.err);
}
