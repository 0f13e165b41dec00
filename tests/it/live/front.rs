//! Every request that works with a bare llama-server works the same through the daemon: each case is sent to both.

use std::path::Path;

use serde_json::Value;
use tiershift::log::LogReader;
use tiershift_core::event::{Event, Input, Outcome};
use tiershift_testkit::daemon::Daemon;
use tiershift_testkit::engine::LlamaServer;
use tiershift_testkit::gguf;
use tiershift_testkit::process::servers_of;
use tiershift_testkit::server::{Server, json};
use tiershift_testkit::site::Site;

use crate::live::serving::CATALOG;
use crate::live::{SERVE, engine, site};
use crate::support::run_in;

/// A daemon whose small model serves, and a bare server with the same model and the same arguments. There is no try-out,
/// after which a busy machine's model is loaded again.
fn pair(engine: &Path, arguments: &str) -> (Site, Daemon, LlamaServer) {
    let folder = site(&[("a", gguf::TINY), ("b", gguf::SMALL)]);
    folder.put("catalog.toml", CATALOG);
    folder.put(
        "pinned.toml",
        "sampling-interval = \"500ms\"\nmanager.pin = \"small\"\nmanager.try-out = false\n",
    );
    folder.put("hasty-token", HASTY);
    folder.put("serve.toml", "[[client]]\ntoken-file = \"hasty-token\"\ndeadline = \"200ms\"\n");
    let daemon = crate::live::daemon(engine, &folder)
        .arguments("--models models --record log.jsonl --config serve.toml");
    let daemon = daemon.arguments("--policy pinned.toml --catalog catalog.toml");
    let daemon = daemon.arguments(arguments).start();
    daemon.wait_for("a model", |status| status["tier"] == "small");
    let model = folder.models().join("a.gguf");
    let arguments = ["--alias", "a", "--ctx-size", "8192", "--parallel", "2", "--embeddings"];
    let model = ["--model", model.to_str().unwrap(), "--pooling", "mean", "--load-mode", "none"];
    let bare = LlamaServer::start(engine, &[arguments.as_slice(), &model].concat());
    (folder, daemon, bare)
}

/// The token of a client that does not wait.
const HASTY: &str = "hasty-and-some-more-letters";

fn status_of(answer: &str) -> &str {
    answer.split(' ').nth(1).unwrap_or_default()
}

/// Returns the content of an answer, without the parts that differ from answer to answer.
fn words(answer: &str) -> Value {
    let mut body = json(answer);
    for key in ["id", "created", "created_at", "timings", "system_fingerprint"] {
        body.as_object_mut().map(|it| it.remove(key));
    }
    body
}

#[track_caller]
fn check_same(daemon: &Server, bare: &Server, path: &str, body: &str) {
    let (through, alone) = (daemon.post(path, body), bare.post(path, body));
    let told: String = body.chars().take(100).collect();
    assert_eq!(status_of(&through), status_of(&alone), "{path} {told}: {through}\n{alone}");
    if status_of(&alone) != "200" {
        assert_eq!(words(&through), words(&alone), "{path} {told}");
        assert!(!through.contains("retry-after"), "{path} {told}: {through}");
    }
}

