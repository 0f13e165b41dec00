//! A controller on a test bench: the test acts as clock, machine and model server.
//!
//! The controller's answers are kept as short lines ("load large", "up to medium"), so that a test reads as a story.

use std::collections::BTreeMap;
use std::time::Duration;

use tiershift_core::catalog::{Catalog, RawCatalog};
use tiershift_core::controller::{Controller, Detail};
use tiershift_core::decision::{Action, Decision, Gate, Reason};
use tiershift_core::event::{
    Adopted, Command, CompanionNews, Input, Notice, OrderNews, Outcome, Output, Verdict,
};
use tiershift_core::machine::MachineClass;
use tiershift_core::model::ModelId;
use tiershift_core::policy::Registry;
use tiershift_core::request::{End, Request, RequestId};
use tiershift_core::sample::{Sample, Space};
use tiershift_core::settings::{RawSettings, Settings};
use tiershift_core::time::{Timestamp, span_text};
use tiershift_core::units::Bytes;

/// The bench: a machine with 16 GiB, on which "small", "medium" and "large" take 2, 5 and 9 GiB unless the test has
/// its own catalog. The degrade line is then at 14.4 GiB; below it "small" has room beside up to 12.4 GiB of others' use,
/// "medium" beside 9.4, "large" beside 5.4, and "large" together with "small" beside 3.4.
pub(crate) struct Rig {
    pub(crate) now: Timestamp,
    /// The part of every sample other than main memory; `own` use of video memory is filled in.
    pub(crate) rest: Sample,
    /// Own memory that every sample shows in addition to the loaded models.
    pub(crate) late: Bytes,
    /// Whether our use is read as others', as in a container.
    pub(crate) blind: bool,
    controller: Controller,
    catalog: Catalog,
    /// Others' use in the last sample, in GiB.
    others: f64,
    /// Whether the machine cannot be read until the next sample.
    unread: bool,
    /// Models that hold memory, according to the answers, and their GPUs.
    loaded: BTreeMap<ModelId, Option<u8>>,
    /// Loads and unloads without an answer, one for each model.
    unanswered: BTreeMap<ModelId, Command>,
    /// Lines since they were last taken.
    lines: Vec<String>,
    decision: Option<Decision>,
}

/// Returns a controller with settings in the form of a policy file, for a mid-range machine.
pub(crate) fn controller(settings: &str, catalog: &Catalog, detail: Detail) -> Controller {
    controller_for(MachineClass::MidRange, toml::from_str(settings).unwrap(), catalog, detail)
}

pub(crate) fn controller_for(
    class: MachineClass,
    settings: RawSettings,
    catalog: &Catalog,
    detail: Detail,
) -> Controller {
    let settings = Settings::new(settings, class).unwrap();
    Controller::new(&settings, catalog, detail, &Registry::built_in()).unwrap()
}

/// Returns a bench with settings in the form of a policy file.
pub(crate) fn rig(settings: &str) -> Rig {
    Rig::new(settings, Catalog::relative_to(Bytes::from_gib(16)))
}

/// Returns a bench whose "small", "medium" and "large" have the additions of `change` in their tables. They take two seconds
/// to load unless it states otherwise.
pub(crate) fn rig_with_models(settings: &str, change: impl Fn(&str) -> String) -> Rig {
    let model = |(id, gib, quality): (&str, u32, u32)| {
        let change = change(id);
        let load = if change.contains("load-cold") { "" } else { "load-cold = \"2s\"\n" };
        format!(
            "[[model]]\nid = \"{id}\"\ntier = \"{id}\"\nquality = \"{quality}%\"\nram = \"{gib}GiB\"\n\
             load-warm = \"1s\"\n{load}prefill-tokens-per-second = 100.0\n\
             decode-tokens-per-second = {}.0\n{change}\n",
            36 / gib,
        )
    };
    let models = [("small", 2, 50), ("medium", 5, 75), ("large", 9, 100)].map(model);
    let catalog: RawCatalog = toml::from_str(&models.concat()).unwrap();
    Rig::new(settings, Catalog::try_from(catalog).unwrap())
}

