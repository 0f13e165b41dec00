//! Cuts a part out of a trace: its moments count from its first row, and its wall clock is cut too.

use tiershift_core::time::Timestamp;

use crate::trace::TraceError;
use crate::wall::{Part, WallClock};

/// Cuts a part out of a recording while it passes.
#[derive(Clone, Debug, Default)]
pub(crate) struct Cut {
    part: Part,
    /// The wall clock of the whole recording.
    pub(crate) whole_clock: WallClock,
    /// The last moment of the whole recording so far.
    end: Timestamp,
    rows: u64,
}

impl Cut {
    pub(crate) fn new(part: Part) -> Self {
        Self { part, ..Self::default() }
    }

    /// Returns the moment in the part of a row of the whole recording; `None` for a row outside it.
    #[inline]
    pub(crate) fn place(&mut self, at: Timestamp) -> Option<Timestamp> {
        self.end = at;
        if self.rows == 0 && self.part.place(at).is_some() {
            // The part begins with a sample, as a whole recording does.
            self.part.from = at;
        }
        let placed = self.part.place(at);
        self.rows += u64::from(placed.is_some());
        placed
    }

    /// Returns how many rows are in the part so far.
    pub(crate) fn rows(&self) -> u64 {
        self.rows
    }

    /// Returns the part's clock, as far as that of the whole is known.
    pub(crate) fn clock(&self) -> WallClock {
        self.whole_clock.from_moment(self.part.from)
    }

    /// Refuses a part without a row, at the end of the file `name`.
    pub(crate) fn check(&self, name: &str) -> Result<(), TraceError> {
        match self.rows {
            0 => Err(TraceError::Ask {
                name: name.to_owned(),
                reason: self.part.nothing(&self.whole_clock, self.end),
            }),
            _ => Ok(()),
        }
    }
}
