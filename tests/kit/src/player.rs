//! Sends the requests of a trace to a daemon, at their times.

use std::error::Error;
use std::path::Path;
use std::thread::JoinHandle;
use std::time::Duration;

use tiershift::probe::clock::SystemClock;
use tiershift::sim::rng::{Seed, Stream};
use tiershift::trace::{ReadOptions, RequestReader};
use tiershift_core::request::Request;
use tiershift_core::time::{Clock, SpanText, Timestamp};

use crate::server::Server;

/// The result of a trace.
#[derive(Clone, Copy, Debug)]
pub struct Played {
    /// Requests of the trace.
    pub requests: usize,
    /// Requests and orders that were answered as they should be.
    pub answered: usize,
}

/// Sends the requests of a trace of any format, and orders tiers at moments such as `medium@60s`. Replies have the length
/// of the trace unless the model ends them earlier.
///
/// # Errors
/// A trace that cannot be read, and words that are not a tier at a moment.
pub fn play(daemon: &Server, requests: &Path, tiers: &[String]) -> Result<Played, Box<dyn Error>> {
    let mut moments = tiers
        .iter()
        .map(|word| moment(word).ok_or_else(|| format!("`{word}` is not TIER@TIME")))
        .collect::<Result<Vec<_>, _>>()?;
    let mut draw = Seed(1).stream("prompt");
    let mut reader = RequestReader::open(requests, &ReadOptions::default())?;
    while let Some((at, request)) = reader.next()? {
        moments.push((at, "/v1/completions", completion(&request, &mut draw)));
    }
    moments.sort_by_key(|(at, ..)| *at);
    let requests = moments.len() - tiers.len();
    let mut clock = SystemClock::start();
    let begin = clock.now();
    let mut sent: Vec<JoinHandle<bool>> = Vec::new();
    for (at, path, body) in moments {
        clock.wait_until(begin + at.since(Timestamp::ZERO));
        let daemon = daemon.clone();
        sent.push(std::thread::spawn(move || {
            let connection = daemon.send_post(path, &body);
            connection.stream.set_read_timeout(Some(LONGEST_SILENCE)).unwrap();
            let reply = connection.rest();
            reply.starts_with("HTTP/1.1 202 ") || reply.contains("data: [DONE]")
        }));
    }
    // A client whose connection broke has panicked: its request was not answered.
    let answered =
        sent.into_iter().filter_map(|client| client.join().ok()).filter(|&it| it).count();
    Ok(Played { requests, answered })
}

/// Reads `medium@60s`.
fn moment(word: &str) -> Option<(Timestamp, &'static str, String)> {
    let (tier, at) = word.split_once('@')?;
    let at = Timestamp::ZERO + at.parse::<SpanText>().ok()?.0;
    Some((at, "/switch", format!("{{\"tier\":\"{tier}\"}}")))
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

/// With the space before it, each is one token for the models of `random_models` (tried 2026-11-25), and four bytes,
/// which the daemon estimates as one token.
const WORDS: [&str; 40] = [
    "ban", "bar", "bat", "bit", "bus", "but", "can", "car", "cat", "cut", "dim", "dot", "fan",
    "far", "fat", "fit", "fun", "fur", "gas", "get", "got", "gum", "let", "lot", "men", "net",
    "not", "nut", "pan", "pen", "pet", "pin", "pot", "put", "ran", "run", "sat", "set", "sun",
    "ten",
];

/// Chosen: longer than the daemon lets a request wait.
const LONGEST_SILENCE: Duration = Duration::from_secs(600);
