//! The command line as a user sees it: help, exit codes, errors with position and remedy, JSON, files that are complete
//! or absent.

use std::fs;
use std::path::Path;

use snapbox::Data;
use tempfile::TempDir;

use crate::support::{Ran, contents, files, root, run_in, short, tiershift, trace};

/// A folder with a good input, every bad input, and the log of a small run.
fn workshop() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let put = |name: &str, bytes: &[u8]| fs::write(folder.path().join(name), bytes).unwrap();
    put("good.csv", trace(&[4.0; 12]).as_bytes());
    put("empty.csv", b"");
    put("binary.csv", &[0, 159, 146, 150, 0, 255, 1, 2].repeat(100));
    put("binary.toml", &[0x80, 159, 146, 150, 0, 255, 1, 2].repeat(100));
    put("other-columns.csv", b"a,b,c\n1,2,3\n");
    put("misspelt.csv", b"# tiershift resource trace 1\nat_ns,memory_totl_bytes\n0,1\n");
    put("only-header.csv", b"# tiershift resource trace 1\nat_ns,memory_total_bytes\n");
    put("newer.csv", b"# tiershift resource trace 2\nat_ns,memory_total_bytes\n0,1\n");
    let head = "# tiershift resource trace 1\nat_ns,memory_total_bytes,memory_others_bytes\n";
    let row = |second: u64, others: &str| format!("{second}000000000,17179869184,{others}\n");
    let rows = |others: &[(u64, &str)]| {
        let rows: String = others.iter().map(|(second, others)| row(*second, others)).collect();
        format!("{head}{rows}").into_bytes()
    };
    put("not-a-number.csv", &rows(&[(0, "4000000000"), (2, "NaN"), (4, "4000000000")]));
    put("infinite.csv", &rows(&[(0, "4000000000"), (2, "inf"), (4, "4000000000")]));
    put("negative.csv", &rows(&[(0, "4000000000"), (2, "-5"), (4, "4000000000")]));
    put("backward.csv", &rows(&[(0, "4000000000"), (4, "4000000000"), (2, "4000000000")]));
    let whole = rows(&[(0, "4000000000"), (2, "4000000000")]);
    put("cut-off.csv", &whole[..whole.len() - 4]);
    put(
        "requests.csv",
        b"# tiershift request trace 1\nat_ns,prompt_tokens,output_tokens\n1000000000,20,10\n",
    );
    put("a-file", b"in the way");
    fs::create_dir(folder.path().join("empty-folder")).unwrap();
    for (name, text) in SCENARIOS {
        put(&format!("{name}.toml"), text.as_bytes());
    }
    run_in(folder.path(), "replay good.csv --out good --log full").exits(0);
    let log = fs::read(folder.path().join("good/events.jsonl")).unwrap();
    put("torn.jsonl", &log[..log.len() / 2]);
    put("changes-only.jsonl", b"");
    run_in(folder.path(), "replay good.csv --out changes --log changes").exits(0);
    folder
}

#[test]
fn help_is_as_it_was_reviewed() {
    for verb in VERBS {
        let ran = run_in(root(), &format!("{verb} --help")).exits(0);
        let name = if verb.is_empty() { "tiershift" } else { verb };
        // The lists of verbs and of files depend on the enabled features.
        if matches!(*verb, "" | "schema") && !cfg!(feature = "serve") {
            continue;
        }
        let path = root().join(format!("tests/it/help/{name}.txt"));
        snapbox::Assert::new()
            .action_env(snapbox::assert::DEFAULT_ACTION_ENV)
            .eq(ran.out, Data::read_from(&path, None).raw());
    }
    let kept = files(&root().join("tests/it/help")).len();
    assert_eq!(kept, ALL_VERBS, "one help text for each verb and one for them all");
}

#[test]
fn every_verb_shows_an_example_that_begins_with_the_verb() {
    for verb in VERBS.iter().filter(|verb| !verb.is_empty() && **verb != "hardware") {
        let ran = run_in(root(), &format!("{verb} --help")).exits(0);
        let example = format!("Examples:\n  tiershift {verb}");
        assert!(ran.out.contains(&example), "{verb}: {}", ran.out);
    }
}

#[test]
fn bad_input_is_refused_with_place_and_remedy_and_leaves_nothing() {
    let folder = workshop();
    let before = contents(folder.path());
    for &(line, wanted) in REFUSALS {
        let ran = run_in(folder.path(), line).exits(2);
        check_refusal(&ran, wanted);
        assert_same_files(&before, folder.path(), line);
    }
}

