//! The proactive policy.
//!
//! Each sample is checked with the same questions in the same order, safety first: is a space that we use over its
//! line; will it be before we could step down; is the service bad; do running requests suffer from a rate that has been
//! high for long; and only then, is there room for a larger model. It steps down to the highest rung that fits, at
//! once. Between rungs that serve, it steps up when there has been room for the whole window and the gain is worth the
//! risk of losing it; from nothing, as soon as the smallest rung that fits has fitted for about as long as it takes to
//! load.

use std::time::Duration;

use crate::catalog::{Catalog, Rung};
use crate::decision::{CalledOff, Decision, Gate, Reason, Urgency};
use crate::demand::{Demand, Performance};
use crate::place::{CRITICAL_SHARE, Fit, Ladder, Projection, critical_overrun};
use crate::policy::backoff::Backoff;
use crate::policy::forecast::Trend;
use crate::policy::performance::Service;
use crate::policy::rescue::Rescue;
use crate::policy::risk::{self, Risk};
use crate::policy::settle::Settle;
use crate::policy::sustained::Sustained;
use crate::policy::{Change, Observation, Policy, Promises, Standing};
use crate::sample::{Resource, ResourceKey, Sample, Space};
use crate::settings::Settings;
use crate::time::{Rhythm, Timestamp};
use crate::units::{Bytes, Percent};

/// The state of the proactive policy.
#[derive(Debug)]
pub(super) struct Proactive {
    pub(super) settings: Settings,
    pub(super) ladder: Ladder,
    /// By rung.
    pub(super) rungs: Vec<RungState>,
    rhythm: Rhythm,
    pub(super) risk: Risk,
    pub(super) rescue: Rescue,
    memory_trend: Trend,
    /// Of the GPU that concerns us.
    vram_trend: Trend,
    trended_gpu: Option<usize>,
    cpu: Sustained,
    gpu: Sustained,
    pressure: Sustained,
    /// The rung that was left because of a rate, until it or a higher one serves again.
    pub(super) strained: Option<Strained>,
    /// A step down that is charged once it is carried out, as of the last sample.
    proposed: Option<Proposed>,
    pub(super) service: Service,
    pub(super) settle: Settle,
    /// The change that the last sample saw, to notice a new one; and the rung that it led to.
    seen_change: Option<Change>,
    seen_rung: Rung,
    /// Whether the climb to the best rung still belongs to the start of the run.
    pub(super) starting: bool,
    pub(super) first_reading: Option<Timestamp>,
    pub(super) last: LastSample,
}

/// What is remembered of one rung.
#[derive(Clone, Copy, Debug)]
pub(super) struct RungState {
    /// Since when it has fitted without a break, gaps without samples left out.
    pub(super) fits_since: Option<Timestamp>,
    /// Where it fits, by the last sample; for rungs above the one that serves.
    pub(super) fit: Option<Fit>,
    /// Whether it fits beside what serves: used only at the start of a run.
    pub(super) fits_beside: bool,
    /// After a model that did not load or died.
    pub(super) broken: Backoff,
    /// Whether, since the last change, something was requested that it can serve and the serving rung cannot.
    pub(super) was_wanted: bool,
    /// After a switch that was called off on its way; and after one that found no idle moment, until nothing runs.
    pub(super) called_off: Backoff,
    pub(super) busy: Backoff,
    /// Quality, as a share of one.
    pub(super) quality: f64,
    unload: Duration,
    pub(super) load: Duration,
}

/// A rung that was left because of a rate.
#[derive(Clone, Copy, Debug)]
pub(super) struct Strained {
    pub(super) rung: Rung,
    /// When a rate was last seen high for long, whether or not our models suffered from it.
    pub(super) last: Timestamp,
}

/// A step down for a rate or for bad service.
#[derive(Clone, Copy, Debug)]
struct Proposed {
    from: Rung,
    to: Rung,
    reason: Reason,
}

