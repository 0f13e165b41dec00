//! The outside adviser that a policy may ask, and what follows from the answer.

use crate::controller::Controller;
use crate::event::{Advice, Output};
use crate::policy::Standing;
use crate::sample::Sample;
use crate::time::Timestamp;

impl Controller {
    /// Asks the policy's adviser about a sample, if the policy wants that.
    #[inline]
    pub(super) fn ask_adviser(&mut self, now: Timestamp, standing: &Standing, sample: &Sample) {
        if let Some(consult) = self.policy.consult(now, standing) {
            self.asked_about = Some(sample.clone());
            self.out.push_back(Output::Consult(consult));
        }
    }

    /// Takes an adviser's answer. If the last sample is of this moment, it is decided on again.
    pub(super) fn handle_advice(&mut self, now: Timestamp, advice: &Advice) {
        self.policy.advised(now, advice);
        let Some(whole) = self.asked_about.take().filter(|_| self.last_sample == Some(now)) else {
            return;
        };
        if !self.manager.is_stopping() {
            let share = self.ladders_share(&whole);
            self.decide(now, &whole, &share);
            self.note_setbacks(now);
        }
    }
}
