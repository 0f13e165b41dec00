//! Kinds of logs as people record and join them: several reports in one file, times above rows, parts that are missing.

use super::*;
use crate::trace::tests::sample;

fn text(name: &str) -> String {
    String::from_utf8(sample(name)).unwrap()
}

fn every(seconds: u64) -> ReadOptions {
    told(Told { interval: Some(Duration::from_secs(seconds)), ..Told::default() })
}

/// Returns `sar -u -r` of a day whose rows are an hour apart, with this use of the processor [%] in the first.
fn sar_of_a_day(machine: &str, date: &str, cpu: u32) -> String {
    let rows = |columns: &str, row: &dyn Fn(u32) -> String| {
        let rows: String =
            (0..3).map(|hour| format!("0{}:00:01 AM {}\n", hour + 1, row(hour))).collect();
        format!("12:00:01 AM {columns}\n{rows}Average: {}\n\n", row(0))
    };
    let cpus = rows("CPU %user %nice %system %idle", &|hour| {
        format!("all {}.00 0.00 1.00 9.00", cpu + hour)
    });
    let memory =
        rows("kbmemfree kbavail kbmemused %memused", &|_| format!("1 {} 512000 50.00", cpu * 1024));
    format!("Linux 5.4.0-1 ({machine}) \t{date} \t_x86_64_\t(2 CPU)\n\n{cpus}{memory}")
}

#[test]
fn the_second_day_of_a_sar_report_does_not_replace_the_first() {
    let days =
        format!("{}{}", sar_of_a_day("box", "03/04/31", 10), sar_of_a_day("box", "03/06/31", 50));
    let came = good(&days, &plain());
    let hours: Vec<_> = came.times().iter().map(|time| time / 3600.0).collect();
    assert_eq!(hours, [0.0, 1.0, 2.0, 48.0, 49.0, 50.0]);
    assert_eq!(came.cpu(), [11.0, 12.0, 13.0, 51.0, 52.0, 53.0].map(Some));
    assert_eq!(came.memory(), [990, 990, 990, 950, 950, 950].map(Some));
    came.notes("48 h after");
    let two =
        format!("{}{}", sar_of_a_day("box", "03/04/31", 10), sar_of_a_day("other", "03/04/31", 50));
    refused(&two, &plain(), "several machines");
    // Reports of one day in parts, each below the time at which a job took it.
    let parts = format!(
        "Tue Mar  4 08:00:01 UTC 2031\n{}Tue Mar  4 09:00:01 UTC 2031\n{}",
        sar_of_a_day("box", "03/04/31", 10),
        sar_of_a_day("box", "03/04/31", 50).replace(" AM", " PM")
    );
    let came = good(&parts, &plain());
    assert_eq!(
        came.times().iter().map(|time| time / 3600.0).collect::<Vec<_>>(),
        [0.0, 1.0, 2.0, 12.0, 13.0, 14.0]
    );
}

#[test]
fn the_tables_of_a_live_sar_go_on_over_midnight() {
    let times = ["23:59:40", "23:59:50", "00:00:00", "00:00:10"];
    let blocks = times.windows(2).enumerate().map(|(at, pair)| {
        format!(
            "{} CPU %user %nice %system %idle\n{} all {at}.00 0.00 1.00 9.00\n\n{} kbmemfree kbavail kbmemused %memused\n\
             {} 1 102400 512000 50.00\n\n",
            pair[0], pair[1], pair[0], pair[1]
        )
    });
    let text = format!(
        "Linux 5.4.0-1 (box) \t03/04/31 \t_x86_64_\t(2 CPU)\n\n{}",
        blocks.collect::<String>()
    );
    let came = good(&text, &plain());
    assert_eq!(came.times(), [0.0, 10.0, 20.0]);
    assert_eq!(
        (came.cpu(), came.memory()),
        ([1.0, 2.0, 3.0].map(Some).to_vec(), vec![Some(900); 3])
    );
}

