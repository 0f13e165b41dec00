//! `tiershift minimise`: a scenario reduced to a small one that still shows the same.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::Args;
use serde::Serialize;
use tiershift_core::policy::Registry;
use toml::{Table, Value};

use crate::cli::output::{self, Force};
use crate::cli::policy::PolicyOptions;
use crate::cli::{Verdict, common};
use crate::exec;
use crate::files::whole_file::read_small_text;
use crate::scenario;
use crate::study::minimise::{Keep, Minimised, minimise, shown, text};

/// Reduce a scenario that shows a failure to its smallest form
#[derive(Debug, Args)]
#[command(
    after_help = "Exits with 1 when the scenario does not show what is to be kept.\n\nExamples:\n  \
tiershift minimise broken.toml --keep \"invariant L3\" --out small.toml\n  \
tiershift minimise scenarios/no-projection.toml --policy original --keep \"expect switches\""
)]
pub(super) struct Arguments {
    /// The scenario file
    #[arg(value_name = "SCENARIO")]
    scenario: PathBuf,
    /// What the result must still show: \"invariant L3\" (a rule that is broken), \"expect switches\" (a key of
    /// [expect] that is not met), error or panic. Without it, what the scenario shows first
    #[arg(long, value_name = "WHAT")]
    keep: Option<Keep>,
    #[command(flatten)]
    policy: PolicyOptions,
    /// Where to write the result; - is standard output
    #[arg(long, short, value_name = "FILE", default_value = "-")]
    out: PathBuf,
    #[command(flatten)]
    force: Force,
    /// Maximum number of runs
    #[arg(long, value_name = "N", default_value_t = MOST_RUNS)]
    runs: u64,
}

/// The result, as JSON.
#[derive(Serialize)]
struct Report<'a> {
    keep: String,
    shown: &'a str,
    lines: usize,
    runs: u64,
    is_cut_off: bool,
    scenario: &'a str,
}

pub(super) fn run(arguments: &Arguments, policies: &Registry, json: bool) -> Result<Verdict> {
    let path = &arguments.scenario;
    let name = path.display();
    arguments.force.check(&arguments.out, MARK)?;
    // Loading it first reports a mistake with its position.
    let mut scenario = scenario::load(path, policies)?;
    let policy = arguments.policy.read(policies)?;
    policy.apply(&mut scenario.setup.settings, policies)?;
    anyhow::ensure!(
        scenario.setup.settings.policy.name() != exec::POLICY,
        "minimise cannot use a policy that is a program, because its answers may differ between runs: give the name of a policy or a file"
    );
    let base_dir = path.parent().unwrap_or(Path::new(""));
    let mut document: Table = read_small_text(path)?.parse().with_context(|| name.to_string())?;
    if !policy.is_none() {
        let settings = Table::try_from(&scenario.setup.settings)?;
        document.insert("policy".to_owned(), settings.into());
    }
    inline_catalog(&mut document, base_dir)?;
    let all = shown(&text(&document), base_dir, policies);
    let keep = match arguments.keep.clone().or_else(|| all.first().map(|one| one.keep.clone())) {
        Some(keep) => keep,
        None => {
            common::print(&format!("{name} runs as expected: there is nothing to minimise"))?;
            return Ok(Verdict::Failed);
        }
    };
    let Some(small) = minimise(&document, &keep, arguments.runs, base_dir, policies) else {
        let others: Vec<String> = all.iter().map(|one| one.text.clone()).collect();
        let instead = match others.is_empty() {
            true => "it runs as expected".to_owned(),
            false => format!("it shows: {}", others.join("; ")),
        };
        common::print(&format!("{name} does not show \"{keep}\": {instead}"))?;
        return Ok(Verdict::Failed);
    };
    let file = file(&small, &file_name(path), &arguments.out);
    refuse_lost_traces(&small.text, base_dir, &arguments.out)?;
    let lines = small.text.lines().count();
    if json {
        common::print_json(&Report {
            keep: keep.to_string(),
            shown: &small.shown.text,
            lines,
            runs: small.runs,
            is_cut_off: small.is_cut_off,
            scenario: &file,
        })?;
    }
    let is_printed = output::is_standard(&arguments.out);
    if !(json && is_printed) {
        output::write(&arguments.out, file.as_bytes())?;
    }
    if !json && !is_printed {
        let cut = if small.is_cut_off { " (stopped by --runs)" } else { "" };
        let runs = tiershift_core::text::count(small.runs, "run");
        common::print(&format!(
            "{}\n{} lines after {runs}{cut}, written to {}",
            small.shown.text,
            lines,
            arguments.out.display()
        ))?;
    }
    Ok(Verdict::Done)
}

/// Returns a small scenario as a file that states what it shows and how to repeat it.
pub(super) fn file(small: &Minimised, from: &str, out: &Path) -> String {
    let Minimised { text, shown, .. } = small;
    let repeat = match output::is_standard(out) {
        true => String::new(),
        false => format!("# Repeat: tiershift run {}\n", out.display()),
    };
    let shown = shown.text.replace('\n', " ");
    format!("{MARK}: what is left of {from} and shows the same\n# {shown}\n{repeat}{text}")
}

/// Copies the models of a catalog file into the document, so that it does not need that file.
fn inline_catalog(document: &mut Table, base_dir: &Path) -> Result<()> {
    let catalog = document.get("catalog").and_then(Value::as_str).filter(|it| *it != RELATIVE);
    let Some(catalog) = catalog.map(|name| base_dir.join(name)) else { return Ok(()) };
    let mut table: Table = read_small_text(&catalog)?.parse()?;
    if let Some(models) = table.remove("model") {
        document.remove("catalog");
        document.insert("model".to_owned(), models);
    }
    Ok(())
}

/// Refuses to write a scenario where the traces that it names would not be found.
fn refuse_lost_traces(text: &str, base_dir: &Path, out: &Path) -> Result<()> {
    let folder = |path: &Path| match path.as_os_str().is_empty() {
        true => fs::canonicalize("."),
        false => fs::canonicalize(path),
    };
    let beside = folder(out.parent().unwrap_or(Path::new(""))).ok();
    let names_trace = text.contains("trace = ");
    anyhow::ensure!(
        output::is_standard(out) || !names_trace || beside == folder(base_dir).ok(),
        "the result names a trace by its path from `{}`: give an --out in that folder",
        base_dir.display()
    );
    Ok(())
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// The beginning of a file that this verb has written.
pub(super) const MARK: &str = "# tiershift minimise";
/// Chosen: some minutes for the slowest scenarios, and more than any in `scenarios/` needs.
const MOST_RUNS: u64 = 20_000;
/// The catalog that is not a file.
const RELATIVE: &str = "relative";
