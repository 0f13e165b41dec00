//! `tiershift replay`: recorded traces through the controller.

use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::{Mutex, PoisonError};

use anstream::eprintln;
use anyhow::{Context, Result};
use clap::Args;
use tiershift_core::catalog::Catalog;
use tiershift_core::controller::Detail;
use tiershift_core::event::Observe;
use tiershift_core::machine::Machine;
use tiershift_core::model::Model;
use tiershift_core::policy::Registry;
use tiershift_core::settings::RawSettings;
use tiershift_core::setup::Setup;
use tiershift_core::text;
use tiershift_core::time::Timestamp;
use tiershift_core::units::{Bytes, Percent};

use crate::cli::artifacts::{Artifacts, LogOption};
use crate::cli::input::Inputs;
use crate::cli::none_loaded::why_none;
use crate::cli::output::Force;
use crate::cli::policy::{PolicyChange, PolicyOptions};
use crate::cli::requests::{Laid, NamedRequests, RequestsAt};
use crate::cli::{Verdict, common};
use crate::log::{Header, Played, Source, digest_text};
use crate::report::folder::{FolderRow, folder_table};
use crate::report::text_summary;
use crate::sim::{SimulationError, Tap, simulate};
use crate::study::folder::{RecordingFile, distinct_folders, is_folder_of_recordings, recordings};
use crate::study::oracle::Oracle;
use crate::study::pool;
use crate::study::replay::{Recording, RecordingError, Requests};
use crate::summary::Summary;
use crate::trace::{Format, Kind, ReadOptions, TraceError};
use crate::wall::WallClock;

/// Replay recorded traces
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
tiershift replay traces/models-come-and-go.csv --out out/first\n  \
tiershift replay host.csv --policy original --json\n  \
tiershift replay gpu.csv --format nvidia-smi --memory 32GiB --requests azure.csv\n  \
tiershift replay out/first --policy projecting --out out/other\n  \
tiershift replay traces -j 2 --set price=10s")]
pub(super) struct Arguments {
    /// Resource traces, whose format is recognised (see `tiershift import --list`), or event logs; a folder stands for all
    /// that are in it, and is answered with one table. - is standard input
    #[arg(required = true, value_name = "TRACE")]
    traces: Vec<PathBuf>,
    /// A request trace to serve meanwhile
    #[arg(long, value_name = "FILE")]
    requests: Option<PathBuf>,
    /// The request trace's format: a preset's name or a mapping file
    #[arg(long, requires = "requests", value_name = "FORMAT")]
    requests_format: Option<String>,
    /// When requests come: when the wall clock shows their time, where both files say it (the default), or from the
    /// recording's start
    #[arg(long, requires = "requests", value_enum, value_name = "WHEN")]
    requests_at: Option<RequestsAt>,
    /// Repeat the request trace from the recording's start for as long as the resource trace lasts
    #[arg(long, requires = "requests")]
    loop_requests: bool,
    /// Take a log's prompts and replies to be as long as its server counted, not as they were asked for
    #[arg(long, conflicts_with = "requests")]
    counted: bool,
    /// The models; without it, three of 12.5, 31.25 and 56.25 % of the largest GPU's memory, or of main memory where the trace
    /// tells no video memory
    #[arg(long, value_name = "FILE")]
    catalog: Option<PathBuf>,
    /// Where the models are that are made up without a catalog
    #[arg(long, value_enum, conflicts_with = "catalog")]
    ladder: Option<Ladder>,
    #[command(flatten)]
    policy: PolicyOptions,
    /// The traces' format: a preset's name or a mapping file
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,
    #[command(flatten)]
    totals: common::Totals,
    #[command(flatten)]
    says: common::Says,
    #[command(flatten)]
    part: common::PartOption,
    /// Where to write summary, decisions, event log and plots; with several traces, a folder each in it
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Leave the optimum out, and with it what the run is compared with
    #[arg(long)]
    no_oracle: bool,
    #[command(flatten)]
    log: LogOption,
    /// Seed of everything random
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Refuse a trace with any defect
    #[arg(long)]
    strict: bool,
    #[command(flatten)]
    force: Force,
    #[command(flatten)]
    jobs: common::Jobs,
}

