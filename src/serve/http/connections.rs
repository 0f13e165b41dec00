//! Connections: how many there may be, how long a client may take to send its request, and how long it may leave an
//! answer unread.
//!
//! An idle client cannot block others: if all places are taken, the connection that has been idle longest is closed.

mod half_closed;

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio_io_timeout::TimeoutStream;

use crate::serve::http::clients::Peer;
use crate::serve::http::connections::half_closed::{HalfClosed, Watched};

/// The limits of clients.
#[derive(Clone, Copy, Debug)]
pub(in crate::serve) struct Limits {
    /// Connections at once.
    pub(in crate::serve) most: usize,
    /// From the last answer, or the start, to the end of the next head.
    pub(in crate::serve) head: Duration,
    /// How long a client may read nothing of what is sent to it.
    pub(in crate::serve) unread: Duration,
}

impl Limits {
    /// For programs and people.
    pub(in crate::serve) const USUAL: Self =
        Self { most: MOST_CONNECTIONS, head: HEAD_TIMEOUT, unread: UNREAD_TIMEOUT };
}

/// Serves until `stop`, and then finishes what is under way.
pub(in crate::serve) async fn serve(
    listener: TcpListener,
    router: Router,
    limits: Limits,
    stop: impl Future<Output = ()>,
) {
    let guests = Arc::new(Guests::new(limits.most));
    let ending = GracefulShutdown::new();
    let mut stop = pin!(stop);
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = &mut stop => break,
        };
        let Ok((stream, from)) = accepted else {
            // The client is already gone, or there is no descriptor left.
            guests.make_room();
            tokio::time::sleep(ACCEPT_PAUSE).await;
            continue;
        };
        match Guests::admit(&guests) {
            Some(guest) => {
                let peer = Peer(from.ip());
                let attended = guest.attend(stream, peer, router.clone(), limits, ending.watcher());
                drop(tokio::spawn(attended));
            }
            // All connections are in use: a new client gets that answer, if it can be sent at once.
            None => drop(stream.try_write(FULL)),
        }
    }
    drop(listener);
    ending.shutdown().await;
}

/// The connected clients.
#[derive(Debug)]
struct Guests {
    most: usize,
    places: Mutex<BTreeMap<u64, Arc<Place>>>,
    /// Numbers the events, to order them.
    events: AtomicU64,
}

#[derive(Debug)]
struct Place {
    /// The event since which there has been no request; [`BUSY`] during a request.
    idle_since: AtomicU64,
    /// Whether the current request has arrived completely, and whether any of its answer was sent.
    is_read: AtomicBool,
    has_answered: AtomicBool,
    requests: AtomicU64,
    closed: Notify,
}

impl Place {
    fn new(event: u64) -> Self {
        Self {
            idle_since: AtomicU64::new(event),
            is_read: AtomicBool::new(false),
            has_answered: AtomicBool::new(false),
            requests: AtomicU64::new(0),
            closed: Notify::new(),
        }
    }

    fn begin_request(&self) {
        self.idle_since.store(BUSY, Ordering::Relaxed);
        self.is_read.store(false, Ordering::Relaxed);
        self.has_answered.store(false, Ordering::Relaxed);
        self.requests.fetch_add(1, Ordering::Relaxed);
    }

    fn note_read(&self) {
        self.is_read.store(true, Ordering::Relaxed);
    }

    fn note_answer(&self) {
        self.has_answered.store(true, Ordering::Relaxed);
    }

    fn has_answered(&self) -> bool {
        self.has_answered.load(Ordering::Relaxed)
    }

    /// Returns whether a request has arrived completely, and its answer has not ended.
    fn owes_an_answer(&self) -> bool {
        self.idle_since.load(Ordering::Relaxed) == BUSY && self.is_read.load(Ordering::Relaxed)
    }

    /// Returns whether there is no request.
    fn is_idle(&self) -> bool {
        self.idle_since.load(Ordering::Relaxed) != BUSY
    }

    fn is_at_its_first(&self) -> bool {
        self.requests.load(Ordering::Relaxed) == 1
    }
}

impl Guests {
    fn new(most: usize) -> Self {
        Self { most, places: Mutex::default(), events: AtomicU64::new(0) }
    }

