//! Imitates another program that uses half of the processors all the time.

use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

/// Threads that compute until this is dropped.
pub(super) struct BusyLoad {
    is_over: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl BusyLoad {
    /// Keeps half of the processors busy, at least one: see [`crate::measure::calibration::BUSY_LOAD`].
    pub(super) fn start() -> Self {
        let cpus = std::thread::available_parallelism().map_or(1, usize::from);
        let is_over = Arc::new(AtomicBool::new(false));
        let threads = (0..(cpus / 2).max(1)).map(|_| {
            let is_over = Arc::clone(&is_over);
            std::thread::spawn(move || {
                let mut number = 1_u64;
                while !is_over.load(Ordering::Relaxed) {
                    number = black_box(number.wrapping_mul(6_364_136_223_846_793_005));
                }
            })
        });
        Self { threads: threads.collect(), is_over }
    }
}

impl Drop for BusyLoad {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            // A thread that only multiplies does not panic.
            let _ = thread.join();
        }
    }
}
