//! A companion beside the ladder: an embedding model on the GPU, chat models in main memory.

use tiershift_core::units::Bytes;
use tiershift_testkit::gguf;
use tiershift_testkit::gpu::Gpu;
use tiershift_testkit::server::{chat, json};
use tiershift_testkit::skip::skip;

use crate::live::orders::{FROM_LARGE, SLIGHT, model};
use crate::live::{SERVE, daemon, engine, site};
use crate::support::run_in;

const EMBEDDER: &str = r#"
[[model]]
id = "embedder"
companion = true
tasks = ["embedding"]
ram = "10MiB"
vram = "2GiB"
context-tokens = 512
load-warm = "200ms"
load-cold = "1s"
prefill-tokens-per-second = 1000
decode-tokens-per-second = 100
"#;

#[test]
fn a_companion_serves_beside_the_ladder_and_goes_alone_where_its_space_is_short() {
    let name = "a_companion_serves_beside_the_ladder_and_goes_alone_where_its_space_is_short";
    let Some(engine) = engine(name) else { return };
    let folder = site(&[("a", gguf::TINY), ("b", gguf::SMALL), ("embedder", gguf::TINY)]);
    folder.put("policy.toml", FROM_LARGE);
    let ladder = model("a", "small", 50, SLIGHT[0]) + &model("b", "large", 100, SLIGHT[1]);
    folder.put("catalog.toml", &(ladder + EMBEDDER));
    let (all, own) = (Bytes::from_gib(8), Bytes::from_gib(2));
    let gpu = match Gpu::build(&folder, all, "embedder.gguf", own) {
        Ok(gpu) => gpu,
        Err(why) => return skip("cc", name, &why),
    };
    let mut builder = daemon(&engine, &folder).arguments(SERVE).arguments("--catalog catalog.toml");
    for (variable, value) in gpu.variables() {
        builder = builder.variable(variable, value);
    }
    let mut daemon = builder.start();
    daemon.wait_for("both", |status| {
        status["tier"] == "large" && status["companions"][0]["serves"] == true
    });

    // By its task, and by its name.
    for named in ["", ",\"model\":\"embedder\""] {
        let body = format!("{{\"input\":\"the cat\"{named}}}");
        let vectors = daemon.post("/v1/embeddings", &body);
        assert!(vectors.contains("x-tiershift-model: embedder\r\n"), "{vectors}");
        assert!(!vectors.contains("x-tiershift-tier"), "a companion is of no tier: {vectors}");
        assert_eq!(json(&vectors)["data"][0]["embedding"].as_array().unwrap().len(), 256);
    }
    let listed = json(&daemon.get("/v1/models/embedder"));
    assert_eq!(listed["tiershift"]["serves"], true, "{listed}");
    let reply = daemon.ask(&chat("the cat", 4)).rest();
    assert!(reply.contains("x-tiershift-tier: large\r\n"), "{reply}");

    // Others need the GPU: the companion is unloaded, and the chat model stays as it was.
    gpu.set_others(Bytes::from_gib(6));
    daemon.wait_for("the GPU's memory", |status| {
        status["companions"][0]["serves"] == false
            && status["resources"]["gpus"][0]["vram"]["own_bytes"] == 0
    });
    let status = json(&daemon.get("/status"));
    assert_eq!((&status["tier"], &status["switches"]), (&"large".into(), &1.into()), "{status}");
    let reply = daemon.ask(&chat("the dog", 4)).rest();
    assert!(reply.contains("x-tiershift-tier: large\r\n"), "{reply}");
    daemon.stop();
    run_in(&folder, "verify log.jsonl").exits(0);
}
