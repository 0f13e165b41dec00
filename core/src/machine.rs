//! What a machine has, and the class that follows from it.

use serde::{Deserialize, Serialize};

use crate::units::{Bytes, Percent};

/// What a machine has. Unlike a sample, it does not change while a run lasts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Machine {
    /// Main memory, or the control group's limit if that is lower.
    #[serde(rename = "memory_bytes")]
    pub memory: Bytes,
    /// Swap space.
    #[serde(default, rename = "swap_bytes")]
    pub swap: Bytes,
    /// Processors that may be used.
    #[serde(default)]
    pub cpus: u32,
    /// Video memory of each GPU, in the machine's order.
    #[serde(default, rename = "vram_bytes", skip_serializing_if = "Vec::is_empty")]
    pub gpus: Vec<Bytes>,
}

impl Machine {
    /// Returns the class of this machine.
    pub fn class(&self) -> MachineClass {
        let vram = self.gpus.iter().copied().max().unwrap_or(Bytes::ZERO);
        if self.memory >= HIGH_END_MEMORY || vram >= HIGH_END_VRAM {
            MachineClass::HighEnd
        } else if self.memory >= MID_RANGE_MEMORY || vram >= MID_RANGE_VRAM {
            MachineClass::MidRange
        } else {
            MachineClass::LowEnd
        }
    }
}

/// A class of machine. It sets the default lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum MachineClass {
    /// A small laptop or virtual machine.
    LowEnd,
    /// An ordinary desktop.
    #[default]
    MidRange,
    /// A workstation or server.
    HighEnd,
}

/// The default lines of a machine class.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lines {
    /// Upgrade only below this.
    pub upgrade: Percent,
    /// A confident rise above this steps down early.
    pub preventive: Percent,
}

impl MachineClass {
    /// Returns the default lines.
    ///
    /// # Source
    /// The original specification: a small machine keeps a larger share free, because a browser tab is a larger share
    /// of it.
    pub fn lines(self) -> Lines {
        let (upgrade, preventive) = match self {
            Self::LowEnd => (75, 80),
            Self::MidRange => (80, 85),
            Self::HighEnd => (85, 90),
        };
        Lines { upgrade: Percent::new(upgrade), preventive: Percent::new(preventive) }
    }

    /// Returns the name that reports use.
    pub fn name(self) -> &'static str {
        match self {
            Self::LowEnd => "low-end",
            Self::MidRange => "mid-range",
            Self::HighEnd => "high-end",
        }
    }
}

// Chosen on the footprints of Q4 models with 8 Ki tokens of context: a 7B (5 GiB) beside a desktop needs
// 12 GiB, or 8 GiB of video memory; a 30B (20 GiB) needs 32 GiB, or 24 GiB of video memory. A "32 GB" host
// reports a little less than 32 GiB.
const MID_RANGE_MEMORY: Bytes = Bytes::from_gib(12);
const MID_RANGE_VRAM: Bytes = Bytes::from_gib(6);
const HIGH_END_MEMORY: Bytes = Bytes::from_gib(30);
const HIGH_END_VRAM: Bytes = Bytes::from_gib(20);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_larger_of_memory_and_video_memory_makes_the_class() {
        let class = |memory, gpus: &[u64]| {
            let gpus = gpus.iter().copied().map(Bytes::from_gib).collect();
            Machine { memory: Bytes::from_gib(memory), gpus, ..Machine::default() }.class()
        };
        assert_eq!(class(8, &[]), MachineClass::LowEnd);
        assert_eq!(class(16, &[]), MachineClass::MidRange);
        assert_eq!(class(8, &[8]), MachineClass::MidRange);
        assert_eq!(class(16, &[24]), MachineClass::HighEnd);
        assert_eq!(class(31, &[]), MachineClass::HighEnd);
    }
}
