//! Kinds of files of single tools.

use super::*;
use crate::trace::tests::sample;

fn text(name: &str) -> String {
    String::from_utf8(sample(name)).unwrap()
}

/// A request's time [s], and its tokens.
type Asked = (f64, u32, u32);

/// Returns times [s], tokens of prompts and of replies, and the defects.
fn requests(text: &str) -> Result<(Vec<Asked>, Vec<String>), TraceError> {
    let mut reader = RequestReader::from_reader(Cursor::new(text.to_owned()), "file", &plain())?;
    let mut all = Vec::new();
    while let Some((at, request)) = reader.next()? {
        all.push((at.as_secs_f64(), request.prompt_tokens, request.output_tokens));
    }
    Ok((all, reader.defects().warnings()))
}

fn every(seconds: u64) -> ReadOptions {
    told(Told { interval: Some(Duration::from_secs(seconds)), ..Told::default() })
}

#[test]
fn a_llama_servers_requests_begin_before_their_lines_and_runs_follow_one_another() {
    let log = text("llama-server");
    let (all, warnings) = requests(&log).unwrap();
    // The second ends first, and the third is from a run that begins when the first one ends, at 20.1 s.
    assert_eq!(all, [(0.0, 100, 90), (1.0, 50, 10), (15.1, 7, 3)]);
    assert!(warnings.iter().any(|warning| warning.contains("another run")), "{warnings:?}");
    // A total without its lines is not a request with the tokens before it.
    assert!(warnings.iter().any(|warning| warning.contains("unreadable-row")), "{warnings:?}");
    let bare = log
        .replace("0.12.500.000 I ", "")
        .replace("0.20.000.000 I ", "")
        .replace("0.20.100.000 I ", "");
    let refused = requests(&bare.replace("0.05.250.000 I ", "")).unwrap_err().to_string();
    assert!(refused.contains("--log-timestamps"), "{refused}");
    let (all, _) = requests(&text("llama-server-of-2024")).unwrap();
    assert_eq!(all, [(0.0, 27, 25), (12.0, 28, 26)]);
    let wrong = log.replace("1500.00 ms /", "soon /");
    let (all, warnings) = requests(&wrong).unwrap();
    assert!(
        all.len() == 2 && warnings.iter().any(|warning| warning.contains("is not a duration")),
        "{warnings:?}"
    );
}

#[test]
fn an_ollama_log_gives_memory_but_no_requests() {
    let came = good(&text("ollama"), &plain());
    assert_eq!(came.times(), [0.0, 10.46, 610.663]);
    let used = |gib: f64| Some((gib * 1024.0) as u64);
    assert_eq!(came.memory(), [None, used(12.0), used(22.4)]);
    assert_eq!(came.vram(0), [used(1.0), Some(482), used(13.4)]);
    assert_eq!(came.vram(1), [used(1.0), used(1.5), None]);
    assert_eq!(came.machine.gpus, [Bytes::from_gib(64), Bytes::from_gib(32)]);
    let refused = requests(&text("ollama")).unwrap_err().to_string();
    assert!(refused.contains("its requests have no tokens"), "{refused}");
}

#[test]
fn metrics_of_prometheus_are_read_from_answers_and_from_scrapes() {
    let json = text("prometheus-json");
    let came = good(&json, &plain());
    assert_eq!(came.times(), [0.0, 15.0, 30.0]);
    assert_eq!(came.memory(), [8192, 9216, 10240].map(Some));
    // 27 of 30 s, then 12 of 30 s.
    assert_eq!(came.cpu(), [None, Some(10.0), Some(60.0)]);
    assert_eq!(came.vram(0), [1000, 2000, 3000].map(Some));
    assert_eq!(came.vram(1), [Some(10), Some(20), None]);
    assert_eq!(came.busy(0), [5.0, 50.0, 95.0].map(Some));
    assert_eq!(came.machine.gpus, [Bytes::from_gib(8), Bytes::from_gib(4)]);
    // One processor fewer in one reading: its rise would be that of another sum.
    let less = json.replace("[1930464015, \"1012\"], ", "");
    assert_eq!(good(&less, &plain()).cpu(), [None, None, None]);
    let two = json.replacen(
        "box:9100\", \"job\": \"node\"}, \"values\": [[1930464000, \"8589934592\"",
        "other:9100\", \"job\": \"node\"}, \"values\": [[1930464000, \"8589934592\"",
        1,
    );
    assert_ne!(two, json);
    // The memory of another machine is a separate field here, but not the processors of two.
    good(&two, &plain());
    refused(
        &json.replacen("box:9100\", \"cpu\": \"1\"", "other:9100\", \"cpu\": \"1\"", 1),
        &plain(),
        "several machines",
    );
    let scrapes = good(&text("prometheus"), &plain());
    let untimed = good(&text("prometheus-untimed"), &every(15));
    for came in [&scrapes, &untimed] {
        assert_eq!(came.times(), [0.0, 15.0, 30.0]);
        assert_eq!(came.memory(), [3814, 4768, 5722].map(Some));
        assert_eq!(came.cpu(), [None, Some(50.0), Some(50.0)]);
        assert_eq!(came.vram(0), [0, 1, 2].map(Some));
        assert_eq!(came.busy(0), [0.0, 10.0, 20.0].map(Some));
    }
    assert_eq!(
        (scrapes.began(), untimed.began()),
        ("2031-03-05T08:00:00Z".to_owned(), "unknown".to_owned())
    );
    refused(&text("prometheus-untimed"), &plain(), "--interval");
}

