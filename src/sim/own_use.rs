//! What our models hold and take in the true state of the machine.

use tiershift_core::sample::{Rate, Sample};
use tiershift_core::time::Timestamp;
use tiershift_core::units::{Bytes, Percent};

use crate::sim::background::OthersUse;
use crate::sim::server::SimulatedServer;

/// What the server holds and takes, kept until it changes: at most samples it is unchanged.
#[derive(Clone, Debug, Default)]
pub(super) struct OwnUse {
    ram: Bytes,
    /// Memory grabbed at the moment of a load, in addition to others' use.
    grabbed: Bytes,
    cpu: Percent,
    gpus: Vec<OwnOnGpu>,
}

/// What it holds and takes of one GPU.
#[derive(Clone, Copy, Debug, Default)]
struct OwnOnGpu {
    held: Bytes,
    /// See [`OwnUse::grabbed`].
    grabbed: Bytes,
    used: Percent,
}

impl OwnUse {
    /// Returns the number of GPUs.
    pub(super) fn gpus(&self) -> usize {
        self.gpus.len()
    }

    /// Updates it from the server.
    pub(super) fn update(&mut self, now: Timestamp, server: &SimulatedServer, gpus: usize) {
        self.ram = server.ram(now);
        self.grabbed = server.grabbed(None);
        self.cpu = server.cpu_own();
        self.gpus.clear();
        self.gpus.extend((0..=u8::MAX).take(gpus).map(|gpu| OwnOnGpu {
            held: server.vram(now, gpu),
            grabbed: server.grabbed(Some(gpu)),
            used: server.gpu_own(gpu),
        }));
    }

    /// Adds it to a sample of others' use.
    pub(super) fn put_into(&self, sample: &mut Sample) {
        if let Some(memory) = &mut sample.memory {
            memory.own = self.ram;
            memory.others += self.grabbed;
        }
        if let Some(cpu) = &mut sample.cpu {
            cpu.own = self.cpu;
        }
        for (gpu, own) in sample.gpus.iter_mut().zip(&self.gpus) {
            if let Some(vram) = &mut gpu.vram {
                vram.own = own.held;
                vram.others += own.grabbed;
            }
            if let Some(Rate { own: rate, .. }) = &mut gpu.utilization {
                *rate = own.used;
            }
            // Memory of a GPU that shares main memory is taken there too.
            if let (true, Some(memory)) = (gpu.shared, &mut sample.memory) {
                memory.own += own.held;
                memory.others += own.grabbed;
            }
        }
    }

    /// Subtracts what was grabbed from a sample that it was added to.
    pub(super) fn take_out_of(&self, sample: &mut Sample) {
        if let Some(memory) = &mut sample.memory {
            memory.others = memory.others - self.grabbed;
        }
        for (gpu, own) in sample.gpus.iter_mut().zip(&self.gpus) {
            if let Some(vram) = &mut gpu.vram {
                vram.others = vram.others - own.grabbed;
            }
            if let (true, Some(memory)) = (gpu.shared, &mut sample.memory) {
                memory.others = memory.others - own.grabbed;
            }
        }
    }

    /// Returns how much of a space others cannot use because of us, including grabs.
    pub(super) fn of(&self, resource: OthersUse, gpu: u8, is_unified: bool) -> Bytes {
        let on_gpu = |own: &OwnOnGpu| own.held + own.grabbed;
        match resource {
            OthersUse::Memory => {
                let shared = self.gpus.iter().filter(|_| is_unified).map(on_gpu).sum();
                self.ram + self.grabbed + shared
            }
            OthersUse::Vram => self.gpus.get(usize::from(gpu)).map_or(Bytes::ZERO, on_gpu),
            OthersUse::Swap | OthersUse::Cpu | OthersUse::Gpu | OthersUse::Pressure => Bytes::ZERO,
        }
    }
}
