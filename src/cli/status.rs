//! `tiershift status`: what a running daemon serves, why nothing higher, and what happened last.

use std::fmt::Write;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::Args;
use tiershift_core::sample::Resource;
use tiershift_core::text;
use tiershift_core::time::Timestamp;

use crate::cli::token::{self, TokenArguments};
use crate::cli::{Verdict, common};
use crate::serve::{
    self, Companion, HistoryEntry, Ordered, Recording, Requests, ResourceUse, Status,
};

/// Show what a running daemon serves, why no larger model, and what happened last
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
        format!("the daemon at {} is another version, and its status cannot be shown as text: use --json", arguments.url)
    })?;
    common::print(&text(&status))?;
    Ok(Verdict::Done)
}

/// Returns the status as text.
fn text(status: &Status) -> String {
    let mut rows = vec![("serves", serves(status))];
    let words = &status.words;
    rows.extend(words.decision.iter().map(|text| ("decision", text.clone())));
    rows.extend(words.why_not_higher.iter().map(|text| ("why not higher", text.clone())));
    rows.extend(status.companions.iter().map(|companion| ("companions", beside(companion))));
    rows.extend(status.order.iter().map(|order| ("ordered", ordered(order, status.uptime))));
    rows.extend(words.notice.iter().map(|text| ("notice", text.clone())));
    rows.extend(status.lines.iter().map(|line| (line.name.as_str(), in_use(line))));
    let Requests { waiting, running, done, failed, cancelled, rejected } = status.requests;
    let now = format!("{running} running, {waiting} waiting; ended: {done} done");
    rows.push((
        "requests",
        format!("{now}, {failed} failed, {cancelled} cancelled, {rejected} rejected"),
    ));
    let recording = match &status.recording {
        Recording::Off => "off".to_owned(),
        Recording::On { run, .. } => run.clone(),
        Recording::Held { error } => format!("held in memory until the disk has room: {error}"),
        Recording::Stopped { error } => format!("stopped: {error}"),
    };
    rows.push(("recording", recording));
    for HistoryEntry { at, kind, text } in &status.last {
        let ago = text::span(status.uptime.since(*at));
        rows.push(("last", format!("{ago} ago, {kind}: {text}")));
    }
    let up = text::span(status.uptime.since(Timestamp::ZERO));
    rows.push(("daemon", format!("tiershift {}, up {up}", status.version)));
    table(&rows)
}

fn serves(status: &Status) -> String {
    let ending = if status.is_stopping { ", stopping" } else { "" };
    match &status.model {
        Some(model) => format!("{} ({model}){ending}", status.tier),
        None => format!("nothing{ending}"),
    }
}

fn beside(companion: &Companion) -> String {
    let Companion { model, serves } = companion;
    if *serves { format!("{model} serves") } else { format!("{model} is waiting for space") }
}

fn in_use(line: &ResourceUse) -> String {
    let amount = match (line.used_bytes, line.total_bytes) {
        (Some(used), Some(total)) => {
            format!("{} of {}, ", text::bytes(used), text::bytes(total))
        }
        (_, _) => String::new(),
    };
    // It is not known whose pressure it is.
    let ours = match line.resource {
        Resource::Pressure => String::new(),
        Resource::Memory | Resource::Vram | Resource::Cpu | Resource::Gpu => {
            format!(" ({} ours)", text::percent(line.own))
        }
    };
    let used = format!("{amount}{}{ours}", text::percent(line.used));
    if !line.constrains {
        return format!("{used}; not used by the policy");
    }
    let (upgrade, degrade) = (text::percent(line.upgrade_line), text::percent(line.degrade_line));
    format!("{used}; upgrade below {upgrade}, degrade above {degrade}")
}

