//! Tests that need a part of the machine which is not there: they say so, and CI may insist.

use std::io::Write;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Says that a test is skipped, and why: `part` is what it needs, as `llama-server`.
///
/// The test runner keeps what a passed test prints to itself, so this goes past it; the last such line has the count.
///
/// # Panics
/// Where `TIERSHIFT_REQUIRE` (words with commas) names the part: whoever sets it has installed it.
#[track_caller]
pub fn skip(part: &str, test: &str, why: &str) {
    static SKIPPED: AtomicUsize = AtomicUsize::new(0);
    let required = std::env::var("TIERSHIFT_REQUIRE").unwrap_or_default();
    assert!(required.split(',').all(|it| it != part), "{test} needs {part}, required here: {why}");
    let count = SKIPPED.fetch_add(1, Ordering::Relaxed) + 1;
    let line = format!("SKIPPED {count}: {test} needs {part}: {}\n", why.trim());
    // Nobody reads it: then nobody needs it.
    let _ = std::io::stderr().write_all(line.as_bytes());
}
