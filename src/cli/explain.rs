//! `tiershift explain`: why a decision was taken, or not, with every gate.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::Args;
use tiershift_core::catalog::{Catalog, Rung};
use tiershift_core::decision::{Decision, Gate, Measure};
use tiershift_core::event::{Event, Observe, Output};
use tiershift_core::policy::Registry;
use tiershift_core::text;
use tiershift_core::time::Timestamp;

use crate::cli::input::Inputs;
use crate::cli::{Verdict, common};
use crate::log::{LogLevel, LogReader};
use crate::report::timeline::{Change, Stop, Timeline};
use crate::study::retold::Retold;
use crate::wall::{WallClock, WallTime, When};

/// Explain why the decisions in a log were made, with every gate
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
tiershift explain out/first\n  \
tiershift explain out/first --at 1h30m\n  \
tiershift explain out/first --at 2026-01-31T02:13")]
pub(super) struct Arguments {
    /// The `--out` folder of a run, or an event log, or a folder of its segments. - is standard input
    #[arg(value_name = "LOG")]
    log: PathBuf,
    /// The moment: the last decision up to it is explained. A span since the beginning (1h30m) or, if the recording has
    /// dates, a wall-clock time (02:13, 2026-01-31T02:13). Without it, every change, and the last decision
    #[arg(long, value_name = "WHEN")]
    at: Option<When>,
}

/// The decisions of a log, up to a moment.
#[derive(serde::Serialize)]
struct Explained<'a> {
    /// When the run began, by the recording's wall clock.
    #[serde(skip_serializing_if = "Option::is_none")]
    started_at: Option<WallTime>,
    /// Every change, and its outcome; none if a moment was given.
    changes: Vec<ExplainedChange<'a>>,
    /// The end of a run that was asked to stop, unless a moment was given.
    #[serde(skip_serializing_if = "Option::is_none")]
    stopped: Option<Stop>,
    /// When the last decision was taken.
    at_ns: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    wall_time: Option<WallTime>,
    decision: Decision,
    /// What served at the moment that was given.
    #[serde(skip_serializing_if = "Option::is_none")]
    serving: Option<Serving>,
}

/// The tier that served at a moment, and for how long.
#[derive(serde::Serialize)]
struct Serving {
    tier: String,
    since_ns: Timestamp,
    /// Absent if the log ends first.
    #[serde(skip_serializing_if = "Option::is_none")]
    until_ns: Option<Timestamp>,
}

impl Serving {
    /// Returns it as a line.
    fn text(&self, clock: &WallClock) -> String {
        let shown = |at| clock.moment_text(at, text::span);
        let what = match self.tier.as_str() {
            "none" => "nothing serves".to_owned(),
            tier => format!("{tier} serves"),
        };
        let since = shown(self.since_ns);
        match self.until_ns {
            Some(until) => format!("{what} from {since} until {}", shown(until)),
            None => format!("{what} from {since} to the end of the log"),
        }
    }
}

/// A change, with the wall clock's time.
#[derive(serde::Serialize)]
struct ExplainedChange<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    wall_time: Option<WallTime>,
    #[serde(flatten)]
    change: &'a Change,
}

