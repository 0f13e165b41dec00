//! `tiershift check`: the regression suite.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::Args;
use serde::Serialize;
use tiershift_core::policy::Registry;
use tiershift_core::text;
use tiershift_core::time::Clock;

use crate::cli::html::HtmlOption;
use crate::cli::output::{self, Force};
use crate::cli::policy::{PolicyChange, PolicyOptions};
use crate::cli::recorded::no_scenario;
use crate::cli::{Verdict, common, say};
use crate::files::built_in::BuiltIn;
use crate::files::document::nearest;
use crate::probe::clock::SystemClock;
use crate::report::junit::{Case, MARK, junit};
use crate::report::{ScenarioRow, museum_table, suite_page};
use crate::scenario;
use crate::study::museum::{self, Exhibit};
use crate::study::pool;
use crate::study::suite::{self, Bless, Checked};

/// Check scenarios: expectations, golden stories, and every run twice
#[derive(Debug, Args)]
#[command(mut_arg("force", |arg| arg.help(
    "Overwrite what this command did not write, and with --bless the golden stories of scenarios that fail"
)))]
#[command(after_help = "Examples:\n  \
tiershift check\n  \
tiershift check video-memory\n  \
tiershift check scenarios/stable.toml --bless\n  \
tiershift check --junit out/check.xml --jobs 2\n  \
tiershift check --html out/check.html\n  \
tiershift check --policy \"exec:python3 examples/policy.py\"\n  \
tiershift check --museum")]
pub(super) struct Arguments {
    /// Scenario files, folders of them, or parts of the names of scenarios [default: scenarios, scenarios/museum and
    /// scenarios/seeds; the built-in suite, if there is no folder `scenarios`]
    #[arg(value_name = "PATH|NAME")]
    scenarios: Vec<PathBuf>,
    /// Show the museum instead: what each incident comes to under the idea that caused it, and under tiershift
    #[arg(long, conflicts_with_all = ["bless", "junit", "html", "policy", "changes"])]
    museum: bool,
    #[command(flatten)]
    policy: PolicyOptions,
    /// Overwrite the golden stories of scenarios that pass instead of comparing with them
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

/// The chosen scenarios, in order.
struct Suite {
    files: Vec<PathBuf>,
    /// The unpacked suite, if they are not the user's files.
    built_in: Option<BuiltIn>,
}

/// The result of one scenario, and how long it took.
#[derive(Serialize)]
struct Timed {
    #[serde(flatten)]
    checked: Checked,
    seconds: f64,
}

pub(super) fn run(arguments: &Arguments, policies: &Registry, json: bool) -> Result<Verdict> {
    if arguments.museum {
        return show_museum(arguments, policies, json);
    }
    let suite = Suite::find(arguments, &[SCENARIOS, MUSEUM, SEEDS])?;
    let policy = arguments.policy.read(policies)?;
    if let Some(junit) = &arguments.junit {
        arguments.force.check(junit, MARK)?;
    }
    let is_junit_printed = arguments.junit.as_deref().is_some_and(output::is_standard);
    let printed = [(json, "--json"), (is_junit_printed, "--junit")];
    let page = arguments.html.place(&printed, arguments.force)?;
    let clock = SystemClock::start();
    let checked = suite.check(arguments, &policy, policies)?;
    let failed = checked.iter().filter(|one| !one.checked.failures.is_empty()).count();
    if let Some(path) = &arguments.junit {
        let case = |one: &Timed| Case {
            name: one.checked.name.clone(),
            failures: one.checked.failures.clone(),
        };
        let cases: Vec<Case> = checked.iter().map(case).collect();
        output::write(path, junit("scenarios", &cases).as_bytes())?;
    }
    let repeat = |(one, path): (&Timed, &PathBuf)| {
        let policy = arguments.policy.as_arguments();
        let name = &one.checked.name;
        let scenario = match suite.built_in {
            Some(_) => name.clone(),
            None => path.display().to_string(),
        };
        format!("tiershift run {scenario}{policy} --out out/{name}")
    };
    if let Some(page) = page {
        let folder = |path: &PathBuf| suite.shown(path.parent().unwrap_or(Path::new("")));
        let folders: Vec<String> = suite.files.iter().map(folder).collect();
        let repeats: Vec<String> = checked.iter().zip(&suite.files).map(repeat).collect();
        let rows = checked.iter().zip(&folders).zip(&repeats);
        let rows: Vec<ScenarioRow<'_>> = rows
            .map(|((one, folder), repeat)| ScenarioRow { folder, checked: &one.checked, repeat })
            .collect();
        let title = format!("check of {}", text::count(checked.len() as u64, "scenario"));
        output::write(page, suite_page(&title, &rows).as_bytes())?;
    }
    if json {
        common::print_json(&checked)?;
    } else if !arguments.html.is_printed() {
        let widest = checked.iter().map(|one| one.checked.name.chars().count()).max();
        let rows = checked.iter().zip(&suite.files);
        let (good, bad): (Vec<_>, Vec<_>) =
            rows.partition(|(one, _)| one.checked.failures.is_empty());
        // Failures come last, where they are read.
        for (one, path) in good.into_iter().chain(bad) {
            let (word, style) = match one.checked.failures.is_empty() {
                true => ("ok    ", say::GOOD),
                false => ("FAILED", say::BAD),
            };
            let note = if one.checked.blessed { "  golden story written" } else { "" };
            let (name, width) = (&one.checked.name, widest.unwrap_or(0));
            common::print(&format!(
                "{style}{word}{style:#}  {name:<width$}  {:>6.2} s{note}",
                one.seconds
            ))?;
            for failure in &one.checked.failures {
                common::print(&format!("  {}", failure.replace('\n', "\n  ")))?;
            }
            if !one.checked.failures.is_empty() {
                common::print(&format!("  repeat: {}", repeat((one, path))))?;
            }
        }
        let took = clock.now().as_secs_f64();
        common::print(&format!(
            "{} passed, {failed} failed in {took:.1} s",
            checked.len() - failed
        ))?;
        if let Some(page) = page {
            common::print(&format!("page written to {}", page.display()))?;
        }
    }
    let is_broken = checked.iter().any(|one| one.checked.is_broken());
    Ok(match (is_broken, failed) {
        (true, _) => Verdict::CouldNot,
        (false, 0) => Verdict::Done,
        (false, _) => Verdict::Failed,
    })
}

impl Suite {
    /// Returns the scenarios that the arguments name or, if they name no file, those of `usual` that exist: the first
    /// is required, and built in if it is missing.
    fn find(arguments: &Arguments, usual: &[&str]) -> Result<Self> {
        let (parts, paths): (Vec<&PathBuf>, Vec<&PathBuf>) =
            arguments.scenarios.iter().partition(|named| is_part_of_a_name(named));
        let mut paths: Vec<PathBuf> = paths.into_iter().cloned().collect();
        let mut built_in = None;
        if paths.is_empty() && !Path::new(SCENARIOS).is_dir() {
            anyhow::ensure!(
                !arguments.bless,
                "there is no folder `{SCENARIOS}` here, and the built-in suite cannot be changed: give scenario files"
            );
            let unpacked = BuiltIn::unpack(SCENARIOS)
                .context("cannot unpack the built-in suite into a temporary folder")?;
            paths = usual.iter().map(|folder| unpacked.path(folder)).collect();
            built_in = Some(unpacked);
        } else if paths.is_empty() {
            let usual = usual.iter().map(PathBuf::from).enumerate();
            paths = usual
                .filter(|(place, path)| *place == 0 || path.is_dir())
                .map(|(_, path)| path)
                .collect();
        }
        let mut suite = Self { files: suite::scenario_files(&paths)?, built_in };
        if !parts.is_empty() {
            suite.keep(&parts)?;
        }
        if suite.built_in.is_some() {
            say::note(&format!(
                "there is no folder `{SCENARIOS}` here: this is the built-in suite"
            ));
        }
        Ok(suite)
    }

