//! What is done to the controller during a run, past its policy.

use std::time::Duration;

use tiershift_core::time::Timestamp;

/// Something that is done to the controller at a moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Action {
    /// The moment.
    pub at: Timestamp,
    /// What is done.
    pub kind: ActionKind,
}

/// What is done to the controller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ActionKind {
    /// Someone orders this tier, past the policy; `none` unloads, `auto` releases what was ordered before.
    Switch {
        /// The tier.
        tier: String,
        /// How long the order holds; without, until it is released.
        for_: Option<Duration>,
    },
    /// The run is to stop: running requests are finished, models unloaded.
    Shutdown,
}
