//! The policies that no other beats in everything: the ones to choose from.

use crate::study::compare::Overall;
use crate::study::compare::figures::{Better, FIGURES, OVER_MEMORY};

/// Returns the indices of the policies on the Pareto front, in rising order: no other is at least as good in quality,
/// reversals and avoidable seconds over memory, and better in one of them. Of policies that are equal in all three, the
/// first stands for the others. Figures are compared as they are shown: a millionth matters to no one, and would put
/// nearly every policy on the front. A figure that one policy lacks is ignored for all.
pub fn front(overall: &[Overall]) -> Vec<usize> {
    let means = |key: &str| -> Option<Vec<f64>> {
        let place = FIGURES.iter().position(|figure| figure.key == key)?;
        let figure = &FIGURES[place];
        // The sign is changed so that higher is better in all of them.
        let sign = if figure.better == Some(Better::Lower) { -1.0 } else { 1.0 };
        let mean = |one: &Overall| Some(sign * figure.rounded(one.figures.0[place]?.mean));
        overall.iter().map(mean).collect()
    };
    let weighed: Vec<Vec<f64>> = WEIGHED.iter().filter_map(|key| means(key)).collect();
    let beats = |one: usize, other: usize| {
        weighed.iter().all(|means| means[one] >= means[other])
            && (one < other || weighed.iter().any(|means| means[one] > means[other]))
    };
    let all = 0..overall.len();
    all.clone().filter(|&place| !all.clone().any(|other| beats(other, place))).collect()
}

/// The figures of the front: how well users are served, how restless the models are, and the cost to others.
const WEIGHED: [&str; 3] = ["quality_served_fraction", "reversals", OVER_MEMORY];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::study::compare::{Estimate, PerFigure};

    /// Policies by quality, reversals and avoidable seconds over memory.
    #[track_caller]
    fn check(policies: &[[Option<f64>; 3]], want: &[usize]) {
        let overall = |values: &[Option<f64>; 3]| Overall {
            policy: "any".to_owned(),
            recordings: 1,
            figures: PerFigure::from_fn(|place| {
                let at = WEIGHED.iter().position(|key| *key == FIGURES[place].key)?;
                values[at].map(|mean| Estimate { mean, plus_minus: None })
            }),
            same_under_every_seed: None,
            worst: None,
            against_first: None,
        };
        let all: Vec<Overall> = policies.iter().map(overall).collect();
        assert_eq!(front(&all), want, "{policies:?}");
    }

    fn of(quality: f64, reversals: f64, over_memory: f64) -> [Option<f64>; 3] {
        [quality, reversals, over_memory].map(Some)
    }

    #[test]
    fn who_is_beaten_in_everything_is_not_on_it() {
        check(&[], &[]);
        check(&[of(0.5, 9.0, 9.0)], &[0]);
        check(&[of(0.8, 2.0, 0.0), of(0.7, 3.0, 1.0), of(0.9, 4.0, 0.0)], &[0, 2]);
    }

    #[test]
    fn one_figure_in_which_it_is_best_keeps_a_policy_on_it() {
        check(&[of(0.8, 2.0, 5.0), of(0.7, 3.0, 0.0), of(0.8, 2.0, 6.0)], &[0, 1]);
    }

    #[test]
    fn the_first_stands_for_those_that_are_the_same() {
        check(&[of(0.8, 2.0, 0.0), of(0.8, 2.0, 0.0), of(0.8, 1.0, 0.0)], &[2]);
        check(&[of(0.8, 2.0, 0.0), of(0.8, 2.0, 0.0)], &[0]);
    }

    #[test]
    fn what_looks_the_same_is_the_same() {
        check(&[of(0.8, 2.0, 0.0), of(0.800_1, 3.0, 0.0), of(0.801, 4.0, 0.2)], &[0, 2]);
    }

    #[test]
    fn what_a_policy_lacks_is_not_weighed() {
        let without = [Some(0.8), Some(2.0), None];
        check(&[without, of(0.8, 3.0, 0.0)], &[0]);
        check(&[without, of(0.9, 3.0, 0.0)], &[0, 1]);
    }
}
