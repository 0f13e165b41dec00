//! The information for a client about its reply: which model replied, why no better one, and when to retry.

use std::path::Path;

use tiershift_testkit::daemon::Daemon;
use tiershift_testkit::gguf;
use tiershift_testkit::policy::{POLICY, policy};
use tiershift_testkit::server::{chat, json};
use tiershift_testkit::site::Site;

use crate::live::{SERVE, engine, serve, site};

/// Two models, of which the small one also makes embeddings.
pub(super) const CATALOG: &str = r#"
[[model]]
id = "a"
tier = "small"
quality = "50%"
ram = "100MiB"
context-tokens = 4096
load-warm = "100ms"
load-cold = "1s"
prefill-tokens-per-second = 1000
decode-tokens-per-second = 500
tasks = ["chat", "embedding"]

[[model]]
id = "b"
tier = "large"
quality = "100%"
ram = "300MiB"
context-tokens = 4096
load-warm = "200ms"
load-cold = "1s"
prefill-tokens-per-second = 200
decode-tokens-per-second = 50
"#;

/// Prepares a folder for a daemon with [`CATALOG`].
fn folder(policy: &str) -> Site {
    let folder = site(&[("a", gguf::TINY), ("b", gguf::SMALL)]);
    folder.put("catalog.toml", CATALOG);
    folder.put("policy.toml", policy);
    folder
}

fn start(engine: &Path, folder: &Path) -> Daemon {
    let daemon = crate::live::daemon(engine, folder).arguments(SERVE);
    daemon.arguments("--catalog catalog.toml").start()
}

#[test]
fn a_reply_tells_what_made_it_and_why_nothing_better_did() {
    let Some(engine) = engine("a_reply_tells_what_made_it_and_why_nothing_better_did") else {
        return;
    };
    let folder = folder(&policy("manager.pin = \"small\""));
    let daemon = start(&engine, &folder);

    daemon.wait_for("the reason", |status| status["decision"]["reason"] == "fixed");
    let reply = daemon.ask(&chat("the cat", 3)).rest();
    // A client that gets less than the best, or less than it requested, gets the reason; one that gets what it requested does not.
    assert!(reply.contains("x-tiershift-degraded-because: fixed: "), "{reply}");
    let text = |model: &str| format!("{{\"prompt\":\"x\",\"max_tokens\":1,\"model\":\"{model}\"}}");
    for (model, is_told) in
        [("auto", true), ("large", true), ("gpt-4o", true), ("small", false), ("A.gguf", false)]
    {
        let reply = daemon.post("/v1/completions", &text(model));
        assert!(reply.contains("x-tiershift-tier: small\r\n"), "{model}: {reply}");
        assert_eq!(reply.contains("x-tiershift-degraded-because: "), is_told, "{model}: {reply}");
    }

    // A model's own name is binding: no other model answers.
    let named = daemon.post("/v1/completions", &text("b"));
    assert!(named.starts_with("HTTP/1.1 409 ") && !named.contains("retry-after"), "{named}");
    assert_eq!(json(&named)["error"]["code"], "held_elsewhere");

    // Embeddings come from a model that makes them, with completions of the same process running.
    let vectors = daemon.post("/v1/embeddings", "{\"input\":[\"the cat\",\"a bird\"]}");
    assert!(vectors.contains("x-tiershift-model: a\r\n"), "{vectors}");
    let vectors = json(&vectors);
    let lengths: Vec<_> =
        (0..2).map(|i| vectors["data"][i]["embedding"].as_array().map(Vec::len)).collect();
    assert_eq!(lengths, [Some(256), Some(256)], "as many numbers as the model is wide");
    let reply = daemon.ask(&chat("the cat", 3)).rest();
    assert!(reply.contains("data: [DONE]"), "{reply}");

    // An input that is too long for a vector is the client's error, not a failure of the model: the server states the remedy.
    let long =
        daemon.post("/v1/embeddings", &format!("{{\"input\":\"{}\"}}", "the cat ".repeat(400)));
    assert!(long.starts_with("HTTP/1.1 500 ") && !long.contains("retry-after"), "{long}");
    assert!(json(&long)["error"]["message"].as_str().unwrap().contains("batch size"), "{long}");
    daemon.wait_for("the end", |status| status["requests"]["running"] == 0);
    assert_eq!(json(&daemon.get("/status"))["requests"]["failed"], 0);
}

#[test]
fn a_client_that_is_not_served_is_told_when_to_come_back() {
    let Some(engine) = engine("a_client_that_is_not_served_is_told_when_to_come_back") else {
        return;
    };
    // Two run in parallel; none may wait.
    let folder = folder(&policy("manager.queue-limit = 0"));
    let daemon = start(&engine, &folder);
    daemon.wait_for("a model", |status| status["tier"] != "none");
    let mut streams: Vec<_> = (0..2).map(|_| daemon.ask(&chat("the cat", 3000))).collect();
    for stream in &mut streams {
        stream.until("data: ");
    }
    let refused = daemon.ask(&chat("the dog", 3)).rest();
    assert!(refused.starts_with("HTTP/1.1 429 "), "{refused}");
    assert!(refused.contains("retry-after: "), "{refused}");
    assert_eq!(json(&refused)["error"]["code"], "queue_full");
    drop(streams);
    daemon.wait_for("free slots", |status| status["requests"]["running"] == 0);
    let served = daemon.ask(&chat("the dog", 3)).rest();
    assert!(served.contains("data: [DONE]"), "{served}");
}

