//! Measures the figures of a catalog for the models of a folder, on this machine and with the real model server.
//!
//! Each model in turn, with nothing beside it: loads from storage; loads from the page cache at several sizes of
//! context, each with its memory; then the speed of a request alone, of two side by side, and of one beside a program
//! that keeps half of the processors busy. Models are started and stopped as the daemon does it.

mod busy_load;
mod engine;
mod watch;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde::Serialize;
use tiershift_core::catalog::{Catalog, CatalogError};
use tiershift_core::model::{Model, ModelId};
use tiershift_core::time::{Clock, Timestamp};
use tiershift_core::units::Bytes;

use crate::backend::llama_server::launch::Launch;
use crate::inventory::folder::{Folder, FolderError};
use crate::measure::calibrate::busy_load::BusyLoad;
use crate::measure::calibrate::engine::{Engine, Loaded, Reply};
use crate::measure::calibrate::watch::Watch;
use crate::measure::calibration::{Calibration, Measured, Speeds};
use crate::measure::figure::Figure;
use crate::measure::fit::{Decoding, FirstToken, Fit, Held};
use crate::probe::clock::SystemClock;
use crate::probe::system::SystemProbe;

/// What to measure.
#[derive(Clone, Debug)]
pub struct CalibrationPlan {
    /// The `llama-server` program.
    pub program: PathBuf,
    /// The model files.
    pub folder: Folder,
    /// How each is started.
    pub launches: BTreeMap<ModelId, Launch>,
    /// The models: names, tiers, context and slots. Sizes and speeds are measured.
    pub catalog: Catalog,
    /// Models whose figures are all known: they stay as they are.
    pub known: BTreeSet<ModelId>,
    /// Whether figures are accepted although other programs are working.
    pub allow_busy: bool,
    /// How often each figure is measured.
    pub repeats: u32,
    /// The time limit for everything.
    pub limit: Duration,
}

/// The progress of the work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct CalibrationStep {
    /// Steps that are done.
    pub done: u64,
    /// Steps in all.
    pub of: u64,
}

/// Measures everything that is planned. `progress` is called after each step.
///
/// # Errors
/// When the program or a model does not run, the time is over, or `stop` is set. Nothing is left running.
pub fn calibrate(
    plan: &CalibrationPlan,
    stop: &AtomicBool,
    mut progress: impl FnMut(CalibrationStep),
) -> Result<Calibration, CalibrationError> {
    let bounds = Bounds { stop, limit: plan.limit, clock: SystemClock::start() };
    let claim = plan.folder.claim()?;
    let mut engine = Engine::new(plan, &bounds)?;
    if let Some(share) = watch::others_now().filter(|share| *share > BUSY && !plan.allow_busy) {
        return Err(CalibrationError::Busy { percent: share * 100.0 });
    }
    let mut watch = Watch::start().map_err(CalibrationError::Runtime)?;
    let repeats = plan.repeats.max(1);
    let each = u64::from(repeats) * STEPS_EACH + (CONTEXT_PARTS.len() as u64 - 1);
    let (kept, measured): (Vec<&Model>, Vec<&Model>) =
        plan.catalog.models().iter().partition(|model| plan.known.contains(&model.id));
    let of = each * measured.len() as u64;
    let mut done = 0;
    let mut step = || {
        done += 1;
        watch.time_a_computation();
        progress(CalibrationStep { done, of });
    };
    let mut models = Vec::new();
    for model in measured {
        models.push(measure(&mut engine, model, repeats, &mut step)?);
    }
    drop(claim);
    let constancy = watch.end();
    let others = constancy.others_cpu.map(|share| share.median);
    if let Some(share) = others.filter(|share| *share > BUSY && !plan.allow_busy) {
        return Err(CalibrationError::Busy { percent: share * 100.0 });
    }
    let machine = SystemProbe::new().machine();
    let kept = kept.into_iter().cloned().collect();
    Ok(Calibration { machine, engine: engine.version().to_owned(), models, kept, constancy })
}

