//! Draws the requests of all workloads, in one total order.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};

use tiershift_core::request::{Request, RequestId};
use tiershift_core::time::{Timestamp, earliest};

use crate::sim::rng::Seed;
use crate::sim::workload::Workload;
use crate::sim::workload::arrivals::supply::Supply;

pub(crate) mod supply;

/// All workloads of a scenario, as one stream of arrivals.
///
/// The order is total: by time; at one moment clients hang up before new requests arrive, requests arrive in the order
/// of the workloads, and users of one workload in their order. Requests are numbered from 1 in that order.
#[derive(Clone, Debug)]
pub struct Workloads {
    sources: Vec<Supply>,
    hang_ups: BinaryHeap<Reverse<(Timestamp, RequestId)>>,
    /// Requests that have not ended and whose client will hang up.
    will_hang_up: BTreeSet<RequestId>,
    /// Requests that a user of a closed loop waits for: the workload and the user.
    awaited: BTreeMap<RequestId, (usize, usize)>,
    next_id: u64,
}

/// An arrival at a moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Arrival {
    /// A request arrives.
    Request(Request),
    /// A client hangs up on its request.
    HangUp(RequestId),
}

impl Workloads {
    /// Prepares the arrivals of these workloads.
    pub fn new(workloads: &[Workload], seed: Seed) -> Self {
        let sources =
            workloads.iter().enumerate().map(|(i, spec)| Supply::new(spec, i, seed)).collect();
        Self {
            sources,
            hang_ups: BinaryHeap::new(),
            will_hang_up: BTreeSet::new(),
            awaited: BTreeMap::new(),
            next_id: 1,
        }
    }

    /// Returns when the next arrival is due; `None` if none will come unless a request ends.
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

    /// Notes that a request has ended, in whatever way. A user of a closed loop begins to think; a client no longer
    /// hangs up.
    pub fn ended(&mut self, now: Timestamp, id: RequestId) {
        if self.will_hang_up.remove(&id) {
            self.forget_ended_hang_ups();
        }
        if let Some((place, user)) = self.awaited.remove(&id) {
            self.sources[place].think(now, user);
        }
    }

    /// Keeps a client that still waits at the top of the heap, so that `next_at` needs no change of state.
    fn forget_ended_hang_ups(&mut self) {
        while let Some(Reverse((_, id))) = self.hang_ups.peek()
            && !self.will_hang_up.contains(id)
        {
            self.hang_ups.pop();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::path::Path;
    use std::time::Duration;

    use tiershift_core::policy::Registry;

    use super::*;
    use crate::scenario::Scenario;

    fn scenario(tables: &str) -> Scenario {
        let text = format!("duration = \"24h\"\n[machine]\nmemory = \"16GiB\"\n{tables}");
        crate::scenario::parse(&text, "w.toml", Path::new(""), &Registry::built_in())
            .unwrap_or_else(|e| panic!("{e}"))
    }

    /// Returns all arrivals with their moments; every request ends `served` after its arrival.
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
        assert_eq!(open, 3, "without an end no client asks twice");
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
        assert!(hang_ups(1) == 0.0, "no client waits for replies after a second");
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
            let Arrival::Request(request) = arrival else { panic!("no client hangs up") };
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
