//! `tiershift policies`: lists the policies, and what each promises.

use std::time::Duration;

use anyhow::Result;
use clap::Args;
use serde::Serialize;
use tiershift_core::catalog::Catalog;
use tiershift_core::control::Promises;
use tiershift_core::machine::Machine;
use tiershift_core::policy::{About, Registry};
use tiershift_core::settings::{PolicyName, RawSettings, Settings};
use tiershift_core::text;
use tiershift_core::units::Bytes;

use crate::cli::offered::{MEMORY_ONLY, Offered};
use crate::cli::policy::PolicyChoice;
use crate::cli::{Verdict, common};
use crate::files::document::suggestion;
use crate::study::museum;

/// List the policies, or explain one: what it promises, and which settings it uses
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
tiershift policies\n  \
tiershift policies proactive\n  \
tiershift policies --json")]
pub(super) struct Arguments {
    /// The policies to explain; without it, all are listed
    #[arg(value_name = "NAME", value_parser = Offered::POLICIES, hide_possible_values = true)]
    names: Vec<String>,
}

/// One policy.
#[derive(Debug, Serialize)]
struct Explained {
    name: String,
    kind: Kind,
    is_default: bool,
    summary: String,
    /// What it promises with its default settings; absent if it cannot be built without options of its own.
    promises: Option<Vec<Promise>>,
    /// The keys of a policy file that it uses; absent if it uses all.
    settings: Option<Vec<&'static str>>,
    /// Its own keys, under `options`.
    options: Vec<&'static str>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Kind {
    /// Decides, on this machine too.
    Policy,
    /// A model of a whole manager, for simulations.
    Museum,
}

/// What holds for all decisions. A simulated run in which it is broken fails.
#[derive(Debug, Serialize)]
struct Promise {
    key: &'static str,
    text: String,
    /// The time in it, in seconds.
    seconds: Option<f64>,
}

pub(super) fn run(arguments: &Arguments, policies: &Registry, json: bool) -> Result<Verdict> {
    let mut all = explain_all(policies)?;
    let known: Vec<String> = all.iter().map(|one| one.name.clone()).collect();
    if let Some(unknown) = arguments.names.iter().find(|name| !known.contains(name)) {
        let suggestion = suggestion(unknown, known.iter().map(String::as_str));
        anyhow::bail!("unknown policy `{unknown}`: {suggestion}");
    }
    if !arguments.names.is_empty() {
        all.retain(|one| arguments.names.contains(&one.name));
    }
    let text = match (json, arguments.names.is_empty()) {
        (true, _) => return common::print_json(&all).map(|()| Verdict::Done),
        (false, true) => list(&all),
        (false, false) => all.iter().map(Explained::in_words).collect::<Vec<_>>().join("\n"),
    };
    common::print(&text)?;
    Ok(Verdict::Done)
}

fn explain_all(policies: &Registry) -> Result<Vec<Explained>> {
    let mut all = Vec::new();
    for (name, about) in policies.described() {
        let is_idea = museum::ideas().any(|idea| idea == name.name());
        let kind = if is_idea { Kind::Museum } else { Kind::Policy };
        let mut settings = RawSettings::default();
        settings.set_policy(name.clone());
        all.push(explain(name.name(), kind, &about, settings, policies)?);
    }
    let mut settings = RawSettings::default();
    PolicyChoice::MemoryOnly.apply(&mut settings);
    let about = About { summary: "as proactive, but looks at memory alone", ..About::default() };
    all.push(explain(MEMORY_ONLY, Kind::Policy, &about, settings, policies)?);
    all.sort_by(|a, b| (a.kind == Kind::Museum, &a.name).cmp(&(b.kind == Kind::Museum, &b.name)));
    Ok(all)
}