fn ordered(order: &Ordered, now: Timestamp) -> String {
    let follows = match order.starts.since(now) {
        Duration::ZERO => String::new(),
        wait => format!(", follows in {}", text::span(wait)),
    };
    match order.until {
        Some(until) => {
            format!(
                "{}{follows}; in effect for another {}",
                order.tier,
                text::span(until.since(now))
            )
        }
        None => format!("{}{follows}; in effect until automatic control is requested", order.tier),
    }
}

/// Formats two columns; a repeated name is written once.
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
    use std::collections::BTreeMap;

    use tiershift_core::catalog::Rung;
    use tiershift_core::model::ModelId;
    use tiershift_core::units::{Bytes, Percent};

    use super::*;
    use crate::serve::{Latencies, Words};

    #[test]
    fn a_status_is_shown_in_words() {
        let line = |name: &str, resource, used, own| ResourceUse {
            name: name.to_owned(),
            resource,
            used: Percent::from_milli(used),
            own: Percent::from_milli(own),
            upgrade_line: Percent::new(80),
            degrade_line: Percent::new(90),
            used_bytes: None,
            total_bytes: None,
            constrains: false,
        };
        let memory = ResourceUse {
            used_bytes: Some(Bytes::from_gib(8)),
            total_bytes: Some(Bytes::from_gib(16)),
            constrains: true,
            ..line("memory", Resource::Memory, 50_000, 1500)
        };
        let status = Status {
            version: "0.1.0".to_owned(),
            uptime: Timestamp::from_secs(90),
            sampled_at: Some(Timestamp::from_secs(89)),
            sampling_interval: Duration::from_secs(2),
            tier: "small".to_owned(),
            model: Some(ModelId::from("a")),
            companions: vec![Companion { model: ModelId::from("e"), serves: true }],
            order: None,
            rung: Rung(1),
            top_rung: Rung(2),
            tiers: ["none", "small", "medium"].map(str::to_owned).to_vec(),
            is_stopping: false,
            lines: vec![memory, line("cpu", Resource::Cpu, 95_000, 0)],
            words: Words {
                decision: Some("hold: medium fits; it must fit for another 12s".to_owned()),
                why_not_higher: ["window is 48s, at least 1m", "cooldown is 5s, at least 30s"]
                    .map(str::to_owned)
                    .to_vec(),
                notice: None,
            },
            last: vec![HistoryEntry {
                at: Timestamp::from_secs(30),
                kind: "serving".to_owned(),
                text: "small".to_owned(),
            }],
            latencies: Latencies::default(),
            resources: None,
            decision: None,
            why_not_higher: Vec::new(),
            last_change: None,
            switches: 1,
            notice: None,
            requests: Requests { running: 1, done: 2, ..Requests::default() },
            recording: Recording::On {
                run: "2026-11-24".to_owned(),
                segment: 1,
                kept_bytes: 0,
                dropped_segments: 0,
            },
            shadow: None,
            own_use_from: BTreeMap::new(),
        };
        // As it comes from the daemon, and as its schema describes it.
        let json = serde_json::to_value(&status).unwrap();
        let schema: serde_json::Value = serde_json::from_str(&serve::status_schema()).unwrap();
        let described = schema["properties"].as_object().unwrap();
        assert!(json.as_object().unwrap().keys().eq(described.keys()), "{described:?}");
        let status: Status = serde_json::from_value(json).unwrap();
        insta::assert_snapshot!(text(&status), @r"
        serves          small (a)
        decision        hold: medium fits; it must fit for another 12s
        why not higher  window is 48s, at least 1m
                        cooldown is 5s, at least 30s
        companions      e serves
        memory          8.00 GiB of 16.0 GiB, 50% (1.5% ours); upgrade below 80%, degrade above 90%
        cpu             95% (0% ours); not used by the policy
        requests        1 running, 0 waiting; ended: 2 done, 0 failed, 0 cancelled, 0 rejected
        recording       2026-11-24
        last            1m ago, serving: small
        daemon          tiershift 0.1.0, up 1m 30s
        ");
    }
}
