//! Shared by several verbs: catalogs, printing, progress.

use std::collections::BTreeSet;
use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::{Mutex, PoisonError, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use tiershift_core::catalog::Catalog;
use tiershift_core::machine::Machine;
use tiershift_core::text;
use tiershift_core::time::{Clock, SpanText, Timestamp};
use tiershift_core::units::{Bytes, UnitError};

use crate::cli::say;
use crate::files::catalog::CatalogFile;
use crate::files::progress;
use crate::files::whole_file::read_small_text;
#[cfg(feature = "serve")]
use crate::inventory::folder::Folder;
#[cfg(feature = "serve")]
use crate::inventory::scan::Skipped;
use crate::log::{LogEnd, LogReader, run_log, runs, segments};
use crate::probe::clock::SystemClock;
use crate::trace::Told;
use crate::wall::{Part, WallClock, WallTime, When};

/// The size of the machine, for a file that does not state it.
#[derive(Debug, clap::Args)]
pub(super) struct Totals {
    /// The machine's memory, for a file that does not state it; without effect on a recording of a GPU alone
    #[arg(long, value_name = "SIZE")]
    memory: Option<Size>,
    /// The video memory of each GPU, for a file that does not state it; without effect on a recording without a GPU
    #[arg(long, value_name = "SIZE,..", value_delimiter = ',')]
    vram: Vec<Size>,
}

impl Totals {
    /// Returns what has no effect on a recording of this machine: the option, and what is not recorded.
    pub(super) fn without_effect(
        &self,
        machine: &Machine,
    ) -> impl Iterator<Item = (&'static str, &'static str)> {
        let vram = machine.gpus.iter().copied().max().unwrap_or_default();
        let all = [
            ("--memory", MEMORY, self.memory.is_some(), machine.memory),
            ("--vram", VRAM, !self.vram.is_empty(), vram),
        ];
        let is_it = |&(_, _, given, total): &(_, _, bool, Bytes)| given && total == Bytes::ZERO;
        all.into_iter().filter(is_it).map(|(option, what, ..)| (option, what))
    }

    /// Returns the machine, if any part of it was given, and notes which sizes have a decimal unit.
    pub(super) fn machine(&self) -> Option<Machine> {
        let sizes = self.memory.iter().chain(&self.vram);
        let notes: BTreeSet<String> = sizes.filter_map(Size::note).collect();
        notes.iter().for_each(|note| say::note(note));
        (self.memory.is_some() || !self.vram.is_empty()).then(|| Machine {
            memory: self.memory.as_ref().map_or(Bytes::ZERO, |size| size.bytes),
            gpus: self.vram.iter().map(|size| size.bytes).collect(),
            ..Machine::default()
        })
    }
}

/// A size, and how it was written.
#[derive(Clone, Debug)]
struct Size {
    bytes: Bytes,
    written: String,
}

impl FromStr for Size {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        Ok(Self { bytes: text.parse()?, written: text.trim().to_owned() })
    }
}

impl Size {
    /// Returns a note on a decimal unit: vendors write GB on memory of which there is a GiB.
    fn note(&self) -> Option<String> {
        let written = &self.written;
        let number = written.trim_end_matches(|c: char| c.is_ascii_alphabetic());
        let unit = &written[number.len()..];
        let prefix = unit.strip_suffix(['B', 'b']).unwrap_or(unit);
        let is_decimal = !prefix.is_empty() && !prefix.ends_with(['i', 'I']);
        is_decimal.then(|| {
            format!(
                "{written} is {}, because {unit} is a decimal unit: did you mean {}{}iB?",
                text::bytes(self.bytes),
                number.trim_end(),
                prefix.to_uppercase()
            )
        })
    }
}

