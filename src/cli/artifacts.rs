//! The output folder: summary, decisions, event log and plots of one run.
//!
//! Everything is written into a temporary folder next to the target, which is renamed when it is complete, so that an
//! interrupted run leaves what was there before.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use tempfile::TempDir;
use tiershift_core::catalog::Rung;
use tiershift_core::controller::Detail;
use tiershift_core::event::{EventRef, Observe};
use tiershift_core::time::{Timestamp, from_secs_f64};
use tiershift_core::units::Bytes;

use crate::cli::output::Force;
use crate::cli::say;
use crate::files::progress::Progress;
use crate::files::whole_file::unfinished::Unfinished;
use crate::log::{Header, LogLevel, LogWriter, PACKED_LOG, PLAIN_LOG, RunLog};
use crate::report::plot::{Run, Title};
use crate::report::{PlotData, decisions, plot};
use crate::summary::Summary;
use crate::wall::WallClock;

/// What a run's event log contains, as an argument.
#[derive(Clone, Copy, Debug, clap::Args)]
pub(super) struct LogOption {
    /// What the event log contains, written as plain `events.jsonl` [default: inputs, compressed as `events.jsonl.zst`]
    #[arg(long, value_enum, value_name = "LEVEL")]
    log: Option<Level>,
}

/// [`LogLevel`] as an argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Level {
    /// Everything
    Full,
    /// Everything except gates and repeated holds, which explain, plot and diff compute again
    Inputs,
    /// Only what changed; not enough for verify or replay
    Changes,
    /// No log
    Off,
}

impl LogOption {
    /// Returns what the log contains.
    pub(super) fn level(self) -> LogLevel {
        match self.log {
            Some(Level::Full) => LogLevel::Full,
            None | Some(Level::Inputs) => LogLevel::Inputs,
            Some(Level::Changes) => LogLevel::Changes,
            Some(Level::Off) => LogLevel::Off,
        }
    }

    /// Returns what the controller reports for the log and the plots beside it.
    pub(super) fn detail(self) -> Detail {
        match self.level() {
            LogLevel::Full => Detail::Full,
            LogLevel::Inputs => Detail::Holds,
            LogLevel::Changes | LogLevel::Off => Detail::Changes,
        }
    }

    fn is_packed(self) -> bool {
        self.log.is_none()
    }
}

/// The files of a run, while it lasts.
pub(super) struct Artifacts {
    folder: PathBuf,
    beside: TempDir,
    unfinished: Unfinished,
    title: Title,
    log: Option<LogWriter<RunLog>>,
    written: Progress,
    plot: PlotData,
}

impl Observe for Artifacts {
    fn observe(&mut self, at: Timestamp, event: EventRef<'_>) {
        self.plot.observe(at, event);
        if let Some(log) = &mut self.log {
            log.observe(at, event);
        }
    }
}

