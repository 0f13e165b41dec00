//! The HTTP side. It sends messages to the controller's
//! thread, reads the board, and decides nothing.

pub(super) mod access;
mod completion_body;
mod completions;
pub(super) mod connections;
mod events;
mod page;
pub(super) mod refusal;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::Sender;
use std::sync::{Arc, MutexGuard};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router, middleware};
use http_body_util::BodyExt;
use hyper::body::Body as _;
use serde::Deserialize;
use serde_json::{Value, json};
use tiershift_core::catalog::Catalog;
use tiershift_core::request::RequestId;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::serve::board::{Board, SharedBoard};
use crate::serve::http::access::AccessPolicy;
use crate::serve::http::refusal::Refusal;
use crate::serve::message::{Gone, Message};

/// What every handler needs.
pub(super) struct App {
    pub(super) to: Sender<Message>,
    pub(super) catalog: Catalog,
    pub(super) client: reqwest::Client,
    /// What bodies may still take, in bytes.
    bodies: Arc<Semaphore>,
    /// Pages that may still be opened.
    pub(super) watchers: Arc<Semaphore>,
    board: SharedBoard,
    next_id: AtomicU64,
}

impl App {
    pub(super) fn new(
        to: Sender<Message>,
        catalog: Catalog,
        client: reqwest::Client,
        board: SharedBoard,
    ) -> Self {
        let bodies = Arc::new(Semaphore::new(MOST_BODIES));
        let watchers = Arc::new(Semaphore::new(MOST_WATCHERS));
        Self { to, catalog, client, bodies, watchers, board, next_id: AtomicU64::new(0) }
    }

    pub(super) fn next_request(&self) -> RequestId {
        RequestId(self.next_id.fetch_add(1, Ordering::Relaxed))
    }

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
            let more = Arc::clone(&self.bodies).try_acquire_many_owned(count);
            let more = more.map_err(|_| Refusal::busy())?;
            match &mut room {
                Some(room) => room.merge(more),
                None => room = Some(more),
            }
            bytes.extend_from_slice(&data);
        }
        Ok(BufferedBody { bytes: bytes.into(), _room: room })
    }

    pub(super) fn board(&self) -> MutexGuard<'_, Board> {
        self.board.lock()
    }
}

/// A body, and the room that it takes.
pub(super) struct BufferedBody {
    pub(super) bytes: Bytes,
    _room: Option<OwnedSemaphorePermit>,
}

/// Returns what answers whom the door lets in.
pub(super) fn router(app: Arc<App>, door: AccessPolicy) -> Router {
    Router::new()
        .route("/v1/chat/completions", post(completions::chat))
        .route("/v1/completions", post(completions::text))
        .route("/v1/embeddings", post(completions::embeddings))
        .route("/v1/models", get(models))
        .route("/v1/models/{*id}", get(model))
        .route("/", get(page::html))
        .route("/page.css", get(page::css))
        .route("/page.js", get(page::js))
        .route("/events", get(events::events))
        .route("/metrics", get(metrics))
        .route("/status", get(status))
        .route("/healthz", get(healthz))
        .route("/switch", post(switch))
        .fallback(|uri: Uri| async move { not_found(&uri) })
        .method_not_allowed_fallback(|method: Method, uri: Uri| async move {
            let message = format!("{} takes no {method}", uri.path());
            Refusal::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", message)
        })
        .layer(middleware::from_fn_with_state(Arc::new(door), access::let_in))
        .with_state(app)
}

fn not_found(uri: &Uri) -> Refusal {
    Refusal::new(StatusCode::NOT_FOUND, "not_found", format!("there is no {}", uri.path()))
}

async fn models(State(app): State<Arc<App>>) -> Json<Value> {
    Json(json!({"object": "list", "data": entries(&app)}))
}

/// One of them. A server's name for a model may have slashes in it.
async fn model(
    State(app): State<Arc<App>>,
    id: Result<Path<String>, PathRejection>,
) -> Result<Json<Value>, Refusal> {
    let unknown = || Refusal::unknown_model();
    let Path(id) = id.map_err(|_| unknown())?;
    entries(&app).into_iter().find(|entry| entry["id"] == id).map(Json).ok_or_else(unknown)
}

/// Returns what there is to be asked for: whatever serves, and each model.
fn entries(app: &App) -> Vec<Value> {
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
    std::iter::once(auto).chain(each).collect()
}

async fn status(State(app): State<Arc<App>>) -> Result<Response, Refusal> {
    let status = serde_json::to_vec(&app.board().status()).map_err(|error| {
        Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, "status", error.to_string())
    })?;
    Ok(([(CONTENT_TYPE, "application/json")], status).into_response())
}

async fn metrics(State(app): State<Arc<App>>) -> Response {
    ([(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], app.board().metrics())
        .into_response()
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
    let Switch { tier } = serde_json::from_slice(&body.bytes)
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

/// Chosen: as llama.cpp's own pages and most proxies.
const LONGEST_BODY: usize = 10 << 20;

/// Chosen: programs of this machine send a body in milliseconds.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);

/// Chosen: what all bodies that are being read or wait for a model may take of the memory that models are for.
const MOST_BODIES: usize = 128 << 20;

/// Chosen: a person has a few pages open, and each is sent a kilobyte or two four times a second at most.
const MOST_WATCHERS: usize = 32;
