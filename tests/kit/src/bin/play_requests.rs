//! Sends the requests of a request trace to a daemon at their times: `play_requests PORT REQUESTS [TIER@TIME]...`.
//!
//! REQUESTS is a request trace of any format. Prompts consist of words that are one token each for the models of
//! `random_models` and for most others, drawn anew for each request, so that no server has them cached. `medium@60s` orders
//! a tier at a time, by `POST /switch`. Exits with 1 if a request was not answered.

use std::path::Path;
use std::process::ExitCode;

use tiershift_testkit::player::play;
use tiershift_testkit::server::Server;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let port = words.first().and_then(|port| port.parse().ok());
    let (Some(port), [_, requests, tiers @ ..]) = (port, words.as_slice()) else {
        eprintln!("usage: play_requests PORT REQUESTS [TIER@TIME]...");
        return ExitCode::from(2);
    };
    match play(&Server::at(port), Path::new(requests), tiers) {
        Ok(played) => {
            let all = played.requests + tiers.len();
            println!("{} of {all} requests and wishes for a tier were answered", played.answered);
            if played.answered == all { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(2)
        }
    }
}
