//! An HTTP client for loopback: bytes on a socket, so that a test sees every one of them.

use std::io::{self, Read, Write};
use std::net::TcpStream;

use serde_json::Value;

use crate::wait::PATIENCE;

/// An HTTP server on loopback: a daemon, or a model server.
#[derive(Clone, Debug)]
pub struct Server {
    /// Where it listens.
    pub port: u16,
    /// The key that it requires with each request.
    pub key: Option<String>,
}

impl Server {
    /// Returns one that requires no key.
    pub const fn at(port: u16) -> Self {
        Self { port, key: None }
    }

    /// Returns its address.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Sends bytes as they are.
    #[track_caller]
    pub fn send(&self, request: &str) -> Connection {
        Connection::open(self.port, request).unwrap()
    }

    /// Requests a path, or fails if there is no server.
    ///
    /// # Errors
    /// A connection that is refused or breaks.
    pub fn try_get(&self, path: &str) -> io::Result<String> {
        let mut connection =
            Connection::open(self.port, &format!("GET {path} {}\r\n", self.head()))?;
        connection.stream.read_to_string(&mut connection.read)?;
        Ok(connection.read)
    }

    /// Requests a path, and returns the reply, headers and body.
    #[track_caller]
    pub fn get(&self, path: &str) -> String {
        self.try_get(path).unwrap()
    }

    /// Posts JSON.
    #[track_caller]
    pub fn send_post(&self, path: &str, body: &str) -> Connection {
        let (head, length) = (self.head(), body.len());
        self.send(&format!(
            "POST {path} {head}Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
        ))
    }

    /// Posts JSON, and returns the reply, headers and body.
    #[track_caller]
    pub fn post(&self, path: &str, body: &str) -> String {
        self.send_post(path, body).rest()
    }

    /// Posts a chat.
    #[track_caller]
    pub fn ask(&self, body: &str) -> Connection {
        self.send_post("/v1/chat/completions", body)
    }

    fn head(&self) -> String {
        let mut head =
            format!("HTTP/1.1\r\nHost: 127.0.0.1:{}\r\nConnection: close\r\n", self.port);
        if let Some(key) = &self.key {
            head += &format!("Authorization: Bearer {key}\r\n");
        }
        head
    }
}

/// A request that was sent, and the part of its reply that was read.
#[derive(Debug)]
pub struct Connection {
    /// Its socket.
    pub stream: TcpStream,
    read: String,
}

impl Connection {
    /// Sends a request.
    ///
    /// # Errors
    /// A connection that is refused or breaks.
    pub fn open(port: u16, request: &str) -> io::Result<Self> {
        let mut stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.write_all(request.as_bytes())?;
        Ok(Self { stream, read: String::new() })
    }

    /// Reads until `text` has arrived.
    #[track_caller]
    pub fn until(&mut self, text: &str) {
        let mut bytes = [0; 4096];
        while !self.read.contains(text) {
            let read = self.stream.read(&mut bytes).unwrap();
            assert!(read > 0, "it ends before {text:?}: {}", self.read);
            self.read.push_str(std::str::from_utf8(&bytes[..read]).unwrap());
        }
    }

    /// Reads to the end, and returns everything.
    #[track_caller]
    pub fn rest(mut self) -> String {
        self.stream.read_to_string(&mut self.read).unwrap();
        self.read
    }
}

/// Returns the body of a reply.
#[track_caller]
pub fn json(reply: &str) -> Value {
    let (_, body) = reply.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no body: {reply}"));
    serde_json::from_str(body).unwrap_or_else(|error| panic!("{error}: {reply}"))
}

/// Returns a chat of these words with a streamed reply of at most this many tokens.
pub fn chat(words: &str, tokens: u32) -> String {
    format!(
        "{{\"messages\":[{{\"role\":\"user\",\"content\":\"{words}\"}}],\"stream\":true,\"max_tokens\":{tokens}}}"
    )
}
