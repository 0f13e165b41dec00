//! The true state of the simulated machine: others' use, from a script or a recording, plus the use of our own models.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Duration;

use tiershift_core::event::Input;
use tiershift_core::request::RequestId;
use tiershift_core::sample::Sample;
use tiershift_core::time::Timestamp;

use crate::sim::background::{Background, OthersState};
use crate::sim::own_use::OwnUse;

/// A sample of a recording, or why there are no more.
pub type RecordedSample = Result<(Timestamp, Sample), ReadError>;

/// Reads the next sample of a recording into an existing one and returns when it was taken; `None` at the end.
pub(super) type ReadNext = Box<dyn FnMut(&mut Sample) -> Result<Option<Timestamp>, ReadError>>;

/// Takes each sample of a recording when it begins to hold, before our own use is added.
pub type Tap = Box<dyn FnMut(Timestamp, &Sample)>;

/// Why a recording cannot be read further, from its reader: a [`TraceError`](crate::trace::TraceError), a
/// [`LogError`](crate::log::LogError) or that of another reader.
pub type ReadError = Box<dyn std::error::Error + Send + Sync>;

/// The true state during a run. It begins as others' use alone; the world then keeps its own models' use in the same
/// sample, because adding it to a copy at each step would cost more than the step.
pub struct Ground {
    feed: Feed,
    /// The present sample, and the next one of a recording: the two take turns, so that none is moved.
    samples: [Sample; 2],
    /// Which of them is the present one.
    now: bool,
    /// The tap for each sample of a recording.
    tap: Option<Tap>,
    /// The inputs that come with the samples, and how many of its requests were taken.
    scheduled: Option<ScheduledInputs>,
    taken: u64,
}

/// Requests and instructions that come with the samples of a recording that is still being made: the code that adds a
/// sample has added the inputs before it.
pub type ScheduledInputs = Rc<RefCell<VecDeque<(Timestamp, Input)>>>;

/// The source of others' use.
enum Feed {
    /// A scripted background, read on a regular grid.
    Scripted { background: Background, state: OthersState, interval: Duration },
    /// A recording, read at its own times; between two samples the first one holds.
    Recorded {
        read_next: ReadNext,
        /// When the next sample was taken, if there is one.
        due: Option<Timestamp>,
        /// Why there are no more.
        error: Option<ReadError>,
    },
}

impl Ground {
    /// Returns a script.
    pub fn scripted(background: Background, interval: Duration) -> Self {
        let state = background.begin();
        Self::of(Feed::Scripted { background, state, interval })
    }

    /// Returns a recording.
    pub fn recorded(mut readings: impl Iterator<Item = RecordedSample> + 'static) -> Self {
        Self::recorded_in_place(Box::new(move |sample| {
            let Some((at, next)) = readings.next().transpose()? else { return Ok(None) };
            *sample = next;
            Ok(Some(at))
        }))
    }

    /// Returns a recording whose samples are read into the same memory: it is allocated once.
    pub fn recorded_in_place(read_next: ReadNext) -> Self {
        let mut ground = Self::of(Feed::Recorded { read_next, due: None, error: None });
        ground.pull();
        ground
    }

    /// Returns since when others' use no longer changes, if a script determines that.
    pub(super) fn settled_at(&self) -> Option<Timestamp> {
        match &self.feed {
            Feed::Scripted { background, .. } if self.scheduled.is_none() => {
                background.settled_at()
            }
            Feed::Scripted { .. } | Feed::Recorded { .. } => None,
        }
    }

    /// Adds requests and instructions that come with the samples, as a workload of these requests would.
    #[must_use]
    pub fn with_scheduled(mut self, scheduled: ScheduledInputs) -> Self {
        self.scheduled = Some(scheduled);
        self
    }

    /// Shows each sample of a recording to `tap`, once. The controller may be given more of them: it can ask.
    #[must_use]
    pub fn with_tap(mut self, tap: Tap) -> Self {
        self.tap = Some(tap);
        self
    }

    fn of(feed: Feed) -> Self {
        let samples = Default::default();
        Self { feed, samples, now: false, tap: None, scheduled: None, taken: 0 }
    }

    /// Returns when the next request or instruction comes with the samples.
    #[inline]
    pub(super) fn next_scheduled(&self) -> Option<Timestamp> {
        self.scheduled.as_ref()?.borrow().front().map(|&(at, _)| at)
    }

