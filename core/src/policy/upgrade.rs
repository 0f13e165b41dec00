//! The upgrades of the proactive policy: what must hold before a larger model is loaded.

use std::time::Duration;

use crate::catalog::Rung;
use crate::decision::{Decision, Odds, Reason};
use crate::place::{Fit, Place, Projection};
use crate::policy::backoff::Bounds;
use crate::policy::proactive::{LOWEST_LOADED, LastSample, Proactive};
use crate::policy::rescue::break_even;
use crate::policy::{Change, Standing, room_reason};
use crate::sample::{Resource, ResourceKey};
use crate::time::{Timestamp, left};
use crate::units::Percent;

impl Proactive {
    /// Steps up to the highest rung whose gates are open.
    pub(super) fn consider_upgrade(&self, now: Timestamp, standing: &Standing) -> Decision {
        if standing.rung >= self.ladder.top() {
            return standing.hold(Reason::AtTop);
        }
        if standing.rung == Rung::NONE {
            return self.consider_rescue(now, standing);
        }
        if !self.settle.is_settled()
            && let Some(change) = standing.last_change
        {
            return standing.hold(Reason::Settling { since: now.since(change.at) });
        }
        // The objection to the highest rung that fits or, if none does, to the next rung.
        let mut obstacle = None;
        for to in (standing.rung.0 + 1..=self.ladder.top().0).rev().map(Rung) {
            match self.judge(now, standing, to) {
                Ok(reason) => return standing.up(to, reason),
                Err(reason) if self.room(now, to).is_some() => {
                    obstacle = obstacle.or(Some(reason));
                }
                Err(_) => {}
            }
        }
        let next = Rung(standing.rung.0 + 1);
        standing.hold(obstacle.unwrap_or_else(|| self.why_not(next)))
    }

    /// Loads the smallest rung that fits once it has fitted for as long as a rescue waits, or a larger one that would be
    /// ready nearly as soon and is worth its risk.
    fn consider_rescue(&self, now: Timestamp, standing: &Standing) -> Decision {
        let wanted = self.service.climb_wanted(now);
        let Some(smallest) = self.smallest_that_fits(now) else {
            return standing.hold(self.why_not(LOWEST_LOADED));
        };
        if let Some(remaining) =
            left(self.window(standing, smallest), self.rescue_age(now, smallest))
        {
            return standing.hold(Reason::Window { to: smallest, remaining });
        }
        let larger = (smallest.0 + 1..=self.ladder.top().0).rev().map(Rung).find_map(|rung| {
            let (place, age) = self.room(now, rung)?;
            let (_, odds) = self.odds(now, &place, Rung::NONE, rung);
            let is_open = (wanted.is_empty() || wanted.contains(rung))
                && self.rescue.is_ready_with(rung, smallest)
                && self.broken_remaining(now, rung).is_none()
                && odds.are_good();
            is_open.then(|| (rung, room_reason(&place, age, Some(odds))))
        });
        let (to, reason) = larger.unwrap_or_else(|| {
            let (place, age) = self.room(now, smallest).expect("it was found to fit");
            (smallest, room_reason(&place, age, None))
        });
        standing.up(to, reason)
    }

    /// Returns how soon a rescue would be complete: what is left of its wait, up to the sample that ends it, and the
    /// load.
    pub(super) fn rescued_in(&self, now: Timestamp, standing: &Standing) -> Option<Duration> {
        let rung = self.smallest_that_fits(now)?;
        let wait =
            left(self.window(standing, rung), self.rescue_age(now, rung)).unwrap_or_default();
        let load = self.rungs[usize::from(rung.0)].load;
        Some(wait + self.settings.sampling_interval + load)
    }

    /// Returns why an upgrade between rungs that serve is right, or the objection to it.
    fn judge(&self, now: Timestamp, standing: &Standing, to: Rung) -> Result<Reason, Reason> {
        let Some((place, age)) = self.room(now, to) else { return Err(self.why_not(to)) };
        if self.service.would_not_serve(now, to) {
            return Err(Reason::WouldNotServe { to });
        }
        let mut uses = self.uses_before_an_upgrade(standing.rung, to);
        if let Some((key, used, line)) = uses.find(|&(_, used, line)| used >= line) {
            let ResourceKey { resource, gpu } = key;
            return Err(Reason::AboveUpgradeLine { resource, gpu, used, line });
        }
        if let Some((predicted, limit)) = self.service.would_be_slow(now, standing.rung, to) {
            return Err(Reason::WouldBeSlow { to, predicted, limit });
        }
        if let Some(remaining) = self.broken_remaining(now, to) {
            return Err(Reason::Backoff { to, remaining });
        }
        if let Some(remaining) = left(self.window(standing, to), self.good_for(now, to)) {
            return Err(Reason::Window { to, remaining });
        }
        if let Some(change) = standing.last_change
            && let Some(remaining) =
                left(self.cooldown(now, change, standing, to), now.since(change.at))
        {
            return Err(Reason::Cooldown { to, remaining });
        }
        let (space, odds) = self.odds(now, &place, standing.rung, to);
        if odds.are_good() {
            Ok(room_reason(&place, age, Some(odds)))
        } else {
            let ResourceKey { resource, gpu } = space;
            Err(Reason::TooRisky { to, resource, gpu, good_for: age, odds })
        }
    }

