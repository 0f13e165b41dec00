//! Whole machines as fixture trees.

use std::path::Path;

use super::*;

const MEMINFO: &str = "MemTotal: 16777216 kB\nMemAvailable: 10485760 kB\n\
    SwapTotal: 4194304 kB\nSwapFree: 3145728 kB\n";

fn write(folder: &Path, files: &[(&str, &str)]) {
    for (path, text) in files {
        let path = folder.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
}

fn machine(files: &[(&str, &str)]) -> (tempfile::TempDir, Host) {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), files);
    let host = Host::new(folder.path());
    (folder, host)
}

fn nobody() -> BTreeSet<u32> {
    BTreeSet::new()
}

fn stat(busy: u64, idle: u64) -> String {
    format!("cpu  {busy} 0 0 {idle} 0 0 0 0 0 0\ncpu0 0 0 0 0\ncpu1 0 0 0 0\n")
}

fn process(spent: u64) -> String {
    format!("7 (server) S 1 1 1 0 -1 0 0 0 0 0 {spent} 0 0 0 20 0 1 0 500 0")
}

#[test]
fn own_memory_is_kept_apart_from_others() {
    let status = "RssAnon: 1048576 kB\nRssFile: 2097152 kB\nVmSwap: 262144 kB\n";
    let (_folder, mut host) = machine(&[("proc/meminfo", MEMINFO), ("proc/7/status", status)]);
    let reading = host.read(Timestamp::ZERO, &BTreeSet::from([7]));
    let memory = reading.memory.unwrap();
    // 6 GiB is used, 1 of it by the model, whose 2 GiB of mapped weights are additional page cache.
    assert_eq!(memory.others, Bytes::from_gib(5));
    assert_eq!(memory.own, Bytes::from_gib(3));
    let swap = reading.swap.unwrap();
    assert_eq!((swap.others, swap.own), (Bytes::from_mib(768), Bytes::from_mib(256)));
}

#[test]
fn the_cache_of_zfs_above_its_minimum_is_available() {
    let arcstats = "name type data\nc_min 4 1073741824\nsize 4 4294967296\n";
    let (_folder, mut host) =
        machine(&[("proc/meminfo", MEMINFO), ("proc/spl/kstat/zfs/arcstats", arcstats)]);
    let memory = host.read(Timestamp::ZERO, &nobody()).memory.unwrap();
    // 6 GiB is not available according to the kernel, 3 of them because of the cache.
    assert_eq!((memory.total, memory.others), (Bytes::from_gib(16), Bytes::from_gib(3)));
    assert_eq!(host.sources().memory, "/proc/meminfo and /proc/spl/kstat/zfs/arcstats");
}

#[test]
fn a_processor_rate_is_the_difference_of_two_readings() {
    let (folder, mut host) =
        machine(&[("proc/stat", &stat(1000, 1000)), ("proc/7/stat", &process(100))]);
    let family = BTreeSet::from([7]);
    assert!(host.read(Timestamp::ZERO, &family).cpu.is_err(), "there is nothing to compare with");

    write(folder.path(), &[("proc/stat", &stat(1100, 1100)), ("proc/7/stat", &process(140))]);
    // The first difference only begins to watch the process: nothing before counts as its own.
    let rate = host.read(Timestamp::from_secs(1), &family).cpu.unwrap();
    assert_eq!((rate.others, rate.own), (Percent::new(50), Percent::ZERO));

    write(folder.path(), &[("proc/stat", &stat(1250, 1150)), ("proc/7/stat", &process(200))]);
    let rate = host.read(Timestamp::from_secs(2), &family).cpu.unwrap();
    assert_eq!((rate.others, rate.own), (Percent::new(45), Percent::new(30)));
}

#[test]
fn a_reading_right_after_another_gives_the_last_rate() {
    let (folder, mut host) = machine(&[("proc/stat", &stat(1000, 1000))]);
    write(folder.path(), &[("proc/stat", &stat(1100, 1300))]);
    let first = host.read(Timestamp::from_secs(2), &nobody()).cpu.unwrap();
    assert_eq!(first.others, Percent::new(25));
    write(folder.path(), &[("proc/stat", &stat(1105, 1300))]);
    assert_eq!(host.read(Timestamp::from_millis(2010), &nobody()).cpu.unwrap(), first);
    // The five ticks are not lost: they are in the next rate.
    write(folder.path(), &[("proc/stat", &stat(1110, 1330))]);
    let next = host.read(Timestamp::from_millis(2200), &nobody()).cpu.unwrap();
    assert_eq!(next.others, Percent::new(25));
}