#[test]
fn a_dstats_groups_name_its_columns_and_its_second_run_has_others() {
    let came = good(&text("dstat"), &plain());
    // The averages since the boot are left out, in each run.
    assert_eq!(came.times(), [0.0, 5.0, 70.0]);
    assert_eq!(came.memory(), [500, 600, 700].map(|mb| Some((mb * 1_000_000) >> 20)));
    assert_eq!(came.cpu(), [Some(25.0), Some(35.0), None]);
    came.notes("have no year");
    // Swap goes first there, and its `used` is not the memory's.
    assert_eq!(came.samples[0].1, Some(476));
    refused(&text("dstat").replace("\"time\"", "\"hour\""), &plain(), "--interval");
}

#[test]
fn the_memory_of_containers_is_added_up() {
    let came = good(&text("docker-stats"), &every(5));
    assert_eq!(came.times(), [0.0, 5.0, 10.0]);
    assert_eq!(came.memory(), [1536, 2560, 3584].map(Some));
    assert_eq!(came.machine.memory, Bytes::from_gib(8));
    refused(&text("docker-stats"), &plain(), "--interval");
    let came = good(&text("docker-stats-json"), &plain());
    assert_eq!((came.times(), came.memory()), (vec![0.0, 5.0], vec![Some(1280), Some(2304)]));
    assert_eq!(came.began(), "2031-03-04T08:00:00+01:00");
}

#[test]
fn screens_and_dated_lines_of_nvidia_smi_are_read() {
    let came = good(&text("nvidia-smi-screen"), &plain());
    assert_eq!(came.times(), [0.0, 5.0]);
    assert_eq!(
        (came.vram(0), came.vram(1)),
        (vec![Some(1474), Some(2048)], vec![Some(5), Some(15)])
    );
    assert_eq!((came.busy(0), came.busy(1)), (vec![Some(7.0), Some(70.0)], vec![None, None]));
    assert_eq!(came.machine.gpus, [Bytes::from_gib(16), Bytes::from_gib(8)]);
    let came = good(&text("nvidia-smi-dmon-dated"), &on(1, &[16, 16], plain()));
    assert_eq!((came.times(), came.began()), (vec![0.0, 2.0], "2031-03-04T08:00:00".to_owned()));
    assert_eq!((came.vram(0), came.busy(1)), (vec![Some(8000), Some(8100)], vec![None, Some(0.0)]));
}

#[test]
fn vmstat_is_read_wide_and_with_the_time_of_guests() {
    let wide = good(&text("vmstat-w"), &on(4, &[], every(5)));
    let left = |kib: u64| Some((4 << 10) - (kib >> 10) - 1);
    assert_eq!(wide.memory(), [left(1_743_316), left(1_643_316)]);
    assert_eq!(wide.cpu(), [Some(15.0), Some(25.0)]);
    let guests = good(&text("vmstat-t-of-procps-4"), &on(4, &[], plain()));
    assert_eq!((guests.times(), guests.cpu()), (vec![0.0, 5.0], vec![Some(6.0), Some(6.0)]));
}

#[test]
fn iostat_is_nobodys_and_separators_are_no_hint() {
    let iostat = "Linux 5.4.0-1 (box) \t03/04/31 \t_x86_64_\t(2 CPU)\n\navg-cpu:  %user   %nice %system %iowait  %steal   %idle\n           \
                  0.14    0.00    0.16    0.00    0.00   99.70\n";
    refused(iostat, &plain(), "in no known format");
    let error = read("a: b\n", &plain()).unwrap_err().to_string();
    assert!(!error.contains("nearest"), "{error}");
}

#[test]
fn an_hwinfo_log_of_another_country_is_read_by_its_own_marks() {
    let english = "Date,Time,\"Physical Memory Used [MB]\",\"Physical Memory Available [MB]\",\"Total CPU Usage [%]\"\n\
                   9.6.2031,12:00:00.000,6000,10000,12.5\n9.6.2031,12:00:02.000,6100,9900,1.125\n";
    let german = english.replace(',', ";").replace('.', ",").replace("9,6,2031", "9.6.2031");
    for text in [english, &german] {
        let came = good(text, &plain());
        assert_eq!(
            (came.memory(), came.cpu()),
            (vec![Some(6000), Some(6100)], vec![Some(12.5), Some(1.125)])
        );
        assert_eq!(came.times(), [0.0, 2.0]);
    }
}
