//! The same inputs give the same bytes, and a log with one changed byte is rejected.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use snapbox::Data;
use tiershift::log::{LogLevel, LogReader, LogWriter};
use tiershift::scenario;
use tiershift::sim::rng::Seed;
use tiershift::sim::simulate;
use tiershift::study::retold::Retold;
use tiershift::study::suite::scenario_files;
use tiershift::study::verify::verify;
use tiershift_core::controller::Detail;
use tiershift_core::event::Observe;
use tiershift_core::policy::Registry;

use crate::support::{contents, files, root, run_in, short, trace};

/// Runs a line in a folder and returns the files of its `--out` folder.
#[track_caller]
fn written_by(folder: &Path, line: &str, out: &str) -> BTreeMap<String, Vec<u8>> {
    let ran = run_in(folder, &format!("{line} --out {out}"));
    assert_ne!(ran.code, 2, "tiershift {line}: {}", ran.err);
    contents(&folder.join(out))
}

#[track_caller]
fn assert_same(left: &BTreeMap<String, Vec<u8>>, right: &BTreeMap<String, Vec<u8>>, what: &str) {
    assert_eq!(
        left.keys().collect::<Vec<_>>(),
        right.keys().collect::<Vec<_>>(),
        "{what}: other files"
    );
    for (name, bytes) in left {
        let other = &right[name];
        let place = bytes.iter().zip(other).position(|(a, b)| a != b);
        assert!(bytes == other, "{what}: {name} differs, first at byte {place:?}");
    }
}

/// Names of the files that every run writes.
fn five_files() -> Vec<&'static str> {
    let mut names = vec!["decisions.csv", "decisions.svg", "events.jsonl.zst", "summary.json"];
    if cfg!(feature = "png") {
        names.insert(1, "decisions.png");
    }
    names
}

#[test]
fn replays_are_the_same_bytes_with_any_number_of_jobs() {
    let folder = tempfile::tempdir().unwrap();
    // The tests of the reports replay the longer recordings.
    let mut traces = ["idle", "release-build"]
        .map(|name| root().join(format!("traces/{name}.csv")).display().to_string())
        .to_vec();
    let mut stream = Seed(7).stream("invented trace");
    let others: Vec<f64> = (0..90).map(|_| 2.0 + 11.0 * stream.unit()).collect();
    let invented = folder.path().join("invented.csv");
    fs::write(&invented, trace(&others)).unwrap();
    traces.push(invented.display().to_string());
    let line = format!("replay {}", traces.join(" "));
    let one = written_by(folder.path(), &format!("{line} --jobs 1"), "one");
    let two = written_by(folder.path(), &format!("{line} --jobs 2"), "two");
    assert_eq!(one.len(), traces.len() * five_files().len(), "{:?}", one.keys());
    assert_same(&one, &two, "jobs 1 and 2");
}

#[test]
fn runs_of_a_scenario_are_the_same_bytes() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["mixed-workload", "two-gpus", "backend-crash", "probe-gap"] {
        let line = format!("run {}/{name}.toml", root().join("scenarios").display());
        let one = written_by(folder.path(), &line, &format!("{name}-one"));
        let two = written_by(folder.path(), &line, &format!("{name}-two"));
        assert_eq!(one.keys().collect::<Vec<_>>(), five_files(), "{name}");
        assert_same(&one, &two, name);
        let other = written_by(folder.path(), &format!("{line} --seed 99"), "other-seed");
        assert!(
            one["events.jsonl.zst"] != other["events.jsonl.zst"],
            "{name}: the seed changes nothing"
        );
    }
}

