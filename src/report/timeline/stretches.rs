//! Any number of stretches of time, in bounded memory.

use std::collections::BTreeMap;
use std::time::Duration;

use tiershift_core::catalog::Rung;
use tiershift_core::time::Timestamp;

/// Stretches of time, each of a kind and on a rung, in order of their ends. When there are too many, those of one kind
/// that almost touch are joined.
#[derive(Clone, Debug)]
pub(in crate::report) struct Stretches<K> {
    /// Earlier ones are left out.
    origin: Timestamp,
    pub(in crate::report) list: Vec<(K, Rung, Timestamp, Timestamp)>,
}

impl<K: Copy + Ord> Stretches<K> {
    pub(super) fn new(origin: Timestamp) -> Self {
        Self { origin, list: Vec::new() }
    }

    pub(super) fn add(&mut self, kind: K, rung: Rung, from: Timestamp, to: Timestamp) {
        if to < self.origin {
            return;
        }
        let from = from.max(self.origin);
        if self.list.len() >= MOST_STRETCHES {
            let mut apart = Duration::from_nanos(to.as_nanos() >> 12);
            while self.list.len() > MOST_STRETCHES / 2 {
                self.coalesce(apart);
                apart *= 2;
            }
        }
        self.list.push((kind, rung, from, to));
    }

    fn coalesce(&mut self, apart: Duration) {
        let mut joined: BTreeMap<(K, Rung), Vec<(Timestamp, Timestamp)>> = BTreeMap::new();
        for (kind, rung, from, to) in self.list.drain(..) {
            let list = joined.entry((kind, rung)).or_default();
            match list.last_mut() {
                Some(last) if from.since(last.1) <= apart => last.1 = last.1.max(to),
                _ => list.push((from, to)),
            }
        }
        for ((kind, rung), list) in joined {
            self.list.extend(list.into_iter().map(|(from, to)| (kind, rung, from, to)));
        }
        self.list.sort_by_key(|&(kind, rung, from, to)| (to, from, kind, rung));
    }
}

/// A picture shows a few thousand at most.
const MOST_STRETCHES: usize = 20_000;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::timeline::Phase;

    #[test]
    fn stretches_are_joined_when_there_are_too_many_and_cover_the_same_time() {
        let mut stretches = Stretches::new(Timestamp::ZERO);
        for second in 0..200_000 {
            let at = Timestamp::from_secs(second * 10);
            stretches.add(
                Phase::Loading,
                Rung((second % 3) as u8),
                at,
                at + Duration::from_secs(5),
            );
        }
        assert!(stretches.list.len() <= MOST_STRETCHES);
        let covered: u64 =
            stretches.list.iter().map(|&(_, _, from, to)| to.since(from).as_nanos() as u64).sum();
        assert!(covered >= 200_000 * 5_000_000_000);
        assert_eq!(stretches.list.iter().map(|stretch| stretch.2).min(), Some(Timestamp::ZERO));
    }
}
