//! Our policy with a flaw.

use std::time::Duration;

use tiershift_core::catalog::{Catalog, Rung};
use tiershift_core::decision::{Action, CalledOff, Decision, Gate, Reason, Urgency};
use tiershift_core::demand::Performance;
use tiershift_core::place::Ladder;
use tiershift_core::policy::{Observation, Policy, Promises, Standing};
use tiershift_core::settings::Settings;
use tiershift_core::time::Timestamp;

/// A policy that makes the promises of ours, and breaks one of them.
#[derive(Debug)]
pub(super) struct FlawedPolicy {
    inner: Box<dyn Policy>,
    flaw: &'static str,
    ladder: Ladder,
}

impl FlawedPolicy {
    pub(super) fn new(
        inner: Box<dyn Policy>,
        flaw: &'static str,
        settings: &Settings,
        catalog: &Catalog,
    ) -> Self {
        Self { inner, flaw, ladder: Ladder::new(settings, catalog) }
    }

    fn spoil(&self, seen: &Observation<'_>, decision: Decision) -> Decision {
        let Observation { sample, standing, .. } = *seen;
        let is_hold = decision.action == Action::Hold;
        match self.flaw {
            "goes-up-too-soon" if is_hold && !standing.switching && standing.rung != Rung::NONE => {
                let above = (standing.rung.0 + 1..=self.ladder.top().0).rev().map(Rung);
                let mut fits = above.filter(|&rung| self.ladder.place(sample, rung).is_there());
                match fits.next() {
                    Some(to) => standing.up(to, Reason::AtTop),
                    None => decision,
                }
            }
            "never-done-cooling"
                if matches!(decision.action, Action::Upgrade { .. })
                    && standing.last_change.is_some() =>
            {
                standing.hold(Reason::Cooldown { to: Rung(1), remaining: Duration::from_secs(5) })
            }
            "ignores-a-shortage" if matches!(decision.reason, Reason::AboveDegradeLine { .. }) => {
                standing.hold(decision.reason)
            }
            "never-rescues" if !is_hold && standing.rung == Rung::NONE => {
                standing.hold(Reason::NoData)
            }
            // Each complaint is a reason to wait again, but is never justified.
            "never-content"
                if is_hold && !standing.switching && standing.rung == self.ladder.top() =>
            {
                standing.down(Rung(1), Urgency::Graceful, Reason::Failing { failures: 3 })
            }
            _ => decision,
        }
    }
}

impl Policy for FlawedPolicy {
    fn observe(&mut self, now: Timestamp, seen: &Observation<'_>) -> Decision {
        let decision = self.inner.observe(now, seen);
        self.spoil(seen, decision)
    }

    fn missing(&mut self, now: Timestamp, standing: &Standing) -> Decision {
        self.inner.missing(now, standing)
    }

    fn served(&mut self, now: Timestamp, performance: &Performance) {
        self.inner.served(now, performance);
    }

    fn broke(&mut self, now: Timestamp, rung: Rung) {
        self.inner.broke(now, rung);
    }

    fn called_off(&mut self, now: Timestamp, rung: Rung, cause: CalledOff) {
        self.inner.called_off(now, rung, cause);
    }

    fn gates(&self, now: Timestamp, standing: &Standing) -> Vec<Gate> {
        self.inner.gates(now, standing)
    }

    fn promises(&self) -> Promises {
        self.inner.promises()
    }
}
