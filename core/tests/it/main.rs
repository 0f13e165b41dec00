//! Policy, manager, controller and driver from outside: each rule as a short story.

#![expect(clippy::unwrap_used, reason = "what helps a test is a test too")]

mod closed_loop;
mod companions;
mod driver;
mod hunted;
mod idle;
mod manager;
mod metamorphic;
mod named;
mod policy;
mod requests;
mod rig;
mod shortage;
mod tryout;
