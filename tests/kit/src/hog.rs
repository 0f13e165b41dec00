//! Another program on this machine: it keeps others' use of memory at a level, whatever else changes.

use std::fs::File;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use tiershift::probe::clock::SystemClock;
use tiershift_core::time::Clock;
use tiershift_core::units::Bytes;

use crate::wait::wait_for;

/// Takes memory and frees it; on drop, all of it.
#[derive(Debug)]
pub struct Hog {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
    /// Only one on a machine: two would each count the other's memory towards the level.
    _alone: File,
}

#[derive(Debug)]
struct Shared {
    /// The desired level of others' use [bytes].
    level: AtomicU64,
    others: AtomicU64,
    /// The processes that do not count as others.
    own: Mutex<Vec<u32>>,
    is_over: AtomicBool,
}

impl Hog {
    /// Begins with nothing. `others` measures how much of the memory is used by other processes than the given ones and their
    /// descendants.
    pub fn start(others: impl FnMut(&[u32]) -> Bytes + Send + 'static) -> Self {
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
            move || shared.run(others)
        });
        Self { shared, thread: Some(thread), _alone: alone }
    }

    /// Sets the process that, with its descendants, does not count as others.
    pub fn spare(&self, pid: u32) {
        *self.shared.own.lock().unwrap_or_else(PoisonError::into_inner) = vec![pid];
    }

    /// Sets a level, and waits until it is reached.
    #[track_caller]
    pub fn hold(&self, level: Bytes) {
        self.shared.level.store(level.get(), Ordering::Relaxed);
        wait_for(|| {
            let others = Bytes::new(self.shared.others.load(Ordering::Relaxed));
            let is_there = others.abs_diff(level) <= CHUNK + CHUNK;
            if is_there { Ok(()) } else { Err(format!("others use {others} and not {level}")) }
        });
    }
}

impl Drop for Hog {
    fn drop(&mut self) {
        self.shared.is_over.store(true, Ordering::Relaxed);
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

impl Shared {
    fn run(&self, mut measure: impl FnMut(&[u32]) -> Bytes) {
        let mut clock = SystemClock::start();
        let mut held: Vec<Vec<u8>> = Vec::new();
        while !self.is_over.load(Ordering::Relaxed) {
            let own = self.own.lock().unwrap_or_else(PoisonError::into_inner).clone();
            let others = measure(&own);
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

/// Large enough that the allocator maps and unmaps each chunk separately.
const CHUNK: Bytes = Bytes::from_mib(40);

/// Short compared with the daemon's 100 ms between two readings: changes by others are corrected before they are read.
const STEP: Duration = Duration::from_millis(10);
