//! A model's process: one that we started, or one that an earlier daemon left.

use std::collections::VecDeque;
use std::time::Duration;

#[cfg(unix)]
use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, ChildStderr};

#[cfg(target_os = "linux")]
use crate::backend::llama_server::left::Left;

/// A model's process.
pub(super) enum Process {
    /// We started it.
    Child(Child),
    /// An earlier daemon did.
    #[cfg(target_os = "linux")]
    Left(Left),
}

impl Process {
    /// Returns its id, if it has not ended.
    pub(super) fn id(&self) -> Option<u32> {
        match self {
            Self::Child(child) => child.id(),
            #[cfg(target_os = "linux")]
            Self::Left(left) => Some(left.pid),
        }
    }

    /// Waits for its end, and returns how it ended.
    pub(super) async fn wait(&mut self) -> String {
        match self {
            Self::Child(child) => child
                .wait()
                .await
                .map_or_else(|error| error.kind().to_string(), |status| status.to_string()),
            #[cfg(target_os = "linux")]
            Self::Left(left) => {
                left.wait().await;
                "exit status unknown: it was another daemon's child".to_owned()
            }
        }
    }

    /// Ends it and waits for its end.
    pub(super) async fn terminate(&mut self) {
        #[cfg(unix)]
        {
            self.signal(Signal::TERM);
            if tokio::time::timeout(STOP_TIMEOUT, self.wait()).await.is_ok() {
                return;
            }
        }
        self.kill();
        self.wait().await;
    }

    /// Ends it at once, whatever it does.
    pub(super) fn kill(&mut self) {
        #[cfg(unix)]
        self.signal(Signal::KILL);
        #[cfg(not(unix))]
        if let Self::Child(child) = self {
            // An error means that it has ended.
            let _ = child.start_kill();
        }
    }

    #[cfg(unix)]
    fn signal(&self, signal: Signal) {
        match self {
            Self::Child(child) => {
                let pid =
                    child.id().and_then(|pid| i32::try_from(pid).ok()).and_then(Pid::from_raw);
                // It has not been waited for, so its id is still its own.
                if let Some(pid) = pid {
                    let _ = kill_process(pid, signal);
                }
            }
            #[cfg(target_os = "linux")]
            Self::Left(left) => left.signal(signal),
        }
    }
}

/// Like a child, an adopted process ends at the latest with the thread that watches it.
#[cfg(target_os = "linux")]
impl Drop for Process {
    fn drop(&mut self) {
        if let Self::Left(left) = self {
            left.signal(Signal::KILL);
        }
    }
}

/// Reads what a process writes until it ends, and returns the last lines.
pub(super) async fn last_lines(pipe: ChildStderr) -> String {
    let mut lines = VecDeque::new();
    let mut pipe = BufReader::new(pipe);
    let mut line = Vec::new();
    while pipe.read_until(b'\n', &mut line).await.is_ok_and(|read| read > 0) {
        if lines.len() == LAST_LINES {
            lines.pop_front();
        }
        lines.push_back(String::from_utf8_lossy(&line).into_owned());
        line.clear();
    }
    lines.into_iter().collect()
}

/// llama-server's own stop time-out in router mode. Idle servers of 3.4 GB took 140 ms (measured 2026-11-23).
pub(super) const STOP_TIMEOUT: Duration = Duration::from_secs(10);

/// Chosen: the reason for a failed load is in the last five lines.
const LAST_LINES: usize = 12;
