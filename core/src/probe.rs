//! Reads the machine: live, simulated or replayed, behind one trait.

use crate::sample::Sample;
use crate::time::Timestamp;

/// Reads the machine.
pub trait Probe {
    /// Returns a reading. What the machine does not have is `None` in it, never zero.
    ///
    /// # Errors
    /// Where nothing can be read at all; the controller then receives that a sample is missing.
    fn sample(&mut self, now: Timestamp) -> Result<Sample, ProbeError>;

    /// Reads into a sample that is there already. A replay reads millions, and need not move each one about.
    ///
    /// # Errors
    /// As [`Probe::sample`]; what is in `sample` then means nothing.
    fn sample_into(&mut self, now: Timestamp, sample: &mut Sample) -> Result<(), ProbeError> {
        *sample = self.sample(now)?;
        Ok(())
    }
}

/// Why the machine could not be read.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
#[error("{0}")]
pub struct ProbeError(pub String);