    /// Returns the rung that sets the pace while nothing is loaded: the smallest that fits, preferring those that can
    /// serve what waits.
    pub(super) fn smallest_that_fits(&self, now: Timestamp) -> Option<Rung> {
        let fits = |&rung: &Rung| self.rungs[usize::from(rung.0)].fit.is_some_and(Fit::is_there);
        let wanted = self.service.climb_wanted(now);
        let is_sound = |&rung: &Rung| self.broken_remaining(now, rung).is_none();
        let mut fitting = (1..=self.ladder.top().0).map(Rung).filter(fits);
        let can_serve = |rung: &Rung| wanted.contains(*rung) && is_sound(rung);
        fitting.clone().find(can_serve).or_else(|| fitting.next())
    }

    /// Returns where a rung fits, and for how long it has fitted.
    fn room(&self, now: Timestamp, rung: Rung) -> Option<(Place, Duration)> {
        let place = self.rungs[usize::from(rung.0)].fit?.place()?;
        Some((place, self.age(now, rung)))
    }

    fn age(&self, now: Timestamp, rung: Rung) -> Duration {
        let since = self.rungs[usize::from(rung.0)].fits_since;
        since.map(|since| now.since(since)).unwrap_or_default()
    }

    /// Returns how long a rung has fitted since a rescue was last lost: the cause of that loss may still be there.
    pub(super) fn rescue_age(&self, now: Timestamp, rung: Rung) -> Duration {
        let age = self.age(now, rung);
        self.rescue.lost_at().map_or(age, |lost| age.min(now.since(lost)))
    }

    /// Returns how long conditions have been good for a rung: it fits, and the rate for which it was left is not high.
    pub(super) fn good_for(&self, now: Timestamp, rung: Rung) -> Duration {
        let age = self.age(now, rung);
        let strained = self.strained.filter(|strained| strained.rung <= rung);
        strained.map_or(age, |strained| age.min(now.since(strained.last)))
    }

    /// Returns how much a change raises quality, as a share of one.
    fn gain(&self, from: Rung, to: Rung) -> f64 {
        let [from, to] = [from, to].map(|rung| self.rungs[usize::from(rung.0)].quality);
        to - from
    }

    /// Returns what keeps a rung from fitting.
    fn why_not(&self, to: Rung) -> Reason {
        match self.rungs[usize::from(to.0)].fit {
            Some(Fit::Short(Projection { resource, gpu, projected, limit, .. })) => {
                Reason::WouldNotFit { to, resource, gpu, projected, limit }
            }
            Some(Fit::Unknown(ResourceKey { resource, gpu })) => {
                Reason::NotRead { to, resource, gpu }
            }
            Some(Fit::Fits(_)) | None => Reason::NoData,
        }
    }

    /// Returns what must be below its line before an upgrade: the use of the spaces that the higher rung takes more of,
    /// and the pressure on main memory.
    pub(super) fn uses_before_an_upgrade(
        &self,
        from: Rung,
        to: Rung,
    ) -> impl Iterator<Item = (ResourceKey, Percent, Percent)> {
        let [from, to] = [from, to].map(|rung| self.ladder.need(rung));
        let takes_memory = to.ram > from.ram;
        let LastSample { memory, vram, pressure, .. } = self.last;
        let (line, pressure_line) =
            (self.settings.upgrade_line, self.settings.pressure_upgrade_line);
        let of = |resource, gpu, used, line| Some((ResourceKey { resource, gpu }, used?, line));
        let memory = memory.filter(|_| takes_memory);
        let (vram, gpu) = vram.filter(|_| to.vram > from.vram).unzip();
        let pressure = pressure.filter(|_| takes_memory);
        [
            of(Resource::Memory, None, memory, line),
            of(Resource::Vram, gpu.flatten(), vram, line),
            of(Resource::Pressure, None, pressure, pressure_line),
        ]
        .into_iter()
        .flatten()
    }

    /// Returns how long a rung must have fitted.
    pub(super) fn window(&self, standing: &Standing, to: Rung) -> Duration {
        let is_first = standing.last_change.is_none() && self.rescue.lost_at().is_none();
        if is_first || self.climbs_at_once(standing, to) {
            Duration::ZERO
        } else if standing.rung == Rung::NONE {
            self.rescue.wait(to)
        } else {
            self.stabilization(standing.rung, to)
        }
    }

