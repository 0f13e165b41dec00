//! The daemon from end to end: a real llama-server, real models, real sockets on loopback.

use tiershift_testkit::gguf;
use tiershift_testkit::process::{children, is_there, signal};
use tiershift_testkit::server::{chat, json};

use crate::live::story::log_text;
use crate::live::{engine, serve, site};
use crate::support::run_in;

#[test]
fn a_daemon_serves_scales_records_and_leaves_nothing_behind() {
    let Some(engine) = engine("a_daemon_serves_scales_records_and_leaves_nothing_behind") else {
        return;
    };
    let folder = site(&[("a", gguf::TINY), ("b", gguf::SMALL)]);
    let mut daemon = serve(&engine, &folder);

    // A request waits for the first model, and is then streamed.
    let stream = daemon.ask(&chat("the cat", 8)).rest();
    assert!(stream.contains("x-tiershift-model: a\r\n"), "{stream}");
    assert!(stream.contains("x-tiershift-tier: small\r\n"), "{stream}");
    assert!(stream.contains("content-type: text/event-stream\r\n"), "{stream}");
    assert!(stream.matches("\"content\":\" ").count() == 8, "{stream}");
    assert!(stream.contains("data: [DONE]"), "{stream}");

    // The window has passed: the daemon steps up by itself.
    daemon.wait_for("the upgrade", |status| status["tier"] == "medium");

    // A switch cuts no stream, and the next request is served by the other model.
    let mut stream = daemon.ask(&chat("the dog", 40));
    stream.until("data: ");
    let asked = daemon.post("/switch", "{\"tier\":\"small\"}");
    assert!(asked.starts_with("HTTP/1.1 202 "), "{asked}");
    let stream = stream.rest();
    assert!(stream.contains("x-tiershift-tier: medium\r\n"), "{stream}");
    assert!(stream.contains("data: [DONE]") && !stream.contains("\"error\""), "{stream}");
    daemon.wait_for("the downgrade", |status| status["tier"] == "small");
    let whole = daemon.post("/v1/completions", "{\"prompt\":\"a bird\",\"max_tokens\":3}");
    assert!(whole.contains("x-tiershift-tier: small\r\n"), "{whole}");
    assert_eq!(json(&whole)["usage"]["completion_tokens"], 3, "{whole}");

    // A client that disconnects frees its slot.
    let mut stream = daemon.ask(&chat("the fish", 3000));
    stream.until("data: ");
    drop(stream);
    daemon.wait_for("the hang-up", |status| {
        status["requests"]["cancelled"] == 1 && status["requests"]["running"] == 0
    });

    // A model that dies ends its stream with an error; the next request works.
    let mut stream = daemon.ask(&chat("the wolf", 3000));
    stream.until("data: ");
    for child in children(daemon.child.id()) {
        signal("KILL", child);
    }
    let stream = stream.rest();
    assert!(stream.contains("\"code\":\"model_failed\""), "{stream}");
    let stream = daemon.ask(&chat("the fox", 2)).rest();
    assert!(stream.contains("data: [DONE]"), "{stream}");

    // An unknown name is answered by the model that serves, on loopback.
    let unknown =
        daemon.post("/v1/completions", "{\"prompt\":\"the cat\",\"max_tokens\":1,\"model\":\"c\"}");
    assert!(unknown.starts_with("HTTP/1.1 200 "), "{unknown}");
    assert!(unknown.contains("x-tiershift-unknown-model: c\r\n"), "{unknown}");
    let mistaken = daemon.post("/v1/completions", "{\"max_tokens\":1}");
    assert!(mistaken.starts_with("HTTP/1.1 4"), "the server's own answer: {mistaken}");
    let foreign = daemon
        .send("GET /status HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n")
        .rest();
    assert!(foreign.starts_with("HTTP/1.1 403 "), "{foreign}");
    let listed = json(&daemon.get("/v1/models"));
    let ids: Vec<_> = listed["data"].as_array().unwrap().iter().map(|it| &it["id"]).collect();
    assert_eq!(ids, ["auto", "small", "medium", "a", "b"]);

    // On a stop, running replies finish.
    let mut stream = daemon.ask(&chat("the end", 30));
    stream.until("data: ");
    let left = children(daemon.child.id());
    assert!(!left.is_empty(), "a model runs");
    signal("TERM", daemon.child.id());
    let stream = stream.rest();
    assert!(stream.contains("data: [DONE]"), "{stream}");
    let code = daemon.wait();
    assert_eq!(code, Some(0));
    for pid in left {
        assert!(!is_there(pid), "process {pid} is left behind");
    }

    // The run can be repeated from its log, which contains no words of users.
    let verified = run_in(&folder, "verify log.jsonl").exits(0);
    assert!(verified.out.contains("verified"), "{}", verified.out);
    let log = log_text(&folder.join("log.jsonl"));
    for word in ["the cat", "a bird", "the end"] {
        assert!(!log.contains(word), "the log holds \"{word}\"");
    }
    assert!(log.contains("\"prompt_tokens\":"), "the log has the server's counts: {log}");
    let place = folder.to_string_lossy().into_owned();
    assert!(!log.contains(&place), "the log tells of this machine's folders");
}

#[test]
fn a_daemon_is_refused_where_it_could_be_reached_from_elsewhere() {
    let folder = tempfile::tempdir().unwrap();
    gguf::write(&folder.path().join("a.gguf"), gguf::TINY).unwrap();
    let refused = run_in(folder.path(), "serve --models . --host 0.0.0.0").exits(2);
    assert!(refused.err.contains("give a token with --token-file"), "{}", refused.err);
    let refused = run_in(folder.path(), "serve --models . --llama-server ./none").exits(2);
    assert!(refused.err.contains("`./none` cannot be started"), "{}", refused.err);
}
