//! The machine that this program runs on, behind the [`Probe`] trait.
//!
//! A container with a limit is a machine of that size. What does not exist (swap, sensors, pressure information, GPUs)
//! is absent from the sample, and [`SystemProbe::describe`] reports why.

use std::collections::BTreeSet;
use std::time::Duration;

use tiershift_core::machine::Machine;
use tiershift_core::probe::{Probe, ProbeError};
use tiershift_core::sample::{GpuSample, Sample};
use tiershift_core::time::{Clock, Timestamp};
use tiershift_core::units::Bytes;

use crate::probe::description::{Description, Finding};
use crate::probe::host::HostReading;
#[cfg(target_os = "linux")]
use crate::probe::linux::Host;
use crate::probe::nvidia::{self, Nvidia};
#[cfg(not(target_os = "linux"))]
use crate::probe::portable::Host;

/// Reads this machine.
#[derive(Debug)]
pub struct SystemProbe {
    host: Host,
    own: OwnProcesses,
    nvidia: Result<Nvidia, String>,
}

/// The processes in which the managed models run. Their descendants count too, if the system reports them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OwnProcesses {
    pids: BTreeSet<u32>,
}

impl OwnProcesses {
    /// Takes the processes with these ids. An id that does not exist (any more) counts as nothing.
    pub fn new(pids: impl IntoIterator<Item = u32>) -> Self {
        Self { pids: pids.into_iter().collect() }
    }

    /// Returns the ids.
    pub(crate) fn pids(&self) -> &BTreeSet<u32> {
        &self.pids
    }
}

impl SystemProbe {
    /// Examines this machine. GPUs that appear later are not seen.
    pub fn new() -> Self {
        Self { own: OwnProcesses::default(), nvidia: Nvidia::load(), host: Host::new("/") }
    }

    /// Examines the copy of a Linux machine's `/proc` and `/sys` under `root`, and no GPU library.
    #[cfg(target_os = "linux")]
    pub fn under(root: impl Into<std::path::PathBuf>) -> Self {
        let nvidia = Err("not searched for under another root".to_owned());
        Self { own: OwnProcesses::default(), nvidia, host: Host::new(root) }
    }

    /// Sets the processes in which the managed models run, from the next sample on.
    pub fn set_own_processes(&mut self, own: OwnProcesses) {
        self.own = own;
    }

    /// Returns what this machine has.
    pub fn machine(&mut self) -> Machine {
        let gpus = self.gpus(&BTreeSet::new());
        self.machine_with(&gpus)
    }

    /// Looks for everything and returns what was found and what was not. Takes half a second, because rates need two
    /// readings.
    ///
    /// # Errors
    /// When nothing can be read at all.
    pub fn describe(&mut self, clock: &mut dyn Clock) -> Result<Description, ProbeError> {
        let family = self.host.family(self.own.pids());
        let _ = self.host.read(clock.now(), &family);
        let now = clock.wait_until(clock.now() + BETWEEN_TWO_READINGS);
        let host = self.host.read(now, &family);
        let gpus = self.gpus(&family);
        let mut findings = Finding::of_host(&host, &self.host.sources());
        findings.extend(self.gpu_findings(&gpus));
        let machine = self.machine_with(&gpus);
        let sample = assemble(host, gpus)?;
        Ok(Description { machine_class: machine.class(), machine, findings, sample })
    }

    fn machine_with(&self, gpus: &[GpuSample]) -> Machine {
        let (memory, swap, cpus) = self.host.size();
        let vram = |gpu: &GpuSample| gpu.vram.map_or(Bytes::ZERO, |vram| vram.total);
        Machine { memory, swap, cpus, gpus: gpus.iter().map(vram).collect() }
    }

    /// NVIDIA's GPUs come first, then the others that the system shows, each in their driver's order.
    fn gpus(&mut self, family: &BTreeSet<u32>) -> Vec<GpuSample> {
        let readings = self.nvidia.as_mut().map(Nvidia::read).unwrap_or_default();
        let nvidia = readings.iter().map(|reading| nvidia::gpu_sample(reading, family));
        nvidia.chain(self.host.gpus(family)).collect()
    }

    fn gpu_findings(&mut self, gpus: &[GpuSample]) -> Vec<Finding> {
        let mut sources = Vec::new();
        let mut findings = Vec::new();
        match &mut self.nvidia {
            Ok(nvidia) => sources.extend(nvidia.read().into_iter().map(|reading| {
                format!("NVML, {}", reading.name.as_deref().unwrap_or("a GPU without a name"))
            })),
            Err(why) => findings.push(Finding::not_seen("NVIDIA GPUs", why.as_str())),
        }
        match self.host.gpu_sources() {
            Ok(others) => sources.extend(others),
            Err(why) => findings.push(Finding::not_seen("AMD GPUs", why)),
        }
        for (index, (gpu, source)) in gpus.iter().zip(&sources).enumerate() {
            findings.extend(Finding::of_gpu(index, gpu, source));
        }
        findings
    }
}

impl Default for SystemProbe {
    fn default() -> Self {
        Self::new()
    }
}

impl Probe for SystemProbe {
    fn sample(&mut self, now: Timestamp) -> Result<Sample, ProbeError> {
        let family = self.host.family(self.own.pids());
        let host = self.host.read(now, &family);
        let gpus = self.gpus(&family);
        assemble(host, gpus)
    }
}

/// A machine that reports neither memory nor processor time nor any GPU cannot be managed.
fn assemble(host: HostReading, gpus: Vec<GpuSample>) -> Result<Sample, ProbeError> {
    if let (Err(memory), Err(cpu), true) = (&host.memory, &host.cpu, gpus.is_empty()) {
        return Err(ProbeError(format!("the machine cannot be read: {memory}; {cpu}")));
    }
    Ok(Sample {
        memory: host.memory.ok(),
        swap: host.swap.ok(),
        cpu: host.cpu.ok(),
        load_milli: host.load_milli.ok(),
        pressure: host.pressure.ok(),
        cpu_temperature: host.cpu_temperature.ok(),
        gpus,
    })
}

/// Chosen: long enough that a processor tick (10 ms) is two percent of one processor's time.
const BETWEEN_TWO_READINGS: Duration = Duration::from_millis(500);

#[cfg(test)]
mod tests;
