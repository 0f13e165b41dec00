//! Idleness: if the settings say so, a model without requests is unloaded, and loaded again for the next request.

use crate::catalog::Rung;
use crate::controller::Controller;
use crate::decision::{Action, Decision, Reason, Urgency};
use crate::time::Timestamp;

/// What is remembered of requests.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Idleness {
    /// When the ladder last had a request that arrived, waited or ran; at first, when the run began.
    asked_at: Option<Timestamp>,
    /// What served before it was unloaded for idleness, if that was the last change.
    unloaded: Option<Rung>,
}

impl Controller {
    /// Turns a decision into one to unload, or to stay unloaded, if there was no request for longer than `idle-unload`.
    /// An order takes precedence, and what a shortage forces is done.
    pub(super) fn heed_idleness(&mut self, now: Timestamp, decision: &mut Decision) {
        if !self.manager.is_idle() {
            self.idleness.asked_at = Some(now);
        }
        let for_ = now.since(*self.idleness.asked_at.get_or_insert(now));
        // For what was unloaded, its own limit continues to apply.
        let rung =
            if decision.rung == Rung::NONE { self.idleness.unloaded } else { Some(decision.rung) };
        let own = rung.and_then(|rung| self.catalog.primary(rung)?.idle_unload);
        let Some(limit) = own.or(self.settings.manager.idle_unload) else { return };
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

    /// Notes that a decision is carried out.
    pub(super) fn note_unloaded(&mut self, decision: &Decision) {
        let is_idle = matches!(decision.reason, Reason::Idle { .. });
        self.idleness.unloaded = is_idle.then_some(decision.rung);
    }

    /// Notes that a request has arrived. What was unloaded for idleness is loaded again at once, or the best below it
    /// that has room: it had its place before.
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use crate::catalog::Catalog;
    use crate::controller::{Controller, Detail};
    use crate::event::{Adopted, Command, Input, Outcome, Output};
    use crate::machine::MachineClass;
    use crate::model::Model;
    use crate::policy::Registry;
    use crate::sample::{Sample, Space};
    use crate::settings::{RawSettings, Settings};
    use crate::time::Timestamp;
    use crate::units::Bytes;

    /// Returns after how many minutes without a request the pinned medium model is unloaded, within an hour, and
    /// whether it is loaded again.
    fn unloaded_after(of_all: Option<&str>, of_medium: Option<u64>) -> (Option<u64>, bool) {
        let mut raw = RawSettings::default();
        raw.manager.pin = Some("medium".to_owned());
        raw.manager.idle_unload = of_all.map(|span| span.parse().unwrap());
        let settings = Settings::new(raw, MachineClass::MidRange).unwrap();
        let usual = Catalog::relative_to(Bytes::from_gib(16));
        let models = usual.models().iter().map(|model| {
            let idle_unload = of_medium.map(Duration::from_mins).filter(|_| model.tier == "medium");
            Model { idle_unload, ..model.clone() }
        });
        let catalog = Catalog::new(models.collect()).unwrap();
        let mut controller =
            Controller::new(&settings, &catalog, Detail::Changes, &Registry::built_in()).unwrap();
        let models = vec![Adopted { model: "medium".into(), gpu: None }];
        controller.handle(Timestamp::ZERO, &Input::Adopt { models });
        while controller.poll_output().is_some() {}
        let [total, others, own] = [16, 3, 5].map(Bytes::from_gib);
        let (mut gone, mut is_loaded_again) = (None, false);
        for second in 0..3600 {
            let now = Timestamp::from_secs(second);
            let own = if gone.is_none() { own } else { Bytes::ZERO };
            let memory = Some(Space { total, others, own });
            let mut inputs = vec![Input::Sample(Sample { memory, ..Sample::default() })];
            while let Some(input) = inputs.pop() {
                controller.handle(now, &input);
                while let Some(output) = controller.poll_output() {
                    match output {
                        Output::Command(Command::Unload { model }) => {
                            gone.get_or_insert(second / 60);
                            inputs.push(Input::Outcome(Outcome::Unloaded { model }));
                        }
                        Output::Command(Command::Load { .. }) => is_loaded_again = true,
                        _ => {}
                    }
                }
            }
        }
        (gone, is_loaded_again)
    }

    #[test]
    fn a_model_has_a_limit_of_its_own_or_that_of_all() {
        assert_eq!(unloaded_after(None, None), (None, false));
        assert_eq!(unloaded_after(Some("15m"), None), (Some(15), false));
        assert_eq!(unloaded_after(None, Some(5)), (Some(5), false));
        assert_eq!(unloaded_after(Some("15m"), Some(40)), (Some(40), false));
    }
}
