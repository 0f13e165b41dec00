//! The result of reading the machine: what is swapped, and the faults of probes.

use tiershift_core::probe::ProbeError;
use tiershift_core::sample::{GpuSample, Resource, ResourceKey, Sample};
use tiershift_core::time::Timestamp;
use tiershift_core::units::{Bytes, Percent};

use crate::sim::fault::{Fault, FaultKind};
use crate::sim::rng::Stream;

/// The faults of readings.
#[derive(Clone, Debug)]
pub(super) struct Distortion {
    faults: Vec<Fault>,
    /// The last sample before each of them, for those that repeat it.
    frozen: Vec<Option<Sample>>,
    stream: Stream,
}

impl Distortion {
    /// Keeps those of the faults that are about readings.
    pub(super) fn new(faults: &[Fault], stream: Stream) -> Self {
        let is_about_readings = |fault: &&Fault| {
            matches!(
                fault.kind,
                FaultKind::ProbeGap
                    | FaultKind::ProbeStale { .. }
                    | FaultKind::ProbeWrong { .. }
                    | FaultKind::ProbeNan { .. }
                    | FaultKind::ProbeBlind { .. }
                    | FaultKind::GpuLost { .. }
            )
        };
        let faults: Vec<Fault> = faults.iter().filter(is_about_readings).cloned().collect();
        Self { frozen: vec![None; faults.len()], faults, stream }
    }

    /// Applies the faults to a correct sample.
    pub(super) fn distort(
        &mut self,
        now: Timestamp,
        sample: &mut Sample,
    ) -> Result<(), ProbeError> {
        if self.faults.is_empty() {
            return Ok(());
        }
        for index in 0..self.faults.len() {
            if self.faults[index].kind == FaultKind::ProbeGap && self.strikes(now, index) {
                return Err(ProbeError("the probe did not answer".to_owned()));
            }
        }
        for index in 0..self.faults.len() {
            let FaultKind::ProbeStale { resource, gpu } = self.faults[index].kind else { continue };
            if !self.strikes(now, index) {
                self.frozen[index] = Some(sample.clone());
                continue;
            }
            let frozen = self.frozen[index].get_or_insert_with(|| sample.clone());
            let Some(resource) = resource else {
                sample.clone_from(frozen);
                return Ok(());
            };
            copy(sample, frozen, resource, gpu);
        }
        for index in 0..self.faults.len() {
            let is_earlier = matches!(
                self.faults[index].kind,
                FaultKind::ProbeGap | FaultKind::ProbeStale { .. }
            );
            if !is_earlier && self.strikes(now, index) {
                misread(sample, &self.faults[index].kind);
            }
        }
        Ok(())
    }

    /// Returns whether a fault is open and strikes at this reading.
    fn strikes(&mut self, now: Timestamp, index: usize) -> bool {
        let fault = &self.faults[index];
        // Whether a GPU is lost was drawn once.
        let certain = fault.probability >= Percent::ONE_HUNDRED
            || matches!(fault.kind, FaultKind::GpuLost { .. });
        fault.is_open(now) && (certain || self.stream.happens(fault.probability.fraction()))
    }
}

/// Moves what is beyond the memory into swap, as far as that suffices: others' first, which is idle while a model is
/// read at each token. If there is no swap left, the sample shows more in use than there is.
pub(super) fn swap_out(sample: &mut Sample) {
    let (Some(memory), Some(swap)) = (&mut sample.memory, &mut sample.swap) else { return };
    let out = (memory.used() - memory.total).min(swap.free());
    let others = out.min(memory.others);
    memory.others = memory.others - others;
    swap.others += others;
    memory.own = memory.own - (out - others);
    swap.own += out - others;
}

