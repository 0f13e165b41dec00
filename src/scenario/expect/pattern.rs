//! The event patterns of a scenario.

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tiershift_core::catalog::{Catalog, Rung};
use tiershift_core::decision::{Action, Code};
use tiershift_core::event::{
    Command, CompanionNews, EventRef, Input, Notice, OrderNews, Outcome, Output, Verdict,
};
use tiershift_core::model::ModelId;
use tiershift_core::request::{CancelledBy, End, Rejection, RequestId};
use tiershift_core::units::human;

use crate::files::document::suggestion;

/// An event, or a class of events: a kind, and after a colon what it is about. Without the colon: any.
///
/// | pattern | event |
/// | --- | --- |
/// | `upgrade[:tier]`, `downgrade[:tier]` | the policy decides to go to that tier |
/// | `because[:reason]` | the policy decides to change, for that reason |
/// | `hold[:reason]` | the policy decides to stay, for that reason |
/// | `switched[:tier]` | that tier serves from now on |
/// | `gave-up[:tier]` | a switch was given up, and that tier still serves |
/// | `companion-wanted[:model]`, `companion-given-up[:model]` | a companion is to be loaded, to make way |
/// | `companion-serves[:model]`, `companion-gone[:model]` | it serves from now on, no more |
/// | `load[:model]`, `unload[:model]` | the backend is asked to do so |
/// | `loaded[:model]`, `load-failed[:model]`, `unloaded[:model]`, `crash[:model]` | the backend reports it |
/// | `request[:#id]`, `hang-up[:#id]` | a client sends a request, hangs up |
/// | `accepted[:#id]` | a request is accepted |
/// | `queued[:#id]`, `smaller[:#id]` | it must wait; a smaller model than it asked for will serve it |
/// | `start[:#id or model]`, `cancel[:#id]` | the backend is to run, to stop a request |
/// | `done[:#id or model]`, `failed[:#id]` | the end of a request |
/// | `cancelled[:#id or who]` | the same; who is `client`, `drain-deadline` or `shutdown` |
/// | `rejected[:#id or reason]` | the same; the reason is `queue-full`, `deadline`, `unservable`, ... |
/// | `notice[:kind]` | the user is notified; the kind is `degraded`, `long-on-smallest`, `slow-load` or `not-read` |
/// | `sample-missing` | the machine could not be read |
/// | `asked[:tier]`, `shutdown` | a tier is ordered; the run is asked to stop |
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern {
    /// What happens.
    pub kind: PatternKind,
    /// What it is about; `None`: anything.
    pub about: Option<String>,
}

macro_rules! pattern_kinds {
    ($($variant:ident = $name:literal: $doc:literal),+ $(,)?) => {
        /// What happens. See [`Pattern`].
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum PatternKind {
            $(#[doc = $doc] $variant,)+
        }

        impl PatternKind {
            /// Every kind, in the order of the documentation.
            pub const ALL: &[Self] = &[$(Self::$variant,)+];

            /// Returns the word that files use.
            pub fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)+ }
            }
        }
    };
}

pattern_kinds! {
    Upgrade = "upgrade": "The policy decides to go up.",
    Downgrade = "downgrade": "The policy decides to go down.",
    Because = "because": "The policy decides to change, for a reason.",
    Hold = "hold": "The policy decides to stay, for a reason.",
    Switched = "switched": "Another tier serves from now on.",
    GaveUp = "gave-up": "A switch to this tier was called off.",
    CompanionWanted = "companion-wanted": "A companion is to be loaded.",
    CompanionGivenUp = "companion-given-up": "A companion is to make way.",
    CompanionServes = "companion-serves": "A companion serves from now on.",
    CompanionGone = "companion-gone": "A companion no longer serves.",
    Load = "load": "The backend is to load a model.",
    Unload = "unload": "The backend is to unload a model.",
    Loaded = "loaded": "A model is ready.",
    LoadFailed = "load-failed": "A model did not load.",
    Unloaded = "unloaded": "A model is gone.",
    Crash = "crash": "A model's process died.",
    Request = "request": "A client asks.",
    HangUp = "hang-up": "A client hangs up.",
    Accepted = "accepted": "A request is accepted.",
    Queued = "queued": "A request is accepted and must wait.",
    Smaller = "smaller": "A request is accepted by a smaller model than it named.",
    Start = "start": "The backend is to run a request.",
    Cancel = "cancel": "The backend is to stop a request.",
    Done = "done": "A request is complete.",
    Failed = "failed": "A request broke.",
    Cancelled = "cancelled": "A request was stopped.",
    Rejected = "rejected": "A request was refused.",
    Notice = "notice": "The user is notified.",
    SampleMissing = "sample-missing": "The machine could not be read.",
    Asked = "asked": "A tier is ordered.",
    OrderTaken = "order-taken": "An order is carried out, at once or after the cooldown, and stays in effect.",
    OrderRefused = "order-refused": "An order is refused.",
    OrderReleased = "order-released": "An order is no longer in effect.",
    Shutdown = "shutdown": "The run is stopped.",
}

