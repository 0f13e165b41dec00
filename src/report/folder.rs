//! The recordings of a folder in one table, with their means and the worst of them.

use comfy_table::{CellAlignment, ContentArrangement, Table, presets};
use serde::Serialize;
use tiershift_core::text;

use crate::summary::{Comparison, Summary};

/// What became of one file of a folder.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct FolderRow {
    /// Its path.
    pub recording: String,
    /// Why it was not replayed; absent where it was.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub skipped: Option<String>,
    /// Whether it counts in the means: it lasts for at least 40 prices of a switch, and its optimum's score is at
    /// least 0.05. Without an optimum, everything that was replayed counts.
    pub counts: bool,
    /// Its figures.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub summary: Option<Summary>,
}

impl FolderRow {
    /// Builds it from what was replayed, or why not.
    pub fn new(recording: String, replayed: Result<Summary, String>) -> Self {
        let (summary, skipped) = match replayed {
            Ok(summary) => (Some(summary), None),
            Err(reason) => (None, Some(reason)),
        };
        let counts = summary.as_ref().is_some_and(|summary| match &summary.comparison {
            Some(comparison) => {
                summary.seconds >= PRICES * comparison.price_seconds
                    && comparison.optimum.score >= LEAST_SCORE
            }
            None => true,
        });
        Self { recording, skipped, counts, summary }
    }

    fn comparison(&self) -> Option<&Comparison> {
        self.summary.as_ref()?.comparison.as_ref()
    }
}

/// Returns the table, the means and the worst of what counts, and what was skipped and why.
pub fn folder_table(rows: &[FolderRow]) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(HEAD);
    let replayed = || rows.iter().filter_map(|row| Some((row, row.summary.as_ref()?)));
    for (row, summary) in replayed() {
        let mark = if row.counts { "" } else { " *" };
        table.add_row(cells(format!("{}{mark}", row.recording), &Figures::of(summary)));
    }
    let counted: Vec<(&FolderRow, &Summary)> = replayed().filter(|(row, _)| row.counts).collect();
    if !counted.is_empty() {
        let all: Vec<Figures> = counted.iter().map(|(_, summary)| Figures::of(summary)).collect();
        table.add_row(cells(format!("mean of {}", all.len()), &Figures::mean(&all)));
    }
    for column in 1..HEAD.len() {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    if let Some(names) = table.column_mut(0) {
        names.set_padding((0, 1));
    }
    let mut out = String::new();
    for line in table.lines() {
        out.push_str(line.trim_end());
        out.push('\n');
    }
    let share = |of: fn(&Comparison) -> Option<f64>| {
        let shares = counted.iter().filter_map(|(row, _)| Some((of(row.comparison()?)?, row)));
        shares.min_by(|a, b| a.0.total_cmp(&b.0))
    };
    let worst = [
        ("score free", share(|comparison| comparison.share_of_optimum)),
        ("no reversals", share(|comparison| comparison.share_of_optimum_without_reversals)),
    ];
    for (name, worst) in worst {
        if let Some((share, row)) = worst {
            out.push_str(&format!("worst {name}: {share:.4}, {}\n", row.recording));
        }
    }
    if replayed().any(|(row, _)| !row.counts) {
        out.push_str(&format!(
            "* not in the means: shorter than {PRICES} prices of a switch, or an optimum's score below {LEAST_SCORE}\n"
        ));
    }
    for (row, reason) in rows.iter().filter_map(|row| Some((row, row.skipped.as_ref()?))) {
        out.push_str(&format!("skipped {}: {reason}\n", row.recording));
    }
    for (row, summary) in replayed() {
        for violation in &summary.violations {
            out.push_str(&format!("violation in {}: {violation}\n", row.recording));
        }
        if !summary.warnings.is_empty() {
            let count = text::count(summary.warnings.len() as u64, "warning");
            out.push_str(&format!("{count} on {}: replay it alone to read\n", row.recording));
        }
    }
    out
}

/// The figures of a row; `None` where there are none.
struct Figures {
    hours: f64,
    quality: f64,
    switches: f64,
    reversals: f64,
    optimum: Option<f64>,
    free: Option<f64>,
    one_way: Option<f64>,
    at_none: Option<f64>,
}

