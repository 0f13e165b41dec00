//! The timeline of a run, derived in one pass from its events: which rung served when, what the models were doing, why
//! an upgrade that fits was put off, which changes were decided and their outcomes, and how many requests ran and
//! waited.
//!
//! Plot, CSV, `explain` and `diff` read it; none of them interprets a model's events by itself.

pub(super) mod columns;
pub(super) mod gaps;
pub(super) mod stretches;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::Serialize;
use tiershift_core::catalog::{Catalog, Rung};
use tiershift_core::decision::{Action, Decision, Reason, Urgency};
use tiershift_core::event::{Command, CompanionNews, EventRef, Input, Observe, Outcome, Output};
use tiershift_core::model::ModelId;
use tiershift_core::request::{End, RequestId};
use tiershift_core::text;
use tiershift_core::time::{Timestamp, duration_ns};

use crate::report::timeline::columns::{Columns, SpanColumns};
use crate::report::timeline::stretches::Stretches;
use crate::summary::{OpenChanges, Reversals};
use crate::wall::{Part, WallClock};

/// The timeline of a run. All its changes are kept; everything else takes at most some megabytes, however long the run.
#[derive(Clone, Debug)]
pub struct Timeline {
    pub(super) catalog: Catalog,
    /// The wall clock; empty if the run has none.
    pub(super) clock: WallClock,
    /// A change that is undone sooner is a reversal.
    reversal_window: Duration,
    /// The part of the run that is shown; earlier changes are kept too.
    pub(super) part: Part,
    pub(super) end: Timestamp,
    pub(super) rung: Columns,
    /// By rung, the share of time in which it served, in thousandths.
    pub(super) shares: Vec<Columns>,
    /// The rung that serves now.
    serving: Rung,
    pub(super) phases: Stretches<Phase>,
    pub(super) waits: Stretches<Wait>,
    changes: Vec<Change>,
    /// The indices in `changes` of those that are not complete.
    pending: OpenChanges<usize>,
    /// Whether models are being adopted that were loaded before.
    is_adopting: bool,
    /// Whether the run was asked to stop.
    stopping: bool,
    stopped: Option<Stop>,
    reversals: Reversals,
    /// Since when a model is loading, draining or unloading.
    busy: BTreeMap<ModelId, (Phase, Timestamp)>,
    /// The models that are ready and not about to unload.
    ready: BTreeSet<ModelId>,
    /// The wait in the last decision.
    waiting: Option<(Wait, Timestamp)>,
    /// When each companion served, by its index; and since when each serving one has served.
    pub(super) companions: Stretches<()>,
    companions_since: BTreeMap<ModelId, Timestamp>,
    pub(super) in_flight: Columns,
    pub(super) queued: Columns,
    /// Whether a request runs; only open requests.
    open: BTreeMap<RequestId, bool>,
    running: u64,
    pub(super) latency: SpanColumns,
}

/// A change that was decided, or that came about without a decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Change {
    /// When it was decided or, without a decision, complete.
    #[serde(rename = "at_ns")]
    pub at: Timestamp,
    /// The rung before.
    pub from: Rung,
    /// The rung that it leads to.
    pub to: Rung,
    /// `None`: it was not decided, for example after a crash.
    pub reason: Option<Reason>,
    /// Whether the model was loaded already when the run began.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub adopted: bool,
    /// How fast a downgrade had to be.
    pub urgency: Option<Urgency>,
    /// Its completion; `None` if it was given up.
    pub completed: Option<Completion>,
    /// Whether it undid the change before it within the reversal window.
    pub reversal: bool,
}

impl Change {
    /// Returns the change as text: `large → small, immediate: memory 14.9 GiB is above 14.4 GiB (took 2s)`.
    pub fn text(&self, catalog: &Catalog) -> String {
        let reason = match &self.reason {
            Some(reason) => text::reason(reason, catalog),
            None => self.why_not_decided().to_owned(),
        };
        let urgency = self.urgency.map(|urgency| format!(", {}", text::urgency(urgency)));
        let end = match self.completed {
            Some(Completion { took, .. }) => format!("took {}", text::span(took)),
            None => "given up".to_owned(),
        };
        let [from, to] = [self.from, self.to].map(|rung| catalog.tier_name(rung));
        format!("{from} → {to}{}: {reason} ({end})", urgency.unwrap_or_default())
    }

