//! The adviser that a policy asks in a simulated run.

use std::time::Duration;

use tiershift_core::catalog::Rung;
use tiershift_core::event::{Advice, Consult};
use tiershift_core::sample::Sample;
use tiershift_core::time::Timestamp;

use crate::exec::{ExecError, Program};
use crate::sim::queue::EventQueue;

/// Answers a policy's questions. The same questions must get the same answers, or a run cannot be repeated; its log can
/// be verified in any case.
pub trait Adviser {
    /// Returns the rung that should serve by the sample that the policy was shown at `now`, and after how long the
    /// answer arrives; `None` leaves the question open.
    ///
    /// # Errors
    /// When it can no longer be asked: the run ends.
    fn advise(
        &mut self,
        now: Timestamp,
        sample: &Sample,
        consult: &Consult,
    ) -> Result<Option<(Rung, Duration)>, ExecError>;
}

/// A program answers when it is asked: that takes no time of the run.
impl Adviser for Program {
    fn advise(
        &mut self,
        now: Timestamp,
        sample: &Sample,
        consult: &Consult,
    ) -> Result<Option<(Rung, Duration)>, ExecError> {
        let to = self.ask(now, sample, consult)?;
        Ok(Some((to.unwrap_or(consult.rung), Duration::ZERO)))
    }
}

/// The adviser of a run, and its answers on their way.
pub(super) struct Advised {
    adviser: Box<dyn Adviser>,
    /// The probe's last sample.
    sample: Sample,
    answers: EventQueue<Advice>,
    error: Option<ExecError>,
}

impl Advised {
    pub(super) fn new(adviser: Box<dyn Adviser>) -> Self {
        Self { adviser, sample: Sample::default(), answers: EventQueue::default(), error: None }
    }

    /// Takes the probe's sample.
    pub(super) fn see(&mut self, sample: &Sample) {
        self.sample.clone_from(sample);
    }

    /// Asks, unless the adviser can no longer be asked: the run ends after the moment at which that was noticed.
    pub(super) fn ask(&mut self, now: Timestamp, consult: &Consult) {
        if self.has_failed() {
            return;
        }
        match self.adviser.advise(now, &self.sample, consult) {
            Ok(Some((to, after))) => {
                self.answers.push(now + after, Advice { question: consult.question, to });
            }
            Ok(None) => {}
            Err(error) => self.error = Some(error),
        }
    }

    /// Returns why it can no longer be asked, if so.
    pub(super) fn take_error(&mut self) -> Option<ExecError> {
        self.error.take()
    }

    pub(super) fn has_failed(&self) -> bool {
        self.error.is_some()
    }

    pub(super) fn next_at(&self) -> Option<Timestamp> {
        self.answers.next_at()
    }

    /// Takes out the next answer that has arrived by `now`.
    pub(super) fn pop(&mut self, now: Timestamp) -> Option<Advice> {
        self.answers.pop(now).map(|(_, advice)| advice)
    }
}
