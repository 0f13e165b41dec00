//! Marks: every message that a run can produce is produced by at least one scenario. What never occurs is not tested.

use std::collections::{BTreeMap, BTreeSet};

use tiershift::scenario;
use tiershift::sim::simulate;
use tiershift::study::hunt;
use tiershift::study::museum::with_ideas;
use tiershift::study::suite::scenario_files;
use tiershift_core::controller::Detail;
use tiershift_core::decision::{GateName, Reason};
use tiershift_core::event::{
    Command, CompanionNews, EventRef, Input, Notice, Observe, OrderNews, Outcome, Output,
    Unanswered, Verdict,
};
use tiershift_core::model::ModelId;
use tiershift_core::policy::Registry;
use tiershift_core::request::{CancelledBy, End, RequestId};
use tiershift_core::time::Timestamp;

use crate::support::root;

#[test]
fn whatever_can_be_said_is_said_once() {
    let mut marks = Marks::default();
    let policies = with_ideas(&Registry::built_in());
    for folder in ["scenarios", "scenarios/museum"] {
        for path in scenario_files(&[root().join(folder)]).unwrap() {
            let scenario = scenario::load(&path, &policies).unwrap();
            marks.begin();
            simulate(scenario.situation(), &policies, Detail::Full, &mut [&mut marks]).unwrap();
        }
    }
    let by_scenarios = marks.met.clone();
    // Late answers and similar cases need a coincidence that is hard to write into a scenario.
    for seed in (0..HUNTED).chain([ANSWERED_LATE]) {
        let text = hunt::world::scenario(&seed.into(), hunt::policy_of(seed), "");
        let scenario = scenario::parse(&text, "hunted.toml", root(), &policies).unwrap();
        marks.begin();
        simulate(scenario.situation(), &policies, Detail::Full, &mut [&mut marks]).unwrap();
    }
    let all = catalogue();
    let is_excused = |mark: &&String| NEVER_MET.iter().any(|(never, _)| never == mark);
    let never: Vec<&String> = all.difference(&marks.met).filter(|it| !is_excused(it)).collect();
    assert!(never.is_empty(), "never met: {never:#?}");
    let idle: Vec<&str> =
        NEVER_MET.iter().map(|it| it.0).filter(|it| marks.met.contains(*it)).collect();
    assert!(idle.is_empty(), "met after all, so that no excuse is needed: {idle:?}");
    let unknown: Vec<&String> = marks.met.difference(&all).collect();
    assert!(unknown.is_empty(), "met, and not in the catalogue: {unknown:#?}");
    let by_luck: Vec<&String> = all
        .difference(&by_scenarios)
        .filter(|mark| !is_excused(mark) && !mark.starts_with("life "))
        .collect();
    assert!(by_luck.is_empty(), "met by no scenario: {by_luck:#?}");
}

/// The worlds of the hunt that are used, and one in which an unload is answered while its model is loaded again.
const HUNTED: u64 = 300;
const ANSWERED_LATE: u64 = 474;

/// Marks that no simulation can produce, and why.
const NEVER_MET: &[(&str, &str)] = &[
    ("closed gate fresh", "gates are spelled out at a reading, whose age is nothing then"),
    ("open gate latency", "it is spelled out where it is closed"),
    ("open gate unserved", "as that of latency"),
    ("end rejected UnknownTarget", UNKNOWN),
    ("order unknown", UNKNOWN),
    ("life Absent load-failed", UNASKED),
    ("life Absent crashed", UNASKED),
    ("life Ready loaded", UNASKED),
    ("life Ready load-failed", UNASKED),
    ("life Draining loaded", UNASKED),
    ("life Draining load-failed", UNASKED),
    ("life Draining unloaded", UNASKED),
    ("life Draining crashed", "what it finishes fails first, and then it is unloaded"),
    ("life Failed loaded", UNASKED),
    ("life Failed load-failed", UNASKED),
    ("life Failed unloaded", UNASKED),
    ("life Failed crashed", UNASKED),
];

