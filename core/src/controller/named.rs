//! Requests that name a model: it is loaded for them, one name after the other, and stays for a time.
//!
//! Such a switch waits for the switch cooldown and for the end of the last one's stay, and interrupts no reply. An
//! order, the pinned tier, and whatever a shortage forces take precedence over it.

use crate::catalog::Rung;
use crate::controller::Controller;
use crate::decision::{Decision, Reason};
use crate::request::{Request, Target};
use crate::time::Timestamp;

impl Controller {
    /// Loads the model whose turn it is; called after everything that may have brought its turn.
    pub(super) fn pursue_names(&mut self, now: Timestamp) {
        let is_held = self.order.is_some() || self.pinned.is_some();
        if is_held || self.manager.is_stopping() || self.manager.is_switching() {
            return;
        }
        let Some(index) = self.manager.named_next(now) else { return };
        if self.manager.named_waits(now).is_some() {
            return;
        }
        let (rung, to) = (self.manager.rung(), self.manager.rung_of(index));
        // Another model of the same rung is no change of rung.
        if to != rung {
            self.say(Decision::new(rung, self.action_towards(to), Reason::Asked));
        }
        self.manager.go_to_named(now, index, &mut self.out);
    }

    /// Refuses a request that names a model while an order or the pinned tier keeps another one loaded. Returns whether
    /// it did.
    pub(super) fn refuses_name(&mut self, now: Timestamp, request: &Request) -> bool {
        let Target::Model(id) = &request.target else { return false };
        let Some(rung) = self.catalog.rung_of(id) else { return false };
        let (kept, until) = match (&self.order, self.pinned) {
            (Some(order), _) => (order.to, order.until()),
            (None, Some(pinned)) => (pinned, None),
            (None, None) => return false,
        };
        let is_there = self.manager.rung() == rung && !self.manager.is_switching();
        if rung == kept || is_there {
            return false;
        }
        let retry_after = until.map(|until| until.since(now));
        self.manager.refuse_for_another(request, retry_after, &mut self.out);
        true
    }

    /// Returns the rung that the policy must keep because its model was loaded by name, with the reason and the time
    /// left. It does not bring the model back after a shortage.
    pub(super) fn named_hold(&self, now: Timestamp) -> Option<(Rung, Reason)> {
        let (to, remaining) = self.manager.named_stay(now)?;
        Some((to, Reason::Named { to, remaining }))
    }
}