#[test]
fn checks_say_the_same_with_any_number_of_jobs() {
    let names = ["stable", "sudden-loss", "priorities", "suspend"];
    let paths = names.map(|name| format!("scenarios/{name}.toml")).join(" ");
    let one = run_in(root(), &format!("check {paths} --jobs 1"));
    let two = run_in(root(), &format!("check {paths} --jobs 2"));
    // Everything but the durations of the runs, which are at the ends of lines.
    let without_times = |out: &str| -> Vec<String> {
        let time = |c: char| c.is_ascii_digit() || matches!(c, ' ' | '.');
        out.lines()
            .map(|line| line.strip_suffix(" s").unwrap_or(line).trim_end_matches(time).to_owned())
            .collect()
    };
    assert_eq!((one.code, without_times(&one.out)), (two.code, without_times(&two.out)));
    assert!(without_times(&one.out).contains(&"ok      priorities".to_owned()), "{}", one.out);
}

/// The bytes must not depend on the build profile or the platform: CI runs this with a debug build and with a release build.
#[test]
fn the_files_of_a_run_are_the_bytes_that_were_reviewed() {
    let folder = tempfile::tempdir().unwrap();
    let scenario = root().join("tests/it/golden/everything.toml");
    let written =
        written_by(folder.path(), &format!("run {} --log full", scenario.display()), "out");
    assert_eq!(written.len(), five_files().len());
    let mut digests = String::new();
    for (name, bytes) in written.iter().filter(|(name, _)| *name != "decisions.png") {
        writeln!(digests, "{} {name}", blake3::hash(bytes)).unwrap();
    }
    // A library compresses pictures and logs; the content is ours.
    let golden = root().join("tests/it/golden/everything.digests");
    snapbox::Assert::new()
        .action_env(snapbox::assert::DEFAULT_ACTION_ENV)
        .eq(digests, Data::read_from(&golden, None).raw());
}

#[test]
fn every_log_in_the_tree_verifies() {
    let is_log = |name: &str| {
        name.ends_with("events.jsonl")
            || name.ends_with("events.jsonl.gz")
            || name.ends_with("events.jsonl.zst")
    };
    for path in files(root()).iter().filter(|path| is_log(&short(path))) {
        let verified = LogReader::open(path)
            .map_err(Into::into)
            .and_then(|log| verify(log, &Registry::built_in()));
        assert!(verified.is_ok(), "{}: {}", short(path), verified.unwrap_err());
    }
}

#[test]
fn a_log_with_one_changed_byte_is_not_verified() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("short.csv"), trace(&[4.0, 4.0, 4.0, 4.0, 13.0, 4.0])).unwrap();
    run_in(folder.path(), "replay short.csv --out short --log full").exits(0);
    let log = fs::read(folder.path().join("short/events.jsonl")).unwrap();
    let judge = |log: Vec<u8>| {
        LogReader::new("log", std::io::Cursor::new(log))
            .map_err(Into::into)
            .and_then(|log| verify(log, &Registry::built_in()))
    };
    judge(log.clone()).expect("the log as it was written");
    let trailer = log[..log.len() - 1].iter().rposition(|&byte| byte == b'\n').unwrap();
    let mut stream = Seed(1).stream("places");
    let anywhere = (0..100).map(|_| stream.below(log.len() as u64) as usize).collect::<Vec<_>>();
    // Each byte of the trailer, the line ends before and after it, the first bytes, and some random bytes.
    let places = (trailer..log.len()).chain(0..20).chain(anywhere);
    for place in places {
        for bit in [0, 1, 5] {
            let mut changed = log.clone();
            changed[place] ^= 1 << bit;
            let line = changed[..place].iter().filter(|&&byte| byte == b'\n').count() + 1;
            let text = format!(
                "byte {place} (line {line}): {:?} was {:?}",
                changed[place] as char, log[place] as char
            );
            assert!(judge(changed).is_err(), "{text}");
        }
    }
    for end in [0, 1, trailer, trailer + 1, trailer + 10, log.len() - 2, log.len() - 1] {
        assert!(judge(log[..end].to_vec()).is_err(), "cut off after {end} of {} bytes", log.len());
    }
    let doubled = [log.as_slice(), log.as_slice()].concat();
    assert!(judge(doubled).is_err(), "the log twice in one file");
}

