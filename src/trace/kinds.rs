//! The kinds of files that loggers and tools produce, each read correctly, refused or reported.

use std::io::Cursor;
use std::sync::Arc;
use std::time::Duration;

use tiershift_core::machine::Machine;
use tiershift_core::time::Timestamp;
use tiershift_core::units::Bytes;

use crate::trace::{
    DefectKind, Defects, Format, Header, Mapping, ReadOptions, RequestReader, ResourceReader, Told,
    TraceError,
};

mod dates;
mod logs;
mod tools;

/// The use of a GPU's video memory [MiB], and of the GPU itself [%].
type Gpu = (Option<u64>, Option<f64>);

/// A sample's time [s], the use of memory [MiB] and of the processor [%], and its GPUs.
type Reading = (f64, Option<u64>, Option<f64>, Vec<Gpu>);

/// The result of reading a resource trace.
#[derive(Debug)]
struct Came {
    samples: Vec<Reading>,
    header: Header,
    defects: Defects,
    machine: Machine,
}

impl Came {
    fn times(&self) -> Vec<f64> {
        self.samples.iter().map(|sample| sample.0).collect()
    }

    fn memory(&self) -> Vec<Option<u64>> {
        self.samples.iter().map(|sample| sample.1).collect()
    }

    fn cpu(&self) -> Vec<Option<f64>> {
        self.samples.iter().map(|sample| sample.2).collect()
    }

    fn vram(&self, gpu: usize) -> Vec<Option<u64>> {
        self.samples.iter().map(|sample| sample.3.get(gpu).and_then(|gpu| gpu.0)).collect()
    }

    fn busy(&self, gpu: usize) -> Vec<Option<f64>> {
        self.samples.iter().map(|sample| sample.3.get(gpu).and_then(|gpu| gpu.1)).collect()
    }

    /// Returns the wall clock at the beginning.
    fn began(&self) -> String {
        self.header.clock.started_at().map_or("unknown".to_owned(), |start| start.to_string())
    }

    #[track_caller]
    fn notes(&self, word: &str) {
        assert!(
            self.header.notes.iter().any(|note| note.contains(word)),
            "{word}: {:?}",
            self.header.notes
        );
    }
}

fn read(text: &str, options: &ReadOptions) -> Result<Came, TraceError> {
    let mut reader = ResourceReader::from_reader(Cursor::new(text.to_owned()), "file", options)?;
    let mut samples = Vec::new();
    while let Some((at, sample)) = reader.next()? {
        let mib = |space: tiershift_core::sample::Space| space.others.get() >> 20;
        let percent = |rate: tiershift_core::sample::Rate| f64::from(rate.others.milli()) / 1000.0;
        let gpus = sample.gpus.iter().map(|gpu| (gpu.vram.map(mib), gpu.utilization.map(percent)));
        samples.push((
            at.as_secs_f64(),
            sample.memory.map(mib),
            sample.cpu.map(percent),
            gpus.collect(),
        ));
    }
    let (header, defects) = (reader.header().clone(), reader.defects().clone());
    Ok(Came { samples, header, defects, machine: reader.machine().clone() })
}

#[track_caller]
fn good(text: &str, options: &ReadOptions) -> Came {
    read(text, options).unwrap()
}

#[track_caller]
fn refused(text: &str, options: &ReadOptions, word: &str) {
    let error = read(text, options).unwrap_err().to_string();
    assert!(error.contains(word), "{word}: {error}");
}

fn plain() -> ReadOptions {
    ReadOptions::default()
}

fn told(told: Told) -> ReadOptions {
    ReadOptions { told, ..plain() }
}

fn mapped(mapping: &str) -> ReadOptions {
    let head = "name = \"mine\"\nabout = \"mine\"\n";
    let mapping = Mapping::parse("mine.toml", &format!("{head}{mapping}")).unwrap();
    ReadOptions { format: Some(Format::Mapped(Arc::new(mapping))), ..plain() }
}

