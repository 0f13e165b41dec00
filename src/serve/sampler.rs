//! The probe in its own thread: a driver that hangs, or a machine that swaps, delays the controller's thread only for a
//! bounded time.
//!
//! One question at a time: until it is answered, the probe is not asked again. A late answer still counts, with its
//! known age: it is used if no newer one comes at once and the machine was asked not long ago, so that a probe that is
//! always slow is better than none.

use std::io;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, SyncSender, TryRecvError};
use std::time::Duration;

use tiershift_core::probe::{Probe, ProbeError};
use tiershift_core::sample::Sample;
use tiershift_core::time::Timestamp;

use crate::probe::system::{OwnProcesses, SystemProbe};

/// The controller's end of the probe.
pub(super) struct Sampler {
    questions: SyncSender<Question>,
    answers: Receiver<Result<Sample, ProbeError>>,
    patience: Duration,
    /// Answers to older questions are ignored.
    most_late: Duration,
    /// Sent with the next question, and so never overtaken by one.
    own: OwnProcesses,
    /// When the question was asked that has no answer yet.
    unanswered: Option<Timestamp>,
}

struct Question {
    now: Timestamp,
    own: OwnProcesses,
}

impl Sampler {
    /// Begins to read this machine, for a controller to which a sample is stale after `stale_after`.
    ///
    /// # Errors
    /// When the system provides no thread.
    pub(super) fn of_machine(mut probe: SystemProbe, stale_after: Duration) -> io::Result<Self> {
        // With what the controller adds to it, no sample is used for longer than one and a half of that.
        Self::begin(PATIENCE, stale_after / 2, move |now, own| {
            probe.set_own_processes(own);
            probe.sample(now)
        })
    }

    fn begin(
        patience: Duration,
        most_late: Duration,
        mut read: impl FnMut(Timestamp, OwnProcesses) -> Result<Sample, ProbeError> + Send + 'static,
    ) -> io::Result<Self> {
        let (questions, asked) = mpsc::sync_channel::<Question>(1);
        let (answer, answers) = mpsc::sync_channel(1);
        std::thread::Builder::new().name("probe".to_owned()).spawn(move || {
            while let Ok(Question { now, own }) = asked.recv() {
                if answer.send(read(now, own)).is_err() {
                    // The controller's end is gone.
                    break;
                }
            }
        })?;
        let own = OwnProcesses::default();
        Ok(Self { questions, answers, patience, most_late, own, unanswered: None })
    }

    /// Sets the processes in which the managed models run, from the next sample on.
    pub(super) fn set_own_processes(&mut self, own: OwnProcesses) {
        self.own = own;
    }
}

impl Probe for Sampler {
    fn sample(&mut self, now: Timestamp) -> Result<Sample, ProbeError> {
        let gone = || ProbeError("the thread that reads the machine has ended".to_owned());
        let mut late = None;
        if let Some(since) = self.unanswered {
            match self.answers.try_recv() {
                Ok(answer) => {
                    self.unanswered = None;
                    late = Some(answer).filter(|_| now.since(since) <= self.most_late);
                }
                Err(TryRecvError::Empty) => {
                    let span = now.since(since).as_secs();
                    return Err(ProbeError(format!("a reading has hung for {span} s")));
                }
                Err(TryRecvError::Disconnected) => return Err(gone()),
            }
        }
        let question = Question { now, own: self.own.clone() };
        self.questions.send(question).map_err(|_| gone())?;
        // If there is a late answer, the wait is only as long as a recovered probe takes.
        let patience = if late.is_some() { self.patience / 10 } else { self.patience };
        match self.answers.recv_timeout(patience) {
            Ok(answer) => answer,
            Err(RecvTimeoutError::Timeout) => {
                self.unanswered = Some(now);
                late.unwrap_or_else(|| {
                    Err(ProbeError(format!("no reading came within {patience:?}")))
                })
            }
            Err(RecvTimeoutError::Disconnected) => Err(gone()),
        }
    }
}

