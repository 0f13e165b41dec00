//! The manager's settings.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::time::SpanText;
use crate::units::is_default;

/// The manager's part of a policy file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct RawManagerSettings {
    /// Tier to load at the start. Default: the best that fits, loaded like any upgrade.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub start: Option<String>,
    /// Tier to keep loaded whatever the policy decides, except in a shortage of memory. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pin: Option<String>,
    /// How long running requests may take to finish before a switch; `at-drain-deadline` says what happens then. Default `2m`.
    /// Too short, and requests are cut if that is `cancel`; too long, and a switch takes longer to begin.
    pub drain_deadline: SpanText,
    /// The same in a critical shortage, at 97 % of a space or more. Default `10s`. Too short, and replies are lost that would
    /// have ended; too long, and the machine may run out of memory first.
    pub critical_drain_deadline: SpanText,
    /// What to do with requests that still run at `drain-deadline`: `wait` for them, or `cancel` them. Default `wait`. An
    /// upgrade never cancels a request: if no idle moment is found until then, it is called off.
    pub at_drain_deadline: AtDrainDeadline,
    /// What to do with requests that still run at `critical-drain-deadline`: `wait` or `cancel`. Default `cancel`, because a
    /// machine that runs out of memory kills the model and with it every request. With `wait`, `drain-deadline` and
    /// `at-drain-deadline` apply.
    pub at_critical_drain_deadline: AtDrainDeadline,
    /// Longest time that a reply may take; then the request fails and its model server is replaced. Default: three times what
    /// the longest reply that fits into the model's context takes by the catalog with all slots busy, and at least ten minutes.
    /// Too short, and long replies are cut; too long, and a hung server keeps requests waiting.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reply_limit: Option<SpanText>,
    /// Number of requests that may wait. Default 64; sixteen times as many for clients that stay connected, as those of `serve`
    /// do. Further requests are refused with `queue-full`.
    pub queue_limit: u32,
    /// How long a request may wait to start. Default `60s`. A request whose client stays connected waits without limit while a
    /// model that can serve it is loaded or loading, and this long if nothing is loaded. Too short, and requests are refused
    /// during a load; too long, and users wait for a refusal.
    pub patience: SpanText,
    /// Wait after a failed load, or after a model died for the second time in a row; doubles with each further failure, up to
    /// 32 times. After the first death the model is loaded again at once. Default `10s`. Too short, and a model that cannot
    /// load keeps the machine busy; too long, and service comes back late.
    pub load_retry: SpanText,
    /// Number of failures of a model in a row after which its fallbacks are tried. One failure is forgiven after good service
    /// for `reversal-window`. Default 2.
    pub load_attempts: u32,
    /// Unload a model after no request for this long, and load it again for the next one. Default: never; memory that other
    /// programs need is given back in any case. The time without a model counts as lost service. Too short, and many requests
    /// wait for a load.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub idle_unload: Option<SpanText>,
    /// Whether each loaded model is tested with a short request. A model that is slower than a third of the catalog's speed,
    /// without another program to blame, is loaded again once. Default true. Not used where the catalog's speeds are estimates.
    pub try_out: bool,
    /// Shortest time between two switches that are not forced by a shortage. Default `30s`. Too short, and models alternate;
    /// too long, and orders wait.
    pub switch_cooldown: SpanText,
    /// How long a model that was loaded because requests name it stays loaded, except in a shortage or by an order. Default
    /// `5m`. During this time no model is loaded for another name, and the policy makes no change. Too short, and models
    /// alternate if clients name several; too long, and clients that name another model wait.
    #[serde(skip_serializing_if = "is_usual_stay")]
    pub named_stays: SpanText,
    /// What is unloaded first in a shortage: companions only when the ladder has no smaller model left that fits beside them
    /// (`before-none`), or before the ladder steps down (`before-a-step-down`). Default `before-none`. Of several companions,
    /// the last in the catalog is unloaded first.
    #[serde(skip_serializing_if = "is_default")]
    pub companions_go: CompanionsGo,
}

/// What to do with requests that still run when a drain deadline passes.
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

/// When companions are unloaded in a shortage.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum CompanionsGo {
    /// Before the ladder goes to none: a smaller model with companions is preferred to a larger one without.
    #[default]
    BeforeNone,
    /// Before the ladder steps down: a larger model is preferred to companions.
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

/// Chosen: as long as the stabilization window, and ten times as long as the load of a large model.
const USUAL_STAY: Duration = Duration::from_mins(5);

/// Left out of a file where it is the default: logs of earlier versions have no such key.
fn is_usual_stay(span: &SpanText) -> bool {
    span.0 == USUAL_STAY
}