impl Rig {
    pub(crate) fn new(settings: &str, catalog: Catalog) -> Self {
        Self {
            now: Timestamp::ZERO,
            rest: Sample::default(),
            late: Bytes::ZERO,
            blind: false,
            controller: controller(settings, &catalog, Detail::Full),
            catalog,
            others: 0.0,
            unread: false,
            loaded: BTreeMap::new(),
            unanswered: BTreeMap::new(),
            lines: Vec::new(),
            decision: None,
        }
    }

    /// Begins with a model that is loaded and serves.
    pub(crate) fn serving(mut self, model: &str) -> Self {
        self.adopt(&[model]);
        self.lines.clear();
        self
    }

    /// Lets time pass; time-outs occur when they are due.
    pub(crate) fn after(&mut self, span: Duration) {
        let until = self.now + span;
        let mut at_once = 0;
        while let Some(due) = self.controller.poll_timeout().filter(|&due| due <= until) {
            at_once = if due > self.now { 0 } else { at_once + 1 };
            assert!(at_once < 100, "a livelock at {} s: {:?}", self.now.as_secs_f64(), self.lines);
            self.now = self.now.max(due);
            self.feed(&Input::Timeout);
            self.look();
        }
        self.now = until;
    }

    /// Reads the machine when the controller requests it, as the driver does.
    fn look(&mut self) {
        if self.controller.wants_sample(self.now, false) {
            if self.unread {
                self.feed(&Input::SampleMissing { error: "no".to_owned() });
            } else {
                self.sample_now(self.others);
            }
        }
    }

    /// Reads the machine two seconds later. `others` is others' use of its memory [GiB]; the loaded models use
    /// their footprint.
    pub(crate) fn sample(&mut self, others: f64) {
        self.after(INTERVAL);
        self.sample_now(others);
    }

    /// Reads the machine at this moment.
    pub(crate) fn sample_now(&mut self, others: f64) {
        self.others = others;
        self.unread = false;
        let mut sample = self.rest.clone();
        let mut own = self.late;
        for (model, gpu) in &self.loaded {
            let footprint = self.catalog.model(model).unwrap().footprint();
            own += footprint.ram;
            let gpu = gpu.and_then(|gpu| sample.gpus.get_mut(usize::from(gpu)));
            if let Some(vram) = gpu.and_then(|gpu| gpu.vram.as_mut()) {
                vram.own += footprint.vram;
            }
        }
        sample.memory = Some(Space { total: Bytes::from_gib(16), others: gib(others), own });
        if self.blind {
            for (_, space) in sample.spaces_mut() {
                space.others += std::mem::take(&mut space.own);
            }
        }
        self.feed(&Input::Sample(sample));
    }

    /// Reads the machine for a while.
    pub(crate) fn samples(&mut self, others: f64, span: Duration) {
        let until = self.now + span;
        while self.now < until {
            self.sample(others);
        }
    }

    /// Reads the machine until a change is decided, and returns the time since the first of these samples.
    #[track_caller]
    pub(crate) fn change_after(&mut self, others: f64) -> Duration {
        let first = self.now + INTERVAL;
        for _ in 0..50_000 {
            self.sample(others);
            if self.decision().action != Action::Hold {
                return self.now.since(first);
            }
        }
        panic!("nothing was changed in a day: {:?}", self.decision());
    }

    /// Reports models that are already loaded.
    pub(crate) fn adopt(&mut self, models: &[&str]) {
        let models: Vec<Adopted> =
            models.iter().map(|&model| Adopted { model: model.into(), gpu: None }).collect();
        self.loaded.extend(models.iter().map(|adopted| (adopted.model.clone(), adopted.gpu)));
        self.feed(&Input::Adopt { models });
    }