#[test]
fn devices_with_blanks_in_their_names_cost_no_file() {
    let head = "Linux 5.4.0-1 (box) \t03/04/31 \t_x86_64_\t(2 CPU)\n\n08:00:01 CPU %user %nice %system %idle\n\
                08:00:11 all 10.00 0.00 1.00 9.00\n\n08:00:01 BUS idvendor idprod maxpower manufact product\n";
    let devices = "08:00:11 1 3f0 862 196 ACME ACME wireless device\n08:00:11 2 1 2 3\n".repeat(9);
    let came = good(&format!("{head}{devices}"), &plain());
    assert_eq!((came.cpu(), came.defects.count(DefectKind::UnreadableRow)), (vec![Some(11.0)], 0));
    came.notes("idvendor");
    let summary = "Summary: CPU %user\nMinimum: all 1.00\nMaximum: all 2.00\n".repeat(9);
    assert_eq!(
        good(&format!("{head}{summary}"), &plain()).defects.count(DefectKind::UnreadableTime),
        0
    );
}

#[test]
fn a_sadf_report_of_two_machines_is_refused() {
    let table = "# hostname;interval;timestamp;CPU;%user;%nice;%system\n";
    let rows = "a;9;2031-03-04 08:00:00 CET;-1;10;0;5\nb;9;2031-03-04 08:00:00 CET;-1;70;0;5\n";
    refused(&format!("{table}{rows}"), &plain(), "several machines");
    // A restart above it, and the zone of `sadf -T`.
    let one = "a;-1;2031-03-04 07:00:00 CET;LINUX-RESTART\t(2 CPU)\n";
    let came = good(
        &format!(
            "{one}{table}{}",
            rows.replace("b;9", "a;9").replace("00 CET;-1;70", "09 CET;-1;70")
        ),
        &plain(),
    );
    assert_eq!((came.times(), came.cpu()), (vec![0.0, 9.0], vec![Some(15.0), Some(75.0)]));
    let metrics = "a\t9\t2031-03-04 08:00:00 UTC\tall\t%user\t10\nb\t9\t2031-03-04 08:00:00 UTC\tall\t%user\t70\n";
    refused(metrics, &plain(), "several machines");
}

#[test]
fn gpus_of_one_index_are_told_apart_by_what_differs() {
    let row = |at: &str, gpu: &str, used: u32| {
        format!("2031/03/04 08:00:{at}, 0, {gpu}, 5 %, {used} MiB, 8192 MiB\n")
    };
    let rows = [
        row("00.100", "GPU-a", 500),
        row("00.200", "GPU-b", 70),
        row("05.100", "GPU-a", 501),
        row("05.200", "GPU-b", 71),
    ];
    let head =
        "timestamp, index, uuid, utilization.gpu [%], memory.used [MiB], memory.total [MiB]\n";
    let came = good(&format!("{head}{}", rows.concat()), &plain());
    assert_eq!(
        (came.vram(0), came.vram(1)),
        (vec![Some(500), Some(501)], vec![Some(70), Some(71)])
    );
    assert_eq!(came.times(), [0.0, 5.0]);
    // Where no column does, the remedy is named, and works.
    let bare = format!("{head}{}", rows.concat())
        .replace("GPU-a", "x")
        .replace("GPU-b", "x")
        .replace(".100", "")
        .replace(".200", "");
    let bare = bare
        + &row("10", "x", 502)
        + &row("10", "x", 72)
        + &row("10", "x", 73)
        + &row("10", "x", 73);
    refused(&bare, &plain(), "--gpus 2");
}

#[test]
fn rows_of_nvidia_smi_without_a_time_need_an_interval() {
    let head = "index, utilization.gpu [%], memory.used [MiB], memory.total [MiB]\n";
    let rows = "0, 5 %, 500 MiB, 8192 MiB\n1, 6 %, 70 MiB, 8192 MiB\n";
    let text = format!("{head}{rows}{head}{}", rows.replace("500", "600"));
    refused(&text, &plain(), "--interval");
    let came = good(&text, &every(5));
    assert_eq!(
        (came.times(), came.vram(0), came.vram(1)),
        (vec![0.0, 5.0], vec![Some(500), Some(600)], vec![Some(70), Some(70)])
    );
    // Without numbers either, and with a line above the header and between the runs.
    let text = text.replace("index, ", "").replace("\n0, ", "\n").replace("\n1, ", "\n");
    let text = format!(
        "Tue Mar  4 08:00:01 UTC 2031\n{}",
        text.replace("\nuti", "\nTue Mar  4 08:30:01 UTC 2031\nuti")
    );
    let came = good(&text, &every(5));
    came.notes("--gpus 2");
    assert_eq!(came.vram(0), [500, 70, 600, 70].map(Some));
    let two =
        told(Told { gpus: Some(2), interval: Some(Duration::from_secs(5)), ..Told::default() });
    let came = good(&text, &two);
    assert_eq!(
        (came.times(), came.vram(0), came.vram(1)),
        (vec![0.0, 5.0], vec![Some(500), Some(600)], vec![Some(70), Some(70)])
    );
    assert!(!came.header.notes.iter().any(|note| note.contains("--gpus")));
}

