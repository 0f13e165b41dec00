//! A daemon under faults: `chaos TIERSHIFT LLAMA_SERVER MODELS SPAN [SEED]`.
//!
//! Fifty clients send requests to a daemon with default settings. Meanwhile its model servers are killed, stopped and ended
//! from outside, a memory hog takes the free memory, its config is reloaded, and the disk of its recordings is filled and
//! freed. Afterwards every request must have had an answer, the daemon must end normally, and its recording must verify and
//! break no invariant. Linux; without root the disk is not filled. The `hog` program must be beside this program.

use std::error::Error;
use std::fmt;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use tiershift::probe::clock::SystemClock;
use tiershift::sim::rng::{Seed, Stream};
use tiershift_core::time::{Clock, SpanText, Timestamp};
use tiershift_testkit::daemon::Daemon;
use tiershift_testkit::process::{Footprint, children, send, signal};
use tiershift_testkit::program::{self, whole_path};
use tiershift_testkit::server::{Connection, Server, chat};

fn main() -> ExitCode {
    program::run(run)
}

fn run(words: &[String]) -> Result<bool, Box<dyn Error>> {
    let (paths, rest) = words.split_at(words.len().min(3));
    let (span, seed) = match rest {
        [span] => (span, 1),
        [span, seed] => (span, seed.parse()?),
        _ => return Err("usage: chaos TIERSHIFT LLAMA_SERVER MODELS SPAN [SEED]".into()),
    };
    let SpanText(span) = span.parse()?;
    let [tiershift, engine, models] =
        [whole_path(&paths[0])?, whole_path(&paths[1])?, whole_path(&paths[2])?];
    let names = names_in(&models)?;
    let folder = tempfile::tempdir()?;
    let disk = Disk::new(folder.path().join("recordings"))?;
    fs::write(folder.path().join("serve.toml"), "")?;
    let mut daemon = Daemon::builder(&tiershift, folder.path())
        .engine(&engine)
        .arguments("--config serve.toml --record recordings --models")
        .arguments(models.to_str().ok_or("a path in UTF-8")?)
        // On a busy machine, two threads of it wait for each other.
        .variable("LLAMA_ARG_THREADS", "1")
        .errors_in("errors.txt")
        .start();
    let (is_over, counts) = (AtomicBool::new(false), Counts::default());
    let mut clock = SystemClock::start();
    let trouble = std::thread::scope(|threads| {
        for client in 0..CLIENTS {
            let (server, is_over, counts, names) = (&*daemon, &is_over, &counts, &names);
            let mut random = Seed(seed).stream(&format!("client {client}"));
            threads.spawn(move || {
                let mut clock = SystemClock::start();
                while !is_over.load(Ordering::Relaxed) {
                    let pause = random.exponential(PAUSE.as_secs_f64());
                    clock.wait_until(clock.now() + Duration::from_secs_f64(pause));
                    counts.add(ask(server, &mut random, names));
                }
            });
        }
        let random = Seed(seed).stream("trouble");
        let until = Timestamp::ZERO + span;
        let mut trouble = Trouble { daemon: daemon.child.id(), disk: &disk, random, hog: None };
        let made = trouble.make(&mut clock, until);
        is_over.store(true, Ordering::Relaxed);
        made
    })?;
    println!("{trouble}");
    println!("{counts}");
    daemon.stop();
    let verified = Command::new(&tiershift)
        .args(["verify", "--unclosed"])
        .arg(folder.path().join("recordings"))
        .status()?;
    let errors = fs::read_to_string(folder.path().join("errors.txt"))?;
    println!("the daemon's errors ({} lines), the last:", errors.lines().count());
    let first = errors.lines().count().saturating_sub(LAST_LINES);
    errors.lines().skip(first).for_each(|line| println!("  {line}"));
    Ok(verified.success() && counts.unanswered.load(Ordering::Relaxed) == 0)
}

fn names_in(models: &Path) -> Result<Vec<String>, Box<dyn Error>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(models)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "gguf") {
            names.extend(path.file_stem().and_then(|stem| stem.to_str()).map(str::to_owned));
        }
    }
    names.sort();
    if names.is_empty() { Err("a folder with models".into()) } else { Ok(names) }
}