#[cfg(feature = "live")]
#[test]
fn intervals_that_cannot_be_recorded_are_refused() {
    let folder = workshop();
    let before = contents(folder.path());
    let refusals: [(&str, &[&str]); 8] = [
        ("record new.csv --interval 0s", &["0s", "10ms to 24h"]),
        ("record new.csv --interval 0s --duration 1s", &["0s", "10ms to 24h"]),
        ("record new.csv --interval 1ns --duration 1s", &["1ns", "10ms to 24h"]),
        ("record new.csv --interval 100000h --duration 1s", &["10ms to 24h"]),
        ("record new.csv --interval soon", &["soon", "500ms"]),
        ("record good.csv --duration 1s", &["`good.csv` exists", "--force"]),
        ("record a-file/new.csv --duration 1s", &["a-file/new.csv", "folder that exists"]),
        ("record nowhere/new.csv --duration 1s", &["nowhere/new.csv", "folder that exists"]),
    ];
    for (line, wanted) in refusals {
        check_refusal(&run_in(folder.path(), line).exits(2), wanted);
        assert_same_files(&before, folder.path(), line);
    }
}

/// An error message appears once, on standard error, and nothing appears on standard output.
#[track_caller]
fn check_refusal(ran: &Ran, wanted: &[&str]) {
    let Ran { line, out, err, .. } = ran;
    assert!(out.is_empty(), "tiershift {line}\n{out}");
    assert!(err.starts_with("error: ") && !err.contains("error: error"), "tiershift {line}\n{err}");
    assert!(!err.contains("panicked"), "tiershift {line}\n{err}");
    for wanted in wanted {
        assert!(err.contains(wanted), "tiershift {line}\nwant: {wanted}\ngot:  {err}");
    }
}

#[track_caller]
fn assert_same_files(
    before: &std::collections::BTreeMap<String, Vec<u8>>,
    folder: &Path,
    line: &str,
) {
    let after = contents(folder);
    let names = |files: &std::collections::BTreeMap<String, Vec<u8>>| {
        files.keys().cloned().collect::<Vec<_>>()
    };
    assert_eq!(names(before), names(&after), "tiershift {line} left or took files");
    assert!(*before == after, "tiershift {line} changed a file");
}

#[test]
fn defects_of_a_trace_are_counted_and_with_strict_refused() {
    let folder = workshop();
    let cases = [
        ("not-a-number.csv", "impossible-value", "not-a-number.csv:4:"),
        ("infinite.csv", "impossible-value", "infinite.csv:4:"),
        ("negative.csv", "impossible-value", "negative.csv:4:"),
        ("backward.csv", "backward-time", "backward.csv:5"),
        ("cut-off.csv", "unreadable-row", "cut-off.csv:4:"),
    ];
    for (file, kind, place) in cases {
        let ran = run_in(folder.path(), &format!("replay {file} --json")).exits(0);
        let summary = ran.json();
        assert_eq!(summary["rejected_rows"], 1, "{file}: {summary}");
        let warnings = summary["warnings"].to_string();
        assert!(warnings.contains(kind) && warnings.contains(place), "{file}: {warnings}");
        let ran = run_in(folder.path(), &format!("replay {file} --strict --out strict")).exits(2);
        check_refusal(&ran, &[kind, place, "strict"]);
        assert!(!folder.path().join("strict").exists(), "{file}: something was left");
        let ran = run_in(folder.path(), &format!("import {file} strict.csv --strict")).exits(2);
        check_refusal(&ran, &[kind, place, "strict"]);
        assert!(!folder.path().join("strict.csv").exists(), "{file}: something was left");
    }
}

#[test]
fn a_model_that_is_larger_than_the_machine_is_never_loaded() {
    let folder = workshop();
    let ran = run_in(folder.path(), "run model-too-large.toml --json").exits(0);
    let summary = ran.json();
    assert_eq!(summary["final_tier"], "small", "{summary}");
    assert_eq!(summary["loads"], 1, "{summary}");
    assert_eq!(summary["out_of_memory_events"], 0, "{summary}");
}

