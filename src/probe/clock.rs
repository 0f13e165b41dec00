//! The machine's clock: the one place that reads it, and the one place that waits for it.

use tiershift_core::time::{Clock, Timestamp};

/// The machine's monotonic clock, counted from its creation.
#[derive(Debug)]
pub struct SystemClock {
    began: std::time::Instant,
}

impl SystemClock {
    /// Starts counting now.
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the machine's clock")]
    pub fn start() -> Self {
        Self { began: std::time::Instant::now() }
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        Timestamp::ZERO + self.began.elapsed()
    }

    #[expect(clippy::disallowed_methods, reason = "the one place that waits")]
    fn wait_until(&mut self, deadline: Timestamp) -> Timestamp {
        std::thread::sleep(deadline.since(self.now()));
        self.now()
    }
}
