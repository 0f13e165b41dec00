//! The policies that ours is compared with. They are models of ideas, not copies of code.

use std::time::Duration;

use crate::catalog::{Catalog, Rung};
use crate::decision::{Decision, Reason, Urgency};
use crate::place::{Fit, Ladder, Place, Projection};
use crate::policy::{Observation, Policy, named_rung};
use crate::sample::{Resource, ResourceKey, Sample};
use crate::settings::Settings;
use crate::time::Timestamp;
use crate::units::{Bytes, Percent};

/// Twenty lines that project: down at once above the degrade line; up when the projected use has fitted, with a margin,
/// for the stabilization window and the last change is as long ago. The first load does not wait.
#[derive(Debug)]
pub(super) struct Projecting {
    settings: Settings,
    ladder: Ladder,
    fits_since: Vec<Option<Timestamp>>,
}

impl Projecting {
    pub(super) fn new(settings: &Settings, catalog: &Catalog) -> Self {
        let ladder = Ladder::new(settings, catalog);
        let fits_since = vec![None; usize::from(ladder.top().0) + 1];
        Self { settings: settings.clone(), ladder, fits_since }
    }

    /// Returns whether a rung fits with the margin.
    fn fit(&self, sample: &Sample, rung: Rung) -> Fit {
        let limit = |total: Bytes| self.settings.degrade_limit(total) - total.share(MARGIN);
        self.ladder.place_under(sample, rung, limit)
    }

    fn place(&self, sample: &Sample, rung: Rung) -> Option<Place> {
        self.fit(sample, rung).place()
    }

    /// Returns what the next rung waits for.
    fn why_not(&self, now: Timestamp, seen: &Observation<'_>, window: Duration) -> Reason {
        let Observation { sample, standing, .. } = *seen;
        let to = Rung(standing.rung.0 + 1);
        match self.fit(sample, to) {
            Fit::Short(Projection { resource, gpu, projected, limit, .. }) => {
                Reason::WouldNotFit { to, resource, gpu, projected, limit }
            }
            Fit::Unknown(ResourceKey { resource, gpu }) => Reason::NotRead { to, resource, gpu },
            Fit::Fits(_) => {
                let since = self.fits_since[usize::from(to.0)].unwrap_or(now);
                let since = standing.last_change.map_or(since, |change| since.max(change.at));
                Reason::Window { to, remaining: window.saturating_sub(now.since(since)) }
            }
        }
    }
}

impl Policy for Projecting {
    fn observe(&mut self, now: Timestamp, seen: &Observation<'_>) -> Decision {
        let Observation { sample, standing, .. } = *seen;
        for rung in 1..=self.ladder.top().0 {
            let fits = self.place(sample, Rung(rung)).is_some();
            let since = &mut self.fits_since[usize::from(rung)];
            *since = fits.then(|| since.unwrap_or(now));
        }
        if standing.switching {
            return standing.hold(Reason::Switching);
        }
        if standing.rung > Rung::NONE
            && let Some(Projection { resource, gpu, projected: used, limit, .. }) =
                self.ladder.overrun(sample)
        {
            let reason = Reason::AboveDegradeLine { resource, gpu, used, limit };
            let fits = |&lower: &Rung| self.place(sample, lower).is_some();
            let to = (1..standing.rung.0).rev().map(Rung).find(fits).unwrap_or(Rung::NONE);
            return standing.down(to, Urgency::Immediate, reason);
        }
        let window = match standing.last_change {
            None => Duration::ZERO,
            Some(_) => self.settings.stabilization.longest(),
        };
        let rested = standing.last_change.is_none_or(|change| now.since(change.at) >= window);
        for rung in (standing.rung.0 + 1..=self.ladder.top().0).rev().map(Rung) {
            if let Some(since) = self.fits_since[usize::from(rung.0)]
                && now.since(since) >= window
                && rested
            {
                let place = self.place(sample, rung).expect("it has just been found to fit");
                return standing.up(rung, super::room_reason(&place, now.since(since), None));
            }
        }
        if standing.rung >= self.ladder.top() {
            return standing.hold(Reason::AtTop);
        }
        standing.hold(self.why_not(now, seen, window))
    }
}

