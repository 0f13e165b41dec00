//! Second readers of three formats, written from the output of the tools and independent of the importer: slow, plain, and in
//! agreement with it on made-up files, both intact and damaged.
//!
//! Where the importer refuses a file or reports a defect, it has stated that a number may be wrong; otherwise both
//! must have read the same.

use std::collections::BTreeMap;
use std::io::Cursor;

use tiershift::trace::{DefectKind, ReadOptions, ResourceReader};
use tiershift_core::sample::{Rate, Sample, Space};

/// The content of a reading, with GPUs by number. Bytes, thousandths of a percent, thousandths of a degree.
#[derive(Clone, Debug, Default, PartialEq)]
struct Reading {
    /// Milliseconds since the first reading.
    at: i64,
    /// In use, and total.
    memory: Option<(i64, i64)>,
    cpu: Option<i64>,
    gpus: BTreeMap<usize, Gpu>,
}

#[derive(Clone, Debug, Default, PartialEq)]
struct Gpu {
    memory: Option<(i64, i64)>,
    busy: Option<i64>,
    warm: Option<i64>,
}

/// Reads a file; `None` if the reader was not written for it.
type Reader = fn(&str) -> Option<Vec<Reading>>;

#[test]
fn a_second_reader_of_nvidia_smi_agrees_with_the_importer() {
    agree("nvidia-smi", nvidia_smi_file, nvidia_smi);
}

#[test]
fn a_second_reader_of_sadf_agrees_with_the_importer() {
    agree("sadf -d", sadf_file, sadf);
}

#[test]
fn a_second_reader_of_hwinfo_agrees_with_the_importer() {
    agree("hwinfo", hwinfo_file, hwinfo);
}

/// Compares both readers on files, intact and damaged.
fn agree(name: &str, file: fn(&mut Luck) -> String, second: Reader) {
    let mut compared = [0, 0];
    for seed in 0..FILES {
        let mut luck = Luck(seed);
        let whole = file(&mut luck);
        for damages in 0..=DAMAGES {
            let text = if damages == 0 { whole.clone() } else { damaged(&whole, &mut luck) };
            let Some(first) = importer(&text) else { continue };
            let other = second(&text);
            let alike = other.as_ref().is_some_and(|other| are_alike(&first, other));
            assert!(
                alike,
                "{name}, seed {seed}, {}\n{text}\nthe importer: {first:#?}\nthe second reader: {other:#?}",
                if damages == 0 { "whole" } else { "damaged" }
            );
            compared[usize::from(damages > 0)] += 1;
        }
    }
    eprintln!(
        "{name}: {} whole files and {} damaged ones are read alike",
        compared[0], compared[1]
    );
    assert_eq!(compared[0], FILES, "{name}: nothing is wrong with whole files");
    assert!(
        compared[1] > FILES * DAMAGES / 10,
        "{name}: {} damaged files were compared",
        compared[1]
    );
}

/// Reads with the importer; `None` if it refuses the file or reports anything.
fn importer(text: &str) -> Option<Vec<Reading>> {
    let options = ReadOptions::default();
    let mut reader =
        ResourceReader::from_reader(Cursor::new(text.to_owned()), "file", &options).ok()?;
    let mut all = Vec::new();
    while let Some((at, sample)) = reader.next().ok()? {
        all.push(reading(at.as_nanos(), &sample));
    }
    // The second header that HWiNFO writes at the end is reported, but harmless.
    let reported = reader.defects().iter().any(|(kind, _)| kind != DefectKind::RepeatedHeader);
    let is_noted = reader.header().notes.iter().any(|note| {
        !note.starts_with("columns that were not read")
            && !KNOWN_NOTES.iter().any(|known| note.contains(known))
    });
    (!reported && !is_noted).then_some(all)
}

fn reading(at: u64, sample: &Sample) -> Reading {
    let space = |space: Space| (space.others.get() as i64, space.total.get() as i64);
    let rate = |rate: Rate| i64::from(rate.others.milli());
    let gpus = sample.gpus.iter().enumerate().map(|(number, gpu)| {
        let gpu = Gpu {
            memory: gpu.vram.map(space),
            busy: gpu.utilization.map(rate),
            warm: gpu.temperature.map(|celsius| i64::from(celsius.milli())),
        };
        (number, gpu)
    });
    Reading {
        at: at as i64 / 1_000_000,
        memory: sample.memory.map(space),
        cpu: sample.cpu.map(rate),
        gpus: gpus.filter(|(_, gpu)| *gpu != Gpu::default()).collect(),
    }
}

