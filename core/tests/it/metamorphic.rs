//! Pairs of runs that differ in one thing (the length of a second, the order of the GPUs, the memory), and the relation
//! that must hold between them.

use std::cell::Cell;
use std::time::Duration;

use proptest::collection::vec;
use proptest::prelude::Just;
use proptest::strategy::{Strategy, Union};
use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestRng, TestRunner};
use serde_json::{Value, json};
use tiershift_core::catalog::{Catalog, RawCatalog, Rung};
use tiershift_core::decision::Action;
use tiershift_core::event::{Command, Output};
use tiershift_core::machine::Machine;
use tiershift_core::time::{SpanText, Timestamp};
use tiershift_core::units::Bytes;

use crate::closed_loop::{Answer, Run};

#[test]
fn spans_and_settings_twice_as_long_give_the_same_decisions_at_twice_the_time() {
    let (compared, switched) = (Cell::new(0), Cell::new(0));
    let runs = check_all(10, &invented(2), |invented| {
        let run = invented.run();
        let slow = Run {
            settings: stretched(&run.settings),
            catalog: stretched(&run.catalog),
            requests: run.requests.iter().map(|&(at, span)| (twice(at), 2 * span)).collect(),
            ..run.clone()
        };
        let answers = before_a_rescue(run.play().answers);
        compared.set(compared.get() + 1);
        switched.set(switched.get() + switches(&answers));
        let want: Vec<Value> =
            answers.into_iter().map(|(at, output)| line(twice(at), &stretched(&output))).collect();
        let got = before_a_rescue(slow.play().answers);
        let got: Vec<Value> = got.into_iter().map(|(at, output)| line(at, &output)).collect();
        same(&want, &got)
    });
    let (compared, switched) = (compared.get(), switched.get());
    assert!(
        2 * compared > runs && switched > runs,
        "{compared} of {runs} runs, {switched} switches"
    );
}

#[test]
fn the_order_of_the_gpus_changes_their_numbers_in_the_answers_and_nothing_else() {
    let placed = Cell::new([0; 3]);
    let runs =
        check_all(11, &(invented(3), Just([0_u8, 1, 2]).prop_shuffle()), |(invented, order)| {
            let run = invented.run();
            let mut other = run.clone();
            other.machine.gpus = permuted(&run.machine.gpus, order);
            for ((.., vram), (.., was)) in other.others.iter_mut().zip(&run.others) {
                *vram = permuted(was, order);
            }
            let answers = run.play().answers;
            for (_, output) in &answers {
                if let Output::Command(Command::Load { gpu: Some(gpu), .. }) = output {
                    let mut counts = placed.get();
                    counts[usize::from(*gpu)] += 1;
                    placed.set(counts);
                }
            }
            let mut want: Vec<Value> =
                answers.iter().map(|(at, output)| line(*at, output)).collect();
            for line in &mut want {
                renumber(line, order);
            }
            let got: Vec<Value> =
                other.play().answers.into_iter().map(|(at, output)| line(at, &output)).collect();
            same(&want, &got)
        });
    let placed = placed.get();
    assert!(placed.iter().all(|loads| 10 * loads > runs), "{placed:?} loads in {runs} runs");
}