#[test]
fn a_run_in_a_folder_of_an_earlier_run_replaces_its_files_and_leaves_no_others() {
    let folder = workshop();
    let good = folder.path().join("good");
    let before = contents(&good);
    run_in(folder.path(), "run plain.toml --out good --log full").exits(0);
    let after = contents(&good);
    assert_eq!(
        before.keys().collect::<Vec<_>>(),
        after.keys().collect::<Vec<_>>(),
        "the same files, and no others"
    );
    assert_ne!(before["events.jsonl"], after["events.jsonl"]);
    let beside: Vec<String> = fs::read_dir(folder.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .filter(|name| name.starts_with('.'))
        .collect();
    assert!(beside.is_empty(), "left beside: {beside:?}");

    run_in(folder.path(), "run plain.toml --out good --log off").exits(0);
    assert!(!contents(&good).contains_key("events.jsonl"), "an older run's log beside the summary");
    run_in(folder.path(), "run plain.toml --out good").exits(0);
    run_in(folder.path(), "run plain.toml --out good --log changes").exits(0);
    let logs: Vec<_> =
        contents(&good).into_keys().filter(|name| name.starts_with("events")).collect();
    assert_eq!(logs, ["events.jsonl"], "an older run's packed log beside the summary");
}

#[cfg(all(unix, feature = "live"))]
#[test]
fn a_run_that_is_stopped_by_a_signal_leaves_nothing_behind() {
    let folder = tempfile::tempdir().unwrap();
    let scenario = "duration = \"20000h\"\n[machine]\nmemory = \"16GiB\"\n";
    fs::write(folder.path().join("long.toml"), scenario).unwrap();
    let left = || {
        let entries = fs::read_dir(folder.path()).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.filter(|name| name != "long.toml").collect::<Vec<_>>()
    };
    let mut child = std::process::Command::new(env!("CARGO_BIN_EXE_tiershift"))
        .args(["run", "long.toml", "--out", "out"])
        .current_dir(folder.path())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    // Temporary files beside the folder must be removed.
    while left().is_empty() {
        assert_eq!(child.try_wait().unwrap(), None, "it ended before it could be stopped");
        std::thread::yield_now();
    }
    tiershift_testkit::process::signal("TERM", child.id());
    assert!(!child.wait().unwrap().success());
    assert_eq!(left(), Vec::<String>::new());
}

#[test]
fn exit_codes_tell_done_failed_and_could_not() {
    let folder = workshop();
    let cases = [
        ("run plain.toml", 0),
        ("run expects-too-much.toml", 1),
        ("run nowhere.toml", 2),
        ("check expects-too-much.toml", 1),
        ("check plain.toml", 1), // no golden story
        ("check nowhere", 2),
        ("verify good/events.jsonl", 0),
        ("verify torn.jsonl", 1),
        ("verify torn.jsonl --unclosed", 0),
        ("verify nowhere", 2),
        ("verify changes/events.jsonl", 1),
        ("verify good.csv", 1),
        ("diff good/events.jsonl good/events.jsonl", 0),
        ("diff good/events.jsonl changes/events.jsonl", 1),
        ("diff good/events.jsonl nowhere", 2),
        ("--version", 0),
        ("--help", 0),
        ("", 2),
        ("unheard-of", 2),
        ("replay", 2),
    ];
    for (line, code) in cases {
        run_in(folder.path(), line).exits(code);
    }
}

#[test]
fn a_scenario_whose_baseline_meets_it_too_is_refused_as_toothless() {
    let folder = tempfile::tempdir().unwrap();
    let scenario = "duration = \"10m\"\n[machine]\nmemory = \"16GiB\"\n[expect]\nreversals = 0\n\
        [baseline]\npolicy = \"original\"\nfails = [\"reversals\"]\n";
    fs::write(folder.path().join("toothless.toml"), scenario).unwrap();
    let ran = run_in(folder.path(), "check toothless.toml --bless").exits(1);
    assert!(
        ran.out.contains("the scenario does not discriminate: the baseline original"),
        "{}",
        ran.out
    );
}

#[test]
fn a_blessed_scenario_passes_until_its_story_changes() {
    let folder = workshop();
    run_in(folder.path(), "check plain.toml").exits(1);
    run_in(folder.path(), "check plain.toml --bless").exits(0);
    run_in(folder.path(), "check plain.toml").exits(0);
    let golden = folder.path().join("golden/plain.txt");
    let story = fs::read_to_string(&golden).unwrap();
    fs::write(&golden, story.replacen("\"switches\": 1", "\"switches\": 2", 1)).unwrap();
    let ran = run_in(folder.path(), "check plain.toml --junit plain.xml").exits(1);
    let wanted = ["FAILED  plain", "differs", "want ", "got ", "--bless", "repeat: tiershift run"];
    for wanted in wanted {
        assert!(ran.out.contains(wanted), "{wanted}: {}", ran.out);
    }
    let junit = fs::read_to_string(folder.path().join("plain.xml")).unwrap();
    assert!(junit.contains("failures=\"1\"") && junit.contains("name=\"plain\""), "{junit}");
}

#[test]
fn json_of_every_verb_is_json() {
    let folder = workshop();
    let cases = [
        ("replay good.csv --json", 0),
        ("replay good.csv negative.csv --json", 0),
        ("run plain.toml --json", 0),
        ("run plain.toml expects-too-much.toml --json", 1),
        ("check plain.toml --json", 1),
        ("import --list --json", 0),
        ("import good.csv native.csv --json", 0),
        ("plot good/events.jsonl --out plot.svg --json", 0),
        ("explain good/events.jsonl --json", 0),
        ("explain good/events.jsonl --at 5m --json", 0),
        ("diff good/events.jsonl changes/events.jsonl --json", 1),
        ("verify good/events.jsonl torn.jsonl --json", 1),
        #[cfg(feature = "live")]
        ("record now.csv --interval 10ms --duration 20ms --json", 0),
        #[cfg(feature = "live")]
        ("hardware --json", 0),
        ("schema", 0),
        ("schema catalog", 0),
        ("schema policy --json", 0),
    ];
    for (line, code) in cases {
        let ran = run_in(folder.path(), line).exits(code);
        assert!(!ran.json().is_null(), "{line}");
        assert!(ran.err.is_empty(), "tiershift {line}: {}", ran.err);
    }
}

#[test]
fn summary_json_has_the_figures_that_others_read() {
    let folder = workshop();
    let ran = run_in(folder.path(), "replay good.csv --requests requests.csv --out full --json");
    let printed = ran.exits(0).json();
    let file = fs::read_to_string(folder.path().join("full/summary.json")).unwrap();
    let written: serde_json::Value = serde_json::from_str(&file).unwrap();
    assert_eq!(printed, written, "what is printed, and the file");
    for key in FIGURES {
        let value = key.split('/').fold(&written, |value, key| &value[key]);
        assert!(!value.is_null(), "summary.json has no {key}: {written}");
    }
}

#[test]
fn colours_are_for_terminals_and_for_those_who_force_them() {
    let folder = workshop();
    for line in [
        "--help",
        "replay --nonsense",
        "run unknown-key.toml",
        "replay good.csv",
        "check plain.toml",
    ] {
        let ran = run_in(folder.path(), line);
        let is_plain = !ran.out.contains('\u{1b}') && !ran.err.contains('\u{1b}');
        assert!(is_plain, "{line}: {:?} {:?}", ran.out, ran.err);
    }
    let forced = tiershift().env("CLICOLOR_FORCE", "1").arg("--help").output().unwrap();
    assert!(forced.stdout.contains(&0x1b), "there are colours to be taken out");
}

#[test]
fn completions_of_every_shell_know_every_verb() {
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let ran = run_in(root(), &format!("completions {shell}")).exits(0);
        for verb in VERBS {
            assert!(ran.out.contains(verb), "{shell}: {verb}");
        }
    }
    check_refusal(&run_in(root(), "completions cmd").exits(2), &["bash, elvish, fish"]);
}