impl Artifacts {
    /// Prepares the folder. `header` is the log's, and `made_from` the run's sources.
    pub(super) fn create(
        folder: &Path,
        header: &Header,
        made_from: &Path,
        log: LogOption,
        force: Force,
    ) -> Result<Self> {
        let level = log.level();
        let parent = match folder.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        let unwritable = || {
            format!(
                "cannot write `{}`: give --out a folder that can be created and written",
                folder.display()
            )
        };
        fs::create_dir_all(parent).with_context(unwritable)?;
        if folder.exists() && !folder.is_dir() {
            anyhow::bail!("`{}` is a file: give --out a folder", folder.display());
        }
        // Every run leaves a summary; a folder without one must not contain any of the names that are written.
        let summary = folder.join(SUMMARY);
        let others = || NAMES.iter().map(|name| folder.join(name)).find(|file| file.exists());
        match summary.is_file() {
            true => force.check(&summary, SUMMARY_MARK)?,
            false => others().map_or(Ok(()), |file| force.check(&file, SUMMARY_MARK))?,
        }
        let mut builder = tempfile::Builder::new();
        builder.prefix(".tiershift-");
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            // It may become the folder itself: its permissions are those that the umask allows.
            builder.permissions(fs::Permissions::from_mode(0o777));
        }
        let (beside, unfinished) =
            Unfinished::create(|| builder.tempdir_in(parent)).with_context(unwritable)?;
        let mut written = Progress::default();
        let log = if level == LogLevel::Off {
            None
        } else {
            let file = RunLog::create(beside.path(), log.is_packed()).with_context(unwritable)?;
            written = file.written();
            let header = Header { level, ..header.clone() };
            Some(LogWriter::new(file, header).with_context(unwritable)?)
        };
        let settings = header.checked_settings()?;
        let catalog = header.checked_catalog()?;
        Ok(Self {
            folder: folder.to_owned(),
            unfinished,
            beside,
            title: Title::of(header, made_from),
            log,
            written,
            plot: PlotData::new(&catalog, &settings),
        })
    }

    /// Returns a function that warns once, before the log has taken much of the disk, that it will become large. Call
    /// it regularly with the bytes of the recording that were read, and its size.
    pub(super) fn watch_size(&self) -> impl FnMut(u64, Option<u64>) + use<> {
        let (written, name) = (self.written.clone(), self.title.name.clone());
        let mut is_noted = false;
        move |read, total| {
            let written = written.passed();
            if is_noted || written < ENOUGH_TO_ESTIMATE || read == 0 {
                return;
            }
            let Some(total) = total else { return };
            let whole = u128::from(written) * u128::from(total) / u128::from(read);
            is_noted = true;
            if whole > u128::from(LARGE_LOG) {
                let whole = Bytes::new(u64::try_from(whole).unwrap_or(u64::MAX));
                say::warning(&format!(
                    "{name}: the event log will need about {whole} of disk space; use --log changes or --log off to write less"
                ));
            }
        }
    }

    /// Writes what is left and puts every file in its place. Notes the log's digest in the summary. `sources` are the
    /// digests of the header's sources, `clock` is what the wall clock showed, and `optimum` the schedule of the
    /// optimum, if one was computed.
    pub(super) fn finish(
        mut self,
        summary: &mut Summary,
        clock: &WallClock,
        optimum: &[(Timestamp, Rung)],
        sources: &[String],
    ) -> Result<()> {
        let failed = || format!("cannot write into `{}`", self.folder.display());
        if let Some(mut log) = self.log.take() {
            log.write_clock(clock).with_context(failed)?;
            log.write_account(&summary.account).with_context(failed)?;
            let (file, digest) = log.finish_into(sources).with_context(failed)?;
            file.close().with_context(failed)?;
            summary.log_digest = digest;
        }
        self.plot.set_clock(clock);
        self.plot.set_optimum(optimum);
        self.plot.finish(Timestamp::ZERO + from_secs_f64(summary.seconds));
        let write = |name: &str, bytes: &[u8]| {
            fs::write(self.beside.path().join(name), bytes).with_context(failed)
        };
        write(SUMMARY, summary.to_json().as_bytes())?;
        write("decisions.csv", &decisions::csv(self.plot.timeline()))?;
        let run = [Run { title: &self.title, data: &self.plot, summary }];
        write("decisions.svg", plot::svg(&run).as_bytes())?;
        #[cfg(feature = "png")]
        write("decisions.png", &plot::png(&run))?;
        publish(&self.beside, &self.folder).with_context(failed)?;
        drop(self.unfinished);
        Ok(())
    }
}

/// Puts the files in their place: all at once if there was no folder, or else one after the other. Files of an older
/// run are removed.
fn publish(beside: &TempDir, folder: &Path) -> io::Result<()> {
    let beside = beside.path();
    // Fails if the folder exists and is not empty.
    if fs::rename(beside, folder).is_ok() {
        return Ok(());
    }
    fs::create_dir_all(folder)?;
    // Two runs into one folder take turns, so that all its files come from one of them. Not every system locks folders.
    let turn = File::open(folder).ok();
    if let Some(turn) = &turn {
        let _ = turn.lock();
    }
    for name in NAMES {
        let from = beside.join(name);
        if from.exists() {
            fs::rename(from, folder.join(name))?;
        } else if folder.join(name).exists() {
            fs::remove_file(folder.join(name))?;
        }
    }
    Ok(())
}

const SUMMARY: &str = "summary.json";
/// The beginning of a summary that we wrote.
const SUMMARY_MARK: &str = "\"fingerprint\"";

/// Everything that a run writes. The summary comes last: it names the digest of the log beside it.
const NAMES: [&str; 6] =
    [PLAIN_LOG, PACKED_LOG, "decisions.csv", "decisions.svg", "decisions.png", SUMMARY];

/// The size of a log, in bytes, from which the user is warned. Chosen: a small disk has room for one or two of these.
const LARGE_LOG: u64 = 2 << 30;
/// The bytes of a log on disk from which its final size can be estimated. Chosen: the packing thread holds back less
/// than a fiftieth of it.
const ENOUGH_TO_ESTIMATE: u64 = 32 << 20;
