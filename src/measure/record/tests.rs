use std::cell::Cell;
use std::rc::Rc;

use tiershift_core::probe::ProbeError;

use super::*;

/// A clock that jumps to each deadline, and that a probe can push on.
#[derive(Clone, Default)]
struct SharedClock(Rc<Cell<u64>>);

impl Clock for SharedClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_nanos(self.0.get())
    }

    fn wait_until(&mut self, deadline: Timestamp) -> Timestamp {
        self.0.set(self.0.get().max(deadline.as_nanos()));
        self.now()
    }
}

/// Takes as long for each reading as `costs` states, in milliseconds; fails where it states so.
struct SlowProbe {
    clock: SharedClock,
    costs: Vec<Result<u64, &'static str>>,
    readings: usize,
}

impl Probe for SlowProbe {
    fn sample(&mut self, now: Timestamp) -> Result<Sample, ProbeError> {
        assert_eq!(now, self.clock.now(), "the probe is given the present moment");
        let cost = self.costs.get(self.readings).copied().unwrap_or(Ok(0));
        self.readings += 1;
        let millis = cost.map_err(|why| ProbeError(why.to_owned()))?;
        self.clock.0.set(self.clock.0.get() + millis * 1_000_000);
        Ok(Sample { load_milli: Some(500), ..Sample::default() })
    }
}

