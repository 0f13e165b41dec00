//! Events for the journal: each switch with its reason and its cost, notices, orders. It follows the events of the run,
//! like every observer, and starts the hooks.

use std::collections::BTreeMap;
use std::time::Duration;

use tiershift_core::catalog::Catalog;
use tiershift_core::decision::{Action, Decision, Reason};
use tiershift_core::event::{Command, EventRef, Input, Observe, Outcome, Output};
use tiershift_core::model::ModelId;
use tiershift_core::request::{CancelledBy, End};
use tiershift_core::sample::Resource;
use tiershift_core::text;
use tiershift_core::time::Timestamp;

use crate::serve::board::SharedBoard;
use crate::serve::hooks::{Happening, Hooks};
use crate::serve::supervisor::Supervisor;
use crate::serve::{DaemonEvent, Notify};
use crate::summary::OpenChanges;

/// The parts of a journal.
pub(super) struct Parts {
    pub(super) catalog: Catalog,
    /// It observes before the journal.
    pub(super) board: SharedBoard,
    pub(super) hooks: Hooks,
    pub(super) supervisor: Supervisor,
    pub(super) drain_deadline: Duration,
}

/// Follows a run.
pub(super) struct Journal {
    catalog: Catalog,
    board: SharedBoard,
    notify: Notify,
    hooks: Hooks,
    supervisor: Supervisor,
    drain_deadline: Duration,
    readings: u32,
    is_stopping: bool,
    /// Whether models are being adopted that were loaded before.
    is_adopting: bool,
    /// Decisions that are not carried out yet.
    changes: OpenChanges<Decision>,
    /// The last failure of a model since the last switch.
    failure: Option<String>,
    loading: BTreeMap<ModelId, Timestamp>,
    /// The time of loads since the last switch.
    load: Option<Duration>,
    /// The last decision, without its numbers.
    last: Option<(Action, Reason)>,
    /// Replies that were cut because the daemon stops.
    cut: u64,
}

impl Journal {
    pub(super) fn new(parts: Parts, notify: Notify) -> Self {
        let Parts { catalog, board, hooks, supervisor, drain_deadline } = parts;
        Self {
            catalog,
            board,
            notify,
            hooks,
            supervisor,
            drain_deadline,
            readings: 0,
            is_stopping: false,
            is_adopting: false,
            changes: OpenChanges::default(),
            failure: None,
            loading: BTreeMap::new(),
            load: None,
            last: None,
            cut: 0,
        }
    }

    /// Returns how many replies were cut because the daemon stops.
    pub(super) fn cut(&self) -> u64 {
        self.cut
    }

    /// Reports once what is read of the machine, and the lines for it: as soon as the rate of the processors is known.
    /// That rate is an average between two samples, and may not be separated from others' while a first model loads.
    fn observe_sample(&mut self) {
        if self.readings == READINGS_FOR_RATES {
            return;
        }
        self.readings += 1;
        let lines = self.board.lock().resource_use();
        let is_known = lines.iter().any(|line| line.resource == Resource::Cpu);
        if is_known || self.readings == READINGS_FOR_RATES {
            self.readings = READINGS_FOR_RATES;
            let is_missing = |resource: &Resource| lines.iter().all(|it| it.resource != *resource);
            let not_read: Vec<Resource> = Resource::ALL.into_iter().filter(is_missing).collect();
            (self.notify)(DaemonEvent::Reads { lines: &lines, not_read: &not_read });
        }
    }

    fn happened(&self, kind: &str, text: &str) {
        (self.notify)(DaemonEvent::Happened { kind, text });
    }

    fn detail(&self, kind: &str, text: &str) {
        (self.notify)(DaemonEvent::Detail { kind, text });
    }

    fn observe_decision(&mut self, decision: &Decision) {
        let (action, reason) = (decision.action, decision.reason);
        match action {
            Action::Upgrade { to } | Action::Downgrade { to, .. } => {
                self.changes.decide(to, decision.clone());
            }
            Action::Hold => {}
        }
        let last = self.last.replace((action, reason));
        if last.is_none_or(|(a, r)| !a.is_like(&action) || !r.is_like(&reason)) {
            let text = text::decision(action, decision.rung, &reason, &self.catalog);
            self.detail("decision", &text);
        }
    }