/// What a recording does not state itself.
#[derive(Debug, clap::Args)]
pub(super) struct Says {
    /// Time between rows, for a file whose rows have no time
    #[arg(long, value_name = "SPAN")]
    interval: Option<SpanText>,
    /// When the recording began, for a file whose rows have no date or no year: 2026-01-31 or 2026-01-31T02:13:00, followed by
    /// +01:00 or Z if the offset from UTC is known. Times of day in the rows are kept
    #[arg(long, value_name = "TIME")]
    starts_at: Option<WallTime>,
    /// What the values measure, for a format that does not say it: cpu, gpu or memory, in percent
    #[arg(long, value_name = "WHAT")]
    metric: Option<String>,
    /// Number of GPUs in each reading, for rows that do not name their GPU
    #[arg(long, value_name = "N")]
    gpus: Option<usize>,
    /// Names of the columns in order, for a table without a header
    #[arg(long, value_name = "NAME,..", value_delimiter = ',')]
    columns: Vec<String>,
}

impl Says {
    /// Returns it in the readers' form.
    pub(super) fn told(&self) -> Told {
        Told {
            interval: self.interval.map(Into::into),
            starts_at: self.starts_at,
            metric: self.metric.clone(),
            gpus: self.gpus,
            columns: self.columns.clone(),
        }
    }
}

/// The selected part of a recording.
#[derive(Debug, clap::Args)]
pub(super) struct PartOption {
    /// Where to begin: a time since the start of the recording (1h30m) or, if the recording has dates, a wall-clock time
    /// (02:13, 2026-01-31T02:13)
    #[arg(id = "part-from", long = "from", value_name = "WHEN")]
    from: Option<When>,
    /// Where to end, in the same form as --from
    #[arg(id = "part-to", long = "to", value_name = "WHEN")]
    to: Option<When>,
}

impl PartOption {
    /// Returns the part. `extent` reads the recording for its clock and its last moment.
    pub(super) fn part(
        &self,
        extent: impl FnOnce() -> Result<(WallClock, Timestamp)>,
    ) -> Result<Part> {
        let moments = [(self.from, Timestamp::ZERO), (self.to, Timestamp::MAX)];
        let by_clock =
            |when: Option<When>| matches!(when, Some(When::TimeOfDay(_) | When::Date(_)));
        let (clock, end) = match moments.iter().any(|(when, _)| by_clock(*when)) {
            true => extent()?,
            false => (WallClock::default(), Timestamp::MAX),
        };
        let [from, to] = moments.map(|(when, unless)| match when {
            Some(when) => when.moment(&clock, end),
            None => Ok(unless),
        });
        let part = Part { from: from.context("--from")?, to: to.context("--to")? };
        anyhow::ensure!(part.from <= part.to, "--from is later than --to: swap them");
        Ok(part)
    }
}

/// Returns a moment as reports show it: the time since the run began and, if the run has a wall clock, its time.
pub(super) fn moment(at: Timestamp, clock: &WallClock) -> String {
    let since = text::seconds(at.as_secs_f64());
    match clock.at(at) {
        Some(time) => format!("{since:>12}  {}", time.short()),
        None => format!("{since:>12}"),
    }
}

/// The number of threads.
#[derive(Clone, Copy, Debug, clap::Args)]
pub(super) struct Jobs {
    /// Number of threads [default: number of processors]. Results do not depend on it
    #[arg(long, short, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    jobs: Option<u16>,
}

impl Jobs {
    /// Returns the number for [`crate::study::pool::map`].
    pub(super) fn count(self) -> u16 {
        self.jobs.unwrap_or(0)
    }
}

/// Reads and checks a catalog file in which every table is complete.
pub(super) fn catalog(path: &Path) -> Result<Catalog> {
    Ok(catalog_file(path)?.catalog()?)
}

/// Reads a catalog file.
pub(super) fn catalog_file(path: &Path) -> Result<CatalogFile> {
    let name = path.display().to_string();
    let text = read_small_text(path).with_context(|| format!("cannot read `{name}`"))?;
    Ok(CatalogFile::parse(&text, &name)?)
}

/// Reads a folder of models, and reports what is left out of it.
#[cfg(feature = "serve")]
pub(super) fn folder(path: &Path) -> Result<Folder> {
    let folder = Folder::open(path)?;
    for Skipped { name, why } in folder.skipped() {
        say::note(&format!("`{name}` is left out: {why}"));
    }
    Ok(folder)
}