    /// Returns why there is no reason, as text.
    pub(super) fn why_not_decided(&self) -> &'static str {
        if self.adopted {
            "it was loaded already"
        } else {
            "without a decision: a crash, a failed load or a fallback"
        }
    }
}

/// The end of a run that was asked to stop, and unloaded what served.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Stop {
    /// When nothing was left.
    #[serde(rename = "at_ns")]
    pub at: Timestamp,
    /// The rung that had served.
    pub from: Rung,
    /// Since it was asked to stop: running requests were finished first.
    #[serde(rename = "took_ns", with = "duration_ns")]
    pub took: Duration,
}

impl Stop {
    /// Returns it as text.
    pub fn text(&self, catalog: &Catalog) -> String {
        let from = catalog.tier_name(self.from);
        format!("{from} → none: the run was stopped (took {})", text::span(self.took))
    }
}

/// The completion of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Completion {
    /// The moment from which only the new rung served.
    #[serde(rename = "at_ns")]
    pub at: Timestamp,
    /// The rung that served last: a decision that changes a switch under way starts from that switch's goal.
    pub from: Rung,
    /// Since the first decision that it carries out.
    #[serde(rename = "took_ns", with = "duration_ns")]
    pub took: Duration,
}

/// What a model is doing that takes time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::report) enum Phase {
    Loading,
    Draining,
    Unloading,
}

/// Why an upgrade that fits is put off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::report) enum Wait {
    Window,
    Backoff,
    Cooldown,
}

impl Observe for Timeline {
    #[inline]
    fn observe(&mut self, now: Timestamp, event: EventRef<'_>) {
        if now > self.part.to {
            return;
        }
        if let EventRef::Input(input) = event {
            self.is_adopting = matches!(input, Input::Adopt { .. });
        }
        self.end = self.end.max(now);
        match event {
            EventRef::Input(Input::Outcome(outcome)) => self.outcome(now, outcome),
            EventRef::Input(Input::Adopt { models }) => {
                self.ready.extend(models.iter().map(|adopted| adopted.model.clone()));
            }
            EventRef::Input(Input::Shutdown) => self.stopping = true,
            EventRef::Input(_) => {}
            EventRef::Output(output) => self.output(now, output),
        }
    }
}

impl Timeline {
    /// Begins at zero with nothing loaded. A change that is undone within `reversal_window` is a reversal.
    pub fn new(catalog: &Catalog, reversal_window: Duration) -> Self {
        Self::of_part(Part::WHOLE, catalog, reversal_window)
    }

    /// As [`Timeline::new`], for a part of a run: what comes after it is ignored.
    pub fn of_part(part: Part, catalog: &Catalog, reversal_window: Duration) -> Self {
        let begin = part.from;
        let mut rung = Columns::new(begin);
        rung.add(begin, 0);
        Self {
            catalog: catalog.clone(),
            clock: WallClock::default(),
            reversal_window,
            part,
            end: begin,
            rung,
            shares: shares_of(catalog, begin, [(begin, Rung::NONE)]),
            serving: Rung::NONE,
            phases: Stretches::new(begin),
            waits: Stretches::new(begin),
            changes: Vec::new(),
            pending: OpenChanges::default(),
            is_adopting: false,
            stopping: false,
            stopped: None,
            reversals: Reversals::default(),
            busy: BTreeMap::new(),
            ready: BTreeSet::new(),
            waiting: None,
            companions: Stretches::new(begin),
            companions_since: BTreeMap::new(),
            in_flight: Columns::new(begin),
            queued: Columns::new(begin),
            open: BTreeMap::new(),
            running: 0,
            latency: SpanColumns::new(begin),
        }
    }

    /// Returns the changes in the order in which they were decided.
    pub fn changes(&self) -> &[Change] {
        &self.changes
    }

    /// Returns the end of a run that was asked to stop while something served.
    pub fn stopped(&self) -> Option<Stop> {
        self.stopped
    }

    /// Returns the changes of the part that is shown.
    pub(super) fn shown_changes(&self) -> &[Change] {
        &self.changes[self.changes.partition_point(|change| change.at < self.part.from)..]
    }

    /// Returns how many requests run and how many wait after the last event.
    pub(super) fn requests(&self) -> [u64; 2] {
        [self.running, self.open.len() as u64 - self.running]
    }

    /// Returns the rung that serves after the last event.
    pub fn serving(&self) -> Rung {
        self.serving
    }