    /// Assigns a place, if necessary that of another.
    fn admit(guests: &Arc<Self>) -> Option<Guest> {
        if guests.places().len() >= guests.most && !guests.make_room() {
            return None;
        }
        let id = guests.next_event();
        let place = Arc::new(Place::new(id));
        guests.places().insert(id, Arc::clone(&place));
        Some(Guest { id, place, guests: Arc::clone(guests) })
    }

    /// Closes the connection that has been idle longest, if one is.
    fn make_room(&self) -> bool {
        let mut places = self.places();
        let idlest = places
            .iter()
            .map(|(&id, place)| (place.idle_since.load(Ordering::Relaxed), id))
            .filter(|&(since, _)| since != BUSY)
            .min();
        let place = idlest.and_then(|(_, id)| places.remove(&id));
        place.inspect(|place| place.closed.notify_one()).is_some()
    }

    fn next_event(&self) -> u64 {
        self.events.fetch_add(1, Ordering::Relaxed)
    }

    fn places(&self) -> MutexGuard<'_, BTreeMap<u64, Arc<Place>>> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One connection. When dropped, it gives its place back.
struct Guest {
    id: u64,
    place: Arc<Place>,
    guests: Arc<Guests>,
}

impl Guest {
    async fn attend(
        self,
        stream: TcpStream,
        peer: Peer,
        router: Router,
        limits: Limits,
        ending: Watcher,
    ) {
        // Tokens are small and must not wait for one another. If it cannot be set, they do.
        let _ = stream.set_nodelay(true);
        let mut stream = TimeoutStream::new(stream);
        stream.set_write_timeout(Some(limits.unread));
        let router = TowerToHyperService::new(router);
        let service = service_fn(|mut request: hyper::Request<Incoming>| {
            request.extensions_mut().insert(peer);
            let stay = self.stay();
            let place = Arc::clone(&self.place);
            let answer = router.call(request.map(|body| Watched::new(body, place)));
            async move {
                // The stay ends with the last of the body.
                let hold = |body: Body| {
                    Body::new(body.map_frame(move |frame| {
                        let _ = &stay;
                        frame
                    }))
                };
                answer.await.map(|response| response.map(hold))
            }
        });
        let stream = HalfClosed::new(stream, Arc::clone(&self.place));
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(limits.head)
            .max_headers(MOST_HEADERS)
            .max_buf_size(LONGEST_HEAD)
            .serve_connection(TokioIo::new(stream), service);
        tokio::select! {
            // How a connection ends is its client's affair.
            _ = ending.watch(connection) => {}
            () = self.place.closed.notified() => {}
        }
    }

    fn stay(&self) -> Stay {
        self.place.begin_request();
        Stay { place: Arc::clone(&self.place), guests: Arc::clone(&self.guests) }
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        self.guests.places().remove(&self.id);
    }
}

/// The time from a request to the end of its answer.
struct Stay {
    place: Arc<Place>,
    guests: Arc<Guests>,
}

impl Drop for Stay {
    fn drop(&mut self) {
        self.place.idle_since.store(self.guests.next_event(), Ordering::Relaxed);
    }
}

/// No event has this number.
const BUSY: u64 = u64::MAX;

/// Chosen: half of the descriptors that a process has by default, because each connection may need one to a model's
/// server.
const MOST_CONNECTIONS: usize = 512;

/// Chosen: programs and browsers send a head in one piece. The clients of OpenAI's libraries drop an idle connection
/// after 5 s.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);

/// Chosen: a laptop that loses its wireless network for a moment comes back in this time.
const UNREAD_TIMEOUT: Duration = Duration::from_secs(30);

/// As other servers have it by default; a browser behind proxies sends a few dozen.
const MOST_HEADERS: usize = 100;

/// Chosen: as above; also how much is written ahead of a slow reader.
const LONGEST_HEAD: usize = 32 << 10;

/// Chosen: descriptors come back when connections end, not at once.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// The answer to a client while all places are taken by others' requests.
const FULL: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nConnection: close\r\n\
Content-Length: 0\r\n\r\n";

#[cfg(test)]
mod tests;
