//! Reads a Linux machine, or the container that limits it, from `/proc` and `/sys`.

mod amd;
mod cgroup;
mod own;
mod pressure;
mod procfs;
mod thermal;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use tiershift_core::sample::{GpuSample, Pressure, Rate, Space};
use tiershift_core::time::{Timestamp, nanos};
use tiershift_core::units::{Bytes, Percent};

use crate::probe::host::{HostReading, HostSources};
use crate::probe::linux::amd::Card;
use crate::probe::linux::cgroup::{Cgroups, Limit, Quota};
use crate::probe::linux::own::ProcessTicks;
use crate::probe::linux::pressure::PressureFiles;
use crate::probe::linux::procfs::{CpuTicks, Room, Root, Unread};
use crate::probe::linux::thermal::Sensors;

/// A Linux machine.
#[derive(Debug)]
pub(crate) struct Host {
    root: Root,
    cgroups: Result<Cgroups, Unread>,
    sensors: Sensors,
    cards: Vec<Card>,
    before: Option<CpuBefore>,
    rate: Option<Rate>,
}

/// The processor times at the last reading that a rate was computed from.
#[derive(Debug)]
struct CpuBefore {
    /// `None` if the moment is not known: then only ticks can be compared.
    at: Option<Timestamp>,
    ticks: CpuTicks,
    own: BTreeMap<u32, ProcessTicks>,
    quota_used_ns: Option<u64>,
}

impl Host {
    /// Examines the machine under `root`.
    pub(crate) fn new(root: impl Into<PathBuf>) -> Self {
        let root = Root::new(root);
        let cgroups = Cgroups::discover(&root);
        let sensors = Sensors::discover(&root);
        let cards = Card::discover(&root);
        let mut host = Self { root, cgroups, sensors, cards, before: None, rate: None };
        host.before = host.ticks().ok().map(|ticks| CpuBefore {
            at: None,
            ticks,
            own: BTreeMap::new(),
            quota_used_ns: None,
        });
        host
    }

    /// Returns the own processes with their descendants.
    pub(crate) fn family(&self, pids: &BTreeSet<u32>) -> BTreeSet<u32> {
        own::family(&self.root, pids)
    }

    /// Reads everything but the GPUs.
    pub(crate) fn read(&mut self, now: Timestamp, family: &BTreeSet<u32>) -> HostReading {
        let own = own::memory(&self.root, family);
        let others = |room: Room, held: Bytes| room.total - room.available - held;
        let memory = self.memory().map(|room| Space {
            total: room.total,
            others: others(room, own.held),
            own: own.held + own.mapped,
        });
        let swap = self.swap().map(|room| Space {
            total: room.total,
            others: others(room, own.swapped),
            own: own.swapped,
        });
        HostReading {
            memory,
            swap,
            cpu: self.cpu(now, family),
            load_milli: self.load_milli(),
            pressure: self.pressure(),
            cpu_temperature: self.sensors.hottest(&self.root).ok_or_else(|| {
                "no processor sensor under /sys/class/hwmon or /sys/class/thermal".to_owned()
            }),
        }
    }

    /// Reads the GPUs that the kernel shows: AMD's.
    pub(crate) fn gpus(&self, family: &BTreeSet<u32>) -> Vec<GpuSample> {
        self.cards.iter().map(|card| card.read(&self.root, family)).collect()
    }

