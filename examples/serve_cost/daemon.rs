//! A daemon under measurement, and the plain client that asks it.

use std::error::Error;
use std::fs;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tiershift::probe::clock::SystemClock;
use tiershift_core::time::{Clock, Timestamp};

use crate::footprint::children;

/// The programs and models to measure with.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tools<'a> {
    pub(crate) tiershift: &'a Path,
    pub(crate) engine: &'a Path,
    pub(crate) models: &'a Path,
}

/// Something on loopback that completes: a daemon, or a model's own server, which wants a key.
#[derive(Clone, Debug)]
pub(crate) struct Server {
    port: u16,
    key: Option<String>,
}

/// A daemon that runs. Dropped, it is told to stop, and waited for.
pub(crate) struct Daemon {
    child: Child,
    pub(crate) server: Server,
}

impl Daemon {
    /// Starts a daemon with models of its own in a folder, and waits until it listens.
    pub(crate) fn start(
        tools: Tools<'_>,
        folder: &Path,
        arguments: &[&str],
    ) -> Result<Self, Box<dyn Error>> {
        let mut command = Command::new(tools.tiershift);
        command.arg("serve").arg("--llama-server").arg(tools.engine);
        command.arg("--models").arg(tools.models).args(arguments);
        Self::spawn(command, folder)
    }

    /// Starts a daemon that completes with another server's model.
    pub(crate) fn before(
        tools: Tools<'_>,
        server: &Server,
        folder: &Path,
        arguments: &[&str],
    ) -> Result<Self, Box<dyn Error>> {
        let mut command = Command::new(tools.tiershift);
        command.args(["serve", "--server", &format!("http://127.0.0.1:{}", server.port)]);
        command.args(arguments);
        Self::spawn(command, folder)
    }

    fn spawn(mut command: Command, folder: &Path) -> Result<Self, Box<dyn Error>> {
        let mut child = command
            .args(["--port", "0"])
            .current_dir(folder)
            .env(THREADS.0, THREADS.1)
            .stdout(Stdio::piped())
            .spawn()?;
        let mut out = BufReader::new(child.stdout.take().ok_or("it has an output")?);
        let mut line = String::new();
        while !line.starts_with("serving on ") {
            line.clear();
            if out.read_line(&mut line)? == 0 {
                return Err("it does not say where it listens".into());
            }
        }
        let port = line.trim().rsplit(':').next().and_then(|port| port.parse().ok());
        let port = port.ok_or("it says where it listens")?;
        Ok(Self { child, server: Server { port, key: None } })
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Returns the model's server that it has started. What that needs to know stands with its process.
    pub(crate) fn engine(&self) -> Result<Server, Box<dyn Error>> {
        for id in children(self.pid()) {
            let line = fs::read_to_string(format!("/proc/{id}/cmdline"))?;
            let mut arguments = line.split('\0');
            if arguments.any(|word| word == "--port")
                && let Some(port) = arguments.next()
            {
                let variables = fs::read_to_string(format!("/proc/{id}/environ"))?;
                let mut variables = variables.split('\0');
                let key = variables.find_map(|word| word.strip_prefix("LLAMA_API_KEY="));
                return Ok(Server { port: port.parse()?, key: key.map(str::to_owned) });
            }
        }
        Err("it has no model".into())
    }
}

/// A model's server that is nobody's. Dropped, it is killed.
pub(crate) struct Engine {
    child: Child,
    pub(crate) server: Server,
}

impl Engine {
    /// Starts one with the only model of the folder, and waits until it completes.
    pub(crate) fn start(tools: Tools<'_>) -> Result<Self, Box<dyn Error>> {
        let model = fs::read_dir(tools.models)?.next().ok_or("there is a model")??.path();
        let port = TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port();
        let child = Command::new(tools.engine)
            .args(["--host", "127.0.0.1", "--parallel", "4", "--port", &port.to_string()])
            .arg("--model")
            .arg(model)
            .env(THREADS.0, THREADS.1)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        let engine = Self { child, server: Server { port, key: None } };
        let mut clock = SystemClock::start();
        while engine.server.ask("/health", None).is_err() {
            if clock.now() > Timestamp::ZERO + LOAD_TIMEOUT {
                return Err("the model does not load".into());
            }
            clock.wait_until(clock.now() + Duration::from_millis(50));
        }
        Ok(engine)
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // SIGTERM, so that it stops its models.
        let _ = Command::new("kill").arg(self.child.id().to_string()).status();
        let _ = self.child.wait();
    }
}

impl Server {
    /// Sends a request and returns the reply, head and body.
    ///
    /// # Errors
    /// A connection that breaks, and a reply that is no success.
    pub(crate) fn ask(&self, path: &str, body: Option<&str>) -> Result<String, Box<dyn Error>> {
        let mut reply = String::new();
        self.send(path, body)?.read_to_string(&mut reply)?;
        if reply.starts_with("HTTP/1.1 20") { Ok(reply) } else { Err(reply.into()) }
    }

    /// Sends a request: a body is posted.
    pub(crate) fn send(&self, path: &str, body: Option<&str>) -> io::Result<TcpStream> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port))?;
        stream.set_nodelay(true)?;
        let mut head = "HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n".to_owned();
        if let Some(key) = &self.key {
            head += &format!("Authorization: Bearer {key}\r\n");
        }
        match body {
            Some(body) => write!(
                stream,
                "POST {path} {head}Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
                body.len()
            )?,
            None => write!(stream, "GET {path} {head}\r\n")?,
        }
        Ok(stream)
    }
}

/// llama-server's threads wait for each other in turns of a loop, so that two of them on a busy machine answer in seconds
/// what one answers in milliseconds; and it is not what is measured.
const THREADS: (&str, &str) = ("LLAMA_ARG_THREADS", "1");

const LOAD_TIMEOUT: Duration = Duration::from_secs(30);
