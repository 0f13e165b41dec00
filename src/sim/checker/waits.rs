//! S11: a wait that depends on us alone lasts at most twice the time that was announced. One that depends on others is
//! an estimate, and is not checked.

use std::time::Duration;

use tiershift_core::catalog::Rung;
use tiershift_core::decision::{Action, Decision, Reason};
use tiershift_core::event::OrderNews;
use tiershift_core::time::Timestamp;

use crate::sim::checker::book::Book;
use crate::sim::checker::violations::Violations;

/// Watches the waits that were announced.
#[derive(Default)]
pub(super) struct Waits {
    /// When an order of this tier, which waits for the cooldown, must have begun.
    order: Option<(String, Timestamp)>,
    /// When a hold for a rung's cooldown, or for its back-off, must be over.
    cooldown: Option<(Rung, Timestamp)>,
    backoff: Option<(Rung, Timestamp)>,
    /// When an order of this tier may no longer be refused for a wait of ours.
    refusal: Option<(String, Timestamp)>,
}

impl Waits {
    /// Notes that the basis of the waits has changed: a change was made, or a model broke.
    pub(super) fn disturb(&mut self) {
        self.cooldown = None;
        self.backoff = None;
        self.refusal = None;
    }

    /// Takes the news of an order.
    pub(super) fn answer(
        &mut self,
        book: &Book,
        tier: &str,
        news: &OrderNews,
        out: &mut Violations,
    ) {
        self.order = None;
        match *news {
            OrderNews::Taken { wait, .. } => {
                self.order = wait.map(|wait| (tier.to_owned(), book.now + twice(book, wait)));
            }
            OrderNews::Refused { reason, retry_after } => {
                if !matches!(reason, Reason::Backoff { .. } | Reason::Cooldown { .. }) {
                    return;
                }
                let before = self.refusal.take().filter(|(before, _)| before == tier);
                if before.is_some_and(|(_, over)| book.now > over) {
                    out.report(
                        book.now,
                        "S11",
                        format!("\"{tier}\" is refused again for a wait that is over"),
                    );
                }
                let over = book.now + twice(book, retry_after);
                self.refusal = Some((tier.to_owned(), over));
            }
            OrderNews::Unknown | OrderNews::Released => {}
        }
    }

    /// Takes a decision, which may begin what was waited for, or announce a wait.
    pub(super) fn take_decision(&mut self, book: &Book, decision: &Decision, out: &mut Violations) {
        if decision.action != Action::Hold {
            self.order = None;
            self.disturb();
            return;
        }
        let (what, known, to, remaining) = match decision.reason {
            Reason::Cooldown { to, remaining } => ("cooldown", &mut self.cooldown, to, remaining),
            Reason::Backoff { to, remaining } => ("back-off", &mut self.backoff, to, remaining),
            // Something else blocks it now: the wait may be another next time.
            _ => {
                self.cooldown = None;
                self.backoff = None;
                return;
            }
        };
        let before = known.filter(|(rung, _)| *rung == to);
        let over = before.map_or(book.now + twice(book, remaining), |(_, over)| over);
        *known = (book.now <= over).then_some((to, over));
        if known.is_none() {
            let (tier, left) = (book.catalog.tier_name(to), remaining.as_secs());
            let what = format!("the {what} of {tier} that was to be over has {left} s left");
            out.report(book.now, "S11", what);
        }
    }

    /// Notes that a tier serves: an order is carried out, or begun anew.
    pub(super) fn begin(&mut self) {
        self.order = None;
    }

    /// Notes that a model is loaded: what was ordered is under way, whatever it is loaded for.
    pub(super) fn load(&mut self, tier: &str) {
        self.order = self.order.take().filter(|(ordered, _)| ordered != tier);
    }

    /// Reports what should have begun by `moment`, whose inputs have all been answered.
    #[inline]
    pub(super) fn pass(&mut self, book: &Book, moment: Timestamp, out: &mut Violations) {
        if self.order.as_ref().is_some_and(|&(_, due)| due <= moment) {
            self.order = None;
            out.report(
                book.now,
                "S11",
                "an order that waits for the cooldown was not begun in time",
            );
        }
    }
}

/// Returns twice a wait, plus two samples: waits are checked only when something happens.
fn twice(book: &Book, wait: Duration) -> Duration {
    wait * 2 + book.settings.sampling_interval * 2
}
