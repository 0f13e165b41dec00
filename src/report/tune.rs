//! A search for settings as text, and as the resulting policy file.

use std::fmt::Write as _;

use tiershift_core::text::count;
use tiershift_core::time::span_text;

use crate::report::compare::{against_first, means, violations};
use crate::report::figures::{Group, figures_table};
use crate::study::compare::Compared;
use crate::study::tune::{Found, Held, LEAST_GAIN, Worth};

/// A search and its result.
#[derive(Clone, Copy, Debug)]
pub struct Tuning<'a> {
    /// The prices of changes: the recipe's name.
    pub recipe: &'a str,
    /// The worth of runs.
    pub worth: Worth,
    /// The result.
    pub found: &'a Found,
    /// The number of recordings.
    pub searched: usize,
    /// The present settings, the result and each of its changes alone, on what was held back.
    pub compared: Option<&'a Compared>,
    /// Whether the gain holds there.
    pub held: Option<Held>,
}

/// Returns the result, whether it holds, and what each setting is worth alone.
pub fn text(tuning: &Tuning<'_>) -> String {
    let mut out = String::new();
    let Tuning { found, recipe, .. } = tuning;
    let _ = writeln!(
        out,
        "{} on the first two thirds of {}, changes priced as in `{recipe}`",
        count(found.tried as u64, "trial"),
        count(tuning.searched as u64, "recording"),
    );
    let Some(compared) = tuning.compared else {
        out.push_str("no candidate is better than the current settings on those: keep them\n");
        return out;
    };
    let set = found.settings.iter().map(|(key, value)| format!("{key} = {value}"));
    let _ = writeln!(out, "best there: {}", set.collect::<Vec<_>>().join(", "));
    let _ = writeln!(
        out,
        "it gains {:.4} there: share of the optimum, less {} of its service for each reversal\n",
        found.gain,
        span_text(tuning.worth.reversal)
    );
    if !compared.overall.is_empty() {
        let line = |one: &crate::study::compare::Overall| (format!("  {}", one.policy), means(one));
        let groups = [Group { heading: None, lines: compared.overall.iter().map(line).collect() }];
        out.push_str("on the last third, which the search has not seen:\n\n");
        out.push_str(&figures_table("", &groups, |figure| figure.better.is_some()));
        out.push('\n');
    }
    if let Some(against) = compared.overall.get(1).and_then(|tuned| tuned.against_first.as_ref()) {
        out.push_str("tuned settings against the current ones:\n");
        out.push_str(&against_first(against));
    }
    for violation in violations(compared) {
        let _ = writeln!(out, "{violation}");
    }
    out.push_str(&verdict(tuning.held));
    out
}

/// Returns whether to take it.
fn verdict(held: Option<Held>) -> String {
    let Some(held) = held else {
        return "no held-out part is long enough to judge by: keep the current settings\n"
            .to_owned();
    };
    let Some(half) = held.gain.plus_minus else {
        return "the held-out parts are too short to distinguish a gain from luck: keep the current settings\n"
            .to_owned();
    };
    let gain = held.gain.mean;
    let parts = count(held.recordings as u64, "part");
    let gained = format!("{gain:+.4} ±{half:.4} over {parts}");
    match held.is_recommended {
        true => format!("recommended: {gained}\n"),
        false if gain - half > 0.0 && gain < LEAST_GAIN => {
            format!("keep the current settings: {gained} is too small to matter\n")
        }
        false if gain - half > 0.0 => {
            format!("keep the current settings: {gained}, but other programs lose memory for it\n")
        }
        false => format!("keep the current settings: {gained} is within the noise\n"),
    }
}

/// Returns the policy file: `settings`, with a comment about their origin.
pub fn policy_file(tuning: &Tuning<'_>, settings: &toml::Table, made: &[String]) -> String {
    let mut out = String::new();
    for line in made {
        let _ = writeln!(out, "# {line}");
    }
    for line in verdict(tuning.held).lines() {
        let _ = writeln!(out, "# On the held-out parts, {line}");
    }
    out.push('\n');
    out.push_str(&toml::to_string(settings).expect("settings are a table of TOML"));
    out
}
