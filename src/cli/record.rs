//! `tiershift record`: records this machine to a trace.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use anyhow::Result;
use clap::Args;
use tiershift_core::text;
use tiershift_core::time::SpanText;

use crate::cli::output::is_standard;
use crate::cli::{Verdict, common};
use crate::measure::record::{self, RecordOptions, RecordTarget};
use crate::measure::stop;
use crate::probe::clock::SystemClock;
use crate::probe::system::{OwnProcesses, SystemProbe};

/// Record the use of this machine to a trace
#[derive(Debug, Args)]
#[command(
    after_help = "Stops on Ctrl-C or SIGTERM; a kill loses at most one interval.\n\nExamples:\n  \
tiershift record traces/today.csv --interval 1s --duration 10m\n  \
tiershift record traces/today.csv --own-pid 4711"
)]
pub(super) struct Arguments {
    /// The trace to write
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Sampling interval
    #[arg(long, default_value = "2s")]
    interval: SpanText,
    /// How long to record [default: until stopped]
    #[arg(long)]
    duration: Option<SpanText>,
    /// Processes (with their children) whose use is counted as the models' own
    #[arg(long = "own-pid", value_name = "PID")]
    own: Vec<u32>,
    /// Overwrite the file
    #[arg(long)]
    force: bool,
}

pub(super) fn run(arguments: &Arguments, json: bool) -> Result<Verdict> {
    anyhow::ensure!(
        !is_standard(&arguments.file),
        "a recording cannot be written to standard output: give the name of a file"
    );
    let options = RecordOptions {
        interval: arguments.interval.0,
        duration: arguments.duration.map(|span| span.0),
    };
    let mut probe = SystemProbe::new();
    probe.set_own_processes(OwnProcesses::new(arguments.own.iter().copied()));
    let machine = probe.machine();
    let stop = Arc::new(AtomicBool::new(false));
    stop::on_signals(&stop)?;
    let about = record::about(options, &machine);
    let target = RecordTarget {
        path: &arguments.file,
        overwrite: arguments.force,
        machine: &machine,
        about: &about,
    };
    // An interval of zero is refused where it is used.
    let readings =
        |span: std::time::Duration| span.as_nanos().checked_div(options.interval.as_nanos());
    let total = options.duration.and_then(readings).map(|readings| readings as u64 + 1);
    let mut progress = common::Progress::new("recording", total);
    let mut clock = SystemClock::start();
    let recorded =
        record::record_to_file(target, options, &mut probe, &mut clock, &stop, |so_far| {
            progress.set(so_far.samples);
        })?;
    drop(progress);
    if json {
        common::print_json(&recorded)?;
    } else {
        common::print(&format!(
            "{} over {} written to {}; {} missed, {} failed",
            text::count(recorded.samples, "sample"),
            text::span(recorded.span),
            arguments.file.display(),
            recorded.missed,
            recorded.failed
        ))?;
    }
    Ok(Verdict::Done)
}
