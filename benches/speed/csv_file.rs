//! Replays by the command: of a gigabyte of native CSV, compared with the `csv` crate's byte records; and of a day with a
//! packed log, compared with one without a log.

use std::fs::File;
use std::hint::black_box;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use tiershift::probe::clock::SystemClock;
use tiershift::trace::NativeWriter;
use tiershift_core::sample::Sample;
use tiershift_core::time::Clock;

use crate::inputs::{Day, machine};
use crate::table::{Row, Table, duel};

pub(crate) fn measure(table: &mut Table) {
    let folder = tempfile::tempdir().expect("there is a folder for temporary files");
    let path = folder.path().join("day.csv");
    let bytes = write(&path);
    for (with, options, limit) in [
        ("without the optimum", &["--no-oracle"][..], "1.5 times the peer, 64 MiB"),
        ("with the optimum", &[], ""),
    ] {
        let mut peak_kib = 0;
        let ours = || peak_kib = peak_kib.max(replay(&path, options));
        let (took, peer) = duel(ROUNDS, ours, || read(&path));
        table.push(Row {
            what: format!(
                "`tiershift replay` of a native CSV of {:.2} GB, {with}",
                bytes as f64 / 1e9
            ),
            figure: format!(
                "{:.2} s ({:.0} MB/s), {} MiB of memory at most",
                took.as_secs_f64(),
                bytes as f64 / took.as_secs_f64() / 1e6,
                peak_kib / 1024
            ),
            limit,
            peer: format!("`csv` byte records ({:.2} s)", peer.as_secs_f64()),
            ratio: took.as_secs_f64() / peer.as_secs_f64(),
        });
    }
}

/// The cost of the log that a replay writes by default: a day of two-second readings, with everything in its `--out` folder.
pub(crate) fn measure_log(table: &mut Table) {
    let folder = tempfile::tempdir().expect("there is a folder for temporary files");
    let place = |name: &str| folder.path().join(name);
    let mut trace =
        NativeWriter::new(File::create(place("day.csv")).expect("it is ours"), &machine(), &[])
            .expect("the disk takes it");
    let mut read_next = Day::new(true).play(SECONDS_OF_A_DAY / 2);
    let mut sample = Sample::default();
    while let Some(at) = read_next(&mut sample) {
        trace.write(at, &sample).expect("the disk takes it");
    }
    let out = |options: &[&str]| {
        let status = Command::new(env!("CARGO_BIN_EXE_tiershift"))
            .arg("replay")
            .args([place("day.csv"), "--out".into(), place("out")])
            .args(options)
            .stdout(Stdio::null())
            .status()
            .expect("the command was built for this");
        assert!(status.success(), "the replay failed");
    };
    let mut bytes = 0;
    let ours = || {
        out(&[]);
        bytes = std::fs::metadata(place("out/events.jsonl.zst")).expect("it is there").len();
    };
    let (took, peer) = duel(ROUNDS, ours, || out(&["--log", "off"]));
    table.push(Row {
        what: "`tiershift replay --out` of a day of two-second readings, with its packed log"
            .to_owned(),
        figure: format!("{:.3} s, {:.1} MB of log", took.as_secs_f64(), bytes as f64 / 1e6),
        limit: "1.3 times the peer",
        peer: format!("`--log off` ({:.3} s)", peer.as_secs_f64()),
        ratio: took.as_secs_f64() / peer.as_secs_f64(),
    });
}

/// Writes the file and returns its size.
fn write(path: &Path) -> u64 {
    let file = Unflushed(BufWriter::new(File::create(path).expect("the folder is ours")));
    let mut trace = NativeWriter::new(file, &machine(), &[]).expect("the disk takes it");
    let written = || std::fs::metadata(path).expect("the file is ours").len();
    let mut read_next = Day::new(true).play(u64::MAX);
    let mut sample = Sample::default();
    while written() < FILE_BYTES {
        for _ in 0..10_000 {
            let at = read_next(&mut sample).expect("days without end");
            trace.write(at, &sample).expect("the disk takes it");
        }
    }
    trace.into_inner().0.flush().expect("the disk takes it");
    written()
}

/// A recorder writes each row to the file at once; for a gigabyte that would take too long.
struct Unflushed(BufWriter<File>);

impl Write for Unflushed {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn read(path: &Path) {
    let mut reader =
        csv::ReaderBuilder::new().comment(Some(b'#')).from_path(path).expect("the file is ours");
    let mut record = csv::ByteRecord::new();
    let mut rows = 0_u64;
    while reader.read_byte_record(&mut record).expect("the file is whole") {
        rows += 1;
        black_box(&record);
    }
    assert!(rows > 0);
}

/// Replays the file and returns the peak memory of the process [KiB]; zero if the system does not report it.
fn replay(path: &Path, options: &[&str]) -> u64 {
    let mut child = Command::new(env!("CARGO_BIN_EXE_tiershift"))
        .arg("replay")
        .arg(path)
        .args(["--log", "off", "--json"])
        .args(options)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("the command was built for this");
    let mut clock = SystemClock::start();
    let mut peak = 0;
    let status = loop {
        peak = peak.max(high_water_kib(child.id()).unwrap_or(0));
        if let Some(status) = child.try_wait().expect("the child is ours") {
            break status;
        }
        let now = clock.now();
        clock.wait_until(now + LOOK_EVERY);
    };
    assert!(status.success(), "the replay failed");
    peak
}

/// Reads the peak memory that Linux reports for a process.
fn high_water_kib(process: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().trim_end_matches("kB").trim().parse().ok()
}

const SECONDS_OF_A_DAY: u64 = 86_400;
const FILE_BYTES: u64 = 1_000_000_000;
const ROUNDS: u32 = 3;
/// The peak only grows; this is the time at the end that may be missed, and by which the measured time may increase.
const LOOK_EVERY: Duration = Duration::from_millis(5);