pub(super) fn run(arguments: &Arguments, policies: &Registry, json: bool) -> Result<Verdict> {
    let inputs = Inputs::default();
    let path = inputs.path(&arguments.log)?;
    common::note_newest(&path);
    let log = LogReader::open(&path)?;
    let catalog = log.header().checked_catalog()?;
    let window = log.header().checked_settings()?.reversal_window;
    let until = until(arguments.at, &path)?;
    let mut timeline = Timeline::new(&catalog, window);
    let mut last = None;
    let (mut serving, mut since, mut ended) = (Rung::NONE, Timestamp::ZERO, None);
    let following = common::Following::new("reading", log.progress());
    let mut told = Retold::new(log, policies);
    for record in &mut told {
        let record = record?;
        if let Event::Output(Output::Serving { rung, .. }) = record.event
            && rung != serving
        {
            if record.at > until {
                ended = Some(record.at);
                break;
            }
            (serving, since) = (rung, record.at);
        }
        if record.at > until {
            continue;
        }
        timeline.observe(record.at, record.event.as_ref());
        if let Event::Output(Output::Decision(decision)) = record.event {
            last = Some((record.at, decision));
        }
    }
    drop(following);
    let log = told.log();
    common::note_end(&path, log);
    let Some((at_ns, decision)) = last else {
        anyhow::bail!(
            "{}: no decision was made up to that moment: give a later --at",
            path.display()
        );
    };
    let clock = log.clock();
    let changes = if arguments.at.is_none() { timeline.changes() } else { &[] };
    let stopped = timeline.stopped().filter(|_| arguments.at.is_none());
    let serving = arguments.at.is_some().then(|| Serving {
        tier: catalog.tier_name(serving).to_owned(),
        since_ns: since,
        until_ns: ended,
    });
    if json {
        let changes = changes
            .iter()
            .map(|change| ExplainedChange { wall_time: clock.at(change.at), change })
            .collect();
        let (started_at, wall_time) = (clock.started_at(), clock.at(at_ns));
        let explained =
            Explained { started_at, changes, stopped, at_ns, wall_time, decision, serving };
        common::print_json(&explained)?;
        return Ok(Verdict::Done);
    }
    if let Some(started_at) = clock.started_at() {
        common::print(&format!("the recording began at {}", started_at.described()))?;
    }
    for change in changes {
        common::print(&change_line(change, &catalog, clock))?;
    }
    if let Some(stop) = stopped {
        common::print(&format!("{}  {}", common::moment(stop.at, clock), stop.text(&catalog)))?;
    }
    if !changes.is_empty() {
        common::print("the last decision:")?;
    }
    common::print(&format!(
        "{}  {}",
        common::moment(at_ns, clock),
        text::decision(decision.action, decision.rung, &decision.reason, &catalog)
    ))?;
    if let Some(serving) = &serving {
        common::print(&serving.text(clock))?;
    }
    if decision.gates.is_empty() {
        common::print(match log.header().level {
            LogLevel::Full => "this decision did not evaluate any gates",
            LogLevel::Inputs => {
                "this log has no gates, and its policy is unknown here: write one with --log full"
            }
            LogLevel::Changes | LogLevel::Off => {
                "a log of changes has no gates: write one without --log changes"
            }
        })?;
    } else {
        common::print(&gates(&decision.gates, &catalog))?;
    }
    Ok(Verdict::Done)
}

/// Returns the moment up to which decisions are considered.
fn until(at: Option<When>, log: &Path) -> Result<Timestamp> {
    match at {
        None => Ok(Timestamp::MAX),
        Some(When::Span(span)) => Ok(Timestamp::ZERO + span),
        // The wall clock is known at the end of the log.
        Some(when) => {
            let mut whole = LogReader::open(log)?;
            let end = whole.end_moment()?;
            when.moment(whole.clock(), end).with_context(|| log.display().to_string())
        }
    }
}

/// Returns a change as a line: when, what, why, and its outcome.
fn change_line(change: &Change, catalog: &Catalog, clock: &WallClock) -> String {
    format!("{}  {}", common::moment(change.at, clock), change.text(catalog))
}

/// Returns the gates as a table: the tier that each keeps away, or all higher ones; name, state, value, limit, distance.
fn gates(gates: &[Gate], catalog: &Catalog) -> String {
    let mut table = comfy_table::Table::new();
    table.load_style(comfy_table::presets::NOTHING);
    table.set_header(["tier", "gate", "", "value", "limit", "distance"]);
    for gate in gates {
        let tier = gate.rung.map_or("any higher", |rung| catalog.tier_name(rung));
        let state = if gate.open { "open" } else { "closed" };
        table.add_row([
            tier.to_owned(),
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
