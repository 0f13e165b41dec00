//! Orders: a person or a program asks for a tier, whatever the policy decides.
//!
//! An order is carried out, at once or when the switch cooldown is over, or it is refused with the reason and the time
//! to ask again; it is never lost. It then holds until it is released: the policy's decisions may not leave it, except
//! to step down in a shortage, after which the controller returns to the ordered tier.

use std::time::Duration;

use crate::catalog::Rung;
use crate::controller::Controller;
use crate::decision::{Action, Decision, Reason, Urgency};
use crate::event::{OrderNews, Output};
use crate::time::{Timestamp, earliest};

/// An order in force.
#[derive(Clone, Debug)]
pub(super) struct Order {
    tier: String,
    pub(super) to: Rung,
    until: Option<Timestamp>,
    progress: Progress,
}

/// The progress of an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Progress {
    /// It waits for the switch cooldown, or for what must end first, and is then looked at again.
    Waiting { until: Option<Timestamp> },
    /// The switch to it is under way.
    UnderWay,
    /// It was carried out.
    Done,
}

impl Order {
    /// Returns when it ends by itself.
    pub(super) fn until(&self) -> Option<Timestamp> {
        self.until
    }

    fn next_timeout(&self) -> Option<Timestamp> {
        let waits_until = match self.progress {
            Progress::Waiting { until } => until,
            Progress::UnderWay | Progress::Done => None,
        };
        earliest([waits_until, self.until])
    }
}

impl Controller {
    /// Takes an order and answers it. It replaces the one before.
    pub(super) fn handle_order(&mut self, now: Timestamp, tier: &str, for_: Option<Duration>) {
        let answer = |news| Output::Order { tier: tier.to_owned(), news };
        let to = match tier {
            AUTO => {
                self.order = None;
                self.out.push_back(answer(OrderNews::Released));
                return;
            }
            "none" => Rung::NONE,
            _ => match self.catalog.rung_of_tier(tier) {
                Some(to) => to,
                None => {
                    self.out.push_back(answer(OrderNews::Unknown));
                    return;
                }
            },
        };
        let wait = match self.hindrance(now, to) {
            None => None,
            Some(Reason::Cooldown { remaining, .. }) => Some(remaining),
            Some(reason) => {
                let retry_after = self.when_to_ask_again(reason);
                self.out.push_back(answer(OrderNews::Refused { reason, retry_after }));
                return;
            }
        };
        let until = for_.map(|span| now + wait.unwrap_or_default() + span);
        let progress = Progress::Waiting { until: wait.map(|wait| now + wait) };
        self.order = Some(Order { tier: tier.to_owned(), to, until, progress });
        self.out.push_back(answer(OrderNews::Taken { wait, until }));
        // Requests that wait for another model by name are answered at once.
        let ends_in = until.map(|until| until.since(now));
        self.manager.refuse_names_but(to, ends_in, &mut self.out);
        self.manager.end_named_stay();
        self.pursue_order(now);
    }

    /// Takes the next step towards what was ordered; called after everything that may have made it possible.
    pub(super) fn pursue_order(&mut self, now: Timestamp) {
        let Some(order) = &self.order else { return };
        let (to, progress) = (order.to, order.progress);
        if order.until.is_some_and(|until| until <= now) {
            self.release_order();
            return;
        }
        let is_there = self.manager.rung() == to && !self.manager.is_switching();
        let next = match progress {
            Progress::Done => return,
            _ if is_there => Progress::Done,
            Progress::Waiting { until } if until.is_some_and(|until| until > now) => return,
            Progress::UnderWay if self.manager.is_switching() && !self.is_held_up(to) => return,
            // The switch ended elsewhere: it was called off, or another model stands in.
            Progress::UnderWay => {
                let again = self.settings.manager.switch_cooldown;
                let reason = self.hindrance(now, to);
                return self
                    .refuse_order(reason.unwrap_or(Reason::Backoff { to, remaining: again }));
            }
            Progress::Waiting { .. } if self.manager.rung() == to => Progress::UnderWay,
            // It has waited for the cooldown that ran when it was given: a later one does not delay it.
            Progress::Waiting { .. } => match self.manager.obstacle(now, to) {
                Some(reason) => return self.refuse_order(reason),
                None => {
                    self.carry_out(now, to);
                    Progress::UnderWay
                }
            },
        };
        if let Some(order) = &mut self.order {
            order.progress = next;
        }
        // If there is nothing to unload or load, it is complete at once.
        if next == Progress::UnderWay && !self.manager.is_switching() {
            self.pursue_order(now);
        }
    }

