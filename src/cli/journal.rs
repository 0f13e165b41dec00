//! The journal of the daemon: its reports, one line each on standard error, as text or as JSON.

use anstream::eprintln;
use clap::ValueEnum;
use serde::Serialize;
use tiershift_core::sample::Resource;
use tiershift_core::text;

use crate::cli::common;
use crate::probe::clock;
use crate::serve::{DaemonEvent, ResourceUse, ShadowReport, ShadowState};
use crate::wall::WallTime;

/// The format of the journal's lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum LogFormat {
    /// As text
    Text,
    /// As JSON, one object per line
    Json,
}

/// Where reports go.
pub(super) struct Journal {
    format: LogFormat,
    is_verbose: bool,
    /// The system's journal adds a time to each line.
    has_time: bool,
    /// Whether standard output is JSON.
    json: bool,
}

#[derive(Serialize)]
struct Dated<'a> {
    time: WallTime,
    #[serde(flatten)]
    event: DaemonEvent<'a>,
}

impl Journal {
    pub(super) fn new(format: Option<LogFormat>, is_verbose: bool, json: bool) -> Self {
        let usual = if json { LogFormat::Json } else { LogFormat::Text };
        Self { format: format.unwrap_or(usual), is_verbose, has_time: !is_under_journald(), json }
    }

    pub(super) fn report(&self, event: DaemonEvent<'_>) {
        // If standard error has been closed since the start, that is no reason to stop serving.
        let _ = match event {
            DaemonEvent::Listening { address } if self.json => {
                common::print_json(&serde_json::json!({"url": format!("http://{address}")}))
            }
            DaemonEvent::Listening { address } => {
                common::print(&format!("serving on http://{address}"))
            }
            DaemonEvent::Shadow(report) if self.json => common::print_json(report),
            DaemonEvent::Shadow(report) => common::print(&compared(report)),
            _ => Ok(()),
        };
        if matches!(event, DaemonEvent::Detail { .. }) && !self.is_verbose {
            return;
        }
        let time = clock::date();
        if self.format == LogFormat::Json {
            let line = serde_json::to_string(&Dated { time, event });
            return eprintln!("{}", line.expect("plain data with text keys is always JSON"));
        }
        let Some(lines) = lines(&event) else { return };
        match self.has_time {
            true => eprintln!("{time} {lines}"),
            false => eprintln!("{lines}"),
        }
    }
}

/// Returns whether standard error is systemd's journal: `$JOURNAL_STREAM` names that file.
fn is_under_journald() -> bool {
    #[cfg(target_os = "linux")]
    {
        use std::os::linux::fs::MetadataExt;
        let is_it = |stream: String| {
            let about = std::fs::metadata("/dev/stderr").ok()?;
            Some(stream == format!("{}:{}", about.st_dev(), about.st_ino()))
        };
        std::env::var("JOURNAL_STREAM").ok().and_then(is_it).unwrap_or_default()
    }
    #[cfg(not(target_os = "linux"))]
    false
}

/// Returns a report as text; nothing if it is printed to standard output.
fn lines(event: &DaemonEvent<'_>) -> Option<String> {
    Some(match event {
        DaemonEvent::Listening { .. } | DaemonEvent::Shadow(_) => return None,
        DaemonEvent::Waiting { url } => format!(
            "no model server answers at {url} yet: waiting for it; clients get 503 until then"
        ),
        DaemonEvent::Reads { lines, not_read } => reads(lines, not_read),
        DaemonEvent::Adopted { model } => format!("`{model}` is already loaded and was adopted"),
        DaemonEvent::Switched { from, to, reason, took, load } => {
            let load = match load {
                Some(load) => format!(", {} of it to load", text::span(*load)),
                None => String::new(),
            };
            format!("switched: {from} → {to}: {reason} (took {}{load})", text::span(*took))
        }
        DaemonEvent::Happened { kind, text } | DaemonEvent::Detail { kind, text } => {
            format!("{kind}: {text}")
        }
        DaemonEvent::ExitMessage { model, words } => {
            let said = words.lines().fold(String::new(), |said, line| said + "\n  " + line);
            format!("`{model}` exited or failed to load; its model server wrote:{said}")
        }
        DaemonEvent::RecordingStopped { error } => {
            format!("error: recording stopped, serving continues: {error}")
        }
        DaemonEvent::RecordingHeld { error } => {
            format!(
                "error: the recording cannot be written, and is held in memory for now: {error}"
            )
        }
        DaemonEvent::RecordingResumed { gap: false, .. } => {
            "the recording is written again, and nothing is missing".to_owned()
        }
        DaemonEvent::RecordingResumed { run, gap: true } => {
            format!("recording continues in a new folder: {run}")
        }
        DaemonEvent::HookFailed { hook, error } => {
            format!("error: the hook `{hook}`: {error}")
        }
        DaemonEvent::ShadowStopped { error } => {
            format!("error: the shadow stopped, serving continues: {error}")
        }
        DaemonEvent::Reloaded { taken, left, models } => reloaded(taken, left, models),
        DaemonEvent::NotReloaded { error } => {
            format!(
                "error: the config could not be reloaded, and the old one stays in effect: {error}"
            )
        }
        DaemonEvent::Stopping => "stopping: finishing what runs".to_owned(),
        DaemonEvent::Stopped { cut: 0 } => "stopped".to_owned(),
        DaemonEvent::Stopped { cut: 1 } => "stopped: 1 reply was cut".to_owned(),
        DaemonEvent::Stopped { cut } => format!("stopped: {cut} replies were cut"),
    })
}

