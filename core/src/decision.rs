//! What a policy decides, and why, with the numbers that it decided on.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::catalog::Rung;
use crate::sample::Resource;
use crate::time::duration_ns;
use crate::units::{Bytes, Percent};

/// What the policy wants, and why. A hold carries its reason too.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decision {
    /// What to do.
    pub action: Action,
    /// The rung that served when this was decided.
    pub rung: Rung,
    /// Why.
    pub reason: Reason,
    /// Every condition that the next upgrade must pass, where the log asks for them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gates: Vec<Gate>,
}

impl Decision {
    /// Returns a decision on `rung`, without gates.
    pub fn new(rung: Rung, action: Action, reason: Reason) -> Self {
        Self { action, rung, reason, gates: Vec::new() }
    }
}

/// What to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Action {
    /// Stay.
    Hold,
    /// Go up.
    Upgrade {
        /// The rung to serve from.
        to: Rung,
    },
    /// Go down.
    Downgrade {
        /// The rung to serve from.
        to: Rung,
        /// How fast.
        urgency: Urgency,
    },
}

/// How fast a downgrade must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Urgency {
    /// A slow reply, a busy processor: finish running tasks under the usual deadline.
    Graceful,
    /// Above the degrade line, or full before a step down were complete: at once, running tasks finish first.
    Immediate,
    /// The machine has next to nothing left: the shorter drain deadline holds.
    Critical,
}

/// Why the policy decided as it did, with the numbers that it decided on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reason {
    /// Hold: no sample has been read yet, or none that tells a constrained resource.
    NoData,
    /// Hold: the last good sample is too old.
    Stale {
        /// Its age.
        #[serde(rename = "age_ns", with = "duration_ns")]
        age: Duration,
    },
    /// Hold: a switch is under way.
    Switching,
    /// Hold: readings have not come to rest since the last switch.
    Settling {
        /// Time since the switch.
        #[serde(rename = "since_ns", with = "duration_ns")]
        since: Duration,
    },
    /// Hold: the highest rung serves.
    AtTop,
    /// Hold: the policy never leaves its rung.
    Fixed,
    /// Hold: the run is being stopped.
    Stopping,
    /// Hold: a higher rung fits, but has not done so for long enough.
    Window {
        /// The rung.
        to: Rung,
        /// What is left of the stabilization window.
        #[serde(rename = "remaining_ns", with = "duration_ns")]
        remaining: Duration,
    },
    /// Hold: the last change was too recent.
    Cooldown {
        /// What is left.
        #[serde(rename = "remaining_ns", with = "duration_ns")]
        remaining: Duration,
    },
    /// Hold: an upgrade that was undone has made the wait longer.
    Backoff {
        /// The rung.
        to: Rung,
        /// What is left.
        #[serde(rename = "remaining_ns", with = "duration_ns")]
        remaining: Duration,
    },
    /// Hold: a resource is above the upgrade line.
    AboveUpgradeLine {
        /// The resource.
        resource: Resource,
        /// Its use.
        #[serde(rename = "used_milli_percent")]
        used: Percent,
        /// The line.
        #[serde(rename = "line_milli_percent")]
        line: Percent,
    },
    /// Hold: the next rung would not fit after the switch.
    WouldNotFit {
        /// The next rung.
        to: Rung,
        /// The resource that is short.
        resource: Resource,
        /// The use after the switch.
        #[serde(rename = "projected_bytes")]
        projected: Bytes,
        /// The most it may be.
        #[serde(rename = "limit_bytes")]
        limit: Bytes,
    },
    /// Hold: the next rung would break the latency limit.
    WouldBeSlow {
        /// The next rung.
        to: Rung,
        /// What is predicted.
        #[serde(rename = "predicted_ns", with = "duration_ns")]
        predicted: Duration,
        /// The limit.
        #[serde(rename = "limit_ns", with = "duration_ns")]
        limit: Duration,
    },
    /// Upgrade: the rung fits and has done so for long enough.
    Room {
        /// The scarcest resource.
        resource: Resource,
        /// Its use after the switch.
        #[serde(rename = "projected_bytes")]
        projected: Bytes,
        /// The most it may be.
        #[serde(rename = "limit_bytes")]
        limit: Bytes,
        /// How long it has fitted.
        #[serde(rename = "good_for_ns", with = "duration_ns")]
        good_for: Duration,
    },
    /// Downgrade (or hold on the lowest rung): a space resource is above the degrade line or under the free floor.
    AboveDegradeLine {
        /// The resource.
        resource: Resource,
        /// Its use.
        #[serde(rename = "used_bytes")]
        used: Bytes,
        /// The most it may be.
        #[serde(rename = "limit_bytes")]
        limit: Bytes,
    },
    /// Downgrade (or hold): a rate resource has been above its line for long enough and does not fall.
    SustainedLoad {
        /// The resource.
        resource: Resource,
        /// Its use.
        #[serde(rename = "used_milli_percent")]
        used: Percent,
        /// The line.
        #[serde(rename = "line_milli_percent")]
        line: Percent,
        /// How long it has been above.
        #[serde(rename = "high_for_ns", with = "duration_ns")]
        high_for: Duration,
    },
    /// Downgrade: at the present rate the resource ends before a switch would.
    Exhaustion {
        /// The resource.
        resource: Resource,
        /// When it is full.
        #[serde(rename = "full_in_ns", with = "duration_ns")]
        full_in: Duration,
        /// What a step down takes.
        #[serde(rename = "lead_ns", with = "duration_ns")]
        lead: Duration,
    },
    /// Downgrade (or hold): replies are slower than the limit.
    Slow {
        /// The 95th percentile.
        #[serde(rename = "measured_ns", with = "duration_ns")]
        measured: Duration,
        /// The limit.
        #[serde(rename = "limit_ns", with = "duration_ns")]
        limit: Duration,
    },
    /// Downgrade (or hold): too many failures in a row.
    Failing {
        /// How many.
        failures: u32,
    },
    /// Change: someone asked for it.
    Asked,
}

