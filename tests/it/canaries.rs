//! Invariants that can fail: each canary is caught by its own rule, and a sound run breaks nothing.

use std::io::Cursor;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use tiershift::log::{LogLevel, LogReader, LogWriter};
use tiershift::scenario;
use tiershift::sim::simulate;
use tiershift::study::hunt;
use tiershift::study::verify::verify;
use tiershift_core::controller::Detail;
use tiershift_core::decision::{Decision, Reason};
use tiershift_core::policy::{Observation, Policy, Registry};
use tiershift_core::time::Timestamp;
use tiershift_testkit::canary::{self, Canary, Place};

#[test]
fn every_canary_is_caught_by_its_rule() {
    let mut wrong = Vec::new();
    for canary in canary::ALL {
        let violations = canary.play_its_scenario();
        let first = violations.first().map(|violation| hunt::rule(violation));
        // Beyond twenty, violations are only counted ("and ..").
        let is_meant = |violation: &&String| {
            let rule = hunt::rule(violation);
            rule == canary.rule || rule == "and" || canary.also.contains(&rule)
        };
        if first != Some(canary.rule) || !violations.iter().all(|v| is_meant(&v)) {
            wrong.push(format!("{}, meant for {}: {violations:#?}", canary.name, canary.rule));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// L5 applies only to worlds for which it is known when they are quiet; a log does not contain that.
#[test]
fn a_log_of_what_a_canary_did_shows_what_it_broke() {
    let policies = canary::registry();
    for canary in canary::ALL.iter().filter(|canary| canary.rule != "L5") {
        let scenario =
            scenario::parse(&canary.scenario(), "canary.toml", Path::new(""), &policies).unwrap();
        let mut log = LogWriter::new(Vec::new(), scenario.header(LogLevel::Full)).unwrap();
        let summary =
            simulate(scenario.situation(), &policies, Detail::Full, &mut [&mut log]).unwrap();
        let (log, _) = log.finish_into(std::slice::from_ref(&scenario.digest)).unwrap();
        let verified = verify(LogReader::new("log", Cursor::new(log)).unwrap(), &policies).unwrap();
        let first = verified.violations.first().map(|violation| hunt::rule(violation));
        assert_eq!(first, Some(canary.rule), "{}: {:?}", canary.name, summary.violations);
    }
}

#[test]
fn every_rule_has_a_canary() {
    // S7 and S8 are tested in the checker's own tests and below: see `canary::ALL`.
    let rules = [
        "S1", "S2", "S3", "S4", "S5", "S6", "S9", "S10", "S11", "S12", "L1", "L2", "L3", "L4", "L5",
    ];
    for rule in rules {
        assert!(canary::ALL.iter().any(|canary| canary.rule == rule), "{rule} has no canary");
    }
}

#[test]
fn without_its_flaw_a_canary_breaks_nothing() {
    for canary in canary::ALL {
        let sound = canary.scenario().replace(&flaw_of(canary), "policy = \"proactive\"");
        let violations = hunt::violations(&sound, &Registry::built_in());
        assert_eq!(violations, Vec::<String>::new(), "the scenario of {}", canary.name);
    }
}

fn flaw_of(canary: &Canary) -> String {
    let policy = match canary.place {
        Place::Policy => "flawed-policy",
        Place::Controller => "flawed",
    };
    format!("policy = \"{policy}\"\noptions = {{ flaw = \"{}\" }}", canary.name)
}

/// Decides by something that no log contains: how many policies were built before it.
#[derive(Debug)]
struct Unrepeatable {
    built_before: u64,
}

static BUILT: AtomicU64 = AtomicU64::new(0);

impl Policy for Unrepeatable {
    fn observe(&mut self, _now: Timestamp, seen: &Observation<'_>) -> Decision {
        let reasons = [Reason::AtTop, Reason::Fixed];
        seen.standing.hold(reasons[(self.built_before % 2) as usize])
    }
}

#[test]
fn a_policy_that_decides_by_what_is_in_no_log_is_found_by_verify() {
    let mut policies = Registry::built_in();
    policies.register("unrepeatable", |_, _, _| {
        Ok(Box::new(Unrepeatable { built_before: BUILT.fetch_add(1, Ordering::Relaxed) }))
    });
    let text =
        "duration = \"1m\"\n[machine]\nmemory = \"16GiB\"\n[policy]\npolicy = \"unrepeatable\"\n";
    let scenario = scenario::parse(text, "s8.toml", Path::new(""), &policies).unwrap();
    let mut log = LogWriter::new(Vec::new(), scenario.header(LogLevel::Full)).unwrap();
    // Built for the check of the scenario, for the run and for `verify`: an odd number of builds lies between run and `verify`.
    simulate(scenario.situation(), &policies, Detail::Full, &mut [&mut log]).unwrap();
    let (log, _) = log.finish_into(std::slice::from_ref(&scenario.digest)).unwrap();
    let log = LogReader::new("log", Cursor::new(log)).unwrap();
    let error = verify(log, &policies).unwrap_err().to_string();
    assert!(error.contains("the controller answers"), "{error}");
}

/// A fixed part of the hunt, to keep this test short. Worlds in which something was once found are in `scenarios/seeds`.
#[test]
fn random_worlds_break_nothing() {
    let policies = Registry::built_in();
    let broken: Vec<String> = (0..HUNTED)
        .map(|seed| hunt::play(seed, hunt::policy_of(seed), "", &policies))
        .filter(|found| !found.violations.is_empty())
        .map(|found| format!("seed {}: {:#?}\n{}", found.seed, found.violations, found.scenario))
        .collect();
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

const HUNTED: u64 = 300;
