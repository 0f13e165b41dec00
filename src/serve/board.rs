//! The daemon's view of itself: built from what passes between the controller and its world, read by `/status`,
//! `/metrics` and the page.

mod answer;
mod best_fitting;
mod figures;
mod history;
mod metrics;
mod resource_use;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tiershift_core::catalog::{Catalog, Rung};
use tiershift_core::decision::{Action, Decision, Reason};
use tiershift_core::event::{
    Adopted, Command, CompanionNews, EventRef, Input, Notice, Observe, OrderNews, Outcome, Output,
};
use tiershift_core::model::ModelId;
use tiershift_core::place::Resident;
use tiershift_core::request::{End, RequestId};
use tiershift_core::sample::Sample;
use tiershift_core::settings::Settings;
use tiershift_core::text;
use tiershift_core::time::Timestamp;
use tokio::sync::watch;

use crate::backend::remote::OwnSource;
use crate::serve::board::best_fitting::BestFitting;
use crate::serve::board::figures::Figures;
use crate::serve::board::history::{History, Reply};
use crate::serve::shadow::compare::ShadowReport;
use crate::serve::status::{Ordered, Recording, Requests, TimedDecision};

pub(super) use crate::serve::board::history::Mark;

/// The board of a run, for every thread that writes or reads it.
#[derive(Clone, Debug)]
pub(super) struct SharedBoard(Arc<Mutex<Board>>);

impl SharedBoard {
    pub(super) fn new(catalog: Catalog, settings: Settings) -> Self {
        Self(Arc::new(Mutex::new(Board::new(catalog, settings))))
    }

    /// Locks the board for this thread, briefly. Its content stays readable after a panic elsewhere.
    pub(super) fn lock(&self) -> MutexGuard<'_, Board> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Observe for SharedBoard {
    fn observe(&mut self, at: Timestamp, event: EventRef<'_>) {
        self.lock().observe(at, event);
    }
}

/// The state of a live run.
#[derive(Debug)]
pub(super) struct Board {
    catalog: Catalog,
    settings: Settings,
    now: Timestamp,
    serving: Rung,
    serving_model: Option<ModelId>,
    /// The companions that serve.
    companions: BTreeSet<ModelId>,
    /// The GPU of each model that was loaded to one.
    gpus: BTreeMap<ModelId, u8>,
    order: Option<Ordered>,
    is_stopping: bool,
    sample: Option<Sample>,
    sampled_at: Option<Timestamp>,
    best_fitting: BestFitting,
    decision: Option<Decision>,
    last_change: Option<TimedDecision>,
    switches: u64,
    notice: Option<Notice>,
    waiting: BTreeSet<RequestId>,
    running: BTreeSet<RequestId>,
    /// How the finished requests ended.
    ended: Requests,
    recording: Recording,
    shadow: Option<ShadowReport>,
    figures: Figures,
    history: History,
    /// The last decision in the history, without its numbers.
    last_entry: Option<(Action, Reason)>,
    /// Notifies watchers of news; gone when the daemon ends.
    news: Option<watch::Sender<()>>,
    own_sources: Vec<(ModelId, OwnSource)>,
}

impl Board {
    fn new(catalog: Catalog, settings: Settings) -> Self {
        Self {
            best_fitting: BestFitting::new(&settings, &catalog),
            catalog,
            settings,
            now: Timestamp::ZERO,
            serving: Rung::NONE,
            serving_model: None,
            companions: BTreeSet::new(),
            gpus: BTreeMap::new(),
            order: None,
            is_stopping: false,
            sample: None,
            sampled_at: None,
            decision: None,
            last_change: None,
            switches: 0,
            notice: None,
            waiting: BTreeSet::new(),
            running: BTreeSet::new(),
            ended: Requests::default(),
            recording: Recording::Off,
            shadow: None,
            figures: Figures::default(),
            history: History::default(),
            last_entry: None,
            news: Some(watch::channel(()).0),
            own_sources: Vec::new(),
        }
    }

