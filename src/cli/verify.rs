//! `tiershift verify`: the same inputs, the same answers.

use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::Args;
use tiershift_core::policy::Registry;

use crate::cli::input::Inputs;
use crate::cli::{Verdict, common};
use crate::log::{LogError, LogReader};
use crate::study::verify::{Verified, VerifyError, verify};

/// Feed a log's inputs to the controller again, compare what it answers, and check the invariants
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
tiershift verify out/first\n  \
tiershift verify recordings --unclosed")]
pub(super) struct Arguments {
    /// The `--out` folders of runs, or their full event logs; plain, .gz or .zst, or folders of segments; - is standard input
    #[arg(required = true, value_name = "LOG")]
    logs: Vec<PathBuf>,
    /// Take a log that is still written, or whose writer was stopped, as far as it goes
    #[arg(long)]
    unclosed: bool,
}

/// One line of the answer.
#[derive(serde::Serialize)]
struct Row {
    log: String,
    verified: Option<Verified>,
    /// Why it was not verified, or how far only.
    difference: Option<String>,
}

pub(super) fn run(arguments: &Arguments, policies: &Registry, json: bool) -> Result<Verdict> {
    let inputs = Inputs::default();
    let mut rows = Vec::new();
    for path in &arguments.logs {
        let row = row(&inputs.path(path)?, arguments.unclosed, policies)?;
        if !json {
            common::print(&line(&row))?;
        }
        rows.push(row);
    }
    if json {
        common::print_json(&rows)?;
    }
    let is_kept = |row: &Row| row.verified.as_ref().is_some_and(|it| it.violations.is_empty());
    let all = rows.iter().all(is_kept);
    Ok(if all { Verdict::Done } else { Verdict::Failed })
}

fn row(path: &Path, unclosed: bool, policies: &Registry) -> Result<Row> {
    let log = path.display().to_string();
    let verify = |log: LogReader| {
        let _following = common::Following::new("verifying", log.progress());
        verify(log, policies)
    };
    let (verified, difference) = match LogReader::open(path)
        .map_err(VerifyError::from)
        .and_then(verify)
    {
        Ok(verified) => (Some(verified), None),
        Err(VerifyError::Log(error @ (LogError::Open { .. } | LogError::NoSegments { .. }))) => {
            return Err(error.into());
        }
        Err(ref error @ VerifyError::Torn { ref done, .. }) if unclosed => {
            (Some(done.clone()), Some(error.to_string()))
        }
        // A log that cannot be read was not verified either; what is wrong with it is told.
        Err(error) => (None, Some(error.to_string())),
    };
    Ok(Row { log, verified, difference })
}

fn line(Row { log, verified, difference }: &Row) -> String {
    let difference = difference.as_deref().unwrap_or_default();
    let Some(Verified { records, inputs, decisions, violations }) = verified else {
        return format!("{log}: NOT verified: {difference}");
    };
    let far = if difference.is_empty() { "verified" } else { "verified as far as it goes" };
    let mut line = format!(
        "{log}: {far}, {decisions} decisions of {records} records came out again from {inputs} inputs"
    );
    if !difference.is_empty() {
        line += &format!("; {difference}");
    }
    for violation in violations {
        line += &format!("\n  broken: {violation}");
    }
    line
}
