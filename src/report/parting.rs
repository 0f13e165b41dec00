//! Two runs side by side, as text.

use std::fmt::Write as _;

use tiershift_core::catalog::Catalog;
use tiershift_core::text;
use tiershift_core::time::{Timestamp, from_secs_f64};

use crate::report::figures::{Group, figures_table};
use crate::study::compare::{FIGURES, PerFigure};
use crate::study::parting::{Decided, Parted, Parting};

/// Returns what two runs have in common, their figures, and the partings with the largest effect, in order of time.
/// `names` are the names of the runs; `moment` formats a moment.
pub fn text(
    parted: &Parted,
    names: [&str; 2],
    catalogs: [&Catalog; 2],
    moment: impl Fn(Timestamp) -> String,
) -> String {
    let mut out = String::new();
    let [left, right] = &parted.runs;
    let apart = PerFigure::from_fn(|place| {
        FIGURES[place].better?;
        Some(right.figures.0[place]? - left.figures.0[place]?)
    });
    let line = |side: &str, name: &str, policy: &str| format!("{side} {name} ({policy})");
    let lines = vec![
        (line("left ", names[0], &left.policy), left.figures.clone()),
        (line("right", names[1], &right.policy), right.figures.clone()),
        ("right less left".to_owned(), apart),
    ];
    let groups = [Group { heading: None, lines }];
    out.push_str(&figures_table("", &groups, |figure| figure.better.is_some()));
    let share = match parted.seconds {
        0.0 => 100.0,
        seconds => 100.0 * parted.same_tier_seconds / seconds,
    };
    let _ = writeln!(
        out,
        "on the same tier for {} of {} ({share:.1} %)",
        span(parted.same_tier_seconds),
        span(parted.seconds)
    );
    if parted.partings.is_empty() {
        out.push_str("the same tiers served throughout\n");
        return out;
    }
    let mut most: Vec<&Parting> = parted.partings.iter().collect();
    most.sort_by(|a, b| {
        let [a, b] = [a, b].map(|it| (it.right_gains_seconds.abs(), it.seconds));
        b.0.total_cmp(&a.0).then(b.1.total_cmp(&a.1))
    });
    most.truncate(MOST_TOLD);
    most.sort_by_key(|parting| parting.at);
    let times = text::count(parted.partings.len() as u64, "time");
    let told = match most.len() < parted.partings.len() {
        true => format!("; the {MOST_TOLD} with the largest effect"),
        false => String::new(),
    };
    let _ = writeln!(out, "they parted {times}{told}:");
    for parting in most {
        let gains = match parting.right_gains_seconds {
            gain if gain.abs() < 0.05 => "no difference in quality".to_owned(),
            gain if gain > 0.0 => format!("right gains {gain:.1} s of full quality"),
            gain => format!("left gains {:.1} s of full quality", -gain),
        };
        let [left, right] = &parting.tiers;
        let _ = writeln!(
            out,
            "{}  for {}: left on {left}, right on {right}; {gains}",
            moment(parting.at),
            span(parting.seconds)
        );
        for ((side, decided), catalog) in
            ["left ", "right"].iter().zip(&parting.decisions).zip(catalogs)
        {
            let _ = writeln!(out, "  {side}  {}", words(decided.as_ref(), catalog, &moment));
        }
    }
    out
}

/// Returns a decision as `explain` words it.
fn words(
    decided: Option<&Decided>,
    catalog: &Catalog,
    moment: &impl Fn(Timestamp) -> String,
) -> String {
    let Some(Decided { at, decision }) = decided else { return "(no decision yet)".to_owned() };
    let what = text::decision(decision.action, decision.rung, &decision.reason, catalog);
    format!("{}  {what}", moment(*at).trim_start())
}

fn span(seconds: f64) -> String {
    text::span(from_secs_f64(seconds))
}

/// The most partings that are listed. Chosen: a screen.
const MOST_TOLD: usize = 10;
