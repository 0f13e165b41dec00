//! llama-server in router mode, the real one: its behaviours that a manager must know, and a daemon that runs on it.

use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use serde_json::Value;
use tiershift::probe::clock::SystemClock;
use tiershift_core::time::{Clock, Timestamp};

use crate::live::daemon::{Connection, Daemon, PATIENCE, POLICY, POLL, chat, engine, json, signal};
use crate::live::gguf;
use crate::support::run_in;

/// A router. Dropped, it is killed with its models.
pub(super) struct Router {
    pub(super) child: Child,
    pub(super) port: u16,
}

impl Router {
    /// Starts a router for a folder's models.
    pub(super) fn start(engine: &Path, models: &Path, options: &[&str]) -> Self {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let child = Command::new(engine)
            .args(["--models-dir", models.to_str().unwrap(), "--host", "127.0.0.1", "--port"])
            .arg(port.to_string())
            .args(["--no-models-autoload", "-c", "2048", "-np", "2", "--slots"])
            .args(["--load-mode", "none"])
            .args(options)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let router = Self { child, port };
        poll("the router", || router.try_get("/health").contains(" 200 "));
        router
    }

    pub(super) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    fn try_get(&self, path: &str) -> String {
        let head = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        Connection::open(self.port, &head).map(Connection::rest).unwrap_or_default()
    }

    pub(super) fn get(&self, path: &str) -> Value {
        json(&self.try_get(path))
    }

    pub(super) fn send_post(&self, path: &str, body: &str) -> Connection {
        let length = body.len();
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}"
        );
        Connection::open(self.port, &head).unwrap()
    }

    /// Returns a model's state, and the port of its process.
    pub(super) fn model(&self, name: &str) -> (String, Option<u16>) {
        let list = self.get("/models");
        let model = list["data"].as_array().unwrap().iter().find(|it| it["id"] == name).unwrap();
        let status = &model["status"];
        let arguments: Vec<&str> =
            status["args"].as_array().unwrap().iter().map(|it| it.as_str().unwrap()).collect();
        let place = arguments.iter().position(|it| *it == "--port");
        let port = place.and_then(|place| arguments[place + 1].parse().ok());
        (status["value"].as_str().unwrap().to_owned(), port.filter(|port| *port > 0))
    }

    /// Returns a model's process.
    pub(super) fn process(&self, name: &str) -> u32 {
        let port = format!("--port\0{}\0", self.model(name).1.expect("it is loaded"));
        let processes = fs::read_dir("/proc").unwrap().flatten();
        let mut ids = processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        let is_it = |id: &u32| {
            let line = fs::read(format!("/proc/{id}/cmdline")).unwrap_or_default();
            String::from_utf8_lossy(&line).contains(&port)
        };
        ids.find(is_it).expect("a loaded model has a process")
    }
}

impl Drop for Router {
    fn drop(&mut self) {
        // Told so, it takes its models with it; killed, it would not.
        signal("TERM", self.child.id());
        let _ = self.child.wait();
    }
}

#[track_caller]
pub(super) fn poll(what: &str, mut is_so: impl FnMut() -> bool) {
    let mut clock = SystemClock::start();
    while !is_so() {
        assert!(clock.now() < Timestamp::ZERO + PATIENCE, "{what} does not come");
        clock.wait_until(clock.now() + POLL);
    }
}

/// A folder with two models and a policy.
pub(super) fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let models = folder.path().join("models");
    fs::create_dir(&models).unwrap();
    gguf::write(&models.join("a.gguf"), gguf::TINY).unwrap();
    gguf::write(&models.join("b.gguf"), gguf::SMALL).unwrap();
    fs::write(folder.path().join("policy.toml"), POLICY).unwrap();
    folder
}

#[test]
fn a_daemon_runs_on_a_router_and_takes_over_what_it_has_loaded() {
    let name = "a_daemon_runs_on_a_router_and_takes_over_what_it_has_loaded";
    let Some(engine) = engine(name) else { return };
    let folder = folder();
    let router = Router::start(&engine, &folder.path().join("models"), &[]);
    router.send_post("/models/load", "{\"model\":\"a\"}").rest();
    poll("the load", || router.model("a").0 == "loaded");
    let process = router.process("a");

    // Its catalog comes from the files that the router names; what is loaded is not loaded again.
    let url = router.url();
    let mut daemon = Daemon::start_with(folder.path(), &["--server", &url, "--log", "log"]);
    let served = daemon.ask(&chat("the cat", 4)).rest();
    assert!(served.contains("x-tiershift-model: a\r\n"), "{served}");
    assert!(served.contains("data: [DONE]"), "{served}");
    daemon.wait_for("its own use", |status| {
        let own = status["resources"]["memory"]["own_bytes"].as_u64().unwrap_or_default();
        status["own_use_from"]["a"] == "processes" && own > 20_000_000
    });
    assert_eq!(router.process("a"), process, "it is the same process");

    // A switch under a stream: the router would cut it, we wait.
    daemon.wait_for("the upgrade", |status| status["tier"] == "medium");
    poll("the end of the smaller one", || router.model("a").0 == "unloaded");
    let mut stream = daemon.ask(&chat("the dog", 60));
    stream.until("data: ");
    daemon.post("/switch", "{\"tier\":\"small\"}");
    let stream = stream.rest();
    assert!(stream.contains("x-tiershift-model: b\r\n"), "{stream}");
    assert!(stream.contains("data: [DONE]") && !stream.contains("\"error\""), "{stream}");
    daemon.wait_for("the downgrade", |status| status["tier"] == "small");
    poll("the end of the larger one", || router.model("b").0 == "unloaded");

    // A model that dies ends its stream with an error; the next request works.
    let mut stream = daemon.ask(&chat("the wolf", 3000));
    stream.until("data: ");
    let model = ["a", "b"].into_iter().find(|model| router.model(model).0 == "loaded").unwrap();
    signal("KILL", router.process(model));
    let stream = stream.rest();
    assert!(stream.contains("\"code\":\"model_failed\""), "{stream}");
    let served = daemon.ask(&chat("the fox", 2)).rest();
    assert!(served.contains("data: [DONE]"), "{served}");

    signal("TERM", daemon.child.id());
    assert_eq!(daemon.wait(), Some(0));
    assert_eq!(router.model("a").0, "unloaded");
    assert_eq!(router.model("b").0, "unloaded");
    let verified = run_in(folder.path(), "verify log").exits(0);
    assert!(verified.out.contains("verified"), "{}", verified.out);
}
