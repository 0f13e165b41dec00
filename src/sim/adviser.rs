//! Whom a policy asks in a simulated run.

use std::time::Duration;

use tiershift_core::catalog::Rung;
use tiershift_core::event::{Advice, Consult};
use tiershift_core::sample::Sample;
use tiershift_core::time::Timestamp;

use crate::sim::queue::EventQueue;

/// Answers a policy's questions. The same questions must get the same answers, or a run cannot be repeated; its log can
/// be verified in any case.
pub trait Adviser {
    /// Returns the rung that should serve by the sample that the policy was shown, and after how long the answer is
    /// there; `None` leaves the question open.
    fn advise(&mut self, sample: &Sample, consult: &Consult) -> Option<(Rung, Duration)>;
}

/// The adviser of a run, and what is on its way from it.
pub(super) struct Advised {
    adviser: Box<dyn Adviser>,
    /// What the probe returned last.
    sample: Sample,
    answers: EventQueue<Advice>,
}

impl Advised {
    pub(super) fn new(adviser: Box<dyn Adviser>) -> Self {
        Self { adviser, sample: Sample::default(), answers: EventQueue::default() }
    }

    /// Takes what the probe returns.
    pub(super) fn see(&mut self, sample: &Sample) {
        self.sample.clone_from(sample);
    }

    pub(super) fn ask(&mut self, now: Timestamp, consult: &Consult) {
        if let Some((to, after)) = self.adviser.advise(&self.sample, consult) {
            self.answers.push(now + after, Advice { question: consult.question, to });
        }
    }

    pub(super) fn next_at(&self) -> Option<Timestamp> {
        self.answers.next_at()
    }

    /// Takes out the next answer that is there by `now`.
    pub(super) fn pop(&mut self, now: Timestamp) -> Option<Advice> {
        self.answers.pop(now).map(|(_, advice)| advice)
    }
}
