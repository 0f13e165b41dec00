//! L5: at the end of a world that was quiet for longer than all waits together, the best rung that fits serves and no
//! request is open.
//!
//! L3 restarts its count whenever there may be a reason to wait: a switch, a model that broke, a step down for service;
//! and L1 when a request starts. Here nothing after the last event that the world caused itself is a reason, so that
//! endless switching, or failures of our own making, are found. Not checked: settings under which a space is ignored,
//! so that models are loaded where they do not fit.

use std::time::Duration;

use tiershift_core::catalog::Rung;
use tiershift_core::sample::Resource;
use tiershift_core::time::Timestamp;

use crate::sim::checker::book::Book;
use crate::sim::checker::requests::Requests;
use crate::sim::checker::violations::Violations;

/// Watches a world that is quiet.
#[derive(Default)]
pub(super) struct Quiet {
    /// Since when it has been quiet, if known.
    since: Option<Timestamp>,
    /// When something last failed before that.
    failed_at: Option<Timestamp>,
    /// The number of failures since.
    failures: u32,
    /// Switches completed since, and when the last was.
    switches: u32,
    switched_at: Option<Timestamp>,
    /// When the last request since ended: a switch waits for running requests.
    ended_at: Option<Timestamp>,
}

impl Quiet {
    pub(super) fn new(since: Option<Timestamp>) -> Self {
        Self { since, ..Self::default() }
    }

    fn has_begun(&self, now: Timestamp) -> bool {
        self.since.is_some_and(|since| now >= since)
    }

    /// Notes that something broke, or counts as broken.
    pub(super) fn fail(&mut self, book: &Book) {
        match self.has_begun(book.now) {
            true => self.failures += 1,
            false => self.failed_at = Some(book.now),
        }
    }

    /// Notes that a switch to another rung is complete.
    pub(super) fn switch(&mut self, book: &Book) {
        if self.has_begun(book.now) {
            self.switches += 1;
            self.switched_at = Some(book.now);
        }
    }

    /// Notes that a request ended.
    pub(super) fn end_request(&mut self, book: &Book) {
        if self.has_begun(book.now) {
            self.ended_at = Some(book.now);
        }
    }

    /// Judges the end: `missed` is the best rung that fits, is open and does not serve, which a policy promises to load
    /// within `bound`.
    pub(super) fn judge(
        &self,
        book: &Book,
        requests: &Requests,
        (missed, bound): (Option<Rung>, Duration),
        out: &mut Violations,
    ) {
        let Some(since) = self.since else { return };
        let (quiet, switches) = (book.now.since(since), self.switches);
        let seconds = quiet.as_secs();
        if book.promises.manager_keeps_word
            && let Some(id) = requests.open_after(book, quiet)
        {
            let what =
                format!("there has been no new request for {seconds} s, and request {id} is open");
            out.report(book.now, "L5", what);
        }
        if book.promises.recovery_within.is_none() || book.stopping || !looks_at_all(book) {
            return;
        }
        let retry = book.promises.retry_within.unwrap_or_default();
        // A failing model is retried after twice the time each time, and finally once per longest wait.
        let retries = WAITS_TO_THE_LONGEST + (quiet.as_secs() / retry.as_secs().max(1)) as u32;
        let ways = MOST_SWITCHES_TO_A_RUNG * u32::from(book.catalog.top().0);
        if switches > ways + SWITCHES_OF_A_RETRY * self.failures.min(retries) {
            let what = format!("{switches} switches in {seconds} s in which nothing happened");
            out.report(book.now, "L5", what);
            return;
        }
        let waits_until = self.failed_at.map_or(since, |at| since.max(at + retry));
        let waits_since =
            [self.switched_at, self.ended_at].into_iter().flatten().fold(waits_until, Ord::max);
        if let Some(rung) = missed
            && !requests.is_any_open()
            && book.now > waits_since + bound + longest_switch(book)
        {
            let tier = book.catalog.tier_name(rung);
            let what = format!(
                "nothing has happened for {seconds} s, and {tier}, which fits, does not serve"
            );
            out.report(book.now, "L5", what);
        }
    }
}

/// Returns whether the settings constrain each space that a model can be in.
fn looks_at_all(book: &Book) -> bool {
    let constrains = |resource| book.settings.constrains(resource);
    constrains(Resource::Memory) && (book.reading.gpus.is_empty() || constrains(Resource::Vram))
}

/// Returns how long a switch may take that nothing delays: a drain, an unload that is requested until it is given up,
/// memory that comes back, a load.
fn longest_switch(book: &Book) -> Duration {
    let manager = &book.settings.manager;
    let load = book.catalog.models().iter().map(|model| model.load_timeout).max();
    manager.drain_deadline + UNLOADS + book.settings.settle_limit + load.unwrap_or_default()
}

/// Down to the lowest rung, up again rung by rung, and one failed attempt: more leads nowhere.
const MOST_SWITCHES_TO_A_RUNG: u32 = 3;
/// A failed attempt: up, or down to make room, and back.
const SWITCHES_OF_A_RETRY: u32 = 2;
/// How many doublings make a wait the longest: from five minutes to two hours, five.
const WAITS_TO_THE_LONGEST: u32 = 5;
/// How long an unload is requested: three times fifteen seconds, as in the manager, and some more.
const UNLOADS: Duration = Duration::from_mins(1);
