use std::fs;
use std::path::PathBuf;

use super::*;
use crate::files::document::Document;
use crate::files::{catalog, policy};
use crate::scenario::file::read;

fn policies() -> Registry {
    Registry::built_in()
}

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
        let scenario = load(&path, &policies()).unwrap_or_else(|error| panic!("{error}"));
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

#[test]
fn an_incident_without_a_baseline_is_refused() {
    let text = GOOD.replacen("seed = 7", "incident = \"mostlygeek/llama-swap#612\"", 1);
    let read = |text: &str| parse(text, "museum.toml", Path::new(""), &policies());
    let known = read(&text).unwrap().incident;
    assert_eq!(known.as_deref(), Some("mostlygeek/llama-swap#612"));
    let (without, _) = text.split_once("[baseline]").unwrap();
    let error = read(without).unwrap_err().to_string();
    assert!(error.contains("an incident that no baseline fails proves nothing"), "{error}");
    assert!(error.contains("museum.toml:3:1"), "{error}");
}

/// Returns what a user sees when `change` is made to a good file: the text before the arrow is replaced by the text
/// after it.
fn refused((from, to): (&str, &str)) -> String {
    assert!(GOOD.contains(from), "{from}");
    let text = GOOD.replacen(from, to, 1);
    match parse(&text, "scenarios/bad.toml", Path::new(""), &policies()) {
        Ok(_) => panic!("accepted with {to}"),
        Err(error) => format!("{from:?} -> {to:?}\n{error}\n"),
    }
}

/// A complete fault of [`GOOD`].
const LOAD_FAIL: &str = "kind = \"load-fail\"\nmodel = \"large\"\ncount = 2";

const GOOD: &str = r#"# A good file.
duration = "2h"
seed = 7

[machine]
memory = "16GiB"
gpus = ["8GiB"]

[policy]
stabilization = "5m"

[physics]
load-jitter = 0.0

[[background]]
resource = "memory"
shape = "sine"
from = "3GiB"
to = "6GiB"
period = "1h"

[[background]]
resource = "cpu"
shape = "burst"
to = "90%"
period = "1m"
length = "2s"

[[workload]]
kind = "poisson"
rate = "6/min"
prompt-tokens = { median = 400, shape = 0.8 }
priority = 1

[[fault]]
kind = "load-fail"
model = "large"
count = 2

[[fault]]
kind = "crash"
at = "1h"

[[action]]
at = "10m"
switch = "small"

[expect]
switches = { max = 3 }
final-tier = "medium"
tier-at = [{ at = "1h", tier = "medium" }]
order = ["upgrade:medium", "done:#1"]
never = ["load:large"]

[baseline]
policy = "original"
fails = ["switches"]
"#;

#[test]
fn a_good_file_is_accepted() {
    let scenario = parse(GOOD, "scenarios/good.toml", Path::new(""), &policies()).unwrap();
    assert_eq!((scenario.name.as_str(), scenario.description.as_str()), ("good", "A good file."));
}