/// Where models are that are made up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Ladder {
    /// In main memory
    Memory,
    /// On the GPU with the most video memory
    Vram,
}

/// A replay, checked.
struct Plan<'a> {
    trace: PathBuf,
    out: Option<PathBuf>,
    arguments: &'a Arguments,
    options: ReadOptions,
    policy: PolicyChange,
    policies: &'a Registry,
    catalog: Option<Catalog>,
    requests: Option<NamedRequests>,
    /// Whether a recording in which nothing can be loaded is of no interest.
    skips_without_space: bool,
}

/// What a replay came to.
struct Replayed {
    summary: Summary,
    /// Which models were made up, where there was no catalog.
    made_up: Option<String>,
}

pub(super) fn run(arguments: &Arguments, policies: &Registry, json: bool) -> Result<Verdict> {
    let inputs = Inputs::default();
    let traces = arguments.traces.iter().map(|named| inputs.path(named));
    let traces: Vec<PathBuf> = traces.collect::<Result<_>>()?;
    let is_table = traces.iter().any(|path| is_folder_of_recordings(path));
    let files = match is_table {
        true => recordings(&traces)?,
        false => {
            let named = arguments.traces.iter().map(|named| named.display().to_string());
            let files = traces.iter().map(|path| RecordingFile::named(path));
            files.zip(named).map(|(file, name)| RecordingFile { name, ..file }).collect()
        }
    };
    let plans = plan(arguments, &files, policies, &inputs)?;
    if is_table {
        return run_table(arguments, &plans, &files, json);
    }
    let done = Done::new(plans.len());
    let replayed = pool::map(arguments.jobs.count(), &plans, |plan| {
        done.after(replay(plan, plans.len() == 1))
    })?;
    drop(done);
    let replayed: Vec<Replayed> = replayed.into_iter().collect::<Result<_>>()?;
    let summaries: Vec<&Summary> = replayed.iter().map(|replayed| &replayed.summary).collect();
    if json {
        match summaries.as_slice() {
            [one] => common::print(&one.to_json())?,
            _ => {
                // As from a folder, so that one reader takes both.
                let of = |(file, one): (&RecordingFile, &Replayed)| {
                    FolderRow::new(file.name.clone(), Ok(one.summary.clone()))
                };
                let rows: Vec<_> = files.iter().zip(&replayed).map(of).collect();
                common::print_json(&rows)?;
            }
        }
    } else {
        for ((plan, file), Replayed { summary, made_up }) in plans.iter().zip(&files).zip(&replayed)
        {
            common::print(&format!("{}\n{}", file.name, text_summary(summary)))?;
            if let Some(made_up) = made_up {
                common::print(made_up)?;
            }
            if let Some(out) = &plan.out {
                common::print(&format!("written to {}\n", out.display()))?;
            }
        }
    }
    Ok(verdict(summaries))
}

/// Replays everything that there is in folders, and shows it in one table. What cannot be replayed stands in it with the reason.
fn run_table(
    arguments: &Arguments,
    plans: &[Plan<'_>],
    files: &[RecordingFile],
    json: bool,
) -> Result<Verdict> {
    let done = Done::new(plans.len());
    let replayed = pool::map(arguments.jobs.count(), plans, |plan| {
        let replayed = done.after(replay(plan, plans.len() == 1));
        replayed.map(|replayed| replayed.summary).map_err(|error| reason(&error))
    })?;
    drop(done);
    let rows: Vec<FolderRow> = files
        .iter()
        .zip(replayed)
        .map(|(file, replayed)| FolderRow::new(file.name.clone(), replayed))
        .collect();
    if json {
        common::print_json(&rows)?;
    } else {
        common::print(&folder_table(&rows))?;
    }
    let summaries: Vec<&Summary> = rows.iter().filter_map(|row| row.summary.as_ref()).collect();
    anyhow::ensure!(!summaries.is_empty(), "there is no recording that can be replayed");
    Ok(verdict(summaries))
}

fn verdict<'a>(summaries: impl IntoIterator<Item = &'a Summary>) -> Verdict {
    let is_sound = summaries.into_iter().all(|summary| summary.violations.is_empty());
    if is_sound { Verdict::Done } else { Verdict::Failed }
}