    /// A decision is listed again only when its kind has changed: a hold is repeated at every sample.
    fn observe_decision(&mut self, now: Timestamp, decision: &Decision) {
        self.figures.count_decision(decision);
        let (action, reason) = (decision.action, decision.reason);
        let last = self.last_entry.replace((action, reason));
        if last.is_some_and(|(a, r)| a.is_like(&action) && r.is_like(&reason)) {
            return;
        }
        let name = match decision.action {
            Action::Hold => "hold",
            Action::Upgrade { .. } => "upgrade",
            Action::Downgrade { .. } => "downgrade",
        };
        let reason = text::reason(&decision.reason, &self.catalog);
        let text = match decision.action {
            Action::Hold => reason,
            Action::Upgrade { to } | Action::Downgrade { to, .. } => {
                format!("to {}: {reason}", self.catalog.tier_name(to))
            }
        };
        self.history.add(now, name, text);
    }

    fn observe_outcome(&mut self, now: Timestamp, outcome: &Outcome) {
        self.figures.count_outcome(outcome);
        match outcome {
            Outcome::LoadFailed { model, error } => {
                self.history.add(now, "failure", format!("{model} did not load: {error}"));
            }
            Outcome::Crashed { model, error } => {
                self.history.add(now, "failure", format!("{model} crashed: {error}"));
            }
            Outcome::Loading { .. }
            | Outcome::Tried(_)
            | Outcome::Loaded { .. }
            | Outcome::Unloaded { .. }
            | Outcome::Done { .. }
            | Outcome::Failed { .. }
            | Outcome::Cancelled { .. } => {}
        }
    }

    fn add_point(&mut self) {
        if let Some(point) = self.point() {
            self.history.add_point(point);
        }
    }

    fn observe_output(&mut self, now: Timestamp, output: &Output) {
        match output {
            Output::Decision(decision) => {
                self.observe_decision(now, decision);
                if decision.action != Action::Hold {
                    self.last_change = Some(TimedDecision { at: now, decision: decision.clone() });
                }
                self.decision = Some(decision.clone());
            }
            Output::Accepted { request, .. } => drop(self.waiting.insert(*request)),
            Output::Command(Command::Start { request, .. }) => {
                self.waiting.remove(request);
                self.running.insert(*request);
            }
            Output::Command(Command::Load { model, gpu }) => self.place(model, *gpu),
            Output::Command(
                Command::Unload { .. } | Command::Cancel { .. } | Command::Try { .. },
            ) => {}
            Output::Ended { request, end } => {
                self.waiting.remove(request);
                self.running.remove(request);
                self.figures.count_end(end);
                if let &End::Done { first_token, latency, .. } = end {
                    self.history.add_reply(Reply { at: now, first_token, latency });
                }
                *match end {
                    End::Done { .. } => &mut self.ended.done,
                    End::Failed { .. } => &mut self.ended.failed,
                    End::Cancelled { .. } => &mut self.ended.cancelled,
                    End::Rejected { .. } => &mut self.ended.rejected,
                } += 1;
            }
            Output::Serving { rung, model, .. } => {
                self.serving = *rung;
                self.serving_model.clone_from(model);
                self.best_fitting.serve(now, *rung);
                let text = match model {
                    Some(model) => format!("{} with {model}", self.catalog.tier_name(*rung)),
                    None => "nothing".to_owned(),
                };
                self.history.add(now, "serving", text);
                self.add_point();
            }
            // A model that is unloaded because the daemon stops is not a switch.
            Output::Switched { .. } if self.is_stopping => {}
            Output::Switched { from, to, .. } => {
                self.switches += u64::from(from != to);
                self.figures.upgrades += u64::from(to > from);
                self.figures.downgrades += u64::from(to < from);
            }
            Output::Companion { model, news } => {
                match news {
                    CompanionNews::Serves => drop(self.companions.insert(model.clone())),
                    CompanionNews::ServesNoMore => drop(self.companions.remove(model)),
                    CompanionNews::Wanted { .. } | CompanionNews::GivenUp { .. } => {}
                }
                self.history.add(now, "companion", text::companion(model, *news, &self.catalog));
            }
            Output::Order { tier, news } => {
                self.figures.count_order(news);
                self.order = match news {
                    OrderNews::Taken { wait, until } => Some(Ordered {
                        tier: tier.clone(),
                        starts: now + wait.unwrap_or_default(),
                        until: *until,
                    }),
                    OrderNews::Refused { .. } | OrderNews::Released => None,
                    OrderNews::Unknown => self.order.take(),
                };
                self.history.add(now, "order", text::order(tier, news, &self.catalog));
            }
            Output::Consult(_) => {}
            Output::Notice(notice) => {
                self.notice = Some(notice.clone());
                self.history.add(now, "notice", text::notice(notice, &self.catalog));
            }
        }
    }

