//! Requests that wait for a slot: by priority, then by client in turn, then by arrival.
//!
//! Waiting requests are kept by kind: which of the catalog's models can serve them. So what the serving model can take
//! is found without looking at what it cannot, however much of that waits.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Index;
use std::time::Duration;

use crate::request::{ClientId, Request, RequestId};
use crate::time::Timestamp;

/// The waiting requests.
#[derive(Clone, Debug, Default)]
pub(crate) struct Queue {
    waiting: BTreeMap<Place, Waiting>,
    deadlines: BTreeSet<(Timestamp, Place)>,
    places: BTreeMap<RequestId, Place>,
    /// No more than the catalog's models distinguish; an empty one stays.
    kinds: Vec<Kind>,
    /// The turn of each line in which something waits.
    turns: BTreeMap<Line, Turn>,
    next_turn: Turn,
    arrivals: Place,
}

/// A waiting request.
#[derive(Clone, Debug)]
pub(crate) struct Waiting {
    pub(crate) request: Request,
    pub(crate) arrived: Timestamp,
    deadline: Timestamp,
    kind: usize,
}

/// Requests that the same models can serve.
#[derive(Clone, Debug)]
struct Kind {
    served_by: ServedBy,
    /// The lines in which requests of this kind wait, in the order of their turns.
    in_turn: BTreeSet<(Reverse<u8>, Turn, Option<ClientId>)>,
    /// The requests of each line, in order of arrival.
    lines: BTreeMap<Line, BTreeSet<Place>>,
}

/// Which of the catalog's models can serve a request, in the catalog's order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ServedBy {
    models: Box<[bool]>,
    /// Whether the request names that model.
    is_named: bool,
}

impl ServedBy {
    pub(crate) fn new(models: impl Iterator<Item = bool>, is_named: bool) -> Self {
        Self { models: models.collect(), is_named }
    }

    pub(crate) fn has_any(&self) -> bool {
        self.models.contains(&true)
    }

    pub(crate) fn is_named(&self) -> bool {
        self.is_named
    }

    /// Returns the model that is named.
    pub(crate) fn named(&self) -> Option<usize> {
        self.models.iter().position(|&can| can).filter(|_| self.is_named)
    }
}

impl Index<usize> for ServedBy {
    type Output = bool;

    fn index(&self, model: usize) -> &bool {
        &self.models[model]
    }
}

/// Counts arrivals.
type Place = u64;

/// Counts turns: a client that has had one, or is new, goes behind all that wait with the same priority.
type Turn = u64;

/// The requests of one client with one priority. Those of unknown clients share a line.
type Line = (Reverse<u8>, Option<ClientId>);

