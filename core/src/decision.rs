//! What a policy decides, and why, with the numbers that it decided on.

mod code;

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::catalog::Rung;
use crate::sample::Resource;
use crate::time::{duration_ns, duration_ns_or_none};
use crate::units::{Bytes, Percent};

pub use crate::decision::code::{Code, CodeError};

/// What the policy wants, and why. A hold carries its reason too.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
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
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
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
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Urgency {
    /// A slow reply, a busy processor: finish running tasks under the usual deadline.
    Graceful,
    /// Above the degrade line, or full before a step down were complete: at once, running tasks finish first.
    Immediate,
    /// The machine has next to nothing left: the shorter drain deadline holds.
    Critical,
}

/// Why a switch was called off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CalledOff {
    /// The model that serves was never idle.
    Busy,
    /// Others took its room, or memory of ours came back too late.
    NoRoom,
}

/// Why the policy decided as it did, with the numbers that it decided on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Reason {
    /// Hold: no sample has been read yet, or none that has a constrained resource.
    NoData,
    /// Hold: the last good sample is too old.
    Stale {
        /// Its age.
        #[serde(rename = "age_ns", with = "duration_ns")]
        age: Duration,
    },
    /// Hold: a switch is in progress.
    Switching,
    /// Hold: readings have not settled since the last switch.
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
        /// The rung of the upgrade.
        to: Rung,
        /// What is left.
        #[serde(rename = "remaining_ns", with = "duration_ns")]
        remaining: Duration,
    },
    /// Hold: a model of the rung did not load, died or failed, and its rest is not over.
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
        /// The GPU, if the resource belongs to one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        gpu: Option<u8>,
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
        /// The GPU, if the resource belongs to one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        gpu: Option<u8>,
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
    /// Hold: the next rung cannot serve requests that the present one has been given recently.
    WouldNotServe {
        /// The next rung.
        to: Rung,
    },
    /// Upgrade: the rung fits and has done so for long enough.
    Room {
        /// The scarcest resource.
        resource: Resource,
        /// The GPU, if the resource belongs to one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        gpu: Option<u8>,
        /// Its use after the switch.
        #[serde(rename = "projected_bytes")]
        projected: Bytes,
        /// The most it may be.
        #[serde(rename = "limit_bytes")]
        limit: Bytes,
        /// How long it has fitted.
        #[serde(rename = "good_for_ns", with = "duration_ns")]
        good_for: Duration,
        /// The risk, and what it was compared with, if it was.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        odds: Option<Odds>,
    },
    /// Hold: a higher rung fits, and would likely be lost again too soon to be worth it.
    TooRisky {
        /// The rung.
        to: Rung,
        /// The resource that is most likely short then.
        resource: Resource,
        /// The GPU, if the resource belongs to one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        gpu: Option<u8>,
        /// How long it has fitted.
        #[serde(rename = "good_for_ns", with = "duration_ns")]
        good_for: Duration,
        /// The risk, and what it was compared with.
        odds: Odds,
    },
    /// Hold: a space that the next rung needs is not read, so that nothing is loaded there.
    NotRead {
        /// The rung.
        to: Rung,
        /// The resource.
        resource: Resource,
        /// The GPU, if known.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        gpu: Option<u8>,
    },
    /// Downgrade (or hold on the lowest rung): a space resource is above the degrade line or under the free floor.
    AboveDegradeLine {
        /// The resource.
        resource: Resource,
        /// The GPU, if the resource belongs to one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        gpu: Option<u8>,
        /// Its use.
        #[serde(rename = "used_bytes")]
        used: Bytes,
        /// The most it may be.
        #[serde(rename = "limit_bytes")]
        limit: Bytes,
    },
    /// Downgrade (or hold): a rate resource has been above its line for long enough and is not falling.
    SustainedLoad {
        /// The resource.
        resource: Resource,
        /// The GPU, if the resource belongs to one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        gpu: Option<u8>,
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
    /// Downgrade: at the present rate the resource is full before a switch could be complete.
    Exhaustion {
        /// The resource.
        resource: Resource,
        /// The GPU, if the resource belongs to one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        gpu: Option<u8>,
        /// When it is full.
        #[serde(rename = "full_in_ns", with = "duration_ns")]
        full_in: Duration,
        /// What a step down takes.
        #[serde(rename = "lead_ns", with = "duration_ns")]
        lead: Duration,
    },
    /// Downgrade (or hold): replies are slower than the limit.
    Slow {
        /// The 95th percentile of replies, or how long a request that has not ended has taken.
        #[serde(rename = "measured_ns", with = "duration_ns")]
        measured: Duration,
        /// The limit.
        #[serde(rename = "limit_ns", with = "duration_ns")]
        limit: Duration,
    },
    /// Downgrade (or hold): too many failures in a row, or among recent requests.
    Failing {
        /// How many.
        failures: u32,
    },
    /// Change: the model came up much slower than the catalog states.
    SlowLoad {
        /// How long a short reply took.
        #[serde(rename = "took_ns", with = "duration_ns")]
        took: Duration,
        /// How long it takes according to the catalog.
        #[serde(rename = "by_catalog_ns", with = "duration_ns")]
        by_catalog: Duration,
    },
    /// Change: a person or program asked for it.
    Asked,
    /// Downgrade to nothing, or hold there: the model has been idle for longer than `manager.idle-unload`.
    Idle {
        /// For how long.
        #[serde(rename = "for_ns", with = "duration_ns")]
        for_: Duration,
    },
    /// Hold: a person or program ordered a tier, and the order holds.
    Ordered {
        /// The rung that was asked for.
        to: Rung,
        /// How much longer it holds; absent: until an order of `auto`.
        #[serde(
            default,
            rename = "remaining_ns",
            with = "duration_ns_or_none",
            skip_serializing_if = "Option::is_none"
        )]
        remaining: Option<Duration>,
    },
    /// Hold: a model that was loaded because requests name it stays for a time.
    Named {
        /// Its rung.
        to: Rung,
        /// How much longer it stays.
        #[serde(rename = "remaining_ns", with = "duration_ns")]
        remaining: Duration,
    },
    /// A reason that only this policy has.
    Own {
        /// The policy's code for it.
        code: Code,
        /// The resource that it is about.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        resource: Option<Resource>,
        /// The value that was found.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        value: Option<Measure>,
        /// The limit that it was compared with.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        limit: Option<Measure>,
        /// How long it has been so.
        #[serde(
            default,
            rename = "lasted_ns",
            with = "duration_ns_or_none",
            skip_serializing_if = "Option::is_none"
        )]
        lasted: Option<Duration>,
    },
}

