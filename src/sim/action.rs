//! Actions on the controller during a run, whatever its policy decides.

use std::time::Duration;

use tiershift_core::time::Timestamp;

/// An action on the controller at a moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Action {
    /// The moment.
    pub at: Timestamp,
    /// What happens.
    pub kind: ActionKind,
}

/// The kind of an action on the controller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ActionKind {
    /// A user orders this tier, whatever the policy decides; `none` unloads, `auto` releases the earlier order.
    Switch {
        /// The tier.
        tier: String,
        /// How long the order holds; absent: until it is released.
        for_: Option<Duration>,
    },
    /// The run stops: running requests are finished, models unloaded.
    Shutdown,
}