/// Makes one probe wrong.
fn misread(sample: &mut Sample, fault: &FaultKind) {
    match *fault {
        FaultKind::GpuLost { gpu, .. } => {
            if let Some(lost) = sample.gpus.get_mut(usize::from(gpu)) {
                *lost = GpuSample { shared: lost.shared, ..GpuSample::default() };
            }
        }
        // A sample contains integers; what a probe cannot read as one it leaves out.
        FaultKind::ProbeNan { resource, gpu } => copy(sample, &Sample::default(), resource, gpu),
        FaultKind::ProbeWrong { resource, gpu, factor } => multiply(sample, resource, gpu, factor),
        FaultKind::ProbeBlind { resource, gpu } => {
            for (_, space) in sample.spaces_mut().filter(|(key, _)| is_it(*key, resource, gpu)) {
                space.others += std::mem::take(&mut space.own);
            }
            for (_, rate) in sample.rates_mut().filter(|(key, _)| is_it(*key, resource, gpu)) {
                rate.others = rate.others + std::mem::take(&mut rate.own);
            }
        }
        _ => {}
    }
}

/// Multiplies others' use as a broken probe reports it.
fn multiply(sample: &mut Sample, resource: Resource, gpu: Option<u8>, factor: f64) {
    // `as` saturates.
    let bytes = |amount: Bytes| Bytes::new((amount.get() as f64 * factor) as u64);
    let share = |share: Percent| Percent::from_milli((f64::from(share.milli()) * factor) as u32);
    for (_, space) in sample.spaces_mut().filter(|(key, _)| is_it(*key, resource, gpu)) {
        space.others = bytes(space.others);
    }
    for (_, rate) in sample.rates_mut().filter(|(key, _)| is_it(*key, resource, gpu)) {
        rate.others = share(rate.others);
    }
    if let (Resource::Pressure, Some(pressure)) = (resource, &mut sample.pressure) {
        pressure.memory_some = share(pressure.memory_some);
    }
}

/// Replaces one resource of this sample with that of another.
fn copy(sample: &mut Sample, from: &Sample, resource: Resource, gpu: Option<u8>) {
    let silent = GpuSample::default();
    let gpus = (0..=u8::MAX)
        .zip(&mut sample.gpus)
        .filter(|(index, _)| gpu.is_none_or(|gpu| gpu == *index));
    let gpus = gpus.map(|(index, gpu)| (gpu, from.gpus.get(usize::from(index)).unwrap_or(&silent)));
    match resource {
        Resource::Memory => sample.memory = from.memory,
        Resource::Cpu => sample.cpu = from.cpu,
        Resource::Pressure => sample.pressure = from.pressure,
        Resource::Vram => gpus.for_each(|(gpu, from)| gpu.vram = from.vram),
        Resource::Gpu => gpus.for_each(|(gpu, from)| gpu.utilization = from.utilization),
    }
}

fn is_it(key: ResourceKey, resource: Resource, gpu: Option<u8>) -> bool {
    key.resource == resource && (gpu.is_none() || key.gpu == gpu)
}

#[cfg(test)]
mod tests {
    use tiershift_core::sample::{Rate, Space};

    use super::*;
    use crate::sim::rng::Seed;

    fn space(total: u64, others: u64, own: u64) -> Option<Space> {
        let [total, others, own] = [total, others, own].map(Bytes::from_gib);
        Some(Space { total, others, own })
    }

    /// A machine of 16 GiB with two GPUs, with `others` GiB used of each.
    fn machine(others: u64) -> Sample {
        let rate = Rate { others: Percent::new(10), own: Percent::new(70) };
        let gpu = GpuSample {
            vram: space(24, others, 4),
            utilization: Some(rate),
            ..GpuSample::default()
        };
        Sample { memory: space(16, others, 2), gpus: vec![gpu; 2], ..Sample::default() }
    }

    /// Returns the samples that faults make of these, one per second.
    fn read(kinds: &[FaultKind], readings: &[Sample]) -> Vec<Sample> {
        let [at, until] = [1, 10].map(Timestamp::from_secs);
        let fault = |kind: &FaultKind| Fault {
            at,
            until,
            probability: Percent::ONE_HUNDRED,
            kind: kind.clone(),
        };
        let faults: Vec<Fault> = kinds.iter().map(fault).collect();
        let mut distortion = Distortion::new(&faults, Seed(1).stream("test"));
        let seen = |(second, right): (u64, &Sample)| {
            let mut sample = right.clone();
            distortion.distort(Timestamp::from_secs(second), &mut sample).unwrap();
            sample
        };
        (0..).zip(readings).map(seen).collect()
    }

