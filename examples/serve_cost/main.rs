//! What `tiershift serve` costs: `serve_cost TIERSHIFT LLAMA_SERVER MODELS [soak SPAN PERIOD]`.
//!
//! Uses the smallest models of a folder: a tiny one shows the most. Starts a daemon and asks it and its own model's
//! server in turns: the same process replies both times, so that the difference is the daemon's. Then the daemon rests; then
//! a server, a daemon before it and one that records before it take turns. `soak 1h 10s` does something else: an
//! hour with a switch every ten seconds, after which the daemon must be no larger. Linux only.

use std::error::Error;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use tiershift::probe::clock::SystemClock;
use tiershift_core::time::{Clock, SpanText};

use crate::daemon::{Daemon, Engine, Server, Tools};
use crate::footprint::Footprint;

mod daemon;
mod footprint;
mod soak;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    match run(&words) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(2)
        }
    }
}

fn run(words: &[String]) -> Result<bool, Box<dyn Error>> {
    let usage = "usage: serve_cost TIERSHIFT LLAMA_SERVER MODELS [soak SPAN PERIOD]";
    let [tiershift, engine, models, mode @ ..] = words else { return Err(usage.into()) };
    let path = |word: &String| {
        Path::new(word).canonicalize().map_err(|error| format!("`{word}`: {error}"))
    };
    let [tiershift, engine, models] = [path(tiershift)?, path(engine)?, path(models)?];
    let tools = |models| Tools { tiershift: &tiershift, engine: &engine, models };
    match mode {
        [] => {
            let smallest = smallest(&models, 1)?;
            measure_replies(tools(smallest.path()))?;
            measure_recorder(tools(smallest.path()))?;
            Ok(true)
        }
        [mode, span, period] if mode == "soak" => {
            let (SpanText(span), SpanText(period)) = (span.parse()?, period.parse()?);
            soak::soak(tools(smallest(&models, 2)?.path()), span, period)
        }
        _ => Err(usage.into()),
    }
}

/// Returns a folder with links to the smallest models of another: a daemon of its own can serve from it.
fn smallest(models: &Path, count: usize) -> Result<tempfile::TempDir, Box<dyn Error>> {
    let mut found: Vec<(u64, PathBuf)> = Vec::new();
    for entry in fs::read_dir(models)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "gguf") {
            found.push((fs::metadata(&path)?.len(), path));
        }
    }
    found.sort();
    if found.len() < count {
        return Err(format!("`{}` has {} models of {count}", models.display(), found.len()).into());
    }
    let folder = tempfile::tempdir()?;
    for (_, path) in found.iter().take(count) {
        let name = path.file_name().ok_or("a file has a name")?;
        symlink(path, folder.path().join(name))?;
    }
    Ok(folder)
}

/// Prints what a daemon that records adds to a reply, and what it takes when it rests.
fn measure_replies(tools: Tools<'_>) -> Result<(), Box<dyn Error>> {
    let folder = tempfile::tempdir()?;
    let daemon = Daemon::start(tools, folder.path(), &["--log", "recordings"])?;
    // The first request waits for the model.
    reply(&daemon.server)?;
    let engine = daemon.engine()?;
    println!(
        "completions of one token, each client now bare, now through the daemon, p50 and p99:"
    );
    for (clients, pace) in [(1, Duration::ZERO), (CLIENTS, PACE)] {
        let [bare, through] = paced([&engine, &daemon.server], clients, pace)?.map(|mut spans| {
            spans.sort();
            [50, 99].map(|percent| spans[(spans.len() - 1) * percent / 100].as_secs_f64() * 1000.0)
        });
        println!(
            "{clients:3} clients: {:.2} and {:.2} ms, {:.2} and {:.2} ms, {:+.2} and {:+.2} ms",
            bare[0],
            bare[1],
            through[0],
            through[1],
            through[0] - bare[0],
            through[1] - bare[1],
        );
    }
    let pid = daemon.pid();
    let mut clock = SystemClock::start();
    let before = ticks(pid)?;
    clock.wait_until(clock.now() + REST);
    // 100 ticks a second on every Linux that people run.
    let busy = (ticks(pid)? - before) as f64 / REST.as_secs_f64();
    let resident = Footprint::of(pid)?.resident_mib();
    println!("at rest: {resident:.1} MiB resident, {busy:.2} % of a core");
    Ok(())
}

