//! Reads the machine: live, simulated or replayed, behind one trait.

use crate::sample::Sample;
use crate::time::Timestamp;

/// Reads the machine.
pub trait Probe {
    /// Returns a reading. What the machine does not have is `None` in it, never zero.
    ///
    /// # Errors
    /// Where nothing can be read at all; the controller is then told that a sample is missing.
    fn sample(&mut self, now: Timestamp) -> Result<Sample, ProbeError>;
}

/// Why the machine could not be read.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
#[error("{0}")]
pub struct ProbeError(pub String);