/// A model of the original Python implementation, with the defects in its source: it looks at present use only (no
/// projection), steps one rung up when all is below the upgrade line for the window, one rung down at every sample
/// above the degrade line (no settling), and counts its cool-down from time zero.
#[derive(Debug)]
pub(super) struct Original {
    settings: Settings,
    top: Rung,
    start: Rung,
    good_since: Option<Timestamp>,
    last_change: Timestamp,
}

impl Original {
    pub(super) fn new(settings: &Settings, catalog: &Catalog) -> Self {
        let start = named_rung(catalog, settings.manager.start.as_ref()).unwrap_or(Rung(1));
        Self {
            settings: settings.clone(),
            top: catalog.top(),
            start,
            good_since: None,
            last_change: Timestamp::ZERO,
        }
    }
}

impl Policy for Original {
    fn is_blind(&self) -> bool {
        true
    }

    fn observe(&mut self, now: Timestamp, seen: &Observation<'_>) -> Decision {
        let Observation { sample, standing, .. } = *seen;
        // Its GPU readings are another of its defects: no threshold uses them. It does not read pressure.
        let memory = sample.memory.map(|space| Percent::of(space.used(), space.total));
        let shares =
            [(Resource::Memory, memory), (Resource::Cpu, sample.cpu.map(|rate| rate.others))];
        let known = shares.into_iter().filter_map(|(resource, share)| Some((resource, share?)));
        let Some((resource, used)) = known
            .filter(|&(resource, _)| self.settings.constrains(resource))
            .max_by_key(|&(_, share)| share)
        else {
            return standing.hold(Reason::NoData);
        };
        let (up, down) = (ORIGINAL_UPGRADE_LINE, ORIGINAL_DEGRADE_LINE);
        if standing.rung == Rung::NONE {
            // The original always has a model loaded.
            let reason = Reason::AboveUpgradeLine { resource, gpu: None, used, line: up };
            return standing.up(self.start, reason);
        }
        if used < up {
            self.good_since.get_or_insert(now);
        } else {
            self.good_since = None;
        }
        if used > down && standing.rung > Rung(1) {
            self.last_change = now;
            let reason = Reason::SustainedLoad {
                resource,
                gpu: None,
                used,
                line: down,
                high_for: Duration::ZERO,
            };
            let to = Rung(standing.rung.0 - 1);
            return standing.down(to, Urgency::Immediate, reason);
        }
        let window = self.settings.stabilization.longest();
        if let Some(since) = self.good_since
            && standing.rung < self.top
            && now.since(since) >= window
            && now.since(self.last_change) >= window
        {
            self.last_change = now;
            let space = sample.memory.unwrap_or_default();
            let reason = Reason::Room {
                resource: Resource::Memory,
                gpu: None,
                projected: space.used(),
                limit: space.total.share(up),
                good_for: now.since(since),
                odds: None,
            };
            return standing.up(Rung(standing.rung.0 + 1), reason);
        }
        standing.hold(Reason::AboveUpgradeLine { resource, gpu: None, used, line: up })
    }
}

/// Loads one rung and stays.
#[derive(Debug)]
pub(super) struct Fixed {
    rung: Rung,
}

impl Fixed {
    pub(super) fn new(settings: &Settings, catalog: &Catalog) -> Self {
        let rung = named_rung(catalog, settings.manager.start.as_ref()).unwrap_or(catalog.top());
        Self { rung }
    }
}

impl Policy for Fixed {
    fn observe(&mut self, _now: Timestamp, seen: &Observation<'_>) -> Decision {
        let Observation { sample, standing, .. } = *seen;
        if standing.switching || standing.rung == self.rung {
            return standing.hold(Reason::Fixed);
        }
        let space = sample.memory.unwrap_or_default();
        let reason = Reason::Room {
            resource: Resource::Memory,
            gpu: None,
            projected: space.used(),
            limit: Bytes::MAX,
            good_for: Duration::ZERO,
            odds: None,
        };
        standing.up(self.rung, reason)
    }
}

/// How far below the degrade line the use after an upgrade must be projected: the original specification's value, which
/// its implementation never reads.
const MARGIN: Percent = Percent::new(5);

/// The original's constants: upgrade below 80 %, degrade above 90 %, whatever the machine.
const ORIGINAL_UPGRADE_LINE: Percent = Percent::new(80);
const ORIGINAL_DEGRADE_LINE: Percent = Percent::new(90);
