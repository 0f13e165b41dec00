//! Compares the dynamic programs with every possible schedule.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::time::Duration;

use tiershift_core::catalog::Catalog;
use tiershift_core::machine::MachineClass;
use tiershift_core::model::Model;
use tiershift_core::settings::RawSettings;
use tiershift_core::time::SpanText;

use super::*;
use crate::sim::rng::{Seed, Stream};
use crate::study::oracle::ladder::{Kind, NEVER, worth};
use crate::summary::Reversals;

/// A small machine: its ladder, and others' use at each sample.
struct Case {
    oracle: Oracle,
    end: u64,
    /// What was already tried, by sample, stand and whether reversals are allowed.
    tried: RefCell<BTreeMap<(usize, Stand, bool), Worth>>,
}

/// A schedule being tried: its state after its last switch.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Stand {
    rung: usize,
    /// Whether anything was loaded before.
    loaded: bool,
    reversals: Reversals,
}

impl Case {
    /// Invents a case in which others change at one of `calm` samples.
    fn invent(luck: &mut Stream, readings: usize, calm: u64) -> Self {
        let total = Bytes::from_gib(100);
        let below = |luck: &mut Stream, bound| luck.below(bound);
        let count = 1 + below(luck, 3);
        let (mut quality, mut ram) = (0, 0);
        let models = (0..count).map(|place| {
            quality += 10 + u32::try_from(below(luck, 20)).unwrap();
            ram += 5 + below(luck, 25);
            let name = format!("m{place}");
            Model {
                load_transient: Bytes::from_gib(below(luck, 3) * 4),
                load_warm: Duration::from_secs(below(luck, 12)),
                load_cold: Duration::from_secs(below(luck, 20)),
                unload: Duration::from_secs(below(luck, 3)),
                ..Model::of_size(&name, &name, Percent::new(quality), Bytes::from_gib(ram))
            }
        });
        let catalog = Catalog::new(models.collect()).unwrap();
        let price = [0, 1, 3, 8][below(luck, 4) as usize];
        let window = [0, 4, 9, 20][below(luck, 4) as usize];
        let raw = RawSettings {
            price: Some(SpanText(Duration::from_secs(price))),
            reversal_window: SpanText(Duration::from_secs(window)),
            ..RawSettings::default()
        };
        let settings = Settings::new(raw, MachineClass::MidRange).unwrap();
        let mut oracle = Oracle::new(&settings, &catalog);
        let is_regular = below(luck, 2) == 0;
        let (mut at, mut others) = (below(luck, 3), below(luck, 100));
        for _ in 0..readings {
            let sample = Sample {
                memory: Some(Space { total, others: Bytes::from_gib(others), own: total }),
                ..Sample::default()
            };
            oracle.read(Timestamp::from_secs(at), &sample);
            at += if is_regular { 3 } else { 1 + below(luck, 9) };
            if below(luck, calm) == 0 {
                others = below(luck, 100);
            }
        }
        let end = Timestamp::from_secs(at + below(luck, 20)).as_nanos();
        Self { oracle, end, tried: RefCell::default() }
    }

    /// Returns the highest worth of any schedule from a sample on.
    fn best_from(&self, reading: usize, stand: Stand, reverses: bool) -> Worth {
        let key = (reading, stand, reverses);
        if let Some(&worth) = self.tried.borrow().get(&key) {
            return worth;
        }
        let worth = self.try_all(reading, stand, reverses);
        self.tried.borrow_mut().insert(key, worth);
        worth
    }

    fn try_all(&self, reading: usize, stand: Stand, reverses: bool) -> Worth {
        let (ladder, tape) = (&self.oracle.ladder, &self.oracle.tape);
        if reading == tape.times.len() {
            return 0;
        }
        let room_at = |reading: usize| {
            let run = tape.runs.partition_point(|run| run.0 <= reading) - 1;
            &tape.rooms[tape.runs[run].1]
        };
        let is_there = |reading: usize| reading < tape.times.len();
        let time = |reading| if is_there(reading) { tape.times.at(reading) } else { self.end };
        let now = time(reading);
        let mut best = NEVER;
        if room_at(reading).allows(stand.rung) {
            let held = worth(ladder.qualities[stand.rung], time(reading + 1) - now);
            best = held + self.best_from(reading + 1, stand, reverses);
        }
        let ways = if stand.loaded { &ladder.moves } else { &ladder.first_loads };
        for way in ways.iter().filter(|way| ladder.is_open(room_at(reading), way)) {
            let done = now + way.takes;
            if way.from != stand.rung || done > self.end {
                continue;
            }
            let mut arrival = reading + 1;
            while arrival < tape.times.len() && time(arrival) < done {
                arrival += 1;
            }
            let during = || (reading..tape.times.len()).take_while(|&at| time(at) < done);
            if !during().all(|at| room_at(at).allows(way.to)) {
                continue;
            }
            let mut stand = Stand { rung: way.to, loaded: true, ..stand };
            let [from, to] = [way.from, way.to].map(|rung| Rung(rung as u8));
            let reversed = stand.reversals.note(
                Timestamp::from_nanos(done),
                from,
                to,
                false,
                self.oracle.settings.reversal_window,
            );
            if reverses {
                stand.reversals = Reversals::default();
            } else if reversed {
                continue;
            }
            let together = |&at: &usize| way.from == 0 || room_at(at).fits_beside(way.from, way.to);
            let served = match way.kind {
                Kind::Beside => during().find(|at| !together(at)).map_or(done, time) - now,
                Kind::Leave | Kind::After => 0,
            };
            let value = worth(ladder.qualities[way.from], served)
                + worth(ladder.qualities[way.to], time(arrival) - done)
                - ladder.toll
                + self.best_from(arrival, stand, reverses);
            best = best.max(value);
        }
        best
    }

