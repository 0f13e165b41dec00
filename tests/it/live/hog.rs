//! Another program of this machine: it holds the others' use of memory at a level, whatever else comes and goes.

use std::fs::File;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use tiershift::probe::clock::SystemClock;
use tiershift::probe::system::{OwnProcesses, SystemProbe};
use tiershift_core::probe::Probe;
use tiershift_core::sample::Space;
use tiershift_core::time::{Clock, Timestamp};
use tiershift_core::units::Bytes;

use crate::live::daemon::{PATIENCE, POLL};

/// Takes memory and gives it back. Dropped, it gives all back.
pub(super) struct Hog {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
    /// One at a time on a machine: two would each take the other's memory for the level.
    _alone: File,
}

struct Shared {
    /// Where the others' use is to be [bytes].
    level: AtomicU64,
    others: AtomicU64,
    /// Whose processes are not the others.
    own: Mutex<OwnProcesses>,
    is_over: AtomicBool,
}

impl Hog {
    /// Begins with nothing.
    pub(super) fn start() -> Self {
        let alone = File::create(std::env::temp_dir().join("tiershift-hog.lock")).unwrap();
        alone.lock().unwrap();
        let shared = Arc::new(Shared {
            level: AtomicU64::new(0),
            others: AtomicU64::new(0),
            own: Mutex::default(),
            is_over: AtomicBool::new(false),
        });
        let thread = std::thread::spawn({
            let shared = Arc::clone(&shared);
            move || shared.run()
        });
        Self { shared, thread: Some(thread), _alone: alone }
    }

    /// Says whose memory is not the others': this process's and its descendants'.
    pub(super) fn spare(&self, pid: u32) {
        *self.shared.own.lock().unwrap_or_else(PoisonError::into_inner) = OwnProcesses::new([pid]);
    }

    /// Goes to a level, and waits until it is there.
    #[track_caller]
    pub(super) fn hold(&self, level: Bytes) {
        self.shared.level.store(level.get(), Ordering::Relaxed);
        let mut clock = SystemClock::start();
        let others = || Bytes::new(self.shared.others.load(Ordering::Relaxed));
        while others().abs_diff(level) > CHUNK + CHUNK {
            assert!(clock.now() < Timestamp::ZERO + PATIENCE, "{} is not {level}", others());
            clock.wait_until(clock.now() + POLL);
        }
    }
}

impl Drop for Hog {
    fn drop(&mut self) {
        self.shared.is_over.store(true, Ordering::Relaxed);
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

impl Shared {
    fn run(&self) {
        let mut probe = SystemProbe::new();
        let mut clock = SystemClock::start();
        let mut held: Vec<Vec<u8>> = Vec::new();
        while !self.is_over.load(Ordering::Relaxed) {
            probe
                .set_own_processes(self.own.lock().unwrap_or_else(PoisonError::into_inner).clone());
            let others = space(&mut probe).others;
            self.others.store(others.get(), Ordering::Relaxed);
            let level = Bytes::new(self.level.load(Ordering::Relaxed));
            if others + CHUNK <= level {
                held.push(vec![1; CHUNK.get() as usize]);
            } else if others > level + CHUNK && held.pop().is_some() {
            } else {
                clock.wait_until(clock.now() + STEP);
            }
        }
    }
}

/// Returns the machine's memory now.
pub(super) fn space(probe: &mut SystemProbe) -> Space {
    let sample = probe.sample(SystemClock::start().now()).unwrap();
    sample.memory.expect("Linux tells of its memory")
}

/// Large enough that the allocator maps and unmaps each by itself.
const CHUNK: Bytes = Bytes::from_mib(40);

/// Short beside the daemon's 100 ms between two readings: what others do meanwhile is made good before it is seen.
const STEP: Duration = Duration::from_millis(10);