/// Renumbers every GPU number in a value to the GPU's position in `order`.
fn renumber(value: &mut Value, order: &[u8; 3]) {
    match value {
        Value::Object(fields) => {
            for (key, value) in fields {
                if let Some(gpu) = value.as_u64().filter(|_| key == "gpu") {
                    *value = json!(order.iter().position(|&was| u64::from(was) == gpu));
                } else {
                    renumber(value, order);
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| renumber(item, order)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// Returns the things in the order of `order`: the one at `order[place]` is put at each place.
fn permuted<T: Clone>(things: &[T], order: &[u8; 3]) -> Vec<T> {
    order.iter().map(|&was| things[usize::from(was)].clone()).collect()
}

/// Returns the quality that a run serves, and that with this much more memory [GiB], each as in [`quality`]; then the
/// seconds for which the latter has no model ready. Without requests, because larger models are slower, and a latency limit may
/// then require a smaller one.
fn with_more_memory(run: &Run, gib: u64) -> (f64, f64, f64) {
    let less = Run { requests: Vec::new(), ..run.clone() };
    let mut more = less.clone();
    more.machine.memory = less.machine.memory + Bytes::from_gib(gib);
    let (quality_of_more, none) = quality(&more);
    (quality(&less).0, quality_of_more, none)
}

#[test]
fn beside_others_whose_use_never_changes_more_memory_never_lowers_quality() {
    let raised = Cell::new(0);
    let runs = check_all(13, &(invented(0), 1_u64..16), |(invented, gib)| {
        let mut run = invented.run();
        run.others.truncate(1);
        run.others[0].0 = 1800;
        let (less, more, none) = with_more_memory(&run, *gib);
        raised.set(raised.get() + usize::from(more > less));
        // A larger model takes longer to load, and a step up in two switches has a gap between them.
        if more + none < less { Err(format!("{more} s of quality, before {less}")) } else { Ok(()) }
    });
    assert!(4 * raised.get() > runs, "raised in only {} of {runs} runs", raised.get());
}

#[test]
fn beside_any_others_more_memory_hardly_ever_lowers_quality() {
    // It can happen: a machine with room for a small model loads it at once, and must wait for the cooldown when others free
    // memory; a machine without room for any model loads a large one at that moment.
    let (raised, lowered) = (Cell::new(0), Cell::new(0));
    let runs = check_all(12, &(invented(0), 1_u64..16), |(invented, gib)| {
        let (less, more, none) = with_more_memory(&invented.run(), *gib);
        raised.set(raised.get() + usize::from(more > less));
        lowered.set(lowered.get() + usize::from(more + none < less));
        Ok(())
    });
    let (raised, lowered) = (raised.get(), lowered.get());
    assert!(100 * lowered <= runs && 2 * raised > runs, "{raised} up, {lowered} down of {runs}");
}

/// Returns the seconds with a model ready, each weighted with its quality, and the seconds without.
fn quality(run: &Run) -> (f64, f64) {
    let catalog = Catalog::try_from(run.catalog.clone()).unwrap();
    let (mut served, mut none) = (0.0, 0.0);
    let mut since = (Timestamp::ZERO, Rung::NONE);
    let mut pass = |until: Timestamp, rung: Rung| {
        let seconds = until.since(since.0).as_secs_f64();
        match catalog.primary(since.1) {
            Some(model) => served += seconds * model.quality.fraction(),
            None => none += seconds,
        }
        since = (until, rung);
    };
    for (at, output) in run.play().answers {
        if let Output::Serving { rung, .. } = output {
            pass(at, rung);
        }
    }
    pass(Timestamp::ZERO + run.length(), Rung::NONE);
    (served, none)
}

fn switches(answers: &[Answer]) -> usize {
    answers.iter().filter(|(_, output)| matches!(output, Output::Switched { .. })).count()
}

/// Returns the answers before a run first steps down to nothing: the bounds of the wait for a rescue are not settings.
fn before_a_rescue(mut answers: Vec<Answer>) -> Vec<Answer> {
    let is_end = |(_, output): &Answer| match output {
        Output::Decision(decision) => {
            matches!(decision.action, Action::Downgrade { to: Rung::NONE, .. })
        }
        Output::Switched { to, .. } => *to == Rung::NONE,
        _ => false,
    };
    if let Some(end) = answers.iter().position(is_end) {
        answers.truncate(end + 1);
    }
    answers
}

fn twice(at: Timestamp) -> Timestamp {
    Timestamp::from_nanos(2 * at.as_nanos())
}

/// Returns a copy with every span doubled and every speed halved, whatever its fields.
fn stretched<T: serde::Serialize + serde::de::DeserializeOwned>(thing: &T) -> T {
    let mut value = serde_json::to_value(thing).unwrap();
    stretch("", &mut value);
    serde_json::from_value(value).unwrap()
}

fn stretch(key: &str, value: &mut Value) {
    match value {
        Value::Object(fields) => fields.iter_mut().for_each(|(key, value)| stretch(key, value)),
        Value::Array(items) => items.iter_mut().for_each(|item| stretch(key, item)),
        Value::String(text) => {
            if let Ok(SpanText(span)) = serde_json::from_value(json!(text)) {
                *value = json!(SpanText(2 * span));
            }
        }
        Value::Number(number) => {
            if key.ends_with("-per-second") {
                *value = json!(number.as_f64().unwrap() / 2.0);
            } else if key.ends_with("_ns") || key == "nanos" {
                *value = json!(2 * number.as_u64().unwrap());
            }
        }
        Value::Null | Value::Bool(_) => {}
    }
}

/// Returns an output as in the log, without the time to retry, which is at least a second on any clock.
fn line(at: Timestamp, output: &Output) -> Value {
    let mut line = json!({ "at_ns": at, "output": output });
    if let Some(end) = line.pointer_mut("/output/ended/end/rejected").and_then(Value::as_object_mut)
    {
        end.remove("retry_after_ns");
    }
    line
}

/// Compares two lists of answers. Spans may differ by a rounded nanosecond.
fn same(want: &[Value], got: &[Value]) -> Result<(), String> {
    let differs = want.iter().zip(got).find(|(want, got)| !is_close("", want, got));
    match differs {
        Some((want, got)) => Err(format!("want {want}\n got {got}")),
        None if want.len() == got.len() => Ok(()),
        None => Err(format!("{} outputs, and {} the other time", want.len(), got.len())),
    }
}

fn is_close(key: &str, want: &Value, got: &Value) -> bool {
    match (want, got) {
        (Value::Object(want), Value::Object(got)) => {
            want.len() == got.len()
                && want
                    .iter()
                    .zip(got)
                    .all(|((key, want), (other, got))| key == other && is_close(key, want, got))
        }
        (Value::Array(want), Value::Array(got)) => {
            want.len() == got.len() && want.iter().zip(got).all(|(w, g)| is_close(key, w, g))
        }
        (Value::Number(want), Value::Number(got)) if key.ends_with("_ns") || key == "nanos" => {
            want.as_u64().unwrap().abs_diff(got.as_u64().unwrap()) <= 2
        }
        _ => want == got,
    }
}

/// A run as few numbers, which a failing property prints.
#[derive(Clone, Debug)]
struct Invented {
    memory_gib: u64,
    gpus_gib: Vec<u64>,
    models: Vec<ModelStep>,
    /// For this many samples, others use these percentages of memory and of each GPU's memory.
    others: Vec<(u32, u64, Vec<u64>)>,
    /// `stabilization`, `reversal-window`, `price`, `calm` and `latency-limit` [s].
    settings: [u64; 5],
    /// The arrival of each request [s], and how long it is served [ms].
    requests: Vec<(u64, u64)>,
}

/// The increase of a model over the one before it, in memory [GiB / 5] and video memory [GiB / 10], and the time that it
/// takes to load [s] and to unload [ms]. Load times are either close together or far apart, also when doubled, because the
/// limit for "ready together" is not a setting.
type ModelStep = (u64, u64, u64, u64);

/// Returns runs of two to four models on a machine with so many GPUs.
fn invented(gpus: usize) -> impl Strategy<Value = Invented> {
    let machine = (6_u64..40, vec(6_u64..25, gpus));
    let load = Union::new([1_u64..8, 30..37]);
    let model = (1_u64..40, 0_u64..60, load, 300_u64..3000);
    let level = (1_u32..400, 0_u64..100, vec(0_u64..100, gpus));
    let settings =
        (1_u64..400, 1_u64..900, 0_u64..300, 0_u64..3600, Union::new([Just(8), Just(600)]));
    let requests = vec((0_u64..3000, 500_u64..20_000), 0..40);
    (machine, vec(model, 2..5), vec(level, 1..8), settings, requests).prop_map(
        |((memory_gib, gpus_gib), models, others, settings, requests)| {
            let settings = settings.into();
            Invented { memory_gib, gpus_gib, models, others, settings, requests }
        },
    )
}

impl Invented {
    fn run(&self) -> Run {
        let machine = Machine {
            memory: Bytes::from_gib(self.memory_gib),
            // No two GPUs are equal: among equal ones the first is taken, and another order would change that.
            gpus: (1..)
                .zip(&self.gpus_gib)
                .map(|(i, gib)| Bytes::from_mib(gib * 1024 + i))
                .collect(),
            ..Machine::default()
        };
        let share = |total: Bytes, percent: u64| Bytes::new(total.get() * percent / 100);
        let others = self.others.iter().map(|(samples, percent, on_gpus)| {
            let gpus =
                machine.gpus.iter().zip(on_gpus).map(|(&total, &percent)| share(total, percent));
            (*samples, share(machine.memory, *percent), gpus.collect())
        });
        let mut requests: Vec<_> = self.requests.clone();
        requests.sort_unstable();
        let requests = requests
            .into_iter()
            .map(|(second, millis)| (Timestamp::from_secs(second), Duration::from_millis(millis)));
        let [window, reversal, price, calm, latency] = self.settings;
        let settings = format!(
            "stabilization = \"{window}s\"\nreversal-window = \"{reversal}s\"\n\
             price = \"{price}s\"\ncalm = \"{calm}s\"\n\
             latency-limit = \"{latency}s\""
        );
        Run {
            others: others.collect(),
            requests: requests.collect(),
            settings: toml::from_str(&settings).unwrap(),
            catalog: catalog(&self.models, !self.gpus_gib.is_empty()),
            machine,
        }
    }
}

/// Returns a catalog in which each model is a step larger than the one before it.
fn catalog(steps: &[ModelStep], has_gpus: bool) -> RawCatalog {
    let (mut ram, mut vram) = (0, 0);
    let models = steps.iter().zip(0..).map(|(&(more, more_vram, load, unload), place)| {
        ram += more;
        vram += more_vram;
        let on_gpu = if has_gpus && vram > 0 {
            format!("vram = \"{}MiB\"", vram * 1024 / 10)
        } else {
            String::new()
        };
        format!(
            "[[model]]\nid = \"m{place}\"\ntier = \"t{place}\"\nquality = \"{}%\"\n\
             ram = \"{}MiB\"\n{on_gpu}\nload-warm = \"{load}s\"\nload-cold = \"{load}s\"\nunload = \"{unload}ms\"\n\
             prefill-tokens-per-second = 100.0\ndecode-tokens-per-second = {}.0\n",
            40 + 15 * place,
            ram * 1024 / 5,
            64 / (place + 1),
        )
    });
    toml::from_str(&models.collect::<String>()).unwrap()
}

/// Tries a property on runs of a strategy, prints the smallest that fails, and returns how many were tried. Each property
/// has its own stream; `TIERSHIFT_PROPERTY_SEED` tries others.
#[track_caller]
fn check_all<S: Strategy>(
    stream: u8,
    strategy: &S,
    property: impl Fn(&S::Value) -> Result<(), String>,
) -> usize {
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
    let tried = Cell::new(0);
    let outcome = TestRunner::new_with_rng(config, rng).run(strategy, |value| {
        tried.set(tried.get() + 1);
        property(&value).map_err(TestCaseError::fail)
    });
    if let Err(error) = outcome {
        panic!("{error}");
    }
    tried.get()
}

/// Number of runs for each property.
const CASES: u32 = 100;
