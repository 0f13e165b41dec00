//! Fixture trees as Docker, systemd and Kubernetes lay them out, version 2, version 1 and both.

use super::*;

const V2_MOUNT: &str = "30 23 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n";
const V1_MOUNTS: &str = "32 31 0:29 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n\
    33 31 0:30 / /sys/fs/cgroup/cpuacct rw - cgroup cgroup rw,cpuacct\n\
    35 31 0:32 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n";
const NO_LIMIT_V1: &str = "9223372036854771712\n";

struct Tree {
    _folder: tempfile::TempDir,
    root: Root,
}

fn tree(files: &[(&str, &str)]) -> Tree {
    let folder = tempfile::tempdir().unwrap();
    for (path, text) in files {
        let path = folder.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    Tree { root: Root::new(folder.path()), _folder: folder }
}

fn machine() -> Room {
    Room { total: Bytes::from_gib(64), available: Bytes::from_gib(40) }
}

/// Returns total and available memory in MiB, for a machine of 64 GiB with 40 available.
#[track_caller]
fn memory(mountinfo: &str, cgroup: &str, files: &[(&str, &str)]) -> (u64, u64) {
    let mut all = vec![("proc/self/mountinfo", mountinfo), ("proc/self/cgroup", cgroup)];
    all.extend(files);
    let tree = tree(&all);
    let room = narrow(machine(), &Cgroups::discover(&tree.root).unwrap().memory(&tree.root));
    (room.total.get() >> 20, room.available.get() >> 20)
}

const WHOLE: (u64, u64) = (64 << 10, 40 << 10);

#[test]
fn a_host_without_limits_is_itself() {
    let slice = "sys/fs/cgroup/user.slice";
    let files = [
        (&*format!("{slice}/memory.max"), "max\n"),
        (&*format!("{slice}/memory.high"), "max\n"),
        (&*format!("{slice}/memory.current"), "123456789\n"),
    ];
    assert_eq!(memory(V2_MOUNT, "0::/user.slice\n", &files), WHOLE);
    assert_eq!(memory(V2_MOUNT, "0::/user.slice\n", &[]), WHOLE);
}

#[test]
fn a_container_that_sees_itself_as_the_top_is_limited() {
    let files = [
        ("sys/fs/cgroup/memory.max", "4294967296\n"),
        ("sys/fs/cgroup/memory.high", "max\n"),
        ("sys/fs/cgroup/memory.current", "3221225472\n"),
        (
            "sys/fs/cgroup/memory.stat",
            "anon 1\nfile 2\ninactive_file 536870912\nactive_file 268435456\nslab_reclaimable 268435456\nslab 999\n",
        ),
    ];
    // 3 GiB current, of which 1 GiB is page cache and reclaimable slab.
    assert_eq!(memory(V2_MOUNT, "0::/\n", &files), (4096, 2048));
}

#[test]
fn nested_limits_give_the_lowest_size_and_the_least_room() {
    let files = [
        ("sys/fs/cgroup/a/memory.max", "10737418240\n"),
        ("sys/fs/cgroup/a/memory.current", "10200547328\n"),
        ("sys/fs/cgroup/a/b/memory.max", "max\n"),
        ("sys/fs/cgroup/a/b/memory.high", "8589934592\n"),
        ("sys/fs/cgroup/a/b/memory.current", "1073741824\n"),
    ];
    // b may hold 8 GiB and holds 1, but its parent has only 512 MiB left.
    assert_eq!(memory(V2_MOUNT, "0::/a/b\n", &files), (8192, 512));
    assert_eq!(memory(V2_MOUNT, "0::/a\n", &files), (10_240, 512));
    assert_eq!(memory(V2_MOUNT, "0::/\n", &files), WHOLE);
}

#[test]
fn a_crowded_host_leaves_less_than_the_limit_does() {
    let files = [
        ("sys/fs/cgroup/memory.max", "51539607552\n"),
        ("sys/fs/cgroup/memory.current", "1073741824\n"),
    ];
    assert_eq!(memory(V2_MOUNT, "0::/\n", &files), (48 << 10, 40 << 10));
}

#[test]
fn version_1_is_read_with_its_own_names() {
    let files = [
        ("sys/fs/cgroup/memory/memory.limit_in_bytes", NO_LIMIT_V1),
        ("sys/fs/cgroup/memory/docker/x/memory.limit_in_bytes", "2147483648\n"),
        ("sys/fs/cgroup/memory/docker/x/memory.usage_in_bytes", "1610612736\n"),
        (
            "sys/fs/cgroup/memory/docker/x/memory.stat",
            "inactive_file 1\ntotal_inactive_file 268435456\ntotal_active_file 268435456\n",
        ),
    ];
    let cgroup = "4:memory:/docker/x\n1:cpu:/\n";
    assert_eq!(memory(V1_MOUNTS, cgroup, &files), (2048, 1024));
    assert_eq!(memory(V1_MOUNTS, "4:memory:/\n", &files), WHOLE);
}

#[test]
fn a_hybrid_host_is_limited_by_whichever_version_has_the_controller() {
    let mounts = format!(
        "{V1_MOUNTS}41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw\n"
    );
    let cgroup = "4:memory:/api/x\n1:cpu:/\n0::/\n";
    let files = [
        ("sys/fs/cgroup/memory/api/x/memory.limit_in_bytes", "2147483648\n"),
        ("sys/fs/cgroup/memory/api/x/memory.usage_in_bytes", "1073741824\n"),
        ("sys/fs/cgroup/unified/cgroup.controllers", "\n"),
    ];
    assert_eq!(memory(&mounts, cgroup, &files), (2048, 1024));
}

#[test]
fn a_bind_mounted_part_of_the_hierarchy_is_found() {
    // Docker with version 1: the container's group is mounted, and named by the host's path.
    let mount = "35 31 0:32 /docker/abc /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory\n";
    let files = [
        ("sys/fs/cgroup/memory/memory.limit_in_bytes", "1073741824\n"),
        ("sys/fs/cgroup/memory/memory.usage_in_bytes", "268435456\n"),
        ("sys/fs/cgroup/memory/in/memory.limit_in_bytes", "536870912\n"),
    ];
    assert_eq!(memory(mount, "4:memory:/docker/abc\n", &files), (1024, 768));
    assert_eq!(memory(mount, "4:memory:/docker/abc/in\n", &files).0, 512);
    // A path from another namespace: only the mount point is known.
    assert_eq!(memory(mount, "4:memory:/elsewhere\n", &files), (1024, 768));
    assert_eq!(memory(mount, "4:memory:/../../other\n", &files), (1024, 768));
}

#[test]
fn garbage_zero_and_missing_files_limit_nothing() {
    for value in ["", "max", "lots\n", "-1\n", "0\n", "1e9\n", "99999999999999999999\n"] {
        let files = [("sys/fs/cgroup/memory.max", value)];
        assert_eq!(memory(V2_MOUNT, "0::/\n", &files), WHOLE, "{value:?}");
    }
    let cases = [("", ""), (V2_MOUNT, ""), ("", "0::/\n"), ("a b c\n - \n", "nonsense\n::\n0:\n")];
    for (mountinfo, cgroup) in cases {
        assert_eq!(memory(mountinfo, cgroup, &[]), WHOLE, "{mountinfo:?} {cgroup:?}");
    }
    assert!(Cgroups::discover(&tree(&[]).root).is_err());
}

#[test]
fn a_limit_without_a_reading_of_its_use_still_sets_the_size() {
    let files = [("sys/fs/cgroup/memory.max", "4294967296\n")];
    assert_eq!(memory(V2_MOUNT, "0::/\n", &files), (4096, 4096));
}

fn discover(files: &[(&str, &str)]) -> (Tree, Cgroups) {
    let tree = tree(files);
    let groups = Cgroups::discover(&tree.root).unwrap();
    (tree, groups)
}

#[test]
fn swap_limits_of_both_versions_are_read() {
    let (tree, groups) = discover(&[
        ("proc/self/mountinfo", V2_MOUNT),
        ("proc/self/cgroup", "0::/a\n"),
        ("sys/fs/cgroup/a/memory.swap.max", "0\n"),
        ("sys/fs/cgroup/a/memory.swap.current", "0\n"),
    ]);
    assert_eq!(narrow(machine(), &groups.swap(&tree.root)).total, Bytes::ZERO);

    let (tree, groups) = discover(&[
        ("proc/self/mountinfo", V1_MOUNTS),
        ("proc/self/cgroup", "4:memory:/\n"),
        ("sys/fs/cgroup/memory/memory.limit_in_bytes", "2147483648\n"),
        ("sys/fs/cgroup/memory/memory.memsw.limit_in_bytes", "3221225472\n"),
        ("sys/fs/cgroup/memory/memory.usage_in_bytes", "1073741824\n"),
        ("sys/fs/cgroup/memory/memory.memsw.usage_in_bytes", "1342177280\n"),
    ]);
    let room = narrow(machine(), &groups.swap(&tree.root));
    assert_eq!((room.total, room.available), (Bytes::from_gib(1), Bytes::from_mib(768)));
}

#[test]
fn the_tightest_processor_quota_holds_and_max_is_none() {
    let quota = |files: &[(&str, &str)]| {
        let mut all = vec![("proc/self/mountinfo", V2_MOUNT), ("proc/self/cgroup", "0::/a/b\n")];
        all.extend(files);
        let (tree, groups) = discover(&all);
        groups.quota(&tree.root).map(|quota| (quota.milli_cpus, quota.used_ns))
    };
    let nested = [
        ("sys/fs/cgroup/a/cpu.max", "150000 100000\n"),
        ("sys/fs/cgroup/a/cpu.stat", "usage_usec 7000\nuser_usec 1\n"),
        ("sys/fs/cgroup/a/b/cpu.max", "400000 100000\n"),
    ];
    assert_eq!(quota(&nested), Some((1500, Some(7_000_000))));
    for value in ["max 100000\n", "", "100000\n", "5 0\n", "a b\n", "0 100000\n"] {
        assert_eq!(quota(&[("sys/fs/cgroup/a/b/cpu.max", value)]), None, "{value:?}");
    }
}

#[test]
fn a_version_1_quota_takes_its_use_from_the_accounting_hierarchy() {
    let quota = |value| {
        let (tree, groups) = discover(&[
            ("proc/self/mountinfo", V1_MOUNTS),
            ("proc/self/cgroup", "2:cpuacct:/x\n1:cpu:/x\n"),
            ("sys/fs/cgroup/cpu/x/cpu.cfs_quota_us", value),
            ("sys/fs/cgroup/cpu/x/cpu.cfs_period_us", "100000\n"),
            ("sys/fs/cgroup/cpuacct/x/cpuacct.usage", "5000000\n"),
        ]);
        groups.quota(&tree.root).map(|quota| (quota.milli_cpus, quota.used_ns))
    };
    assert_eq!(quota("50000\n"), Some((500, Some(5_000_000))));
    assert_eq!(quota("-1\n"), None);
    let shared = "32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n";
    let (tree, groups) = discover(&[
        ("proc/self/mountinfo", shared),
        ("proc/self/cgroup", "1:cpu,cpuacct:/\n"),
        ("sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us", "200000\n"),
        ("sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us", "100000\n"),
        ("sys/fs/cgroup/cpu,cpuacct/cpuacct.usage", "9\n"),
    ]);
    assert_eq!(groups.quota(&tree.root).unwrap().used_ns, Some(9));
}