    pub(crate) fn loaded(&mut self, model: &str) {
        let model = ModelId::from(model);
        let gpu = match self.unanswered.remove(&model) {
            Some(Command::Load { gpu, .. }) => gpu,
            _ => None,
        };
        self.loaded.insert(model.clone(), gpu);
        self.outcome(Outcome::Loaded { model });
    }

    pub(crate) fn load_failed(&mut self, model: &str) {
        let model = self.gone(model);
        self.outcome(Outcome::LoadFailed { model, error: "no".to_owned() });
    }

    pub(crate) fn unloaded(&mut self, model: &str) {
        let model = self.gone(model);
        self.outcome(Outcome::Unloaded { model });
    }

    pub(crate) fn crashed(&mut self, model: &str) {
        let model = self.gone(model);
        self.outcome(Outcome::Crashed { model, error: "no".to_owned() });
    }

    /// As [`Rig::crashed`], on a machine that cannot be read.
    pub(crate) fn crashed_unread(&mut self, model: &str) {
        let model = self.gone(model);
        self.feed(&Input::Outcome(Outcome::Crashed { model, error: "no".to_owned() }));
        self.unread = true;
    }

    /// Releases a model's memory without an answer.
    pub(crate) fn vanish(&mut self, model: &str) {
        self.gone(model);
    }

    fn gone(&mut self, model: &str) -> ModelId {
        let model = ModelId::from(model);
        self.loaded.remove(&model);
        self.unanswered.remove(&model);
        model
    }

    /// Completes a request, whose first token arrived at once.
    pub(crate) fn done(&mut self, request: u64) {
        let first_token = Duration::ZERO;
        let request = RequestId(request);
        let (prompt_tokens, output_tokens) = (None, 1);
        self.outcome(Outcome::Done { request, first_token, prompt_tokens, output_tokens });
    }

    pub(crate) fn failed(&mut self, request: u64) {
        self.outcome(Outcome::Failed { request: RequestId(request), error: "no".to_owned() });
    }

    /// Cancels a request as commanded.
    pub(crate) fn cancelled(&mut self, request: u64) {
        self.outcome(Outcome::Cancelled { request: RequestId(request) });
    }

    pub(crate) fn outcome(&mut self, outcome: Outcome) {
        self.feed(&Input::Outcome(outcome));
        self.look();
    }

    /// Passes in a request for a short chat.
    pub(crate) fn request(&mut self, id: u64) {
        self.ask(Request::chat(id, 10, 10));
    }

    pub(crate) fn ask(&mut self, request: Request) {
        self.feed(&Input::Request(request));
    }

    /// Orders a tier.
    pub(crate) fn switch(&mut self, tier: &str) {
        self.feed(&Input::Switch { tier: tier.to_owned(), for_: None });
        self.look();
    }

    /// Orders a tier for a time.
    pub(crate) fn switch_for(&mut self, tier: &str, span: Duration) {
        self.feed(&Input::Switch { tier: tier.to_owned(), for_: Some(span) });
        self.look();
    }

    /// Changes the settings.
    pub(crate) fn set(&mut self, settings: &str) {
        self.feed(&Input::Settings(Box::new(toml::from_str(settings).unwrap())));
    }

    /// Answers every load and unload successfully and at once, until none is left.
    pub(crate) fn obey(&mut self) {
        self.obey_all_but("");
    }

    /// As [`Rig::obey`], but leaves the commands for one model unanswered.
    pub(crate) fn obey_all_but(&mut self, unanswered: &str) {
        let is_next = |(model, _): &(&ModelId, &Command)| model.as_str() != unanswered;
        while let Some((model, command)) = self.unanswered.iter().find(is_next) {
            let (model, is_load) = (model.to_string(), matches!(command, Command::Load { .. }));
            if is_load { self.loaded(&model) } else { self.unloaded(&model) }
        }
    }

