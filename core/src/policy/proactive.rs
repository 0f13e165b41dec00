//! The proactive policy.
//!
//! Every sample passes the same questions in the same order, safety first: is a space resource over its
//! line; will it be before we could step down; has a rate been high for long; is service bad; and only then,
//! is there room above. An upgrade needs every gate open *and* the space after the switch projected below
//! the line that would undo it: no decision may create its own reversal.

use std::time::Duration;

use crate::catalog::{Catalog, Rung};
use crate::decision::{Decision, Gate, Reason, Urgency};
use crate::demand::Performance;
use crate::policy::backoff::{Backoff, Bounds};
use crate::policy::fit::{Footprints, Growth, Projection, shares};
use crate::policy::forecast::Trend;
use crate::policy::performance::Service;
use crate::policy::settle::Settle;
use crate::policy::sustained::Sustained;
use crate::policy::{Change, Observation, Policy, Promises, Standing};
use crate::sample::{Resource, Sample, Space};
use crate::settings::Settings;
use crate::time::{Rhythm, Timestamp};
use crate::units::{Bytes, Percent};

/// The state of the proactive policy.
#[derive(Debug)]
pub(super) struct Proactive {
    pub(super) settings: Settings,
    pub(super) ladder: Footprints,
    pub(super) rungs: Vec<RungState>,
    /// The time a step down takes at worst: drain and unload of anything, load of the rung below.
    lead: Duration,
    rhythm: Rhythm,
    memory_trend: Trend,
    /// Of the GPU whose load concerns us.
    vram_trend: Trend,
    trended_gpu: Option<usize>,
    cpu: Sustained,
    gpu: Sustained,
    pressure: Sustained,
    pub(super) service: Service,
    settle: Settle,
    /// The change that the last sample saw, to notice a new one.
    seen_change: Option<Change>,
    /// The rung that `seen_change` led to.
    seen_rung: Rung,
    pub(super) last: LastSample,
}

/// What is remembered of one rung.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct RungState {
    /// Since when it has fitted without a break.
    pub(super) fits_since: Option<Timestamp>,
    /// The scarcest space with it loaded, by the last sample.
    pub(super) projection: Option<Projection>,
    pub(super) backoff: Backoff,
    /// When it began to serve, if it serves.
    entered: Option<Timestamp>,
}

/// What the gates are derived from: the facts of the last sample.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct LastSample {
    pub(super) at: Option<Timestamp>,
    /// Use of each constrained resource, by `Resource::ALL`.
    pub(super) shares: [Option<Percent>; Resource::ALL.len()],
    /// The GPU that these speak of.
    gpu: Option<u8>,
}

impl LastSample {
    /// Returns the GPU, where the resource is one of a GPU's.
    fn gpu_of(&self, resource: Resource) -> Option<u8> {
        self.gpu.filter(|_| matches!(resource, Resource::Vram | Resource::Gpu))
    }
}

impl Proactive {
    pub(super) fn new(settings: &Settings, catalog: &Catalog) -> Self {
        let switch_time = catalog
            .models()
            .iter()
            .map(|model| model.unload + model.load_cold)
            .max()
            .expect("a catalog has at least one model");
        Self {
            ladder: Footprints::new(settings, catalog),
            rungs: vec![RungState::default(); usize::from(catalog.top().0) + 1],
            lead: switch_time + settings.sampling_interval,
            rhythm: Rhythm::of_mean(),
            memory_trend: Trend::new(settings.trend_half_life),
            vram_trend: Trend::new(settings.trend_half_life),
            trended_gpu: None,
            cpu: Sustained::new(settings, Resource::Cpu, settings.degrade_line),
            gpu: Sustained::new(settings, Resource::Gpu, settings.degrade_line),
            pressure: Sustained::new(settings, Resource::Pressure, settings.pressure_degrade_line),
            service: Service::new(settings, catalog),
            settle: Settle::new(settings),
            seen_change: None,
            seen_rung: Rung::NONE,
            last: LastSample::default(),
            settings: settings.clone(),
        }
    }
}

