//! One reading of the machine at one moment.
//!
//! What a machine does not have, or a trace does not tell, is `None`, never zero. The managed models'
//! *own* use is kept apart from everybody *else's*: a replay under another policy keeps the others' use
//! and computes its own anew.

use serde::{Deserialize, Serialize};

use crate::units::{Bytes, Celsius, Percent};

/// A reading of the machine.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sample {
    /// Main memory. "Used" is what cannot be had without swapping: total less available.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<Space>,
    /// Swap space, all of it others' unless the probe can tell.
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
    /// One reading for each GPU, in the machine's order. Empty where there is none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gpus: Vec<GpuSample>,
}

impl Sample {
    /// Returns whether it can be: no space is used for several times what there is. An overcommitted machine shows
    /// somewhat more than all; a unit mistaken shows a thousand times as much.
    pub fn is_plausible(&self) -> bool {
        let spaces = self.memory.iter().chain(self.gpus.iter().filter_map(|gpu| gpu.vram.as_ref()));
        spaces.into_iter().all(|space| space.used() <= space.total.saturating_mul(MOST_OVERCOMMIT))
    }
}

/// Public traces of virtual machines show up to 1.1 times the memory; a factor of 1000 or 1024 is a mistake of
/// units, and four is far from both.
const MOST_OVERCOMMIT: u64 = 4;

impl Clone for Sample {
    #[inline]
    fn clone(&self) -> Self {
        let Self { memory, swap, cpu, load_milli, pressure, cpu_temperature, ref gpus } = *self;
        let gpus = gpus.clone();
        Self { memory, swap, cpu, load_milli, pressure, cpu_temperature, gpus }
    }

    /// Copies without an allocation where there is room for the GPUs already; what is derived would allocate. A
    /// replay copies each sample several times.
    #[inline]
    fn clone_from(&mut self, from: &Self) {
        let Self { memory, swap, cpu, load_milli, pressure, cpu_temperature, gpus } = from;
        self.memory = *memory;
        self.swap = *swap;
        self.cpu = *cpu;
        self.load_milli = *load_milli;
        self.pressure = *pressure;
        self.cpu_temperature = *cpu_temperature;
        // A call that most machines have nothing for.
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
pub struct Space {
    /// How much there is.
    #[serde(rename = "total_bytes")]
    pub total: Bytes,
    /// What everybody else uses.
    #[serde(rename = "others_bytes")]
    pub others: Bytes,
    /// What the managed models use.
    #[serde(rename = "own_bytes")]
    pub own: Bytes,
}

impl Space {
    /// Returns everybody's use. May exceed the total: that is an overcommitted machine.
    pub fn used(&self) -> Bytes {
        self.others + self.own
    }

    /// Returns what is left; zero when overcommitted.
    pub fn free(&self) -> Bytes {
        self.total - self.used()
    }
}

/// A resource that is consumed at a rate: processor time, GPU time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rate {
    /// What everybody else takes.
    #[serde(rename = "others_milli_percent")]
    pub others: Percent,
    /// What the managed models take.
    #[serde(rename = "own_milli_percent")]
    pub own: Percent,
}

impl Rate {
    /// Returns everybody's use.
    pub fn used(&self) -> Percent {
        self.others + self.own
    }
}

/// Share of the last ten seconds in which some, or all, tasks waited for a resource (Linux PSI `avg10`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
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
    /// Every resource, in the order in which decisions look at them.
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
