//! How long something smaller served than would have fitted: by each sample, as if all our models were unloaded first,
//! as a policy judges it. Companions stay.

use std::time::Duration;

use tiershift_core::catalog::{Catalog, Rung};
use tiershift_core::place::{Ladder, Resident, share_of};
use tiershift_core::sample::Sample;
use tiershift_core::settings::Settings;
use tiershift_core::time::Timestamp;

/// The accounting of a run.
#[derive(Debug)]
pub(super) struct BestFitting {
    ladder: Ladder,
    settings: Settings,
    /// By the last sample.
    rung: Rung,
    /// Since when it has not been served.
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

    /// Takes a sample, made while this rung serves with what is `mine`, beside companions that hold the `rest`.
    pub(super) fn read(
        &mut self,
        now: Timestamp,
        sample: &Sample,
        serving: Rung,
        (mine, rest): (Resident, Resident),
    ) {
        let limit_of = |total| self.settings.degrade_limit(total);
        let sample = share_of(sample, &mine, &rest, limit_of);
        let above = Rung(self.ladder.top().0.saturating_add(1));
        self.rung = self.ladder.highest_fitting_below(&sample, above);
        self.serve(now, serving);
    }

    /// Notes that this rung serves from now on.
    pub(super) fn serve(&mut self, now: Timestamp, serving: Rung) {
        self.before = self.below(now);
        self.since = (serving < self.rung).then_some(now);
    }

    /// Notes that no model is wanted any more.
    pub(super) fn stop(&mut self, now: Timestamp) {
        self.before = self.below(now);
        (self.since, self.rung) = (None, Rung::NONE);
    }

    /// Returns the highest rung that fitted by the last sample.
    pub(super) fn rung(&self) -> Rung {
        self.rung
    }

    /// Returns the time until now.
    pub(super) fn below(&self, now: Timestamp) -> Duration {
        self.before + self.since.map(|since| now.since(since)).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use tiershift_core::catalog::RawCatalog;
    use tiershift_core::machine::MachineClass;
    use tiershift_core::model::Footprint;
    use tiershift_core::sample::{GpuSample, Space};
    use tiershift_core::settings::RawSettings;
    use tiershift_core::units::Bytes;

    use super::*;

    #[test]
    fn a_companion_takes_room_on_the_gpu_that_it_is_on() {
        let table = |id: &str, quality: u8, vram: u8| {
            format!(
                "[[model]]\nid = '{id}'\ntier = '{id}'\nquality = '{quality}%'\nvram = '{vram}GiB'\nload-warm = '1s'\n\
                 load-cold = '1s'\nprefill-tokens-per-second = 100.0\ndecode-tokens-per-second = 10.0\n"
            )
        };
        let raw: RawCatalog =
            toml::from_str(&(table("small", 50, 2) + &table("large", 100, 20))).unwrap();
        let catalog = Catalog::try_from(raw).unwrap();
        let settings = Settings::new(RawSettings::default(), MachineClass::HighEnd).unwrap();
        let gpu = |others, own| GpuSample {
            vram: Some(Space {
                total: Bytes::from_gib(24),
                others: Bytes::from_gib(others),
                own: Bytes::from_gib(own),
            }),
            ..GpuSample::default()
        };
        let sample = Sample { gpus: vec![gpu(10, 0), gpu(0, 4)], ..Sample::default() };
        let mut rest = Resident::default();
        rest.add(Footprint { ram: Bytes::ZERO, vram: Bytes::from_gib(4) }, Some(1));
        let mut account = BestFitting::new(&settings, &catalog);
        account.read(Timestamp::ZERO, &sample, Rung(1), (Resident::default(), rest));
        assert_eq!(account.rung(), Rung(1), "20 of 24 GiB are no room beside 4");
    }
}