    /// Completes a switch: commands succeed, and samples show that memory is free again.
    #[track_caller]
    pub(crate) fn complete(&mut self, others: f64) {
        self.obey();
        for _ in 0..100 {
            if !self.controller.wants_sample(Timestamp::MAX, false) {
                return;
            }
            self.sample(others);
            self.obey();
        }
        panic!("a switch still waits for memory: {:?}", self.lines);
    }

    /// As [`Rig::complete`], but each load of one model fails.
    pub(crate) fn complete_but_fail(&mut self, model: &str, others: f64) {
        for _ in 0..100 {
            self.obey_all_but(model);
            match self.unanswered.get(&ModelId::from(model)) {
                Some(Command::Load { .. }) => self.load_failed(model),
                Some(_) => self.unloaded(model),
                None if self.controller.wants_sample(Timestamp::MAX, false) => self.sample(others),
                None => return,
            }
        }
    }

    pub(crate) fn feed(&mut self, input: &Input) {
        self.controller.handle(self.now, input);
        while let Some(output) = self.controller.poll_output() {
            if let Output::Decision(decision) = &output {
                check_gates(decision);
                self.decision = Some(decision.clone());
            }
            if let Output::Command(
                command @ (Command::Load { model, .. } | Command::Unload { model }),
            ) = &output
            {
                self.unanswered.insert(model.clone(), command.clone());
            }
            self.lines.extend(self.line(&output));
        }
    }

    /// Takes the controller's answers since the last call, without holds.
    pub(crate) fn outputs(&mut self) -> Vec<String> {
        std::mem::take(&mut self.lines)
    }

    /// Checks and takes the controller's answers since the last call, without holds.
    #[track_caller]
    pub(crate) fn check(&mut self, want: &[&str]) {
        assert_eq!(self.outputs(), want, "at {} s", self.now.as_secs_f64());
    }

    /// Returns the last decision.
    pub(crate) fn decision(&self) -> &Decision {
        self.decision.as_ref().expect("a sample was read")
    }

    /// Checks the reason of the last decision, which was to hold.
    #[track_caller]
    pub(crate) fn check_hold(&self, want: Reason) {
        let Decision { action, reason, .. } = self.decision();
        assert_eq!((*action, *reason), (Action::Hold, want), "at {} s", self.now.as_secs_f64());
    }

    /// Checks what kind of reason the last decision had, and that it was to hold.
    #[track_caller]
    pub(crate) fn check_hold_kind(&self, want: &str) {
        let Decision { action, reason, .. } = self.decision();
        assert_eq!((*action, reason.kind()), (Action::Hold, want), "{reason:?}");
    }

    /// Returns when the controller wants to be woken next.
    pub(crate) fn wakes_in(&self) -> Option<Duration> {
        self.controller.poll_timeout().map(|at| at.since(self.now))
    }

