//! `tiershift verify`: the same inputs must give the same answers.

use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::Args;
use tiershift_core::policy::Registry;

use crate::cli::input::Inputs;
use crate::cli::{Verdict, common};
use crate::log::{LogEnd, LogError, LogReader};
use crate::study::verify::{Verified, VerifyError, verify};

/// Feed a log's inputs to the controller again, compare what it answers, and check the invariants
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
tiershift verify out/first\n  \
tiershift verify recordings --unclosed")]
pub(super) struct Arguments {
    /// The `--out` folders of runs, or their full event logs; plain, .gz or .zst, or folders of segments; a folder of recordings
    /// stands for every run in it. - is standard input
    #[arg(required = true, value_name = "LOG")]
    logs: Vec<PathBuf>,
    /// Verify a log that is still being written, or whose writer was stopped, as far as it goes
    #[arg(long)]
    unclosed: bool,
}

/// One line of the answer.
#[derive(serde::Serialize)]
struct Row {
    log: String,
    verified: Option<Verified>,
    /// Why it was not verified, or only in part.
    difference: Option<String>,
    /// For a run in a folder whose beginning is gone: the number of records, all as they were written.
    #[serde(skip_serializing_if = "Option::is_none")]
    begins_late: Option<u64>,
}

pub(super) fn run(arguments: &Arguments, policies: &Registry, json: bool) -> Result<Verdict> {
    let inputs = Inputs::default();
    let mut rows = Vec::new();
    let mut show = |row: Row| -> Result<()> {
        if !json {
            common::print(&line(&row))?;
        }
        rows.push(row);
        Ok(())
    };
    for path in &arguments.logs {
        let path = inputs.path(path)?;
        let runs = common::runs_of(&path);
        for run in &runs {
            show(row(run, arguments.unclosed, policies, runs.len() > 1)?)?;
        }
        if runs.is_empty() {
            show(row(&path, arguments.unclosed, policies, false)?)?;
        }
    }
    if json {
        common::print_json(&rows)?;
    }
    // What a full folder had to drop is not a fault of the rest; something must be proved, though.
    let breaks = |row: &Row| row.verified.as_ref().is_some_and(|it| !it.violations.is_empty());
    let holds = |row: &Row| row.verified.is_some() || row.begins_late.is_some();
    let all = rows.iter().all(|row| holds(row) && !breaks(row));
    let any = rows.iter().any(|row| row.verified.is_some());
    Ok(if all && any { Verdict::Done } else { Verdict::Failed })
}

fn row(path: &Path, unclosed: bool, policies: &Registry, is_one_of_many: bool) -> Result<Row> {
    let log = path.display().to_string();
    let verify = |log: LogReader| {
        let _following = common::Following::new("verifying", log.progress());
        verify(log, policies)
    };
    let mut begins_late = None;
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
        Err(error @ VerifyError::BeginsLate { .. }) if is_one_of_many => {
            let mut log = LogReader::open(path)?;
            match log.by_ref().find_map(Result::err) {
                Some(broken) => (None, Some(broken.to_string())),
                None if unclosed || matches!(log.end(), Some(LogEnd::Closed { .. })) => {
                    begins_late = Some(log.records());
                    (None, Some(error.to_string()))
                }
                None => (None, Some(format!("{error}; and it was not closed"))),
            }
        }
        // A log that cannot be read was not verified either; its error is reported.
        Err(error) => (None, Some(error.to_string())),
    };
    Ok(Row { log, verified, difference, begins_late })
}

fn line(Row { log, verified, difference, begins_late }: &Row) -> String {
    let difference = difference.as_deref().unwrap_or_default();
    if let Some(records) = begins_late {
        return format!(
            "{log}: cannot be verified, but its {records} records are unchanged since they were written: {difference}"
        );
    }
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