impl Pattern {
    /// Returns whether the event is of this kind and about this.
    pub fn matches(&self, event: EventRef<'_>, catalog: &Catalog) -> bool {
        let tier = |rung: Rung| self.is_about(catalog.tier_name(rung));
        let model = |model: &ModelId| self.is_about(model.as_str());
        let id = |id: RequestId| self.about.as_ref().is_none_or(|about| *about == id.to_string());
        let word = |word: &str| self.is_about(word);
        match (self.kind, event) {
            (kind, EventRef::Output(Output::Decision(decision))) => match (kind, decision.action) {
                (PatternKind::Upgrade, Action::Upgrade { to }) => tier(to),
                (PatternKind::Downgrade, Action::Downgrade { to, .. }) => tier(to),
                (PatternKind::Because, Action::Upgrade { .. } | Action::Downgrade { .. })
                | (PatternKind::Hold, Action::Hold) => word(decision.reason.kind()),
                _ => false,
            },
            (PatternKind::Switched, EventRef::Output(Output::Switched { from, to, .. })) => {
                from != to && tier(*to)
            }
            (PatternKind::GaveUp, EventRef::Output(Output::Switched { called_off, .. })) => {
                called_off.is_some_and(tier)
            }
            (kind, EventRef::Output(Output::Companion { model: m, news })) => match (kind, news) {
                (PatternKind::CompanionWanted, CompanionNews::Wanted { .. })
                | (PatternKind::CompanionGivenUp, CompanionNews::GivenUp { .. })
                | (PatternKind::CompanionServes, CompanionNews::Serves)
                | (PatternKind::CompanionGone, CompanionNews::ServesNoMore) => model(m),
                _ => false,
            },
            (kind, EventRef::Output(Output::Command(command))) => match (kind, command) {
                (PatternKind::Load, Command::Load { model: m, .. })
                | (PatternKind::Unload, Command::Unload { model: m }) => model(m),
                (PatternKind::Start, Command::Start { request, model: m }) => {
                    id(*request) || model(m)
                }
                (PatternKind::Cancel, Command::Cancel { request }) => id(*request),
                _ => false,
            },
            (kind, EventRef::Input(Input::Outcome(outcome))) => match (kind, outcome) {
                (PatternKind::Loaded, Outcome::Loaded { model: m })
                | (PatternKind::LoadFailed, Outcome::LoadFailed { model: m, .. })
                | (PatternKind::Unloaded, Outcome::Unloaded { model: m })
                | (PatternKind::Crash, Outcome::Crashed { model: m, .. }) => model(m),
                _ => false,
            },
            (kind, EventRef::Output(Output::Accepted { request, verdict })) => {
                match (kind, verdict) {
                    (PatternKind::Accepted, _)
                    | (PatternKind::Queued, Verdict::Queue)
                    | (PatternKind::Smaller, Verdict::ProceedSmaller { .. }) => id(*request),
                    _ => false,
                }
            }
            (kind, EventRef::Output(Output::Ended { request, end })) => match (kind, end) {
                (PatternKind::Done, End::Done { model: m, .. }) => id(*request) || model(m),
                (PatternKind::Failed, End::Failed { .. }) => id(*request),
                (PatternKind::Cancelled, End::Cancelled { by, .. }) => {
                    id(*request) || word(canceller_name(*by))
                }
                (PatternKind::Rejected, End::Rejected { reason, .. }) => {
                    id(*request) || word(reason.name())
                }
                _ => false,
            },
            (PatternKind::Notice, EventRef::Output(Output::Notice(notice))) => {
                word(notice_name(notice))
            }
            (PatternKind::Request, EventRef::Input(Input::Request(request))) => id(request.id),
            (PatternKind::HangUp, EventRef::Input(Input::Cancel { request })) => id(*request),
            (PatternKind::SampleMissing, EventRef::Input(Input::SampleMissing { .. }))
            | (PatternKind::Shutdown, EventRef::Input(Input::Shutdown)) => true,
            (PatternKind::Asked, EventRef::Input(Input::Switch { tier, .. })) => word(tier),
            (kind, EventRef::Output(Output::Order { tier, news })) => match (kind, news) {
                (PatternKind::OrderTaken, OrderNews::Taken { .. })
                | (PatternKind::OrderRefused, OrderNews::Refused { .. } | OrderNews::Unknown)
                | (PatternKind::OrderReleased, OrderNews::Released) => word(tier),
                _ => false,
            },
            _ => false,
        }
    }

