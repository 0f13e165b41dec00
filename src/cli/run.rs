//! `tiershift run`: scenarios through the controller, with their expectations.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::Args;
use serde::Serialize;
use tiershift_core::controller::Detail;
use tiershift_core::event::Observe;
use tiershift_core::policy::Registry;
use tiershift_core::time::{Timestamp, from_secs_f64};

use crate::cli::artifacts::{Artifacts, LogOption};
use crate::cli::html::{HtmlOption, WithDetail};
use crate::cli::output::Force;
use crate::cli::policy::{PolicyChange, PolicyOptions};
use crate::cli::recorded::no_scenario;
use crate::cli::{Verdict, common};
use crate::files::built_in::{self, BuiltIn};
use crate::report::text_summary;
use crate::scenario::{self, Scenario};
use crate::sim::rng::Seed;
use crate::sim::{Situation, simulate};
use crate::study::folder::{RecordingFile, distinct_folders};
use crate::study::oracle::Oracle;
use crate::summary::Summary;
use crate::wall::{Part, WallClock};

/// Run scenarios
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
tiershift run scenarios/no-projection.toml --out out/loop\n  \
tiershift run scenarios/no-projection.toml --policy original\n  \
tiershift run sudden-loss")]
pub(super) struct Arguments {
    /// Scenario files, or names of built-in scenarios
    #[arg(required = true, value_name = "SCENARIO")]
    scenarios: Vec<PathBuf>,
    #[command(flatten)]
    policy: PolicyOptions,
    /// Random seed to use instead of the scenario's
    #[arg(long)]
    seed: Option<u64>,
    /// Folder for the summary, decisions, event log and plots; each of several scenarios gets a folder in it
    #[arg(long, short, value_name = "DIR")]
    out: Option<PathBuf>,
    #[command(flatten)]
    html: HtmlOption,
    /// Do not compute the optimum, which the run is compared with
    #[arg(long)]
    no_oracle: bool,
    #[command(flatten)]
    log: LogOption,
    #[command(flatten)]
    force: Force,
}

/// The result of one of several scenarios.
#[derive(Debug, Serialize)]
struct Row {
    scenario: String,
    not_as_expected: Vec<String>,
    summary: Summary,
}

pub(super) fn run(arguments: &Arguments, policies: &Registry, json: bool) -> Result<Verdict> {
    let mut verdict = Verdict::Done;
    let policy = arguments.policy.read(policies)?;
    arguments.html.check(arguments.scenarios.len() == 1, json)?;
    let mut rows = Vec::new();
    let files: Vec<_> = arguments.scenarios.iter().map(|path| RecordingFile::named(path)).collect();
    let mut built_in = None;
    for (path, folder) in arguments.scenarios.iter().zip(distinct_folders(&files)) {
        let file = file_of(path, &mut built_in)?;
        let scenario = prepare(arguments, &policy, policies, &file)?;
        let out = match (&arguments.out, folder) {
            (Some(out), _) if files.len() == 1 => Some(out.clone()),
            (Some(out), Some(folder)) => Some(out.join(folder)),
            (Some(_), None) => anyhow::bail!("`{}` is named twice: name it once", path.display()),
            (None, _) => None,
        };
        let Played { summary, unmet, page } =
            play(arguments, path, &scenario, &policy, policies, out.as_deref())
                .with_context(|| path.display().to_string())?;
        if !unmet.is_empty() {
            verdict = Verdict::Failed;
        }
        if !json && !arguments.html.is_printed() {
            common::print(&format!("{}\n{}", path.display(), text_summary(&summary)))?;
            for unmet in &unmet {
                common::print(&format!("not as expected: {unmet}"))?;
            }
            if let Some(out) = &out {
                common::print(&format!("written to {}\n", out.display()))?;
            }
            if let Some(page) = &page {
                common::print(&format!("page written to {}\n", page.display()))?;
            }
        }
        rows.push(Row { scenario: path.display().to_string(), not_as_expected: unmet, summary });
    }
    if json {
        match rows.as_slice() {
            [one] => common::print(&one.summary.to_json())?,
            many => common::print_json(&many)?,
        }
    }
    Ok(verdict)
}

/// Returns the file: the one of this path or, if there is none, the built-in scenario of this name.
fn file_of(named: &Path, unpacked: &mut Option<BuiltIn>) -> Result<PathBuf> {
    let built_in = named.to_str().filter(|_| !named.exists()).and_then(built_in::scenario);
    let Some(built_in) = built_in else { return Ok(named.to_owned()) };
    let unpacked = match unpacked {
        Some(unpacked) => unpacked,
        none => none.insert(BuiltIn::unpack("scenarios/")?),
    };
    Ok(unpacked.path(built_in))
}

fn prepare(
    arguments: &Arguments,
    policy: &PolicyChange,
    policies: &Registry,
    path: &Path,
) -> Result<Scenario> {
    let mut scenario = scenario::load(path, policies).map_err(|error| no_scenario(path, error))?;
    policy.apply(&mut scenario.setup.settings, policies)?;
    Ok(match arguments.seed {
        Some(seed) => scenario.with_seed(Seed(seed)),
        None => scenario,
    })
}

/// The result of a scenario's run.
struct Played {
    summary: Summary,
    /// What was not as expected.
    unmet: Vec<String>,
    /// Where its page is.
    page: Option<PathBuf>,
}

fn play(
    arguments: &Arguments,
    path: &Path,
    scenario: &Scenario,
    policy: &PolicyChange,
    policies: &Registry,
    out: Option<&Path>,
) -> Result<Played> {
    let level = arguments.log.level();
    let header = scenario.header(level);
    let sources = [scenario.digest.clone()];
    let mut artifacts = out
        .map(|out| Artifacts::create(out, &header, path, arguments.log, arguments.force))
        .transpose()?;
    let mut page = arguments.html.begin(&header, Part::WHOLE, arguments.force)?;
    let mut checker = scenario.expect.checker(&scenario.setup.catalog);
    let log = arguments.log.detail();
    let detail = if page.is_some() { Detail::Full } else { log };
    let settings = header.checked_settings()?;
    let mut oracle =
        (!arguments.no_oracle).then(|| Oracle::new(&settings, &scenario.setup.catalog));
    let mut artifacts_told = artifacts.as_mut().map(|artifacts| WithDetail::new(artifacts, log));
    let observers: &mut [&mut dyn Observe] =
        &mut [&mut checker, &mut artifacts_told, &mut page, &mut oracle];
    let adviser = policy.adviser(&scenario.setup)?;
    let situation = Situation { adviser, ..scenario.situation() };
    let mut summary = simulate(situation, policies, detail, observers)?;
    let optimum = oracle.map(|oracle| oracle.finish(&mut summary)).unwrap_or_default();
    summary.fingerprint = header.fingerprint(&sources);
    summary.warnings.extend_from_slice(&scenario.warnings);
    let clock = WallClock::default();
    if let Some(artifacts) = artifacts {
        artifacts.finish(&mut summary, &clock, &optimum, &sources)?;
    }
    let end = Timestamp::ZERO + from_secs_f64(summary.seconds);
    let page = page.map(|page| page.finish(&header.name, &summary, end, &clock, &optimum));
    let page = page.transpose()?;
    let unmet = checker.finish(&summary).iter().map(ToString::to_string).collect();
    Ok(Played { summary, unmet, page })
}
