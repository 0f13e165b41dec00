//! Waiting for another process: with a limit, and with a message about what did not happen.

use std::time::Duration;

use tiershift::probe::clock::SystemClock;
use tiershift_core::time::{Clock, Timestamp};

/// The longest that anything may take on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// Time between two looks.
pub const POLL: Duration = Duration::from_millis(50);

/// Looks until there is a result, and returns it.
///
/// # Panics
/// With the message of the last look, after [`PATIENCE`].
#[track_caller]
pub fn wait_for<T>(mut look: impl FnMut() -> Result<T, String>) -> T {
    let mut clock = SystemClock::start();
    loop {
        match look() {
            Ok(found) => return found,
            Err(why) => assert!(clock.now() < Timestamp::ZERO + PATIENCE, "{why}"),
        }
        clock.wait_until(clock.now() + POLL);
    }
}

/// Waits until a condition holds.
///
/// # Panics
/// After [`PATIENCE`].
#[track_caller]
pub fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    wait_for(|| if is_so() { Ok(()) } else { Err(format!("{what} does not come")) });
}