    /// Keeps the scenarios whose names contain one of these parts. A name includes its folder, except for `scenarios`.
    fn keep(&mut self, parts: &[&PathBuf]) -> Result<()> {
        let name = |file: &PathBuf| {
            let name = self.shown(&file.with_extension(""));
            name.strip_prefix("scenarios/").map_or(name.clone(), str::to_owned)
        };
        let mut named: Vec<(String, PathBuf)> =
            self.files.iter().map(|file| (name(file), file.clone())).collect();
        for part in parts {
            let part = part.display().to_string();
            if named.iter().any(|(name, _)| name.contains(&part)) {
                continue;
            }
            let mut names: Vec<&str> = named.iter().map(|(name, _)| name.as_str()).collect();
            names.sort_unstable();
            let near = nearest(&part, &names)
                .map_or_else(String::new, |near| format!(" did you mean `{near}`?"));
            anyhow::bail!(
                "`{part}` is no file, and no scenario has it in its name:{near} give scenario files, folders of them, or a part of a name"
            );
        }
        let is_meant =
            |name: &str| parts.iter().any(|part| name.contains(&*part.to_string_lossy()));
        named.retain(|(name, _)| is_meant(name));
        self.files = named.into_iter().map(|(_, file)| file).collect();
        Ok(())
    }