    fn is_about(&self, word: &str) -> bool {
        self.about.as_ref().is_none_or(|about| about == word)
    }

    /// Returns what is wrong with the part after the colon, given the models and the codes of the policy's own reasons.
    pub(crate) fn mistake(&self, catalog: &Catalog, codes: &[Code]) -> Option<String> {
        let about = self.about.as_deref()?;
        let mut known: Vec<&str> = match self.kind {
            PatternKind::Upgrade
            | PatternKind::Downgrade
            | PatternKind::Switched
            | PatternKind::GaveUp
            | PatternKind::Asked
            | PatternKind::OrderTaken
            | PatternKind::OrderRefused
            | PatternKind::OrderReleased => {
                let tiers = catalog.rungs_up().map(|rung| catalog.tier_name(rung));
                let asked = !matches!(
                    self.kind,
                    PatternKind::Upgrade
                        | PatternKind::Downgrade
                        | PatternKind::Switched
                        | PatternKind::GaveUp
                );
                tiers.chain(["none"]).chain(asked.then_some("auto")).collect()
            }
            PatternKind::Load
            | PatternKind::Unload
            | PatternKind::Loaded
            | PatternKind::LoadFailed
            | PatternKind::Unloaded
            | PatternKind::Crash
            | PatternKind::Start
            | PatternKind::Done => catalog.models().iter().map(|m| m.id.as_str()).collect(),
            PatternKind::CompanionWanted
            | PatternKind::CompanionGivenUp
            | PatternKind::CompanionServes
            | PatternKind::CompanionGone => {
                catalog.companions().iter().map(|m| m.id.as_str()).collect()
            }
            PatternKind::Because | PatternKind::Hold => {
                REASONS.into_iter().chain(codes.iter().map(Code::as_str)).collect()
            }
            PatternKind::Cancelled => CANCELLERS.iter().map(|by| canceller_name(*by)).collect(),
            PatternKind::Rejected => Rejection::ALL.iter().map(|reason| reason.name()).collect(),
            PatternKind::Notice => NOTICES.to_vec(),
            PatternKind::Request
            | PatternKind::HangUp
            | PatternKind::Accepted
            | PatternKind::Queued
            | PatternKind::Smaller
            | PatternKind::Cancel
            | PatternKind::Failed => Vec::new(),
            PatternKind::SampleMissing | PatternKind::Shutdown => {
                return Some(format!("nothing can follow `{}`", self.kind.name()));
            }
        };
        let takes_id = known.is_empty()
            || matches!(
                self.kind,
                PatternKind::Start
                    | PatternKind::Done
                    | PatternKind::Cancelled
                    | PatternKind::Rejected
            );
        let is_id = about.strip_prefix('#').is_some_and(|id| id.parse::<u64>().is_ok());
        if known.contains(&about) || (takes_id && is_id) {
            return None;
        }
        if takes_id {
            known.push("#1");
        }
        Some(format!(
            "`{}` is never about `{about}`; {}",
            self.kind.name(),
            suggestion(about, known)
        ))
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.kind.name())?;
        match &self.about {
            Some(about) => write!(f, ":{about}"),
            None => Ok(()),
        }
    }
}

