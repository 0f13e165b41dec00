//! The machine that this program runs on, behind the [`Probe`] trait.
//!
//! A container with a limit is a machine of that size. What is not there (swap, sensors, pressure
//! information, GPUs) is absent from the sample, and [`SystemProbe::describe`] says why.

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use serde::Serialize;
use tiershift_core::machine::{Machine, MachineClass};
use tiershift_core::probe::{Probe, ProbeError};
use tiershift_core::sample::{GpuSample, Pressure, Rate, Sample, Space};
use tiershift_core::time::{Clock, Timestamp};
use tiershift_core::units::{Bytes, Celsius};

#[cfg(target_os = "linux")]
use crate::probe::amd::Card;
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
    #[cfg(target_os = "linux")]
    amd: Vec<Card>,
}

/// The processes that the managed models run in. Their descendants count too, where the system tells them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OwnProcesses {
    pids: BTreeSet<u32>,
}

impl OwnProcesses {
    /// Takes the processes with these ids. An id that does not exist (any more) counts nothing.
    pub fn new(pids: impl IntoIterator<Item = u32>) -> Self {
        Self { pids: pids.into_iter().collect() }
    }

    /// Returns the ids given.
    pub(crate) fn pids(&self) -> &BTreeSet<u32> {
        &self.pids
    }
}

/// Everything but the GPUs, each reading with the reason where there is none.
#[derive(Debug)]
pub(crate) struct HostReading {
    pub(crate) memory: Result<Space, String>,
    pub(crate) swap: Result<Space, String>,
    pub(crate) cpu: Result<Rate, String>,
    pub(crate) load_milli: Result<u32, String>,
    pub(crate) pressure: Result<Pressure, String>,
    pub(crate) cpu_temperature: Result<Celsius, String>,
}

/// Where each reading comes from, for people.
#[derive(Debug)]
pub(crate) struct HostSources {
    pub(crate) memory: String,
    pub(crate) swap: String,
    pub(crate) cpu: String,
    pub(crate) load: String,
    pub(crate) pressure: String,
    pub(crate) cpu_temperature: String,
    /// The limit that makes the machine smaller than it is, or why there is none.
    pub(crate) limit: Result<String, String>,
}

/// What was seen of the machine, for `tiershift hardware`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Description {
    /// What the machine has.
    pub machine: Machine,
    /// Which class of machine that is.
    pub tier: MachineClass,
    /// Each thing looked for, in a fixed order.
    pub findings: Vec<Finding>,
    /// The sample that the findings were made from.
    pub sample: Sample,
}

impl fmt::Display for Description {
    /// Prints a line for each thing: what was seen and where, or what was not and why.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = self.findings.iter().map(|finding| finding.subject.len()).max().unwrap_or(0);
        for Finding { subject, outcome } in &self.findings {
            match outcome {
                FindingOutcome::Seen { value, source } => {
                    writeln!(f, "{subject:width$}  {value}  [{source}]")?;
                }
                FindingOutcome::NotSeen { reason } => {
                    writeln!(f, "{subject:width$}  not seen: {reason}")?;
                }
            }
        }
        let (tier, lines) = (self.tier.name(), self.tier.lines());
        write!(f, "{:width$}  {tier}: upgrade below {}, ", "machine class", lines.upgrade)?;
        writeln!(f, "step down early above {}", lines.preventive)
    }
}

/// One thing that was looked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What it is: `memory`, `gpu 0 video memory`.
    pub subject: String,
    /// What came of it.
    #[serde(flatten)]
    pub outcome: FindingOutcome,
}

/// What came of looking for something.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "outcome")]
pub enum FindingOutcome {
    /// It is there.
    Seen {
        /// Its value, for people.
        value: String,
        /// The file or interface that told it.
        source: String,
    },
    /// It is not there, which is normal for most things on some machine.
    NotSeen {
        /// Why not.
        reason: String,
    },
}

impl SystemProbe {
    /// Looks at this machine. GPUs that appear later are not seen.
    pub fn new() -> Self {
        let host = Host::new("/");
        Self {
            own: OwnProcesses::default(),
            nvidia: Nvidia::load(),
            #[cfg(target_os = "linux")]
            amd: Card::discover(host.root()),
            host,
        }
    }

    /// Looks at the copy of a Linux machine's `/proc` and `/sys` under `root`, and at no GPU library.
    #[cfg(target_os = "linux")]
    pub fn under(root: impl Into<std::path::PathBuf>) -> Self {
        let host = Host::new(root);
        Self {
            own: OwnProcesses::default(),
            nvidia: Err("not looked for under another root".to_owned()),
            amd: Card::discover(host.root()),
            host,
        }
    }

    /// Says which processes the managed models run in, from the next sample on.
    pub fn set_own_processes(&mut self, own: OwnProcesses) {
        self.own = own;
    }

    /// Returns what this machine has.
    pub fn machine(&mut self) -> Machine {
        let gpus = self.gpus(&BTreeSet::new());
        self.machine_with(&gpus)
    }

    /// Looks for everything and says what was seen and what was not. Takes half a second, because rates
    /// need two readings.
    ///
    /// # Errors
    /// Where nothing can be read at all.
    pub fn describe(&mut self, clock: &mut dyn Clock) -> Result<Description, ProbeError> {
        let family = self.host.family(self.own.pids());
        let _ = self.host.read(clock.now(), &family);
        let now = clock.wait_until(clock.now() + BETWEEN_TWO_READINGS);
        let host = self.host.read(now, &family);
        let gpus = self.gpus(&family);
        let mut findings = host_findings(&host, &self.host.sources());
        findings.extend(self.gpu_findings(&gpus));
        let machine = self.machine_with(&gpus);
        let sample = assemble(host, gpus)?;
        Ok(Description { tier: machine.class(), machine, findings, sample })
    }

