//! What the managed models' own processes use, read from `/proc/<pid>`.
//!
//! # The memory rule
//! The kernel's "available" counts page cache as free, and a mapped model file is page cache. So a process has two
//! kinds of memory here. *Held* memory (anonymous, shared, and locked pages) is part of the machine's used memory and
//! is subtracted from it to get the others' part. *Mapped* file pages are not part of it; they still count as the
//! model's own use, because a model whose weights are pushed out of memory stops being a model. Hence others = used -
//! held, own = held + mapped.
//!
//! # Resident sizes or proportional shares
//! Resident sizes count a page that two processes share in both; proportional shares are exact, but the kernel walks
//! all page tables for them: 7 ms for each GiB (measured 2026-11-23 on a 2-core virtual machine), with the process's
//! memory map locked. So shares are read only where they matter: for a process that has shared memory and is one of
//! several. Pages that a fork has not written yet are counted twice.

use std::collections::{BTreeMap, BTreeSet};

use tiershift_core::units::Bytes;

use crate::probe::linux::procfs::{Root, kib};

/// Returns `pids` and all their living descendants.
pub(crate) fn family(root: &Root, pids: &BTreeSet<u32>) -> BTreeSet<u32> {
    let mut family = BTreeSet::new();
    let mut unseen: Vec<u32> = pids.iter().copied().collect();
    while let Some(pid) = unseen.pop() {
        if family.insert(pid) {
            unseen.extend(children(root, pid));
        }
    }
    family
}

/// Memory of the own processes, by kind. See the module's rule.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct OwnMemory {
    /// Anonymous, shared and locked pages.
    pub(crate) held: Bytes,
    /// File pages that the kernel could drop.
    pub(crate) mapped: Bytes,
    /// Pages in swap.
    pub(crate) swapped: Bytes,
}

/// Sums the memory of `family`. A process that has gone, or may not be read, counts as zero.
pub(crate) fn memory(root: &Root, family: &BTreeSet<u32>) -> OwnMemory {
    let mut sum = OwnMemory::default();
    for pid in family {
        if let Some(one) = process_memory(root, *pid, family.len() > 1) {
            sum.held += one.held;
            sum.mapped += one.mapped;
            sum.swapped += one.swapped;
        }
    }
    sum
}

/// A process's processor time. The start distinguishes a process from a later one with the same id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ProcessTicks {
    start: u64,
    spent: u64,
}

/// Reads the processor time of each living process of `family`.
pub(crate) fn ticks(root: &Root, family: &BTreeSet<u32>) -> BTreeMap<u32, ProcessTicks> {
    let read = |pid: &u32| {
        let stat = root.read(format!("/proc/{pid}/stat")).ok()?;
        Some((*pid, process_ticks(&stat)?))
    };
    family.iter().filter_map(read).collect()
}

/// Returns the processor time spent between two readings. A process that is new counts from the next reading on: it may
/// have run long before it was watched.
pub(crate) fn spent_between(
    before: &BTreeMap<u32, ProcessTicks>,
    now: &BTreeMap<u32, ProcessTicks>,
) -> u64 {
    let spent = |(pid, now): (&u32, &ProcessTicks)| match before.get(pid) {
        Some(before) if before.start == now.start => now.spent.saturating_sub(before.spent),
        Some(_) | None => 0,
    };
    now.iter().map(spent).fold(0, u64::saturating_add)
}

fn process_memory(root: &Root, pid: u32, one_of_several: bool) -> Option<OwnMemory> {
    let status = root.read(format!("/proc/{pid}/status")).ok()?;
    let may_share = kib(&status, "RssShmem").is_none_or(|shared| shared >= WORTH_A_WALK);
    if one_of_several && may_share {
        // May be forbidden if the process belongs to another user.
        let rollup = root.read(format!("/proc/{pid}/smaps_rollup")).ok();
        if let Some(exact) = rollup.as_deref().and_then(proportional) {
            return Some(exact);
        }
    }
    resident(&status)
}

fn proportional(rollup: &str) -> Option<OwnMemory> {
    let part = |key| kib(rollup, key);
    let (anonymous, file) = match (part("Pss_Anon"), part("Pss_File")) {
        (Some(anonymous), Some(file)) => (anonymous, file),
        // Kernels before 5.2 provide one sum and the anonymous pages.
        _ => {
            let anonymous = part("Anonymous")?;
            (anonymous, part("Pss")? - anonymous)
        }
    };
    let shared = part("Pss_Shmem").unwrap_or_default();
    let swapped = part("SwapPss").unwrap_or_default();
    Some(split(anonymous + shared, file, part("Locked").unwrap_or_default(), swapped))
}

fn resident(status: &str) -> Option<OwnMemory> {
    let part = |key| kib(status, key);
    let held = part("RssAnon")? + part("RssShmem").unwrap_or_default();
    let swapped = part("VmSwap").unwrap_or_default();
    Some(split(held, part("RssFile")?, part("VmLck").unwrap_or_default(), swapped))
}

/// Locked pages are taken for file pages first: model servers lock the mapped weights.
fn split(held: Bytes, file: Bytes, locked: Bytes, swapped: Bytes) -> OwnMemory {
    let pinned = locked.min(file);
    OwnMemory { held: held + pinned, mapped: file - pinned, swapped }
}

fn children(root: &Root, pid: u32) -> Vec<u32> {
    let tasks = format!("/proc/{pid}/task");
    let of_task = |task: String| root.read(format!("{tasks}/{task}/children")).unwrap_or_default();
    let text: Vec<String> = root.names(&tasks).into_iter().map(of_task).collect();
    text.iter().flat_map(|t| t.split_ascii_whitespace()).filter_map(|t| t.parse().ok()).collect()
}

