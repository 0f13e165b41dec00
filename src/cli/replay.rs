//! `tiershift replay`: recorded traces through the controller.

use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use anyhow::{Context, Result};
use clap::Args;
use tiershift_core::controller::Detail;
use tiershift_core::event::Observe;
use tiershift_core::policy::Registry;
use tiershift_core::setup::Setup;
use tiershift_core::time::{Timestamp, from_secs_f64};
use tiershift_core::units::Bytes;

use crate::cli::artifacts::{Artifacts, LogOption};
use crate::cli::html::{HtmlOption, WithDetail};
use crate::cli::input::Inputs;
use crate::cli::none_loaded::why_none;
use crate::cli::output::Force;
use crate::cli::policy::{PolicyChange, PolicyOptions};
use crate::cli::recorded::{Recorded, RecordedOptions, file_name, reason};
use crate::cli::{Verdict, common, say};
use crate::files::built_in::{BuiltIn, DEMO};
use crate::log::{Header, digest_text};
use crate::report::folder::{FolderRow, folder_table};
use crate::report::text_summary;
use crate::sim::{Tap, simulate};
use crate::study::folder::{RecordingFile, distinct_folders, is_folder_of_recordings, recordings};
use crate::study::oracle::Oracle;
use crate::study::pool;
use crate::summary::Summary;
use crate::wall::Part;

/// Replay recorded traces
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
tiershift replay --demo --html demo.html\n  \
tiershift replay traces/models-come-and-go.csv --out out/first\n  \
tiershift replay traces/models-come-and-go.csv --html day.html\n  \
tiershift replay host.csv --policy original --json\n  \
tiershift replay gpu.csv --format nvidia-smi --vram 24GiB --requests azure.csv\n  \
tiershift replay out/first --policy projecting --out out/other\n  \
tiershift replay traces -j 2 --set price=10s")]
pub(super) struct Arguments {
    /// Resource traces, whose format is recognised (see `tiershift import --list`), or event logs; a folder stands for
    /// all recordings in it, whose results are shown in one table. - is standard input
    #[arg(required_unless_present = "demo", value_name = "TRACE")]
    traces: Vec<PathBuf>,
    /// Replay the built-in recording: 26 minutes of a machine on which eleven model-sized processes come and go
    #[arg(long, conflicts_with = "traces")]
    demo: bool,
    #[command(flatten)]
    recorded: RecordedOptions,
    #[command(flatten)]
    policy: PolicyOptions,
    /// Folder for the summary, decisions, event log and plots; each of several traces gets a folder in it
    #[arg(long, short, value_name = "DIR")]
    out: Option<PathBuf>,
    #[command(flatten)]
    html: HtmlOption,
    /// Do not compute the optimum, which the run is compared with
    #[arg(long)]
    no_oracle: bool,
    #[command(flatten)]
    log: LogOption,
    /// Random seed
    #[arg(long, default_value_t = 1)]
    seed: u64,
    #[command(flatten)]
    force: Force,
    #[command(flatten)]
    jobs: common::Jobs,
}

/// A replay, checked.
struct Plan<'a> {
    file: &'a RecordingFile,
    out: Option<PathBuf>,
    arguments: &'a Arguments,
    recorded: &'a Recorded<'a>,
    policy: &'a PolicyChange,
    policies: &'a Registry,
}

/// The result of a replay.
struct Replayed {
    summary: Summary,
    /// Which default models were used, if there was no catalog.
    made_up: Option<String>,
    /// Where its page is.
    page: Option<PathBuf>,
}

