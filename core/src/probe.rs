//! Reads the machine: live, simulated or replayed, behind one trait.

use crate::sample::Sample;
use crate::time::Timestamp;

/// Reads the machine.
pub trait Probe {
    /// Returns a sample. What the machine does not have is `None` in it, never zero.
    ///
    /// # Errors
    /// When nothing can be read at all; the controller then receives that a sample is missing.
    fn sample(&mut self, now: Timestamp) -> Result<Sample, ProbeError>;

    /// Reads into an existing sample. A replay reads millions, and avoids moving each one.
    ///
    /// # Errors
    /// As [`Probe::sample`]; the contents of `sample` then have no meaning.
    fn sample_into(&mut self, now: Timestamp, sample: &mut Sample) -> Result<(), ProbeError> {
        *sample = self.sample(now)?;
        Ok(())
    }
}

/// Why the machine could not be read.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
#[error("{0}")]
pub struct ProbeError(pub String);
