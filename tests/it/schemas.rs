//! Output matches its schema.

use std::fs;

use serde_json::Value;

use crate::support::{root, run_in, trace};

/// Returns a validator for the schema of this name.
fn schema(name: &str) -> jsonschema::Validator {
    let schema = run_in(root(), &format!("schema {name}")).exits(0).json();
    jsonschema::validator_for(&schema).unwrap()
}

#[track_caller]
fn check(schema: &jsonschema::Validator, value: &Value, what: &str) {
    let errors: Vec<String> = schema
        .iter_errors(value)
        .map(|error| format!("{} at {}", error, error.instance_path()))
        .collect();
    assert!(errors.is_empty(), "{what}: {errors:#?}\n{value}");
}

#[test]
fn summaries_and_every_line_of_every_log_are_as_their_schemas_say() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("day.csv"), trace(&[4.0, 4.0, 13.0, 4.0])).unwrap();
    // Requests, a companion, orders, a crash and two GPUs, a clean stop, and a recording.
    let scenarios = [
        "mixed-workload",
        "companion",
        "orders-to-the-end",
        "backend-crash",
        "two-gpus",
        "named-models",
    ];
    let (summary, log) = (schema("summary"), schema("log"));
    let mut lines = 0;
    for name in scenarios.into_iter().chain(["day.csv"]) {
        let verb = if name == "day.csv" { "replay" } else { "run" };
        let ran = run_in(folder.path(), &format!("{verb} {name} --out out --log full --json"));
        check(&summary, &ran.json(), name);
        let text = fs::read_to_string(folder.path().join("out/events.jsonl")).unwrap();
        // Each kind of line is checked once, not each of a hundred thousand readings.
        let mut seen = std::collections::BTreeMap::new();
        for line in text.lines() {
            let value: Value = serde_json::from_str(line).unwrap();
            let count: &mut u32 = seen.entry(kind(&value)).or_default();
            *count += 1;
            if *count <= 50 {
                check(&log, &value, name);
                lines += 1;
            }
        }
    }
    assert!(lines > 1000, "{lines} lines");
    for wrong in ["{}", "{\"seq\":0,\"at_ns\":0,\"input\":{\"samples\":{}}}", "{\"end\":{}}"] {
        assert!(!log.is_valid(&serde_json::from_str(wrong).unwrap()), "{wrong}");
    }
}

/// Returns the path of keys that identifies the kind of a line.
fn kind(line: &Value) -> String {
    let mut keys = String::new();
    let mut place = line;
    for _ in 0..3 {
        let Some(map) = place.as_object() else { break };
        let key = ["input", "output"].into_iter().find(|key| map.contains_key(*key));
        let Some(key) = key.or(map.keys().next().map(String::as_str)) else { break };
        keys += key;
        keys.push('.');
        place = &map[key];
    }
    keys
}

#[test]
fn comparisons_are_as_their_schema_says() {
    let folder = tempfile::tempdir().unwrap();
    let others: Vec<f64> =
        (0..60).map(|minute| if minute % 20 < 10 { 4.0 } else { 13.0 }).collect();
    fs::write(folder.path().join("day.csv"), trace(&others)).unwrap();
    fs::write(folder.path().join("none.csv"), "a,b\n1,2\n").unwrap();
    let compare = schema("compare");
    let line = "compare . --policies proactive,original --seeds 2 --json";
    let compared = run_in(folder.path(), line).exits(0).json();
    assert!(!compared["overall"].as_array().unwrap().is_empty(), "{compared}");
    check(&compare, &compared, line);
    run_in(folder.path(), "replay day.csv -o one").exits(0);
    run_in(folder.path(), "replay day.csv -o two --policy original").exits(0);
    let parted = run_in(folder.path(), "compare one two --json").exits(0).json();
    assert!(!parted["partings"].as_array().unwrap().is_empty(), "{parted}");
    check(&compare, &parted, "compare one two");
    assert!(!compare.is_valid(&serde_json::json!({ "policies": [] })));
}
