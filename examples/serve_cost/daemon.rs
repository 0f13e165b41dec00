//! A daemon under measurement, and the plain client that asks it.

use std::error::Error;
use std::fs;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};

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
    /// Starts a daemon in a folder, and waits until it listens.
    pub(crate) fn start(
        tools: Tools<'_>,
        folder: &Path,
        arguments: &[&str],
    ) -> Result<Self, Box<dyn Error>> {
        let mut child = Command::new(tools.tiershift)
            .current_dir(folder)
            .args(["serve", "--port", "0", "--llama-server"])
            .arg(tools.engine)
            .arg("--models")
            .arg(tools.models)
            .args(arguments)
            // It waits for its threads in turns of a loop, so that two of them on a busy machine answer in seconds
            // what one answers in milliseconds; and it is not what is measured.
            .env("LLAMA_ARG_THREADS", "1")
            .stdout(Stdio::piped())
            .spawn()?;
        let mut line = String::new();
        let out = child.stdout.take().ok_or("it has an output")?;
        BufReader::new(out).read_line(&mut line)?;
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
