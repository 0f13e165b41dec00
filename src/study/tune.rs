//! A search for settings that suit recordings: drawn at random, the worse ones given up early.
//!
//! The caller plays the candidates; this module decides what is tried next, and what the results mean. A setting is
//! kept if it gains something by itself, and nothing is recommended unless the gain holds on parts that the search has
//! not seen.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;
use toml::{Table, Value};

use crate::sim::rng::Stream;
use crate::study::compare::{Compared, Estimate, Figures, OVER_MEMORY, SHARE_OF_OPTIMUM};
use crate::study::sweep::{Axis, axes};

/// Settings by their keys; without any, it is the default.
pub type Candidate = Vec<(String, Value)>;

/// The result of a search.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Found {
    /// The best settings; empty if nothing is better than the present ones.
    pub settings: BTreeMap<String, Value>,
    /// Their gain in worth over the present settings, on the recordings of the search.
    pub gain: f64,
    /// The number of candidates that were tried.
    pub tried: usize,
}

/// Whether the gain of the settings holds on what the search has not seen.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Held {
    /// Their gain in worth there, with an interval over the recordings.
    pub gain: Estimate,
    /// The number of recordings.
    pub recordings: usize,
    /// Whether they are recommended: the interval is above zero, the gain is worth a file, and it does not come at the
    /// cost of others' memory.
    pub is_recommended: bool,
}

/// Returns the default settings to search.
///
/// # Panics
/// Never: a test reads them.
pub fn usual_axes() -> Vec<(String, Axis)> {
    let table: Table = USUAL.parse().expect("it is TOML");
    axes(&table).expect("they are axes")
}

/// Plays candidates on a recording, given by its index, and returns the figures of each.
pub trait Play {
    /// Why it could not.
    type Error;
    /// Returns whether a candidate's settings are valid together: lines that do not rise, for example, are not.
    fn is_possible(&self, candidate: &Candidate) -> bool;
    /// See [`Play`].
    ///
    /// # Errors
    /// When a candidate cannot be played.
    fn play(
        &self,
        recordings: &[usize],
        candidates: &[Candidate],
    ) -> Result<Vec<Vec<Figures>>, Self::Error>;
}

/// The worth of a run: its share of the optimum, less the cost of its reversals.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Worth {
    /// The cost of a reversal in addition to two changes, as a time of the optimum's service: the `calm` of the present
    /// settings.
    pub reversal: Duration,
}

impl Worth {
    /// Returns the worth of a run; `None` without an optimum.
    pub fn of(self, figures: &Figures) -> Option<f64> {
        let figure = |key: &str| figures.by_key(key);
        let service = figure("hours")? * 3600.0 * figure("optimum_quality")?;
        let reversals = figure("reversals")? * self.reversal.as_secs_f64();
        Some(figure(SHARE_OF_OPTIMUM)? - if service > 0.0 { reversals / service } else { 0.0 })
    }
}

/// Searches: draws `trials` candidates, plays them on few recordings, keeps the best third, plays those on more, and so
/// on. In the end every setting that gains nothing is left out.
///
/// # Errors
/// When playing fails.
pub fn search<P: Play>(
    axes: &[(String, Axis)],
    recordings: usize,
    trials: usize,
    worth: Worth,
    luck: &mut Stream,
    player: &P,
) -> Result<Found, P::Error> {
    let mut order: Vec<usize> = (0..recordings).collect();
    for place in (1..order.len()).rev() {
        order.swap(place, luck.below(place as u64 + 1) as usize);
    }
    let mut tried = trials;
    let drawn: Vec<Candidate> = (0..trials).map(|_| draw(axes, luck)).collect();
    let mut field: Vec<Tried> =
        drawn.into_iter().filter(|one| player.is_possible(one)).map(Tried::new).collect();
    let mut there = Tried::new(Vec::new());
    for count in rounds(recordings) {
        let seen = there.figures.len();
        let more = &order[seen..count];
        let candidates: Vec<Candidate> =
            std::iter::once(&there).chain(&field).map(|one| one.candidate.clone()).collect();
        let played = player.play(more, &candidates)?;
        for on_recording in played {
            let mut figures = on_recording.into_iter();
            for one in std::iter::once(&mut there).chain(&mut field) {
                one.figures.extend(figures.next());
            }
        }
        field.retain(|one| one.is_bearable(&there));
        // A stable sort: among equals, the one that was drawn first.
        field.sort_by(|a, b| b.gain(&there, worth).total_cmp(&a.gain(&there, worth)));
        let kept = if count == recordings { 1 } else { field.len().div_ceil(KEPT_ONE_IN) };
        field.truncate(kept);
    }
    let Some(mut best) = field.into_iter().next() else {
        return Ok(Found { settings: BTreeMap::new(), gain: 0.0, tried });
    };
    // One by one, settings that make no difference are left out.
    let mut place = 0;
    while place < best.candidate.len() {
        let mut without = Tried::new(best.candidate.clone());
        without.candidate.remove(place);
        if !player.is_possible(&without.candidate) {
            place += 1;
            continue;
        }
        for on_recording in player.play(&order, std::slice::from_ref(&without.candidate))? {
            without.figures.extend(on_recording);
        }
        tried += 1;
        let is_missed = best.gain(&there, worth) - without.gain(&there, worth) > MATTERS;
        match is_missed || !without.is_bearable(&there) {
            true => place += 1,
            false => best = without,
        }
    }
    let gain = best.gain(&there, worth);
    let settings = if gain > 0.0 { best.candidate.into_iter().collect() } else { BTreeMap::new() };
    Ok(Found { settings, gain, tried })
}

