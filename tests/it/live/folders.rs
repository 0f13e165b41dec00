//! A folder of models as people have it.

use std::fs;

use tiershift_testkit::gguf;
use tiershift_testkit::server::chat;

use crate::live::{daemon, engine, site};

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