pub(super) fn run(arguments: &Arguments, policies: &Registry, json: bool) -> Result<Verdict> {
    let inputs = Inputs::default();
    let demo = arguments.demo.then(|| BuiltIn::unpack(DEMO)).transpose();
    let demo = demo.context("cannot unpack the built-in recording into a temporary folder")?;
    let named = match &demo {
        Some(_) => &vec![PathBuf::from(DEMO)],
        None => &arguments.traces,
    };
    let path = |named: &PathBuf| match &demo {
        Some(unpacked) => Ok(unpacked.path(DEMO)),
        None => inputs.path(named),
    };
    let traces: Vec<PathBuf> = named.iter().map(path).collect::<Result<_>>()?;
    traces.iter().for_each(|trace| common::note_newest(trace));
    let is_table = traces.iter().any(|path| is_folder_of_recordings(path));
    let files = match is_table {
        true => recordings(&traces)?,
        false => {
            let named = named.iter().map(|named| named.display().to_string());
            let files = traces.iter().map(|path| RecordingFile::named(path));
            files.zip(named).map(|(file, name)| RecordingFile { name, ..file }).collect()
        }
    };
    arguments.html.check(files.len() == 1 && !is_table, json)?;
    let (recorded, policy) = (arguments.recorded.read(&inputs)?, arguments.policy.read(policies)?);
    let folders = folders(arguments, &files)?;
    let plan =
        |(file, out)| Plan { file, out, arguments, recorded: &recorded, policy: &policy, policies };
    let plans: Vec<Plan<'_>> = files.iter().zip(folders).map(plan).collect();
    if is_table {
        return run_table(arguments, &plans, &files, json);
    }
    let done = common::Done::new("replaying", plans.len());
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
                // In the form of a folder's results, so that one reader takes both.
                let of = |(file, one): (&RecordingFile, &Replayed)| {
                    FolderRow::new(file.name.clone(), Ok(one.summary.clone()))
                };
                let rows: Vec<_> = files.iter().zip(&replayed).map(of).collect();
                common::print_json(&rows)?;
            }
        }
    } else if !arguments.html.is_printed() {
        for (plan, replayed) in plans.iter().zip(&replayed) {
            let Replayed { summary, made_up, page } = replayed;
            common::print(&format!("{}\n{}", plan.file.name, text_summary(summary)))?;
            if let Some(made_up) = made_up {
                common::print(made_up)?;
            }
            if let Some(out) = &plan.out {
                common::print(&format!("written to {}\n", out.display()))?;
            }
            if let Some(page) = page {
                common::print(&format!("page written to {}\n", page.display()))?;
            }
        }
    }
    Ok(verdict(summaries))
}

/// Replays all recordings in folders, and shows them in one table. What cannot be replayed is listed with the reason.
fn run_table(
    arguments: &Arguments,
    plans: &[Plan<'_>],
    files: &[RecordingFile],
    json: bool,
) -> Result<Verdict> {
    let done = common::Done::new("replaying", plans.len());
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
    anyhow::ensure!(
        !summaries.is_empty(),
        "none of these recordings can be replayed: see the reason beside each"
    );
    Ok(verdict(summaries))
}

fn verdict<'a>(summaries: impl IntoIterator<Item = &'a Summary>) -> Verdict {
    let is_sound = summaries.into_iter().all(|summary| summary.violations.is_empty());
    if is_sound { Verdict::Done } else { Verdict::Failed }
}

/// Returns where the results of each file are written.
fn folders(arguments: &Arguments, files: &[RecordingFile]) -> Result<Vec<Option<PathBuf>>> {
    let Some(out) = &arguments.out else { return Ok(vec![None; files.len()]) };
    if files.len() == 1 {
        return Ok(vec![Some(out.clone())]);
    }
    let folder = |(file, folder): (&RecordingFile, Option<PathBuf>)| match folder {
        Some(folder) => Ok(Some(out.join(folder))),
        None => anyhow::bail!(
            "two traces named `{}` would be written to the same folder in `{}`: replay them separately",
            file.name,
            out.display()
        ),
    };
    files.iter().zip(distinct_folders(files)).map(folder).collect()
}