/// What the gates are derived from: the facts of the last sample.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct LastSample {
    pub(super) at: Option<Timestamp>,
    /// Use of main memory and of the video memory that concerns us.
    pub(super) memory: Option<Percent>,
    pub(super) vram: Option<(Percent, Option<u8>)>,
    /// Others' use of the processors that models run on, and the memory pressure that we could relieve.
    pub(super) cpu: Option<Percent>,
    pub(super) gpu: Option<Percent>,
    pub(super) pressure: Option<Percent>,
}

impl Proactive {
    pub(super) fn new(settings: &Settings, catalog: &Catalog) -> Self {
        let rung = |rung| {
            let model = catalog.primary(rung);
            RungState {
                fits_since: None,
                fit: None,
                fits_beside: false,
                broken: Backoff::default(),
                was_wanted: false,
                called_off: Backoff::default(),
                busy: Backoff::default(),
                quality: model.map_or(0.0, |model| model.quality.fraction()),
                unload: model.map_or(Duration::ZERO, |model| model.unload),
                load: model.map_or(Duration::ZERO, |model| model.load_cold),
            }
        };
        Self {
            ladder: Ladder::new(settings, catalog),
            rungs: std::iter::once(Rung::NONE).chain(catalog.rungs_up()).map(rung).collect(),
            rhythm: Rhythm::of_mean(),
            risk: Risk::new(settings),
            rescue: Rescue::new(settings, catalog),
            memory_trend: Trend::new(settings.trend_half_life),
            vram_trend: Trend::new(settings.trend_half_life),
            trended_gpu: None,
            cpu: Sustained::new(settings, Resource::Cpu, settings.degrade_line),
            gpu: Sustained::new(settings, Resource::Gpu, settings.degrade_line),
            pressure: Sustained::new(settings, Resource::Pressure, settings.pressure_degrade_line),
            strained: None,
            proposed: None,
            service: Service::new(settings, catalog),
            settle: Settle::new(settings),
            seen_change: None,
            seen_rung: Rung::NONE,
            starting: true,
            first_reading: None,
            last: LastSample::default(),
            settings: settings.clone(),
        }
    }
}

impl Policy for Proactive {
    fn observe(&mut self, now: Timestamp, seen: &Observation<'_>) -> Decision {
        let Observation { sample, standing, demand } = *seen;
        self.learn(now, sample, standing);
        if sample.spaces().next().is_none() {
            return standing.hold(Reason::NoData);
        }
        if standing.rung != Rung::NONE
            && let Some(over) = self.overrun(sample, standing)
        {
            return self.relieve_space(over, sample, standing);
        }
        if standing.switching {
            return standing.hold(Reason::Switching);
        }
        if let Some(decision) = self.step_down_early(sample, standing) {
            return decision;
        }
        if let Some(reason) = self.service.complaint(now, standing.rung, demand)
            && standing.rung > LOWEST_LOADED
        {
            return self.step_down_one(reason, sample, standing);
        }
        if let Some(reason) = self.strain(now, standing, demand)
            && standing.rung > LOWEST_LOADED
        {
            return self.step_down_one(reason, sample, standing);
        }
        self.note_what_is_wanted(now);
        self.note_idle_moment(demand);
        self.consider_upgrade(now, standing)
    }

    /// A gap without samples was neither good nor bad: the next sample shows how long it lasted.
    fn missing(&mut self, now: Timestamp, standing: &Standing) -> Decision {
        standing.hold(match self.last.at {
            Some(at) => Reason::Stale { age: now.since(at) },
            None => Reason::NoData,
        })
    }

    fn served(&mut self, now: Timestamp, performance: &Performance) {
        self.service.record(now, performance);
    }

    fn broke(&mut self, now: Timestamp, rung: Rung) {
        let bounds = self.broken_bounds();
        // A larger model needs everything that the smaller one was refused.
        for state in &mut self.rungs[usize::from(rung.0)..] {
            state.broken.fail(now, bounds);
        }
    }

