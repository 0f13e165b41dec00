//! The daemon waits for a model server that is not up yet.

use std::fs;
use std::net::TcpListener;

use snapbox::cmd::cargo_bin;
use tiershift_testkit::daemon::Daemon;
use tiershift_testkit::engine::LlamaServer;
use tiershift_testkit::gguf;
use tiershift_testkit::process::signal;
use tiershift_testkit::server::{chat, json};
use tiershift_testkit::wait::wait_until;

use crate::live::{engine, site};

#[test]
fn a_daemon_waits_for_its_model_server_and_says_so_to_everybody() {
    let name = "a_daemon_waits_for_its_model_server_and_says_so_to_everybody";
    let Some(engine) = engine(name) else { return };
    let folder = site(&[("a", gguf::TINY)]);
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    // In the form that clients have in their settings.
    let arguments = format!("--server http://127.0.0.1:{port}/v1 --policy policy.toml");
    let start = || {
        let daemon = Daemon::builder(cargo_bin!("tiershift"), &folder).arguments(&arguments);
        daemon.errors_in("errors.txt").start()
    };
    // A daemon that is stopped while it waits ends normally.
    let mut waiting = start();
    signal("HUP", waiting.child.id());
    assert!(waiting.get("/healthz").starts_with("HTTP/1.1 503 "));
    waiting.stop();

    let mut daemon = start();
    for answer in
        [daemon.get("/healthz"), daemon.get("/v1/models"), daemon.ask(&chat("the cat", 2)).rest()]
    {
        assert!(
            answer.starts_with("HTTP/1.1 503 ") && answer.contains("\r\nretry-after: "),
            "{answer}"
        );
        assert_eq!(json(&answer)["error"]["code"], "no_server");
    }
    let model = folder.models().join("a.gguf");
    let arguments = ["--model", model.to_str().unwrap(), "--alias", "a", "--ctx-size", "6144"];
    let arguments = arguments.into_iter().chain(["--parallel", "3"]).collect::<Vec<_>>();
    let _server = LlamaServer::start_at(port, &engine, &arguments);
    wait_until("the daemon", || {
        daemon.try_get("/status").is_ok_and(|it| it.starts_with("HTTP/1.1 200 "))
    });
    daemon.wait_for("the model", |status| status["tier"] == "small");
    // The use of a server of one model is that of its process.
    daemon.wait_for("its use", |status| status["own_use_from"]["a"] == "processes");
    assert!(daemon.get("/healthz").starts_with("HTTP/1.1 200 "));
    assert!(daemon.ask(&chat("the cat", 2)).rest().contains("data: [DONE]"));
    daemon.stop();
    let errors = fs::read_to_string(folder.join("errors.txt")).unwrap();
    assert!(errors.contains("no model server answers at http://127.0.0.1:"), "{errors}");
    assert!(errors.contains(" server: llama-server answers at http://127.0.0.1:"), "{errors}");
    assert!(errors.contains("can neither load nor unload models"), "{errors}");
    assert!(errors.contains("2048 tokens of context in each of 3 slots"), "{errors}");
}