fn replay(plan: &Plan<'_>, is_alone: bool) -> Result<Replayed> {
    let Plan { arguments, .. } = plan;
    let opened = plan.recorded.open(plan.file)?;
    let recording = &opened.recording;
    if is_alone && recording.origin().is_none() {
        plan.recorded.note_without_effect(recording.machine(), &plan.file.name);
    }
    let mut settings = opened.settings();
    plan.policy.apply(&mut settings, plan.policies)?;
    let catalog = opened.catalog.clone();
    let machine = recording.machine().clone();
    let setup = Setup { machine, catalog, settings, seed: arguments.seed };
    let level = arguments.log.level();
    let name = file_name(&plan.file.path);
    let header = Header {
        started_at: recording.clock().started_at(),
        ..Header::of(&setup, level, &name, opened.sources.clone())
    };
    let read = recording.progress();
    let artifacts = plan.out.as_ref().map(|out| {
        let made_from = Path::new(&plan.file.name);
        Artifacts::create(out, &header, made_from, arguments.log, arguments.force)
    });
    let mut artifacts = artifacts.transpose()?;
    let mut page = arguments.html.begin(&header, Part::WHOLE, arguments.force)?;
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
    let mut situation = recording.situation(setup, opened.workloads.clone(), watch);
    situation.adviser = adviser;
    if let Some(oracle) = &oracle {
        situation.ground = situation.ground.with_tap(oracle.tap());
    }
    let log = arguments.log.detail();
    let detail = match (&page, &artifacts) {
        (Some(_), _) => Detail::Full,
        (None, Some(_)) => log,
        (None, None) => Detail::Silent,
    };
    let mut artifacts_told = artifacts.as_mut().map(|artifacts| WithDetail::new(artifacts, log));
    let observers: &mut [&mut dyn Observe] = match (&mut artifacts_told, &mut page) {
        (None, None) => &mut [],
        (artifacts, page) => &mut [artifacts, page],
    };
    let mut summary = simulate(situation, plan.policies, detail, observers)
        .map_err(|error| opened.refused(error))?;
    // Everything that was read was read to its end.
    let digests: Vec<String> = opened.digests().map(digest_text).collect();
    summary.fingerprint = header.fingerprint(&digests);
    opened.complete(&mut summary);
    summary.warnings.extend(why_none(
        &summary,
        &opened.catalog,
        recording.machine(),
        recording.first_sample(),
    ));
    let optimum = oracle.map(|oracle| oracle.0.borrow().finish(&mut summary)).unwrap_or_default();
    if let Some(artifacts) = artifacts {
        artifacts.finish(&mut summary, &recording.clock(), &optimum, &digests)?;
    }
    let end = Timestamp::ZERO + from_secs_f64(summary.seconds);
    let page = page
        .map(|page| page.finish(&header.title(), &summary, end, &recording.clock(), &optimum))
        .transpose()?;
    Ok(Replayed { summary, made_up: opened.made_up, page })
}

/// The oracle of a replay, which reads the recording as it passes.
struct SharedOracle(Rc<RefCell<Oracle>>, String);

fn oracle(setup: &Setup, name: &str) -> Result<SharedOracle> {
    let oracle = Oracle::new(&setup.checked_settings()?, &setup.catalog);
    Ok(SharedOracle(Rc::new(RefCell::new(oracle)), name.to_owned()))
}

impl SharedOracle {
    /// Returns a tap that shows it each sample, and warns when that needs much memory.
    fn tap(&self) -> Tap {
        let (oracle, name) = (Rc::clone(&self.0), self.1.clone());
        let mut is_noted = false;
        Box::new(move |at, sample| {
            let mut oracle = oracle.borrow_mut();
            oracle.read(at, sample);
            if !is_noted && oracle.bytes() > MUCH_MEMORY {
                is_noted = true;
                say::note(&format!(
                    "{name}: computing the optimum of so many readings needs more than {} of memory; --no-oracle leaves it out",
                    Bytes::new(MUCH_MEMORY as u64)
                ));
            }
        })
    }
}

/// Bytes of samples from which a note is printed. Chosen: a recording of two years at two-second samples.
const MUCH_MEMORY: usize = 256 << 20;
