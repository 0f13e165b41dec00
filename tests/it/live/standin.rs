//! Stand-ins for model servers that cannot be installed here, written from their documentation and code. They answer as these
//! servers do; behind each loaded model is a real llama-server, which generates.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use futures_util::StreamExt;
use serde_json::{Value, json};
use tiershift::backend::remote::server::Kind;
use tiershift_testkit::wait::POLL;
use tokio::net::TcpListener;
use tokio::process::{Child, Command};
use tokio::runtime::Runtime;

/// A stand-in. On drop it ends with its models.
pub(super) struct StandIn {
    state: Arc<Inside>,
    pub(super) port: u16,
    /// Its own runtime, so that its end also ends its connections.
    runtime: Option<Runtime>,
}

pub(super) struct Inside {
    kind: Kind,
    engine: PathBuf,
    models: PathBuf,
    client: reqwest::Client,
    running: Mutex<BTreeMap<String, Instance>>,
    fault: Mutex<Fault>,
}

/// The fault of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    None,
    /// It accepts connections, and never answers.
    Hangs,
    /// It answers everything with 500.
    Breaks,
    /// It loads no more models.
    Full,
}

struct Instance {
    child: Child,
    port: u16,
    in_flight: u32,
    is_leaving: bool,
    keep_alive: i64,
}

impl StandIn {
    pub(super) fn start(kind: Kind, engine: PathBuf, models: PathBuf) -> Self {
        let runtime = Runtime::new().unwrap();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let port = listener.local_addr().unwrap().port();
        let state = Arc::new(Inside {
            kind,
            engine,
            models,
            client: reqwest::Client::builder().no_proxy().build().unwrap(),
            running: Mutex::default(),
            fault: Mutex::new(Fault::None),
        });
        if kind == Kind::Plain {
            runtime.block_on(state.bring_up("a")).unwrap();
        }
        let app = Router::new().fallback(answer).with_state(Arc::clone(&state));
        runtime.spawn(async move { axum::serve(listener, app).await.unwrap() });
        Self { state, port, runtime: Some(runtime) }
    }

    pub(super) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Ends it like a kill.
    pub(super) fn end(&mut self) {
        self.runtime.take().expect("it ends once").shutdown_background();
    }

    pub(super) fn break_by(&self, fault: Fault) {
        *self.state.fault.lock().unwrap() = fault;
    }

    /// Ends a model's process like a crash.
    pub(super) fn crash(&self, model: &str) {
        self.state.running.lock().unwrap().remove(model).expect("it runs");
    }

    /// Returns how long a model stays loaded according to the last request.
    pub(super) fn keep_alive(&self, model: &str) -> i64 {
        self.state.running.lock().unwrap()[model].keep_alive
    }
}

impl Inside {
    fn names(&self) -> Vec<(String, u64)> {
        let entries = std::fs::read_dir(&self.models).unwrap().flatten();
        let mut names: Vec<(String, u64)> = entries
            .map(|entry| {
                let name = entry.file_name().into_string().unwrap();
                (name.trim_end_matches(".gguf").to_owned(), entry.metadata().unwrap().len())
            })
            .collect();
        names.sort();
        names
    }

