//! `tiershift status`: what a running daemon serves, why nothing higher, and what happened last.

use std::fmt::Write;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::Args;
use serde::Deserialize;
use tiershift_core::text;
use tiershift_core::units::{Bytes, Percent};

use crate::cli::token::{self, TokenArguments};
use crate::cli::{Verdict, common};
use crate::serve;

/// Show what a running daemon serves, why nothing higher, and what happened last
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
tiershift status\n  \
tiershift status --url http://box.lan:8484 --token-file token\n  \
tiershift --json status")]
pub(super) struct Arguments {
    /// The daemon's address
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:8484")]
    url: String,
    #[command(flatten)]
    token: TokenArguments,
}

pub(super) fn run(arguments: &Arguments, json: bool) -> Result<Verdict> {
    let TokenArguments { token_file, token_env } = &arguments.token;
    let token = token::read(token_file.as_deref(), token_env.as_deref())?;
    let status = serve::fetch_status(&arguments.url, token.as_deref())?;
    if json {
        common::print_json(&status)?;
        return Ok(Verdict::Done);
    }
    let status: Status = serde_json::from_value(status).with_context(|| {
        format!("what answers at {} is another version's daemon: --json shows it", arguments.url)
    })?;
    common::print(&status.text())?;
    Ok(Verdict::Done)
}

/// What of the answer is told to people.
#[derive(Debug, Deserialize)]
struct Status {
    version: String,
    uptime_ns: u64,
    tier: String,
    model: Option<String>,
    is_stopping: bool,
    lines: Vec<Line>,
    words: Words,
    last: Vec<Entry>,
    requests: Requests,
    recording: Recording,
}

#[derive(Debug, Deserialize)]
struct Line {
    name: String,
    used_milli_percent: Percent,
    own_milli_percent: Percent,
    upgrade_line_milli_percent: Percent,
    degrade_line_milli_percent: Percent,
    used_bytes: Option<Bytes>,
    total_bytes: Option<Bytes>,
    constrains: bool,
}

#[derive(Debug, Deserialize)]
struct Words {
    decision: Option<String>,
    why_not_higher: Vec<String>,
    notice: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Entry {
    at_ns: u64,
    kind: String,
    text: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Recording {
    Off,
    On { run: String },
    Stopped { error: String },
}

#[derive(Debug, Deserialize)]
struct Requests {
    waiting: usize,
    running: usize,
    done: u64,
    failed: u64,
    cancelled: u64,
    rejected: u64,
}

impl Status {
    fn text(&self) -> String {
        let mut rows = vec![("serves", self.serves())];
        rows.extend(self.words.decision.iter().map(|text| ("decision", text.clone())));
        rows.extend(self.words.why_not_higher.iter().map(|text| ("why not higher", text.clone())));
        rows.extend(self.words.notice.iter().map(|text| ("notice", text.clone())));
        rows.extend(self.lines.iter().map(|line| (line.name.as_str(), line.text())));
        let Requests { waiting, running, done, failed, cancelled, rejected } = self.requests;
        let now = format!("{running} running, {waiting} waiting; ended: {done} done");
        rows.push((
            "requests",
            format!("{now}, {failed} failed, {cancelled} cancelled, {rejected} rejected"),
        ));
        let recording = match &self.recording {
            Recording::Off => "off".to_owned(),
            Recording::On { run } => run.clone(),
            Recording::Stopped { error } => format!("stopped: {error}"),
        };
        rows.push(("recording", recording));
        for entry in &self.last {
            let ago = Duration::from_nanos(self.uptime_ns.saturating_sub(entry.at_ns));
            rows.push(("last", format!("{} ago, {}: {}", text::span(ago), entry.kind, entry.text)));
        }
        let up = text::span(Duration::from_nanos(self.uptime_ns));
        rows.push(("daemon", format!("tiershift {}, up {up}", self.version)));
        table(&rows)
    }

    fn serves(&self) -> String {
        let ending = if self.is_stopping { ", stopping" } else { "" };
        match &self.model {
            Some(model) => format!("{} ({model}){ending}", self.tier),
            None => format!("nothing{ending}"),
        }
    }
}

impl Line {
    fn text(&self) -> String {
        let amount = match (self.used_bytes, self.total_bytes) {
            (Some(used), Some(total)) => {
                format!("{} of {}, ", text::bytes(used), text::bytes(total))
            }
            (_, _) => String::new(),
        };
        let (used, own) = (self.used_milli_percent, self.own_milli_percent);
        // Whose the pressure is, nobody knows.
        let ours = match self.name.as_str() {
            "pressure" => String::new(),
            _ => format!(" ({} ours)", text::percent(own)),
        };
        let used = format!("{amount}{}{ours}", text::percent(used));
        if !self.constrains {
            return format!("{used}; not looked at");
        }
        format!(
            "{used}; upgrade below {}, degrade above {}",
            text::percent(self.upgrade_line_milli_percent),
            text::percent(self.degrade_line_milli_percent)
        )
    }
}

/// Two columns; a name is written once where it would be repeated.
fn table(rows: &[(&str, String)]) -> String {
    let width = rows.iter().map(|(name, _)| name.len()).max().unwrap_or_default();
    let mut text = String::new();
    let mut last = "";
    for (name, value) in rows {
        let name = if std::mem::replace(&mut last, name) == *name { "" } else { name };
        writeln!(text, "{name:width$}  {value}").expect("a String takes whatever is written to it");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_told_in_words() {
        let status = serde_json::json!({
            "version": "0.1.0", "uptime_ns": 90_000_000_000_u64, "tier": "small", "model": "a",
            "is_stopping": false, "recording": {"on": {"run": "2026-11-24", "segment": 0}},
            "lines": [{
                "name": "memory", "used_milli_percent": 50_000, "own_milli_percent": 1500,
                "upgrade_line_milli_percent": 80_000, "degrade_line_milli_percent": 90_000,
                "used_bytes": 1_u64 << 33, "total_bytes": 1_u64 << 34, "constrains": true,
            }, {
                "name": "cpu", "used_milli_percent": 95_000, "own_milli_percent": 0,
                "upgrade_line_milli_percent": 80_000, "degrade_line_milli_percent": 90_000,
                "used_bytes": null, "total_bytes": null, "constrains": false,
            }],
            "words": {
                "decision": "hold: medium fits, and must do so for 12s more",
                "why_not_higher": ["window is 48s, at least 1m", "cooldown is 5s, at least 30s"],
                "notice": null,
            },
            "last": [{"at_ns": 30_000_000_000_u64, "kind": "serving", "text": "small"}],
            "requests": {
                "waiting": 0, "running": 1, "done": 2, "failed": 0, "cancelled": 0, "rejected": 0,
            },
        });
        let status: Status = serde_json::from_value(status).unwrap();
        insta::assert_snapshot!(status.text(), @r"
        serves          small (a)
        decision        hold: medium fits, and must do so for 12s more
        why not higher  window is 48s, at least 1m
                        cooldown is 5s, at least 30s
        memory          8.00 GiB of 16.0 GiB, 50% (1.5% ours); upgrade below 80%, degrade above 90%
        cpu             95% (0% ours); not looked at
        requests        1 running, 0 waiting; ended: 2 done, 0 failed, 0 cancelled, 0 rejected
        recording       2026-11-24
        last            1m ago, serving: small
        daemon          tiershift 0.1.0, up 1m 30s
        ");
    }
}
