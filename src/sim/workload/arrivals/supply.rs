//! The requests of one workload, drawn one after another.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::f64::consts::TAU;
use std::sync::Arc;
use std::time::Duration;

use tiershift_core::model::Task;
use tiershift_core::request::{Request, RequestId, Target};
use tiershift_core::time::{Timestamp, from_secs_f64, nanos};

use crate::sim::rng::{Seed, Stream};
use crate::sim::workload::{ArrivalRate, Arrivals, Recorded, Workload};

/// A workload and its present position.
#[derive(Clone, Debug)]
pub(super) struct Supply {
    pub(super) spec: Workload,
    pub(super) next: Option<Timestamp>,
    timing: Timing,
    sizes: Stream,
    pub(super) cancels: Stream,
}

/// What a source needs to know to find its next arrival.
#[derive(Clone, Debug)]
enum Timing {
    Poisson {
        gap: f64,
        stream: Stream,
    },
    Burst {
        count: u32,
        every: Duration,
        spread: Duration,
        begins: Timestamp,
        due: VecDeque<Timestamp>,
        stream: Stream,
    },
    DayNight {
        night: f64,
        day: f64,
        period: Duration,
        stream: Stream,
    },
    ClosedLoop {
        think: f64,
        users: Vec<User>,
        due: BinaryHeap<Reverse<(Timestamp, usize)>>,
    },
    Fixed {
        times: Vec<Timestamp>,
        index: usize,
    },
    Trace {
        recorded: Arc<[Recorded]>,
        lap: Option<Duration>,
        speed: f64,
        began: Timestamp,
        index: usize,
    },
}

/// A user's own streams: a user's next step does not depend on how fast others are served.
#[derive(Clone, Debug)]
struct User {
    thoughts: Stream,
    sizes: Stream,
}

impl Workload {
    /// Returns a request of this workload, with random lengths.
    fn draw(&self, id: RequestId, sizes: &mut Stream) -> Request {
        Request {
            id,
            prompt_tokens: self.prompt_tokens.draw(sizes),
            prompt_estimated: false,
            output_tokens: self.output_tokens.draw(sizes),
            task: self.task,
            target: self.target.clone(),
            priority: self.priority,
            client: self.client,
            patience: self.patience,
            connected: self.connected,
        }
    }

    /// Returns a recorded request; the workload overrides the trace.
    fn replay(&self, id: RequestId, recorded: &Request) -> Request {
        let mut request = Request { id, ..recorded.clone() };
        if self.task != Task::default() {
            request.task = self.task;
        }
        if self.target != Target::default() {
            request.target = self.target.clone();
        }
        if self.priority != 0 {
            request.priority = self.priority;
        }
        request.client = self.client.or(request.client);
        request.patience = self.patience.or(request.patience);
        request
    }
}

impl Supply {
    pub(super) fn new(spec: &Workload, place: usize, seed: Seed) -> Self {
        let label = |purpose: &str| format!("workload.{place}.{purpose}");
        let stream = seed.stream(&label("arrivals"));
        let gap = |rate: &ArrivalRate| 1.0 / rate.per_second();
        let timing = match &spec.arrivals {
            Arrivals::Poisson { rate } => Timing::Poisson { gap: gap(rate), stream },
            Arrivals::Burst { count, every, spread } => Timing::Burst {
                count: *count,
                every: every.0,
                spread: spread.0,
                begins: spec.at,
                due: VecDeque::new(),
                stream,
            },
            Arrivals::DayNight { night, day, period } => Timing::DayNight {
                night: night.per_second(),
                day: day.per_second(),
                period: period.0,
                stream,
            },
            Arrivals::ClosedLoop { users, think } => {
                let think = think.0.as_secs_f64();
                let mut users: Vec<User> = (0..*users)
                    .map(|user| User {
                        thoughts: seed.stream(&label(&format!("user.{user}.thoughts"))),
                        sizes: seed.stream(&label(&format!("user.{user}.sizes"))),
                    })
                    .collect();
                let first = |(i, user): (usize, &mut User)| {
                    Reverse((spec.at + from_secs_f64(user.thoughts.exponential(think)), i))
                };
                let due = users.iter_mut().enumerate().map(first).collect();
                Timing::ClosedLoop { think, users, due }
            }
            Arrivals::Fixed { times } => {
                let mut times: Vec<Timestamp> = times.iter().map(|t| spec.at + t.0).collect();
                times.sort_unstable();
                Timing::Fixed { times, index: 0 }
            }
            Arrivals::Trace { repeat, speed, .. } => {
                let recorded = spec.recorded.clone().unwrap_or_default();
                Timing::Trace {
                    lap: repeat.then(|| lap(&recorded)),
                    recorded,
                    speed: *speed,
                    began: spec.at,
                    index: 0,
                }
            }
        };
        let mut source = Self {
            spec: spec.clone(),
            next: None,
            timing,
            sizes: seed.stream(&label("sizes")),
            cancels: seed.stream(&label("cancels")),
        };
        source.advance(spec.at);
        source
    }

