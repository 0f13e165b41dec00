//! Admission, and the one end of every request.

use std::collections::VecDeque;
use std::time::Duration;

use crate::catalog::Rung;
use crate::event::{Command, Outcome, Output, Verdict};
use crate::manager::Manager;
use crate::manager::lifecycle::Lifecycle;
use crate::manager::queue::Waiting;
use crate::request::{CancelledBy, End, Rejection, Request, RequestId, Target};
use crate::time::Timestamp;

/// A request that runs.
#[derive(Clone, Copy, Debug)]
pub(super) struct Running {
    model: usize,
    arrived: Timestamp,
    started: Timestamp,
    /// Set when we asked the backend to stop it.
    cancelled_by: Option<CancelledBy>,
}

/// How a request was served, for the policy's feedback.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Service {
    /// The rung that served it.
    pub rung: Rung,
    /// Start to first and to last token; `None` where it failed.
    pub reply: Option<(Duration, Duration)>,
}

impl Manager {
    /// Takes a request: starts it, lets it wait, or refuses it.
    pub fn handle_request(
        &mut self,
        now: Timestamp,
        request: &Request,
        verdict: Verdict,
        out: &mut VecDeque<Output>,
    ) {
        if let Err(reason) = self.admit(request) {
            let retry_after = match reason {
                Rejection::QueueFull | Rejection::Deadline => Some(self.retry_after()),
                Rejection::Unservable | Rejection::UnknownTarget | Rejection::ShuttingDown => None,
            };
            let end = End::Rejected { reason, retry_after };
            out.push_back(Output::Ended { request: request.id, end });
            return;
        }
        let start_on = self
            .serving
            .filter(|&index| verdict != Verdict::Queue && self.can_start(index, request));
        let Some(index) = start_on else {
            let patience = request.patience.unwrap_or(self.settings.manager.patience);
            out.push_back(Output::Accepted { request: request.id, verdict: Verdict::Queue });
            self.queue.push(now, request.clone(), patience);
            return;
        };
        let rung = self.rung_of(index);
        let smaller = self.wanted_rung(request).is_some_and(|wanted| rung < wanted);
        let verdict = if smaller { Verdict::ProceedSmaller { rung } } else { Verdict::Proceed };
        out.push_back(Output::Accepted { request: request.id, verdict });
        self.start(now, index, request.id, now, out);
    }

    /// Takes the news that a client hung up.
    pub fn handle_cancel(&mut self, id: RequestId, out: &mut VecDeque<Output>) {
        if self.queue.remove(id).is_some() {
            let end = End::Cancelled { by: CancelledBy::Client };
            out.push_back(Output::Ended { request: id, end });
        } else if let Some(running) = self.running.get_mut(&id)
            && running.cancelled_by.is_none()
        {
            running.cancelled_by = Some(CancelledBy::Client);
            out.push_back(Output::Command(Command::Cancel { request: id }));
        }
        // Else it has ended already; hanging up after the end is no news.
    }

    /// Takes the backend's answer about a request. Returns how it was served, where that says something about
    /// the model.
    pub fn handle_request_outcome(
        &mut self,
        now: Timestamp,
        outcome: &Outcome,
        out: &mut VecDeque<Output>,
    ) -> Option<Service> {
        let id = match outcome {
            Outcome::Done { request, .. }
            | Outcome::Failed { request, .. }
            | Outcome::Cancelled { request } => *request,
            Outcome::Loaded { .. }
            | Outcome::LoadFailed { .. }
            | Outcome::Unloaded { .. }
            | Outcome::Crashed { .. } => return None,
        };
        // An answer about a request that has ended: servers may answer twice, a request ends once.
        let running = self.running.remove(&id)?;
        let slot = &mut self.slots[running.model];
        slot.running -= 1;
        let served = now.since(running.started);
        let rung = self.rung_of(running.model);
        let (end, service) = match outcome {
            Outcome::Done { first_token, output_tokens, .. } => {
                self.mean_service = (self.mean_service * 7 + served) / 8;
                let waited = running.started.since(running.arrived);
                let end = End::Done {
                    model: self.catalog.models()[running.model].id.clone(),
                    first_token: waited + *first_token,
                    latency: now.since(running.arrived),
                    output_tokens: *output_tokens,
                };
                (end, Some(Service { rung, reply: Some((*first_token, served)) }))
            }
            Outcome::Failed { error, .. } => {
                (End::Failed { error: error.clone() }, Some(Service { rung, reply: None }))
            }
            _ => (End::Cancelled { by: running.cancelled_by.unwrap_or(CancelledBy::Client) }, None),
        };
        out.push_back(Output::Ended { request: id, end });
        if self.slots[running.model].state == Lifecycle::Draining || self.switch.is_some() {
            self.advance(now, out);
        } else if !matches!(outcome, Outcome::Failed { .. }) {
            // A failure may be the first word of a model's death: what waits is not started on it before the next
            // word, at the latest the next sample.
            self.start_waiting(now, out);
        }
        service
    }

