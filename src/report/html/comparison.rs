//! The page of a comparison: the results of each policy, the Pareto front, and the recordings on which they differ.

use serde::Serialize;
use tiershift_core::text;

use crate::report::compare::{
    against_first, apart, extent, luck, means, means_table, recordings, violations,
};
use crate::report::figures::not_counted;
use crate::report::html::columns::{Column, Columns, shown};
use crate::report::html::frame::Frame;
use crate::study::compare::{Compared, FIGURES, OnRecording, Outcome, Overall, Worst, front};

/// Returns the page of a comparison. The same comparison gives the same bytes.
pub fn comparison_page(title: &str, compared: &Compared) -> String {
    PAGE.filled(title, &means_table(compared), &Document::of(compared))
}

/// The input of a page's script. Figures are as they are shown, in the order of the columns.
#[derive(Debug, Serialize)]
struct Document<'a> {
    version: &'static str,
    about: String,
    /// The number of recordings in the means, as text; absent if there are no means.
    mean_of: Option<String>,
    columns: Vec<Column>,
    policies: Vec<Policy<'a>>,
    /// The indices of the policies on the front.
    front: Vec<usize>,
    recordings: Vec<Recording<'a>>,
    /// How much is due to chance.
    luck: String,
    /// Why some recordings are in no mean; absent if all are.
    not_counted: Option<String>,
    violations: Vec<String>,
    /// Recordings that were not played, with the reason.
    skipped: Vec<(&'a str, &'a str)>,
}

/// A policy, over the recordings that count.
#[derive(Debug, Serialize)]
struct Policy<'a> {
    name: &'a str,
    figures: Vec<Option<f64>>,
    /// Half of the interval of each figure over the seeds.
    plus_minus: Vec<Option<f64>>,
    /// The conclusion from each difference to the first, and the difference as text; empty for the first.
    differences: Vec<Option<(Outcome, String)>>,
    /// The comparison with the first, as text.
    said: Vec<String>,
    worst: Option<Place<'a>>,
}

/// A recording that stands out, with the share of the optimum there.
#[derive(Debug, Serialize)]
struct Place<'a> {
    recording: &'a str,
    share: Option<f64>,
}

/// A recording that was played.
#[derive(Debug, Serialize)]
struct Recording<'a> {
    name: &'a str,
    counts: bool,
    about: String,
    warnings: &'a [String],
    /// For each policy.
    figures: Vec<Vec<Option<f64>>>,
}

impl<'a> Document<'a> {
    fn of(compared: &'a Compared) -> Self {
        let runs = compared.recordings.iter().flat_map(|one| &one.policies);
        let columns = Columns::of(runs.map(|one| &one.figures));
        let played = || compared.recordings.iter().filter(|one| one.skipped.is_none());
        let skipped = |one: &'a OnRecording| Some((&*one.recording, one.skipped.as_deref()?));
        let policies = match compared.overall.is_empty() {
            // Without a mean, only their names are known.
            true => compared.policies.iter().map(|name| Policy::named(name)).collect(),
            false => compared.overall.iter().map(|one| Policy::of(one, &columns)).collect(),
        };
        let is_left_out = played().any(|one| !one.counts());
        Self {
            version: env!("CARGO_PKG_VERSION"),
            about: about(compared),
            mean_of: compared.overall.first().map(|first| recordings(first.recordings)),
            columns: columns.heads(),
            policies,
            front: front(&compared.overall),
            recordings: played().map(|one| Recording::of(one, &columns)).collect(),
            luck: luck(compared),
            not_counted: is_left_out.then(|| not_counted().trim_end().to_owned()),
            violations: violations(compared),
            skipped: compared.recordings.iter().filter_map(skipped).collect(),
        }
    }
}

impl<'a> Policy<'a> {
    fn named(name: &'a str) -> Self {
        let (figures, plus_minus, differences) = (Vec::new(), Vec::new(), Vec::new());
        Self { name, figures, plus_minus, differences, said: Vec::new(), worst: None }
    }

    fn of(overall: &'a Overall, columns: &Columns) -> Self {
        let against = overall.against_first.as_ref();
        let plus_minus = |place: usize| Some(shown(place, overall.figures.0[place]?.plus_minus?));
        let difference = |place: usize| {
            let difference = against?.differences.0[place].as_ref()?;
            Some((difference.outcome, apart(&FIGURES[place], difference)))
        };
        let said = against.map(against_first).unwrap_or_default();
        Self {
            name: &overall.policy,
            figures: columns.row(&means(overall)),
            plus_minus: columns.places().map(plus_minus).collect(),
            differences: match against {
                Some(_) => columns.places().map(difference).collect(),
                None => Vec::new(),
            },
            said: said.lines().map(|line| line.trim_start().to_owned()).collect(),
            worst: overall.worst.as_ref().map(Place::of),
        }
    }
}

impl<'a> Place<'a> {
    fn of(worst: &'a Worst) -> Self {
        let share = FIGURES.iter().position(|figure| figure.key == SHARE);
        let share = share.map(|place| shown(place, worst.share_of_optimum));
        Self { recording: &worst.recording, share }
    }
}

impl<'a> Recording<'a> {
    fn of(one: &'a OnRecording, columns: &Columns) -> Self {
        Self {
            name: &one.recording,
            counts: one.counts(),
            about: extent(one).unwrap_or_default(),
            warnings: &one.about.warnings,
            figures: one.policies.iter().map(|policy| columns.row(&policy.figures)).collect(),
        }
    }
}

/// Returns how much was played: `11 recordings, 2 of them skipped; 3 policies, 10 seeds`.
fn about(compared: &Compared) -> String {
    let all = &compared.recordings;
    let skipped = all.iter().filter(|one| one.skipped.is_some()).count();
    let skipped = match skipped {
        0 => String::new(),
        _ => format!(", {skipped} of them skipped"),
    };
    let policies = match compared.policies.len() {
        1 => "1 policy".to_owned(),
        count => format!("{count} policies"),
    };
    let seeds = text::count(compared.seeds.len() as u64, "seed");
    format!("{}{skipped}; {policies}, {seeds}", recordings(all.len()))
}

const SHARE: &str = "share_of_optimum";

const PAGE: Frame = Frame {
    markup: concat!(
        include_str!("../../../assets/report/head.html"),
        include_str!("../../../assets/report/comparison.html"),
        include_str!("../../../assets/report/foot.html"),
    ),
    styles: concat!(
        include_str!("../../../assets/uplot/uPlot.min.css"),
        include_str!("../../../assets/page/base.css"),
        include_str!("../../../assets/report/frame.css"),
        include_str!("../../../assets/report/table.css"),
        include_str!("../../../assets/report/comparison.css"),
    ),
    // The licence of the library is in the file beside it, and in the page.
    scripts: concat!(
        "/*\n",
        include_str!("../../../assets/uplot/LICENSE"),
        "*/\n",
        include_str!("../../../assets/uplot/uPlot.iife.min.js"),
        include_str!("../../../assets/page/charts.js"),
        include_str!("../../../assets/report/frame.js"),
        include_str!("../../../assets/report/table.js"),
        include_str!("../../../assets/report/dots.js"),
        include_str!("../../../assets/report/comparison.js"),
    ),
};

#[cfg(test)]
mod tests;