    /// Returns an output as a line; `None` for a decision to hold.
    fn line(&self, output: &Output) -> Option<String> {
        let tier = |rung| self.catalog.tier_name(rung);
        Some(match output {
            Output::Decision(decision) => match decision.action {
                Action::Hold => return None,
                Action::Upgrade { to } => format!("up to {}: {}", tier(to), decision.reason.kind()),
                Action::Downgrade { to, urgency } => {
                    format!("down to {}, {urgency:?}: {}", tier(to), decision.reason.kind())
                }
            },
            Output::Command(Command::Load { model, gpu: None }) => format!("load {model}"),
            Output::Command(Command::Load { model, gpu: Some(gpu) }) => {
                format!("load {model} on gpu {gpu}")
            }
            Output::Command(Command::Unload { model }) => format!("unload {model}"),
            Output::Command(Command::Start { request, model }) => {
                format!("start {request} on {model}")
            }
            Output::Command(Command::Cancel { request }) => format!("cancel {request}"),
            // The try-out after each load, which stories about other things need not mention.
            Output::Command(Command::Try { .. }) => return None,
            Output::Accepted { request, verdict } => match verdict {
                Verdict::Proceed => format!("accept {request}"),
                Verdict::ProceedSmaller { rung } => format!("accept {request} on {}", tier(*rung)),
                Verdict::Queue => format!("queue {request}"),
            },
            Output::Ended { request, end } => match end {
                End::Done { model, latency, .. } => {
                    format!("{request} done by {model} in {}", span_text(*latency))
                }
                End::Failed { .. } => format!("{request} failed"),
                End::Cancelled { by, .. } => format!("{request} cancelled by {by:?}"),
                End::Rejected { reason, retry_after: None, .. } => format!("{request} {reason:?}"),
                End::Rejected { reason, retry_after: Some(span), estimate } => {
                    let about = if *estimate { "about " } else { "" };
                    format!("{request} {reason:?}, again in {about}{}", span_text(*span))
                }
            },
            Output::Consult(consult) => format!("consult {}", consult.question),
            Output::Companion { model, news } => match news {
                CompanionNews::Wanted { .. } => format!("want {model}"),
                CompanionNews::GivenUp { .. } => format!("give up {model}"),
                CompanionNews::Serves => format!("{model} serves"),
                CompanionNews::ServesNoMore => format!("{model} serves no more"),
            },
            Output::Serving { rung, .. } => format!("serve {}", tier(*rung)),
            Output::Switched { from, to, took, called_off, .. } => {
                let (from, to, took) = (tier(*from), tier(*to), span_text(*took));
                let off = called_off.map(|rung| format!(", {} called off", tier(rung)));
                format!("{from} to {to} in {took}{}", off.unwrap_or_default())
            }
            Output::Order { tier, news } => match news {
                // What is done at once shows in the lines that follow.
                OrderNews::Taken { wait: None, until: None } => return None,
                OrderNews::Taken { wait, until } => {
                    let wait = wait.map(|wait| format!(" in {}", span_text(wait)));
                    let until = until.map(|until| format!(" until {} s", until.as_secs_f64()));
                    format!("order {tier}{}{}", wait.unwrap_or_default(), until.unwrap_or_default())
                }
                OrderNews::Refused { reason, retry_after } => {
                    let again = span_text(*retry_after);
                    format!("order {tier} refused: {}, again in {again}", reason.kind())
                }
                OrderNews::Unknown => format!("order {tier} unknown"),
                OrderNews::Released => format!("order {tier} released"),
            },
            Output::Notice(Notice::KeepsFailing { model, failures }) => {
                format!("notice {model} failed {failures} times")
            }
            Output::Notice(Notice::Unanswered { model, what }) => {
                format!("notice {model} did not answer: {what:?}")
            }
            Output::Notice(Notice::Degraded { from, to, reason }) => {
                format!("notice {} to {}: {}", tier(*from), tier(*to), reason.kind())
            }
            Output::Notice(Notice::NotRead { rung, resource }) => {
                format!("notice {} needs {}", tier(*rung), resource.name())
            }
            Output::Notice(Notice::SlowLoad { rung, .. }) => {
                format!("notice {} came up slow", tier(*rung))
            }
            Output::Notice(Notice::LongOnSmallest { for_, reason }) => {
                format!("notice smallest for {}: {}", span_text(*for_), reason.kind())
            }
        })
    }
}

/// Checks that the gates of an upgrade are all open.
#[track_caller]
fn check_gates(decision: &Decision) {
    if let (Action::Upgrade { to }, Reason::Room { .. }) = (decision.action, decision.reason) {
        let closed = |gate: &&Gate| !gate.open && gate.rung.is_none_or(|rung| rung == to);
        let closed = decision.gates.iter().find(closed);
        assert!(closed.is_none(), "{closed:?} of {decision:?}");
    }
}

pub(crate) fn gib(count: f64) -> Bytes {
    Bytes::from_mib((count * 1024.0) as u64)
}

pub(crate) const fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

pub(crate) const fn minutes(count: u64) -> Duration {
    Duration::from_mins(count)
}

/// Time between two samples: the default of `sampling-interval`.
const INTERVAL: Duration = seconds(2);
