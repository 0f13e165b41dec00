//! llama-server in router mode, the real one: the behaviours that a manager must know, and a daemon that uses it.

use std::ops::Deref;
use std::path::Path;

use snapbox::cmd::cargo_bin;
use tiershift_testkit::daemon::Daemon;
use tiershift_testkit::engine::LlamaServer;
use tiershift_testkit::gguf;
use tiershift_testkit::process::{processes, signal};
use tiershift_testkit::server::{chat, json};
use tiershift_testkit::wait::wait_until;

use crate::live::{engine, site};
use crate::support::run_in;

/// A router.
pub(super) struct Router(LlamaServer);

impl Deref for Router {
    type Target = LlamaServer;

    fn deref(&self) -> &LlamaServer {
        &self.0
    }
}

impl Router {
    /// Starts a router for a folder's models.
    pub(super) fn start(engine: &Path, models: &Path, options: &[&str]) -> Self {
        let folder = ["--models-dir", models.to_str().unwrap(), "--no-models-autoload"];
        let sizes = ["-c", "2048", "-np", "2", "--slots", "--load-mode", "none"];
        Self(LlamaServer::start(engine, &[&folder[..], &sizes, options].concat()))
    }

    /// Returns a model's state, and the port of its process.
    pub(super) fn model(&self, name: &str) -> (String, Option<u16>) {
        let list = json(&self.get("/models"));
        let model = list["data"].as_array().unwrap().iter().find(|it| it["id"] == name).unwrap();
        let status = &model["status"];
        let arguments: Vec<&str> =
            status["args"].as_array().unwrap().iter().map(|it| it.as_str().unwrap()).collect();
        let place = arguments.iter().position(|it| *it == "--port");
        let port = place.and_then(|place| arguments[place + 1].parse().ok());
        (status["value"].as_str().unwrap().to_owned(), port.filter(|port| *port > 0))
    }

    /// Returns a model's process.
    pub(super) fn process(&self, name: &str) -> u32 {
        let port = format!("--port\0{}\0", self.model(name).1.expect("it is loaded"));
        let found = processes(|line| line.contains(&port));
        *found.first().expect("a loaded model has a process")
    }
}

#[test]
fn a_daemon_runs_on_a_router_and_takes_over_what_it_has_loaded() {
    let name = "a_daemon_runs_on_a_router_and_takes_over_what_it_has_loaded";
    let Some(engine) = engine(name) else { return };
    let folder = site(&[("a", gguf::TINY), ("b", gguf::SMALL)]);
    let router = Router::start(&engine, &folder.models(), &[]);
    router.post("/models/load", "{\"model\":\"a\"}");
    wait_until("the load", || router.model("a").0 == "loaded");
    let process = router.process("a");

    // The catalog comes from the files that the router lists; a model that is loaded is not loaded again.
    let arguments = format!("--server {} --policy policy.toml --record log", router.url());
    let daemon = Daemon::builder(cargo_bin!("tiershift"), &folder).arguments(&arguments);
    let mut daemon = daemon.start();
    let served = daemon.ask(&chat("the cat", 4)).rest();
    assert!(served.contains("x-tiershift-model: a\r\n"), "{served}");
    assert!(served.contains("data: [DONE]"), "{served}");
    daemon.wait_for("its own use", |status| {
        let own = status["resources"]["memory"]["own_bytes"].as_u64().unwrap_or_default();
        status["own_use_from"]["a"] == "processes" && own > 20_000_000
    });
    assert_eq!(router.process("a"), process, "it is the same process");

    // A switch during a stream: the router would cut it, the daemon waits.
    daemon.wait_for("the upgrade", |status| status["tier"] == "medium");
    wait_until("the end of the smaller one", || router.model("a").0 == "unloaded");
    let mut stream = daemon.ask(&chat("the dog", 60));
    stream.until("data: ");
    daemon.post("/switch", "{\"tier\":\"small\"}");
    let stream = stream.rest();
    assert!(stream.contains("x-tiershift-model: b\r\n"), "{stream}");
    assert!(stream.contains("data: [DONE]") && !stream.contains("\"error\""), "{stream}");
    daemon.wait_for("the downgrade", |status| status["tier"] == "small");
    wait_until("the end of the larger one", || router.model("b").0 == "unloaded");

    // A model that dies ends its stream with an error; the next request works.
    let mut stream = daemon.ask(&chat("the wolf", 3000));
    stream.until("data: ");
    let model = ["a", "b"].into_iter().find(|model| router.model(model).0 == "loaded").unwrap();
    signal("KILL", router.process(model));
    let stream = stream.rest();
    assert!(stream.contains("\"code\":\"model_failed\""), "{stream}");
    let served = daemon.ask(&chat("the fox", 2)).rest();
    assert!(served.contains("data: [DONE]"), "{served}");

    daemon.stop();
    assert_eq!(router.model("a").0, "unloaded");
    assert_eq!(router.model("b").0, "unloaded");
    let verified = run_in(&folder, "verify log").exits(0);
    assert!(verified.out.contains("verified"), "{}", verified.out);
}
