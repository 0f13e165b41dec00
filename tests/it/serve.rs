//! The daemon from end to end: a real llama-server, real models, real sockets on loopback.
//!
//! The engine is `$TIERSHIFT_LLAMA_SERVER`, or what `scripts/get-llama-server.sh` brings. Where neither is to be had,
//! the test says so by name and is skipped.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::Value;
use tiershift::time::{Clock, SystemClock, Timestamp};

use crate::gguf;
use crate::support::{root, run_in};

#[test]
fn a_daemon_serves_scales_records_and_leaves_nothing_behind() {
    let Some(engine) = engine("a_daemon_serves_scales_records_and_leaves_nothing_behind") else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let models = folder.path().join("models");
    fs::create_dir(&models).unwrap();
    gguf::write(&models.join("a.gguf"), gguf::TINY).unwrap();
    gguf::write(&models.join("b.gguf"), gguf::SMALL).unwrap();
    fs::write(folder.path().join("policy.toml"), POLICY).unwrap();
    let mut daemon = Daemon::start(&engine, folder.path());

    // A request waits for the first model, and is then streamed.
    let stream = daemon.ask(&chat("the cat", 8)).rest();
    assert!(stream.contains("x-tiershift-model: a\r\n"), "{stream}");
    assert!(stream.contains("x-tiershift-tier: small\r\n"), "{stream}");
    assert!(stream.contains("content-type: text/event-stream\r\n"), "{stream}");
    assert!(stream.matches("\"content\":\" ").count() == 8, "{stream}");
    assert!(stream.contains("data: [DONE]"), "{stream}");

    // The window is over: it goes up by itself.
    daemon.wait_for("the upgrade", |status| status["tier"] == "medium");

    // A switch cuts no stream, and the next request is served by the other model.
    let mut stream = daemon.ask(&chat("the dog", 40));
    stream.until("data: ");
    let asked = daemon.post("/switch", "{\"tier\":\"small\"}");
    assert!(asked.starts_with("HTTP/1.1 202 "), "{asked}");
    let stream = stream.rest();
    assert!(stream.contains("x-tiershift-tier: medium\r\n"), "{stream}");
    assert!(stream.contains("data: [DONE]") && !stream.contains("\"error\""), "{stream}");
    daemon.wait_for("the downgrade", |status| status["tier"] == "small");
    let whole = daemon.post("/v1/completions", "{\"prompt\":\"a bird\",\"max_tokens\":3}");
    assert!(whole.contains("x-tiershift-tier: small\r\n"), "{whole}");
    assert_eq!(json(&whole)["usage"]["completion_tokens"], 3, "{whole}");

    // A client that hangs up gives its place back.
    let mut stream = daemon.ask(&chat("the fish", 3000));
    stream.until("data: ");
    drop(stream);
    daemon.wait_for("the hang-up", |status| {
        status["requests"]["cancelled"] == 1 && status["requests"]["running"] == 0
    });

    // A model that dies ends its stream with an error; the next request works.
    let mut stream = daemon.ask(&chat("the wolf", 3000));
    stream.until("data: ");
    for child in children(daemon.child.id()) {
        signal("KILL", child);
    }
    let stream = stream.rest();
    assert!(stream.contains("\"code\":\"model_failed\""), "{stream}");
    let stream = daemon.ask(&chat("the fox", 2)).rest();
    assert!(stream.contains("data: [DONE]"), "{stream}");

    // What is refused, is refused in OpenAI's form.
    let unknown = daemon.post("/v1/completions", "{\"prompt\":\"\",\"model\":\"c\"}");
    assert!(unknown.starts_with("HTTP/1.1 404 "), "{unknown}");
    assert_eq!(json(&unknown)["error"]["code"], "model_not_found");
    let mistaken = daemon.post("/v1/completions", "{\"max_tokens\":1}");
    assert!(mistaken.starts_with("HTTP/1.1 4"), "the server's own answer: {mistaken}");
    let foreign = daemon
        .send("GET /status HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n")
        .rest();
    assert!(foreign.starts_with("HTTP/1.1 403 "), "{foreign}");
    let listed = json(&daemon.get("/v1/models"));
    let ids: Vec<_> = listed["data"].as_array().unwrap().iter().map(|it| &it["id"]).collect();
    assert_eq!(ids, ["auto", "a", "b"]);

    // Told to stop, it finishes what runs.
    let mut stream = daemon.ask(&chat("the end", 30));
    stream.until("data: ");
    let left = children(daemon.child.id());
    assert!(!left.is_empty(), "a model runs");
    signal("TERM", daemon.child.id());
    let stream = stream.rest();
    assert!(stream.contains("data: [DONE]"), "{stream}");
    let code = daemon.wait();
    assert_eq!(code, Some(0));
    for pid in left {
        assert!(!Path::new(&format!("/proc/{pid}")).exists(), "process {pid} is left behind");
    }

    // What it did can be done again from its log, which holds no word of anybody.
    let verified = run_in(folder.path(), "verify log.jsonl").exits(0);
    assert!(verified.out.contains("verified"), "{}", verified.out);
    let log = fs::read_to_string(folder.path().join("log.jsonl")).unwrap();
    for word in ["the cat", "a bird", "the end"] {
        assert!(!log.contains(word), "the log holds \"{word}\"");
    }
    let place = folder.path().to_string_lossy().into_owned();
    assert!(!log.contains(&place), "the log tells of this machine's folders");
}

