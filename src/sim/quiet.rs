//! Since when a scripted world is quiet: nothing changes in it any more except by our actions.

use std::time::Duration;

use tiershift_core::time::Timestamp;

use crate::sim::Situation;
use crate::sim::action::{Action, ActionKind};
use crate::sim::fault::{Fault, FaultKind};

/// Returns since when others' use no longer changes, no fault is open, and there are no requests or orders; `None` if
/// that is never so, or not known, as for a recording.
pub(super) fn quiet_since(situation: &Situation) -> Option<Timestamp> {
    let end = Timestamp::ZERO + situation.duration?;
    let others = situation.ground.settled_at()?;
    let faults = situation.faults.iter().map(fault_over);
    let requests = situation.workloads.iter().map(|workload| workload.until);
    let orders = situation.actions.iter().map(action_over);
    let quiet = faults.chain(requests).chain(orders).fold(others, Ord::max);
    (quiet < end).then_some(quiet)
}

/// Returns when a fault has no further effect of its own.
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
