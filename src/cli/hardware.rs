//! `tiershift hardware`: what can be measured on this machine.

use anyhow::Result;
use clap::Args;

use crate::cli::{Verdict, common};
use crate::probe::clock::SystemClock;
use crate::probe::system::SystemProbe;

/// Show what can be measured on this machine, and its machine class
#[derive(Debug, Args)]
pub(super) struct Arguments {}

pub(super) fn run(_: &Arguments, json: bool) -> Result<Verdict> {
    let description = SystemProbe::new().describe(&mut SystemClock::start())?;
    if json {
        common::print_json(&description)?;
    } else {
        common::print(&description.to_string())?;
    }
    Ok(Verdict::Done)
}