fn on(memory: u64, gpus: &[u64], options: ReadOptions) -> ReadOptions {
    let gib = |gib: &u64| Bytes::from_gib(*gib);
    let machine = Machine {
        memory: Bytes::from_gib(memory),
        gpus: gpus.iter().map(gib).collect(),
        ..Machine::default()
    };
    ReadOptions { machine: Some(machine), ..options }
}

const CPU: &str = "kind = \"resource\"\n[layout]\nshape = \"table\"\n[time]\ncolumns = [\"t\"]\nforms = [\"seconds\"]\n[[field]]\n\
                   to = \"cpu_others_milli_percent\"\nunit = \"%\"\nplus = [\"cpu\"]\n";

#[test]
fn gpus_are_told_apart_by_any_sign_of_theirs() {
    let rows = |signs: [&str; 2]| {
        let [a, b] = signs;
        format!(
            "2031/03/04 08:00:00.100, {a}, 70 %, 48000 MiB, 31000 MiB\n2031/03/04 08:00:00.104, {b}, 5 %, 8000 MiB, 700 MiB\n\
             2031/03/04 08:00:02.100, {a}, 71 %, 48000 MiB, 31100 MiB\n2031/03/04 08:00:02.104, {b}, 6 %, 8000 MiB, 710 MiB\n"
        )
    };
    for (column, signs) in [
        ("uuid", ["GPU-7b", "GPU-2c"]),
        ("gpu_bus_id", ["00000000:41:00.0", "00000000:C1:00.0"]),
        ("serial", ["1654220000001", "1654220000002"]),
        ("index", ["0", "1"]),
        ("name", ["Card A", "Card B"]),
        ("fan.speed [%]", ["30 %", "31 %"]),
    ] {
        let head = format!(
            "timestamp, {column}, utilization.gpu [%], memory.total [MiB], memory.used [MiB]\n"
        );
        let came = good(&format!("{head}{}", rows(signs)), &plain());
        assert_eq!(came.vram(0), [Some(31_000), Some(31_100)], "{column}");
        assert_eq!(came.vram(1), [Some(700), Some(710)], "{column}");
        assert_eq!(came.times(), [0.0, 2.0], "{column}");
    }
}

#[test]
fn one_gpu_that_is_read_often_stays_one() {
    let head = "timestamp, name, utilization.gpu [%], memory.used [MiB]\n";
    let often = "2031/03/04 08:00:00.100, Card, 1 %, 5 MiB\n2031/03/04 08:00:00.301, Card, 2 %, 5 MiB\n\
                 2031/03/04 08:00:00.502, Card, 3 %, 5 MiB\n2031/03/04 08:00:00.702, Card, 4 %, 5 MiB\n";
    let came = good(&format!("{head}{often}"), &plain());
    assert_eq!(came.busy(0), [1.0, 2.0, 3.0, 4.0].map(Some));
    assert_eq!(came.busy(1), [None; 4]);
}

#[test]
fn rows_that_may_be_gpus_or_readings_are_asked_about() {
    let text = "timestamp, utilization.gpu [%], memory.used [MiB]\n2031/03/04 08:00:00, 1 %, 5 MiB\n\
                2031/03/04 08:00:00, 60 %, 700 MiB\n2031/03/04 08:00:01, 2 %, 5 MiB\n2031/03/04 08:00:01, 61 %, 700 MiB\n\
                2031/03/04 08:00:02, 2 %, 5 MiB\n";
    refused(text, &plain(), "--gpus 2");
    let came = good(text, &told(Told { gpus: Some(2), ..Told::default() }));
    assert_eq!(came.busy(1), [Some(60.0), Some(61.0), None]);
    // Separate totals settle it.
    let text = text.replace("5 MiB", "5 MiB, 4096 MiB").replace("700 MiB", "700 MiB, 8192 MiB");
    let came = good(&text.replace("used [MiB]", "used [MiB], memory.total [MiB]"), &plain());
    assert_eq!(came.machine.gpus, [Bytes::from_gib(4), Bytes::from_gib(8)]);
}