/// Chosen: half of the usual time between two samples. A sample takes a millisecond or two (measured 2026-11-25), and
/// much longer when the machine swaps, which is when it is needed most. The controller's thread waits this long, once
/// each time that the probe hangs.
const PATIENCE: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use tiershift_core::time::Clock;

    use super::*;
    use crate::probe::clock::SystemClock;

    /// A probe whose samples record which question they answer, and which processes were named with it.
    struct Rig {
        sampler: Sampler,
        asked: Receiver<(u32, OwnProcesses)>,
        /// Releases one sample.
        go: mpsc::Sender<()>,
    }

    impl Rig {
        fn new(patience: Duration) -> Self {
            let (tell, asked) = mpsc::channel();
            let (go, gate) = mpsc::channel();
            let mut number = 0;
            let read = move |_, own| {
                number += 1;
                tell.send((number, own)).unwrap();
                gate.recv().unwrap();
                Ok(Sample { load_milli: Some(number), ..Sample::default() })
            };
            Self { sampler: Sampler::begin(patience, MOST_LATE, read).unwrap(), asked, go }
        }

        fn sample(&mut self, second: u64) -> Result<Option<u32>, String> {
            let sample = self.sampler.sample(Timestamp::from_secs(second));
            sample.map(|sample| sample.load_milli).map_err(|error| error.to_string())
        }
    }

    #[test]
    fn a_probe_that_hangs_is_waited_for_once_and_read_again_when_it_has_answered() {
        let patience = Duration::from_millis(50);
        let mut rig = Rig::new(patience);
        let clock = SystemClock::start();
        assert_eq!(rig.sample(2), Err("no reading came within 50ms".to_owned()));
        let waited = clock.now().since(Timestamp::ZERO);
        assert!(waited >= patience && waited < LONG, "{waited:?}");
        // While it hangs it is neither asked nor waited for.
        for second in 4..1000 {
            let error = format!("a reading has hung for {} s", second - 2);
            assert_eq!(rig.sample(second), Err(error));
        }
        let waited = clock.now().since(Timestamp::ZERO);
        assert!(waited < patience * 900, "each was waited for: {waited:?}");
        assert_eq!(rig.asked.try_iter().count(), 1);

        // An answer this late answers nothing; the next question has its own.
        rig.go.send(()).unwrap();
        rig.go.send(()).unwrap();
        let mut second = 1000;
        let answer = loop {
            match rig.sample(second) {
                Ok(answer) => break answer,
                Err(error) => assert!(error.starts_with("a reading has hung"), "{error}"),
            }
            second += 1;
            assert!(clock.now().since(Timestamp::ZERO) < LONG, "readings do not resume");
        };
        assert_eq!(answer, Some(2));
    }

    #[test]
    fn a_probe_that_is_always_late_is_read_one_answer_behind() {
        let mut rig = Rig::new(Duration::from_millis(50));
        assert!(rig.sample(2).is_err());
        for (second, number) in [(4, 1), (6, 2), (8, 3)] {
            rig.go.send(()).unwrap();
            let clock = SystemClock::start();
            // The thread takes a moment to answer.
            let answer = loop {
                match rig.sample(second) {
                    Ok(answer) => break answer,
                    Err(error) => assert!(error.starts_with("a reading has hung"), "{error}"),
                }
                assert!(clock.now().since(Timestamp::ZERO) < LONG, "its answer does not come");
            };
            assert_eq!(answer, Some(number));
        }
    }

    #[test]
    fn a_question_carries_the_own_processes_of_its_moment() {
        let mut rig = Rig::new(LONG);
        for pid in [7, 8] {
            rig.go.send(()).unwrap();
            rig.sampler.set_own_processes(OwnProcesses::new([0]));
            rig.sampler.set_own_processes(OwnProcesses::new([pid]));
            rig.sample(u64::from(pid)).unwrap();
            assert_eq!(rig.asked.try_recv().unwrap().1, OwnProcesses::new([pid]));
        }
    }

    #[test]
    fn a_probe_that_breaks_is_an_error_and_no_wait() {
        let read = |_, _| panic!("the test's probe breaks");
        let mut sampler = Sampler::begin(LONG, MOST_LATE, read).unwrap();
        for second in [1, 2] {
            let error = sampler.sample(Timestamp::from_secs(second)).unwrap_err();
            assert_eq!(error.to_string(), "the thread that reads the machine has ended");
        }
    }

    const MOST_LATE: Duration = Duration::from_secs(5);

    /// Longer than anything here takes.
    const LONG: Duration = Duration::from_secs(30);
}
