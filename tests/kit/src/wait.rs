//! Waiting for what another process does: with a bound, and with words for what did not come.

use std::time::Duration;

use tiershift::probe::clock::SystemClock;
use tiershift_core::time::{Clock, Timestamp};

/// How long anything may take on a machine that is busy with something else.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// From one look to the next.
pub const POLL: Duration = Duration::from_millis(50);

/// Looks until there is something, and returns it.
///
/// # Panics
/// With what the last look said, after [`PATIENCE`].
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

/// Waits until something is so.
///
/// # Panics
/// After [`PATIENCE`].
#[track_caller]
pub fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    wait_for(|| if is_so() { Ok(()) } else { Err(format!("{what} does not come")) });
}
