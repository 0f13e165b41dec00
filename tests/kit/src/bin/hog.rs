//! Takes memory as a model server does and frees it: `hog SIZE RAMP LIFE [CEILING]`.
//!
//! Fills SIZE (`5GiB`) evenly over RAMP (`20s`), keeps it until LIFE (`90s`) is over, and exits. It is
//! made for recording traces on a machine that others use: it never allocates what would bring the machine's
//! memory above CEILING (`90%` by default), frees memory while others push the use above it,
//! and asks the kernel to kill it first.

use std::process::ExitCode;
use std::time::Duration;

use tiershift::probe::clock::SystemClock;
use tiershift_core::time::{Clock, SpanText, Timestamp};
use tiershift_core::units::{Bytes, Percent};

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let Some(plan) = Plan::parse(&words) else {
        eprintln!("usage: hog SIZE RAMP LIFE [CEILING], as in: hog 5GiB 20s 90s 90%");
        return ExitCode::from(2);
    };
    // Refused in some containers; the ceiling still holds.
    let _ = std::fs::write("/proc/self/oom_score_adj", "1000");
    run(&plan, &mut SystemClock::start());
    ExitCode::SUCCESS
}

/// How much to take, and when.
struct Plan {
    size: Bytes,
    ramp: Duration,
    life: Duration,
    ceiling: Percent,
}

impl Plan {
    fn parse(words: &[String]) -> Option<Self> {
        let (size, ramp, life, ceiling) = match words {
            [size, ramp, life] => (size, ramp, life, None),
            [size, ramp, life, ceiling] => (size, ramp, life, Some(ceiling)),
            _ => return None,
        };
        Some(Self {
            size: size.parse().ok()?,
            ramp: ramp.parse::<SpanText>().ok()?.0,
            life: life.parse::<SpanText>().ok()?.0,
            ceiling: ceiling.map_or(Some(Percent::new(90)), |ceiling| ceiling.parse().ok())?,
        })
    }

    /// Returns how much to hold at the time `after` the start.
    fn wanted(&self, after: Duration) -> Bytes {
        if after >= self.ramp {
            return self.size;
        }
        let done = u64::try_from(after.as_millis()).unwrap_or(u64::MAX);
        let whole = u64::try_from(self.ramp.as_millis()).unwrap_or(u64::MAX).max(1);
        self.size.share(Percent::of(Bytes::new(done), Bytes::new(whole)))
    }
}

fn run(plan: &Plan, clock: &mut SystemClock) {
    let mut held: Vec<Vec<u8>> = Vec::new();
    loop {
        let after = clock.now().since(Timestamp::ZERO);
        if after >= plan.life {
            return;
        }
        let wanted = plan.wanted(after).get() / CHUNK;
        let wanted = usize::try_from(wanted).unwrap_or(usize::MAX);
        match room(plan.ceiling) {
            Room::Over if !held.is_empty() => held.truncate(held.len().saturating_sub(4)),
            // One chunk at a time, so that concurrent hogs see each other grow.
            Room::ForOne if held.len() < wanted => held.push(vec![1; CHUNK as usize]),
            Room::ForOne | Room::Full | Room::Over => {
                clock.wait_until(clock.now() + STEP);
            }
        }
    }
}

enum Room {
    /// The machine is above the ceiling.
    Over,
    /// One more chunk would bring it there.
    Full,
    ForOne,
}

fn room(ceiling: Percent) -> Room {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let amount = |key: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(key));
        let number = line.and_then(|line| line.split_ascii_whitespace().next()?.parse().ok());
        Bytes::from_kib(number.unwrap_or(0))
    };
    let total = amount("MemTotal:");
    let used = total - amount("MemAvailable:");
    let most = total.share(ceiling);
    // Several hogs may see the same room at once.
    let next = used + Bytes::new(CHUNK).saturating_mul(4);
    match (used > most, next > most) {
        (true, _) => Room::Over,
        (false, true) => Room::Full,
        (false, false) => Room::ForOne,
    }
}

/// Large enough that the allocator maps and unmaps each chunk separately.
const CHUNK: u64 = 64 << 20;
const STEP: Duration = Duration::from_millis(50);