    fn output(&mut self, now: Timestamp, output: &Output) {
        match output {
            Output::Decision(decision) => self.decision(now, decision),
            Output::Command(command) => self.command(now, command),
            Output::Accepted { request, .. } => {
                let was = self.open.insert(*request, false);
                self.running -= u64::from(was == Some(true));
                self.count_requests(now);
            }
            Output::Ended { request, end } => {
                if let Some(running) = self.open.remove(request) {
                    self.running -= u64::from(running);
                    self.count_requests(now);
                }
                if let End::Done { latency, model, .. } = end
                    && self.catalog.rung_of(model).is_some()
                {
                    self.latency.add(now, *latency);
                }
            }
            Output::Serving { rung, .. } => {
                share(&mut self.shares, now, self.serving, *rung);
                self.serving = *rung;
                self.rung.add(now, u64::from(rung.0));
            }
            Output::Switched { from, to, took, .. } => self.switched(now, *from, *to, *took),
            Output::Companion { model, news } => match news {
                CompanionNews::Serves => {
                    self.companions_since.insert(model.clone(), now);
                }
                CompanionNews::ServesNoMore => self.add_companion(model, now),
                CompanionNews::Wanted { .. } | CompanionNews::GivenUp { .. } => {}
            },
            Output::Order { .. } | Output::Consult(_) | Output::Notice(_) => {}
        }
    }

    /// Closes what is still open. The run lasted at least until `end`.
    pub fn finish(&mut self, end: Timestamp) {
        self.end = self.end.max(end).min(self.part.to);
        for (model, (phase, since)) in std::mem::take(&mut self.busy) {
            self.add_phase(phase, &model, since, self.end);
        }
        let still: Vec<ModelId> = self.companions_since.keys().cloned().collect();
        for model in still {
            self.add_companion(&model, self.end);
        }
        self.note_wait(self.end, None);
        close_shares(&mut self.shares, self.end, self.serving);
        if !self.in_flight.is_empty() {
            self.count_requests(self.end);
        }
    }

    fn decision(&mut self, now: Timestamp, decision: &Decision) {
        let wait = match decision.reason {
            Reason::Window { .. } => Some(Wait::Window),
            Reason::Backoff { .. } => Some(Wait::Backoff),
            Reason::Cooldown { .. } => Some(Wait::Cooldown),
            _ => None,
        };
        self.note_wait(now, wait);
        let (to, urgency) = match decision.action {
            Action::Hold => return,
            Action::Upgrade { to } => (to, None),
            Action::Downgrade { to, urgency } => (to, Some(urgency)),
        };
        self.changes.push(Change {
            at: now,
            from: decision.rung,
            to,
            reason: Some(decision.reason),
            adopted: false,
            urgency,
            completed: None,
            reversal: false,
        });
        self.pending.decide(to, self.changes.len() - 1);
        // The model that served drains from now until it begins to unload.
        self.drain(now, decision.rung);
    }

    /// Notes that what is ready on this rung has begun to drain.
    fn drain(&mut self, now: Timestamp, rung: Rung) {
        for model in self.ready.iter().filter(|model| self.catalog.rung_of(model) == Some(rung)) {
            self.busy.entry(model.clone()).or_insert((Phase::Draining, now));
        }
    }

    fn note_wait(&mut self, now: Timestamp, wait: Option<Wait>) {
        if self.waiting.map(|(wait, _)| wait) != wait {
            if let Some((wait, since)) = self.waiting.take() {
                self.waits.add(wait, Rung::NONE, since, now);
            }
            self.waiting = wait.map(|wait| (wait, now));
        }
    }

    fn switched(&mut self, now: Timestamp, from: Rung, to: Rung, took: Duration) {
        // A serving model does not drain, whatever was planned for it.
        let catalog = &self.catalog;
        self.busy.retain(|model, (phase, _)| {
            *phase != Phase::Draining || catalog.rung_of(model) != Some(to)
        });
        let decided = self.pending.take(to);
        if from == to {
            return;
        }
        if self.stopping {
            // Not a change: stopping the run ends all that it serves.
            self.stopped = Some(Stop { at: now, from, took });
            return;
        }
        let decided_on = decided.and_then(|place| self.changes.get(place));
        let ordered = decided_on
            .is_some_and(|change| change.reason.is_some_and(|reason| reason.is_for_demand()));
        let reversal = self.reversals.note(now, from, to, ordered, self.reversal_window);
        let completed = Some(Completion { at: now, from, took });
        match decided.and_then(|place| self.changes.get_mut(place)) {
            Some(change) => {
                change.completed = completed;
                change.reversal = reversal;
            }
            None => self.changes.push(Change {
                at: now,
                from,
                to,
                reason: None,
                adopted: self.is_adopting,
                urgency: None,
                completed,
                reversal,
            }),
        }
    }

