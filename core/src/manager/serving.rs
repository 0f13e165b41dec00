//! Admission, and the one end of every request.

use std::collections::VecDeque;
use std::time::Duration;

use crate::catalog::Rung;
use crate::demand::{Performance, ReplyTimes};
use crate::event::{Command, Outcome, Output, Verdict};
use crate::manager::Manager;
use crate::manager::lifecycle::Lifecycle;
use crate::manager::queue::Waiting;
use crate::request::{CancelledBy, End, Rejection, Request, RequestId, Target};
use crate::time::Timestamp;

/// A request that runs.
#[derive(Clone, Copy, Debug)]
pub(super) struct Running {
    pub(super) model: usize,
    arrived: Timestamp,
    /// Where its age is counted from: its arrival; its start where it waited for a switch.
    pub(super) counted_from: Timestamp,
    pub(super) started: Timestamp,
    /// What was asked for.
    prompt_tokens: u32,
    output_tokens: u32,
    /// It is late when it has run for longer.
    pub(super) late_after: Duration,
    /// Set when we asked the backend to stop it.
    cancelled_by: Option<CancelledBy>,
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
            if reason == Rejection::QueueFull {
                self.note_refusal(now, request, now);
            }
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
        self.start(now, index, request, now, out);
    }

    /// Takes the news that a client hung up.
    pub fn handle_cancel(&mut self, now: Timestamp, id: RequestId, out: &mut VecDeque<Output>) {
        if let Some(waiting) = self.queue.remove(id) {
            self.note_unserved(now, &waiting.request);
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
    /// the model: an answer to our own cancelling does not, nor does a request that the server found fault with, which it
    /// answers as cancelled.
    pub fn handle_request_outcome(
        &mut self,
        now: Timestamp,
        outcome: &Outcome,
        out: &mut VecDeque<Output>,
    ) -> Option<Performance> {
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
        let (end, performance) = match outcome {
            Outcome::Done { first_token, output_tokens, .. } => {
                self.mean_service = (self.mean_service * 7 + served) / 8;
                let waited = running.started.since(running.arrived);
                let reply = self.reply_times(now, &running, *first_token, *output_tokens);
                let end = End::Done {
                    model: self.catalog.models()[running.model].id.clone(),
                    first_token: waited + *first_token,
                    latency: now.since(running.arrived),
                    output_tokens: *output_tokens,
                };
                (end, Some(Performance { rung, reply: Some(reply) }))
            }
            Outcome::Failed { error, .. } => {
                let performance =
                    running.cancelled_by.is_none().then_some(Performance { rung, reply: None });
                (End::Failed { error: error.clone() }, performance)
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
        performance
    }

    /// Starts waiting requests while the serving model has slots.
    pub(super) fn start_waiting(&mut self, now: Timestamp, out: &mut VecDeque<Output>) {
        let Some(index) = self.serving else { return };
        while self.queue.len() > 0 && self.slots[index].state == Lifecycle::Ready && !self.is_full()
        {
            let model = &self.catalog.models()[index];
            let can = |request: &Request| request.is_for(model);
            let Some(Waiting { request, arrived, .. }) = self.queue.pop_first(can) else { return };
            self.start(now, index, &request, arrived, out);
        }
    }

    /// Ends a request whose patience is over.
    pub(super) fn expire(&mut self, now: Timestamp, waiting: &Waiting, out: &mut VecDeque<Output>) {
        self.note_refusal(now, &waiting.request, waiting.arrived);
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
        let servable = self.catalog.models().iter().any(|model| request.is_for(model));
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
        slot.state == Lifecycle::Ready && slot.running < model.slots && request.is_for(model)
    }

    fn start(
        &mut self,
        now: Timestamp,
        index: usize,
        request: &Request,
        arrived: Timestamp,
        out: &mut VecDeque<Output>,
    ) {
        self.note_served(now, request);
        let model = &self.catalog.models()[index];
        let output_tokens = request.output_tokens_in(model.context_tokens);
        let by_catalog = model.reply_time(request.prompt_tokens, output_tokens);
        let running = Running {
            model: index,
            arrived,
            counted_from: if self.asked.waited_for_a_switch(arrived) { now } else { arrived },
            started: now,
            prompt_tokens: request.prompt_tokens,
            output_tokens,
            late_after: self.asked.late_after(by_catalog),
            cancelled_by: None,
        };
        let command = Command::Start { request: request.id, model: model.id.clone() };
        self.slots[index].running += 1;
        self.running.insert(request.id, running);
        out.push_back(Output::Command(command));
    }

    fn reply_times(
        &mut self,
        now: Timestamp,
        running: &Running,
        first_token: Duration,
        output_tokens: u32,
    ) -> ReplyTimes {
        self.asked.note_length(running.output_tokens, output_tokens);
        let model = &self.catalog.models()[running.model];
        ReplyTimes {
            first_token: running.started.since(running.counted_from) + first_token,
            latency: now.since(running.counted_from),
            ran: now.since(running.started),
            by_catalog: model.reply_time(running.prompt_tokens, output_tokens),
        }
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
