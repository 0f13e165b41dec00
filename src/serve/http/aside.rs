//! Queries about a model that take no slot of it: how a text is split into tokens, or what it was started with. The
//! serving model answers them beside running requests; while none serves, they wait for a model like work does.

use std::sync::Arc;

use axum::Extension;
use axum::body::Body;
use axum::extract::State;
use axum::http::Method;
use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use tiershift_core::model::ModelId;
use tiershift_core::request::{Request, Target};
use tokio::sync::oneshot;

use crate::backend::endpoint::Endpoint;
use crate::serve::http::app::App;
use crate::serve::http::completion_body::CompletionBody;
use crate::serve::http::completions::{Asked, refuse_encoded, say_what_served};
use crate::serve::http::refusal::Refusal;
use crate::serve::http::relay::passed_headers;
use crate::serve::message::{Gone, Message, PendingRequest, Started};

/// Forwards a query.
pub(super) async fn ask(
    State(app): State<Arc<App>>,
    asked: Asked,
    method: Method,
    body: Body,
) -> Response {
    pass_on(&app, &asked, method, body).await.unwrap_or_else(|refusal| {
        let is_ollamas = asked.path.starts_with("/api/");
        if is_ollamas { refusal.in_ollamas_form() } else { refusal }.into_response()
    })
}

async fn pass_on(
    app: &App,
    asked: &Asked,
    method: Method,
    body: Body,
) -> Result<Response, Refusal> {
    if method != Method::POST {
        let to = whom_to_ask(app, &Target::Auto, asked).await?;
        // A HEAD request is answered from the GET by its handler.
        let request = to.endpoint.request(&app.client, Method::GET, &asked.path);
        return relay(request, &to).await;
    }
    refuse_encoded(&asked.headers)?;
    let body = app.bodies.read(body).await?;
    let completion = CompletionBody::read(&body.bytes)?;
    let named = app.names.resolve(completion.model()).ok_or_else(Refusal::unknown_model)?;
    let to = whom_to_ask(app, &named.target, asked).await?;
    let request = to
        .endpoint
        .post(&app.client, &asked.path)
        .header(CONTENT_TYPE, "application/json")
        .body(completion.for_endpoint(&body.bytes, &to.endpoint));
    relay(request, &to).await
}

/// Returns the model that was named, if it is loaded; else the one that serves; else waits for one.
async fn whom_to_ask(app: &App, target: &Target, asked: &Asked) -> Result<Started, Refusal> {
    let named = match target {
        Target::Model(id) => Some(id.clone()),
        Target::Auto | Target::Tier(_) => None,
    };
    let serving = app.board().serving_model();
    for model in named.into_iter().map(Some).chain([serving]) {
        if let Some(endpoint) = endpoint(app, model.clone()).await? {
            let model = model.unwrap_or_else(|| ModelId::from(""));
            return Ok(Started { endpoint, model, tier: None });
        }
    }
    let request = Request {
        prompt_estimated: true,
        connected: true,
        client: app.clients.number(None, asked.peer.as_ref().map(|Extension(peer)| *peer)),
        ..Request::chat(app.next_request().0, 1, 0)
    };
    let mut pending = PendingRequest::submit(&app.to, request)?;
    let started = pending.start().await?.map_err(|end| Refusal::from(&end))?;
    // It gives its slot back at once, and says nothing about the model's speed.
    pending.refused();
    Ok(started)
}

async fn endpoint(app: &App, model: Option<ModelId>) -> Result<Option<Endpoint>, Gone> {
    let (answer, answered) = oneshot::channel();
    app.to.send(Message::Endpoint(model, answer)).map_err(|_| Gone)?;
    answered.await.map_err(|_| Gone)
}

async fn relay(request: reqwest::RequestBuilder, to: &Started) -> Result<Response, Refusal> {
    let answer = request.send().await.map_err(|_| Refusal::model_failed())?;
    let (status, mut headers) = (answer.status(), passed_headers(answer.headers()));
    if let Some(length) = answer.headers().get(CONTENT_LENGTH) {
        headers.insert(CONTENT_LENGTH, length.clone());
    }
    let body = Body::from_stream(answer.bytes_stream());
    let mut response = (status, headers, body).into_response();
    if !to.model.as_str().is_empty() {
        say_what_served(response.headers_mut(), to, None);
    }
    Ok(response)
}
