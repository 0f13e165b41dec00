//! The flight recorder: every input and output of the controller goes into an event log, and no more than the sizes
//! and times of requests with them. What it cannot write stops the recording, never the serving.
//!
//! A thread of its own writes, so that a slow disk holds nobody up. It does not wake for each record of a busy daemon,
//! but for those of a moment together: one that is killed loses what came in the last moment. A finished segment is on the
//! disk before its unpacked form goes; of the segment that is written, a power cut takes what the system has not
//! written by itself (half a minute on Linux).

mod run;

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, SyncSender, TrySendError};
use std::time::Duration;

use tiershift_core::event::{Event, EventRef, Observe};
use tiershift_core::time::{Clock, Timestamp};
use tiershift_core::units::Bytes;

use crate::log::Header;
use crate::probe::clock::SystemClock;
use crate::serve::recorder::run::Run;
use crate::serve::status::Recording;

/// Where a run is recorded, and how much is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordingPlan {
    /// The folder of recordings. Each run gets a folder in it.
    pub folder: std::path::PathBuf,
    /// A segment that has reached this is finished.
    pub segment_size: Bytes,
    /// So is one that has reached this age.
    pub segment_age: Duration,
    /// More than this is not kept: the oldest segments go.
    pub total_size: Bytes,
}

/// Called with how the recording goes, from any thread.
pub(super) type NotifyRecording = Arc<dyn Fn(Recording) + Send + Sync>;

/// The controller's end of the recorder.
pub(super) struct Recorder {
    to: Option<SyncSender<(Timestamp, Event)>>,
    /// Hung up when everything is written.
    written: Receiver<()>,
    notify: NotifyRecording,
}

impl Recorder {
    /// Begins a recording. An older one is never written over, nor written on.
    ///
    /// # Errors
    /// Where the folder cannot be written, or another daemon records into it.
    pub(super) fn begin(
        plan: RecordingPlan,
        header: Header,
        notify: NotifyRecording,
    ) -> io::Result<Self> {
        let run = Run::begin(plan, header, Arc::clone(&notify))?;
        let (to, inbox) = mpsc::sync_channel(MOST_UNWRITTEN);
        let (writes, written) = mpsc::channel();
        let on_stop = Arc::clone(&notify);
        std::thread::Builder::new().name("recorder".to_owned()).spawn(move || {
            if let Err(error) = write(run, &inbox) {
                on_stop(Recording::Stopped { error: error.to_string() });
            }
            drop(writes);
        })?;
        Ok(Self { to: Some(to), written, notify })
    }

    /// Records nothing.
    pub(super) fn off() -> Self {
        Self { to: None, written: mpsc::channel().1, notify: Arc::new(|_| {}) }
    }

    /// Closes the log, without which it counts as torn; a disk that hangs is not waited for long.
    pub(super) fn close(self) {
        drop(self.to);
        if self.written.recv_timeout(LAST_WORDS) == Err(RecvTimeoutError::Timeout) {
            let error = "the log could not be closed: the disk hangs".to_owned();
            (self.notify)(Recording::Stopped { error });
        }
    }
}

impl Observe for Recorder {
    fn observe(&mut self, at: Timestamp, event: EventRef<'_>) {
        let Some(to) = &self.to else { return };
        match to.try_send((at, event.to_owned())) {
            Ok(()) => {}
            // A record that is left out would make a log that cannot be verified.
            Err(TrySendError::Full(_)) => {
                self.to = None;
                let error = format!("the disk is too slow: {MOST_UNWRITTEN} records wait for it");
                (self.notify)(Recording::Stopped { error });
            }
            // It has said why.
            Err(TrySendError::Disconnected(_)) => self.to = None,
        }
    }
}

/// Writes what comes until nobody sends any more, and closes the log.
fn write(mut run: Run, inbox: &Receiver<(Timestamp, Event)>) -> io::Result<()> {
    let mut clock = SystemClock::start();
    while let Ok((at, event)) = inbox.recv() {
        run.write(at, &event)?;
        for (at, event) in inbox.try_iter() {
            run.write(at, &event)?;
        }
        run.flush()?;
        clock.wait_until(clock.now() + GATHER);
    }
    run.close()
}

/// Chosen: some seconds of the busiest log, and at most a few tens of megabytes.
const MOST_UNWRITTEN: usize = 1 << 14;

/// How long a record may wait for others, where one was written just before. Chosen: fifty wakes a second at most, and
/// with the time to write far less than the second that a kill may cost.
const GATHER: Duration = Duration::from_millis(20);

/// Chosen: a segment of the usual size is packed in a tenth of it.
const LAST_WORDS: Duration = Duration::from_secs(10);
