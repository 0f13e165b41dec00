//! The machine that this program runs on: its clock, and its samples behind the core's
//! [`Probe`](tiershift_core::probe::Probe).

pub mod clock;
#[cfg(feature = "live")]
pub mod description;
#[cfg(feature = "live")]
mod host;
#[cfg(all(feature = "live", target_os = "linux"))]
mod linux;
#[cfg(feature = "live")]
mod nvidia;
#[cfg(all(feature = "live", any(not(target_os = "linux"), test)))]
mod portable;
#[cfg(feature = "live")]
pub mod system;