    /// Takes the arrival that is due and finds the next one.
    pub(super) fn take(&mut self, id: RequestId) -> (Request, Option<usize>) {
        let at = self.next.expect("only a source with an arrival is asked for it");
        let mut user = None;
        let request = match &mut self.timing {
            Timing::ClosedLoop { users, due, .. } => {
                let Reverse((_, place)) = due.pop().expect("the next arrival is on the heap");
                user = Some(place);
                self.spec.draw(id, &mut users[place].sizes)
            }
            Timing::Trace { recorded, index, .. } => {
                self.spec.replay(id, &recorded[*index].request)
            }
            Timing::Poisson { .. }
            | Timing::Burst { .. }
            | Timing::DayNight { .. }
            | Timing::Fixed { .. } => self.spec.draw(id, &mut self.sizes),
        };
        match &mut self.timing {
            Timing::Fixed { index, .. } | Timing::Trace { index, .. } => *index += 1,
            Timing::Burst { due, .. } => drop(due.pop_front()),
            Timing::Poisson { .. } | Timing::DayNight { .. } | Timing::ClosedLoop { .. } => {}
        }
        self.advance(at);
        (request, user)
    }

    /// Finds the arrival after `now`.
    pub(super) fn advance(&mut self, now: Timestamp) {
        let at = self.spec.at;
        let until = self.spec.until;
        self.next = match &mut self.timing {
            Timing::Poisson { gap, stream } => Some(now + from_secs_f64(stream.exponential(*gap))),
            Timing::Burst { count, every, spread, begins, due, stream } => {
                if due.is_empty() && *begins < until {
                    let mut burst: Vec<Timestamp> = (0..*count)
                        .map(|_| *begins + Duration::from_nanos(stream.below(nanos(*spread) + 1)))
                        .collect();
                    burst.sort_unstable();
                    due.extend(burst);
                    *begins += *every;
                }
                due.front().copied()
            }
            Timing::DayNight { night, day, period, stream } => {
                thinned(now, at, until, *night, *day, *period, stream)
            }
            Timing::ClosedLoop { due, .. } => due.peek().map(|Reverse((due, _))| *due),
            Timing::Fixed { times, index } => times.get(*index).copied(),
            Timing::Trace { recorded, lap, speed, began, index } => {
                if *index == recorded.len()
                    && let Some(lap) = lap
                {
                    *index = 0;
                    *began += scaled(*lap, *speed);
                }
                recorded.get(*index).map(|r| *began + scaled(r.at.since(Timestamp::ZERO), *speed))
            }
        }
        .filter(|next| *next < until);
    }

    /// Notes that a user has a reply and thinks about the next request.
    pub(super) fn think(&mut self, now: Timestamp, user: usize) {
        if let Timing::ClosedLoop { think, users, due } = &mut self.timing {
            let thought = from_secs_f64(users[user].thoughts.exponential(*think));
            due.push(Reverse((now + thought, user)));
        }
        self.advance(now);
    }
}

/// Returns the next arrival of a Poisson process whose rate is a cosine, by thinning: candidates come at the highest
/// rate, and each is kept with a probability equal to the ratio of the present rate to it.
///
/// # Supply
/// Lewis and Shedler, Simulation of nonhomogeneous Poisson processes by thinning, 1979.
fn thinned(
    now: Timestamp,
    at: Timestamp,
    until: Timestamp,
    night: f64,
    day: f64,
    period: Duration,
    stream: &mut Stream,
) -> Option<Timestamp> {
    let mut candidate = now;
    while candidate < until {
        candidate += from_secs_f64(stream.exponential(1.0 / day));
        let turn = candidate.since(at).as_secs_f64() / period.as_secs_f64();
        let rate = night + (day - night) * (1.0 - libm::cos(TAU * turn)) / 2.0;
        if stream.happens(rate / day) {
            return Some(candidate);
        }
    }
    None
}

/// Returns how long a trace lasts until it begins again: its own length and one mean gap.
pub(crate) fn lap(recorded: &[Recorded]) -> Duration {
    let last = recorded.last().map_or(Duration::ZERO, |request| request.at.since(Timestamp::ZERO));
    let gaps = u32::try_from(recorded.len().saturating_sub(1)).unwrap_or(u32::MAX).max(1);
    last + (last / gaps).max(SHORTEST_LAP)
}

fn scaled(span: Duration, speed: f64) -> Duration {
    match speed == 1.0 {
        true => span,
        false => from_secs_f64(span.as_secs_f64() / speed),
    }
}

/// A trace of one request, looped, must not stand still.
const SHORTEST_LAP: Duration = Duration::from_millis(1);
