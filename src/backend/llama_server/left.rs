//! Processes that an earlier daemon left behind: it was killed, and could not stop them.
//!
//! Each of our processes carries the folder that it serves from in its environment, from its first moment and as long
//! as it lives. So there is no record that could be torn or out of date: only what the kernel reports of a process
//! counts. One daemon at a time serves from a folder, which the caller ensures: a process with the mark that exists
//! when a daemon begins belongs to no other daemon.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStringExt;
use std::sync::Arc;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use tokio::sync::watch;

/// A process that is not our child. Its descriptor identifies it for certain, although its id may be reused.
#[derive(Debug)]
pub(super) struct Left {
    pub(super) pid: u32,
    /// The arguments with which it was started, without the program's name.
    pub(super) arguments: Vec<OsString>,
    descriptor: Arc<OwnedFd>,
    /// Closed when it ends.
    alive: watch::Receiver<()>,
}

impl Left {
    /// Returns the processes that carry `value` in the variable `key`, in order of their ids.
    pub(super) fn find(key: &str, value: &OsStr) -> Vec<Self> {
        let mut mark = OsString::from(format!("{key}="));
        mark.push(value);
        let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
        let mut pids: Vec<u32> =
            entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
        pids.sort_unstable();
        pids.into_iter()
            .filter(|&pid| carries(pid, &mark))
            .filter_map(|pid| Self::open(pid, &mark).ok())
            .collect()
    }

    fn open(pid: u32, mark: &OsStr) -> io::Result<Self> {
        let id = i32::try_from(pid).ok().and_then(Pid::from_raw).ok_or(io::ErrorKind::NotFound)?;
        let descriptor = Arc::new(pidfd_open(id, PidfdFlags::empty())?);
        // Checked again: before it was held, the id may have passed to another process.
        if !carries(pid, mark) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let arguments = words(&format!("/proc/{pid}/cmdline"))?.into_iter().skip(1).collect();
        let (ended, alive) = watch::channel(());
        let watched = Arc::clone(&descriptor);
        // There are at most as many as models, and a thread that is never joined delays no exit. Tokio waits for a
        // descriptor only in unsafe code.
        std::thread::Builder::new().name("left".to_owned()).spawn(move || {
            // A process's descriptor becomes readable when it ends.
            let mut ready = [PollFd::new(&*watched, PollFlags::IN)];
            while poll(&mut ready, None).is_err_and(|error| error == rustix::io::Errno::INTR) {}
            drop(ended);
        })?;
        Ok(Self { pid, arguments, descriptor, alive })
    }

    /// Returns the value of an option with which it was started.
    pub(super) fn option(&self, name: &str) -> Option<&OsStr> {
        let at = self.arguments.iter().position(|argument| argument == name)?;
        self.arguments.get(at + 1).map(OsString::as_os_str)
    }

    /// Returns the value of a variable in its environment.
    pub(super) fn variable(&self, name: &str) -> Option<String> {
        let all = words(&format!("/proc/{}/environ", self.pid)).ok()?;
        let mut values = all.iter().filter_map(|word| word.to_str()?.strip_prefix(name));
        values.find_map(|value| value.strip_prefix('=').map(str::to_owned))
    }

    /// Returns once it has ended.
    pub(super) async fn wait(&mut self) {
        // Nothing is ever sent: an error is the end.
        let _ = self.alive.changed().await;
    }

    pub(super) fn signal(&self, signal: Signal) {
        // If it has already ended, that is fine.
        let _ = pidfd_send_signal(&self.descriptor, signal);
    }
}

/// Returns whether a process has this in its environment. Processes of other users cannot be read.
fn carries(pid: u32, mark: &OsStr) -> bool {
    words(&format!("/proc/{pid}/environ")).is_ok_and(|words| words.iter().any(|word| word == mark))
}

/// Reads a file of words that are each terminated by a zero byte.
fn words(path: &str) -> io::Result<Vec<OsString>> {
    let bytes = fs::read(path)?;
    let words = bytes.split(|&byte| byte == 0).map(|word| OsString::from_vec(word.to_vec()));
    Ok(words.filter(|word| !word.is_empty()).collect())
}
