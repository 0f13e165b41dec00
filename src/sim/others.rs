//! What everybody else uses: a script, or a recording.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Duration;

use tiershift_core::event::Input;
use tiershift_core::request::RequestId;
use tiershift_core::sample::Sample;
use tiershift_core::time::Timestamp;

use crate::sim::background::Background;

/// A reading of a recorded trace, or why there are no more.
pub type Reading = Result<(Timestamp, Sample), String>;

/// Fills a sample with the next reading of a recording and returns when it was taken, or why there are no more.
pub type ReadNext = Box<dyn FnMut(&mut Sample) -> Option<Result<Timestamp, String>>>;

/// A source of others' use.
pub struct Others {
    source: Source,
    /// What holds now, and beside it what comes next in a recording: the two take turns, so that none is moved.
    samples: [Sample; 2],
    /// Which of them holds now.
    now: bool,
    /// What comes with the readings, and how many requests of it were taken.
    scheduled: Option<ScheduledInputs>,
    taken: u64,
}

/// Requests and instructions that come with the readings of a recording that is still made: whoever brings a reading
/// has put those before it in.
pub type ScheduledInputs = Rc<RefCell<VecDeque<(Timestamp, Input)>>>;

enum Source {
    /// A scripted background, read on a regular grid.
    Scripted { background: Background, interval: Duration },
    /// A recording, read at its own times; between two readings the first one holds.
    Recorded {
        read_next: ReadNext,
        /// When the next reading was taken, if there is one.
        due: Option<Timestamp>,
        /// Why there are no more.
        error: Option<String>,
    },
}

impl Others {
    /// Returns a script.
    pub fn scripted(background: Background, interval: Duration) -> Self {
        Self::of(Source::Scripted { background, interval })
    }

    /// Returns a recording.
    pub fn recorded(mut readings: impl Iterator<Item = Reading> + 'static) -> Self {
        Self::recorded_in_place(Box::new(move |sample| {
            let (at, reading) = match readings.next()? {
                Ok(reading) => reading,
                Err(error) => return Some(Err(error)),
            };
            *sample = reading;
            Some(Ok(at))
        }))
    }

    /// Returns a recording whose readings are written over each other: what they hold on the heap is allocated once.
    pub fn recorded_in_place(read_next: ReadNext) -> Self {
        let mut others = Self::of(Source::Recorded { read_next, due: None, error: None });
        others.pull();
        others
    }

    /// Lets requests and instructions come with the readings, as a workload of these requests would.
    #[must_use]
    pub fn with_comings(mut self, scheduled: ScheduledInputs) -> Self {
        self.scheduled = Some(scheduled);
        self
    }

    fn of(source: Source) -> Self {
        Self { source, samples: Default::default(), now: false, scheduled: None, taken: 0 }
    }

    /// Returns when the next request or instruction comes with the readings.
    #[inline]
    pub(super) fn next_coming(&self) -> Option<Timestamp> {
        self.scheduled.as_ref()?.borrow().front().map(|&(at, _)| at)
    }

    /// Takes out the next request or instruction that has come by `now`; requests are numbered from one.
    pub(super) fn pop_coming(&mut self, now: Timestamp) -> Option<Input> {
        let (_, mut input) =
            self.scheduled.as_ref()?.borrow_mut().pop_front_if(|&mut (at, _)| at <= now)?;
        if let Input::Request(request) = &mut input {
            self.taken += 1;
            request.id = RequestId(self.taken);
        }
        Some(input)
    }

    /// Returns when the machine is first read.
    pub(super) fn first_due(&self) -> Option<Timestamp> {
        match self.source {
            Source::Scripted { .. } => Some(Timestamp::ZERO),
            Source::Recorded { due, .. } => due,
        }
    }

    /// Returns when the machine is read after a reading at `now`: the next point of the grid, or the next row.
    pub(super) fn due_after(&self, now: Timestamp) -> Option<Timestamp> {
        match self.source {
            Source::Scripted { interval, .. } => {
                let interval = tiershift_core::time::nanos(interval);
                Some(Timestamp::from_nanos((now.as_nanos() / interval + 1) * interval))
            }
            Source::Recorded { due, .. } => due,
        }
    }

    /// Returns what holds now. Own use in a recording is left as it is: a replay puts its own in that place.
    pub(super) fn sample(&self) -> &Sample {
        &self.samples[usize::from(self.now)]
    }

    /// Returns what holds now, to put our own use into it.
    pub(super) fn sample_mut(&mut self) -> &mut Sample {
        &mut self.samples[usize::from(self.now)]
    }

    /// Moves on to what holds at `now`, and returns whether that is another reading than before.
    pub(super) fn read(&mut self, now: Timestamp) -> bool {
        if let Source::Scripted { background, .. } = &mut self.source {
            self.samples[usize::from(self.now)] = background.sample(now);
            return true;
        }
        let mut is_new = false;
        while let Source::Recorded { due: Some(due), .. } = &self.source
            && *due <= now
        {
            self.now = !self.now;
            self.pull();
            is_new = true;
        }
        is_new
    }

    pub(super) fn take_error(&mut self) -> Option<String> {
        match &mut self.source {
            Source::Scripted { .. } => None,
            Source::Recorded { error, .. } => error.take(),
        }
    }

    fn pull(&mut self) {
        let Source::Recorded { read_next, due, error } = &mut self.source else { return };
        *due = match read_next(&mut self.samples[usize::from(!self.now)]) {
            Some(Ok(at)) => Some(at),
            Some(Err(why)) => {
                *error = Some(why);
                None
            }
            None => None,
        };
    }
}
