//! Seeded randomness: one seed per run, one labelled stream per purpose, our own samplers.
//!
//! A stream's numbers depend only on the seed and its label, so that a new draw in one place changes nothing elsewhere.
//! The samplers take their logarithms and exponentials from the pinned `libm`, and map ChaCha's bits to numbers
//! themselves: `rand_distr` changes its results when an unrelated crate turns on `num-traits/std`.

use std::time::Duration;

use rand::Rng;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use serde::{Deserialize, Serialize};
use tiershift_core::time;

/// The source of a run's randomness.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Seed(pub u64);

impl Seed {
    /// Returns the stream for one purpose, such as `"fault.load"`.
    pub fn stream(self, label: &str) -> Stream {
        let mut hasher = blake3::Hasher::new_derive_key("tiershift 2026-11 stream of a seed");
        hasher.update(&self.0.to_le_bytes());
        hasher.update(label.as_bytes());
        Stream(ChaCha8Rng::from_seed(*hasher.finalize().as_bytes()))
    }
}

/// An endless, repeatable series of random numbers.
#[derive(Clone, Debug)]
pub struct Stream(ChaCha8Rng);

impl Stream {
    /// Returns a number in `[0, 1)`, a multiple of 2^-53.
    pub fn unit(&mut self) -> f64 {
        (self.0.next_u64() >> 11) as f64 * SPACING
    }

    /// Returns an integer below `bound`, each equally likely (Lemire's multiply-and-reject).
    ///
    /// # Panics
    /// When `bound` is zero: there is no such integer.
    pub fn below(&mut self, bound: u64) -> u64 {
        assert!(bound > 0, "a draw below zero has no outcome");
        let reject_under = bound.wrapping_neg() % bound;
        loop {
            let wide = u128::from(self.0.next_u64()) * u128::from(bound);
            if wide as u64 >= reject_under {
                return (wide >> 64) as u64;
            }
        }
    }

    /// Returns whether something of probability `chance` in `[0, 1]` happens.
    pub fn happens(&mut self, chance: f64) -> bool {
        self.unit() < chance
    }

    /// Returns a draw from the exponential distribution of the given mean.
    pub fn exponential(&mut self, mean: f64) -> f64 {
        -mean * libm::log1p(-self.unit())
    }

    /// Returns a draw from the normal distribution (Box and Muller's cosine branch).
    pub fn normal(&mut self, mean: f64, deviation: f64) -> f64 {
        let radius = libm::sqrt(-2.0 * libm::log1p(-self.unit()));
        mean + deviation * radius * libm::cos(std::f64::consts::TAU * self.unit())
    }

    /// Returns a draw from the log-normal distribution of the given *median* and shape.
    pub fn log_normal(&mut self, median: f64, shape: f64) -> f64 {
        median * libm::exp(self.normal(0.0, shape))
    }

    /// Returns `span` times a log-normal factor of median one.
    pub fn jitter(&mut self, span: Duration, shape: f64) -> Duration {
        if shape == 0.0 {
            return span;
        }
        time::from_secs_f64(span.as_secs_f64() * self.log_normal(1.0, shape))
    }
}

/// 2^-53: the spacing of the floats just below one.
const SPACING: f64 = 1.0 / (1u64 << 53) as f64;

#[cfg(test)]
mod tests {
    use statrs::distribution::{ContinuousCDF, Exp, LogNormal, Normal};

    use super::*;

    #[test]
    fn streams_are_pinned_to_their_first_words() {
        let mut stream = Seed(7).stream("golden");
        let words: Vec<u64> = (0..4).map(|_| stream.0.next_u64()).collect();
        insta::assert_debug_snapshot!(words);
    }

    #[test]
    fn samplers_are_pinned_to_their_first_values() {
        let mut stream = Seed(7).stream("golden");
        let bits: Vec<String> = (0..3)
            .flat_map(|_| {
                [
                    stream.unit(),
                    stream.exponential(2.0),
                    stream.normal(1.0, 3.0),
                    stream.log_normal(1.0, 0.5),
                    stream.below(1000) as f64,
                ]
            })
            .map(|value| format!("{:016x} {value}", value.to_bits()))
            .collect();
        insta::assert_debug_snapshot!(bits);
    }

    #[test]
    fn a_new_stream_moves_no_other() {
        let alone: Vec<f64> = {
            let mut s = Seed(1).stream("a");
            (0..5).map(|_| s.unit()).collect()
        };
        let mut other = Seed(1).stream("b");
        let mut again = Seed(1).stream("a");
        let beside: Vec<f64> = (0..5)
            .map(|_| {
                other.unit();
                again.unit()
            })
            .collect();
        assert_eq!(alone, beside);
    }

    /// Kolmogorov and Smirnov's distance from the textbook distribution; 1.95/sqrt(n) is its 0.1 % point, and the seed
    /// is fixed, so a failure is a defect and not bad luck.
    #[track_caller]
    fn check_fit(mut draw: impl FnMut() -> f64, cdf: impl Fn(f64) -> f64) {
        const DRAWS: usize = 20_000;
        let mut values: Vec<f64> = (0..DRAWS).map(|_| draw()).collect();
        values.sort_by(f64::total_cmp);
        let distance = values
            .iter()
            .enumerate()
            .map(|(i, &value)| (cdf(value) - (i as f64 + 0.5) / DRAWS as f64).abs())
            .fold(0.0, f64::max);
        let limit = 1.95 / (DRAWS as f64).sqrt();
        assert!(distance < limit, "distance {distance} is not below {limit}");
    }

    #[test]
    fn samplers_follow_their_distributions() {
        let mut s = Seed(3).stream("fit");
        check_fit(|| s.unit(), |x| x.clamp(0.0, 1.0));
        let textbook = Exp::new(0.5).unwrap();
        check_fit(|| s.exponential(2.0), |x| textbook.cdf(x));
        let textbook = Normal::new(1.0, 3.0).unwrap();
        check_fit(|| s.normal(1.0, 3.0), |x| textbook.cdf(x));
        let textbook = LogNormal::new(0.0, 0.5).unwrap();
        check_fit(|| s.log_normal(1.0, 0.5), |x| textbook.cdf(x));
    }

    #[test]
    fn below_reaches_every_outcome_and_no_other() {
        let mut s = Seed(5).stream("below");
        let mut seen = [0u32; 6];
        for _ in 0..6000 {
            seen[s.below(6) as usize] += 1;
        }
        assert!(seen.iter().all(|&n| (850..1150).contains(&n)), "{seen:?}");
    }
}