/// The end of a request.
#[derive(Clone, Copy)]
enum Answer {
    /// A complete reply.
    Done,
    /// An error in place of the reply, or in place of its end.
    Error,
    /// A status other than 200.
    Refused,
    /// The client disconnected.
    HungUp,
    /// Nothing, or a reply without an end.
    None,
}

/// Sends the request of one of many kinds of clients.
fn ask(server: &Server, random: &mut Stream, names: &[String]) -> Answer {
    let tokens = 5 + random.below(60) as u32;
    let named = &names[random.below(names.len() as u64) as usize];
    let (path, body) = match random.below(20) {
        0 => (
            "/v1/chat/completions",
            chat("the cat", tokens)
                .replace("{\"messages", &format!("{{\"model\":\"{named}\",\"messages")),
        ),
        1 => ("/v1/chat/completions", r#"{"messages":[{"content":"no role"}]}"#.to_owned()),
        2..6 => ("/v1/completions", format!("{{\"prompt\":\"the cat\",\"max_tokens\":{tokens}}}")),
        _ => ("/v1/chat/completions", chat("the cat", tokens)),
    };
    let head = format!("Host: 127.0.0.1:{}\r\nConnection: close", server.port);
    let length = body.len();
    let request = format!(
        "POST {path} HTTP/1.1\r\n{head}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
    );
    let Ok(mut connection) = Connection::open(server.port, &request) else { return Answer::None };
    let _ = connection.stream.set_read_timeout(Some(LONGEST));
    if random.happens(HANGS_UP) {
        let _ = connection.stream.read(&mut [0; 200]);
        return Answer::HungUp;
    }
    let mut reply = String::new();
    if connection.stream.read_to_string(&mut reply).is_err() {
        return Answer::None;
    }
    match reply.get(..12) {
        Some("HTTP/1.1 200") if reply.contains("\"error\":") => Answer::Error,
        Some("HTTP/1.1 200") if reply.contains("data: [DONE]") => Answer::Done,
        Some("HTTP/1.1 200") if !reply.contains("data: ") && reply.trim_end().ends_with('}') => {
            Answer::Done
        }
        Some("HTTP/1.1 200") | None => Answer::None,
        Some(_) => Answer::Refused,
    }
}

/// How many requests ended in each way.
#[derive(Default)]
struct Counts {
    done: AtomicUsize,
    error: AtomicUsize,
    refused: AtomicUsize,
    hung_up: AtomicUsize,
    unanswered: AtomicUsize,
}

impl Counts {
    fn add(&self, answer: Answer) {
        let count = match answer {
            Answer::Done => &self.done,
            Answer::Error => &self.error,
            Answer::Refused => &self.refused,
            Answer::HungUp => &self.hung_up,
            Answer::None => &self.unanswered,
        };
        count.fetch_add(1, Ordering::Relaxed);
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let of = |count: &AtomicUsize| count.load(Ordering::Relaxed);
        write!(
            f,
            "requests: {} done, {} ended with an error, {} refused, {} hung up, {} WITHOUT AN ANSWER",
            of(&self.done),
            of(&self.error),
            of(&self.refused),
            of(&self.hung_up),
            of(&self.unanswered),
        )
    }
}

/// The place of the recordings: a separate small disk, if we may mount one.
struct Disk {
    folder: PathBuf,
    is_own: bool,
}

impl Disk {
    fn new(folder: PathBuf) -> Result<Self, Box<dyn Error>> {
        fs::create_dir(&folder)?;
        let mount = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={DISK_MIB}m"), "tmpfs"])
            .arg(&folder)
            .status();
        let is_own = mount.is_ok_and(|status| status.success());
        if !is_own {
            println!("no disk of our own: that one is not filled");
        }
        Ok(Self { folder, is_own })
    }

    /// Writes until the disk is full.
    fn fill(&self) -> Result<(), Box<dyn Error>> {
        let mut filler = File::create(self.folder.join(FILLER))?;
        let block = [0; 4096];
        while filler.write_all(&block).is_ok() {}
        Ok(())
    }

    fn free(&self) -> Result<(), Box<dyn Error>> {
        Ok(fs::remove_file(self.folder.join(FILLER))?)
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        if self.is_own {
            // The recording has been verified.
            let _ = Command::new("umount").arg(&self.folder).status();
        }
    }
}

/// Causes the faults.
struct Trouble<'a> {
    daemon: u32,
    disk: &'a Disk,
    random: Stream,
    hog: Option<Child>,
}