#[test]
fn a_total_that_comes_and_goes_is_several_gpus_and_refused() {
    let row =
        |at: u32, total: u32| format!("2031/03/04 08:00:{at:02}.000, 1 %, 5 MiB, {total} MiB\n");
    let rows =
        [(0, 4096), (4, 8192), (8, 4096), (12, 8192)].map(|(at, total)| row(at, total)).concat();
    let head = "timestamp, utilization.gpu [%], memory.used [MiB], memory.total [MiB]\n";
    refused(&format!("{head}{rows}"), &plain(), "--gpus");
}

#[test]
fn a_gpu_without_a_total_is_named() {
    let head = "timestamp, index, memory.used [MiB]\n";
    let rows = "2031/03/04 08:00:00.000, 0, 5 MiB\n2031/03/04 08:00:00.001, 1, 6 MiB\n2031/03/04 08:00:02.000, 0, 5 MiB\n";
    let came = good(&format!("{head}{rows}"), &on(1, &[8], plain()));
    came.notes("video memory of GPU 1");
    let alone = rows.replace(" 0,", " 1,").replace(".001, 1, 6", ".900, 1, 6");
    refused(&format!("{head}{alone}"), &on(1, &[8], plain()), "video memory of GPU 1");
}

#[test]
fn a_second_run_with_other_columns_is_read_by_its_own_header() {
    let text = "timestamp, index, utilization.gpu [%], memory.used [MiB]\n2031/03/04 08:00:00.000, 0, 1 %, 100 MiB\n\
                timestamp, index, temperature.gpu, memory.used [MiB], utilization.gpu [%]\n\
                2031/03/04 08:00:05.000, 0, 66, 200 MiB, 2 %\n";
    let came = good(text, &on(1, &[8], plain()));
    assert_eq!(
        (came.vram(0), came.busy(0)),
        (vec![Some(100), Some(200)], vec![Some(1.0), Some(2.0)])
    );
    assert_eq!(came.defects.count(DefectKind::RepeatedHeader), 1);
    let came = good("t,other,cpu\n0,7,10\n5,7,11\ncpu,t\n12,10\n", &mapped(CPU));
    assert_eq!(came.cpu(), [10.0, 11.0, 12.0].map(Some));
    came.notes("`other`");
}

#[test]
fn a_second_native_run_follows_the_first() {
    let text = "# tiershift resource trace 1\nat_ns,load_milli,cpu_others_milli_percent\n0,1,1000\n5000000000,1,2000\n\
                # tiershift resource trace 1\n# made_by: somebody\nat_ns,cpu_others_milli_percent\n0,3000\n5000000000,4000\n";
    let came = good(text, &plain());
    assert_eq!(came.cpu(), [1.0, 2.0, 3.0, 4.0].map(Some));
    assert_eq!(came.times(), [0.0, 5.0, 10.0, 15.0]);
    assert_eq!(came.defects.count(DefectKind::RepeatedHeader), 1);
}

#[test]
fn rows_before_the_first_header_are_read_by_it() {
    let text = "80, 04-03-2031 08:00:00, 50.000 ,7.000 \n80, 04-03-2031 08:00:01, 51.000 ,8.000 \n\
                02, 04-03-2031 08:00:02, GPU temperature ,GPU usage \n80, 04-03-2031 08:00:02, 52.000 ,9.000 \n";
    assert_eq!(good(text, &plain()).busy(0), [7.0, 8.0, 9.0].map(Some));
}

#[test]
fn the_processes_of_pmon_are_not_taken_for_the_gpus_of_dmon() {
    let dmon = "# gpu     sm    mem\n# Idx      %      %\n    0     12      3\n";
    let every_second = told(Told { interval: Some(Duration::from_secs(1)), ..Told::default() });
    assert_eq!(good(dmon, &every_second).busy(0), [Some(12.0)]);
    let pmon = "# gpu         pid   type     sm    mem    command\n# Idx           #    C/G      %      %    name\n\
                0       4711     C     12      3    python\n    0       4712     G      1      0    shell\n";
    refused(pmon, &every_second, "in no known format");
}

