//! Since when a scripted world is quiet: nothing changes in it any more but by what we do.

use std::time::Duration;

use tiershift_core::time::Timestamp;

use crate::sim::Situation;
use crate::sim::action::{Action, ActionKind};
use crate::sim::fault::{Fault, FaultKind};

/// Returns since when others use what they use at the end, no fault is open, nobody asks and nobody orders; `None` where that
/// is never so, or not known: of a recording, say.
pub(super) fn quiet_since(situation: &Situation) -> Option<Timestamp> {
    let end = Timestamp::ZERO + situation.duration?;
    let others = situation.ground.settled_at()?;
    let faults = situation.faults.iter().map(fault_over);
    let requests = situation.workloads.iter().map(|workload| workload.until);
    let orders = situation.actions.iter().map(action_over);
    let quiet = faults.chain(requests).chain(orders).fold(others, Ord::max);
    (quiet < end).then_some(quiet)
}

/// Returns when nothing of a fault is left that its world does.
fn fault_over(fault: &Fault) -> Timestamp {
    if let FaultKind::Suspend { asleep } = &fault.kind {
        return fault.at + asleep.0;
    }
    if fault.kind.is_moment() {
        return fault.at;
    }
    fault.until + fault.kind.lasts_after()
}

fn action_over(action: &Action) -> Timestamp {
    match &action.kind {
        ActionKind::Switch { for_, .. } => action.at + for_.unwrap_or(Duration::ZERO),
        ActionKind::Shutdown => action.at,
    }
}
