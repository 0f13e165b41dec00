//! Many clients, some of which disconnect; many switches; servers that are killed: every request ends once, and nothing
//! is left behind.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use tiershift::probe::clock::SystemClock;
use tiershift::sim::rng::Seed;
use tiershift_core::time::Clock;
use tiershift_testkit::daemon::Daemon;
use tiershift_testkit::gguf;
use tiershift_testkit::policy::{BY_COMMAND, policy};
use tiershift_testkit::process::{Footprint, children, is_there, signal};
use tiershift_testkit::server::chat;
use tiershift_testkit::site::Site;
use tiershift_testkit::wait;

use crate::live::story::Story;
use crate::live::{engine, serve, site};
use crate::support::run_in;

#[test]
fn two_hundred_clients_end_once_each_also_those_that_hang_up() {
    let name = "two_hundred_clients_end_once_each_also_those_that_hang_up";
    let Some(engine) = engine(name) else { return };
    let place = Place::new(&["a"], "manager.queue-limit = 256");
    let mut daemon = place.start(&engine);
    warm_up(&daemon);
    let before = Footprint::of(daemon.child.id()).unwrap();
    // Five of a hundred disconnect: half of them in the middle of a stream, half while they wait. The latter must be noticed before
    // the others arrive: a request whose client disconnects before it is queued leaves no trace.
    let give_up = |count| (0..count).map(|_| daemon.ask(&chat("the cat", 3000)));
    let mut streams: Vec<_> = give_up(SLOTS).collect();
    streams.iter_mut().for_each(|stream| stream.until("data: "));
    let waiting: Vec<_> = give_up(HANG_UPS / 2).collect();
    daemon.wait_for("a queue", |status| status["requests"]["waiting"] == HANG_UPS / 2);
    std::thread::scope(|threads| {
        for client in 0..CLIENTS - streams.len() - waiting.len() {
            let daemon = &daemon;
            threads.spawn(move || {
                if client < HANG_UPS / 2 - SLOTS {
                    return daemon.ask(&chat("the cat", 3000)).until("data: ");
                }
                let reply = daemon.ask(&chat("the cat", 6)).rest();
                assert_eq!(Reply::of(&reply), Reply::Done, "{reply}");
                assert_eq!(reply.matches("\"content\":\" ").count(), 6, "{reply}");
            });
        }
        drop(waiting);
        drop(streams);
    });
    let done = CLIENTS - HANG_UPS;
    daemon.wait_for("the end of all", |status| {
        let requests = &status["requests"];
        requests["waiting"] == 0 && requests["running"] == 0
    });
    wait_for(&before, daemon.child.id());
    let story = place.stop(&mut daemon);
    assert_eq!(story.ends(), [done + WARM_UP, 0, HANG_UPS, 0]);
}