#[test]
fn bad_files_are_refused_with_place_and_remedy() {
    let cases = [
        // The text of the file.
        ("memory = \"16GiB\"", "memory = \"16GiB"),
        ("[machine]", "[machine"),
        ("seed = 7", "seed = 7\nseed = 8"),
        ("seed = 7", "seed = -7"),
        ("duration = \"2h\"", ""),
        // Unknown words.
        ("duration", "duratoin"),
        ("[machine]", "[machin]"),
        ("[[background]]", "[[backgrond]]"),
        ("resource = \"memory\"", "resorce = \"memory\""),
        ("resource = \"memory\"", "resource = \"memroy\""),
        ("period = \"1h\"", "priod = \"1h\""),
        ("shape = \"sine\"", "shape = \"sin\""),
        ("priority", "priorty"),
        ("kind = \"poisson\"", "kind = \"poison\""),
        ("kind = \"load-fail\"", "kind = \"load-fial\""),
        ("policy = \"original\"", "policy = \"orignal\""),
        ("stabilization", "stabilisation"),
        ("{ at = \"1h\", tier", "{ at = \"1h\", teir"),
        ("period = \"1h\"\n", ""),
        // Values that cannot be parsed.
        ("from = \"3GiB\"", "from = \"3 parsecs\""),
        ("from = \"3GiB\"", "from = 3"),
        ("rate = \"6/min\"", "rate = \"6/fortnight\""),
        ("prompt-tokens = { median = 400, shape = 0.8 }", "prompt-tokens = \"many\""),
        ("switches = { max = 3 }", "switches = \"few\""),
        ("never = [\"load:large\"]", "never = [\"lod:large\"]"),
        // Values that are not valid.
        ("memory = \"16GiB\"", "memory = \"0GiB\""),
        ("duration = \"2h\"", "duration = \"0s\""),
        ("duration = \"2h\"", "duration = \"90y\""),
        ("stabilization = \"5m\"", "sampling-interval = \"1ns\""),
        ("stabilization = \"5m\"", "sampling-interval = \"0s\""),
        ("stabilization = \"5m\"", "degrade-line = \"170%\""),
        ("stabilization = \"5m\"", "stabilization = \"5m\"\nupgrade-line = \"95%\""),
        ("load-jitter = 0.0", "load-jitter = nan"),
        ("to = \"90%\"", "to = \"9GiB\""),
        ("length = \"2s\"", "length = \"2m\""),
        ("period = \"1h\"", "period = \"0s\""),
        ("resource = \"cpu\"", "resource = \"vram\"\ngpu = 1"),
        ("resource = \"cpu\"", "resource = \"swap\""),
        ("resource = \"cpu\"", ""),
        ("resource = \"cpu\"", "resource = \"cpu\"\nat = \"3h\""),
        ("rate = \"6/min\"", "rate = \"0/min\""),
        ("rate = \"6/min\"", "rate = \"1e9/s\""),
        ("median = 400", "median = 0"),
        ("model = \"large\"", "model = \"lagre\""),
        ("at = \"1h\"\n\n[[action]]", "at = \"1h\"\nuntil = \"2h\"\n\n[[action]]"),
        ("switch = \"small\"", "switch = \"tiny\""),
        ("switch = \"small\"", "switch = \"small\"\nshutdown = true"),
        ("switches = { max = 3 }", "switches = { min = 4, max = 3 }"),
        ("final-tier = \"medium\"", "final-tier = \"mediun\""),
        ("at = \"1h\", tier", "at = \"3h\", tier"),
        ("done:#1", "done:first"),
        ("load:large", "shutdown:large"),
        ("fails = [\"switches\"]", "fails = [\"switchs\"]"),
        ("fails = [\"switches\"]", "fails = []"),
        ("seed = 7", "incident = \"llama-swap#612\""),
        ("seed = 7", "incident = \"mostlygeek/llama-swap\""),
        ("gpus = [\"8GiB\"]", "unified = true"),
        ("gpus = [\"8GiB\"]", "gpus = [\"24GiB\"]\nunified = true"),
        ("load-jitter = 0.0", "vram-overcommit = \"spil\""),
        ("load-jitter = 0.0", "spilled-speed = \"20%\""),
        ("period = \"1h\"", "period = \"1h\"\ngives-way-to = \"1GiB\"\ntakes-free = true"),
        ("period = \"1h\"", "period = \"1h\"\nlag = \"2s\""),
        ("resource = \"cpu\"", "resource = \"cpu\"\ntakes-free = true"),
        (LOAD_FAIL, "kind = \"gpu-lost\"\ngpu = 1"),
        (LOAD_FAIL, "kind = \"probe-nan\"\ngpu = 0"),
        (LOAD_FAIL, "kind = \"probe-nan\"\nresource = \"vram\"\ngpu = 1"),
        (LOAD_FAIL, "kind = \"probe-stale\"\ngpu = 0"),
        (LOAD_FAIL, "kind = \"probe-blind\"\nresource = \"pressure\""),
        (LOAD_FAIL, "kind = \"unload-unconfirmed\"\ncount = 0"),
        (LOAD_FAIL, "kind = \"request-hang\"\ndeaf = \"yes\""),
        ("at = \"1h\"\n\n[[action]]", "every = \"1ms\"\n\n[[action]]"),
        ("at = \"1h\"\n\n[[action]]", "every = \"1m\"\njitter = \"100%\"\n\n[[action]]"),
        ("at = \"1h\"\n\n[[action]]", "at = \"1h\"\njitter = \"10%\"\n\n[[action]]"),
        // Models.
        (
            "[policy]",
            "[[model]]\nid = \"a\"\ntier = \"s\"\nquality = \"0%\"\nram = \"1GiB\"\nload-warm = \"1s\"\nload-cold = \"3s\"\nprefill-tokens-per-second = 100.0\ndecode-tokens-per-second = 10.0\n[policy]",
        ),
    ];
    insta::assert_snapshot!(cases.map(refused).join("\n"));
}

/// Returns the property names of a definition, including those of its variants and of what it is flattened into.
fn properties(schema: &serde_json::Value, into: &mut std::collections::BTreeSet<String>) {
    if let Some(own) = schema.get("properties").and_then(|own| own.as_object()) {
        into.extend(own.keys().cloned());
    }
    for part in ["oneOf", "anyOf", "allOf"] {
        let parts = schema.get(part).and_then(|parts| parts.as_array());
        parts.into_iter().flatten().for_each(|part| properties(part, into));
    }
}

