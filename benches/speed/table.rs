//! Rounds, and the table of their results.

use std::time::Duration;

use tiershift::time::{Clock, SystemClock, Timestamp};

/// The rows so far.
#[derive(Default)]
pub struct Table {
    rows: Vec<Row>,
}

/// One figure beside its peer.
pub struct Row {
    /// What was measured.
    pub what: String,
    /// Our figure, in words.
    pub figure: String,
    /// The figure that was asked for; empty where none was.
    pub limit: &'static str,
    /// What it is held against, with its time.
    pub peer: String,
    /// Our time over the peer's.
    pub ratio: f64,
}

impl Table {
    pub fn push(&mut self, row: Row) {
        eprintln!("  {}: {}", row.what, row.figure);
        self.rows.push(row);
    }

    pub fn to_markdown(&self) -> String {
        let mut text = String::from(
            "| what | figure | asked for | peer | time over the peer's |\n|---|---|---|---|---|\n",
        );
        for Row { what, figure, limit, peer, ratio } in &self.rows {
            text.push_str(&format!("| {what} | {figure} | {limit} | {peer} | {ratio:.2} |\n"));
        }
        text
    }
}

/// Runs `ours` and `peer` in turn and returns the best time of each.
pub fn duel(rounds: u32, mut ours: impl FnMut(), mut peer: impl FnMut()) -> (Duration, Duration) {
    let (mut best_ours, mut best_peer) = (Duration::MAX, Duration::MAX);
    for _ in 0..rounds {
        best_peer = best_peer.min(time(&mut peer));
        best_ours = best_ours.min(time(&mut ours));
    }
    (best_ours, best_peer)
}

/// Returns how long something takes.
pub fn time(work: impl FnOnce()) -> Duration {
    let clock = SystemClock::start();
    work();
    clock.now().since(Timestamp::ZERO)
}
