//! Writes an event log, whole or thinned out.

use std::io::{self, Write};
use std::mem::{Discriminant, discriminant};

use tiershift_core::decision::{Action, Reason};
use tiershift_core::event::{Event, Input, Output, Record};
use tiershift_core::time::Timestamp;

use crate::log::{Header, LogLevel, SAMPLE_SPACING, Trailer};

/// Writes a log line by line. [`LogWriter::finish`] writes the last one: without it the log counts as torn.
#[derive(Debug)]
pub struct LogWriter<W> {
    out: W,
    thinning: Option<Thinning>,
    off: bool,
    line: Vec<u8>,
    digest: blake3::Hasher,
    records: u64,
    bytes: u64,
}

impl<W: Write> LogWriter<W> {
    /// Writes the first line. The header is sealed on the way.
    ///
    /// # Errors
    /// Whatever `out` says.
    pub fn new(out: W, header: Header) -> io::Result<Self> {
        let level = header.level;
        let mut log = Self {
            out,
            thinning: (level == LogLevel::Changes).then(Thinning::default),
            off: level == LogLevel::Off,
            line: Vec::new(),
            digest: blake3::Hasher::new(),
            records: 0,
            bytes: 0,
        };
        if !log.off {
            log.write_line(&header.seal())?;
        }
        Ok(log)
    }

    /// Writes a record, if the log's level wants it.
    ///
    /// # Errors
    /// Whatever `out` says.
    pub fn write(&mut self, record: &Record) -> io::Result<()> {
        if self.off {
            return Ok(());
        }
        let Some(mut thinning) = self.thinning.take() else {
            return self.write_record(record);
        };
        let verdict = thinning.judge(record);
        let mut written = Ok(());
        if verdict == Keep::WithSample
            && let Some(sample) = thinning.sample.take()
        {
            thinning.last_sample = Some(sample.at);
            written = self.write_record(&sample);
        }
        self.thinning = Some(thinning);
        written?;
        match verdict {
            Keep::No => Ok(()),
            Keep::Yes | Keep::WithSample => self.write_record(record),
        }
    }

    /// Writes the last line and returns the digest of every byte above it; `None` where the log is off.
    ///
    /// # Errors
    /// Whatever `out` says.
    pub fn finish(self) -> io::Result<Option<String>> {
        Ok(self.finish_into()?.1)
    }

    /// Does what [`LogWriter::finish`] does, and returns what was written into, too.
    ///
    /// # Errors
    /// Whatever it says.
    pub fn finish_into(mut self) -> io::Result<(W, Option<String>)> {
        if self.off {
            return Ok((self.out, None));
        }
        let trailer = Trailer::new(self.records, &self.digest);
        self.out.write_all(&trailer.to_line())?;
        self.out.flush()?;
        Ok((self.out, Some(trailer.end.digest)))
    }

    /// Returns the digest of every byte written so far: the last line's, if it were written now.
    pub fn digest(&self) -> String {
        self.digest.finalize().to_hex().to_string()
    }

    /// Returns the bytes written so far.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Hands what was written to the file, so that a kill loses nothing of it.
    ///
    /// # Errors
    /// Whatever `out` says.
    pub fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }

    fn write_record(&mut self, record: &Record) -> io::Result<()> {
        self.records += 1;
        self.write_line(record)
    }

    fn write_line(&mut self, line: &impl serde::Serialize) -> io::Result<()> {
        self.line.clear();
        serde_json::to_writer(&mut self.line, line)?;
        self.line.push(b'\n');
        self.digest.update(&self.line);
        self.bytes += self.line.len() as u64;
        self.out.write_all(&self.line)
    }
}

/// What a log of changes remembers to know what it may leave out.
#[derive(Debug, Default)]
struct Thinning {
    /// The kind of the last decision.
    last: Option<(Discriminant<Action>, Discriminant<Reason>)>,
    /// The last sample, while it is not written.
    sample: Option<Record>,
    /// When a sample was last written.
    last_sample: Option<Timestamp>,
    /// Whether the last reading was missing.
    missing: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Keep {
    No,
    Yes,
    WithSample,
}

impl Thinning {
    fn judge(&mut self, record: &Record) -> Keep {
        match &record.event {
            Event::Input(Input::Sample(_)) => {
                self.missing = false;
                let due =
                    self.last_sample.is_none_or(|last| record.at.since(last) >= SAMPLE_SPACING);
                if due {
                    self.last_sample = Some(record.at);
                    self.sample = None;
                    return Keep::Yes;
                }
                self.sample = Some(record.clone());
                Keep::No
            }
            Event::Input(Input::SampleMissing { .. }) => {
                let first = !std::mem::replace(&mut self.missing, true);
                if first { Keep::Yes } else { Keep::No }
            }
            Event::Input(Input::Timeout) => Keep::No,
            Event::Output(Output::Decision(decision)) => {
                let kind = (discriminant(&decision.action), discriminant(&decision.reason));
                let same = self.last.replace(kind) == Some(kind);
                if decision.action == Action::Hold && same { Keep::No } else { Keep::WithSample }
            }
            Event::Input(
                Input::Request(_)
                | Input::Cancel { .. }
                | Input::Outcome(_)
                | Input::Adopt { .. }
                | Input::Settings(_)
                | Input::Switch { .. }
                | Input::Shutdown,
            )
            | Event::Output(
                Output::Command(_)
                | Output::Accepted { .. }
                | Output::Ended { .. }
                | Output::Serving { .. }
                | Output::Switched { .. }
                | Output::Notice(_),
            ) => Keep::Yes,
        }
    }
}