impl Policy for Proactive {
    fn observe(&mut self, now: Timestamp, seen: &Observation<'_>) -> Decision {
        let Observation { sample, standing, demand } = *seen;
        self.learn(now, sample, standing);
        if sample.memory.is_none() && sample.gpus.is_empty() {
            return standing.hold(Reason::NoData);
        }
        if let Some((over, total)) = self.overrun(sample, standing) {
            return self.relieve_space(over, total, sample, standing);
        }
        if standing.switching {
            return standing.hold(Reason::Switching);
        }
        if let Some((resource, full_in)) = self.full_soon(sample, standing) {
            return self.step_down_early(resource, full_in, sample, standing);
        }
        if let Some(reason) = self.strain(now)
            && standing.rung != Rung::NONE
        {
            return self.relieve_rates(reason, standing);
        }
        if let Some(reason) = self.service.complaint(now, standing.rung, demand)
            && standing.rung > LOWEST_LOADED
        {
            return self.relieve_service(now, reason, standing);
        }
        self.consider_upgrade(now, standing)
    }

    fn missing(&mut self, now: Timestamp, standing: &Standing) -> Decision {
        // What was not seen was not good: every window starts over.
        for rung in &mut self.rungs {
            rung.fits_since = None;
        }
        standing.hold(match self.last.at {
            Some(at) => Reason::Stale { age: now.since(at) },
            None => Reason::NoData,
        })
    }

    fn served(&mut self, now: Timestamp, performance: &Performance) {
        self.service.record(now, performance);
    }

    fn broke(&mut self, now: Timestamp, rung: Rung) {
        self.mark_undone(now, rung, Duration::ZERO);
    }

    fn gates(&self, now: Timestamp, standing: &Standing) -> Vec<Gate> {
        self.spell_out_gates(now, standing)
    }

    fn promises(&self) -> Promises {
        let waits = [
            self.settings.stabilization.max(self.settings.reversal_window),
            self.settings.backoff_limit,
            self.settings.settle_limit,
            self.settings.manager.switch_cooldown,
        ];
        Promises {
            window: Some(self.settings.stabilization),
            no_reversal: true,
            upgrades_fit: true,
            relief_within: Some(self.settings.settle_limit + self.settings.sampling_interval * 2),
            recovery_within: Some(waits.into_iter().sum()),
        }
    }
}

impl Proactive {
    /// Updates every estimator with the sample, decision or not.
    fn learn(&mut self, now: Timestamp, sample: &Sample, standing: &Standing) {
        let stale_after = self.settings.stale_after;
        if self.rhythm.gap_before(now, GAP_FACTOR, stale_after).is_some() {
            self.memory_trend.reset();
            self.vram_trend.reset();
            for rung in &mut self.rungs {
                rung.fits_since = None;
            }
        }
        self.notice_change(now, standing);
        if let Some(space) = &sample.memory {
            self.memory_trend.observe(now, space.others);
        }
        if let Some((index, gpu)) = self.ladder.our_gpu(sample)
            && let Some(vram) = gpu.vram
        {
            // Another GPU's use is another series.
            if self.trended_gpu.replace(index) != Some(index) {
                self.vram_trend.reset();
            }
            self.vram_trend.observe(now, vram.others);
        }
        self.settle.observe(now, sample);
        self.judge_rungs(now, sample, standing);
    }

    /// Starts the settle rule and the rung's clock when a switch has completed since the last sample.
    fn notice_change(&mut self, now: Timestamp, standing: &Standing) {
        if standing.last_change != self.seen_change {
            self.settle.begin(now);
            self.service.forget(self.seen_rung);
            self.rungs[usize::from(self.seen_rung.0)].entered = None;
            self.rungs[usize::from(standing.rung.0)].entered =
                standing.last_change.filter(|change| change.up).map(|change| change.at);
            self.seen_change = standing.last_change;
            self.seen_rung = standing.rung;
        }
        if !standing.switching {
            let good = self.settings.mistake_window;
            self.rungs[usize::from(standing.rung.0)].backoff.heal(now, good);
        }
    }