#[test]
fn schemas_name_every_key_that_the_scenarios_use() {
    let ran = run_in(root(), "schema scenario").exits(0);
    let schema = ran.json();
    assert!(schema["$schema"].is_string(), "{}", ran.out);
    let known = names_in(&schema);
    for path in files(&root().join("scenarios")) {
        if path.extension().is_none_or(|e| e != "toml") {
            continue;
        }
        let text = fs::read_to_string(&path).unwrap();
        let keys =
            text.lines().filter_map(|line| line.split_once(" = ")).map(|(key, _)| key.trim());
        for key in keys.filter(|key| key.chars().all(|c| c.is_ascii_lowercase() || c == '-')) {
            assert!(known.contains(key), "{}: the schema does not name `{key}`", short(&path));
        }
    }
}

/// Returns the names of all properties of a schema, at any depth.
fn names_in(schema: &serde_json::Value) -> std::collections::BTreeSet<String> {
    let mut names = std::collections::BTreeSet::new();
    let mut open = vec![schema];
    while let Some(value) = open.pop() {
        match value {
            serde_json::Value::Object(map) => {
                if let Some(serde_json::Value::Object(properties)) = map.get("properties") {
                    names.extend(properties.keys().cloned());
                }
                open.extend(map.values());
            }
            serde_json::Value::Array(list) => open.extend(list),
            _ => {}
        }
    }
    names
}

