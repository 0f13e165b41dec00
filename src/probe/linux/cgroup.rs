//! Reads Linux control groups, version 2 and 1: inside a container the limit is the machine.
//!
//! Every ancestor may set a limit, and the tightest one counts. A limit at or above the machine's size limits nothing,
//! which also covers version 1's "no limit" (a number close to 2^63).

use std::path::{Path, PathBuf};

use tiershift_core::units::Bytes;

use crate::probe::linux::procfs::{Room, Root, Unread};

/// The control groups of this process, from its own up to the visible top.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Cgroups {
    unified: Vec<PathBuf>,
    memory: Vec<PathBuf>,
    cpu: Vec<PathBuf>,
    cpu_account: Vec<PathBuf>,
}

/// A limit on a space, and what is used of it if that can be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Limit {
    pub(crate) limit: Bytes,
    pub(crate) used: Option<Bytes>,
    /// The file that sets the limit.
    pub(crate) source: PathBuf,
}

/// A limit on processor time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Quota {
    /// Thousandths of a processor.
    pub(crate) milli_cpus: u64,
    /// Processor time used so far, in nanoseconds, if it can be read.
    pub(crate) used_ns: Option<u64>,
    /// The file that sets the limit.
    pub(crate) source: PathBuf,
}

impl Cgroups {
    /// Finds the groups of this process.
    pub(crate) fn discover(root: &Root) -> Result<Self, Unread> {
        let mounts = mounts(&root.read("/proc/self/mountinfo")?);
        let memberships = memberships(&root.read("/proc/self/cgroup")?);
        let chain = |controller: Option<&str>| {
            let mount = mounts.iter().find(|mount| mount.serves(controller))?;
            let member = memberships.iter().find(|member| member.serves(controller))?;
            Some(mount.chain(&member.path))
        };
        Ok(Self {
            unified: chain(None).unwrap_or_default(),
            memory: chain(Some("memory")).unwrap_or_default(),
            cpu: chain(Some("cpu")).unwrap_or_default(),
            cpu_account: chain(Some("cpuacct")).unwrap_or_default(),
        })
    }

    /// Returns every limit on memory, in any order.
    pub(crate) fn memory(&self, root: &Root) -> Vec<Limit> {
        let unified = self.unified.iter().filter_map(|folder| {
            let (limit, source) = ["memory.max", "memory.high"]
                .into_iter()
                .filter_map(|file| Some((limit(root, &folder.join(file))?, folder.join(file))))
                .min()?;
            Some(Limit { limit, used: used_v2(root, folder), source })
        });
        let legacy = self.memory.iter().filter_map(|folder| {
            let source = folder.join("memory.limit_in_bytes");
            let limit = limit(root, &source)?;
            Some(Limit { limit, used: used_v1(root, folder), source })
        });
        unified.chain(legacy).collect()
    }

    /// Returns every limit on swap space.
    pub(crate) fn swap(&self, root: &Root) -> Vec<Limit> {
        let unified = self.unified.iter().filter_map(|folder| {
            let source = folder.join("memory.swap.max");
            // Unlike for memory, a swap limit of zero is common and valid.
            let limit = Bytes::new(root.number(&source)?);
            let used = root.number(folder.join("memory.swap.current")).map(Bytes::new);
            Some(Limit { limit, used, source })
        });
        let legacy = self.memory.iter().filter_map(|folder| {
            let source = folder.join("memory.memsw.limit_in_bytes");
            let both = limit(root, &source)?;
            let memory = limit(root, &folder.join("memory.limit_in_bytes"))?;
            let usage = |file: &str| root.number(folder.join(file)).map(Bytes::new);
            let used = usage("memory.memsw.usage_in_bytes")
                .zip(usage("memory.usage_in_bytes"))
                .map(|(both, memory)| both - memory);
            Some(Limit { limit: both - memory, used, source })
        });
        unified.chain(legacy).collect()
    }

    /// Returns the tightest limit on processor time.
    pub(crate) fn quota(&self, root: &Root) -> Option<Quota> {
        let unified = self.unified.iter().filter_map(|folder| {
            let source = folder.join("cpu.max");
            let text = root.read(&source).ok()?;
            let mut words = text.split_ascii_whitespace();
            let milli_cpus = milli_cpus(words.next()?.parse().ok()?, words.next()?.parse().ok()?)?;
            let used_ns = cpu_usage_v2(root, folder);
            Some(Quota { milli_cpus, used_ns, source })
        });
        let legacy = self.cpu.iter().enumerate().filter_map(|(level, folder)| {
            let source = folder.join("cpu.cfs_quota_us");
            // No limit is -1, which is not an unsigned number.
            let quota = root.number(&source)?;
            let milli_cpus = milli_cpus(quota, root.number(folder.join("cpu.cfs_period_us"))?)?;
            let account = self.cpu_account.get(level)?;
            Some(Quota { milli_cpus, used_ns: root.number(account.join("cpuacct.usage")), source })
        });
        unified.chain(legacy).min_by_key(|quota| quota.milli_cpus)
    }
}

/// Narrows the machine's room by the limits. The total is the lowest limit; what is available is the least that the
/// machine, or any group, has left: a group may be empty while its parent is full.
pub(crate) fn narrow(machine: Room, limits: &[Limit]) -> Room {
    limits.iter().filter(|limit| limit.limit < machine.total).fold(machine, |room, limit| {
        let left = limit.limit - limit.used.unwrap_or_default();
        Room { total: room.total.min(limit.limit), available: room.available.min(left) }
    })
}

