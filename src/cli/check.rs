//! `tiershift check`: the regression suite.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::Args;
use tiershift_core::policy::Registry;
use tiershift_core::text;

use crate::cli::html::HtmlOption;
use crate::cli::output::{self, Force};
use crate::cli::policy::{PolicyChange, PolicyOptions};
use crate::cli::{Verdict, common};
use crate::report::junit::{Case, MARK, junit};
use crate::report::{ScenarioRow, museum_table, suite_page};
use crate::scenario;
use crate::study::museum::{self, Exhibit};
use crate::study::pool;
use crate::study::suite::{self, Checked};

/// Check scenarios: expectations, golden stories, and every run twice
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
tiershift check\n  \
tiershift check scenarios/stable.toml --bless\n  \
tiershift check --junit out/check.xml --jobs 2\n  \
tiershift check --html out/check.html\n  \
tiershift check --policy \"exec:python3 examples/policy.py\"\n  \
tiershift check --museum")]
pub(super) struct Arguments {
    /// Scenario files, or folders of them [default: scenarios, scenarios/museum and scenarios/seeds]
    #[arg(value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// Show the museum instead: what each incident comes to under the idea that caused it, and under tiershift
    #[arg(long, conflicts_with_all = ["bless", "junit", "html", "policy", "changes"])]
    museum: bool,
    #[command(flatten)]
    policy: PolicyOptions,
    /// Overwrite the golden stories instead of comparing with them
    #[arg(long, conflicts_with_all = ["policy", "changes"])]
    bless: bool,
    /// Write a JUnit report
    #[arg(long, value_name = "FILE")]
    junit: Option<PathBuf>,
    #[command(flatten)]
    html: HtmlOption,
    #[command(flatten)]
    force: Force,
    #[command(flatten)]
    jobs: common::Jobs,
}

pub(super) fn run(arguments: &Arguments, policies: &Registry, json: bool) -> Result<Verdict> {
    if arguments.museum {
        return show_museum(arguments, policies, json);
    }
    let files = suite::scenario_files(&paths(arguments, &[SCENARIOS, MUSEUM, SEEDS]))?;
    let policy = arguments.policy.read(policies)?;
    if let Some(junit) = &arguments.junit {
        arguments.force.check(junit, MARK)?;
    }
    let is_junit_printed = arguments.junit.as_deref().is_some_and(output::is_standard);
    let printed = [(json, "--json"), (is_junit_printed, "--junit")];
    let page = arguments.html.place(&printed, arguments.force)?;
    let check = |path: &PathBuf| {
        let checked = match policy.is_none() {
            true => suite::check(path, arguments.bless, policies).map_err(anyhow::Error::from),
            false => check_under(path, &policy, policies),
        };
        // One broken file does not keep the others from being checked.
        checked.unwrap_or_else(|error| Checked::broken(path, format!("{error:#}")))
    };
    let checked = pool::map(arguments.jobs.count(), &files, check)?;
    let failed = checked.iter().filter(|one| !one.failures.is_empty()).count();
    if let Some(path) = &arguments.junit {
        let cases: Vec<Case> = checked
            .iter()
            .map(|one| Case { name: one.name.clone(), failures: one.failures.clone() })
            .collect();
        output::write(path, junit("scenarios", &cases).as_bytes())?;
    }
    let repeat = |(one, path): (&Checked, &PathBuf)| {
        let policy = arguments.policy.as_arguments();
        format!("tiershift run {}{policy} --out out/{}", path.display(), one.name)
    };
    if let Some(page) = page {
        let folder = |path: &PathBuf| path.parent().unwrap_or(Path::new("")).display().to_string();
        let folders: Vec<String> = files.iter().map(folder).collect();
        let repeats: Vec<String> = checked.iter().zip(&files).map(repeat).collect();
        let rows = checked.iter().zip(&folders).zip(&repeats);
        let rows: Vec<ScenarioRow<'_>> = rows
            .map(|((checked, folder), repeat)| ScenarioRow { folder, checked, repeat })
            .collect();
        let title = format!("check of {}", text::count(files.len() as u64, "scenario"));
        output::write(page, suite_page(&title, &rows).as_bytes())?;
    }
    if json {
        common::print_json(&checked)?;
    } else if !arguments.html.is_printed() {
        for (one, path) in checked.iter().zip(&files) {
            if one.failures.is_empty() {
                let note = if one.blessed { " (golden story written)" } else { "" };
                common::print(&format!("ok      {}{note}", one.name))?;
                continue;
            }
            common::print(&format!("FAILED  {}", one.name))?;
            for failure in &one.failures {
                common::print(&format!("  {}", failure.replace('\n', "\n  ")))?;
            }
            common::print(&format!("  repeat: {}", repeat((one, path))))?;
        }
        common::print(&format!("{} passed, {failed} failed", checked.len() - failed))?;
        if let Some(page) = page {
            common::print(&format!("page written to {}", page.display()))?;
        }
    }
    Ok(if failed == 0 { Verdict::Done } else { Verdict::Failed })
}

/// Holds another policy to the expectations of a scenario, and to the rules that hold for every run. Golden stories and
/// baselines are about the scenario's own.
fn check_under(path: &Path, policy: &PolicyChange, policies: &Registry) -> Result<Checked> {
    let mut scenario = scenario::load(path, policies)?;
    policy.apply(&mut scenario.setup.settings, policies)?;
    let play = || anyhow::Ok(suite::play(&scenario, policy.adviser(&scenario.setup)?, policies)?);
    let first = play()?;
    let failures = first.failures(&play()?);
    Ok(Checked::new(&scenario, &first, failures))
}

/// Returns the paths that were given, or those of `usual` that are there. The first is asked for in any case.
fn paths(arguments: &Arguments, usual: &[&str]) -> Vec<PathBuf> {
    if !arguments.paths.is_empty() {
        return arguments.paths.clone();
    }
    let usual = usual.iter().map(PathBuf::from).enumerate();
    usual.filter(|(place, path)| *place == 0 || path.is_dir()).map(|(_, path)| path).collect()
}

fn show_museum(arguments: &Arguments, policies: &Registry, json: bool) -> Result<Verdict> {
    let files = suite::scenario_files(&paths(arguments, &[MUSEUM]))?;
    let play = |path: &PathBuf| {
        museum::exhibit(path, policies).with_context(|| path.display().to_string())
    };
    let played = pool::map(arguments.jobs.count(), &files, play)?;
    let exhibits: Vec<Exhibit> =
        played.into_iter().filter_map(Result::transpose).collect::<Result<_>>()?;
    let holds = |one: &&Exhibit| one.idea_is_red && one.ours_is_green;
    let held = exhibits.iter().filter(holds).count();
    if json {
        common::print_json(&exhibits)?;
    } else {
        common::print(&museum_table(&exhibits))?;
        let all = exhibits.len();
        common::print(&format!(
            "{held} of {all} incidents red under the idea and green under ours"
        ))?;
    }
    Ok(if held == exhibits.len() { Verdict::Done } else { Verdict::Failed })
}

const SCENARIOS: &str = "scenarios";
const MUSEUM: &str = "scenarios/museum";
/// The book of worlds in which the hunt once found something.
const SEEDS: &str = "scenarios/seeds";
