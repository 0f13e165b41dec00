//! Reads Linux's `/proc`, under a given root folder, so that tests can provide their own tree.
//!
//! Parsers take text and return its content; they know no file. What is missing or makes no sense is `None`, never
//! zero.

use std::fmt;
use std::path::{Path, PathBuf};

use tiershift_core::units::{Bytes, Percent};

/// The folder that holds `proc` and `sys`; `/` on a machine, a temporary folder in a test.
#[derive(Clone, Debug)]
pub(crate) struct Root(PathBuf);

impl Root {
    /// Uses `folder` as `/`.
    pub(crate) fn new(folder: impl Into<PathBuf>) -> Self {
        Self(folder.into())
    }

    /// Returns the path of the machine's absolute `path` under this root.
    pub(crate) fn locate(&self, path: &Path) -> PathBuf {
        self.0.join(path.strip_prefix("/").unwrap_or(path))
    }

    /// Returns the text of the machine's absolute `path`.
    pub(crate) fn read(&self, path: impl AsRef<Path>) -> Result<String, Unread> {
        let path = path.as_ref();
        let unread = |why: String| Unread { path: path.display().to_string(), why };
        match std::fs::read(self.locate(path)) {
            Ok(bytes) => Ok(String::from_utf8_lossy(&bytes).into_owned()),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                Err(unread("the file does not exist".to_owned()))
            }
            Err(error) => Err(unread(error.to_string())),
        }
    }

    /// Returns a file's one number, or `None` if there is no file or no number in it.
    pub(crate) fn number(&self, path: impl AsRef<Path>) -> Option<u64> {
        self.read(path).ok()?.trim().parse().ok()
    }

    /// Returns the names in the machine's absolute folder `path`, in the order of their numbers, then of their letters;
    /// empty if there is no such folder.
    pub(crate) fn names(&self, path: &str) -> Vec<String> {
        let Ok(entries) = std::fs::read_dir(self.locate(Path::new(path))) else {
            return Vec::new();
        };
        let mut names: Vec<String> =
            entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect();
        names.sort_by_key(|name| {
            let digits = name.trim_start_matches(|c: char| !c.is_ascii_digit());
            (digits.parse::<u32>().unwrap_or(u32::MAX), name.clone())
        });
        names
    }
}

/// Why nothing could be read from a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Unread {
    path: String,
    why: String,
}

impl Unread {
    /// Returns the error that `path` was read but not understood.
    pub(crate) fn not_understood(path: impl AsRef<Path>, wanted: &str) -> Self {
        Self { path: path.as_ref().display().to_string(), why: format!("{wanted} is missing") }
    }
}

impl fmt::Display for Unread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path, self.why)
    }
}

/// The size of a space and how much of it is still available.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Room {
    pub(crate) total: Bytes,
    pub(crate) available: Bytes,
}

/// Reads `/proc/meminfo`'s memory.
///
/// Kernels before 3.14 have no `MemAvailable`; there, free memory and the page cache less shared memory are used, as
/// `free` did then.
pub(crate) fn memory(meminfo: &str) -> Option<Room> {
    let total = kib(meminfo, "MemTotal")?;
    let available = kib(meminfo, "MemAvailable").or_else(|| {
        let cache = kib(meminfo, "Cached")? + kib(meminfo, "Buffers").unwrap_or_default();
        Some(kib(meminfo, "MemFree")? + (cache - kib(meminfo, "Shmem").unwrap_or_default()))
    })?;
    (total > Bytes::ZERO).then_some(Room { total, available: available.min(total) })
}

/// Reads from ZFS's `arcstats` what its cache gives back when memory is needed: everything above its minimum. The
/// kernel does not count it as available, unlike the page cache.
pub(crate) fn reclaimable_arc(arcstats: &str) -> Option<Bytes> {
    let of = |name: &str| {
        // Name, type, value.
        let mut lines = arcstats.lines().map(str::split_ascii_whitespace);
        lines.find_map(|mut words| {
            (words.next() == Some(name)).then(|| words.nth(1)?.parse().ok())?
        })
    };
    Some(Bytes::new(of("size")?) - Bytes::new(of("c_min")?))
}

/// Reads `/proc/meminfo`'s swap space; `None` on a machine without any.
pub(crate) fn swap(meminfo: &str) -> Option<Room> {
    let total = kib(meminfo, "SwapTotal")?;
    let available = kib(meminfo, "SwapFree")?;
    (total > Bytes::ZERO).then_some(Room { total, available: available.min(total) })
}

/// Processor time in ticks since the machine started, over all processors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CpuTicks {
    pub(crate) busy: u64,
    pub(crate) total: u64,
    pub(crate) cpus: u32,
}

/// Reads `/proc/stat`.
///
/// Guest time is already in `user` and `nice` and is not counted twice. Stolen time counts as busy: another machine had
/// the processor, so no process here could use it. Waiting for storage counts as idle.
pub(crate) fn cpu_ticks(stat: &str) -> Option<CpuTicks> {
    let line = stat.lines().find_map(|line| line.strip_prefix("cpu "))?;
    let ticks: Vec<u64> = line.split_ascii_whitespace().map_while(|t| t.parse().ok()).collect();
    let [user, nice, system, idle, rest @ ..] = ticks.as_slice() else { return None };
    let at = |index: usize| rest.get(index).copied().unwrap_or(0);
    let (iowait, irq, softirq, steal) = (at(0), at(1), at(2), at(3));
    let busy = [*user, *nice, *system, irq, softirq, steal];
    let busy = busy.into_iter().fold(0, u64::saturating_add);
    let total = busy.saturating_add(*idle).saturating_add(iowait);
    let numbered = |line: &&str| {
        line.strip_prefix("cpu").is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
    };
    let cpus = stat.lines().filter(numbered).count();
    Some(CpuTicks { busy, total, cpus: u32::try_from(cpus).unwrap_or(u32::MAX).max(1) })
}

