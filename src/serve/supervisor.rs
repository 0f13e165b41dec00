//! The service manager that started this daemon, if there is one: it is notified when the daemon serves, that it is
//! alive, and when it stops. The protocol is that of sd_notify(3): datagrams of `KEY=value` lines, here with the
//! standard library alone.

use std::ffi::OsStr;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use tiershift_core::time::Timestamp;

/// Sends lines.
type Say = Arc<dyn Fn(&str) + Send + Sync>;

/// Sends the daemon's state.
#[derive(Clone, Default)]
pub struct Supervisor {
    say: Option<Say>,
    watchdog: Option<Duration>,
}

impl Supervisor {
    /// Takes `$NOTIFY_SOCKET`, and how long the daemon may be silent before it is ended (`$WATCHDOG_USEC`).
    ///
    /// # Errors
    /// When the socket cannot be reached.
    pub fn new(socket: &OsStr, watchdog: Option<Duration>) -> io::Result<Self> {
        Ok(Self { say: Some(open(socket)?), watchdog })
    }

    fn say(&self, lines: &str) {
        if let Some(say) = &self.say {
            say(lines);
        }
    }

    /// Reports that it answers clients.
    pub(super) fn ready(&self) {
        self.say("READY=1");
    }

    /// Reports its state as text.
    pub(super) fn status(&self, text: &str) {
        self.say(&format!("STATUS={text}"));
    }

    /// Reports that it stops, which takes at most this long.
    pub(super) fn stopping(&self, at_most: Duration) {
        self.say(&format!("STOPPING=1\nEXTEND_TIMEOUT_USEC={}", at_most.as_micros()));
    }
}

impl fmt::Debug for Supervisor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Supervisor").field("watchdog", &self.watchdog).finish_non_exhaustive()
    }
}

/// Reports now and then that the controller's thread is alive: from that thread itself, or it would prove nothing.
pub(super) struct Heartbeat {
    supervisor: Supervisor,
    next: Timestamp,
}

impl Heartbeat {
    pub(super) fn new(supervisor: Supervisor) -> Self {
        Self { supervisor, next: Timestamp::ZERO }
    }

    pub(super) fn beat(&mut self, now: Timestamp) {
        let Some(watchdog) = self.supervisor.watchdog else { return };
        if self.next <= now {
            self.next = now + watchdog / BEATS;
            self.supervisor.say("WATCHDOG=1");
        }
    }
}

#[cfg(target_os = "linux")]
fn open(socket: &OsStr) -> io::Result<Say> {
    use std::os::linux::net::SocketAddrExt;
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::net::{SocketAddr, UnixDatagram};
    let address = match socket.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
        _ => SocketAddr::from_pathname(socket)?,
    };
    let datagrams = UnixDatagram::unbound()?;
    datagrams.connect_addr(&address)?;
    // The controller's thread does not wait for the socket.
    datagrams.set_nonblocking(true)?;
    Ok(Arc::new(move |lines| drop(datagrams.send(lines.as_bytes()))))
}

#[cfg(not(target_os = "linux"))]
fn open(_: &OsStr) -> io::Result<Say> {
    Err(io::Error::from(io::ErrorKind::Unsupported))
}

/// How often this is reported within the time after which the daemon counts as hung. sd_watchdog_enabled(3) requires at
/// least twice.
const BEATS: u32 = 3;
