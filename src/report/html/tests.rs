use tiershift_core::decision::{Gate, GateName, Measure, Reason};
use tiershift_core::machine::MachineClass;
use tiershift_core::request::{End, Rejection, RequestId};
use tiershift_core::sample::{GpuSample, Pressure, Rate, Sample, Space};
use tiershift_core::settings::RawSettings;
use tiershift_core::units::{Bytes, Percent, PercentText};

use super::*;
use crate::report::html::frame::unpacked;

/// A run of a machine with a GPU, read every two seconds, whose figures never stand still: they jitter like those of a
/// real machine.
fn run(readings: u64) -> PageData {
    let catalog = Catalog::relative_to(TOTAL);
    let settings = Settings::new(RawSettings::default(), MachineClass::MidRange).unwrap();
    let mut data = PageData::new(&catalog, &settings);
    let mut luck = 1u64;
    for reading in 0..readings {
        let at = Timestamp::from_secs(reading * 2);
        // One of Knuth's linear congruential generators: it does not repeat within a day.
        let mut next = |most: u64| {
            luck = luck
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (luck >> 33) % most
        };
        let mut space = |total: u64| Space {
            total: Bytes::new(total),
            others: Bytes::new(total / 3 + next(total / 512)),
            own: Bytes::new(total / 4),
        };
        let (memory, vram) = (space(TOTAL.get()), space(TOTAL.get() / 2));
        let mut rate = || Rate {
            others: Percent::from_milli(next(5_000) as u32),
            own: Percent::from_milli(next(1_200) as u32),
        };
        let sample = Sample {
            memory: Some(memory),
            cpu: Some(rate()),
            pressure: Some(Pressure { memory_some: rate().others, ..Pressure::default() }),
            gpus: vec![GpuSample {
                vram: Some(vram),
                utilization: Some(rate()),
                ..GpuSample::default()
            }],
            ..Sample::default()
        };
        data.observe(at, EventRef::Input(&Input::Sample(sample)));
        let projected = Bytes::new(memory.used().get() + TOTAL.get() / 5);
        let reason = Reason::WouldNotFit {
            to: Rung(2),
            resource: tiershift_core::sample::Resource::Memory,
            gpu: None,
            projected,
            limit: TOTAL,
        };
        let mut decision = Decision::new(Rung(1), Action::Hold, reason);
        if reading % 500 == 499 {
            decision.action = Action::Upgrade { to: Rung(2) };
        }
        for (name, open) in [
            (GateName::Fresh, true),
            (GateName::Window, next(50) > 0),
            (GateName::Risk, next(9) > 3),
        ] {
            let (value, limit) = (Measure::Count(0), Measure::Count(0));
            decision.gates.push(Gate { name, rung: Some(Rung(2)), open, value, limit });
        }
        data.observe(at, EventRef::Output(&Output::Decision(decision)));
    }
    data.finish(Timestamp::from_secs(readings * 2), &WallClock::default(), &[]);
    data
}

fn written(title: &str, data: &PageData) -> String {
    page(&[PageRun { title, data, summary: &Summary::default() }])
}

#[test]
fn a_day_of_readings_every_two_seconds_is_below_600_kb_with_each_of_them() {
    let data = run(43_200);
    let page = written("day", &data);
    assert!(page.len() < 600_000, "{}", page.len());
    assert_eq!(page, written("day", &run(43_200)), "the same run, the same bytes");
    let document = unpacked(&page);
    let run = &document["runs"][0];
    assert_eq!(run["at"].as_array().unwrap().len(), 43_200);
    assert_eq!(run["spaces"].as_array().unwrap().len(), 2);
    assert_eq!(run["rates"].as_array().unwrap().len(), 3);
    let degrade = &run["rates"][0]["lines"][0];
    let line = degrade["at"][0][0].as_u64().unwrap() * run["rate_unit"].as_u64().unwrap();
    assert_eq!((&degrade["name"], line), (&"degrade".into(), 90_000));
    assert_eq!(run["changes"]["to"].as_array().unwrap().len(), 86);
}

