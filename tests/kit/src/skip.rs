//! Tests that need a part of the machine that is missing: they report it, and CI can make it an error.

use std::io::Write;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Returns whether a program is installed; if not, reports that a test is skipped.
#[track_caller]
pub fn is_installed(program: &str, test: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let is_there = std::env::split_paths(&path).any(|folder| folder.join(program).is_file());
    if !is_there {
        skip(program, test, "it is not installed");
    }
    is_there
}

/// Reports that a test is skipped, and why; `part` is what it needs, such as `llama-server`.
///
/// The test runner captures the output of a passed test, so this bypasses it; the last such line has the count.
///
/// # Panics
/// If `TIERSHIFT_REQUIRE` (words with commas) names the part: whoever sets it has installed the part.
#[track_caller]
pub fn skip(part: &str, test: &str, why: &str) {
    static SKIPPED: AtomicUsize = AtomicUsize::new(0);
    let required = std::env::var("TIERSHIFT_REQUIRE").unwrap_or_default();
    assert!(required.split(',').all(|it| it != part), "{test} needs {part}, required here: {why}");
    let count = SKIPPED.fetch_add(1, Ordering::Relaxed) + 1;
    let line = format!("SKIPPED {count}: {test} needs {part}: {}\n", why.trim());
    // If standard error is closed, the message is not needed.
    let _ = std::io::stderr().write_all(line.as_bytes());
}
