//! The positions of a picture's texts and lines: no overlaps, equal axes, lines that move.

use super::*;
use crate::report::plot::drawing::{self, Anchor, Drawing};
use crate::report::timeline::columns::Scale;
use crate::wall::WallClock;

/// A text of an SVG with the box that it takes.
#[derive(Debug)]
struct TextBox {
    text: String,
    left: i32,
    right: i32,
    top: i32,
    bottom: i32,
}

/// Returns the texts of an SVG, with position and size from their elements.
fn texts(picture: &str) -> Vec<TextBox> {
    let element = |part: &str| {
        let (tag, rest) = part.split_once('>').unwrap();
        let text = rest.split_once("</text>").unwrap().0.trim();
        let text = text.replace("&lt;", "<").replace("&amp;", "&").replace("&quot;", "\"");
        let value = |name: &str| {
            let (_, rest) = tag.split_once(&format!(" {name}=\"")).unwrap();
            rest.split_once('"').unwrap().0.to_owned()
        };
        let [x, y] = ["x", "y"].map(|name| value(name).parse::<i32>().unwrap());
        let size = value("font-size").parse::<f64>().unwrap().round() as i32;
        let width = drawing::text_width(&text, size);
        let left = match value("text-anchor").as_str() {
            "start" => x,
            "middle" => x - width / 2,
            _ => x - width,
        };
        // From the top of a capital to the foot of a letter that has one.
        let (top, bottom) = (y - size / 2, y + size / 2);
        TextBox { text, left, right: left + width, top, bottom }
    };
    picture.split("<text").skip(1).map(element).collect()
}

/// Returns the pairs of texts that overlap, and the texts that leave the sheet.
fn defects(picture: &str) -> Vec<String> {
    let texts = texts(picture);
    let side = |name: &str| {
        let (_, rest) = picture.split_once(&format!(" {name}=\"")).unwrap();
        rest.split_once('"').unwrap().0.parse::<i32>().unwrap()
    };
    let (width, height) = (side("width"), side("height"));
    let mut found = Vec::new();
    for (place, a) in texts.iter().enumerate() {
        if a.left < 0 || a.right > width || a.top < 0 || a.bottom > height {
            found.push(format!("outside: {a:?}"));
        }
        for b in &texts[place + 1..] {
            let is_apart =
                a.right <= b.left || b.right <= a.left || a.bottom <= b.top || b.bottom <= a.top;
            if !is_apart {
                found.push(format!("{a:?} over {b:?}"));
            }
        }
    }
    found
}

#[test]
fn a_text_over_a_text_and_one_beside_the_sheet_are_found() {
    let mut drawing = Drawing::new(200);
    drawing.height = 100;
    drawing.text("memory", (20, 50), Anchor::Start, 14, BLACK);
    drawing.text("others", (70, 64), Anchor::Start, 14, BLACK);
    let picture = |drawing: &Drawing| to_svg(drawing, "", "");
    assert_eq!(defects(&picture(&drawing)), [""; 0]);
    drawing.text("models", (112, 70), Anchor::Middle, 14, BLACK);
    assert_eq!(defects(&picture(&drawing)).len(), 1, "with the one beside it");
    drawing.text("a long name at the edge", (190, 20), Anchor::Start, 14, BLACK);
    assert_eq!(defects(&picture(&drawing)).len(), 2);
}

/// Returns a run of many GPUs with everything that a plot can name: all lines at one height, companions, refusals.
fn crowded(gpus: usize) -> (PlotData, Summary) {
    let mut run = Play::new();
    let gib = Bytes::from_gib;
    let vram = Some(Space { total: gib(24), others: gib(20), own: gib(3) });
    let rate = Some(Rate { others: Percent::new(97), own: Percent::new(1) });
    let gpu = tiershift_core::sample::GpuSample { vram, utilization: rate, ..Default::default() };
    for second in (0..7200).step_by(60) {
        run.now = Timestamp::from_secs(second);
        run.input(&Input::Sample(Sample {
            memory: Some(Space { total: TOTAL, others: gib(1), own: Bytes::ZERO }),
            cpu: rate,
            pressure: Some(Pressure::default()),
            gpus: vec![gpu; gpus],
            ..Sample::default()
        }));
        let request = RequestId(second);
        run.output(&Output::Accepted { request, verdict: Verdict::Queue });
        let end = End::Rejected {
            reason: tiershift_core::request::Rejection::QueueFull,
            retry_after: None,
            estimate: false,
        };
        run.output(&Output::Ended { request, end });
    }
    run.data.set_clock(&WallClock::from_start("2026-01-31T23:10:20+01:00".parse().unwrap()));
    run.data.finish(run.now);
    (run.data, run.fold.finish(run.now))
}

