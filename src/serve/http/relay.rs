//! A reply on its way from a model's server to the client: passed on as it arrives, counted, and reported to the
//! controller.
//!
//! If the server answers with an error, that is about the request: it is passed on unchanged, and says nothing about
//! the model unless a request of our own fails too.

use std::convert::Infallible;

use axum::body::{Body, Bytes};
use axum::http::header::{
    CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, DATE, HeaderName, SERVER, TRANSFER_ENCODING,
};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use tiershift_core::model::Task;
use tiershift_core::time::{Clock, Timestamp};

use crate::backend::endpoint::Endpoint;
use crate::backend::one_token;
use crate::backend::stream_usage::{Count, StreamUsage};
use crate::probe::clock::SystemClock;
use crate::serve::http::refusal::Refusal;
use crate::serve::message::{Gone, PendingRequest};

/// What is needed to ask a model for a token, after its server answered with an error.
pub(super) type Checker = (reqwest::Client, Endpoint, Task);

/// A reply on its way. Dropped before its end, it closes the model's connection and reports that the client hung up.
pub(super) struct Relay {
    answer: reqwest::Response,
    pending: PendingRequest,
    clock: SystemClock,
}

/// The state of a stream.
struct Streamed {
    relay: Relay,
    usage: StreamUsage,
    checker: Checker,
    /// Whether it ends where the connection ends. A stream of events ends with its last event: a server between us and
    /// the model closes the connection in good order in any case.
    ends_by_length: bool,
    is_over: bool,
}

/// Returns the clock of a reply, which starts now.
pub(super) fn clock() -> SystemClock {
    SystemClock::start()
}

impl Relay {
    pub(super) fn new(
        answer: reqwest::Response,
        pending: PendingRequest,
        clock: SystemClock,
    ) -> Self {
        Self { answer, pending, clock }
    }

    pub(super) fn status(&self) -> StatusCode {
        self.answer.status()
    }

    /// Returns the response to a request that was served: a stream at once, anything else when it is complete.
    pub(super) async fn reply(self, checker: Checker) -> Result<Response, Refusal> {
        let (status, headers) = (self.status(), passed_headers(self.answer.headers()));
        let is_of = |kind: &str| {
            let kinds = headers.get(CONTENT_TYPE);
            kinds.is_some_and(|it| it.as_bytes().starts_with(kind.as_bytes()))
        };
        let body = if is_of("text/event-stream") {
            self.stream(StreamUsage::default(), checker, false)
        } else if is_of("application/x-ndjson") {
            self.stream(StreamUsage::of_lines(), checker, false)
        } else {
            self.whole(checker).await?
        };
        Ok((status, headers, body).into_response())
    }

    /// Returns the response to a request that the server answered with an error, and its text. Whether the model has
    /// failed is then found out without the client.
    pub(super) async fn fault(mut self, checker: Checker) -> Result<(Response, Bytes), Refusal> {
        let (status, headers) = (self.status(), passed_headers(self.answer.headers()));
        let mut said = Vec::new();
        while said.len() < LONGEST_FAULT {
            match self.next_chunk().await? {
                Ok(Some(bytes)) => said.extend(bytes),
                Ok(None) => break,
                Err(Broken) => return Err(self.lost().await),
            }
        }
        if status.is_server_error() {
            check_in_background(
                self.pending,
                checker,
                format!("the model server answered {status}"),
            );
        } else {
            self.pending.refused();
        }
        let said = Bytes::from(said);
        Ok(((status, headers, said.clone()).into_response(), said))
    }

    fn stream(self, usage: StreamUsage, checker: Checker, ends_by_length: bool) -> Body {
        let streamed = Streamed { relay: self, usage, checker, ends_by_length, is_over: false };
        Body::from_stream(stream::unfold(streamed, |mut streamed| async move {
            streamed.next().await.map(|bytes| (Ok::<_, Infallible>(bytes), streamed))
        }))
    }

