//! Folders of models as users have them.

use std::fs;

use tiershift_testkit::gguf;
use tiershift_testkit::process::{children, servers_of};
use tiershift_testkit::server::{chat, json};

use crate::live::{daemon, engine, site};
use crate::support::run_in;

#[test]
fn a_folder_as_people_have_it_is_served_and_what_is_odd_is_named() {
    let Some(engine) = engine("a_folder_as_people_have_it_is_served_and_what_is_odd_is_named")
    else {
        return;
    };
    let folder = site(&[("a", gguf::TINY), ("b", gguf::SMALL)]);
    let models = folder.join("models");
    fs::create_dir_all(models.join("publisher/model")).unwrap();
    fs::rename(models.join("b.gguf"), models.join("publisher/model/B.GGUF")).unwrap();
    let whole = fs::read(models.join("a.gguf")).unwrap();
    fs::write(models.join("half.gguf"), &whole[..whole.len() / 2]).unwrap();
    fs::write(models.join("empty.gguf"), "").unwrap();
    std::os::unix::fs::symlink("nowhere", models.join("dangling.gguf")).unwrap();
    let arguments = "--models models --policy policy.toml";
    let mut daemon = daemon(&engine, &folder).arguments(arguments).errors_in("errors.txt").start();
    daemon.wait_for("the larger model", |status| status["tier"] == "medium");
    assert!(daemon.ask(&chat("the cat", 4)).rest().contains("data: [DONE]"));
    daemon.stop();
    let errors = fs::read_to_string(folder.join("errors.txt")).unwrap();
    for (name, why) in [
        ("half.gguf", "it ends after "),
        ("empty.gguf", "it ends in its head: it was not downloaded whole"),
        ("dangling.gguf", "it cannot be read: "),
    ] {
        assert!(errors.contains(&format!("note: `{name}` is left out: {why}")), "{name}: {errors}");
    }
}

#[test]
fn a_catalog_needs_files_only_and_a_server_gets_what_a_person_adds() {
    let name = "a_catalog_needs_files_only_and_a_server_gets_what_a_person_adds";
    let Some(engine) = engine(name) else { return };
    let long = gguf::SMALL.for_long_context(65_536);
    let folder = site(&[("a", gguf::TINY), ("b", long), ("c", gguf::TINY)]);
    folder.put("catalog.toml", "[[model]]\nfile = \"a.gguf\"\n[[model]]\nfile = \"b.gguf\"\n");
    folder.put("serve.toml", SERVE);
    let arguments = "--config serve.toml --policy policy.toml";
    let mut daemon = daemon(&engine, &folder).arguments(arguments).errors_in("errors.txt").start();
    daemon.wait_for("the larger model", |status| status["tier"] == "medium");
    assert!(daemon.ask(&chat("the cat", 4)).rest().contains("data: [DONE]"));
    // The model that the catalog omits is not served; each has the context that was given or chosen.
    let listed = json(&daemon.get("/v1/models"));
    let models = listed["data"].as_array().unwrap().iter();
    let context =
        |id: &str| models.clone().find(|it| it["id"] == id).map(|it| it["context_length"].clone());
    assert_eq!(context("a"), Some(3072.into()), "{listed:#}");
    assert_eq!(context("c"), None);
    let chosen = context("b").and_then(|it| it.as_u64()).unwrap();
    assert!((8193..65_536).contains(&chosen), "{listed:#}");
    let [server] = servers_of(&folder)[..] else { panic!("one model is loaded") };
    assert_eq!(children(daemon.child.id()), [server]);
    let words = fs::read_to_string(format!("/proc/{server}/cmdline")).unwrap().replace('\0', " ");
    assert!(words.trim_end().ends_with("--threads-batch 1 --seed 7"), "{words}");
    assert!(words.contains(&format!("--ctx-size {chosen} --parallel 1 ")), "{words}");
    let environment = fs::read_to_string(format!("/proc/{server}/environ")).unwrap();
    assert!(environment.split('\0').any(|it| it == "LLAMA_ARG_UBATCH=256"), "{environment}");
    daemon.stop();
    let errors = fs::read_to_string(folder.join("errors.txt")).unwrap();
    let line = errors.lines().find(|line| line.contains("model: `b`: tier medium, ")).unwrap();
    let end = "in each of 1 slot; estimated: quality, memory, cache, load times, speeds";
    assert!(line.ends_with(end), "{errors}");

    folder.put("serve.toml", &SERVE.replace("--seed", "--port"));
    let refused = run_in(&folder, "serve --port 0 --config serve.toml").exits(2).err;
    assert!(refused.contains("`--port` is not for a person to set"), "{refused}");
}

const SERVE: &str = r#"
[models]
folder = "models"
catalog = "catalog.toml"
args = ["--threads-batch", "1"]
env = { LLAMA_ARG_UBATCH = "256" }
slots = 1

[[model]]
id = "a"
context-tokens = 3072

[[model]]
file = "b.gguf"
args = ["--seed", "7"]
"#;
