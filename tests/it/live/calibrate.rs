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
    let line =
        format!("calibrate --llama-server {} --models models --repeats 1 --json", engine.display());
    let measured = run_in(&folder, &line).exits(0).json();
    let models = measured["models"].as_array().unwrap();
    let number = |value: &Value| value.as_f64().unwrap_or_else(|| panic!("{value} in {measured}"));
    for model in models {
        let median = |figure: &Value| number(&figure["median"]);
        // How fast depends on what else runs here; these bounds only tell a measurement from a mistake of units.
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
    // Memory does not depend on what else runs. The cache of the larger: 17 layers, keys and values of 4 heads of 32
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
    // It is a catalog to serve from and to replay with.
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
        .args(["calibrate", "--models", "models", "--llama-server"])
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

fn models() -> Site {
    site(&[("a", gguf::NANO), ("b", gguf::TINY)])
}

/// Leaves the catalog and its plot where a person asks for them.
fn keep(folder: &Path) {
    if let Some(out) = std::env::var_os("TIERSHIFT_KEEP") {
        for name in ["measured.toml", "measured.png"] {
            fs::copy(folder.join(name), Path::new(&out).join(name)).unwrap();
        }
    }
}
