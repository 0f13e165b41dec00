//! Distinguishes a sustained high rate from a spike (after oomd's `pressure_rising_beyond`).
//!
//! A rate resource is an emergency only if it has been above its line for a while, still is, and is not
//! falling fast.

use std::time::Duration;

use crate::decision::Reason;
use crate::sample::Resource;
use crate::settings::Settings;
use crate::time::Timestamp;
use crate::units::Percent;

/// Watches one rate resource.
#[derive(Clone, Debug)]
pub(crate) struct Sustained {
    resource: Resource,
    line: Percent,
    /// How long the rate must have been above its line.
    least: Duration,
    /// Below this share of its mean while high, it counts as falling.
    fall_share: Percent,
    high_since: Option<Timestamp>,
    /// Mean over the readings since `high_since`, in thousandths of a percent.
    mean_milli: u64,
    readings: u64,
}

impl Sustained {
    pub(crate) fn new(settings: &Settings, resource: Resource, line: Percent) -> Self {
        Self {
            resource,
            line,
            least: settings.rate_sustained,
            fall_share: settings.rate_fall_share,
            high_since: None,
            mean_milli: 0,
            readings: 0,
        }
    }

    /// Takes a reading, if there is one, of this GPU if the resource belongs to a GPU. Returns the reason to step down,
    /// if the rate has been above its line for long enough and is not falling.
    pub(crate) fn observe(
        &mut self,
        now: Timestamp,
        used: Option<Percent>,
        gpu: Option<u8>,
    ) -> Option<Reason> {
        let used = used?;
        if used < self.line {
            self.reset();
            return None;
        }
        let since = *self.high_since.get_or_insert(now);
        self.readings += 1;
        let milli = u64::from(used.milli());
        self.mean_milli = (self.mean_milli * (self.readings - 1) + milli) / self.readings;
        let high_for = now.since(since);
        let is_long = high_for >= self.least && !high_for.is_zero();
        let Self { resource, line, .. } = *self;
        (is_long && !self.is_falling(used)).then_some(Reason::SustainedLoad {
            resource,
            gpu,
            used,
            line,
            high_for,
        })
    }

    fn is_falling(&self, used: Percent) -> bool {
        let mean = Percent::from_milli(u32::try_from(self.mean_milli).unwrap_or(u32::MAX));
        u64::from(used.milli()) * u64::from(Percent::ONE_HUNDRED.milli())
            < u64::from(mean.milli()) * u64::from(self.fall_share.milli())
    }

    /// Starts over: a step down was taken, and its effect must show before the next.
    pub(crate) fn reset(&mut self) {
        self.high_since = None;
        self.mean_milli = 0;
        self.readings = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::MachineClass;
    use crate::settings::RawSettings;

    fn watch(line: u32) -> Sustained {
        let settings = Settings::new(RawSettings::default(), MachineClass::MidRange).unwrap();
        Sustained::new(&settings, Resource::Cpu, Percent::new(line))
    }

    #[test]
    fn a_spike_never_lasts_and_a_plateau_does() {
        let mut cpu = watch(90);
        let mut at = |seconds, percent| {
            cpu.observe(Timestamp::from_secs(seconds), Some(Percent::new(percent)), None)
        };
        assert_eq!(at(0, 100), None);
        assert_eq!(at(2, 40), None);
        assert_eq!(at(4, 95), None);
        assert_eq!(at(33, 95), None);
        let high_for = Duration::from_secs(30);
        let [used, line] = [95, 90].map(Percent::new);
        let resource = Resource::Cpu;
        assert_eq!(
            at(34, 95),
            Some(Reason::SustainedLoad { resource, gpu: None, used, line, high_for })
        );
    }

    #[test]
    fn a_fast_fall_is_seen() {
        let mut pressure = watch(50);
        let mut at = |seconds, percent| {
            pressure.observe(Timestamp::from_secs(seconds), Some(Percent::new(percent)), None)
        };
        for seconds in 0..100 {
            assert_eq!(at(seconds, 100).is_some(), seconds >= 30, "{seconds}");
        }
        assert_eq!(at(100, 60), None);
        assert!(at(101, 100).is_some());
    }
}
