//! Policies side by side: the results of each on the same recordings, and which differences are more than chance.
//!
//! A run is described by its [`Figures`]. Policies are compared pair by pair: on each recording and under each seed, a
//! policy with the first one. Over seeds the differences spread; if their interval contains zero, there is no
//! difference.

mod estimate;
mod figures;
mod front;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use crate::study::compare::estimate::{Difference, Estimate, Outcome};
pub use crate::study::compare::figures::{
    Better, FIGURES, Figure, Figures, OVER_MEMORY, PerFigure, SHARE_OF_OPTIMUM, Shown,
};
pub use crate::study::compare::front::front;

use crate::summary::{Optimum, Summary};

/// Policies side by side on recordings.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct Compared {
    /// The policies as they were named, in that order. The others are compared with the first. The optimum uses its
    /// lines and its price of a switch, for all of them.
    pub policies: Vec<String>,
    /// The seeds under which each was played.
    pub seeds: Vec<u64>,
    /// Each recording, in the order in which they were named or found.
    pub recordings: Vec<OnRecording>,
    /// The results of each policy over the recordings that count, in the policies' order; empty if none counts.
    pub overall: Vec<Overall>,
}

/// The results on one recording.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct OnRecording {
    /// Its path.
    pub recording: String,
    /// Why it was not played; absent if it was.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub skipped: Option<String>,
    /// Facts about the recording, whatever is played on it.
    #[serde(flatten)]
    pub about: About,
    /// The results of each policy, in the policies' order.
    pub policies: Vec<OnPolicy>,
}

/// Facts about a recording, from its first run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct About {
    /// Whether it counts in the means: it lasts for at least 40 prices of a switch, and its optimum's score is at least
    /// 0.05.
    pub counts: bool,
    /// The best schedule of all, over the first run's length.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub optimum: Option<Optimum>,
    /// The best without a reversal.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub optimum_without_reversals: Option<Optimum>,
    /// Warnings about the input.
    pub warnings: Vec<String>,
}

/// The results of a policy on a recording.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct OnPolicy {
    /// The policy.
    pub policy: String,
    /// Its figures, averaged over the seeds.
    pub figures: Figures,
    /// Each run, in the seeds' order.
    pub runs: Vec<Run>,
}

/// One run of a policy.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Run {
    /// Its seed.
    pub seed: u64,
    /// Its figures.
    pub figures: Figures,
    /// Broken invariants. Not empty means a defect of tiershift.
    pub violations: Vec<String>,
}

/// The results of a policy over all recordings that count, with equal weights.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct Overall {
    /// The policy.
    pub policy: String,
    /// How many recordings count.
    pub recordings: usize,
    /// Its figures, over recordings and seeds.
    pub figures: PerFigure<Estimate>,
    /// Whether its runs on a recording are the same under every seed: no randomness affects them. `None` with a single
    /// seed.
    pub same_under_every_seed: Option<bool>,
    /// The recording on which its share of the optimum is lowest.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub worst: Option<Worst>,
    /// Its differences to the first policy; absent for that one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub against_first: Option<AgainstFirst>,
}

/// A policy compared with the first, recording by recording and seed by seed.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct AgainstFirst {
    /// The differences of the figures for which higher, or lower, is better.
    pub differences: PerFigure<Difference>,
    /// The recording on which it loses most of the share of the optimum, if it loses on any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub worst: Option<Worst>,
}

/// A recording that stands out.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct Worst {
    /// Its path.
    pub recording: String,
    /// The share of the optimum there, or the loss of it.
    pub share_of_optimum: f64,
}

impl OnRecording {
    /// Returns the results of a recording that was not played.
    pub fn skipped(recording: String, reason: String) -> Self {
        let about = About::default();
        Self { recording, skipped: Some(reason), about, policies: Vec::new() }
    }

    /// Builds it from summaries: those of one policy are adjacent, in the seeds' order.
    pub fn played(
        recording: String,
        policies: &[String],
        seeds: &[u64],
        summaries: &[Summary],
    ) -> Self {
        let about = summaries.first().map(About::of).unwrap_or_default();
        let seeds_again = seeds.iter().cycle();
        let runs = seeds_again.zip(summaries).map(|(&seed, summary)| Run::of(seed, summary));
        Self::of_runs(recording, about, policies, runs.collect())
    }

    /// Builds it from runs, in the same order.
    pub fn of_runs(
        recording: String,
        about: About,
        policies: &[String],
        mut runs: Vec<Run>,
    ) -> Self {
        let each = runs.len() / policies.len().max(1);
        let of_policy = |policy: &String| {
            let runs: Vec<Run> = runs.drain(..each).collect();
            let figures = Figures::mean(runs.iter().map(|run| &run.figures));
            OnPolicy { policy: policy.clone(), figures, runs }
        };
        let policies = policies.iter().map(of_policy).collect();
        Self { recording, skipped: None, about, policies }
    }