/// The risk of an upgrade, and the risk up to which it is worth it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Odds {
    /// Room to spare in the space that is most likely short, as a share of all.
    #[serde(rename = "spare_milli_percent")]
    pub spare: Percent,
    /// The difference between the least and the most of others' use in the last half hour, or a set value.
    #[serde(rename = "moved_milli_percent")]
    pub moved: Percent,
    /// The probability that the rung is lost within an equal time.
    #[serde(rename = "risk_milli_percent")]
    pub risk: Percent,
    /// The risk up to which going up is worth it.
    #[serde(rename = "worth_milli_percent")]
    pub worth: Percent,
}

impl Odds {
    /// Returns whether going up is worth the risk.
    pub fn are_good(&self) -> bool {
        self.risk <= self.worth
    }
}

impl Action {
    /// Returns whether two actions go in the same direction, wherever they lead.
    pub fn is_like(&self, other: &Self) -> bool {
        std::mem::discriminant(self) == std::mem::discriminant(other)
    }
}

impl Reason {
    /// Returns a policy's own reason without numbers.
    pub const fn own(code: Code) -> Self {
        Self::Own { code, resource: None, value: None, limit: None, lasted: None }
    }

    /// Returns whether two reasons are of one kind, whatever their numbers.
    pub fn is_like(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Own { code: a, .. }, Self::Own { code: b, .. }) => a == b,
            _ => std::mem::discriminant(self) == std::mem::discriminant(other),
        }
    }

    /// Returns whether a change was made for requests, or because there were none: undoing it is not a reversal.
    pub fn is_for_demand(&self) -> bool {
        matches!(self, Self::Asked | Self::Idle { .. })
    }

    /// Returns the kind as the log spells it; for a policy's own reason, its code.
    pub fn kind(&self) -> &str {
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
            Self::WouldNotServe { .. } => "would-not-serve",
            Self::Room { .. } => "room",
            Self::TooRisky { .. } => "too-risky",
            Self::NotRead { .. } => "not-read",
            Self::AboveDegradeLine { .. } => "above-degrade-line",
            Self::SustainedLoad { .. } => "sustained-load",
            Self::Exhaustion { .. } => "exhaustion",
            Self::Slow { .. } => "slow",
            Self::Failing { .. } => "failing",
            Self::SlowLoad { .. } => "slow-load",
            Self::Asked => "asked",
            Self::Idle { .. } => "idle",
            Self::Ordered { .. } => "ordered",
            Self::Named { .. } => "named",
            Self::Own { code, .. } => code.as_str(),
        }
    }

    /// Returns the kind as a code, which can be kept without a reference to the reason.
    pub fn code(&self) -> Code {
        Code::new(self.kind())
    }
}

