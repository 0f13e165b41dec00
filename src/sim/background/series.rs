//! A recorded trace that is played as others' use.

use std::time::Duration;

use tiershift_core::sample::Sample;
use tiershift_core::time::Timestamp;

use crate::sim::background::OthersUse;

/// The samples of a trace, in order of time; not empty.
#[derive(Clone, Debug, PartialEq)]
pub struct Series {
    readings: Vec<(Timestamp, Sample)>,
    /// The mean gap between samples: how long the last one is held before a trace begins again.
    step: Duration,
}

impl Series {
    /// Returns a series of samples in order of time.
    ///
    /// # Panics
    /// When there is none.
    pub fn new(readings: Vec<(Timestamp, Sample)>) -> Self {
        assert!(!readings.is_empty(), "a trace shape without readings was refused before");
        let began = readings[0].0;
        let spans = u32::try_from(readings.len() - 1).unwrap_or(u32::MAX).max(1);
        let step = readings[readings.len() - 1].0.since(began) / spans;
        let readings =
            readings.into_iter().map(|(at, s)| (Timestamp::ZERO + at.since(began), s)).collect();
        Self { readings, step: step.max(Duration::from_nanos(1)) }
    }

    /// Returns whether any sample has a resource; `None`: any resource at all.
    pub(crate) fn tells(&self, resource: Option<OthersUse>) -> bool {
        let tells = |sample: &Sample| match resource {
            None => *sample != Sample::default(),
            Some(OthersUse::Memory) => sample.memory.is_some(),
            Some(OthersUse::Swap) => sample.swap.is_some(),
            Some(OthersUse::Cpu) => sample.cpu.is_some(),
            Some(OthersUse::Pressure) => sample.pressure.is_some(),
            Some(OthersUse::Vram) => sample.gpus.iter().any(|gpu| gpu.vram.is_some()),
            Some(OthersUse::Gpu) => sample.gpus.iter().any(|gpu| gpu.utilization.is_some()),
        };
        self.readings.iter().any(|(_, sample)| tells(sample))
    }

    pub(super) fn first(&self) -> &Sample {
        &self.readings[0].1
    }

    /// Returns how long the series lasts, with the last sample held for one step.
    pub(super) fn length(&self) -> Duration {
        self.readings[self.readings.len() - 1].0.since(Timestamp::ZERO) + self.step
    }

    /// Returns the last sample that is not later than `into` the series.
    pub(super) fn at(&self, into: Duration) -> &Sample {
        let moment = Timestamp::ZERO + into;
        let after = self.readings.partition_point(|(at, _)| *at <= moment);
        &self.readings[after.saturating_sub(1)].1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reading_in_ten_years_is_as_good_as_the_first() {
        let mut series = Series::new(vec![(Timestamp::ZERO, Sample::default())]);
        assert_eq!(series.length(), Duration::from_nanos(1), "one reading lasts a moment");
        series.step = Duration::from_secs(1);
        assert_eq!(*series.at(Duration::from_secs(315_000_000)), Sample::default());
    }
}
