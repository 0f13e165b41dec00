//! The page's view of the past: bounded, and thinned if it is long.

use std::collections::VecDeque;
use std::time::Duration;

use serde::Serialize;
use tiershift_core::catalog::Rung;
use tiershift_core::time::{Timestamp, duration_ns};
use tiershift_core::units::Percent;

use crate::serve::status::{HistoryEntry, Latencies};

/// The past of a live run, as far back as it is kept.
#[derive(Debug, Default, Serialize)]
pub(in crate::serve) struct History {
    /// What was before `points`: one point per minute and each change of tier; in order of time.
    older: VecDeque<Point>,
    /// The last hour; in order of time.
    points: VecDeque<Point>,
    /// In order of time.
    entries: VecDeque<HistoryEntry>,
    /// In the order in which they ended.
    replies: VecDeque<Reply>,
    #[serde(skip)]
    end: Mark,
}

/// A mark in the past: how many entries and replies were before it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::serve) struct Mark {
    entries: u64,
    replies: u64,
}

/// The state at a moment.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Point {
    #[serde(rename = "at_ns")]
    pub(super) at: Timestamp,
    pub(super) rung: Rung,
    /// Use of each resource, in the order of [`Resource::ALL`](tiershift_core::sample::Resource::ALL).
    #[serde(rename = "shares_milli_percent")]
    pub(super) shares: Vec<Option<Percent>>,
}

/// One request that was served.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Reply {
    #[serde(rename = "at_ns")]
    pub(super) at: Timestamp,
    #[serde(rename = "first_token_ns", with = "duration_ns")]
    pub(super) first_token: Duration,
    #[serde(rename = "latency_ns", with = "duration_ns")]
    pub(super) latency: Duration,
}

impl History {
    /// Adds a point, unless it equals the last one, a moment ago.
    pub(super) fn add_point(&mut self, point: Point) {
        if let Some(last) = self.points.back()
            && last.rung == point.rung
            && point.at.since(last.at) < POINT_DISTANCE
        {
            return;
        }
        if let Some(older) = push(&mut self.points, point, MOST_POINTS) {
            let last = self.older.back();
            let is_new = |last: &Point| {
                last.rung != older.rung || older.at.since(last.at) >= OLDER_POINT_DISTANCE
            };
            if last.is_none_or(is_new) {
                push(&mut self.older, older, MOST_OLDER_POINTS);
            }
        }
    }

    pub(super) fn add(&mut self, at: Timestamp, kind: &'static str, text: String) {
        self.end.entries += 1;
        let entry = HistoryEntry { at, kind: kind.to_owned(), text };
        push(&mut self.entries, entry, MOST_ENTRIES);
    }

    pub(super) fn add_reply(&mut self, reply: Reply) {
        self.end.replies += 1;
        push(&mut self.replies, reply, MOST_REPLIES);
    }

    /// Returns the mark at the present end.
    pub(in crate::serve) fn end(&self) -> Mark {
        self.end
    }

    /// Returns the entries since a mark, as far as they are kept.
    pub(super) fn entries_since(&self, mark: Mark) -> impl Iterator<Item = &HistoryEntry> {
        last(&self.entries, self.end.entries - mark.entries)
    }

    /// Returns the replies since a mark, as far as they are kept.
    pub(super) fn replies_since(&self, mark: Mark) -> impl Iterator<Item = &Reply> {
        last(&self.replies, self.end.replies - mark.replies)
    }

    pub(super) fn latencies(&self) -> Latencies {
        if self.replies.is_empty() {
            return Latencies::default();
        }
        let sorted = |time: fn(&Reply) -> Duration| {
            let mut times: Vec<Duration> = self.replies.iter().map(time).collect();
            times.sort_unstable();
            times
        };
        // The nearest rank.
        let at = |times: &[Duration], percent: usize| {
            times[(times.len() * percent).div_ceil(100).saturating_sub(1)]
        };
        let (first, whole) = (sorted(|reply| reply.first_token), sorted(|reply| reply.latency));
        Latencies {
            replies: first.len(),
            first_token_p50: at(&first, 50),
            first_token_p95: at(&first, 95),
            latency_p50: at(&whole, 50),
            latency_p95: at(&whole, 95),
        }
    }
}

fn last<T>(queue: &VecDeque<T>, count: u64) -> impl Iterator<Item = &T> {
    let count = usize::try_from(count).unwrap_or(usize::MAX);
    queue.iter().skip(queue.len().saturating_sub(count))
}

/// Adds a value, and returns the one that was removed for it.
fn push<T>(queue: &mut VecDeque<T>, value: T, most: usize) -> Option<T> {
    let gone = if queue.len() == most { queue.pop_front() } else { None };
    queue.push_back(value);
    gone
}

/// Chosen: an hour of a daemon that reads its machine every 2 s, the default.
const MOST_POINTS: usize = 1800;

/// See [`MOST_POINTS`].
const POINT_DISTANCE: Duration = Duration::from_millis(1900);

/// Chosen: a column of a wide screen with a day drawn across it.
const OLDER_POINT_DISTANCE: Duration = Duration::from_mins(1);

/// Chosen: a day, and five hundred changes of tier in it.
const MOST_OLDER_POINTS: usize = 2000;

/// Chosen: a screen holds thirty.
const MOST_ENTRIES: usize = 200;

/// Chosen: enough for a 95th percentile with ten replies above it.
const MOST_REPLIES: usize = 200;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_past_is_bounded_and_thinned() {
        let mut history = History::default();
        for second in 0..200_000 {
            let at = Timestamp::from_secs(second);
            // Every hundredth second another rung: such points are never left out.
            let rung = Rung(u8::from(second % 100 == 0));
            history.add_point(Point { at, rung, shares: Vec::new() });
            history.add(at, "decision", String::new());
        }
        assert_eq!(history.points.len(), MOST_POINTS);
        assert_eq!(history.older.len(), MOST_OLDER_POINTS);
        let [first, last] = [history.older.front(), history.older.back()].map(Option::unwrap);
        assert!(last.at < history.points[0].at);
        assert!(last.at.since(first.at) > Duration::from_hours(8), "with two changes in 100 s");
        assert_eq!(history.entries.len(), MOST_ENTRIES);
        let apart = |from: usize| history.points[from + 1].at.since(history.points[from].at);
        assert!((0..MOST_POINTS - 1).all(|from| apart(from) <= Duration::from_secs(2)));
        assert!(history.points.iter().any(|point| point.rung == Rung(1)));
        let mark = history.end();
        history.add(Timestamp::from_secs(200_000), "decision", "last".to_owned());
        let since: Vec<_> = history.entries_since(mark).map(|entry| entry.text.as_str()).collect();
        assert_eq!(since, ["last"]);
        assert_eq!(history.entries_since(Mark::default()).count(), MOST_ENTRIES);
    }

    #[test]
    fn percentiles_are_those_of_the_last_replies() {
        let mut history = History::default();
        assert_eq!(history.latencies(), Latencies::default());
        for millis in 1..=300 {
            let span = Duration::from_millis(millis);
            let reply = Reply { at: Timestamp::ZERO, first_token: span, latency: span * 2 };
            history.add_reply(reply);
        }
        let latencies = history.latencies();
        assert_eq!(latencies.replies, 200);
        assert_eq!(latencies.first_token_p50, Duration::from_millis(200));
        assert_eq!(latencies.latency_p95, Duration::from_millis(580));
    }
}