    fn check(
        &self,
        arguments: &Arguments,
        policy: &PolicyChange,
        policies: &Registry,
    ) -> Result<Vec<Timed>> {
        let bless = match (arguments.bless, arguments.force.is_given()) {
            (false, _) => Bless::Nothing,
            (true, false) => Bless::WhatPasses,
            (true, true) => Bless::Anything,
        };
        let done = common::Done::new("checking", self.files.len());
        let check = |path: &PathBuf| {
            let clock = SystemClock::start();
            let checked = match policy.is_none() {
                true => suite::check(path, bless, policies).map_err(anyhow::Error::from),
                false => check_under(path, policy, policies),
            };
            // One broken file does not prevent the check of the others.
            let broken = |error| Checked::broken(path, format!("{:#}", no_scenario(path, error)));
            let mut checked = checked.unwrap_or_else(broken);
            if let Some(built_in) = &self.built_in {
                checked.failures.iter_mut().for_each(|text| *text = built_in.shown(text));
            }
            done.after(Timed { checked, seconds: clock.now().as_secs_f64() })
        };
        Ok(pool::map(arguments.jobs.count(), &self.files, check)?)
    }

    /// Returns a path as the user knows it.
    fn shown(&self, path: &Path) -> String {
        let path = path.display().to_string();
        self.built_in.as_ref().map_or(path.clone(), |built_in| built_in.shown(&path))
    }
}

/// Returns whether an argument can only be a part of a name: there is no such file, and it does not look like one.
fn is_part_of_a_name(argument: &Path) -> bool {
    let text = argument.to_string_lossy();
    !argument.exists() && !text.contains(['/', '\\']) && !text.ends_with(".toml")
}

/// Checks another policy against the expectations of a scenario, and against the rules that hold for every run. Golden
/// stories and baselines apply only to the scenario's own policy.
fn check_under(path: &Path, policy: &PolicyChange, policies: &Registry) -> Result<Checked> {
    let mut scenario = scenario::load(path, policies)?;
    policy.apply(&mut scenario.setup.settings, policies)?;
    let play = || anyhow::Ok(suite::play(&scenario, policy.adviser(&scenario.setup)?, policies)?);
    let first = play()?;
    let failures = first.failures(&play()?);
    Ok(Checked::new(&scenario, &first, failures))
}

fn show_museum(arguments: &Arguments, policies: &Registry, json: bool) -> Result<Verdict> {
    let suite = Suite::find(arguments, &[MUSEUM])?;
    let play = |path: &PathBuf| museum::exhibit(path, policies).with_context(|| suite.shown(path));
    let played = pool::map(arguments.jobs.count(), &suite.files, play)?;
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
