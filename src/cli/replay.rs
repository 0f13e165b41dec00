//! `tiershift replay`: recorded traces through the controller.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::Args;
use tiershift_core::catalog::Catalog;
use tiershift_core::controller::Detail;
use tiershift_core::event::Observe;
use tiershift_core::policy::Registry;
use tiershift_core::settings::RawSettings;
use tiershift_core::setup::Setup;
use tiershift_core::units::Bytes;

use crate::cli::artifacts::Artifacts;
use crate::cli::policy::PolicyChoice;
use crate::cli::{Verdict, common};
use crate::log::{Header, LogLevel, Played, Source, digest_text};
use crate::report::text_summary;
use crate::sim::{SimulationError, simulate};
use crate::study::pool;
use crate::study::replay::{Recording, Requests};
use crate::summary::Summary;
use crate::trace::{Format, ReadOptions};

/// Replay recorded traces
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
tiershift replay traces/models-come-and-go.csv --out out/first\n  \
tiershift replay host.csv --policy original --json\n  \
tiershift replay gpu.csv --format nvidia-smi --memory 32GiB --requests azure.csv\n  \
tiershift replay out/first/events.jsonl --policy projecting --out out/other")]
pub(super) struct Arguments {
    /// Resource traces, whose format is recognised (see `tiershift import --list`), or event logs
    #[arg(required = true, value_name = "TRACE")]
    traces: Vec<PathBuf>,
    /// A request trace to serve meanwhile
    #[arg(long, value_name = "FILE")]
    requests: Option<PathBuf>,
    /// Repeat the request trace for as long as the resource trace lasts
    #[arg(long, requires = "requests")]
    loop_requests: bool,
    /// Take a log's prompts and replies to be as long as its server counted, not as they were asked for
    #[arg(long, conflicts_with = "requests")]
    counted: bool,
    /// The models; without it, three of 12.5, 31.25 and 56.25 % of the machine's memory
    #[arg(long, value_name = "FILE")]
    catalog: Option<PathBuf>,
    /// proactive, memory-only, projecting, original, fixed, or a policy file
    #[arg(long, value_name = "NAME|FILE")]
    policy: Option<String>,
    /// The traces' format: a preset's name or a mapping file
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,
    #[command(flatten)]
    totals: common::Totals,
    /// Where to write summary, decisions, event log and plots; with several traces, a folder each in it
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// What the event log holds
    #[arg(long, value_enum, default_value = "full")]
    log: Level,
    /// Seed of everything random
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Refuse a trace with any defect
    #[arg(long)]
    strict: bool,
    /// Traces to replay side by side; results do not depend on it
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=256))]
    jobs: u16,
}

/// [`LogLevel`] as an argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Level {
    /// Everything; verify needs it
    Full,
    /// What changed
    Changes,
    /// No log
    Off,
}

impl From<Level> for LogLevel {
    fn from(level: Level) -> Self {
        match level {
            Level::Full => Self::Full,
            Level::Changes => Self::Changes,
            Level::Off => Self::Off,
        }
    }
}

/// A replay, checked.
struct Plan<'a> {
    trace: &'a Path,
    out: Option<PathBuf>,
    arguments: &'a Arguments,
    options: ReadOptions,
    policy: Option<PolicyChoice>,
    policies: &'a Registry,
    catalog: Option<Catalog>,
    requests: Option<NamedRequests>,
}

/// The requests of a file that was named.
#[derive(Clone)]
struct NamedRequests {
    content: Requests,
    source: Source,
}

pub(super) fn run(arguments: &Arguments, policies: &Registry, json: bool) -> Result<Verdict> {
    let plans = plan(arguments, policies)?;
    let summaries = pool::map(arguments.jobs, &plans, replay)?;
    let summaries: Vec<Summary> = summaries.into_iter().collect::<Result<_>>()?;
    if json {
        match summaries.as_slice() {
            [one] => common::print(&one.to_json())?,
            many => common::print_json(&many)?,
        }
    } else {
        for (plan, summary) in plans.iter().zip(&summaries) {
            common::print(&format!("{}\n{}", plan.trace.display(), text_summary(summary)))?;
            if let Some(out) = &plan.out {
                common::print(&format!("written to {}\n", out.display()))?;
            }
        }
    }
    let is_sound = summaries.iter().all(|summary| summary.violations.is_empty());
    Ok(if is_sound { Verdict::Done } else { Verdict::Failed })
}

