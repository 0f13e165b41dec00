//! One sample of the machine at one moment.
//!
//! What a machine or a trace does not have is `None`, never zero. The *own* use of the managed models is kept apart
//! from the use of *others*: a replay under another policy keeps the others' use and computes its own again.

use serde::{Deserialize, Serialize};

use crate::units::{Bytes, Celsius, Percent};

/// A sample of the machine.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Sample {
    /// Main memory. "Used" is what cannot be allocated without swapping: total less available.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<Space>,
    /// Swap space, all of it others' use unless the probe separates it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub swap: Option<Space>,
    /// Share of all processors that was busy since the last reading.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu: Option<Rate>,
    /// Run-queue length averaged over a minute, in thousandths.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub load_milli: Option<u32>,
    /// Pressure-stall information.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pressure: Option<Pressure>,
    /// The hottest processor sensor.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_temperature: Option<Celsius>,
    /// One reading for each GPU, in the machine's order. Empty if there is none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gpus: Vec<GpuSample>,
}

impl Sample {
    /// Returns the spaces that were read and can hold a model: main memory, then the video memory of each GPU, in
    /// order. Swap is not included.
    #[inline]
    pub fn spaces(&self) -> impl Iterator<Item = (ResourceKey, &Space)> {
        let vram = ResourceKey::of_gpus(Resource::Vram).zip(&self.gpus);
        let vram = vram.filter_map(|(key, gpu)| Some((key, gpu.vram.as_ref()?)));
        self.memory.iter().map(|space| (ResourceKey::MEMORY, space)).chain(vram)
    }

    /// As [`Sample::spaces`], but mutable.
    pub fn spaces_mut(&mut self) -> impl Iterator<Item = (ResourceKey, &mut Space)> {
        let vram = ResourceKey::of_gpus(Resource::Vram).zip(&mut self.gpus);
        let vram = vram.filter_map(|(key, gpu)| Some((key, gpu.vram.as_mut()?)));
        self.memory.iter_mut().map(|space| (ResourceKey::MEMORY, space)).chain(vram)
    }

    /// Returns the rates that were read: processor time, then the time of each GPU, in order. Pressure belongs to no
    /// program and is not included.
    #[inline]
    pub fn rates(&self) -> impl Iterator<Item = (ResourceKey, &Rate)> {
        let gpus = ResourceKey::of_gpus(Resource::Gpu).zip(&self.gpus);
        let gpus = gpus.filter_map(|(key, gpu)| Some((key, gpu.utilization.as_ref()?)));
        self.cpu.iter().map(|rate| (ResourceKey::CPU, rate)).chain(gpus)
    }

    /// As [`Sample::rates`], but mutable.
    pub fn rates_mut(&mut self) -> impl Iterator<Item = (ResourceKey, &mut Rate)> {
        let gpus = ResourceKey::of_gpus(Resource::Gpu).zip(&mut self.gpus);
        let gpus = gpus.filter_map(|(key, gpu)| Some((key, gpu.utilization.as_mut()?)));
        self.cpu.iter_mut().map(|rate| (ResourceKey::CPU, rate)).chain(gpus)
    }

    /// Returns one space, if it was read.
    pub fn space(&self, key: ResourceKey) -> Option<&Space> {
        self.spaces().find_map(|(known, space)| (known == key).then_some(space))
    }

    /// Returns whether the sample is possible: no space is used for several times its size. An overcommitted machine
    /// shows a little more than all; a mistaken unit shows a thousand times as much.
    #[inline]
    pub fn is_plausible(&self) -> bool {
        let most = |space: &Space| space.total.saturating_mul(MOST_OVERCOMMIT);
        self.spaces().all(|(_, space)| space.used() <= most(space))
    }
}

/// Public traces of virtual machines show up to 1.1 times the memory; a mistaken unit is a factor of 1000 or 1024, and
/// four is far from both.
const MOST_OVERCOMMIT: u64 = 4;

impl Clone for Sample {
    #[inline]
    fn clone(&self) -> Self {
        let Self { memory, swap, cpu, load_milli, pressure, cpu_temperature, ref gpus } = *self;
        let gpus = gpus.clone();
        Self { memory, swap, cpu, load_milli, pressure, cpu_temperature, gpus }
    }

    /// Copies without an allocation if there is already room for the GPUs; the derived form would allocate. A replay
    /// copies each sample several times.
    #[inline]
    fn clone_from(&mut self, from: &Self) {
        let Self { memory, swap, cpu, load_milli, pressure, cpu_temperature, gpus } = from;
        self.memory = *memory;
        self.swap = *swap;
        self.cpu = *cpu;
        self.load_milli = *load_milli;
        self.pressure = *pressure;
        self.cpu_temperature = *cpu_temperature;
        // Saves a call on most machines.
        if !(self.gpus.is_empty() && gpus.is_empty()) {
            self.gpus.clone_from(gpus);
        }
    }
}

/// A resource that is filled: memory, video memory, swap.
///
/// # Examples
/// ```
/// use tiershift_core::sample::Space;
/// use tiershift_core::units::Bytes;
///
/// let [total, others, own] = [16, 3, 5].map(Bytes::from_gib);
/// let memory = Space { total, others, own };
/// assert_eq!(memory.used(), Bytes::from_gib(8));
/// assert_eq!(memory.free(), Bytes::from_gib(8));
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Space {
    /// How much there is.
    #[serde(rename = "total_bytes")]
    pub total: Bytes,
    /// What all other programs use.
    #[serde(rename = "others_bytes")]
    pub others: Bytes,
    /// What the managed models use.
    #[serde(rename = "own_bytes")]
    pub own: Bytes,
}