fn plan<'a>(
    arguments: &'a Arguments,
    files: &[RecordingFile],
    policies: &'a Registry,
    inputs: &Inputs,
) -> Result<Vec<Plan<'a>>> {
    let format = arguments.format.as_deref().map(Format::named).transpose()?;
    let requests_format = arguments.requests_format.as_deref().map(Format::named).transpose()?;
    // One that describes requests cannot be meant for the machine's recording.
    let (format, of_requests) = match format {
        Some(format) if format.kind() == Kind::Request => (None, Some(format)),
        format => (format, None),
    };
    let options = ReadOptions {
        format,
        strict: arguments.strict,
        machine: arguments.totals.machine(),
        told: arguments.says.told(),
        cut_silences: true,
        ..ReadOptions::default()
    };
    let policy = arguments.policy.read(policies)?;
    let catalog = arguments.catalog.as_deref().map(common::catalog).transpose()?;
    let requests = match &arguments.requests {
        None => None,
        Some(path) => {
            let format = requests_format.or(of_requests);
            let read = ReadOptions { format, strict: arguments.strict, ..ReadOptions::default() };
            let path = &inputs.path(path)?;
            let requests = Requests::read(path, &read)?;
            let played = arguments.loop_requests.then_some(Played::Repeated);
            let source = Source { name: file_name(path), played, part: None };
            Some(NamedRequests { content: requests, source })
        }
    };
    let mut plans = Vec::new();
    for (file, folder) in files.iter().zip(distinct_folders(files)) {
        let out = match (&arguments.out, folder) {
            (Some(out), Some(folder)) if files.len() > 1 => Some(out.join(folder)),
            (Some(out), None) if files.len() > 1 => anyhow::bail!(
                "two traces named `{}` would both be written to one folder in `{}`: replay them one by one",
                file.name,
                out.display()
            ),
            (out, _) => out.clone(),
        };
        plans.push(Plan {
            trace: file.path.clone(),
            out,
            arguments,
            options: options.clone(),
            policy: policy.clone(),
            policies,
            catalog: catalog.clone(),
            requests: requests.clone(),
            skips_without_space: file.is_found,
        });
    }
    Ok(plans)
}

/// How many of several replays are done. Of one, its own progress is shown.
struct Done(Option<Mutex<(u64, common::Progress)>>);

impl Done {
    fn new(plans: usize) -> Self {
        let progress = || common::Progress::new("replaying", Some(plans as u64));
        Self((plans > 1).then(|| Mutex::new((0, progress()))))
    }

    /// Counts one more, whatever came of it.
    fn after<T>(&self, replayed: T) -> T {
        if let Some(counted) = &self.0 {
            let mut counted = counted.lock().unwrap_or_else(PoisonError::into_inner);
            counted.0 += 1;
            let done = counted.0;
            counted.1.set(done);
        }
        replayed
    }
}