fn reloaded(taken: &[String], left: &[&str], models: &[String]) -> String {
    let policy = match taken {
        [] => "its policy is the same".to_owned(),
        _ => format!("the new policy is in effect ({} changed)", taken.join(", ")),
    };
    let left = match left {
        [] => String::new(),
        _ => format!("; {} can only change with a restart", left.join(", ")),
    };
    let models = match models {
        [] => String::new(),
        _ => format!(
            "; in the models folder, {}: restart the daemon to use the change",
            models.join(", ")
        ),
    };
    format!("config reloaded: {policy}{left}{models}")
}

fn reads(lines: &[ResourceUse], not_read: &[Resource]) -> String {
    let (used, unused): (Vec<_>, Vec<_>) = lines.iter().partition(|line| line.constrains);
    let of = |line: &ResourceUse| {
        let at = |share| match line.total_bytes {
            Some(total) => text::bytes(total.share(share)),
            None => text::percent(share),
        };
        let of = line.total_bytes.map(|total| format!(" of {}", text::bytes(total)));
        let (of, name) = (of.unwrap_or_default(), &line.name);
        let (up, down) = (at(line.upgrade_line), at(line.degrade_line));
        format!("{name}{of}: upgrade below {up}, step down above {down}")
    };
    let mut parts: Vec<String> = used.into_iter().map(of).collect();
    if !unused.is_empty() {
        let names: Vec<&str> = unused.iter().map(|line| line.name.as_str()).collect();
        parts.push(format!("read, but not used by the policy: {}", names.join(", ")));
    }
    if !not_read.is_empty() {
        let names: Vec<&str> = not_read.iter().map(|resource| resource.name()).collect();
        parts.push(format!("not read on this machine: {}", names.join(", ")));
    }
    parts.join("; ")
}

/// Returns the result of a shadow's comparison, in a few lines.
fn compared(report: &ShadowReport) -> String {
    let ShadowReport { shadow, real_cost, shadow_cost, .. } = report;
    let state = match &report.state {
        ShadowState::Running | ShadowState::Ended => String::new(),
        ShadowState::FellBehind => " (it fell behind and was dropped)".to_owned(),
        ShadowState::Failed { error } => format!(" (it failed: {error})"),
    };
    let mut table = comfy_table::Table::new();
    table.load_style(comfy_table::presets::NOTHING);
    table.set_header(["", "switches", "reversals", "reloads", "above the line", "quality"]);
    for (name, cost) in [(&report.policy, real_cost), (shadow, shadow_cost)] {
        table.add_row([
            name.clone(),
            cost.switches.to_string(),
            cost.reversals.to_string(),
            text::seconds(cost.reload_seconds),
            text::seconds(cost.seconds_above_degrade_line),
            format!("{:.3}", cost.quality_served_fraction),
        ]);
    }
    format!(
        "shadow {shadow}: the same tier for {:.1} % of {}, {} differences{state}; what it would have cost is simulated\n{table}",
        report.agreement * 100.0,
        text::seconds(report.compared_seconds),
        report.differences
    )
}
