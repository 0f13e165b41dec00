//! `tiershift calibrate` with the real engine, on models small enough for any machine.

use std::fs;
use std::path::Path;

use serde_json::Value;
use snapbox::cmd::cargo_bin;
use tiershift::files::catalog;
use tiershift_testkit::gguf;
use tiershift_testkit::process::{children, is_there, signal};
use tiershift_testkit::site::Site;
use tiershift_testkit::wait::wait_until;

use crate::live::{engine, site};
use crate::support::run_in;

#[test]
fn a_calibration_is_a_catalog_with_the_figures_of_this_machine() {
    let name = "a_calibration_is_a_catalog_with_the_figures_of_this_machine";
    let Some(engine) = engine(name) else { return };
    let folder = models();
    let line = format!(
        "calibrate --llama-server {} --models models --repeats 1 --json --allow-busy",
        engine.display()
    );
    let measured = run_in(&folder, &line).exits(0).json();
    let models = measured["models"].as_array().unwrap();
    let number = |value: &Value| value.as_f64().unwrap_or_else(|| panic!("{value} in {measured}"));
    for model in models {
        let median = |figure: &Value| number(&figure["median"]);
        // The speed depends on what else runs here; these bounds only reveal a mistake of units.
        assert!((0.005..60.0).contains(&median(&model["load_warm"])), "{model:#}");
        assert!((0.0..15.0).contains(&median(&model["unload"])), "{model:#}");
        for speed in ["prefill", "decode"] {
            for way in ["alone", "side_by_side", "beside_busy_load"] {
                let speed = median(&model[speed][way]);
                assert!((1.0..1e6).contains(&speed), "{speed} {way}: {model:#}");
            }
        }
        assert!(model["load_cold"]["Ok"].is_object() || model["load_cold"]["Err"].is_string());
    }
    // Memory does not depend on what else runs. The cache of the larger model: 17 layers, keys and values of 4 heads of 32
    // numbers of two bytes; loaded it has 59 MB at 2048 tokens (measured 2026-11-23), of which some are its code.
    let fit = &models[1]["fit"];
    let cache = number(&fit["kv_per_token_bytes"]);
    assert!((cache / (17 * 2 * 4 * 32 * 2) as f64 - 1.0).abs() < 0.2, "{cache}: {fit:#}");
    let resident = number(&fit["weights_bytes"]) + 2048.0 * cache;
    assert!((resident / 59.4e6 - 1.0).abs() < 0.35, "{resident}: {fit:#}");
    assert!(number(&fit["residual_bytes"]) < 8e6, "{fit:#}");

    let text = fs::read_to_string(folder.join("measured.toml")).unwrap();
    let catalog = catalog::parse(&text, "measured.toml").unwrap();
    assert_eq!(catalog.models().len(), 2, "{text}");
    let plot = fs::read_to_string(folder.join("measured.svg")).unwrap();
    assert!(plot.contains("reply tokens a second"), "{plot}");
    assert!(text.contains("# During the measurement a fixed computation took "), "{text}");
    // Known figures are not measured again: only a model that was added since is measured.
    let end_of_first = text.rmatch_indices("\n# ram, kv").next().unwrap().0;
    let one = &text[..end_of_first];
    folder.put("one.toml", one);
    let line = line.replace(" --json", " --catalog one.toml --out again.toml");
    let told = run_in(&folder, &line).exits(0).out;
    assert!(told.starts_with("nothing to measure"), "{told}");
    let first = &catalog.models()[0];
    folder.put("both.toml", &format!("{one}\n[[model]]\nfile = \"b.gguf\"\n"));
    run_in(&folder, &line.replace("one.toml", "both.toml")).exits(0);
    let again = fs::read_to_string(folder.join("again.toml")).unwrap();
    assert_eq!(again.matches("# load-warm: ").count(), 1, "{again}");
    assert!(again.contains("# Unchanged."), "{again}");
    let again = catalog::parse(&again, "again.toml").unwrap();
    assert_eq!(again.model(&first.id), Some(first));
    // The result is a catalog to serve from and to replay with.
    fs::write(folder.join("trace.csv"), crate::support::trace(&[4.0, 8.0])).unwrap();
    run_in(&folder, "replay trace.csv --catalog measured.toml").exits(0);
    keep(&folder);
}

#[test]
fn a_calibration_that_is_stopped_leaves_nothing() {
    let Some(engine) = engine("a_calibration_that_is_stopped_leaves_nothing") else { return };
    let folder = models();
    let mut child = std::process::Command::new(cargo_bin!("tiershift"))
        .current_dir(&*folder)
        .args(["calibrate", "--allow-busy", "--models", "models", "--llama-server"])
        .arg(&*engine)
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let id = child.id();
    wait_until("a model", || !children(id).is_empty());
    let left = children(id);
    signal("INT", id);
    wait_until("the end", || child.try_wait().unwrap().is_some());
    assert_eq!(child.wait().unwrap().code(), Some(2));
    wait_until("the end of the model", || !left.iter().any(|pid| is_there(*pid)));
    assert!(!folder.join("measured.toml").exists());
}

#[test]
fn a_busy_machine_is_not_measured() {
    let Some(engine) = engine("a_busy_machine_is_not_measured") else { return };
    let folder = models();
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    let mut busy: Vec<_> = (0..cpus)
        .map(|_| {
            std::process::Command::new("sh").args(["-c", "while :; do :; done"]).spawn().unwrap()
        })
        .collect();
    let line = format!("calibrate --llama-server {} --models models", engine.display());
    let refused = run_in(&folder, &line).exits(2).err;
    for child in &mut busy {
        child.kill().unwrap();
        child.wait().unwrap();
    }
    assert!(
        refused.contains("other programs use ") && refused.contains("--allow-busy"),
        "{refused}"
    );
    assert!(!folder.join("measured.toml").exists());
}

fn models() -> Site {
    site(&[("a", gguf::NANO), ("b", gguf::TINY)])
}

/// Keeps the catalog and its plot where `TIERSHIFT_KEEP` requests them.
fn keep(folder: &Path) {
    if let Some(out) = std::env::var_os("TIERSHIFT_KEEP") {
        for name in ["measured.toml", "measured.png"] {
            fs::copy(folder.join(name), Path::new(&out).join(name)).unwrap();
        }
    }
}