/// Equal except for the last byte of values computed from a percentage.
fn are_alike(one: &[Reading], other: &[Reading]) -> bool {
    let near = |one: Option<(i64, i64)>, other: Option<(i64, i64)>| match (one, other) {
        (Some(one), Some(other)) => (one.0 - other.0).abs() <= 1 && (one.1 - other.1).abs() <= 1,
        (one, other) => one == other,
    };
    one.len() == other.len()
        && one.iter().zip(other).all(|(one, other)| {
            one.at == other.at
                && one.cpu == other.cpu
                && one.gpus == other.gpus
                && near(one.memory, other.memory)
        })
}

/// A sequence of random numbers, given by a seed.
struct Luck(u64);

impl Luck {
    fn below(&mut self, bound: u64) -> u64 {
        // The linear congruential generator of Numerical Recipes; the upper half is good enough for tests.
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }
}

/// Changes one thing in a file: deletes, duplicates or moves a line, or changes a digit.
fn damaged(text: &str, luck: &mut Luck) -> String {
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    let one = luck.below(lines.len() as u64) as usize;
    let other = luck.below(lines.len() as u64) as usize;
    match luck.below(5) {
        0 => {
            lines.remove(one);
        }
        1 => lines.insert(other, lines[one].clone()),
        2 => lines.swap(one, other),
        3 => {
            let digits: Vec<usize> = lines[one]
                .char_indices()
                .filter(|(_, c)| c.is_ascii_digit())
                .map(|(at, _)| at)
                .collect();
            if !digits.is_empty() {
                let at = digits[luck.below(digits.len() as u64) as usize];
                lines[one].replace_range(at..=at, &luck.below(10).to_string());
            }
        }
        _ => {
            let cut = luck.below(lines[one].chars().count() as u64 + 1) as usize;
            lines[one] = lines[one].chars().take(cut).collect();
        }
    }
    lines.join("\n") + "\n"
}

/// `nvidia-smi --query-gpu=timestamp,index,utilization.gpu,memory.used,memory.total,temperature.gpu --format=csv`.
fn nvidia_smi_file(luck: &mut Luck) -> String {
    let gpus = 1 + luck.below(3);
    let mut text = "timestamp, index, utilization.gpu [%], memory.used [MiB], memory.total [MiB], temperature.gpu\n".to_owned();
    for row in 0..8 + luck.below(8) {
        for gpu in 0..gpus {
            let (seconds, milli) = (row * 5, 100 + gpu * 3 + luck.below(3));
            let busy = match luck.below(6) {
                0 => "[N/A]".to_owned(),
                _ => format!("{} %", luck.below(101)),
            };
            let (used, warm) = (luck.below(8193), 30 + luck.below(50));
            text += &format!(
                "2031/03/04 08:{:02}:{:02}.{milli:03}, {gpu}, {busy}, {used} MiB, 8192 MiB, {warm}\n",
                seconds / 60,
                seconds % 60
            );
        }
    }
    text
}

fn nvidia_smi(text: &str) -> Option<Vec<Reading>> {
    let is_header = |line: &&str| line.starts_with("timestamp,");
    // Rows above the first header are read by it.
    let mut names = columns(text.lines().find(is_header)?, ',');
    let mut all: Vec<(i64, Reading)> = Vec::new();
    for line in text.lines() {
        if is_header(&line) {
            names = columns(line, ',');
            continue;
        }
        let cells = columns(line, ',');
        let cell = |name: &str| -> Option<&String> {
            cells.get(names.iter().position(|known| known.split(" [").next() == Some(name))?)
        };
        let stamp = cell("timestamp")?;
        let (date, time) = stamp.split_once(' ')?;
        let date: Vec<i64> =
            date.split('/').map(|part| part.parse().ok()).collect::<Option<_>>()?;
        let at = days(*date.first()?, *date.get(1)?, *date.get(2)?) * 86_400_000 + of_day(time)?;
        let index: usize = cell("index")?.parse().ok()?;
        let number = |name: &str| -> Option<i64> {
            cell(name)?.split(' ').next()?.parse::<f64>().ok().map(|number| number.round() as i64)
        };
        let used = number("memory.used").zip(number("memory.total"));
        let gpu = Gpu {
            memory: used.map(|(used, total)| (used << 20, total << 20)),
            busy: number("utilization.gpu").map(|percent| percent * 1000),
            warm: number("temperature.gpu").map(|celsius| celsius * 1000),
        };
        match all.last_mut() {
            Some((begin, reading))
                if (0..=1000).contains(&(at - *begin)) && !reading.gpus.contains_key(&index) =>
            {
                reading.gpus.insert(index, gpu);
            }
            _ => all
                .push((at, Reading { gpus: BTreeMap::from([(index, gpu)]), ..Reading::default() })),
        }
    }
    since_the_first(all)
}

