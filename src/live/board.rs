//! What the daemon shows of itself: kept from what passes between the controller and its world, read by `/status`.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use crate::backend::remote::OwnSource;
use crate::catalog::{Catalog, ModelId, Rung};
use crate::driver::Passed;
use crate::event::{Action, Command, Decision, Gate, Input, Notice, Output};
use crate::live::compare::ShadowReport;
use crate::live::recorder::Recording;
use crate::request::{End, RequestId, Target};
use crate::sample::Sample;
use crate::time::Timestamp;
use crate::words;

/// The state of a live run.
#[derive(Debug)]
pub(super) struct Board {
    catalog: Catalog,
    now: Timestamp,
    serving: Rung,
    is_stopping: bool,
    sample: Option<Sample>,
    decision: Option<Decision>,
    last_change: Option<Change>,
    switches: u64,
    notice: Option<Notice>,
    waiting: BTreeSet<RequestId>,
    running: BTreeSet<RequestId>,
    done: u64,
    failed: u64,
    cancelled: u64,
    rejected: u64,
    recording: Recording,
    shadow: Option<ShadowReport>,
    own_sources: Vec<(ModelId, OwnSource)>,
}

/// A decision that changed something.
#[derive(Clone, Debug, Serialize)]
struct Change {
    #[serde(rename = "at_ns")]
    at: Timestamp,
    decision: Decision,
}

/// The answer of `/status`.
#[derive(Debug, Serialize)]
pub(super) struct Status<'a> {
    /// Since the start.
    uptime_ns: Timestamp,
    /// What serves.
    tier: &'a str,
    model: Option<&'a str>,
    rung: Rung,
    top_rung: Rung,
    is_stopping: bool,
    /// The last reading.
    resources: Option<&'a Sample>,
    /// What was decided on it, with every gate of the next upgrade.
    decision: Option<&'a Decision>,
    /// The gates that keep the next rung from being loaded now.
    why_not_higher: Vec<&'a Gate>,
    last_change: Option<&'a Change>,
    switches: u64,
    notice: Option<Notice>,
    requests: Requests,
    recording: &'a Recording,
    /// How the shadow policy compares, where there is one.
    shadow: Option<&'a ShadowReport>,
    /// Who says what each loaded model uses.
    own_use_from: BTreeMap<&'a str, OwnSource>,
}

#[derive(Debug, Serialize)]
struct Requests {
    waiting: usize,
    running: usize,
    done: u64,
    failed: u64,
    cancelled: u64,
    rejected: u64,
}

impl Board {
    pub(super) fn new(catalog: Catalog) -> Self {
        Self {
            catalog,
            now: Timestamp::ZERO,
            serving: Rung::NONE,
            is_stopping: false,
            sample: None,
            decision: None,
            last_change: None,
            switches: 0,
            notice: None,
            waiting: BTreeSet::new(),
            running: BTreeSet::new(),
            done: 0,
            failed: 0,
            cancelled: 0,
            rejected: 0,
            recording: Recording::Off,
            shadow: None,
            own_sources: Vec::new(),
        }
    }

    /// Takes note of what passed.
    pub(super) fn see(&mut self, now: Timestamp, passed: Passed<'_>) {
        self.now = now;
        match passed {
            Passed::Input(Input::Sample(sample)) => self.sample = Some(sample.clone()),
            Passed::Input(Input::Shutdown) => self.is_stopping = true,
            Passed::Input(
                Input::SampleMissing { .. }
                | Input::Request(_)
                | Input::Cancel { .. }
                | Input::Outcome(_)
                | Input::Timeout
                | Input::Adopt { .. }
                | Input::Settings(_)
                | Input::Switch { .. },
            ) => {}
            Passed::Output(output) => self.see_output(now, output),
        }
    }

    fn see_output(&mut self, now: Timestamp, output: &Output) {
        match output {
            Output::Decision(decision) => {
                if decision.action != Action::Hold {
                    self.last_change = Some(Change { at: now, decision: decision.clone() });
                }
                self.decision = Some(decision.clone());
            }
            Output::Accepted { request, .. } => drop(self.waiting.insert(*request)),
            Output::Command(Command::Start { request, .. }) => {
                self.waiting.remove(request);
                self.running.insert(*request);
            }
            Output::Command(
                Command::Load { .. } | Command::Unload { .. } | Command::Cancel { .. },
            ) => {}
            Output::Ended { request, end } => {
                self.waiting.remove(request);
                self.running.remove(request);
                *match end {
                    End::Done { .. } => &mut self.done,
                    End::Failed { .. } => &mut self.failed,
                    End::Cancelled { .. } => &mut self.cancelled,
                    End::Rejected { .. } => &mut self.rejected,
                } += 1;
            }
            Output::Serving { rung } => self.serving = *rung,
            Output::Switched { from, to, .. } => self.switches += u64::from(from != to),
            Output::Notice(notice) => self.notice = Some(*notice),
        }
    }

    /// Takes note of where each loaded model's own use is taken from.
    pub(super) fn learn_own_sources(&mut self, sources: Vec<(ModelId, OwnSource)>) {
        self.own_sources = sources;
    }

    /// Takes note of how the recording goes. Once stopped, it stays so.
    pub(super) fn set_recording(&mut self, recording: Recording) {
        if !matches!(self.recording, Recording::Stopped { .. }) {
            self.recording = recording;
        }
    }

    /// Takes note of how the shadow compares.
    pub(super) fn set_shadow(&mut self, report: ShadowReport) {
        self.shadow = Some(report);
    }

    /// Returns how the shadow compares, where there is one.
    pub(super) fn shadow(&self) -> Option<&ShadowReport> {
        self.shadow.as_ref()
    }

    /// Returns the rung that serves.
    pub(super) fn serving(&self) -> Rung {
        self.serving
    }

    /// Returns why `model` serves what was asked as `target`, where the best of the ladder, or what was named, stands
    /// higher: the reason of the last decision, as the log spells it and in words.
    pub(super) fn degraded_because(&self, target: &Target, model: &ModelId) -> Option<String> {
        let asked = match target {
            Target::Auto => Some(self.catalog.top()),
            Target::Tier(tier) => self.catalog.rung_of_tier(tier),
            Target::Model(id) => self.catalog.rung_of(id),
        };
        let reason = self.decision.as_ref()?.reason;
        (self.catalog.rung_of(model)? < asked?)
            .then(|| format!("{}: {}", reason.kind(), words::reason(&reason, &self.catalog)))
    }

    /// Returns the answer of `/status`.
    pub(super) fn status(&self) -> Status<'_> {
        let gates = self.decision.iter().flat_map(|decision| &decision.gates);
        Status {
            uptime_ns: self.now,
            tier: self.catalog.tier_name(self.serving),
            model: self.catalog.primary(self.serving).map(|model| model.id.as_str()),
            rung: self.serving,
            top_rung: self.catalog.top(),
            is_stopping: self.is_stopping,
            resources: self.sample.as_ref(),
            decision: self.decision.as_ref(),
            why_not_higher: gates.filter(|gate| !gate.open).collect(),
            last_change: self.last_change.as_ref(),
            switches: self.switches,
            notice: self.notice,
            requests: Requests {
                waiting: self.waiting.len(),
                running: self.running.len(),
                done: self.done,
                failed: self.failed,
                cancelled: self.cancelled,
                rejected: self.rejected,
            },
            recording: &self.recording,
            shadow: self.shadow.as_ref(),
            own_use_from: self.own_sources.iter().map(|(id, from)| (id.as_str(), *from)).collect(),
        }
    }
}
