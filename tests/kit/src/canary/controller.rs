//! Our controller with a flaw.

use std::collections::VecDeque;
use std::time::Duration;

use tiershift_core::catalog::{Catalog, Rung};
use tiershift_core::control::{Control, Promises};
use tiershift_core::controller::{Controller, Detail};
use tiershift_core::decision::{Action, Decision, Reason, Urgency};
use tiershift_core::event::{Command, CompanionNews, Input, OrderNews, Outcome, Output, Verdict};
use tiershift_core::model::ModelId;
use tiershift_core::policy::{PolicyError, Registry};
use tiershift_core::request::{End, Rejection, RequestId};
use tiershift_core::settings::Settings;
use tiershift_core::time::Timestamp;

/// A controller that makes the promises of ours, and breaks one of them.
pub(super) struct Flawed {
    inner: Controller,
    flaw: &'static str,
    catalog: Catalog,
    out: VecDeque<Output>,
    now: Timestamp,
    /// The serving model, the last model with a load command, and the running requests.
    serving: Option<ModelId>,
    loading: Option<ModelId>,
    running: Vec<RequestId>,
    /// How often the flaw has occurred: most occur once.
    shown: u32,
    last_order: Option<String>,
}

impl Flawed {
    pub(super) fn new(
        settings: &Settings,
        catalog: &Catalog,
        flaw: &'static str,
    ) -> Result<Self, PolicyError> {
        let known = match flaw {
            "forgets-its-companions" => Catalog::new(catalog.ladder_models().to_vec()),
            _ => Ok(catalog.clone()),
        };
        let known = known.map_err(|error| PolicyError::Refused(error.to_string()))?;
        let inner = Controller::new(settings, &known, Detail::Full, &Registry::built_in());
        Ok(Self {
            inner: inner.map_err(|error| PolicyError::Refused(error.to_string()))?,
            flaw,
            catalog: catalog.clone(),
            out: VecDeque::new(),
            now: Timestamp::ZERO,
            serving: None,
            loading: None,
            running: Vec::new(),
            shown: 0,
            last_order: None,
        })
    }

    /// Returns whether the flaw is this one and has not occurred yet; from then on it has.
    fn shows_once(&mut self, flaw: &str) -> bool {
        let shows = self.flaw == flaw && self.shown == 0;
        self.shown += u32::from(shows);
        shows
    }

    /// Answers an input in the controller's place, if the flaw does so.
    fn answers(&mut self, input: &Input) -> bool {
        let Input::Switch { tier, for_ } = input else { return false };
        let news = match self.flaw {
            "drops-an-order" => return true,
            "forgets-an-order" => {
                OrderNews::Taken { wait: None, until: for_.map(|span| self.now + span) }
            }
            "promises-a-retry" => {
                let to = self.catalog.rung_of_tier(tier).unwrap_or(Rung::NONE);
                let remaining = Duration::from_secs(5);
                let reason = Reason::Backoff { to, remaining };
                OrderNews::Refused { reason, retry_after: remaining }
            }
            "goes-against-an-order" => {
                self.last_order = Some(tier.clone());
                return false;
            }
            _ => return false,
        };
        self.say(Output::Order { tier: tier.clone(), news });
        true
    }

    /// Takes an output of the sound controller, and passes on what the flaw makes of it.
    fn pass(&mut self, output: Output) {
        match &output {
            Output::Serving { model, .. } => {
                let before = std::mem::replace(&mut self.serving, model.clone());
                self.say(output);
                self.leave(before);
                return;
            }
            Output::Command(Command::Load { model, gpu }) => {
                let (model, gpu) = (model.clone(), *gpu);
                self.loading = Some(model.clone());
                self.say(output);
                if self.shows_once("loads-twice") {
                    self.say(Output::Command(Command::Load { model, gpu }));
                } else if self.shows_once("loads-two-at-once") {
                    self.load_top();
                }
                return;
            }
            Output::Command(Command::Start { request, .. }) => self.running.push(*request),
            Output::Accepted { request, verdict: Verdict::Queue } => {
                let (request, model) = (*request, self.loading.clone());
                self.say(output);
                if let Some(model) = model
                    && self.shows_once("starts-before-it-is-ready")
                {
                    self.say(Output::Command(Command::Start { request, model }));
                }
                return;
            }
            Output::Ended { request, end } => {
                self.running.retain(|running| running != request);
                let is_late = matches!(end, End::Rejected { reason: Rejection::Deadline, .. });
                let is_done = matches!(end, End::Done { .. });
                if (is_late && self.shows_once("never-refuses"))
                    || (is_done && self.shows_once("forgets-a-reply"))
                {
                    return;
                }
                if is_done && self.shows_once("ends-twice") {
                    self.say(output.clone());
                }
            }
            Output::Decision(decision) if self.hides(decision) => return,
            Output::Companion { news: CompanionNews::GivenUp { .. }, .. }
                if self.flaw == "keeps-its-companion" =>
            {
                return;
            }
            Output::Command(Command::Unload { model })
                if self.flaw == "keeps-its-companion"
                    && self.catalog.companions().iter().any(|it| it.id == *model) =>
            {
                return;
            }
            _ => {}
        }
        self.say(output);
    }