    /// Returns how long after the last change an upgrade between rungs that serve must wait: for the window and, after
    /// a step down, until the end of the reversal window if the gain until then is not worth the charge for a return.
    pub(super) fn cooldown(
        &self,
        now: Timestamp,
        change: Change,
        standing: &Standing,
        to: Rung,
    ) -> Duration {
        if self.climbs_at_once(standing, to) {
            return Duration::ZERO;
        }
        let window =
            self.stabilization(standing.rung, to).max(self.settings.manager.switch_cooldown);
        // The reported wait must be right at the first sample after it.
        let asked = now.since(change.at).max(window + self.settings.sampling_interval);
        let Some(left) = left(self.settings.reversal_window, asked) else {
            return window;
        };
        let earned = self.gain(standing.rung, to) * left.as_secs_f64();
        let is_worth_it = earned >= RETURN_SHARE * self.settings.calm.as_secs_f64();
        let was_wanted = self.rungs[usize::from(to.0)].was_wanted;
        if change.up || is_worth_it || was_wanted {
            window
        } else {
            window.max(self.settings.reversal_window)
        }
    }

    fn stabilization(&self, from: Rung, to: Rung) -> Duration {
        self.settings.stabilization.wait(break_even(&self.settings, self.gain(from, to)))
    }

    /// Returns whether a rung is loaded beside the first one as a part of the start, when no request has to wait for
    /// it. It must have fitted since the first one was loaded; room that appeared later may be lost again, and waits
    /// for its window.
    fn climbs_at_once(&self, standing: &Standing, to: Rung) -> bool {
        let state = &self.rungs[usize::from(to.0)];
        let changed_and_fits = standing.last_change.zip(state.fits_since);
        // What was loaded before the first sample counts from that sample.
        let first_reading = self.first_reading.unwrap_or_default();
        self.starting
            && state.fits_beside
            && changed_and_fits.is_some_and(|(first, since)| since <= first.at.max(first_reading))
    }

    fn odds(&self, now: Timestamp, place: &Place, from: Rung, to: Rung) -> (ResourceKey, Odds) {
        let is_charged = !self.starting && !self.is_wanted(now, to);
        self.risk.odds(place, self.gain(from, to), self.age(now, to), is_charged)
    }

    /// Returns whether something is requested that `to` can serve and the present rung cannot: until then it is
    /// refused, which is worse than a change too many.
    fn is_wanted(&self, now: Timestamp, to: Rung) -> bool {
        self.service.climb_wanted(now).contains(to)
    }

    /// Returns the odds of a rung, if it fits and they are weighed.
    pub(super) fn odds_of(&self, now: Timestamp, standing: &Standing, to: Rung) -> Option<Odds> {
        let (place, _) = self.room(now, to)?;
        Some(self.odds(now, &place, standing.rung, to).1)
    }

    fn broken_remaining(&self, now: Timestamp, rung: Rung) -> Option<Duration> {
        let (waited, wait) = self.broken_wait(now, rung)?;
        left(wait, waited)
    }

    /// Returns how much time has passed since a model of a rung broke or a switch to it was called off, and how much
    /// must pass.
    pub(super) fn broken_wait(&self, now: Timestamp, rung: Rung) -> Option<(Duration, Duration)> {
        let state = &self.rungs[usize::from(rung.0)];
        let called_off = self.called_off_bounds();
        let waits = [
            (&state.broken, self.broken_bounds()),
            (&state.called_off, called_off),
            (&state.busy, called_off),
        ];
        let waits = waits.into_iter().filter_map(|(backoff, bounds)| {
            Some((now.since(backoff.since()), backoff.wait(bounds)?))
        });
        // The wait that ends last.
        waits.max_by_key(|&(waited, wait)| wait.saturating_sub(waited))
    }

    /// After a switch that was called off nothing is broken: it is tried again after one window, and then less and less
    /// often; one that found no idle moment, when there is one.
    pub(super) fn called_off_bounds(&self) -> Bounds {
        let Bounds { least, most } = self.broken_bounds();
        Bounds { least: least / 2, most }
    }

    pub(super) fn broken_bounds(&self) -> Bounds {
        let least = self.settings.stabilization.longest();
        Bounds { least, most: least.saturating_mul(MOST_BROKEN_WAIT) }
    }
}

/// The part of `calm` that an early return must earn in what is left of the reversal window: a little more than a
/// third, so that with the defaults a quarter of the quality is not regained before the window's end, and half of it
/// after five to ten minutes. Chosen on the same recordings as the risk.
const RETURN_SHARE: f64 = 0.334;

/// The longest wait after a model broke, in stabilization windows: two hours by default.
const MOST_BROKEN_WAIT: u32 = 24;
