//! What is measured of this machine: readings into a trace, and what its models need and do.

#[cfg(feature = "serve")]
pub mod calibrate;
pub mod calibration;
pub mod figure;
pub mod fit;
pub mod record;
#[cfg(feature = "live")]
pub mod stop;