/// One condition that an upgrade must pass.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Gate {
    /// What it looks at.
    pub name: GateName,
    /// The rung that it is a gate of; `None` for a gate of every upgrade.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rung: Option<Rung>,
    /// Whether it is open.
    pub open: bool,
    /// What was found.
    pub value: Measure,
    /// What is allowed.
    pub limit: Measure,
}

/// What a gate looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
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
    /// Time since the rung last broke; at least its rest.
    Backoff,
    /// Use of a resource now; at most the upgrade line.
    UpgradeLine(Resource),
    /// Use of a space resource after the switch; at most the limit.
    Projection(Resource),
    /// The probability that the rung is soon lost again; at most the risk that is worth it.
    Risk,
    /// Predicted latency; at most the limit.
    Latency,
    /// Whether the rung cannot serve what the present one is asked for; it must.
    Unserved,
}

/// A gate's number with its unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_is_its_text_and_nothing_else_is_one() {
        for text in ["a", "risk-too-high", "123456789012345678901234"] {
            assert_eq!(Code::try_from(text.to_owned()).unwrap().as_str(), text);
        }
        for text in ["", "Room", "two words", "1234567890123456789012345", "\u{e9}"] {
            assert!(Code::try_from(text.to_owned()).is_err(), "{text}");
        }
    }

    #[test]
    fn an_own_reason_is_written_with_what_it_has() {
        let code = const { Code::new("risk-too-high") };
        let bare = Reason::own(code);
        let whole = Reason::Own {
            code,
            resource: Some(Resource::Vram),
            value: Some(Measure::Count(7)),
            limit: Some(Measure::Nanos(5)),
            lasted: Some(Duration::from_nanos(9)),
        };
        let json = |reason: &Reason| serde_json::to_string(reason).unwrap();
        assert_eq!(json(&bare), r#"{"own":{"code":"risk-too-high"}}"#);
        let want = r#"{"own":{"code":"risk-too-high","resource":"vram","value":{"count":7},"limit":{"nanos":5},"lasted_ns":9}}"#;
        assert_eq!(json(&whole), want);
        for reason in [bare, whole] {
            assert_eq!(serde_json::from_str::<Reason>(&json(&reason)).unwrap(), reason);
            assert_eq!(reason.kind(), "risk-too-high");
        }
        assert!(bare.is_like(&whole) && !bare.is_like(&Reason::own(Code::new("other"))));
    }
}