/// Judges the result of a search by a comparison on other recordings: the first policy is the present one, the second
/// the result. `None` if no recording counts.
pub fn held(compared: &Compared, worth: Worth) -> Option<Held> {
    let counted = compared.recordings.iter().filter(|one| one.counts());
    let apart = counted.filter_map(|one| {
        let [there, found, ..] = one.policies.as_slice() else { return None };
        Some(worth.of(&found.figures)? - worth.of(&there.figures)?)
    });
    let apart: Vec<f64> = apart.collect();
    let gain = Estimate::of(&apart)?;
    let over = |policy: usize| {
        compared.overall[policy].figures.by_key(OVER_MEMORY).map_or(0.0, |over| over.mean)
    };
    let half = gain.plus_minus.unwrap_or(f64::INFINITY);
    Some(Held {
        gain,
        recordings: apart.len(),
        is_recommended: gain.mean - half > 0.0
            && gain.mean >= LEAST_GAIN
            && over(1) <= over(0) + BEARABLE_SECONDS,
    })
}

/// A candidate, as far as it was played.
#[derive(Clone, Debug)]
struct Tried {
    candidate: Candidate,
    figures: Vec<Figures>,
}

impl Tried {
    fn new(candidate: Candidate) -> Self {
        Self { candidate, figures: Vec::new() }
    }

    /// Returns its gain over the present settings, recording by recording.
    fn gain(&self, there: &Self, worth: Worth) -> f64 {
        let worth = |of: &Figures| worth.of(of).unwrap_or(0.0);
        let apart =
            self.figures.iter().zip(&there.figures).map(|(own, there)| worth(own) - worth(there));
        apart.sum::<f64>() / self.figures.len().max(1) as f64
    }

    /// Returns whether it costs no memory of others and no requests.
    fn is_bearable(&self, there: &Self) -> bool {
        let mean = |of: &Self, key: &str| {
            let all = of.figures.iter().map(|figures| figures.by_key(key).unwrap_or(0.0));
            all.sum::<f64>() / of.figures.len().max(1) as f64
        };
        let is_no_more = |key: &str, by: f64| mean(self, key) <= mean(there, key) + by;
        is_no_more(OVER_MEMORY, BEARABLE_SECONDS) && is_no_more("requests_refused", 0.0)
    }
}

/// Draws a candidate: every setting is changed with an even chance, so that some candidates change few.
fn draw(axes: &[(String, Axis)], luck: &mut Stream) -> Candidate {
    let draw = |(key, axis): &(String, Axis)| {
        let (is_changed, place) = (luck.happens(0.5), luck.unit());
        is_changed.then(|| (key.clone(), axis.at(place)))
    };
    axes.iter().filter_map(draw).collect()
}

/// Returns the number of recordings in each round: each has three times as many as the one before.
fn rounds(recordings: usize) -> Vec<usize> {
    let mut rounds = vec![recordings];
    while rounds.len() < MOST_ROUNDS && rounds[0] >= KEPT_ONE_IN {
        rounds.insert(0, rounds[0].div_ceil(KEPT_ONE_IN));
    }
    rounds
}