/// Notes if a log was not closed: what follows from it is then limited.
pub(super) fn note_end(path: &Path, log: &LogReader) {
    if let Some(LogEnd::Torn { records, left_out }) = log.end() {
        let path = path.display();
        say::note(&format!(
            "{path} was not closed after its {records} records ({left_out} bytes of a half written one are left out): \
             its writer was stopped, or still writes"
        ));
    }
}

/// Returns the runs of a folder of recordings, the oldest first; empty for any other folder, such as that of one run.
pub(super) fn runs_of(path: &Path) -> Vec<PathBuf> {
    let is_log = run_log(path).is_some() || segments(path).is_ok_and(|found| !found.is_empty());
    if is_log { Vec::new() } else { runs(path).unwrap_or_default() }
}

/// Notes which run of a folder of recordings is taken, if there are several.
pub(super) fn note_newest(path: &Path) {
    let runs = runs_of(path);
    if let [older @ .., newest] = runs.as_slice()
        && !older.is_empty()
    {
        let count = match older.len() {
            1 => "an older one".to_owned(),
            count => format!("{count} older ones"),
        };
        say::note(&format!(
            "this is the newest run of {}, {}; {count} can be named",
            path.display(),
            newest.file_name().unwrap_or_default().display()
        ));
    }
}

/// Prints to standard output, without colours if it is not a terminal.
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

/// A progress bar that appears after a second, on a terminal only.
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

    /// Returns a function that shows how much of a file has been read; call it regularly.
    pub(super) fn following(what: &str, read: Option<progress::Progress>) -> impl FnMut() + use<> {
        let mut progress = Self::new(what, read.as_ref().and_then(progress::Progress::total));
        move || progress.set(read.as_ref().map_or(0, progress::Progress::passed))
    }

    pub(super) fn set(&mut self, done: u64) {
        if !self.shown && !say::is_quiet() && self.clock.now() > Timestamp::from_secs(1) {
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

/// How many of several recordings are done. For a single one, its own progress is shown.
pub(super) struct Done(Option<Mutex<(u64, Progress)>>);

impl Done {
    pub(super) fn new(what: &str, all: usize) -> Self {
        let progress = || Progress::new(what, Some(all as u64));
        Self((all > 1).then(|| Mutex::new((0, progress()))))
    }

    /// Counts one more, whatever its result.
    pub(super) fn after<T>(&self, done: T) -> T {
        if let Some(counted) = &self.0 {
            let mut counted = counted.lock().unwrap_or_else(PoisonError::into_inner);
            counted.0 += 1;
            let count = counted.0;
            counted.1.set(count);
        }
        done
    }
}

/// Shows how much of a file has been read, until it is dropped. It polls from its own thread: the reader is not
/// involved.
pub(super) struct Following {
    over: Option<mpsc::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Following {
    /// Starts to follow. Nothing is shown unless standard error is a terminal.
    pub(super) fn new(what: &'static str, read: progress::Progress) -> Self {
        if !std::io::stderr().is_terminal() {
            return Self { over: None, thread: None };
        }
        let (over, ends) = mpsc::channel();
        let show = move || {
            let mut progress = Progress::new(what, read.total());
            while ends.recv_timeout(LOOK_EVERY) == Err(mpsc::RecvTimeoutError::Timeout) {
                progress.set(read.passed());
            }
        };
        // If the system provides no thread, nothing is shown.
        let thread = std::thread::Builder::new().spawn(show).ok();
        Self { over: Some(over), thread }
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        self.over = None;
        if let Some(thread) = self.thread.take() {
            // It only draws: if it failed, there is nothing left to show.
            let _ = thread.join();
        }
    }
}

/// What totals are of, for users.
pub(super) const MEMORY: &str = "memory";
pub(super) const VRAM: &str = "video memory";

/// Chosen: how often a bar is worth drawing.
const LOOK_EVERY: Duration = Duration::from_millis(200);
