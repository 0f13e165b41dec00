//! Records the machine: reads a probe at regular moments and passes each sample to a writer.
//!
//! The moments are on a fixed grid, `start + n * interval`, so that a slow reading does not shift the ones after it.
//! Every row is passed on before the next wait, so that a kill loses at most one.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tiershift_core::machine::Machine;
use tiershift_core::probe::Probe;
use tiershift_core::sample::Sample;
use tiershift_core::time::{Clock, Timestamp, nanos, span_text};
use tiershift_core::units::Bytes;

use crate::probe::clock;
use crate::trace::NativeWriter;

mod file;

pub use file::RecordingFile;

/// How often to read, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordOptions {
    /// Time from one sample to the next.
    pub interval: Duration,
    /// When to stop; `None` continues until it is asked to stop.
    pub duration: Option<Duration>,
}

/// The result of a recording.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Recorded {
    /// Rows written.
    pub samples: u64,
    /// Moments of the grid that had passed before the machine was ready for them: a suspended or
    /// overloaded machine.
    pub missed: u64,
    /// Readings that failed as a whole; they leave a gap.
    pub failed: u64,
    /// From the first moment to the last row.
    #[serde(rename = "span_ns", with = "tiershift_core::time::duration_ns")]
    pub span: Duration,
}

/// Why a recording could not begin or continue.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// The interval is out of bounds.
    #[error(
        "an interval of {} cannot be kept: use one from {} to {}",
        span_text(*interval), span_text(MIN_INTERVAL), span_text(MAX_INTERVAL)
    )]
    Interval {
        /// The interval that was given.
        interval: Duration,
    },
    /// The file already exists.
    #[error("`{}` exists: give another name, or --force to overwrite it", path.display())]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// The file cannot be created.
    #[error("`{}` cannot be created: record to a folder that exists and may be written", path.display())]
    Create {
        /// The file.
        path: PathBuf,
        /// The system's error.
        #[source]
        source: io::Error,
    },
    /// The writer refused a row.
    #[error(
        "the recording stopped at {}: a row could not be written; the {} rows before it are kept",
        span_text(recorded.span), recorded.samples
    )]
    Write {
        /// What was written before.
        recorded: Recorded,
        /// The system's error.
        #[source]
        source: io::Error,
    },
    /// The end of the file did not reach the disk.
    #[error("the last rows of `{}` may not be on the disk: see whether it is full or gone", path.display())]
    Finish {
        /// The file.
        path: PathBuf,
        /// The system's error.
        #[source]
        source: io::Error,
    },
    /// Nothing of the machine can be read.
    #[error("nothing can be recorded: {0}")]
    Probe(String),
}

/// Reads `probe` on the grid until the duration is over or `stop` is set, and passes each sample to `write`, which must
/// not hold it back. `progress` is called with the result so far after each moment.
///
/// # Errors
/// When the interval is out of bounds, the very first reading fails, or `write` does. What was written before stays.
pub fn record(
    options: RecordOptions,
    probe: &mut dyn Probe,
    clock: &mut dyn Clock,
    mut write: impl FnMut(Timestamp, &Sample) -> io::Result<()>,
    stop: &AtomicBool,
    mut progress: impl FnMut(&Recorded),
) -> Result<Recorded, RecordError> {
    let RecordOptions { interval, duration } = options;
    if !(MIN_INTERVAL..=MAX_INTERVAL).contains(&interval) {
        return Err(RecordError::Interval { interval });
    }
    let start = clock.now();
    let end = duration.map_or(Timestamp::MAX, |duration| start + duration);
    let mut recorded = Recorded::default();
    let mut due = start;
    while due <= end && wait(clock, due, stop) {
        // The row has the moment of the reading, not that of the grid.
        let now = clock.now();
        match probe.sample(now) {
            Ok(sample) => {
                let at = Timestamp::ZERO + now.since(start);
                write(at, &sample).map_err(|source| RecordError::Write { recorded, source })?;
                recorded.samples += 1;
                recorded.span = at.since(Timestamp::ZERO);
            }
            Err(error) if recorded.samples == 0 => {
                return Err(RecordError::Probe(error.to_string()));
            }
            Err(_) => recorded.failed += 1,
        }
        progress(&recorded);
        let (next, missed) = next_due(start, due, interval, clock.now());
        recorded.missed += missed;
        due = next;
    }
    Ok(recorded)
}

