//! Columns of figures: how a page shows runs in a table.

use serde::Serialize;

use crate::study::compare::{Better, FIGURES, Figures, Shown};

/// The figures that a page shows, by their indices.
pub(super) struct Columns(Vec<usize>);

/// A page's description of a figure.
#[derive(Debug, Serialize)]
pub(super) struct Column {
    key: &'static str,
    head: String,
    name: &'static str,
    /// Absent for a count.
    decimals: Option<usize>,
    is_better_higher: bool,
}

impl Columns {
    /// Takes the figures that have a better direction and that at least one of the runs has.
    pub(super) fn of<'a>(runs: impl Iterator<Item = &'a Figures>) -> Self {
        let runs: Vec<&Figures> = runs.collect();
        let has = |place: &usize| {
            FIGURES[*place].better.is_some() && runs.iter().any(|run| run.0[*place].is_some())
        };
        Self((0..FIGURES.len()).filter(has).collect())
    }

    pub(super) fn places(&self) -> impl Iterator<Item = usize> {
        self.0.iter().copied()
    }

    pub(super) fn heads(&self) -> Vec<Column> {
        let column = |place: usize| {
            let figure = &FIGURES[place];
            Column {
                key: figure.key,
                head: figure.head.replace('\n', " "),
                name: figure.name,
                decimals: match figure.shown {
                    Shown::Decimals(decimals) => Some(decimals),
                    Shown::Count => None,
                },
                is_better_higher: figure.better == Some(Better::Higher),
            }
        };
        self.places().map(column).collect()
    }

    /// Returns the figures of a run as they are shown, in the order of the columns.
    pub(super) fn row(&self, figures: &Figures) -> Vec<Option<f64>> {
        self.places().map(|place| Some(shown(place, figures.0[place]?))).collect()
    }
}

/// Returns a value as it is shown, so that values that look equal are equal, and a page is no larger than necessary.
pub(super) fn shown(place: usize, value: f64) -> f64 {
    FIGURES[place].rounded(value)
}