    /// Returns the source of each of them, or why there are none.
    pub(crate) fn gpu_sources(&self) -> Result<Vec<String>, &'static str> {
        if self.cards.is_empty() {
            return Err("no amdgpu device under /sys/class/drm");
        }
        Ok(self.cards.iter().map(Card::source).collect())
    }

    /// Returns the size of main memory and swap, and the number of processors.
    pub(crate) fn size(&self) -> (Bytes, Bytes, u32) {
        let total = |room: Result<Room, String>| room.map_or(Bytes::ZERO, |room| room.total);
        let online = self.ticks().map_or(0, |ticks| ticks.cpus);
        // Half a processor still runs threads.
        let quota = self.quota(online).map(|quota| quota.milli_cpus.div_ceil(1000));
        let cpus =
            quota.and_then(|cpus| u32::try_from(cpus).ok()).map_or(online, |q| q.min(online));
        (total(self.memory()), total(self.swap()), cpus)
    }

    /// Returns the source of each reading.
    pub(crate) fn sources(&self) -> HostSources {
        let online = self.ticks().map_or(0, |ticks| ticks.cpus);
        let machine = self.meminfo().ok().and_then(|text| procfs::memory(&text));
        let machine = machine.map_or(Bytes::ZERO, |room| room.total);
        let limit = |limits: &[Limit]| {
            cgroup::tightest(machine, limits).map(|limit| limit.source.display().to_string())
        };
        let has_arc = self.root.read(ARCSTATS).is_ok();
        let memory = if has_arc { format!("{MEMINFO} and {ARCSTATS}") } else { MEMINFO.to_owned() };
        HostSources {
            memory: match limit(&self.memory_limits()) {
                Some(file) => format!("{memory}, limited by {file}"),
                None => memory,
            },
            swap: MEMINFO.to_owned(),
            cpu: match self.quota(online) {
                Some(quota) => format!("the time used of {}", quota.source.display()),
                None => STAT.to_owned(),
            },
            load: LOADAVG.to_owned(),
            pressure: self.pressure_files().source(),
            cpu_temperature: self.sensors.source().unwrap_or_default(),
            limit: match &self.cgroups {
                Ok(_) => limit(&self.memory_limits())
                    .ok_or_else(|| "no control group limits memory below the machine's".to_owned()),
                Err(unread) => Err(unread.to_string()),
            },
        }
    }

    fn meminfo(&self) -> Result<String, String> {
        self.root.read(MEMINFO).map_err(|unread| unread.to_string())
    }

    fn memory(&self) -> Result<Room, String> {
        let mut machine = procfs::memory(&self.meminfo()?)
            .ok_or_else(|| format!("{MEMINFO}: MemTotal or MemAvailable is missing"))?;
        if let Some(arc) =
            self.root.read(ARCSTATS).ok().as_deref().and_then(procfs::reclaimable_arc)
        {
            machine.available = (machine.available + arc).min(machine.total);
        }
        Ok(cgroup::narrow(machine, &self.memory_limits()))
    }

    fn swap(&self) -> Result<Room, String> {
        let machine = procfs::swap(&self.meminfo()?)
            .ok_or_else(|| format!("{MEMINFO}: this machine has no swap space"))?;
        let limits = self.cgroups.as_ref().map(|groups| groups.swap(&self.root));
        let room = cgroup::narrow(machine, &limits.unwrap_or_default());
        let allowed = room.total > Bytes::ZERO;
        allowed.then_some(room).ok_or_else(|| "the control group allows no swap space".to_owned())
    }

    fn memory_limits(&self) -> Vec<Limit> {
        self.cgroups.as_ref().map(|groups| groups.memory(&self.root)).unwrap_or_default()
    }

    /// Returns the quota, if it is less than all processors.
    fn quota(&self, online: u32) -> Option<Quota> {
        let quota = self.cgroups.as_ref().ok()?.quota(&self.root)?;
        (quota.milli_cpus < u64::from(online) * 1000).then_some(quota)
    }

    fn ticks(&self) -> Result<CpuTicks, String> {
        let stat = self.root.read(STAT).map_err(|unread| unread.to_string())?;
        procfs::cpu_ticks(&stat).ok_or_else(|| format!("{STAT}: `cpu` times are missing"))
    }

    fn cpu(&mut self, now: Timestamp, family: &BTreeSet<u32>) -> Result<Rate, String> {
        let ticks = self.ticks()?;
        let quota = self.quota(ticks.cpus);
        let quota_used_ns = quota.as_ref().and_then(|quota| quota.used_ns);
        let own = own::ticks(&self.root, family);
        if let (Some(quota), None) = (&quota, quota_used_ns) {
            let source = quota.source.display();
            return Err(format!("{source}: the time used of this quota cannot be read"));
        }
        let reading = CpuBefore { at: Some(now), ticks, own, quota_used_ns };
        // Under a quota, time is compared with time; the reading at the start has none.
        let comparable = |before: &&CpuBefore| {
            quota.is_none() || (before.at.is_some() && before.quota_used_ns.is_some())
        };
        let Some(before) = self.before.as_ref().filter(comparable) else {
            self.before = Some(reading);
            return Err(NEEDS_TWO.to_owned());
        };
        let passed = ticks.total.saturating_sub(before.ticks.total);
        if passed < MIN_TICKS * u64::from(ticks.cpus) {
            // Read again before the counters could move, as for a pre-flight check: the last rate holds.
            return self.rate.ok_or_else(|| NEEDS_TWO.to_owned());
        }
        let rate = match &quota {
            Some(quota) => rate_of_quota(before, &reading, quota),
            None => rate_of_machine(before, &reading),
        };
        self.before = Some(reading);
        self.rate = rate;
        rate.ok_or_else(|| NEEDS_TWO.to_owned())
    }

    fn load_milli(&self) -> Result<u32, String> {
        let text = self.root.read(LOADAVG).map_err(|unread| unread.to_string())?;
        procfs::load_milli(&text).ok_or_else(|| format!("{LOADAVG}: the load is missing"))
    }

    fn pressure(&self) -> Result<Pressure, String> {
        self.pressure_files().read(&self.root).map_err(|unread| unread.to_string())
    }

    /// A group that is short of memory stalls alone, so a limited group's own pressure is the one that counts.
    fn pressure_files(&self) -> PressureFiles {
        let machine = self.meminfo().ok().and_then(|text| procfs::memory(&text));
        let limits = self.memory_limits();
        let folder = machine
            .and_then(|room| cgroup::tightest(room.total, &limits))
            .and_then(|limit| limit.source.parent());
        folder
            .map(PressureFiles::of_cgroup)
            .filter(|files| files.read(&self.root).is_ok())
            .unwrap_or_else(PressureFiles::of_machine)
    }
}