impl Figures {
    fn of(summary: &Summary) -> Self {
        let comparison = summary.comparison.as_ref();
        Self {
            hours: summary.seconds / 3600.0,
            quality: summary.quality_served_fraction,
            switches: summary.switches as f64,
            reversals: summary.reversals as f64,
            optimum: comparison.map(|comparison| comparison.optimum.quality),
            free: comparison.and_then(|comparison| comparison.share_of_optimum),
            one_way: comparison
                .and_then(|comparison| comparison.share_of_optimum_without_reversals),
            at_none: comparison.map(|comparison| comparison.seconds_at_none_while_smallest_fitted),
        }
    }

    fn mean(all: &[Self]) -> Self {
        let mean = |of: &dyn Fn(&Self) -> Option<f64>| {
            let values: Vec<f64> = all.iter().filter_map(of).collect();
            (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
        };
        let certain = |of: fn(&Self) -> f64| mean(&|one| Some(of(one))).unwrap_or_default();
        Self {
            hours: certain(|one| one.hours),
            quality: certain(|one| one.quality),
            switches: certain(|one| one.switches),
            reversals: certain(|one| one.reversals),
            optimum: mean(&|one| one.optimum),
            free: mean(&|one| one.free),
            one_way: mean(&|one| one.one_way),
            at_none: mean(&|one| one.at_none),
        }
    }
}

fn cells(name: String, figures: &Figures) -> [String; HEAD.len()] {
    let places = |value: Option<f64>, places: usize| {
        value.map_or_else(|| "-".to_owned(), |value| format!("{value:.places$}"))
    };
    // Counts are whole but for their means.
    let count = |value: f64| match value.fract() {
        0.0 => format!("{value:.0}"),
        _ => format!("{value:.1}"),
    };
    [
        name,
        format!("{:.1}", figures.hours),
        format!("{:.3}", figures.quality),
        count(figures.switches),
        count(figures.reversals),
        places(figures.optimum, 3),
        places(figures.free, 4),
        places(figures.one_way, 4),
        places(figures.at_none, 0),
    ]
}

/// Quality is ours and the optimum's; then our score as a share of that of the optimum, and of the optimum without
/// reversals; then the seconds at none while the smallest rung fitted.
const HEAD: [&str; 9] = [
    "recording",
    "hours",
    "quality",
    "switches",
    "reversals",
    "optimum",
    "score free",
    "no reversals",
    "s at none",
];
/// A recording that lasts for fewer prices of a switch says how it begins, not how it goes on. Chosen.
const PRICES: f64 = 40.0;
/// Where the best score is lower, hardly anything could be served, and a share of it says little. Chosen.
const LEAST_SCORE: f64 = 0.05;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::summary::Optimum;

    fn summary(seconds: f64, share: f64) -> Summary {
        let optimum = Optimum { quality: 0.8, switches: 4, score: 0.75 };
        let comparison = Comparison {
            price_seconds: 60.0,
            score: 0.75 * share,
            optimum,
            optimum_without_reversals: optimum,
            share_of_optimum: Some(share),
            share_of_optimum_without_reversals: Some(share),
            seconds_at_none_while_smallest_fitted: 12.4,
            seconds_below_best_fitting: 100.0,
        };
        Summary {
            seconds,
            switches: 3,
            reversals: 1,
            quality_served_fraction: 0.7,
            comparison: Some(comparison),
            ..Summary::default()
        }
    }

    #[test]
    fn what_does_not_count_is_marked_and_what_was_skipped_is_named() {
        let warned =
            Summary { warnings: vec!["a row rejected".to_owned()], ..summary(7200.0, 0.97) };
        let rows = [
            FolderRow::new("a.csv".to_owned(), Ok(summary(86_400.0, 0.99))),
            FolderRow::new("b/long-name.csv".to_owned(), Ok(warned)),
            FolderRow::new("short.csv".to_owned(), Ok(summary(2399.0, 0.5))),
            FolderRow::new("notes.txt".to_owned(), Err("of no format that is known".to_owned())),
        ];
        insta::assert_snapshot!(folder_table(&rows));
    }
}
