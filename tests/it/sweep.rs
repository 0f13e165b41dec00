//! `tiershift sweep`: the same results whoever computes the shards, in any order; anything that does not match the plan is refused.

use std::fs;
use std::path::Path;

use crate::support::{run_in, trace};

/// A folder with recordings, a file that is no recording, and a plan.
fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let put = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
    fs::create_dir_all(folder.path().join("plans/all")).unwrap();
    put("plans/all/busy.csv", &trace(&[[4.0; 8], [11.0; 8]].concat().repeat(9)));
    put("plans/all/calm.csv", &trace(&[4.0; 60]));
    put("plans/all/notes.txt", "nothing to replay\n");
    put(
        "plans/plan.toml",
        "recordings = [\"all\"]\npolicies = [\"proactive\", \"original\"]\nseeds = 2\n\n[settings]\nprice = [\"10s\", \
         \"5m\"]\nmanager.load-attempts = [1, 3]\n\n[base]\npreset = \"eager\"\n",
    );
    folder
}

const PLAN: &str = "plans/plan.toml --target-shard-seconds 1";

/// Makes the plan's files appear so costly that there are several shards: a trace may have any amount of text after its rows.
fn make_long(folder: &Path) {
    for name in ["busy", "calm"] {
        let path = folder.join(format!("plans/all/{name}.csv"));
        let text = fs::read_to_string(&path).unwrap();
        let comment = format!("# {}\n", "x".repeat(1000)).repeat(12_000);
        let (head, rows) = text.split_once('\n').unwrap();
        fs::write(&path, format!("{head}\n{comment}{rows}")).unwrap();
    }
}

#[test]
fn shards_in_any_order_come_to_what_one_machine_comes_to() {
    let folder = folder();
    make_long(folder.path());
    let whole = run_in(folder.path(), &format!("sweep {PLAN} --out whole --jobs 2")).exits(0);
    let planned = run_in(folder.path(), &format!("sweep plan {PLAN} --out parts --json"));
    let plan = planned.exits(0).json();
    let shards = plan["shards"].as_array().unwrap().len();
    assert!(shards > 2, "{}", plan["shards"]);
    for number in (0..shards).rev() {
        run_in(folder.path(), &format!("sweep run parts --shard {number}")).exits(0);
    }
    let merged = run_in(folder.path(), "sweep merge parts").exits(0);
    assert_eq!(merged.out.replace("parts", "whole"), whole.out);
    for name in ["plan.json", "runs.csv", "sweep.json"] {
        let read = |place: &str| fs::read(folder.path().join(place).join(name)).unwrap();
        assert_eq!(read("parts"), read("whole"), "{name}");
    }
    assert!(whole.out.starts_with("9 points on 2 of 3 recordings, 2 seeds"), "{}", whole.out);
    let runs = fs::read_to_string(folder.path().join("whole/runs.csv")).unwrap();
    assert_eq!(runs.lines().count(), 1 + 2 * 9 * 2);
}

#[test]
fn a_point_is_what_compare_makes_of_the_same_settings() {
    let folder = folder();
    run_in(folder.path(), &format!("sweep {PLAN} --out out")).exits(0);
    let text = fs::read_to_string(folder.path().join("out/sweep.json")).unwrap();
    let swept: serde_json::Value = serde_json::from_str(&text).unwrap();
    let line = "compare plans/all --policies proactive --set price=10s --set preset=eager --set \
                manager.load-attempts=3 --seeds 2 --json";
    let compared = run_in(folder.path(), line).exits(0).json();
    let names = swept["policies"].as_array().unwrap();
    let point = names.iter().position(|name| name == "proactive manager.load-attempts=3 price=10s");
    let figures = |of: &serde_json::Value, policy: usize, key: &str| {
        of["recordings"][0]["policies"][policy]["figures"][key].clone()
    };
    for key in ["quality_served_fraction", "switches", "reversals", "wasted_loads"] {
        let [got, want] = [figures(&swept, point.unwrap(), key), figures(&compared, 0, key)];
        assert!(got.is_number());
        assert_eq!(got, want, "{key}");
    }
}