    fn place(&mut self, model: &ModelId, gpu: Option<u8>) {
        self.gpus.remove(model);
        self.gpus.extend(gpu.map(|gpu| (model.clone(), gpu)));
    }

    /// Returns what these models hold, each where it was loaded.
    fn held_by<'m>(&self, models: impl IntoIterator<Item = &'m ModelId>) -> Resident {
        let mut held = Resident::default();
        for id in models {
            if let Some(model) = self.catalog.model(id) {
                held.add(model.footprint(), self.gpus.get(id).copied());
            }
        }
        held
    }

    /// Sets the source of the figure for each loaded model's own use.
    pub(super) fn set_own_sources(&mut self, sources: Vec<(ModelId, OwnSource)>) {
        self.own_sources = sources;
    }

    /// Sets the state of the recording.
    pub(super) fn set_recording(&mut self, recording: Recording) -> Recording {
        std::mem::replace(&mut self.recording, recording)
    }

    /// Sets the shadow's comparison.
    pub(super) fn set_shadow(&mut self, report: ShadowReport) {
        self.shadow = Some(report);
    }

    /// Returns the shadow's comparison, if there is one.
    pub(super) fn shadow(&self) -> Option<&ShadowReport> {
        self.shadow.as_ref()
    }

    /// Returns the model that serves the ladder.
    pub(super) fn serving_model(&self) -> Option<ModelId> {
        self.serving_model.clone()
    }

    /// Returns a receiver that is notified of all news.
    pub(super) fn subscribe(&self) -> watch::Receiver<()> {
        match &self.news {
            Some(news) => news.subscribe(),
            // Its sender is gone: the daemon ends.
            None => watch::channel(()).1,
        }
    }

    /// Ends all subscriptions.
    pub(super) fn close(&mut self) {
        self.news = None;
    }

    /// Returns the history.
    pub(super) fn history(&self) -> &History {
        &self.history
    }
}

impl Observe for Board {
    fn observe(&mut self, now: Timestamp, event: EventRef<'_>) {
        self.now = now;
        match event {
            EventRef::Input(Input::Sample(sample)) => {
                self.sample = Some(sample.clone());
                self.sampled_at = Some(now);
                if !self.is_stopping {
                    let held = (self.held_by(&self.serving_model), self.held_by(&self.companions));
                    self.best_fitting.read(now, sample, self.serving, held);
                }
                self.add_point();
            }
            EventRef::Input(Input::SampleMissing { .. }) => self.figures.missing_samples += 1,
            EventRef::Input(Input::Outcome(outcome)) => self.observe_outcome(now, outcome),
            EventRef::Input(Input::Settings(raw)) => {
                if let Ok(settings) = self.settings.with((**raw).clone()) {
                    self.best_fitting.set_settings(&settings, &self.catalog);
                    self.settings = settings;
                }
            }
            EventRef::Input(Input::Adopt { models }) => {
                models.iter().for_each(|Adopted { model, gpu }| self.place(model, *gpu));
            }
            EventRef::Input(Input::Shutdown) => {
                self.is_stopping = true;
                self.best_fitting.stop(now);
            }
            EventRef::Input(
                Input::Request(_)
                | Input::Cancel { .. }
                | Input::Timeout
                | Input::Switch { .. }
                | Input::Advice(_),
            ) => {}
            EventRef::Output(output) => self.observe_output(now, output),
        }
        if let Some(news) = &self.news {
            news.send_replace(());
        }
    }
}
