//! `tiershift verify`: the same inputs, the same answers.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;

use crate::cli::{Verdict, common};
use crate::log::LogReader;
use crate::verify::{Verified, VerifyError, verify};

/// Feed a log's inputs to the controller again and compare what it answers
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  tiershift verify out/first/events.jsonl")]
pub(super) struct Arguments {
    /// Event logs, written with `--log full`; plain, .gz or .zst
    #[arg(required = true, value_name = "LOG")]
    logs: Vec<PathBuf>,
}

/// One line of the answer.
#[derive(serde::Serialize)]
struct Row {
    log: String,
    verified: Option<Verified>,
    difference: Option<String>,
}

pub(super) fn run(arguments: &Arguments, json: bool) -> Result<Verdict> {
    let mut rows = Vec::new();
    for path in &arguments.logs {
        let log = path.display().to_string();
        let (verified, difference) =
            match LogReader::open(path).map_err(VerifyError::from).and_then(verify) {
                Ok(verified) => (Some(verified), None),
                // A log that cannot be read was not verified either; what is wrong with it is told.
                Err(error) => (None, Some(error.to_string())),
            };
        if !json {
            match (&verified, &difference) {
                (Some(Verified { records, inputs, decisions }), _) => common::print(&format!(
                    "{log}: verified, {decisions} decisions of {records} records came out again from {inputs} inputs"
                ))?,
                (None, Some(difference)) => {
                    common::print(&format!("{log}: NOT verified: {difference}"))?;
                }
                (None, None) => {}
            }
        }
        rows.push(Row { log, verified, difference });
    }
    if json {
        common::print_json(&rows)?;
    }
    let all = rows.iter().all(|row| row.verified.is_some());
    Ok(if all { Verdict::Done } else { Verdict::Failed })
}
