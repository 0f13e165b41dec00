//! The effect of the rest of the machine on the models.

use tiershift_core::sample::{GpuSample, Sample};
use tiershift_core::units::{Bytes, Percent};

/// The effect of the rest of the machine on tokens and loads.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Surroundings {
    /// Others' use of the processors.
    pub cpu_others: Percent,
    /// How much of the main memory in use is beyond its size: in swap, or dropped and read again.
    pub swapped: Percent,
    /// Free memory, which caches model files.
    pub free_memory: Bytes,
    /// Use of memory, for effects of a shortage.
    pub memory_used: Percent,
    /// One for each GPU, in the machine's order.
    pub gpus: Vec<GpuSurroundings>,
}

/// The effect of the rest of the machine on models on one GPU.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GpuSurroundings {
    /// Others' use of its time.
    pub others: Percent,
    /// Use of its memory.
    pub vram_used: Percent,
    /// How much of the video memory in use is beyond its size. None if the GPU uses main memory, which is swapped
    /// instead.
    pub spilled: Percent,
    /// Whether its memory is part of main memory.
    pub shared: bool,
}

impl Surroundings {
    /// Takes the state of the machine, including all use. The memory for the GPUs is allocated once.
    pub fn look_at(&mut self, truth: &Sample) {
        let memory = truth.memory.unwrap_or_default();
        self.cpu_others = truth.cpu.map_or(Percent::ZERO, |rate| rate.others);
        self.free_memory = memory.free();
        self.memory_used = Percent::of(memory.used(), memory.total);
        self.swapped = match memory.total {
            Bytes::ZERO => Percent::ZERO,
            total => Percent::of(memory.used() - total, memory.used()),
        };
        self.gpus.clear();
        self.gpus.extend(truth.gpus.iter().map(GpuSurroundings::of));
    }

    /// Returns the surroundings of a GPU; for a GPU that the machine does not have, the default.
    pub fn gpu(&self, gpu: u8) -> GpuSurroundings {
        self.gpus.get(usize::from(gpu)).copied().unwrap_or_default()
    }
}

impl GpuSurroundings {
    fn of(gpu: &GpuSample) -> Self {
        let vram = gpu.vram.unwrap_or_default();
        let spilled = if gpu.shared {
            Percent::ZERO
        } else {
            Percent::of(vram.used() - vram.total, vram.used())
        };
        Self {
            others: gpu.utilization.map_or(Percent::ZERO, |rate| rate.others),
            vram_used: Percent::of(vram.used(), vram.total),
            spilled,
            shared: gpu.shared,
        }
    }
}
