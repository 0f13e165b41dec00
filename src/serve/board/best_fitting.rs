//! How long something smaller served than would have fitted: by each reading, with everything of ours gone first, as a policy
//! looks at it. Companions stay.

use std::time::Duration;

use tiershift_core::catalog::{Catalog, Rung};
use tiershift_core::model::Model;
use tiershift_core::place::{Ladder, Resident, share_of};
use tiershift_core::sample::Sample;
use tiershift_core::settings::Settings;
use tiershift_core::time::Timestamp;
use tiershift_core::units::Bytes;

/// The account of a run.
#[derive(Debug)]
pub(super) struct BestFitting {
    ladder: Ladder,
    settings: Settings,
    /// By the last reading.
    rung: Rung,
    /// Since when it is not served.
    since: Option<Timestamp>,
    before: Duration,
}

impl BestFitting {
    pub(super) fn new(settings: &Settings, catalog: &Catalog) -> Self {
        Self {
            ladder: Ladder::new(settings, catalog),
            settings: settings.clone(),
            rung: Rung::NONE,
            since: None,
            before: Duration::ZERO,
        }
    }

    pub(super) fn set_settings(&mut self, settings: &Settings, catalog: &Catalog) {
        self.ladder = Ladder::new(settings, catalog);
        self.settings = settings.clone();
    }

    /// Takes a reading, made while this rung serves with `model` beside these companions.
    pub(super) fn read<'a>(
        &mut self,
        now: Timestamp,
        sample: &Sample,
        (serving, model): (Rung, Option<&Model>),
        companions: impl Iterator<Item = &'a Model>,
    ) {
        let (mut mine, mut rest) = (Resident::default(), Resident::default());
        model.into_iter().for_each(|model| mine.add(model.footprint(), gpu_of(model)));
        companions.for_each(|model| rest.add(model.footprint(), gpu_of(model)));
        let limit_of = |total| self.settings.degrade_limit(total);
        let sample = share_of(sample, &mine, &rest, limit_of);
        let above = Rung(self.ladder.top().0.saturating_add(1));
        self.rung = self.ladder.highest_fitting_below(&sample, above);
        self.serve(now, serving);
    }

    /// This rung serves from now on.
    pub(super) fn serve(&mut self, now: Timestamp, serving: Rung) {
        self.before = self.below(now);
        self.since = (serving < self.rung).then_some(now);
    }

    /// Nothing is wanted any more.
    pub(super) fn stop(&mut self, now: Timestamp) {
        self.before = self.below(now);
        (self.since, self.rung) = (None, Rung::NONE);
    }

    /// Returns the highest rung that fitted by the last reading.
    pub(super) fn rung(&self) -> Rung {
        self.rung
    }

    /// Returns the time until now.
    pub(super) fn below(&self, now: Timestamp) -> Duration {
        self.before + self.since.map(|since| now.since(since)).unwrap_or_default()
    }
}

/// Where several have a GPU each, nobody says which: the first, as one alone has it.
fn gpu_of(model: &Model) -> Option<u8> {
    (model.vram > Bytes::ZERO).then_some(0)
}
