//! Whether a loading process makes progress: its resident memory grows, or the amount that it has read.

use std::convert::Infallible;
use std::time::Duration;

/// Calls `report` when a load has made progress, soon after its start and then at most every twenty seconds. If a
/// process cannot be examined, it is never called.
pub(super) async fn watch(pid: Option<u32>, report: impl Fn()) -> Infallible {
    let mut progress = Progress::default();
    loop {
        tokio::time::sleep(LOOK_PAUSE).await;
        if progress.is_report_due(pid.and_then(look)) {
            report();
        }
    }
}

/// The state of a load.
#[derive(Debug, Default)]
struct Progress {
    last: Grown,
    has_grown: bool,
    /// Looks until the next report may be made.
    pause: u32,
}

/// What grows while a model is loaded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Grown {
    resident_pages: u64,
    /// By system calls and, for files that are mapped, from storage.
    read_bytes: u64,
}

impl Progress {
    /// Takes the next look, and returns whether it is time to report progress.
    fn is_report_due(&mut self, seen: Option<Grown>) -> bool {
        self.pause = self.pause.saturating_sub(1);
        let Some(grown) = seen else { return false };
        self.has_grown |= grown.resident_pages > self.last.resident_pages
            || grown.read_bytes > self.last.read_bytes;
        self.last = grown;
        let is_due = self.has_grown && self.pause == 0;
        if is_due {
            (self.has_grown, self.pause) = (false, LOOKS_A_REPORT);
        }
        is_due
    }
}

/// Reads a process's `statm` and `io`, neither of which waits for a lock that a fault may hold.
#[cfg(target_os = "linux")]
fn look(pid: u32) -> Option<Grown> {
    let read = |name: &str| std::fs::read_to_string(format!("/proc/{pid}/{name}")).ok();
    // Some systems provide only the first.
    Grown::parse(&read("statm")?, &read("io").unwrap_or_default())
}

/// On other systems, nothing is known.
#[cfg(not(target_os = "linux"))]
fn look(_: u32) -> Option<Grown> {
    None
}

#[cfg(any(target_os = "linux", test))]
impl Grown {
    fn parse(statm: &str, io: &str) -> Option<Self> {
        let resident_pages = statm.split_ascii_whitespace().nth(1)?.parse().ok()?;
        let of = |key: &str| {
            let line = io.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(": "));
            line.and_then(|number| number.trim().parse::<u64>().ok()).unwrap_or_default()
        };
        let read_bytes = of("rchar").saturating_add(of("read_bytes"));
        Some(Self { resident_pages, read_bytes })
    }
}

/// Chosen: two looks at two small files a second take a thousandth of a processor, and a short load is not examined.
const LOOK_PAUSE: Duration = Duration::from_secs(2);

/// Twenty seconds: three reports may be lost or late before the manager's minute is over.
const LOOKS_A_REPORT: u32 = 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_and_reading_both_count() {
        let io = "rchar: 100\nwchar: 7\nsyscr: 1\nread_bytes: 4096\ncancelled_write_bytes: 0\n";
        let grown = Grown::parse("1000 50 30 1 0 200 0\n", io).unwrap();
        assert_eq!(grown, Grown { resident_pages: 50, read_bytes: 4196 });
        assert_eq!(Grown::parse("1000 50", "").unwrap(), Grown { read_bytes: 0, ..grown });
        assert_eq!(Grown::parse("", io), None);
    }

    #[test]
    fn what_grows_is_told_of_every_twenty_seconds_and_what_stands_still_once() {
        let mut progress = Progress::default();
        let mut told = |grows: fn(u64) -> Option<Grown>| {
            let looks = 0..31;
            let at = |look: &u64| progress.is_report_due(grows(*look));
            looks.filter(at).map(|look| look * LOOK_PAUSE.as_secs()).collect::<Vec<u64>>()
        };
        let reads = |look| Some(Grown { resident_pages: 7, read_bytes: 100 + look });
        assert_eq!(told(reads), [0, 20, 40, 60]);
        assert_eq!(told(|_| Some(Grown { resident_pages: 7, read_bytes: 1 })), [0; 0]);
        assert_eq!(
            told(|look| Some(Grown { resident_pages: 7 + look / 10, read_bytes: 1 })),
            [20, 40, 60]
        );
        assert_eq!(told(|_| None), [0; 0]);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn this_process_can_be_looked_at_and_has_read_something() {
        let seen = look(std::process::id()).unwrap();
        assert!(seen.resident_pages > 0 && seen.read_bytes > 0, "{seen:?}");
    }
}
