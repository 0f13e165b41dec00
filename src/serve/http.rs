//! The HTTP side. It sends messages to the controller's thread, reads the board, and decides nothing.

pub(super) mod access;
pub(super) mod app;
mod aside;
mod body;
mod clients;
mod completion_body;
mod completions;
pub(super) mod connections;
mod events;
mod models;
pub(super) mod names;
mod page;
mod paths;
pub(super) mod refusal;
mod relay;

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get, post};
use axum::{Json, Router, middleware};
use serde::Deserialize;
use serde_json::{Value, json};
use tiershift_core::event::OrderNews;
use tiershift_core::text;
use tiershift_core::time::SpanText;
use tokio::sync::oneshot;

use crate::serve::http::access::AccessPolicy;
use crate::serve::http::app::App;
use crate::serve::http::completions::{Asked, Origin};
use crate::serve::http::paths::{How, PASSED, What};
use crate::serve::http::refusal::Refusal;
use crate::serve::message::{Gone, Message, Order};

/// Returns the router for the requests that `access` allows.
pub(super) fn router(app: Arc<App>, access: AccessPolicy) -> Router {
    let is_ollama = app.is_ollama;
    let mut router = Router::new();
    for passed in PASSED.iter().filter(|passed| is_ollama || !passed.of_ollama) {
        router = router.route(passed.path, passed_on(passed.how));
    }
    router
        .route("/v1/models", get(models::list))
        .route("/models", get(models::list))
        .route("/v1/models/{*id}", get(models::one))
        .route("/models/{*id}", get(models::one))
        .route("/", get(page::html))
        .route("/page.css", get(page::css))
        .route("/page.js", get(page::js))
        .route("/events", get(events::events))
        .route("/metrics", get(metrics))
        .route("/status", get(status))
        .route("/healthz", get(healthz))
        .route("/health", get(healthz))
        .route("/v1/health", get(healthz))
        .route("/switch", post(switch))
        .fallback(move |uri: Uri| async move { paths::not_found(uri.path(), is_ollama) })
        .method_not_allowed_fallback(|method: Method, uri: Uri| async move {
            paths::not_allowed(&method, uri.path())
        })
        .layer(middleware::from_fn_with_state(Arc::new(access), access::let_in))
        .with_state(app)
}

/// Returns the handler that forwards a path.
fn passed_on(how: How) -> MethodRouter<Arc<App>> {
    match how {
        How::Work(task) => post(
            move |app: State<Arc<App>>, peer: Origin, uri: Uri, headers: HeaderMap, body: Body| {
                completions::work(app, Asked::new(&uri, peer, headers), task, body)
            },
        ),
        How::Aside(what) => {
            let ask = |app: State<Arc<App>>,
                       peer: Origin,
                       method: Method,
                       uri: Uri,
                       headers: HeaderMap,
                       body: Body| {
                aside::ask(app, Asked::new(&uri, peer, headers), method, body)
            };
            match what {
                What::Posted => post(ask),
                What::Read => get(ask),
            }
        }
    }
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

/// The daemon is up. `/status` reports whether a model is.
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

/// Orders a tier, which holds until its time is over or `auto` is ordered; or refuses, with the time to ask again.
async fn switch(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    body: Body,
) -> Result<(StatusCode, Json<Value>), Refusal> {
    // A web page can send a form past the browser's checks, but not JSON.
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
            Err(Refusal::order(&format!("the order for {tier} is refused: {why}"), retry_after))
        }
        OrderNews::Unknown => Err(Refusal::unknown_model()),
    }
}