#[test]
fn counters_that_go_back_give_no_rate_out_of_bounds() {
    let (folder, mut host) = machine(&[("proc/stat", &stat(5000, 1000))]);
    write(folder.path(), &[("proc/stat", &stat(10, 9000))]);
    assert_eq!(host.read(Timestamp::from_secs(1), &nobody()).cpu.unwrap().used(), Percent::ZERO);
}

const CONTAINER: [(&str, &str); 7] = [
    ("proc/meminfo", MEMINFO),
    ("proc/self/mountinfo", "30 23 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n"),
    ("proc/self/cgroup", "0::/\n"),
    ("sys/fs/cgroup/memory.max", "4294967296\n"),
    ("sys/fs/cgroup/memory.current", "1073741824\n"),
    ("sys/fs/cgroup/memory.swap.max", "0\n"),
    ("sys/fs/cgroup/cpu.max", "50000 100000\n"),
];

#[test]
fn inside_a_container_the_limit_is_the_machine() {
    let mut files = CONTAINER.to_vec();
    let stat_before = stat(0, 0);
    files.push(("proc/stat", &stat_before));
    files.push(("sys/fs/cgroup/cpu.stat", "usage_usec 1000000\n"));
    let (folder, mut host) = machine(&files);
    assert_eq!(host.size(), (Bytes::from_gib(4), Bytes::ZERO, 1));
    let reading = host.read(Timestamp::ZERO, &nobody());
    let memory = reading.memory.unwrap();
    assert_eq!((memory.total, memory.others), (Bytes::from_gib(4), Bytes::from_gib(1)));
    assert_eq!(reading.swap.unwrap_err(), "the control group allows no swap space");
    assert!(host.sources().limit.unwrap().ends_with("/sys/fs/cgroup/memory.max"));

    // Half a processor for two seconds is one second; a quarter of it was used, on an idle host.
    let (stat, usage) = (stat(0, 400), "usage_usec 1250000\n");
    write(folder.path(), &[("proc/stat", &stat), ("sys/fs/cgroup/cpu.stat", usage)]);
    let rate = host.read(Timestamp::from_secs(2), &nobody()).cpu.unwrap();
    assert_eq!(rate.others, Percent::new(25));

    std::fs::remove_file(folder.path().join("sys/fs/cgroup/cpu.stat")).unwrap();
    let error = host.read(Timestamp::from_secs(4), &nobody()).cpu.unwrap_err();
    assert_eq!(error, "/sys/fs/cgroup/cpu.max: the time used of this quota cannot be read");
}

#[test]
fn a_limited_groups_own_pressure_counts() {
    let line = |ten: &str| format!("some avg10={ten} avg60=0 total=0\nfull avg10={ten} total=0\n");
    let (host_wide, group) = (line("1.00"), line("30.00"));
    let mut files = CONTAINER.to_vec();
    for name in ["proc/pressure/memory", "proc/pressure/cpu", "proc/pressure/io"] {
        files.push((name, &host_wide));
    }
    let (_folder, mut host) = machine(&files);
    let got = host.read(Timestamp::ZERO, &nobody()).pressure.unwrap();
    assert_eq!(got.memory_some, Percent::new(1), "the group has none");

    for name in ["memory", "cpu", "io"] {
        files.push(match name {
            "memory" => ("sys/fs/cgroup/memory.pressure", &group),
            "cpu" => ("sys/fs/cgroup/cpu.pressure", &group),
            _ => ("sys/fs/cgroup/io.pressure", &group),
        });
    }
    let (_folder, mut host) = machine(&files);
    let got = host.read(Timestamp::ZERO, &nobody()).pressure.unwrap();
    assert_eq!(got.memory_some, Percent::new(30));
}

#[test]
fn an_empty_machine_says_why_each_thing_is_absent() {
    let (_folder, mut host) = machine(&[]);
    let reading = host.read(Timestamp::ZERO, &nobody());
    let reasons = [
        reading.memory.unwrap_err(),
        reading.swap.unwrap_err(),
        reading.cpu.unwrap_err(),
        reading.load_milli.unwrap_err(),
        reading.pressure.unwrap_err(),
        reading.cpu_temperature.unwrap_err(),
        host.sources().limit.unwrap_err(),
    ];
    let want = [
        "/proc/meminfo: the file does not exist",
        "/proc/meminfo: the file does not exist",
        "/proc/stat: the file does not exist",
        "/proc/loadavg: the file does not exist",
        "/proc/pressure/memory: the file does not exist",
        "no processor sensor under /sys/class/hwmon or /sys/class/thermal",
        "/proc/self/mountinfo: the file does not exist",
    ];
    assert_eq!(reasons, want);
    assert_eq!(host.size(), (Bytes::ZERO, Bytes::ZERO, 0));
}