const UNKNOWN: &str =
    "a scenario names no tier that its catalog does not have; the stories of the core do";
const UNASKED: &str = "the simulated server says nothing twice or unasked; every pair is in the table of the lifecycle";

/// Collects the marks of runs.
#[derive(Default)]
struct Marks {
    met: BTreeSet<String>,
    lives: BTreeMap<ModelId, Life>,
    serving: Option<ModelId>,
    running: BTreeMap<RequestId, ModelId>,
}

/// The state of a model, derived from commands and outcomes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
enum Life {
    #[default]
    Absent,
    Loading,
    Ready,
    Draining,
    Unloading,
    Failed,
}

impl Marks {
    fn begin(&mut self) {
        self.lives.clear();
        self.serving = None;
        self.running.clear();
    }

    fn mark(&mut self, kind: &str, name: &str) {
        let mark = format!("{kind} {name}");
        if !self.met.contains(&mark) {
            self.met.insert(mark);
        }
    }

    fn reason(&mut self, reason: &Reason) {
        self.mark("reason", reason.kind());
    }

    /// Records an event of a model, which is then in the state that `then` returns.
    fn live(&mut self, model: &ModelId, trigger: &str, then: impl Fn(Life) -> Life) {
        let before = self.lives.get(model).copied().unwrap_or_default();
        self.mark("life", &format!("{before:?} {trigger}"));
        self.lives.insert(model.clone(), then(before));
    }

    fn outcome(&mut self, outcome: &Outcome) {
        match outcome {
            Outcome::Loaded { model } => self.live(model, "loaded", |life| match life {
                Life::Loading => Life::Ready,
                other => other,
            }),
            Outcome::LoadFailed { model, .. } => {
                self.live(model, "load-failed", |life| match life {
                    Life::Loading => Life::Failed,
                    Life::Unloading => Life::Absent,
                    other => other,
                });
            }
            Outcome::Unloaded { model } => self.live(model, "unloaded", |life| match life {
                Life::Failed => Life::Failed,
                _ => Life::Absent,
            }),
            Outcome::Crashed { model, .. } => self.live(model, "crashed", |life| match life {
                Life::Loading | Life::Ready | Life::Draining => Life::Failed,
                Life::Unloading | Life::Absent => Life::Absent,
                Life::Failed => Life::Failed,
            }),
            Outcome::Loading { .. }
            | Outcome::Tried(_)
            | Outcome::Done { .. }
            | Outcome::Failed { .. }
            | Outcome::Cancelled { .. } => {}
        }
    }

    fn command(&mut self, command: &Command) {
        match command {
            Command::Load { model, .. } => {
                match self.lives.get(model) {
                    Some(Life::Failed) => self.live(model, "retry", |_| Life::Absent),
                    // No answer reported that it was unloaded: a reading showed it.
                    Some(Life::Unloading) => _ = self.lives.insert(model.clone(), Life::Absent),
                    _ => {}
                }
                self.live(model, "load", |_| Life::Loading);
            }
            Command::Unload { model } => {
                // An idle model drains and unloads in one step.
                if self.lives.get(model) == Some(&Life::Ready) {
                    self.live(model, "drain", |_| Life::Draining);
                }
                self.live(model, "unload", |_| Life::Unloading);
            }
            Command::Start { request, model } => {
                self.running.insert(*request, model.clone());
            }
            Command::Cancel { .. } => self.mark("command", "cancel"),
            Command::Try { .. } => self.mark("command", "try"),
        }
    }

    fn serve(&mut self, model: Option<&ModelId>) {
        let before = std::mem::replace(&mut self.serving, model.cloned());
        if let Some(before) = before.filter(|before| Some(before) != model) {
            self.leave(&before);
        }
        if let Some(model) = model
            && self.lives.get(model) == Some(&Life::Draining)
        {
            self.live(model, "resume", |_| Life::Ready);
        }
    }

