//! The recordings of a folder in one table, with their means and the worst of them.

use serde::Serialize;
use tiershift_core::text;

use crate::report::figures::{Group, NOT_COUNTED, figures_table, not_counted};
use crate::study::compare::{FIGURES, Figures, counts};
use crate::summary::Summary;

/// The result of one file of a folder.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct FolderRow {
    /// Its path.
    pub recording: String,
    /// Why it was not replayed; absent if it was.
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
    /// Builds it from the summary, or from the reason why there is none.
    pub fn new(recording: String, replayed: Result<Summary, String>) -> Self {
        let (summary, skipped) = match replayed {
            Ok(summary) => (Some(summary), None),
            Err(reason) => (None, Some(reason)),
        };
        let counts = summary.as_ref().is_some_and(counts);
        Self { recording, skipped, counts, summary }
    }
}

/// Returns the table, the means and the worst of those that count, and what was skipped and why.
pub fn folder_table(rows: &[FolderRow]) -> String {
    let replayed = || rows.iter().filter_map(|row| Some((row, row.summary.as_ref()?)));
    let line = |(row, summary): (&FolderRow, &Summary)| {
        let mark = if row.counts { "" } else { NOT_COUNTED };
        (format!("{}{mark}", row.recording), Figures::of(summary))
    };
    let mut lines: Vec<(String, Figures)> = replayed().map(line).collect();
    let counted: Vec<(&FolderRow, Figures)> = replayed()
        .filter(|(row, _)| row.counts)
        .map(|(row, summary)| (row, Figures::of(summary)))
        .collect();
    if !counted.is_empty() {
        let mean = Figures::mean(counted.iter().map(|(_, figures)| figures));
        lines.push((format!("mean of {}", counted.len()), mean));
    }
    let mut out = figures_table("recording", &[Group { heading: None, lines }], |_| true);
    for key in ["share_of_optimum", "share_of_optimum_without_reversals"] {
        let share = |(row, figures): &(&FolderRow, Figures)| {
            Some((figures.by_key(key)?, row.recording.clone()))
        };
        let worst = counted.iter().filter_map(share).min_by(|a, b| a.0.total_cmp(&b.0));
        let name = FIGURES.iter().find(|figure| figure.key == key).map(|figure| figure.name);
        if let (Some((share, recording)), Some(name)) = (worst, name) {
            out.push_str(&format!("lowest {name}: {share:.4}, {recording}\n"));
        }
    }
    if replayed().any(|(row, _)| !row.counts) {
        out.push_str(&not_counted());
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::summary::Comparison;

    fn summary(seconds: f64, share: f64) -> Summary {
        Summary {
            seconds,
            switches: 3,
            reversals: 1,
            quality_served_fraction: 0.7,
            comparison: Some(Comparison::of_share(share)),
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
            FolderRow::new("notes.txt".to_owned(), Err("in no known format".to_owned())),
        ];
        insta::assert_snapshot!(folder_table(&rows));
    }
}
