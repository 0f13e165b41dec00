//! The inputs of the replays: a made-up day of a workstation, the same every time.

use std::sync::Arc;
use std::time::Duration;

use tiershift::sim::rng::Seed;
use tiershift::sim::workload::Workload;
use tiershift::sim::{Ground, Situation};
use tiershift_core::machine::Machine;
use tiershift_core::sample::{Rate, Sample, Space};
use tiershift_core::setup::Setup;
use tiershift_core::time::Timestamp;
use tiershift_core::units::{Bytes, Percent};

/// A day of readings every two seconds, in memory; it can be played repeatedly.
#[derive(Clone)]
pub(crate) struct Day {
    samples: Arc<[(Timestamp, Sample)]>,
}

impl Day {
    /// Makes up a day: others' memory varies between 2 and 14 of 32 GiB with a step now and then, and the
    /// processors are busy at times. `jitter` moves each reading by up to a tenth of the interval, as a real
    /// recorder's timer does.
    pub(crate) fn new(jitter: bool) -> Self {
        let mut walk = Seed(1).stream("bench.memory");
        let mut spell = Seed(1).stream("bench.cpu");
        let mut timer = Seed(1).stream("bench.timer");
        let (mut memory, mut goal, mut busy) = (6.0, 6.0, false);
        let samples = (0..SAMPLES_A_DAY).map(|index| {
            if walk.happens(1.0 / 900.0) {
                goal = 2.0 + 12.0 * walk.unit();
            }
            memory += (goal - memory) * 0.02 + walk.normal(0.0, 0.01);
            if spell.happens(1.0 / 120.0) {
                busy = !busy;
            }
            let cpu = if busy { 60.0 } else { 8.0 } + 25.0 * spell.unit();
            let late = if jitter { timer.below(200_000_000) } else { 0 };
            let at = Timestamp::from_nanos(index * INTERVAL_NS + late);
            (at, sample(memory, cpu))
        });
        Self { samples: samples.collect() }
    }

    /// Returns readings until there are `count`, day after day.
    pub(crate) fn play(
        &self,
        count: u64,
    ) -> impl FnMut(&mut Sample) -> Option<Timestamp> + 'static {
        let samples = Arc::clone(&self.samples);
        let (mut left, mut index, mut began) = (count, 0, Duration::ZERO);
        move |into| {
            left = left.checked_sub(1)?;
            if index == samples.len() {
                index = 0;
                began += Duration::from_hours(24);
            }
            let (at, sample) = &samples[index];
            index += 1;
            into.clone_from(sample);
            Some(*at + began)
        }
    }
}

fn sample(memory_gib: f64, cpu_percent: f64) -> Sample {
    // `as` saturates; what matters is that it is the same every time.
    let others = Bytes::new((memory_gib * (1u64 << 30) as f64) as u64);
    let rate = Percent::from_milli((cpu_percent * 1000.0) as u32);
    Sample {
        memory: Some(Space { total: machine().memory, others, own: Bytes::ZERO }),
        swap: Some(Space { total: Bytes::from_gib(8), others: Bytes::ZERO, own: Bytes::ZERO }),
        cpu: Some(Rate { others: rate, own: Percent::ZERO }),
        load_milli: Some(rate.milli() / 8),
        ..Sample::default()
    }
}

pub(crate) fn machine() -> Machine {
    Machine { memory: Bytes::from_gib(32), swap: Bytes::from_gib(8), cpus: 8, gpus: Vec::new() }
}

/// Returns a replay of these readings under the default policy, with the models that `replay` assumes.
pub(crate) fn situation(
    mut read_next: impl FnMut(&mut Sample) -> Option<Timestamp> + 'static,
    workloads: Vec<Workload>,
) -> Situation {
    let ground = Ground::recorded_in_place(Box::new(move |into| Ok(read_next(into))));
    Situation { workloads, ..Situation::of_recording(Setup::of_machine(machine()), ground) }
}

pub(crate) const SAMPLES_A_DAY: u64 = 24 * 3600 * 1_000_000_000 / INTERVAL_NS;

const INTERVAL_NS: u64 = 2_000_000_000;
