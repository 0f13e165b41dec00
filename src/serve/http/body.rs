//! Reads the bodies of requests, within bounds of size, time and memory.

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::StatusCode;
use http_body_util::BodyExt;
use hyper::body::{Body as _, Frame};
use tiershift_core::time::{Clock, Timestamp};
use tiershift_core::units;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::probe::clock::SystemClock;
use crate::serve::http::refusal::Refusal;

/// Reads bodies, as many at once as the memory for them allows.
pub(super) struct BodyReader {
    longest: usize,
    /// Bytes that bodies may still take.
    room: Arc<Semaphore>,
}

impl BodyReader {
    /// Accepts bodies up to this length.
    pub(super) fn new(longest: units::Bytes) -> Self {
        let longest = usize::try_from(longest.get()).unwrap_or(usize::MAX);
        let room =
            longest.saturating_mul(LONGEST_AT_ONCE).clamp(MOST_BODIES, Semaphore::MAX_PERMITS);
        Self { longest, room: Arc::new(Semaphore::new(room)) }
    }

    /// Reads a body to its end, if it is neither too long nor too slow.
    pub(super) async fn read(&self, mut body: Body) -> Result<BufferedBody, Refusal> {
        let too_long = || {
            let longest = units::Bytes::new(self.longest as u64);
            let message = format!(
                "the body is longer than {longest}: raise `body-limit` in [listen] of the config"
            );
            Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", message)
        };
        if body.size_hint().lower() > self.longest as u64 {
            return Err(too_long());
        }
        let mut bytes = Vec::new();
        let mut room: Option<OwnedSemaphorePermit> = None;
        let began = SystemClock::start();
        while let Some(frame) = next_frame(&mut body, &began, bytes.len()).await? {
            let frame = frame.map_err(|_| {
                Refusal::bad_request("the connection closed before the end of the body")
            })?;
            let Ok(data) = frame.into_data() else { continue };
            if bytes.len() + data.len() > self.longest {
                return Err(too_long());
            }
            // Only what has arrived is counted: announcing a long body takes nothing from others.
            let count = u32::try_from(data.len()).map_err(|_| too_long())?;
            let more = Arc::clone(&self.room).try_acquire_many_owned(count);
            let more = more.map_err(|_| Refusal::busy())?;
            match &mut room {
                Some(room) => room.merge(more),
                None => room = Some(more),
            }
            bytes.extend_from_slice(&data);
        }
        Ok(BufferedBody { bytes: bytes.into(), _room: room })
    }
}

/// Returns the next piece of a body after the bytes that have arrived, unless it stalls.
async fn next_frame(
    body: &mut Body,
    began: &SystemClock,
    come: usize,
) -> Result<Option<Result<Frame<Bytes>, axum::Error>>, Refusal> {
    let allowed = BODY_PAUSE + Duration::from_secs((come / SLOWEST_PER_SECOND) as u64);
    let left = allowed.saturating_sub(began.now().since(Timestamp::ZERO));
    tokio::time::timeout(left.min(BODY_PAUSE), body.frame()).await.map_err(|_| {
        Refusal::new(StatusCode::REQUEST_TIMEOUT, "body_timeout", "the body came too slowly")
    })
}

/// A body, and the memory that it takes.
pub(super) struct BufferedBody {
    pub(super) bytes: Bytes,
    _room: Option<OwnedSemaphorePermit>,
}

/// Chosen: programs on this machine send a body in milliseconds; one that comes over a network may pause for a while.
const BODY_PAUSE: Duration = Duration::from_secs(30);

/// Chosen: the speed of a telephone line. A slower sender takes up a place for nothing.
const SLOWEST_PER_SECOND: usize = 1 << 10;

/// Chosen: the share of the models' memory that bodies being read or waiting for a model may take in all.
const MOST_BODIES: usize = 128 << 20;

/// The number of longest bodies that must fit at least.
const LONGEST_AT_ONCE: usize = 2;
