//! The same tests for every backend: the simulated one, our own processes, the real router, and the stand-ins
//! for Ollama, LM Studio and llama-swap. Then the peculiarities of each server, and servers that fail.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver};
use std::time::Duration;

use tiershift::backend::callbacks::Callbacks;
use tiershift::backend::live::LiveBackend;
use tiershift::backend::llama_server::LlamaServer;
use tiershift::backend::remote::Remote;
use tiershift::backend::remote::server::{Kind, Server};
use tiershift::inventory::folder::Folder;
use tiershift::inventory::ladder::{Ladder, Wishes};
use tiershift::probe::clock::SystemClock;
use tiershift::sim::physics::Physics;
use tiershift::sim::rng::Seed;
use tiershift::sim::server::SimulatedServer;
use tiershift_core::backend::Backend;
use tiershift_core::event::{Command, Outcome};
use tiershift_core::machine::Machine;
use tiershift_core::model::ModelId;
use tiershift_core::time::{Clock, Timestamp};
use tiershift_testkit::gguf;
use tiershift_testkit::process::{children, is_there, signal};
use tiershift_testkit::server::{Connection, Server as Client};
use tiershift_testkit::site::Site;
use tiershift_testkit::wait::{PATIENCE, wait_until};
use tokio::runtime::Runtime;

use crate::live::router::Router;
use crate::live::standin::{Fault, StandIn};
use crate::live::{engine, site};

/// What runs the models of a test.
enum Host {
    Simulated,
    Processes,
    Router(Router),
    StandIn(StandIn),
}

/// A backend with the host of its models.
struct Rig {
    backend: Box<dyn Backend>,
    live: bool,
    host: Host,
    woken: Receiver<()>,
    clock: SystemClock,
    /// The time of the simulated backend.
    now: Timestamp,
    runtime: Option<Runtime>,
    folder: Site,
}

/// A folder with two models, and a third that is cut off.
fn folder() -> (Site, PathBuf) {
    let folder = site(&[("a", gguf::TINY), ("b", gguf::SMALL)]);
    let models = folder.models();
    let whole = fs::read(models.join("a.gguf")).unwrap();
    fs::write(models.join("broken.gguf"), &whole[..whole.len() / 2]).unwrap();
    (folder, models)
}

fn ladder(models: &Path) -> (Ladder, Folder) {
    let folder = Folder::open(models).unwrap();
    (folder.ladder(&Wishes::default(), &Machine::default()).unwrap(), folder)
}

impl Rig {
    fn simulated() -> Self {
        let (folder, models) = folder();
        let catalog = ladder(&models).0.catalog;
        let physics = Physics::default();
        let backend = Box::new(SimulatedServer::new(&catalog, &physics, &[], Seed(1)));
        Self::new(backend, Host::Simulated, mpsc::channel().1, None, folder)
    }

    fn processes(engine: &Path) -> Self {
        let (folder, models) = folder();
        let (runtime, client, hearers, woken) = tools();
        let (ladder, models) = ladder(&models);
        let launches = models.launches(&ladder).unwrap();
        let home = folder.to_path_buf();
        let handle = runtime.handle().clone();
        let server = LlamaServer::new(engine.to_owned(), home, launches, handle, client, hearers);
        let backend = Box::new(LiveBackend::Processes(server));
        Self::new(backend, Host::Processes, woken, Some(runtime), folder)
    }

    fn router(engine: &Path, options: &[&str]) -> Self {
        let (folder, models) = folder();
        let router = Router::start(engine, &models, options);
        let url = router.url();
        Self::remote(Kind::Router, &url, Host::Router(router), runtime(), folder)
    }

    fn stand_in(kind: Kind, engine: &Path) -> Self {
        let (folder, models) = folder();
        let runtime = runtime();
        let server = StandIn::start(kind, engine.to_owned(), models);
        let url = server.url();
        Self::remote(kind, &url, Host::StandIn(server), runtime, folder)
    }