fn plan<'a>(arguments: &'a Arguments, policies: &'a Registry) -> Result<Vec<Plan<'a>>> {
    let format = arguments.format.as_deref().map(Format::named).transpose()?;
    let options =
        ReadOptions { format, strict: arguments.strict, machine: arguments.totals.machine() };
    let policy =
        arguments.policy.as_deref().map(|text| PolicyChoice::read(text, policies)).transpose()?;
    let catalog = arguments.catalog.as_deref().map(common::catalog).transpose()?;
    let requests = match &arguments.requests {
        None => None,
        Some(path) => {
            let read = ReadOptions { strict: arguments.strict, ..ReadOptions::default() };
            let requests = Requests::read(path, &read)?;
            let played = arguments.loop_requests.then_some(Played::Repeated);
            let source = Source { name: file_name(path), played };
            Some(NamedRequests { content: requests, source })
        }
    };
    let mut names = BTreeSet::new();
    let mut plans = Vec::new();
    for trace in &arguments.traces {
        let out = match &arguments.out {
            Some(out) if arguments.traces.len() > 1 => {
                let name = file_name(trace);
                let folder = out.join(name.split('.').next().unwrap_or(&name));
                anyhow::ensure!(
                    names.insert(folder.clone()),
                    "two traces would both be written to `{}`: replay them one by one",
                    folder.display()
                );
                Some(folder)
            }
            out => out.clone(),
        };
        plans.push(Plan {
            trace,
            out,
            arguments,
            options: options.clone(),
            policy: policy.clone(),
            policies,
            catalog: catalog.clone(),
            requests: requests.clone(),
        });
    }
    Ok(plans)
}

fn replay(plan: &Plan<'_>) -> Result<Summary> {
    let Plan { trace, arguments, .. } = plan;
    let recording = Recording::open(trace, &plan.options)?;
    let machine = recording.machine().clone();
    let origin = recording.origin();
    let mut settings =
        origin.map_or_else(RawSettings::default, |origin| origin.setup.settings.clone());
    if let Some(policy) = &plan.policy {
        policy.apply(&mut settings);
    }
    let catalog = match plan.catalog.as_ref().or(origin.map(|origin| &origin.setup.catalog)) {
        Some(catalog) => catalog.clone(),
        None => {
            anyhow::ensure!(
                machine.memory > Bytes::ZERO,
                "{}: the trace does not tell how much memory the machine has: give --memory, or a --catalog",
                trace.display()
            );
            Catalog::relative_to(machine.memory)
        }
    };
    let setup = Setup { machine, catalog, settings, seed: arguments.seed };
    let repeat = arguments.loop_requests;
    // A log brings its own requests; a trace that is named goes before them.
    anyhow::ensure!(
        origin.is_some() || !arguments.counted,
        "{}: --counted is for event logs: no server counted anything in a trace",
        trace.display()
    );
    let counted = origin.filter(|_| arguments.counted).map(|origin| origin.requests.as_counted());
    let played = arguments.counted.then_some(Played::AsCounted);
    let requests = plan.requests.as_ref().map(|requests| &requests.content);
    let requests = requests.or(counted.as_ref()).or(origin.map(|origin| &origin.requests));
    let workloads = requests.iter().map(|requests| requests.workload(repeat)).collect();
    let level = LogLevel::from(arguments.log);
    let sources = std::iter::once(Source { name: file_name(trace), played })
        .chain(plan.requests.as_ref().map(|requests| requests.source.clone()))
        .collect();
    let header = Header {
        started_at: recording.started_at().map(str::to_owned),
        ..Header::of(&setup, level, &file_name(trace), sources)
    };
    let read = recording.progress();
    let mut progress =
        common::Progress::new(&header.name, read.as_ref().and_then(crate::trace::Progress::total));
    let watch = move || progress.set(read.as_ref().map_or(0, crate::trace::Progress::read));
    let situation = recording.situation(setup, workloads, watch);
    let mut artifacts =
        plan.out.as_ref().map(|out| Artifacts::create(out, &header, level)).transpose()?;
    let detail = match (&artifacts, level) {
        (None, _) => Detail::Silent,
        (Some(_), LogLevel::Full) => Detail::Full,
        (Some(_), LogLevel::Changes | LogLevel::Off) => Detail::Changes,
    };
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
    complete(&mut summary, &recording, plan);
    if let Some(artifacts) = artifacts {
        artifacts.finish(&mut summary, &digests)?;
    }
    Ok(summary)
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
    summary.warnings.extend_from_slice(recording.notes());
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
        summary.warnings.push(
            "the trace tells the use of no memory and no video memory: nothing can be loaded"
                .to_owned(),
        );
    }
}

fn file_name(path: &Path) -> String {
    path.file_name()
        .map_or_else(|| path.display().to_string(), |name| name.to_string_lossy().into_owned())
}
