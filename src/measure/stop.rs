//! Lets Ctrl-C or SIGTERM stop a measurement in good order.

use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag::{register, register_conditional_shutdown};

/// Makes Ctrl-C and SIGTERM set `stop`. A second one ends the program at once, in case something hangs.
///
/// # Errors
/// When the system refuses the handler.
pub fn on_signals(stop: &Arc<AtomicBool>) -> io::Result<()> {
    for signal in [SIGINT, SIGTERM] {
        // The order matters: the shutdown looks at the flag before the second line sets it.
        register_conditional_shutdown(signal, 128 + signal, Arc::clone(stop))?;
        register(signal, Arc::clone(stop))?;
    }
    Ok(())
}
