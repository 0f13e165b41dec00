//! Completions, embeddings and rerankings: a request is queued with the controller until it may start; then its bytes are relayed
//! unchanged between its client and the model's own server.

use std::sync::Arc;

use axum::Extension;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::header::{CONTENT_TYPE, HeaderName};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use tiershift_core::model::Task;
use tiershift_core::request::Request;
use tiershift_core::time::{Clock, Timestamp};

use crate::backend::endpoint::Changes;
use crate::backend::stream_usage::{Count, StreamUsage};
use crate::probe::clock::SystemClock;
use crate::serve::http::app::App;
use crate::serve::http::clients::Peer;
use crate::serve::http::completion_body::CompletionBody;
use crate::serve::http::refusal::Refusal;
use crate::serve::message::{PendingRequest, Started};

/// Where a request comes from, as far as the connection says.
type Origin = Option<Extension<Peer>>;

/// `POST /v1/chat/completions`.
pub(super) async fn chat(State(app): State<Arc<App>>, peer: Origin, body: Body) -> Response {
    let path = "/v1/chat/completions";
    pass_on(&app, peer, path, Task::Chat, body).await.unwrap_or_else(Refusal::into_response)
}

/// `POST /v1/completions`.
pub(super) async fn text(State(app): State<Arc<App>>, peer: Origin, body: Body) -> Response {
    let path = "/v1/completions";
    pass_on(&app, peer, path, Task::Chat, body).await.unwrap_or_else(Refusal::into_response)
}

/// `POST /v1/embeddings`: from the models that list the task only. The vectors of two models cannot be compared,
/// and a header says which model made them.
pub(super) async fn embeddings(State(app): State<Arc<App>>, peer: Origin, body: Body) -> Response {
    let path = "/v1/embeddings";
    only_by_task(&app, peer, path, Task::Embedding, body).await
}

/// `POST /v1/rerank`: from the models that list the task only.
pub(super) async fn rerank(State(app): State<Arc<App>>, peer: Origin, body: Body) -> Response {
    only_by_task(&app, peer, "/v1/rerank", Task::Rerank, body).await
}

async fn only_by_task(app: &App, peer: Origin, path: &str, task: Task, body: Body) -> Response {
    if !app.catalog.models().iter().any(|model| model.can(task)) {
        return Refusal::no_model_for(task).into_response();
    }
    pass_on(app, peer, path, task, body).await.unwrap_or_else(Refusal::into_response)
}

async fn pass_on(
    app: &App,
    peer: Origin,
    path: &str,
    task: Task,
    body: Body,
) -> Result<Response, Refusal> {
    let body = app.bodies.read(body).await?;
    let completion = CompletionBody::read(&body.bytes)?;
    let request = completion.request(app.next_request(), task, &app.catalog);
    let client = app.clients.number(completion.user(), peer.map(|Extension(peer)| peer));
    let mut request = Request { client, ..request };
    loop {
        match forward(app, path, &body.bytes, &completion, &request).await? {
            Forwarded::Answer(response) => return Ok(response),
            // Now that it was counted: another model may hold it, or none.
            Forwarded::TooLong { prompt_tokens } => {
                let (id, prompt_estimated) = (app.next_request(), false);
                request = Request { id, prompt_tokens, prompt_estimated, ..request };
            }
        }
    }
}

/// What became of a request that was sent to a model.
enum Forwarded {
    Answer(Response),
    /// The model's server has counted a prompt whose length was an estimate, and its context does not hold it.
    TooLong {
        prompt_tokens: u32,
    },
}

async fn forward(
    app: &App,
    path: &str,
    bytes: &Bytes,
    completion: &CompletionBody<'_>,
    request: &Request,
) -> Result<Forwarded, Refusal> {
    let target = &request.target;
    let mut pending = PendingRequest::submit(&app.to, request.clone())?;
    let started = pending.start().await?.map_err(|end| Refusal::from(&end))?;
    let because = app.board().degraded_because(target, &started.model);
    let clock = SystemClock::start();
    let changes = started.endpoint.changes();
    let to_send = if *changes == Changes::default() {
        bytes.clone()
    } else {
        completion.with(changes).into()
    };
    let sent = started
        .endpoint
        .post(&app.client, path)
        .header(CONTENT_TYPE, "application/json")
        .body(to_send)
        .send();
    let answer = tokio::select! {
        answer = sent => answer,
        end = pending.end() => return Err(Refusal::from(&end?)),
    };
    let Ok(answer) = answer else {
        pending.lost("the model server does not answer").await;
        return Err(Refusal::model_failed());
    };
    let kind = answer.headers().get(CONTENT_TYPE).cloned();
    let is_stream =
        kind.as_ref().is_some_and(|kind| kind.as_bytes().starts_with(b"text/event-stream"));
    let status = answer.status();
    let relay = Relay { answer, pending, usage: StreamUsage::default(), clock, is_over: false };
    let body = if is_stream && status.is_success() {
        Body::from_stream(futures_util::stream::unfold(relay, |mut relay| async move {
            relay.next().await.map(|bytes| (Ok::<_, std::convert::Infallible>(bytes), relay))
        }))
    } else {
        let whole = relay.whole(status).await?;
        if request.prompt_estimated
            && status == StatusCode::BAD_REQUEST
            && let Some(prompt_tokens) = tokens_too_many(&whole)
        {
            return Ok(Forwarded::TooLong { prompt_tokens });
        }
        Body::from(whole)
    };
    let mut response = (status, body).into_response();
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, kind.unwrap_or(HeaderValue::from_static("application/json")));
    say_what_served(headers, &started, because.as_deref());
    Ok(Forwarded::Answer(response))
}

