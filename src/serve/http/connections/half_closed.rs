//! A client that closes its half of a connection after its request, as `nc -N` does, still reads the answer. One that
//! is gone closes the same way, and must not be worked for.
//!
//! Both look alike until something is sent: then the system of one that is gone resets the connection. So a client that
//! has closed its half is sent an interim response (`100 Continue`, of which HTTP allows any number before the answer),
//! and the connection is watched for a reset.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use hyper::body::{Body, Frame, SizeHint};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Interval, MissedTickBehavior, interval};
use tokio_io_timeout::TimeoutStream;

use crate::serve::http::connections::Place;

/// A connection whose client may close its half.
pub(super) struct HalfClosed {
    stream: Pin<Box<TimeoutStream<TcpStream>>>,
    place: Arc<Place>,
    closed: Option<Closed>,
    /// Whether part of a head has arrived that is not answered.
    has_begun: bool,
}

/// What has been done since the client closed its half.
struct Closed {
    has_asked: bool,
    looks: Interval,
}

impl HalfClosed {
    pub(super) fn new(stream: TimeoutStream<TcpStream>, place: Arc<Place>) -> Self {
        Self { stream: Box::pin(stream), place, closed: None, has_begun: false }
    }

    /// Waits while an answer is owed to a client that may still read it.
    fn poll_closed(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Some(closed) = &mut self.closed else { return Poll::Ready(Ok(())) };
        while self.place.owes_an_answer() {
            if !self.place.has_answered() && !std::mem::replace(&mut closed.has_asked, true) {
                // Part of an earlier answer may still be on its way, and nothing may be inserted into that.
                if !self.place.is_at_its_first() {
                    return Poll::Ready(Ok(()));
                }
                let sent = self.stream.as_mut().poll_write(context, INTERIM);
                let is_whole = matches!(sent, Poll::Ready(Ok(count)) if count == INTERIM.len());
                if !is_whole {
                    // There is no room for a line: the client does not read.
                    return Poll::Ready(Ok(()));
                }
            }
            if self.stream.get_ref().take_error()?.is_some() {
                return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
            }
            ready!(closed.looks.poll_tick(context));
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncRead for HalfClosed {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.closed.is_none() {
            let before = buffer.filled().len();
            ready!(this.stream.as_mut().poll_read(context, buffer))?;
            if buffer.filled().len() > before || buffer.remaining() == 0 {
                this.has_begun |= this.place.is_idle();
                return Poll::Ready(Ok(()));
            }
            let mut looks = interval(LOOK_PAUSE);
            looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            this.closed = Some(Closed { has_asked: false, looks });
        }
        this.poll_closed(context)
    }
}

impl AsyncWrite for HalfClosed {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        this.place.note_answer();
        this.has_begun = false;
        this.stream.as_mut().poll_write(context, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        this.place.note_answer();
        this.has_begun = false;
        this.stream.as_mut().poll_write_vectored(context, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().stream.as_mut().poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().stream.as_mut().poll_shutdown(context)
    }
}

/// A client whose head has begun and does not end in time is answered here: the server drops such a connection
/// silently.
impl Drop for HalfClosed {
    fn drop(&mut self) {
        if self.has_begun && self.place.is_idle() && self.closed.is_none() {
            // As much as can be sent at once: nothing waits for the rest.
            let _ = self.stream.get_ref().try_write(TOO_SLOW);
        }
    }
}

/// A request's body, which notes when it has arrived.
pub(super) struct Watched<B> {
    body: B,
    place: Arc<Place>,
}

impl<B: Body> Watched<B> {
    pub(super) fn new(body: B, place: Arc<Place>) -> Self {
        if body.is_end_stream() {
            place.note_read();
        }
        Self { body, place }
    }
}

impl<B: Body + Unpin> Body for Watched<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        let this = self.get_mut();
        let frame = ready!(Pin::new(&mut this.body).poll_frame(context));
        if frame.is_none() || this.body.is_end_stream() {
            this.place.note_read();
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

const TOO_SLOW: &[u8] =
    b"HTTP/1.1 408 Request Timeout\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";

const INTERIM: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// Chosen: on this machine the reset comes at once, and over a network within a few of these.
const LOOK_PAUSE: Duration = Duration::from_millis(20);
