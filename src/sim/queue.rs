//! Future events, in order of (time, sequence): equal times keep the order in which they were scheduled.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;

use tiershift_core::time::Timestamp;

/// A queue of future events.
#[derive(Clone, Debug)]
pub struct EventQueue<T> {
    heap: BinaryHeap<Reverse<Entry<T>>>,
    scheduled: u64,
}

#[derive(Clone, Debug)]
struct Entry<T> {
    at: Timestamp,
    seq: u64,
    happening: T,
}

impl<T> EventQueue<T> {
    /// Schedules an event.
    pub fn push(&mut self, at: Timestamp, happening: T) {
        let seq = self.scheduled;
        self.scheduled += 1;
        self.heap.push(Reverse(Entry { at, seq, happening }));
    }

    /// Returns when the next event is due.
    pub fn next_at(&self) -> Option<Timestamp> {
        self.heap.peek().map(|Reverse(entry)| entry.at)
    }

    /// Takes out the next event that is due by `now`.
    pub fn pop(&mut self, now: Timestamp) -> Option<(Timestamp, T)> {
        if self.next_at()? > now {
            return None;
        }
        self.heap.pop().map(|Reverse(entry)| (entry.at, entry.happening))
    }
}

impl<T> Default for EventQueue<T> {
    fn default() -> Self {
        Self { heap: BinaryHeap::new(), scheduled: 0 }
    }
}

impl<T> Ord for Entry<T> {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.at, self.seq).cmp(&(other.at, other.seq))
    }
}

impl<T> PartialOrd for Entry<T> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<T> PartialEq for Entry<T> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl<T> Eq for Entry<T> {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_times_keep_their_order_and_nothing_comes_early() {
        let mut queue = EventQueue::default();
        let at = Timestamp::from_secs;
        for (seconds, name) in [(5, 'a'), (3, 'b'), (5, 'c'), (3, 'd'), (9, 'e')] {
            queue.push(at(seconds), name);
        }
        assert_eq!(queue.pop(at(2)), None);
        let due: String = std::iter::from_fn(|| queue.pop(at(5)).map(|(_, name)| name)).collect();
        assert_eq!(due, "bdac");
        assert_eq!(queue.next_at(), Some(at(9)));
    }
}
