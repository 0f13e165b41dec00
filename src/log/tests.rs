use std::io::Write;
use std::time::Duration;

use tiershift_core::catalog::{LadderId, Rung};
use tiershift_core::decision::{Action, Decision, Gate, GateName, Measure, Reason, Urgency};
use tiershift_core::event::{
    Adopted, Command, Event, Input, Notice, Outcome, Output, Record, Verdict,
};
use tiershift_core::machine::Machine;
use tiershift_core::model::{ModelId, Task};
use tiershift_core::request::{CancelledBy, ClientId, End, Rejection, Request, RequestId, Target};
use tiershift_core::sample::{GpuSample, Pressure, Rate, Resource, Sample, Space};
use tiershift_core::setup::Setup;
use tiershift_core::time::Timestamp;
use tiershift_core::units::{Bytes, Celsius, Percent};

use super::*;
use crate::summary::{Account, OverVram};
use crate::wall::{WallClock, WallTime};

fn header(level: LogLevel) -> Header {
    let memory = Bytes::from_gib(16);
    let setup = Setup::of_machine(Machine { memory, cpus: 8, ..Machine::default() });
    let source = Source { name: "a.csv".to_owned(), played: None, part: None };
    Header::of(&setup, level, "hand-made", vec![source])
}

/// The digests of the header's sources.
fn sources() -> [String; 1] {
    ["00".to_owned()]
}

fn sample(others_gib: u64) -> Event {
    let total = Bytes::from_gib(16);
    Event::Input(Input::Sample(Sample {
        memory: Some(Space { total, others: Bytes::from_gib(others_gib), own: Bytes::ZERO }),
        ..Sample::default()
    }))
}

fn decision(action: Action, reason: Reason) -> Event {
    Event::Output(Output::Decision(Decision { action, rung: Rung(1), reason, gates: vec![] }))
}

fn numbered(events: Vec<(u64, Event)>) -> Vec<Record> {
    let number = |(seq, (secs, event))| Record { seq, at: Timestamp::from_secs(secs), event };
    (0..).zip(events).map(number).collect()
}

fn write(level: LogLevel, records: &[Record]) -> Vec<u8> {
    let mut log = LogWriter::new(Vec::new(), header(level)).unwrap();
    for record in records {
        log.write(record.at, record.event.as_ref()).unwrap();
    }
    log.finish_into(&sources()).unwrap().0
}

fn read(bytes: &[u8]) -> Result<(Vec<Record>, LogEnd), LogError> {
    let mut log = LogReader::new("a.jsonl", std::io::Cursor::new(bytes.to_vec()))?;
    let records = log.by_ref().collect::<Result<_, _>>()?;
    Ok((records, log.end().unwrap().clone()))
}