#[test]
fn explain_shows_every_gate_with_value_limit_and_distance() {
    let folder = workshop();
    let ran = run_in(folder.path(), "explain good --at 2m").exits(0);
    for word in ["tier", "any higher", "gate", "value", "limit", "distance", "open"] {
        assert!(ran.out.contains(word), "{word}: {}", ran.out);
    }
}

#[test]
fn without_log_inputs_are_logged_packed_and_every_reader_takes_it_or_its_folder() {
    let folder = workshop();
    let written = |name: &str| fs::read(folder.path().join(name)).unwrap();
    run_in(folder.path(), "replay good.csv --out packed").exits(0);
    assert!(!folder.path().join("packed/events.jsonl").exists(), "it is packed only");
    let unpacked = zstd::decode_all(&written("packed/events.jsonl.zst")[..]).unwrap();
    run_in(folder.path(), "replay good.csv --out inputs --log inputs").exits(0);
    assert!(unpacked == written("inputs/events.jsonl"), "the packed log is the one of inputs");
    let digest = |out: &str| {
        let summary: serde_json::Value =
            serde_json::from_slice(&written(&format!("{out}/summary.json"))).unwrap();
        summary["log_digest"].clone()
    };
    assert_eq!(digest("packed"), digest("inputs"));
    for log in ["packed", "packed/events.jsonl.zst"] {
        run_in(folder.path(), &format!("verify {log}")).exits(0);
        run_in(folder.path(), &format!("diff {log} good")).exits(0);
        run_in(folder.path(), &format!("plot {log} --out of.svg")).exits(0);
        assert!(written("of.svg").starts_with(b"<svg"));
        for line in ["explain", "replay --json"] {
            let of = |log: &str| run_in(folder.path(), &format!("{line} {log}")).exits(0).out;
            // A replay names its input.
            let of = |log: &str| of(log).replace(log, "LOG");
            assert_eq!(of(log).lines().count(), of("good").lines().count(), "{line} {log}");
        }
    }
    run_in(folder.path(), "replay good.csv --out none --log off").exits(0);
    let ran = run_in(folder.path(), "verify none").exits(2);
    assert!(ran.err.contains("none is a folder without a log"), "{}", ran.err);
}

#[test]
fn traces_of_one_name_get_folders_of_their_own_and_json_names_each() {
    let folder = tempfile::tempdir().unwrap();
    for (month, others) in [("2013-7", 4.0), ("2013-8", 13.0)] {
        fs::create_dir(folder.path().join(month)).unwrap();
        fs::write(folder.path().join(month).join("420.csv"), trace(&[others; 6])).unwrap();
    }
    let line = "replay 2013-7/420.csv 2013-8/420.csv --out out --json";
    let rows = run_in(folder.path(), line).exits(0).json();
    for (place, month) in ["2013-7", "2013-8"].into_iter().enumerate() {
        assert_eq!(rows[place]["recording"], format!("{month}/420.csv"));
        let summary =
            fs::read(folder.path().join(format!("out/{month}/420/summary.json"))).unwrap();
        let summary: serde_json::Value = serde_json::from_slice(&summary).unwrap();
        let without_digest = |summary: &serde_json::Value| {
            let mut summary = summary.clone();
            summary["log_digest"] = serde_json::Value::Null;
            summary
        };
        assert_eq!(without_digest(&rows[place]["summary"]), without_digest(&summary));
    }
    let of_folder = run_in(folder.path(), "replay 2013-7 2013-8 --json").exits(0).json();
    assert_eq!(
        of_folder[0].as_object().unwrap().keys().collect::<Vec<_>>(),
        rows[0].as_object().unwrap().keys().collect::<Vec<_>>()
    );
    run_in(folder.path(), &format!("{line} -j 1")).exits(0);
    run_in(folder.path(), &format!("{line} --jobs 2")).exits(0);
}