#[test]
fn a_daemon_is_refused_where_it_could_be_reached_from_elsewhere() {
    let folder = tempfile::tempdir().unwrap();
    gguf::write(&folder.path().join("a.gguf"), gguf::TINY).unwrap();
    let refused = run_in(folder.path(), "serve --models . --host 0.0.0.0").exits(2);
    assert!(refused.err.contains("only loopback addresses are served"), "{}", refused.err);
    let refused = run_in(folder.path(), "serve --models . --llama-server ./none").exits(2);
    assert!(refused.err.contains("`./none` does not run"), "{}", refused.err);
}

/// Windows of a second, and a machine of which any part may be used: what others do on it does not matter here.
const POLICY: &str = r#"
sampling-interval = "100ms"
stabilization = "1s"
trend-half-life = "1s"
forecast-horizon = "1s"
upgrade-line = "97%"
preventive-line = "98%"
degrade-line = "99%"
hysteresis-margin = "0%"
free-floor-share = "0%"
constrain = ["memory"]
[manager]
start = "small"
switch-cooldown = "0s"
load-retry = "200ms"
"#;

/// Returns a llama-server that runs, or says which test is skipped for want of it.
fn engine(test: &str) -> Option<PathBuf> {
    if let Some(given) = std::env::var_os("TIERSHIFT_LLAMA_SERVER") {
        return Some(given.into());
    }
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("llama-server");
    let script = root().join("scripts/get-llama-server.sh");
    let got = Command::new("bash").arg(script).arg(&folder).stdin(Stdio::null()).output();
    match got {
        Ok(output) if output.status.success() => Some(folder.join("llama-server")),
        Ok(output) => {
            let why = String::from_utf8_lossy(&output.stderr).into_owned();
            eprintln!("SKIPPED {test}: no llama-server is to be had here: {why}");
            None
        }
        Err(error) => {
            eprintln!("SKIPPED {test}: no llama-server is to be had here: {error}");
            None
        }
    }
}

fn chat(words: &str, tokens: u32) -> String {
    format!(
        "{{\"messages\":[{{\"role\":\"user\",\"content\":\"{words}\"}}],\"stream\":true,\"max_tokens\":{tokens}}}"
    )
}

/// The daemon. Dropped, it is killed: a failed test leaves nothing behind but what this very test is about.
struct Daemon {
    child: Child,
    port: u16,
}