impl Queue {
    pub(crate) fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Returns the waiting requests in order of arrival, each with the models that can serve it.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&Waiting, &ServedBy)> {
        self.waiting.values().map(|waiting| (waiting, &self.kinds[waiting.kind].served_by))
    }

    /// Returns the kinds of waiting requests: for each, the models that can serve it.
    pub(crate) fn kinds(&self) -> impl Iterator<Item = &ServedBy> {
        self.kinds.iter().filter(|kind| !kind.in_turn.is_empty()).map(|kind| &kind.served_by)
    }

    pub(crate) fn push(
        &mut self,
        now: Timestamp,
        request: Request,
        served_by: ServedBy,
        patience: Duration,
    ) {
        let place = self.arrivals;
        self.arrivals += 1;
        let deadline = now + patience;
        let line = line_of(&request);
        let turn = *self.turns.entry(line).or_insert_with(|| {
            self.next_turn += 1;
            self.next_turn
        });
        let known = self.kinds.iter().position(|kind| kind.served_by == served_by);
        let kind = known.unwrap_or_else(|| {
            let (in_turn, lines) = (BTreeSet::new(), BTreeMap::new());
            self.kinds.push(Kind { served_by, in_turn, lines });
            self.kinds.len() - 1
        });
        self.kinds[kind].in_turn.insert((line.0, turn, line.1));
        self.kinds[kind].lines.entry(line).or_default().insert(place);
        self.deadlines.insert((deadline, place));
        self.places.insert(request.id, place);
        self.waiting.insert(place, Waiting { request, arrived: now, deadline, kind });
    }

    /// Takes out the request whose turn it is, among the kinds that match. Its client's next turn comes after all
    /// others of the same priority.
    pub(crate) fn pop_first(&mut self, is_meant: impl Fn(&ServedBy) -> bool) -> Option<Waiting> {
        let meant = || self.kinds.iter().filter(|kind| is_meant(&kind.served_by));
        let &(priority, turn, client) = meant().filter_map(|kind| kind.in_turn.first()).min()?;
        let line = (priority, client);
        let oldest = meant().filter_map(|kind| kind.lines.get(&line)?.first()).min();
        let place = *oldest.expect("a line has its turn as long as something waits in it");
        let waiting = self.remove_place(place);
        if let Some(turns) = self.turns.get_mut(&line) {
            self.next_turn += 1;
            *turns = self.next_turn;
            for kind in &mut self.kinds {
                if kind.in_turn.remove(&(priority, turn, client)) {
                    kind.in_turn.insert((priority, self.next_turn, client));
                }
            }
        }
        Some(waiting)
    }

    /// Returns the request that is longest past its deadline, if any, and the models that can serve it.
    pub(crate) fn first_expired(&self, now: Timestamp) -> Option<(&Waiting, &ServedBy)> {
        let (_, place) = self.deadlines.first().filter(|(deadline, _)| *deadline <= now)?;
        let waiting = &self.waiting[place];
        Some((waiting, &self.kinds[waiting.kind].served_by))
    }

    /// Sets a request's deadline.
    pub(crate) fn set_deadline(&mut self, id: RequestId, deadline: Timestamp) {
        let Some(&place) = self.places.get(&id) else { return };
        let waiting = self.waiting.get_mut(&place).expect("a place is held as long as its request");
        let before = std::mem::replace(&mut waiting.deadline, deadline);
        self.deadlines.remove(&(before, place));
        self.deadlines.insert((deadline, place));
    }

    /// Takes out a request by its id.
    pub(crate) fn remove(&mut self, id: RequestId) -> Option<Waiting> {
        let place = *self.places.get(&id)?;
        Some(self.remove_place(place))
    }

    pub(crate) fn next_deadline(&self) -> Option<Timestamp> {
        self.deadlines.first().map(|&(deadline, _)| deadline)
    }

    fn remove_place(&mut self, place: Place) -> Waiting {
        let waiting = self.waiting.remove(&place).expect("a place is held as long as its request");
        self.deadlines.remove(&(waiting.deadline, place));
        self.places.remove(&waiting.request.id);
        let line = line_of(&waiting.request);
        let kind = &mut self.kinds[waiting.kind];
        let places = kind.lines.get_mut(&line).expect("what waits stands in its line");
        places.remove(&place);
        if places.is_empty() {
            kind.lines.remove(&line);
            let turn = self.turns[&line];
            kind.in_turn.remove(&(line.0, turn, line.1));
            if !self.kinds.iter().any(|kind| kind.lines.contains_key(&line)) {
                self.turns.remove(&line);
            }
        }
        waiting
    }
}