    fn command(&mut self, now: Timestamp, command: &Command) {
        match command {
            Command::Load { model, .. } => {
                // A model that still serves while the next one loads begins to drain when that is ready.
                self.busy.retain(|_, (phase, _)| *phase != Phase::Draining);
                self.enter(now, model, Some(Phase::Loading));
            }
            Command::Unload { model } => {
                self.ready.remove(model);
                self.enter(now, model, Some(Phase::Unloading));
            }
            Command::Start { request, .. } => {
                let was = self.open.insert(*request, true);
                self.running += u64::from(was != Some(true));
                self.count_requests(now);
            }
            Command::Cancel { .. } | Command::Try { .. } => {}
        }
    }

    fn outcome(&mut self, now: Timestamp, outcome: &Outcome) {
        match outcome {
            Outcome::Loaded { model } => {
                self.enter(now, model, None);
                let leaving = self.pending.last().and_then(|&place| self.changes.get(place));
                if let Some(from) = leaving.map(|change| change.from) {
                    self.drain(now, from);
                }
                self.ready.insert(model.clone());
            }
            Outcome::LoadFailed { model, .. }
            | Outcome::Unloaded { model }
            | Outcome::Crashed { model, .. } => {
                self.ready.remove(model);
                self.enter(now, model, None);
            }
            Outcome::Loading { .. }
            | Outcome::Tried(_)
            | Outcome::Done { .. }
            | Outcome::Failed { .. }
            | Outcome::Cancelled { .. } => {}
        }
    }

    fn enter(&mut self, now: Timestamp, model: &ModelId, phase: Option<Phase>) {
        let before = match phase {
            Some(phase) => self.busy.insert(model.clone(), (phase, now)),
            None => self.busy.remove(model),
        };
        if let Some((phase, since)) = before {
            self.add_phase(phase, model, since, now);
        }
    }

    fn add_phase(&mut self, phase: Phase, model: &ModelId, since: Timestamp, until: Timestamp) {
        if let Some(rung) = self.catalog.rung_of(model) {
            self.phases.add(phase, rung, since, until);
        }
    }

    fn add_companion(&mut self, model: &ModelId, until: Timestamp) {
        let known = self.catalog.companions().iter().position(|companion| companion.id == *model);
        let lane = known.and_then(|lane| u8::try_from(lane).ok());
        if let (Some(lane), Some(since)) = (lane, self.companions_since.remove(model)) {
            self.companions.add((), Rung(lane), since, until);
        }
    }

    fn count_requests(&mut self, now: Timestamp) {
        if self.in_flight.is_empty() {
            self.in_flight.step(self.part.from, 0);
            self.queued.step(self.part.from, 0);
        }
        self.in_flight.step(now, self.running * REQUEST);
        self.queued.step(now, (self.open.len() as u64 - self.running) * REQUEST);
    }
}

/// Returns, by rung, the share of time in which it serves under a schedule that begins at `begin`.
pub(super) fn shares_of(
    catalog: &Catalog,
    begin: Timestamp,
    schedule: impl IntoIterator<Item = (Timestamp, Rung)>,
) -> Vec<Columns> {
    let mut shares = vec![Columns::new(begin); usize::from(catalog.top().0) + 1];
    let mut serving = None;
    for (at, rung) in schedule {
        share(&mut shares, at, serving.unwrap_or(rung), rung);
        serving = Some(rung);
    }
    shares
}

/// From `now` on, another rung serves.
fn share(shares: &mut [Columns], now: Timestamp, from: Rung, to: Rung) {
    for (rung, whole) in [(from, 0), (to, WHOLE_TIME)] {
        if let Some(share) = shares.get_mut(usize::from(rung.0)) {
            share.step(now, whole);
        }
    }
}

/// Lets the last serving rung serve to the end.
pub(super) fn close_shares(shares: &mut [Columns], end: Timestamp, serving: Rung) {
    share(shares, end, serving, serving);
}

/// All of a stretch of time.
pub(super) const WHOLE_TIME: u64 = 1000;

/// Requests are counted in thousandths, so that their mean is not rounded to whole numbers.
pub(super) const REQUEST: u64 = 1000;
