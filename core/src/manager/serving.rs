//! Admission, and the one end of every request.

use std::collections::VecDeque;
use std::time::Duration;

use crate::catalog::Rung;
use crate::demand::{Performance, ReplyTimes, SLOW_FACTOR};
use crate::event::{Command, Outcome, Output, Verdict};
use crate::manager::Manager;
use crate::manager::lifecycle::Lifecycle;
use crate::manager::queue::{ServedBy, Waiting};
use crate::manager::unloading::UNLOAD_TIMEOUT;
use crate::model::Model;
use crate::request::{CancelledBy, End, Rejection, Request, RequestId, Target};
use crate::time::Timestamp;

/// A request that runs.
#[derive(Clone, Copy, Debug)]
pub(super) struct Running {
    pub(super) model: usize,
    arrived: Timestamp,
    /// From when its age is counted: its arrival, or its start if it waited for a switch.
    pub(super) counted_from: Timestamp,
    pub(super) started: Timestamp,
    /// What was asked for.
    prompt_tokens: u32,
    output_tokens: u32,
    /// It is late when it has run for longer than this.
    pub(super) late_after: Duration,
    /// Set when we asked the backend to stop it.
    pub(super) cancelled_by: Option<CancelledBy>,
    /// When its answer is no longer waited for.
    pub(super) given_up_at: Timestamp,
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
        let served_by = self.served_by(request);
        let start_on = self
            .serving
            .filter(|&index| verdict != Verdict::Queue && self.can_start(index, &served_by));
        if let Err(reason) = self.admit(request, &served_by, start_on.is_some()) {
            if reason == Rejection::QueueFull {
                self.note_refusal(now, request, now);
            }
            self.refuse(now, request, &served_by, reason, out);
            return;
        }
        let Some(index) = start_on else {
            let patience = request.patience.unwrap_or(self.settings.manager.patience);
            out.push_back(Output::Accepted { request: request.id, verdict: Verdict::Queue });
            self.queue.push(now, request.clone(), served_by, patience);
            return;
        };
        let rung = self.rung_of(index);
        let smaller = self.wanted_rung(request).is_some_and(|wanted| rung < wanted);
        let verdict = if smaller { Verdict::ProceedSmaller { rung } } else { Verdict::Proceed };
        out.push_back(Output::Accepted { request: request.id, verdict });
        self.start(now, index, request, now, out);
    }

    /// Handles a client that has hung up.
    pub fn handle_cancel(&mut self, now: Timestamp, id: RequestId, out: &mut VecDeque<Output>) {
        if let Some(waiting) = self.queue.remove(id) {
            self.note_unserved(now, &waiting.request);
            let end = End::Cancelled { by: CancelledBy::Client, retry_after: None };
            out.push_back(Output::Ended { request: id, end });
        } else if let Some(running) = self.running.get_mut(&id)
            && running.cancelled_by.is_none()
        {
            running.cancelled_by = Some(CancelledBy::Client);
            running.given_up_at = now + CANCEL_TIMEOUT;
            out.push_back(Output::Command(Command::Cancel { request: id }));
        }
        // Otherwise it has already ended, and hanging up changes nothing.
    }

    /// Takes the backend's answer about a request. Returns how it was served, if that is evidence about the model:
    /// an answer to our own cancelling is not, nor is a request that the server rejects, which it answers as
    /// cancelled.
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
            Outcome::Loading { .. }
            | Outcome::Tried(_)
            | Outcome::Loaded { .. }
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
            _ => {
                let by = running.cancelled_by.unwrap_or(CancelledBy::Client);
                (End::Cancelled { by, retry_after: self.retry_after_cut(now, by) }, None)
            }
        };
        out.push_back(Output::Ended { request: id, end });
        if self.slots[running.model].state == Lifecycle::Draining || self.switch.is_some() {
            self.advance(now, out);
        } else if !matches!(outcome, Outcome::Failed { .. }) {
            // A failure may be the first sign that the model has died: what waits is not started on it before the next
            // input about it, at the latest the next sample.
            self.start_waiting(now, out);
        }
        performance
    }

    /// Starts waiting requests while the serving model has slots.
    pub(super) fn start_waiting(&mut self, now: Timestamp, out: &mut VecDeque<Output>) {
        let Some(index) = self.serving else { return };
        while self.queue.len() > 0 && self.slots[index].state == Lifecycle::Ready && !self.is_full()
        {
            let next = self.queue.pop_first(|served_by| served_by[index]);
            let Some(Waiting { request, arrived, .. }) = next else { return };
            self.start(now, index, &request, arrived, out);
        }
    }

    /// Ends the requests that have waited too long. For a client that stays connected, only the time with nothing
    /// loaded counts.
    pub(super) fn expire(&mut self, now: Timestamp, out: &mut VecDeque<Output>) {
        while let Some((waiting, served_by)) = self.queue.first_expired(now) {
            let id = waiting.request.id;
            if let Some(until) = self.waits_on_until(now, &waiting.request, served_by) {
                self.queue.set_deadline(id, until);
                continue;
            }
            let Some(waiting) = self.queue.remove(id) else { return };
            self.note_refusal(now, &waiting.request, waiting.arrived);
            let served_by = self.served_by(&waiting.request);
            self.refuse(now, &waiting.request, &served_by, Rejection::Deadline, out);
        }
    }

    /// Returns when to look again at a request whose client stays connected; `None` if it has waited for long enough.
    fn waits_on_until(
        &self,
        now: Timestamp,
        request: &Request,
        served_by: &ServedBy,
    ) -> Option<Timestamp> {
        let patience = request.patience.unwrap_or(self.settings.manager.patience);
        if !request.connected || patience.is_zero() {
            return None;
        }
        let has_its_turn = |index| self.obstacle_to(now, index).is_none();
        if self.is_for_present(served_by)
            || self.is_for_goal(served_by)
            || served_by.named().is_some_and(has_its_turn)
        {
            return Some(now + patience);
        }
        self.empty_since.map(|since| since + patience).filter(|&until| until > now)
    }

    /// Notes since when nothing is loaded or being loaded.
    pub(super) fn note_emptiness(&mut self, now: Timestamp) {
        let is_empty =
            self.serving.is_none() && self.switch.is_none_or(|switch| switch.goal.is_none());
        self.empty_since = is_empty.then(|| self.empty_since.unwrap_or(now));
    }

    /// Refuses waiting requests that only a model below the one that serves from now on could serve.
    pub(super) fn refuse_what_is_not_loaded(&mut self, now: Timestamp, out: &mut VecDeque<Output>) {
        let unreachable: Vec<ServedBy> =
            self.queue.kinds().filter(|kind| !self.is_within_reach(kind)).cloned().collect();
        for kind in unreachable {
            while let Some(waiting) = self.queue.pop_first(|served_by| *served_by == kind) {
                self.refuse(now, &waiting.request, &kind, Rejection::NotLoaded, out);
            }
        }
    }

    /// Refuses a request that names a model while an order keeps another one loaded, for `retry_after` more where that
    /// is known.
    pub fn refuse_for_another(
        &self,
        request: &Request,
        retry_after: Option<Duration>,
        out: &mut VecDeque<Output>,
    ) {
        let reason = Rejection::HeldElsewhere;
        let end = End::Rejected { reason, retry_after, estimate: false };
        out.push_back(Output::Ended { request: request.id, end });
    }

    fn refuse(
        &self,
        now: Timestamp,
        request: &Request,
        served_by: &ServedBy,
        reason: Rejection,
        out: &mut VecDeque<Output>,
    ) {
        let expected = match reason {
            Rejection::QueueFull | Rejection::Deadline | Rejection::NotLoaded => {
                Some(self.expected_wait(now, served_by))
            }
            Rejection::Unservable
            | Rejection::HeldElsewhere
            | Rejection::UnknownTarget
            | Rejection::ShuttingDown => None,
        };
        let retry_after = expected.map(|expected| expected.wait);
        let estimate = expected.is_some_and(|expected| expected.depends_on_others);
        let end = End::Rejected { reason, retry_after, estimate };
        out.push_back(Output::Ended { request: request.id, end });
    }

    /// Refuses everything that waits, because the manager stops.
    pub(super) fn refuse_all(&mut self, out: &mut VecDeque<Output>) {
        while let Some(waiting) = self.queue.pop_first(|_| true) {
            let (reason, retry_after, estimate) = (Rejection::ShuttingDown, None, false);
            let end = End::Rejected { reason, retry_after, estimate };
            out.push_back(Output::Ended { request: waiting.request.id, end });
        }
    }

    pub(super) fn cancel_running_on(
        &mut self,
        now: Timestamp,
        index: usize,
        by: CancelledBy,
        out: &mut VecDeque<Output>,
    ) {
        for (&request, running) in &mut self.running {
            if running.model == index && running.cancelled_by.is_none() {
                running.cancelled_by = Some(by);
                running.given_up_at = now + CANCEL_TIMEOUT;
                out.push_back(Output::Command(Command::Cancel { request }));
            }
        }
    }

    fn admit(
        &self,
        request: &Request,
        served_by: &ServedBy,
        starts_now: bool,
    ) -> Result<(), Rejection> {
        if self.stopping {
            return Err(Rejection::ShuttingDown);
        }
        if request.target != Target::Auto && self.wanted_rung(request).is_none() {
            return Err(Rejection::UnknownTarget);
        }
        if !served_by.has_any() {
            return Err(Rejection::Unservable);
        }
        if !self.is_within_reach(served_by) {
            return Err(Rejection::NotLoaded);
        }
        let limit = self.settings.manager.queue_limit as usize;
        let limit = if request.connected { limit.saturating_mul(CONNECTED_SHARE) } else { limit };
        if !starts_now && self.queue.len() >= limit {
            return Err(Rejection::QueueFull);
        }
        Ok(())
    }

    /// Returns whether a request that arrives now can start on a model. Requests that already wait for it go first.
    fn can_start(&self, index: usize, served_by: &ServedBy) -> bool {
        let slot = &self.slots[index];
        slot.state == Lifecycle::Ready
            && slot.running < self.catalog.models()[index].slots
            && served_by[index]
            && !self.queue.kinds().any(|kind| kind[index])
    }

    /// Returns whether one of these models serves, or may be brought by a switch under way or an upgrade.
    fn is_within_reach(&self, served_by: &ServedBy) -> bool {
        self.is_for_present(served_by)
            || self.is_for_goal(served_by)
            || served_by.is_named()
            || !self.rungs_above_for(served_by).is_empty()
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
            given_up_at: now + self.reply_limit(model, request),
        };
        let command = Command::Start { request: request.id, model: model.id.clone() };
        self.slots[index].running += 1;
        self.note_beside_tryout(index);
        self.running.insert(request.id, running);
        out.push_back(Output::Command(command));
    }

    /// Returns how long a reply may take before it counts as endless.
    fn reply_limit(&self, model: &Model, request: &Request) -> Duration {
        self.settings.manager.reply_limit.unwrap_or_else(|| {
            let most = model.context_tokens.saturating_sub(request.prompt_tokens);
            let longest = model.reply_time(request.prompt_tokens, most);
            longest.saturating_mul(SLOW_FACTOR * model.slots).max(LEAST_REPLY_LIMIT)
        })
    }

    /// Returns how long the client of a request that we ended should wait.
    pub(super) fn retry_after_cut(&self, now: Timestamp, by: CancelledBy) -> Option<Duration> {
        (by == CancelledBy::DrainDeadline).then(|| self.wait_after_cut(now))
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
}

/// How many times more requests of clients that stay connected may wait. Chosen: with the default, twice as many as
/// `serve` has connections, and each of these clients hangs up when it has waited enough.
const CONNECTED_SHARE: usize = 16;

/// After this, a request that was asked to stop is ended without its server's answer: as long as an unload is waited
/// for.
const CANCEL_TIMEOUT: Duration = UNLOAD_TIMEOUT;

/// No reply is given up sooner. Chosen: a swapping machine has been seen to take a few minutes for one word.
const LEAST_REPLY_LIMIT: Duration = Duration::from_mins(10);