/// One record of every possible shape.
fn every_shape() -> Vec<Record> {
    let model = || ModelId::from("small");
    let request = RequestId(3);
    let second = Duration::from_secs(1);
    let outcome = |outcome| Event::Input(Input::Outcome(outcome));
    let output = Event::Output;
    let ended = |end| Event::Output(Output::Ended { request, end });
    let hold = |reason| decision(Action::Hold, reason);
    let (resource, used, line) = (Resource::Memory, Percent::new(91), Percent::new(90));
    let (projected, limit, to) = (Bytes::from_gib(9), Bytes::from_gib(13), Rung(2));
    let rate = Rate { others: Percent::new(20), own: Percent::new(5) };
    let space = Space { total: limit, others: projected, own: Bytes::ZERO };
    numbered(
        [
            Event::Input(Input::Sample(Sample {
                memory: Some(space),
                swap: Some(space),
                cpu: Some(rate),
                load_milli: Some(1500),
                pressure: Some(Pressure { memory_some: Percent::new(1), ..Pressure::default() }),
                cpu_temperature: Some(Celsius::from_milli(-5)),
                gpus: vec![
                    GpuSample::default(),
                    GpuSample {
                        vram: Some(space),
                        utilization: Some(rate),
                        temperature: Some(Celsius::from_milli(70_500)),
                        shared: false,
                    },
                ],
            })),
            Event::Input(Input::Sample(Sample::default())),
            Event::Input(Input::SampleMissing {
                error: "no\nreading \"at all\" \u{1f600}".to_owned(),
            }),
            Event::Input(Input::Request(Request::chat(3, 10, 20))),
            Event::Input(Input::Request(Request {
                task: Task::Code,
                target: Target::Tier("large".to_owned()),
                prompt_estimated: true,
                client: Some(ClientId(u64::MAX)),
                priority: 255,
                patience: Some(second),
                ..Request::chat(u64::MAX, u32::MAX, 0)
            })),
            Event::Input(Input::Cancel { request }),
            outcome(Outcome::Loaded { model: model() }),
            outcome(Outcome::LoadFailed { model: model(), error: String::new() }),
            outcome(Outcome::Unloaded { model: model() }),
            outcome(Outcome::Crashed { model: model(), error: "signal 9".to_owned() }),
            outcome(Outcome::Done {
                request,
                first_token: second,
                prompt_tokens: None,
                output_tokens: 20,
            }),
            outcome(Outcome::Done {
                request,
                first_token: second,
                prompt_tokens: Some(12),
                output_tokens: 20,
            }),
            outcome(Outcome::Failed { request, error: "500".to_owned() }),
            outcome(Outcome::Cancelled { request }),
            Event::Input(Input::Timeout),
            Event::Input(Input::Adopt {
                models: vec![
                    Adopted { model: "large".into(), gpu: Some(1) },
                    Adopted { model: model(), gpu: None },
                ],
            }),
            Event::Input(Input::Settings(Box::default())),
            Event::Input(Input::Switch { tier: "none".to_owned(), for_: None }),
            Event::Input(Input::Shutdown),
            output(Output::Command(Command::Load { model: model(), gpu: Some(1) })),
            output(Output::Command(Command::Load { model: model(), gpu: None })),
            output(Output::Command(Command::Unload { model: model() })),
            output(Output::Command(Command::Start { request, model: model() })),
            output(Output::Command(Command::Cancel { request })),
            output(Output::Accepted { request, verdict: Verdict::Proceed }),
            output(Output::Accepted { request, verdict: Verdict::ProceedSmaller { rung: to } }),
            output(Output::Accepted { request, verdict: Verdict::Queue }),
            ended(End::Done {
                model: model(),
                first_token: second,
                latency: second,
                output_tokens: 1,
            }),
            ended(End::Failed { error: "500".to_owned() }),
            ended(End::Cancelled { by: CancelledBy::DrainDeadline, retry_after: None }),
            ended(End::Rejected {
                reason: Rejection::QueueFull,
                retry_after: Some(second),
                estimate: true,
            }),
            ended(End::Rejected {
                reason: Rejection::Unservable,
                retry_after: None,
                estimate: false,
            }),
            output(Output::Switched {
                ladder: LadderId::FIRST,
                from: Rung::NONE,
                to,
                took: second,
                called_off: None,
            }),
            output(Output::Notice(Notice::Degraded {
                from: to,
                to: Rung(1),
                reason: Reason::Asked,
            })),
            output(Output::Notice(Notice::LongOnSmallest { for_: second, reason: Reason::NoData })),
            decision(
                Action::Upgrade { to },
                Reason::Room {
                    resource,
                    gpu: None,
                    projected,
                    limit,
                    good_for: second,
                    odds: None,
                },
            ),
            decision(
                Action::Downgrade { to, urgency: Urgency::Critical },
                Reason::AboveDegradeLine { resource, gpu: None, used: projected, limit },
            ),
            hold(Reason::Stale { age: second }),
            hold(Reason::Switching),
            hold(Reason::Settling { since: second }),
            hold(Reason::AtTop),
            hold(Reason::Fixed),
            hold(Reason::Window { to, remaining: second }),
            hold(Reason::Cooldown { to: Rung(2), remaining: second }),
            hold(Reason::Backoff { to, remaining: second }),
            hold(Reason::AboveUpgradeLine { resource, gpu: None, used, line }),
            hold(Reason::WouldNotFit { to, resource, gpu: None, projected, limit }),
            hold(Reason::WouldBeSlow { to, predicted: second, limit: second }),
            hold(Reason::SustainedLoad { resource, gpu: None, used, line, high_for: second }),
            hold(Reason::Exhaustion { resource, gpu: None, full_in: second, lead: second }),
            hold(Reason::Slow { measured: second, limit: second }),
            hold(Reason::Failing { failures: 3 }),
            output(Output::Decision(Decision {
                action: Action::Hold,
                rung: to,
                reason: Reason::NoData,
                gates: vec![
                    Gate {
                        name: GateName::Projection(Resource::Vram),
                        rung: None,
                        open: true,
                        value: Measure::Bytes(projected),
                        limit: Measure::Bytes(limit),
                    },
                    Gate {
                        name: GateName::Latency,
                        rung: None,
                        open: false,
                        value: Measure::Nanos(u64::MAX),
                        limit: Measure::Count(2),
                    },
                    Gate {
                        name: GateName::UpgradeLine(Resource::Cpu),
                        rung: None,
                        open: true,
                        value: Measure::MilliPercent(used),
                        limit: Measure::MilliPercent(line),
                    },
                ],
            })),
        ]
        .into_iter()
        .map(|event| (1, event))
        .collect(),
    )
}