    fn called_off(&mut self, now: Timestamp, rung: Rung, cause: CalledOff) {
        // A rescue that never served counts as lost, like one that served too briefly.
        if self.seen_rung == Rung::NONE {
            self.rescue.lose(now);
        }
        let bounds = self.called_off_bounds();
        // What kept this one away keeps away larger ones too.
        for state in &mut self.rungs[usize::from(rung.0)..] {
            let backoff = match cause {
                CalledOff::Busy => &mut state.busy,
                CalledOff::NoRoom => &mut state.called_off,
            };
            backoff.fail(now, bounds);
        }
    }

    /// Keeps what it has learned from its mistakes. What depends on lines and windows is evaluated again.
    fn reconfigure(&mut self, settings: &Settings, catalog: &Catalog) -> bool {
        let before = std::mem::replace(self, Self::new(settings, catalog));
        for (state, known) in self.rungs.iter_mut().zip(&before.rungs) {
            (state.broken, state.called_off) = (known.broken, known.called_off);
            state.busy = known.busy;
        }
        self.rescue.learn_from(&before.rescue);
        self.service.learn_from(&before.service);
        self.strained = before.strained;
        (self.seen_change, self.seen_rung) = (before.seen_change, before.seen_rung);
        (self.starting, self.first_reading) = (before.starting, before.first_reading);
        true
    }

    fn gates(&self, now: Timestamp, standing: &Standing) -> Vec<Gate> {
        self.spell_out_gates(now, standing)
    }

    fn ready_in(&self, now: Timestamp, standing: &Standing) -> Option<Duration> {
        if standing.rung == Rung::NONE { self.rescued_in(now, standing) } else { None }
    }

    fn promises(&self) -> Promises {
        let settings = &self.settings;
        let gains = self.rungs.windows(2).map(|pair| pair[1].quality - pair[0].quality);
        let least_gain = gains.fold(1.0, f64::min).max(f64::EPSILON);
        // In the end the age of the room alone opens the gate: where gain x age = the cost of losing it.
        let cost = 2.0 * settings.price.as_secs_f64() + settings.calm.as_secs_f64();
        let longest_load = self.rungs.iter().map(|rung| rung.load).max().unwrap_or_default();
        let rescue_waits = [
            settings.stabilization.longest().max(longest_load),
            settings.settle_limit,
            settings.stale_after,
        ];
        // The manager itself lets failed models rest.
        let most_rest = settings.manager.load_retry.saturating_mul(MOST_RETRIES_WAITED);
        let waits = [
            settings.stabilization.longest(),
            settings.reversal_window,
            crate::time::from_secs_f64(cost / least_gain),
            settings.settle_limit,
            settings.manager.switch_cooldown,
            settings.stale_after,
        ];
        Promises {
            window: Some(settings.stabilization.shortest()),
            no_reversal: false,
            upgrades_fit: true,
            relief_within: Some(settings.settle_limit + settings.sampling_interval * 2),
            recovery_within: Some(waits.into_iter().sum()),
            rescue_within: Some(rescue_waits.into_iter().sum()),
            retry_within: Some(self.broken_bounds().most + most_rest),
            decisions_count: true,
            ..Promises::default()
        }
    }
}

