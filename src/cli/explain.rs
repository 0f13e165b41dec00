//! `tiershift explain`: why a decision was taken, or not, with every gate.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use tiershift_core::decision::{Action, Decision, Gate, Measure};
use tiershift_core::event::{Event, Output};
use tiershift_core::text;
use tiershift_core::time::{SpanText, Timestamp};

use crate::cli::{Verdict, common};
use crate::log::{LogLevel, LogReader};

/// Tell why a log's decisions were taken, with every gate
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
tiershift explain out/first/events.jsonl\n  \
tiershift explain out/first/events.jsonl --at 1h30m")]
pub(super) struct Arguments {
    /// The event log, or a folder of its segments; gates are in logs written with `--log full`
    #[arg(value_name = "LOG")]
    log: PathBuf,
    /// The moment: the last decision up to it is explained. Without it, every change, and the last decision
    #[arg(long, value_name = "SPAN")]
    at: Option<SpanText>,
}

/// A decision with its moment.
#[derive(serde::Serialize)]
struct Told {
    at_ns: Timestamp,
    decision: Decision,
}

pub(super) fn run(arguments: &Arguments, json: bool) -> Result<Verdict> {
    let mut log = LogReader::open(&arguments.log)?;
    let catalog = log.header().checked_catalog()?;
    let until = arguments.at.map_or(Timestamp::MAX, |at| Timestamp::ZERO + at.0);
    let mut changes = Vec::new();
    let mut last = None;
    for record in &mut log {
        let record = record?;
        if record.at > until {
            break;
        }
        if let Event::Output(Output::Decision(decision)) = record.event {
            let is_change = decision.action != Action::Hold;
            if is_change && arguments.at.is_none() {
                changes.push(Told { at_ns: record.at, decision: decision.clone() });
            }
            last = Some(Told { at_ns: record.at, decision });
        }
    }
    common::note_end(&arguments.log, &log);
    let Some(last) = last else {
        anyhow::bail!("{}: there is no decision up to that moment", arguments.log.display());
    };
    if json {
        changes.push(last);
        common::print_json(&changes)?;
        return Ok(Verdict::Done);
    }
    let line = |told: &Told| {
        let decision = &told.decision;
        format!(
            "{:>12}  {} on {}: {}",
            text::seconds(told.at_ns.as_secs_f64()),
            text::action(decision.action, &catalog),
            catalog.tier_name(decision.rung),
            text::reason(&decision.reason, &catalog)
        )
    };
    for change in &changes {
        common::print(&line(change))?;
    }
    if !changes.is_empty() {
        common::print("the last decision:")?;
    }
    common::print(&line(&last))?;
    if last.decision.gates.is_empty() {
        common::print(match log.header().level {
            LogLevel::Full => "no gate was weighed for this decision",
            LogLevel::Changes | LogLevel::Off => {
                "no gates are in this log: write it with `--log full`"
            }
        })?;
    } else {
        common::print(&gates(&last.decision.gates))?;
    }
    Ok(Verdict::Done)
}

/// Returns the gates as a table: name, state, value, limit, distance.
fn gates(gates: &[Gate]) -> String {
    let mut table = comfy_table::Table::new();
    table.load_style(comfy_table::presets::NOTHING);
    table.set_header(["gate", "", "value", "limit", "distance"]);
    for gate in gates {
        let state = if gate.open { "open" } else { "SHUT" };
        table.add_row([
            text::gate(gate.name),
            state.to_owned(),
            text::measure(gate.value),
            text::measure(gate.limit),
            distance(gate),
        ]);
    }
    table.to_string()
}

/// Returns how far the value is from its limit.
fn distance(gate: &Gate) -> String {
    use tiershift_core::units::{Bytes, Percent};
    match (gate.value, gate.limit) {
        (Measure::Bytes(value), Measure::Bytes(limit)) => {
            text::measure(Measure::Bytes(Bytes::abs_diff(value, limit)))
        }
        (Measure::MilliPercent(value), Measure::MilliPercent(limit)) => {
            let apart = value.milli().abs_diff(limit.milli());
            text::measure(Measure::MilliPercent(Percent::from_milli(apart)))
        }
        (Measure::Nanos(value), Measure::Nanos(limit)) => {
            text::measure(Measure::Nanos(value.abs_diff(limit)))
        }
        (Measure::Count(value), Measure::Count(limit)) => {
            text::measure(Measure::Count(value.abs_diff(limit)))
        }
        _ => String::new(),
    }
}