fn line_of(request: &Request) -> Line {
    (Reverse(request.priority), request.client)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn request(id: u64, priority: u8, client: Option<u64>) -> Request {
        Request { priority, client: client.map(ClientId), ..Request::chat(id, 1, 1) }
    }

    fn push(queue: &mut Queue, request: Request, served_by: &[bool]) {
        let served_by = ServedBy::new(served_by.iter().copied(), false);
        queue.push(Timestamp::ZERO, request, served_by, Duration::from_secs(60));
    }

    /// Returns what starts on a model, in order.
    fn drain(queue: &mut Queue, model: usize) -> Vec<u64> {
        let next = || queue.pop_first(|served_by| served_by[model]);
        std::iter::from_fn(next).map(|waiting| waiting.request.id.0).collect()
    }

    #[test]
    fn priority_goes_first_then_arrival_and_the_impatient_leave() {
        let mut queue = Queue::default();
        for (id, priority, patience) in [(0, 0, 60), (1, 5, 60), (2, 0, 1), (3, 5, 60)] {
            let patience = Duration::from_secs(patience);
            let served_by = ServedBy::new([true].into_iter(), false);
            queue.push(Timestamp::ZERO, request(id, priority, None), served_by, patience);
        }
        assert_eq!(queue.next_deadline(), Some(Timestamp::from_secs(1)));
        let (expired, _) = queue.first_expired(Timestamp::from_secs(1)).unwrap();
        assert_eq!(expired.request.id, RequestId(2));
        queue.set_deadline(RequestId(2), Timestamp::from_secs(2));
        assert!(queue.first_expired(Timestamp::from_secs(1)).is_none());
        assert_eq!(queue.next_deadline(), Some(Timestamp::from_secs(2)));
        assert_eq!(queue.remove(RequestId(2)).unwrap().request.id, RequestId(2));
        assert_eq!(drain(&mut queue, 0), [1, 3, 0]);
        assert_eq!(queue.next_deadline(), None);
    }

    #[test]
    fn each_client_has_its_turn_however_many_requests_another_has() {
        let mut queue = Queue::default();
        let clients = [Some(7), Some(7), Some(7), Some(8), None, None, Some(8)];
        for (id, client) in (0..).zip(clients) {
            push(&mut queue, request(id, 0, client), &[true]);
        }
        // Of higher priority, from any client.
        push(&mut queue, request(9, 1, Some(7)), &[true]);
        assert_eq!(drain(&mut queue, 0), [9, 0, 3, 4, 1, 6, 5, 2]);
    }

    #[test]
    fn a_client_whose_requests_were_taken_back_is_not_made_to_wait_for_them() {
        let mut queue = Queue::default();
        for id in 0..5 {
            push(&mut queue, request(id, 0, Some(1)), &[true]);
        }
        push(&mut queue, request(5, 0, Some(2)), &[true]);
        push(&mut queue, request(6, 0, Some(2)), &[true]);
        for id in 0..4 {
            queue.remove(RequestId(id)).unwrap();
        }
        assert_eq!(drain(&mut queue, 0), [4, 5, 6]);
    }

    #[test]
    fn what_a_model_cannot_serve_is_passed_over_and_keeps_its_place() {
        let mut queue = Queue::default();
        push(&mut queue, request(0, 9, Some(1)), &[false, true]);
        push(&mut queue, request(1, 0, Some(1)), &[true, true]);
        push(&mut queue, request(2, 9, Some(1)), &[false, true]);
        assert!(queue.kinds().any(|served_by| served_by[0]));
        assert_eq!(drain(&mut queue, 0), [1]);
        assert!(!queue.kinds().any(|served_by| served_by[0]));
        assert_eq!(drain(&mut queue, 1), [0, 2]);
        assert_eq!(queue.len(), 0);
    }

    proptest! {
        /// Whatever comes and goes: of the requests that can start, one of the highest priority starts, and no client
        /// has two turns while another of the same priority waits for its first.
        #[test]
        fn no_client_is_passed_over_twice(
            steps in prop::collection::vec((0_u8..4, 0_u8..2, 0_u64..4, any::<bool>()), 1..200),
        ) {
            let mut queue = Queue::default();
            let mut passed_over: BTreeMap<(u8, u64), BTreeMap<u64, u32>> = BTreeMap::new();
            for (id, (step, priority, client, narrow)) in (0..).zip(steps) {
                if step < 3 {
                    push(&mut queue, request(id, priority, Some(client)), &[!narrow, true]);
                    continue;
                }
                let waiting: Vec<Request> = queue.iter().map(|(it, _)| it.request.clone()).collect();
                let Some(first) = queue.pop_first(|served_by| served_by[1]) else { continue };
                let first = first.request;
                prop_assert_eq!(Some(first.priority), waiting.iter().map(|it| it.priority).max());
                let ClientId(served) = first.client.unwrap();
                passed_over.remove(&(first.priority, served));
                for other in waiting.iter().filter(|it| it.priority == first.priority) {
                    let ClientId(other) = other.client.unwrap();
                    if other != served {
                        let passed = passed_over.entry((first.priority, other)).or_default();
                        passed.entry(served).or_insert(0);
                    }
                }
                for ((priority, _), by) in &mut passed_over {
                    if *priority == first.priority
                        && let Some(times) = by.get_mut(&served)
                    {
                        *times += 1;
                        prop_assert!(*times <= 1, "client {} had {} turns", served, times);
                    }
                }
            }
            prop_assert_eq!(queue.len(), drain(&mut queue, 1).len());
            prop_assert!(queue.turns.is_empty() && queue.places.is_empty());
        }
    }
}
