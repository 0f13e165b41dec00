//! Replay from memory through the whole controller, and the cost of the event log.

use std::hint::black_box;
use std::io;
use std::time::Duration;

use tiershift::log::{Header, LogLevel, LogWriter};
use tiershift::sim::simulate;
use tiershift_core::controller::Detail;
use tiershift_core::policy::Registry;
use tiershift_core::sample::Sample;
use tiershift_core::setup::Setup;

use crate::inputs::{Day, machine, situation};
use crate::table::{Row, Table, duel_alone};

pub(crate) fn measure(table: &mut Table) {
    for (jitter, timer) in [(false, "on the second"), (true, "by a timer that jitters")] {
        let day = Day::new(jitter);
        let (ours, peer) = duel_alone(ROUNDS, || silent(&day, SAMPLES), || draw(&day, SAMPLES));
        table.push(Row {
            what: format!("replay from memory, read {timer}, log off"),
            figure: format!(
                "{:.1} million samples/s ({})",
                per_second(SAMPLES, ours) / 1e6,
                each(SAMPLES, ours)
            ),
            limit: "10 million samples/s",
            peer: format!("drawing the samples only ({})", each(SAMPLES, peer)),
            ratio: ours.as_secs_f64() / peer.as_secs_f64(),
        });
    }
}

/// The cost of the event log; it is discarded, so that no disk is measured.
pub(crate) fn measure_logs(table: &mut Table) {
    let day = Day::new(false);
    let levels =
        [(LogLevel::Changes, "changes"), (LogLevel::Inputs, "inputs"), (LogLevel::Full, "full")];
    for (level, name) in levels {
        let mut bytes = 0;
        let (ours, peer) =
            duel_alone(ROUNDS, || bytes = logged(&day, LOGGED, level), || silent(&day, LOGGED));
        table.push(Row {
            what: format!("replay from memory with the {name} log"),
            figure: format!(
                "{:.2} million samples/s ({}, {} bytes of log a sample)",
                per_second(LOGGED, ours) / 1e6,
                each(LOGGED, ours),
                bytes / LOGGED
            ),
            limit: "",
            peer: format!("log off ({})", each(LOGGED, peer)),
            ratio: ours.as_secs_f64() / peer.as_secs_f64(),
        });
    }
}

fn draw(day: &Day, count: u64) {
    let mut read_next = day.play(count);
    let mut sample = Sample::default();
    while read_next(&mut sample).is_some() {
        black_box(&sample);
    }
}

fn silent(day: &Day, count: u64) {
    let summary = simulate(
        situation(day.play(count), Vec::new()),
        &Registry::built_in(),
        Detail::Silent,
        &mut [],
    )
    .expect("the day is a valid trace");
    assert!(summary.switches > 0, "a day without a switch measures too little");
    // A switch causes a few additional readings.
    assert!(summary.samples >= count && summary.violations.is_empty(), "{:?}", summary.violations);
}

/// Returns the bytes of the log, which is discarded.
fn logged(day: &Day, count: u64, level: LogLevel) -> u64 {
    let header = Header::of(&Setup::of_machine(machine()), level, "bench", Vec::new());
    let mut log = LogWriter::new(Sink::default(), header).expect("the sink takes all");
    let detail = if level == LogLevel::Full { Detail::Full } else { Detail::Changes };
    simulate(
        situation(day.play(count), Vec::new()),
        &Registry::built_in(),
        detail,
        &mut [&mut log],
    )
    .expect("the day is a valid trace");
    log.finish_into(&[]).expect("the sink takes all").0.bytes
}

/// Counts what is written to it.
#[derive(Default)]
struct Sink {
    bytes: u64,
}

impl io::Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.bytes += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn per_second(count: u64, took: Duration) -> f64 {
    count as f64 / took.as_secs_f64()
}

fn each(count: u64, took: Duration) -> String {
    format!("{:.0} ns each", took.as_secs_f64() * 1e9 / count as f64)
}

const SAMPLES: u64 = 5_000_000;
/// The full log is slow.
const LOGGED: u64 = 200_000;
const ROUNDS: u32 = 5;
