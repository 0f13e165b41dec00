//! Processes in Linux: their use of the machine, their relations, and signals to them.

use std::fs;
use std::io;
use std::path::Path;
use std::process::Command;

/// What a process uses of the machine.
#[derive(Clone, Copy, Debug)]
pub struct Footprint {
    /// Its memory in KiB.
    pub resident_kib: u64,
    /// Open files, sockets and pipes.
    pub descriptors: usize,
    /// Running threads.
    pub threads: usize,
    /// Child processes that it has not waited for.
    pub children: usize,
}

impl Footprint {
    /// Reads it.
    ///
    /// # Errors
    /// If there is no such process.
    pub fn of(pid: u32) -> io::Result<Self> {
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

    /// Returns its memory in MiB, for people.
    pub fn resident_mib(self) -> f64 {
        self.resident_kib as f64 / 1024.0
    }
}

/// Returns the processes whose parent is `pid`.
pub fn children(pid: u32) -> Vec<u32> {
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let ids = processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    ids.filter(|id: &u32| {
        // "id (name) state parent ..": the name may contain anything.
        let stat = fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
        let after = stat.rsplit_once(") ").map_or("", |(_, after)| after);
        after.split(' ').nth(1).is_some_and(|parent| parent == pid.to_string())
    })
    .collect()
}

/// Sends a signal.
#[track_caller]
pub fn signal(name: &str, pid: u32) {
    assert!(send(name, pid), "kill -{name} {pid}");
}

/// Sends a signal to a process that may have ended by itself, and returns whether it was there.
pub fn send(name: &str, pid: u32) -> bool {
    // A small system has no program of that name, but every shell has the command.
    let kill = Command::new("sh").args(["-c", &format!("kill -{name} {pid}")]).output();
    kill.is_ok_and(|output| output.status.success())
}

/// Returns whether there is such a process.
pub fn is_there(pid: u32) -> bool {
    Path::new(&format!("/proc/{pid}")).exists()
}

/// Returns the processes that serve a model of this folder, whoever started them.
pub fn servers_of(folder: &Path) -> Vec<u32> {
    let Ok(folder) = folder.canonicalize() else { return Vec::new() };
    let models = format!("{}/", folder.display());
    processes(|line| line.contains("--model\0") && line.contains(&models))
}

/// Returns the processes whose command line, with its words ended by zero bytes, satisfies a predicate.
pub fn processes(is_one: impl Fn(&str) -> bool) -> Vec<u32> {
    let ids = fs::read_dir("/proc").into_iter().flatten().flatten();
    let ids = ids.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    ids.filter(|id: &u32| {
        let line = fs::read(format!("/proc/{id}/cmdline")).unwrap_or_default();
        is_one(&String::from_utf8_lossy(&line))
    })
    .collect()
}
