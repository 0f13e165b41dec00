//! Whether an upgrade is worth its risk: how much others moved recently, and what losing the room soon would cost.
//!
//! A rung that fits may be lost again. How likely that is within the horizon follows from the spare room, from how much
//! others moved in the last horizon, and from the age of the room. The cost is the price of both changes, with the
//! extra charge for an early return. Nothing is learned: on recordings that no constant was chosen on, a table of the
//! outcomes of earlier moments gained nothing.

use std::time::Duration;

use crate::decision::Odds;
use crate::place::Place;
use crate::sample::{ResourceKey, Sample};
use crate::settings::Settings;
use crate::time::{Timestamp, nanos};
use crate::units::Percent;

/// Judges upgrades by a price.
#[derive(Clone, Debug)]
pub(crate) struct Risk {
    /// What one change costs [s of the best quality].
    price: f64,
    /// The additional cost of a change that is soon undone.
    calm: f64,
    /// The horizon, ahead and back [s].
    horizon: f64,
    memory: Movement,
    vram: Vec<Movement>,
}

impl Risk {
    pub(crate) fn new(settings: &Settings) -> Self {
        let horizon = horizon(settings);
        Self {
            price: settings.price.as_secs_f64(),
            calm: settings.calm.as_secs_f64(),
            horizon: horizon.as_secs_f64(),
            memory: Movement::new(horizon),
            vram: Vec::new(),
        }
    }

    /// Records others' use of each space.
    #[inline]
    pub(crate) fn observe(&mut self, now: Timestamp, sample: &Sample) {
        if let Some(space) = &sample.memory {
            self.memory.observe(now, Percent::of(space.others, space.total));
        }
        if !sample.gpus.is_empty() {
            self.observe_gpus(now, sample);
        }
    }

    fn observe_gpus(&mut self, now: Timestamp, sample: &Sample) {
        let horizon = crate::time::from_secs_f64(self.horizon);
        self.vram.resize_with(sample.gpus.len().max(self.vram.len()), || Movement::new(horizon));
        for (movement, gpu) in self.vram.iter_mut().zip(&sample.gpus) {
            if let Some(space) = &gpu.vram {
                movement.observe(now, Percent::of(space.others, space.total));
            }
        }
    }

    /// Returns the space that is most likely to be short, and the odds of a rung that has fitted for `age` and would
    /// raise quality by `gain`, a share of one; `returns` is whether losing it soon would be a return, which costs
    /// more.
    pub(crate) fn odds(
        &self,
        place: &Place,
        gain: f64,
        age: Duration,
        returns: bool,
    ) -> (ResourceKey, Odds) {
        let mut worst = (0.0, ResourceKey::MEMORY, Percent::ONE_HUNDRED, Percent::ZERO);
        for space in place.spaces() {
            let movement = match space.gpu {
                None => Some(&self.memory),
                Some(gpu) => self.vram.get(usize::from(gpu)),
            };
            let moved = movement.map_or(Percent::ZERO, Movement::range);
            let spare = space.spare();
            let scale = LEAST_SCALE + SCALE_OF_MOVEMENT * moved.fraction();
            let risk = libm::exp(-spare.fraction() / scale);
            if risk >= worst.0 {
                let key = ResourceKey { resource: space.resource, gpu: space.gpu };
                worst = (risk, key, spare, moved);
            }
        }
        let (risk, space, spare, moved) = worst;
        let risk = risk.min(self.horizon / (self.horizon + age.as_secs_f64()));
        let share = |of_one: f64| Percent::from_f64(100.0 * of_one).unwrap_or(Percent::ZERO);
        let worth = self.worth(gain, returns);
        (space, Odds { spare, moved, risk: share(risk), worth: share(worth) })
    }

    /// Returns the risk up to which a gain is worth it: where `gain x horizon x (1 - risk / 2) = cost x risk`. The room
    /// is lost half way through the horizon on average; the cost is that of the change and its reversal.
    fn worth(&self, gain: f64, returns: bool) -> f64 {
        let earned = gain * self.horizon;
        let cost = 2.0 * self.price + if returns { self.calm } else { 0.0 };
        let worth = earned / (cost + earned / 2.0);
        worth.clamp(0.0, 1.0)
    }
}

