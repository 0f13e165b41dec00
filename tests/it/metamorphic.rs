//! Pairs of runs that differ in something that must not matter, and their decisions: bytes doubled, time shifted, a reading
//! taken twice, a rung that cannot be loaded. With the scenarios of the project, and random worlds.
//!
//! The pairs need no oracle: both runs must decide the same. Each relation states what is compared, what is left out, and
//! why. `core/tests/it/metamorphic.rs` has the relations for a machine without faults.

use std::path::Path;
use std::time::Duration;

use serde_json::Value;
use tiershift::scenario::{self, Scenario};
use tiershift::sim::simulate;
use tiershift::study::hunt;
use tiershift::study::suite::scenario_files;
use tiershift_core::catalog::Catalog;
use tiershift_core::controller::{Controller, Detail};
use tiershift_core::decision::Action;
use tiershift_core::event::{Event, EventRef, Input, Observe, Output, Record};
use tiershift_core::model::RawModel;
use tiershift_core::policy::Registry;
use tiershift_core::sample::Resource;
use tiershift_core::settings::{PolicyName, Settings};
use tiershift_core::time::{SpanText, Timestamp, nanos};
use tiershift_core::units::Bytes;
use toml::Table;

use crate::support::root;

/// A scenario under one of our policies, as a document and parsed.
struct Situation {
    name: String,
    document: Table,
    scenario: Scenario,
    settings: Settings,
}

impl Situation {
    fn is_under_ours(&self) -> bool {
        self.settings.policy == PolicyName::default()
    }

    fn catalog(&self) -> &Catalog {
        &self.scenario.setup.catalog
    }

    /// Returns the document with every model and every line written out, so that nothing depends on the machine's size.
    fn written_out(&self) -> Table {
        let mut document = self.document.clone();
        document.remove("catalog");
        document.remove("expect");
        document.remove("baseline");
        let models = self.catalog().models().iter().map(|model| {
            let mut table = Table::try_from(RawModel::from(model)).unwrap();
            table.remove("file");
            toml::Value::Table(table)
        });
        document.insert("model".to_owned(), models.collect::<Vec<_>>().into());
        let policy = document.entry("policy").or_insert_with(|| Table::new().into());
        let policy = policy.as_table_mut().unwrap();
        let settings = &self.settings;
        for (key, value) in [
            ("upgrade-line", settings.upgrade_line.to_string()),
            ("preventive-line", settings.preventive_line.to_string()),
            ("free-floor", settings.free_floor.to_string()),
            ("settle-tolerance", settings.settle_tolerance.to_string()),
        ] {
            policy.insert(key.to_owned(), value.into());
        }
        document
    }
}

/// Returns the scenarios without a recording under one of our policies, and random worlds.
fn situations() -> Vec<Situation> {
    let policies = Registry::built_in();
    let mut all = Vec::new();
    let folders = ["scenarios", "scenarios/seeds"].map(|folder| root().join(folder));
    for path in scenario_files(&folders).unwrap() {
        let text = std::fs::read_to_string(&path).unwrap();
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        if let Ok(scenario) = scenario::parse(&text, &name, path.parent().unwrap(), &policies) {
            all.push((name, text, scenario));
        }
    }
    for world in 0..WORLDS {
        let text = hunt::world::scenario(&world.into(), hunt::policy_of(world), "");
        let name = format!("world {world}");
        let scenario = scenario::parse(&text, &name, Path::new(""), &policies).unwrap();
        all.push((name, text, scenario));
    }
    let all = all
        .into_iter()
        .filter(|(_, text, scenario)| !text.contains("trace") && scenario.duration <= LONGEST);
    all.map(|(name, text, scenario)| Situation {
        name,
        document: text.parse().unwrap(),
        settings: scenario.setup.checked_settings().unwrap(),
        scenario,
    })
    .collect()
}

/// Plays a scenario and returns the inputs and outputs of the controller.
fn play(scenario: &Scenario) -> Vec<Record> {
    let mut records: Vec<Record> = Vec::new();
    let policies = Registry::built_in();
    simulate(scenario.situation(), &policies, Detail::Holds, &mut [&mut records]).unwrap();
    records
}