    /// A model stops serving: its running requests finish.
    fn leave(&mut self, model: &ModelId) {
        if self.lives.get(model) == Some(&Life::Ready)
            && self.running.values().any(|on| on == model)
        {
            self.live(model, "drain", |_| Life::Draining);
        }
    }

    fn output(&mut self, output: &Output) {
        match output {
            Output::Decision(decision) => {
                self.reason(&decision.reason);
                for gate in &decision.gates {
                    let name = gate_name(gate.name);
                    self.mark(if gate.open { "open gate" } else { "closed gate" }, &name);
                }
            }
            Output::Command(command) => self.command(command),
            Output::Accepted { verdict, .. } => self.mark("verdict", verdict_name(verdict)),
            Output::Ended { request, end } => {
                self.running.remove(request);
                self.mark("end", &end_name(end));
            }
            Output::Serving { model, .. } => self.serve(model.as_ref()),
            Output::Switched { called_off, .. } => {
                let name = if called_off.is_some() { "called off" } else { "complete" };
                self.mark("switch", name);
            }
            Output::Companion { model, news } => {
                self.mark("companion", companion_name(*news));
                match news {
                    CompanionNews::Wanted { reason } | CompanionNews::GivenUp { reason } => {
                        self.reason(reason);
                    }
                    CompanionNews::Serves => {}
                    CompanionNews::ServesNoMore => self.leave(model),
                }
            }
            Output::Order { news, .. } => {
                self.mark("order", order_name(news));
                if let OrderNews::Refused { reason, .. } = news {
                    self.reason(reason);
                }
            }
            Output::Notice(notice) => {
                self.mark("notice", notice_name(notice));
                if let Notice::Degraded { reason, .. } = notice {
                    self.reason(reason);
                }
            }
            Output::Consult(_) => {}
        }
    }
}

impl Observe for Marks {
    fn observe(&mut self, _at: Timestamp, event: EventRef<'_>) {
        match event {
            EventRef::Input(Input::Outcome(outcome)) => self.outcome(outcome),
            EventRef::Input(_) => {}
            EventRef::Output(output) => self.output(output),
        }
    }
}

fn gate_name(gate: GateName) -> String {
    match gate {
        GateName::UpgradeLine(resource) => format!("upgrade-line {}", resource.name()),
        GateName::Projection(resource) => format!("projection {}", resource.name()),
        GateName::Fresh
        | GateName::Idle
        | GateName::Cooldown
        | GateName::Window
        | GateName::Backoff
        | GateName::Risk
        | GateName::Unserved
        | GateName::Latency => format!("{gate:?}").to_lowercase(),
    }
}

fn verdict_name(verdict: &Verdict) -> &'static str {
    match verdict {
        Verdict::Proceed => "proceed",
        Verdict::ProceedSmaller { .. } => "proceed-smaller",
        Verdict::Queue => "queue",
    }
}

fn end_name(end: &End) -> String {
    match end {
        End::Done { .. } => "done".to_owned(),
        End::Failed { .. } => "failed".to_owned(),
        End::Cancelled { by, .. } => match by {
            CancelledBy::Client => "cancelled by client".to_owned(),
            CancelledBy::DrainDeadline => "cancelled by drain deadline".to_owned(),
            CancelledBy::Shutdown => "cancelled by shutdown".to_owned(),
        },
        End::Rejected { reason, .. } => format!("rejected {reason:?}"),
    }
}

fn companion_name(news: CompanionNews) -> &'static str {
    match news {
        CompanionNews::Wanted { .. } => "wanted",
        CompanionNews::GivenUp { .. } => "given up",
        CompanionNews::Serves => "serves",
        CompanionNews::ServesNoMore => "serves no more",
    }
}

