//! What a process holds of the machine. Linux only.

use std::fs;
use std::io;

/// What a process holds of the machine.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Footprint {
    pub(crate) resident_kib: u64,
    pub(crate) descriptors: usize,
    pub(crate) threads: usize,
    pub(crate) children: usize,
}

impl Footprint {
    /// Reads it.
    ///
    /// # Errors
    /// Where there is no such process.
    pub(crate) fn of(pid: u32) -> io::Result<Self> {
        let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
        let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let resident = resident.and_then(|line| line.split_ascii_whitespace().next()?.parse().ok());
        let count = |what: &str| -> io::Result<usize> {
            Ok(fs::read_dir(format!("/proc/{pid}/{what}"))?.count())
        };
        Ok(Self {
            resident_kib: resident.ok_or_else(|| io::Error::other("it has ended"))?,
            descriptors: count("fd")?,
            threads: count("task")?,
            children: children(pid).len(),
        })
    }

    pub(crate) fn resident_mib(self) -> f64 {
        self.resident_kib as f64 / 1024.0
    }
}

/// Returns the processes whose parent is `pid`.
pub(crate) fn children(pid: u32) -> Vec<u32> {
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let ids = processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    ids.filter(|id: &u32| {
        // "id (name) state parent ..": the name may hold anything.
        let stat = fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
        let after = stat.rsplit_once(") ").map_or("", |(_, after)| after);
        after.split(' ').nth(1).is_some_and(|parent| parent == pid.to_string())
    })
    .collect()
}
