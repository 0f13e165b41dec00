//! Reads mutated samples of every format: `mutations [--seeds FROM..TO]`, 10 million without `--seeds`.
//!
//! Prints the progress and the slowest sample. Exit: 0 nothing found; 101 (a panic, with its seed above it) otherwise; 2 cannot
//! run.

use std::ops::Range;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use tiershift_testkit::fuzz::mutation::Mutations;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let seeds = match words.as_slice() {
        [] => Some(0..10_000_000),
        ["--seeds", range] => parse(range),
        _ => None,
    };
    let Some(seeds) = seeds else {
        eprintln!("usage: mutations [--seeds FROM..TO]");
        return ExitCode::from(2);
    };
    let cases = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/cases");
    let mut slowest = (Duration::ZERO, 0);
    let mut last = now();
    let count = seeds.end.saturating_sub(seeds.start);
    Mutations::of(&cases).run(seeds, |seed| {
        let took = last.elapsed();
        slowest = slowest.max((took, seed));
        assert!(took < LONGEST, "seed {seed} took {took:?}");
        if (seed + 1) % EVERY == 0 {
            println!("{} done, the slowest is seed {} with {:?}", seed + 1, slowest.1, slowest.0);
        }
        last = now();
    });
    println!("{count} samples read, the slowest was seed {} with {:?}", slowest.1, slowest.0);
    ExitCode::SUCCESS
}

fn parse(range: &str) -> Option<Range<u64>> {
    let (from, to) = range.split_once("..")?;
    Some(from.parse().ok()?..to.parse().ok()?)
}

#[expect(clippy::disallowed_methods, reason = "what hangs is found by a clock")]
fn now() -> Instant {
    Instant::now()
}

const EVERY: u64 = 100_000;
/// A sample of at most 64 KiB that takes longer counts as a hang. Chosen: a thousand times the slowest on an idle machine.
const LONGEST: Duration = Duration::from_secs(30);