impl Proactive {
    /// Updates every estimator with the sample, decision or not.
    fn learn(&mut self, now: Timestamp, sample: &Sample, standing: &Standing) {
        let shortest = self.settings.stale_after;
        let gap = if standing.switching {
            // During a switch the machine is read more often than usual.
            self.rhythm.gap_before_extra(now, GAP_FACTOR, shortest)
        } else {
            self.rhythm.gap_before(now, GAP_FACTOR, shortest)
        };
        if let Some(gap) = gap {
            self.leave_out(gap);
        }
        self.first_reading.get_or_insert(now);
        self.pay_for_what_was_done(now, standing);
        self.notice_change(now, standing);
        self.risk.observe(now, sample);
        if let Some(space) = &sample.memory {
            self.memory_trend.observe(now, space.others);
        }
        let our_gpu = self.ladder.our_gpu(sample);
        if let Some((index, gpu)) = our_gpu
            && let Some(vram) = gpu.vram
        {
            // Another GPU's use is another series.
            if self.trended_gpu.replace(index) != Some(index) {
                self.vram_trend.reset();
            }
            self.vram_trend.observe(now, vram.others);
        }
        self.settle.observe(now, sample);
        let share = |space: Space| Percent::of(space.used(), space.total);
        let memory = sample.memory.map(share);
        // If half of the memory is available, the pressure has another cause.
        let is_tight = memory.is_none_or(|used| used >= HALF);
        self.last = LastSample {
            at: Some(now),
            memory: memory.filter(|_| self.settings.constrains(Resource::Memory)),
            vram: our_gpu
                .filter(|_| self.settings.constrains(Resource::Vram))
                .and_then(|(index, gpu)| Some((share(gpu.vram?), u8::try_from(index).ok()))),
            cpu: sample
                .cpu
                .map(|rate| rate.others)
                .filter(|_| self.settings.constrains(Resource::Cpu)),
            gpu: our_gpu
                .and_then(|(_, gpu)| gpu.utilization)
                .map(|rate| rate.others)
                .filter(|_| self.settings.constrains(Resource::Gpu)),
            pressure: sample
                .pressure
                .map(|pressure| pressure.memory_some)
                .filter(|_| is_tight && self.settings.constrains(Resource::Pressure)),
        };
        self.place_rungs(now, sample, standing);
    }

    /// Leaves out a time without samples: it was not good, and does not spoil what was seen before it.
    #[cold]
    fn leave_out(&mut self, gap: Duration) {
        self.memory_trend.reset();
        self.vram_trend.reset();
        for watch in [&mut self.cpu, &mut self.gpu, &mut self.pressure] {
            watch.reset();
        }
        let is_too_long = gap >= risk::horizon(&self.settings);
        for rung in &mut self.rungs {
            rung.fits_since = rung.fits_since.filter(|_| !is_too_long).map(|since| since + gap);
        }
    }

    /// Notices a switch that has completed since the last sample.
    fn notice_change(&mut self, now: Timestamp, standing: &Standing) {
        if standing.last_change != self.seen_change {
            self.settle.begin(standing.last_change.map_or(now, |change| change.at));
            self.service.forget(self.seen_rung);
            let is_first = self.seen_change.is_none();
            let up = standing.last_change.is_some_and(|change| change.up);
            if standing.rung == Rung::NONE {
                self.rescue.end(now);
            } else if self.seen_rung == Rung::NONE && !is_first {
                self.rescue.begin(now, standing.rung);
            }
            // The start ends with its climb, or with the first step down.
            self.starting &= is_first && up;
            for state in &mut self.rungs {
                state.was_wanted = false;
            }
            self.seen_change = standing.last_change;
            self.seen_rung = standing.rung;
            self.strained = self.strained.filter(|strained| standing.rung < strained.rung);
        }
        // A climb that was not worth it by then is an upgrade like any other.
        let start = self.settings.stabilization.longest() * START_IN_WINDOWS;
        self.starting &= standing.last_change.is_none_or(|change| now.since(change.at) < start);
        if !standing.switching {
            let good = self.settings.stabilization.longest();
            let since = standing.last_change.map_or(Timestamp::ZERO, |change| change.at);
            let serving = &mut self.rungs[usize::from(standing.rung.0)];
            serving.broken.heal(now, since, good);
            serving.called_off.heal(now, since, good);
        }
    }

    /// Forgets that switches found no idle moment once there is one.
    #[inline]
    fn note_idle_moment(&mut self, demand: &Demand) {
        // Whatever kept one away kept away the top one too.
        let is_any_awaited = self.rungs.last().is_some_and(|top| top.busy.is_in_force());
        if is_any_awaited && demand.running == 0 && demand.waiting == 0 {
            for state in &mut self.rungs {
                state.busy = Backoff::default();
            }
        }
    }

