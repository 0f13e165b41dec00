//! Waits after a change until readings have settled, so that memory that is freed late does not cause a second step
//! down.

use std::time::Duration;

use crate::sample::Sample;
use crate::settings::Settings;
use crate::time::Timestamp;
use crate::units::{Bytes, Percent};

/// Tracks whether two consecutive readings of each space agree since the last change (after unslothai/unsloth#5693).
#[derive(Clone, Debug)]
pub(crate) struct Settle {
    /// Readings agree within this or within `share` of the space, whichever is more.
    tolerance: Bytes,
    share: Percent,
    /// The longest wait.
    limit: Duration,
    /// Use of each space at the last reading since the change: memory, then each GPU's.
    previous: Vec<Bytes>,
    /// When that was.
    previous_at: Option<Timestamp>,
    /// The bound, while readings have not settled.
    unsettled_until: Option<Timestamp>,
}

impl Settle {
    pub(crate) fn new(settings: &Settings) -> Self {
        Self {
            tolerance: settings.settle_tolerance,
            share: settings.settle_share,
            limit: settings.settle_limit,
            previous: Vec::new(),
            previous_at: None,
            unsettled_until: None,
        }
    }

    /// Begins to wait after a change.
    pub(crate) fn begin(&mut self, now: Timestamp) {
        self.previous.clear();
        self.previous_at = None;
        self.unsettled_until = Some(now + self.limit);
    }

    /// Takes a reading.
    pub(crate) fn observe(&mut self, now: Timestamp, sample: &Sample) {
        let Some(bound) = self.unsettled_until else { return };
        // A machine that is read twice at one moment has had no time to change.
        if self.previous_at.replace(now) == Some(now) {
            return;
        }
        let mut agree = !self.previous.is_empty();
        for (index, (_, space)) in sample.spaces().enumerate() {
            let used = space.used();
            let allowed = self.tolerance.max(space.total.share(self.share));
            match self.previous.get_mut(index) {
                Some(before) => agree &= used.abs_diff(std::mem::replace(before, used)) <= allowed,
                None => {
                    self.previous.push(used);
                    agree = false;
                }
            }
        }
        if agree || now >= bound {
            self.unsettled_until = None;
        }
    }

    pub(crate) fn is_settled(&self) -> bool {
        self.unsettled_until.is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::MachineClass;
    use crate::sample::{GpuSample, Space};
    use crate::settings::RawSettings;

    /// Reads (memory used, video memory used on each of two GPUs) [MiB] every second after a change at zero, and returns
    /// the second at which readings have settled.
    fn settled_at(readings: &[(u64, u64, u64)]) -> Option<u64> {
        let settings = Settings::new(RawSettings::default(), MachineClass::MidRange).unwrap();
        let mut settle = Settle::new(&settings);
        settle.begin(Timestamp::ZERO);
        let space = |used| {
            let [total, others, own] = [16 * 1024, used, 0].map(Bytes::from_mib);
            Some(Space { total, others, own })
        };
        (1..).zip(readings).find_map(|(second, &(memory, first, second_gpu))| {
            let gpu = |used| GpuSample { vram: space(used), ..GpuSample::default() };
            let gpus = vec![gpu(first), gpu(second_gpu)];
            let sample = Sample { memory: space(memory), gpus, ..Sample::default() };
            settle.observe(Timestamp::from_secs(second), &sample);
            settle.is_settled().then_some(second)
        })
    }

    #[test]
    fn two_readings_that_agree_have_settled() {
        assert_eq!(settled_at(&[(9000, 0, 0), (9100, 0, 0)]), Some(2));
        assert_eq!(settled_at(&[(9000, 0, 0), (7000, 0, 0), (4000, 0, 0), (4000, 0, 0)]), Some(4));
    }

    #[test]
    fn one_moment_that_is_read_twice_has_not_settled() {
        let settings = Settings::new(RawSettings::default(), MachineClass::MidRange).unwrap();
        let mut settle = Settle::new(&settings);
        settle.begin(Timestamp::ZERO);
        let [total, others, own] = [16, 9, 0].map(Bytes::from_gib);
        let memory = Some(Space { total, others, own });
        let sample = Sample { memory, ..Sample::default() };
        let settled = [1, 1, 2].map(|second| {
            settle.observe(Timestamp::from_secs(second), &sample);
            settle.is_settled()
        });
        assert_eq!(settled, [false, false, true]);
    }

    #[test]
    fn each_space_must_agree_whatever_their_sum() {
        assert_eq!(settled_at(&[(9, 8000, 0), (9, 4000, 4000), (9, 4000, 4000)]), Some(3));
    }

    #[test]
    fn what_never_rests_is_waited_for_until_the_bound() {
        let restless: Vec<_> = (0..9).map(|step| (1000 * step, 0, 0)).collect();
        assert_eq!(settled_at(&restless), Some(5));
    }
}
