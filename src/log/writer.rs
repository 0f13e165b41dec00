//! Writes an event log, complete or thinned out.

use std::io::{self, Write};

use serde::ser::{Serialize, SerializeStruct, Serializer};
use tiershift_core::controller::Saying;
use tiershift_core::decision::Decision;
use tiershift_core::event::{EventRef, Input, Observe, Output, Record};
use tiershift_core::time::Timestamp;

use crate::log::trailer::{AccountLine, ClockLine, Trailer};
use crate::log::{Header, LogLevel, SAMPLE_SPACING, digest_text};
use crate::summary::Account;
use crate::wall::{WallClock, WallMark};

/// Writes a log line by line. [`LogWriter::finish`] writes the last one: without it the log counts as torn.
#[derive(Debug)]
pub struct LogWriter<W> {
    out: W,
    header: Header,
    thinning: Thinning,
    line: Vec<u8>,
    digest: blake3::Hasher,
    /// For the next event.
    seq: u64,
    records: u64,
    bytes: u64,
    failure: Option<io::Error>,
}

/// A line of a log.
struct Line<'a> {
    seq: u64,
    at: Timestamp,
    event: EventRef<'a>,
}

/// Like [`Record`], whose flattened event takes a third longer to write.
impl Serialize for Line<'_> {
    fn serialize<S: Serializer>(&self, out: S) -> Result<S::Ok, S::Error> {
        let mut line = out.serialize_struct("Record", 3)?;
        line.serialize_field("seq", &self.seq)?;
        line.serialize_field("at_ns", &self.at)?;
        match self.event {
            EventRef::Input(input) => line.serialize_field("input", input)?,
            EventRef::Output(output) => line.serialize_field("output", output)?,
        }
        line.end()
    }
}

impl<W: Write> LogWriter<W> {
    /// Writes the first line, after sealing the header.
    ///
    /// # Errors
    /// When `out` fails.
    pub fn new(out: W, header: Header) -> io::Result<Self> {
        let seq = header.segment.as_ref().map_or(0, |segment| segment.first_seq);
        let mut log = Self {
            out,
            header: header.seal(),
            thinning: Thinning::default(),
            line: Vec::new(),
            digest: blake3::Hasher::new(),
            seq,
            records: 0,
            bytes: 0,
            failure: None,
        };
        if log.header.level != LogLevel::Off {
            let header = log.header.clone();
            log.write_line(&header)?;
        }
        Ok(log)
    }

    /// Writes the next event, if the log's level includes it.
    ///
    /// # Errors
    /// When `out` fails.
    pub fn write(&mut self, at: Timestamp, event: EventRef<'_>) -> io::Result<()> {
        match self.header.level {
            LogLevel::Full => self.write_next(at, event),
            LogLevel::Inputs => match event {
                EventRef::Output(Output::Decision(decision)) => {
                    if !self.thinning.saying.says(decision) {
                        return Ok(());
                    }
                    let Decision { rung, action, reason, .. } = *decision;
                    let bare = Output::Decision(Decision::new(rung, action, reason));
                    self.write_next(at, EventRef::Output(&bare))
                }
                _ => self.write_next(at, event),
            },
            LogLevel::Changes => self.write_change(at, event),
            LogLevel::Off => Ok(()),
        }
    }

    fn write_next(&mut self, at: Timestamp, event: EventRef<'_>) -> io::Result<()> {
        let line = Line { seq: self.seq, at, event };
        self.seq += 1;
        self.write_record(&line)
    }

    fn write_change(&mut self, at: Timestamp, event: EventRef<'_>) -> io::Result<()> {
        let line = Line { seq: self.seq, at, event };
        self.seq += 1;
        let verdict = self.thinning.judge(&line);
        if verdict == Keep::WithSample
            && let Some(sample) = self.thinning.sample.take()
        {
            self.thinning.last_sample = Some(sample.at);
            let Record { seq, at, event } = &sample;
            self.write_record(&Line { seq: *seq, at: *at, event: event.as_ref() })?;
        }
        match verdict {
            Keep::No => Ok(()),
            Keep::Yes | Keep::WithSample => self.write_record(&line),
        }
    }

    /// Writes what the wall clock showed at moments that do not follow from the header, one line each. Must come before
    /// the last line.
    ///
    /// # Errors
    /// When `out` fails.
    pub fn write_clock(&mut self, clock: &WallClock) -> io::Result<()> {
        let follows = |mark: &&WallMark| {
            mark.at > Timestamp::ZERO || Some(mark.wall_time) != self.header.started_at
        };
        let marks: Vec<WallMark> = clock.marks().iter().filter(follows).copied().collect();
        match self.header.level {
            LogLevel::Off => Ok(()),
            _ => marks.into_iter().try_for_each(|clock| self.write_line(&ClockLine { clock })),
        }
    }