/// Lets so many clients ask two servers in turns, each once in a `pace`, and returns how long each reply took.
///
/// At a pace that leaves the machine time: where clients ask as fast as they can, each reply waits for all the others,
/// and what is measured is the throughput.
fn paced(
    servers: [&Server; 2],
    clients: usize,
    pace: Duration,
) -> Result<[Vec<Duration>; 2], String> {
    std::thread::scope(|threads| {
        let each = (0..clients).map(|client| {
            threads.spawn(move || -> Result<[Vec<Duration>; 2], String> {
                let mut clock = SystemClock::start();
                let mut next = clock.now() + pace * client as u32 / clients as u32;
                let mut spans = [const { Vec::new() }; 2];
                for turn in 0..2 * PAIRS.div_ceil(clients) {
                    clock.wait_until(next);
                    next += pace;
                    // Half of the clients begin with the one, half with the other.
                    let which = (turn + client) % 2;
                    spans[which].push(reply(servers[which]).map_err(|error| error.to_string())?);
                }
                Ok(spans)
            })
        });
        let each: Vec<_> = each.collect();
        let mut all = [const { Vec::new() }; 2];
        for client in each {
            let spans = client.join().map_err(|_| "a client broke")??;
            all.iter_mut().zip(spans).for_each(|(all, spans)| all.extend(spans));
        }
        Ok(all)
    })
}

/// Prints how many requests a second a server completes bare, through a daemon without a recorder, and through one with.
fn measure_recorder(tools: Tools<'_>) -> Result<(), Box<dyn Error>> {
    let folder = tempfile::tempdir()?;
    // One server for all: two of the same model differ by several percent.
    let engine = Engine::start(tools)?;
    let plain = Daemon::before(tools, &engine.server, folder.path(), &[])?;
    let recorded = Daemon::before(tools, &engine.server, folder.path(), &["--log", "recordings"])?;
    let servers = [&engine.server, &plain.server, &recorded.server];
    let pids = [plain.pid(), recorded.pid()];
    let mut spent = [Duration::ZERO; 3];
    let mut rounds = Vec::new();
    let before = [ticks(pids[0])?, ticks(pids[1])?];
    let clock = SystemClock::start();
    for turn in 0..ROUNDS {
        let mut took = [Duration::ZERO; 3];
        // Another one goes first each time.
        for which in [turn % 3, (turn + 1) % 3, (turn + 2) % 3] {
            let begin = clock.now();
            crowd(servers[which])?;
            took[which] = clock.now().since(begin);
            spent[which] += took[which];
        }
        rounds.push(took[1].as_secs_f64() / took[2].as_secs_f64());
    }
    rounds.sort_by(f64::total_cmp);
    let after = [ticks(pids[0])?, ticks(pids[1])?];
    let requests = (ROUNDS * REQUESTS) as f64;
    let rates = spent.map(|span| requests / span.as_secs_f64());
    // Of 10 ms, on every Linux that people run.
    let each = [0, 1].map(|which| (after[which] - before[which]) as f64 * 10.0 / requests);
    println!("{CLIENTS} clients as fast as they can, in turns, requests a second:");
    println!(
        "  {:.1} bare, {:.1} without a recorder, {:.1} with one",
        rates[0], rates[1], rates[2]
    );
    println!(
        "  with a recorder {:+.1} % (median of {ROUNDS} rounds {:+.1} %)",
        (rates[2] / rates[1] - 1.0) * 100.0,
        (rounds[rounds.len() / 2] - 1.0) * 100.0,
    );
    println!("  the daemon's processor time: {:.3} and {:.3} ms a request", each[0], each[1]);
    Ok(())
}

/// Sends a round of requests, from all clients at once.
fn crowd(server: &Server) -> Result<(), String> {
    std::thread::scope(|threads| {
        let each = (0..CLIENTS).map(|_| {
            threads.spawn(move || {
                (0..REQUESTS / CLIENTS)
                    .try_for_each(|_| reply(server).map(|_| ()).map_err(|error| error.to_string()))
            })
        });
        let each: Vec<_> = each.collect();
        each.into_iter().try_for_each(|client| client.join().map_err(|_| "a client broke")?)
    })
}

/// Returns how long a reply takes.
fn reply(server: &Server) -> Result<Duration, Box<dyn Error>> {
    let clock = SystemClock::start();
    let begin = clock.now();
    server.ask("/v1/completions", Some(r#"{"prompt":"a","max_tokens":1}"#))?;
    Ok(clock.now().since(begin))
}

fn ticks(pid: u32) -> Result<u64, Box<dyn Error>> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let after = stat.rsplit_once(") ").ok_or("a process has a name")?.1;
    let numbers = after.split(' ').skip(11).take(2).map(str::parse::<u64>);
    Ok(numbers.collect::<Result<Vec<_>, _>>()?.into_iter().sum())
}

/// Of each: fifty above the 99th percentile.
const PAIRS: usize = 5000;

const CLIENTS: usize = 50;

/// Chosen: 100 requests a second, of which a core does several hundred of this size.
const PACE: Duration = Duration::from_millis(500);

/// Chosen: in turns, so that whatever else the machine does meets all alike.
const ROUNDS: usize = 21;

/// In a round.
const REQUESTS: usize = 500;

const REST: Duration = Duration::from_secs(20);
