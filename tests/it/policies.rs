//! External policies: registered by name, run, verified, and checked against their promises; and how a policy is chosen.

use std::fs;
use std::path::Path;
use std::time::Duration;

use tiershift::exec::ExecError;
use tiershift::log::{LogLevel, LogReader, LogWriter};
use tiershift::scenario::{self, Scenario};
use tiershift::sim::adviser::Adviser;
use tiershift::sim::{Ground, Situation, simulate};
use tiershift::study::verify::verify;
use tiershift_core::catalog::Rung;
use tiershift_core::controller::Detail;
use tiershift_core::decision::{Code, Decision, Measure, Reason, Urgency};
use tiershift_core::event::{Consult, Event, Input, Observe, Output, Record};
use tiershift_core::machine::Machine;
use tiershift_core::policy::{
    Constructor, External, Observation, Policy, Promises, Registry, Standing,
};
use tiershift_core::sample::{Resource, Sample, Space};
use tiershift_core::settings::RawSettings;
use tiershift_core::setup::Setup;
use tiershift_core::time::Timestamp;
use tiershift_core::units::{Bytes, Percent, PercentText};

use crate::support::run_in;

/// Keeps the highest tier while less than a share of the memory is in use; otherwise the smallest.
#[derive(Debug)]
struct Threshold {
    top: Rung,
    share: Percent,
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct ThresholdOptions {
    share_percent: u32,
}

impl Policy for Threshold {
    fn observe(&mut self, _now: Timestamp, seen: &Observation<'_>) -> Decision {
        let Observation { sample, standing, .. } = *seen;
        let Some(memory) = sample.memory.filter(|_| !standing.switching) else {
            return standing.hold(Reason::NoData);
        };
        let is_low = memory.others < memory.total.share(self.share);
        let want = if is_low { self.top } else { Rung(1) };
        let reason = Reason::Own {
            code: if is_low { LOW_USE } else { HIGH_USE },
            resource: Some(Resource::Memory),
            value: Some(Measure::Bytes(memory.others)),
            limit: Some(Measure::Bytes(memory.total.share(self.share))),
            lasted: None,
        };
        if want > standing.rung {
            standing.up(want, reason)
        } else if want < standing.rung {
            standing.down(want, Urgency::Immediate, reason)
        } else {
            standing.hold(reason)
        }
    }

    fn codes(&self) -> &'static [Code] {
        &[LOW_USE, HIGH_USE]
    }
}

const LOW_USE: Code = Code::new("low-use");
const HIGH_USE: Code = Code::new("high-use");

fn with_threshold() -> Registry {
    let mut policies = Registry::built_in();
    policies.register("threshold", |_settings, catalog, options| {
        let ThresholdOptions { share_percent } = options.read()?;
        Ok(Box::new(Threshold { top: catalog.top(), share: Percent::new(share_percent) }))
    });
    policies
}

fn parse(policy: &str, because: &str, policies: &Registry) -> Result<Scenario, String> {
    let text = format!(
        "duration = \"20m\"\n[machine]\nmemory = \"16GiB\"\n[policy]\n{policy}\n\
         [[background]]\nresource = \"memory\"\nshape = \"constant\"\nlevel = \"2GiB\"\n\
         [[background]]\nresource = \"memory\"\nshape = \"constant\"\nlevel = \"4GiB\"\nat = \"10m\"\n\
         [expect]\norder = [\"because:{because}\"]\n"
    );
    scenario::parse(&text, "outside.toml", Path::new(""), policies).map_err(|e| e.to_string())
}

#[test]
fn a_policy_from_outside_runs_with_its_options_and_its_log_verifies() {
    let policies = with_threshold();
    let played = |share: u32| {
        let policy = format!("policy = \"threshold\"\noptions = {{ share-percent = {share} }}");
        let scenario = parse(&policy, "low-use", &policies).unwrap();
        let mut log = LogWriter::new(Vec::new(), scenario.header(LogLevel::Full)).unwrap();
        let mut expected = scenario.expect.checker(&scenario.setup.catalog);
        let observers: &mut [&mut dyn Observe] = &mut [&mut log, &mut expected];
        let situation = scenario.situation();
        let summary = simulate(situation, &policies, Detail::Full, observers).unwrap();
        assert!(expected.finish(&summary).is_empty());
        assert_eq!(summary.violations, Vec::<String>::new());
        assert_eq!(summary.policy, "threshold");
        let (log, _) = log.finish_into(std::slice::from_ref(&scenario.digest)).unwrap();
        let read = || LogReader::new("log", std::io::Cursor::new(log.clone())).unwrap();
        assert!(verify(read(), &policies).unwrap().decisions > 500);
        let error = verify(read(), &Registry::built_in()).unwrap_err().to_string();
        assert!(error.starts_with("unknown policy `threshold`; known: exec"), "{error}");
        (summary.upgrades, summary.downgrades)
    };
    assert_eq!(played(50), (1, 0));
    assert_eq!(played(30), (1, 1));
}

