//! What the daemon shows of itself: kept from what passes between the controller and its world, read by `/status`,
//! `/metrics` and the page.

mod figures;
mod history;
mod metrics;

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use tiershift_core::catalog::{Catalog, Rung};
use tiershift_core::decision::{Action, Decision, Gate, GateName, Measure, Reason};
use tiershift_core::event::{Command, EventRef, Input, Notice, Observe, Outcome, Output};
use tiershift_core::model::ModelId;
use tiershift_core::request::{End, RequestId, Target};
use tiershift_core::sample::{Rate, Resource, Sample, Space};
use tiershift_core::settings::Settings;
use tiershift_core::text;
use tiershift_core::time::Timestamp;
use tiershift_core::units::{Bytes, Percent};
use tokio::sync::watch;

use crate::backend::remote::OwnSource;
use crate::serve::board::figures::Figures;
use crate::serve::board::history::{Entry, Latencies, Point, Reply};
use crate::serve::recorder::Recording;
use crate::serve::shadow::compare::ShadowReport;

pub(super) use crate::serve::board::history::{History, Mark};

/// The state of a live run.
#[derive(Debug)]
pub(super) struct Board {
    catalog: Catalog,
    settings: Settings,
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
    figures: Figures,
    history: History,
    /// What the last decision in the history was, without its numbers.
    last_told: Option<(std::mem::Discriminant<Action>, std::mem::Discriminant<Reason>)>,
    /// Tells watchers that there is something new; gone when the daemon ends.
    news: Option<watch::Sender<()>>,
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
    version: &'static str,
    /// Since the start.
    uptime_ns: Timestamp,
    /// What serves.
    tier: &'a str,
    model: Option<&'a str>,
    rung: Rung,
    top_rung: Rung,
    /// The names of all tiers, from nothing upwards.
    tiers: Vec<&'a str>,
    is_stopping: bool,
    /// Each resource that was read, with the lines that decide on it.
    lines: Vec<Line>,
    /// What follows below, for people.
    words: Words,
    /// What happened last, oldest first.
    last: Vec<&'a Entry>,
    latencies: Latencies,
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

/// A resource's use, and the lines that decide on it.
#[derive(Clone, Debug, Serialize)]
struct Line {
    name: String,
    resource: Resource,
    #[serde(rename = "used_milli_percent")]
    used: Percent,
    #[serde(rename = "own_milli_percent")]
    own: Percent,
    #[serde(rename = "upgrade_line_milli_percent")]
    upgrade_line: Percent,
    #[serde(rename = "degrade_line_milli_percent")]
    degrade_line: Percent,
    used_bytes: Option<Bytes>,
    total_bytes: Option<Bytes>,
    /// Whether the policy looks at it.
    constrains: bool,
}

/// The typed reasons in words.
#[derive(Debug, Serialize)]
struct Words {
    decision: Option<String>,
    why_not_higher: Vec<String>,
    notice: Option<String>,
}

/// What a watcher is sent when something has changed.
#[derive(Debug, Serialize)]
pub(super) struct News<'a> {
    #[serde(flatten)]
    status: Status<'a>,
    point: Option<Point>,
    entries: Vec<&'a Entry>,
    replies: Vec<&'a Reply>,
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

impl Observe for Board {
    fn observe(&mut self, now: Timestamp, event: EventRef<'_>) {
        self.now = now;
        match event {
            EventRef::Input(Input::Sample(sample)) => {
                self.sample = Some(sample.clone());
                self.note_point();
            }
            EventRef::Input(Input::SampleMissing { .. }) => self.figures.missing_samples += 1,
            EventRef::Input(Input::Outcome(outcome)) => self.see_outcome(now, outcome),
            EventRef::Input(Input::Settings(raw)) => {
                if let Ok(settings) = self.settings.with((**raw).clone()) {
                    self.settings = settings;
                }
            }
            EventRef::Input(Input::Shutdown) => self.is_stopping = true,
            EventRef::Input(
                Input::Request(_)
                | Input::Cancel { .. }
                | Input::Timeout
                | Input::Adopt { .. }
                | Input::Switch { .. }
                | Input::Advice(_),
            ) => {}
            EventRef::Output(output) => self.see_output(now, output),
        }
        if let Some(news) = &self.news {
            news.send_replace(());
        }
    }
}

impl Board {
    pub(super) fn new(catalog: Catalog, settings: Settings) -> Self {
        Self {
            catalog,
            settings,
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
            figures: Figures::default(),
            history: History::default(),
            last_told: None,
            news: Some(watch::channel(()).0),
            own_sources: Vec::new(),
        }
    }