#[test]
fn every_record_survives_the_log() {
    let records = every_shape();
    let (back, end) = read(&write(LogLevel::Full, &records)).unwrap();
    assert_eq!(back, records);
    assert!(matches!(end, LogEnd::Closed { records: n, .. } if n == records.len() as u64));
}

#[test]
fn a_log_reads_as_text() {
    insta::assert_snapshot!(String::from_utf8(write(LogLevel::Full, &every_shape())).unwrap());
}

#[test]
fn any_changed_byte_is_noticed() {
    let bytes = write(LogLevel::Full, &every_shape()[..12]);
    for place in 0..bytes.len() {
        for flip in [0x01, 0x20, 0x80] {
            let mut changed = bytes.clone();
            changed[place] ^= flip;
            let got = read(&changed);
            assert!(
                !matches!(got, Ok((_, LogEnd::Closed { .. }))),
                "byte {place} xor {flip:#x} was not noticed"
            );
        }
    }
}

#[test]
fn any_removed_byte_is_noticed() {
    let bytes = write(LogLevel::Full, &every_shape()[..12]);
    for place in 0..bytes.len() {
        let mut changed = bytes.clone();
        changed.remove(place);
        assert!(!matches!(read(&changed), Ok((_, LogEnd::Closed { .. }))), "byte {place}");
    }
}

#[test]
fn refusals_say_where_and_what_to_do() {
    let bytes = write(LogLevel::Full, &every_shape()[..6]);
    let text = String::from_utf8(bytes).unwrap();
    let refused = |text: &str| read(text.as_bytes()).unwrap_err().to_string();
    let lines: Vec<&str> = text.split_inclusive('\n').collect();
    let refusals = [
        refused(""),
        refused("memory,cpu\n1,2\n"),
        refused("\u{0}\u{1}\u{2}"),
        refused(&text.replacen("log\":2", "log\":3", 1)),
        refused(&text.replacen("log\":2", "log\":0", 1)),
        refused(&text.replacen("\"seed\":1", "\"seed\":8", 1)),
        refused(&text.replacen("\"seed\":1", "\"sead\":7", 1)),
        refused(&text.replacen(
            "\"at_ns\":1000000000,\"input\"",
            "\"at_ns\":1000000000,\"inpu\"",
            1,
        )),
        refused(&text.replacen("\"prompt_tokens\":10", "\"prompt_tokens\":11", 1)),
        refused(&[&lines[..3], &lines[4..]].concat().concat()),
        refused(&text.replacen("\"seq\":4,\"at_ns\":1000000000", "\"seq\":4,\"at_ns\":5", 1)),
        refused(&format!("{text}\n")),
    ];
    insta::assert_snapshot!(refusals.join("\n"));
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packed.write_all(bytes).unwrap();
    packed.finish().unwrap()
}

fn zstd(bytes: &[u8]) -> Vec<u8> {
    zstd::encode_all(bytes, 1).unwrap()
}

#[test]
fn compressed_logs_are_read_by_their_first_bytes() {
    let records = every_shape();
    let bytes = write(LogLevel::Full, &records);
    let want = read(&bytes).unwrap();
    assert_eq!(read(&gzip(&bytes)).unwrap(), want);
    assert_eq!(read(&zstd(&bytes)).unwrap(), want);
}

#[test]
fn a_log_that_was_cut_off_anywhere_is_torn_packed_or_not() {
    let records = &every_shape()[..12];
    let bytes = write(LogLevel::Full, records);
    for (kind, file) in [("plain", bytes.clone()), ("gzip", gzip(&bytes)), ("zstd", zstd(&bytes))] {
        for length in 1..file.len() {
            match read(&file[..length]) {
                // The last bytes of a compressed file are the compressor's: every line may be there without them.
                Ok((back, LogEnd::Closed { .. })) => {
                    assert!(kind != "plain" && back == records, "{kind} cut at {length}");
                }
                Ok((back, LogEnd::Torn { .. })) => {
                    assert_eq!(back, records[..back.len()], "{kind} cut at {length}");
                }
                Err(LogError::Cut { .. }) => {}
                // One of gzip's two bytes does not identify it yet.
                Err(LogError::NotALog { .. }) if kind == "gzip" && length == 1 => {}
                Err(error) => panic!("{kind} cut at {length}: {error}"),
            }
        }
    }
}

