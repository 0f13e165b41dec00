//! What space would be used after a switch.
//!
//! A sample keeps others' use apart from our own, so the replaced model is credited by leaving it out:
//! projected use = others' use + what a forecast adds + the new model's footprint + its load transient.

use crate::catalog::{Catalog, Rung};
use crate::sample::{GpuSample, Resource, Sample, Space};
use crate::settings::Settings;
use crate::units::{Bytes, Percent};

/// The memory that each rung takes, ready for use in every sample.
#[derive(Clone, Debug)]
pub(crate) struct Ladder {
    rungs: Vec<Need>,
    constrain_memory: bool,
    constrain_vram: bool,
    /// Whether any rung takes video memory.
    uses_vram: bool,
}

/// What one rung takes: its footprint with a full KV cache, and the load transient on top.
#[derive(Clone, Copy, Debug, Default)]
struct Need {
    ram: Bytes,
    vram: Bytes,
}

/// The scarcest space resource after a switch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Projection {
    pub(crate) resource: Resource,
    pub(crate) projected: Bytes,
    pub(crate) limit: Bytes,
}

/// How much others' use is forecast to grow.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Growth {
    pub(crate) memory: Bytes,
    pub(crate) vram: Bytes,
}

impl Projection {
    pub(crate) fn fits(&self) -> bool {
        self.projected <= self.limit
    }
}

impl Ladder {
    pub(crate) fn new(settings: &Settings, catalog: &Catalog) -> Self {
        let need = |rung| {
            let model = catalog.primary(rung).expect("rungs_up yields rungs that hold a model");
            let footprint = model.footprint();
            Need { ram: footprint.ram + model.load_transient, vram: footprint.vram }
        };
        let rungs: Vec<Need> =
            std::iter::once(Need::default()).chain(catalog.rungs_up().map(need)).collect();
        Self {
            constrain_memory: settings.constrains(Resource::Memory),
            constrain_vram: settings.constrains(Resource::Vram),
            uses_vram: rungs.iter().any(|need| need.vram > Bytes::ZERO),
            rungs,
        }
    }

    pub(crate) fn top(&self) -> Rung {
        Rung(u8::try_from(self.rungs.len() - 1).expect("a catalog has at most 32 rungs"))
    }

    /// Returns the GPU whose load concerns us, with its number: the one that holds the most of ours or, while we hold
    /// nothing, the one with the most room. `None` where no model of the catalog goes to a GPU.
    pub(crate) fn our_gpu<'s>(&self, sample: &'s Sample) -> Option<(usize, &'s GpuSample)> {
        if sample.gpus.is_empty() || !self.uses_vram {
            return None;
        }
        let rank = |(_, gpu): &(usize, &GpuSample)| {
            let space = gpu.vram.unwrap_or_default();
            (space.own, space.free())
        };
        // The first among equals, as placement has it.
        sample.gpus.iter().enumerate().rev().max_by_key(rank)
    }

    /// Returns the video memory of the GPU whose load concerns us.
    pub(crate) fn our_vram(&self, sample: &Sample) -> Option<Space> {
        self.our_gpu(sample).and_then(|(_, gpu)| gpu.vram)
    }

    /// Returns the scarcest space with `rung` loaded and nothing else of ours, held against `limit_of(total)`;
    /// `None` where the sample tells no constrained space.
    ///
    /// A model in video memory goes to the GPU that it leaves the most room on.
    pub(crate) fn project(
        &self,
        sample: &Sample,
        rung: Rung,
        growth: Growth,
        limit_of: impl Fn(Bytes) -> Bytes,
    ) -> Option<Projection> {
        let need = self.rungs[usize::from(rung.0)];
        let project = |resource, space: &Space, growth, need| Projection {
            resource,
            projected: space.others + growth + need,
            limit: limit_of(space.total),
        };
        let memory = sample
            .memory
            .as_ref()
            .filter(|_| self.constrain_memory)
            .map(|space| project(Resource::Memory, space, growth.memory, need.ram));
        if sample.gpus.is_empty() || need.vram == Bytes::ZERO || !self.constrain_vram {
            return memory;
        }
        let vram = sample
            .gpus
            .iter()
            .filter_map(|gpu| gpu.vram.as_ref())
            .map(|space| project(Resource::Vram, space, growth.vram, need.vram))
            .max_by_key(|p| i128::from(p.limit.get()) - i128::from(p.projected.get()));
        match (memory, vram) {
            (Some(memory), Some(vram)) => Some(scarcer(memory, vram)),
            (memory, vram) => memory.or(vram),
        }
    }

    /// Returns the first constrained space that is used beyond its degrade limit *now*, ours included. Use
    /// of a GPU on which we hold nothing is not ours to relieve, and is passed over.
    pub(crate) fn overrun(
        &self,
        sample: &Sample,
        limit_of: impl Fn(Bytes) -> Bytes,
    ) -> Option<(Projection, Bytes)> {
        let over = |resource, space: &Space| {
            let now =
                Projection { resource, projected: space.used(), limit: limit_of(space.total) };
            (!now.fits()).then_some((now, space.total))
        };
        let memory = sample.memory.as_ref().filter(|_| self.constrain_memory);
        let vram = sample.gpus.iter().filter_map(|gpu| gpu.vram.as_ref());
        memory.and_then(|space| over(Resource::Memory, space)).or_else(|| {
            vram.filter(|space| self.constrain_vram && space.own > Bytes::ZERO)
                .find_map(|space| over(Resource::Vram, space))
        })
    }
}

/// Returns the share of each constrained resource that is in use, by `Resource::ALL`; of the GPUs, `gpu` alone counts.
pub(crate) fn shares(
    settings: &Settings,
    sample: &Sample,
    gpu: Option<&GpuSample>,
) -> [Option<Percent>; Resource::ALL.len()] {
    let share = |space: Space| Percent::of(space.used(), space.total);
    let keep = |resource, used: Option<Percent>| used.filter(|_| settings.constrains(resource));
    [
        keep(Resource::Memory, sample.memory.map(share)),
        keep(Resource::Vram, gpu.and_then(|gpu| gpu.vram).map(share)),
        keep(Resource::Cpu, sample.cpu.map(|rate| rate.others)),
        keep(Resource::Gpu, gpu.and_then(|gpu| gpu.utilization).map(|rate| rate.others)),
        keep(Resource::Pressure, sample.pressure.map(|pressure| pressure.memory_some)),
    ]
}

fn scarcer(a: Projection, b: Projection) -> Projection {
    // Compared as use over limit, cross-multiplied to stay in integers.
    let left = u128::from(a.projected.get()) * u128::from(b.limit.get());
    let right = u128::from(b.projected.get()) * u128::from(a.limit.get());
    if right > left { b } else { a }
}
