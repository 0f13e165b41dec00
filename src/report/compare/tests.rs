use super::*;
use crate::study::compare::Compared;
use crate::summary::{Comparison, Percentiles, RequestCounts, Summary};

/// Three recordings, one of them too short to count, under two policies and two seeds; the fourth file is not a
/// recording.
fn compared() -> Compared {
    let run = |seconds: f64, share: f64, switches: u64, p95: f64| Summary {
        seconds,
        switches,
        reversals: 1,
        quality_served_fraction: 0.8 * share,
        seconds_over_memory: 30.0,
        seconds_over_memory_unavoidable: 40.0,
        comparison: Some(Comparison::of_share(share)),
        requests: RequestCounts { arrived: 9, rejected: 2, ..RequestCounts::default() },
        latency_ms: Some(Percentiles { p95, ..Percentiles::default() }),
        ..Summary::default()
    };
    let policies = ["proactive", "exec:python3 a-longer-name.py"].map(str::to_owned);
    let seeds = [1, 2];
    let on = |name: &str, runs: &[Summary]| {
        OnRecording::played(name.to_owned(), &policies, &seeds, runs)
    };
    let warned = Summary { warnings: vec!["a row".to_owned()], ..run(7200.0, 0.97, 3, 850.0) };
    let broken = Summary { violations: vec!["L3 at 5 s".to_owned()], ..run(7200.0, 0.9, 7, 900.0) };
    let recordings = vec![
        on("a.csv", &[0.99, 0.985, 0.95, 0.941].map(|share| run(86_400.0, share, 3, 800.0))),
        on("b|c.csv", &[warned, run(7200.0, 0.965, 4, 900.0), broken, run(7200.0, 0.9, 6, 910.0)]),
        on("short.csv", &[0.5, 0.5, 0.4, 0.4].map(|share| run(600.0, share, 1, 800.0))),
        OnRecording::skipped("notes.txt".to_owned(), "in no known format".to_owned()),
    ];
    Compared::new(policies.to_vec(), seeds.to_vec(), recordings)
}

#[test]
fn the_text_has_every_recording_the_means_and_what_follows_from_them() {
    let text = text(&compared());
    let table = text.lines().take_while(|line| !line.starts_with("columns: "));
    assert!(table.into_iter().all(|line| line.chars().count() <= 100), "{text}");
    insta::assert_snapshot!(text);
}

#[test]
fn markdown_is_a_table_that_names_cannot_break() {
    insta::assert_snapshot!(markdown(&compared()));
}

#[test]
fn csv_has_a_row_for_each_run() {
    insta::assert_snapshot!(String::from_utf8(csv(&compared())).unwrap());
}
