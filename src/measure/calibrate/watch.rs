//! Watches the machine during the measurement: others' use of its processors, and whether it computes as fast at the
//! end as at the beginning.

use std::hint::black_box;
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread::JoinHandle;
use std::time::Duration;

use tiershift_core::probe::Probe;
use tiershift_core::time::{Clock, Timestamp};

use crate::measure::calibration::Constancy;
use crate::measure::figure::Figure;
use crate::probe::clock::SystemClock;
use crate::probe::system::{OwnProcesses, SystemProbe};

/// A running watch.
pub(super) struct Watch {
    over: Sender<()>,
    others: JoinHandle<Vec<f64>>,
    computations: Vec<f64>,
}

impl Watch {
    /// Begins to watch.
    ///
    /// # Errors
    /// When the system provides no thread.
    pub(super) fn start() -> std::io::Result<Self> {
        let (over, is_over) = mpsc::channel();
        let watch = move || {
            let (mut probe, clock) = (probe(), SystemClock::start());
            let mut others = Vec::new();
            while is_over.recv_timeout(LOOK_PAUSE) == Err(RecvTimeoutError::Timeout) {
                others.extend(others_share(&mut probe, clock.now()));
            }
            others
        };
        let others = std::thread::Builder::new().name("watch".to_owned()).spawn(watch)?;
        Ok(Self { over, others, computations: vec![compute()] })
    }

    /// Times the fixed computation while our models are idle.
    pub(super) fn time_a_computation(&mut self) {
        self.computations.push(compute());
    }

    /// Ends it, and returns the result.
    pub(super) fn end(self) -> Constancy {
        // The thread looks for the end itself.
        let _ = self.over.send(());
        let others = self.others.join().unwrap_or_default();
        let computation = Figure::of(&self.computations).expect("the first was at the start");
        Constancy { computation, others_cpu: Figure::of(&others) }
    }
}

/// Returns the share of the processors that others use now; `None` if it cannot be read.
pub(super) fn others_now() -> Option<f64> {
    let (mut probe, mut clock) = (probe(), SystemClock::start());
    others_share(&mut probe, clock.now());
    clock.wait_until(clock.now() + FIRST_LOOK);
    others_share(&mut probe, clock.now())
}

/// This process, and the model servers that it starts, do not count as others.
fn probe() -> SystemProbe {
    let mut probe = SystemProbe::new();
    probe.set_own_processes(OwnProcesses::new([std::process::id()]));
    probe
}

fn others_share(probe: &mut SystemProbe, now: Timestamp) -> Option<f64> {
    let sample = probe.sample(now).ok()?;
    sample.cpu.map(|rate| f64::from(rate.others.milli()) / 100_000.0)
}

/// Returns how long a fixed computation takes, in seconds.
fn compute() -> f64 {
    let clock = SystemClock::start();
    let mut number = 1_u64;
    for _ in 0..MULTIPLICATIONS {
        number = black_box(number.wrapping_mul(6_364_136_223_846_793_005));
    }
    clock.now().since(Timestamp::ZERO).as_secs_f64()
}

/// Chosen: some ten milliseconds of one processor.
const MULTIPLICATIONS: u32 = 8_000_000;

/// Chosen: as often as the daemon's tests read, for a thousandth of a processor.
const LOOK_PAUSE: Duration = Duration::from_millis(500);

/// Chosen: long enough that a desktop's momentary work does not count as a busy machine.
const FIRST_LOOK: Duration = Duration::from_secs(2);
