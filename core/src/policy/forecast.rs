//! Where others' use is heading: weighted least squares in real time.
//!
//! A reading's weight halves every `half_life`, whatever the sampling: the slope is bytes per second, never
//! per sample. Each reading costs a handful of multiplications and no memory. A slope counts only when it
//! stands clear of its own uncertainty, so that noise is never taken for a trend.

use std::f64::consts::LN_2;
use std::time::Duration;

use crate::time::{NANOS_PER_SECOND, Timestamp};
use crate::units::Bytes;

/// Exponentially weighted linear regression of an amount over time.
#[derive(Clone, Debug)]
pub(crate) struct Trend {
    /// The decay rate of a weight [1/s]: ln 2 / half-life.
    rate: f64,
    last: Option<Timestamp>,
    /// An interval [s] and its exact decay: sampling is mostly regular, and `exp` is the costly part.
    usual: (f64, f64),
    // Weighted sums over readings at age `t <= 0` [s] and amount `x` [bytes, relative to `origin`].
    weight: f64,
    t: f64,
    tt: f64,
    x: f64,
    tx: f64,
    xx: f64,
    origin: f64,
}

impl Trend {
    pub(crate) fn new(half_life: Duration) -> Self {
        Self {
            rate: LN_2 / half_life.as_secs_f64(),
            last: None,
            usual: (0.0, 1.0),
            weight: 0.0,
            t: 0.0,
            tt: 0.0,
            x: 0.0,
            tx: 0.0,
            xx: 0.0,
            origin: 0.0,
        }
    }

    /// Takes a reading. One at the same moment as the last is left out.
    pub(crate) fn observe(&mut self, now: Timestamp, amount: Bytes) {
        let amount = amount.get() as f64;
        match self.last {
            None => self.origin = amount,
            Some(last) if now > last => self.age_by(now.as_nanos() - last.as_nanos()),
            Some(_) => return,
        }
        self.last = Some(now);
        let x = amount - self.origin;
        self.weight += 1.0;
        self.x += x;
        self.xx += x * x;
    }

    /// Forgets everything: after a gap, the past says nothing about the slope.
    pub(crate) fn reset(&mut self) {
        *self = Self { rate: self.rate, usual: self.usual, ..Self::new(Duration::ZERO) };
    }

    /// Returns the growth per second [bytes/s] if it is significant, or else zero.
    pub(crate) fn slope(&self) -> f64 {
        if self.weight < LEAST_WEIGHT {
            return 0.0;
        }
        let spread = self.tt - self.t * self.t / self.weight;
        if spread <= 0.0 {
            return 0.0;
        }
        let joint = self.joint();
        let slope = joint / spread;
        let scatter = (self.xx - self.x * self.x / self.weight - slope * joint).max(0.0);
        // Standard error of the slope: sqrt(scatter / (n - 2) / spread); compared in squares.
        let error_squared = scatter / (self.weight - 2.0) / spread;
        if slope * slope > SIGNIFICANT * SIGNIFICANT * error_squared { slope } else { 0.0 }
    }

    /// Returns the sum whose sign is the slope's.
    fn joint(&self) -> f64 {
        self.tx - self.t * self.x / self.weight
    }

    fn age_by(&mut self, nanos: u64) {
        let dt = nanos as f64 / NANOS_PER_SECOND as f64;
        let decay = self.decay(dt);
        // Every reading grows older by dt: t -> t - dt, and lighter by the decay.
        self.tt = decay * (self.tt - 2.0 * dt * self.t + dt * dt * self.weight);
        self.tx = decay * (self.tx - dt * self.x);
        self.t = decay * (self.t - dt * self.weight);
        self.weight *= decay;
        self.x *= decay;
        self.xx *= decay;
    }

    /// Returns what is left of a weight after `dt` [s]: near the usual interval, from the first terms of the series
    /// there.
    fn decay(&mut self, dt: f64) -> f64 {
        let (usual, exact) = self.usual;
        let apart = (dt - usual) * self.rate;
        if apart.abs() < SERIES_HOLDS {
            return exact * (1.0 - apart + apart * apart / 2.0);
        }
        let exact = libm::exp(-dt * self.rate);
        self.usual = (dt, exact);
        exact
    }
}

/// The third term of the series, left out, is a sixth of the cube of this: below two in ten million of a weight.
const SERIES_HOLDS: f64 = 0.01;

/// The weight, in readings, before a slope is believed: two always lie on a line; three leave one degree of freedom.
const LEAST_WEIGHT: f64 = 3.0;

/// Standard errors by which a slope must differ from zero. Two is the customary 95 %; successive readings are
/// correlated, which makes the error look smaller than it is, so three.
const SIGNIFICANT: f64 = 3.0;

#[cfg(test)]
mod tests {
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;

    const MIB: f64 = 1024.0 * 1024.0;

    /// A ramp of 10 MiB/s read at the given seconds.
    fn ramp(seconds: impl IntoIterator<Item = f64>) -> Trend {
        let mut trend = Trend::new(Duration::from_secs(120));
        for at in seconds {
            let now = Timestamp::ZERO + crate::time::from_secs_f64(at);
            trend.observe(now, Bytes::new((4096.0 * MIB + 10.0 * MIB * at) as u64));
        }
        trend
    }

    #[track_caller]
    fn check(trend: &Trend, want_mib_per_second: f64) {
        let got = trend.slope() / MIB;
        assert!((got - want_mib_per_second).abs() < 0.01, "got {got}, want {want_mib_per_second}");
    }

    #[test]
    fn the_slope_is_per_second_however_irregular_the_sampling() {
        check(&ramp((0..60).map(|i| f64::from(i) * 2.0)), 10.0);
        check(&ramp((0..60).map(|i| f64::from(i) * 0.1)), 10.0);
        let mut at = 0.0;
        let irregular: Vec<f64> = (0..60)
            .map(|i| {
                at += [0.3, 7.0, 2.0][i % 3];
                at
            })
            .collect();
        check(&ramp(irregular), 10.0);
    }

    #[test]
    fn noise_has_no_slope() {
        // Nearly normal: the sum of twelve uniform numbers has a deviation of one.
        let mut noise = ChaCha8Rng::seed_from_u64(1);
        let mut normal = || (0..12).map(|_| noise.random::<f64>()).sum::<f64>() - 6.0;
        let mut trend = Trend::new(Duration::from_secs(120));
        let mut alarms = 0;
        for i in 0..10_000 {
            let amount = 8.0e9 + 2.0e8 * normal();
            trend.observe(Timestamp::from_secs(2 * i), Bytes::new(amount as u64));
            alarms += u32::from(trend.slope() > 0.0);
        }
        assert!(alarms < 100, "{alarms} of 10000 readings of pure noise were taken for growth");
    }

    #[test]
    fn two_readings_are_no_trend_and_a_reset_forgets() {
        check(&ramp([0.0, 2.0]), 0.0);
        let mut trend = ramp((0..60).map(f64::from));
        trend.reset();
        check(&trend, 0.0);
    }
}
