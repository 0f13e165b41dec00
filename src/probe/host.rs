//! The result of reading a machine: everything but NVIDIA's GPUs, and the source of each reading.

use tiershift_core::sample::{Pressure, Rate, Space};
use tiershift_core::units::Celsius;

/// Everything but the GPUs, each reading with the reason if there is none.
#[derive(Debug)]
pub(crate) struct HostReading {
    pub(crate) memory: Result<Space, String>,
    pub(crate) swap: Result<Space, String>,
    pub(crate) cpu: Result<Rate, String>,
    pub(crate) load_milli: Result<u32, String>,
    pub(crate) pressure: Result<Pressure, String>,
    pub(crate) cpu_temperature: Result<Celsius, String>,
}

/// The source of each reading, as text.
#[derive(Debug)]
pub(crate) struct HostSources {
    pub(crate) memory: String,
    pub(crate) swap: String,
    pub(crate) cpu: String,
    pub(crate) load: String,
    pub(crate) pressure: String,
    pub(crate) cpu_temperature: String,
    /// The limit that makes the machine smaller than it is, or why there is none.
    pub(crate) limit: Result<String, String>,
}