fn measure(
    engine: &mut Engine<'_>,
    model: &Model,
    repeats: u32,
    step: &mut impl FnMut(),
) -> Result<Measured, CalibrationError> {
    let mut cold = Vec::new();
    let mut not_cold = None;
    for _ in 0..repeats {
        let loaded = engine.load_cold(model)?;
        match loaded.is_cold() {
            Ok(()) => cold.push(loaded.took.as_secs_f64()),
            Err(why) => not_cold = Some(why),
        }
        engine.unload(loaded)?;
        step();
    }
    let mut footprints = Vec::new();
    for part in CONTEXT_PARTS {
        // The full context comes last, and more than once.
        if part != 1 {
            let loaded = engine.load(model, model.context_tokens / part)?;
            footprints.push(held(engine, model, &loaded)?);
            engine.unload(loaded)?;
            step();
        }
    }
    let (mut warm, mut unload, mut lag) = (Vec::new(), Vec::new(), Vec::new());
    let mut transient = Bytes::ZERO;
    let mut speeds = None;
    for turn in 0..repeats {
        let loaded = engine.load(model, model.context_tokens)?;
        warm.push(loaded.took.as_secs_f64());
        // The peak until it was ready: what a request adds comes later.
        let peak = engine.peak(&loaded);
        let full = held(engine, model, &loaded)?;
        transient = transient.max(peak - full.resident);
        footprints.push(full);
        if turn + 1 == repeats {
            speeds = Some(measure_speeds(engine, &loaded, model, repeats, step)?);
        }
        let gone = engine.unload(loaded)?;
        unload.push(gone.took.as_secs_f64());
        lag.extend(gone.lag.map(|lag| lag.as_secs_f64()));
        step();
    }
    let Asked { prefill, first_token, decode, decode_behind } =
        speeds.expect("there is a last turn");
    Ok(Measured {
        id: model.id.to_string(),
        model: model.clone(),
        load_cold: match not_cold {
            Some(why) => Err(why),
            None => Ok(some(&cold)),
        },
        load_warm: some(&warm),
        unload: some(&unload),
        release_lag: Figure::of(&lag),
        fit: Fit::through(&footprints).expect("it was loaded at some size"),
        footprints,
        load_transient: transient,
        prefill,
        first_token,
        decode,
        decode_behind,
    })
}

/// Measures memory after a request, which touches some buffers for the first time.
fn held(engine: &Engine<'_>, model: &Model, loaded: &Loaded) -> Result<Held, CalibrationError> {
    engine.ask(loaded, prompt_words(loaded.context_tokens), 1)?;
    let tokens = u64::from(loaded.context_tokens) * u64::from(model.slots);
    Ok(Held { tokens, resident: engine.resident(loaded)? })
}

/// The times of requests.
struct Asked {
    prefill: Speeds,
    first_token: [FirstToken; 2],
    decode: Speeds,
    decode_behind: [Decoding; 2],
}

fn measure_speeds(
    engine: &Engine<'_>,
    loaded: &Loaded,
    model: &Model,
    repeats: u32,
    step: &mut impl FnMut(),
) -> Result<Asked, CalibrationError> {
    let words = prompt_words(loaded.context_tokens);
    // A short prompt and a long one: alone, side by side, and beside a busy program.
    let (mut short, mut long) = ([const { Vec::new() }; 3], [const { Vec::new() }; 3]);
    // In turns, so that any other work of the machine affects all alike.
    for _ in 0..repeats {
        long[0].push(engine.ask(loaded, words, REPLY_TOKENS)?);
        short[0].push(engine.ask(loaded, 1, REPLY_TOKENS)?);
        step();
        if model.slots > 1 {
            // Separately: a prompt that is read beside a reply delays it, and would count as slow decoding.
            long[1].extend(engine.ask_two(loaded, words, 1)?);
            short[1].extend(engine.ask_two(loaded, 1, REPLY_TOKENS)?);
        }
        step();
        let busy_load = BusyLoad::start();
        long[2].push(engine.ask(loaded, words, 1)?);
        short[2].push(engine.ask(loaded, 1, REPLY_TOKENS)?);
        drop(busy_load);
        step();
    }
    Ok(Asked {
        prefill: speeds(&long, Reply::prefill),
        first_token: [&short[0], &long[0]].map(|replies| FirstToken {
            prompt_tokens: median(replies, |it| it.prompt_tokens),
            seconds: median(replies, |it| it.first_token),
        }),
        decode: speeds(&short, Reply::decode),
        decode_behind: [&short[0], &long[0]].map(|replies| Decoding {
            context_tokens: median(replies, Reply::context),
            tokens_per_second: median(replies, Reply::decode),
        }),
    })
}