/// The target of a recording.
#[derive(Clone, Copy, Debug)]
pub struct RecordTarget<'a> {
    /// The file.
    pub path: &'a Path,
    /// Whether to overwrite an existing file.
    pub overwrite: bool,
    /// The machine that is recorded.
    pub machine: &'a Machine,
    /// What the file states about itself; see [`about`].
    pub about: &'a [(String, String)],
}

/// Records as [`record`] does, into a native trace. A recording without a row leaves no file.
///
/// # Errors
/// As [`record`], and when the file cannot be created or finished.
pub fn record_to_file(
    target: RecordTarget<'_>,
    options: RecordOptions,
    probe: &mut dyn Probe,
    clock: &mut dyn Clock,
    stop: &AtomicBool,
    mut progress: impl FnMut(&Recorded),
) -> Result<Recorded, RecordError> {
    let RecordTarget { path, overwrite, machine, about } = target;
    let begun = |source| RecordError::Write { recorded: Recorded::default(), source };
    let file = RecordingFile::create(path, overwrite)?;
    let mut writer = NativeWriter::new(file, machine, about).map_err(begun)?;
    let mut rows = 0;
    let write = |at: Timestamp, sample: &Sample| writer.write(at, sample);
    let note_rows = |recorded: &Recorded| {
        rows = recorded.samples;
        progress(recorded);
    };
    let recorded = record(options, probe, clock, write, stop, note_rows);
    let file = writer.into_inner();
    if rows == 0 {
        // The recording's own error, or its count, reports that there is nothing to keep.
        let _ = file.discard();
        return recorded;
    }
    file.finish().map_err(|source| RecordError::Finish { path: path.to_path_buf(), source })?;
    recorded
}

/// Returns what a recording that begins now states about itself: when, of what machine, and by what program.
pub fn about(options: RecordOptions, machine: &Machine) -> Vec<(String, String)> {
    let interval = span_text(options.interval);
    let version = env!("CARGO_PKG_VERSION");
    let line = |key: &str, value: String| (key.to_owned(), value);
    vec![
        line("started_at", clock::date().to_string()),
        line("machine", machine_text(machine)),
        line("made_by", format!("tiershift {version} record --interval {interval}")),
    ]
}

/// Describes a machine without its name, which is private.
fn machine_text(machine: &Machine) -> String {
    let swap = match machine.swap {
        Bytes::ZERO => "no swap".to_owned(),
        swap => format!("{:.1} GiB swap", swap.as_gib()),
    };
    let gpus = match machine.gpus.as_slice() {
        [] => "no GPU".to_owned(),
        gpus => {
            let each: Vec<String> = gpus.iter().map(|v| format!("{:.1} GiB", v.as_gib())).collect();
            format!("video memory {}", each.join(" + "))
        }
    };
    let memory = machine.memory.as_gib();
    format!("{} processors, {memory:.1} GiB memory, {swap}, {gpus}", machine.cpus)
}

/// Waits until `due` in short steps and returns whether it was reached; `false` means stop.
fn wait(clock: &mut dyn Clock, due: Timestamp, stop: &AtomicBool) -> bool {
    loop {
        if stop.load(Ordering::Relaxed) {
            return false;
        }
        let now = clock.now();
        if now >= due {
            return true;
        }
        clock.wait_until(due.min(now + STOP_LATENCY));
    }
}

/// Returns the first moment of the grid after `now`, and how many were skipped since `due`.
fn next_due(
    start: Timestamp,
    due: Timestamp,
    interval: Duration,
    now: Timestamp,
) -> (Timestamp, u64) {
    let step = nanos(interval);
    let number = |at: Timestamp| nanos(at.since(start)) / step;
    let next = number(now.max(due)) + 1;
    let at = start + Duration::from_nanos(next.saturating_mul(step));
    (at, next - number(due) - 1)
}

/// Chosen: with a shorter interval, the cost of a reading itself (about half a millisecond) would show.
const MIN_INTERVAL: Duration = Duration::from_millis(10);

/// Chosen: samples more than a day apart tell nothing about a machine.
const MAX_INTERVAL: Duration = Duration::from_secs(86_400);

/// Chosen: how long Ctrl-C may take to be noticed.
const STOP_LATENCY: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests;