/// Writes a log in segments of three records each, and returns how many there are.
fn write_segments(folder: &std::path::Path, records: &[Record]) -> u32 {
    let mut after = None;
    for (number, part) in (1..).zip(records.chunks(3)) {
        let segment = after.take().map(|after| Segment { number, first_seq: part[0].seq, after });
        let head = Header { segment, ..header(LogLevel::Full) };
        let mut log = LogWriter::new(Vec::new(), head).unwrap();
        for record in part {
            log.write(record.at, record.event.as_ref()).unwrap();
        }
        let (bytes, digest) = log.finish_into(&sources()).unwrap();
        std::fs::write(folder.join(segment_name(number)), bytes).unwrap();
        after = digest;
    }
    u32::try_from(records.chunks(3).len()).unwrap()
}

#[track_caller]
fn read_folder(path: &std::path::Path) -> Result<(Vec<Record>, LogEnd), String> {
    let mut log = LogReader::open(path).map_err(|error| error.to_string())?;
    let records = log.by_ref().collect::<Result<_, _>>().map_err(|error| error.to_string())?;
    Ok((records, log.end().unwrap().clone()))
}

#[test]
fn segments_are_one_log_however_they_are_named_and_packed() {
    let recordings = tempfile::tempdir().unwrap();
    let folder = recordings.path().join("20261124T000000Z");
    std::fs::create_dir(&folder).unwrap();
    let records = &every_shape()[..11];
    let count = write_segments(&folder, records);
    let place = |number: u32| folder.join(segment_name(number));
    for packed in 0..=count {
        if packed > 0 {
            // A writer that is stopped while it compresses leaves both.
            let plain = std::fs::read(place(packed)).unwrap();
            pack(&place(packed)).unwrap();
            assert!(!place(packed).exists());
            if packed == 2 {
                std::fs::write(place(packed), plain).unwrap();
            }
        }
        for path in [&folder, recordings.path()] {
            let (back, end) = read_folder(path).unwrap();
            assert_eq!(back, records, "{packed} packed");
            assert!(matches!(end, LogEnd::Closed { records: 11, .. }), "{end:?}");
        }
    }
    // From one of them on, to the last.
    let third = segments(&folder).unwrap()[2].path.clone();
    assert_eq!(read_folder(&third).unwrap().0, records[6..]);
    std::fs::remove_file(&segments(&folder).unwrap()[0].path).unwrap();
    assert_eq!(read_folder(&folder).unwrap().0, records[3..], "the oldest may be gone");
}

#[test]
fn the_last_segment_may_be_cut_anywhere_and_no_other_missing_or_changed() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let records = &every_shape()[..11];
    let count = write_segments(folder, records);
    let last = folder.join(segment_name(count));
    let whole = std::fs::read(&last).unwrap();
    for length in 0..whole.len() {
        std::fs::write(&last, &whole[..length]).unwrap();
        let (back, end) = read_folder(folder).unwrap();
        assert!(back.len() >= 9 && back == records[..back.len()], "cut at {length}");
        assert!(matches!(end, LogEnd::Torn { .. }), "cut at {length}: {end:?}");
    }
    std::fs::write(&last, &whole).unwrap();
    let second = folder.join(segment_name(2));
    let kept = std::fs::read(&second).unwrap();
    std::fs::remove_file(&second).unwrap();
    assert!(read_folder(folder).unwrap_err().contains("segment 2 is missing"));
    // Another log's second segment is complete in itself, but does not belong to this log.
    let other = tempfile::tempdir().unwrap();
    let changed = [&records[1..2], &records[1..]].concat();
    let changed: Vec<Record> = (0..).zip(changed).map(|(seq, it)| Record { seq, ..it }).collect();
    write_segments(other.path(), &changed);
    std::fs::copy(other.path().join(segment_name(2)), &second).unwrap();
    assert!(read_folder(folder).unwrap_err().contains("does not continue the one before it"));
    std::fs::write(&second, kept).unwrap();
    assert_eq!(read_folder(folder).unwrap().0, records);
}

