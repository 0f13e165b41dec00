//! Reads NVIDIA GPUs through NVML, the driver's library, which is loaded at run time: a machine without it is normal.
//!
//! Two halves with a plain value between them: [`Nvidia`] queries the library and fills a [`Reading`]; [`gpu_sample`]
//! interprets a reading and knows no library.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;

use nvml_wrapper::Nvml;
use nvml_wrapper::enum_wrappers::device::TemperatureSensor;
use nvml_wrapper::enums::device::UsedGpuMemory;
use nvml_wrapper::struct_wrappers::device::{ProcessInfo, ProcessUtilizationSample};
use tiershift_core::sample::{GpuSample, Rate, Space};
use tiershift_core::units::{Bytes, Celsius, Percent};

/// The loaded library and its state between readings.
#[derive(Debug)]
pub(crate) struct Nvidia {
    nvml: Nvml,
    /// For each GPU, the moment up to which processes' use was read, in the driver's microseconds.
    seen: BTreeMap<u32, u64>,
}

/// What NVML reported about one GPU at one moment. What it did not report is `None`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Reading {
    pub(crate) name: Option<String>,
    pub(crate) memory_total: Option<u64>,
    pub(crate) memory_free: Option<u64>,
    pub(crate) utilization_percent: Option<u32>,
    pub(crate) temperature_celsius: Option<u32>,
    /// Video memory of each process in each list that contains it; `None` if the driver does not report it.
    pub(crate) processes: Vec<(u32, Option<u64>)>,
    /// Each process's share of kernel time; `None` if the GPU does not report it at all.
    pub(crate) process_utilization: Option<Vec<(u32, u32)>>,
}

impl Nvidia {
    /// Loads the library.
    ///
    /// # Errors
    /// When no library is found, or it finds no driver; the text states which.
    pub(crate) fn load() -> Result<Self, String> {
        let mut why = match Nvml::init() {
            Ok(nvml) => return Ok(Self { nvml, seen: BTreeMap::new() }),
            Err(error) => error.to_string(),
        };
        for path in OTHER_PATHS {
            match Nvml::builder().lib_path(OsStr::new(path)).init() {
                Ok(nvml) => return Ok(Self { nvml, seen: BTreeMap::new() }),
                // The first failure names the well-known file.
                Err(error) => why = why.lines().next().unwrap_or(&error.to_string()).to_owned(),
            }
        }
        Err(format!("NVML is not available, which is normal without an NVIDIA driver ({why})"))
    }

    /// Reads every GPU, in the driver's order. One that cannot be read keeps its place with an empty
    /// reading.
    pub(crate) fn read(&mut self) -> Vec<Reading> {
        let count = self.nvml.device_count().unwrap_or(0);
        (0..count).map(|index| self.read_one(index).unwrap_or_default()).collect()
    }

    fn read_one(&mut self, index: u32) -> Option<Reading> {
        let device = self.nvml.device_by_index(index).ok()?;
        let memory = device.memory_info().ok();
        let lists = [device.running_compute_processes(), device.running_graphics_processes()];
        let since = self.seen.get(&index).copied();
        let shares = match device.process_utilization_stats(since) {
            Ok(samples) => Some(samples),
            // Nothing ran since the last reading.
            Err(nvml_wrapper::error::NvmlError::NotFound) => Some(Vec::new()),
            Err(_) => None,
        };
        let newest = shares.iter().flatten().map(|sample| sample.timestamp).max();
        if let Some(newest) = newest {
            self.seen.insert(index, newest);
        }
        Some(Reading {
            name: device.name().ok(),
            memory_total: memory.as_ref().map(|memory| memory.total),
            memory_free: memory.as_ref().map(|memory| memory.free),
            utilization_percent: device.utilization_rates().ok().map(|rates| rates.gpu),
            temperature_celsius: device.temperature(TemperatureSensor::Gpu).ok(),
            processes: lists.into_iter().flatten().flatten().map(|info| process(&info)).collect(),
            process_utilization: shares.map(|shares| newest_of_each(&shares)),
        })
    }
}

