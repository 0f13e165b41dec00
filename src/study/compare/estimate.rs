//! Means over seeds, and how reliable they are.

use schemars::JsonSchema;
use serde::Serialize;

use crate::study::compare::OnPolicy;
use crate::study::compare::figures::{Better, FIGURES, mean, millionths};

/// A mean over seeds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, JsonSchema)]
pub struct Estimate {
    /// The mean.
    pub mean: f64,
    /// Half the width of its 95 % interval, by Student's distribution; absent with a single seed, or if every seed
    /// gives the same.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub plus_minus: Option<f64>,
}

/// The difference between a policy and the first in one figure.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, JsonSchema)]
pub struct Difference {
    /// Its mean less that of the first, over the recordings on which both have the figure.
    #[serde(flatten)]
    pub apart: Estimate,
    /// The conclusion.
    pub outcome: Outcome,
    /// The number of recordings on which it is better, worse, and the same in the digits that are shown.
    pub better_on: usize,
    /// See `better_on`.
    pub worse_on: usize,
    /// See `better_on`.
    pub same_on: usize,
}

/// The conclusion from a difference.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// The policy is better than the first.
    Better,
    /// It is worse.
    Worse,
    /// The difference is too small to be shown, or its interval contains zero.
    NoDifference,
}

impl Outcome {
    fn of(apart: f64, least: f64, better: Better) -> Self {
        match (apart.abs() < least, (apart > 0.0) == (better == Better::Higher)) {
            (true, _) => Self::NoDifference,
            (false, true) => Self::Better,
            (false, false) => Self::Worse,
        }
    }
}

impl Estimate {
    /// Estimates the mean from one value per seed; `None` without any.
    pub fn of(values: &[f64]) -> Option<Self> {
        let mean = mean(values.iter().copied())?;
        let freedom = values.len() - 1;
        let is_drawn = values.iter().any(|value| value.total_cmp(&values[0]).is_ne());
        let plus_minus = is_drawn.then(|| {
            let squares: f64 = values.iter().map(|value| (value - mean) * (value - mean)).sum();
            millionths(student(freedom) * (squares / freedom as f64 / values.len() as f64).sqrt())
        });
        Some(Self { mean, plus_minus })
    }
}

impl Difference {
    /// Compares pairs of a policy and the first, recording by recording; `None` if neither direction of the figure is
    /// better, or no pair has it.
    pub(super) fn of(place: usize, pairs: &[(&OnPolicy, &OnPolicy)], seeds: usize) -> Option<Self> {
        let figure = &FIGURES[place];
        let better = figure.better?;
        let apart = |seed: usize| {
            let of = |one: &OnPolicy| one.runs[seed].figures.0[place];
            mean(pairs.iter().filter_map(|(own, first)| Some(of(own)? - of(first)?)))
        };
        let apart = Estimate::of(&(0..seeds).filter_map(apart).collect::<Vec<f64>>())?;
        let least = figure.visible().max(apart.plus_minus.unwrap_or(0.0));
        let count = |wanted: Outcome| {
            let of = |one: &OnPolicy| one.figures.0[place];
            let apart = pairs.iter().filter_map(|(own, first)| Some(of(own)? - of(first)?));
            apart.filter(|apart| Outcome::of(*apart, figure.visible(), better) == wanted).count()
        };
        Some(Self {
            apart,
            outcome: Outcome::of(apart.mean, least, better),
            better_on: count(Outcome::Better),
            worse_on: count(Outcome::Worse),
            same_on: count(Outcome::NoDifference),
        })
    }
}

/// Returns the 97.5 % point of Student's distribution for this many degrees of freedom, at least one.
fn student(freedom: usize) -> f64 {
    match STUDENT.get(freedom - 1) {
        Some(point) => *point,
        // Cornish and Fisher's expansion around the normal distribution's point, to the second order.
        None => {
            let (z, n) = (NORMAL, freedom as f64);
            let cubed = z * z * z;
            z + (cubed + z) / (4.0 * n)
                + (5.0 * cubed * z * z + 16.0 * cubed + 3.0 * z) / (96.0 * n * n)
        }
    }
}

/// The 97.5 % points for 1 to 12 degrees of freedom. Source: any table of the distribution; a test compares them with
/// one.
const STUDENT: [f64; 12] = [
    12.7062, 4.3027, 3.1824, 2.7764, 2.5706, 2.4469, 2.3646, 2.3060, 2.2622, 2.2281, 2.2010, 2.1788,
];
/// The same point of the normal distribution.
const NORMAL: f64 = 1.959_964;

#[cfg(test)]
mod tests {
    use statrs::distribution::{ContinuousCDF, StudentsT};

    use super::*;

    #[test]
    fn the_points_of_student_s_distribution_are_right() {
        for freedom in 1..200 {
            let want = StudentsT::new(0.0, 1.0, freedom as f64).unwrap().inverse_cdf(0.975);
            let got = student(freedom);
            assert!((got - want).abs() < 1e-3 * want, "{freedom}: got {got}, want {want}");
        }
    }

    #[test]
    fn an_interval_needs_two_seeds_that_differ() {
        assert_eq!(Estimate::of(&[]), None);
        assert_eq!(Estimate::of(&[2.0]), Some(Estimate { mean: 2.0, plus_minus: None }));
        assert_eq!(Estimate::of(&[2.0; 3]), Some(Estimate { mean: 2.0, plus_minus: None }));
        let two = Estimate::of(&[1.0, 3.0]).unwrap();
        // The standard error of two values at a distance of two is one.
        assert_eq!((two.mean, two.plus_minus), (2.0, Some(12.7062)));
    }
}
