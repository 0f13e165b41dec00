//! The one loop that connects probe, controller and backend. The same code drives the simulation and the machine.
//!
//! At each moment the controller receives inputs one at a time and in a fixed order: the backend's answers, then a due
//! sample, then what users did, then a time-out. Every output is carried out before the next input is taken. The worlds
//! differ only in how they wait.

use crate::backend::Backend;
use crate::control::Control;
use crate::event::{Consult, EventRef, Input, Observe, OrderNews, Output};
use crate::probe::Probe;
use crate::request::{End, RequestId};
use crate::sample::Sample;
use crate::time::{Clock, Timestamp, earliest};

/// Everything outside the controller.
pub trait World: Clock + Probe + Backend {
    /// Returns when the next sample is due; `None` if there will be no more.
    fn next_sample(&self) -> Option<Timestamp>;

    /// Returns when the next request, hang-up or instruction comes, if known.
    fn next_input(&self) -> Option<Timestamp>;

    /// Takes out the next request, hang-up or instruction that has come by `now`.
    fn poll_input(&mut self, now: Timestamp) -> Option<Input>;

    /// Passes on a policy's question to an adviser, whose answer becomes an input. Most worlds have no adviser.
    fn consult(&mut self, _now: Timestamp, _consult: &Consult) {}

    /// Receives the outcome of an order. A simulated world has no use for it.
    fn ordered(&mut self, _news: &OrderNews) {}

    /// Receives the end of a request.
    fn ended(&mut self, now: Timestamp, request: RequestId, end: &End);
}

/// Runs until `until`, or until nothing is left to happen. `observer` observes everything in order.
///
/// # Errors
/// When there are so many inputs at one moment that it must be a mistake.
pub fn run<C: Control + ?Sized, W: World>(
    controller: &mut C,
    world: &mut W,
    until: Timestamp,
    observer: &mut (impl Observe + ?Sized),
) -> Result<Timestamp, Livelock> {
    let mut now = world.now();
    // One sample, filled again each time.
    let mut reading = Input::Sample(Sample::default());
    let mut crowd = EventBudget { at: now, events: 0 };
    loop {
        let due = earliest([
            world.next_sample(),
            world.next_input(),
            world.next_wakeup(),
            controller.poll_timeout(),
        ]);
        let Some(due) = due.filter(|&due| due <= until) else { break };
        now = world.wait_until(due.max(now));
        while let Some(outcome) = world.poll(now) {
            crowd.count(now)?;
            feed(controller, world, now, &Input::Outcome(outcome), observer);
        }
        if world.next_sample().is_some_and(|due| due <= now) {
            crowd.count(now)?;
            feed_sample(controller, world, now, &mut reading, observer);
        }
        while let Some(input) = world.poll_input(now) {
            crowd.count(now)?;
            if matches!(input, Input::Request(_)) && controller.wants_sample(now, true) {
                feed_sample(controller, world, now, &mut reading, observer);
            }
            feed(controller, world, now, &input, observer);
        }
        if controller.poll_timeout().is_some_and(|due| due <= now) {
            crowd.count(now)?;
            feed(controller, world, now, &Input::Timeout, observer);
        }
        if controller.wants_sample(now, false) {
            crowd.count(now)?;
            feed_sample(controller, world, now, &mut reading, observer);
        }
    }
    if until != Timestamp::MAX {
        now = world.wait_until(until.max(now));
    }
    Ok(now)
}

fn feed_sample<C: Control + ?Sized, W: World>(
    controller: &mut C,
    world: &mut W,
    now: Timestamp,
    reading: &mut Input,
    observer: &mut (impl Observe + ?Sized),
) {
    let Input::Sample(sample) = reading else { return };
    match world.sample_into(now, sample) {
        Ok(()) => feed(controller, world, now, reading, observer),
        Err(error) => {
            let missing = Input::SampleMissing { error: error.to_string() };
            feed(controller, world, now, &missing, observer);
        }
    }
}

fn feed<C: Control + ?Sized, W: World>(
    controller: &mut C,
    world: &mut W,
    now: Timestamp,
    input: &Input,
    observer: &mut (impl Observe + ?Sized),
) {
    observer.observe(now, EventRef::Input(input));
    controller.handle(now, input);
    while let Some(output) = controller.poll_output() {
        observer.observe(now, EventRef::Output(&output));
        match &output {
            Output::Command(command) => world.submit(now, command),
            Output::Ended { request, end } => world.ended(now, *request, end),
            Output::Consult(consult) => world.consult(now, consult),
            Output::Order { news, .. } => world.ordered(news),
            Output::Decision(_)
            | Output::Accepted { .. }
            | Output::Companion { .. }
            | Output::Serving { .. }
            | Output::Switched { .. }
            | Output::Notice(_) => {}
        }
    }
}

/// Counts the inputs at one moment, to distinguish a livelock from a busy moment.
struct EventBudget {
    at: Timestamp,
    events: u32,
}

impl EventBudget {
    fn count(&mut self, now: Timestamp) -> Result<(), Livelock> {
        if now != self.at {
            *self = Self { at: now, events: 0 };
        }
        self.events += 1;
        if self.events > MOST_EVENTS_AT_ONCE { Err(Livelock { at: now }) } else { Ok(()) }
    }
}

/// Too much happened at one moment.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error(
    "more than {MOST_EVENTS_AT_ONCE} inputs at {} s of the run: a livelock, or a workload that puts all its requests at one moment",
    at.as_secs_f64()
)]
pub struct Livelock {
    at: Timestamp,
}

/// The bound on inputs at one moment (invariant L4). A burst of 100,000 requests at once is a workload; ten
/// times that is a mistake.
const MOST_EVENTS_AT_ONCE: u32 = 1_000_000;