#[test]
fn diff_names_the_first_record_that_differs_and_why() {
    let folder = workshop();
    run_in(folder.path(), "replay good.csv --out other --policy original").exits(0);
    let ran = run_in(folder.path(), "diff good/events.jsonl other").exits(1);
    for wanted in ["header", "original", "the same for ", "left", "right"] {
        assert!(ran.out.contains(wanted), "{wanted}: {}", ran.out);
    }
}

#[test]
fn plots_are_pictures_of_the_kind_that_the_name_says() {
    let folder = workshop();
    run_in(folder.path(), "plot good/events.jsonl --out new.svg").exits(0);
    let svg = fs::read_to_string(folder.path().join("new.svg")).unwrap();
    assert!(svg.starts_with("<svg") && svg.trim_end().ends_with("</svg>"));
    if cfg!(feature = "png") {
        run_in(folder.path(), "plot good/events.jsonl --out new.png").exits(0);
        assert!(fs::read(folder.path().join("new.png")).unwrap().starts_with(b"\x89PNG"));
    }
}

#[test]
fn an_imported_trace_replays_to_the_same_decisions() {
    let folder = workshop();
    run_in(folder.path(), "import good.csv again.csv").exits(0);
    run_in(folder.path(), "replay again.csv --out again").exits(0);
    let read = |name: &str| fs::read(folder.path().join(name).join("decisions.csv")).unwrap();
    assert_eq!(read("good"), read("again"));
}

/// Every verb; the empty one is the command itself.
const VERBS: &[&str] = &[
    "",
    "replay",
    "compare",
    "sweep",
    "tune",
    "hunt",
    "minimise",
    "run",
    "check",
    "import",
    "plot",
    "explain",
    "diff",
    "verify",
    "policies",
    "schema",
    "completions",
    "man",
    #[cfg(feature = "live")]
    "record",
    #[cfg(feature = "live")]
    "hardware",
    #[cfg(feature = "serve")]
    "serve",
    #[cfg(feature = "serve")]
    "status",
    #[cfg(feature = "serve")]
    "calibrate",
];

/// The same with all features.
const ALL_VERBS: usize = 23;

/// Keys that `summary.json` must have.
const FIGURES: [&str; 26] = [
    "fingerprint",
    "samples",
    "rejected_rows",
    "switches",
    "upgrades",
    "downgrades",
    "reversals",
    "wasted_loads",
    "reload_seconds",
    "seconds_above_degrade_line",
    "seconds_over_memory",
    "seconds_over_memory_unavoidable",
    "out_of_memory_events",
    "quality_served_fraction",
    "requests/accepted",
    "requests/done",
    "requests/failed",
    "requests/rejected",
    "requests/cancelled",
    "latency_ms/p50",
    "latency_ms/p95",
    "latency_ms/p99",
    "warnings",
    "violations",
    "log_digest",
    "final_tier",
];

