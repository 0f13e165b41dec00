//! What a person may set of the manager.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::time::SpanText;
use crate::units::is_default;

/// The manager's part of a policy file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct RawManagerSettings {
    /// Tier to load at the start. Default: the best that fits, as an upgrade.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub start: Option<String>,
    /// Tier to keep whatever the policy says, short of a shortage of memory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pin: Option<String>,
    /// How long running tasks may take to finish before a switch. Default `2m`.
    pub drain_deadline: SpanText,
    /// The same in a critical shortage, of 97 % of a space or more. Default `10s`.
    pub critical_drain_deadline: SpanText,
    /// What to do with tasks that still run at `drain-deadline`. Default `wait`: running tasks are finished first. An
    /// upgrade ends no task: one that finds no idle moment until then is called off.
    pub at_drain_deadline: AtDrainDeadline,
    /// What to do with tasks that still run at `critical-drain-deadline`. Default `cancel`, the one exception: a machine
    /// that is out of memory finishes no task, and ends the model instead. With `wait` there is no exception: they have
    /// until `drain-deadline`, and `at-drain-deadline` says what becomes of them.
    pub at_critical_drain_deadline: AtDrainDeadline,
    /// A reply that takes longer never ends: it is given up with an error, and its server is replaced. Default: three times
    /// what the longest reply that the model's context has room for takes by the catalog, with all slots busy; at least
    /// ten minutes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reply_limit: Option<SpanText>,
    /// Requests that may wait. Default 64; of clients that stay connected, as those of `serve` do, sixteen times as many. One more
    /// is answered queue-full.
    pub queue_limit: u32,
    /// How long a request may wait to start. Default `60s`. One whose client stays connected waits without a limit while something
    /// that can serve it is loaded or on its way, and so long with nothing loaded.
    pub patience: SpanText,
    /// Wait after a failed load, or after a model died for the second time in a row; doubles with each further failure up
    /// to 32 times. The first that dies is loaded again at once. Default `10s`.
    pub load_retry: SpanText,
    /// Failures of a model in a row after which its fallbacks are tried. Good service for a reversal window forgives one.
    /// Default 2.
    pub load_attempts: u32,
    /// What nobody has asked for in this long is unloaded, and loaded again for the next request. Default: never; memory that
    /// somebody else wants is given back in any case. The time without a model counts as service that was lost.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub idle_unload: Option<SpanText>,
    /// Whether a model is tried after each load with a short request of our own. One that is slower than a third of the catalog's
    /// speed, with nobody else to blame, is loaded again, once. Default true. Not where the catalog's speeds are guesses.
    pub try_out: bool,
    /// Shortest time between two switches that no shortage forces. Default `30s`.
    pub switch_cooldown: SpanText,
    /// How long a model stays that was loaded because requests name it, short of a shortage or an order. Default `5m`: until then
    /// none is loaded for another name, and the policy moves nothing. Shorter loads more often where clients name several.
    #[serde(skip_serializing_if = "is_usual_stay")]
    pub named_stays: SpanText,
    /// What goes first where a space is short: companions only `before-none`, when the ladder has nothing smaller left that fits
    /// beside them, or `before-a-step-down` of the ladder. Default `before-none`. Of several the last in the catalog is the first to
    /// go.
    #[serde(skip_serializing_if = "is_default")]
    pub companions_go: CompanionsGo,
}

/// What to do with tasks that still run when a drain deadline passes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum AtDrainDeadline {
    /// Let them finish.
    #[default]
    Wait,
    /// Cancel them.
    Cancel,
}

/// When companions are given up, where a space is short.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum CompanionsGo {
    /// Before the ladder goes to none: rather a smaller model with them than a larger one without.
    #[default]
    BeforeNone,
    /// Before the ladder steps down: rather a larger model without them.
    BeforeAStepDown,
}

impl Default for RawManagerSettings {
    fn default() -> Self {
        Self {
            start: None,
            pin: None,
            drain_deadline: SpanText(Duration::from_mins(2)),
            critical_drain_deadline: SpanText(Duration::from_secs(10)),
            at_drain_deadline: AtDrainDeadline::Wait,
            at_critical_drain_deadline: AtDrainDeadline::Cancel,
            reply_limit: None,
            queue_limit: 64,
            patience: SpanText(Duration::from_mins(1)),
            load_retry: SpanText(Duration::from_secs(10)),
            load_attempts: 2,
            idle_unload: None,
            try_out: true,
            switch_cooldown: SpanText(Duration::from_secs(30)),
            named_stays: SpanText(USUAL_STAY),
            companions_go: CompanionsGo::default(),
        }
    }
}

/// Chosen: as long as the stabilization window, and ten times what a load of a large model takes.
const USUAL_STAY: Duration = Duration::from_mins(5);

/// Left out of a file where it is the default: logs of earlier versions have no such key.
fn is_usual_stay(span: &SpanText) -> bool {
    span.0 == USUAL_STAY
}
