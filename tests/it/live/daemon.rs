//! What the tests of the live side share: the real engine, the daemon as a process, and its clients.
//!
//! The engine is `$TIERSHIFT_LLAMA_SERVER`, or what `scripts/get-llama-server.sh` brings. Where neither is to be had,
//! the test says so by name and is skipped. It computes with one thread: several wait for each other at every token, on
//! a machine that has other things to do for as long as the slowest of them is kept off it (seen: seconds a token).

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

use serde_json::Value;
use tiershift::log::{runs, segments};
use tiershift::probe::clock::SystemClock;
use tiershift_core::time::{Clock, Timestamp};

use crate::live::footprint::children;
use crate::support::root;

/// Windows of a second, and a machine of which any part may be used: what others do on it does not matter here.
pub(super) const POLICY: &str = r#"
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
patience = "2m"
"#;

/// A llama-server that runs, for as long as its test does.
pub(super) struct Engine {
    program: PathBuf,
    _place: Place,
}

/// Whether other tests with an engine run beside this one.
enum Place {
    Beside { _others: RwLockReadGuard<'static, ()> },
    Alone { _others: RwLockWriteGuard<'static, ()> },
}

static TESTS: RwLock<()> = RwLock::new(());

impl Deref for Engine {
    type Target = Path;

    fn deref(&self) -> &Path {
        &self.program
    }
}

/// Returns a llama-server that runs, or says which test is skipped for want of it.
pub(super) fn engine(test: &str) -> Option<Engine> {
    let others = TESTS.read().unwrap_or_else(PoisonError::into_inner);
    Some(Engine { program: program(test)?, _place: Place::Beside { _others: others } })
}

/// Returns the same for a test to which other tests' models would be other programs' memory.
pub(super) fn engine_alone(test: &str) -> Option<Engine> {
    let others = TESTS.write().unwrap_or_else(PoisonError::into_inner);
    Some(Engine { program: program(test)?, _place: Place::Alone { _others: others } })
}

fn program(test: &str) -> Option<PathBuf> {
    // One test brings it, the others wait.
    static BRINGING: Mutex<()> = Mutex::new(());
    let _bringing = BRINGING.lock();
    let target = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let program = match std::env::var_os("TIERSHIFT_LLAMA_SERVER") {
        Some(given) => Ok(given.into()),
        None => bring(&target.join("llama-server")),
    };
    match program {
        Ok(program) => Some(with_one_thread(&program, target)),
        Err(why) => {
            eprintln!("SKIPPED {test}: no llama-server is to be had here: {why}");
            None
        }
    }
}

/// Returns the llama-server of a folder, which is filled once.
fn bring(folder: &Path) -> Result<PathBuf, String> {
    let script = root().join("scripts/get-llama-server.sh");
    let got = Command::new("bash").arg(script).arg(folder).stdin(Stdio::null()).output();
    let output = got.map_err(|error| error.to_string())?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned());
    }
    Ok(folder.join("llama-server"))
}

/// Returns a script that becomes the program. A shell writes it: a file that we have open for writing while a thread
/// of ours starts a process cannot be executed.
fn with_one_thread(program: &Path, folder: &Path) -> PathBuf {
    let script = folder.join("llama-server-with-one-thread");
    let write = r#"
        printf '#!/bin/sh\nLLAMA_ARG_THREADS=1 exec "%s" "$@"\n' "$1" > "$2.new"
        chmod +x "$2.new"
        mv "$2.new" "$2"
    "#;
    let written = Command::new("sh").args(["-ec", write, "sh"]).arg(program).arg(&script).status();
    assert!(written.unwrap().success());
    script
}

pub(super) fn chat(words: &str, tokens: u32) -> String {
    format!(
        "{{\"messages\":[{{\"role\":\"user\",\"content\":\"{words}\"}}],\"stream\":true,\"max_tokens\":{tokens}}}"
    )
}

/// The daemon. Dropped, it is killed: a failed test leaves nothing behind but what this very test is about.
pub(super) struct Daemon {
    pub(super) child: Child,
    pub(super) port: u16,
    folder: PathBuf,
}

impl Daemon {
    pub(super) fn start(engine: &Path, folder: &Path) -> Self {
        let engine = engine.to_str().unwrap();
        let arguments = ["--models", "models", "--log", "log.jsonl", "--llama-server", engine];
        Self::start_with(folder, &arguments)
    }

    pub(super) fn start_with(folder: &Path, arguments: &[&str]) -> Self {
        let child = Command::new(snapbox::cmd::cargo_bin!("tiershift"))
            .current_dir(folder)
            .args(["serve", "--port", "0", "--policy", "policy.toml"])
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        Self::of(child, folder)
    }