fn replay(plan: &Plan<'_>, is_alone: bool) -> Result<Replayed> {
    let Plan { trace, arguments, .. } = plan;
    let part = arguments.part.part(|| extent(trace, &plan.options));
    let options = ReadOptions {
        part: part.with_context(|| trace.display().to_string())?,
        ..plan.options.clone()
    };
    let recording = Recording::open(trace, &options)?;
    if plan.skips_without_space && !recording.tells_space() {
        anyhow::bail!(NO_SPACE);
    }
    let machine = recording.machine().clone();
    let origin = recording.origin();
    let mut settings =
        origin.map_or_else(RawSettings::default, |origin| origin.setup.settings.clone());
    plan.policy.apply(&mut settings, plan.policies)?;
    let mut made_up = None;
    let catalog = match plan.catalog.as_ref().or(origin.map(|origin| &origin.setup.catalog)) {
        Some(catalog) => catalog.clone(),
        None => {
            let catalog = ladder(&machine, arguments.ladder, trace)?;
            made_up = Some(ladder_text(&catalog));
            catalog
        }
    };
    let setup = Setup { machine, catalog: catalog.clone(), settings, seed: arguments.seed };
    let repeat = arguments.loop_requests;
    // A log brings its own requests; a trace that is named goes before them.
    anyhow::ensure!(
        origin.is_some() || !arguments.counted,
        "{}: --counted is for event logs: no server counted anything in a trace",
        trace.display()
    );
    let counted = origin.filter(|_| arguments.counted).map(|origin| origin.requests.as_counted());
    let played = arguments.counted.then_some(Played::AsCounted);
    let laid = plan
        .requests
        .as_ref()
        .map(|requests| {
            let reopen = || Recording::open(trace, &options);
            Laid::new(requests, arguments.requests_at, repeat, &recording, reopen)
        })
        .transpose()?;
    let requests = laid.as_ref().map(|laid| &laid.requests.content);
    let requests = requests.or(counted.as_ref()).or(origin.map(|origin| &origin.requests));
    let workloads = requests.iter().map(|requests| requests.workload(repeat)).collect();
    let level = arguments.log.level();
    let part = (!options.part.is_whole()).then_some(options.part);
    let sources = std::iter::once(Source { name: file_name(trace), played, part })
        .chain(laid.as_ref().map(|laid| laid.requests.source.clone()))
        .collect();
    let header = Header {
        started_at: recording.clock().started_at(),
        ..Header::of(&setup, level, &file_name(trace), sources)
    };
    let read = recording.progress();
    let artifacts = plan
        .out
        .as_ref()
        .map(|out| Artifacts::create(out, &header, arguments.log, arguments.force));
    let mut artifacts = artifacts.transpose()?;
    let mut follow = is_alone.then(|| common::Progress::following(&header.name, read.clone()));
    let mut watch_size = artifacts.as_ref().map(Artifacts::watch_size);
    let watch = move || {
        if let Some(follow) = &mut follow {
            follow();
        }
        if let (Some(watch), Some(read)) = (&mut watch_size, &read) {
            watch(read.passed(), read.total());
        }
    };
    let oracle = (!arguments.no_oracle).then(|| oracle(&setup, &header.name)).transpose()?;
    let adviser = plan.policy.adviser(&setup)?;
    let mut situation = recording.situation(setup, workloads, watch);
    situation.adviser = adviser;
    if let Some(oracle) = &oracle {
        situation.ground = situation.ground.with_tap(oracle.tap());
    }
    let detail = artifacts.as_ref().map_or(Detail::Silent, |_| arguments.log.detail());
    let observers: &mut [&mut dyn Observe] = match &mut artifacts {
        Some(artifacts) => &mut [artifacts],
        None => &mut [],
    };
    let mut summary = simulate(situation, plan.policies, detail, observers)
        .map_err(|error| in_trace(error, trace))?;
    // Whatever was read was read to its end.
    let requests = plan.requests.as_ref().and_then(|requests| requests.content.digest());
    let digests: Vec<String> =
        recording.digest().into_iter().chain(requests).map(digest_text).collect();
    summary.fingerprint = header.fingerprint(&digests);
    let clock = recording.clock();
    summary.started_at = clock.started_at();
    complete(&mut summary, &recording, plan);
    if let Some(laid) = laid {
        summary.requests_left_out = laid.left_out;
        summary.warnings.extend(laid.notes);
    }
    summary.warnings.extend(why_none(
        &summary,
        &catalog,
        recording.machine(),
        recording.first_sample(),
    ));
    let optimum = oracle.map(|oracle| oracle.0.borrow().finish(&mut summary)).unwrap_or_default();
    if let Some(artifacts) = artifacts {
        artifacts.finish(&mut summary, &clock, &optimum, &digests)?;
    }
    Ok(Replayed { summary, made_up })
}

/// Reads a recording to its end for what its wall clock showed, and its last moment.
fn extent(trace: &Path, options: &ReadOptions) -> Result<(WallClock, Timestamp)> {
    let recording = Recording::open(trace, options)?;
    let end = recording.read_to_end().map_err(anyhow::Error::from_boxed)?;
    Ok((recording.clock(), end))
}