    /// Does what the flaw does when a model has stopped serving.
    fn leave(&mut self, before: Option<ModelId>) {
        let Some(model) = before.filter(|_| self.serving.is_none() && !self.running.is_empty())
        else {
            return;
        };
        if self.shows_once("unloads-under-requests") {
            self.say(Output::Command(Command::Unload { model }));
        } else if self.shows_once("cuts-at-once") {
            for request in self.running.clone() {
                self.say(Output::Command(Command::Cancel { request }));
            }
        }
    }

    /// Returns whether the flaw suppresses or replaces a decision.
    fn hides(&mut self, decision: &Decision) -> bool {
        if self.flaw == "leaves-for-no-place"
            && let (Reason::WouldNotFit { to, .. }, Some(model)) =
                (decision.reason, self.serving.clone())
            && self.running.is_empty()
            && self.shows_once("leaves-for-no-place")
        {
            let action = Action::Upgrade { to };
            self.say(Output::Decision(Decision::new(decision.rung, action, Reason::Asked)));
            self.say(Output::Command(Command::Unload { model }));
            return true;
        }
        if self.flaw == "goes-against-an-order"
            && self.last_order.is_some()
            && matches!(decision.reason, Reason::Ordered { .. })
            && self.shows_once("goes-against-an-order")
        {
            let action = Action::Downgrade { to: Rung::NONE, urgency: Urgency::Graceful };
            self.say(Output::Decision(Decision::new(decision.rung, action, Reason::AtTop)));
            return true;
        }
        false
    }

    /// Does what the flaw does on its own, after an input has been answered.
    fn act(&mut self, input: &Input) {
        let is_unread = matches!(input, Input::SampleMissing { .. }) && self.now >= BLIND_SINCE;
        let is_settled = matches!(input, Input::Sample(_)) && self.now >= LATER;
        if is_settled && self.shows_once("loads-without-room") {
            self.load_top();
        } else if is_unread && self.shows_once("loads-unread") {
            if let Some(model) = self.absent_smallest() {
                self.say(Output::Command(Command::Load { model, gpu: None }));
            }
        } else if is_unread && self.shows_once("goes-up-unread") {
            let action = Action::Upgrade { to: self.catalog.top() };
            let rung = self.inner.rung();
            self.say(Output::Decision(Decision::new(rung, action, Reason::AtTop)));
        }
    }

    fn load_top(&mut self) {
        let top = self.catalog.primary(self.catalog.top());
        let model = top.expect("the top rung holds a model").id.clone();
        self.say(Output::Command(Command::Load { model, gpu: None }));
    }

    fn absent_smallest(&self) -> Option<ModelId> {
        let smallest = self.catalog.primary(Rung(1))?.id.clone();
        (Some(&smallest) != self.serving.as_ref()).then_some(smallest)
    }

    fn say(&mut self, output: Output) {
        self.out.push_back(output);
    }

    /// Decides without a manager: no decision is carried out.
    fn only_decides(&mut self, input: &Input) {
        if let Input::Request(request) = input {
            let reason = Rejection::Unservable;
            let end = End::Rejected { reason, retry_after: None, estimate: false };
            self.say(Output::Ended { request: request.id, end });
        }
        let Input::Sample(_) = input else { return };
        let is_first = self.shown == 0;
        self.shown += 1;
        if is_first || self.flaw == "decides-for-nothing" {
            let action = Action::Upgrade { to: Rung(1) };
            self.say(Output::Decision(Decision::new(Rung::NONE, action, Reason::AtTop)));
        }
    }
}

impl Control for Flawed {
    fn handle(&mut self, now: Timestamp, input: &Input) {
        self.now = now;
        if matches!(self.flaw, "drops-a-decision" | "decides-for-nothing") {
            self.only_decides(input);
            return;
        }
        if self.answers(input) {
            return;
        }
        self.inner.handle(now, input);
        while let Some(output) = self.inner.poll_output() {
            self.pass(output);
        }
        self.act(input);
        if let Input::Outcome(Outcome::Loaded { .. } | Outcome::LoadFailed { .. }) = input {
            self.loading = None;
        }
    }

    fn poll_output(&mut self) -> Option<Output> {
        self.out.pop_front()
    }

    fn poll_timeout(&self) -> Option<Timestamp> {
        if self.flaw == "wakes-for-nothing" && self.now < LATER {
            return Some(self.now + Duration::from_millis(1));
        }
        self.inner.poll_timeout()
    }

    fn wants_sample(&self, now: Timestamp, request_waits: bool) -> bool {
        self.inner.wants_sample(now, request_waits)
    }

    fn promises(&self) -> Promises {
        self.inner.promises()
    }
}

/// Flaws that need a settled run occur from this time on.
const LATER: Timestamp = Timestamp::from_secs(120);

/// From this time on, the last reading before the gap of the scenario is too old.
const BLIND_SINCE: Timestamp = Timestamp::from_secs(330);