#[test]
fn embeddings_are_refused_where_no_model_makes_them() {
    let Some(engine) = engine("embeddings_are_refused_where_no_model_makes_them") else { return };
    let folder = folder(POLICY);
    let daemon = serve(&engine, &folder);
    let refused = daemon.post("/v1/embeddings", "{\"input\":\"the cat\"}");
    assert!(refused.starts_with("HTTP/1.1 501 "), "{refused}");
    assert_eq!(json(&refused)["error"]["code"], "no_embeddings");
}

#[test]
fn whatever_is_asked_is_answered_as_openai_would() {
    let Some(engine) = engine("whatever_is_asked_is_answered_as_openai_would") else { return };
    let folder = folder(&policy("manager.pin = \"small\""));
    folder.put("serve.toml", "[models]\nunknown-model = \"refuse\"\n");
    let daemon = crate::live::daemon(&engine, &folder).arguments(SERVE);
    let daemon = daemon.arguments("--catalog catalog.toml --config serve.toml").start();
    daemon.wait_for("a model", |status| status["tier"] == "small");

    // An invalid request is refused in OpenAI's form, and its words are not repeated.
    let names = [
        "../../etc/passwd",
        "a\\u0000",
        "\u{6a21}\u{578b} \\r\\nX-Evil: 1",
        "--api-key",
        "a.ggu",
        &"x".repeat(100_000),
    ];
    let mut asked: Vec<(String, u16, &str)> = names
        .iter()
        .map(|name| (format!("{{\"messages\":[],\"model\":\"{name}\"}}"), 404, "model_not_found"))
        .collect();
    let deep = "[".repeat(100_000);
    asked.push(("{\"model\":5}".to_owned(), 404, "model_not_found"));
    for body in ["", "{", "[1]", "secret", &deep] {
        asked.push((body.to_owned(), 400, "invalid_request"));
    }
    for path in ["/v1/chat/completions", "/v1/completions", "/v1/embeddings"] {
        for (body, status, code) in &asked {
            let told: String = body.chars().take(80).collect();
            let answer = daemon.post(path, body);
            assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{told}: {answer}");
            assert!(!answer.contains("secret") && !answer.contains("passwd"), "{told}: {answer}");
            assert_eq!(json(&answer)["error"]["code"], *code, "{told}");
        }
    }
    // Too long by the model's own count, in which case the daemon writes the message.
    let long = "secret ".repeat(100_000);
    for (path, body) in [
        ("/v1/completions", format!("{{\"prompt\":\"{long}\"}}")),
        (
            "/v1/chat/completions",
            format!("{{\"messages\":[{{\"role\":\"user\",\"content\":\"{long}\"}}]}}"),
        ),
    ] {
        let answer = daemon.post(path, &body);
        assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
        assert!(!answer.contains("secret"), "{answer}");
        let error = &json(&answer)["error"];
        assert_eq!(error["code"], "context_length_exceeded", "{path}");
        assert_eq!(error["n_ctx"], 4096, "{path}: {error}");
        let message = error["message"].as_str().unwrap();
        // The form that litellm and OpenAI's own clients recognise.
        assert!(message.contains("exceeds the available context size"), "{message}");
        assert!(message.contains("maximum context length is 4096 tokens"), "{message}");
    }
    for (line, status, code) in [
        ("GET /v1/chat/completions", "405", "method_not_allowed"),
        ("DELETE /v1/models", "405", "method_not_allowed"),
        ("GET /v1/models/none", "404", "model_not_found"),
        ("GET /v1/models/%ff", "404", "model_not_found"),
        ("GET /v1/models/..%2f..%2fetc%2fpasswd", "404", "model_not_found"),
        ("GET /v1/../../etc/passwd", "404", "not_found"),
    ] {
        let head = format!("{line} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        let answer = daemon.send(&head).rest();
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{line}: {answer}");
        assert_eq!(json(&answer)["error"]["code"], code, "{line}");
    }
    // The server's own words if it knows better: this is not a failure of the model.
    let refused = daemon.post("/v1/chat/completions", "{\"max_tokens\":2}");
    assert!(refused.starts_with("HTTP/1.1 400 "), "{refused}");
    assert!(json(&refused)["error"]["message"].as_str().unwrap().contains("messages"), "{refused}");

    let said = "\"messages\":[{\"role\":\"user\",\"content\":\"the cat\"}]";
    let refused = daemon.ask(&format!("{{{said},\"max_tokens\":\"x\"}}")).rest();
    assert!(refused.starts_with("HTTP/1.1 400 ") && refused.contains("max_tokens"), "{refused}");

    // Other requests of OpenAI's clients.
    assert_eq!(json(&daemon.get("/v1/models/a"))["tiershift"]["tier"], "small");
    let two = daemon
        .post("/v1/chat/completions", &format!("{{{said},\"n\":2,\"max_completion_tokens\":3}}"));
    assert_eq!(json(&two)["choices"].as_array().map(Vec::len), Some(2), "{two}");
    let usage = "\"stream\":true,\"stream_options\":{\"include_usage\":true},\"max_tokens\":3";
    let counted = daemon.ask(&format!("{{{said},{usage}}}")).rest();
    assert!(counted.contains("\"usage\":{\"completion_tokens\":3,"), "{counted}");
    assert!(counted.contains("data: [DONE]"), "{counted}");
    // No limit, in the form of llama-server's clients.
    let mut endless = daemon.ask(&format!("{{{said},\"stream\":true,\"max_tokens\":-1}}"));
    endless.until("data: ");
    drop(endless);
    daemon.wait_for("the ends", |status| {
        let requests = &status["requests"];
        requests["running"] == 0 && requests["done"] == 2 && requests["failed"] == 0
    });
}