    /// Starts waiting requests while the serving model has slots.
    pub(super) fn start_waiting(&mut self, now: Timestamp, out: &mut VecDeque<Output>) {
        let Some(index) = self.serving else { return };
        let model = &self.catalog.models()[index];
        while self.queue.len() > 0
            && self.slots[index].state == Lifecycle::Ready
            && self.slots[index].running < model.slots
        {
            let can = |request: &Request| {
                model.can(request.task) && request.context_tokens() <= model.context_tokens
            };
            let Some(Waiting { request, arrived, .. }) = self.queue.pop_first(can) else { return };
            let id = model.id.clone();
            self.slots[index].running += 1;
            let running = Running { model: index, arrived, started: now, cancelled_by: None };
            self.running.insert(request.id, running);
            out.push_back(Output::Command(Command::Start { request: request.id, model: id }));
        }
    }

    /// Ends a request whose patience is over.
    pub(super) fn expire(&self, waiting: &Waiting, out: &mut VecDeque<Output>) {
        let retry_after = Some(self.retry_after());
        let end = End::Rejected { reason: Rejection::Deadline, retry_after };
        out.push_back(Output::Ended { request: waiting.request.id, end });
    }

    /// Refuses everything that waits: the manager stops.
    pub(super) fn refuse_all(&mut self, out: &mut VecDeque<Output>) {
        while let Some(waiting) = self.queue.pop_first(|_| true) {
            let end = End::Rejected { reason: Rejection::ShuttingDown, retry_after: None };
            out.push_back(Output::Ended { request: waiting.request.id, end });
        }
    }

    pub(super) fn cancel_running_on(
        &mut self,
        index: usize,
        by: CancelledBy,
        out: &mut VecDeque<Output>,
    ) {
        for (&request, running) in &mut self.running {
            if running.model == index && running.cancelled_by.is_none() {
                running.cancelled_by = Some(by);
                out.push_back(Output::Command(Command::Cancel { request }));
            }
        }
    }

    fn admit(&self, request: &Request) -> Result<(), Rejection> {
        if self.stopping {
            return Err(Rejection::ShuttingDown);
        }
        if request.target != Target::Auto && self.wanted_rung(request).is_none() {
            return Err(Rejection::UnknownTarget);
        }
        let servable = self.catalog.models().iter().any(|model| {
            model.can(request.task) && request.context_tokens() <= model.context_tokens
        });
        if !servable {
            return Err(Rejection::Unservable);
        }
        let starts_now = self.serving.is_some_and(|index| self.can_start(index, request));
        if !starts_now && self.queue.len() >= self.settings.manager.queue_limit as usize {
            return Err(Rejection::QueueFull);
        }
        Ok(())
    }

    /// Returns whether a request can start on a model now. Those that wait go first.
    fn can_start(&self, index: usize, request: &Request) -> bool {
        let model = &self.catalog.models()[index];
        let slot = &self.slots[index];
        slot.state == Lifecycle::Ready
            && slot.running < model.slots
            && model.can(request.task)
            && request.context_tokens() <= model.context_tokens
    }

    fn start(
        &mut self,
        now: Timestamp,
        index: usize,
        request: RequestId,
        arrived: Timestamp,
        out: &mut VecDeque<Output>,
    ) {
        let model = self.catalog.models()[index].id.clone();
        self.slots[index].running += 1;
        self.running
            .insert(request, Running { model: index, arrived, started: now, cancelled_by: None });
        out.push_back(Output::Command(Command::Start { request, model }));
    }

    fn wanted_rung(&self, request: &Request) -> Option<Rung> {
        match &request.target {
            Target::Auto => None,
            Target::Tier(tier) => self.catalog.rung_of_tier(tier),
            Target::Model(id) => self.catalog.rung_of(id),
        }
    }

    /// Returns when to come back: when the queue ahead has been served, at least a second; the default patience
    /// while nothing serves.
    fn retry_after(&self) -> Duration {
        let Some(index) = self.serving else { return self.settings.manager.patience };
        let side_by_side = self.catalog.models()[index].slots;
        let ahead = u32::try_from(self.queue.len()).unwrap_or(u32::MAX) / side_by_side + 1;
        self.mean_service.saturating_mul(ahead).max(Duration::from_secs(1))
    }
}
