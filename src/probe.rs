//! The machine that this program runs on: its clock, and its readings behind the core's
//! [`Probe`](tiershift_core::probe::Probe).

#[cfg(all(feature = "live", target_os = "linux"))]
mod amd;
#[cfg(all(feature = "live", target_os = "linux"))]
mod cgroup;
pub mod clock;
#[cfg(all(feature = "live", target_os = "linux"))]
mod linux;
#[cfg(feature = "live")]
mod nvidia;
#[cfg(all(feature = "live", target_os = "linux"))]
mod own;
#[cfg(all(feature = "live", any(not(target_os = "linux"), test)))]
mod portable;
#[cfg(all(feature = "live", target_os = "linux"))]
mod pressure;
#[cfg(all(feature = "live", target_os = "linux"))]
mod procfs;
#[cfg(feature = "live")]
pub mod system;
#[cfg(all(feature = "live", target_os = "linux"))]
mod thermal;