impl FromStr for Pattern {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, about) = match text.split_once(':') {
            Some((name, about)) => (name.trim(), Some(about.trim().to_owned())),
            None => (text.trim(), None),
        };
        let kind = PatternKind::ALL.iter().copied().find(|kind| kind.name() == name);
        let names = PatternKind::ALL.iter().map(|kind| kind.name());
        let kind =
            kind.ok_or_else(|| format!("\"{text}\" is not an event: {}", suggestion(name, names)))?;
        Ok(Self { kind, about })
    }
}

impl Serialize for Pattern {
    fn serialize<S: serde::Serializer>(&self, out: S) -> Result<S::Ok, S::Error> {
        human::serialize(self, out)
    }
}

impl<'de> Deserialize<'de> for Pattern {
    fn deserialize<D: serde::Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        human::deserialize(input)
    }
}

impl JsonSchema for Pattern {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Pattern".into()
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        let names: Vec<&str> = PatternKind::ALL.iter().map(|kind| kind.name()).collect();
        schemars::json_schema!({
            "type": "string",
            "description": "An event: a kind, and after a colon what it is about.",
            "pattern": format!("^({})(:.+)?$", names.join("|")),
            "examples": ["upgrade:large", "done:#3", "rejected:queue-full"]
        })
    }
}

const REASONS: [&str; 27] = [
    "no-data",
    "stale",
    "switching",
    "settling",
    "at-top",
    "fixed",
    "stopping",
    "window",
    "cooldown",
    "backoff",
    "above-upgrade-line",
    "would-not-fit",
    "would-be-slow",
    "would-not-serve",
    "room",
    "too-risky",
    "not-read",
    "above-degrade-line",
    "sustained-load",
    "exhaustion",
    "slow",
    "failing",
    "slow-load",
    "asked",
    "idle",
    "ordered",
    "named",
];

fn notice_name(notice: &Notice) -> &'static str {
    match notice {
        Notice::Degraded { .. } => "degraded",
        Notice::LongOnSmallest { .. } => "long-on-smallest",
        Notice::SlowLoad { .. } => "slow-load",
        Notice::NotRead { .. } => "not-read",
        Notice::KeepsFailing { .. } => "keeps-failing",
        Notice::Unanswered { .. } => "unanswered",
    }
}

const NOTICES: [&str; 6] =
    ["degraded", "long-on-smallest", "slow-load", "not-read", "keeps-failing", "unanswered"];

fn canceller_name(by: CancelledBy) -> &'static str {
    match by {
        CancelledBy::Client => "client",
        CancelledBy::DrainDeadline => "drain-deadline",
        CancelledBy::Shutdown => "shutdown",
    }
}

const CANCELLERS: [CancelledBy; 3] =
    [CancelledBy::Client, CancelledBy::DrainDeadline, CancelledBy::Shutdown];

#[cfg(test)]
mod tests {
    use tiershift_core::decision::Reason;

    use super::*;

    /// Returns the names that serde knows, in its order, from its message about an unknown one.
    fn variants<T: serde::de::DeserializeOwned>() -> Vec<String> {
        let error = serde_json::from_str::<T>("\"no such thing\"").err().unwrap().to_string();
        error.split('`').skip(3).step_by(2).map(str::to_owned).collect()
    }

    #[test]
    fn the_names_are_those_of_the_event_log() {
        let own = ["own".to_owned()];
        assert_eq!(variants::<Reason>(), [&REASONS.map(str::to_owned)[..], &own[..]].concat());
        assert_eq!(variants::<Rejection>(), Rejection::ALL.map(Rejection::name));
        assert_eq!(variants::<CancelledBy>(), CANCELLERS.map(canceller_name));
        assert_eq!(variants::<Notice>(), NOTICES);
    }

    #[test]
    fn every_kind_survives_being_written() {
        for kind in PatternKind::ALL {
            for about in [None, Some("large".to_owned())] {
                let pattern = Pattern { kind: *kind, about };
                assert_eq!(pattern.to_string().parse(), Ok(pattern));
            }
        }
    }
}