fn play_document(document: &Table) -> Vec<Record> {
    let text = toml::to_string(document).unwrap();
    let scenario = scenario::parse(&text, "changed.toml", Path::new(""), &Registry::built_in());
    play(&scenario.unwrap_or_else(|error| panic!("{error}\n{text}")))
}

/// Feeds a run's inputs to a new controller, each at the moment that `at` returns for its time; with `twice`, repeats each reading
/// on which the controller decides nothing.
fn feed(
    situation: &Situation,
    records: &[Record],
    at: impl Fn(Timestamp) -> Timestamp,
    twice: bool,
) -> Vec<Record> {
    let policies = Registry::built_in();
    let mut controller =
        Controller::new(&situation.settings, situation.catalog(), Detail::Holds, &policies)
            .unwrap();
    let mut answers: Vec<Record> = Vec::new();
    for record in records {
        let Event::Input(input) = &record.event else { continue };
        let at = at(record.at);
        let mut hand = |input: &Input| {
            controller.handle(at, input);
            let mut acts = false;
            while let Some(output) = controller.poll_output() {
                acts |= !is_hold(&output);
                answers.observe(at, EventRef::Output(&output));
            }
            acts
        };
        let acts = hand(input);
        if twice && !acts && matches!(input, Input::Sample(_)) {
            hand(input);
        }
    }
    answers
}

fn is_hold(output: &Output) -> bool {
    matches!(output, Output::Decision(decision) if decision.action == Action::Hold)
}

/// Returns the answers as they are in the log.
fn answers(records: &[Record], holds: bool) -> Vec<(Timestamp, Value)> {
    let outputs = records.iter().filter_map(|record| match &record.event {
        Event::Output(output) if holds || !is_hold(output) => {
            Some((record.at, serde_json::to_value(output).unwrap()))
        }
        Event::Output(_) | Event::Input(_) => None,
    });
    outputs.collect()
}

/// Changes every number of a document by a function of its key.
fn change(key: &str, value: &mut Value, with: &impl Fn(&str, u64) -> Option<u64>) {
    match value {
        Value::Object(fields) => {
            fields.iter_mut().for_each(|(key, value)| change(key, value, with));
        }
        Value::Array(items) => items.iter_mut().for_each(|item| change(key, item, with)),
        Value::Number(number) => {
            if let Some(other) = number.as_u64().and_then(|number| with(key, number)) {
                *value = other.into();
            }
        }
        Value::Null | Value::Bool(_) | Value::String(_) => {}
    }
}

/// Compares the answers of two runs; `None` where they are the same.
fn first_difference(
    want: &[(Timestamp, Value)],
    got: &[(Timestamp, Value)],
    is_close: impl Fn(&str, u64, u64) -> bool,
) -> Option<String> {
    let differs = |((at, want), (other, got)): &(&(Timestamp, Value), &(Timestamp, Value))| {
        at != other || !is_like("", want, got, &is_close)
    };
    match want.iter().zip(got).find(differs) {
        Some(((at, want), (other, got))) => {
            let [at, other] = [at, other].map(|at| at.as_secs_f64());
            Some(format!("want at {at} s {want}\n got at {other} s {got}"))
        }
        None if want.len() == got.len() => None,
        None => Some(format!("{} answers, and {} the other time", want.len(), got.len())),
    }
}

fn is_like(
    key: &str,
    want: &Value,
    got: &Value,
    is_close: &impl Fn(&str, u64, u64) -> bool,
) -> bool {
    match (want, got) {
        (Value::Object(want), Value::Object(got)) => {
            let fields = want.iter().zip(got);
            let mut alike = fields.map(|((key, want), (other, got))| {
                key == other && is_like(key, want, got, is_close)
            });
            want.len() == got.len() && alike.all(|alike| alike)
        }
        (Value::Array(want), Value::Array(got)) => {
            want.len() == got.len()
                && want.iter().zip(got).all(|(want, got)| is_like(key, want, got, is_close))
        }
        (Value::Number(want), Value::Number(got)) => match (want.as_u64(), got.as_u64()) {
            (Some(want), Some(got)) => want == got || is_close(key, want, got),
            _ => want == got,
        },
        _ => want == got,
    }
}