fn explain(
    name: &str,
    kind: Kind,
    about: &About,
    settings: RawSettings,
    policies: &Registry,
) -> Result<Explained> {
    let machine = Machine { memory: SOME_MEMORY, cpus: 8, ..Machine::default() };
    let settings = Settings::new(settings, machine.class())?;
    let catalog = Catalog::relative_to(machine.memory);
    let promises = match policies.build_control(&settings, &catalog) {
        Ok(Some(control)) => {
            let promises = control.promises();
            Some(in_words(&promises, promises.manager_keeps_word))
        }
        Ok(None) => {
            let policy = policies.build(&settings, &catalog).ok();
            policy.map(|policy| in_words(&policy.promises(), !policy.is_blind()))
        }
        Err(_) => None,
    };
    Ok(Explained {
        name: name.to_owned(),
        kind,
        is_default: name == PolicyName::default().name(),
        summary: about.summary.to_owned(),
        promises,
        settings: about.settings.map(<[_]>::to_vec),
        options: about.options.to_vec(),
    })
}

/// Returns the promises as text.
fn in_words(promises: &Promises, keeps_word: bool) -> Vec<Promise> {
    let flag = |key, holds: bool, text: &str| {
        holds.then(|| Promise { key, text: text.to_owned(), seconds: None })
    };
    let within = |key, time: Option<Duration>, before: &str, after: &str| {
        time.map(|time| Promise {
            key,
            text: format!("{before} {}{after}", text::span(time)),
            seconds: Some(time.as_secs_f64()),
        })
    };
    [
        within("window", promises.window, "between tiers that serve, no upgrade within", " of the last change"),
        flag("no_reversal", promises.no_reversal, "no upgrade reverses a downgrade within the reversal window"),
        flag("upgrades_fit", promises.upgrades_fit, "what an upgrade loads fits beside the others' use"),
        within(
            "relief_within",
            promises.relief_within,
            "a space above its limit that holds something of ours is answered with a step down within",
            " and four readings",
        ),
        within(
            "recovery_within",
            promises.recovery_within,
            "a tier that has fitted without a break, and that no line or rate forbids, is loaded within",
            "",
        ),
        within(
            "rescue_within",
            promises.rescue_within,
            "while nothing is loaded, what fits is loaded within",
            "",
        ),
        within(
            "retry_within",
            promises.retry_within,
            "a model that broke, or a switch that was called off, delays either by at most",
            "",
        ),
        flag("decisions_count", promises.decisions_count, "a decision to change has an effect"),
        flag(
            "manager_keeps_word",
            keeps_word,
            "the manager loads on a fresh reading and within the degrade line, interrupts no request before its deadline, and \
             carries an order out or refuses it",
        ),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn list(all: &[Explained]) -> String {
    let widest = all.iter().map(|one| one.name.len()).max().unwrap_or(0);
    let line = |one: &&Explained| {
        let default = if one.is_default { " (the default)" } else { "" };
        format!("  {:widest$}  {}{default}\n", one.name, one.summary)
    };
    let of = |kind| all.iter().filter(move |one| one.kind == kind);
    let (policies, ideas): (String, String) = (
        of(Kind::Policy).map(|one| line(&one)).collect(),
        of(Kind::Museum).map(|one| line(&one)).collect(),
    );
    format!(
        "Policies:\n{policies}\nThe museum's models of other managers, for run, replay and check:\n{ideas}\n\
         `tiershift policies NAME` explains one."
    )
}

impl Explained {
    fn in_words(&self) -> String {
        let mut lines = vec![self.name.clone(), format!("  {}", self.summary)];
        lines.push("\n  Promises, with its default settings; a simulated run in which one is broken fails:".to_owned());
        match &self.promises {
            None => lines.push("  - not known without its options".to_owned()),
            Some(none) if none.is_empty() => lines.push("  - nothing".to_owned()),
            Some(all) => lines.extend(all.iter().map(|promise| format!("  - {}", promise.text))),
        }
        lines.push(match &self.settings {
            None => "\n  Settings: every key of a policy file; `tiershift schema policy` describes them.".to_owned(),
            Some(keys) => format!(
                "\n  Settings that it uses: {}; `tiershift schema policy` describes them.",
                keys.join(", ")
            ),
        });
        if self.kind == Kind::Policy {
            lines.push(
                "  The settings of the manager (`manager.*`) apply to every policy.".to_owned(),
            );
        }
        if !self.options.is_empty() {
            lines.push(format!("  Its own options, under `options`: {}.", self.options.join(", ")));
        }
        lines.join("\n") + "\n"
    }
}

/// The machine for which promises are shown, because times follow from how long models take to load.
const SOME_MEMORY: Bytes = Bytes::from_gib(16);