/// `sadf -d -- -u -r`: two tables, one below the other.
fn sadf_file(luck: &mut Luck) -> String {
    let rows = 6 + luck.below(8);
    let stamp = |row: u64| format!("2031-03-04 08:{:02}:{:02} UTC", row * 10 / 60, row * 10 % 60);
    let mut text =
        "# hostname;interval;timestamp;CPU;%user;%nice;%system;%iowait;%steal;%idle\n".to_owned();
    for row in 0..rows {
        let (user, nice, system) = (luck.below(4000), luck.below(1000), luck.below(3000));
        let percent = |hundredths: u64| format!("{}.{:02}", hundredths / 100, hundredths % 100);
        text += &format!(
            "box;10;{};-1;{};{};{};0.00;0.00;{}\n",
            stamp(row),
            percent(user),
            percent(nice),
            percent(system),
            percent(10_000 - user - nice - system)
        );
    }
    text += "# hostname;interval;timestamp;kbmemfree;kbavail;kbmemused;%memused\n";
    for row in 0..rows {
        let used = 1_000_000 + luck.below(7) * 1_000_000;
        let left = 8_000_000 - used + luck.below(900_000);
        let share = used * 10_000 / 8_000_000;
        text += &format!(
            "box;10;{};{};{left};{used};{}.{:02}\n",
            stamp(row),
            8_000_000 - used,
            share / 100,
            share % 100
        );
    }
    text
}

fn sadf(text: &str) -> Option<Vec<Reading>> {
    // Rows above the first header are read by it.
    let first = text.lines().find_map(|line| line.strip_prefix("# "))?;
    let mut names = columns(first, ';');
    let mut all: BTreeMap<i64, Reading> = BTreeMap::new();
    let mut total = None;
    for line in text.lines() {
        if let Some(header) = line.strip_prefix("# ") {
            names = columns(header, ';');
            continue;
        }
        let cells = columns(line, ';');
        let cell = |name: &str| cells.get(names.iter().position(|known| known == name)?);
        let number = |name: &str| cell(name)?.parse::<f64>().ok();
        let stamp = cell("timestamp")?.strip_suffix(" UTC")?;
        let (date, time) = stamp.split_once(' ')?;
        let date: Vec<i64> =
            date.split('-').map(|part| part.parse().ok()).collect::<Option<_>>()?;
        let at = days(*date.first()?, *date.get(1)?, *date.get(2)?) * 86_400_000 + of_day(time)?;
        let is_all = cell("CPU").is_none_or(|cpu| cpu == "-1" || cpu == "all");
        if !is_all {
            continue;
        }
        let reading = all.entry(at).or_default();
        if let (Some(user), Some(nice), Some(system)) =
            (number("%user"), number("%nice"), number("%system"))
        {
            reading.cpu = Some((user * 1000.0 + nice * 1000.0 + system * 1000.0).round() as i64);
        }
        let parts = number("kbmemused").zip(number("%memused"));
        // A row without its total uses that of the row before.
        total = parts.map(|(used, share)| (used * 1024.0 * 100.0 / share).round() as i64).or(total);
        if let (Some(total), Some(left)) = (total, number("kbavail")) {
            reading.memory = Some((total - (left * 1024.0).round() as i64, total));
        }
    }
    since_the_first(all.into_iter().collect())
}