/// Returns models for a machine of which no catalog speaks: on the largest GPU, where the trace tells its memory, else in main
/// memory.
fn ladder(machine: &Machine, wanted: Option<Ladder>, trace: &Path) -> Result<Catalog> {
    let trace = trace.display();
    let vram = machine.gpus.iter().copied().max().unwrap_or_default();
    let on_gpu = match wanted {
        Some(ladder) => ladder == Ladder::Vram,
        None => vram > Bytes::ZERO,
    };
    if on_gpu {
        anyhow::ensure!(
            vram > Bytes::ZERO,
            "{trace}: the trace does not tell how much video memory the machine has: give --vram, or a --catalog"
        );
        return Ok(Catalog::relative_to_vram(
            vram,
            BESIDE_VRAM.min(machine.memory.share(Percent::new(5))),
        ));
    }
    anyhow::ensure!(
        machine.memory > Bytes::ZERO,
        "{trace}: the trace does not tell how much memory the machine has: give --memory, or a --catalog"
    );
    Ok(Catalog::relative_to(machine.memory))
}

/// Says which models were made up, and how large they are.
fn ladder_text(catalog: &Catalog) -> String {
    let of = |model: &Model| match model.vram {
        Bytes::ZERO => format!("{} {} of memory", model.tier, text::bytes(model.ram)),
        vram => format!("{} {} of video memory", model.tier, text::bytes(vram)),
    };
    let models: Vec<_> = catalog.models().iter().map(of).collect();
    format!(
        "no catalog was given, models were made up: {} (--ladder and --catalog name others)",
        models.join(", ")
    )
}

/// The oracle of a replay, which reads the recording as it goes by.
struct SharedOracle(Rc<RefCell<Oracle>>, String);

fn oracle(setup: &Setup, name: &str) -> Result<SharedOracle> {
    let oracle = Oracle::new(&setup.checked_settings()?, &setup.catalog);
    Ok(SharedOracle(Rc::new(RefCell::new(oracle)), name.to_owned()))
}

impl SharedOracle {
    /// Returns what shows it each reading, and says when much memory is needed for that.
    fn tap(&self) -> Tap {
        let (oracle, name) = (Rc::clone(&self.0), self.1.clone());
        let mut is_noted = false;
        Box::new(move |at, sample| {
            let mut oracle = oracle.borrow_mut();
            oracle.read(at, sample);
            if !is_noted && oracle.bytes() > MUCH_MEMORY {
                is_noted = true;
                eprintln!(
                    "note: {name}: the optimum of so many readings takes more than {}; --no-oracle leaves it out",
                    Bytes::new(MUCH_MEMORY as u64)
                );
            }
        })
    }
}

/// Says why a file of a folder is skipped, in short.
fn reason(error: &anyhow::Error) -> String {
    match error.downcast_ref::<RecordingError>() {
        Some(RecordingError::Trace(TraceError::UnknownFormat { .. })) => {
            "of no format that is known".to_owned()
        }
        _ => format!("{error:#}"),
    }
}

/// Says which trace an error is about. What its reader refuses names the file already, with the line.
fn in_trace(error: SimulationError, trace: &Path) -> anyhow::Error {
    match error {
        SimulationError::Trace(refused) => anyhow::Error::from_boxed(refused),
        other => anyhow::Error::from(other).context(trace.display().to_string()),
    }
}

/// Adds what only the reader knows.
fn complete(summary: &mut Summary, recording: &Recording, plan: &Plan<'_>) {
    summary.warnings.extend(recording.notes());
    if let Some(defects) = recording.defects() {
        summary.rejected_rows = defects.rejected_rows();
        summary.warnings.extend(defects.warnings());
    }
    let requests = plan.requests.as_ref().map(|requests| &requests.content);
    if let Some(requests) = requests.or(recording.origin().map(|origin| &origin.requests)) {
        summary.rejected_rows += requests.rejected_rows();
        summary.warnings.extend(requests.warnings().iter().cloned());
    }
    if !recording.tells_space() {
        summary.warnings.push(format!("{NO_SPACE}: nothing can be loaded"));
    }
}

fn file_name(path: &Path) -> String {
    path.file_name()
        .map_or_else(|| path.display().to_string(), |name| name.to_string_lossy().into_owned())
}

/// What a model on a GPU takes of main memory, at most. Chosen: llama-server with all layers on the GPU takes some hundred MiB.
const BESIDE_VRAM: Bytes = Bytes::from_mib(512);
const NO_SPACE: &str = "the trace tells the use of no memory and no video memory";

/// Bytes of readings from which on a user is told. Chosen: a recording of two years at two-second readings.
const MUCH_MEMORY: usize = 256 << 20;