/// Returns the length of the prompt that llama-server has counted, where it says that its context does not hold it.
fn tokens_too_many(answer: &[u8]) -> Option<u32> {
    #[derive(Deserialize)]
    struct Answer {
        error: Error,
    }
    #[derive(Deserialize)]
    struct Error {
        #[serde(rename = "type")]
        kind: String,
        n_prompt_tokens: u32,
    }
    let Answer { error } = serde_json::from_slice(answer).ok()?;
    (error.kind == "exceed_context_size_error").then_some(error.n_prompt_tokens)
}

fn say_what_served(headers: &mut HeaderMap, started: &Started, because: Option<&str>) {
    let values = [
        (MODEL, Some(started.model.as_str())),
        (TIER, started.tier.as_deref()),
        (DEGRADED_BECAUSE, because),
    ];
    for (name, value) in values {
        // A name that no header can hold is left out.
        if let Some(Ok(value)) = value.map(HeaderValue::from_str) {
            headers.insert(name, value);
        }
    }
}

/// A reply on its way. Dropped before its end, it closes the model's connection and says that the client hung up.
struct Relay {
    answer: reqwest::Response,
    pending: PendingRequest,
    usage: StreamUsage,
    clock: SystemClock,
    is_over: bool,
}

impl Relay {
    /// Returns the next bytes of a stream; a stream that breaks off ends with an event that says so.
    async fn next(&mut self) -> Option<Bytes> {
        if self.is_over {
            return None;
        }
        let chunk = tokio::select! {
            chunk = self.answer.chunk() => chunk,
            end = self.pending.end() => {
                self.is_over = true;
                let refusal = end.map_or_else(Refusal::from, |end| Refusal::from(&end));
                return Some(refusal.event().into());
            }
        };
        match chunk {
            Ok(Some(bytes)) => {
                self.usage.feed(self.clock.now().since(Timestamp::ZERO), &bytes);
                if self.usage.is_done() {
                    // Said at once: a client that has read this hangs up, and has lost nothing by it.
                    let first_token = self.usage.first_token().unwrap_or_default();
                    self.pending.done(first_token, self.usage.count());
                }
                Some(bytes)
            }
            Ok(None) | Err(_) if self.usage.is_done() => {
                self.is_over = true;
                None
            }
            Ok(None) | Err(_) => {
                self.is_over = true;
                self.pending.lost("the model server closed the stream early").await;
                Some(Refusal::model_failed().event().into())
            }
        }
    }

    /// Returns a reply that comes in one piece.
    async fn whole(mut self, status: StatusCode) -> Result<Vec<u8>, Refusal> {
        let mut whole = Vec::new();
        loop {
            let chunk = tokio::select! {
                chunk = self.answer.chunk() => chunk,
                end = self.pending.end() => return Err(Refusal::from(&end?)),
            };
            match chunk {
                Ok(Some(bytes)) if whole.len() + bytes.len() <= LONGEST_REPLY => {
                    whole.extend(bytes);
                }
                Ok(None) => break,
                Ok(Some(_)) | Err(_) => {
                    self.pending.lost("the model server closed the stream early").await;
                    return Err(Refusal::model_failed());
                }
            }
        }
        if status.is_client_error() {
            self.pending.refused();
        } else if status.is_success() {
            let took = self.clock.now().since(Timestamp::ZERO);
            let count = Count::read(&whole);
            self.pending.done(count.first_token.unwrap_or(took), count);
        } else if String::from_utf8_lossy(&whole).contains(TOO_LARGE) {
            self.pending.refused();
            return Err(Refusal::too_large());
        } else {
            self.pending.failed(&format!("the model server answered {}", status.as_u16()));
            return Err(Refusal::model_failed());
        }
        Ok(whole)
    }
}

/// What served a reply, and why nothing better.
const MODEL: HeaderName = HeaderName::from_static("x-tiershift-model");
const TIER: HeaderName = HeaderName::from_static("x-tiershift-tier");
const DEGRADED_BECAUSE: HeaderName = HeaderName::from_static("x-tiershift-degraded-because");

/// In the answer to an input longer than the server's batch, status 500, although nothing is wrong with the server (seen
/// on 2026-11-24).
const TOO_LARGE: &str = "is too large to process";

/// Chosen: a thousand times the longest reply that we have seen.
const LONGEST_REPLY: usize = 32 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_count_is_read_where_the_context_is_too_small_and_nowhere_else() {
        let too_long = r#"{"error":{"code":400,"message":"..","type":"exceed_context_size_error","n_prompt_tokens":900,"n_ctx":512}}"#;
        assert_eq!(tokens_too_many(too_long.as_bytes()), Some(900));
        for other in ["", "{}", r#"{"error":{"type":"invalid_request_error","n_prompt_tokens":9}}"#]
        {
            assert_eq!(tokens_too_many(other.as_bytes()), None, "{other}");
        }
    }
}