/// Interprets a reading, given the processes of the managed models.
///
/// Used video memory is total less free, which includes what the driver reserves: no program can use that. What is not
/// known to be own counts as others': then a model's own memory looks like pressure, which errs on the safe side.
pub(crate) fn gpu_sample(reading: &Reading, family: &BTreeSet<u32>) -> GpuSample {
    GpuSample {
        vram: vram(reading, family),
        utilization: utilization_rate(reading, family),
        temperature: reading
            .temperature_celsius
            .and_then(|celsius| Celsius::from_f64(f64::from(celsius))),
        ..GpuSample::default()
    }
}

fn vram(reading: &Reading, family: &BTreeSet<u32>) -> Option<Space> {
    let total = Bytes::new(reading.memory_total.filter(|total| *total > 0)?);
    let used = total - Bytes::new(reading.memory_free?);
    // A process that computes and draws is on both lists with the same amount.
    let mut of_process: BTreeMap<u32, u64> = BTreeMap::new();
    for (pid, bytes) in &reading.processes {
        let most = of_process.entry(*pid).or_default();
        *most = (*most).max(bytes.unwrap_or(0));
    }
    let own = of_process.iter().filter(|(pid, _)| family.contains(pid));
    let own: Bytes = own.map(|(_, bytes)| Bytes::new(*bytes)).sum();
    let own = own.min(used);
    Some(Space { total, others: used - own, own })
}

/// If the driver does not separate processes, a GPU on which only own processes run counts as all own.
fn utilization_rate(reading: &Reading, family: &BTreeSet<u32>) -> Option<Rate> {
    let used = Percent::new(reading.utilization_percent.filter(|percent| *percent <= 100)?);
    let own = match &reading.process_utilization {
        Some(shares) => {
            // Some drivers report uninitialised shares for processes that have just begun.
            let own = shares.iter().filter(|(pid, share)| *share <= 100 && family.contains(pid));
            own.map(|(_, share)| Percent::new(*share)).fold(Percent::ZERO, std::ops::Add::add)
        }
        None if reading.processes.is_empty() => Percent::ZERO,
        None if reading.processes.iter().all(|(pid, _)| family.contains(pid)) => used,
        None => Percent::ZERO,
    };
    let own = own.min(used);
    Some(Rate { others: used - own, own })
}

fn process(info: &ProcessInfo) -> (u32, Option<u64>) {
    let bytes = match info.used_gpu_memory {
        UsedGpuMemory::Used(bytes) => Some(bytes),
        UsedGpuMemory::Unavailable => None,
    };
    (info.pid, bytes)
}

/// The driver may report several moments of one process; a share is that of one moment.
fn newest_of_each(samples: &[ProcessUtilizationSample]) -> Vec<(u32, u32)> {
    let mut newest: BTreeMap<u32, &ProcessUtilizationSample> = BTreeMap::new();
    for sample in samples {
        let known = newest.entry(sample.pid).or_insert(sample);
        if sample.timestamp > known.timestamp {
            *known = sample;
        }
    }
    newest.into_values().map(|sample| (sample.pid, sample.sm_util)).collect()
}

