//! The list of a run's changes under the plot: all of them if they are few; otherwise the worst, and how often each
//! reason was given.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::time::Duration;

use tiershift_core::decision::{Reason, Urgency};
use tiershift_core::text;
use tiershift_core::units::Bytes;

use crate::report::plot::data::PlotData;
use crate::report::plot::drawing::{Anchor, fit};
use crate::report::plot::mark::{Kind, mark};
use crate::report::plot::{BLACK, DARK, Run, SMALL, Sheet, TEXT, WIDTH, figures};
use crate::report::timeline::Change;

/// Returns the changes that have a number, in order of time: all of them, or the worst.
pub(super) fn explained(data: &PlotData, room: usize) -> Vec<&Change> {
    let changes = data.timeline.shown_changes();
    if changes.len() <= room {
        return changes.iter().collect();
    }
    let mut worst: Vec<&Change> = changes.iter().collect();
    worst.sort_by_key(|change| Reverse(badness(change)));
    worst.truncate(WORST);
    worst.sort_by_key(|change| change.at);
    worst
}

/// Orders changes by their cost: those that undid the one before them or followed a crash, those that were critical,
/// those that were given up; and among these, the ones with most memory over the limit, then the longest.
fn badness(change: &Change) -> (bool, bool, bool, Bytes, Duration) {
    let undone = change.reversal || change.reason.is_none();
    let is_critical = change.urgency == Some(Urgency::Critical);
    let took = change.completed.map(|completed| completed.took);
    let excess = match change.reason {
        Some(Reason::AboveDegradeLine { used, limit, .. }) => used - limit,
        _ => Bytes::ZERO,
    };
    (undone, is_critical, took.is_none(), excess, took.unwrap_or_default())
}

/// Writes the legend.
pub(super) fn draw(sheet: &mut Sheet<'_>, data: &PlotData, room: usize) {
    sheet.bottom += 14;
    let changes = data.timeline.shown_changes();
    if changes.is_empty() && data.timeline.stopped().is_none() {
        let text = "No change was decided.";
        sheet.drawing.text(text, (INDENT, sheet.bottom), Anchor::Start, TEXT, DARK);
        sheet.bottom += 10;
        return;
    }
    let listed = explained(data, room);
    let has_counts = listed.len() < changes.len();
    if has_counts {
        let text = format!(
            "The {} worst of {} changes: reversals and crashes first, then critical ones, then those most over the limit",
            listed.len(),
            changes.len()
        );
        sheet.drawing.text(&text, (INDENT, sheet.bottom), Anchor::Start, SMALL, BLACK);
        sheet.drawing.text(
            "Reasons of all changes",
            (RIGHT_HALF, sheet.bottom),
            Anchor::Start,
            SMALL,
            BLACK,
        );
        sheet.bottom += ROW;
    }
    let is_narrow = has_counts || listed.len() > 6;
    let rows = if has_counts || !is_narrow { listed.len() } else { listed.len().div_ceil(2) };
    let width = (WIDTH - 2 * INDENT) / if is_narrow { 2 } else { 1 };
    let top = sheet.bottom;
    let mut deepest = rows;
    for (place, change) in listed.iter().enumerate() {
        let x = INDENT + (place / rows.max(1)) as i32 * width;
        let y = top + (place % rows.max(1)) as i32 * ROW;
        let number = format!("{}", place + 1);
        sheet.drawing.text(&number, (x + 20, y), Anchor::End, SMALL, BLACK);
        mark(sheet, (x + 33, y), Kind::of(change));
        let text = fit(&line(change, data), SMALL, width - 60);
        sheet.drawing.text(&text, (x + 46, y), Anchor::Start, SMALL, DARK);
    }
    if has_counts {
        let counts = counts(changes);
        for (y, (count, reason)) in (top..).step_by(ROW as usize).zip(counts.iter().take(WORST)) {
            let number = format!("{count} x");
            sheet.drawing.text(&number, (RIGHT_HALF + 40, y), Anchor::End, SMALL, BLACK);
            let text = fit(reason, SMALL, WIDTH - RIGHT_HALF - 70);
            sheet.drawing.text(&text, (RIGHT_HALF + 50, y), Anchor::Start, SMALL, DARK);
        }
        deepest = deepest.max(counts.len().min(WORST));
    }
    sheet.bottom = top + deepest as i32 * ROW;
    let mut notes = Vec::new();
    if let Some(stop) = data.timeline.stopped() {
        let at = data.timeline.clock.moment_text(stop.at, text::span);
        notes.push(format!("{at} · {}", stop.text(&data.timeline.catalog)));
    }
    if has_counts {
        notes.push("decisions.csv lists all changes".to_owned());
    }
    if listed.iter().any(|change| change.reversal) {
        notes.push("a cross marks a reversal: a change that undoes the one before it".to_owned());
    }
    if listed.iter().any(|change| Kind::of(change) == Kind::GivenUp) {
        notes.push("a hollow square marks a change that was given up".to_owned());
    }
    if !notes.is_empty() {
        let at = (INDENT + 46, sheet.bottom);
        sheet.drawing.text(&notes.join("   ·   "), at, Anchor::Start, SMALL, BLACK);
        sheet.bottom += ROW;
    }
}

/// Describes a run for people who cannot see its picture: its figures, and the list under it.
pub(super) fn description(run: &Run<'_>) -> String {
    let listed = explained(run.data, EXPLAINED);
    let changes: Vec<String> = listed.iter().map(|change| line(change, run.data)).collect();
    let what = match listed.len() < run.data.timeline.shown_changes().len() {
        true => "The worst changes",
        false if listed.is_empty() => "No change was decided",
        false => "Changes",
    };
    format!("{}. {what}: {}.", figures(run.summary), changes.join("; ")).replace(": .", ".")
}

fn line(change: &Change, data: &PlotData) -> String {
    let at = data.timeline.clock.moment_text(change.at, text::span);
    format!("{at} · {}", change.text(&data.timeline.catalog))
}

/// Counts the changes by reason, the most frequent first.
fn counts(changes: &[Change]) -> Vec<(usize, String)> {
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for change in changes {
        let direction = if change.to > change.from { "up" } else { "down" };
        let reason = match &change.reason {
            Some(reason) => reason.code().as_str().replace('-', " "),
            None => change.why_not_decided().to_owned(),
        };
        *counts.entry(format!("{direction}: {reason}")).or_default() += 1;
    }
    let mut counts: Vec<_> = counts.into_iter().map(|(reason, count)| (count, reason)).collect();
    counts.sort_by(|a, b| b.0.cmp(&a.0).then_with(|| a.1.cmp(&b.1)));
    counts
}

/// More changes than this, in two columns, would be a page and not a legend.
pub(super) const EXPLAINED: usize = 24;
/// How many are listed if there are more.
const WORST: usize = 10;
const INDENT: i32 = 20;
/// Where the second column begins.
const RIGHT_HALF: i32 = 780;
const ROW: i32 = 18;