/// Returns the speeds of replies alone, side by side (if there were any) and beside a busy program.
fn speeds([alone, beside, disturbed]: &[Vec<Reply>; 3], of: fn(&Reply) -> f64) -> Speeds {
    let all = |replies: &[Reply]| replies.iter().map(of).collect::<Vec<_>>();
    Speeds {
        alone: some(&all(alone)),
        side_by_side: Figure::of(&all(beside)),
        beside_busy_load: some(&all(disturbed)),
    }
}

fn median(replies: &[Reply], of: fn(&Reply) -> f64) -> f64 {
    some(&replies.iter().map(of).collect::<Vec<_>>()).median
}

fn some(measurements: &[f64]) -> Figure {
    Figure::of(measurements).expect("there is at least one turn")
}

/// Returns the number of words in a prompt: see [`PROMPT_WORDS`].
fn prompt_words(context_tokens: u32) -> u32 {
    PROMPT_WORDS.min(context_tokens / 16).max(1)
}

/// What ends the work early.
struct Bounds<'a> {
    stop: &'a AtomicBool,
    limit: Duration,
    clock: SystemClock,
}

impl Bounds<'_> {
    /// # Errors
    /// When it was asked to stop, or its time is over.
    fn check(&self) -> Result<(), CalibrationError> {
        if self.stop.load(Ordering::Relaxed) {
            return Err(CalibrationError::Stopped);
        }
        if self.left().is_zero() {
            return Err(CalibrationError::OutOfTime { limit: self.limit });
        }
        Ok(())
    }

    fn left(&self) -> Duration {
        self.limit.saturating_sub(self.clock.now().since(Timestamp::ZERO))
    }
}

/// Why a calibration failed.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "each variant's message says what it is")]
pub enum CalibrationError {
    #[error("stopped before the end: nothing is written")]
    Stopped,
    #[error("not done after {}: give more time with --limit, or measure fewer times with --repeats", tiershift_core::time::span_text(*limit))]
    OutOfTime { limit: Duration },
    #[error("model \"{model}\" does not load: {error}")]
    Load { model: String, error: String },
    #[error("model \"{model}\" does not answer: {error}")]
    Answer { model: String, error: String },
    #[error("the memory of model \"{model}\" cannot be measured: calibrate on Linux")]
    Memory { model: String },
    #[error("`{}` cannot be started: give the path of a llama-server with --llama-server; scripts/get-llama-server.sh downloads one", program.display())]
    Program { program: PathBuf, source: std::io::Error },
    #[error(
        "other programs use {percent:.0} % of the processors, so the figures would not be those of this machine: close them, or \
         measure at another time; --allow-busy accepts the figures. Nothing was written"
    )]
    Busy { percent: f64 },
    #[error("the system gives no threads")]
    Runtime(#[source] std::io::Error),
    #[error("cannot make connections")]
    Client(#[source] reqwest::Error),
    #[error(transparent)]
    Folder(#[from] FolderError),
    #[error(transparent)]
    Catalog(#[from] CatalogError),
}

/// The share of the processors that others may use. Chosen: a desktop at rest uses a few percent, and a model is slower
/// by what others use.
const BUSY: f64 = 0.1;

/// A cold load, a warm load, and three speeds.
const STEPS_EACH: u64 = 5;

/// The parts of the catalog's context at which memory is measured. Chosen: three points show whether it is a line.
const CONTEXT_PARTS: [u32; 3] = [4, 2, 1];

/// Words of a prompt: some hundred tokens with any vocabulary, a second's work for a model of 8B on a processor. No
/// word takes more than eight tokens, and half of the context is left for the reply.
const PROMPT_WORDS: u32 = 64;

/// Chosen: two seconds' work for a model of 4 tokens a second.
const REPLY_TOKENS: u32 = 32;