/// The paths of the library if the loader does not find `libnvidia-ml.so.1` (or `nvml.dll`): a system with development
/// links only, WSL 2, and Windows drivers before 2017.
const OTHER_PATHS: [&str; 3] = [
    "libnvidia-ml.so",
    "/usr/lib/wsl/lib/libnvidia-ml.so.1",
    "C:\\Program Files\\NVIDIA Corporation\\NVSMI\\nvml.dll",
];

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;

    fn reading() -> Reading {
        Reading {
            memory_total: Some(24 * GIB),
            memory_free: Some(10 * GIB),
            utilization_percent: Some(70),
            temperature_celsius: Some(61),
            processes: vec![(7, Some(8 * GIB)), (8, Some(4 * GIB)), (7, Some(8 * GIB))],
            process_utilization: Some(vec![(7, 50), (8, 20)]),
            ..Reading::default()
        }
    }

    fn own(pids: &[u32]) -> BTreeSet<u32> {
        pids.iter().copied().collect()
    }

    #[test]
    fn own_video_memory_is_counted_once_and_reserved_memory_is_others() {
        let vram = gpu_sample(&reading(), &own(&[7])).vram.unwrap();
        assert_eq!(vram.own, Bytes::from_gib(8));
        assert_eq!(vram.others, Bytes::from_gib(6), "4 of another process and 2 of the driver");
        assert_eq!(vram.total, Bytes::from_gib(24));
    }

    #[test]
    fn own_utilization_is_reported_by_the_driver_or_known_of_who_runs_alone() {
        let split = |reading: &Reading, pids: &[u32]| {
            let rate = gpu_sample(reading, &own(pids)).utilization.unwrap();
            (rate.others.milli() / 1000, rate.own.milli() / 1000)
        };
        assert_eq!(split(&reading(), &[7]), (20, 50));
        let unreported = Reading { process_utilization: None, ..reading() };
        assert_eq!(split(&unreported, &[7]), (70, 0), "8 may have done all of it");
        assert_eq!(split(&unreported, &[7, 8]), (0, 70));
        assert_eq!(split(&Reading { processes: vec![], ..unreported }, &[7]), (70, 0));
        let garbage = Reading { process_utilization: Some(vec![(7, u32::MAX)]), ..reading() };
        assert_eq!(split(&garbage, &[7]), (70, 0));
        let over = Reading { process_utilization: Some(vec![(7, 90)]), ..reading() };
        assert_eq!(split(&over, &[7]), (0, 70), "a part is never more than the whole");
    }

    #[test]
    fn the_newest_share_of_each_process_counts() {
        let sample = |pid, timestamp, sm_util| ProcessUtilizationSample {
            pid,
            timestamp,
            sm_util,
            mem_util: 0,
            enc_util: 0,
            dec_util: 0,
        };
        let samples = [sample(8, 3, 1), sample(7, 2, 40), sample(7, 5, 60), sample(7, 4, 50)];
        assert_eq!(newest_of_each(&samples), [(7, 60), (8, 1)]);
    }

    #[test]
    fn a_gpu_that_tells_nothing_is_present_and_empty() {
        assert_eq!(gpu_sample(&Reading::default(), &own(&[7])), GpuSample::default());
    }

    #[test]
    fn a_gpu_that_shares_the_machines_memory_has_no_video_memory() {
        // As on a DGX Spark or a Jetson, whose NVML answers "not supported".
        let unified = Reading { memory_total: None, memory_free: None, ..reading() };
        let sample = gpu_sample(&unified, &own(&[7]));
        assert_eq!(sample.vram, None);
        assert_eq!(sample.temperature, Some(Celsius::from_milli(61_000)));
        let zero = Reading { memory_total: Some(0), ..reading() };
        assert_eq!(gpu_sample(&zero, &own(&[7])).vram, None);
    }

    #[test]
    fn memory_that_the_driver_does_not_attribute_is_others() {
        // As under WDDM, or if process ids belong to another namespace.
        let unreported = Reading { processes: vec![(7, None)], ..reading() };
        let vram = gpu_sample(&unreported, &own(&[7])).vram.unwrap();
        assert_eq!((vram.others, vram.own), (Bytes::from_gib(14), Bytes::ZERO));
        let excess = Reading { processes: vec![(7, Some(30 * GIB))], ..reading() };
        let vram = gpu_sample(&excess, &own(&[7])).vram.unwrap();
        assert_eq!((vram.others, vram.own), (Bytes::ZERO, Bytes::from_gib(14)));
    }
}
