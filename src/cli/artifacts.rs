//! The output folder: summary, decisions, event log and plots of one run.
//!
//! Everything is written into a folder beside the wanted one and renamed when it is whole, so that an
//! interrupted run leaves what was there before.

use std::fs::{self, File};
use std::io::BufWriter;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use tempfile::TempDir;

use crate::event::Record;
use crate::log::{Header, LogLevel, LogWriter};
use crate::report::{DecisionsCsv, PlotData, plot};
use crate::summary::Summary;
use crate::time::{Timestamp, from_secs_f64};

/// The files of a run, while it lasts.
pub(super) struct Artifacts {
    folder: PathBuf,
    beside: TempDir,
    title: String,
    log: Option<LogWriter<BufWriter<File>>>,
    decisions: DecisionsCsv,
    plot: PlotData,
    failure: Option<std::io::Error>,
}

impl Artifacts {
    /// Prepares the folder. `header` is the log's.
    pub(super) fn create(folder: &Path, header: &Header, level: LogLevel) -> Result<Self> {
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
        let beside = tempfile::Builder::new()
            .prefix(".tiershift-")
            .tempdir_in(parent)
            .with_context(unwritable)?;
        let log = if level == LogLevel::Off {
            None
        } else {
            let file = File::create(beside.path().join(LOG)).with_context(unwritable)?;
            let header = Header { level, ..header.clone() };
            Some(LogWriter::new(BufWriter::new(file), header).with_context(unwritable)?)
        };
        let settings = header.checked_settings()?;
        let catalog = header.checked_catalog()?;
        Ok(Self {
            folder: folder.to_owned(),
            beside,
            title: header.name.clone(),
            log,
            decisions: DecisionsCsv::new(&catalog),
            plot: PlotData::new(&catalog, &settings),
            failure: None,
        })
    }

    /// Takes the next record.
    pub(super) fn observe(&mut self, record: &Record) {
        self.decisions.observe(record);
        self.plot.observe(record);
        if let Some(log) = &mut self.log
            && self.failure.is_none()
        {
            self.failure = log.write(record).err();
        }
    }

    /// Writes what is left and puts every file in its place. Notes the log's digest in the summary.
    pub(super) fn finish(mut self, summary: &mut Summary) -> Result<()> {
        let failed = || format!("cannot write into `{}`", self.folder.display());
        if let Some(error) = self.failure.take() {
            return Err(error).with_context(failed);
        }
        if let Some(log) = self.log.take() {
            summary.log_digest = log.finish().with_context(failed)?;
        }
        self.plot.finish(Timestamp::ZERO + from_secs_f64(summary.seconds));
        let write = |name: &str, bytes: &[u8]| {
            fs::write(self.beside.path().join(name), bytes).with_context(failed)
        };
        write("summary.json", summary.to_json().as_bytes())?;
        write("decisions.csv", &self.decisions.finish())?;
        write("decisions.svg", plot::svg(&self.title, &self.plot, summary).as_bytes())?;
        #[cfg(feature = "png")]
        write("decisions.png", &plot::png(&self.title, &self.plot, summary))?;
        fs::create_dir_all(&self.folder).with_context(failed)?;
        let mut entries: Vec<_> =
            fs::read_dir(self.beside.path()).with_context(failed)?.collect::<Result<_, _>>()?;
        entries.sort_by_key(fs::DirEntry::file_name);
        for entry in entries {
            fs::rename(entry.path(), self.folder.join(entry.file_name())).with_context(failed)?;
        }
        Ok(())
    }
}

/// Name of the event log in the folder.
const LOG: &str = "events.jsonl";
