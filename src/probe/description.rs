//! What can and cannot be read of the machine, with the reasons, for `tiershift hardware`.

use std::fmt;

use serde::Serialize;
use tiershift_core::machine::{Machine, MachineClass};
use tiershift_core::sample::{GpuSample, Pressure, Rate, Sample, Space};
use tiershift_core::units::{Bytes, Percent};

use crate::probe::host::{HostReading, HostSources};

/// What can and cannot be read of the machine, for `tiershift hardware`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Description {
    /// What the machine has.
    pub machine: Machine,
    /// Its class.
    pub machine_class: MachineClass,
    /// Each thing looked for, in a fixed order.
    pub findings: Vec<Finding>,
    /// The sample behind the findings.
    pub sample: Sample,
}

impl fmt::Display for Description {
    /// Prints a line for each thing: its value and source, or why it was not found.
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
        let (class, lines) = (self.machine_class.name(), self.machine_class.lines());
        write!(f, "{:width$}  {class}: upgrade below {}, ", "machine class", lines.upgrade)?;
        writeln!(f, "step down early above {}", lines.preventive)
    }
}

/// One thing that was looked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Its name: `memory`, `gpu 0 video memory`.
    pub subject: String,
    /// The result.
    #[serde(flatten)]
    pub outcome: FindingOutcome,
}

/// The result of looking for something.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "outcome")]
pub enum FindingOutcome {
    /// It is there.
    Seen {
        /// Its value, as text.
        value: String,
        /// The file or interface that it was read from.
        source: String,
    },
    /// It is not there, which is normal for most things on some machine.
    NotSeen {
        /// Why not.
        reason: String,
    },
}

impl Finding {
    /// Returns the findings for everything but the GPUs.
    pub(super) fn of_host(host: &HostReading, sources: &HostSources) -> Vec<Self> {
        let load = |load: &u32| format!("{}.{:03}", load / 1000, load % 1000);
        let limit = match &sources.limit {
            Ok(file) => Self::seen("control group limit", "sets the size of this machine", file),
            Err(reason) => Self::not_seen("control group limit", reason),
        };
        vec![
            Self::of("memory", host.memory.clone(), space_text, &sources.memory),
            limit,
            Self::of("swap", host.swap.clone(), space_text, &sources.swap),
            Self::of("processors", host.cpu.clone(), rate_text, &sources.cpu),
            Self::of("load", host.load_milli.clone(), load, &sources.load),
            Self::of("pressure", host.pressure.clone(), pressure_text, &sources.pressure),
            Self::of(
                "processor temperature",
                host.cpu_temperature.clone(),
                ToString::to_string,
                &sources.cpu_temperature,
            ),
        ]
    }

    /// Returns the findings for one GPU.
    pub(super) fn of_gpu(index: usize, gpu: &GpuSample, source: &str) -> [Self; 3] {
        let none = || "the driver does not report it".to_owned();
        let about = |what: &str| format!("gpu {index} {what}");
        let temperature = gpu.temperature.ok_or_else(none);
        [
            Self::of(about("video memory"), gpu.vram.ok_or_else(none), space_text, source),
            Self::of(about("utilization"), gpu.utilization.ok_or_else(none), rate_text, source),
            Self::of(about("temperature"), temperature, ToString::to_string, source),
        ]
    }

    fn of<T>(
        subject: impl Into<String>,
        reading: Result<T, String>,
        text: impl Fn(&T) -> String,
        source: &str,
    ) -> Self {
        let subject = subject.into();
        match reading {
            Ok(reading) => Self::seen(subject, text(&reading), source),
            Err(reason) => Self::not_seen(subject, reason),
        }
    }

    fn seen(subject: impl Into<String>, value: impl Into<String>, source: &str) -> Self {
        let outcome = FindingOutcome::Seen { value: value.into(), source: source.to_owned() };
        Self { subject: subject.into(), outcome }
    }

    pub(super) fn not_seen(subject: impl Into<String>, reason: impl Into<String>) -> Self {
        Self { subject: subject.into(), outcome: FindingOutcome::NotSeen { reason: reason.into() } }
    }
}

fn space_text(space: &Space) -> String {
    let [total, others, own] = [space.total, space.others, space.own].map(Bytes::as_gib);
    format!("{total:.2} GiB, of which others use {others:.2} GiB and own models {own:.2} GiB")
}

fn rate_text(rate: &Rate) -> String {
    let [others, own] = [rate.others, rate.own].map(Percent::as_f64);
    format!("others use {others:.1} %, own models {own:.1} %")
}

fn pressure_text(pressure: &Pressure) -> String {
    let Pressure { memory_some, memory_full, cpu_some, io_some } = pressure;
    format!("memory {memory_some} some and {memory_full} full, cpu {cpu_some}, io {io_some} (10 s)")
}