    /// A decision is told again only when its kind has changed: a hold repeats itself at every reading.
    fn note_decision(&mut self, now: Timestamp, decision: &Decision) {
        self.figures.note_decision(decision);
        let kind =
            (std::mem::discriminant(&decision.action), std::mem::discriminant(&decision.reason));
        if self.last_told.replace(kind) == Some(kind) {
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
        self.history.note(now, name, text);
    }

    fn see_outcome(&mut self, now: Timestamp, outcome: &Outcome) {
        self.figures.note_outcome(outcome);
        match outcome {
            Outcome::LoadFailed { model, error } => {
                self.history.note(now, "failure", format!("{model} did not load: {error}"));
            }
            Outcome::Crashed { model, error } => {
                self.history.note(now, "failure", format!("{model} died: {error}"));
            }
            Outcome::Loaded { .. }
            | Outcome::Unloaded { .. }
            | Outcome::Done { .. }
            | Outcome::Failed { .. }
            | Outcome::Cancelled { .. } => {}
        }
    }

    fn note_point(&mut self) {
        if let Some(point) = self.point() {
            self.history.note_point(point);
        }
    }

    fn point(&self) -> Option<Point> {
        self.sample.as_ref()?;
        let lines = self.lines();
        let fullest = |resource| {
            lines.iter().filter(|line| line.resource == resource).map(|line| line.used).max()
        };
        Some(Point {
            at: self.now,
            rung: self.serving,
            shares: Resource::ALL.into_iter().map(fullest).collect(),
        })
    }

    /// Returns what was read of each resource, in the order of [`Resource::ALL`].
    fn lines(&self) -> Vec<Line> {
        let Some(sample) = &self.sample else { return Vec::new() };
        let number = |resource: Resource, place: usize| match sample.gpus.len() {
            0 | 1 => resource.name().to_owned(),
            _ => format!("{}-{place}", resource.name()),
        };
        let mut lines = Vec::new();
        lines.extend(sample.memory.map(|memory| {
            self.line_of_space(Resource::Memory, Resource::Memory.name().to_owned(), memory)
        }));
        for (place, gpu) in sample.gpus.iter().enumerate() {
            let name = number(Resource::Vram, place);
            lines.extend(gpu.vram.map(|vram| self.line_of_space(Resource::Vram, name, vram)));
        }
        lines.extend(sample.cpu.map(|cpu| self.line_of_rate(Resource::Cpu, "cpu".to_owned(), cpu)));
        for (place, gpu) in sample.gpus.iter().enumerate() {
            let name = number(Resource::Gpu, place);
            lines.extend(gpu.utilization.map(|rate| self.line_of_rate(Resource::Gpu, name, rate)));
        }
        lines.extend(sample.pressure.map(|pressure| {
            let rate = Rate { others: pressure.memory_some, own: Percent::default() };
            self.line_of_rate(Resource::Pressure, Resource::Pressure.name().to_owned(), rate)
        }));
        lines
    }

    fn line_of_space(&self, resource: Resource, name: String, space: Space) -> Line {
        Line {
            name,
            resource,
            used: Percent::of(space.used(), space.total),
            own: Percent::of(space.own, space.total),
            upgrade_line: self.settings.upgrade_line,
            degrade_line: Percent::of(self.settings.degrade_limit(space.total), space.total),
            used_bytes: Some(space.used()),
            total_bytes: Some(space.total),
            constrains: self.settings.constrains(resource),
        }
    }

    fn line_of_rate(&self, resource: Resource, name: String, rate: Rate) -> Line {
        let (upgrade_line, degrade_line) = match resource {
            Resource::Pressure => {
                (self.settings.pressure_upgrade_line, self.settings.pressure_degrade_line)
            }
            Resource::Memory | Resource::Vram | Resource::Cpu | Resource::Gpu => {
                (self.settings.upgrade_line, self.settings.degrade_line)
            }
        };
        Line {
            name,
            resource,
            used: rate.used(),
            own: rate.own,
            upgrade_line,
            degrade_line,
            used_bytes: None,
            total_bytes: None,
            constrains: self.settings.constrains(resource),
        }
    }

    fn see_output(&mut self, now: Timestamp, output: &Output) {
        match output {
            Output::Decision(decision) => {
                self.note_decision(now, decision);
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
                self.figures.note_end(end);
                if let &End::Done { first_token, latency, .. } = end {
                    self.history.note_reply(Reply { at: now, first_token, latency });
                }
                *match end {
                    End::Done { .. } => &mut self.done,
                    End::Failed { .. } => &mut self.failed,
                    End::Cancelled { .. } => &mut self.cancelled,
                    End::Rejected { .. } => &mut self.rejected,
                } += 1;
            }
            Output::Serving { rung, .. } => {
                self.serving = *rung;
                let text = match self.catalog.primary(*rung) {
                    Some(model) => format!("{} with {}", model.tier, model.id),
                    None => "nothing".to_owned(),
                };
                self.history.note(now, "serving", text);
                self.note_point();
            }
            Output::Switched { from, to, .. } => {
                self.switches += u64::from(from != to);
                self.figures.upgrades += u64::from(to > from);
                self.figures.downgrades += u64::from(to < from);
            }
            Output::Consult(_) => {}
            Output::Notice(notice) => {
                self.notice = Some(*notice);
                self.history.note(now, "notice", text::notice(notice, &self.catalog));
            }
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
            .then(|| format!("{}: {}", reason.kind(), text::reason(&reason, &self.catalog)))
    }

    /// Returns who is told of whatever is new.
    pub(super) fn subscribe(&self) -> watch::Receiver<()> {
        match &self.news {
            Some(news) => news.subscribe(),
            // Its sender is gone: the daemon ends.
            None => watch::channel(()).1,
        }
    }

    /// Sends the watchers home.
    pub(super) fn close(&mut self) {
        self.news = None;
    }

    /// Returns the past.
    pub(super) fn history(&self) -> &History {
        &self.history
    }

    /// Returns the status, and what is new since a place in the past.
    pub(super) fn news(&self, since: Mark) -> News<'_> {
        News {
            status: self.status(),
            point: self.point(),
            entries: self.history.entries_since(since).collect(),
            replies: self.history.replies_since(since).collect(),
        }
    }

    /// Returns the last notice, as long as it still says how things stand.
    fn notice(&self) -> Option<Notice> {
        self.notice.filter(|notice| match notice {
            Notice::Degraded { from, .. } => self.serving < *from,
            Notice::LongOnSmallest { .. } => self.serving <= Rung(1),
        })
    }

    /// Returns the gates that keep the next rung from being loaded now. A window of no length is closed by another gate
    /// only, and has nothing to add.
    fn closed_gates(&self) -> impl Iterator<Item = &Gate> {
        let gates = self.decision.iter().flat_map(|decision| &decision.gates);
        gates.filter(|gate| {
            !gate.open && (gate.name, gate.limit) != (GateName::Window, Measure::Nanos(0))
        })
    }

    fn words(&self) -> Words {
        let said = |decision: &Decision| {
            let action = text::action(decision.action, &self.catalog);
            format!("{action}: {}", text::reason(&decision.reason, &self.catalog))
        };
        Words {
            decision: self.decision.as_ref().map(said),
            why_not_higher: self.closed_gates().map(text::gate_found).collect(),
            notice: self.notice().map(|notice| text::notice(&notice, &self.catalog)),
        }
    }

    /// Returns the answer of `/status`.
    pub(super) fn status(&self) -> Status<'_> {
        let all = self.history.entries_since(Mark::default()).collect::<Vec<_>>();
        Status {
            version: env!("CARGO_PKG_VERSION"),
            tiers: std::iter::once(Rung::NONE)
                .chain(self.catalog.rungs_up())
                .map(|rung| self.catalog.tier_name(rung))
                .collect(),
            lines: self.lines(),
            words: self.words(),
            last: all[all.len().saturating_sub(LAST_ENTRIES)..].to_vec(),
            latencies: self.history.latencies(),
            uptime_ns: self.now,
            tier: self.catalog.tier_name(self.serving),
            model: self.catalog.primary(self.serving).map(|model| model.id.as_str()),
            rung: self.serving,
            top_rung: self.catalog.top(),
            is_stopping: self.is_stopping,
            resources: self.sample.as_ref(),
            decision: self.decision.as_ref(),
            why_not_higher: self.closed_gates().collect(),
            last_change: self.last_change.as_ref(),
            switches: self.switches,
            notice: self.notice(),
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

/// Chosen: what fits under the rest of a status on a terminal.
const LAST_ENTRIES: usize = 5;