/// Inputs that cannot be run, and the position and remedy that the error must contain.
const REFUSALS: &[(&str, &[&str])] = &[
    // Traces.
    ("replay nowhere.csv --out new", &["nowhere.csv", "check the path"]),
    ("replay empty-folder --out new", &["empty-folder` is empty", "a folder of them"]),
    ("replay empty.csv --out new", &["empty.csv is empty", "record or fetch it again"]),
    ("replay binary.csv --out new", &["binary.csv is binary data", "give a trace as text"]),
    ("replay other-columns.csv --out new", &["in no known format", "mapping file"]),
    ("replay misspelt.csv --out new", &["misspelt.csv:2:7", "did you mean `memory_total_bytes`?"]),
    ("replay only-header.csv --out new", &["only-header.csv has no row", "no rows"]),
    ("replay newer.csv --out new", &["newer.csv:1", "version 2", "install a newer one"]),
    ("replay good.csv --out new --requests good.csv", &["good.csv", "a request trace is wanted"]),
    ("replay requests.csv --out new", &["requests.csv", "a resource trace is wanted"]),
    ("replay good.csv --counted", &["good.csv", "--counted needs an event log"]),
    ("replay good.csv good.csv --out new", &["two traces", "replay them separately"]),
    ("import empty.csv new.csv", &["empty.csv is empty"]),
    ("import good.csv good.csv", &["is both input and output", "another name"]),
    ("import good.csv a-file/new.csv", &["cannot write a-file/new.csv"]),
    // Names and values on the command line.
    (
        "replay good.csv --policy proactiv",
        &["unknown policy `proactiv`: did you mean `proactive`?"],
    ),
    (
        "replay good.csv --policy fast",
        &["unknown policy `fast`: known: all-or-nothing, exec, first-reading", "policy file"],
    ),
    ("replay good.csv --set prise=10s", &["unknown key `prise`", "did you mean `price`?"]),
    ("replay good.csv --set price", &["--set price", "KEY=VALUE"]),
    ("replay good.csv --policy nowhere.toml", &["cannot read `nowhere.toml`"]),
    ("replay good.csv --policy plain.toml", &["unknown key", "plain.toml:"]),
    ("replay good.csv --format pmrap", &["unknown format `pmrap`", "pmrep"]),
    ("replay good.csv --catalog nowhere.toml", &["cannot read `nowhere.toml`"]),
    ("replay good.csv --jobs 0", &["--jobs", "1..=256"]),
    ("replay good.csv --memory much", &["--memory", "16GiB"]),
    ("check empty-folder", &["`empty-folder` contains no scenario"]),
    ("check nowhere", &["`nowhere` is no file", "give scenario files"]),
    ("check nowhere.toml", &["`nowhere.toml`", "give scenario files"]),
    // Scenarios.
    ("run nowhere.toml --out new", &["cannot read `nowhere.toml`", "check the path"]),
    ("run binary.toml --out new", &["binary.toml", "is this a scenario file?"]),
    ("run empty.toml --out new", &["empty.toml:1:1", "`duration` is missing", "add `duration"]),
    ("run cut-off.toml --out new", &["cut-off.toml:1:12"]),
    ("run unknown-key.toml --out new", &["unknown-key.toml:3:1", "did you mean `memory`?"]),
    ("run unknown-fault.toml --out new", &["unknown-fault.toml:6:", "did you mean `probe-gap`?"]),
    ("run circle.toml --out new", &["circle.toml:", "lead back", "break the circle"]),
    ("run own-fallback.toml --out new", &["own-fallback.toml:", "lead back", "break the circle"]),
    ("run no-speed.toml --out new", &["no-speed.toml:", "finite numbers above zero"]),
    ("run no-duration.toml --out new", &["no-duration.toml:1:1", "more than nothing"]),
    ("run ages.toml --out new", &["ages.toml:1:1", "at most ten years"]),
    ("run backwards.toml --out new", &["backwards.toml:1:", "\"-5m\" is not a span"]),
    ("run no-interval.toml --out new", &["no-interval.toml:5:1", "must be more than zero"]),
    ("run endless-interval.toml --out new", &["endless-interval.toml:5:1", "longer than a year"]),
    ("run tiny-interval.toml --out new", &["tiny-interval.toml:", "more than a run can have"]),
    ("run no-memory.toml --out new", &["no-memory.toml:3:1", "more than nothing"]),
    ("run unknown-tier.toml --out new", &["unknown-tier.toml:", "did you mean `small`?"]),
    // Output that cannot be written.
    ("replay good.csv --out a-file", &["`a-file` is a file", "give --out a folder"]),
    (
        "replay good.csv --out a-file/below/it",
        &["cannot write `a-file/below/it`", "give --out a folder"],
    ),
    ("run plain.toml --out a-file", &["`a-file` is a file", "give --out a folder"]),
    ("plot good/events.jsonl --out a-file/x.svg", &["cannot write `a-file/x.svg`"]),
    ("plot good/events.jsonl --out x.bmp", &["`x.bmp` must end in .svg or .png"]),
    // Logs.
    ("plot good.csv --out x.svg", &["good.csv:1", "not an event log", "Give an events.jsonl"]),
    ("plot nowhere --out x.svg", &["cannot open nowhere", "check the path"]),
    ("verify nowhere", &["cannot open nowhere", "check the path"]),
    ("verify empty-folder", &["empty-folder", "folder"]),
    ("explain good.csv", &["good.csv:1", "not an event log"]),
    ("explain good/events.jsonl --at soon", &["--at", "a span such as 1h30m, a time of day"]),
    ("diff good/events.jsonl binary.csv", &["binary.csv:1", "not an event log"]),
];

