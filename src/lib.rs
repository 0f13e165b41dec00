//! tiershift decides which size of a local language model a machine should run right now, and proves the decision.
//!
//! One pure [`Controller`](tiershift_core::controller::Controller) (policy + manager) is driven by two worlds: a
//! simulated one on a virtual clock, and the real one. It cannot know which world it is in. Everything that it receives
//! and answers is an event log, and an event log can be verified, compared, explained and plotted.
//!
//! ```text
//! scenario, trace, the machine --> probe --Sample--> controller [ policy --Decision--> manager ] --Command--> backend
//!                                                        ^                                                    |
//! users ------------------------------Request------------+<----------------------Outcome---------------------+
//!                                            (the loop is closed only in the driver)
//! ```
//!
//! # What is not here
//! - A policy knows no backend, the manager no policy, and neither a clock: time is an argument.
//! - Nothing that reaches a log depends on the wall clock, on thread order, on a hash map's order or on the platform's
//!   mathematics. The same inputs give the same bytes.
//! - Reports decide nothing and recompute nothing: they print the reasons that the run recorded.
//!
//! # Example
//! A machine of 16 GiB whose other programs take 4 GiB, and 8 GiB from the 25th minute on. The controller loads the
//! large model at once, and steps down when the others need the memory.
//!
//! ```
//! use std::time::Duration;
//! use tiershift::core::controller::Detail;
//! use tiershift::core::machine::Machine;
//! use tiershift::core::policy::Registry;
//! use tiershift::core::sample::{Sample, Space};
//! use tiershift::core::setup::Setup;
//! use tiershift::core::time::Timestamp;
//! use tiershift::core::units::Bytes;
//! use tiershift::sim::{Ground, Situation, simulate};
//!
//! let total = Bytes::from_gib(16);
//! let readings = (0..900).map(move |i| {
//!     let at = Timestamp::from_secs(2 * i);
//!     let others = Bytes::from_gib(if at < Timestamp::from_secs(1500) { 4 } else { 8 });
//!     let memory = Some(Space { total, others, own: Bytes::ZERO });
//!     Ok((at, Sample { memory, ..Sample::default() }))
//! });
//! let setup = Setup::of_machine(Machine { memory: total, cpus: 8, ..Machine::default() });
//! let situation = Situation {
//!     duration: Some(Duration::from_mins(30)),
//!     ..Situation::of_recording(setup, Ground::recorded(readings))
//! };
//! let summary = simulate(situation, &Registry::built_in(), Detail::Silent, &mut [])?;
//! assert_eq!((summary.upgrades, summary.downgrades, summary.reversals), (1, 1, 0));
//! assert!(summary.violations.is_empty());
//! # Ok::<(), tiershift::sim::SimulationError>(())
//! ```

pub use tiershift_core as core;

#[cfg(feature = "serve")]
pub mod backend;
pub mod cli;
pub mod exec;
pub mod files;
#[cfg(feature = "serve")]
pub mod inventory;
pub mod log;
pub mod measure;
pub mod probe;
pub mod report;
pub mod scenario;
#[cfg(feature = "serve")]
pub mod serve;
pub mod sim;
pub mod study;
pub mod summary;
pub mod trace;
pub mod wall;