    fn remote(kind: Kind, url: &str, host: Host, runtime: Runtime, folder: Site) -> Self {
        let (client, hearers, woken) = hearers();
        let (server, listed) = runtime.block_on(async {
            let server = Server::recognise(client, &url.parse().unwrap()).await.unwrap();
            let listed = server.list().await.unwrap();
            (server, listed)
        });
        assert_eq!(server.kind(), kind, "it is recognised from its answers");
        let catalog = ladder(&folder.models()).0.catalog;
        let handle = runtime.handle().clone();
        let backend = Remote::new(server, &listed, &catalog, handle, hearers).unwrap();
        let backend = Box::new(LiveBackend::Remote(backend));
        Self::new(backend, host, woken, Some(runtime), folder)
    }

    fn new(
        backend: Box<dyn Backend>,
        host: Host,
        woken: Receiver<()>,
        runtime: Option<Runtime>,
        folder: Site,
    ) -> Self {
        Self {
            backend,
            live: runtime.is_some(),
            host,
            woken,
            clock: SystemClock::start(),
            now: Timestamp::ZERO,
            runtime,
            folder,
        }
    }

    fn load(&mut self, model: &str) {
        self.backend.submit(self.now, &Command::Load { model: model.into(), gpu: None });
    }

    fn unload(&mut self, model: &str) {
        self.backend.submit(self.now, &Command::Unload { model: model.into() });
    }

    /// Returns the next outcome that comes within `span`.
    fn within(&mut self, span: Duration) -> Option<Outcome> {
        let until = self.clock.now() + span;
        loop {
            // A load that takes a while, on a busy machine for one, may report that it goes on.
            match self.backend.poll(self.now) {
                Some(Outcome::Loading { .. }) => continue,
                Some(outcome) => return Some(outcome),
                None => {}
            }
            if self.live {
                let left = until.since(self.clock.now());
                if left.is_zero() {
                    return None;
                }
                let _ = self.woken.recv_timeout(left);
            } else {
                self.now = self.backend.next_wakeup()?;
            }
        }
    }

    #[track_caller]
    fn outcome(&mut self) -> Outcome {
        self.within(PATIENCE).expect("every command is answered")
    }

    #[track_caller]
    fn comes(&mut self, want: &Outcome) {
        assert_eq!(self.outcome(), *want);
    }

    #[track_caller]
    fn loads(&mut self, model: &str) {
        self.load(model);
        self.comes(&Outcome::Loaded { model: model.into() });
    }

    #[track_caller]
    fn unloads(&mut self, model: &str) {
        self.unload(model);
        self.comes(&Outcome::Unloaded { model: model.into() });
    }

    #[track_caller]
    fn fails_to_load(&mut self, model: &str) -> String {
        self.load(model);
        match self.outcome() {
            Outcome::LoadFailed { model: told, error } if told.as_str() == model => error,
            other => panic!("{other:?}"),
        }
    }

    /// Kills a model's process from outside.
    fn crash(&self, model: &str) {
        match &self.host {
            Host::Simulated => panic!("it is told so by its own method"),
            Host::Processes => {
                let mine = children(std::process::id());
                let is_it = |pid: &&u32| {
                    let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
                    let (line, home) = (String::from_utf8_lossy(&line), &*self.folder);
                    line.contains(&format!("{}/models/{model}.gguf", home.display()))
                };
                signal("KILL", *mine.iter().find(is_it).expect("it runs"));
            }
            Host::Router(router) => signal("KILL", router.process(model)),
            Host::StandIn(server) => server.crash(model),
        }
    }