impl Daemon {
    fn start(engine: &Path, folder: &Path) -> Self {
        let mut child = Command::new(snapbox::cmd::cargo_bin!("tiershift"))
            .current_dir(folder)
            .args(["serve", "--port", "0", "--models", "models", "--policy", "policy.toml"])
            .args(["--log", "log.jsonl", "--llama-server"])
            .arg(engine)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let port = line.trim().rsplit(':').next().and_then(|port| port.parse().ok());
        Self { child, port: port.unwrap_or_else(|| panic!("it says where it listens: {line}")) }
    }

    fn send(&self, request: &str) -> Connection {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        Connection { stream, read: String::new() }
    }

    fn send_post(&self, path: &str, body: &str) -> Connection {
        let length = body.len();
        self.send(&format!(
            "POST {path} HTTP/1.1\r\nHost: localhost:{}\r\nContent-Type: application/json\r\n\
             Connection: close\r\nContent-Length: {length}\r\n\r\n{body}",
            self.port
        ))
    }

    fn ask(&self, body: &str) -> Connection {
        self.send_post("/v1/chat/completions", body)
    }

    fn post(&self, path: &str, body: &str) -> String {
        self.send_post(path, body).rest()
    }

    fn get(&self, path: &str) -> String {
        let port = self.port;
        let head =
            format!("GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\n\r\n");
        self.send(&head).rest()
    }

    /// Waits until the status is as wanted.
    #[track_caller]
    fn wait_for(&self, what: &str, is_so: impl Fn(&Value) -> bool) {
        let mut clock = SystemClock::start();
        loop {
            let status = json(&self.get("/status"));
            if is_so(&status) {
                return;
            }
            assert!(clock.now() < Timestamp::ZERO + PATIENCE, "{what} does not come: {status:#}");
            clock.wait_until(clock.now() + POLL);
        }
    }

    /// Waits for the end.
    fn wait(&mut self) -> Option<i32> {
        let mut clock = SystemClock::start();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code();
            }
            assert!(clock.now() < Timestamp::ZERO + PATIENCE, "the daemon does not end");
            clock.wait_until(clock.now() + POLL);
        }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if self.child.try_wait().is_ok_and(|status| status.is_none()) {
            for child in children(self.child.id()) {
                signal("KILL", child);
            }
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

struct Connection {
    stream: TcpStream,
    read: String,
}

impl Connection {
    /// Reads until `text` has come.
    fn until(&mut self, text: &str) {
        let mut bytes = [0; 4096];
        while !self.read.contains(text) {
            let read = self.stream.read(&mut bytes).unwrap();
            assert!(read > 0, "it ends before {text:?}: {}", self.read);
            self.read.push_str(std::str::from_utf8(&bytes[..read]).unwrap());
        }
    }

    /// Reads to the end, and returns everything.
    fn rest(mut self) -> String {
        self.stream.read_to_string(&mut self.read).unwrap();
        self.read
    }
}

#[track_caller]
fn json(reply: &str) -> Value {
    let (_, body) = reply.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no body: {reply}"));
    serde_json::from_str(body).unwrap_or_else(|error| panic!("{error}: {reply}"))
}

fn signal(name: &str, pid: u32) {
    let line = format!("kill -{name} {pid}");
    assert!(Command::new("sh").args(["-c", &line]).status().unwrap().success(), "{line}");
}

/// Returns the processes whose parent is `pid`.
fn children(pid: u32) -> Vec<u32> {
    let processes = fs::read_dir("/proc").unwrap().flatten();
    let ids = processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    ids.filter(|id: &u32| {
        // "id (name) state parent ..": the name may hold anything.
        let stat = fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
        let after = stat.rsplit_once(") ").map_or("", |(_, after)| after);
        after.split(' ').nth(1).is_some_and(|parent| parent == pid.to_string())
    })
    .collect()
}

/// How long anything may take on a machine that is busy with something else.
const PATIENCE: Duration = Duration::from_secs(120);

const POLL: Duration = Duration::from_millis(50);
