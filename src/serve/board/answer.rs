//! The board's answers: the status, the events for a watcher, and why a request was served by less than it asked for.

use serde::Serialize;
use tiershift_core::catalog::Rung;
use tiershift_core::decision::{Decision, Gate, GateName, Measure};
use tiershift_core::event::Notice;
use tiershift_core::model::{Model, ModelId};
use tiershift_core::request::Target;
use tiershift_core::text;

use crate::serve::board::Board;
use crate::serve::board::history::{Mark, Point, Reply};
use crate::serve::status::{Companion, HistoryEntry, Requests, Status, Words};

/// What a watcher is sent after a change.
#[derive(Debug, Serialize)]
pub(in crate::serve) struct News<'a> {
    #[serde(flatten)]
    status: Status,
    point: Option<Point>,
    entries: Vec<&'a HistoryEntry>,
    replies: Vec<&'a Reply>,
}

impl Board {
    /// Returns the answer of `/status`.
    pub(in crate::serve) fn status(&self) -> Status {
        let all: Vec<&HistoryEntry> = self.history.entries_since(Mark::default()).collect();
        let last = &all[all.len().saturating_sub(LAST_ENTRIES)..];
        let tiers = std::iter::once(Rung::NONE).chain(self.catalog.rungs_up());
        Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            uptime: self.now,
            sampled_at: self.sampled_at,
            sampling_interval: self.settings.sampling_interval,
            tier: self.catalog.tier_name(self.serving).to_owned(),
            model: self.serving_model.clone(),
            companions: self.companions(),
            order: self.order.clone(),
            rung: self.serving,
            top_rung: self.catalog.top(),
            tiers: tiers.map(|rung| self.catalog.tier_name(rung).to_owned()).collect(),
            is_stopping: self.is_stopping,
            lines: self.resource_use(),
            words: self.words(),
            last: last.iter().copied().cloned().collect(),
            latencies: self.history.latencies(),
            resources: self.sample.clone(),
            decision: self.decision.clone(),
            why_not_higher: self.closed_gates().cloned().collect(),
            last_change: self.last_change.clone(),
            switches: self.switches,
            notice: self.notice(),
            requests: self.requests(),
            recording: self.recording.clone(),
            shadow: self.shadow.clone(),
            own_use_from: self.own_sources.iter().cloned().collect(),
        }
    }

    /// Returns the models beside the ladder, and whether each serves.
    pub(in crate::serve) fn companions(&self) -> Vec<Companion> {
        let companion = |model: &Model| Companion {
            model: model.id.clone(),
            serves: self.companions.contains(&model.id),
        };
        self.catalog.companions().iter().map(companion).collect()
    }

    /// Returns how many requests there are, and how finished ones ended.
    pub(super) fn requests(&self) -> Requests {
        Requests { waiting: self.waiting.len(), running: self.running.len(), ..self.ended }
    }

    /// Returns the status, and what is new in the history since a mark.
    pub(in crate::serve) fn news(&self, since: Mark) -> News<'_> {
        News {
            status: self.status(),
            point: self.point(),
            entries: self.history.entries_since(since).collect(),
            replies: self.history.replies_since(since).collect(),
        }
    }

    /// Returns why `model` serves a request for `target`, if the best of the ladder, or what was named, is higher: the
    /// reason of the last decision, as the log spells it and as text.
    pub(in crate::serve) fn degraded_because(
        &self,
        target: &Target,
        model: &ModelId,
    ) -> Option<String> {
        let asked = match target {
            Target::Auto => Some(self.catalog.top()),
            Target::Tier(tier) => self.catalog.rung_of_tier(tier),
            Target::Model(id) => self.catalog.rung_of(id),
        };
        let reason = self.decision.as_ref()?.reason;
        (self.catalog.rung_of(model)? < asked?)
            .then(|| format!("{}: {}", reason.kind(), text::reason(&reason, &self.catalog)))
    }

    /// Returns the last notice, as long as it is still true.
    fn notice(&self) -> Option<Notice> {
        let still_says_something = |notice: &&Notice| match notice {
            Notice::Degraded { from, .. } => self.serving < *from,
            Notice::LongOnSmallest { .. } => self.serving <= Rung(1),
            Notice::SlowLoad { rung, .. } => self.serving == *rung,
            Notice::NotRead { rung, .. } => self.serving < *rung,
            Notice::KeepsFailing { model, .. } | Notice::Unanswered { model, .. } => {
                self.serving_model.as_ref() != Some(model)
            }
        };
        self.notice.as_ref().filter(still_says_something).cloned()
    }

    /// Returns the gates that keep the next rung from being loaded now. A window of length zero is closed only by
    /// another gate, and has nothing to add.
    fn closed_gates(&self) -> impl Iterator<Item = &Gate> {
        let gates = self.decision.iter().flat_map(|decision| &decision.gates);
        gates.filter(|gate| {
            !gate.open && (gate.name, gate.limit) != (GateName::Window, Measure::Nanos(0))
        })
    }

    fn words(&self) -> Words {
        let in_words = |decision: &Decision| {
            let action = text::action(decision.action, &self.catalog);
            format!("{action}: {}", text::reason(&decision.reason, &self.catalog))
        };
        let of_tier = |gate: &Gate| {
            let found = text::gate_found(gate);
            match gate.rung {
                Some(rung) => format!("{}: {found}", self.catalog.tier_name(rung)),
                None => found,
            }
        };
        Words {
            decision: self.decision.as_ref().map(in_words),
            why_not_higher: self.closed_gates().map(of_tier).collect(),
            notice: self.notice().map(|notice| text::notice(&notice, &self.catalog)),
        }
    }
}

/// Chosen: what fits under the rest of a status on a terminal.
const LAST_ENTRIES: usize = 5;
