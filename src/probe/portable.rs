//! Reads a machine that is not Linux through the `sysinfo` crate: memory, swap, processor, load.
//!
//! Linux has its own reader because this one knows no control groups, no pressure and no proportional memory share. On
//! Linux it is built only for the tests, which compare the two.

use std::collections::BTreeSet;

use sysinfo::{Components, MemoryRefreshKind, Pid, ProcessRefreshKind, ProcessesToUpdate, System};
use tiershift_core::sample::{GpuSample, Rate, Space};
use tiershift_core::time::Timestamp;
use tiershift_core::units::{Bytes, Celsius, Percent};

use crate::probe::host::{HostReading, HostSources};

/// A machine as `sysinfo` shows it.
#[derive(Debug)]
pub(crate) struct Host {
    system: Result<System, String>,
    components: Result<Components, String>,
    /// When the processor times were last read; `sysinfo` needs some time between two readings.
    cpu_read_at: Option<Timestamp>,
    rate: Option<Rate>,
}

impl Host {
    /// Examines the machine. The root is ignored: only Linux has its state in files.
    pub(crate) fn new(_root: &str) -> Self {
        let mut system = System::new().map_err(|error| error.to_string());
        if let Ok(system) = &mut system {
            system.refresh_cpu_usage();
            system.refresh_memory();
        }
        let components = Components::new_with_refreshed_list().map_err(|error| error.to_string());
        Self { system, components, cpu_read_at: None, rate: None }
    }

    /// Returns the own processes. Descendants are not followed here.
    pub(crate) fn family(&self, pids: &BTreeSet<u32>) -> BTreeSet<u32> {
        pids.clone()
    }

    /// Reads everything but the GPUs.
    pub(crate) fn read(&mut self, now: Timestamp, family: &BTreeSet<u32>) -> HostReading {
        let cpu_temperature = self.temperature();
        let rate_is_due = self
            .cpu_read_at
            .is_none_or(|read| now.since(read) >= sysinfo::MINIMUM_CPU_UPDATE_INTERVAL);
        let system = match &mut self.system {
            Ok(system) => system,
            Err(why) => return nothing(why, cpu_temperature),
        };
        system.refresh_memory_specifics(MemoryRefreshKind::everything());
        let (resident, busy) = own(system, family);
        if rate_is_due {
            system.refresh_cpu_usage();
            let first = self.cpu_read_at.replace(now).is_none();
            self.rate = if first { None } else { rate(system, busy) };
        }
        HostReading {
            memory: memory(system, resident),
            swap: swap(system),
            cpu: self.rate.ok_or_else(|| "a rate needs two readings".to_owned()),
            load_milli: load_milli(),
            pressure: Err("only Linux reports pressure".to_owned()),
            cpu_temperature,
        }
    }

    /// Returns nothing: `sysinfo` knows no GPUs.
    pub(crate) fn gpus(&self, _: &BTreeSet<u32>) -> Vec<GpuSample> {
        Vec::new()
    }

    /// Returns why there are none.
    pub(crate) fn gpu_sources(&self) -> Result<Vec<String>, &'static str> {
        Err("only Linux shows them in files")
    }

    /// Returns the size of main memory and swap, and the number of processors.
    pub(crate) fn size(&self) -> (Bytes, Bytes, u32) {
        let Ok(system) = &self.system else { return (Bytes::ZERO, Bytes::ZERO, 0) };
        let cpus = u32::try_from(system.cpus().len()).unwrap_or(u32::MAX);
        (Bytes::new(system.total_memory()), Bytes::new(system.total_swap()), cpus)
    }

    /// Returns the source of each reading.
    pub(crate) fn sources(&self) -> HostSources {
        let sysinfo = || "the system's interface, through sysinfo".to_owned();
        HostSources {
            memory: sysinfo(),
            swap: sysinfo(),
            cpu: sysinfo(),
            load: sysinfo(),
            pressure: String::new(),
            cpu_temperature: sysinfo(),
            limit: Err("only Linux has control groups".to_owned()),
        }
    }

    fn temperature(&mut self) -> Result<Celsius, String> {
        let components = self.components.as_mut().map_err(|why| why.clone())?;
        components.refresh(false);
        let is_processor = |label: &str| {
            let label = label.to_ascii_lowercase();
            PROCESSOR_LABELS.iter().any(|part| label.contains(part))
        };
        components
            .iter()
            .filter(|component| is_processor(component.label()))
            .filter_map(|component| Celsius::from_f64(f64::from(component.temperature()?)))
            .max()
            .ok_or_else(|| "no processor sensor".to_owned())
    }
}

