//! S10: an order is answered, carried out or refused, and followed while it holds.

use std::time::Duration;

use tiershift_core::catalog::Rung;
use tiershift_core::decision::{Action, Decision, Reason};
use tiershift_core::event::OrderNews;
use tiershift_core::time::Timestamp;

use crate::sim::checker::book::{Book, is_for_space};
use crate::sim::checker::violations::Violations;

/// Watches the fate of orders.
#[derive(Default)]
pub(super) struct Orders {
    /// The order of the last input, until it is answered.
    unanswered: Option<String>,
    standing: Option<Order>,
}

/// An order that was taken.
struct Order {
    tier: String,
    to: Rung,
    /// When it ends by itself.
    until: Option<Timestamp>,
    /// Until when it may wait for the cooldown.
    waits_until: Timestamp,
    is_done: bool,
    /// How long nothing has been under way for it.
    idle: Duration,
    last: Timestamp,
}

impl Orders {
    /// Takes an order, which must be answered before the next input.
    pub(super) fn ask(&mut self, tier: &str) {
        self.unanswered = Some(tier.to_owned());
    }

    /// Returns the rung of the order that holds.
    pub(super) fn rung(&self) -> Option<Rung> {
        self.standing.as_ref().map(|order| order.to)
    }

    /// Takes the news of an order.
    pub(super) fn answer(
        &mut self,
        book: &Book,
        tier: &str,
        news: &OrderNews,
        out: &mut Violations,
    ) {
        if self.unanswered.as_deref() == Some(tier) {
            self.unanswered = None;
            match *news {
                OrderNews::Taken { wait, until } => self.take(book, tier, wait, until),
                OrderNews::Released => self.standing = None,
                // The earlier order continues to hold.
                OrderNews::Refused { .. } | OrderNews::Unknown => {}
            }
            return;
        }
        let is_ours = self.standing.as_ref().is_some_and(|order| order.tier == tier);
        match news {
            OrderNews::Refused { .. } | OrderNews::Released if is_ours => self.standing = None,
            _ => out.report(book.now, "S10", format!("news of \"{tier}\", which was not ordered")),
        }
    }

    fn take(&mut self, book: &Book, tier: &str, wait: Option<Duration>, until: Option<Timestamp>) {
        let to = book.catalog.rung_of_tier(tier).unwrap_or(Rung::NONE);
        self.standing = Some(Order {
            tier: tier.to_owned(),
            to,
            until,
            waits_until: book.now + wait.unwrap_or_default(),
            is_done: is_there(book, to),
            idle: Duration::ZERO,
            last: book.now,
        });
    }

    /// Notes that a switch has ended: what it led to is done, however soon it is undone.
    pub(super) fn take_end(&mut self, book: &Book) {
        if let Some(order) = &mut self.standing {
            order.is_done |= is_there(book, order.to);
        }
    }

    /// Notes that a model broke: the manager's rest, or its search for another model, begins.
    pub(super) fn disturb(&mut self) {
        if let Some(order) = &mut self.standing {
            order.idle = Duration::ZERO;
        }
    }

    /// Reports an order that the last input left unanswered, after all its outputs.
    #[inline]
    pub(super) fn settle(&mut self, book: &Book, out: &mut Violations) {
        if let Some(tier) = self.unanswered.take() {
            out.report(book.now, "S10", format!("the order of \"{tier}\" was not answered"));
        }
    }

    /// Reports what should have happened by `moment`, whose inputs have all been answered; called at the first input of
    /// the next.
    #[inline]
    pub(super) fn pass(
        &mut self,
        book: &Book,
        moment: Timestamp,
        next: Timestamp,
        out: &mut Violations,
    ) {
        if self.standing.is_some() {
            self.judge(book, moment, next, out);
        }
    }

    fn judge(&mut self, book: &Book, moment: Timestamp, next: Timestamp, out: &mut Violations) {
        let Some(order) = &mut self.standing else { return };
        if order.until.is_some_and(|until| until <= moment) {
            let tier = &order.tier;
            out.report(book.now, "S10", format!("the order of \"{tier}\" outlives its time"));
            self.standing = None;
            return;
        }
        order.is_done |= is_there(book, order.to);
        if order.is_done {
            return;
        }
        let from = order.last.max(order.waits_until);
        order.last = next;
        // A clock that jumps leaves no time to act, and without a sample nothing is loaded.
        let passed = next.since(from).min(book.settings.stale_after);
        if book.is_in_flight() || !book.is_read() || next <= from {
            return;
        }
        order.idle += passed;
        if order.idle > most_idle(book) {
            let (tier, idle) = (&order.tier, order.idle.as_secs());
            out.report(
                book.now,
                "S10",
                format!("the order of \"{tier}\" was taken, and for {idle} s nothing is done"),
            );
            order.is_done = true;
        }
    }

    /// Takes a decision, which must follow the order that holds.
    pub(super) fn check_decision(&self, book: &Book, decision: &Decision, out: &mut Violations) {
        let Some(order) = &self.standing else { return };
        let is_against = match decision.action {
            Action::Hold => false,
            Action::Upgrade { to } => to > order.to,
            Action::Downgrade { to, .. } => to < order.to && !is_for_space(&decision.reason),
        };
        if is_against && !matches!(decision.reason, Reason::Asked) {
            let tier = &order.tier;
            out.report(
                book.now,
                "S10",
                format!("a decision against the order of \"{tier}\", which holds"),
            );
        }
    }
}

/// Returns whether the order has been carried out.
fn is_there(book: &Book, to: Rung) -> bool {
    book.rung == to && (to != Rung::NONE || !book.is_in_flight())
}

/// Returns how long an order may hold with nothing under way: for an idle moment, for memory to come back, and for the
/// rests of a failed model, as often as it is tried.
fn most_idle(book: &Book) -> Duration {
    let manager = &book.settings.manager;
    let rests = manager.load_retry.saturating_mul(1 << manager.load_attempts.min(MOST_DOUBLINGS));
    let readings = book.settings.stale_after.max(book.settings.sampling_interval * 2);
    manager.drain_deadline + book.settings.settle_limit + rests + readings
}

/// The most doublings of a rest.
const MOST_DOUBLINGS: u32 = 5;
