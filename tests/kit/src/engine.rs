//! The real llama-server.
//!
//! It is `$TIERSHIFT_LLAMA_SERVER`, or what `scripts/get-llama-server.sh` brings. Where neither is to be had, the test is
//! [skipped](skip()). It computes with one thread: several wait for each other at every token, on a machine that has
//! other things to do for as long as the slowest of them is kept off it (seen: seconds a token).

use std::net::TcpListener;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use crate::process::signal;
use crate::server::Server;
use crate::skip::skip;
use crate::wait::wait_until;

/// A llama-server that can be run, for as long as its test does.
#[derive(Debug)]
pub struct Engine {
    program: PathBuf,
    _turn: Turn,
}

/// Whether other tests with an engine run beside this one.
#[derive(Debug)]
enum Turn {
    Beside { _others: RwLockReadGuard<'static, ()> },
    Alone { _others: RwLockWriteGuard<'static, ()> },
}

static TESTS: RwLock<()> = RwLock::new(());

impl Engine {
    /// Returns the llama-server of this machine, or says that the test is skipped. `kept` is a folder that stays.
    pub fn find(test: &str, kept: &Path) -> Option<Self> {
        let others = TESTS.read().unwrap_or_else(PoisonError::into_inner);
        Some(Self { program: program(test, kept)?, _turn: Turn::Beside { _others: others } })
    }

    /// Returns the same for a test to which other tests' models would be other programs' memory.
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
    // One test brings it, the others wait.
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

/// Returns a script that becomes the program. A shell writes it: a file that we have open for writing while a thread
/// of ours starts a process cannot be executed.
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

/// A llama-server that runs by itself, behind no daemon. Dropped, it ends, and takes its models with it where it is a
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
        // Asked to end, a router ends its models; killed, it would leave them.
        signal("TERM", self.child.id());
        let _ = self.child.wait();
    }
}
