//! The HTTP side: on loopback only, for programs of this machine only. It sends messages to the controller's
//! thread, reads the board, and decides nothing.

use std::future::Future;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::header::{CONTENT_TYPE, HOST, ORIGIN};
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

use crate::catalog::Catalog;
use crate::live::board::Board;
use crate::live::completions;
use crate::live::message::{Gone, Message};
use crate::live::refusal::Refusal;
use crate::request::RequestId;

/// What every handler needs.
pub(super) struct App {
    pub(super) to: Sender<Message>,
    pub(super) catalog: Catalog,
    pub(super) client: reqwest::Client,
    /// Completions that may be under way or wait at once.
    pub(super) places: Arc<Semaphore>,
    board: Arc<Mutex<Board>>,
    next_id: AtomicU64,
}

impl App {
    pub(super) fn new(
        to: Sender<Message>,
        catalog: Catalog,
        client: reqwest::Client,
        board: Arc<Mutex<Board>>,
    ) -> Self {
        let places = Arc::new(Semaphore::new(MOST_CLIENTS));
        Self { to, catalog, client, places, board, next_id: AtomicU64::new(0) }
    }

    pub(super) fn next_request(&self) -> RequestId {
        RequestId(self.next_id.fetch_add(1, Ordering::Relaxed))
    }

    /// Reads a body to its end, if it is neither too long nor too slow.
    pub(super) async fn read(&self, body: Body) -> Result<Bytes, Refusal> {
        let read = tokio::time::timeout(BODY_TIMEOUT, axum::body::to_bytes(body, LONGEST_BODY));
        let too_slow = |_| {
            Refusal::new(StatusCode::REQUEST_TIMEOUT, "body_timeout", "the body came too slowly")
        };
        let too_long = |_| {
            let message = format!("a body has at most {LONGEST_BODY} bytes");
            Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", message)
        };
        read.await.map_err(too_slow)?.map_err(too_long)
    }

    pub(super) fn board(&self) -> MutexGuard<'_, Board> {
        self.board.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Serves until `stop`, and then finishes what is under way.
pub(super) async fn serve(
    listener: TcpListener,
    app: Arc<App>,
    stop: impl Future<Output = ()> + Send + 'static,
) -> std::io::Result<()> {
    axum::serve(listener, router(app)).with_graceful_shutdown(stop).await
}

fn router(app: Arc<App>) -> Router {
    Router::new()
        .route("/v1/chat/completions", post(completions::chat))
        .route("/v1/completions", post(completions::text))
        .route("/v1/embeddings", post(completions::embeddings))
        .route("/v1/models", get(models))
        .route("/status", get(status))
        .route("/healthz", get(healthz))
        .route("/switch", post(switch))
        .fallback(|uri: Uri| async move { not_found(&uri) })
        .layer(middleware::from_fn(only_this_machine))
        .with_state(app)
}

fn not_found(uri: &Uri) -> Refusal {
    Refusal::new(StatusCode::NOT_FOUND, "not_found", format!("there is no {}", uri.path()))
}

async fn models(State(app): State<Arc<App>>) -> Json<Value> {
    let serving = app.board().serving();
    let entry = |id: &str, tier: Option<&str>, serves: bool| {
        json!({
            "id": id, "object": "model", "created": 0, "owned_by": "tiershift",
            "tiershift": {"tier": tier, "serves": serves},
        })
    };
    let auto = entry("auto", None, app.catalog.primary(serving).is_some());
    let each = app.catalog.models().iter().map(|model| {
        let is_primary = app.catalog.primary(serving).is_some_and(|it| it.id == model.id);
        entry(model.id.as_str(), Some(&model.tier), is_primary)
    });
    let data: Vec<Value> = std::iter::once(auto).chain(each).collect();
    Json(json!({"object": "list", "data": data}))
}

async fn status(State(app): State<Arc<App>>) -> Result<Response, Refusal> {
    let status = serde_json::to_vec(&app.board().status()).map_err(|error| {
        Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, "status", error.to_string())
    })?;
    Ok(([(CONTENT_TYPE, "application/json")], status).into_response())
}

/// The daemon is there. Whether a model is, `/status` tells.
async fn healthz() -> Json<Value> {
    Json(json!({"status": "ok"}))
}

/// The body of `POST /switch`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Switch {
    tier: String,
}

/// Asks for a tier. The controller decides whether it fits; later decisions are the scaler's again.
async fn switch(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    body: Body,
) -> Result<(StatusCode, Json<Value>), Refusal> {
    // A web page can send a form past the browser's checks, but no JSON.
    if !headers
        .get(CONTENT_TYPE)
        .is_some_and(|kind| kind.as_bytes().starts_with(b"application/json"))
    {
        return Err(Refusal::bad_request("the content type must be application/json"));
    }
    let body = app.read(body).await?;
    let Switch { tier } = serde_json::from_slice(&body)
        .map_err(|_| Refusal::bad_request("the body must be {\"tier\": \"..\"}"))?;
    if tier != "none" && app.catalog.rung_of_tier(&tier).is_none() {
        let known: Vec<&str> =
            app.catalog.rungs_up().map(|rung| app.catalog.tier_name(rung)).collect();
        let message = format!("no such tier; there are none, {}", known.join(", "));
        return Err(Refusal::new(StatusCode::NOT_FOUND, "tier_not_found", message));
    }
    app.to.send(Message::Switch(tier.clone())).map_err(|_| Gone)?;
    Ok((StatusCode::ACCEPTED, Json(json!({"asked": tier}))))
}

/// Lets in what names this machine: a page from elsewhere whose name was pointed at it does not.
async fn only_this_machine(request: Request, next: Next) -> Response {
    let headers = request.headers();
    // HTTP/1.1 has a Host always.
    let host = headers.get(HOST).and_then(|host| host.to_str().ok());
    let origin = headers.get(ORIGIN).map(|origin| origin.to_str().unwrap_or_default());
    let is_near = host.is_some_and(names_loopback)
        && origin.is_none_or(|origin| {
            origin.split_once("://").is_some_and(|(_, host)| names_loopback(host))
        });
    if is_near {
        return next.run(request).await;
    }
    let message = "this daemon answers programs of its own machine, by 127.0.0.1 or localhost";
    Refusal::new(StatusCode::FORBIDDEN, "foreign_host", message).into_response()
}

/// Returns whether `host`, with or without a port, is this machine's own name for itself.
fn names_loopback(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => match rest.split_once(']') {
            Some((name, port)) if port.is_empty() || port.starts_with(':') => name,
            Some(_) | None => return false,
        },
        None => host.split_once(':').map_or(host, |(name, _)| name),
    };
    name.eq_ignore_ascii_case("localhost")
        || name.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// Chosen: as llama.cpp's own pages and most proxies.
const LONGEST_BODY: usize = 10 << 20;

/// Chosen: programs of this machine send a body in milliseconds.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);

/// Chosen: sixteen times what waits by default, and few enough for the memory of their bodies.
const MOST_CLIENTS: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_loopback_names_are_let_in() {
        for host in ["localhost", "LOCALHOST:1", "127.0.0.1:8484", "127.8.8.8", "[::1]:80", "[::1]"]
        {
            assert!(names_loopback(host), "{host}");
        }
        for host in
            ["", "evil.example", "localhost.evil.example", "10.0.0.1", "[::1", "[::1]x", "[::2]:1"]
        {
            assert!(!names_loopback(host), "{host}");
        }
    }
}
