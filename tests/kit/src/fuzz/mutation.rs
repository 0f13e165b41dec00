//! Samples of every format, changed as loggers, editors and broken disks change them, and read.
//!
//! A seed gives one changed sample, whatever was tried before, so that a finding can be repeated.

use std::fs;
use std::ops::Range;
use std::panic::{self, AssertUnwindSafe};
use std::path::Path;
use std::time::Duration;

use tiershift::trace::{Format, ReadOptions, Told};

use crate::fuzz::{request_trace_as, resource_trace_as};
use crate::gguf::Random;

/// The samples, and the formats as which they are read.
pub struct Mutations {
    samples: Vec<Sample>,
    formats: Vec<Format>,
}

struct Sample {
    is_request: bool,
    bytes: Vec<u8>,
}

impl Mutations {
    /// Takes the initial inputs of the fuzz targets, from `tests/fuzz/cases`.
    pub fn of(cases: &Path) -> Self {
        let mut samples = Vec::new();
        for (folder, is_request) in [("resource_trace", false), ("request_trace", true)] {
            let files = fs::read_dir(cases.join(folder)).unwrap();
            let mut paths: Vec<_> = files.map(|file| file.unwrap().path()).collect();
            paths.sort();
            let read = |path| Sample { is_request, bytes: fs::read(path).unwrap() };
            samples.extend(paths.into_iter().map(read));
        }
        Self { samples, formats: Format::known() }
    }

    /// Reads the changed sample of each seed, and reports each finished seed.
    ///
    /// # Panics
    /// If a reader panics, or accepts inconsistent data; the seed is printed before.
    pub fn run(&self, seeds: Range<u64>, mut done: impl FnMut(u64)) {
        for seed in seeds {
            let came = panic::catch_unwind(AssertUnwindSafe(|| self.read(seed)));
            if let Err(panic) = came {
                eprintln!("seed {seed}:\n{}", String::from_utf8_lossy(&self.changed(seed).bytes));
                panic::resume_unwind(panic);
            }
            done(seed);
        }
    }

    fn read(&self, seed: u64) {
        let Changed { sample, bytes, mut random } = self.changed(seed);
        let mut options = ReadOptions::default();
        if random.below(2) == 0 {
            // Options that many formats need, so that they are read and not refused.
            options.told = Told {
                interval: Some(Duration::from_secs(5)),
                metric: Some("cpu".to_owned()),
                ..Told::default()
            };
        }
        // Usually the format is recognised; sometimes the sample is read as another format.
        if random.below(8) == 0 {
            options.format = Some(self.formats[random.below(self.formats.len())].clone());
        }
        options.cut_silences = random.below(4) == 0;
        if sample.is_request {
            request_trace_as(&bytes, &options);
        } else {
            resource_trace_as(&bytes, &options);
        }
    }

    fn changed(&self, seed: u64) -> Changed<'_> {
        let mut random = Random(seed);
        let sample = &self.samples[random.below(self.samples.len())];
        let mut bytes = sample.bytes.clone();
        for _ in 0..=random.below(MOST_CHANGES) {
            let other = &self.samples[random.below(self.samples.len())].bytes;
            change(&mut bytes, other, &mut random);
            bytes.truncate(LONGEST);
        }
        Changed { sample, bytes, random }
    }
}

/// A changed sample.
struct Changed<'a> {
    sample: &'a Sample,
    bytes: Vec<u8>,
    random: Random,
}

fn change(bytes: &mut Vec<u8>, other: &[u8], random: &mut Random) {
    let place = |random: &mut Random, bytes: &[u8]| random.below(bytes.len() + 1);
    let at = place(random, bytes);
    match random.below(10) {
        0 => bytes.truncate(at),
        1 => {
            bytes.drain(..at);
        }
        2 => {
            let end = (at + random.below(40)).min(bytes.len());
            bytes.drain(at..end);
        }
        3 => change_lines(bytes, random, |lines, one, other| {
            let line = lines[one].clone();
            lines.insert(other, line);
        }),
        4 => change_lines(bytes, random, |lines, one, other| lines.swap(one, other)),
        5 => {
            if let Some(byte) = bytes.get_mut(at) {
                *byte ^= 1 << random.below(8);
            }
        }
        6 => {
            let word = random.one_of(WORDS).as_bytes().to_vec();
            bytes.splice(at..at, word);
        }
        7 | 8 => change_number(bytes, at, random),
        _ => {
            let from = random.below(other.len() + 1);
            bytes.truncate(at);
            bytes.extend_from_slice(&other[from..]);
        }
    }
}

fn change_lines(
    bytes: &mut Vec<u8>,
    random: &mut Random,
    change: impl Fn(&mut Vec<Vec<u8>>, usize, usize),
) {
    let mut lines: Vec<Vec<u8>> = bytes.split(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect();
    let (one, other) = (random.below(lines.len()), random.below(lines.len()));
    change(&mut lines, one, other);
    *bytes = lines.join(&b'\n');
}

/// Replaces the first number from `at` on.
fn change_number(bytes: &mut Vec<u8>, at: usize, random: &mut Random) {
    let Some(begin) = bytes[at..].iter().position(u8::is_ascii_digit) else { return };
    let begin = at + begin;
    let length = bytes[begin..].iter().take_while(|byte| byte.is_ascii_digit()).count();
    let number = random.one_of(NUMBERS).as_bytes().to_vec();
    bytes.splice(begin..begin + length, number);
}

/// Most changes of one sample.
const MOST_CHANGES: usize = 4;
/// Splices must not grow without bound. Chosen: twice the largest head that a reader looks at.
const LONGEST: usize = 64 << 10;
const WORDS: &[&str] = &[
    "\"",
    ",",
    ";",
    "\t",
    "\r\n",
    "\n\n",
    "\0",
    "\u{feff}",
    "{",
    "}",
    "[",
    "]",
    " MiB",
    " GiB",
    "%",
    "#",
    "°",
    "N/A",
    "-",
    "=",
    "PM",
    "|",
    "\\",
    "é",
    "\n# tiershift resource trace 1\n",
    "null",
    "-- ",
    "e9",
    "T",
    "Z",
    "+01:00",
    "inf",
];
const NUMBERS: &[&str] = &[
    "0",
    "1",
    "-1",
    "9",
    "10",
    "60",
    "99",
    "100",
    "101",
    "1000",
    "2147483648",
    "9223372036854775807",
    "18446744073709551616",
    "1e308",
    "1e-9",
    "NaN",
    "inf",
    "",
    "0.5",
    "1,5",
    "1.234,5",
    "1,234.5",
    "00",
    "1970",
    "2031",
    "24",
    "253402300800",
    "99999999999999999999999999999999",
];
