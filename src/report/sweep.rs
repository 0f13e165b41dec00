//! A sweep as text: the points that no other beats, with their settings.

use std::fmt::Write as _;

use tiershift_core::text::count;

use crate::report::compare::{means, remarks};
use crate::report::figures::{Group, figures_table, not_counted};
use crate::study::compare::{Compared, front};

/// Returns the points that no other one beats, besides the first, with the settings of each.
pub fn text(compared: &Compared) -> String {
    let mut out = String::new();
    let [points, recordings, seeds] =
        [compared.policies.len(), compared.recordings.len(), compared.seeds.len()];
    let played = compared.recordings.iter().filter(|one| one.skipped.is_none()).count();
    let counted = compared.recordings.iter().filter(|one| one.counts()).count();
    let _ = writeln!(
        out,
        "{} on {} of {}, {}; {counted} in the means",
        count(points as u64, "point"),
        played,
        count(recordings as u64, "recording"),
        count(seeds as u64, "seed"),
    );
    let best = front(&compared.overall);
    let shown: Vec<usize> = std::iter::once(0)
        .chain(best.iter().copied().filter(|&place| place > 0))
        .filter(|&place| place < compared.overall.len())
        .collect();
    if !shown.is_empty() {
        let _ = writeln!(
            out,
            "{} beaten by no other in quality, reversals and avoidable seconds over memory, beside the first:\n",
            match best.len() {
                1 => "one is".to_owned(),
                more => format!("{more} are"),
            }
        );
        let line = |&place: &usize| {
            let beaten = if best.contains(&place) { "" } else { " (beaten)" };
            (format!("  {place}{beaten}"), means(&compared.overall[place]))
        };
        let lines = shown.iter().take(MOST_SHOWN).map(line).collect();
        let groups = [Group { heading: None, lines }];
        out.push_str(&figures_table("point", &groups, |figure| figure.better.is_some()));
        out.push('\n');
        for &place in shown.iter().take(MOST_SHOWN) {
            let _ = writeln!(out, "  {place}: {}", compared.policies[place]);
        }
        if let Some(more) = shown.len().checked_sub(MOST_SHOWN).filter(|more| *more > 0) {
            let _ = writeln!(out, "  and {more} more: see the files");
        }
    }
    if compared.recordings.iter().any(|one| one.skipped.is_none() && !one.counts()) {
        out.push_str(&not_counted());
    }
    out.push_str(&remarks(compared));
    out
}

/// Chosen: as many as are read at once.
const MOST_SHOWN: usize = 30;