impl Reason {
    /// Returns the kind as the log spells it.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::NoData => "no-data",
            Self::Stale { .. } => "stale",
            Self::Switching => "switching",
            Self::Settling { .. } => "settling",
            Self::AtTop => "at-top",
            Self::Fixed => "fixed",
            Self::Stopping => "stopping",
            Self::Window { .. } => "window",
            Self::Cooldown { .. } => "cooldown",
            Self::Backoff { .. } => "backoff",
            Self::AboveUpgradeLine { .. } => "above-upgrade-line",
            Self::WouldNotFit { .. } => "would-not-fit",
            Self::WouldBeSlow { .. } => "would-be-slow",
            Self::Room { .. } => "room",
            Self::AboveDegradeLine { .. } => "above-degrade-line",
            Self::SustainedLoad { .. } => "sustained-load",
            Self::Exhaustion { .. } => "exhaustion",
            Self::Slow { .. } => "slow",
            Self::Failing { .. } => "failing",
            Self::Asked => "asked",
        }
    }
}

/// One condition that an upgrade must pass.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gate {
    /// What it looks at.
    pub name: GateName,
    /// Whether it is open.
    pub open: bool,
    /// What was found.
    pub value: Measure,
    /// What is allowed.
    pub limit: Measure,
}

/// What a gate looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum GateName {
    /// Age of the sample; at most the limit.
    Fresh,
    /// Switches under way; none allowed.
    Idle,
    /// Time since the last change; at least the limit.
    Cooldown,
    /// Time since conditions became good for the next rung; at least the limit.
    Window,
    /// Time since the rung's last failure; at least the learned wait.
    Backoff,
    /// Use of a resource now; at most the upgrade line.
    UpgradeLine(Resource),
    /// Use of a space resource after the switch, forecast included; at most the limit.
    Projection(Resource),
    /// Predicted latency; at most the limit.
    Latency,
}

/// A gate's number with its unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Measure {
    /// An amount of memory.
    Bytes(Bytes),
    /// A share.
    MilliPercent(Percent),
    /// A span of time in nanoseconds.
    Nanos(u64),
    /// A number of things.
    Count(u32),
}
