//! Work for a model: a request is queued with the controller until it may start; then its bytes are relayed unchanged
//! between its client and the model's own server, whose answer is passed on whatever it contains.

use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderName};
use axum::http::{HeaderMap, HeaderValue, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use tiershift_core::model::Task;
use tiershift_core::request::{End, Rejection, Request};
use tiershift_core::time::SpanText;

use crate::serve::http::app::App;
use crate::serve::http::clients::Peer;
use crate::serve::http::completion_body::CompletionBody;
use crate::serve::http::names::Named;
use crate::serve::http::refusal::{ContextExceeded, Refusal};
use crate::serve::http::relay::{self, Relay};
use crate::serve::message::{PendingRequest, Started};

/// The address that a request comes from, if the connection provides it.
pub(super) type Origin = Option<Extension<Peer>>;

/// What a client sends of a request besides its body.
pub(super) struct Asked {
    /// Path and query, as sent to the model's server.
    pub(super) path: String,
    pub(super) peer: Origin,
    pub(super) headers: HeaderMap,
}

impl Asked {
    pub(super) fn new(uri: &Uri, peer: Origin, headers: HeaderMap) -> Self {
        let path = uri.path_and_query().map_or(uri.path(), |it| it.as_str()).to_owned();
        Self { path, peer, headers }
    }
}

/// Forwards work. The vectors of two models cannot be compared, so a header names the model that made them.
pub(super) async fn work(
    State(app): State<Arc<App>>,
    asked: Asked,
    task: Task,
    body: Body,
) -> Response {
    if app.is_dry_run {
        return Refusal::dry_run().into_response();
    }
    let is_special = matches!(task, Task::Embedding | Task::Rerank);
    if is_special && !app.catalog.models().iter().any(|model| model.can(task)) {
        return Refusal::no_model_for(task).into_response();
    }
    pass_on(&app, &asked, task, body).await.unwrap_or_else(|refusal| {
        let is_ollamas = asked.path.starts_with("/api/");
        if is_ollamas { refusal.in_ollamas_form() } else { refusal }.into_response()
    })
}

async fn pass_on(app: &App, asked: &Asked, task: Task, body: Body) -> Result<Response, Refusal> {
    refuse_encoded(&asked.headers)?;
    let body = app.bodies.read(body).await?;
    let completion = CompletionBody::read(&body.bytes)?;
    let named = app.names.resolve(completion.model()).ok_or_else(Refusal::unknown_model)?;
    let known = (&app.catalog, &*app.token_length);
    let request = completion.request(app.next_request(), task, named.target.clone(), known);
    let peer = asked.peer.as_ref().map(|Extension(peer)| *peer);
    let patience = patience(&asked.headers)?;
    let mut request = Request {
        client: app.clients.number(completion.user(), peer),
        priority: priority(&asked.headers)?,
        patience,
        // A request with its own limit is answered when that is reached.
        connected: patience.is_none(),
        ..request
    };
    let mut too_long = None;
    loop {
        let forwarded = forward(app, asked, &body.bytes, &completion, &request).await;
        let mut response = match (forwarded, too_long.take()) {
            (Ok(Forwarded::Answer(response)), _) => response,
            // The prompt has been counted: another model may hold it, or none.
            (Ok(Forwarded::TooLong { prompt_tokens, answer }), _) => {
                let (id, prompt_estimated) = (app.next_request(), false);
                request = Request { id, prompt_tokens, prompt_estimated, ..request };
                too_long = Some(answer);
                continue;
            }
            // No other model does: then the answer of the one that counted is returned.
            (Err(Unserved { end: Some(end), .. }), Some(answer)) if no_other_holds(&end) => answer,
            (Err(Unserved { refusal, .. }), _) => return Err(refusal),
        };
        tell_unknown_name(response.headers_mut(), &named, completion.model());
        return Ok(response);
    }
}

/// A request that was not served by a model.
struct Unserved {
    /// How the controller ended it, if it did.
    end: Option<End>,
    refusal: Refusal,
}

impl<T: Into<Refusal>> From<T> for Unserved {
    fn from(refusal: T) -> Self {
        Self { end: None, refusal: refusal.into() }
    }
}

impl Unserved {
    fn ended(end: End) -> Self {
        let refusal = Refusal::from(&end);
        Self { end: Some(end), refusal }
    }
}

fn no_other_holds(end: &End) -> bool {
    let End::Rejected { reason, .. } = end else { return false };
    matches!(reason, Rejection::Unservable | Rejection::NotLoaded)
}

/// The result of a request that was sent to a model.
enum Forwarded {
    Answer(Response),
    /// The model's server has counted a prompt whose length was an estimate, and its context does not hold it.
    TooLong {
        prompt_tokens: u32,
        answer: Response,
    },
}

async fn forward(
    app: &App,
    asked: &Asked,
    bytes: &Bytes,
    completion: &CompletionBody<'_>,
    request: &Request,
) -> Result<Forwarded, Unserved> {
    let mut pending = PendingRequest::submit(&app.to, request.clone())?;
    if let Some(bytes) = completion.plain_text() {
        pending.teach(bytes, &app.token_length);
    }
    let started = pending.start().await?.map_err(Unserved::ended)?;
    let because = app.board().degraded_because(&request.target, &started.model);
    let sent = started
        .endpoint
        .post(&app.client, &asked.path)
        .header(CONTENT_TYPE, "application/json")
        .body(completion.for_endpoint(bytes, &started.endpoint))
        .send();
    let clock = relay::clock();
    let answer = tokio::select! {
        answer = sent => answer,
        end = pending.end() => return Err(Unserved::ended(end?)),
    };
    let Ok(answer) = answer else {
        pending.lost("the model server does not answer").await;
        return Err(Refusal::model_failed().into());
    };
    let relay = Relay::new(answer, pending, clock);
    let checker = (app.client.clone(), started.endpoint.clone(), request.task);
    if relay.status().is_success() {
        let mut response = relay.reply(checker).await?;
        say_what_served(response.headers_mut(), &started, because.as_deref());
        return Ok(Forwarded::Answer(response));
    }
    let (mut response, said) = relay.fault(checker).await?;
    say_what_served(response.headers_mut(), &started, because.as_deref());
    let Some(exceeded) = ContextExceeded::read(&said) else {
        return Ok(Forwarded::Answer(response));
    };
    *response.body_mut() = Body::from(exceeded.in_all_words(&said));
    Ok(if request.prompt_estimated {
        let ContextExceeded { prompt_tokens, .. } = exceeded;
        Forwarded::TooLong { prompt_tokens, answer: response }
    } else {
        Forwarded::Answer(response)
    })
}

/// Refuses a compressed body, as llama-server does.
pub(super) fn refuse_encoded(headers: &HeaderMap) -> Result<(), Refusal> {
    match headers.get(CONTENT_ENCODING) {
        Some(encoding) if !encoding.as_bytes().eq_ignore_ascii_case(b"identity") => {
            let message = "`Content-Encoding` must be left out: send the body unpacked";
            Err(Refusal::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_encoding", message))
        }
        Some(_) | None => Ok(()),
    }
}

fn priority(headers: &HeaderMap) -> Result<u8, Refusal> {
    let Some(value) = headers.get(PRIORITY) else { return Ok(0) };
    value.to_str().ok().and_then(|text| text.trim().parse().ok()).ok_or_else(|| {
        Refusal::bad_request(format!("`{PRIORITY}` must be from 0 to 255; higher goes first"))
    })
}

/// Returns how long a client lets its request wait.
fn patience(headers: &HeaderMap) -> Result<Option<Duration>, Refusal> {
    let Some(value) = headers.get(DEADLINE) else { return Ok(None) };
    let text = value.to_str().unwrap_or_default().trim();
    let in_seconds = text.parse::<u32>().ok().map(|it| Duration::from_secs(it.into()));
    let span = in_seconds.or_else(|| text.parse::<SpanText>().ok().map(Duration::from));
    span.map(Some).ok_or_else(|| {
        let what = "the longest wait for a model, such as 30s or 2m";
        Refusal::bad_request(format!("`{DEADLINE}` must be {what}"))
    })
}

fn tell_unknown_name(headers: &mut HeaderMap, named: &Named, name: Option<&str>) {
    if named.is_unknown
        && let Some(Ok(value)) = name.map(HeaderValue::from_str)
    {
        headers.insert(UNKNOWN_MODEL, value);
    }
}

pub(super) fn say_what_served(headers: &mut HeaderMap, started: &Started, because: Option<&str>) {
    let values = [
        (MODEL, Some(started.model.as_str())),
        (TIER, started.tier.as_deref()),
        (DEGRADED_BECAUSE, because),
    ];
    for (name, value) in values {
        // A name that no header can contain is left out.
        if let Some(Ok(value)) = value.map(HeaderValue::from_str) {
            headers.insert(name, value);
        }
    }
}

/// The model that served a reply, and why none better did.
const MODEL: HeaderName = HeaderName::from_static("x-tiershift-model");
const TIER: HeaderName = HeaderName::from_static("x-tiershift-tier");
const DEGRADED_BECAUSE: HeaderName = HeaderName::from_static("x-tiershift-degraded-because");

/// The requested name that is unknown here, if another model served.
const UNKNOWN_MODEL: HeaderName = HeaderName::from_static("x-tiershift-unknown-model");

/// Higher goes first.
pub(super) const PRIORITY: HeaderName = HeaderName::from_static("x-tiershift-priority");

/// How long the request may wait for a model.
pub(super) const DEADLINE: HeaderName = HeaderName::from_static("x-tiershift-deadline");
