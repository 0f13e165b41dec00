//! Turns samples and performance into decisions. Pure: the scaler knows no clock, no backend and no request.
//!
//! [`Scaler`] is a closed set of policies: ours (`Proactive`) and the baselines that it is judged
//! against. All see the same [`Standing`] and answer with the same [`Decision`].

mod backoff;
mod baseline;
mod forecast;
mod gates;
mod performance;
mod proactive;
mod projection;
mod settle;
mod sustained;

use crate::catalog::{Catalog, Rung};
use crate::decision::{Action, Decision, Gate, Reason, Urgency};
use crate::policy::baseline::{Fixed, Original, Projecting};
use crate::policy::proactive::Proactive;
use crate::sample::Sample;
use crate::settings::{PolicyName, Settings};
use crate::time::Timestamp;

pub use crate::policy::performance::{Performance, ReplyTimes};

/// A policy.
#[derive(Clone, Debug)]
pub enum Scaler {
    /// Ours.
    Proactive(Box<Proactive>),
    /// The 20-line baseline that projects.
    Projecting(Projecting),
    /// A model of the original implementation.
    Original(Original),
    /// Stays where it was put.
    Fixed(Fixed),
}

/// What the controller tells the scaler about the managed models.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// The rung that serves, or that a switch under way leads to.
    pub rung: Rung,
    /// Whether a switch is under way.
    pub switching: bool,
    /// When the last switch was complete, and which way it went.
    pub last_change: Option<Change>,
}

impl Standing {
    /// Returns the decision to stay.
    fn hold(&self, reason: Reason) -> Decision {
        Decision::new(self.rung, Action::Hold, reason)
    }

    /// Returns the decision to go up.
    fn up(&self, to: Rung, reason: Reason) -> Decision {
        Decision::new(self.rung, Action::Upgrade { to }, reason)
    }

    /// Returns the decision to go down.
    fn down(&self, to: Rung, urgency: Urgency, reason: Reason) -> Decision {
        Decision::new(self.rung, Action::Downgrade { to, urgency }, reason)
    }
}

/// A completed switch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change {
    /// When it was complete.
    pub at: Timestamp,
    /// Whether it went up.
    pub up: bool,
}

impl Scaler {
    /// Builds the policy that the settings name.
    pub fn new(settings: &Settings, catalog: &Catalog) -> Self {
        match settings.raw().policy {
            PolicyName::Proactive => Self::Proactive(Box::new(Proactive::new(settings, catalog))),
            PolicyName::Projecting => Self::Projecting(Projecting::new(settings, catalog)),
            PolicyName::Original => Self::Original(Original::new(settings, catalog)),
            PolicyName::Fixed => Self::Fixed(Fixed::new(settings, catalog)),
        }
    }

    /// Takes a sample and decides.
    pub fn observe(&mut self, now: Timestamp, sample: &Sample, standing: &Standing) -> Decision {
        match self {
            Self::Proactive(policy) => policy.observe(now, sample, standing),
            Self::Projecting(policy) => policy.observe(now, sample, standing),
            Self::Original(policy) => policy.observe(now, sample, standing),
            Self::Fixed(policy) => policy.observe(sample, standing),
        }
    }

    /// Decides without a sample: a hold, whose reason says how old the last one is.
    pub fn observe_missing(&mut self, now: Timestamp, standing: &Standing) -> Decision {
        let reason = match self {
            Self::Proactive(policy) => policy.observe_missing(now),
            Self::Projecting(_) | Self::Original(_) | Self::Fixed(_) => Reason::NoData,
        };
        standing.hold(reason)
    }

    /// Takes the end of a request on `rung`.
    pub fn record(&mut self, now: Timestamp, performance: &Performance) {
        match self {
            Self::Proactive(policy) => policy.record(now, performance),
            // The baselines record nothing; the original's never-read metrics are one of its defects.
            Self::Projecting(_) | Self::Original(_) | Self::Fixed(_) => {}
        }
    }

    /// Takes the news that a model of `rung` did not load or died, so that it is not tried again at once.
    pub fn record_broken(&mut self, now: Timestamp, rung: Rung) {
        match self {
            Self::Proactive(policy) => policy.record_broken(now, rung),
            Self::Projecting(_) | Self::Original(_) | Self::Fixed(_) => {}
        }
    }

    /// Returns every gate of the next upgrade as of the last sample. Has no effect.
    pub fn gates(&self, now: Timestamp, standing: &Standing) -> Vec<Gate> {
        match self {
            Self::Proactive(policy) => policy.gates(now, standing),
            Self::Projecting(_) | Self::Original(_) | Self::Fixed(_) => Vec::new(),
        }
    }
}

/// Returns the rung that a policy starts from by its settings, if they name one.
fn named_rung(catalog: &Catalog, tier: Option<&String>) -> Option<Rung> {
    tier.and_then(|tier| catalog.rung_of_tier(tier))
}
