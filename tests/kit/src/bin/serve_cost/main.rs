//! The overhead of `tiershift serve`: `serve_cost TIERSHIFT LLAMA_SERVER MODELS [soak SPAN PERIOD]`.
//!
//! Uses the smallest models of a folder: a tiny model shows the overhead best. Starts a daemon and sends requests alternately
//! to it, to its model server, and to an nginx before that server (if installed). The same process replies each time, so
//! that the difference is that of the daemon or nginx. Then it measures the daemon at rest. Then a bare server, a daemon
//! before it and a recording daemon before it alternate. `soak 1h 10s` does something else: an hour with a switch every ten
//! seconds, after which the daemon must not have grown. Linux only.

use std::error::Error;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use tiershift::probe::clock::SystemClock;
use tiershift_core::time::{Clock, SpanText};
use tiershift_testkit::daemon::{Builder, Daemon};
use tiershift_testkit::engine::LlamaServer;
use tiershift_testkit::process::{Footprint, children};
use tiershift_testkit::program::{self, whole_path};
use tiershift_testkit::server::Server;

mod nginx;
mod soak;

use nginx::Nginx;

/// The programs of a measurement.
#[derive(Clone, Copy, Debug)]
struct Tools<'a> {
    tiershift: &'a Path,
    engine: &'a Path,
}

impl Tools<'_> {
    /// Returns the command for a daemon in a folder with `models`.
    fn daemon(&self, folder: &Path) -> Builder {
        self.plain_daemon(folder).engine(self.engine).arguments("--models models")
    }

    /// llama-server's threads busy-wait for each other, so that two of them on a busy machine need seconds for what one does
    /// in milliseconds; and they are not what is measured.
    fn plain_daemon(&self, folder: &Path) -> Builder {
        Daemon::builder(self.tiershift, folder).variable("LLAMA_ARG_THREADS", "1")
    }
}

fn main() -> ExitCode {
    program::run(run)
}

fn run(words: &[String]) -> Result<bool, Box<dyn Error>> {
    let usage = "usage: serve_cost TIERSHIFT LLAMA_SERVER MODELS [soak SPAN PERIOD]";
    let [tiershift, engine, models, mode @ ..] = words else { return Err(usage.into()) };
    let [tiershift, engine, models] =
        [whole_path(tiershift)?, whole_path(engine)?, whole_path(models)?];
    let tools = Tools { tiershift: &tiershift, engine: &engine };
    match mode {
        [] => {
            measure_replies(tools, smallest(&models, 1)?.path())?;
            measure_recorder(tools, smallest(&models, 1)?.path())?;
            Ok(true)
        }
        [mode, total, period] if mode == "soak" => {
            let (SpanText(total), SpanText(period)) = (total.parse()?, period.parse()?);
            soak::soak(tools, smallest(&models, 2)?.path(), total, period)
        }
        _ => Err(usage.into()),
    }
}

/// Returns a folder to serve from, whose `models` are links to the smallest models of another.
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
    fs::create_dir(folder.path().join("models"))?;
    for (_, path) in found.iter().take(count) {
        let name = path.file_name().ok_or("a file has a name")?;
        symlink(path, folder.path().join("models").join(name))?;
    }
    Ok(folder)
}

/// Prints what a recording daemon adds to a reply, and its use at rest.
fn measure_replies(tools: Tools<'_>, folder: &Path) -> Result<(), Box<dyn Error>> {
    let daemon = tools.daemon(folder).arguments("--record recordings").start();
    // The first request waits for the model.
    reply(&daemon)?;
    let engine = model_server(daemon.child.id())?;
    let nginx = Nginx::start(folder, &engine)?;
    let mut servers: Vec<(&str, &Server)> = vec![("bare", &engine), ("daemon", &daemon)];
    match &nginx {
        Some(nginx) => servers.push(("nginx", &nginx.server)),
        None => println!("no nginx here: left out"),
    }
    println!("completions of one token, each client now by one way, now by another, in ms:");
    for clients in [1, CLIENTS, MANY_CLIENTS] {
        let pace = if clients == 1 { Duration::ZERO } else { PACE * clients as u32 };
        let ways: Vec<&Server> = servers.iter().map(|(_, server)| *server).collect();
        let mut bare = None;
        for ((name, _), mut spans) in servers.iter().zip(paced(&ways, clients, pace)?) {
            spans.sort();
            let [p50, p99] = [50, 99]
                .map(|percent| spans[(spans.len() - 1) * percent / 100].as_secs_f64() * 1000.0);
            let [p50_of_bare, p99_of_bare] = *bare.get_or_insert([p50, p99]);
            println!(
                "{clients:4} clients, {name:6}: p50 {p50:.2} ({:+.2}), p99 {p99:.2} ({:+.2})",
                p50 - p50_of_bare,
                p99 - p99_of_bare,
            );
        }
    }
    drop(nginx);
    let pid = daemon.child.id();
    let mut clock = SystemClock::start();
    let before = ticks(pid)?;
    clock.wait_until(clock.now() + REST);
    // 100 ticks a second on every common Linux.
    let busy = (ticks(pid)? - before) as f64 / REST.as_secs_f64();
    let resident = Footprint::of(pid)?.resident_mib();
    println!("at rest: {resident:.1} MiB resident, {busy:.2} % of a core");
    Ok(())
}