    /// Starts a model's process and waits until it is ready.
    async fn bring_up(&self, model: &str) -> Result<(), StatusCode> {
        if !self.names().iter().any(|(name, _)| name == model) {
            return Err(StatusCode::NOT_FOUND);
        }
        if *self.fault.lock().unwrap() == Fault::Full {
            return Err(StatusCode::SERVICE_UNAVAILABLE);
        }
        if self.running.lock().unwrap().contains_key(model) {
            return Ok(());
        }
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut child = Command::new(&self.engine)
            .arg("--model")
            .arg(self.models.join(format!("{model}.gguf")))
            .args(["--host", "127.0.0.1", "--port", &port.to_string(), "-c", "4096", "-np", "2"])
            .args(["--load-mode", "none"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let url = format!("http://127.0.0.1:{port}/health");
        loop {
            let answer = self.client.get(&url).send().await;
            if answer.is_ok_and(|answer| answer.status().is_success()) {
                break;
            }
            if child.try_wait().unwrap().is_some() {
                return Err(StatusCode::INTERNAL_SERVER_ERROR);
            }
            tokio::time::sleep(POLL).await;
        }
        let instance = Instance { child, port, in_flight: 0, is_leaving: false, keep_alive: -1 };
        self.running.lock().unwrap().insert(model.to_owned(), instance);
        Ok(())
    }

    fn take_down(&self, model: &str) -> bool {
        // Killed on drop.
        self.running.lock().unwrap().remove(model).is_some_and(|it| it.child.id().is_some())
    }

    /// Forwards a request to its model, where it is in flight until the last byte.
    async fn pass_on(self: Arc<Self>, path: &str, body: Bytes) -> Response {
        let asked: Value = serde_json::from_slice(&body).unwrap_or_default();
        let model = asked["model"].as_str().unwrap_or_default().to_owned();
        let port = match self.running.lock().unwrap().get_mut(&model) {
            Some(instance) => {
                instance.in_flight += 1;
                instance.port
            }
            None => return (StatusCode::NOT_FOUND, "no such model is loaded").into_response(),
        };
        let url = format!("http://127.0.0.1:{port}{path}");
        let sent = self.client.post(url).header("content-type", "application/json").body(body);
        let answer = sent.send().await;
        let done = Leave(Arc::clone(&self), model);
        let Ok(answer) = answer else { return StatusCode::BAD_GATEWAY.into_response() };
        let (status, kind) = (answer.status(), answer.headers()["content-type"].clone());
        let bytes = answer.bytes_stream().inspect(move |_| {
            let _held = &done;
        });
        (status, [("content-type", kind)], Body::from_stream(bytes)).into_response()
    }
}

impl Drop for StandIn {
    fn drop(&mut self) {
        self.state.running.lock().unwrap().clear();
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// A request in flight.
struct Leave(Arc<Inside>, String);

impl Drop for Leave {
    fn drop(&mut self) {
        let mut running = self.0.running.lock().unwrap();
        if let Some(instance) = running.get_mut(&self.1) {
            instance.in_flight -= 1;
            if instance.is_leaving && instance.in_flight == 0 {
                running.remove(&self.1);
            }
        }
    }
}

async fn answer(
    State(inside): State<Arc<Inside>>,
    method: Method,
    uri: Uri,
    body: Bytes,
) -> Response {
    let fault = *inside.fault.lock().unwrap();
    match fault {
        Fault::Hangs => std::future::pending().await,
        Fault::Breaks => return StatusCode::INTERNAL_SERVER_ERROR.into_response(),
        Fault::None | Fault::Full => {}
    }
    let path = uri.path();
    if path.starts_with("/v1/") && method == Method::POST {
        return Arc::clone(&inside).pass_on(path, body).await;
    }
    let asked: Value = serde_json::from_slice(&body).unwrap_or_default();
    match inside.kind {
        Kind::Ollama => ollama(&inside, path, &asked).await,
        Kind::LmStudio => lm_studio(&inside, &method, path, &asked).await,
        Kind::LlamaSwap => llama_swap(&inside, path).await,
        Kind::Plain | Kind::LlamaServer | Kind::Router => match path {
            "/v1/models" => list(&inside, |name, _| json!({"id": name, "object": "model"}), "data"),
            _ => StatusCode::NOT_FOUND.into_response(),
        },
    }
}

fn list(inside: &Inside, entry: impl Fn(&str, u64) -> Value, key: &str) -> Response {
    let of_all: Vec<Value> = inside.names().iter().map(|(name, size)| entry(name, *size)).collect();
    axum::Json(json!({key: of_all})).into_response()
}

fn refuse(status: StatusCode) -> Response {
    let error = json!({"error": format!("refused: {status}")});
    (status, axum::Json(error)).into_response()
}

async fn ollama(inside: &Inside, path: &str, asked: &Value) -> Response {
    match path {
        "/" => "Ollama is running".into_response(),
        "/api/version" => axum::Json(json!({"version": "0.5.1"})).into_response(),
        "/api/tags" => list(
            inside,
            |name, size| json!({"name": name, "model": name, "size": size, "digest": "", "details": {}}),
            "models",
        ),
        "/api/ps" => {
            let running = inside.running.lock().unwrap();
            let entry = |(name, it): (&String, &Instance)| {
                let year = if it.keep_alive < 0 { 2318 } else { 2026 };
                json!({"name": name, "model": name, "size": 30_000_000, "size_vram": 0,
                    "expires_at": format!("{year}-06-04T14:38:31.83753-07:00"), "context_length": 4096})
            };
            axum::Json(json!({"models": running.iter().map(entry).collect::<Vec<_>>()}))
                .into_response()
        }
        "/api/generate" => {
            let model = asked["model"].as_str().unwrap_or_default();
            let keep_alive = asked["keep_alive"].as_i64().unwrap_or(300);
            if keep_alive != 0
                && let Err(status) = inside.bring_up(model).await
            {
                return refuse(status);
            }
            let mut running = inside.running.lock().unwrap();
            if let Some(instance) = running.get_mut(model) {
                instance.keep_alive = keep_alive;
                instance.is_leaving = keep_alive == 0;
                if instance.is_leaving && instance.in_flight == 0 {
                    running.remove(model);
                }
            }
            let reason = if keep_alive == 0 { "unload" } else { "load" };
            axum::Json(json!({"model": model, "response": "", "done": true, "done_reason": reason}))
                .into_response()
        }
        _ => StatusCode::NOT_FOUND.into_response(),
    }
}

async fn lm_studio(inside: &Inside, method: &Method, path: &str, asked: &Value) -> Response {
    match (method.as_str(), path) {
        ("GET", "/api/v1/models") => {
            let loaded: Vec<String> = inside.running.lock().unwrap().keys().cloned().collect();
            let entry = |name: &str, size: u64| {
                let is_loaded = loaded.iter().any(|it| it == name);
                let instances =
                    if is_loaded { json!([{"id": name, "config": {}}]) } else { json!([]) };
                json!({"type": "llm", "key": name, "size_bytes": size, "loaded_instances": instances})
            };
            list(inside, entry, "models")
        }
        ("POST", "/api/v1/models/load") => {
            let model = asked["model"].as_str().unwrap_or_default();
            match inside.bring_up(model).await {
                Ok(()) => axum::Json(json!({"type": "llm", "instance_id": model,
                    "load_time_seconds": 0.1, "status": "loaded"}))
                .into_response(),
                Err(status) => refuse(status),
            }
        }
        ("POST", "/api/v1/models/unload") => {
            inside.take_down(asked["instance_id"].as_str().unwrap_or_default());
            axum::Json(json!({"instance_id": asked["instance_id"]})).into_response()
        }
        // As reported in its bug tracker: status 200.
        _ => axum::Json(
            json!({"error": format!("Unexpected endpoint or method. ({method} {path})")}),
        )
        .into_response(),
    }
}

async fn llama_swap(inside: &Inside, path: &str) -> Response {
    if let Some(model) = path.strip_prefix("/upstream/").and_then(|it| it.strip_suffix("/health")) {
        return match inside.bring_up(model).await {
            Ok(()) => axum::Json(json!({"status": "ok"})).into_response(),
            Err(status) => refuse(status),
        };
    }
    if let Some(model) = path.strip_prefix("/api/models/unload/") {
        let known = inside.names().iter().any(|(name, _)| name == model);
        inside.take_down(model);
        return if known { "OK".into_response() } else { refuse(StatusCode::NOT_FOUND) };
    }
    match path {
        "/running" => {
            let running = inside.running.lock().unwrap();
            let entry = |(name, it): (&String, &Instance)| {
                json!({"model": name, "state": "ready", "cmd": "llama-server", "ttl": 0,
                    "proxy": format!("http://127.0.0.1:{}", it.port)})
            };
            axum::Json(json!({"running": running.iter().map(entry).collect::<Vec<_>>()}))
                .into_response()
        }
        "/v1/models" => list(
            inside,
            |name, _| json!({"id": name, "object": "model", "owned_by": "llama-swap"}),
            "data",
        ),
        "/api/version" => axum::Json(json!({"version": "1", "commit": "0bdb3720"})).into_response(),
        _ => StatusCode::NOT_FOUND.into_response(),
    }
}
