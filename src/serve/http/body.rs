//! Reads the bodies of requests, within bounds of size, time and memory.

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::StatusCode;
use http_body_util::BodyExt;
use hyper::body::Body as _;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::serve::http::refusal::Refusal;

/// Reads bodies, as many at once as memory is meant for.
pub(super) struct BodyReader {
    /// What bodies may still take, in bytes.
    room: Arc<Semaphore>,
}

impl Default for BodyReader {
    fn default() -> Self {
        Self { room: Arc::new(Semaphore::new(MOST_BODIES)) }
    }
}

impl BodyReader {
    /// Reads a body to its end, if it is neither too long nor too slow.
    pub(super) async fn read(&self, body: Body) -> Result<BufferedBody, Refusal> {
        let too_slow = |_| {
            Refusal::new(StatusCode::REQUEST_TIMEOUT, "body_timeout", "the body came too slowly")
        };
        tokio::time::timeout(BODY_TIMEOUT, self.read_whole(body)).await.map_err(too_slow)?
    }

    async fn read_whole(&self, mut body: Body) -> Result<BufferedBody, Refusal> {
        let too_long = || {
            let message = format!("a body has at most {LONGEST_BODY} bytes");
            Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", message)
        };
        if body.size_hint().lower() > LONGEST_BODY as u64 {
            return Err(too_long());
        }
        let mut bytes = Vec::new();
        let mut room: Option<OwnedSemaphorePermit> = None;
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|_| Refusal::bad_request("the body broke off"))?;
            let Ok(data) = frame.into_data() else { continue };
            if bytes.len() + data.len() > LONGEST_BODY {
                return Err(too_long());
            }
            // Only what has come is counted: to announce much takes nothing from anybody.
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

/// A body, and the room that it takes.
pub(super) struct BufferedBody {
    pub(super) bytes: Bytes,
    _room: Option<OwnedSemaphorePermit>,
}

/// Chosen: as llama.cpp's own pages and most proxies.
const LONGEST_BODY: usize = 10 << 20;

/// Chosen: programs of this machine send a body in milliseconds.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);

/// Chosen: what all bodies that are being read or wait for a model may take of the memory that models are for.
const MOST_BODIES: usize = 128 << 20;
