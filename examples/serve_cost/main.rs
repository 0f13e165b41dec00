//! What `tiershift serve` costs: `serve_cost TIERSHIFT LLAMA_SERVER MODELS [soak SPAN PERIOD]`.
//!
//! Uses the smallest models of a folder: a tiny one shows the most. Starts a daemon and asks it and its own model's
//! server in turns: the same process replies both times, so that the difference is the daemon's. Then a daemon with a
//! recorder and one without take turns; then the first rests. `soak 1h 10s` does something else: an hour with a switch
//! every ten seconds, after which the daemon must be no larger. Linux only.

use std::error::Error;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use tiershift::time::{Clock, SpanText, SystemClock};

use crate::daemon::{Daemon, Tools, ask};
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
            let [recorded, plain] = [smallest(&models, 1)?, smallest(&models, 1)?];
            measure(tools(recorded.path()), tools(plain.path()))?;
            Ok(true)
        }
        [mode, span, period] if mode == "soak" => {
            let (span, period) = (duration(span).ok_or(usage)?, duration(period).ok_or(usage)?);
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

fn measure(recorded: Tools<'_>, plain: Tools<'_>) -> Result<(), Box<dyn Error>> {
    let folder = tempfile::tempdir()?;
    let recorded = Daemon::start(recorded, folder.path(), &["--log", "recordings"])?;
    let plain = Daemon::start(plain, folder.path(), &[])?;
    // The first request waits for the model.
    for daemon in [&recorded, &plain] {
        reply(daemon.port)?;
    }
    let direct = recorded.engine_port()?;
    println!(
        "completions of one token: p50 and p99 bare, then through the daemon, then what that adds"
    );
    for clients in [1, 50] {
        let (mut bare, mut through) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            bare.extend(round(direct, clients)?);
            through.extend(round(recorded.port, clients)?);
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
    compare_recorders(&recorded, &plain)?;
    let pid = recorded.pid();
    let mut clock = SystemClock::start();
    let before = ticks(pid)?;
    clock.wait_until(clock.now() + REST);
    // 100 ticks a second on every Linux that people run.
    let busy = (ticks(pid)? - before) as f64 / REST.as_secs_f64();
    let resident = Footprint::of(pid)?.resident_mib();
    println!("at rest: {resident:.1} MiB resident, {busy:.2} % of a core");
    Ok(())
}

/// Prints how many requests a second are served with a recorder and without.
fn compare_recorders(recorded: &Daemon, plain: &Daemon) -> Result<(), Box<dyn Error>> {
    let mut spent = [Duration::ZERO; 2];
    let before = [ticks(recorded.pid())?, ticks(plain.pid())?];
    let clock = SystemClock::start();
    for turn in 0..2 * ROUNDS {
        // The other goes first each time.
        for which in [turn % 2, 1 - turn % 2] {
            let begin = clock.now();
            round([recorded, plain][which].port, CLIENTS)?;
            spent[which] += clock.now().since(begin);
        }
    }
    let after = [ticks(recorded.pid())?, ticks(plain.pid())?];
    let requests = (2 * ROUNDS * (REQUESTS / CLIENTS) * CLIENTS) as f64;
    let [with, without] = spent.map(|span| requests / span.as_secs_f64());
    let each = [0, 1].map(|which| (after[which] - before[which]) as f64 * 10.0 / requests);
    println!(
        "recorder on and off, {CLIENTS} clients: {with:.1} and {without:.1} requests/s, {:+.1} %; {:.3} and {:.3} ms of \
         the daemon's processor time each",
        (with / without - 1.0) * 100.0,
        each[0],
        each[1],
    );
    Ok(())
}

/// Sends requests from so many clients at once, and returns how long each took.
fn round(port: u16, clients: usize) -> Result<Vec<Duration>, String> {
    std::thread::scope(|threads| {
        let each = (0..clients).map(|_| {
            threads.spawn(move || -> Result<Vec<Duration>, String> {
                (0..(REQUESTS / clients).max(1))
                    .map(|_| reply(port).map_err(|error| error.to_string()))
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

/// Returns how long a reply takes.
fn reply(port: u16) -> Result<Duration, Box<dyn Error>> {
    let clock = SystemClock::start();
    let begin = clock.now();
    ask(port, "/v1/completions", Some(r#"{"prompt":"a","max_tokens":1}"#))?;
    Ok(clock.now().since(begin))
}

fn ticks(pid: u32) -> Result<u64, Box<dyn Error>> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let after = stat.rsplit_once(") ").ok_or("a process has a name")?.1;
    let numbers = after.split(' ').skip(11).take(2).map(str::parse::<u64>);
    Ok(numbers.collect::<Result<Vec<_>, _>>()?.into_iter().sum())
}

fn duration(text: &str) -> Option<Duration> {
    let quoted = format!("\"{text}\"");
    serde_json::from_str::<SpanText>(&quoted).ok().map(|span| span.0)
}

/// Chosen: direct and through the daemon in turns, so that whatever else the machine does meets both.
const ROUNDS: usize = 5;

/// In a round.
const REQUESTS: usize = 500;

/// Of the comparison of recorders.
const CLIENTS: usize = 50;

const REST: Duration = Duration::from_secs(20);