#[test]
fn sysstats_used_memory_is_taken_without_the_page_cache() {
    let table = |columns: &str, row: &str| {
        format!("# hostname;interval;timestamp;{columns}\nx;9;2031-03-04 08:00:00 UTC;{row}\n")
    };
    // 1000 MiB in all, of which 300 are available by either way to state it.
    for (columns, row) in [
        (
            "kbmemfree;kbavail;kbmemused;%memused;kbbuffers;kbcached",
            "102400;307200;512000;50.00;0;0",
        ),
        (
            "kbmemfree;kbavail;kbmemused;%memused;kbbuffers;kbcached",
            "102400;0;921600;90.00;102400;102400",
        ),
        ("kbmemfree;kbmemused;%memused;kbbuffers;kbcached", "102400;921600;90.00;102400;102400"),
    ] {
        assert_eq!(good(&table(columns, row), &plain()).memory(), [Some(700)], "{columns} {row}");
    }
    let unknown = table("kbmemfree;kbmemused;%memused;ldavg-1", "102400;921600;90.00;1");
    let came = good(&unknown, &plain());
    assert_eq!(came.memory(), [None]);
    came.notes("page cache");
}

#[test]
fn tables_that_follow_one_another_are_put_together_by_their_times() {
    let text = "# hostname;interval;timestamp;CPU;%user;%nice;%system\nx;9;2031-03-04 08:00:00 UTC;-1;10;0;5\n\
                x;9;2031-03-04 08:00:09 UTC;-1;11;0;5\nx;9;2031-03-04 08:00:09 UTC;0;99;0;1\n\
                # hostname;interval;timestamp;kbmemfree;kbavail;kbmemused;%memused\n\
                x;9;2031-03-04 08:00:00 UTC;1;307200;512000;50.00\nx;9;2031-03-04 08:00:09 UTC;1;204800;512000;50.00\n";
    let came = good(text, &plain());
    assert_eq!(came.memory(), [Some(700), Some(800)]);
    assert_eq!(came.cpu(), [Some(15.0), Some(16.0)]);
}

#[test]
fn two_units_are_reported_and_the_mappings_wins() {
    let mapping = |unit: &str| {
        mapped(&format!(
            "kind = \"resource\"\n[layout]\nshape = \"table\"\n[time]\ncolumns = [\"t\"]\nforms = [\"seconds\"]\n[[field]]\n\
             to = \"memory_others_bytes\"\n{unit}plus = [\"used\"]\n"
        ))
    };
    let mib = |text, unit: &str| good(text, &on(64, &[], mapping(unit)));
    let came = mib("t,used [MB]\n0,5000\n", "unit = \"MiB\"\n");
    assert_eq!((came.memory(), came.defects.count(DefectKind::Unit)), (vec![Some(5000)], 1));
    assert_eq!(mib("t,used (MiB)\n0,5000\n", "").memory(), [Some(5000)]);
    assert_eq!(mib("t,used\n0,5000MiB\n1,5 GiB\n", "").memory(), [Some(5000), Some(5120)]);
    let came = mib("t,used\n0,5000 MB\n", "unit = \"MiB\"\n");
    assert_eq!((came.memory(), came.defects.count(DefectKind::Unit)), (vec![Some(5000)], 1));
    let came = mib("t,used\n0,5 GiB\n", "unit = \"MiB\"\n");
    assert_eq!((came.memory(), came.defects.count(DefectKind::Unit)), (vec![Some(5120)], 1));
    // Without any statement: no number.
    assert!(read("t,used\n0,5000\n", &on(64, &[], mapping(""))).is_err());
}

#[test]
fn numbers_out_of_the_range_of_their_unit_are_recognised_and_reported() {
    let came = good("t,cpu\n0,0.25\n5,0.75\n", &mapped(CPU));
    came.notes("fraction");
    assert!(good("t,cpu\n0,0.25\n5,1.75\n", &mapped(CPU)).header.notes.is_empty());
    let came = good("t,cpu\n1931336400000,25\n1931336405000,75\n", &mapped(CPU));
    assert_eq!((came.times(), came.defects.count(DefectKind::Unit)), (vec![0.0, 5.0], 1));
    let head = "timestamp, index, memory.used, memory.total\n";
    let bytes = "2031/03/04 08:00:00.000, 0, 1073741824, 17179869184\n2031/03/04 08:00:05.000, 0, 2097152, 17179869184\n";
    let came = good(&format!("{head}{bytes}"), &plain());
    assert_eq!(came.vram(0), [Some(1024), Some(2)]);
    assert_eq!(came.machine.gpus, [Bytes::from_gib(16)]);
    assert!(came.defects.count(DefectKind::Unit) > 0);
}

