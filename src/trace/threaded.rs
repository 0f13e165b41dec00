//! A resource trace parsed in its own thread, so that parsing and deciding overlap. The order is the file's, and so is
//! every byte of the result.

use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::thread::JoinHandle;

use tiershift_core::sample::Sample;
use tiershift_core::time::Timestamp;

use crate::trace::TraceError;
use crate::trace::resource::ResourceReader;

/// Reads ahead of its user, by a bounded number of samples.
pub struct ThreadedReader {
    full: Receiver<Message>,
    spent: Sender<Vec<(Timestamp, Sample)>>,
    batch: Vec<(Timestamp, Sample)>,
    /// Samples of the batch that are in use: its vector keeps used samples for their memory.
    filled: usize,
    at: usize,
    ended: bool,
    worker: Option<JoinHandle<()>>,
    reader: Option<Box<ResourceReader>>,
}

enum Message {
    Batch(Vec<(Timestamp, Sample)>, usize),
    End(Box<ResourceReader>, Result<(), TraceError>),
}

impl ThreadedReader {
    /// Starts reading.
    pub fn start(mut reader: ResourceReader) -> Self {
        let (send_full, full) = sync_channel::<Message>(BATCHES_AHEAD);
        let (spent, take_spent) = channel::<Vec<(Timestamp, Sample)>>();
        let worker = std::thread::spawn(move || {
            let result = read_all(&mut reader, &send_full, &take_spent);
            // If the receiver is gone, the result is not needed.
            let _ = send_full.send(Message::End(Box::new(reader), result));
        });
        let batch = Vec::new();
        let worker = Some(worker);
        Self { full, spent, batch, filled: 0, at: 0, ended: false, worker, reader: None }
    }

    /// Reads the next sample into `sample` and returns its time; `None` at the end. The memory of `sample` is reused
    /// for a later one.
    ///
    /// # Errors
    /// As [`ResourceReader::next`], once the samples before the error are taken.
    pub fn next_into(&mut self, sample: &mut Sample) -> Result<Option<Timestamp>, TraceError> {
        while self.at == self.filled {
            if self.ended {
                return Ok(None);
            }
            match self.full.recv() {
                Ok(Message::Batch(batch, filled)) => {
                    let spent = std::mem::replace(&mut self.batch, batch);
                    // The thread may have ended already; then the memory is dropped.
                    let _ = self.spent.send(spent);
                    (self.at, self.filled) = (0, filled);
                }
                Ok(Message::End(reader, result)) => {
                    self.ended = true;
                    self.reader = Some(reader);
                    result?;
                }
                Err(_) => self.rethrow(),
            }
        }
        let (at, next) = &self.batch[self.at];
        self.at += 1;
        sample.clone_from(next);
        Ok(Some(*at))
    }

    /// Returns the reader with its defects, machine and digest; `None` before the end or an error.
    pub fn reader(&self) -> Option<&ResourceReader> {
        self.reader.as_deref()
    }

    /// The channel closes early only when the thread has panicked: continue its panic.
    fn rethrow(&mut self) -> ! {
        let worker = self.worker.take().expect("the thread is joined once");
        match worker.join() {
            Err(panic) => std::panic::resume_unwind(panic),
            Ok(()) => unreachable!("the thread always sends its end"),
        }
    }
}

fn read_all(
    reader: &mut ResourceReader,
    full: &SyncSender<Message>,
    spent: &Receiver<Vec<(Timestamp, Sample)>>,
) -> Result<(), TraceError> {
    loop {
        let mut batch = spent.try_recv().unwrap_or_default();
        batch.resize_with(BATCH, Default::default);
        let mut filled = 0;
        let mut result = Ok(true);
        while filled < BATCH {
            let (at, sample) = &mut batch[filled];
            match reader.next_into(sample) {
                Ok(Some(moment)) => *at = moment,
                Ok(None) => {
                    result = Ok(false);
                    break;
                }
                Err(error) => {
                    result = Err(error);
                    break;
                }
            }
            filled += 1;
        }
        if filled > 0 && full.send(Message::Batch(batch, filled)).is_err() {
            return Ok(());
        }
        if !result? {
            return Ok(());
        }
    }
}

/// Samples passed at once. Chosen: 1024 samples are 300 KiB, and passing them costs less than 1 ns each.
const BATCH: usize = 1024;
/// How many batches the thread may be ahead.
const BATCHES_AHEAD: usize = 16;