#[test]
fn lines_above_a_header_are_not_the_header() {
    let text = "Log of my machine\n\nmade by: me\nt,cpu\n0,5\n5,6\n10,7\n";
    let came = good(text, &mapped(CPU));
    assert_eq!(
        (came.cpu(), came.defects.count(DefectKind::UnreadableRow)),
        ([5.0, 6.0, 7.0].map(Some).to_vec(), 2)
    );
    refused("a,b\n1,2\n", &mapped(CPU), "has no column `t`");
    refused(&"a,b\n1,2\n".repeat(99), &mapped(CPU), "file:1:1: the header has no column `t`");
}

#[test]
fn screens_of_drivers_without_blanks_are_read() {
    let text = text("nvidia-smi-screen")
        .replace("Off |   0", "Off|   0")
        .replace("W |", "W|")
        .replace("/  70W", "/  N/A");
    let came = good(&text, &plain());
    assert_eq!(
        (came.vram(0), came.vram(1)),
        (vec![Some(1474), Some(2048)], vec![Some(5), Some(15)])
    );
    // Ten screens a second.
    let screen = text.split_inclusive("\n\n").next().unwrap().to_owned();
    let ten = screen.repeat(10);
    refused(&ten, &plain(), "--interval");
    let often = told(Told { interval: Some(Duration::from_millis(100)), ..Told::default() });
    let came = good(&ten, &often);
    assert_eq!((came.times().len(), came.times()[9], came.vram(1)), (10, 0.9, vec![Some(5); 10]));
}

#[test]
fn a_log_in_utf_16_is_read() {
    let text = "timestamp, index, memory.used [MiB]\r\n2031/03/04 08:00:00.100, 0, 500 MiB\r\n2031/03/04 08:00:05.100, 0, 600 MiB\r\n";
    let bytes: Vec<u8> =
        std::iter::once(0xfeff).chain(text.encode_utf16()).flat_map(u16::to_le_bytes).collect();
    let options = on(1, &[8], plain());
    let mut reader = ResourceReader::from_reader(Cursor::new(bytes), "file", &options).unwrap();
    let mut times = Vec::new();
    while let Some((at, _)) = reader.next().unwrap() {
        times.push(at.as_secs_f64());
    }
    assert_eq!((times, reader.defects().total()), (vec![0.0, 5.0], 0));
}

#[test]
fn a_machine_without_a_gpu_has_none_in_ollamas_log() {
    let line = "time=2031-03-04T08:00:00.5+01:00 level=INFO source=types.go:60 msg=\"inference compute\" id=0 library=cpu variant=avx2 \
                compute=\"\" driver=0.0 name=\"\" total=\"16.0 GiB\" available=\"12.0 GiB\"\n";
    let came = good(line, &plain());
    assert_eq!((came.memory(), came.machine.memory), (vec![Some(4096)], Bytes::from_gib(16)));
    assert!(came.machine.gpus.is_empty());
}

#[test]
fn tegrastats_is_read_with_its_time_and_without_the_gpu() {
    let came = good(&text("tegrastats-dated"), &plain());
    assert_eq!(
        (came.times(), came.began()),
        (vec![0.0, 1.0, 2.0], "2031-03-14T08:00:00".to_owned())
    );
    assert_eq!(
        (came.memory(), came.busy(0)),
        ([2274, 2303, 2338].map(Some).to_vec(), vec![Some(22.0), Some(32.0), None])
    );
    refused(&text("tegrastats"), &plain(), "--interval");
    let old = "RAM 900/3994MB (lfb 172x4MB) cpu [0%,0%]@1224 EMC 3%@1600 AVP 0%@80 VDE 0 GR3D 7%@76 EDP limit 0\n";
    assert_eq!(good(old, &every(1)).busy(0), [Some(7.0)]);
}

#[test]
fn dool_gives_its_memory_without_a_total() {
    let came = good(&text("dool"), &on(4, &[], plain()));
    assert_eq!((came.times(), came.memory()), (vec![0.0, 5.0], vec![Some(2048), Some(3072)]));
    assert_eq!(came.cpu(), [25.0, 35.0].map(Some));
    good(&text("dool"), &plain()).notes("--memory");
}