#[test]
fn a_decimal_comma_is_read_where_it_can_be_nothing_else() {
    let mapping = CPU.replace("shape = \"table\"", "shape = \"table\"\nseparator = \";\"");
    let came = good("t;cpu\n0;12,5\n5;1,125\n", &mapped(&mapping));
    assert_eq!(came.cpu(), [Some(12.5), Some(1.125)]);
    let unclear = "t;cpu\n0;1,125\n5;2\n";
    assert_eq!(good(unclear, &mapped(&mapping)).cpu(), [Some(2.0)]);
    let settled = mapping.replace("separator", "decimal = \",\"\nseparator");
    assert_eq!(good(unclear, &mapped(&settled)).cpu(), [Some(1.125), Some(2.0)]);
}

#[test]
fn a_last_line_that_may_be_cut_is_reported() {
    let came = good("t,cpu\n0,12\n5,1", &mapped(CPU));
    assert_eq!(
        (came.cpu(), came.defects.count(DefectKind::NoLineEnd)),
        (vec![Some(12.0), Some(1.0)], 1)
    );
    assert_eq!(good("t,cpu\n0,12\n5,15 %", &mapped(CPU)).defects.total(), 0);
}

#[test]
fn a_cell_with_line_ends_is_one_cell() {
    let mapping = CPU.replace("\"seconds\"", "\"seconds\", \"iso8601\"");
    let text = "t,what,cpu\n0,\"one\",10\n5,\"two\n9,fake,99\nend\",11\n10,5\" disk,12\n15,\"never closed,13\n20,plain,14\n";
    assert_eq!(good(text, &mapped(&mapping)).cpu(), [10.0, 11.0, 12.0, 13.0, 14.0].map(Some));
}

#[test]
fn clocks_that_are_wrong_for_a_while_cost_no_other_rows() {
    let rows = |times: &[i64]| {
        let rows = times.iter().enumerate().map(|(row, at)| format!("{at},{}\n", row + 1));
        format!("t,cpu\n{}", rows.collect::<String>())
    };
    let start = 1_931_336_400;
    // One row a month ahead.
    let came =
        good(&rows(&[start, start + 5, start + 2_592_000, start + 10, start + 15]), &mapped(CPU));
    assert_eq!(came.times(), [0.0, 5.0, 10.0, 15.0]);
    assert_eq!(came.defects.count(DefectKind::UnreadableTime), 1);
    // 1970 at boot.
    let came = good(&rows(&[40, 45, start, start + 5]), &mapped(CPU));
    assert_eq!(
        (came.times(), came.defects.count(DefectKind::ClockSet)),
        (vec![0.0, 5.0, 10.0, 15.0], 1)
    );
    let began = came.header.clock.started_at().unwrap();
    assert_eq!(began.nanos(), i128::from(start - 10) * 1_000_000_000);
    // The end of summer time: an hour back, with two rows lost.
    let back: Vec<i64> =
        (0..4).map(|n| start + n * 5).chain((0..6).map(|n| start - 3580 + n * 5)).collect();
    let came = good(&rows(&back), &mapped(CPU));
    assert_eq!(came.times(), [0.0, 5.0, 10.0, 15.0, 30.0, 35.0, 40.0, 45.0]);
    assert_eq!(came.defects.count(DefectKind::ClockSet), 1);
    let shows =
        |at| came.header.clock.at(Timestamp::from_secs(at)).unwrap().nanos() / 1_000_000_000;
    assert_eq!([0, 15, 30, 45].map(shows), [0, 15, -3570, -3555].map(|s| i128::from(start + s)));
    // The newest first.
    refused(&rows(&[start + 20, start + 10, start]), &mapped(CPU), "newest");
    let sorted = CPU.replace("[\"seconds\"]", "[\"seconds\"]\nsorted = false");
    assert_eq!(
        good(&rows(&[start + 20, start + 10, start]), &mapped(&sorted)).cpu(),
        [3.0, 2.0, 1.0].map(Some)
    );
}