#[test]
fn options_and_names_are_refused_where_they_stand() {
    let check = |policy: &str, because: &str, wanted: &[&str]| {
        let refused = parse(policy, because, &with_threshold()).unwrap_err();
        for wanted in wanted {
            assert!(refused.contains(wanted), "{wanted}: {refused}");
        }
    };
    let wrong = "policy = \"threshold\"\noptions = { share-percnt = 5 }";
    check(wrong, "room", &["outside.toml:6:1", "`share-percnt`", "`share-percent`", "`threshold`"]);
    let none = "policy = \"projecting\"\noptions = { share-percent = 5 }";
    check(none, "room", &["outside.toml:6:1", "`share-percent`: this policy has no options"]);
    check(
        "policy = \"treshold\"",
        "room",
        &["outside.toml:5:", "did you mean `threshold`?", "original"],
    );
    check("policy = \"No Name\"", "room", &["outside.toml:5:", "is not the name of a policy"]);
    let right = "policy = \"threshold\"\noptions = { share-percent = 5 }";
    let table = "policy = \"threshold\"\n[policy.options]\nshare-percnt = 5";
    check(table, "room", &["outside.toml:6:1", "`share-percnt`"]);
    check(right, "low-us", &["`because:low-us` can never happen", "did you mean `low-use`?"]);
    check("", "low-use", &["`because:low-use` can never happen"]);
}

/// Promises something, and decides by what is loaded.
#[derive(Debug)]
struct Script {
    promises: Promises,
    decide: fn(&Standing) -> Decision,
}

impl Policy for Script {
    fn observe(&mut self, _now: Timestamp, seen: &Observation<'_>) -> Decision {
        if seen.standing.switching {
            return seen.standing.hold(Reason::Switching);
        }
        (self.decide)(seen.standing)
    }

    fn promises(&self) -> Promises {
        self.promises
    }
}

/// Returns the rules that a policy breaks on a machine of 16 GiB with `others` [GiB] of others' use, each for five minutes.
fn broken(constructor: Constructor, others: &'static [u64]) -> Vec<String> {
    let mut policies = Registry::built_in();
    policies.register("scripted", constructor);
    let total = Bytes::from_gib(16);
    let samples = (0..others.len() * 150).map(move |index| {
        let others = Bytes::from_gib(others[index / 150]);
        let memory = Some(Space { total, others, own: Bytes::ZERO });
        Ok((Timestamp::from_secs(2 * index as u64), Sample { memory, ..Sample::default() }))
    });
    let mut setup = Setup::of_machine(Machine { memory: total, cpus: 8, ..Machine::default() });
    setup.settings.set_policy("scripted".parse().unwrap());
    setup.settings.upgrade_line = Some(PercentText(Percent::new(50)));
    let situation = Situation::of_recording(setup, Ground::recorded(samples));
    let summary = simulate(situation, &policies, Detail::Silent, &mut []).unwrap();
    let rule = |violation: &String| violation.split(' ').next().unwrap().to_owned();
    let mut rules: Vec<String> = summary.violations.iter().map(rule).collect();
    // Beyond twenty, violations are only counted ("and ..").
    rules.retain(|rule| rule != "and");
    rules.dedup();
    rules
}

fn climb(standing: &Standing) -> Decision {
    match standing.rung {
        Rung(3) => standing.hold(Reason::AtTop),
        Rung(below) => standing.up(Rung(below + 1), Reason::NoData),
    }
}

fn swing(standing: &Standing) -> Decision {
    match standing.rung {
        Rung(2) => standing.down(Rung(1), Urgency::Immediate, Reason::NoData),
        _ => standing.up(Rung(2), Reason::NoData),
    }
}

fn largest_for_ever(standing: &Standing) -> Decision {
    match standing.rung {
        Rung::NONE => standing.up(Rung(3), Reason::NoData),
        _ => standing.hold(Reason::Fixed),
    }
}

fn never(standing: &Standing) -> Decision {
    standing.hold(Reason::Fixed)
}

/// Builds the constructor of a policy that makes one promise, which it breaks, and of its twin that promises nothing.
macro_rules! liar {
    ($decide:ident, $promise:ident = $value:expr) => {{
        let lying: Constructor = |_, _, _| {
            let mut promises = Promises::default();
            promises.$promise = $value;
            Ok(Box::new(Script { promises, decide: $decide }))
        };
        let honest: Constructor =
            |_, _, _| Ok(Box::new(Script { promises: Promises::default(), decide: $decide }));
        (lying, honest)
    }};
}