    /// Returns whether it counts in the means.
    pub fn counts(&self) -> bool {
        self.about.counts
    }
}

impl About {
    /// Returns the facts from the first run.
    pub fn of(first: &Summary) -> Self {
        let comparison = first.comparison.as_ref();
        Self {
            counts: counts(first),
            optimum: comparison.map(|comparison| comparison.optimum),
            optimum_without_reversals: comparison
                .map(|comparison| comparison.optimum_without_reversals),
            warnings: first.warnings.clone(),
        }
    }
}

impl Run {
    /// Returns the part of a run's summary that is compared.
    pub fn of(seed: u64, summary: &Summary) -> Self {
        Self { seed, figures: Figures::of(summary), violations: summary.violations.clone() }
    }
}

impl Compared {
    /// Compares what was played.
    pub fn new(policies: Vec<String>, seeds: Vec<u64>, recordings: Vec<OnRecording>) -> Self {
        let counted: Vec<&OnRecording> = recordings.iter().filter(|one| one.counts()).collect();
        let overall = match counted.is_empty() {
            true => Vec::new(),
            false => (0..policies.len()).map(|policy| Overall::new(policy, &counted)).collect(),
        };
        Self { policies, seeds, recordings, overall }
    }

    /// Returns whether no run broke an invariant.
    pub fn is_sound(&self) -> bool {
        let mut runs =
            self.recordings.iter().flat_map(|one| &one.policies).flat_map(|one| &one.runs);
        runs.all(|run| run.violations.is_empty())
    }
}

impl Overall {
    /// `policy` is its index; every recording counts, and there is at least one.
    fn new(policy: usize, recordings: &[&OnRecording]) -> Self {
        let on = |recording: &&OnRecording| recording.policies[policy].clone();
        let own: Vec<OnPolicy> = recordings.iter().map(on).collect();
        let seeds = own.iter().map(|one| one.runs.len()).min().unwrap_or(0);
        let same = |one: &OnPolicy| one.runs.windows(2).all(|two| two[0].figures == two[1].figures);
        let named = |place: usize, share: f64| Worst {
            recording: recordings[place].recording.clone(),
            share_of_optimum: share,
        };
        let shares = own.iter().map(|one| one.figures.share_of_optimum()).enumerate();
        let worst = shares.filter_map(|(place, share)| Some((place, share?)));
        let worst = worst.min_by(|a, b| a.1.total_cmp(&b.1));
        let against_first = (policy > 0).then(|| {
            let first: Vec<&OnPolicy> = recordings.iter().map(|one| &one.policies[0]).collect();
            let loss = own.iter().zip(&first).enumerate().filter_map(|(place, (own, first))| {
                let apart = own.figures.share_of_optimum()? - first.figures.share_of_optimum()?;
                (apart < 0.0).then_some((place, apart))
            });
            let worst = loss.min_by(|a, b| a.1.total_cmp(&b.1));
            let pairs: Vec<(&OnPolicy, &OnPolicy)> =
                own.iter().zip(first.iter().copied()).collect();
            AgainstFirst {
                differences: PerFigure::from_fn(|place| Difference::of(place, &pairs, seeds)),
                worst: worst.map(|(place, apart)| named(place, apart)),
            }
        });
        Self {
            policy: own[0].policy.clone(),
            recordings: own.len(),
            figures: PerFigure::from_fn(|place| {
                let mean = |seed: usize| {
                    let of = |one: &OnPolicy| one.runs[seed].figures.0[place];
                    figures::mean(own.iter().filter_map(of))
                };
                Estimate::of(&(0..seeds).filter_map(mean).collect::<Vec<f64>>())
            }),
            same_under_every_seed: (seeds > 1).then(|| own.iter().all(same)),
            worst: worst.map(|(place, share)| named(place, share)),
            against_first,
        }
    }
}

/// Returns whether a run shows how a policy behaves in the long run, and not only at its beginning, on a recording in
/// which something can be served. Without an optimum, every run does.
pub fn counts(summary: &Summary) -> bool {
    summary.comparison.as_ref().is_none_or(|comparison| {
        summary.seconds >= LEAST_PRICES * comparison.price_seconds
            && comparison.optimum.score >= LEAST_SCORE
    })
}

/// A recording shorter than this many prices of a switch shows only how a policy begins. Chosen.
pub const LEAST_PRICES: f64 = 40.0;
/// If the best score is below this, hardly anything could be served, and a share of it means little. Chosen.
pub const LEAST_SCORE: f64 = 0.05;

#[cfg(test)]
mod tests;
