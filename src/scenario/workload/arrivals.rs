//! Draws the requests of all workloads, in one total order.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, VecDeque};
use std::f64::consts::TAU;
use std::sync::Arc;
use std::time::Duration;

use super::{Arrivals, Rate, Recorded, Workload};
use crate::request::{Request, RequestId};
use crate::rng::{Seed, Stream};
use crate::time::{Timestamp, from_secs_f64, nanos};

/// All workloads of a scenario, as one stream of arrivals.
///
/// The order is total: by time; at one moment clients hang up before new requests come, requests come in the
/// order of the workloads, users of one workload in their order. Requests are numbered from 1 in that order.
#[derive(Clone, Debug)]
pub struct Workloads {
    sources: Vec<Source>,
    hang_ups: BinaryHeap<Reverse<(Timestamp, RequestId)>>,
    /// Requests that have not ended and whose client will hang up.
    will_hang_up: BTreeSet<RequestId>,
    /// Requests that a user of a closed loop waits for: the workload and the user.
    awaited: BTreeMap<RequestId, (usize, usize)>,
    next_id: u64,
}

/// What happens at a moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Arrival {
    /// A request comes.
    Request(Request),
    /// A client hangs up on its request.
    HangUp(RequestId),
}

#[derive(Clone, Debug)]
struct Source {
    spec: Workload,
    next: Option<Timestamp>,
    timing: Timing,
    sizes: Stream,
    cancels: Stream,
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

/// A user's own streams: what a user does next does not depend on how fast others are served.
#[derive(Clone, Debug)]
struct User {
    thoughts: Stream,
    sizes: Stream,
}

impl Workloads {
    /// Prepares the arrivals of these workloads.
    pub fn new(workloads: &[Workload], seed: Seed) -> Self {
        let sources =
            workloads.iter().enumerate().map(|(i, spec)| Source::new(spec, i, seed)).collect();
        Self {
            sources,
            hang_ups: BinaryHeap::new(),
            will_hang_up: BTreeSet::new(),
            awaited: BTreeMap::new(),
            next_id: 1,
        }
    }

    /// Returns when the next arrival is due; `None` when none will come unless a request ends.
    pub fn next_at(&self) -> Option<Timestamp> {
        let hang_up = self.hang_ups.peek().map(|Reverse((at, _))| *at);
        self.sources.iter().filter_map(|source| source.next).chain(hang_up).min()
    }

    /// Returns the next arrival that is due by `now`.
    pub fn pop(&mut self, now: Timestamp) -> Option<Arrival> {
        let at = self.next_at().filter(|at| *at <= now)?;
        if let Some(&Reverse((due, id))) = self.hang_ups.peek()
            && due == at
        {
            self.hang_ups.pop();
            self.will_hang_up.remove(&id);
            self.forget_ended_hang_ups();
            return Some(Arrival::HangUp(id));
        }
        let place = self.sources.iter().position(|source| source.next == Some(at))?;
        let id = RequestId(self.next_id);
        self.next_id += 1;
        let source = &mut self.sources[place];
        let (request, user) = source.take(id);
        let hangs_up = source.spec.cancel > crate::units::Percent::ZERO
            && source.cancels.happens(source.spec.cancel.fraction());
        if hangs_up {
            self.hang_ups.push(Reverse((at + source.spec.cancel_after, id)));
            self.will_hang_up.insert(id);
        }
        if let Some(user) = user {
            self.awaited.insert(id, (place, user));
        }
        Some(Arrival::Request(request))
    }

    /// Tells that a request has ended, in whatever way. A user of a closed loop begins to think; a client no
    /// longer hangs up.
    pub fn ended(&mut self, now: Timestamp, id: RequestId) {
        if self.will_hang_up.remove(&id) {
            self.forget_ended_hang_ups();
        }
        if let Some((place, user)) = self.awaited.remove(&id) {
            self.sources[place].think(now, user);
        }
    }

    /// Keeps the top of the heap a client that still waits, so that `next_at` needs no change of state.
    fn forget_ended_hang_ups(&mut self) {
        while let Some(Reverse((_, id))) = self.hang_ups.peek()
            && !self.will_hang_up.contains(id)
        {
            self.hang_ups.pop();
        }
    }
}

impl Source {
    fn new(spec: &Workload, place: usize, seed: Seed) -> Self {
        let label = |purpose: &str| format!("workload.{place}.{purpose}");
        let stream = seed.stream(&label("arrivals"));
        let gap = |rate: &Rate| 1.0 / rate.per_second();
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
    fn take(&mut self, id: RequestId) -> (Request, Option<usize>) {
        let at = self.next.expect("only a source with an arrival is asked for it");
        let mut user = None;
        let (prompt_tokens, output_tokens) = match &mut self.timing {
            Timing::ClosedLoop { users, due, .. } => {
                let Reverse((_, place)) = due.pop().expect("the next arrival is on the heap");
                user = Some(place);
                let sizes = &mut users[place].sizes;
                (self.spec.prompt_tokens.draw(sizes), self.spec.output_tokens.draw(sizes))
            }
            Timing::Trace { recorded, index, .. } => {
                let request = recorded[*index];
                (request.prompt_tokens, request.output_tokens)
            }
            _ => (
                self.spec.prompt_tokens.draw(&mut self.sizes),
                self.spec.output_tokens.draw(&mut self.sizes),
            ),
        };
        match &mut self.timing {
            Timing::Fixed { index, .. } | Timing::Trace { index, .. } => *index += 1,
            Timing::Burst { due, .. } => drop(due.pop_front()),
            Timing::Poisson { .. } | Timing::DayNight { .. } | Timing::ClosedLoop { .. } => {}
        }
        self.advance(at);
        let request = Request {
            id,
            prompt_tokens,
            output_tokens,
            task: self.spec.task,
            target: self.spec.target.clone(),
            priority: self.spec.priority,
            patience: self.spec.patience,
        };
        (request, user)
    }

    /// Finds the arrival after `now`.
    fn advance(&mut self, now: Timestamp) {
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

    /// A user has a reply and thinks about the next request.
    fn think(&mut self, now: Timestamp, user: usize) {
        if let Timing::ClosedLoop { think, users, due } = &mut self.timing {
            let thought = from_secs_f64(users[user].thoughts.exponential(*think));
            due.push(Reverse((now + thought, user)));
        }
        self.advance(now);
    }
}

/// Returns the next arrival of a Poisson process whose rate is a cosine, by thinning: candidates come at the
/// highest rate, and each is kept with the probability that the present rate bears to it.
///
/// # Source
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
pub(in crate::scenario) fn lap(recorded: &[Recorded]) -> Duration {
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
