//! The pure half of a policy whose answers come from outside: what it asks, the last advice, and how long that holds.
//!
//! A policy does no I/O and waits for nothing. It asks with [`Output::Consult`](crate::event::Output::Consult), and the
//! world returns the answer as [`Input::Advice`](crate::event::Input::Advice) when there is one. An answer counts once:
//! for the sample that it was asked about if it comes at that moment, or else for the next one. Its age is that of its
//! question: past `max-age` it changes nothing. The log contains the answers, so that a run can be verified without the
//! adviser.

use std::collections::VecDeque;
use std::time::Duration;

use serde::Deserialize;

use crate::catalog::{Catalog, Rung};
use crate::decision::{Code, Decision, Measure, Reason, Urgency};
use crate::demand::Demand;
use crate::event::{Advice, Consult};
use crate::place::{Ladder, Projection};
use crate::policy::{Observation, Policy, PolicyError, Standing};
use crate::settings::{Options, Settings};
use crate::time::{SpanText, Timestamp, nanos};

/// Follows an outside adviser. It leaves a space that is over its limit without asking.
///
/// The adviser is a program of the user's (`exec`) or, registered under another name, whatever the world consults.
#[derive(Debug)]
pub struct External {
    ladder: Ladder,
    max_age: Duration,
    questions: u64,
    /// The questions without an answer, and when each was asked.
    open: VecDeque<(u64, Timestamp)>,
    /// The last answer, when its question was asked, and whether it has yet to be used.
    advice: Option<(Rung, Timestamp)>,
    is_new: bool,
    /// The demand on the models at the last sample.
    demand: Demand,
}

/// Options of a policy whose answers come from outside.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct ExternalOptions {
    /// Age past which an answer is stale. Default `stale-after`.
    pub max_age: Option<SpanText>,
    /// The command line of the program that answers, for `exec`.
    pub command: Option<String>,
    /// How long that program may take for one answer. Default `10s`.
    pub time_limit: Option<SpanText>,
}

impl External {
    /// Hold: there is no answer yet.
    pub const NO_ADVICE: Code = Code::new("no-advice");
    /// Hold: the last answer is to a question that was asked too long ago.
    pub const STALE_ADVICE: Code = Code::new("stale-advice");
    /// Change or hold: the adviser's answer.
    pub const ADVISED: Code = Code::new("advised");

    /// Builds the policy. Its options are [`ExternalOptions`].
    ///
    /// # Errors
    /// When there are other options.
    pub fn build(
        settings: &Settings,
        catalog: &Catalog,
        options: &Options,
    ) -> Result<Box<dyn Policy>, PolicyError> {
        let ExternalOptions { max_age, .. } = options.read()?;
        Ok(Box::new(Self {
            ladder: Ladder::new(settings, catalog),
            max_age: max_age.map_or(settings.stale_after, Duration::from),
            questions: 0,
            open: VecDeque::new(),
            advice: None,
            is_new: false,
            demand: Demand::NONE,
        }))
    }
}

impl Policy for External {
    fn observe(&mut self, now: Timestamp, seen: &Observation<'_>) -> Decision {
        let Observation { sample, standing, demand } = *seen;
        self.demand = *demand;
        if standing.switching {
            return standing.hold(Reason::Switching);
        }
        if let Some(Projection { resource, gpu, projected: used, limit, .. }) =
            self.ladder.overrun(sample)
            && standing.rung != Rung::NONE
        {
            let reason = Reason::AboveDegradeLine { resource, gpu, used, limit };
            let to = self.ladder.highest_fitting_below(sample, standing.rung);
            return standing.down(to, Urgency::Immediate, reason);
        }
        let Some((to, asked)) = self.advice else {
            return standing.hold(Reason::own(Self::NO_ADVICE));
        };
        let age = now.since(asked);
        let is_stale = age > self.max_age;
        let reason = Reason::Own {
            code: if is_stale { Self::STALE_ADVICE } else { Self::ADVISED },
            resource: None,
            value: Some(Measure::Nanos(nanos(age))),
            limit: Some(Measure::Nanos(nanos(self.max_age))),
            lasted: None,
        };
        if is_stale || to == standing.rung || !std::mem::take(&mut self.is_new) {
            standing.hold(reason)
        } else if to > standing.rung {
            standing.up(to, reason)
        } else {
            standing.down(to, Urgency::Graceful, reason)
        }
    }