    /// Notes which rungs are wanted. This is kept when the demand is over, so that the wait that was reported still
    /// holds.
    #[inline]
    fn note_what_is_wanted(&mut self, now: Timestamp) {
        let wanted = self.service.climb_wanted(now);
        if wanted.is_empty() {
            return;
        }
        for (rung, state) in (0..).map(Rung).zip(&mut self.rungs) {
            state.was_wanted |= wanted.contains(rung);
        }
    }

    /// Notes for each rung since when it has fitted.
    #[inline]
    fn place_rungs(&mut self, now: Timestamp, sample: &Sample, standing: &Standing) {
        let is_empty = standing.rung == Rung::NONE && !standing.switching;
        for rung in 1..=self.ladder.top().0 {
            let fit = if is_empty {
                self.ladder.place_on_empty(sample, Rung(rung))
            } else {
                self.ladder.place(sample, Rung(rung))
            };
            let fits_beside = self.starting
                && standing.rung != Rung::NONE
                && self.ladder.place_beside(sample, Rung(rung), standing.rung).is_there();
            let state = &mut self.rungs[usize::from(rung)];
            // A large value: kept only where an upgrade may need it.
            if Rung(rung) > standing.rung {
                state.fit = Some(fit);
            }
            state.fits_beside = fits_beside;
            if fit.is_there() {
                state.fits_since.get_or_insert(now);
            } else {
                state.fits_since = None;
            }
        }
    }

    /// Returns the space that is over its line. While a switch is in progress, and until samples have settled after it,
    /// our own use is in transition: then only others' use plus the rung that the switch leads to counts, on its GPU if
    /// it has one, unless a space is in a critical shortage.
    fn overrun(&self, sample: &Sample, standing: &Standing) -> Option<Projection> {
        if !standing.switching && self.settle.is_settled() {
            return self.ladder.overrun(sample);
        }
        if !standing.switching
            && let Some(critical) = critical_overrun(sample, &self.settings)
        {
            return Some(critical);
        }
        let fit = match standing.gpu {
            Some(gpu) => self.ladder.place_on(sample, standing.rung, gpu),
            None => self.ladder.place(sample, standing.rung),
        };
        match fit {
            Fit::Short(short) => Some(short),
            Fit::Fits(_) | Fit::Unknown(_) => None,
        }
    }

    /// Steps down at once, to the highest rung that fits.
    #[cold]
    fn relieve_space(
        &mut self,
        over: Projection,
        sample: &Sample,
        standing: &Standing,
    ) -> Decision {
        let Projection { resource, gpu, projected: used, limit, total } = over;
        let reason = Reason::AboveDegradeLine { resource, gpu, used, limit };
        let to = self.ladder.highest_fitting_below(sample, standing.rung);
        let is_critical = used >= total.share(CRITICAL_SHARE);
        let urgency = if is_critical { Urgency::Critical } else { Urgency::Immediate };
        standing.down(to, urgency, reason)
    }

    /// Steps down before a confident rise fills a space, if it would be full before the step is complete.
    fn step_down_early(&self, sample: &Sample, standing: &Standing) -> Option<Decision> {
        if standing.rung == Rung::NONE || !self.settle.is_settled() {
            return None;
        }
        let is_high = |used: Percent| used >= self.settings.preventive_line;
        let memory = self.last.memory.filter(|&used| is_high(used)).and(sample.memory);
        let vram = self.last.vram.filter(|&(used, _)| is_high(used));
        // A space in which we hold nothing is for others to fill: a step down would give nothing back.
        let is_ours = |space: &Space| space.own > Bytes::ZERO;
        let spaces = [
            memory.map(|space| (ResourceKey::MEMORY, space, &self.memory_trend)),
            vram.and_then(|(_, gpu)| {
                let key = ResourceKey { resource: Resource::Vram, gpu };
                Some((key, *sample.space(key)?, &self.vram_trend))
            }),
        ];
        let mut ours = spaces.into_iter().flatten().filter(|(_, space, _)| is_ours(space));
        ours.find_map(|(key, space, trend)| {
            let slope = trend.slope();
            if slope <= 0.0 {
                return None;
            }
            let full_in = crate::time::from_secs_f64(space.free().get() as f64 / slope);
            let to = self.ladder.highest_fitting_below(sample, standing.rung);
            let [here, there] = [standing.rung, to].map(|rung| &self.rungs[usize::from(rung.0)]);
            let lead = here.unload + there.load + self.settings.sampling_interval;
            let ResourceKey { resource, gpu } = key;
            let reason = Reason::Exhaustion { resource, gpu, full_in, lead };
            (full_in < lead).then(|| standing.down(to, Urgency::Immediate, reason))
        })
    }

