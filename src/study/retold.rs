//! A log with what was left out of it because it follows from the rest: its inputs are fed to the policy again, which
//! repeats its holds and their gates.

use std::collections::VecDeque;

use tiershift_core::control::Control;
use tiershift_core::controller::Detail;
use tiershift_core::event::{Event, Observe, Output, Record};
use tiershift_core::policy::Registry;
use tiershift_core::time::Timestamp;

use crate::log::{LogError, LogLevel, LogReader};
use crate::study::verify::controller_of;

/// The records of a log, including those that were left out if they follow from the others. If the log's policy is
/// unknown here, only what is in the log is returned.
pub struct Retold {
    log: LogReader,
    controller: Option<Box<dyn Control>>,
    outputs: VecDeque<Output>,
    at: Timestamp,
    seq: u64,
}

impl Retold {
    /// Reads a log that was opened at its beginning.
    pub fn new(log: LogReader, policies: &Registry) -> Self {
        let header = log.header();
        let controller = (header.level == LogLevel::Inputs)
            .then(|| controller_of(header, Detail::Full, policies).ok())
            .flatten();
        Self { log, controller, outputs: VecDeque::new(), at: Timestamp::ZERO, seq: 0 }
    }

    /// Returns the log, as far as it was read.
    pub fn log(&self) -> &LogReader {
        &self.log
    }

    /// Shows the rest of it to observers, and returns its last moment.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn observe(&mut self, observers: &mut [&mut dyn Observe]) -> Result<Timestamp, LogError> {
        let mut end = Timestamp::ZERO;
        for record in self {
            let Record { at, event, .. } = record?;
            end = at;
            observers.iter_mut().for_each(|observer| observer.observe(at, event.as_ref()));
        }
        Ok(end)
    }

    fn number(&mut self, event: Event) -> Record {
        let seq = self.seq;
        self.seq += 1;
        Record { seq, at: self.at, event }
    }
}

impl Iterator for Retold {
    type Item = Result<Record, LogError>;

    fn next(&mut self) -> Option<Self::Item> {
        let Some(controller) = &mut self.controller else { return self.log.next() };
        if let Some(output) = self.outputs.pop_front() {
            return Some(Ok(self.number(Event::Output(output))));
        }
        loop {
            let record = match self.log.next()? {
                Ok(record) => record,
                Err(error) => return Some(Err(error)),
            };
            // The log's own outputs are among the repeated ones: `verify` proves it.
            let Event::Input(input) = record.event else { continue };
            self.at = record.at;
            controller.handle(record.at, &input);
            self.outputs.extend(std::iter::from_fn(|| controller.poll_output()));
            return Some(Ok(self.number(Event::Input(input))));
        }
    }
}