#[test]
fn a_hundred_switches_under_load_lose_no_request_and_leave_nothing() {
    let name = "a_hundred_switches_under_load_lose_no_request_and_leave_nothing";
    let Some(engine) = engine(name) else { return };
    let place = Place::new(&["a", "b"], BY_COMMAND);
    let mut daemon = place.start(&engine);
    warm_up(&daemon);
    let (is_over, answered) = (AtomicBool::new(false), AtomicUsize::new(0));
    let mut before = None;
    std::thread::scope(|threads| {
        for _ in 0..2 {
            threads.spawn(|| {
                while !is_over.load(Ordering::Relaxed) {
                    let reply = daemon.ask(&chat("the dog", 5)).rest();
                    assert_eq!(Reply::of(&reply), Reply::Done, "{reply}");
                    answered.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        let _stop = StopOnDrop(&is_over);
        for turn in 0..SWITCHES {
            let tier = if turn % 2 == 0 { "medium" } else { "small" };
            let asked = daemon.post("/switch", &format!("{{\"tier\":\"{tier}\"}}"));
            assert!(asked.starts_with("HTTP/1.1 202 "), "{asked}");
            // The first load counts as one, too.
            daemon
                .wait_for(tier, |status| status["tier"] == tier && status["switches"] == turn + 2);
            if turn == SWITCHES / 10 {
                before = Some(Footprint::of(daemon.child.id()).unwrap());
            }
        }
    });
    daemon.wait_for("the end of all", |status| status["requests"]["running"] == 0);
    let before = before.expect("it was taken after the tenth");
    wait_for(&before, daemon.child.id());
    let story = place.stop(&mut daemon);
    // The first load and the unload at the stop are additional.
    assert_eq!(story.switches.len(), SWITCHES + 2, "{:?}", story.switches);
    assert!(story.switches[1..=SWITCHES].iter().all(|(from, to)| from != "none" && to != "none"));
    let answered = answered.into_inner() + WARM_UP;
    assert!(answered > SWITCHES, "the load was none: {answered} replies");
    assert_eq!(story.ends(), [answered, 0, 0, 0]);
}

#[test]
fn a_server_that_is_killed_ends_its_streams_with_an_error_and_nothing_else() {
    let name = "a_server_that_is_killed_ends_its_streams_with_an_error_and_nothing_else";
    let Some(engine) = engine(name) else { return };
    let place = Place::new(&["a"], "");
    let mut daemon = place.start(&engine);
    warm_up(&daemon);
    let is_over = AtomicBool::new(false);
    let counts = [const { AtomicUsize::new(0) }; 2];
    std::thread::scope(|threads| {
        for _ in 0..6 {
            threads.spawn(|| {
                while !is_over.load(Ordering::Relaxed) {
                    let reply = daemon.ask(&chat("the wolf", 1000)).rest();
                    counts[Reply::of(&reply) as usize].fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        let _stop = StopOnDrop(&is_over);
        let mut random = Seed(1).stream("kill");
        let mut clock = SystemClock::start();
        for _ in 0..KILLS {
            daemon.wait_for("a request", |status| status["requests"]["running"] != 0);
            clock.wait_until(clock.now() + Duration::from_millis(random.below(400)));
            for child in children(daemon.child.id()) {
                signal("KILL", child);
            }
        }
    });
    daemon.wait_for("the end of all", |status| {
        status["requests"]["running"] == 0 && status["requests"]["waiting"] == 0
    });
    let story = place.stop(&mut daemon);
    let [done, failed] = counts.map(AtomicUsize::into_inner);
    assert!(failed >= KILLS, "of {KILLS} servers with something to do, {failed} left an error");
    assert!(done > 0, "it works between two deaths");
    // The clients' results match the log.
    assert_eq!(story.ends(), [done + WARM_UP, failed, 0, 0]);
}

/// A client's result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reply {
    Done,
    Failed,
}

impl Reply {
    #[track_caller]
    fn of(reply: &str) -> Self {
        let ends = reply.matches("data: [DONE]").count();
        let errors = reply.matches("\"code\":\"model_failed\"").count();
        match (ends, errors) {
            (1, 0) => Self::Done,
            (0, 1) => Self::Failed,
            (_, _) => panic!("neither an end nor an error, or several: {reply}"),
        }
    }
}

/// A folder to serve from.
struct Place(Site);

impl Place {
    fn new(models: &[&str], changes: &str) -> Self {
        let models: Vec<_> = models.iter().map(|&name| (name, gguf::NANO)).collect();
        let folder = site(&models);
        folder.put("policy.toml", &policy(changes));
        Self(folder)
    }

    fn start(&self, engine: &Path) -> Daemon {
        serve(engine, &self.0)
    }

    /// Stops the daemon, and reads its log.
    #[track_caller]
    fn stop(&self, daemon: &mut Daemon) -> Story {
        let left = children(daemon.child.id());
        daemon.stop();
        for pid in left {
            assert!(!is_there(pid), "process {pid} is left behind");
        }
        run_in(&self.0, "verify log.jsonl").exits(0);
        Story::read(&self.0.join("log.jsonl"))
    }
}

/// Serves some requests in parallel, so that the daemon has allocated what it needs once.
#[track_caller]
fn warm_up(daemon: &Daemon) {
    std::thread::scope(|threads| {
        for _ in 0..WARM_UP {
            threads.spawn(|| daemon.ask(&chat("the fox", 2)).rest());
        }
    });
}

/// Waits until a process holds no more than before, plus [`SPARE_KIB`].
#[track_caller]
fn wait_for(before: &Footprint, pid: u32) {
    wait::wait_for(|| {
        let now = Footprint::of(pid).unwrap();
        let is_so = now.resident_kib <= before.resident_kib + SPARE_KIB
            && now.descriptors <= before.descriptors
            && now.threads <= before.threads
            && now.children <= before.children;
        if is_so { Ok(()) } else { Err(format!("before {before:?}, now {now:?}")) }
    });
}

/// Ends the clients even if the test fails.
struct StopOnDrop<'a>(&'a AtomicBool);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

const CLIENTS: usize = 200;
const HANG_UPS: usize = 10;
/// Requests that a model of a folder runs in parallel.
const SLOTS: usize = 2;
const SWITCHES: usize = 100;
const KILLS: usize = 10;
const WARM_UP: usize = 8;

/// What the allocator keeps for later use. Chosen: a leak of 64 KiB for each client or switch exceeds it.
const SPARE_KIB: u64 = 6 << 10;
