//! What several verbs share: catalogs, printing, progress.

use std::io::Write;
use std::path::Path;

use anstream::eprintln;
use anyhow::{Context, Result};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use tiershift_core::catalog::Catalog;
use tiershift_core::machine::Machine;
use tiershift_core::time::{Clock, Timestamp};
use tiershift_core::units::Bytes;

use crate::files::catalog;
use crate::files::whole_file::read_small_text;
use crate::log::{LogEnd, LogReader};
use crate::probe::clock::SystemClock;

/// What the machine has, for a file that does not tell it.
#[derive(Debug, clap::Args)]
pub(super) struct Totals {
    /// The machine's memory, for a file that does not tell it
    #[arg(long, value_name = "SIZE")]
    memory: Option<Bytes>,
    /// The video memory of the machine's GPUs, for a file that does not tell it
    #[arg(long, value_name = "SIZE,..", value_delimiter = ',')]
    vram: Vec<Bytes>,
}

impl Totals {
    /// Returns the machine, where anything was told.
    pub(super) fn machine(&self) -> Option<Machine> {
        (self.memory.is_some() || !self.vram.is_empty()).then(|| Machine {
            memory: self.memory.unwrap_or(Bytes::ZERO),
            gpus: self.vram.clone(),
            ..Machine::default()
        })
    }
}

/// Reads and checks a catalog file.
pub(super) fn catalog(path: &Path) -> Result<Catalog> {
    let name = path.display().to_string();
    let text = read_small_text(path).with_context(|| format!("cannot read `{name}`"))?;
    Ok(catalog::parse(&text, &name)?)
}

/// Says so where a log that was read was not closed: what comes of it goes only so far.
pub(super) fn note_end(path: &Path, log: &LogReader) {
    if let Some(LogEnd::Torn { records, left_out }) = log.end() {
        let path = path.display();
        eprintln!(
            "note: {path} was not closed after its {records} records ({left_out} bytes of a half written one are left out): \
             its writer was stopped, or still writes"
        );
    }
}

/// Prints to standard output, without colours where it is no terminal.
pub(super) fn print(text: &str) -> Result<()> {
    let mut out = anstream::stdout().lock();
    out.write_all(text.as_bytes())?;
    if !text.ends_with('\n') {
        out.write_all(b"\n")?;
    }
    Ok(out.flush()?)
}

/// Prints a value as JSON.
pub(super) fn print_json(value: &impl serde::Serialize) -> Result<()> {
    print(&serde_json::to_string_pretty(value)?)
}

/// A progress bar that shows itself after a second, on a terminal only.
pub(super) struct Progress {
    bar: ProgressBar,
    clock: SystemClock,
    shown: bool,
}

impl Progress {
    pub(super) fn new(what: &str, total: Option<u64>) -> Self {
        let bar = ProgressBar::with_draw_target(total, ProgressDrawTarget::hidden());
        let template = match total {
            Some(_) => "{msg} [{bar:40}] {percent:>3} %, {eta} left",
            None => "{msg} {spinner} {human_pos}",
        };
        let style = ProgressStyle::with_template(template)
            .unwrap_or_else(|_| ProgressStyle::default_bar())
            .progress_chars("=> ");
        Self {
            bar: bar.with_style(style).with_message(what.to_owned()),
            clock: SystemClock::start(),
            shown: false,
        }
    }

    pub(super) fn set(&mut self, done: u64) {
        if !self.shown && self.clock.now() > Timestamp::from_secs(1) {
            self.shown = true;
            self.bar.set_draw_target(ProgressDrawTarget::stderr());
        }
        self.bar.set_position(done);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