/// The default settings to search. Chosen: what a decision weighs, and how long it waits; from a fourth of the default
/// to some ten times as much. The lines that protect others are not included.
const USUAL: &str = r#"
price = { from = "15s", to = "10m", scale = "log" }
calm = { from = "30s", to = "2h", scale = "log" }
stabilization = ["0s", "30s", "2m", "5m", "10m", "auto"]
upgrade-line = { from = "65%", to = "79%" }
trend-half-life = { from = "30s", to = "10m", scale = "log" }
rate-sustained = { from = "10s", to = "2m", scale = "log" }
"#;
/// One of this many candidates is kept from round to round: the usual factor of successive halving (Jamieson and
/// Talwalkar, 2016; Li et al., Hyperband, 2018: 3 or 4).
const KEPT_ONE_IN: usize = 3;
/// Chosen: with more rounds, the first would judge by too little.
const MOST_ROUNDS: usize = 3;
/// A setting that gains at most this much worth is left out. Chosen: half of the last digit that tables show.
const MATTERS: f64 = 0.000_5;
/// A smaller gain is not recommended, however certain it is. Chosen: a minute and a half of the best service in a day.
pub const LEAST_GAIN: f64 = 0.001;
/// The difference in seconds over memory up to which two runs count as equal: what tables show as the same. Chosen.
const BEARABLE_SECONDS: f64 = 0.5;

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use tiershift_core::time::SpanText;

    use super::*;
    use crate::sim::rng::Seed;
    use crate::study::compare::{FIGURES, PerFigure};

    const WORTH: Worth = Worth { reversal: Duration::from_secs(360) };

    /// A world in which a low price gains, more on some recordings, and another setting costs others' memory.
    struct World;

    impl Play for World {
        type Error = Infallible;

        fn is_possible(&self, _: &Candidate) -> bool {
            true
        }

        fn play(
            &self,
            recordings: &[usize],
            candidates: &[Candidate],
        ) -> Result<Vec<Vec<Figures>>, Infallible> {
            let figures = |recording: usize, candidate: &Candidate| {
                let value = |name: &str| {
                    candidate.iter().find(|(key, _)| key == name).map(|(_, value)| value)
                };
                let seconds = value("price")
                    .and_then(Value::as_str)
                    .map_or(60.0, |text| text.parse::<SpanText>().unwrap().0.as_secs_f64());
                let share = 0.9 - seconds / 1e4 + recording as f64 / 100.0;
                let greed = value("calm").is_some();
                PerFigure::from_fn(|place| match FIGURES[place].key {
                    SHARE_OF_OPTIMUM => Some(share + if greed { 0.05 } else { 0.0 }),
                    OVER_MEMORY => Some(if greed { 40.0 } else { 0.0 }),
                    "hours" => Some(10.0),
                    "optimum_quality" => Some(1.0),
                    // Ten hours of service are the price of a hundred reversals.
                    "reversals" => Some(if value("stabilization").is_some() { 1.0 } else { 0.0 }),
                    _ => None,
                })
            };
            let on =
                |&recording: &usize| candidates.iter().map(|one| figures(recording, one)).collect();
            Ok(recordings.iter().map(on).collect())
        }
    }

    #[test]
    fn what_earns_is_found_and_the_rest_left_out() {
        let found = |seed: u64| {
            search(&usual_axes(), 11, 90, WORTH, &mut Seed(seed).stream("test"), &World).unwrap()
        };
        let one = found(1);
        assert_eq!(one.settings.keys().collect::<Vec<_>>(), ["price"], "{one:?}");
        let price: SpanText = one.settings["price"].as_str().unwrap().parse().unwrap();
        assert!(price.0.as_secs() < 25, "{one:?}");
        assert!(one.gain > 0.0035, "{one:?}");
        assert_eq!(one, found(1));
    }

    #[test]
    fn a_reversal_costs_what_it_is_priced_at() {
        let played = World
            .play(&[0], &[vec![("stabilization".to_owned(), "0s".into())], Vec::new()])
            .unwrap();
        let [restless, calm] = [0, 1].map(|one| WORTH.of(&played[0][one]).unwrap());
        assert!((calm - restless - 0.01).abs() < 1e-9, "{calm} {restless}");
    }

    #[test]
    fn where_nothing_earns_nothing_is_found() {
        let axes = vec![("rate-sustained".to_owned(), usual_axes().pop().unwrap().1)];
        let found = search(&axes, 4, 20, WORTH, &mut Seed(1).stream("test"), &World).unwrap();
        assert!(found.settings.is_empty() && found.gain == 0.0, "{found:?}");
    }

    #[test]
    fn a_round_has_a_third_of_the_recordings_of_the_next() {
        assert_eq!(rounds(1), [1]);
        assert_eq!(rounds(4), [2, 4]);
        assert_eq!(rounds(11), [2, 4, 11]);
        assert_eq!(rounds(100), [12, 34, 100]);
    }
}
