//! The policies that ours is judged against. They are models of ideas, not copies of anybody's code.

use crate::catalog::{Catalog, Rung};
use crate::decision::{Decision, Reason, Urgency};
use crate::policy::fit::{Footprints, Growth, shares};
use crate::policy::{Observation, Policy, named_rung};
use crate::sample::Resource;
use crate::settings::Settings;
use crate::time::Timestamp;
use crate::units::{Bytes, Percent};

/// Twenty lines that project: down at once above the degrade line, up when the projected use has fitted for the
/// stabilization window and the last change is as long ago.
#[derive(Debug)]
pub(super) struct Projecting {
    settings: Settings,
    ladder: Footprints,
    fits_since: Vec<Option<Timestamp>>,
}

impl Projecting {
    pub(super) fn new(settings: &Settings, catalog: &Catalog) -> Self {
        let ladder = Footprints::new(settings, catalog);
        let fits_since = vec![None; usize::from(ladder.top().0) + 1];
        Self { settings: settings.clone(), ladder, fits_since }
    }
}

impl Policy for Projecting {
    fn observe(&mut self, now: Timestamp, seen: &Observation<'_>) -> Decision {
        let Observation { sample, standing, .. } = *seen;
        let up = |total| self.settings.upgrade_limit(total);
        let down = |total| self.settings.degrade_limit(total);
        for rung in 1..=self.ladder.top().0 {
            let fits = self
                .ladder
                .project(sample, Rung(rung), Growth::default(), up)
                .is_some_and(|p| p.fits());
            let since = &mut self.fits_since[usize::from(rung)];
            *since = fits.then(|| since.unwrap_or(now));
        }
        if standing.switching {
            return standing.hold(Reason::Switching);
        }
        if let Some((over, _)) = self.ladder.overrun(sample, down) {
            let reason = Reason::AboveDegradeLine {
                resource: over.resource,
                gpu: over.gpu,
                used: over.projected,
                limit: over.limit,
            };
            let to = (1..standing.rung.0).rev().map(Rung).find(|&lower| {
                self.ladder.project(sample, lower, Growth::default(), up).is_none_or(|p| p.fits())
            });
            return match standing.rung {
                Rung::NONE => standing.hold(reason),
                _ => {
                    let to = to.unwrap_or(Rung::NONE);
                    standing.down(to, Urgency::Immediate, reason)
                }
            };
        }
        let window = self.settings.stabilization;
        let rested = standing.last_change.is_none_or(|change| now.since(change.at) >= window);
        for rung in (standing.rung.0 + 1..=self.ladder.top().0).rev() {
            if let Some(since) = self.fits_since[usize::from(rung)]
                && now.since(since) >= window
                && rested
            {
                let next = self
                    .ladder
                    .project(sample, Rung(rung), Growth::default(), up)
                    .expect("it has just been found to fit");
                let reason = Reason::Room {
                    resource: next.resource,
                    gpu: next.gpu,
                    projected: next.projected,
                    limit: next.limit,
                    good_for: now.since(since),
                };
                return standing.up(Rung(rung), reason);
            }
        }
        standing.hold(Reason::AtTop)
    }
}

/// A model of the original Python implementation, with the defects that its source shows: it looks at present
/// use only (no projection), steps one rung up when all is below the upgrade line for the window, one rung
/// down at every reading above the degrade line (no settling), and counts its cool-down from time zero.
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
    fn observe(&mut self, now: Timestamp, seen: &Observation<'_>) -> Decision {
        let Observation { sample, standing, .. } = *seen;
        // Its GPU readings are another of its defects: no threshold looks at them. Pressure it does not read.
        let shares = Resource::ALL.into_iter().zip(shares(&self.settings, sample, None));
        let known = shares.filter_map(|(resource, share)| Some((resource, share?)));
        let Some((resource, used)) = known
            .filter(|&(resource, _)| resource != Resource::Pressure)
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
                high_for: std::time::Duration::ZERO,
            };
            let to = Rung(standing.rung.0 - 1);
            return standing.down(to, Urgency::Immediate, reason);
        }
        let window = self.settings.stabilization;
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
            good_for: std::time::Duration::ZERO,
        };
        standing.up(self.rung, reason)
    }
}

/// The original's constants: upgrade below 80 %, degrade above 90 %, whatever the machine.
const ORIGINAL_UPGRADE_LINE: Percent = Percent::new(80);
const ORIGINAL_DEGRADE_LINE: Percent = Percent::new(90);