#[test]
fn a_log_of_changes_keeps_what_changed_and_a_sample_a_minute() {
    let window = |secs| {
        let remaining = Duration::from_secs(secs);
        decision(Action::Hold, Reason::Window { to: Rung(2), remaining })
    };
    let mut events = Vec::new();
    for secs in (0..120).step_by(10) {
        events.push((secs, sample(secs)));
        events.push((
            secs,
            if secs < 90 { window(90 - secs) } else { decision(Action::Hold, Reason::AtTop) },
        ));
        events.push((secs, Event::Input(Input::Timeout)));
    }
    events.push((121, Event::Input(Input::SampleMissing { error: "x".to_owned() })));
    events.push((122, Event::Input(Input::SampleMissing { error: "x".to_owned() })));
    let (back, _) = read(&write(LogLevel::Changes, &numbered(events))).unwrap();
    let got: Vec<(u64, u64)> =
        back.iter().map(|record| (record.seq, record.at.as_nanos() / 1_000_000_000)).collect();
    // 0: first sample, first decision; 60: a minute after; 90: the reason changes; 121: the first of two.
    assert_eq!(got, [(0, 0), (1, 0), (18, 60), (27, 90), (28, 90), (36, 121)]);
}

#[test]
fn with_the_log_off_nothing_is_written() {
    assert_eq!(write(LogLevel::Off, &every_shape()), b"");
}

#[test]
fn a_log_says_what_the_wall_clock_showed_after_it_was_set() {
    let time = |text: &str| text.parse::<WallTime>().unwrap();
    let mut clock = WallClock::from_start(time("2026-01-31T02:13:00+01:00"));
    clock.set(Timestamp::from_secs(60), time("2026-02-01T08:00:00+01:00"));
    let header = Header { started_at: clock.started_at(), ..header(LogLevel::Full) };
    let mut log = LogWriter::new(Vec::new(), header).unwrap();
    for record in every_shape() {
        log.write(record.at, record.event.as_ref()).unwrap();
    }
    log.write_clock(&clock).unwrap();
    let bytes = log.finish_into(&sources()).unwrap().0;
    let open = |bytes: Vec<u8>| LogReader::new("a.jsonl", std::io::Cursor::new(bytes)).unwrap();
    let mut log = open(bytes.clone());
    let records: Vec<Record> = log.by_ref().collect::<Result<_, _>>().unwrap();
    assert_eq!((records, log.clock()), (every_shape(), &clock));
    assert!(matches!(log.end(), Some(LogEnd::Closed { .. })));
    let changed = String::from_utf8(bytes).unwrap().replace("2026-02-01T08", "2026-02-01T09");
    let error = open(changed.into_bytes()).find_map(Result::err).unwrap();
    assert!(matches!(error, LogError::Changed { .. }), "{error}");
}

#[test]
fn a_log_has_what_the_simulated_machine_counted() {
    let account = Account {
        over_memory: Duration::from_nanos(3_000_000_001),
        over_vram: OverVram { any: Duration::from_secs(2), by_gpu: vec![Duration::from_secs(2)] },
        out_of_memory_events: 1,
        ..Account::default()
    };
    let mut log = LogWriter::new(Vec::new(), header(LogLevel::Full)).unwrap();
    for record in every_shape() {
        log.write(record.at, record.event.as_ref()).unwrap();
    }
    log.write_account(&account).unwrap();
    let bytes = log.finish_into(&sources()).unwrap().0;
    let open = |bytes: Vec<u8>| LogReader::new("a.jsonl", std::io::Cursor::new(bytes)).unwrap();
    let mut log = open(bytes.clone());
    let records: Vec<Record> = log.by_ref().collect::<Result<_, _>>().unwrap();
    assert_eq!((records, log.account()), (every_shape(), Some(&account)));
    assert!(matches!(log.end(), Some(LogEnd::Closed { .. })));
    let changed = String::from_utf8(bytes).unwrap().replace("3000000001", "0");
    let error = open(changed.into_bytes()).find_map(Result::err).unwrap();
    assert!(matches!(error, LogError::Changed { .. }), "{error}");
}

#[test]
fn the_fingerprint_depends_on_what_determines_a_run_and_on_nothing_else() {
    let base = header(LogLevel::Full);
    let with = |change: fn(&mut Header)| {
        let mut header = base.clone();
        change(&mut header);
        header.seal().fingerprint(&sources()) == base.fingerprint(&sources())
    };
    assert_ne!(base.fingerprint(&["01".to_owned()]), base.fingerprint(&sources()));
    assert!(with(|h| h.started_at = Some("2026-11-23T17:00:00Z".parse().unwrap())));
    assert!(with(|h| h.level = LogLevel::Changes));
    assert!(with(|h| h.sources[0].name = "b.csv".to_owned()));
    assert!(with(|h| h.name = "other".to_owned()));
    assert!(!with(|h| h.seed = 8));
    assert!(!with(|h| h.machine.cpus = 9));
    assert!(!with(|h| h.sources[0].played = Some(Played::Repeated)));
    assert!(!with(|h| h.settings.performance_minimum = 11));
    assert!(!with(|h| h.catalog.models[0].slots = 3));
}
