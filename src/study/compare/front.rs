//! The policies of which none beats another in everything.

use crate::study::compare::Overall;
use crate::study::compare::figures::{Better, FIGURES, OVER_MEMORY};

/// Returns the places of the policies that no other one beats: none is at least as good in quality, reversals and avoidable
/// seconds over memory, and better in one of them. Values that are shown alike are alike; of policies that are alike in all
/// three, the first stands for the others.
pub fn front(overall: &[Overall]) -> Vec<usize> {
    let worth: Vec<Vec<i64>> = overall.iter().map(worth).collect();
    let beats = |a: usize, b: usize| {
        let is_as_good = worth[a].iter().zip(&worth[b]).all(|(a, b)| a >= b);
        is_as_good && (worth[a] != worth[b] || a < b)
    };
    let all = 0..overall.len();
    all.clone().filter(|&place| !all.clone().any(|other| beats(other, place))).collect()
}

/// Returns what counts of a policy, each the better the higher, in the last digit that is shown.
fn worth(overall: &Overall) -> Vec<i64> {
    let figures = FIGURES.iter().zip(&overall.figures.0);
    let counted = figures.filter(|(figure, _)| OF_THE_FRONT.contains(&figure.key));
    let worth = counted.map(|(figure, value)| {
        let value = value.map_or(0.0, |value| value.mean) / (2.0 * figure.visible());
        let value = if figure.better == Some(Better::Lower) { -value } else { value };
        value.round() as i64
    });
    worth.collect()
}

/// What a front weighs: what is served, how restless it is, and what it costs others.
const OF_THE_FRONT: [&str; 3] = ["quality_served_fraction", "reversals", OVER_MEMORY];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::study::compare::figures::PerFigure;
    use crate::study::compare::{Estimate, FIGURES};

    fn overall(quality: f64, reversals: f64, over: f64) -> Overall {
        let figures = PerFigure::from_fn(|place| {
            let mean = match FIGURES[place].key {
                "quality_served_fraction" => quality,
                "reversals" => reversals,
                OVER_MEMORY => over,
                _ => return None,
            };
            Some(Estimate { mean, plus_minus: None })
        });
        Overall {
            policy: String::new(),
            recordings: 1,
            figures,
            same_under_every_seed: None,
            worst: None,
            against_first: None,
        }
    }

    #[test]
    fn on_the_front_is_what_nothing_beats_in_everything() {
        let all = [
            overall(0.9, 10.0, 0.0),
            // Better in one, worse in another.
            overall(0.95, 20.0, 0.0),
            // Beaten by the first.
            overall(0.9, 11.0, 0.0),
            // As the first, as far as is shown.
            overall(0.900_01, 10.0, 0.0),
            // It costs others memory, and has nothing for it.
            overall(0.95, 20.0, 3.0),
            overall(0.5, 0.0, 0.0),
        ];
        assert_eq!(front(&all), [0, 1, 5]);
        assert_eq!(front(&[]), Vec::<usize>::new());
    }
}
