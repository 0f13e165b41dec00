//! Draws the requests of all workloads, in one total order.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, VecDeque};
use std::f64::consts::TAU;
use std::sync::Arc;
use std::time::Duration;

use tiershift_core::model::Task;
use tiershift_core::request::{Request, RequestId, Target};
use tiershift_core::time::{Timestamp, earliest, from_secs_f64, nanos};

use super::{Arrivals, Rate, Recorded, Workload};
use crate::sim::rng::{Seed, Stream};

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
    #[inline]
    pub fn next_at(&self) -> Option<Timestamp> {
        let hang_up = self.hang_ups.peek().map(|Reverse((at, _))| *at);
        self.sources.iter().fold(hang_up, |first, source| earliest([first, source.next]))
    }

    /// Returns the next arrival that is due by `now`.
    #[inline]
    pub fn pop(&mut self, now: Timestamp) -> Option<Arrival> {
        let at = self.next_at().filter(|at| *at <= now)?;
        self.pop_due(at)
    }

    fn pop_due(&mut self, at: Timestamp) -> Option<Arrival> {
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
        let hangs_up = source.spec.cancel > tiershift_core::units::Percent::ZERO
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

impl Workload {
    /// Returns a request of this workload, its lengths drawn.
    fn draw(&self, id: RequestId, sizes: &mut Stream) -> Request {
        Request {
            id,
            prompt_tokens: self.prompt_tokens.draw(sizes),
            output_tokens: self.output_tokens.draw(sizes),
            task: self.task,
            target: self.target.clone(),
            priority: self.priority,
            patience: self.patience,
        }
    }

    /// Returns a recorded request; what the workload says goes before what the trace says.
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
        request.patience = self.patience.or(request.patience);
        request
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

#[cfg(test)]
mod tests {
    use std::path::Path;

    use tiershift_core::policy::Registry;

    use super::*;
    use crate::scenario::Scenario;

    fn scenario(tables: &str) -> Scenario {
        let text = format!("duration = \"24h\"\n[machine]\nmemory = \"16GiB\"\n{tables}");
        crate::scenario::parse(&text, "w.toml", Path::new(""), &Registry::built_in())
            .unwrap_or_else(|e| panic!("{e}"))
    }

    /// Returns all arrivals with their moments; every request ends `served` after it came.
    fn all(tables: &str, served: Duration) -> Vec<(Timestamp, Arrival)> {
        let mut workloads = scenario(tables).arrivals();
        let mut ends: VecDeque<(Timestamp, RequestId)> = VecDeque::new();
        let mut seen = Vec::new();
        loop {
            let next = workloads.next_at();
            let end = ends.front().copied();
            match (next, end) {
                (_, Some((at, id))) if next.is_none_or(|next| at <= next) => {
                    ends.pop_front();
                    workloads.ended(at, id);
                }
                (Some(at), _) => {
                    assert!(seen.last().is_none_or(|(last, _)| *last <= at), "time runs forwards");
                    let arrival = workloads.pop(at).expect("it is due");
                    if let Arrival::Request(request) = &arrival {
                        ends.push_back((at + served, request.id));
                    }
                    seen.push((at, arrival));
                }
                (None, None) => return seen,
                (None, Some(_)) => unreachable!("an end is taken when nothing else comes"),
            }
        }
    }

    fn times(tables: &str) -> Vec<f64> {
        all(tables, Duration::from_secs(1)).iter().map(|(at, _)| at.as_secs_f64()).collect()
    }

    #[test]
    fn poisson_arrivals_have_their_rate_and_no_memory() {
        let times = times("[[workload]]\nkind = \"poisson\"\nrate = \"6/min\"");
        assert!((times.len() as f64 / 8640.0 - 1.0).abs() < 0.03, "{} arrivals", times.len());
        let gaps: Vec<f64> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
        let mean = gaps.iter().sum::<f64>() / gaps.len() as f64;
        let squares = gaps.iter().map(|gap| gap * gap).sum::<f64>() / gaps.len() as f64;
        let spread = libm::sqrt(squares - mean * mean) / mean;
        assert!((spread - 1.0).abs() < 0.04, "coefficient of variation {spread}, want 1");
    }

    #[test]
    fn day_and_night_have_their_own_rates() {
        let times = times("[[workload]]\nkind = \"day-night\"\nnight = \"10/h\"\nday = \"600/h\"");
        let within = |from: f64, to: f64| {
            times.iter().filter(|at| (from * 3600.0..to * 3600.0).contains(*at)).count() as f64
        };
        let all = 24.0 * 305.0;
        assert!((times.len() as f64 / all - 1.0).abs() < 0.04, "{} of {all}", times.len());
        // One hour around noon, and one after midnight, by the integral of the cosine.
        assert!((within(11.5, 12.5) / 598.6 - 1.0).abs() < 0.12, "{} at noon", within(11.5, 12.5));
        assert!((5.0..25.0).contains(&within(0.0, 1.0)), "{} at night", within(0.0, 1.0));
    }

    #[test]
    fn bursts_come_at_once_or_spread() {
        let table = "[[workload]]\nkind = \"burst\"\ncount = 3\nevery = \"10h\"\nat = \"1h\"";
        assert_eq!(times(table), [1, 1, 1, 11, 11, 11, 21, 21, 21].map(|h| f64::from(h * 3600)));
        let spread = times(&format!("{table}\nspread = \"1m\""));
        assert_eq!(spread.len(), 9);
        assert!(spread[..3].iter().all(|at| (3600.0..=3660.0).contains(at)), "{spread:?}");
        assert!(spread[0] < spread[2], "{spread:?}");
    }

    #[test]
    fn fixed_arrivals_are_sorted_and_cut_at_the_window() {
        let table = "[[workload]]\nkind = \"fixed\"\ntimes = [\"9s\", \"1s\", \"20s\"]\nat = \"5s\"\nuntil = \"20s\"";
        assert_eq!(times(table), [6.0, 14.0]);
    }

    #[test]
    fn users_of_a_closed_loop_wait_for_their_reply() {
        let table = "[[workload]]\nkind = \"closed-loop\"\nusers = 3\nthink = \"50s\"";
        for (served, want) in [(10, 3.0 * 86400.0 / 60.0), (450, 3.0 * 86400.0 / 500.0)] {
            let seen = all(table, Duration::from_secs(served));
            let got = seen.len() as f64;
            assert!((got / want - 1.0).abs() < 0.07, "{got} requests at {served} s, want {want}");
        }
        let mut workloads = scenario(table).arrivals();
        let mut open = 0;
        while let Some(at) = workloads.next_at() {
            workloads.pop(at);
            open += 1;
        }
        assert_eq!(open, 3, "without an end nobody asks twice");
    }

    #[test]
    fn clients_hang_up_once_and_only_on_what_has_not_ended() {
        let table = "[[workload]]\nkind = \"poisson\"\nrate = \"6/min\"\ncancel = \"50%\"\ncancel-after = \"2s\"";
        let hang_ups = |served| {
            let seen = all(table, Duration::from_secs(served));
            let hung: Vec<RequestId> = seen
                .iter()
                .filter_map(|(_, arrival)| match arrival {
                    Arrival::HangUp(id) => Some(*id),
                    Arrival::Request(_) => None,
                })
                .collect();
            assert_eq!(hung.iter().collect::<BTreeSet<_>>().len(), hung.len());
            hung.len() as f64 / (seen.len() - hung.len()) as f64
        };
        let share = hang_ups(5);
        assert!((share - 0.5).abs() < 0.02, "{share} hang up");
        assert!(hang_ups(1) == 0.0, "replies after a second leave nobody waiting");
    }

    #[test]
    fn the_order_is_total_and_ids_count_from_one() {
        let tables = "[[workload]]\nkind = \"fixed\"\ntimes = [\"1s\", \"1s\"]\nprompt-tokens = 11\ncancel = \"100%\"\n\
             [[workload]]\nkind = \"fixed\"\ntimes = [\"1s\", \"3s\"]\nprompt-tokens = 22";
        let seen = all(tables, Duration::from_secs(60));
        let told: Vec<String> = seen
            .iter()
            .map(|(at, arrival)| match arrival {
                Arrival::Request(r) => {
                    format!("{} {} of {}", at.as_secs_f64(), r.id, r.prompt_tokens)
                }
                Arrival::HangUp(id) => format!("{} hangs up {id}", at.as_secs_f64()),
            })
            .collect();
        let want = [
            "1 #1 of 11",
            "1 #2 of 11",
            "1 #3 of 22",
            "3 hangs up #1",
            "3 hangs up #2",
            "3 #4 of 22",
        ];
        assert_eq!(told, want);
    }

    #[test]
    fn another_workload_moves_no_arrival_of_the_first() {
        let one = "[[workload]]\nkind = \"poisson\"\nrate = \"1/min\"\nprompt-tokens = [1, 100]";
        let two = format!(
            "{one}\n[[workload]]\nkind = \"poisson\"\nrate = \"1/min\"\nprompt-tokens = 999"
        );
        let strip = |seen: Vec<(Timestamp, Arrival)>| -> Vec<(Timestamp, u32)> {
            let requests = seen.into_iter().filter_map(|(at, arrival)| match arrival {
                Arrival::Request(request) => Some((at, request.prompt_tokens)),
                Arrival::HangUp(_) => None,
            });
            requests.filter(|(_, prompt)| *prompt != 999).collect()
        };
        let second = Duration::from_secs(1);
        assert_eq!(strip(all(one, second)), strip(all(&two, second)));
    }

    #[test]
    fn lengths_follow_their_distribution() {
        let table = "[[workload]]\nkind = \"poisson\"\nrate = \"6/min\"\nprompt-tokens = { median = 400, shape = 0.8, max = 3000 }\noutput-tokens = [10, 20]";
        let mut prompts = Vec::new();
        for (_, arrival) in all(table, Duration::from_secs(1)) {
            let Arrival::Request(request) = arrival else { panic!("nobody hangs up") };
            assert!((10..=20).contains(&request.output_tokens));
            prompts.push(request.prompt_tokens);
        }
        prompts.sort_unstable();
        let median = f64::from(prompts[prompts.len() / 2]);
        assert!((median / 400.0 - 1.0).abs() < 0.04, "median {median}");
        assert_eq!(prompts.last(), Some(&3000));
    }

    #[test]
    fn a_trace_is_repeated_after_one_mean_gap_and_at_its_speed() {
        let folder = tempfile::tempdir().unwrap();
        let file = std::fs::File::create(folder.path().join("asks.csv")).unwrap();
        let mut writer = crate::trace::RequestWriter::new(file, &[]).unwrap();
        for (second, prompt) in [(0, 5), (10, 6), (20, 7)] {
            let request = Request::chat(second, prompt, 3);
            writer.write(Timestamp::from_secs(second), &request).unwrap();
        }
        drop(writer.into_inner());
        let check = |options: &str, want: &[(f64, u32)]| {
            let text = format!(
                "duration = \"60s\"\n[machine]\nmemory = \"16GiB\"\n[[workload]]\nkind = \"trace\"\nfile = \"asks.csv\"\n{options}"
            );
            let scenario =
                crate::scenario::parse(&text, "w.toml", folder.path(), &Registry::built_in())
                    .unwrap();
            let mut workloads = scenario.arrivals();
            let mut got = Vec::new();
            while let Some(at) = workloads.next_at() {
                if let Some(Arrival::Request(request)) = workloads.pop(at) {
                    got.push((at.as_secs_f64(), request.prompt_tokens));
                }
            }
            assert_eq!(got, want, "{options}");
        };
        check("", &[(0.0, 5), (10.0, 6), (20.0, 7)]);
        check("speed = 2.0\nat = \"5s\"", &[(5.0, 5), (10.0, 6), (15.0, 7)]);
        check("loop = true", &[(0.0, 5), (10.0, 6), (20.0, 7), (30.0, 5), (40.0, 6), (50.0, 7)]);
    }
}
