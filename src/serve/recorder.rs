//! The flight recorder: every input and output of the controller goes into an event log, and of requests only their
//! sizes and times. If it cannot write, the recording stops, but never the serving; a disk that has room again is used
//! again.
//!
//! It writes in its own thread, so that a slow disk delays nothing else. In a busy daemon it does not wake for each
//! record, but collects those of a moment: if it is killed, the records of the last moment are lost. A finished segment
//! is on the disk before its uncompressed form is deleted; of the segment being written, a power cut loses what the
//! system has not yet written on its own (half a minute on Linux).
//!
//! What a full disk does not accept is held in memory, up to a limit, and written when there is room: then nothing is
//! missing. A log in which a record is missing cannot be verified beyond the gap. So what follows a gap goes into a new
//! folder, whose header names its first record: it can be read and replayed, and states that it begins late.

mod disk;
mod run;
mod writer;

use std::io;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, SyncSender, TrySendError};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tiershift_core::event::{Event, EventRef, Observe};
use tiershift_core::time::{Clock, Timestamp};
use tiershift_core::units::Bytes;

use crate::log::Header;
use crate::probe::clock::SystemClock;
use crate::serve::recorder::writer::Writer;
use crate::serve::status::Recording;

/// Where a run is recorded, and how much is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordingPlan {
    /// The folder of recordings. Each run gets a folder in it.
    pub folder: std::path::PathBuf,
    /// A segment of this size is finished.
    pub segment_size: Bytes,
    /// A segment of this age is finished too.
    pub segment_age: Duration,
    /// The limit of all recordings: beyond it, the oldest segments are deleted.
    pub total_size: Bytes,
}

/// Called with the state of the recording, from any thread.
pub(super) type NotifyRecording = Arc<dyn Fn(Recording) + Send + Sync>;

/// The controller's end of the recorder.
pub(super) struct Recorder {
    to: Option<SyncSender<Entry>>,
    /// The number of the next event, whether or not it is written.
    seq: u64,
    /// While the disk is too slow, nothing is sent to it.
    paused_until: Option<Timestamp>,
    /// Closed when everything is written.
    written: Receiver<()>,
    reporter: Reporter,
}

/// An event on its way to the disk.
struct Entry {
    seq: u64,
    at: Timestamp,
    event: Event,
}

impl Recorder {
    /// Begins a recording. An older one is never overwritten or continued. A disk that is full or read-only is retried
    /// later.
    ///
    /// # Errors
    /// When the folder cannot be used, or another daemon records into it.
    pub(super) fn begin(
        plan: RecordingPlan,
        header: Header,
        notify: NotifyRecording,
    ) -> io::Result<Self> {
        let reporter = Reporter { notify, is_behind: Arc::default() };
        let mut writer = Writer::begin(plan, header, reporter.clone())?;
        let (to, inbox) = mpsc::sync_channel(MOST_UNWRITTEN);
        let (writes, written) = mpsc::channel();
        std::thread::Builder::new().name("recorder".to_owned()).spawn(move || {
            write(&mut writer, &inbox);
            writer.close();
            drop(writes);
        })?;
        Ok(Self { to: Some(to), seq: 0, paused_until: None, written, reporter })
    }

    /// Records nothing.
    pub(super) fn off() -> Self {
        let reporter = Reporter { notify: Arc::new(|_| {}), is_behind: Arc::default() };
        Self { to: None, seq: 0, paused_until: None, written: mpsc::channel().1, reporter }
    }

    /// Closes the log, without which it counts as torn; a disk that hangs is not waited for long.
    pub(super) fn close(self) {
        drop(self.to);
        if self.written.recv_timeout(LAST_WORDS) == Err(RecvTimeoutError::Timeout) {
            self.reporter
                .fell_behind("the log could not be closed: the disk does not respond".to_owned());
        }
    }
}

impl Observe for Recorder {
    fn observe(&mut self, at: Timestamp, event: EventRef<'_>) {
        let Some(to) = &self.to else { return };
        let seq = self.seq;
        self.seq += 1;
        if self.paused_until.is_some_and(|until| at < until) {
            return;
        }
        match to.try_send(Entry { seq, at, event: event.to_owned() }) {
            Ok(()) => self.paused_until = None,
            // The writer sees from the numbers that records are missing.
            Err(TrySendError::Full(_)) => {
                self.paused_until = Some(at + RETRY);
                self.reporter.fell_behind(format!(
                    "the disk is too slow: {MOST_UNWRITTEN} records are waiting to be written"
                ));
            }
            Err(TrySendError::Disconnected(_)) => {
                self.to = None;
                self.reporter.fell_behind("its thread has ended".to_owned());
            }
        }
    }
}

/// Reports the state of the recording. A segment's compression ends late; it must not report that recording continues
/// when it does not.
#[derive(Clone)]
struct Reporter {
    notify: NotifyRecording,
    /// True from the moment when a record was held or left out until all are written again, or a new run begins.
    is_behind: Arc<Mutex<bool>>,
}

impl Reporter {
    fn goes_on(&self, recording: Recording) {
        let is_behind = self.is_behind.lock().unwrap_or_else(PoisonError::into_inner);
        if !*is_behind {
            (self.notify)(recording);
        }
    }

    fn fell_behind(&self, error: String) {
        let mut is_behind = self.is_behind.lock().unwrap_or_else(PoisonError::into_inner);
        *is_behind = true;
        (self.notify)(Recording::Stopped { error });
    }

    fn holds(&self, error: String) {
        let mut is_behind = self.is_behind.lock().unwrap_or_else(PoisonError::into_inner);
        *is_behind = true;
        (self.notify)(Recording::Held { error });
    }

    fn caught_up(&self) {
        *self.is_behind.lock().unwrap_or_else(PoisonError::into_inner) = false;
    }
}

/// Writes what arrives until all senders are gone.
fn write(writer: &mut Writer, inbox: &Receiver<Entry>) {
    let mut clock = SystemClock::start();
    while let Ok(entry) = inbox.recv() {
        writer.take(&entry);
        for entry in inbox.try_iter() {
            writer.take(&entry);
        }
        writer.flush(clock.now());
        clock.wait_until(clock.now() + GATHER);
    }
}

/// Chosen: some seconds of the busiest log, and at most a few tens of megabytes.
const MOST_UNWRITTEN: usize = 1 << 14;

/// How long a record may wait for others if one was written just before. Chosen: at most fifty wakes a second, and with
/// the time to write far less than the second that a kill may cost.
const GATHER: Duration = Duration::from_millis(20);

/// When to retry a disk that could not be written. Chosen: a user who makes room wants to see the effect.
const RETRY: Duration = Duration::from_secs(10);

/// Chosen: a segment of the usual size is compressed in a tenth of it.
const LAST_WORDS: Duration = Duration::from_secs(10);
