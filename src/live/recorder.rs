//! The flight recorder: every input and output of the controller goes into an event log, and no more than the sizes
//! and times of requests with them. What it cannot write stops the recording, never the serving.

use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter};
use std::path::Path;

use crate::driver::Passed;
use crate::event::{Event, Record};
use crate::log::{Header, LogWriter};
use crate::time::Timestamp;

/// Writes the log of a live run, if one is wanted.
#[derive(Debug)]
pub(super) struct Recorder {
    log: Option<LogWriter<BufWriter<File>>>,
    seq: u64,
}

impl Recorder {
    /// Begins a log. An older one is never written over.
    pub(super) fn create(path: &Path, header: Header) -> io::Result<Self> {
        let file = OpenOptions::new().write(true).create_new(true).open(path)?;
        let log = LogWriter::new(BufWriter::new(file), header)?;
        Ok(Self { log: Some(log), seq: 0 })
    }

    /// Writes nothing.
    pub(super) fn off() -> Self {
        Self { log: None, seq: 0 }
    }

    /// Writes what passed.
    ///
    /// # Errors
    /// Once: the recording has stopped.
    pub(super) fn record(&mut self, at: Timestamp, passed: Passed<'_>) -> io::Result<()> {
        if self.log.is_none() {
            return Ok(());
        }
        let event = match passed {
            Passed::Input(input) => Event::Input(input.clone()),
            Passed::Output(output) => Event::Output(output.clone()),
        };
        let record = Record { seq: self.seq, at, event };
        self.seq += 1;
        self.attempt(|log| log.write(&record))
    }

    /// Hands what was written to the file.
    ///
    /// # Errors
    /// As [`Recorder::record`].
    pub(super) fn flush(&mut self) -> io::Result<()> {
        self.attempt(LogWriter::flush)
    }

    /// Writes the last line, without which the log counts as torn.
    ///
    /// # Errors
    /// As [`Recorder::record`].
    pub(super) fn close(mut self) -> io::Result<()> {
        let Some(log) = self.log.take() else { return Ok(()) };
        let (file, _) = log.finish_into()?;
        file.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()
    }

    fn attempt(
        &mut self,
        write: impl FnOnce(&mut LogWriter<BufWriter<File>>) -> io::Result<()>,
    ) -> io::Result<()> {
        let Some(log) = &mut self.log else { return Ok(()) };
        let written = write(log);
        if written.is_err() {
            self.log = None;
        }
        written
    }
}
