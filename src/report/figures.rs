//! The table of runs by their figures, for all reports that show several runs.

use comfy_table::{CellAlignment, ContentArrangement, Table, presets};

use crate::study::compare::{FIGURES, Figure, Figures, LEAST_PRICES, LEAST_SCORE};

/// Runs with a common heading.
pub(super) struct Group {
    /// The heading.
    pub(super) heading: Option<String>,
    /// The name of each run, and its figures.
    pub(super) lines: Vec<(String, Figures)>,
}

/// Returns the table, with `names` as the head of the names, and a line about its columns. Figures that are not
/// `wanted`, or that no run has, are left out.
pub(super) fn figures_table(
    names: &str,
    groups: &[Group],
    wanted: impl Fn(&Figure) -> bool,
) -> String {
    let runs = || groups.iter().flat_map(|group| &group.lines);
    let has = |place: usize| runs().any(|(_, figures)| figures.0[place].is_some());
    let columns: Vec<usize> =
        (0..FIGURES.len()).filter(|&place| wanted(&FIGURES[place]) && has(place)).collect();
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    let heads = columns.iter().map(|&place| FIGURES[place].head.to_owned());
    table.set_header(std::iter::once(names.to_owned()).chain(heads));
    for (name, figures) in runs() {
        let cells = columns.iter().map(|&place| cell(&FIGURES[place], figures.0[place]));
        table.add_row(std::iter::once(name.clone()).chain(cells));
    }
    for column in 0..=columns.len() {
        if let Some(column) = table.column_mut(column) {
            let (alignment, padding) = match column.index {
                0 => (CellAlignment::Left, (0, 1)),
                _ => (CellAlignment::Right, (1, 0)),
            };
            column.set_cell_alignment(alignment);
            column.set_padding(padding);
        }
    }
    let mut lines: Vec<String> = table.lines().map(|line| line.trim_end().to_owned()).collect();
    // Every run is one line; the remaining lines above them are the head.
    let mut place = lines.len() - runs().count();
    for group in groups {
        if let Some(heading) = &group.heading {
            lines.insert(place, heading.clone());
            place += 1;
        }
        place += group.lines.len();
    }
    lines.extend(explained(&columns));
    lines.iter().map(|line| format!("{line}\n")).collect()
}

/// Returns a line that explains the heads that are shorter than the names of their figures.
pub(super) fn explained(columns: &[usize]) -> Option<String> {
    let short = |place: &usize| {
        let Figure { head, name, .. } = &FIGURES[*place];
        let head = head.replace('\n', " ");
        (head != name.replace("the ", "")).then(|| format!("{head}: {name}"))
    };
    let short: Vec<String> = columns.iter().filter_map(short).collect();
    (!short.is_empty()).then(|| format!("columns: {}", short.join("; ")))
}

/// Returns a value as shown in tables.
pub(super) fn cell(figure: &Figure, value: Option<f64>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| figure.text(value))
}

/// Explains the mark of a recording that does not count.
pub(super) fn not_counted() -> String {
    format!(
        "{NOT_COUNTED} not in the means: shorter than {LEAST_PRICES} times the price of a switch (40 minutes by default), or an optimum's score below {LEAST_SCORE}\n"
    )
    .trim_start()
    .to_owned()
}

/// The mark after the name of a recording that does not count.
pub(super) const NOT_COUNTED: &str = " *";
