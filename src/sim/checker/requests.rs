//! S2: every request ends exactly once. L1: within its bound, started or not.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tiershift_core::demand::SLOW_FACTOR;
use tiershift_core::request::{Request, RequestId};
use tiershift_core::time::Timestamp;

use crate::sim::checker::book::Book;
use crate::sim::checker::violations::Violations;

/// The requests that have not ended.
#[derive(Default)]
pub(super) struct Requests {
    standing: BTreeMap<RequestId, Standing>,
    /// When each must have started, or ended.
    deadlines: BTreeSet<(Timestamp, RequestId)>,
}

/// What is known of a request that has not ended.
struct Standing {
    prompt_tokens: u32,
    patience: Duration,
    deadline: Option<Timestamp>,
    /// The model that it runs on.
    on: Option<usize>,
    has_hung_up: bool,
    is_cut: bool,
}

impl Requests {
    pub(super) fn arrive(&mut self, book: &Book, request: &Request, out: &mut Violations) {
        let patience = request.patience.unwrap_or(book.settings.manager.patience);
        let standing = Standing {
            prompt_tokens: request.prompt_tokens,
            patience,
            deadline: None,
            on: None,
            has_hung_up: false,
            is_cut: false,
        };
        if self.standing.insert(request.id, standing).is_some() {
            out.report(book.now, "S2", format!("request {} arrived twice", request.id));
        }
        // A request whose client stays connected waits without limit while something is loaded.
        let is_bounded = !request.connected;
        self.set_deadline(request.id, is_bounded.then(|| book.now + patience));
    }

    /// Takes the start of a request, and returns the model that it runs on.
    pub(super) fn start(&mut self, book: &Book, id: RequestId, on: usize, out: &mut Violations) {
        let Some(standing) = self.standing.get_mut(&id) else {
            out.report(book.now, "S2", format!("request {id} was started and had not arrived"));
            return;
        };
        if standing.on.is_some() {
            out.report(book.now, "S2", format!("request {id} was started twice"));
        }
        standing.on = Some(on);
        let limit = reply_limit(book, on, standing.prompt_tokens);
        let deadline = book.promises.manager_keeps_word.then(|| book.now + limit);
        self.set_deadline(id, deadline);
    }

    /// Notes that a client hung up.
    pub(super) fn hang_up(&mut self, id: RequestId) {
        if let Some(standing) = self.standing.get_mut(&id) {
            standing.has_hung_up = true;
        }
    }

    /// Notes that the server must stop a request. Returns the model that it runs on, unless its client hung up.
    pub(super) fn cut(&mut self, book: &Book, id: RequestId) -> Option<usize> {
        let standing = self.standing.get_mut(&id)?;
        let (on, is_our_doing) = (standing.on, !standing.has_hung_up);
        let was_cut = std::mem::replace(&mut standing.is_cut, true);
        if book.promises.manager_keeps_word && !was_cut {
            self.set_deadline(id, Some(book.now + CANCEL_TIMEOUT));
        }
        on.filter(|_| is_our_doing)
    }

    /// Takes the end of a request, and returns the model that it ran on.
    pub(super) fn end(
        &mut self,
        book: &Book,
        id: RequestId,
        out: &mut Violations,
    ) -> Option<usize> {
        self.set_deadline(id, None);
        let standing = self.standing.remove(&id);
        if standing.is_none() {
            out.report(book.now, "S2", format!("request {id} ended again, or never arrived"));
        }
        standing?.on
    }

    /// Reports what should have happened by `moment`, whose inputs have all been answered.
    #[inline]
    pub(super) fn pass(&mut self, book: &Book, moment: Timestamp, out: &mut Violations) {
        while let Some(&(deadline, id)) = self.deadlines.first()
            && deadline <= moment
        {
            self.set_deadline(id, None);
            let is_running = self.standing.get(&id).is_some_and(|standing| standing.on.is_some());
            let what = if is_running {
                "runs for longer than any reply takes, and was not given up"
            } else {
                "was neither started nor refused within its patience"
            };
            out.report(book.now, "L1", format!("request {id} {what}"));
        }
    }

    /// Returns a request that is open although no request has arrived for longer than any may take in all, restarted or
    /// not.
    pub(super) fn open_after(&self, book: &Book, quiet: Duration) -> Option<RequestId> {
        let longest = |standing: &Standing| {
            let limits = (0..book.catalog.models().len())
                .map(|on| reply_limit(book, on, standing.prompt_tokens));
            standing.patience + limits.max().unwrap_or_default() + CANCEL_TIMEOUT
        };
        let mut open = self.standing.iter().filter(|(_, standing)| quiet > longest(standing));
        open.next().map(|(id, _)| *id)
    }

    pub(super) fn is_any_open(&self) -> bool {
        !self.standing.is_empty()
    }

    fn set_deadline(&mut self, id: RequestId, deadline: Option<Timestamp>) {
        let Some(standing) = self.standing.get_mut(&id) else { return };
        if let Some(before) = std::mem::replace(&mut standing.deadline, deadline) {
            self.deadlines.remove(&(before, id));
        }
        if let Some(deadline) = deadline {
            self.deadlines.insert((deadline, id));
        }
    }
}

/// Returns how long a reply may take, by the settings or by their documentation.
fn reply_limit(book: &Book, on: usize, prompt_tokens: u32) -> Duration {
    book.settings.manager.reply_limit.unwrap_or_else(|| {
        let model = &book.catalog.models()[on];
        let room = model.context_tokens.saturating_sub(prompt_tokens);
        let longest = model.reply_time(prompt_tokens, room);
        longest.saturating_mul(SLOW_FACTOR * model.slots).max(LEAST_REPLY_LIMIT)
    })
}

/// From the documentation of `reply-limit`.
const LEAST_REPLY_LIMIT: Duration = Duration::from_mins(10);

/// A request that must stop has ended within this; the same as in the manager.
pub(super) const CANCEL_TIMEOUT: Duration = Duration::from_secs(15);