#[test]
fn a_policy_is_held_to_what_it_promises_and_to_nothing_else() {
    let cases: [((Constructor, Constructor), &'static [u64], &str); 5] = [
        (liar!(climb, window = Some(Duration::from_mins(5))), &[2, 2], "S5"),
        (liar!(swing, no_reversal = true), &[2, 2], "S5"),
        (liar!(climb, upgrades_fit = true), &[7, 7], "S5"),
        (liar!(largest_for_ever, relief_within = Some(Duration::from_secs(9))), &[2, 7], "L2"),
        (liar!(never, recovery_within = Some(Duration::from_mins(7))), &[2, 2], "L3"),
    ];
    for ((lying, honest), others, rule) in cases {
        assert_eq!(broken(lying, others), [rule]);
        assert_eq!(broken(honest, others), Vec::<String>::new(), "{rule}");
    }
    let (patient, _) = liar!(never, recovery_within = Some(Duration::from_mins(30)));
    assert_eq!(broken(patient, &[2, 2]), Vec::<String>::new());
}

#[test]
fn a_policy_is_chosen_alike_on_every_verb() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    fs::create_dir(at("policies")).unwrap();
    let mine = "policy = \"projecting\"\nstabilization = \"1m\"\n";
    fs::write(at("policies/mine"), mine).unwrap();
    let scenario =
        "duration = \"10m\"\n[machine]\nmemory = \"16GiB\"\n[policy]\nfailure-limit = 7\n";
    fs::write(at("plain.toml"), scenario).unwrap();
    run_in(folder.path(), "run plain.toml --out plain").exits(0);
    let chosen = |verb: &str, policy: &str| {
        run_in(folder.path(), &format!("{verb} --policy {policy} --out out")).exits(0);
        let log = LogReader::open(&at("out")).unwrap();
        let RawSettings { policy, constrain, stabilization, failure_limit, .. } =
            log.header().settings.clone();
        fs::remove_dir_all(at("out")).unwrap();
        (
            policy.name().to_owned(),
            constrain.len(),
            stabilization.longest().as_secs(),
            failure_limit,
        )
    };
    for verb in ["run plain.toml", "replay plain"] {
        // A name changes the policy; a file changes everything.
        assert_eq!(chosen(verb, "original"), ("original".to_owned(), 5, 300, 7), "{verb}");
        assert_eq!(chosen(verb, "memory-only"), ("proactive".to_owned(), 1, 300, 7), "{verb}");
        assert_eq!(chosen(verb, "policies/mine"), ("projecting".to_owned(), 5, 60, 3), "{verb}");
    }
    let refused = run_in(folder.path(), "run plain.toml --policy orignal").exits(2);
    assert!(refused.err.contains("did you mean `original`?"), "{}", refused.err);
}

/// Wants the largest model; answers every third question ten samples late, and none after a quarter of an hour.
struct Slow(u64);

impl Adviser for Slow {
    fn advise(
        &mut self,
        _now: Timestamp,
        sample: &Sample,
        consult: &Consult,
    ) -> Result<Option<(Rung, Duration)>, ExecError> {
        assert!(sample.memory.is_some(), "the adviser is shown what the policy was shown");
        self.0 += 1;
        let delay = if consult.question.is_multiple_of(3) { 20 } else { 0 };
        Ok((self.0 <= 100).then_some((Rung(3), Duration::from_secs(delay))))
    }
}

#[test]
fn advice_is_an_input_and_a_log_of_it_verifies_without_the_adviser() {
    let mut policies = Registry::built_in();
    policies.register("external", External::build);
    let policy = "policy = \"external\"\noptions = { max-age = \"5s\" }";
    let scenario = parse(policy, "advised", &policies).unwrap();
    let mut log = LogWriter::new(Vec::new(), scenario.header(LogLevel::Full)).unwrap();
    let mut expected = scenario.expect.checker(&scenario.setup.catalog);
    let mut records: Vec<Record> = Vec::new();
    let observers: &mut [&mut dyn Observe] = &mut [&mut log, &mut expected, &mut records];
    let situation = Situation { adviser: Some(Box::new(Slow(0))), ..scenario.situation() };
    let summary = simulate(situation, &policies, Detail::Full, observers).unwrap();
    assert_eq!((summary.upgrades, summary.violations.len()), (1, 0), "{:?}", summary.violations);
    assert!(expected.finish(&summary).is_empty());
    let count = |is_it: fn(&Event) -> bool| records.iter().filter(|r| is_it(&r.event)).count();
    let answers = count(|event| matches!(event, Event::Input(Input::Advice(_))));
    let holds = |code: Code| {
        let is_it = |record: &&Record| match &record.event {
            Event::Output(Output::Decision(decision)) => decision.reason.code() == code,
            _ => false,
        };
        records.iter().filter(is_it).count()
    };
    assert_eq!(answers, 100);
    assert!(count(|event| matches!(event, Event::Output(Output::Consult(_)))) > answers);
    assert!(holds(External::STALE_ADVICE) > 100 && holds(External::ADVISED) > 50);
    let (log, _) = log.finish_into(std::slice::from_ref(&scenario.digest)).unwrap();
    let log = LogReader::new("log", std::io::Cursor::new(log)).unwrap();
    assert!(verify(log, &policies).unwrap().decisions > 500);
}