    /// Writes what the machine of a simulated run counted. Before the last line.
    ///
    /// # Errors
    /// When `out` fails.
    pub fn write_account(&mut self, account: &Account) -> io::Result<()> {
        match self.header.level {
            LogLevel::Off => Ok(()),
            _ => self.write_line(&AccountLine { account: account.clone() }),
        }
    }

    /// Writes the last line and returns the digest of every byte above it; `None` if the log is off. `sources` are the
    /// digests of the header's sources, now that they have been read.
    ///
    /// # Errors
    /// When `out` fails.
    pub fn finish(self, sources: &[String]) -> io::Result<Option<String>> {
        Ok(self.finish_into(sources)?.1)
    }

    /// Like [`LogWriter::finish`], but also returns the output.
    ///
    /// # Errors
    /// As [`LogWriter::finish`].
    pub fn finish_into(mut self, sources: &[String]) -> io::Result<(W, Option<String>)> {
        if let Some(error) = self.failure {
            return Err(error);
        }
        if self.header.level == LogLevel::Off {
            return Ok((self.out, None));
        }
        let trailer = Trailer::new(&self.header, self.records, sources, &self.digest);
        self.out.write_all(&trailer.to_line())?;
        self.out.flush()?;
        Ok((self.out, Some(trailer.end.digest)))
    }

    /// Returns the digest of every byte written so far: the last line's, if it were written now.
    pub fn digest(&self) -> String {
        digest_text(self.digest.finalize())
    }

    /// Returns the sequence number of the next event.
    pub fn next_seq(&self) -> u64 {
        self.seq
    }

    /// Returns the bytes written so far.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Returns the output.
    pub fn get_ref(&self) -> &W {
        &self.out
    }

    /// Passes what was written to the file, so that a kill loses nothing of it.
    ///
    /// # Errors
    /// When `out` fails.
    pub fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }

    fn write_record(&mut self, record: &Line<'_>) -> io::Result<()> {
        self.records += 1;
        self.write_line(record)
    }

    fn write_line(&mut self, line: &impl Serialize) -> io::Result<()> {
        self.line.clear();
        serde_json::to_writer(&mut self.line, line)?;
        self.line.push(b'\n');
        self.digest.update(&self.line);
        self.bytes += self.line.len() as u64;
        self.out.write_all(&self.line)
    }
}

/// An error of writing is returned by [`LogWriter::finish`]; nothing is written after it.
impl<W: Write> Observe for LogWriter<W> {
    fn observe(&mut self, at: Timestamp, event: EventRef<'_>) {
        if self.failure.is_none() {
            self.failure = self.write(at, event).err();
        }
    }
}

/// The state for deciding what a log may leave out.
#[derive(Debug, Default)]
struct Thinning {
    /// What the controller reports with [`Detail::Changes`](tiershift_core::controller::Detail::Changes).
    saying: Saying,
    /// The last sample, while it is not written.
    sample: Option<Record>,
    /// When a sample was last written.
    last_sample: Option<Timestamp>,
    /// Whether the last sample was missing.
    missing: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Keep {
    No,
    Yes,
    WithSample,
}

impl Thinning {
    fn judge(&mut self, line: &Line<'_>) -> Keep {
        match line.event {
            EventRef::Input(Input::Sample(_)) => {
                self.missing = false;
                let due = self.last_sample.is_none_or(|last| line.at.since(last) >= SAMPLE_SPACING);
                if due {
                    self.last_sample = Some(line.at);
                    self.sample = None;
                    return Keep::Yes;
                }
                self.sample =
                    Some(Record { seq: line.seq, at: line.at, event: line.event.to_owned() });
                Keep::No
            }
            EventRef::Input(Input::SampleMissing { .. }) => {
                let first = !std::mem::replace(&mut self.missing, true);
                if first { Keep::Yes } else { Keep::No }
            }
            EventRef::Input(Input::Timeout) => Keep::No,
            EventRef::Output(Output::Decision(decision)) => {
                if self.saying.says(decision) {
                    Keep::WithSample
                } else {
                    Keep::No
                }
            }
            EventRef::Input(
                Input::Request(_)
                | Input::Cancel { .. }
                | Input::Outcome(_)
                | Input::Adopt { .. }
                | Input::Settings(_)
                | Input::Switch { .. }
                | Input::Advice(_)
                | Input::Shutdown,
            )
            | EventRef::Output(
                Output::Command(_)
                | Output::Accepted { .. }
                | Output::Ended { .. }
                | Output::Serving { .. }
                | Output::Switched { .. }
                | Output::Companion { .. }
                | Output::Order { .. }
                | Output::Consult(_)
                | Output::Notice(_),
            ) => Keep::Yes,
        }
    }
}
