//! The answer to a client that is not served: in OpenAI's error format, with the time to come back.

use std::time::Duration;

use axum::Json;
use axum::http::header::RETRY_AFTER;
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use tiershift_core::model::Task;
use tiershift_core::request::{CancelledBy, End, Rejection};
use tiershift_core::text;

use crate::serve::message::Gone;

/// Why a client is not served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::serve) struct Refusal {
    status: StatusCode,
    code: &'static str,
    message: String,
    retry_after: Option<Duration>,
    /// Whether it is written in Ollama's error format.
    is_ollamas: bool,
}

impl Refusal {
    pub(super) fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into(), retry_after: None, is_ollamas: false }
    }

    /// Returns the same for a client of Ollama's own API.
    pub(super) fn in_ollamas_form(self) -> Self {
        Self { is_ollamas: true, ..self }
    }

    pub(super) fn bad_request(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "invalid_request", message)
    }

    /// There are more requests at once than are ever kept.
    pub(super) fn busy() -> Self {
        Self::new(StatusCode::TOO_MANY_REQUESTS, "too_many_clients", "too many requests at once")
            .retry_after(SOON)
    }

    /// The model server closed the stream early, or never answered.
    pub(super) fn model_failed() -> Self {
        Self::new(StatusCode::BAD_GATEWAY, "model_failed", "the model's server failed; try again")
            .retry_after(SOON)
    }

    /// Nothing in the catalog has this name.
    pub(super) fn unknown_model() -> Self {
        let message =
            "no such model or tier: /v1/models lists them; \"auto\" uses the model that serves";
        Self::new(StatusCode::NOT_FOUND, "model_not_found", message)
    }

    /// Nothing in the catalog does this kind of work.
    pub(super) fn no_model_for(task: Task) -> Self {
        let (code, message) = match task {
            Task::Rerank => (
                "no_reranking",
                "no model here ranks texts: give one of the catalog the task \"rerank\"",
            ),
            Task::Embedding | Task::Chat | Task::Code | Task::Vision | Task::Speech => (
                "no_embeddings",
                "no model here makes embeddings: give one of the catalog the task \"embedding\"",
            ),
        };
        Self::new(StatusCode::NOT_IMPLEMENTED, code, message)
    }

    /// An order is not carried out.
    pub(super) fn order(message: &str, retry_after: Duration) -> Self {
        Self::new(StatusCode::CONFLICT, "order_refused", message).retry_after(retry_after)
    }

    /// A dry run loads no model.
    pub(super) fn dry_run() -> Self {
        let message = "this is a dry run, which loads no model: start the daemon without --dry-run";
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "dry_run", message)
    }

    /// There is no model server yet.
    pub(in crate::serve) fn no_server(message: String) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "no_server", message).retry_after(SOON)
    }

    fn retry_after(self, span: Duration) -> Self {
        Self { retry_after: Some(span), ..self }
    }

    fn shutting_down() -> Self {
        let message = "the daemon is shutting down";
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "shutting_down", message).retry_after(RESTART)
    }

    /// Returns the error in OpenAI's format.
    pub(super) fn body(&self) -> Value {
        if self.is_ollamas {
            return json!({"error": self.message});
        }
        let kind =
            if self.status.is_server_error() { "server_error" } else { "invalid_request_error" };
        json!({"error": {
            "message": self.message, "type": kind, "param": null, "code": self.code,
        }})
    }

    /// Returns the error as the last event of a stream, wherever it broke off.
    pub(super) fn event(&self) -> String {
        format!("\n\ndata: {}\n\n", self.body())
    }
}

impl From<Gone> for Refusal {
    fn from(_: Gone) -> Self {
        Self::shutting_down()
    }
}

impl From<&End> for Refusal {
    fn from(end: &End) -> Self {
        let unavailable = StatusCode::SERVICE_UNAVAILABLE;
        match end {
            End::Rejected { reason, retry_after, estimate: _ } => {
                let after = retry_after.unwrap_or(SOON);
                match reason {
                    Rejection::QueueFull => {
                        Self::new(StatusCode::TOO_MANY_REQUESTS, "queue_full", "the queue is full")
                            .retry_after(after)
                    }
                    Rejection::Deadline => {
                        let message = "no model was ready within the time limit";
                        Self::new(unavailable, "deadline", message).retry_after(after)
                    }
                    Rejection::Unservable => Self::new(
                        StatusCode::BAD_REQUEST,
                        CONTEXT_LENGTH_EXCEEDED,
                        "no model here does this kind of work, or has room for a prompt of this length",
                    ),
                    Rejection::NotLoaded => {
                        let message = "only a smaller model than the one that is loaded can do this; \
                                       it is loaded when the machine has no room for the larger one";
                        Self::new(unavailable, "not_loaded", message).retry_after(after)
                    }
                    Rejection::HeldElsewhere => {
                        let (how_long, after) = match retry_after {
                            Some(after) => {
                                (format!(" for {} yet", text::span(*after)), Some(*after))
                            }
                            None => (String::new(), None),
                        };
                        let message = format!(
                            "an order keeps another model loaded here{how_long}: ask for \"auto\""
                        );
                        let refusal = Self::new(StatusCode::CONFLICT, "held_elsewhere", message);
                        Self { retry_after: after, ..refusal }
                    }
                    Rejection::UnknownTarget => Self::unknown_model(),
                    Rejection::ShuttingDown => Self::shutting_down(),
                }
            }
            End::Failed { .. } => Self::model_failed(),
            End::Cancelled { by: CancelledBy::Shutdown, .. } => Self::shutting_down(),
            End::Cancelled { by: CancelledBy::DrainDeadline, retry_after } => {
                let after = retry_after.unwrap_or(SOON);
                // As text, too: the reader of a stream has already received the headers.
                let again = text::span(after);
                let message = format!("the model had to make room; try again in {again}");
                Self::new(unavailable, "switching", message).retry_after(after)
            }
            // The client knows of these two before we do.
            End::Cancelled { by: CancelledBy::Client, .. } | End::Done { .. } => {
                Self::new(unavailable, "ended", "the request has ended").retry_after(SOON)
            }
        }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let mut response = (self.status, Json(self.body())).into_response();
        if let Some(span) = self.retry_after {
            // Whole seconds, and never too early.
            let seconds = span.as_millis().div_ceil(1000).max(1) as u64;
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}

/// What llama-server answers if a context does not hold a prompt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ContextExceeded {
    pub(super) prompt_tokens: u32,
    context_tokens: u32,
}

impl ContextExceeded {
    /// Reads an answer; `None` for any other one.
    pub(super) fn read(answer: &[u8]) -> Option<Self> {
        let error = serde_json::from_slice::<Value>(answer).ok()?.get("error")?.clone();
        let number = |key: &str| error.get(key)?.as_u64().and_then(|it| u32::try_from(it).ok());
        let is_it = error.get("type")?.as_str() == Some("exceed_context_size_error");
        let (prompt_tokens, context_tokens) = (number("n_prompt_tokens")?, number("n_ctx")?);
        is_it.then_some(Self { prompt_tokens, context_tokens })
    }