#[test]
fn no_text_lies_over_another() {
    let mut pictures = Vec::new();
    for (name, script) in scripts() {
        let (mut data, summary) = play(&script);
        pictures.push((name.to_owned(), svg(name, &data, &summary)));
        data.set_clock(&WallClock::from_start("2025-12-31T20:00:07".parse().unwrap()));
        pictures.push((format!("{name}, with a clock"), svg(&name.repeat(20), &data, &summary)));
        let title = Title { name: name.to_owned(), ..Title::default() };
        let run = Run { title: &title, data: &data, summary: &summary };
        pictures.push((format!("{name} twice"), crate::report::plot::svg(&[run, run])));
    }
    for gpus in [0, 1, 2, 3, 8, 16] {
        let (data, summary) = crowded(gpus);
        let picture = svg("crowded", &data, &summary);
        assert_eq!(picture.matches("video memory").count(), gpus, "a panel for each GPU");
        pictures.push((format!("{gpus} GPUs"), picture));
    }
    for (name, picture) in pictures {
        assert_eq!(defects(&picture), [""; 0], "{name}");
    }
}

#[test]
fn refusals_are_drawn_and_counted() {
    let (data, summary) = crowded(1);
    let picture = svg("refused", &data, &summary);
    assert!(texts(&picture).iter().any(|text| text.text == "120 refused"));
    let bars = picture.matches("width=\"2\" height=\"32\" opacity=\"1\" fill=\"#D55E00\"").count();
    assert_eq!(bars, 120, "each hangs from the top of the requests");
}

/// Returns the names of the values beside the panels of a picture, from top to bottom.
fn values(picture: &str) -> Vec<String> {
    let texts = texts(picture);
    let is_value = |text: &&TextBox| text.right == LEFT - 8;
    texts.iter().filter(is_value).map(|text| text.text.clone()).collect()
}

#[test]
fn runs_that_are_compared_have_equal_axes() {
    let [(_, idle), (_, loss), ..] = &scripts()[..] else { unreachable!() };
    let (quiet, busy) = (play(idle), play(loss));
    let alone = [&quiet, &busy].map(|(data, summary)| values(&svg("", data, summary)));
    let title = Title::default();
    let both = [&quiet, &busy].map(|(data, summary)| Run { title: &title, data, summary });
    let together = values(&crate::report::plot::svg(&both));
    assert_ne!(alone[0], alone[1], "by themselves, they are not equal");
    let (upper, lower) = together.split_at(together.len() / 2);
    assert_eq!(upper, lower);
}

#[test]
fn a_forecast_stretches_no_axis() {
    let run_with = |projected: Bytes| {
        let mut run = Play::new();
        let memory = Space { total: TOTAL, others: Bytes::from_gib(8), own: Bytes::ZERO };
        run.input(&Input::Sample(Sample { memory: Some(memory), ..Sample::default() }));
        let (to, resource, limit) = (Rung(3), Resource::Memory, Bytes::from_gib(14));
        let reason = Reason::WouldNotFit { to, resource, gpu: None, projected, limit };
        let action = Action::Hold;
        run.output(&Output::Decision(Decision { action, rung: Rung(0), reason, gates: vec![] }));
        run.data.finish(Timestamp::from_secs(60));
        values(&svg("", &run.data, &run.fold.finish(Timestamp::from_secs(60))))
    };
    assert_eq!(run_with(Bytes::from_gib(9)), run_with(Bytes::from_gib(900)));
}

#[test]
fn lines_follow_the_machine_and_the_settings() {
    let mut run = Play::new();
    let sample = |total: u64| {
        let gib = Bytes::from_gib;
        let memory = Space { total: gib(total), others: gib(2), own: Bytes::ZERO };
        Input::Sample(Sample { memory: Some(memory), ..Sample::default() })
    };
    run.input(&sample(16));
    run.now = Timestamp::from_secs(60);
    run.input(&sample(8));
    run.now = Timestamp::from_secs(120);
    let raw: RawSettings = toml::from_str("degrade-line = \"75%\"\nfree-floor = \"0B\"").unwrap();
    run.input(&Input::Settings(Box::new(raw)));
    run.input(&sample(8));
    let end = Timestamp::from_secs(180);
    run.data.finish(end);
    let picture = svg("", &run.data, &run.fold.finish(end));
    let texts = texts(&picture);
    for want in ["all 8.0 GiB", "degrade 6.0 (75%)"] {
        assert!(texts.iter().any(|text| text.text == want), "{want}: {texts:?}");
    }
    // 16 and 8 GiB, then a lower line: each stays in place until it moves.
    let scale = Scale { begin: Timestamp::ZERO, end, pixels: 180, holds_to_end: true };
    let held = run.data.memory.degrade.columns.held(scale, &[]);
    let at = |second: usize| Bytes::new(held[second].unwrap().last).as_gib();
    assert!(at(30) > 13.0 && (6.9..7.3).contains(&at(90)) && at(150) == 6.0, "{held:?}");
}

#[test]
fn of_many_changes_the_worst_are_listed_and_the_reasons_are_counted() {
    let (_, hasty) = scripts().into_iter().nth(3).unwrap();
    let (data, summary) = play(&hasty);
    let picture = svg("hasty", &data, &summary);
    let texts: Vec<String> = texts(&picture).into_iter().map(|text| text.text).collect();
    let count = data.timeline.changes().len();
    assert!(count > 100, "{count}");
    assert!(texts.iter().any(|text| text.starts_with(&format!("The 10 worst of {count} changes"))));
    let counted: usize = texts
        .iter()
        .filter_map(|text| text.strip_suffix(" x").and_then(|count| count.parse::<usize>().ok()))
        .sum();
    assert_eq!(counted, count, "every change has its reason");
}