    /// Notes for each rung above since when it has fitted, and the facts that the gates are derived from.
    fn judge_rungs(&mut self, now: Timestamp, sample: &Sample, standing: &Standing) {
        let our_gpu = self.ladder.our_gpu(sample);
        let shares = shares(&self.settings, sample, our_gpu.map(|(_, gpu)| gpu));
        let gpu = our_gpu.and_then(|(index, _)| u8::try_from(index).ok());
        self.last = LastSample { at: Some(now), shares, gpu };
        // A rung that serves, or stands below one that does, begins anew when it is above again.
        for state in &mut self.rungs[..=usize::from(standing.rung.0)] {
            state.fits_since = None;
        }
        if standing.rung >= self.ladder.top() {
            return;
        }
        let mut growth = Growth {
            memory: self.memory_trend.growth(self.settings.forecast_horizon),
            vram: self.vram_trend.growth(self.settings.forecast_horizon),
        };
        if standing.rung == Rung::NONE {
            // Own memory with nothing loaded is memory that has not come back: it is in the way like any other.
            growth.memory += sample.memory.map_or(Bytes::ZERO, |space| space.own);
            growth.vram += self.ladder.our_vram(sample).map_or(Bytes::ZERO, |space| space.own);
        }
        let above = self.first_above_upgrade_line().map(|(resource, ..)| resource);
        let settings = &self.settings;
        let limit = |total| room_limit(settings, total, standing);
        for rung in standing.rung.0 + 1..=self.ladder.top().0 {
            let state = &mut self.rungs[usize::from(rung)];
            state.projection = self.ladder.project(sample, Rung(rung), growth, limit);
            // With nothing loaded, the smallest model needs room and no more: a busy processor makes it slow, which
            // is better than none. Spaces come first among the resources.
            let is_let_in = match above {
                None => true,
                Some(Resource::Memory | Resource::Vram) => false,
                Some(Resource::Cpu | Resource::Gpu | Resource::Pressure) => {
                    is_rescue(standing, Rung(rung))
                }
            };
            if is_let_in && state.projection.is_some_and(|projection| projection.fits()) {
                state.fits_since.get_or_insert(now);
            } else {
                state.fits_since = None;
            }
        }
    }

    /// Returns the space resource that is over its line, and how much of it there is. While a switch is under way, own
    /// use in passing is ours to know: then only others' use plus the rung that the switch leads to counts.
    fn overrun(&self, sample: &Sample, standing: &Standing) -> Option<(Projection, Bytes)> {
        let limit = |total| self.settings.degrade_limit(total);
        if standing.switching || !self.settle.is_settled() {
            let after = self.ladder.project(sample, standing.rung, Growth::default(), limit)?;
            (!after.fits()).then_some((after, Bytes::MAX))
        } else {
            self.ladder.overrun(sample, limit)
        }
    }

    /// Steps down at once.
    #[cold]
    fn relieve_space(
        &mut self,
        over: Projection,
        total: Bytes,
        sample: &Sample,
        standing: &Standing,
    ) -> Decision {
        let reason = Reason::AboveDegradeLine {
            resource: over.resource,
            gpu: over.gpu,
            used: over.projected,
            limit: over.limit,
        };
        if standing.rung == Rung::NONE {
            return standing.hold(reason);
        }
        let to = self.highest_fitting_below(sample, standing.rung);
        let critical = over.projected >= total.share(CRITICAL_SHARE);
        let urgency = if critical { Urgency::Critical } else { Urgency::Immediate };
        self.mark_if_undone(standing.rung);
        standing.down(to, urgency, reason)
    }