#[test]
fn silences_of_hours_are_left_out_of_a_replay_and_kept_in_an_import() {
    let text = "t,cpu\n0,1\n5,2\n10,3\n40000,4\n40005,5\n";
    let kept = good(text, &mapped(CPU));
    assert_eq!((kept.times()[3], kept.defects.count(DefectKind::Gap)), (40_000.0, 1));
    let cut = good(text, &ReadOptions { cut_silences: true, ..mapped(CPU) });
    assert_eq!(cut.times(), [0.0, 5.0, 10.0, 30.0, 35.0]);
    assert_eq!(cut.defects.count(DefectKind::LeftOut), 1);
}

#[test]
fn the_busiest_readings_are_kept_as_all_there_is() {
    let came = good("t,cpu\n0,100.9\n5,1600\n10,-3\n15,7\n20,200000000\n", &mapped(CPU));
    assert_eq!(came.cpu(), [Some(100.0), Some(100.0), Some(7.0)]);
    assert_eq!(came.defects.count(DefectKind::AboveAll), 2);
    assert_eq!(came.defects.count(DefectKind::ImpossibleValue), 2);
}

#[test]
fn what_a_format_does_not_say_is_asked_for() {
    let text = "timestamp,value\n2031-03-04 08:00:00,41.5\n2031-03-04 08:05:00,42.5\n";
    refused(text, &plain(), "--metric");
    refused(
        text,
        &told(Told { metric: Some("latency".to_owned()), ..Told::default() }),
        "cpu, gpu, memory",
    );
    let came = good(text, &told(Told { metric: Some("cpu".to_owned()), ..Told::default() }));
    assert_eq!(came.cpu(), [Some(41.5), Some(42.5)]);
    // Two percentages, or a temperature and one: no video memory.
    let headless = "2031/03/04 08:00:00.000, 40, 61\n2031/03/04 08:00:02.000, 41, 62\n";
    refused(headless, &on(1, &[8], plain()), "--columns");
    let columns = ["timestamp", "utilization.gpu", "temperature.gpu"].map(str::to_owned).to_vec();
    let came = good(headless, &told(Told { columns, ..Told::default() }));
    assert_eq!(came.busy(0), [Some(40.0), Some(41.0)]);
    refused("2031/03/04 08:00:00.000, 8000, 40\n", &on(1, &[8], plain()), "--columns");
}

#[test]
fn names_that_any_logger_may_have_are_nobodys_own() {
    for text in [
        "timestamp,cpu_percent,memory_used,gpu_utilization\n2031-03-04 08:00:00,1,2,3\n",
        "timestamp,gpu_utilization,memory_used_mb\n2031-03-04 08:00:00,1,2\n",
    ] {
        refused(text, &plain(), "in no known format");
    }
    let seconds = "{\"timestamp\": 1.5, \"input_length\": 3, \"output_length\": 4}\n";
    let mut reader = RequestReader::from_reader(Cursor::new(seconds), "file", &plain()).unwrap();
    assert!(reader.next().unwrap_err().to_string().contains("whole numbers"));
}