    /// Asks again when the last question is answered, or is older than an answer may be.
    fn consult(&mut self, now: Timestamp, standing: &Standing) -> Option<Consult> {
        if self.open.back().is_some_and(|&(_, asked)| now.since(asked) <= self.max_age) {
            return None;
        }
        self.questions += 1;
        if self.open.len() == MOST_OPEN {
            self.open.pop_front();
        }
        self.open.push_back((self.questions, now));
        let Standing { rung, switching, .. } = *standing;
        let Demand { running, waiting, refused, .. } = self.demand;
        Some(Consult { question: self.questions, rung, switching, running, waiting, refused })
    }

    fn advised(&mut self, _now: Timestamp, advice: &Advice) {
        let is_it = |&(question, _): &(u64, Timestamp)| question == advice.question;
        let Some(index) = self.open.iter().position(is_it) else { return };
        // Answers to earlier questions come too late to matter.
        if let Some((_, asked)) = self.open.drain(..=index).next_back() {
            self.advice = Some((advice.to.min(self.ladder.top()), asked));
            self.is_new = true;
        }
    }

    fn codes(&self) -> &'static [Code] {
        &[Self::NO_ADVICE, Self::STALE_ADVICE, Self::ADVISED]
    }
}

/// Chosen: an adviser that leaves this many questions open will not answer them any more.
const MOST_OPEN: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::MachineClass;
    use crate::sample::{Sample, Space};
    use crate::settings::RawSettings;
    use crate::units::Bytes;

    /// An external policy on a machine of 16 GiB; advice holds for ten seconds.
    fn external() -> Box<dyn Policy> {
        let settings = Settings::new(RawSettings::default(), MachineClass::MidRange).unwrap();
        let catalog = Catalog::relative_to(Bytes::from_gib(16));
        External::build(&settings, &catalog, &Options::default()).unwrap()
    }

    /// Shows the policy a sample in which others use so many GiB, and returns what it decides and asks.
    fn observe(policy: &mut dyn Policy, second: u64, others: u64) -> (String, Option<u64>) {
        let (now, standing) = (Timestamp::from_secs(second), Standing::at(Rung(1)));
        let [total, others, own] = [16, others, 2].map(Bytes::from_gib);
        let memory = Some(Space { total, others, own });
        let sample = Sample { memory, ..Sample::default() };
        let decision = policy.observe(now, &Observation::new(&sample, &standing));
        let asked = policy.consult(now, &standing).map(|consult| consult.question);
        (format!("{:?} {}", decision.action, decision.reason.kind()), asked)
    }

    fn advise(policy: &mut dyn Policy, question: u64, to: u8) {
        policy.advised(Timestamp::ZERO, &Advice { question, to: Rung(to) });
    }

    #[test]
    fn advice_is_followed_until_its_question_is_too_old() {
        let policy = &mut *external();
        assert_eq!(observe(policy, 0, 4), ("Hold no-advice".to_owned(), Some(1)));
        assert_eq!(observe(policy, 2, 4), ("Hold no-advice".to_owned(), None), "one at a time");
        advise(policy, 1, 200);
        let up = "Upgrade { to: Rung(3) } advised".to_owned();
        assert_eq!(observe(policy, 10, 4), (up, Some(2)), "to the top at most");
        assert_eq!(observe(policy, 11, 4), ("Hold stale-advice".to_owned(), None));
        assert_eq!(observe(policy, 21, 4), ("Hold stale-advice".to_owned(), Some(3)));
        advise(policy, 2, 0);
        assert_eq!(observe(policy, 22, 4), ("Hold stale-advice".to_owned(), None), "a late answer");
        advise(policy, 3, 1);
        assert_eq!(observe(policy, 23, 4), ("Hold advised".to_owned(), Some(4)));
        advise(policy, 77, 3);
        assert_eq!(observe(policy, 24, 4), ("Hold advised".to_owned(), None), "never asked");
    }

    #[test]
    fn a_full_machine_is_left_without_advice() {
        let policy = &mut *external();
        let down = "Downgrade { to: Rung(0), urgency: Immediate } above-degrade-line";
        assert_eq!(observe(policy, 0, 13).0, down);
    }
}