    fn observe_outcome(&mut self, now: Timestamp, outcome: &Outcome) {
        match outcome {
            Outcome::Loaded { model } => {
                if let Some(since) = self.loading.remove(model) {
                    let took = now.since(since);
                    self.load = Some(self.load.unwrap_or_default() + took);
                    self.detail("loaded", &format!("{model}, in {}", text::span(took)));
                }
            }
            Outcome::LoadFailed { model, error } => {
                self.loading.remove(model);
                self.fail(format!("{model} did not load: {error}"));
            }
            Outcome::Crashed { model, error } => self.fail(format!("{model} crashed: {error}")),
            Outcome::Unloaded { model } => {
                self.loading.remove(model);
                self.detail("unloaded", model.as_str());
            }
            Outcome::Loading { .. }
            | Outcome::Tried(_)
            | Outcome::Done { .. }
            | Outcome::Failed { .. }
            | Outcome::Cancelled { .. } => {}
        }
    }

    fn fail(&mut self, text: String) {
        self.happened("failure", &text);
        self.failure = Some(text);
    }

    fn observe_output(&mut self, now: Timestamp, output: &Output) {
        match output {
            Output::Decision(decision) => self.observe_decision(decision),
            Output::Command(Command::Load { model, .. }) => {
                self.loading.entry(model.clone()).or_insert(now);
                self.detail("load", model.as_str());
            }
            Output::Switched { from, to, took, called_off, .. } => {
                let change = self.changes.take(*to);
                let (load, failure) = (self.load.take(), self.failure.take());
                if let Some(wanted) = *called_off {
                    let tier = |rung| self.catalog.tier_name(rung);
                    let text = format!("{} stays: {} was given up", tier(*to), tier(wanted));
                    self.happened("called-off", &text);
                }
                let tier = |rung| self.catalog.tier_name(rung);
                if from == to {
                    return;
                }
                let reason = match (&change, failure) {
                    _ if self.is_stopping => "the daemon was stopped".to_owned(),
                    (Some(change), _) => text::reason(&change.reason, &self.catalog),
                    (None, Some(failure)) => failure,
                    (None, None) if self.is_adopting => "it was loaded already".to_owned(),
                    (None, None) => "a fallback, without a decision".to_owned(),
                };
                let (from, to, took) = (tier(*from), tier(*to), *took);
                let decision = change.as_ref().filter(|_| !self.is_stopping);
                (self.notify)(DaemonEvent::Switched { from, to, reason: &reason, took, load });
                if !self.is_stopping {
                    self.hooks.start(Happening::Change {
                        from: from.to_owned(),
                        to: to.to_owned(),
                        text: reason,
                        took,
                        load,
                        decision: decision.cloned(),
                    });
                }
            }
            Output::Serving { model, rung, .. } => {
                let tier = self.catalog.tier_name(*rung);
                self.supervisor.status(&match model {
                    Some(model) => format!("serves {tier} ({model})"),
                    None => "serves nothing".to_owned(),
                });
            }
            Output::Companion { model, news } => {
                self.happened("companion", &text::companion(model, *news, &self.catalog));
            }
            Output::Order { tier, news } => {
                self.happened("order", &text::order(tier, news, &self.catalog));
            }
            Output::Notice(notice) => {
                let text = text::notice(notice, &self.catalog);
                self.happened("notice", &text);
                self.hooks.start(Happening::Notice { notice: notice.clone(), text });
            }
            Output::Ended { end: End::Cancelled { by: CancelledBy::Shutdown, .. }, .. } => {
                self.cut += 1;
            }
            Output::Accepted { .. }
            | Output::Command(
                Command::Unload { .. }
                | Command::Start { .. }
                | Command::Cancel { .. }
                | Command::Try { .. },
            )
            | Output::Ended { .. }
            | Output::Consult(_) => {}
        }
    }
}

impl Observe for Journal {
    fn observe(&mut self, now: Timestamp, event: EventRef<'_>) {
        if let EventRef::Input(input) = event {
            self.is_adopting = matches!(input, Input::Adopt { .. });
        }
        match event {
            EventRef::Input(Input::Outcome(outcome)) => self.observe_outcome(now, outcome),
            EventRef::Input(Input::Sample(_)) => self.observe_sample(),
            EventRef::Input(Input::SampleMissing { error }) => self.detail("no reading", error),
            EventRef::Input(Input::Settings(settings)) => {
                self.drain_deadline = settings.manager.drain_deadline.0;
            }
            EventRef::Input(Input::Shutdown) => {
                self.is_stopping = true;
                self.supervisor.stopping(self.drain_deadline + AFTER_DRAINING);
            }
            EventRef::Input(_) => {}
            EventRef::Output(output) => self.observe_output(now, output),
        }
    }
}

/// Chosen: to unload, to close the log and to finish answers, each with its own limit.
const AFTER_DRAINING: Duration = Duration::from_secs(30);

/// The most samples for which a rate is waited for. Chosen: twenty seconds by default, in which a model is usually
/// loaded.
const READINGS_FOR_RATES: u32 = 10;