/// Returns how far a policy looks ahead and back.
pub(crate) fn horizon(settings: &Settings) -> Duration {
    settings.reversal_window * HORIZON_IN_REVERSAL_WINDOWS
}

/// The least and the most of an amount in the last horizon, in a ring of intervals.
#[derive(Clone, Debug)]
struct Movement {
    /// Length of one part [ns].
    part: u64,
    /// The part that is being filled, counted from the beginning of the run.
    current: u64,
    /// When it ends [ns]: compared with every sample.
    ends: u64,
    parts: [Span; PARTS],
    /// Of all parts but the current one.
    before: Span,
}

/// The least and the most, in thousandths of a percent; none where the least is above the most.
#[derive(Clone, Copy, Debug)]
struct Span {
    least: u32,
    most: u32,
}

impl Span {
    const NONE: Self = Self { least: u32::MAX, most: 0 };

    #[inline]
    fn with(self, other: Self) -> Self {
        Self { least: self.least.min(other.least), most: self.most.max(other.most) }
    }
}

impl Movement {
    fn new(horizon: Duration) -> Self {
        let part = (nanos(horizon) / (PARTS as u64 - 1)).max(1);
        let parts = [Span::NONE; PARTS];
        Self { part, current: 0, ends: part, parts, before: Span::NONE }
    }

    #[inline]
    fn observe(&mut self, now: Timestamp, amount: Percent) {
        if now.as_nanos() >= self.ends {
            self.turn(now);
        }
        let here = &mut self.parts[(self.current % PARTS as u64) as usize];
        *here = here.with(Span { least: amount.milli(), most: amount.milli() });
    }

    /// Moves on to the part of `now`, and forgets what is older than the horizon.
    fn turn(&mut self, now: Timestamp) {
        let part = now.as_nanos() / self.part;
        for passed in (self.current + 1..=part).take(PARTS) {
            self.parts[(passed % PARTS as u64) as usize] = Span::NONE;
        }
        self.current = part;
        self.ends = (part + 1).saturating_mul(self.part);
        self.before = self.parts.iter().fold(Span::NONE, |all, &span| all.with(span));
    }

    fn range(&self) -> Percent {
        let here = self.parts[(self.current % PARTS as u64) as usize];
        let all = self.before.with(here);
        Percent::from_milli(all.most.saturating_sub(all.least))
    }
}

/// The horizon, in reversal windows: half an hour by default.
///
/// # Source
/// Chosen on ten months of GWA-T-12's and the performancecopilot hosts' memory; a quarter or three quarters of an hour
/// give the same.
const HORIZON_IN_REVERSAL_WINDOWS: u32 = 2;

/// Parts of the horizon for which movement is kept, and the one being filled: a minute each by default.
const PARTS: usize = 31;

/// The spare room in which the risk falls to a third while nothing moves, and the part of others' movement that is
/// added to it. Chosen on the same recordings.
const LEAST_SCALE: f64 = 0.002;
const SCALE_OF_MOVEMENT: f64 = 0.36;

#[cfg(test)]
mod tests {
    use super::*;

    fn moved(readings: &[(u64, u32)]) -> u32 {
        let mut movement = Movement::new(Duration::from_mins(30));
        for &(second, percent) in readings {
            movement.observe(Timestamp::from_secs(second), Percent::new(percent));
        }
        movement.range().milli() / 1000
    }

    #[test]
    fn movement_is_that_of_the_last_half_hour() {
        assert_eq!(moved(&[(0, 20)]), 0);
        assert_eq!(moved(&[(0, 20), (10, 50), (20, 30)]), 30);
        assert_eq!(moved(&[(0, 20), (600, 50), (1700, 45)]), 30);
        assert_eq!(moved(&[(0, 20), (600, 50), (1900, 45)]), 5);
        assert_eq!(moved(&[(0, 20), (600, 50), (90_000, 45)]), 0);
        assert_eq!(moved(&[(0, 20), (1860, 50), (3720, 45)]), 0);
    }
}
