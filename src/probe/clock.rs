//! The machine's clock and date: the one place that reads them, and the one place that waits.

use jiff::tz::Offset;
use tiershift_core::time::{Clock, Timestamp};

use crate::wall::WallTime;

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

/// Returns the date in UTC, to the second, for the head of a recording.
pub fn date() -> WallTime {
    let seconds = jiff::Timestamp::now().as_second();
    let now = jiff::Timestamp::from_second(seconds).unwrap_or_default();
    WallTime::new(Offset::UTC.to_datetime(now), Some(Offset::UTC))
}