    fn machine_with(&self, gpus: &[GpuSample]) -> Machine {
        let (memory, swap, cpus) = self.host.size();
        let vram = |gpu: &GpuSample| gpu.vram.map_or(Bytes::ZERO, |vram| vram.total);
        Machine { memory, swap, cpus, gpus: gpus.iter().map(vram).collect() }
    }

    /// NVIDIA's GPUs come first, then AMD's, each in their driver's order.
    fn gpus(&mut self, family: &BTreeSet<u32>) -> Vec<GpuSample> {
        let readings = self.nvidia.as_mut().map(Nvidia::read).unwrap_or_default();
        let nvidia = readings.iter().map(|reading| nvidia::gpu_sample(reading, family));
        #[cfg(target_os = "linux")]
        let gpus = {
            let root = self.host.root();
            nvidia.chain(self.amd.iter().map(|card| card.read(root, family))).collect()
        };
        #[cfg(not(target_os = "linux"))]
        let gpus = nvidia.collect();
        gpus
    }

    fn gpu_findings(&mut self, gpus: &[GpuSample]) -> Vec<Finding> {
        let mut sources = Vec::new();
        let mut findings = Vec::new();
        match &mut self.nvidia {
            Ok(nvidia) => sources.extend(nvidia.read().into_iter().map(|reading| {
                format!("NVML, {}", reading.name.as_deref().unwrap_or("a GPU without a name"))
            })),
            Err(why) => findings.push(not_seen("NVIDIA GPUs", why.as_str())),
        }
        #[cfg(target_os = "linux")]
        {
            if self.amd.is_empty() {
                findings.push(not_seen("AMD GPUs", "no amdgpu device under /sys/class/drm"));
            }
            sources.extend(self.amd.iter().map(Card::source));
        }
        for (index, (gpu, source)) in gpus.iter().zip(sources).enumerate() {
            let none = || "the driver does not tell it".to_owned();
            let about = |what: &str| format!("gpu {index} {what}");
            findings.extend([
                finding(about("video memory"), gpu.vram.ok_or_else(none), space_text, &source),
                finding(about("utilization"), gpu.utilization.ok_or_else(none), rate_text, &source),
                finding(
                    about("temperature"),
                    gpu.temperature.ok_or_else(none),
                    ToString::to_string,
                    &source,
                ),
            ]);
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

/// A machine that tells neither memory nor processor time nor any GPU cannot be steered.
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

fn host_findings(host: &HostReading, sources: &HostSources) -> Vec<Finding> {
    let load = |load: &u32| format!("{}.{:03}", load / 1000, load % 1000);
    let limit = match &sources.limit {
        Ok(file) => seen("control group limit", "sets the size of this machine", file),
        Err(reason) => not_seen("control group limit", reason),
    };
    vec![
        finding("memory", host.memory.clone(), space_text, &sources.memory),
        limit,
        finding("swap", host.swap.clone(), space_text, &sources.swap),
        finding("processors", host.cpu.clone(), rate_text, &sources.cpu),
        finding("load", host.load_milli.clone(), load, &sources.load),
        finding("pressure", host.pressure.clone(), pressure_text, &sources.pressure),
        finding(
            "processor temperature",
            host.cpu_temperature.clone(),
            ToString::to_string,
            &sources.cpu_temperature,
        ),
    ]
}

fn finding<T>(
    subject: impl Into<String>,
    reading: Result<T, String>,
    text: impl Fn(&T) -> String,
    source: &str,
) -> Finding {
    let subject = subject.into();
    match reading {
        Ok(reading) => seen(subject, text(&reading), source),
        Err(reason) => not_seen(subject, reason),
    }
}

fn seen(subject: impl Into<String>, value: impl Into<String>, source: &str) -> Finding {
    let outcome = FindingOutcome::Seen { value: value.into(), source: source.to_owned() };
    Finding { subject: subject.into(), outcome }
}

fn not_seen(subject: impl Into<String>, reason: impl Into<String>) -> Finding {
    Finding { subject: subject.into(), outcome: FindingOutcome::NotSeen { reason: reason.into() } }
}

fn space_text(space: &Space) -> String {
    let [total, others, own] = [space.total, space.others, space.own].map(Bytes::as_gib);
    format!("{total:.2} GiB, of which others use {others:.2} GiB and own models {own:.2} GiB")
}

fn rate_text(rate: &Rate) -> String {
    let [others, own] = [rate.others, rate.own].map(tiershift_core::units::Percent::as_f64);
    format!("others use {others:.1} %, own models {own:.1} %")
}

fn pressure_text(pressure: &Pressure) -> String {
    let Pressure { memory_some, memory_full, cpu_some, io_some } = pressure;
    format!("memory {memory_some} some and {memory_full} full, cpu {cpu_some}, io {io_some} (10 s)")
}

/// Chosen: long enough that a processor tick (10 ms) is two percent of one processor's time.
const BETWEEN_TWO_READINGS: Duration = Duration::from_millis(500);

#[cfg(test)]
mod tests;
