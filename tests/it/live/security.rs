//! The daemon as a process, and malicious clients, on real sockets.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;

use tiershift_testkit::daemon::Daemon;
use tiershift_testkit::gguf;
use tiershift_testkit::process::servers_of;
use tiershift_testkit::server::{Connection, chat, json};
use tiershift_testkit::site::Site;

use crate::live::{SERVE, engine, site};
use crate::support::files;

const TOKEN: &str = "c0ffee-and-some-more-letters";

/// A daemon with one model that other machines can reach, with a token.
fn start(engine: &Path) -> (Site, Daemon) {
    let folder = site(&[("a", gguf::TINY)]);
    folder.put("token", &format!("{TOKEN}\n"));
    let daemon = crate::live::daemon(engine, &folder).arguments(SERVE);
    let daemon = daemon.arguments("--host 0.0.0.0 --token-file token --allow-host box.lan");
    let daemon = daemon.start();
    (folder, daemon)
}

fn get(daemon: &Daemon, path: &str, headers: &str) -> String {
    let head = format!("GET {path} HTTP/1.1\r\nConnection: close\r\n{headers}\r\n");
    daemon.send(&head).rest()
}

fn post(daemon: &Daemon, body_headers: &str, body: &str) -> Connection {
    daemon.send(&format!(
        "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\
         Authorization: Bearer {TOKEN}\r\n{body_headers}\r\n{body}"
    ))
}

#[test]
fn strangers_are_kept_out_and_hostile_clients_keep_nobody_waiting() {
    let Some(engine) = engine("strangers_are_kept_out_and_hostile_clients_keep_nobody_waiting")
    else {
        return;
    };
    let (folder, daemon) = start(&engine);
    let shown = format!("Authorization: Bearer {TOKEN}\r\n");

    // Only the token together with an allowed name gives access.
    for (headers, status) in [
        (format!("Host: 10.1.2.3:8484\r\n{shown}"), "200"),
        (format!("Host: box.lan\r\n{shown}"), "200"),
        (format!("Host: box.lan\r\nOrigin: http://box.lan\r\n{shown}"), "200"),
        ("Host: localhost\r\n".to_owned(), "401"),
        ("Host: localhost\r\nAuthorization: Bearer c0ffee\r\n".to_owned(), "401"),
        (format!("Host: evil.example\r\n{shown}"), "403"),
        (format!("Host: localhost\r\nOrigin: http://evil.example\r\n{shown}"), "403"),
        (format!("Host: localhost\r\nOrigin: null\r\n{shown}"), "403"),
    ] {
        let answer = get(&daemon, "/status", &headers);
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{headers}: {answer}");
        assert!(!answer.to_lowercase().contains("access-control-"), "{answer}");
        assert!(!answer.contains(TOKEN), "{answer}");
        assert_eq!(answer.contains("www-authenticate: Bearer"), status == "401", "{answer}");
    }
    for path in ["/", "/metrics", "/events", "/v1/models", "/nothing"] {
        let answer = get(&daemon, path, "Host: localhost\r\n");
        assert!(answer.starts_with("HTTP/1.1 401 "), "{path}: {answer}");
    }
    assert!(get(&daemon, "/healthz", "Host: localhost\r\n").starts_with("HTTP/1.1 200 "));
    let asks_first = daemon
        .send(&format!(
            "OPTIONS /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\
             {shown}Origin: http://localhost:3000\r\nAccess-Control-Request-Method: POST\r\n\r\n"
        ))
        .rest();
    assert!(asks_first.starts_with("HTTP/1.1 405 "), "{asks_first}");
    assert!(!asks_first.to_lowercase().contains("access-control-"), "{asks_first}");

    // One client whose body never ends, and two thousand that send nothing.
    let slow = post(&daemon, "Content-Length: 100\r\n", "{\"prompt\"");
    let idle: Vec<TcpStream> =
        (0..2000).map(|_| TcpStream::connect(("127.0.0.1", daemon.port)).unwrap()).collect();
    // Bodies: announced too long, sent too long without a length, cut off, not JSON, garbage after a request.
    let announced = post(&daemon, "Content-Length: 99999999999\r\n", "").rest();
    assert!(announced.starts_with("HTTP/1.1 413 "), "{announced}");
    let mut endless = post(&daemon, "Transfer-Encoding: chunked\r\n", "");
    assert!(send_until_refused(&mut endless), "a body without a length is bounded too");
    drop(post(&daemon, "Content-Length: 100\r\n", "{\"prompt\""));
    let nothing = post(&daemon, "", "").rest();
    assert!(nothing.starts_with("HTTP/1.1 400 "), "{nothing}");
    let twice = post(&daemon, "Content-Length: 2\r\nTransfer-Encoding: chunked\r\n", "{}").rest();
    assert!(twice.starts_with("HTTP/1.1 400 "), "{twice}");
    // All the while, normal clients are served.
    let body = chat("the cat", 4);
    let length = format!("Content-Length: {}\r\n", body.len());
    let reply = post(&daemon, &length, &body).rest();
    assert!(reply.contains("data: [DONE]"), "{reply}");
    drop(idle);
    let slow = slow.rest();
    assert!(slow.starts_with("HTTP/1.1 408 "), "{slow}");

    // The model's own port, which every page and user of this machine can reach, accepts only its daemon.
    let model = servers_of(&folder)[0];
    let line = fs::read_to_string(format!("/proc/{model}/cmdline")).unwrap();
    let port = line.split('\0').skip_while(|word| *word != "--port").nth(1).unwrap();
    for path in ["/slots", "/props", "/v1/models"] {
        let head = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        let answer = Connection::open(port.parse().unwrap(), &head).unwrap().rest();
        assert!(answer.starts_with("HTTP/1.1 401 "), "{path}: {answer}");
    }
    let environment = fs::read_to_string(format!("/proc/{model}/environ")).unwrap();
    let key = environment.split('\0').find_map(|word| word.strip_prefix("LLAMA_API_KEY="));
    let key = key.expect("it has a key");
    assert!(!line.contains(key), "the key is in the arguments");

    // Neither appears anywhere.
    let segments = files(&folder.join("log.jsonl"));
    assert!(!segments.is_empty(), "the run is recorded");
    let log: String = segments
        .iter()
        .map(|path| String::from_utf8_lossy(&fs::read(path).unwrap()).into_owned())
        .collect();
    let status = get(&daemon, "/status", &format!("Host: localhost\r\n{shown}"));
    let id = daemon.child.id();
    let arguments = fs::read_to_string(format!("/proc/{id}/cmdline")).unwrap();
    for text in [&log, &status, &arguments] {
        assert!(!text.contains("c0ffee") && !text.contains(key), "{text}");
    }
    assert_eq!(json(&status)["requests"]["done"], 1);
}

/// Sends chunk after chunk, and returns whether the server closed the connection.
fn send_until_refused(connection: &mut Connection) -> bool {
    let chunk = [b"10000\r\n".as_slice(), &[b' '; 0x10000], b"\r\n"].concat();
    for _ in 0..1100 {
        if connection.stream.write_all(&chunk).is_err() {
            return true;
        }
    }
    // Everything was sent before the server closed: then the answer states the reason.
    let mut read = [0; 64];
    connection.stream.read(&mut read).is_ok_and(|count| read[..count].starts_with(b"HTTP/1.1 413"))
}
