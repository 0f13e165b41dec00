//! The real llama-server.
//!
//! It is `$TIERSHIFT_LLAMA_SERVER`, or the one that `scripts/get-llama-server.sh` fetches. If neither is available, the test is
//! [skipped](skip()). It computes with one thread: several wait for each other at every token, which on a busy machine
//! takes as long as the slowest of them is not scheduled (seen: seconds for a token).

use std::net::TcpListener;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use crate::process::signal;
use crate::server::Server;
use crate::skip::skip;
use crate::wait::wait_until;

/// A working llama-server, for the duration of a test.
#[derive(Debug)]
pub struct Engine {
    program: PathBuf,
    _turn: Turn,
}

/// Whether other tests with an engine may run at the same time.
#[derive(Debug)]
enum Turn {
    Beside { _others: RwLockReadGuard<'static, ()> },
    Alone { _others: RwLockWriteGuard<'static, ()> },
}

static TESTS: RwLock<()> = RwLock::new(());

impl Engine {
    /// Returns the llama-server of this machine, or reports that the test is skipped. `kept` is a folder that is not removed.
    pub fn find(test: &str, kept: &Path) -> Option<Self> {
        let others = TESTS.read().unwrap_or_else(PoisonError::into_inner);
        Some(Self { program: program(test, kept)?, _turn: Turn::Beside { _others: others } })
    }

    /// Returns the same for a test that would see the models of other tests as other programs' memory.
    pub fn find_alone(test: &str, kept: &Path) -> Option<Self> {
        let others = TESTS.write().unwrap_or_else(PoisonError::into_inner);
        Some(Self { program: program(test, kept)?, _turn: Turn::Alone { _others: others } })
    }
}

impl Deref for Engine {
    type Target = Path;

    fn deref(&self) -> &Path {
        &self.program
    }
}

fn program(test: &str, kept: &Path) -> Option<PathBuf> {
    // One test fetches it, the others wait.
    static BRINGING: Mutex<()> = Mutex::new(());
    let _bringing = BRINGING.lock();
    let program = match std::env::var_os("TIERSHIFT_LLAMA_SERVER") {
        Some(given) => Ok(given.into()),
        None => bring(&kept.join("llama-server")),
    };
    match program {
        Ok(program) => Some(with_one_thread(&program, kept)),
        Err(why) => {
            skip("llama-server", test, &why);
            None
        }
    }
}

/// Returns the llama-server of a folder, which is filled once.
fn bring(folder: &Path) -> Result<PathBuf, String> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scripts/get-llama-server.sh");
    let got = Command::new("bash").arg(script).arg(folder).stdin(Stdio::null()).output();
    let output = got.map_err(|error| error.to_string())?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned());
    }
    Ok(folder.join("llama-server"))
}

/// Returns a script that replaces itself with the program. A shell writes it: a file that we have open for writing while a thread
/// starts a process cannot be executed.
fn with_one_thread(program: &Path, kept: &Path) -> PathBuf {
    let script = kept.join("llama-server-with-one-thread");
    let write = r#"
        printf '#!/bin/sh\nLLAMA_ARG_THREADS=1 exec "%s" "$@"\n' "$1" > "$2.new"
        chmod +x "$2.new"
        mv "$2.new" "$2"
    "#;
    let written = Command::new("sh").args(["-ec", write, "sh"]).arg(program).arg(&script).status();
    assert!(written.unwrap().success());
    script
}

/// A llama-server that runs without a daemon. On drop it ends, with its models if it is a
/// router.
#[derive(Debug)]
pub struct LlamaServer {
    child: Child,
    server: Server,
}

impl LlamaServer {
    /// Starts one on a free port, and waits until it is ready.
    #[track_caller]
    pub fn start(program: &Path, arguments: &[&str]) -> Self {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        Self::start_at(port, program, arguments)
    }

    /// Starts one on this port, and waits until it is ready.
    #[track_caller]
    pub fn start_at(port: u16, program: &Path, arguments: &[&str]) -> Self {
        let child = Command::new(program)
            .args(["--host", "127.0.0.1", "--port", &port.to_string()])
            .args(arguments)
            .env("LLAMA_ARG_THREADS", "1")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let started = Self { child, server: Server::at(port) };
        let is_ready = || started.try_get("/health").is_ok_and(|reply| reply.contains(" 200 "));
        wait_until("the model server", is_ready);
        started
    }

    /// Returns its process.
    pub fn id(&self) -> u32 {
        self.child.id()
    }
}

impl Deref for LlamaServer {
    type Target = Server;

    fn deref(&self) -> &Server {
        &self.server
    }
}

impl Drop for LlamaServer {
    fn drop(&mut self) {
        // A router that is asked to end also ends its models; if it were killed, they would stay.
        signal("TERM", self.child.id());
        let _ = self.child.wait();
    }
}
