//! Asks a daemon what a request trace says, when it says it: `play_requests PORT REQUESTS [TIER@TIME]...`.
//!
//! REQUESTS is a request trace of any format. Replies are as long as the trace says where the model does not end them
//! before; prompts are of words that are one token each for the models of `random_models` and for most others, drawn
//! anew for each request, so that no server has them cached. `medium@60s` asks for a tier at a time, as `POST /switch`.

use std::error::Error;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::ExitCode;
use std::thread::JoinHandle;
use std::time::Duration;

use tiershift::probe::clock::SystemClock;
use tiershift::sim::rng::{Seed, Stream};
use tiershift::trace::{ReadOptions, RequestReader};
use tiershift_core::request::Request;
use tiershift_core::time::{Clock, SpanText, Timestamp};

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    match run(&words) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(2)
        }
    }
}

fn run(words: &[String]) -> Result<(), Box<dyn Error>> {
    let usage = "usage: play_requests PORT REQUESTS [TIER@TIME]...";
    let [port, requests, wanted @ ..] = words else { return Err(usage.into()) };
    let port: u16 = port.parse().map_err(|_| usage)?;
    let mut moments = wanted
        .iter()
        .map(|word| moment(word).ok_or_else(|| format!("`{word}` is no tier at a time")))
        .collect::<Result<Vec<_>, _>>()?;
    let mut draw = Seed(1).stream("prompt");
    let mut reader = RequestReader::open(Path::new(requests), &ReadOptions::default())?;
    while let Some((at, request)) = reader.next()? {
        moments.push((at, "/v1/completions", completion(&request, &mut draw)));
    }
    moments.sort_by_key(|(at, ..)| *at);
    let count = moments.len() - wanted.len();
    let mut clock = SystemClock::start();
    let begin = clock.now();
    let mut asked: Vec<JoinHandle<std::io::Result<bool>>> = Vec::new();
    for (at, path, body) in moments {
        clock.wait_until(begin + at.since(Timestamp::ZERO));
        asked.push(std::thread::spawn(move || ask(port, path, &body)));
    }
    let mut done = 0_usize;
    for one in asked {
        done += usize::from(one.join().map_err(|_| "a client broke")??);
    }
    println!("{} of {count} requests and {} wishes were heard", done - wanted.len(), wanted.len());
    Ok(())
}

/// Reads `medium@60s`.
fn moment(word: &str) -> Option<(Timestamp, &'static str, String)> {
    let (tier, at) = word.split_once('@')?;
    let at = at.parse::<SpanText>().ok()?.0;
    Some((Timestamp::ZERO + at, "/switch", format!("{{\"tier\":\"{tier}\"}}")))
}

fn completion(request: &Request, draw: &mut Stream) -> String {
    let words: Vec<&str> = (0..request.prompt_tokens.max(1))
        .map(|_| WORDS[draw.below(WORDS.len() as u64) as usize])
        .collect();
    format!(
        "{{\"prompt\":\"{}\",\"max_tokens\":{},\"stream\":true}}",
        words.join(" "),
        request.output_tokens.max(1)
    )
}

/// Sends a request, and returns whether it was done.
fn ask(port: u16, path: &str, body: &str) -> std::io::Result<bool> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    write!(
        stream,
        "POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n\
         Connection: close\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )?;
    let mut reply = String::new();
    stream.read_to_string(&mut reply)?;
    Ok(reply.starts_with("HTTP/1.1 202 ") || reply.contains("data: [DONE]"))
}

/// With the space before it, each is one token for the models of `random_models` (tried 2026-11-25), and four bytes,
/// which is what the daemon takes a token for.
const WORDS: [&str; 40] = [
    "ban", "bar", "bat", "bit", "bus", "but", "can", "car", "cat", "cut", "dim", "dot", "fan",
    "far", "fat", "fit", "fun", "fur", "gas", "get", "got", "gum", "let", "lot", "men", "net",
    "not", "nut", "pan", "pen", "pet", "pin", "pot", "put", "ran", "run", "sat", "set", "sun",
    "ten",
];

/// Chosen: longer than the daemon lets a request wait.
const PATIENCE: Duration = Duration::from_secs(600);