fn nothing(why: &str, cpu_temperature: Result<Celsius, String>) -> HostReading {
    HostReading {
        memory: Err(why.to_owned()),
        swap: Err(why.to_owned()),
        cpu: Err(why.to_owned()),
        load_milli: Err(why.to_owned()),
        pressure: Err(why.to_owned()),
        cpu_temperature,
    }
}

/// Returns the own processes' resident memory and their share of one processor, in percent.
fn own(system: &mut System, family: &BTreeSet<u32>) -> (Bytes, f64) {
    let pids: Vec<Pid> = family.iter().copied().map(Pid::from_u32).collect();
    if pids.is_empty() {
        return (Bytes::ZERO, 0.0);
    }
    let what = ProcessRefreshKind::nothing().with_memory().with_cpu();
    system.refresh_processes_specifics(ProcessesToUpdate::Some(&pids), true, what);
    let processes = pids.iter().filter_map(|pid| system.process(*pid));
    processes.fold((Bytes::ZERO, 0.0), |(memory, busy), process| {
        (memory + Bytes::new(process.memory()), busy + f64::from(process.cpu_usage()))
    })
}

/// Resident pages stand for what a process holds: these systems do not separate mapped files.
fn memory(system: &System, resident: Bytes) -> Result<Space, String> {
    let total = Bytes::new(system.total_memory());
    if total == Bytes::ZERO {
        return Err("the system does not report its memory".to_owned());
    }
    let used = total - Bytes::new(system.available_memory());
    let own = resident.min(used);
    Ok(Space { total, others: used - own, own })
}

fn swap(system: &System) -> Result<Space, String> {
    let total = Bytes::new(system.total_swap());
    if total == Bytes::ZERO {
        return Err("this machine has no swap space".to_owned());
    }
    Ok(Space { total, others: Bytes::new(system.used_swap()), own: Bytes::ZERO })
}

fn rate(system: &System, own_of_one_cpu: f64) -> Option<Rate> {
    let cpus = system.cpus().len();
    let used = Percent::from_f64(f64::from(system.global_cpu_usage()))?;
    let own = Percent::from_f64(own_of_one_cpu / cpus.max(1) as f64)?.min(used);
    Some(Rate { others: used - own, own })
}

fn load_milli() -> Result<u32, String> {
    let load = System::load_average().map_err(|error| error.to_string())?.one;
    Percent::from_f64(load).map(Percent::milli).ok_or_else(|| "the load is not a number".to_owned())
}

/// Parts of the names that `sysinfo` gives processor sensors on macOS, Windows and FreeBSD.
const PROCESSOR_LABELS: [&str; 4] = ["cpu", "core", "tdie", "package"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_os = "linux")]
    fn both_readers_see_the_same_machine() {
        let mut portable = Host::new("/");
        let linux = crate::probe::linux::Host::new("/");
        let limited = linux.sources().limit.is_ok();
        let (memory, swap, cpus) = portable.size();
        if limited {
            // `sysinfo` shows the whole machine; a control group gives us a part of it.
            assert!(linux.size().0 < memory);
        } else {
            assert_eq!(linux.size(), (memory, swap, cpus));
        }
        let reading = portable.read(Timestamp::ZERO, &BTreeSet::new());
        let space = reading.memory.unwrap();
        assert!(space.used() > Bytes::ZERO && space.used() < space.total, "{space:?}");
        assert!(reading.cpu.is_err(), "one reading gives no rate");
        assert!(portable.sources().limit.is_err(), "control groups are Linux's");
        assert!(portable.gpus(&BTreeSet::new()).is_empty() && portable.gpu_sources().is_err());
    }

    #[test]
    fn an_own_process_is_taken_from_others() {
        let mut host = Host::new("/");
        let me = host.family(&BTreeSet::from([std::process::id()]));
        let space = host.read(Timestamp::ZERO, &me).memory.unwrap();
        assert!(space.own > Bytes::from_mib(1) && space.own <= space.used(), "{space:?}");
    }
}
