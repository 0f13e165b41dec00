//! The HTTP side. It sends messages to the controller's thread, reads the board, and decides nothing.

pub(super) mod access;
pub(super) mod app;
mod body;
mod clients;
mod completion_body;
mod completions;
pub(super) mod connections;
mod events;
mod page;
mod refusal;

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router, middleware};
use serde::Deserialize;
use serde_json::{Value, json};
use tiershift_core::event::OrderNews;
use tiershift_core::text;
use tiershift_core::time::SpanText;
use tokio::sync::oneshot;

use crate::serve::http::access::AccessPolicy;
use crate::serve::http::app::App;
use crate::serve::http::refusal::Refusal;
use crate::serve::message::{Gone, Message, Order};

/// Returns what answers the requests that `access` lets in.
pub(super) fn router(app: Arc<App>, access: AccessPolicy) -> Router {
    Router::new()
        .route("/v1/chat/completions", post(completions::chat))
        .route("/v1/completions", post(completions::text))
        .route("/v1/embeddings", post(completions::embeddings))
        .route("/v1/rerank", post(completions::rerank))
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
        .layer(middleware::from_fn_with_state(Arc::new(access), access::let_in))
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
    let companions = app.board().companions();
    let each = app.catalog.models().iter().map(|model| {
        let is_primary = app.catalog.primary(serving).is_some_and(|it| it.id == model.id);
        let tier = (!model.companion).then_some(model.tier.as_str());
        let serves_beside = companions.iter().any(|it| it.serves && it.model == model.id);
        entry(model.id.as_str(), tier, is_primary || serves_beside)
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

/// The daemon is there. `/status` says whether a model is.
async fn healthz() -> Json<Value> {
    Json(json!({"status": "ok"}))
}

/// The body of `POST /switch`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Switch {
    tier: String,
    #[serde(default, rename = "for")]
    for_: Option<SpanText>,
}

/// Orders a tier, which holds until its time is over or somebody says `auto`; or refuses, with the time to ask again.
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
    let body = app.bodies.read(body).await?;
    let Switch { tier, for_ } = serde_json::from_slice(&body.bytes).map_err(|_| {
        let form = "the body must be {\"tier\": \"..\"}, or {\"tier\": \"..\", \"for\": \"2h\"}";
        Refusal::bad_request(form)
    })?;
    if tier != "none" && tier != "auto" && app.catalog.rung_of_tier(&tier).is_none() {
        let known: Vec<&str> =
            app.catalog.rungs_up().map(|rung| app.catalog.tier_name(rung)).collect();
        let message = format!("no such tier; there are auto, none, {}", known.join(", "));
        return Err(Refusal::new(StatusCode::NOT_FOUND, "tier_not_found", message));
    }
    let (answer, answered) = oneshot::channel();
    let for_ = for_.map(Duration::from);
    app.to.send(Message::Switch(Order { tier: tier.clone(), for_, answer })).map_err(|_| Gone)?;
    match answered.await.map_err(|_| Gone)? {
        OrderNews::Taken { wait, .. } => {
            let answer = json!({
                "asked": tier,
                "follows_in_seconds": wait.unwrap_or_default().as_secs_f64(),
                "holds_for_seconds": for_.map(|span| span.as_secs_f64()),
                "holds": match for_ {
                    Some(span) => format!("for {}", text::span(span)),
                    None => "until {\"tier\": \"auto\"}".to_owned(),
                },
            });
            Ok((StatusCode::ACCEPTED, Json(answer)))
        }
        OrderNews::Released => Ok((StatusCode::OK, Json(json!({"asked": tier})))),
        OrderNews::Refused { reason, retry_after } => {
            let why = text::reason(&reason, &app.catalog);
            Err(Refusal::order(&format!("{tier} is not gone to: {why}"), retry_after))
        }
        OrderNews::Unknown => Err(Refusal::unknown_model()),
    }
}
