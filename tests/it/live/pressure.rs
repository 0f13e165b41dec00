//! Another program takes the machine's memory while a model answers, and frees it again.

use std::fs;

use tiershift::inventory::folder::Folder;
use tiershift::inventory::ladder::Wishes;
use tiershift::probe::clock::SystemClock;
use tiershift::probe::system::{OwnProcesses, SystemProbe};
use tiershift_core::machine::Machine;
use tiershift_core::probe::Probe;
use tiershift_core::sample::Space;
use tiershift_core::time::Clock;
use tiershift_core::units::{Bytes, Percent};
use tiershift_testkit::engine::Engine;
use tiershift_testkit::gguf;
use tiershift_testkit::hog::Hog;
use tiershift_testkit::policy::policy;
use tiershift_testkit::server::chat;
use tiershift_testkit::skip::skip;

use crate::live::story::Story;
use crate::live::{KEPT, serve, site};
use crate::support::{contents, run_in};

const NAME: &str = "a_hog_takes_one_tier_and_gives_it_back";

#[test]
fn a_hog_takes_one_tier_and_gives_it_back() {
    let Some(engine) = Engine::find_alone(NAME, KEPT.as_ref()) else { return };
    let folder = site(&[("a", gguf::TINY), ("b", gguf::SMALL), ("c", gguf::MEDIUM)]);
    let models = Folder::open(&folder.models()).unwrap();
    let catalog = models.ladder(&Wishes::default(), &Machine::default()).unwrap().catalog;
    let [_, medium, large] = catalog.models() else { panic!("three models") };
    let (medium, large) = (medium.footprint().ram, large.footprint().ram);

    // The lines depend on the machine's current use, with a margin on both sides of each level that other programs do not
    // cross before the hog has compensated for it.
    let mut probe = SystemProbe::new();
    let hog = Hog::start(move |own| {
        probe.set_own_processes(OwnProcesses::new(own.iter().copied()));
        space(&mut probe).others
    });
    let memory = space(&mut SystemProbe::new());
    let gap = Bytes::new((large - medium).get() / 2);
    let idle = memory.others + SLACK;
    let limit = idle + large + gap;
    let pressed = limit - medium - gap;
    if limit + gap > memory.total.share(Percent::new(95)) {
        let more = limit + gap - memory.others;
        skip("memory", NAME, &format!("{more} more than is in use"));
        return;
    }
    folder.put("policy.toml", &lines(limit, memory.total));
    hog.hold(idle);
    let mut daemon = serve(&engine, &folder);
    hog.spare(daemon.child.id());
    daemon.wait_for("the largest model", |status| status["tier"] == "large");

    // The hog starts during a stream: the stream ends normally, then the smaller model serves.
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

    // It frees the memory, and the window passes.
    hog.hold(idle);
    daemon.wait_for("the step up", |status| status["tier"] == "large");
    let stream = daemon.ask(&chat("the bird", 4)).rest();
    assert!(stream.contains("x-tiershift-tier: large\r\n"), "{stream}");
    daemon.stop();
    drop(hog);

    keep(&folder);
    let story = Story::read(&folder.join("log.jsonl"));
    let switches: Vec<_> = story.switches.iter().map(|(a, b)| (a.as_str(), b.as_str())).collect();
    // What others use at the start decides whether it climbs at once.
    let (climb, rest) = switches.split_at(switches.iter().position(|it| it.1 == "large").unwrap());
    assert!([("none", "small"), ("small", "medium")].starts_with(climb), "{climb:?}");
    // The stop is the last.
    assert_eq!(rest[1..], [("large", "medium"), ("medium", "large"), ("large", "none")]);
    assert_eq!(story.ends(), [5, 0, 0, 0]);
    run_in(&folder, "verify log.jsonl").exits(0);
    run_in(&folder, "plot log.jsonl --out log.svg").exits(0);
    let plot = fs::read_to_string(folder.join("log.svg")).unwrap();
    for shown in ["large", "medium", "memory"] {
        assert!(plot.contains(shown), "the plot shows no \"{shown}\"");
    }
}

/// Returns the machine's memory use now.
fn space(probe: &mut SystemProbe) -> Space {
    let sample = probe.sample(SystemClock::start().now()).unwrap();
    sample.memory.expect("Linux tells of its memory")
}

/// Windows of a second, and the lines of the test.
fn lines(limit: Bytes, total: Bytes) -> String {
    let line = |below: u32| {
        let milli = Percent::of(limit, total).milli() - below;
        format!("{}.{:03}%", milli / 1000, milli % 1000)
    };
    let [upgrade, preventive, degrade] = [line(2), line(1), line(0)];
    policy(&format!(
        r#"
reversal-window = "2s"
mistake-window = "0s"
forecast-horizon = "0s"
upgrade-line = "{upgrade}"
preventive-line = "{preventive}"
degrade-line = "{degrade}"
"#
    ))
}

/// Keeps the log and its plot where `TIERSHIFT_KEEP` requests them.
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

/// Memory that others on this machine may free before the hog has nothing left to free. Chosen: builds beside a test.
const SLACK: Bytes = Bytes::from_mib(1500);
