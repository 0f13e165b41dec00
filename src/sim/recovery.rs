//! L3: once pressure is gone, the best rung that fits is back within a bound.
//!
//! It is judged only where nothing can be argued about: samples without a gap in which others' memory hardly moves
//! and everything is well below its line, nothing fails and nothing is under way. Then nothing
//! is a reason to stay below for longer than the policy promises, which is all of its waits together. Left alone on purpose: video memory,
//! whose room depends on where a model is placed, and runs with a limit on latency, which is a reason of its own.

use std::time::Duration;

use tiershift_core::catalog::{Catalog, Rung};
use tiershift_core::policy::Promises;
use tiershift_core::sample::{Resource, Sample, Space};
use tiershift_core::settings::Settings;
use tiershift_core::time::Timestamp;
use tiershift_core::units::{Bytes, Percent};

/// Watches for room that is not taken.
#[derive(Clone, Debug)]
pub(super) struct Recovery {
    settings: Settings,
    /// Memory that each rung takes while it loads, rung 0 first; empty where the rule does not apply.
    needs: Vec<Bytes>,
    /// The longest that the policy may wait, and how much longer once a model has broken.
    bound: Duration,
    after_failure: Option<Duration>,
    serving: Rung,
    last_sample: Option<Timestamp>,
    calm: Option<Calm>,
}

/// A time in which nothing moved.
#[derive(Clone, Copy, Debug)]
struct Calm {
    since: Timestamp,
    /// The least and the most that others used in it.
    least: Bytes,
    most: Bytes,
}

impl Recovery {
    /// Builds the rule of what the policy promises.
    pub(super) fn new(settings: &Settings, catalog: &Catalog, promises: &Promises) -> Self {
        let promised = promises.recovery_within;
        let applies = promised.is_some()
            && settings.constrains(Resource::Memory)
            && catalog.models().iter().all(|model| model.vram == Bytes::ZERO)
            && settings.latency_limit.is_none()
            && settings.first_token_limit.is_none()
            && settings.manager.pin.is_none();
        let need = |rung| {
            let model = catalog.primary(rung).expect("rungs_up yields rungs that hold a model");
            model.footprint_to_load().ram
        };
        let needs = std::iter::once(Bytes::ZERO).chain(catalog.rungs_up().map(need));
        Self {
            settings: settings.clone(),
            needs: if applies { needs.collect() } else { Vec::new() },
            bound: promised.unwrap_or_default(),
            after_failure: promises.retry_within,
            serving: Rung::NONE,
            last_sample: None,
            calm: None,
        }
    }

    /// Takes what serves from now on.
    pub(super) fn serves(&mut self, rung: Rung) {
        self.serving = rung;
        self.calm = None;
    }

    /// Takes that something happened which may be a reason to wait anew.
    pub(super) fn disturb(&mut self) {
        self.calm = None;
    }

    /// Takes that a model did not load or died.
    pub(super) fn breaks(&mut self) {
        self.bound += self.after_failure.take().unwrap_or_default();
        self.calm = None;
    }

    /// Takes a sample. Returns the rung that there was room for, and for how long, once that is too long.
    pub(super) fn observe(&mut self, now: Timestamp, sample: &Sample) -> Option<(Rung, Duration)> {
        if usize::from(self.serving.0) + 1 >= self.needs.len() {
            return None;
        }
        let before = self.last_sample.replace(now);
        let is_gap = before.is_none_or(|at| now.since(at) > self.settings.stale_after);
        let Some(memory) = sample.memory.filter(|space| !is_gap && self.is_low(sample, space))
        else {
            self.calm = None;
            return None;
        };
        let calm =
            self.calm.get_or_insert(Calm { since: now, least: memory.others, most: memory.others });
        calm.least = calm.least.min(memory.others);
        calm.most = calm.most.max(memory.others);
        if calm.most - calm.least > memory.total.share(STILL) {
            self.calm = None;
            return None;
        }
        let lasted = now.since(calm.since);
        if lasted <= self.bound {
            return None;
        }
        let limit = self.settings.degrade_limit(memory.total) - memory.total.share(FORECAST);
        let (others, above) = (calm.most, self.serving.0 + 1);
        let fits = |rung: &u8| others + self.needs[usize::from(*rung)] <= limit;
        let room = (above..).take(self.needs.len() - usize::from(above)).filter(fits).last()?;
        self.calm = None;
        Some((Rung(room), lasted))
    }

    /// Returns whether everything is below the line for an upgrade.
    fn is_low(&self, sample: &Sample, memory: &Space) -> bool {
        let line = self.settings.upgrade_line;
        let pressure_line = self.settings.pressure_upgrade_line;
        Percent::of(memory.used(), memory.total) < line
            && sample.cpu.is_none_or(|rate| rate.others < line)
            && sample.gpus.iter().all(|gpu| gpu.utilization.is_none_or(|rate| rate.others < line))
            && sample.pressure.is_none_or(|pressure| pressure.memory_some < pressure_line)
    }
}

/// Others' memory that moves by no more stands still. Chosen: what it lets a trend forecast is below [`FORECAST`].
const STILL: Percent = Percent::from_milli(100);

/// Room that a forecast may ask for on top. A step of [`STILL`] within ten seconds, taken for a trend over the default
/// horizon of five minutes, comes to 3 %.
const FORECAST: Percent = Percent::new(5);
