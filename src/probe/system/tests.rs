use std::sync::Mutex;

use tiershift_core::sample::Space;

use super::*;

/// Jumps to each deadline.
struct JumpingClock(Mutex<Timestamp>);

impl Clock for JumpingClock {
    fn now(&self) -> Timestamp {
        *self.0.lock().unwrap()
    }

    fn wait_until(&mut self, deadline: Timestamp) -> Timestamp {
        *self.0.lock().unwrap() = deadline;
        deadline
    }
}

fn clock() -> JumpingClock {
    JumpingClock(Mutex::new(Timestamp::ZERO))
}

fn tree(files: &[(&str, &str)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (path, text) in files {
        let path = folder.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    folder
}

const MACHINE: [(&str, &str); 5] = [
    (
        "proc/meminfo",
        "MemTotal: 16777216 kB\nMemAvailable: 12582912 kB\nSwapTotal: 0 kB\nSwapFree: 0 kB\n",
    ),
    ("proc/stat", "cpu  1 1 1 1\ncpu0 1 1 1 1\n"),
    ("proc/loadavg", "0.50 0 0 1/1 1\n"),
    ("sys/class/drm/card0/device/vendor", "0x1002\n"),
    ("sys/class/drm/card0/device/mem_info_vram_total", "8589934592\n"),
];

#[test]
fn what_is_not_there_is_absent_from_the_sample() {
    let folder = tree(&MACHINE);
    let sample = SystemProbe::under(folder.path()).sample(Timestamp::ZERO).unwrap();
    let want = Sample {
        memory: Some(Space {
            total: Bytes::from_gib(16),
            others: Bytes::from_gib(4),
            own: Bytes::ZERO,
        }),
        load_milli: Some(500),
        gpus: vec![GpuSample::default()],
        ..Sample::default()
    };
    assert_eq!(sample, want);
}

#[test]
fn a_machine_that_reports_nothing_is_an_error_with_its_reasons() {
    let folder = tree(&[]);
    let error = SystemProbe::under(folder.path()).sample(Timestamp::ZERO).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the machine cannot be read: /proc/meminfo: the file does not exist; \
         /proc/stat: the file does not exist"
    );
}

#[test]
fn the_description_names_what_was_seen_where_and_what_was_not_and_why() {
    let folder = tree(&MACHINE);
    let description = SystemProbe::under(folder.path()).describe(&mut clock()).unwrap();
    insta::assert_json_snapshot!(description);
    insta::assert_snapshot!(description.to_string());
}

#[test]
fn this_machine_can_be_read() {
    let mut probe = SystemProbe::new();
    let machine = probe.machine();
    assert!(machine.memory > Bytes::from_mib(64) && machine.cpus > 0, "{machine:?}");
    let sample = probe.sample(Timestamp::ZERO).unwrap();
    let memory = sample.memory.unwrap();
    assert!(memory.used() > Bytes::ZERO && memory.used() < memory.total, "{memory:?}");
    assert_eq!(memory.own, Bytes::ZERO, "nothing was said to be own");
}

#[test]
fn an_own_process_moves_its_memory_from_others_to_own() {
    let mut probe = SystemProbe::new();
    probe.set_own_processes(OwnProcesses::new([std::process::id()]));
    let before = probe.sample(Timestamp::ZERO).unwrap().memory.unwrap();
    let model = vec![1u8; 64 << 20];
    let after = probe.sample(Timestamp::ZERO).unwrap().memory.unwrap();
    let grown = after.own - before.own;
    // Other tests in this process allocate and free memory at the same time.
    assert!(grown > Bytes::from_mib(32), "own grew by {grown} with {} bytes", model.len());
}