/// Reads fields 14, 15 and 22 of proc_pid_stat(5). The name in field 2 may hold spaces and parentheses.
fn process_ticks(stat: &str) -> Option<ProcessTicks> {
    let (_, after_name) = stat.rsplit_once(')')?;
    let mut fields = after_name.split_ascii_whitespace().skip(11);
    let mut number = |skip: usize| fields.nth(skip)?.parse::<u64>().ok();
    let (user, system, start) = (number(0)?, number(0)?, number(6)?);
    Some(ProcessTicks { start, spent: user.saturating_add(system) })
}

/// Chosen: an error of this size changes no decision between models of gigabytes.
const WORTH_A_WALK: Bytes = Bytes::from_mib(64);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::probe::linux::procfs::tree;

    fn only(pid: u32) -> BTreeSet<u32> {
        BTreeSet::from([pid])
    }

    /// The resident sizes: 300 MiB anonymous, 600 MiB of files, 100 MiB shared.
    const STATUS: &str = "VmRSS: 1024000 kB\nRssAnon: 307200 kB\nRssFile: 614400 kB\n\
        RssShmem: 102400 kB\nVmSwap: 7168 kB\nVmLck: 0 kB\n";

    fn held_and_mapped(root: &Root, family: &BTreeSet<u32>) -> (u64, u64) {
        let sum = memory(root, family);
        (sum.held.get() >> 20, sum.mapped.get() >> 20)
    }

    #[test]
    fn mapped_weights_are_own_but_not_held() {
        let (_folder, root) = tree(&[("proc/7/status", STATUS)]);
        assert_eq!(held_and_mapped(&root, &only(7)), (400, 600));
        assert_eq!(memory(&root, &only(7)).swapped, Bytes::from_mib(7));
    }

    #[test]
    fn locked_weights_are_held() {
        let locked = STATUS.replace("VmLck: 0", "VmLck: 512000");
        let (_folder, root) = tree(&[("proc/7/status", &locked)]);
        assert_eq!(held_and_mapped(&root, &only(7)), (900, 100));
    }

    #[test]
    fn memory_shared_between_own_processes_counts_once() {
        // Each of two maps the same 100 MiB of shared memory.
        let share = "Pss_Anon: 307200 kB\nPss_File: 307200 kB\nPss_Shmem: 51200 kB\nLocked: 0 kB\n";
        let (_folder, root) = tree(&[
            ("proc/7/status", STATUS),
            ("proc/7/smaps_rollup", share),
            ("proc/8/status", STATUS),
            ("proc/8/smaps_rollup", share),
        ]);
        assert_eq!(held_and_mapped(&root, &BTreeSet::from([7, 8])), (700, 600));
        assert_eq!(held_and_mapped(&root, &only(7)), (400, 600), "one alone needs no walk");
    }

    #[test]
    fn shares_of_old_kernels_and_unreadable_shares_are_handled() {
        let (_folder, root) = tree(&[
            // Kernels before 5.2 provide one sum and the anonymous pages.
            ("proc/7/status", STATUS),
            ("proc/7/smaps_rollup", "Pss: 819200 kB\nAnonymous: 204800 kB\n"),
            // Nothing can be read: the resident sizes are used.
            ("proc/8/status", STATUS),
            ("proc/8/smaps_rollup", ""),
        ]);
        assert_eq!(held_and_mapped(&root, &BTreeSet::from([7, 8])), (200 + 400, 600 + 600));
    }

    #[test]
    fn a_process_that_has_gone_counts_nothing() {
        let (_folder, root) = tree(&[("proc/1/status", "garbage")]);
        assert_eq!(memory(&root, &BTreeSet::from([1, 99])), OwnMemory::default());
        assert!(ticks(&root, &BTreeSet::from([1, 99])).is_empty());
    }

    #[test]
    fn descendants_count_once_each() {
        let (_folder, root) = tree(&[
            ("proc/10/task/10/children", "11 12 "),
            ("proc/10/task/15/children", "13"),
            ("proc/12/task/12/children", "14\n"),
            // A tree that is read while it changes may even look like a ring.
            ("proc/14/task/14/children", "10"),
        ]);
        let family = family(&root, &BTreeSet::from([10, 12]));
        assert_eq!(family, BTreeSet::from([10, 11, 12, 13, 14]));
    }

    #[test]
    fn names_with_parentheses_do_not_shift_the_fields() {
        let stat = "7 (a) b (c)) S 1 1 1 0 -1 4194304 101 0 0 0 40 2 9 9 20 0 1 0 127312 3133440";
        assert_eq!(process_ticks(stat), Some(ProcessTicks { start: 127_312, spent: 42 }));
        for garbage in ["", "7 (a", "7 (a) S 1 2", "7 (a) S x x x x x x x x x x x x x x"] {
            assert_eq!(process_ticks(garbage), None, "{garbage:?}");
        }
    }

    #[test]
    fn a_new_process_under_an_old_id_brings_no_burst() {
        let at = |start, spent| BTreeMap::from([(7, ProcessTicks { start, spent })]);
        assert_eq!(spent_between(&at(1, 100), &at(1, 130)), 30);
        assert_eq!(spent_between(&at(1, 100), &at(2, 5000)), 0);
        assert_eq!(spent_between(&BTreeMap::new(), &at(2, 5000)), 0);
    }
}