    /// Returns a reply that comes in one piece. The rest of a very long one is passed on as it comes.
    async fn whole(mut self, checker: Checker) -> Result<Body, Refusal> {
        let mut whole = Vec::new();
        while whole.len() <= LONGEST_KEPT {
            match self.next_chunk().await? {
                Ok(Some(bytes)) => whole.extend(bytes),
                Ok(None) => {
                    let took = self.clock.now().since(Timestamp::ZERO);
                    let count = Count::read(&whole);
                    self.pending.done(count.first_token.unwrap_or(took), count);
                    return Ok(Body::from(whole));
                }
                Err(Broken) => return Err(self.lost().await),
            }
        }
        let rest = self.stream(StreamUsage::default(), checker, true);
        let first = stream::once(async move { Ok(Bytes::from(whole)) });
        Ok(Body::from_stream(futures_util::StreamExt::chain(first, rest.into_data_stream())))
    }

    /// Returns the next bytes, or the controller's refusal of the request.
    async fn next_chunk(&mut self) -> Result<Result<Option<Bytes>, Broken>, Refusal> {
        tokio::select! {
            chunk = self.answer.chunk() => Ok(chunk.map_err(|_| Broken)),
            end = self.pending.end() => {
                Err(end.map_or_else(|Gone| Refusal::from(Gone), |end| Refusal::from(&end)))
            }
        }
    }

    async fn lost(mut self) -> Refusal {
        self.pending.lost(CLOSED_EARLY).await;
        Refusal::model_failed()
    }
}

/// The connection to the model's server broke.
struct Broken;

impl Streamed {
    /// Returns the next bytes of a stream; one that breaks off ends with an event that reports it.
    async fn next(&mut self) -> Option<Bytes> {
        if self.is_over {
            return None;
        }
        let chunk = match self.relay.next_chunk().await {
            Ok(chunk) => chunk,
            Err(refusal) => {
                self.is_over = true;
                return Some(refusal.event().into());
            }
        };
        if let Ok(Some(bytes)) = chunk {
            self.usage.feed(self.relay.clock.now().since(Timestamp::ZERO), &bytes);
            if self.usage.is_done() {
                // Reported at once: a client that has read this hangs up, and that is no loss.
                self.report_done();
            }
            return Some(bytes);
        }
        self.is_over = true;
        if self.usage.is_done() {
            return None;
        }
        if self.usage.has_error() {
            // The server's own error, which the client has read.
            self.relay.pending.hand_over(|pending| {
                let error = "the model server closed a stream early".to_owned();
                check_in_background(pending, self.checker.clone(), error);
            });
            return None;
        }
        if chunk.is_ok() && self.ends_by_length {
            self.report_done();
            return None;
        }
        self.relay.pending.lost(CLOSED_EARLY).await;
        Some(Refusal::model_failed().event().into())
    }

    fn report_done(&mut self) {
        let first_token = self.usage.first_token().unwrap_or_default();
        self.relay.pending.done(first_token, self.usage.count());
    }
}

/// Finds out whether the model failed or its server rejected the request, and reports that. Until then the request
/// counts as running.
fn check_in_background(mut pending: PendingRequest, checker: Checker, error: String) {
    let (client, endpoint, task) = checker;
    tokio::spawn(async move {
        if one_token::is_answered(&client, &endpoint, task).await {
            pending.refused();
        } else {
            // If its process died, that is known by now.
            pending.lost(&error).await;
        }
    });
}

/// Returns those of a server's headers that are for the client.
pub(super) fn passed_headers(headers: &HeaderMap) -> HeaderMap {
    let is_passed = |name: &HeaderName| {
        let is_of_connection = [CONNECTION, TRANSFER_ENCODING, CONTENT_LENGTH, DATE, SERVER];
        let name_text = name.as_str();
        !is_of_connection.contains(name)
            && !name_text.starts_with("x-tiershift-")
            && name_text != "keep-alive"
            // We decide who may read an answer.
            && !name_text.starts_with("access-control-")
    };
    headers
        .iter()
        .filter(|(name, _)| is_passed(name))
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect()
}

const CLOSED_EARLY: &str = "the model server closed the stream early";

/// Chosen: a text reply has some kilobytes, and a batch of embeddings some megabytes. Longer ones are passed on
/// uncounted.
const LONGEST_KEPT: usize = 16 << 20;

/// Chosen: a thousand times the length of any server's error.
const LONGEST_FAULT: usize = 1 << 20;