impl Space {
    /// Returns all use. May exceed the total: that is an overcommitted machine.
    #[inline]
    pub fn used(&self) -> Bytes {
        self.others + self.own
    }

    /// Returns what is left; zero when overcommitted.
    #[inline]
    pub fn free(&self) -> Bytes {
        self.total - self.used()
    }
}

/// A resource that is consumed at a rate: processor time, GPU time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Rate {
    /// What all other programs take.
    #[serde(rename = "others_milli_percent")]
    pub others: Percent,
    /// What the managed models take.
    #[serde(rename = "own_milli_percent")]
    pub own: Percent,
}

impl Rate {
    /// Returns all use.
    #[inline]
    pub fn used(&self) -> Percent {
        self.others + self.own
    }
}

/// Share of the last ten seconds in which some, or all, tasks waited for a resource (Linux PSI `avg10`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Pressure {
    /// Some task waited for memory.
    #[serde(rename = "memory_some_milli_percent")]
    pub memory_some: Percent,
    /// Every task waited for memory: the machine thrashes.
    #[serde(rename = "memory_full_milli_percent")]
    pub memory_full: Percent,
    /// Some task waited for a processor.
    #[serde(rename = "cpu_some_milli_percent")]
    pub cpu_some: Percent,
    /// Some task waited for storage.
    #[serde(rename = "io_some_milli_percent")]
    pub io_some: Percent,
}

/// A reading of one GPU.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct GpuSample {
    /// Video memory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vram: Option<Space>,
    /// Share of the time in which a kernel ran.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub utilization: Option<Rate>,
    /// Temperature of the chip.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub temperature: Option<Celsius>,
    /// Whether its memory is part of main memory: what it uses counts in both.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub shared: bool,
}

/// One resource of a machine: its kind and, if each GPU has one, the GPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ResourceKey {
    /// Its kind.
    pub resource: Resource,
    /// The GPU, in the machine's order from zero.
    pub gpu: Option<u8>,
}

impl ResourceKey {
    /// Main memory.
    pub const MEMORY: Self = Self { resource: Resource::Memory, gpu: None };
    /// Processor time.
    pub const CPU: Self = Self { resource: Resource::Cpu, gpu: None };

    /// Returns the keys of a resource of each GPU, in order.
    #[inline]
    fn of_gpus(resource: Resource) -> impl Iterator<Item = Self> {
        (0..=u8::MAX).map(move |gpu| Self { resource, gpu: Some(gpu) })
    }
}

/// A resource that can constrain a decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Resource {
    /// Main memory (space).
    Memory,
    /// Video memory of the GPU that holds the model (space).
    Vram,
    /// Processor time (rate).
    Cpu,
    /// GPU time (rate).
    Gpu,
    /// Time in which some task waited for memory (rate).
    Pressure,
}

impl Resource {
    /// Every resource, in the order in which decisions consider them.
    pub const ALL: [Self; 5] = [Self::Memory, Self::Vram, Self::Cpu, Self::Gpu, Self::Pressure];

    /// Returns the name that settings and reports use.
    pub fn name(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Vram => "vram",
            Self::Cpu => "cpu",
            Self::Gpu => "gpu",
            Self::Pressure => "pressure",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine() -> Sample {
        let space = |gib| Some(Space { total: Bytes::from_gib(gib), ..Space::default() });
        let rate = |percent| Some(Rate { others: Percent::new(percent), ..Rate::default() });
        let silent = GpuSample::default();
        let gpu = GpuSample { vram: space(24), utilization: rate(30), ..silent };
        Sample { memory: space(64), cpu: rate(10), gpus: vec![silent, gpu], ..Sample::default() }
    }

    #[test]
    fn what_was_not_read_of_a_gpu_moves_no_other_gpu_to_its_number() {
        let sample = machine();
        let second = |resource| ResourceKey { resource, gpu: Some(1) };
        let spaces: Vec<_> = sample.spaces().map(|(key, space)| (key, space.total)).collect();
        let memory = (ResourceKey::MEMORY, Bytes::from_gib(64));
        assert_eq!(spaces, [memory, (second(Resource::Vram), Bytes::from_gib(24))]);
        let rates: Vec<_> = sample.rates().map(|(key, rate)| (key, rate.others)).collect();
        let cpu = (ResourceKey::CPU, Percent::new(10));
        assert_eq!(rates, [cpu, (second(Resource::Gpu), Percent::new(30))]);
        assert_eq!(sample.space(ResourceKey { gpu: Some(0), ..second(Resource::Vram) }), None);
        assert_eq!(sample.space(second(Resource::Vram)), sample.gpus[1].vram.as_ref());
    }

    #[test]
    fn a_sample_is_plausible_where_every_space_is() {
        let mut sample = machine();
        assert!(sample.is_plausible());
        for (key, space) in sample.spaces_mut().filter(|(key, _)| key.gpu.is_some()) {
            space.own = space.total.saturating_mul(1000);
            assert_eq!(key.gpu, Some(1));
        }
        assert!(!sample.is_plausible());
    }
}