/// Returns the limit that determines the machine's size, if one does.
pub(crate) fn tightest(machine: Bytes, limits: &[Limit]) -> Option<&Limit> {
    limits.iter().filter(|limit| limit.limit < machine).min_by_key(|limit| limit.limit)
}

/// A mounted hierarchy.
struct Mount {
    /// The group that is mounted; not `/` if a container sees only its own part.
    top: PathBuf,
    folder: PathBuf,
    /// `None` for version 2.
    controllers: Option<Vec<String>>,
}

/// A group of this process.
struct Membership {
    /// `None` for version 2.
    controllers: Option<Vec<String>>,
    path: PathBuf,
}

impl Mount {
    fn serves(&self, controller: Option<&str>) -> bool {
        serves(self.controllers.as_deref(), controller)
    }

    /// Returns the folders from the group at `path` up to the mount point.
    fn chain(&self, path: &Path) -> Vec<PathBuf> {
        let outside = path.components().any(|part| part == std::path::Component::ParentDir);
        // A path that is not below the mounted group comes from another namespace: then only the mount point is known
        // to apply to this process.
        let below = path.strip_prefix(&self.top).ok().filter(|_| !outside).unwrap_or(Path::new(""));
        let full = self.folder.join(below);
        let visible = |folder: &&Path| folder.starts_with(&self.folder);
        full.ancestors().take_while(visible).map(Path::to_path_buf).collect()
    }
}

impl Membership {
    fn serves(&self, controller: Option<&str>) -> bool {
        serves(self.controllers.as_deref(), controller)
    }
}

fn serves(controllers: Option<&[String]>, wanted: Option<&str>) -> bool {
    match (controllers, wanted) {
        (None, None) => true,
        (Some(controllers), Some(wanted)) => controllers.iter().any(|name| name == wanted),
        (None, Some(_)) | (Some(_), None) => false,
    }
}

/// Reads the cgroup lines of proc_pid_mountinfo(5).
fn mounts(mountinfo: &str) -> Vec<Mount> {
    let mount = |line: &str| {
        let (before, after) = line.split_once(" - ")?;
        let mut before = before.split(' ').skip(3);
        let (top, folder) = (before.next()?, before.next()?);
        let mut after = after.split(' ');
        let controllers = match after.next()? {
            "cgroup2" => None,
            "cgroup" => Some(names(after.nth(1)?)),
            _ => return None,
        };
        Some(Mount { top: unescape(top), folder: unescape(folder), controllers })
    };
    mountinfo.lines().filter_map(mount).collect()
}

/// Reads `/proc/self/cgroup`: `0::/path` for version 2, `4:memory:/path` for version 1.
fn memberships(cgroup: &str) -> Vec<Membership> {
    let membership = |line: &str| {
        let mut parts = line.splitn(3, ':');
        let (number, controllers) = (parts.next()?, parts.next()?);
        let unified = number == "0" && controllers.is_empty();
        Some(Membership {
            controllers: (!unified).then(|| names(controllers)),
            path: PathBuf::from(parts.next()?),
        })
    };
    cgroup.lines().filter_map(membership).collect()
}

fn names(list: &str) -> Vec<String> {
    list.split(',').map(str::to_owned).collect()
}

/// A space is the only character in names of folders that the kernel escapes.
fn unescape(path: &str) -> PathBuf {
    PathBuf::from(path.replace("\\040", " "))
}

/// Returns a limit; `max`, garbage, no file and zero (under which nothing could run) are none.
fn limit(root: &Root, file: &Path) -> Option<Bytes> {
    root.number(file).filter(|limit| *limit > 0).map(Bytes::new)
}

/// Page cache counts as available, as in the machine's own `MemAvailable`: both of its lists, because a model's mapped
/// weights are on the active one, and they are counted with the model.
fn used_v2(root: &Root, folder: &Path) -> Option<Bytes> {
    let current = Bytes::new(root.number(folder.join("memory.current"))?);
    let stat = root.read(folder.join("memory.stat")).unwrap_or_default();
    Some(current - sum(&stat, &["inactive_file", "active_file", "slab_reclaimable"]))
}

fn used_v1(root: &Root, folder: &Path) -> Option<Bytes> {
    let current = Bytes::new(root.number(folder.join("memory.usage_in_bytes"))?);
    let stat = root.read(folder.join("memory.stat")).unwrap_or_default();
    Some(current - sum(&stat, &["total_inactive_file", "total_active_file"]))
}

fn cpu_usage_v2(root: &Root, folder: &Path) -> Option<u64> {
    let stat = root.read(folder.join("cpu.stat")).ok()?;
    flat(&stat, "usage_usec").map(|micros| micros.saturating_mul(1000))
}

fn milli_cpus(quota_us: u64, period_us: u64) -> Option<u64> {
    quota_us.saturating_mul(1000).checked_div(period_us).filter(|cpus| *cpus > 0)
}

fn sum(stat: &str, keys: &[&str]) -> Bytes {
    keys.iter().filter_map(|key| flat(stat, key)).map(Bytes::new).sum()
}

/// Returns the number after `key` in a file of `key number` lines.
fn flat(stat: &str, key: &str) -> Option<u64> {
    stat.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' ')?.trim().parse().ok())
}

#[cfg(test)]
mod tests;