    /// Returns the answer with OpenAI's message and code beside the server's own, because each client knows one of
    /// them.
    pub(super) fn in_all_words(&self, answer: &[u8]) -> Vec<u8> {
        let Ok(mut whole) = serde_json::from_slice::<Value>(answer) else { return answer.to_vec() };
        let Self { prompt_tokens, context_tokens } = self;
        let error = &mut whole["error"];
        let said = error["message"].as_str().unwrap_or_default();
        let message = format!(
            "{said}. This model's maximum context length is {context_tokens} tokens. However, your \
             messages resulted in {prompt_tokens} tokens."
        );
        error["message"] = Value::from(message);
        error["code"] = Value::from(CONTEXT_LENGTH_EXCEEDED);
        whole.to_string().into_bytes()
    }
}

/// OpenAI's code for it.
const CONTEXT_LENGTH_EXCEEDED: &str = "context_length_exceeded";

/// Chosen: a client without better advice asks again in a second.
const SOON: Duration = Duration::from_secs(1);

/// Chosen: how long a restart takes, with a model to load.
const RESTART: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_context_is_read_and_said_in_everybodys_words() {
        let answer = r#"{"error":{"code":400,"message":"request (900 tokens) exceeds the available context size (512 tokens)","type":"exceed_context_size_error","n_prompt_tokens":900,"n_ctx":512}}"#;
        let read = ContextExceeded::read(answer.as_bytes()).unwrap();
        assert_eq!(read.prompt_tokens, 900);
        let error: Value = serde_json::from_slice(&read.in_all_words(answer.as_bytes())).unwrap();
        let error = &error["error"];
        assert_eq!((&error["n_ctx"], &error["n_prompt_tokens"]), (&json!(512), &json!(900)));
        assert_eq!(error["code"], "context_length_exceeded");
        for words in ["exceeds the available context size", "maximum context length is 512 tokens"]
        {
            assert!(error["message"].as_str().unwrap().contains(words), "{error}");
        }
        let other = r#"{"error":{"type":"invalid_request_error","n_prompt_tokens":9,"n_ctx":9}}"#;
        for other in ["", "{}", "[]", other] {
            assert_eq!(ContextExceeded::read(other.as_bytes()), None, "{other}");
        }
    }

    #[test]
    fn every_end_without_service_says_what_and_when_to_come_back() {
        let retry_after = Some(Duration::from_millis(1200));
        let rejected = |reason| End::Rejected { reason, retry_after, estimate: false };
        let cancelled = |by| End::Cancelled { by, retry_after: None };
        let cases = [
            (rejected(Rejection::QueueFull), 429, "queue_full", Some("2")),
            (rejected(Rejection::Deadline), 503, "deadline", Some("2")),
            (rejected(Rejection::Unservable), 400, "context_length_exceeded", None),
            (rejected(Rejection::NotLoaded), 503, "not_loaded", Some("2")),
            (rejected(Rejection::HeldElsewhere), 409, "held_elsewhere", Some("2")),
            (rejected(Rejection::UnknownTarget), 404, "model_not_found", None),
            (rejected(Rejection::ShuttingDown), 503, "shutting_down", Some("10")),
            (cancelled(CancelledBy::Shutdown), 503, "shutting_down", Some("10")),
            (cancelled(CancelledBy::DrainDeadline), 503, "switching", Some("1")),
            (End::Failed { error: String::new() }, 502, "model_failed", Some("1")),
        ];
        for (end, status, code, retry) in cases {
            let refusal = Refusal::from(&end);
            assert_eq!(refusal.body()["error"]["code"], code, "{end:?}");
            let response = refusal.into_response();
            assert_eq!(response.status().as_u16(), status, "{end:?}");
            let retry_header =
                response.headers().get(RETRY_AFTER).map(|value| value.to_str().unwrap());
            assert_eq!(retry_header, retry, "{end:?}");
        }
    }
}
