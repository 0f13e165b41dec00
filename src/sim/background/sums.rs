//! The layers of a background, added up.

use tiershift_core::machine::Machine;
use tiershift_core::sample::{GpuSample, Pressure, Rate, Sample, Space};
use tiershift_core::units::{Bytes, Percent};

use crate::sim::background::OthersUse;

/// The sums so far, in bytes and in thousandths of a percent. Signed: a shape may subtract.
pub(super) struct Sums {
    memory: f64,
    swap: f64,
    vram: Vec<f64>,
    cpu: Option<f64>,
    gpu: Vec<Option<f64>>,
    pressure: Option<[f64; 4]>,
}

impl Sums {
    pub(super) fn new(gpus: usize) -> Self {
        Self {
            memory: 0.0,
            swap: 0.0,
            vram: vec![0.0; gpus],
            cpu: None,
            gpu: vec![None; gpus],
            pressure: None,
        }
    }

    pub(super) fn add(&mut self, resource: OthersUse, gpu: usize, value: f64) {
        match resource {
            OthersUse::Memory => self.memory += value,
            OthersUse::Swap => self.swap += value,
            OthersUse::Vram => {
                if let Some(sum) = self.vram.get_mut(gpu) {
                    *sum += value;
                }
            }
            OthersUse::Cpu => *self.cpu.get_or_insert(0.0) += value,
            OthersUse::Gpu => {
                if let Some(sum) = self.gpu.get_mut(gpu) {
                    *sum.get_or_insert(0.0) += value;
                }
            }
            OthersUse::Pressure => self.pressure.get_or_insert([0.0; 4])[0] += value,
        }
    }

    /// Returns the sum for a space; for main memory, including what GPUs take there.
    pub(super) fn of(&self, resource: OthersUse, gpu: usize, is_unified: bool) -> f64 {
        let vram = |gpu: usize| self.vram.get(gpu).copied().unwrap_or(0.0).max(0.0);
        match resource {
            OthersUse::Memory if is_unified => {
                self.memory.max(0.0) + (0..self.vram.len()).map(vram).sum::<f64>()
            }
            OthersUse::Memory => self.memory,
            OthersUse::Vram => vram(gpu),
            OthersUse::Swap | OthersUse::Cpu | OthersUse::Gpu | OthersUse::Pressure => 0.0,
        }
    }

    /// Adds a sample's others' use; its own use was that of other models than ours.
    pub(super) fn add_reading(
        &mut self,
        reading: &Sample,
        machine: &Machine,
        only: Option<OthersUse>,
        relative: bool,
        weight: f64,
    ) {
        let wanted = |resource| only.is_none_or(|only| only == resource);
        let space = |space: &Space, total: Bytes| {
            let others = space.others.get() as f64 * weight;
            match relative && space.total != Bytes::ZERO {
                true => others / space.total.get() as f64 * total.get() as f64,
                false => others,
            }
        };
        let rate = |rate: &Rate| f64::from(rate.others.milli()) * weight;
        if let Some(memory) = reading.memory.as_ref().filter(|_| wanted(OthersUse::Memory)) {
            self.add(OthersUse::Memory, 0, space(memory, machine.memory));
        }
        if let Some(swap) = reading.swap.as_ref().filter(|_| wanted(OthersUse::Swap)) {
            self.add(OthersUse::Swap, 0, space(swap, machine.swap));
        }
        if let Some(cpu) = reading.cpu.as_ref().filter(|_| wanted(OthersUse::Cpu)) {
            self.add(OthersUse::Cpu, 0, rate(cpu));
        }
        for (i, (gpu, &total)) in reading.gpus.iter().zip(&machine.gpus).enumerate() {
            if let Some(vram) = gpu.vram.as_ref().filter(|_| wanted(OthersUse::Vram)) {
                self.add(OthersUse::Vram, i, space(vram, total));
            }
            if let Some(use_) = gpu.utilization.as_ref().filter(|_| wanted(OthersUse::Gpu)) {
                self.add(OthersUse::Gpu, i, rate(use_));
            }
        }
        if let Some(p) = reading.pressure.as_ref().filter(|_| wanted(OthersUse::Pressure)) {
            let sums = self.pressure.get_or_insert([0.0; 4]);
            let kinds = [p.memory_some, p.memory_full, p.cpu_some, p.io_some];
            for (sum, kind) in sums.iter_mut().zip(kinds) {
                *sum += f64::from(kind.milli()) * weight;
            }
        }
    }

    pub(super) fn into_sample(self, machine: &Machine, is_unified: bool) -> Sample {
        // `as` saturates: a sum below zero is zero.
        let space = |total, sum: f64| Space {
            total,
            others: Bytes::new(sum.round() as u64),
            own: Bytes::ZERO,
        };
        let share = |sum: f64| {
            let milli = sum.round().clamp(0.0, f64::from(Percent::ONE_HUNDRED.milli()));
            Percent::from_milli(milli as u32)
        };
        let rate = |sum| Rate { others: share(sum), own: Percent::ZERO };
        let memory = self.of(OthersUse::Memory, 0, is_unified);
        let gpus = machine.gpus.iter().zip(self.vram.iter().zip(&self.gpu));
        Sample {
            memory: Some(space(machine.memory, memory)),
            swap: (machine.swap != Bytes::ZERO).then(|| space(machine.swap, self.swap)),
            cpu: self.cpu.map(rate),
            pressure: self.pressure.map(|[memory_some, memory_full, cpu_some, io_some]| Pressure {
                memory_some: share(memory_some),
                memory_full: share(memory_full),
                cpu_some: share(cpu_some),
                io_some: share(io_some),
            }),
            gpus: gpus
                .map(|(&total, (&vram, &busy))| GpuSample {
                    vram: Some(space(total, vram)),
                    utilization: busy.map(rate),
                    temperature: None,
                    shared: is_unified,
                })
                .collect(),
            ..Sample::default()
        }
    }
}
