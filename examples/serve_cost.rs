//! What `tiershift serve` costs beside the bare model server: `serve_cost TIERSHIFT LLAMA_SERVER MODELS`.
//!
//! Starts a daemon over a folder of models, and asks it and its own model's server in turns: the same process replies
//! both times, so that the difference is the daemon's. Then the daemon rests. Linux only. A tiny model shows the most.

use std::error::Error;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::Duration;

use tiershift::time::{Clock, SystemClock};

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [tiershift, engine, models] = words.as_slice() else {
        eprintln!("usage: serve_cost TIERSHIFT LLAMA_SERVER MODELS");
        return ExitCode::from(2);
    };
    match measure(tiershift, engine, models) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(2)
        }
    }
}

fn measure(tiershift: &str, engine: &str, models: &str) -> Result<(), Box<dyn Error>> {
    let folder = tempfile::tempdir()?;
    let daemon = Daemon::start(tiershift, engine, models, folder.path())?;
    // The first request waits for the model.
    ask(daemon.port)?;
    let direct = engine_port(daemon.child.id())?;
    println!(
        "completions of one token: p50 and p99 bare, then through the daemon, then what that adds"
    );
    for clients in [1, 50] {
        let (mut bare, mut through) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            bare.extend(round(direct, clients)?);
            through.extend(round(daemon.port, clients)?);
        }
        let [bare, through] = [bare, through].map(|mut spans| {
            spans.sort();
            [50, 99].map(|percent| spans[(spans.len() - 1) * percent / 100])
        });
        let millis = |span: Duration| span.as_secs_f64() * 1000.0;
        println!(
            "{clients:3} clients: {:.2} and {:.2} ms, {:.2} and {:.2} ms, {:+.2} and {:+.2} ms",
            millis(bare[0]),
            millis(bare[1]),
            millis(through[0]),
            millis(through[1]),
            millis(through[0]) - millis(bare[0]),
            millis(through[1]) - millis(bare[1]),
        );
    }
    let pid = daemon.child.id();
    let mut clock = SystemClock::start();
    let before = ticks(pid)?;
    clock.wait_until(clock.now() + REST);
    // 100 ticks a second on every Linux that people run.
    let busy = (ticks(pid)? - before) as f64 / REST.as_secs_f64();
    println!("at rest: {:.1} MiB resident, {busy:.2} % of a core", resident_mib(pid)?);
    Ok(())
}

/// Sends requests from so many clients at once, and returns how long each took.
fn round(port: u16, clients: usize) -> Result<Vec<Duration>, String> {
    std::thread::scope(|threads| {
        let each = (0..clients).map(|_| {
            threads.spawn(move || -> Result<Vec<Duration>, String> {
                (0..(REQUESTS / clients).max(1))
                    .map(|_| ask(port).map_err(|error| error.to_string()))
                    .collect()
            })
        });
        let each: Vec<_> = each.collect();
        let mut all = Vec::new();
        for client in each {
            all.extend(client.join().map_err(|_| "a client broke")??);
        }
        Ok(all)
    })
}

fn ask(port: u16) -> Result<Duration, Box<dyn Error>> {
    let body = r#"{"prompt":"a","max_tokens":1}"#;
    let clock = SystemClock::start();
    let begin = clock.now();
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_nodelay(true)?;
    write!(
        stream,
        "POST /v1/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n\
         Connection: close\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )?;
    let mut reply = String::new();
    stream.read_to_string(&mut reply)?;
    if reply.starts_with("HTTP/1.1 200 ") {
        Ok(clock.now().since(begin))
    } else {
        Err(reply.into())
    }
}

struct Daemon {
    child: Child,
    port: u16,
}

impl Daemon {
    fn start(
        tiershift: &str,
        engine: &str,
        models: &str,
        folder: &Path,
    ) -> Result<Self, Box<dyn Error>> {
        let mut child = Command::new(tiershift)
            .args(["serve", "--port", "0", "--models", models, "--llama-server", engine, "--log"])
            .arg(folder.join("recordings"))
            .stdout(Stdio::piped())
            .spawn()?;
        let mut line = String::new();
        let out = child.stdout.take().ok_or("it has an output")?;
        BufReader::new(out).read_line(&mut line)?;
        let port = line.trim().rsplit(':').next().and_then(|port| port.parse().ok());
        Ok(Self { child, port: port.ok_or("it says where it listens")? })
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // SIGTERM, so that it stops its models.
        let _ = Command::new("kill").arg(self.child.id().to_string()).status();
        let _ = self.child.wait();
    }
}

/// Returns the port of the model's server that a daemon has started.
fn engine_port(daemon: u32) -> Result<u16, Box<dyn Error>> {
    let children = fs::read_dir(format!("/proc/{daemon}/task"))?
        .flatten()
        .map(|task| fs::read_to_string(task.path().join("children")).unwrap_or_default());
    let ids: Vec<String> = children.flat_map(|text| words(&text)).collect();
    for id in ids {
        let line = fs::read_to_string(format!("/proc/{id}/cmdline"))?;
        let mut arguments = line.split('\0');
        if arguments.any(|word| word == "--port")
            && let Some(port) = arguments.next()
        {
            return Ok(port.parse()?);
        }
    }
    Err("it has no model".into())
}

fn words(text: &str) -> Vec<String> {
    text.split_ascii_whitespace().map(str::to_owned).collect()
}

fn ticks(pid: u32) -> Result<u64, Box<dyn Error>> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let after = stat.rsplit_once(") ").ok_or("a process has a name")?.1;
    let numbers = after.split(' ').skip(11).take(2).map(str::parse::<u64>);
    Ok(numbers.collect::<Result<Vec<_>, _>>()?.into_iter().sum())
}

fn resident_mib(pid: u32) -> Result<f64, Box<dyn Error>> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).ok_or("no size")?;
    let kib: f64 = line.split_ascii_whitespace().next().ok_or("no size")?.parse()?;
    Ok(kib / 1024.0)
}

/// Chosen: direct and through the daemon in turns, so that whatever else the machine does meets both.
const ROUNDS: usize = 5;

/// In a round.
const REQUESTS: usize = 500;

const REST: Duration = Duration::from_secs(20);