#[test]
fn rows_without_a_time_are_an_interval_apart() {
    let mapping = "kind = \"resource\"\n[layout]\nshape = \"table\"\n[[field]]\nto = \"cpu_others_milli_percent\"\nunit = \"%\"\n\
                   plus = [\"cpu\"]\n";
    let text = "cpu,x\n1,0\n2,0\n3,0\n";
    refused(text, &mapped(mapping), "--interval");
    let spaced = ReadOptions {
        told: Told {
            interval: Some(Duration::from_secs(4)),
            starts_at: Some("2031-03-04T08:00:00Z".parse().unwrap()),
            ..Told::default()
        },
        ..mapped(mapping)
    };
    let came = good(text, &spaced);
    assert_eq!(came.times(), [0.0, 4.0, 8.0]);
    assert_eq!(came.began(), "2031-03-04T08:00:00Z");
    // Under a date, and without the average since the boot.
    let mapping = "kind = \"resource\"\n[layout]\nshape = \"text\"\nleave-out = 1\ntold = [\"at {h}:{m}\"]\n\
                   rows = [\"r {cpu} {}\"]\n[time]\ncolumns = [\"h\", \"m\"]\nforms = [\"%H %M\"]\ninterval = \"10s\"\n\
                   [[field]]\nto = \"cpu_others_milli_percent\"\nunit = \"%\"\nplus = [\"cpu\"]\n";
    let came = good("at 08:00\nr 99 x\nr 1 x\nr 2 x\nat 08:01\nr 3 x\n", &mapped(mapping));
    assert_eq!(
        (came.times(), came.cpu()),
        (vec![0.0, 10.0, 50.0], vec![Some(1.0), Some(2.0), Some(3.0)])
    );
    assert_eq!(came.began(), "unknown");
    came.notes("have no date");
    came.notes("rows \"r {cpu} {}\" 4");
}

#[test]
fn the_most_particular_line_of_a_text_is_taken() {
    let mapping = "kind = \"resource\"\n[layout]\nshape = \"text\"\nrows = [\"{t} cpu={cpu}%\"]\nskip = [\"{} {}\"]\n[time]\n\
                   columns = [\"t\"]\nforms = [\"seconds\"]\n[[field]]\nto = \"cpu_others_milli_percent\"\nunit = \"%\"\nplus = [\"cpu\"]\n";
    let came = good("0 cpu=1%\n0 idle\n5 cpu=2%\n", &mapped(mapping));
    assert_eq!((came.cpu(), came.defects.total()), (vec![Some(1.0), Some(2.0)], 0));
}

#[test]
fn rows_of_tools_that_tell_no_time_need_an_interval() {
    let every =
        |seconds| told(Told { interval: Some(Duration::from_secs(seconds)), ..Told::default() });
    let dmon = "# gpu     sm    mem     fb\n# Idx      %      %     MB\n    0     35     10   8000\n    1      -      0      5\n    \
                0     36     11   8001\n    1      2      0      5\n# gpu     fb     sm\n# Idx     MB      %\n    0   8002     37\n";
    refused(dmon, &plain(), "--interval");
    let came = good(dmon, &on(1, &[16, 16], every(1)));
    assert_eq!(
        (came.times(), came.vram(0)),
        (vec![0.0, 1.0, 2.0], vec![Some(8000), Some(8001), Some(8002)])
    );
    assert_eq!(came.busy(1), [None, Some(2.0), None]);
    let vmstat = "procs -----------memory---------- ---swap-- -----io---- -system-- ------cpu-----\n r  b   swpd   free   buff  \
                  cache   si   so    bi    bo   in   cs us sy id wa st\n 1  0      0 100 200 300    0    0     1     3   29   57  9  9 82  0  \
                  0\n11  0      0 102400 102400 204800    0    0     1     3   29   57  9  9 80  2  0\n";
    let came = good(vmstat, &on(1, &[], every(5)));
    assert_eq!((came.memory(), came.cpu()), (vec![Some(1024 - 400)], vec![Some(18.0)]));
    let jetson = "RAM 855/7620MB (lfb 3x4MB) SWAP 1/3810MB (cached 0MB) CPU [1%@729,off] GR3D_FREQ 7%@306 gpu@36C\n\
                  RAM 900/7620MB (lfb 3x4MB) CPU [1%@729] EMC_FREQ 0% GR3D_FREQ 0% gpu@36C\n";
    let came = good(jetson, &every(1));
    assert_eq!(
        (came.memory(), came.busy(0)),
        (vec![Some(855), Some(900)], vec![Some(7.0), Some(0.0)])
    );
}