/// Returns the milliseconds of the written rows, and the result of the recording.
fn run(
    costs: &[Result<u64, &'static str>],
    options: RecordOptions,
) -> (Vec<u64>, Result<Recorded, RecordError>) {
    let mut clock = SharedClock::default();
    // A clock that has run before the recording must not shift its zero.
    clock.0.set(7_000_000_000);
    let mut probe = SlowProbe { clock: clock.clone(), costs: costs.to_vec(), readings: 0 };
    let mut rows = Vec::new();
    let write = |at: Timestamp, _: &Sample| {
        rows.push(at.as_nanos() / 1_000_000);
        Ok(())
    };
    let stop = AtomicBool::new(false);
    let recorded = record(options, &mut probe, &mut clock, write, &stop, |_| ());
    (rows, recorded)
}

fn seconds(interval: u64, duration: u64) -> RecordOptions {
    RecordOptions {
        interval: Duration::from_secs(interval),
        duration: Some(Duration::from_secs(duration)),
    }
}

#[test]
fn both_ends_of_the_duration_are_recorded() {
    let (rows, recorded) = run(&[], seconds(2, 6));
    assert_eq!(rows, [0, 2000, 4000, 6000]);
    let want = Recorded { samples: 4, missed: 0, failed: 0, span: Duration::from_secs(6) };
    assert_eq!(recorded.unwrap(), want);
    assert_eq!(run(&[], seconds(2, 0)).0, [0]);
}

#[test]
fn slow_readings_do_not_shift_the_grid() {
    let (rows, recorded) = run(&[Ok(300), Ok(700), Ok(999)], seconds(1, 4));
    assert_eq!(rows, [0, 1000, 2000, 3000, 4000]);
    assert_eq!(recorded.unwrap().missed, 0);
}

#[test]
fn moments_that_passed_are_counted_and_not_made_up() {
    let (rows, recorded) = run(&[Ok(0), Ok(3500), Ok(1000)], seconds(1, 7));
    // The second reading began at 1 s and ended at 4.5 s; the third began at 5 s and ended on the grid.
    assert_eq!(rows, [0, 1000, 5000, 7000]);
    assert_eq!(recorded.unwrap().missed, 3 + 1);
}

#[test]
fn a_failed_reading_leaves_a_gap_and_a_count() {
    let (rows, recorded) = run(&[Ok(0), Err("no"), Ok(0)], seconds(1, 2));
    assert_eq!(rows, [0, 2000]);
    assert_eq!(recorded.unwrap().failed, 1);
}

#[test]
fn a_machine_that_tells_nothing_at_first_is_refused() {
    let (rows, recorded) = run(&[Err("no /proc")], seconds(1, 2));
    assert!(rows.is_empty());
    assert_eq!(recorded.unwrap_err().to_string(), "nothing can be recorded: no /proc");
}

#[test]
fn intervals_out_of_bounds_are_refused_with_the_bounds() {
    for interval in [Duration::ZERO, Duration::from_millis(9), Duration::from_secs(86_401)] {
        let options = RecordOptions { interval, duration: None };
        let error = run(&[], options).1.unwrap_err().to_string();
        assert!(error.ends_with("use one from 10ms to 24h"), "{error}");
    }
}

#[test]
fn a_stop_is_heard_within_the_interval() {
    let mut clock = SharedClock::default();
    let mut probe = SlowProbe { clock: clock.clone(), costs: vec![], readings: 0 };
    let stop = AtomicBool::new(false);
    let options = RecordOptions { interval: Duration::from_secs(60), duration: None };
    let progress = |recorded: &Recorded| stop.store(recorded.samples == 3, Ordering::Relaxed);
    let recorded = record(options, &mut probe, &mut clock, |_, _| Ok(()), &stop, progress).unwrap();
    assert_eq!(recorded.samples, 3);
    assert!(clock.now() <= Timestamp::from_secs(120) + STOP_LATENCY, "{:?}", clock.now());
}

#[test]
fn a_full_disk_ends_the_recording_and_says_how_much_is_kept() {
    let mut clock = SharedClock::default();
    let mut probe = SlowProbe { clock: clock.clone(), costs: vec![], readings: 0 };
    let mut rows = 0;
    let write = |_: Timestamp, _: &Sample| {
        rows += 1;
        if rows > 3 { Err(io::Error::from(io::ErrorKind::StorageFull)) } else { Ok(()) }
    };
    let stop = AtomicBool::new(false);
    let error = record(seconds(2, 60), &mut probe, &mut clock, write, &stop, |_| ()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the recording stopped at 4s: a row could not be written; the 3 rows before it are kept"
    );
    assert!(std::error::Error::source(&error).is_some());
}

#[test]
fn the_last_moment_that_time_can_tell_ends_no_recording_early() {
    let options = RecordOptions { interval: Duration::from_secs(1), duration: Some(Duration::MAX) };
    let mut clock = SharedClock::default();
    let mut probe = SlowProbe { clock: clock.clone(), costs: vec![], readings: 0 };
    let stop = AtomicBool::new(false);
    let progress = |recorded: &Recorded| stop.store(recorded.samples == 5, Ordering::Relaxed);
    let recorded = record(options, &mut probe, &mut clock, |_, _| Ok(()), &stop, progress).unwrap();
    assert_eq!(recorded.samples, 5);
}

fn to_file(
    path: &Path,
    overwrite: bool,
    costs: &[Result<u64, &'static str>],
) -> Result<Recorded, RecordError> {
    let machine = Machine { memory: Bytes::from_gib(8), cpus: 4, ..Machine::default() };
    let options = seconds(2, 4);
    let about = about(options, &machine);
    let target = RecordTarget { path, overwrite, machine: &machine, about: &about };
    let mut clock = SharedClock::default();
    let mut probe = SlowProbe { clock: clock.clone(), costs: costs.to_vec(), readings: 0 };
    let stop = AtomicBool::new(false);
    record_to_file(target, options, &mut probe, &mut clock, &stop, |_| ())
}

#[test]
fn a_recording_is_a_trace_that_reads_back() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.csv");
    let first = to_file(&path, false, &[]).unwrap();
    assert_eq!(first.samples, 3);
    assert!(matches!(to_file(&path, false, &[]), Err(RecordError::Exists { .. })));
    to_file(&path, true, &[]).unwrap();

    let options = crate::trace::ReadOptions { strict: true, ..Default::default() };
    let mut reader = crate::trace::ResourceReader::open(&path, &options).unwrap();
    let mut sample = Sample::default();
    let mut moments = Vec::new();
    while let Some(at) = reader.next_into(&mut sample).unwrap() {
        moments.push(at);
    }
    assert_eq!(moments, [Timestamp::ZERO, Timestamp::from_secs(2), Timestamp::from_secs(4)]);
    let header = reader.header();
    assert!(header.clock.started_at().is_some());
    assert_eq!(header.value("machine"), Some("4 processors, 8.0 GiB memory, no swap, no GPU"));
}

#[test]
fn a_recording_without_a_row_leaves_no_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.csv");
    assert!(to_file(&path, false, &[Err("no /proc")]).is_err());
    assert!(!path.exists());
}

#[test]
fn every_committed_recording_reads_without_a_defect_and_is_explained() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("traces");
    let explained = std::fs::read_to_string(folder.join("README.md")).unwrap();
    let options = crate::trace::ReadOptions { strict: true, ..Default::default() };
    let mut seen = 0;
    for entry in std::fs::read_dir(&folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "csv") {
            continue;
        }
        let name = path.file_name().unwrap().to_str().unwrap();
        let mut reader = crate::trace::ResourceReader::open(&path, &options).unwrap();
        let mut sample = Sample::default();
        let mut rows = 0;
        while reader.next_into(&mut sample).unwrap().is_some() {
            assert!(sample.memory.is_some(), "{name}: row {rows} has no memory");
            rows += 1;
        }
        assert!(rows > 200, "{name}: {rows} rows are not a recording");
        assert!(
            explained.contains(&format!("`{name}`")),
            "traces/README.md does not tell of {name}"
        );
        seen += 1;
    }
    assert!(seen >= 4, "only {seen} recordings under traces/");
}
