//! Idleness: where a person wants that, what nobody asks for is unloaded, and loaded again for the next request.

use crate::catalog::Rung;
use crate::controller::Controller;
use crate::decision::{Action, Decision, Reason, Urgency};
use crate::time::Timestamp;

/// What is remembered of who asked.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Idleness {
    /// When something was last asked of the ladder, or still ran or waited; at first, when the run began.
    asked_at: Option<Timestamp>,
    /// What served when it was unloaded since nobody asked, where that was the last change.
    unloaded: Option<Rung>,
}

impl Controller {
    /// Makes a decision one to unload, or to leave it at nothing, where nobody has asked for anything in too long. An order holds
    /// in any case, and what a shortage forces is done.
    pub(super) fn heed_idleness(&mut self, now: Timestamp, decision: &mut Decision) {
        let Some(limit) = self.settings.manager.idle_unload else { return };
        if !self.manager.is_idle() {
            self.idleness.asked_at = Some(now);
        }
        let for_ = now.since(*self.idleness.asked_at.get_or_insert(now));
        let is_forced = matches!(decision.action, Action::Downgrade { .. });
        if for_ < limit || self.order.is_some() || is_forced || self.manager.is_switching() {
            return;
        }
        decision.reason = Reason::Idle { for_ };
        decision.action = match decision.rung {
            Rung::NONE => Action::Hold,
            _ => Action::Downgrade { to: Rung::NONE, urgency: Urgency::Graceful },
        };
    }

    /// Takes that a decision is carried out.
    pub(super) fn note_unloaded(&mut self, decision: &Decision) {
        let is_idle = matches!(decision.reason, Reason::Idle { .. });
        self.idleness.unloaded = is_idle.then_some(decision.rung);
    }

    /// Takes that somebody asks. What was unloaded since nobody did is loaded again at once, or the best below it that has room: it
    /// had its place before.
    pub(super) fn end_idleness(&mut self, now: Timestamp) {
        self.idleness.asked_at = Some(now);
        if !self.manager.serves_nothing() {
            return;
        }
        let Some(unloaded) = self.idleness.unloaded.take() else { return };
        let mut best_first = (1..=unloaded.0).rev().map(Rung);
        let can_be = |to: &Rung| self.objection(now, Action::Upgrade { to: *to }).is_none();
        let Some(to) = best_first.find(can_be) else { return };
        let action = Action::Upgrade { to };
        self.say(Decision::new(Rung::NONE, action, Reason::Asked));
        self.manager.handle_decision(now, action, Reason::Asked, false, &mut self.out);
    }
}