/// Scenarios by name.
const SCENARIOS: &[(&str, &str)] = &[
    ("empty", ""),
    ("cut-off", "duration = "),
    ("plain", "duration = \"20m\"\n[machine]\nmemory = \"16GiB\"\n"),
    (
        "expects-too-much",
        "duration = \"1m\"\n[machine]\nmemory = \"16GiB\"\n[expect]\nswitches = { min = 99 }\n",
    ),
    ("unknown-key", "duration = \"1m\"\n[machine]\nmemry = \"16GiB\"\n"),
    (
        "unknown-fault",
        "duration = \"1m\"\n[machine]\nmemory = \"16GiB\"\n\n[[fault]]\nkind = \"probe-gip\"\n",
    ),
    (
        "unknown-tier",
        "duration = \"1m\"\n[machine]\nmemory = \"16GiB\"\n[policy.manager]\nstart = \"smal\"\n",
    ),
    ("no-duration", "duration = \"0s\"\n[machine]\nmemory = \"16GiB\"\n"),
    ("ages", "duration = \"900000h\"\n[machine]\nmemory = \"16GiB\"\n"),
    ("backwards", "duration = \"-5m\"\n[machine]\nmemory = \"16GiB\"\n"),
    ("no-memory", "duration = \"1m\"\n[machine]\nmemory = \"0GiB\"\n"),
    (
        "no-interval",
        "duration = \"1m\"\n[machine]\nmemory = \"16GiB\"\n[policy]\nsampling-interval = \"0s\"\n",
    ),
    (
        "endless-interval",
        "duration = \"1m\"\n[machine]\nmemory = \"16GiB\"\n[policy]\nsampling-interval = \"99999h\"\n",
    ),
    (
        "tiny-interval",
        "duration = \"10m\"\n[machine]\nmemory = \"16GiB\"\n[policy]\nsampling-interval = \"1ns\"\n",
    ),
    (
        "model-too-large",
        concat!(
            "duration = \"20m\"\n[machine]\nmemory = \"16GiB\"\n",
            "[[model]]\nid = \"s\"\ntier = \"small\"\nquality = \"50%\"\nram = \"1GiB\"\n",
            "prefill-tokens-per-second = 100.0\ndecode-tokens-per-second = 10.0\nload-warm = \"1s\"\nload-cold = \"2s\"\n",
            "[[model]]\nid = \"l\"\ntier = \"large\"\nquality = \"100%\"\nram = \"64GiB\"\n",
            "prefill-tokens-per-second = 100.0\ndecode-tokens-per-second = 10.0\nload-warm = \"1s\"\nload-cold = \"2s\"\n",
        ),
    ),
    (
        "circle",
        concat!(
            "duration = \"1m\"\n[machine]\nmemory = \"16GiB\"\n",
            "[[model]]\nid = \"s\"\ntier = \"small\"\nquality = \"50%\"\nram = \"1GiB\"\nfallbacks = [\"l\"]\n",
            "prefill-tokens-per-second = 100.0\ndecode-tokens-per-second = 10.0\nload-warm = \"1s\"\nload-cold = \"2s\"\n",
            "[[model]]\nid = \"l\"\ntier = \"large\"\nquality = \"100%\"\nram = \"2GiB\"\nfallbacks = [\"s\"]\n",
            "prefill-tokens-per-second = 100.0\ndecode-tokens-per-second = 10.0\nload-warm = \"1s\"\nload-cold = \"2s\"\n",
        ),
    ),
    (
        "own-fallback",
        concat!(
            "duration = \"1m\"\n[machine]\nmemory = \"16GiB\"\n",
            "[[model]]\nid = \"s\"\ntier = \"small\"\nquality = \"50%\"\nram = \"1GiB\"\nfallbacks = [\"s\"]\n",
            "prefill-tokens-per-second = 100.0\ndecode-tokens-per-second = 10.0\nload-warm = \"1s\"\nload-cold = \"2s\"\n",
        ),
    ),
    (
        "no-speed",
        concat!(
            "duration = \"1m\"\n[machine]\nmemory = \"16GiB\"\n",
            "[[model]]\nid = \"s\"\ntier = \"small\"\nquality = \"50%\"\nram = \"1GiB\"\n",
            "prefill-tokens-per-second = nan\ndecode-tokens-per-second = 10.0\nload-warm = \"1s\"\nload-cold = \"2s\"\n",
        ),
    ),
];