/// Reads the one-minute load of `/proc/loadavg`, in thousandths.
pub(crate) fn load_milli(loadavg: &str) -> Option<u32> {
    // A load is not a percentage, but it is read by the same rule: finite, not negative, rounded.
    let load: f64 = loadavg.split_ascii_whitespace().next()?.parse().ok()?;
    Percent::from_f64(load).map(Percent::milli)
}

/// Returns the amount after `key:` in a file of `Key:  1234 kB` lines.
pub(crate) fn kib(text: &str, key: &str) -> Option<Bytes> {
    let value = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'))?;
    let mut words = value.split_ascii_whitespace();
    let amount: u64 = words.next()?.parse().ok()?;
    (words.next() == Some("kB")).then_some(Bytes::from_kib(amount))
}

/// Returns a root folder with these files, for tests.
#[cfg(test)]
pub(super) fn tree(files: &[(&str, &str)]) -> (tempfile::TempDir, Root) {
    let folder = tempfile::tempdir().expect("there is a folder for temporary files");
    for (path, text) in files {
        let path = folder.path().join(path);
        let parent = path.parent().expect("a file is in a folder");
        std::fs::create_dir_all(parent).expect("a temporary folder can be written");
        std::fs::write(path, text).expect("a temporary folder can be written");
    }
    let root = Root::new(folder.path());
    (folder, root)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MEMINFO: &str = "MemTotal:       16000000 kB\nMemFree:         1000000 kB\n\
        MemAvailable:    6000000 kB\nBuffers:          200000 kB\nCached:          5000000 kB\n\
        SwapTotal:       2000000 kB\nSwapFree:         500000 kB\nShmem:            700000 kB\n";

    #[test]
    fn memory_used_is_what_is_not_available() {
        let want =
            Room { total: Bytes::from_kib(16_000_000), available: Bytes::from_kib(6_000_000) };
        assert_eq!(memory(MEMINFO), Some(want));
    }

    #[test]
    fn an_old_kernel_is_read_by_free_memory_and_cache() {
        let old = MEMINFO.replace("MemAvailable", "Something");
        assert_eq!(memory(&old).unwrap().available, Bytes::from_kib(5_500_000));
    }

    #[test]
    fn garbage_in_meminfo_is_absent_not_zero() {
        let cases = [
            "",
            "MemTotal: lots kB\nMemAvailable: 3 kB\n",
            "MemTotal: 0 kB\nMemAvailable: 0 kB\n",
            "MemTotal: 10 kB\n",
            "MemTotal: -5 kB\nMemAvailable: 1 kB\n",
            "MemTotal: 10 MB\nMemAvailable: 1 kB\n",
            "\u{fffd}\u{0}",
        ];
        for text in cases {
            assert_eq!(memory(text), None, "{text:?}");
        }
    }

    #[test]
    fn the_cache_of_zfs_is_given_back_down_to_its_minimum() {
        let arcstats = |size: u64, least: u64| {
            format!(
                "13 1 0x01 123 33456 7890 1234\nname                            type data\n\
                 hits                            4    17\nc_min                           4    {least}\n\
                 size                            4    {size}\ncompressed_size                 4    5\n"
            )
        };
        let check = |text: &str, want: Option<u64>| {
            assert_eq!(reclaimable_arc(text), want.map(Bytes::new), "{text}");
        };
        check(&arcstats(5_000, 1_000), Some(4_000));
        check(&arcstats(500, 1_000), Some(0));
        check("name type data\nsize 4 5000\n", None);
        check("size 4 lots\nc_min 4 7\n", None);
        check("", None);
    }

    #[test]
    fn a_machine_without_swap_has_none() {
        assert_eq!(swap("SwapTotal: 0 kB\nSwapFree: 0 kB\n"), None);
        assert_eq!(swap(MEMINFO).unwrap().available, Bytes::from_kib(500_000));
    }

    #[test]
    fn guest_time_counts_once_and_stolen_time_counts_as_busy() {
        //                user nice system idle iowait irq softirq steal guest guest_nice
        let stat = "cpu  100 10 50 800 40 1 2 7 60 5\ncpu0 1 1 1 1\ncpu1 1 1 1 1\nintr 5\n";
        let want = CpuTicks { busy: 100 + 10 + 50 + 1 + 2 + 7, total: 170 + 840, cpus: 2 };
        assert_eq!(cpu_ticks(stat), Some(want));
    }

    #[test]
    fn garbage_in_stat_is_absent() {
        for text in ["", "cpu", "cpu  1 2 3\n", "cpu  a b c d\n", "cpu0 1 2 3 4\n"] {
            assert_eq!(cpu_ticks(text), None, "{text:?}");
        }
    }

    #[test]
    fn the_load_is_read_in_thousandths() {
        let cases = [
            ("0.03 0.27 0.33 1/87 11268\n", Some(30)),
            ("12.50 1 1", Some(12_500)),
            ("", None),
            ("nan 1 1", None),
            ("-1 0 0", None),
        ];
        for (text, want) in cases {
            assert_eq!(load_milli(text), want, "{text:?}");
        }
    }

    #[test]
    fn names_are_in_the_order_of_their_numbers() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["card10", "card2", "card0", "version"] {
            std::fs::write(folder.path().join(name), "").unwrap();
        }
        assert_eq!(Root::new(folder.path()).names("/"), ["card0", "card2", "card10", "version"]);
        assert!(Root::new(folder.path()).names("/absent").is_empty());
    }
}
