//! `tiershift check`: the regression suite.

use std::io::Write as _;
use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Args;
use tiershift_core::policy::Registry;

use crate::cli::{Verdict, common};
use crate::files::whole_file::WholeFile;
use crate::report::junit::{Case, junit};
use crate::study::pool;
use crate::study::suite::{self, Checked};

/// Check scenarios: expectations, golden stories, and every run twice
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
tiershift check\n  \
tiershift check scenarios/stable.toml --bless\n  \
tiershift check --junit out/check.xml --jobs 2")]
pub(super) struct Arguments {
    /// Scenario files, or folders of them
    #[arg(value_name = "PATH", default_value = "scenarios")]
    paths: Vec<PathBuf>,
    /// Write golden stories anew instead of comparing with them
    #[arg(long)]
    bless: bool,
    /// Write a JUnit report
    #[arg(long, value_name = "FILE")]
    junit: Option<PathBuf>,
    /// Scenarios to run side by side; as many as there are processors by default. Results do not depend on it
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    jobs: Option<u16>,
}

pub(super) fn run(arguments: &Arguments, policies: &Registry, json: bool) -> Result<Verdict> {
    let files = suite::scenario_files(&arguments.paths)?;
    let check = |path: &PathBuf| {
        match suite::check(path, arguments.bless, policies) {
            Ok(checked) => checked,
            // One broken file does not keep the others from being checked.
            Err(error) => Checked {
                name: path.file_stem().unwrap_or_default().to_string_lossy().into_owned(),
                failures: vec![format!("{:#}", anyhow::Error::from(error))],
                blessed: false,
            },
        }
    };
    let checked = pool::map(arguments.jobs.unwrap_or(0), &files, check)?;
    let failed = checked.iter().filter(|one| !one.failures.is_empty()).count();
    if let Some(path) = &arguments.junit {
        let cases: Vec<Case> = checked
            .iter()
            .map(|one| Case { name: one.name.clone(), failures: one.failures.clone() })
            .collect();
        WholeFile::create(path)
            .and_then(|mut file| {
                file.write_all(junit("scenarios", &cases).as_bytes())?;
                file.finish()
            })
            .with_context(|| format!("cannot write `{}`", path.display()))?;
    }
    if json {
        common::print_json(&checked)?;
    } else {
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
            common::print(&format!(
                "  repeat: tiershift run {} --out out/{}",
                path.display(),
                one.name
            ))?;
        }
        common::print(&format!("{} passed, {failed} failed", checked.len() - failed))?;
    }
    Ok(if failed == 0 { Verdict::Done } else { Verdict::Failed })
}