    #[test]
    fn one_sensor_freezes_and_the_others_go_on() {
        let readings = [machine(1), machine(2), machine(3)];
        let frozen = FaultKind::ProbeStale { resource: Some(Resource::Vram), gpu: Some(1) };
        let [_, _, last] = <[Sample; 3]>::try_from(read(&[frozen], &readings)).unwrap();
        assert_eq!(last.memory, space(16, 3, 2));
        assert_eq!(last.gpus[0].vram, space(24, 3, 4));
        assert_eq!(last.gpus[1].vram, space(24, 1, 4), "as it was before the fault");
        let all = FaultKind::ProbeStale { resource: None, gpu: None };
        assert_eq!(read(&[all], &readings)[2], readings[0]);
    }

    #[test]
    fn what_is_no_number_is_left_out_and_nothing_else_is() {
        let nan = |resource, gpu| FaultKind::ProbeNan { resource, gpu };
        let readings = [machine(1), machine(2)];
        let faults = [nan(Resource::Memory, None), nan(Resource::Gpu, Some(0))];
        let mut want = machine(2);
        want.memory = None;
        want.gpus[0].utilization = None;
        assert_eq!(read(&faults, &readings), [machine(1), want]);
    }

    #[test]
    fn own_use_that_is_not_told_is_others() {
        let blind = |resource, gpu| FaultKind::ProbeBlind { resource, gpu };
        let faults = [blind(Resource::Vram, None), blind(Resource::Gpu, Some(1))];
        let mut want = machine(2);
        for gpu in &mut want.gpus {
            gpu.vram = space(24, 6, 0);
        }
        want.gpus[1].utilization = Some(Rate { others: Percent::new(80), own: Percent::ZERO });
        assert_eq!(read(&faults, &[machine(1), machine(2)]), [machine(1), want]);
    }

    #[test]
    fn a_lost_gpu_says_nothing_and_keeps_its_place() {
        let lost = FaultKind::GpuLost { gpu: 0, crash: true };
        let seen = read(&[lost], &[machine(1), machine(2)]);
        assert_eq!(seen[1].gpus, [GpuSample::default(), machine(2).gpus[1]]);
    }

    #[test]
    fn a_unit_is_mistaken_on_one_gpu() {
        let resource = Resource::Vram;
        let wrong = FaultKind::ProbeWrong { resource, gpu: Some(1), factor: 0.5 };
        let seen = read(&[wrong], &[machine(1), machine(2)]);
        assert_eq!(seen[1].gpus[0].vram, space(24, 2, 4));
        assert_eq!(seen[1].gpus[1].vram, space(24, 1, 4));
    }

    #[test]
    fn what_is_beyond_the_memory_lies_in_swap_as_far_as_that_reaches() {
        #[track_caller]
        fn check(memory: [u64; 2], swap: u64, want: ([u64; 2], [u64; 2])) {
            let [others, own] = memory;
            let mut sample = Sample {
                memory: space(16, others, own),
                swap: space(8, swap, 0),
                ..Sample::default()
            };
            swap_out(&mut sample);
            let gib = |space: Option<Space>| {
                space.map(|space| [space.others, space.own].map(|use_| use_.get() >> 30)).unwrap()
            };
            assert_eq!((gib(sample.memory), gib(sample.swap)), want, "{memory:?} {swap}");
        }
        check([4, 9], 1, ([4, 9], [1, 0]));
        check([10, 9], 1, ([7, 9], [4, 0]));
        // Others have nothing more in memory.
        check([1, 18], 1, ([0, 16], [2, 2]));
        // Swap is full.
        check([20, 9], 1, ([13, 9], [8, 0]));
    }
}