#[test]
fn hwinfo_gives_the_total_of_video_memory_where_it_can() {
    let text = "Date,Time,\"Physical Memory Used [MB]\",\"GPU Utilization [%]\",\"GPU Memory Available [MB]\",\"GPU Memory Allocated [MB]\"\n\
                4.3.2031,8:00:00.125,6000,7.0,7168,1024\n4.3.2031,8:00:02.125,6100,8.0,6144,2048\n";
    let came = good(text, &plain());
    assert_eq!(
        (came.vram(0), came.busy(0)),
        (vec![Some(1024), Some(2048)], vec![Some(7.0), Some(8.0)])
    );
    assert_eq!(came.machine.gpus, [Bytes::from_gib(8)]);
}

#[test]
fn screens_of_top_give_the_machine() {
    let came = good(&text("top"), &plain());
    assert_eq!((came.times(), came.cpu()), (vec![0.0, 5.0], vec![Some(25.0), Some(100.0)]));
    assert_eq!(
        (came.memory(), came.machine.memory),
        (vec![Some(8192), Some(12_288)], Bytes::from_gib(16))
    );
    came.notes("since the boot");
    let comma = text("top").replace(".0 ", ",0 ");
    assert_eq!(good(&comma, &plain()).memory(), came.memory());
    let old = good(&text("top-of-procps-3.2"), &plain());
    assert_eq!((old.memory(), old.cpu()), (vec![Some(4096 - 1024 - 512 - 512)], vec![Some(40.0)]));
}

#[test]
fn vmstat_is_read_with_times_in_front_or_above() {
    let head = "procs -----------memory---------- ---swap-- -----io---- -system-- ------cpu-----\n r  b   swpd   free   buff  cache   si   so    bi    bo   in   cs us sy id wa st\n";
    let row = |idle: u32| {
        format!(
            " 1  0      0 1048576 524288 524288    0    0     1     3   29   57  {} 0 {idle}  0  0\n",
            100 - idle
        )
    };
    let run = format!("{head}{}{}{}", row(99), row(80), row(70));
    let box_ = || on(8, &[], plain());
    let stamped = |stamp: &dyn Fn(usize) -> String| {
        run.lines()
            .enumerate()
            .map(|(at, line)| format!("{} {line}\n", stamp(at)))
            .collect::<String>()
    };
    for text in [
        stamped(&|at| format!("2031-03-04 08:00:{:02}", at * 5)),
        stamped(&|at| format!("Mar 04 08:00:{:02}", at * 5)),
    ] {
        let came = good(&text, &box_());
        assert_eq!(
            (came.times(), came.cpu()),
            (vec![0.0, 5.0], vec![Some(20.0), Some(30.0)]),
            "{text}"
        );
        assert_eq!(came.memory(), [Some(6144); 2]);
    }
    // A job that writes the time and begins anew: each run begins with an average.
    let runs = format!("Tue Mar  4 08:00:00 UTC 2031\n{run}\nTue Mar  4 08:01:00 UTC 2031\n{run}");
    refused(&runs, &box_(), "--interval 5s");
    let came = good(&runs, &ReadOptions { machine: box_().machine, ..every(5) });
    assert_eq!(came.times(), [0.0, 5.0, 60.0, 65.0]);
    assert_eq!(came.cpu(), [20.0, 30.0, 20.0, 30.0].map(Some));
    // A column more than vmstat has: its numbers are not those of the columns before it.
    let shifted = run.replace("\n 1", "\n box 1");
    refused(&shifted, &ReadOptions { machine: box_().machine, ..every(5) }, "unreadable-row");
    // In MB, as by `vmstat -S M`.
    let larger = run.replace("1048576 524288 524288", "1024 512 512");
    refused(&larger, &ReadOptions { machine: box_().machine, ..every(5) }, "-S M");
}

#[test]
fn readings_of_one_second_are_set_apart_by_their_interval() {
    let rows = "80, 04-03-2031 08:00:00, 50.000 ,7.000 \n".repeat(4);
    let head = "02, 04-03-2031 08:00:00, GPU temperature ,GPU usage \n";
    let text = format!("{head}{rows}{}", rows.replace(":00,", ":01,"));
    refused(&text, &plain(), "--interval 500ms");
    let often = told(Told { interval: Some(Duration::from_millis(250)), ..Told::default() });
    assert_eq!(good(&text, &often).times(), [0.0, 0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 1.75]);
}