    /// Returns the space that a confident rise would fill before a step down were complete, and how soon.
    fn full_soon(&self, sample: &Sample, standing: &Standing) -> Option<(Resource, Duration)> {
        if standing.rung == Rung::NONE || !self.settle.is_settled() {
            return None;
        }
        let full_in = |resource: Resource, space: Option<Space>, trend: &Trend| {
            let used = self.last.shares[resource as usize]?;
            if used < self.settings.preventive_line {
                return None;
            }
            let slope = trend.slope();
            if slope <= 0.0 {
                return None;
            }
            let full_in = crate::time::from_secs_f64(space?.free().get() as f64 / slope);
            (full_in < self.lead).then_some((resource, full_in))
        };
        full_in(Resource::Memory, sample.memory, &self.memory_trend)
            .or_else(|| full_in(Resource::Vram, self.ladder.our_vram(sample), &self.vram_trend))
    }

    #[cold]
    fn step_down_early(
        &mut self,
        resource: Resource,
        full_in: Duration,
        sample: &Sample,
        standing: &Standing,
    ) -> Decision {
        self.mark_if_undone(standing.rung);
        let to = self.highest_fitting_below(sample, standing.rung);
        let gpu = self.last.gpu_of(resource);
        let reason = Reason::Exhaustion { resource, gpu, full_in, lead: self.lead };
        standing.down(to, Urgency::Immediate, reason)
    }

    /// Returns the rate that has been high for long and does not fall, if there is one.
    fn strain(&mut self, now: Timestamp) -> Option<Reason> {
        let used = |resource: Resource| self.last.shares[resource as usize];
        let cpu = self.cpu.observe(now, used(Resource::Cpu), None);
        let gpu = self.gpu.observe(now, used(Resource::Gpu), self.last.gpu);
        let pressure = self.pressure.observe(now, used(Resource::Pressure), None);
        cpu.or(gpu).or(pressure)
    }

    /// Steps one rung down, never to none: an idle small model takes no processor time.
    #[cold]
    fn relieve_rates(&mut self, reason: Reason, standing: &Standing) -> Decision {
        if standing.rung == LOWEST_LOADED {
            return standing.hold(reason);
        }
        for watch in [&mut self.cpu, &mut self.gpu, &mut self.pressure] {
            watch.reset();
        }
        let to = Rung(standing.rung.0 - 1);
        standing.down(to, Urgency::Graceful, reason)
    }

    /// Steps one rung down, and remembers what was bad about the one it leaves.
    #[cold]
    fn relieve_service(&mut self, now: Timestamp, reason: Reason, standing: &Standing) -> Decision {
        let entered = self.rungs[usize::from(standing.rung.0)].entered;
        let lasted = entered.map_or(Duration::ZERO, |entered| now.since(entered));
        self.mark_undone(now, standing.rung, lasted);
        self.service.forget(standing.rung);
        if let Reason::Slow { measured, .. } = reason {
            self.service.remember_slow(now, standing.rung, measured);
        }
        let to = Rung(standing.rung.0 - 1);
        standing.down(to, Urgency::Graceful, reason)
    }

    /// Goes up to the highest rung that fits, once that has been so for long enough.
    ///
    /// While a higher rung fits but has not waited long enough, a lower one is not taken in its stead: it
    /// would be a switch for a few minutes. With nothing loaded anything is better, so there it is.
    fn consider_upgrade(&self, now: Timestamp, standing: &Standing) -> Decision {
        if standing.rung >= self.ladder.top() {
            return standing.hold(Reason::AtTop);
        }
        if !self.settle.is_settled()
            && let Some(change) = standing.last_change
        {
            return standing.hold(Reason::Settling { since: now.since(change.at) });
        }
        if let Some(remaining) = self.cooldown_remaining(now, standing) {
            return standing.hold(Reason::Cooldown { remaining });
        }
        let mut waiting = None;
        for rung in (standing.rung.0 + 1..=self.ladder.top().0).rev() {
            let to = Rung(rung);
            let Some(fits_since) = self.rungs[usize::from(rung)].fits_since else { continue };
            if let Some((predicted, limit)) = self.service.would_be_slow(now, standing.rung, to) {
                waiting = waiting.or(Some(Reason::WouldBeSlow { to, predicted, limit }));
                continue;
            }
            let good_for = now.since(fits_since);
            let backoff = self.backoff_wait(to, standing);
            if let Some(remaining) = backoff.and_then(|wait| self.backoff_remaining(now, to, wait))
            {
                waiting = waiting.or(Some(Reason::Backoff { to, remaining }));
                continue;
            }
            let window = self.window(standing);
            if good_for < window {
                let remaining = window.checked_sub(good_for).unwrap_or_default();
                waiting = waiting.or(Some(Reason::Window { to, remaining }));
                if standing.rung == Rung::NONE { continue } else { break }
            }
            return self.room(to, good_for, standing);
        }
        standing.hold(waiting.unwrap_or_else(|| self.obstacle(standing)))
    }