/// A log of HWiNFO64, with its header repeated at the end.
fn hwinfo_file(luck: &mut Luck) -> String {
    let header = "Date,Time,\"Total CPU Usage [%]\",\"Core Clocks (avg) [MHz]\",\"Physical Memory Used [MB]\",\
                  \"Physical Memory Available [MB]\",\"GPU Temperature [°C]\",\"GPU Core Load [%]\"\n";
    let mut text = header.to_owned();
    for row in 0..8 + luck.below(8) {
        let used = 2000 + luck.below(10_000);
        text += &format!(
            "4.3.2031,8:{:02}:{:02}.{:03},{}.{},{},{used},{},{}.5,{}\n",
            row * 2 / 60,
            row * 2 % 60,
            luck.below(100),
            luck.below(100),
            luck.below(10),
            3000 + luck.below(1000),
            16_384 - used,
            40 + luck.below(40),
            luck.below(101)
        );
    }
    text + header
}

fn hwinfo(text: &str) -> Option<Vec<Reading>> {
    let mut lines = text.lines();
    let header = lines.next()?;
    let names = columns(header, ',');
    let mut all = Vec::new();
    for line in lines {
        // Also if the file ends within the header.
        if !line.is_empty() && header.starts_with(line) {
            continue;
        }
        let cells = columns(line, ',');
        let cell = |name: &str| cells.get(names.iter().position(|known| known == name)?);
        let number = |name: &str| cell(name)?.parse::<f64>().ok();
        let date: Vec<i64> =
            cell("Date")?.split('.').map(|part| part.parse().ok()).collect::<Option<_>>()?;
        let at = days(*date.get(2)?, *date.get(1)?, *date.first()?) * 86_400_000
            + of_day(cell("Time")?)?;
        let (used, left) =
            (number("Physical Memory Used [MB]"), number("Physical Memory Available [MB]"));
        let gpu = Gpu {
            memory: None,
            busy: number("GPU Core Load [%]").map(|percent| (percent * 1000.0).round() as i64),
            warm: number("GPU Temperature [°C]").map(|celsius| (celsius * 1000.0).round() as i64),
        };
        let bytes = |mib: f64| (mib * 1_048_576.0).round() as i64;
        all.push((
            at,
            Reading {
                memory: used.zip(left).map(|(used, left)| (bytes(used), bytes(used + left))),
                cpu: number("Total CPU Usage [%]").map(|percent| (percent * 1000.0).round() as i64),
                gpus: BTreeMap::from([(0, gpu)]),
                ..Reading::default()
            },
        ));
    }
    since_the_first(all)
}

fn columns(line: &str, separator: char) -> Vec<String> {
    line.split(separator).map(|cell| cell.trim().trim_matches('"').to_owned()).collect()
}

/// Returns the milliseconds since midnight of `8:00:02.125`.
fn of_day(time: &str) -> Option<i64> {
    let parts: Vec<&str> = time.split(':').collect();
    let [hours, minutes, seconds] = parts.as_slice() else { return None };
    // A leap second counts as the second before it.
    let seconds: f64 = seconds.parse().ok().map(|s: f64| if s >= 60.0 { s - 1.0 } else { s })?;
    let whole = hours.parse::<i64>().ok()? * 3600 + minutes.parse::<i64>().ok()? * 60;
    Some(whole * 1000 + (seconds * 1000.0).round() as i64)
}

/// Returns the days since 1 January of the year 0, by counting.
fn days(year: i64, month: i64, day: i64) -> i64 {
    let is_leap = |year: i64| year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let of_years: i64 =
        (0..year.clamp(0, 9999)).map(|year| if is_leap(year) { 366 } else { 365 }).sum();
    let lengths = [31, if is_leap(year) { 29 } else { 28 }, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    of_years + lengths.iter().take((month - 1).clamp(0, 12) as usize).sum::<i64>() + day - 1
}

fn since_the_first(all: Vec<(i64, Reading)>) -> Option<Vec<Reading>> {
    let first = all.first()?.0;
    Some(all.into_iter().map(|(at, reading)| Reading { at: at - first, ..reading }).collect())
}

/// Notes that occur for every file of a format.
const KNOWN_NOTES: [&str; 2] = ["wavers by about 0.02 %", "HWiNFO does not tell the total"];
const FILES: u64 = 60;
const DAMAGES: u64 = 20;
