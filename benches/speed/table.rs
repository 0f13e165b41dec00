//! Rounds, and the table of their results.

use std::time::Duration;

use tiershift::probe::clock::SystemClock;
use tiershift_core::time::{Clock, Timestamp};

/// The rows so far.
#[derive(Default)]
pub(crate) struct Table {
    rows: Vec<Row>,
}

/// One figure and its peer.
pub(crate) struct Row {
    /// The subject of the measurement.
    pub what: String,
    /// Our figure, in words.
    pub figure: String,
    /// The aim; empty if there is none.
    pub limit: &'static str,
    /// The peer, with its time.
    pub peer: String,
    /// Our time over the peer's.
    pub ratio: f64,
}

impl Table {
    pub(crate) fn push(&mut self, row: Row) {
        eprintln!("  {}: {}", row.what, row.figure);
        self.rows.push(row);
    }

    pub(crate) fn to_markdown(&self) -> String {
        let mut text = String::from(
            "| what | figure | asked for | peer | time over the peer's |\n|---|---|---|---|---|\n",
        );
        for Row { what, figure, limit, peer, ratio } in &self.rows {
            text.push_str(&format!("| {what} | {figure} | {limit} | {peer} | {ratio:.2} |\n"));
        }
        text
    }
}

/// Runs `ours` and `peer` in turn and returns the best time of each, by the wall clock: this includes the work of other processes
/// and threads, and other load on the machine.
pub(crate) fn duel(rounds: u32, ours: impl FnMut(), peer: impl FnMut()) -> (Duration, Duration) {
    take_turns(rounds, ours, peer, wall_time)
}

/// As [`duel`], by the processor time of this thread, where Linux reports it: for the work of one thread on a machine that
/// others use.
pub(crate) fn duel_alone(
    rounds: u32,
    ours: impl FnMut(),
    peer: impl FnMut(),
) -> (Duration, Duration) {
    take_turns(rounds, ours, peer, processor_time)
}

fn take_turns(
    rounds: u32,
    mut ours: impl FnMut(),
    mut peer: impl FnMut(),
    time: fn(&mut dyn FnMut()) -> Duration,
) -> (Duration, Duration) {
    let (mut best_ours, mut best_peer) = (Duration::MAX, Duration::MAX);
    for _ in 0..rounds {
        best_peer = best_peer.min(time(&mut peer));
        best_ours = best_ours.min(time(&mut ours));
    }
    (best_ours, best_peer)
}

fn wall_time(work: &mut dyn FnMut()) -> Duration {
    let clock = SystemClock::start();
    work();
    clock.now().since(Timestamp::ZERO)
}

fn processor_time(work: &mut dyn FnMut()) -> Duration {
    let before = time_on_processor();
    let wall = wall_time(work);
    match (before, time_on_processor()) {
        (Some(before), Some(after)) => after.saturating_sub(before),
        _ => wall,
    }
}

fn time_on_processor() -> Option<Duration> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    text.split(' ').next()?.parse().ok().map(Duration::from_nanos)
}