    /// Takes out the next request or instruction that has come by `now`; requests are numbered from one.
    pub(super) fn pop_scheduled(&mut self, now: Timestamp) -> Option<Input> {
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
        match self.feed {
            Feed::Scripted { .. } => Some(Timestamp::ZERO),
            Feed::Recorded { due, .. } => due,
        }
    }

    /// Returns when the machine is next read after a sample at `now`: the next point of the grid, or the next row.
    pub(super) fn due_after(&self, now: Timestamp) -> Option<Timestamp> {
        match self.feed {
            Feed::Scripted { interval, .. } => {
                let interval = tiershift_core::time::nanos(interval);
                Some(Timestamp::from_nanos((now.as_nanos() / interval + 1) * interval))
            }
            Feed::Recorded { due, .. } => due,
        }
    }

    /// Returns the present sample. Own use in a recording is left as it is: a replay replaces it.
    pub(super) fn sample(&self) -> &Sample {
        &self.samples[usize::from(self.now)]
    }

    /// Returns the present sample, to add our own use.
    pub(super) fn sample_mut(&mut self) -> &mut Sample {
        &mut self.samples[usize::from(self.now)]
    }

    /// Returns whether others' use is scripted, so that the simulated machine makes the samples; a recording has its
    /// own.
    #[inline]
    pub(super) fn is_scripted(&self) -> bool {
        matches!(self.feed, Feed::Scripted { .. })
    }

    /// Moves on to the state at `now` beside our use, and returns whether it has changed.
    pub(super) fn read(&mut self, now: Timestamp, own: &OwnUse) -> bool {
        if let Feed::Scripted { background, state, .. } = &mut self.feed {
            let of = |resource, gpu| own.of(resource, gpu, background.is_unified());
            self.samples[usize::from(self.now)] = background.sample_beside(now, of, state);
            return true;
        }
        let mut is_new = false;
        while let Feed::Recorded { due: Some(due), .. } = &self.feed
            && *due <= now
        {
            self.now = !self.now;
            if let Some(tap) = &mut self.tap {
                tap(*due, &self.samples[usize::from(self.now)]);
            }
            self.pull();
            is_new = true;
        }
        is_new
    }

    /// Lets others that react to our use do so when it has changed.
    pub(super) fn read_again(&mut self, now: Timestamp, own: &OwnUse) {
        if let Feed::Scripted { background, .. } = &self.feed
            && background.reacts()
        {
            self.read(now, own);
        }
    }

    /// Kills the program that uses the most main memory, and returns whether there was one. In a recording nothing is
    /// killed.
    pub(super) fn kill_largest(&mut self, now: Timestamp, own: &OwnUse) -> bool {
        let Feed::Scripted { background, state, .. } = &mut self.feed else { return false };
        background.kill_largest(now, state) && self.read(now, own)
    }

    pub(super) fn take_error(&mut self) -> Option<ReadError> {
        match &mut self.feed {
            Feed::Scripted { .. } => None,
            Feed::Recorded { error, .. } => error.take(),
        }
    }

    fn pull(&mut self) {
        let Feed::Recorded { read_next, due, error } = &mut self.feed else { return };
        *due = read_next(&mut self.samples[usize::from(!self.now)]).unwrap_or_else(|why| {
            *error = Some(why);
            None
        });
    }
}

#[cfg(test)]
mod tests {
    use std::error::Error;
    use std::io;

    use tiershift_core::controller::Detail;
    use tiershift_core::machine::Machine;
    use tiershift_core::policy::Registry;
    use tiershift_core::setup::Setup;
    use tiershift_core::units::Bytes;

    use super::*;
    use crate::sim::{Situation, simulate};

    #[derive(Debug, thiserror::Error)]
    #[error("a.csv:3: cannot be read from here on")]
    struct Refused(#[source] io::Error);

    #[test]
    fn a_recording_that_breaks_off_ends_the_run_with_its_reader_s_error_and_the_cause() {
        let refused = Refused(io::Error::other("the disk is gone"));
        let samples = [Ok((Timestamp::ZERO, Sample::default())), Err(refused.into())];
        let machine = Machine { memory: Bytes::from_gib(16), cpus: 8, ..Machine::default() };
        let ground = Ground::recorded(samples.into_iter());
        let situation = Situation::of_recording(Setup::of_machine(machine), ground);
        let error =
            simulate(situation, &Registry::built_in(), Detail::Silent, &mut []).unwrap_err();
        assert_eq!(error.to_string(), "a.csv:3: cannot be read from here on");
        assert_eq!(error.source().unwrap().to_string(), "the disk is gone");
    }
}