#[test]
fn a_shard_is_computed_once_and_one_that_was_damaged_again() {
    let folder = folder();
    run_in(folder.path(), &format!("sweep plan {PLAN} --out out")).exits(0);
    let shard = folder.path().join("out/shards/000000.json");
    let ran = run_in(folder.path(), "sweep run out --shard 0").exits(0);
    assert_eq!(ran.out, "shard 0: written\n");
    let whole = fs::read_to_string(&shard).unwrap();
    let ran = run_in(folder.path(), "sweep run out --shard 0").exits(0);
    assert_eq!(ran.out, "shard 0: there already\n");
    fs::write(&shard, whole.replacen("\"switches\":", "\"switches\":1", 1)).unwrap();
    let merged = run_in(folder.path(), "sweep merge out").exits(2);
    assert!(merged.err.contains("was changed since it was written: delete it"), "{}", merged.err);
    run_in(folder.path(), "sweep run out --shard 0").exits(0);
    assert_eq!(fs::read_to_string(&shard).unwrap(), whole);
    // The variables of Slurm, Kubernetes and HyperQueue.
    let ran = run_in(folder.path(), "sweep run out").exits(65);
    assert!(
        ran.err.contains("SLURM_ARRAY_TASK_ID, JOB_COMPLETION_INDEX, HQ_TASK_ID"),
        "{}",
        ran.err
    );
}

#[test]
fn what_is_not_as_it_was_planned_is_refused() {
    let folder = folder();
    run_in(folder.path(), &format!("sweep plan {PLAN} --out out")).exits(0);
    let merged = run_in(folder.path(), "sweep merge out").exits(2);
    assert!(merged.err.contains("1 of 1 shards are missing, 0 among them"), "{}", merged.err);
    let ran = run_in(folder.path(), "sweep run out --shard 7").exits(65);
    assert!(ran.err.contains("shard 7 does not exist: the plan has 1"), "{}", ran.err);
    let busy = folder.path().join("plans/all/busy.csv");
    let text = fs::read_to_string(&busy).unwrap();
    fs::write(&busy, text.trim_end()).unwrap();
    let ran = run_in(folder.path(), "sweep run out --shard 0").exits(65);
    assert!(ran.err.contains("was changed since the sweep was planned"), "{}", ran.err);
    // A plan does not overwrite another plan.
    let planned = run_in(folder.path(), &format!("sweep plan {PLAN} --out out")).exits(2);
    assert!(planned.err.contains("contains another plan"), "{}", planned.err);
    run_in(folder.path(), &format!("sweep {PLAN} --out out --force")).exits(0);
    let ran = run_in(folder.path(), "sweep run nowhere --shard 0").exits(65);
    assert!(ran.err.contains("plan the sweep first"), "{}", ran.err);
}

#[test]
fn a_shard_that_the_disk_does_not_take_may_be_tried_again() {
    let folder = folder();
    run_in(folder.path(), &format!("sweep plan {PLAN} --out out")).exits(0);
    let shards = folder.path().join("out/shards");
    let _ = fs::remove_dir(&shards);
    // Something else is at the place of the shards.
    fs::write(&shards, "").unwrap();
    let ran = run_in(folder.path(), "sweep run out --shard 0").exits(75);
    assert!(ran.err.contains("shards"), "{}", ran.err);
    fs::remove_file(&shards).unwrap();
    fs::create_dir(&shards).unwrap();
    run_in(folder.path(), "sweep run out --shard 0").exits(0);
}

#[test]
fn a_plan_says_what_every_replay_is_given() {
    let folder = folder();
    let put = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
    put("plans/bad.toml", "recordings = [\"all\"]\n[replay]\nladder = \"attic\"\n");
    let refused = run_in(folder.path(), "sweep plans/bad.toml --out out").exits(2);
    assert!(
        refused.err.contains("[replay]: invalid value 'attic' for '--ladder"),
        "{}",
        refused.err
    );
    put(
        "plans/asked.toml",
        "recordings = [\"all/busy.csv\"]\n[replay]\nrequests = \"asked.csv\"\nloop-requests = true\nto = \"2h\"\n",
    );
    put(
        "plans/asked.csv",
        "# tiershift request trace 1\nat_ns,prompt_tokens,output_tokens\n0,10,10\n60000000000,10,10\n",
    );
    run_in(folder.path(), "sweep plans/asked.toml --out out").exits(0);
    let runs = fs::read_to_string(folder.path().join("out/runs.csv")).unwrap();
    let mut reader = csv::Reader::from_reader(runs.as_bytes());
    let heads = reader.headers().unwrap().clone();
    let row = reader.records().next().unwrap().unwrap();
    let value = |key: &str| &row[heads.iter().position(|head| head == key).unwrap()];
    assert!(value("hours").starts_with("2."), "{}", value("hours"));
    assert!(!value("requests_refused").is_empty());
}
