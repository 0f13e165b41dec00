//! Requests that wait: higher priority first, then order of arrival; bounded; each with a deadline.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::request::{Request, RequestId};
use crate::time::Timestamp;

/// The waiting requests.
#[derive(Clone, Debug, Default)]
pub(crate) struct Queue {
    waiting: BTreeMap<Key, Waiting>,
    deadlines: BTreeSet<(Timestamp, Key)>,
    keys: BTreeMap<RequestId, Key>,
    arrivals: u64,
}

/// A waiting request.
#[derive(Clone, Debug)]
pub(crate) struct Waiting {
    pub(crate) request: Request,
    pub(crate) arrived: Timestamp,
    deadline: Timestamp,
}

/// (priority, arrival): the order in which requests start.
type Key = (Reverse<u8>, u64);

impl Queue {
    pub(crate) fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Returns what waits, in the order in which it starts.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Waiting> {
        self.waiting.values()
    }

    pub(crate) fn push(&mut self, now: Timestamp, request: Request, patience: Duration) {
        let key = (Reverse(request.priority), self.arrivals);
        self.arrivals += 1;
        let deadline = now + patience;
        self.deadlines.insert((deadline, key));
        self.keys.insert(request.id, key);
        self.waiting.insert(key, Waiting { request, arrived: now, deadline });
    }

    /// Takes out the first request that `can_start`.
    pub(crate) fn pop_first(&mut self, can_start: impl Fn(&Request) -> bool) -> Option<Waiting> {
        let key = *self.waiting.iter().find(|(_, waiting)| can_start(&waiting.request))?.0;
        Some(self.remove_key(key))
    }

    /// Takes out the request that has waited past its deadline the longest, if any has.
    pub(crate) fn pop_expired(&mut self, now: Timestamp) -> Option<Waiting> {
        let &(_, key) = self.deadlines.first().filter(|(deadline, _)| *deadline <= now)?;
        Some(self.remove_key(key))
    }

    /// Takes out a request by name.
    pub(crate) fn remove(&mut self, id: RequestId) -> Option<Waiting> {
        let key = *self.keys.get(&id)?;
        Some(self.remove_key(key))
    }

    pub(crate) fn next_deadline(&self) -> Option<Timestamp> {
        self.deadlines.first().map(|&(deadline, _)| deadline)
    }

    fn remove_key(&mut self, key: Key) -> Waiting {
        let waiting = self.waiting.remove(&key).expect("a key is held as long as its request");
        self.deadlines.remove(&(waiting.deadline, key));
        self.keys.remove(&waiting.request.id);
        waiting
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn priority_goes_first_then_arrival_and_the_impatient_leave() {
        let mut queue = Queue::default();
        for (id, priority, patience) in [(0, 0, 60), (1, 5, 60), (2, 0, 1), (3, 5, 60)] {
            let request = Request { priority, ..Request::chat(id, 1, 1) };
            queue.push(Timestamp::ZERO, request, Duration::from_secs(patience));
        }
        assert_eq!(queue.next_deadline(), Some(Timestamp::from_secs(1)));
        let expired = queue.pop_expired(Timestamp::from_secs(1)).unwrap();
        assert_eq!(expired.request.id, RequestId(2));
        assert!(queue.pop_expired(Timestamp::from_secs(1)).is_none());
        let order: Vec<u64> =
            std::iter::from_fn(|| queue.pop_first(|_| true)).map(|w| w.request.id.0).collect();
        assert_eq!(order, [1, 3, 0]);
        assert_eq!(queue.next_deadline(), None);
    }
}
