//! Measurements of this machine: samples into a trace, and what its models need and how fast they are.

#[cfg(feature = "serve")]
pub mod calibrate;
pub mod calibration;
pub mod figure;
pub mod fit;
pub mod record;
#[cfg(feature = "live")]
pub mod stop;