/// Checks a relation in every situation to which it applies, and fails with those for which it does not hold.
#[track_caller]
fn check_all(least: usize, relation: impl Fn(&Situation) -> Option<Result<(), String>>) {
    let (mut compared, mut broken) = (0, Vec::new());
    for situation in situations() {
        match relation(&situation) {
            None => {}
            Some(Ok(())) => compared += 1,
            Some(Err(why)) => {
                compared += 1;
                broken.push(format!("{}: {why}", situation.name));
            }
        }
    }
    assert!(broken.is_empty(), "{} of {compared}\n{}", broken.len(), broken.join("\n"));
    assert!(compared >= least, "{compared} compared, and {least} there should be");
}

fn as_result(difference: Option<String>) -> Option<Result<(), String>> {
    Some(difference.map_or(Ok(()), Err))
}

/// Compares every answer with its moment and its reason, with sizes doubled: the machine, the models, others' use in bytes, and
/// the two settings in bytes. The lines are those of the smaller machine, because the lines of a machine's class depend on its
/// size on purpose. A share of a size is rounded down to whole bytes, so that sizes, and figures computed from them, differ
/// slightly. A decision that depends on such a difference ends the comparison.
#[test]
fn bytes_twice_as_many_give_the_same_answers() {
    check_all(100, |situation| {
        let document = situation.written_out();
        let mut doubled = toml::Value::Table(document.clone());
        double(&mut doubled);
        let mut want = answers(&play_document(&document), true);
        let mut got = answers(&play_document(doubled.as_table().unwrap()), true);
        if let Some(end) = want.iter().position(|(_, answer)| is_on_the_line(answer)) {
            want.truncate(end);
            got.truncate(end);
        }
        let twice =
            |key: &str, number: u64| key.ends_with("_bytes").then(|| number.saturating_mul(2));
        for (_, answer) in &mut want {
            change("", answer, &twice);
        }
        as_result(first_difference(&want, &got, |key, want, got| {
            let apart = want.abs_diff(got);
            match key {
                _ if key.ends_with("_bytes") => apart <= ROUNDED_BYTES,
                // The risk depends steeply on others' movement, which is rounded.
                "risk_milli_percent" => apart <= 1 + want / 1000,
                _ if key.ends_with("_ns") => apart <= want / 1000,
                _ => apart <= 1,
            }
        }))
    });
}

/// Returns whether a decision depends on one or two bytes, which rounding may change.
fn is_on_the_line(answer: &Value) -> bool {
    let reason = answer.pointer("/decision/reason").and_then(Value::as_object);
    reason.into_iter().flat_map(|reason| reason.values()).any(|figures| {
        let size = |key: &str| figures.get(key).and_then(Value::as_u64);
        let apart = |key: &str| Some(size(key)?.abs_diff(size("limit_bytes")?));
        let nearest = apart("projected_bytes").into_iter().chain(apart("used_bytes")).min();
        nearest.is_some_and(|apart| apart <= ROUNDED_BYTES)
    })
}

/// Doubles every size of a document. Shares, spans, rates and numbers are not sizes.
fn double(value: &mut toml::Value) {
    match value {
        toml::Value::String(text) => {
            // "2m" is two minutes, but would also parse as two megabytes.
            let is_span = text.parse::<SpanText>().is_ok();
            if let Some(bytes) = text.parse::<Bytes>().ok().filter(|_| !is_span) {
                *text = Bytes::new(2 * bytes.get()).to_string();
            }
        }
        toml::Value::Array(items) => items.iter_mut().for_each(double),
        toml::Value::Table(fields) => fields.iter_mut().for_each(|(_, value)| double(value)),
        toml::Value::Integer(_)
        | toml::Value::Float(_)
        | toml::Value::Boolean(_)
        | toml::Value::Datetime(_) => {}
    }
}