    /// The same for one that says it in JSON. Returns what else it will say, too.
    pub(super) fn of_json(mut child: Child, folder: &Path) -> (Self, impl Read) {
        let mut out = BufReader::new(child.stdout.take().unwrap());
        let mut said = String::new();
        while !said.trim_end().ends_with('}') {
            assert!(out.read_line(&mut said).unwrap() > 0, "it says where it listens: {said}");
        }
        let url = serde_json::from_str::<Value>(&said).unwrap()["url"].clone();
        let port = url.as_str().unwrap().rsplit(':').next().unwrap().parse().unwrap();
        (Self { child, port, folder: folder.to_owned() }, out)
    }

    /// Takes over a daemon whose standard output is piped, as soon as it listens.
    pub(super) fn of(mut child: Child, folder: &Path) -> Self {
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let port = line.trim().rsplit(':').next().and_then(|port| port.parse().ok());
        let port = port.unwrap_or_else(|| panic!("it says where it listens: {line}"));
        Self { child, port, folder: folder.to_owned() }
    }

    pub(super) fn send(&self, request: &str) -> Connection {
        Connection::open(self.port, request).unwrap()
    }

    pub(super) fn send_post(&self, path: &str, body: &str) -> Connection {
        let length = body.len();
        self.send(&format!(
            "POST {path} HTTP/1.1\r\nHost: localhost:{}\r\nContent-Type: application/json\r\n\
             Connection: close\r\nContent-Length: {length}\r\n\r\n{body}",
            self.port
        ))
    }

    pub(super) fn ask(&self, body: &str) -> Connection {
        self.send_post("/v1/chat/completions", body)
    }

    pub(super) fn post(&self, path: &str, body: &str) -> String {
        self.send_post(path, body).rest()
    }

    pub(super) fn get(&self, path: &str) -> String {
        let port = self.port;
        let head =
            format!("GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\n\r\n");
        self.send(&head).rest()
    }

    /// Waits until the status is as wanted.
    #[track_caller]
    pub(super) fn wait_for(&self, what: &str, is_so: impl Fn(&Value) -> bool) {
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
    pub(super) fn wait(&mut self) -> Option<i32> {
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
        for left in servers_of(&self.folder) {
            signal("KILL", left);
        }
    }
}

pub(super) struct Connection {
    pub(super) stream: TcpStream,
    read: String,
}

impl Connection {
    /// Sends a request.
    pub(super) fn open(port: u16, request: &str) -> std::io::Result<Self> {
        let mut stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.write_all(request.as_bytes())?;
        Ok(Self { stream, read: String::new() })
    }

    /// Reads until `text` has come.
    pub(super) fn until(&mut self, text: &str) {
        let mut bytes = [0; 4096];
        while !self.read.contains(text) {
            let read = self.stream.read(&mut bytes).unwrap();
            assert!(read > 0, "it ends before {text:?}: {}", self.read);
            self.read.push_str(std::str::from_utf8(&bytes[..read]).unwrap());
        }
    }

    /// Reads to the end, and returns everything.
    pub(super) fn rest(mut self) -> String {
        self.stream.read_to_string(&mut self.read).unwrap();
        self.read
    }
}

/// Returns the text of the newest log that a daemon recorded and closed.
pub(super) fn log_text(recordings: &Path) -> String {
    let run = runs(recordings).unwrap().pop().unwrap();
    let unpack = |path: &Path| zstd::decode_all(fs::File::open(path).unwrap()).unwrap();
    let bytes = segments(&run).unwrap().iter().flat_map(|it| unpack(&it.path)).collect();
    String::from_utf8(bytes).unwrap()
}

#[track_caller]
pub(super) fn json(reply: &str) -> Value {
    let (_, body) = reply.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no body: {reply}"));
    serde_json::from_str(body).unwrap_or_else(|error| panic!("{error}: {reply}"))
}

pub(super) fn signal(name: &str, pid: u32) {
    let line = format!("kill -{name} {pid}");
    assert!(Command::new("sh").args(["-c", &line]).status().unwrap().success(), "{line}");
}

/// Returns the processes that serve a model of this folder, whoever started them.
pub(super) fn servers_of(folder: &Path) -> Vec<u32> {
    let models = format!("{}/", folder.canonicalize().unwrap().display());
    let processes = fs::read_dir("/proc").unwrap().flatten();
    let ids = processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    ids.filter(|id: &u32| {
        let line = fs::read(format!("/proc/{id}/cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line);
        line.contains("--model\0") && line.contains(&models)
    })
    .collect()
}

/// How long anything may take on a machine that is busy with something else.
pub(super) const PATIENCE: Duration = Duration::from_secs(120);

pub(super) const POLL: Duration = Duration::from_millis(50);
