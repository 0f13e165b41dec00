//! What everybody else uses: a script, or a recording.

use std::time::Duration;

use crate::sample::Sample;
use crate::scenario::Background;
use crate::time::Timestamp;

/// A reading of a recorded trace, or why there are no more.
pub type Reading = Result<(Timestamp, Sample), String>;

/// A source of others' use.
pub enum Others {
    /// A scripted background, read on a regular grid.
    Scripted {
        /// The background.
        background: Background,
        /// The grid.
        interval: Duration,
    },
    /// A recording, read at its own times; between two readings the first one holds.
    Recorded {
        /// The readings that are still to come.
        readings: Box<dyn Iterator<Item = Reading>>,
        /// The next of them.
        next: Option<(Timestamp, Sample)>,
        /// Why they broke off.
        error: Option<String>,
    },
}

impl Others {
    /// Returns a script.
    pub fn scripted(background: Background, interval: Duration) -> Self {
        Self::Scripted { background, interval }
    }

    /// Returns a recording.
    pub fn recorded(readings: impl Iterator<Item = Reading> + 'static) -> Self {
        let mut others = Self::Recorded { readings: Box::new(readings), next: None, error: None };
        others.pull();
        others
    }

    /// Returns when the machine is first read.
    pub(super) fn first_due(&self) -> Option<Timestamp> {
        match self {
            Self::Scripted { .. } => Some(Timestamp::ZERO),
            Self::Recorded { next, .. } => next.as_ref().map(|(at, _)| *at),
        }
    }

    /// Returns when the machine is read after a reading at `now`: the next point of the grid, or the next row.
    pub(super) fn due_after(&self, now: Timestamp) -> Option<Timestamp> {
        match self {
            Self::Scripted { interval, .. } => {
                let interval = crate::time::nanos(*interval);
                Some(Timestamp::from_nanos((now.as_nanos() / interval + 1) * interval))
            }
            Self::Recorded { next, .. } => next.as_ref().map(|(at, _)| *at),
        }
    }

    /// Brings `sample` up to what holds at `now`. Own use in a recording is left out: a replay has its own.
    pub(super) fn read(&mut self, now: Timestamp, sample: &mut Sample) {
        match self {
            Self::Scripted { background, .. } => *sample = background.sample(now),
            Self::Recorded { .. } => {
                while let Self::Recorded { next, .. } = self
                    && let Some((at, reading)) = next
                    && *at <= now
                {
                    std::mem::swap(sample, reading);
                    *next = None;
                    self.pull();
                }
            }
        }
    }

    pub(super) fn take_error(&mut self) -> Option<String> {
        match self {
            Self::Scripted { .. } => None,
            Self::Recorded { error, .. } => error.take(),
        }
    }

    fn pull(&mut self) {
        if let Self::Recorded { readings, next, error } = self {
            match readings.next() {
                Some(Ok(reading)) => *next = Some(reading),
                Some(Err(why)) => *error = Some(why),
                None => {}
            }
        }
    }
}