#[test]
fn the_schema_knows_every_key_that_the_files_use() {
    let schema: serde_json::Value = serde_json::from_str(&schema()).unwrap();
    let of = |definition: &str| {
        let mut names = std::collections::BTreeSet::new();
        let schema = match definition {
            "" => &schema,
            name => &schema["$defs"][name],
        };
        properties(schema, &mut names);
        names
    };
    let tables = [
        ("background", "RawBackground", crate::sim::background::COMMON_KEYS),
        ("workload", "RawWorkload", crate::sim::workload::COMMON_KEYS),
        ("fault", "RawFault", crate::sim::fault::COMMON_KEYS),
    ];
    for path in committed() {
        let table: toml::Table = fs::read_to_string(&path).unwrap().parse().unwrap();
        for (key, value) in &table {
            assert!(of("").contains(key), "{key}");
            let Some((_, definition, _)) = tables.iter().find(|(name, ..)| name == key) else {
                continue;
            };
            let known = of(definition);
            for entry in value.as_array().unwrap() {
                for key in entry.as_table().unwrap().keys() {
                    assert!(known.contains(key), "{definition} {key}");
                }
            }
        }
    }
    for (_, definition, common) in tables {
        let known = of(definition);
        assert!(common.iter().all(|key| known.contains(*key)), "{definition}: {known:?}");
        let closed = &schema["$defs"][definition]["unevaluatedProperties"];
        assert_eq!(closed, false, "an editor marks unknown keys of {definition}");
    }
    for text in [catalog::schema(), policy::schema()] {
        assert!(
            serde_json::from_str::<serde_json::Value>(&text).unwrap()["properties"].is_object()
        );
    }
}

#[test]
fn comments_and_order_of_keys_do_not_change_the_digest_but_values_do() {
    let digest = |text: &str| parse(text, "d.toml", Path::new(""), &policies()).unwrap().digest;
    let want = digest(GOOD);
    assert_eq!(digest(&GOOD.replace("# A good file.", "# Another comment.")), want);
    let swapped = GOOD.replace("duration = \"2h\"\nseed = 7", "seed = 7\nduration = \"120m\"");
    assert_eq!(digest(&swapped), want);
    assert_ne!(digest(&GOOD.replace("seed = 7", "seed = 8")), want);
    assert_ne!(digest(&GOOD.replace("6/min", "7/min")), want);
}

#[test]
fn what_is_no_text_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("binary.toml");
    fs::write(&path, b"seed = 7\n\xff\xfe\x00").unwrap();
    let error = load(&path, &policies()).unwrap_err().to_string();
    assert!(error.ends_with("invalid UTF-8 at byte 9: is this a scenario file?"), "{error}");
    let error = load(&folder.path().join("nowhere.toml"), &policies()).unwrap_err().to_string();
    assert!(error.starts_with("cannot read "), "{error}");
    let text = "duration = \"1m\"\ncatalog = \"no.toml\"\n[machine]\nmemory = \"16GiB\"";
    let error = parse(text, "x.toml", folder.path(), &policies()).unwrap_err().to_string();
    assert!(error.contains("x.toml:2:1") && error.contains("cannot read the catalog"), "{error}");
}

#[test]
fn catalogs_and_policies_are_refused_with_the_same_care() {
    let catalog = fs::read_to_string(
        Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios/catalogs/gpu.toml"),
    )
    .unwrap();
    assert_eq!(catalog::parse(&catalog, "gpu.toml").unwrap().models().len(), 3);
    let refused = [
        catalog::parse(&catalog.replacen("vram", "vrma", 1), "gpu.toml").unwrap_err(),
        catalog::parse(&catalog.replacen("quality = \"75%\"", "quality = \"175%\"", 1), "gpu.toml")
            .unwrap_err(),
        catalog::parse(&catalog.replacen("id = \"large\"", "id = \"small\"", 1), "gpu.toml")
            .unwrap_err(),
        policy::parse("degrade-lien = \"90%\"", "policy.toml", &policies()).unwrap_err(),
        policy::parse("[manager]\nat-drain-deadline = \"cancle\"", "policy.toml", &policies())
            .unwrap_err(),
    ];
    insta::assert_snapshot!(refused.map(|error| error.to_string()).join("\n\n"));
}

proptest::proptest! {
    #[test]
    fn a_damaged_file_is_refused_or_accepted_but_never_a_panic(
        damage in proptest::collection::vec((0usize..GOOD.len(), 0usize..12, "[a-z0-9\\[\\]\"'=.#%\n é🦀-]{0,6}"), 1..4)
    ) {
        let mut text = GOOD.to_owned();
        for (start, length, instead) in damage {
            let boundary = |at: usize| (at.min(text.len())..=text.len()).find(|i| text.is_char_boundary(*i));
            let start = boundary(start).unwrap();
            let end = boundary(start + length).unwrap();
            text.replace_range(start..end, &instead);
        }
        if let Err(error) = parse(&text, "damaged.toml", Path::new(""), &policies()) {
            let error = error.to_string();
            proptest::prop_assert!(error.contains("damaged.toml:"), "{}\n{}", error, text);
        }
    }
}