    /// Returns whether the switch under way leads elsewhere, because a space was short, and waits for a model that rests:
    /// nothing serves meanwhile, and the ordered rung may fit sooner.
    fn is_held_up(&self, to: Rung) -> bool {
        self.manager.rung() != to && self.manager.waits_for_a_rest()
    }

    fn carry_out(&mut self, now: Timestamp, to: Rung) {
        let rung = self.manager.rung();
        let action = self.action_towards(to);
        self.say(Decision::new(rung, action, Reason::Asked));
        self.manager.handle_decision(now, action, Reason::Asked, false, &mut self.out);
    }

    pub(super) fn action_towards(&self, to: Rung) -> Action {
        if to > self.manager.rung() {
            Action::Upgrade { to }
        } else {
            Action::Downgrade { to, urgency: Urgency::Graceful }
        }
    }

    /// Returns what blocks a rung now, including the switch cooldown.
    fn hindrance(&self, now: Timestamp, to: Rung) -> Option<Reason> {
        if self.manager.is_stopping() {
            return Some(Reason::Stopping);
        }
        if self.manager.rung() == to {
            return None;
        }
        self.manager.objection(now, self.action_towards(to))
    }

    /// Returns when an order that was refused may be given again: an estimate if it depends on others.
    fn when_to_ask_again(&self, reason: Reason) -> Duration {
        match reason {
            Reason::Backoff { remaining, .. } | Reason::Cooldown { remaining, .. } => remaining,
            _ => self.settings.manager.patience,
        }
    }

    fn refuse_order(&mut self, reason: Reason) {
        if let Some(Order { tier, .. }) = self.order.take() {
            let retry_after = self.when_to_ask_again(reason);
            let news = OrderNews::Refused { reason, retry_after };
            self.out.push_back(Output::Order { tier, news });
        }
    }

    /// Returns control to the policy.
    pub(super) fn release_order(&mut self) {
        if let Some(Order { tier, .. }) = self.order.take() {
            self.out.push_back(Output::Order { tier, news: OrderNews::Released });
        }
    }

    /// Returns whether an order or the pinned tier wants nothing of the ladder loaded.
    pub(super) fn keeps_to_none(&self) -> bool {
        self.order.as_ref().is_some_and(|order| order.to == Rung::NONE)
    }

    pub(super) fn next_order_timeout(&self) -> Option<Timestamp> {
        self.order.as_ref().and_then(Order::next_timeout)
    }

    /// Keeps a decision to what was ordered or, without an order, to the pinned tier: no upgrade beyond it, and no
    /// downgrade from it except for lack of space.
    pub(super) fn keep_to_what_was_asked(&mut self, now: Timestamp, decision: &mut Decision) {
        let (rung, reason) = match (&self.order, self.pinned) {
            (Some(order), _) => {
                let remaining = order.until.map(|until| until.since(now));
                (order.to, Reason::Ordered { to: order.to, remaining })
            }
            (None, Some(pinned)) => (pinned, Reason::Fixed),
            (None, None) => match self.named_hold(now) {
                Some(hold) => hold,
                None => return,
            },
        };
        let forbidden = match decision.action {
            Action::Hold => false,
            Action::Upgrade { to } => {
                // No further than that, whatever the policy's reason; if it does not fit, the highest rung below it
                // that does.
                let mut up_to_it = (decision.rung.0 + 1..=rung.0).rev().map(Rung);
                if to > rung
                    && let Some(nearest) = up_to_it.find(|&to| self.manager.has_room_for(to))
                {
                    decision.action = Action::Upgrade { to: nearest };
                    decision.reason = Reason::Asked;
                    return;
                }
                to > rung
            }
            Action::Downgrade { to, .. } => {
                let for_space = matches!(
                    decision.reason,
                    Reason::AboveDegradeLine { .. } | Reason::Exhaustion { .. }
                );
                to < rung && !for_space
            }
        };
        if forbidden {
            decision.action = Action::Hold;
            decision.reason = reason;
        } else if decision.action != Action::Hold {
            // A model that a shortage forces out is not brought back by name.
            self.manager.end_named_stay();
        }
    }
}

/// The order that returns control to the policy.
const AUTO: &str = "auto";