/// Lets this many clients send requests to the servers in turn, one in each `pace`, and returns the times of all replies by server.
///
/// The pace must leave the machine idle time: if clients send as fast as they can, each reply waits for all the others,
/// and the throughput is measured instead.
fn paced(
    servers: &[&Server],
    clients: usize,
    pace: Duration,
) -> Result<Vec<Vec<Duration>>, String> {
    std::thread::scope(|threads| {
        let each = (0..clients).map(|client| {
            threads.spawn(move || -> Result<Vec<Vec<Duration>>, String> {
                let mut clock = SystemClock::start();
                let mut next = clock.now() + pace * client as u32 / clients as u32;
                let mut spans = vec![Vec::new(); servers.len()];
                for turn in 0..servers.len() * EACH.div_ceil(clients) {
                    clock.wait_until(next);
                    next += pace;
                    // Each server comes first for the same number of clients.
                    let which = (turn + client) % servers.len();
                    spans[which].push(reply(servers[which]).map_err(|error| error.to_string())?);
                }
                Ok(spans)
            })
        });
        let each: Vec<_> = each.collect();
        let mut all = vec![Vec::new(); servers.len()];
        for client in each {
            let spans = client.join().map_err(|_| "a client broke")??;
            all.iter_mut().zip(spans).for_each(|(all, spans)| all.extend(spans));
        }
        Ok(all)
    })
}

/// Prints the throughput of a server [requests/s]: bare, through a daemon without a recorder, and through one with it.
fn measure_recorder(tools: Tools<'_>, folder: &Path) -> Result<(), Box<dyn Error>> {
    // One server for all: two servers of the same model differ by several percent.
    let model = fs::read_dir(folder.join("models"))?.next().ok_or("there is a model")??.path();
    let model = model.to_str().ok_or("a path in UTF-8")?;
    let engine = LlamaServer::start(tools.engine, &["--parallel", "4", "--model", model]);
    let plain = tools.plain_daemon(folder).arguments(&format!("--server {}", engine.url()));
    let plain = plain.start();
    let recorded = tools.plain_daemon(folder).arguments(&format!("--server {}", engine.url()));
    let recorded = recorded.arguments("--record recordings").start();
    let servers: [&Server; 3] = [&engine, &plain, &recorded];
    let pids = [plain.child.id(), recorded.child.id()];
    let mut spent = [Duration::ZERO; 3];
    let mut rounds = Vec::new();
    let before = [ticks(pids[0])?, ticks(pids[1])?];
    let clock = SystemClock::start();
    for turn in 0..ROUNDS {
        let mut took = [Duration::ZERO; 3];
        // Another one comes first each time.
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
    // Ticks of 10 ms, on every common Linux.
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
    let reply = server.post("/v1/completions", r#"{"prompt":"a","max_tokens":1}"#);
    let span = clock.now().since(begin);
    if reply.starts_with("HTTP/1.1 200 ") { Ok(span) } else { Err(reply.into()) }
}

/// Returns the model server that a daemon has started. What its clients need to know is in the environment of its process.
fn model_server(daemon: u32) -> Result<Server, Box<dyn Error>> {
    for id in children(daemon) {
        let line = fs::read_to_string(format!("/proc/{id}/cmdline"))?;
        if let Some(port) = line.split('\0').skip_while(|word| *word != "--port").nth(1) {
            let variables = fs::read_to_string(format!("/proc/{id}/environ"))?;
            let mut variables = variables.split('\0');
            let key = variables.find_map(|word| word.strip_prefix("LLAMA_API_KEY="));
            return Ok(Server { port: port.parse()?, key: key.map(str::to_owned) });
        }
    }
    Err("it has no model".into())
}

fn ticks(pid: u32) -> Result<u64, Box<dyn Error>> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let after = stat.rsplit_once(") ").ok_or("a process has a name")?.1;
    let numbers = after.split(' ').skip(11).take(2).map(str::parse::<u64>);
    Ok(numbers.collect::<Result<Vec<_>, _>>()?.into_iter().sum())
}

/// For each: fifty samples above the 99th percentile.
const EACH: usize = 5000;

const CLIENTS: usize = 50;

const MANY_CLIENTS: usize = 200;

/// From one request to the next, over all clients. Chosen: a core does several hundred of this size a second.
const PACE: Duration = Duration::from_millis(10);

/// Chosen: in turns, so that other load on the machine affects all equally.
const ROUNDS: usize = 21;

/// In each round.
const REQUESTS: usize = 500;

const REST: Duration = Duration::from_secs(20);
