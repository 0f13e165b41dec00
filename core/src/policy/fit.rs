//! What space would be used after a switch: the arithmetic of fitting, for every policy.
//!
//! A sample keeps others' use apart from our own, so the replaced model is credited by leaving it out:
//! projected use = others' use + what a forecast adds + the new model's footprint + its load transient.

use crate::catalog::{Catalog, Rung};
use crate::sample::{GpuSample, Resource, Sample, Space};
use crate::settings::Settings;
use crate::units::{Bytes, Percent};

/// The memory that each rung of a catalog takes, ready for use in every sample.
#[derive(Clone, Debug)]
pub struct Footprints {
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
pub struct Projection {
    /// The resource: memory, or a GPU's.
    pub resource: Resource,
    /// The GPU, where the resource is one of a GPU's.
    pub gpu: Option<u8>,
    /// Its use after the switch.
    pub projected: Bytes,
    /// The most it may be.
    pub limit: Bytes,
}

/// How much others' use is forecast to grow.
#[derive(Clone, Copy, Debug, Default)]
pub struct Growth {
    /// Of the memory.
    pub memory: Bytes,
    /// Of each GPU's video memory.
    pub vram: Bytes,
}

impl Projection {
    /// Returns whether it stays within the limit.
    pub fn fits(&self) -> bool {
        self.projected <= self.limit
    }
}

impl Footprints {
    /// Builds it for the resources that the settings constrain.
    pub fn new(settings: &Settings, catalog: &Catalog) -> Self {
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

    /// Returns the highest rung.
    pub fn top(&self) -> Rung {
        Rung(u8::try_from(self.rungs.len() - 1).expect("a catalog has at most 32 rungs"))
    }

    /// Returns the GPU whose load concerns us, with its number: the one that holds the most of ours or, while we hold
    /// nothing, the one with the most room. `None` where no model of the catalog goes to a GPU.
    pub fn our_gpu<'s>(&self, sample: &'s Sample) -> Option<(usize, &'s GpuSample)> {
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
    pub fn our_vram(&self, sample: &Sample) -> Option<Space> {
        self.our_gpu(sample).and_then(|(_, gpu)| gpu.vram)
    }

    /// Returns the scarcest space with `rung` loaded and nothing else of ours, held against `limit_of(total)`;
    /// `None` where the sample tells no constrained space.
    ///
    /// A model in video memory goes to the GPU that it leaves the most room on.
    pub fn project(
        &self,
        sample: &Sample,
        rung: Rung,
        growth: Growth,
        limit_of: impl Fn(Bytes) -> Bytes,
    ) -> Option<Projection> {
        let need = self.rungs[usize::from(rung.0)];
        let project = |resource, gpu, space: &Space, growth, need| Projection {
            resource,
            gpu,
            projected: space.others + growth + need,
            limit: limit_of(space.total),
        };
        let memory = sample
            .memory
            .as_ref()
            .filter(|_| self.constrain_memory)
            .map(|space| project(Resource::Memory, None, space, growth.memory, need.ram));
        if sample.gpus.is_empty() || need.vram == Bytes::ZERO || !self.constrain_vram {
            return memory;
        }
        let vram = vram_spaces(sample)
            .map(|(gpu, space)| project(Resource::Vram, Some(gpu), space, growth.vram, need.vram))
            .max_by_key(|p| i128::from(p.limit.get()) - i128::from(p.projected.get()));
        match (memory, vram) {
            (Some(memory), Some(vram)) => Some(scarcer(memory, vram)),
            (memory, vram) => memory.or(vram),
        }
    }

    /// Returns the first constrained space that is used beyond its degrade limit *now*, ours included. Use
    /// of a GPU on which we hold nothing is not ours to relieve, and is passed over.
    pub fn overrun(
        &self,
        sample: &Sample,
        limit_of: impl Fn(Bytes) -> Bytes,
    ) -> Option<(Projection, Bytes)> {
        let over = |resource, gpu, space: &Space| {
            let (projected, limit) = (space.used(), limit_of(space.total));
            let now = Projection { resource, gpu, projected, limit };
            (!now.fits()).then_some((now, space.total))
        };
        let memory = sample.memory.as_ref().filter(|_| self.constrain_memory);
        memory.and_then(|space| over(Resource::Memory, None, space)).or_else(|| {
            vram_spaces(sample)
                .filter(|(_, space)| self.constrain_vram && space.own > Bytes::ZERO)
                .find_map(|(gpu, space)| over(Resource::Vram, Some(gpu), space))
        })
    }
}

/// Returns each GPU's video memory, with the GPU's number.
fn vram_spaces(sample: &Sample) -> impl Iterator<Item = (u8, &Space)> {
    (0..=u8::MAX).zip(&sample.gpus).filter_map(|(index, gpu)| Some((index, gpu.vram.as_ref()?)))
}

/// Returns the share of each constrained resource that is in use, by `Resource::ALL`; of the GPUs, `gpu` alone counts.
pub fn shares(
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