#[test]
fn what_a_server_says_of_a_bad_request_is_the_clients_and_counts_against_nobody() {
    let name = "what_a_server_says_of_a_bad_request_is_the_clients_and_counts_against_nobody";
    let Some(engine) = engine(name) else { return };
    let (_folder, daemon, bare) = pair(&engine, "");
    let picture = r#"[{"type":"text","text":"what"},{"type":"image_url","image_url":{"url":"data:image/png;base64,iVBORw0KGgo="}}]"#;
    let bad = [
        r#"{"messages":[{"content":"hi"}]}"#.to_owned(),
        format!("{{\"messages\":[{{\"role\":\"user\",\"content\":{picture}}}]}}"),
        r#"{"messages":[{"role":"user","content":"hi"}],"max_tokens":"x"}"#.to_owned(),
        r#"{"messages":[{"role":"user","content":"hi"}],"max_tokens":2,"grammar":"root ::= ("}"#
            .to_owned(),
        "{}".to_owned(),
    ];
    for _ in 0..3 {
        for body in &bad {
            check_same(&daemon, &bare, "/v1/chat/completions", body);
        }
    }
    check_same(&daemon, &bare, "/v1/messages", "{}");
    check_same(&daemon, &bare, "/infill", r#"{"input_prefix":"a","input_suffix":"b"}"#);
    daemon.wait_for("the ends", |status| {
        let requests = &status["requests"];
        requests["running"] == 0 && requests["failed"] == 0 && status["tier"] == "small"
    });
}

#[test]
fn every_path_of_the_model_s_server_is_there() {
    let Some(engine) = engine("every_path_of_the_model_s_server_is_there") else { return };
    let (folder, daemon, bare) = pair(&engine, "");
    daemon.wait_for("the model", |status| status["tier"] == "small");
    let servers = servers_of(&folder);
    let said = r#""messages":[{"role":"user","content":"the cat"}]"#;
    let chat = format!("{{{said},\"max_tokens\":3}}");
    for (path, body) in [
        ("/v1/chat/completions", chat.as_str()),
        ("/chat/completions", &chat),
        ("/v1/completions", r#"{"prompt":"the cat","max_tokens":3}"#),
        ("/completions", r#"{"prompt":"the cat","max_tokens":3}"#),
        ("/completion", r#"{"prompt":"the cat","n_predict":3}"#),
        ("/v1/responses", r#"{"input":"the cat","max_output_tokens":3}"#),
        ("/v1/messages", &chat),
        ("/v1/messages/count_tokens", &chat),
        ("/v1/chat/completions/input_tokens", &chat),
        ("/tokenize", r#"{"content":"the cat"}"#),
        ("/detokenize", r#"{"tokens":[1,2]}"#),
        ("/apply-template", &chat),
        ("/v1/embeddings", r#"{"input":"the cat"}"#),
        ("/embedding", r#"{"content":"the cat"}"#),
        // Unusual requests are not refused on a guess: a batch, a long limit, letters as Python escapes them.
        (
            "/v1/chat/completions",
            &format!("{{{said},\"max_tokens\":4090,\"ignore_eos\":false,\"stop\":[\" \"]}}"),
        ),
        (
            "/v1/completions",
            &format!("{{\"prompt\":\"{}\",\"max_tokens\":1}}", "\\u0434".repeat(1900)),
        ),
        (
            "/v1/embeddings",
            &format!("{{\"input\":[{}]}}", vec!["\"the cat sat on the mat\""; 120].join(",")),
        ),
    ] {
        let answer = daemon.post(path, body);
        assert_eq!(status_of(&answer), "200", "{path}: {answer}");
        check_same(&daemon, &bare, path, body);
    }
    for path in ["/tokenize", "/detokenize", "/apply-template", "/v1/messages/count_tokens"] {
        let body = format!("{{{said},\"content\":\"the cat\",\"tokens\":[5]}}");
        assert_eq!(words(&daemon.post(path, &body)), words(&bare.post(path, &body)), "{path}");
    }
    for path in
        ["/props", "/slots", "/lora-adapters", "/models", "/v1/models", "/health", "/v1/health"]
    {
        assert_eq!(status_of(&daemon.get(path)), "200", "{path}");
    }
    // Streams to their last event, for each API.
    for (path, body, last) in [
        ("/v1/messages", format!("{{{said},\"max_tokens\":3,\"stream\":true}}"), "message_stop"),
        (
            "/v1/responses",
            r#"{"input":"the cat","max_output_tokens":3,"stream":true}"#.to_owned(),
            "response.completed",
        ),
        (
            "/completion",
            r#"{"prompt":"the cat","n_predict":3,"stream":true}"#.to_owned(),
            "\"stop\":true",
        ),
    ] {
        let answer = daemon.post(path, &body);
        assert!(answer.contains(last) && !answer.contains("model_failed"), "{path}: {answer}");
    }
    let status = json(&daemon.get("/status"));
    assert_eq!(status["requests"]["failed"], 0, "{status:#}");
    assert_eq!(
        status["requests"]["cancelled"], 0,
        "a stream that came to its end was taken for cancelled: {status:#}"
    );
    // Queries that need no slot are answered while all slots are taken.
    let long = format!("{{{said},\"max_tokens\":3000,\"stream\":true,\"ignore_eos\":true}}");
    let mut streams: Vec<_> = (0..2).map(|_| daemon.ask(&long)).collect();
    for stream in &mut streams {
        stream.until("data: ");
    }
    assert!(daemon.post("/tokenize", r#"{"content":"the cat"}"#).contains("tokens"));
    drop(streams);
    // An unknown path is answered with the path to use.
    for (path, advice) in [
        ("/v1/v1/chat/completions", "use /v1/chat/completions"),
        ("/api/chat", "/v1/chat/completions"),
        ("/v1/audio/speech", "/v1/responses"),
    ] {
        let answer = daemon.post(path, "{}");
        assert_eq!(status_of(&answer), "404", "{path}: {answer}");
        assert!(answer.contains(advice), "{path}: {answer}");
    }
    assert_eq!(servers_of(&folder), servers, "nothing of this had the model replaced");
}

#[test]
fn a_page_that_was_allowed_asks_and_reads_and_gives_no_orders() {
    let name = "a_page_that_was_allowed_asks_and_reads_and_gives_no_orders";
    let Some(engine) = engine(name) else { return };
    let folder = site(&[("a", gguf::TINY)]);
    folder.put("token", "c0ffee-and-some-more-letters\n");
    folder.put("orders", "0dde75-and-some-more-letters\n");
    let daemon = crate::live::daemon(&engine, &folder).arguments(SERVE);
    let daemon = daemon.arguments("--token-file token --order-token-file orders");
    let daemon = daemon.arguments("--allow-origin https://app.example").start();
    let send = |line: &str, headers: &str, body: &str| {
        let length = body.len();
        let head = format!("{line} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n");
        let kind = "Content-Type: application/json\r\n";
        daemon.send(&format!("{head}{kind}{headers}Content-Length: {length}\r\n\r\n{body}")).rest()
    };
    let page = "Origin: https://app.example\r\n";
    // A browser first sends a preflight request, without a token.
    let wants = "Access-Control-Request-Method: POST\r\nAccess-Control-Request-Headers: authorization,x-stainless-os\r\n";
    let first = send("OPTIONS /v1/chat/completions", &format!("{page}{wants}"), "");
    assert_eq!(status_of(&first), "204", "{first}");
    assert!(first.contains("access-control-allow-origin: https://app.example"), "{first}");
    assert!(
        first.contains("access-control-allow-headers: authorization,x-stainless-os"),
        "{first}"
    );
    let other = format!("Origin: https://evil.example\r\n{wants}");
    let other = send("OPTIONS /v1/chat/completions", &other, "");
    assert_eq!(status_of(&other), "403", "{other}");
    assert!(!other.contains("access-control-"), "{other}");
    // Then it sends the request, in the way of Anthropic's clients, and may read the answer.
    let key = "x-api-key: c0ffee-and-some-more-letters\r\n";
    let chat = r#"{"messages":[{"role":"user","content":"the cat"}],"max_tokens":2}"#;
    let reply = send("POST /v1/chat/completions", &format!("{page}{key}"), chat);
    assert_eq!(status_of(&reply), "200", "{reply}");
    assert!(reply.contains("access-control-allow-origin: https://app.example"), "{reply}");
    assert_eq!(reply.matches("access-control-allow-origin").count(), 1, "{reply}");
    let without = send("POST /v1/chat/completions", page, chat);
    assert_eq!(status_of(&without), "401", "{without}");
    assert!(without.contains("access-control-allow-origin"), "a page reads why: {without}");
    // Orders have their own token, and no page may send them.
    let order = r#"{"tier":"none"}"#;
    let orders = "Authorization: Bearer 0dde75-and-some-more-letters\r\n";
    assert_eq!(status_of(&send("POST /switch", key, order)), "401");
    assert_eq!(status_of(&send("POST /switch", &format!("{page}{orders}"), order)), "403");
    assert_eq!(status_of(&send("POST /switch", orders, order)), "202");
    // And other requests that clients send.
    let head = send("HEAD /v1/models", key, "");
    assert!(head.starts_with("HTTP/1.1 200 ") && head.ends_with("\r\n\r\n"), "{head}");
    let packed =
        send("POST /v1/chat/completions", &format!("{key}Content-Encoding: gzip\r\n"), chat);
    assert_eq!(status_of(&packed), "415", "{packed}");
}

#[test]
fn a_model_is_loaded_for_its_name_and_whoever_waits_is_served() {
    let name = "a_model_is_loaded_for_its_name_and_whoever_waits_is_served";
    let Some(engine) = engine(name) else { return };
    let folder = site(&[("a", gguf::TINY), ("b", gguf::SMALL)]);
    folder.put("catalog.toml", CATALOG);
    folder.put(
        "policy.toml",
        "sampling-interval = \"500ms\"\nconstrain = [\"memory\"]\nmanager.patience = \"1s\"\n\
         manager.switch-cooldown = \"1s\"\nmanager.named-stays = \"2s\"\nmanager.start = \"small\"\n",
    );
    folder.put("serve.toml", "[models.aliases]\n\"gpt-4o\" = \"B\"\n");
    let daemon = crate::live::daemon(&engine, &folder).arguments(SERVE);
    let daemon = daemon.arguments("--catalog catalog.toml --config serve.toml").start();
    daemon.wait_for("a model", |status| status["tier"] == "small");
    let text = |model: &str, tokens: u32, stream: bool| {
        format!(
            "{{\"model\":\"{model}\",\"prompt\":\"the cat\",\"max_tokens\":{tokens},\"stream\":{stream},\"ignore_eos\":true}}"
        )
    };
    // Two long replies take both slots, and a third client waits longer than its patience. No reply is cut for a named model.
    let mut long: Vec<_> =
        (0..2).map(|_| daemon.send_post("/v1/completions", &text("auto", 1500, true))).collect();
    for stream in &mut long {
        stream.until("data: ");
    }
    let third = daemon.send_post("/v1/completions", &text("auto", 2, false));
    let named = daemon.send_post("/v1/completions", &text("GPT-4o", 2, false));
    let again = daemon.send_post("/v1/completions", &text("openai/b.gguf", 2, false));
    for stream in long {
        assert!(stream.rest().contains("data: [DONE]"), "a stream was cut");
    }
    for (reply, model) in [(third, None), (named, Some("b")), (again, Some("b"))] {
        let reply = reply.rest();
        assert_eq!(status_of(&reply), "200", "{reply}");
        assert!(
            model.is_none_or(|it| reply.contains(&format!("x-tiershift-model: {it}\r\n"))),
            "{reply}"
        );
    }
    let back = daemon.post("/v1/completions", &text("a", 2, false));
    assert!(back.contains("x-tiershift-model: a\r\n"), "{back}");
    // An unknown name is answered by the model that serves, and a header states it.
    let unknown = daemon.post("/v1/completions", &text("gpt-5", 2, false));
    assert!(unknown.contains("x-tiershift-unknown-model: gpt-5\r\n"), "{unknown}");
    // A request with its own limit gets an answer by then.
    let late = daemon.post("/v1/completions", &text("auto", 2, false).replace("\"auto\"", "\"b\""));
    assert!(late.contains("x-tiershift-model: b\r\n"), "{late}");
    let list = json(&daemon.get("/v1/models"));
    let ids: Vec<&str> =
        list["data"].as_array().unwrap().iter().filter_map(|it| it["id"].as_str()).collect();
    assert_eq!(ids, ["auto", "small", "large", "a", "b", "gpt-4o"]);
    for entry in list["data"].as_array().unwrap() {
        assert_eq!(entry["context_length"], 4096, "{entry}");
        assert!(entry["meta"]["size"].as_u64() > Some(1 << 20), "{entry}");
        assert!(entry["created"].as_i64() > Some(1_600_000_000), "{entry}");
    }
    assert_eq!(json(&daemon.get("/v1/models/B.gguf"))["id"], "b");
    assert_eq!(json(&daemon.get("/v1/models/large"))["tiershift"]["model"], "b");
    let mut daemon = daemon;
    daemon.stop();
    run_in(&folder, "verify log.jsonl").exits(0);
}

#[test]
fn whoever_sets_a_deadline_is_answered_at_it() {
    let Some(engine) = engine("whoever_sets_a_deadline_is_answered_at_it") else { return };
    let (_folder, daemon, _bare) = pair(&engine, "");
    let long = r#"{"prompt":"the cat","max_tokens":3000,"stream":true,"ignore_eos":true}"#;
    let mut streams: Vec<_> = (0..2).map(|_| daemon.send_post("/v1/completions", long)).collect();
    for stream in &mut streams {
        stream.until("data: ");
    }
    let body = r#"{"prompt":"the cat","max_tokens":1}"#;
    let ask = |headers: &str| {
        let length = body.len();
        let head = "POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n";
        daemon.send(&format!("{head}{headers}Content-Length: {length}\r\n\r\n{body}")).rest()
    };
    let by_token = format!("Authorization: Bearer {HASTY}\r\n");
    for deadline in ["x-tiershift-deadline: 200ms\r\n", &by_token] {
        let late = ask(deadline);
        assert_eq!(status_of(&late), "503", "{late}");
        assert_eq!(json(&late)["error"]["code"], "deadline");
        assert!(late.contains("retry-after: "), "{late}");
    }
    for wrong in ["x-tiershift-deadline: soon\r\n", "x-tiershift-priority: 300\r\n"] {
        let refused = ask(wrong);
        assert_eq!(status_of(&refused), "400", "{refused}");
        assert!(refused.contains("x-tiershift-"), "it says which: {refused}");
    }
    drop(streams);
}

#[test]
fn the_length_of_a_prompt_is_estimated_by_what_the_server_counted_before() {
    let name = "the_length_of_a_prompt_is_estimated_by_what_the_server_counted_before";
    let Some(engine) = engine(name) else { return };
    let (folder, mut daemon, _bare) = pair(&engine, "");
    for words in ["the cat sat on a mat ", "one dog ran to the sea "] {
        let prompt = words.repeat(60);
        let body = format!(r#"{{"prompt":"{prompt}","max_tokens":1}}"#);
        assert_eq!(status_of(&daemon.post("/v1/completions", &body)), "200");
    }
    daemon.stop();
    let (mut estimated, mut counted) = (Vec::new(), Vec::new());
    for record in &mut LogReader::open(&folder.join("log.jsonl")).unwrap() {
        match record.unwrap().event {
            Event::Input(Input::Request(request)) => estimated.push(request.prompt_tokens),
            Event::Input(Input::Outcome(Outcome::Done { prompt_tokens, .. })) => {
                counted.push(prompt_tokens.unwrap());
            }
            _ => {}
        }
    }
    let error = |it: usize| (1.0 - f64::from(estimated[it]) / f64::from(counted[it])).abs();
    assert!(error(1) < error(0) * 0.75, "{estimated:?} {counted:?}");
}
