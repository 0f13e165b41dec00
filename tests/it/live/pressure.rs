//! Another program takes the machine's memory while a model answers, and gives it back.

use std::fs;

use tiershift::inventory::folder::Folder;
use tiershift::probe::system::SystemProbe;
use tiershift_core::units::{Bytes, Percent};

use crate::live::daemon::{Daemon, chat, engine_alone, signal};
use crate::live::gguf;
use crate::live::hog::{Hog, space};
use crate::live::story::Story;
use crate::support::{contents, run_in};

const NAME: &str = "a_hog_takes_one_tier_and_gives_it_back";

#[test]
fn a_hog_takes_one_tier_and_gives_it_back() {
    let Some(engine) = engine_alone(NAME) else { return };
    let folder = tempfile::tempdir().unwrap();
    let models = folder.path().join("models");
    fs::create_dir(&models).unwrap();
    for (name, shape) in [("a", gguf::TINY), ("b", gguf::SMALL), ("c", gguf::MEDIUM)] {
        gguf::place(&models, name, shape);
    }
    let catalog = Folder::open(&models).unwrap().catalog().unwrap();
    let [_, medium, large] = catalog.models() else { panic!("three models") };
    let (medium, large) = (medium.footprint().ram, large.footprint().ram);

    // The lines follow the machine as it is, with a gap on both sides of each level that a busy neighbour does not
    // cross before the hog has made it good.
    let hog = Hog::start();
    let memory = space(&mut SystemProbe::new());
    let gap = Bytes::new((large - medium).get() / 2);
    let idle = memory.others + SLACK;
    let limit = idle + large + gap;
    let pressed = limit - medium - gap;
    if limit + gap > memory.total.share(Percent::new(95)) {
        eprintln!("SKIPPED {NAME}: it needs {} more than is in use", limit + gap - memory.others);
        return;
    }
    fs::write(folder.path().join("policy.toml"), policy(limit, memory.total)).unwrap();
    hog.hold(idle);
    let mut daemon = Daemon::start(&engine, folder.path());
    hog.spare(daemon.child.id());
    daemon.wait_for("the largest model", |status| status["tier"] == "large");

    // The hog comes while a stream runs: the stream ends as it should, then the smaller model serves.
    let mut stream = daemon.ask(&chat("the cat", 60));
    stream.until("data: ");
    hog.hold(pressed);
    let stream = stream.rest();
    assert!(stream.contains("x-tiershift-tier: large\r\n"), "{stream}");
    assert!(stream.contains("data: [DONE]") && !stream.contains("\"error\""), "{stream}");
    assert_eq!(stream.matches("\"content\":\" ").count(), 60, "{stream}");
    daemon.wait_for("the step down", |status| status["tier"] == "medium");
    for _ in 0..3 {
        let stream = daemon.ask(&chat("the dog", 4)).rest();
        assert!(stream.contains("x-tiershift-tier: medium\r\n"), "{stream}");
        assert!(stream.contains("data: [DONE]"), "{stream}");
    }

    // It leaves, and the window passes.
    hog.hold(idle);
    daemon.wait_for("the step up", |status| status["tier"] == "large");
    let stream = daemon.ask(&chat("the bird", 4)).rest();
    assert!(stream.contains("x-tiershift-tier: large\r\n"), "{stream}");
    signal("TERM", daemon.child.id());
    assert_eq!(daemon.wait(), Some(0));
    drop(hog);

    keep(folder.path());
    let story = Story::read(&folder.path().join("log.jsonl"));
    let switches: Vec<_> = story.switches.iter().map(|(a, b)| (a.as_str(), b.as_str())).collect();
    assert_eq!(
        switches,
        [
            ("none", "small"),
            ("small", "large"),
            ("large", "medium"),
            ("medium", "large"),
            // Told to stop.
            ("large", "none"),
        ]
    );
    assert_eq!(story.ends(), [5, 0, 0, 0]);
    run_in(folder.path(), "verify log.jsonl").exits(0);
    run_in(folder.path(), "plot log.jsonl --out log.svg").exits(0);
    let plot = fs::read_to_string(folder.path().join("log.svg")).unwrap();
    for shown in ["large", "medium", "memory"] {
        assert!(plot.contains(shown), "the plot shows no \"{shown}\"");
    }
}

/// Windows of a second, and the lines at what the test says.
fn policy(limit: Bytes, total: Bytes) -> String {
    let line = |below: u32| {
        let milli = Percent::of(limit, total).milli() - below;
        format!("{}.{:03}%", milli / 1000, milli % 1000)
    };
    format!(
        r#"
sampling-interval = "100ms"
stabilization = "1s"
reversal-window = "2s"
mistake-window = "0s"
trend-half-life = "1s"
forecast-horizon = "0s"
upgrade-line = "{}"
preventive-line = "{}"
degrade-line = "{}"
hysteresis-margin = "0%"
free-floor-share = "0%"
constrain = ["memory"]
[manager]
start = "small"
switch-cooldown = "0s"
"#,
        line(2),
        line(1),
        line(0)
    )
}

/// Leaves the log and its plot where a person asks for them.
fn keep(folder: &std::path::Path) {
    if let Some(out) = std::env::var_os("TIERSHIFT_KEEP") {
        run_in(folder, "plot log.jsonl --out log.png").exits(0);
        for name in contents(folder).keys().filter(|name| name.starts_with("log.")) {
            let place = std::path::Path::new(&out).join(name);
            fs::create_dir_all(place.parent().unwrap()).unwrap();
            fs::copy(folder.join(name), place).unwrap();
        }
    }
}

/// What others on this machine may give back before the hog has nothing left to give. Chosen: builds beside a test.
const SLACK: Bytes = Bytes::from_mib(1500);