/// The number of faults of each kind, and the daemon's use half way and at the end.
struct Made {
    counts: [(usize, &'static str); 6],
    held: [Footprint; 2],
}

impl Trouble<'_> {
    fn make(&mut self, clock: &mut SystemClock, until: Timestamp) -> Result<Made, Box<dyn Error>> {
        let names = ["killed", "stopped for a while", "ended", "hogs", "full disks", "reloads"];
        let mut counts = names.map(|name| (0, name));
        let middle = Timestamp::ZERO + until.since(Timestamp::ZERO) / 2;
        let mut held = None;
        while clock.now() < until {
            let pause = Duration::from_secs(15 + self.random.below(30));
            clock.wait_until(clock.now() + pause);
            let which = self.random.below(counts.len() as u64) as usize;
            let is_made = match which {
                0 => self.signal_a_server("KILL"),
                1 => self.stop_a_server(clock),
                2 => self.signal_a_server("TERM"),
                3 => self.release_a_hog()?,
                4 if self.disk.is_own => {
                    self.disk.fill()?;
                    clock.wait_until(clock.now() + FULL_FOR);
                    self.disk.free()?;
                    true
                }
                4 => false,
                _ => {
                    signal("HUP", self.daemon);
                    true
                }
            };
            counts[which].0 += usize::from(is_made);
            if held.is_none() && clock.now() >= middle {
                held = Some(Footprint::of(self.daemon)?);
            }
        }
        if let Some(mut hog) = self.hog.take() {
            hog.wait()?;
        }
        let now = Footprint::of(self.daemon)?;
        Ok(Made { counts, held: [held.unwrap_or(now), now] })
    }

    fn a_server(&mut self) -> Option<u32> {
        let servers = children(self.daemon);
        let count = servers.len() as u64;
        (count > 0).then(|| servers[self.random.below(count) as usize])
    }

    /// Sends a signal to a server that may have ended meanwhile.
    fn signal_a_server(&mut self, name: &str) -> bool {
        let Some(server) = self.a_server() else { return false };
        send(name, server)
    }

    fn stop_a_server(&mut self, clock: &mut SystemClock) -> bool {
        let Some(server) = self.a_server() else { return false };
        let is_made = send("STOP", server);
        clock.wait_until(clock.now() + STOPPED_FOR);
        send("CONT", server);
        is_made
    }

    /// Starts a memory hog, one at a time.
    fn release_a_hog(&mut self) -> Result<bool, Box<dyn Error>> {
        if let Some(hog) = &mut self.hog
            && hog.try_wait()?.is_none()
        {
            return Ok(false);
        }
        let program = std::env::current_exe()?.with_file_name("hog");
        self.hog = Some(Command::new(program).args(HOG).spawn()?);
        Ok(true)
    }
}

impl fmt::Display for Made {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let counts = self.counts.iter().map(|(count, name)| format!("{count} {name}"));
        writeln!(f, "model servers and more: {}", counts.collect::<Vec<_>>().join(", "))?;
        let [middle, end] = self.held;
        write!(
            f,
            "the daemon, half way and at the end: {} and {} KiB resident, {} and {} descriptors, {} and {} threads",
            middle.resident_kib,
            end.resident_kib,
            middle.descriptors,
            end.descriptors,
            middle.threads,
            end.threads,
        )
    }
}

const CLIENTS: usize = 50;

/// Mean time between a client's requests. Chosen: together more than one model with random weights can serve at once.
const PAUSE: Duration = Duration::from_secs(10);

/// Share of the requests that are left before their end.
const HANGS_UP: f64 = 0.05;

/// Longer than anything that a client may have to wait for.
const LONGEST: Duration = Duration::from_secs(900);

const STOPPED_FOR: Duration = Duration::from_secs(45);
const FULL_FOR: Duration = Duration::from_secs(30);

/// All of the memory, up to a level above the degrade line, for a while.
const HOG: [&str; 4] = ["1TiB", "5s", "45s", "93%"];

const DISK_MIB: u32 = 64;
const FILLER: &str = "filler";
const LAST_LINES: usize = 40;