/// Compares every answer, with its moment later by the shift. The same inputs are fed to a new controller, but later. The
/// shift is a whole number of the parts in which others' movement is kept, because these are counted from the start of a run:
/// with another shift, a movement would be forgotten up to a thirtieth of the horizon sooner or later.
#[test]
fn time_that_begins_later_gives_the_same_answers_later() {
    check_all(150, |situation| {
        let records = play(&situation.scenario);
        let horizon = nanos(situation.settings.reversal_window * 2);
        let shift = Duration::from_nanos((horizon / PARTS_OF_THE_HORIZON).max(1) * 10_007);
        let mut want = answers(&records, true);
        for (at, answer) in &mut want {
            *at += shift;
            let later = |key: &str, number: u64| (key == "until_ns").then(|| number + nanos(shift));
            change("", answer, &later);
        }
        let got = answers(&feed(situation, &records, |at| at + shift, false), true);
        as_result(first_difference(&want, &got, |_, _, _| false))
    });
}

/// Compares every answer except holds, of which each additional reading causes one more. Two readings at one moment contain the
/// same information as one: nothing may count readings where it means time. Only readings without a decision are repeated,
/// because a reading right after a decision shows its consequences, as the next one would. Baselines are left out: they count
/// readings as their originals do.
#[test]
fn a_reading_that_is_split_in_two_equal_ones_gives_the_same_answers() {
    check_all(120, |situation| {
        if !situation.is_under_ours() {
            return None;
        }
        let records = play(&situation.scenario);
        let want = answers(&records, false);
        let got = answers(&feed(situation, &records, |at| at, true), false);
        as_result(first_difference(&want, &got, |_, _, _| false))
    });
}

/// Compares every answer except holds, whose reason may be the rung that does not fit. The rung is inserted between two others,
/// with a model that is larger than the machine; the numbers of the rungs above it increase by one. Left out are settings that do not
/// constrain memory, under which the model may be tried; baselines, which step up rung by rung; and the reason why a model has been
/// the smallest for long, which names the next rung.
#[test]
fn a_rung_that_nobody_can_load_changes_nothing() {
    check_all(60, |situation| {
        let catalog = situation.catalog();
        let constrains = situation.settings.constrains(Resource::Memory);
        let ladder = catalog.ladder_models();
        let qualities: Vec<u32> = ladder.iter().map(|model| model.quality.milli()).collect();
        let gap = qualities.windows(2).position(|pair| pair[0] + 1 < pair[1]);
        let gap = gap.filter(|_| constrains && situation.is_under_ours())?;
        let document = situation.written_out();
        let mut larger = document.clone();
        let template = &ladder[gap];
        let mut model = RawModel::from(template);
        model.id = "impossible".to_owned();
        model.tier = Some("impossible".to_owned());
        model.fallbacks = Vec::new();
        let mut table = Table::try_from(model).unwrap();
        let quality = f64::from(qualities[gap] + 1) / 1000.0;
        table.insert("quality".to_owned(), format!("{quality}%").into());
        let ram = Bytes::new(64 * situation.scenario.setup.machine.memory.get());
        table.insert("ram".to_owned(), ram.to_string().into());
        table.remove("vram");
        larger["model"].as_array_mut().unwrap().push(table.into());
        let below = catalog.rung_of_tier(&template.tier).unwrap().0;
        let higher = |key: &str, number: u64| {
            let is_rung = ["rung", "to", "from", "called_off"].contains(&key);
            (is_rung && number > u64::from(below)).then(|| number.saturating_add(1))
        };
        let answers_to = |document: &Table| {
            let mut answers = answers(&play_document(document), false);
            for (_, answer) in &mut answers {
                let notice = answer.pointer_mut("/notice/long-on-smallest");
                notice.and_then(Value::as_object_mut).map(|notice| notice.remove("reason"));
            }
            answers
        };
        let (mut want, got) = (answers_to(&document), answers_to(&larger));
        for (_, answer) in &mut want {
            change("", answer, &higher);
        }
        as_result(first_difference(&want, &got, |_, _, _| false))
    });
}

/// Random worlds in addition to the scenarios.
const WORLDS: u64 = 80;
/// Longer scenarios are left out because they take too long.
const LONGEST: Duration = Duration::from_hours(12);
/// Others' use may be the sum of five shares, each rounded down, and ours that of as many models.
const ROUNDED_BYTES: u64 = 64;
/// As in `risk.rs`, without the part that is being filled.
const PARTS_OF_THE_HORIZON: u64 = 30;