fn rate_of_machine(before: &CpuBefore, now: &CpuBefore) -> Option<Rate> {
    let passed = now.ticks.total.saturating_sub(before.ticks.total);
    let busy = now.ticks.busy.saturating_sub(before.ticks.busy);
    split(
        Percent::of_count(busy, passed)?,
        Percent::of_count(own::spent_between(&before.own, &now.own), passed)?,
    )
}

/// The whole quota is a hundred percent.
fn rate_of_quota(before: &CpuBefore, now: &CpuBefore, quota: &Quota) -> Option<Rate> {
    let elapsed = nanos(now.at?.since(before.at?));
    let capacity = u128::from(elapsed) * u128::from(quota.milli_cpus) / 1000;
    let capacity = u64::try_from(capacity).ok()?;
    let used = now.quota_used_ns?.saturating_sub(before.quota_used_ns?);
    let own = own::spent_between(&before.own, &now.own).saturating_mul(NANOS_PER_TICK);
    split(Percent::of_count(used, capacity)?, Percent::of_count(own, capacity)?)
}

/// The two counters are not read at one moment, so own use may turn out a little above all use.
fn split(used: Percent, own: Percent) -> Option<Rate> {
    let own = own.min(used);
    Some(Rate { others: used - own, own })
}

const MEMINFO: &str = "/proc/meminfo";
const ARCSTATS: &str = "/proc/spl/kstat/zfs/arcstats";
const STAT: &str = "/proc/stat";
const LOADAVG: &str = "/proc/loadavg";
const NEEDS_TWO: &str = "a rate needs two readings at least 100 ms apart";

/// Ticks of each processor between two readings that give a rate; fewer would round to tens of percent.
const MIN_TICKS: u64 = 10;

/// `USER_HZ` is 100 on every architecture that Linux gives a user-space interface for, whatever the
/// kernel's own tick is. Source: time(7).
const NANOS_PER_TICK: u64 = 10_000_000;

#[cfg(test)]
mod tests;