#[test]
fn no_name_is_read_as_markup() {
    let hostile = "</script><img src=x onerror=alert(1)>\"'&<!-- {{data}}";
    let data = run(10);
    let page = written(hostile, &data);
    assert!(!page.contains("<img") && !page.contains("<!-- "), "nothing of the name is markup");
    assert!(page.contains(
        "<title>&lt;/script&gt;&lt;img src=x onerror=alert(1)&gt;&quot;&#39;&amp;&lt;!-- {{data}}"
    ));
    assert_eq!(page.matches("</script>").count(), 2, "of the data and of the scripts");
    assert_eq!(unpacked(&page)["runs"][0]["title"], hostile, "and it is there to the letter");
}

#[test]
fn a_browser_without_scripts_shows_the_figures() {
    let page = written("day", &run(10));
    let (_, without) = page.split_once("<pre>day\npolicy").unwrap();
    assert!(without.split_once("</pre>\n</noscript>").unwrap().0.contains("\nswitches "));
}

#[test]
fn requests_that_are_refused_and_lines_that_move_are_shown_where_they_were() {
    let catalog = Catalog::relative_to(TOTAL);
    let raw = RawSettings::default();
    let settings = Settings::new(raw.clone(), MachineClass::MidRange).unwrap();
    let mut data = PageData::new(&catalog, &settings);
    let space = Space { total: TOTAL, ..Space::default() };
    let sample = Input::Sample(Sample { memory: Some(space), ..Sample::default() });
    let refused = |request| Output::Ended {
        request: RequestId(request),
        end: End::Rejected { reason: Rejection::QueueFull, retry_after: None, estimate: false },
    };
    for second in 0..10 {
        let at = Timestamp::from_secs(second);
        data.observe(at, EventRef::Input(&sample));
        match second {
            3 => (0..2).for_each(|n| data.observe(at, EventRef::Output(&refused(n)))),
            5 => {
                let mut lower = raw.clone();
                lower.degrade_line = PercentText(Percent::new(80));
                lower.upgrade_line = Some(PercentText(Percent::new(60)));
                lower.preventive_line = Some(PercentText(Percent::new(70)));
                data.observe(at, EventRef::Input(&Input::Settings(Box::new(lower))));
            }
            _ => {}
        }
    }
    data.finish(Timestamp::from_secs(10), &WallClock::default(), &[]);
    let document = unpacked(&written("lines", &data));
    let run = &document["runs"][0];
    assert_eq!(run["requests"]["refused"], serde_json::json!([[0, 3], [2, 1], [0, 6]]));
    let degrade = &run["spaces"][0]["lines"][0];
    assert_eq!(degrade["name"], "degrade");
    let moved = degrade["at"].as_array().unwrap();
    assert_eq!((moved.len(), &moved[0][1], &moved[1][1]), (2, &6.into(), &4.into()));
    let unit = run["spaces"][0]["unit"].as_u64().unwrap();
    let line = moved[1][0].as_u64().unwrap() * unit;
    assert!(line.abs_diff(TOTAL.share(Percent::new(80)).get()) <= unit / 2, "{line}");
}

#[test]
fn a_month_is_no_larger_than_a_day() {
    let data = run(500_000);
    assert!(data.moments.readings_each > 1);
    let page = written("month", &data);
    assert!(page.len() < 600_000, "{}", page.len());
    let document = unpacked(&page);
    let reasons = &document["runs"][0]["reasons"];
    assert_eq!(*reasons, serde_json::json!([["would-not-fit", 499_000, 1000]]));
    assert_eq!(document["runs"][0]["changes"]["worst"].as_array().unwrap().len(), 10);
}

const TOTAL: Bytes = Bytes::from_gib(16);