#[test]
fn what_is_told_later_holds_for_the_whole_file() {
    let mapping = "kind = \"resource\"\n[layout]\nshape = \"text\"\nrows = [\"{t} left={left}\"]\ntold = [\"all={all}\"]\n[time]\n\
                   columns = [\"t\"]\nforms = [\"seconds\"]\n[[field]]\nto = \"memory_total_bytes\"\nunit = \"MiB\"\nplus = [\"all\"]\n\
                   [[field]]\nto = \"memory_others_bytes\"\nunit = \"MiB\"\nplus = [\"all\"]\nminus = [\"left\"]\n";
    let came = good("0 left=300\nall=1000\n5 left=200\nall=1100\n10 left=200\n", &mapped(mapping));
    assert_eq!(came.memory(), [Some(700), Some(800), Some(900)]);
}

#[test]
fn long_tables_counters_and_what_is_left_are_read() {
    let mapping = "kind = \"resource\"\n[layout]\nshape = \"table\"\n[time]\ncolumns = [\"t\"]\nforms = [\"seconds\"]\nsorted = false\n\
        [[field]]\nto = \"memory_total_bytes\"\nunit = \"MiB\"\nplus = [\"v\"]\nonly = { m = [\"total\"] }\n\
        [[field]]\nto = \"memory_available_bytes\"\nunit = \"MiB\"\nplus = [\"v\"]\nonly = { m = [\"left\"] }\n\
        [[field]]\nto = \"cpu_idle_milli_percent\"\nunit = \"fraction\"\nplus = [\"v\"]\nonly = { m = [\"idle\"] }\nrows = \"mean\"\n\
        counter = true\n\
        [[field]]\nto = \"gpu0_vram_others_bytes\"\nunit = \"MiB\"\nplus = [\"v\"]\nonly = { m = [\"vram\"] }\nrows = \"sum\"\n\
        [[field]]\nto = \"gpu0_utilization_others_milli_percent\"\nunit = \"%\"\nplus = [\"=100\"]\nminus = [\"v\"]\n\
        only = { m = [\"gpu-idle\"] }\n";
    let text = "t,m,v\n0,total,1000\n10,total,1000\n0,left,300\n10,left,200\n0,idle,500\n0,idle,900\n10,idle,505\n10,idle,907\n\
                0,vram,10\n0,vram,20\n10,vram,30\n0,gpu-idle,75\n";
    let came = good(text, &on(1, &[1], mapped(mapping)));
    assert_eq!(came.memory(), [Some(700), Some(800)]);
    assert_eq!(came.cpu(), [None, Some(40.0)]);
    assert_eq!(came.vram(0), [Some(30), Some(30)]);
    assert_eq!(came.busy(0), [Some(25.0), None]);
}

#[test]
fn arrays_of_json_are_rows_or_columns() {
    let mapping = |layout: &str, [t, v]: [&str; 2]| {
        mapped(&format!(
            "kind = \"resource\"\n[layout]\nshape = \"json\"\n{layout}\n[time]\ncolumns = [\"{t}\"]\nforms = [\"seconds\"]\n[[field]]\n\
             to = \"cpu_others_milli_percent\"\nunit = \"%\"\nplus = [\"{v}\"]\n"
        ))
    };
    let series = "{\"r\": [{\"of\": \"a\", \"v\": [[1, \"10\"], [2, \"20\"]]}, {\"of\": \"b\", \"v\": [[1, \"30\"]]}]}";
    let each =
        mapping("records = \"/r/*\"\neach = \"/v\"\nonly = { \"^of\" = [\"a\"] }", ["/0", "/1"]);
    assert_eq!(good(series, &each).cpu(), [Some(10.0), Some(20.0)]);
    let plain = mapping("records = \"/r/0/v/*\"", ["/0", "/1"]);
    let one = "{\"r\": {\"0\": {\"v\": [[1, \"10\"], [2, \"20\"]]}}}";
    assert_eq!(good(one, &plain).cpu(), [Some(10.0), Some(20.0)]);
    let columns = "{\"x\": {\"t\": [1, 2], \"v\": [5, 6], \"n\": 3}}";
    assert_eq!(
        good(columns, &mapping("records = \"/x\"\narrays = true", ["t", "v"])).cpu(),
        [Some(5.0), Some(6.0)]
    );
    assert!(
        read(
            &columns.replace("[5, 6]", "[5]"),
            &mapping("records = \"/x\"\narrays = true", ["t", "v"])
        )
        .is_err()
    );
}
