//! Hundreds of random situations: whatever happens, no invariant is broken, every request ends at most once, the
//! same situation gives the same events, and its log can be verified.
//!
//! A situation is a scenario's text, so that a failure prints a minimised scenario that can be saved to a file
//! and run. `TIERSHIFT_PROPERTY_SEED` tries other situations; without it they are the same every time.

mod situation;

use std::collections::BTreeMap;
use std::path::Path;

use proptest::strategy::Strategy;
use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestRng, TestRunner};
use situation::{Invented, invented};
use tiershift::log::{LogLevel, LogReader, LogWriter};
use tiershift::scenario::{self, Scenario};
use tiershift::sim::simulate;
use tiershift::study::museum;
use tiershift::study::verify::verify;
use tiershift::summary::Summary;
use tiershift_core::controller::Detail;
use tiershift_core::event::{Event, Input, Output, Record};
use tiershift_core::policy::Registry;
use tiershift_core::request::RequestId;
use tiershift_core::settings::PolicyName;

#[test]
fn no_invented_situation_breaks_an_invariant() {
    try_all(0, |scenario| {
        let played = play(scenario)?;
        let violations = played.summary.violations;
        if violations.is_empty() { Ok(()) } else { Err(violations.join("\n")) }
    });
}

#[test]
fn requests_end_once_or_are_still_open_and_the_counts_agree() {
    try_all(1, |scenario| requests_add_up(&play(scenario)?));
}

#[test]
fn the_same_situation_gives_the_same_log_and_the_log_proves_itself() {
    try_all(2, |scenario| {
        let (first, second) = (play(scenario)?, play(scenario)?);
        if first.log != second.log {
            return Err("two runs differ".to_owned());
        }
        if first.summary != second.summary {
            return Err("two summaries differ".to_owned());
        }
        let log = std::io::Cursor::new(first.log);
        let log = LogReader::new("log", log).map_err(|error| error.to_string())?;
        let verified = verify(log, &Registry::built_in()).map_err(|error| error.to_string())?;
        if verified.records != first.records.len() as u64 {
            return Err(format!("{} of {} records", verified.records, first.records.len()));
        }
        Ok(())
    });
}

/// Whatever an idea of the museum does to the machine, it serves requests like any server.
#[test]
fn ideas_end_every_request_once_and_start_none_on_a_model_that_is_not_ready() {
    let policies = museum::with_ideas(&Registry::built_in());
    let ideas: Vec<PolicyName> = museum::ideas().map(|name| name.parse().unwrap()).collect();
    try_all(3, |scenario| {
        // A situation keeps its idea while the rest is minimised.
        let idea = &ideas[scenario.setup.seed as usize % ideas.len()];
        let played = play_under(&scenario.clone().with_policy(idea), &policies)?;
        let is_law = |rule: &str| {
            ["S1 ", "S2 ", "S6 ", "S7 ", "L1 "].iter().any(|law| rule.starts_with(law))
        };
        match played.summary.violations.iter().find(|rule| is_law(rule)) {
            Some(broken) => Err(format!("{}: {broken}", idea.name())),
            None => requests_add_up(&played).map_err(|why| format!("{}: {why}", idea.name())),
        }
    });
}

#[test]
fn what_once_failed_stays_right() {
    for (name, text) in REGRESSIONS {
        let scenario = scenario::parse(text, name, Path::new(""), &Registry::built_in()).unwrap();
        let played = play(&scenario).unwrap();
        assert_eq!(played.summary.violations, Vec::<String>::new(), "{name}");
        requests_add_up(&played).unwrap_or_else(|why| panic!("{name}: {why}"));
    }
}

/// A run with all its outputs.
struct Played {
    summary: Summary,
    records: Vec<Record>,
    log: Vec<u8>,
}

fn play(scenario: &Scenario) -> Result<Played, String> {
    play_under(scenario, &Registry::built_in())
}

fn play_under(scenario: &Scenario, policies: &Registry) -> Result<Played, String> {
    let mut log =
        LogWriter::new(Vec::new(), scenario.header(LogLevel::Full)).map_err(|e| e.to_string())?;
    let mut records: Vec<Record> = Vec::new();
    let summary =
        simulate(scenario.situation(), policies, Detail::Full, &mut [&mut log, &mut records])
            .map_err(|e| e.to_string())?;
    let (log, _) =
        log.finish_into(std::slice::from_ref(&scenario.digest)).map_err(|e| e.to_string())?;
    Ok(Played { summary, records, log })
}

/// Counts requests from the inputs and outputs of the controller, and compares the counts with the summary.
fn requests_add_up(played: &Played) -> Result<(), String> {
    let mut ends: BTreeMap<RequestId, u32> = BTreeMap::new();
    let mut last = None;
    for record in &played.records {
        if last.is_some_and(|last| last >= (record.at, record.seq)) {
            return Err(format!("record {} is not after the one before it", record.seq));
        }
        last = Some((record.at, record.seq));
        match &record.event {
            Event::Input(Input::Request(request)) => {
                ends.insert(request.id, 0);
            }
            Event::Output(Output::Ended { request, .. }) => match ends.get_mut(request) {
                Some(count) => *count += 1,
                None => return Err(format!("request {request} ended and had not arrived")),
            },
            _ => {}
        }
    }
    if let Some((request, count)) = ends.iter().find(|(_, count)| **count > 1) {
        return Err(format!("request {request} ended {count} times"));
    }
    let ended = ends.values().filter(|count| **count == 1).count() as u64;
    let counts = played.summary.requests;
    let told = counts.done + counts.failed + counts.rejected + counts.cancelled;
    let arrived = ends.len() as u64;
    if (counts.arrived, told, counts.open) != (arrived, ended, arrived - ended) {
        return Err(format!("the summary says {counts:?}; {arrived} arrived, {ended} ended"));
    }
    Ok(())
}

/// Tries a property on as many situations as some seconds allow; prints the smallest that fails.
#[track_caller]
fn try_all(stream: u8, property: impl Fn(&Scenario) -> Result<(), String>) {
    let mut seed = [stream; 32];
    if let Ok(other) = std::env::var("TIERSHIFT_PROPERTY_SEED") {
        let other: u64 = other.parse().expect("TIERSHIFT_PROPERTY_SEED is a number");
        seed[..8].copy_from_slice(&other.to_le_bytes());
    }
    let cases = std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok());
    let config = Config {
        cases: cases.unwrap_or(CASES),
        failure_persistence: None,
        max_shrink_iters: 4000,
        ..Config::default()
    };
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &seed);
    let outcome =
        TestRunner::new_with_rng(config, rng).run(&invented().boxed(), |invented: Invented| {
            let text = invented.to_string();
            let scenario =
                scenario::parse(&text, "invented.toml", Path::new(""), &Registry::built_in())
                    .map_err(|error| TestCaseError::fail(error.to_string()))?;
            property(&scenario).map_err(TestCaseError::fail)
        });
    if let Err(error) = outcome {
        panic!("{error}");
    }
}

/// Number of situations for each property.
const CASES: u32 = 200;

/// Situations that once failed, minimised.
const REGRESSIONS: &[(&str, &str)] =
    &[("nothing-but-time.toml", "duration = \"1m\"\n[machine]\nmemory = \"4GiB\"\n")];
