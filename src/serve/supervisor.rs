//! The service manager that started this daemon, where there is one: it is notified when the daemon serves, that it lives, and when
//! it stops. The protocol is that of sd_notify(3): a datagram of `KEY=value` lines each, here by the standard library alone.

use std::ffi::OsStr;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use tiershift_core::time::Timestamp;

/// Sends lines.
type Say = Arc<dyn Fn(&str) + Send + Sync>;

/// Where to say how the daemon is.
#[derive(Clone, Default)]
pub struct Supervisor {
    say: Option<Say>,
    watchdog: Option<Duration>,
}

impl Supervisor {
    /// Takes `$NOTIFY_SOCKET`, and how long the daemon may be silent before it is ended (`$WATCHDOG_USEC`).
    ///
    /// # Errors
    /// Where the socket cannot be reached.
    pub fn new(socket: &OsStr, watchdog: Option<Duration>) -> io::Result<Self> {
        Ok(Self { say: Some(open(socket)?), watchdog })
    }

    fn say(&self, lines: &str) {
        if let Some(say) = &self.say {
            say(lines);
        }
    }

    /// It answers clients.
    pub(super) fn ready(&self) {
        self.say("READY=1");
    }

    /// Says in words how it is.
    pub(super) fn status(&self, text: &str) {
        self.say(&format!("STATUS={text}"));
    }

    /// It stops, which takes this long at most.
    pub(super) fn stopping(&self, at_most: Duration) {
        self.say(&format!("STOPPING=1\nEXTEND_TIMEOUT_USEC={}", at_most.as_micros()));
    }
}

impl fmt::Debug for Supervisor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Supervisor").field("watchdog", &self.watchdog).finish_non_exhaustive()
    }
}

/// Says now and then that the controller's thread lives: by that thread itself, or it proves nothing.
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
    // The controller's thread waits for nobody.
    datagrams.set_nonblocking(true)?;
    Ok(Arc::new(move |lines| drop(datagrams.send(lines.as_bytes()))))
}

#[cfg(not(target_os = "linux"))]
fn open(_: &OsStr) -> io::Result<Say> {
    Err(io::Error::from(io::ErrorKind::Unsupported))
}

/// How often it is said within the time after which the daemon counts as hung. sd_watchdog_enabled(3) says at least twice.
const BEATS: u32 = 3;
