//! Faults that happen at a moment, once or repeatedly.

use std::time::Duration;

use tiershift_core::time::{Timestamp, nanos};
use tiershift_core::units::Percent;

use crate::sim::fault::{Fault, FaultKind};
use crate::sim::queue::EventQueue;
use crate::sim::rng::{Seed, Stream};

/// A fault at a moment.
#[derive(Clone, Debug)]
pub(super) enum Moment {
    /// The process of a model dies, or of every model.
    Crash(Option<String>),
    /// A GPU is lost, with its models.
    LoseGpu(u8),
    /// The machine sleeps.
    Suspend(Duration),
}

/// The moments to come.
#[derive(Clone, Debug)]
pub(super) struct Moments {
    queue: EventQueue<Coming>,
    recurring: Vec<Recurring>,
}

/// An entry of the queue.
#[derive(Clone, Debug)]
enum Coming {
    Once(Moment),
    /// The next of the recurring ones, by its number.
    Again(usize),
}

/// Recurring crashes.
#[derive(Clone, Debug)]
struct Recurring {
    model: Option<String>,
    every: Duration,
    jitter: Percent,
    until: Timestamp,
    probability: Percent,
    stream: Stream,
}

impl Moments {
    /// Draws which of the momentary faults happen, and removes those that do not from `faults`.
    pub(super) fn new(faults: &mut Vec<Fault>, seed: Seed) -> Self {
        let mut luck = seed.stream("moment.fault");
        let mut moments = Self { queue: EventQueue::default(), recurring: Vec::new() };
        faults.retain(|fault| {
            let happens = fault.probability >= Percent::ONE_HUNDRED
                || luck.happens(fault.probability.fraction());
            moments.take(fault, happens, seed)
        });
        moments
    }

    /// Takes a fault if it has moments, and returns whether it may happen.
    fn take(&mut self, fault: &Fault, happens: bool, seed: Seed) -> bool {
        match &fault.kind {
            FaultKind::Crash { model, every: Some(every), jitter } => {
                let number = self.recurring.len();
                let mut recurring = Recurring {
                    model: model.clone(),
                    every: every.0,
                    jitter: jitter.map_or(Percent::ZERO, Percent::from),
                    until: fault.until,
                    probability: fault.probability,
                    stream: seed.stream(&format!("moment.crash.{number}")),
                };
                self.queue.push(recurring.after(fault.at), Coming::Again(number));
                self.recurring.push(recurring);
                true
            }
            FaultKind::Crash { model, every: None, .. } if happens => {
                self.queue.push(fault.at, Coming::Once(Moment::Crash(model.clone())));
                true
            }
            FaultKind::Suspend { asleep } if happens => {
                self.queue.push(fault.at, Coming::Once(Moment::Suspend(asleep.0)));
                true
            }
            FaultKind::GpuLost { gpu, crash } if happens => {
                if *crash {
                    self.queue.push(fault.at, Coming::Once(Moment::LoseGpu(*gpu)));
                }
                true
            }
            FaultKind::Crash { .. } | FaultKind::Suspend { .. } | FaultKind::GpuLost { .. } => {
                false
            }
            _ => true,
        }
    }

    pub(super) fn next_at(&self) -> Option<Timestamp> {
        self.queue.next_at()
    }

    /// Takes out the next one that happens by `now`.
    pub(super) fn pop(&mut self, now: Timestamp) -> Option<Moment> {
        loop {
            let (at, coming) = self.queue.pop(now)?;
            let number = match coming {
                Coming::Once(moment) => return Some(moment),
                Coming::Again(number) => number,
            };
            let recurring = &mut self.recurring[number];
            if at >= recurring.until {
                continue;
            }
            let happens = recurring.probability >= Percent::ONE_HUNDRED
                || recurring.stream.happens(recurring.probability.fraction());
            let model = recurring.model.clone();
            self.queue.push(recurring.after(at), Coming::Again(number));
            if happens {
                return Some(Moment::Crash(model));
            }
        }
    }
}

impl Recurring {
    /// Returns the moment that follows one.
    fn after(&mut self, at: Timestamp) -> Timestamp {
        let most = self.every.as_secs_f64() * self.jitter.fraction();
        let spread = nanos(tiershift_core::time::from_secs_f64(2.0 * most));
        let drawn = Duration::from_nanos(self.stream.below(spread.saturating_add(1)));
        at + (self.every + drawn).saturating_sub(Duration::from_nanos(spread / 2))
    }
}

#[cfg(test)]
mod tests {
    use tiershift_core::time::SpanText;
    use tiershift_core::units::PercentText;

    use super::*;

    fn crash(jitter: Option<u32>, probability: u32) -> Fault {
        Fault {
            at: Timestamp::from_secs(100),
            until: Timestamp::from_secs(1000),
            probability: Percent::new(probability),
            kind: FaultKind::Crash {
                model: None,
                every: Some(SpanText(Duration::from_secs(100))),
                jitter: jitter.map(|percent| PercentText(Percent::new(percent))),
            },
        }
    }

    /// Returns the seconds of the crashes within an hour.
    fn seconds(fault: Fault, seed: u64) -> Vec<u64> {
        let mut moments = Moments::new(&mut vec![fault], Seed(seed));
        (0..3600).filter(|&second| moments.pop(Timestamp::from_secs(second)).is_some()).collect()
    }

    #[test]
    fn a_crash_comes_every_so_often_within_its_window() {
        assert_eq!(seconds(crash(None, 100), 1), [200, 300, 400, 500, 600, 700, 800, 900]);
        assert_eq!(seconds(crash(None, 0), 1), [0; 0]);
        let some = seconds(crash(None, 50), 1).len();
        assert!((1..8).contains(&some), "{some} of 8");
    }

    #[test]
    fn the_spans_between_crashes_vary_within_their_jitter() {
        let crashes = seconds(crash(Some(30), 100), 1);
        assert!(crashes.iter().all(|second| (100..1000).contains(second)), "{crashes:?}");
        let spans: Vec<u64> = crashes.windows(2).map(|pair| pair[1] - pair[0]).collect();
        assert!(spans.iter().all(|span| (69..=131).contains(span)), "{spans:?}");
        assert!(spans.iter().any(|&span| span != 100), "{spans:?}");
        assert_ne!(crashes, seconds(crash(Some(30), 100), 2), "another seed is other luck");
    }
}