    /// Returns the upgrade to a rung that has passed every gate.
    fn room(&self, to: Rung, good_for: Duration, standing: &Standing) -> Decision {
        let Projection { resource, gpu, projected, limit } = self.rungs[usize::from(to.0)]
            .projection
            .expect("a rung fits only where its space was projected");
        let reason = Reason::Room { resource, gpu, projected, limit, good_for };
        standing.up(to, reason)
    }

    /// Returns what keeps the next rung from fitting.
    fn obstacle(&self, standing: &Standing) -> Reason {
        if let Some((resource, used, line)) = self.first_above_upgrade_line() {
            let gpu = self.last.gpu_of(resource);
            return Reason::AboveUpgradeLine { resource, gpu, used, line };
        }
        let to = Rung(standing.rung.0 + 1);
        match self.rungs[usize::from(to.0)].projection {
            Some(Projection { resource, gpu, projected, limit }) => {
                Reason::WouldNotFit { to, resource, gpu, projected, limit }
            }
            None => Reason::NoData,
        }
    }

    /// Returns the first constrained resource that is used too much for an upgrade, its use, and its line.
    fn first_above_upgrade_line(&self) -> Option<(Resource, Percent, Percent)> {
        for resource in Resource::ALL {
            let line = self.upgrade_line_of(resource);
            if let Some(used) = self.last.shares[resource as usize].filter(|&used| used >= line) {
                return Some((resource, used, line));
            }
        }
        None
    }

    pub(super) fn upgrade_line_of(&self, resource: Resource) -> Percent {
        match resource {
            Resource::Pressure => self.settings.pressure_upgrade_line,
            Resource::Memory | Resource::Vram | Resource::Cpu | Resource::Gpu => {
                self.settings.upgrade_line
            }
        }
    }

    /// Returns how long a rung must have fitted. The first load of a run replaces nothing and undoes nothing: it
    /// need not wait.
    pub(super) fn window(&self, standing: &Standing) -> Duration {
        if is_first_load(standing) { Duration::ZERO } else { self.settings.stabilization }
    }

    /// Returns how long after the last change an upgrade must wait: the stabilization window after an upgrade;
    /// after a downgrade the reversal window too, because going back sooner would *be* a reversal.
    ///
    /// With nothing loaded nobody is served, and the window is enough.
    pub(super) fn cooldown(&self, change: Change, standing: &Standing) -> Duration {
        if change.up || standing.rung == Rung::NONE {
            self.settings.stabilization
        } else {
            self.settings.stabilization.max(self.settings.reversal_window)
        }
    }

    fn cooldown_remaining(&self, now: Timestamp, standing: &Standing) -> Option<Duration> {
        let change = standing.last_change?;
        self.cooldown(change, standing)
            .checked_sub(now.since(change.at))
            .filter(|left| !left.is_zero())
    }