#[test]
fn a_changed_byte_is_told_with_its_exit_code() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("short.csv"), trace(&[4.0, 4.0])).unwrap();
    run_in(folder.path(), "replay short.csv --out short --log full").exits(0);
    run_in(folder.path(), "verify short").exits(0);
    let path = folder.path().join("short/events.jsonl");
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, text.replacen("\"seq\":3,", "\"seq\":4,", 1)).unwrap();
    let ran = run_in(folder.path(), "verify short").exits(1);
    assert!(ran.out.contains("NOT verified"), "{}", ran.out);
}

#[test]
fn an_event_log_is_a_trace() {
    let folder = tempfile::tempdir().unwrap();
    let scenario = root().join("scenarios/mixed-workload.toml");
    let line = format!("run {} --out run --json", scenario.display());
    let run = run_in(folder.path(), &line).exits(0).json();
    let replayed = run_in(folder.path(), "replay run --json").exits(0).json();
    for figure in ["samples", "switches", "upgrades", "requests", "quality_served_fraction"] {
        assert_eq!(replayed[figure], run[figure], "{figure}");
    }
    let other = run_in(folder.path(), "replay run/events.jsonl.zst --policy original --json")
        .exits(0)
        .json();
    assert_ne!(
        other["switches"], run["switches"],
        "another policy on the same log decides otherwise"
    );
}

/// The default log omits what can be computed from the rest: with the policy's answers restored, it is the full log again.
#[test]
fn what_a_log_leaves_out_its_policy_says_again() {
    let policies = Registry::built_in();
    for path in scenario_files(&[root().join("scenarios")]).unwrap() {
        let name = path.display();
        let scenario = scenario::load(&path, &policies).unwrap();
        let writer = |level| LogWriter::new(Vec::new(), scenario.header(level)).unwrap();
        let (mut full, mut lean) = (writer(LogLevel::Full), writer(LogLevel::Inputs));
        let observers: &mut [&mut dyn Observe] = &mut [&mut full, &mut lean];
        simulate(scenario.situation(), &policies, Detail::Full, observers).unwrap();
        let [mut holds, mut changes] = [(); 2].map(|()| writer(LogLevel::Inputs));
        simulate(scenario.situation(), &policies, Detail::Holds, &mut [&mut holds]).unwrap();
        simulate(scenario.situation(), &policies, Detail::Changes, &mut [&mut changes]).unwrap();
        let digest = std::slice::from_ref(&scenario.digest);
        let [full, lean, holds, changes] =
            [full, lean, holds, changes].map(|log| log.finish_into(digest).unwrap().0);
        assert!(lean == holds && lean == changes, "{name}: the log depends on who else looks");
        assert!(lean.len() < full.len(), "{name}: {} of {} bytes", lean.len(), full.len());
        let read =
            |log: &Vec<u8>| LogReader::new("log", std::io::Cursor::new(log.clone())).unwrap();
        verify(read(&lean), &policies).unwrap();
        let full = read(&full).map(Result::unwrap);
        for (ours, theirs) in Retold::new(read(&lean), &policies).map(Result::unwrap).zip(full) {
            assert_eq!(ours, theirs, "{name}");
        }
    }
}

#[test]
fn a_log_without_gates_is_explained_and_drawn_as_one_that_has_them() {
    let folder = tempfile::tempdir().unwrap();
    let run = |line: &str| run_in(folder.path(), line);
    let scenario = root().join("scenarios/mixed-workload.toml");
    run(&format!("run {} --out full --log full", scenario.display())).exits(0);
    run(&format!("run {} --out lean", scenario.display())).exits(0);
    let sides = ["full", "lean"];
    let [full, lean] = sides.map(|out| run(&format!("explain {out} --at 10m")).exits(0).out);
    assert_eq!(full, lean);
    assert!(lean.contains("distance"), "{lean}");
    let [full, lean] = sides.map(|out| {
        run(&format!("plot {out} --out {out}.svg")).exits(0);
        let picture = fs::read_to_string(folder.path().join(format!("{out}.svg"))).unwrap();
        // Each names the folder of its log.
        picture.replace(&format!("{out}   ·"), "FOLDER   ·")
    });
    assert_eq!(full, lean);
}