    #[track_caller]
    fn check(&self, case: usize) {
        let Self { oracle, end, .. } = self;
        let start = Stand { rung: 0, loaded: false, reversals: Reversals::default() };
        let (free, schedule) = free::best(&oracle.ladder, &oracle.tape, *end);
        assert_eq!(unpack(free), unpack(self.best_from(0, start, true)), "free, case {case}");
        let one_way = one_way::best(&oracle.ladder, &oracle.tape, *end);
        assert_eq!(
            unpack(one_way),
            unpack(self.best_from(0, start, false)),
            "one way, case {case}"
        );
        let ends = schedule.iter().skip(1).map(|next| next.0.as_nanos()).chain([*end]);
        let served = schedule.iter().zip(ends).map(|((from, rung), to)| {
            worth(oracle.ladder.qualities[usize::from(rung.0)], to - from.as_nanos())
        });
        let (net, switches) = unpack(free);
        let toll = unpack(oracle.ladder.toll - 1).0 * i128::from(switches);
        assert_eq!(unpack(served.sum()).0, net + toll, "schedule of case {case}: {schedule:?}");
    }
}

#[test]
fn memory_that_a_gpu_shares_changes_what_fits_with_others_use_of_it() {
    let gib = Bytes::from_gib;
    let model = Model { vram: gib(20), ..Model::of_size("m", "m", Percent::ONE_HUNDRED, gib(5)) };
    let settings = Settings::new(RawSettings::default(), MachineClass::MidRange).unwrap();
    let mut oracle = Oracle::new(&settings, &Catalog::new(vec![model]).unwrap());
    // The degrade line is at 90 of 100 GiB: the model takes 25 of each memory.
    for (second, others) in [(0, 60), (1, 64), (2, 68)] {
        let space = |others| Some(Space { total: gib(100), others: gib(others), own: Bytes::ZERO });
        let gpu = GpuSample { vram: space(0), shared: true, ..GpuSample::default() };
        let sample = Sample { memory: space(others), gpus: vec![gpu], ..Sample::default() };
        oracle.read(Timestamp::from_secs(second), &sample);
    }
    let allowed: Vec<bool> =
        oracle.tape.runs.iter().map(|run| oracle.tape.rooms[run.1].allows(1)).collect();
    assert_eq!(allowed, [true, false]);
}

#[test]
fn what_serves_goes_on_while_its_space_is_not_read_and_nothing_is_loaded_then() {
    let gib = Bytes::from_gib;
    let settings = Settings::new(RawSettings::default(), MachineClass::MidRange).unwrap();
    let mut oracle = Oracle::new(&settings, &Catalog::relative_to(gib(16)));
    let space = |others| Some(Space { total: gib(16), others: gib(others), own: Bytes::ZERO });
    // The models take 2, 5 and 9 of the 14.4 GiB up to the degrade line.
    for (second, memory) in [(0, None), (10, space(8)), (20, None), (30, space(11)), (40, None)] {
        let gpu = GpuSample { vram: space(0), ..GpuSample::default() };
        let sample = Sample { memory, gpus: vec![gpu], ..Sample::default() };
        oracle.read(Timestamp::from_secs(second), &sample);
    }
    let rooms = oracle.tape.runs.iter().map(|run| &oracle.tape.rooms[run.1]);
    let masks = rooms.map(|room| (room.allowed, room.fitting, room.loadable & !1));
    let [none, two, one] = [0b1, 0b111, 0b11];
    let unread = |allowed| (allowed, none, 0);
    let read = |allowed| (allowed, allowed, allowed & !1);
    assert_eq!(
        masks.collect::<Vec<_>>(),
        [unread(none), read(two), unread(two), read(one), unread(one)]
    );
}

#[test]
fn the_time_in_which_each_rung_fitted_ends_with_the_run() {
    let gib = Bytes::from_gib;
    let settings = Settings::new(RawSettings::default(), MachineClass::MidRange).unwrap();
    let mut oracle = Oracle::new(&settings, &Catalog::relative_to(gib(16)));
    // The degrade line is at 14.4 GiB, and the models take 2, 5 and 9.
    for (second, others) in [(0, 4), (10, 8), (30, 10)] {
        let space = Space { total: gib(16), others: gib(others), own: Bytes::ZERO };
        let sample = Sample { memory: Some(space), ..Sample::default() };
        oracle.read(Timestamp::from_secs(second), &sample);
    }
    let fitting = |end: u64| oracle.fitting(end * 1_000_000_000).into_iter();
    let seconds = |end| fitting(end).map(|nanos| nanos / 1_000_000_000).collect::<Vec<_>>();
    assert_eq!(seconds(60), [60, 60, 30, 10]);
    assert_eq!(seconds(20), [20, 20, 20, 10]);
}

#[test]
fn no_schedule_of_a_short_run_is_better_than_the_optimum() {
    let mut luck = Seed(1).stream("oracle.test");
    for case in 0..20_000 {
        Case::invent(&mut luck, 1 + case % 8, 2).check(case);
    }
}

#[test]
fn no_schedule_of_a_long_and_calm_run_is_better_than_the_optimum() {
    let mut luck = Seed(2).stream("oracle.test");
    for case in 0..300 {
        Case::invent(&mut luck, 80 + case % 80, 30).check(case);
    }
}