    /// Returns the rate that running requests suffer from, if one has been high for long and is not falling.
    ///
    /// A model suffers if it has a queue of its own or late replies; an idle model has neither, and one on a GPU does
    /// not need the processor.
    fn strain(&mut self, now: Timestamp, standing: &Standing, demand: &Demand) -> Option<Reason> {
        let on_gpu = self.ladder.need(standing.rung).vram > Bytes::ZERO;
        let LastSample { cpu, gpu, pressure, vram, .. } = self.last;
        let gpu_index = vram.and_then(|(_, index)| index);
        let cpu = self.cpu.observe(now, cpu.filter(|_| !on_gpu), None);
        let gpu = self.gpu.observe(now, gpu.filter(|_| on_gpu), gpu_index);
        let pressure = self.pressure.observe(now, pressure, None);
        let high = cpu.or(gpu).or(pressure);
        if high.is_some()
            && let Some(strained) = &mut self.strained
        {
            strained.last = now;
        }
        high.filter(|_| demand.waiting > 0 || demand.late > 0)
    }

    /// Steps one rung down, past those that have no place now, and never to none: an idle small model takes no
    /// processor time. The reason is remembered when the rung is left.
    #[cold]
    fn step_down_one(&mut self, reason: Reason, sample: &Sample, standing: &Standing) -> Decision {
        let from = standing.rung;
        let to = match self.ladder.highest_fitting_below(sample, from) {
            Rung::NONE => Rung(from.0 - 1),
            fitting => fitting,
        };
        self.proposed = Some(Proposed { from, to, reason });
        standing.down(to, Urgency::Graceful, reason)
    }

    /// Remembers why a rung was left, for a rate or for its service. A step that was decided but not carried out,
    /// because of an order or the manager's cooldown, is not counted.
    fn pay_for_what_was_done(&mut self, now: Timestamp, standing: &Standing) {
        let Some(Proposed { from, to, reason }) = self.proposed.take() else { return };
        if standing.rung != to {
            return;
        }
        match reason {
            Reason::SustainedLoad { .. } => {
                self.strained = Some(Strained { rung: from, last: now });
                for watch in [&mut self.cpu, &mut self.gpu, &mut self.pressure] {
                    watch.reset();
                }
            }
            Reason::Slow { measured, .. } => {
                self.service.forget(from);
                self.service.remember_slow(now, from, measured);
            }
            Reason::Failing { .. } => {
                self.service.forget(from);
                self.broke(now, from);
            }
            _ => {}
        }
    }
}

/// Rates cause no step down below this rung.
pub(super) const LOWEST_LOADED: Rung = Rung(1);

/// Below this use of memory, lasting pressure has another cause.
const HALF: Percent = Percent::new(50);

/// An interval this many times the usual one is a gap. Three allows for two lost readings in a row.
const GAP_FACTOR: u64 = 3;

/// The longest rest that the manager gives a failing model, in waits after the first failure.
const MOST_RETRIES_WAITED: u32 = 32;

/// The start lasts two stabilization windows from the first load on: one for a climb that waits for it, and one more.
const START_IN_WINDOWS: u32 = 2;