    /// Begins a long reply of a model, bypassing the backend's manager.
    fn stream(&self, model: &str, tokens: u32) -> Connection {
        let port = match &self.host {
            Host::Router(router) => router.port,
            Host::StandIn(server) => server.port,
            Host::Simulated | Host::Processes => panic!("it has no port for all models"),
        };
        let body = format!(
            "{{\"model\":\"{model}\",\"prompt\":\"the cat\",\"stream\":true,\"max_tokens\":{tokens}}}"
        );
        let mut stream = Client::at(port).send_post("/v1/completions", &body);
        stream.until("data: ");
        stream
    }
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

fn hearers() -> (reqwest::Client, Callbacks, Receiver<()>) {
    let (wake, woken) = mpsc::channel();
    let wake = Arc::new(move || {
        // A test that has ended no longer receives.
        let _ = wake.send(());
    });
    let hearers = Callbacks { wake, exit_message: Arc::new(|_: &ModelId, _: &str| {}) };
    (reqwest::Client::builder().no_proxy().build().unwrap(), hearers, woken)
}

fn tools() -> (Runtime, reqwest::Client, Callbacks, Receiver<()>) {
    let (client, hearers, woken) = hearers();
    (runtime(), client, hearers, woken)
}

/// What every backend must do. The rig knows whether it can be killed from outside and reports that.
fn conforms(rig: &mut Rig) {
    rig.loads("a");
    rig.loads("b");
    rig.unloads("a");
    // Unloading a model that is not loaded succeeds.
    rig.unloads("a");
    rig.fails_to_load("nothing");
    // Unloaded while it loads: whatever outcomes come first, the last is that it is unloaded.
    rig.load("a");
    rig.unload("a");
    loop {
        match rig.outcome() {
            Outcome::Unloaded { model } if model.as_str() == "a" => break,
            Outcome::Loaded { model } if model.as_str() == "a" => {}
            other => panic!("{other:?}"),
        }
    }
    rig.loads("a");
    if rig.live {
        rig.fails_to_load("broken");
        rig.crash("b");
        // Not every server distinguishes a crash from an intended end.
        match rig.outcome() {
            Outcome::Crashed { model, .. } | Outcome::Unloaded { model } => {
                assert_eq!(model.as_str(), "b");
            }
            other => panic!("{other:?}"),
        }
        assert_eq!(rig.within(TWO_LOOKS), None, "an end is told once");
        rig.loads("b");
    }
    rig.unloads("b");
    rig.unloads("a");
    assert_eq!(rig.within(TWO_LOOKS), None);
}

#[test]
fn the_simulated_backend_conforms() {
    conforms(&mut Rig::simulated());
}

#[test]
fn our_own_processes_conform() {
    let Some(engine) = engine("our_own_processes_conform") else { return };
    conforms(&mut Rig::processes(&engine));
}

#[test]
fn the_router_conforms() {
    let Some(engine) = engine("the_router_conforms") else { return };
    conforms(&mut Rig::router(&engine, &[]));
}

#[test]
fn a_stand_in_for_ollama_conforms() {
    let Some(engine) = engine("a_stand_in_for_ollama_conforms") else { return };
    conforms(&mut Rig::stand_in(Kind::Ollama, &engine));
}

#[test]
fn a_stand_in_for_lm_studio_conforms() {
    let Some(engine) = engine("a_stand_in_for_lm_studio_conforms") else { return };
    conforms(&mut Rig::stand_in(Kind::LmStudio, &engine));
}

#[test]
fn a_stand_in_for_llama_swap_conforms() {
    let Some(engine) = engine("a_stand_in_for_llama_swap_conforms") else { return };
    conforms(&mut Rig::stand_in(Kind::LlamaSwap, &engine));
}

#[test]
fn a_plain_server_is_taken_as_it_is() {
    let Some(engine) = engine("a_plain_server_is_taken_as_it_is") else { return };
    let mut rig = Rig::stand_in(Kind::Plain, &engine);
    rig.loads("a");
    rig.unloads("a");
    assert!(rig.stream("a", 4).rest().contains("[DONE]"), "it serves what it served before");
    rig.fails_to_load("nothing");
}

#[test]
fn an_unload_of_the_router_is_asked_for_when_no_slot_works() {
    let Some(engine) = engine("an_unload_of_the_router_is_asked_for_when_no_slot_works") else {
        return;
    };
    let mut rig = Rig::router(&engine, &[]);
    // Behaviour 1: the router would stop sending and cut the stream after 10 s.
    rig.loads("a");
    let stream = rig.stream("a", 60);
    rig.unload("a");
    let stream = stream.rest();
    assert!(stream.contains("[DONE]"), "nobody's stream was cut: {stream}");
    rig.comes(&Outcome::Unloaded { model: "a".into() });
    // Behaviour 2: a client that disconnected keeps its slot for a moment, and an unload may then take 10 s.
    rig.loads("a");
    drop(rig.stream("a", 3000));
    rig.unloads("a");
    // Behaviour 4: a load that an unload interrupts is reported as failed, but is not: the next load works.
    rig.load("b");
    rig.unloads("b");
    rig.loads("b");
    // Behaviour 3, of the router: when it stops, it ends its models, and this is reported once.
    let Host::Router(router) = &rig.host else { unreachable!("it was made so above") };
    let model = router.process("b");
    signal("TERM", router.id());
    wait_until("the end of the model", || !is_there(model));
    let Outcome::Crashed { model, .. } = rig.outcome() else { panic!("its server is gone") };
    assert_eq!(model.as_str(), "b");
    assert_eq!(rig.fails_to_load("a"), "the server is not there");
}

#[test]
fn what_the_router_drops_for_want_of_places_is_told_as_gone() {
    let Some(engine) = engine("what_the_router_drops_for_want_of_places_is_told_as_gone") else {
        return;
    };
    let mut rig = Rig::router(&engine, &["--models-max", "1"]);
    rig.loads("a");
    rig.load("b");
    // In either order.
    let mut told = [rig.outcome(), rig.outcome()];
    told.sort_by_key(|outcome| matches!(outcome, Outcome::Unloaded { .. }));
    let (a, b) = (ModelId::from("a"), ModelId::from("b"));
    assert_eq!(told, [Outcome::Loaded { model: b }, Outcome::Unloaded { model: a }]);
}

#[test]
fn ollama_keeps_what_somebody_else_would_let_go_and_finishes_what_runs() {
    let name = "ollama_keeps_what_somebody_else_would_let_go_and_finishes_what_runs";
    let Some(engine) = engine(name) else { return };
    let mut rig = Rig::stand_in(Kind::Ollama, &engine);
    rig.loads("a");
    let Host::StandIn(server) = &rig.host else { unreachable!("it was made so above") };
    Client::at(server.port).post("/api/generate", r#"{"model":"a","keep_alive":300}"#);
    wait_until("our word", || server.keep_alive("a") == -1);
    let stream = rig.stream("a", 60);
    rig.unload("a");
    assert!(stream.rest().contains("[DONE]"), "it was not cut");
    rig.comes(&Outcome::Unloaded { model: "a".into() });
}

#[test]
fn servers_that_break_are_told_from_models_that_do() {
    let Some(engine) = engine("servers_that_break_are_told_from_models_that_do") else { return };
    for kind in [Kind::Ollama, Kind::LmStudio, Kind::LlamaSwap] {
        let mut rig = Rig::stand_in(kind, &engine);
        let break_by = |rig: &Rig, fault| match &rig.host {
            Host::StandIn(server) => server.break_by(fault),
            _ => unreachable!("it was made so above"),
        };
        break_by(&rig, Fault::Full);
        assert_eq!(rig.fails_to_load("a"), "the server answered 503", "{kind:?}");
        break_by(&rig, Fault::Breaks);
        assert_eq!(rig.fails_to_load("a"), "the server answered 500", "{kind:?}");
        break_by(&rig, Fault::Hangs);
        assert_eq!(rig.fails_to_load("a"), "the server does not answer", "{kind:?}");
        break_by(&rig, Fault::None);
        rig.loads("a");
        // It hangs for a moment, which does not count, and then for good.
        break_by(&rig, Fault::Hangs);
        assert_eq!(rig.within(TWO_LOOKS), None, "{kind:?}");
        let Outcome::Crashed { error, .. } = rig.outcome() else { panic!("it hangs: {kind:?}") };
        assert_eq!(error, "the server does not answer", "{kind:?}");
        break_by(&rig, Fault::None);
        // A model that is still loaded is recognised, and not loaded twice.
        rig.loads("a");
        let Host::StandIn(server) = &mut rig.host else { unreachable!("it was made so above") };
        server.end();
        let Outcome::Crashed { error, .. } = rig.outcome() else { panic!("it is gone: {kind:?}") };
        assert_eq!(error, "the server is not there", "{kind:?}");
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        // Its tasks end with it, not with the test's process.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// Enough time for a keeper to look twice.
const TWO_LOOKS: Duration = Duration::from_millis(1200);