fn order_name(news: &OrderNews) -> &'static str {
    match news {
        OrderNews::Taken { wait: None, .. } => "taken",
        OrderNews::Taken { wait: Some(_), .. } => "taken to wait",
        OrderNews::Refused { .. } => "refused",
        OrderNews::Unknown => "unknown",
        OrderNews::Released => "released",
    }
}

fn notice_name(notice: &Notice) -> &'static str {
    match notice {
        Notice::Degraded { .. } => "degraded",
        Notice::LongOnSmallest { .. } => "long-on-smallest",
        Notice::NotRead { .. } => "not-read",
        Notice::KeepsFailing { .. } => "keeps-failing",
        Notice::SlowLoad { .. } => "slow-load",
        Notice::Unanswered { what, .. } => match what {
            Unanswered::Load => "unanswered load",
            Unanswered::Unload => "unanswered unload",
            Unanswered::Request => "unanswered request",
        },
    }
}

/// Returns the reasons of the log, from the error message for an unknown one. A policy's own reasons have other names.
fn reasons() -> Vec<String> {
    let error = serde_json::from_str::<Reason>("\"no such thing\"").unwrap_err().to_string();
    let names = error.split('`').skip(3).step_by(2).map(str::to_owned);
    names.filter(|name| name != "own").collect()
}

/// Returns all marks. A new kind fails the test, once it occurs, until it is listed here.
fn catalogue() -> BTreeSet<String> {
    let mut all = BTreeSet::new();
    let mut add = |kind: &str, names: &[&str]| {
        all.extend(names.iter().map(|name| format!("{kind} {name}")));
    };
    add("reason", &reasons().iter().map(String::as_str).collect::<Vec<_>>());
    for kind in ["open gate", "closed gate"] {
        add(kind, &GATES);
    }
    add("verdict", &["proceed", "proceed-smaller", "queue"]);
    add("command", &["cancel", "try"]);
    add("switch", &["called off", "complete"]);
    add("companion", &["wanted", "given up", "serves", "serves no more"]);
    add("order", &["taken", "taken to wait", "refused", "unknown", "released"]);
    add("end", &ENDS);
    add("notice", &NOTICES);
    for (state, triggers) in LIVES {
        let names: Vec<String> = triggers.iter().map(|it| format!("{state:?} {it}")).collect();
        add("life", &names.iter().map(String::as_str).collect::<Vec<_>>());
    }
    all
}

const GATES: [&str; 13] = [
    "fresh",
    "idle",
    "cooldown",
    "window",
    "backoff",
    "risk",
    "latency",
    "unserved",
    "upgrade-line memory",
    "upgrade-line vram",
    "upgrade-line pressure",
    "projection memory",
    "projection vram",
];

const ENDS: [&str; 12] = [
    "done",
    "failed",
    "cancelled by client",
    "cancelled by drain deadline",
    "cancelled by shutdown",
    "rejected QueueFull",
    "rejected Deadline",
    "rejected Unservable",
    "rejected NotLoaded",
    "rejected HeldElsewhere",
    "rejected UnknownTarget",
    "rejected ShuttingDown",
];

const NOTICES: [&str; 8] = [
    "degraded",
    "long-on-smallest",
    "not-read",
    "keeps-failing",
    "slow-load",
    "unanswered load",
    "unanswered unload",
    "unanswered request",
];

/// The events that are possible in each state, by the table of `core/src/manager/lifecycle.rs`.
const LIVES: [(Life, &[&str]); 6] = [
    (Life::Absent, &["load", "loaded", "load-failed", "unloaded", "crashed"]),
    (Life::Loading, &["loaded", "load-failed", "crashed", "unload", "unloaded"]),
    (Life::Ready, &["drain", "crashed", "unloaded", "loaded", "load-failed"]),
    (Life::Draining, &["resume", "unload", "unloaded", "crashed", "loaded", "load-failed"]),
    (Life::Unloading, &["unloaded", "crashed", "load-failed", "loaded", "unload"]),
    (Life::Failed, &["retry", "loaded", "load-failed", "unloaded", "crashed"]),
];
