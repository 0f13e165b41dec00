//! Turns samples and performance into decisions. Pure: a policy knows no clock, no backend and no request.
//!
//! [`Policy`] is open: the four built-in ones and those of other crates see the same [`Observation`] and answer with
//! the same [`Decision`].

mod backoff;
mod baseline;
mod external;
mod forecast;
mod gates;
mod performance;
mod proactive;
mod registry;
mod rescue;
mod risk;
mod settle;
mod sustained;
mod upgrade;

use std::fmt::Debug;
use std::time::Duration;

use crate::catalog::{Catalog, Rung};
use crate::decision::{Action, CalledOff, Code, Decision, Gate, Odds, Reason, Urgency};
use crate::event::{Advice, Consult};
use crate::place::{Place, Projection};
use crate::sample::Sample;
use crate::settings::Settings;
use crate::time::Timestamp;

pub use crate::control::Promises;
pub use crate::demand::{Demand, Performance, ReplyTimes};
pub use crate::policy::external::{External, ExternalOptions};
pub use crate::policy::registry::{About, Constructor, ControlConstructor, PolicyError, Registry};

/// Decides from samples which rung should serve. It is asked once for every sample, and the same calls must give the
/// same answers: no clock, no I/O, no randomness of its own.
pub trait Policy: Send + Debug {
    /// Decides on a sample. While [`Standing::switching`] is set, a downgrade replaces the switch under way.
    fn observe(&mut self, now: Timestamp, seen: &Observation<'_>) -> Decision;

    /// Decides when the machine could not be read.
    fn missing(&mut self, _now: Timestamp, standing: &Standing) -> Decision {
        standing.hold(Reason::NoData)
    }

    /// Takes the end of a request.
    fn served(&mut self, _now: Timestamp, _performance: &Performance) {}

    /// Notes that a model of `rung` did not load or died, so that it is not tried again at once.
    fn broke(&mut self, _now: Timestamp, _rung: Rung) {}

    /// Notes that a switch to `rung` was called off on the way, so that it is not tried again at once.
    fn called_off(&mut self, _now: Timestamp, _rung: Rung, _cause: CalledOff) {}

    /// Returns every gate of the next upgrade as of the last sample, for `explain`.
    fn gates(&self, _now: Timestamp, _standing: &Standing) -> Vec<Gate> {
        Vec::new()
    }

    /// Returns how soon something will be loaded while nothing is, if samples stay like the last one: for clients that
    /// are refused until then. `None` if nothing fits, or if it is not known.
    fn ready_in(&self, _now: Timestamp, _standing: &Standing) -> Option<Duration> {
        None
    }

    /// Continues under other settings with what it has learned, and returns whether it does. If not, it is built anew.
    fn reconfigure(&mut self, _settings: &Settings, _catalog: &Catalog) -> bool {
        false
    }

    /// Returns what to ask an outside adviser, if anything, about the sample that was just decided on.
    fn consult(&mut self, _now: Timestamp, _standing: &Standing) -> Option<Consult> {
        None
    }

    /// Takes an adviser's answer, which counts with the next sample.
    fn advised(&mut self, _now: Timestamp, _advice: &Advice) {}

    /// Returns the codes of its own reasons, so that a scenario may expect them.
    fn codes(&self) -> &'static [Code] {
        &[]
    }

    /// Returns whether its upgrades are carried out whether there is a place for what follows or not, and whatever runs
    /// on the serving model. Only the imitation of a program that checks neither returns true.
    fn is_blind(&self) -> bool {
        false
    }

    /// Returns what holds for all its decisions. A simulation's checker verifies it.
    fn promises(&self) -> Promises {
        Promises::default()
    }
}

/// What a policy sees when it decides.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Observation<'a> {
    /// The machine as it was read at this moment, after use was attributed to its owners
    /// ([`attribution`](crate::attribution)).
    pub sample: &'a Sample,
    /// Where the managed models stand.
    pub standing: &'a Standing,
    /// The demand on them.
    pub demand: &'a Demand,
}

impl<'a> Observation<'a> {
    /// Returns an observation of this sample without requests, for tests of a policy.
    pub fn new(sample: &'a Sample, standing: &'a Standing) -> Self {
        Self { sample, standing, demand: &Demand::NONE }
    }
}

/// Where the managed models stand.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Standing {
    /// The rung that serves, or that the switch in progress leads to.
    pub rung: Rung,
    /// The GPU that its model is on, or is being loaded to. A model on the processor has none.
    pub gpu: Option<u8>,
    /// Whether a switch is in progress.
    pub switching: bool,
    /// When the last switch was complete, and which way it went.
    pub last_change: Option<Change>,
}

impl Standing {
    /// Returns a standing in which `rung` serves, with no switch under way or before.
    pub fn at(rung: Rung) -> Self {
        Self { rung, ..Self::default() }
    }

    /// Returns the decision to stay.
    pub fn hold(&self, reason: Reason) -> Decision {
        Decision::new(self.rung, Action::Hold, reason)
    }

    /// Returns the decision to go up.
    pub fn up(&self, to: Rung, reason: Reason) -> Decision {
        Decision::new(self.rung, Action::Upgrade { to }, reason)
    }

    /// Returns the decision to go down.
    pub fn down(&self, to: Rung, urgency: Urgency, reason: Reason) -> Decision {
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

/// Returns the rung that a policy starts from by its settings, if they name one.
fn named_rung(catalog: &Catalog, tier: Option<&String>) -> Option<Rung> {
    tier.and_then(|tier| catalog.rung_of_tier(tier))
}

/// Returns the reason of an upgrade that has a place.
fn room_reason(place: &Place, good_for: Duration, odds: Option<Odds>) -> Reason {
    let Projection { resource, gpu, projected, limit, .. } =
        place.scarcest().unwrap_or(Projection::UNLIMITED);
    Reason::Room { resource, gpu, projected, limit, good_for, odds }
}