    /// Returns how long a rung that had to be left must have been good again. With nothing loaded nobody is
    /// served, and the smallest model is tried again whatever was learned. Where something is asked for that only
    /// a higher rung can serve, no more is waited than a reversal takes: until then it is refused.
    pub(super) fn backoff_wait(&self, rung: Rung, standing: &Standing) -> Option<Duration> {
        let learned = &self.rungs[usize::from(rung.0)].backoff;
        let wait = learned.wait(self.backoff_bounds()).filter(|_| !is_rescue(standing, rung))?;
        let wanted = self.last.at.and_then(|at| self.service.climb_wanted(at, standing.rung));
        let is_wanted = wanted.is_some_and(|wanted| wanted <= rung);
        Some(if is_wanted { wait.min(self.settings.reversal_window) } else { wait })
    }

    /// Returns what is left of a rung's learned wait: counted from its last mistake, and from the moment since
    /// which it has fitted without a break.
    pub(super) fn backoff_remaining(
        &self,
        now: Timestamp,
        rung: Rung,
        wait: Duration,
    ) -> Option<Duration> {
        let state = &self.rungs[usize::from(rung.0)];
        let since = state.fits_since.unwrap_or(now).max(state.backoff.since());
        wait.checked_sub(now.since(since)).filter(|left| !left.is_zero())
    }

    fn backoff_bounds(&self) -> Bounds {
        Bounds { least: self.settings.stabilization, most: self.settings.backoff_limit }
    }

    /// Returns the highest rung below `rung` that fits with the margin or, where none does, without it.
    fn highest_fitting_below(&self, sample: &Sample, rung: Rung) -> Rung {
        let fitting = |limit: &dyn Fn(Bytes) -> Bytes| {
            (1..rung.0).rev().map(Rung).find(|&lower| {
                self.ladder
                    .project(sample, lower, Growth::default(), limit)
                    .is_none_or(|projection| projection.fits())
            })
        };
        fitting(&|total| self.settings.upgrade_limit(total))
            .or_else(|| fitting(&|total| self.settings.degrade_limit(total)))
            .unwrap_or(Rung::NONE)
    }

    /// Learns from a forced step down, where the rung was entered so recently that entering it was a mistake.
    fn mark_if_undone(&mut self, rung: Rung) {
        let Some(entered) = self.rungs[usize::from(rung.0)].entered else { return };
        let now = self.last.at.expect("the sample was noted before it was judged");
        let lasted = now.since(entered);
        if lasted < self.settings.mistake_window {
            self.mark_undone(now, rung, lasted);
        }
    }

    fn mark_undone(&mut self, now: Timestamp, rung: Rung, lasted: Duration) {
        let bounds = self.backoff_bounds();
        // What a lower rung was turned out of, a higher one would be too.
        for state in &mut self.rungs[usize::from(rung.0)..] {
            state.backoff.fail(now, lasted, bounds);
        }
    }
}

/// Returns the most that may be projected after an upgrade. The first load of a run is decided on a single
/// reading, so it must stay under the upgrade line too.
fn room_limit(settings: &Settings, total: Bytes, standing: &Standing) -> Bytes {
    let limit = settings.upgrade_limit(total);
    if is_first_load(standing) { limit.min(total.share(settings.upgrade_line)) } else { limit }
}

/// Returns whether nothing has been loaded yet in this run.
fn is_first_load(standing: &Standing) -> bool {
    standing.rung == Rung::NONE && standing.last_change.is_none()
}

/// Returns whether loading `rung` would end a time without any model.
fn is_rescue(standing: &Standing, rung: Rung) -> bool {
    standing.rung == Rung::NONE && rung == LOWEST_LOADED
}

/// Rates step down no further than this.
const LOWEST_LOADED: Rung = Rung(1);

/// A resource this full is critical: running tasks get the shorter deadline. Chosen; at 97 % of 16 GiB,
/// 0.5 GiB is left.
const CRITICAL_SHARE: Percent = Percent::new(97);

/// An interval this many times the usual one is a gap. Three lets two readings in a row be lost.
const GAP_FACTOR: u64 = 3;
