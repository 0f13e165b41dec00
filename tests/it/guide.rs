//! The guide in `docs/`: its commands work, its links lead somewhere, and its list of settings matches the schema.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;
use snapbox::Data;
use snapbox::cmd::{Command, cargo_bin};
use tiershift_testkit::skip::is_installed;

use crate::support::{root, run_in};

/// A block of code, and the text after its opening marks.
struct Block {
    kind: String,
    text: String,
}

fn pages() -> Vec<PathBuf> {
    let mut pages: Vec<PathBuf> = fs::read_dir(root().join("docs"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "md"))
        .collect();
    pages.sort();
    pages
}

fn blocks(page: &str) -> Vec<Block> {
    let mut parts = page.split("\n```");
    parts.next();
    let mut blocks = Vec::new();
    // Opening and closing marks alternate.
    while let Some(block) = parts.next() {
        let (kind, text) = block.split_once('\n').unwrap();
        blocks.push(Block { kind: kind.to_owned(), text: format!("{text}\n") });
        parts.next();
    }
    blocks
}

/// Blocks marked `sh` are run one after the other in a folder with the project's traces, scenarios and examples; a block marked
/// `file=NAME` becomes a file there. Blocks that need a model server or a recording are marked `console` and not run.
#[test]
fn what_the_guide_says_to_type_works() {
    if !is_installed("python3", "what_the_guide_says_to_type_works") {
        return;
    }
    let mut run = 0;
    for page in pages() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["traces", "scenarios", "examples"] {
            std::os::unix::fs::symlink(root().join(name), folder.path().join(name)).unwrap();
        }
        for Block { kind, text } in blocks(&fs::read_to_string(&page).unwrap()) {
            if let Some((_, name)) = kind.split_once("file=") {
                fs::write(folder.path().join(name), text).unwrap();
            } else if kind == "sh" {
                type_in(folder.path(), &page, &text);
                run += 1;
            }
        }
    }
    assert!(run >= 10, "{run} blocks of the guide were run");
}

fn type_in(folder: &Path, page: &Path, text: &str) {
    let program = cargo_bin!("tiershift").parent().unwrap();
    let path = std::env::var("PATH").unwrap();
    let ran = Command::new("bash")
        .args(["-euc", text])
        .current_dir(folder)
        .env("PATH", format!("{}:{path}", program.display()))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&ran.stderr);
    assert!(ran.status.success(), "{}:\n{text}\n{said}", page.display());
}

#[test]
fn every_link_of_the_guide_leads_somewhere() {
    let mut readers = pages();
    readers.push(root().join("README.md"));
    for page in readers {
        let text = fs::read_to_string(&page).unwrap();
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let target = link.split('#').next().unwrap();
            if target.is_empty() || target.contains("://") {
                continue;
            }
            let there = page.parent().unwrap().join(target);
            assert!(there.exists(), "{} links to {link}", page.display());
        }
    }
}

#[test]
fn a_page_is_no_longer_than_three_screens() {
    for page in pages().iter().filter(|page| !page.ends_with("settings.md")) {
        let lines = fs::read_to_string(page).unwrap().lines().count();
        assert!(lines <= 130, "{} has {lines} lines", page.display());
    }
}

#[test]
fn the_list_of_settings_is_the_schemas() {
    let ran = run_in(root(), "schema policy").exits(0);
    let schema: Value = serde_json::from_str(&ran.out).unwrap();
    let mut page = String::from(
        "# Settings\n\n\
         These are the keys of a policy file (`--policy FILE`) and of `[policy]` in a scenario or in the daemon's config. `--set \
         KEY=VALUE` sets one of them on the command line. The list is generated from `tiershift schema policy`, which gives editors completion.\n",
    );
    write_table(&mut page, "Policy", "", &schema["properties"]);
    let manager = &schema["$defs"]["RawManagerSettings"]["properties"];
    write_table(&mut page, "Manager", "manager.", manager);
    snapbox::Assert::new()
        .action_env(snapbox::assert::DEFAULT_ACTION_ENV)
        .eq(page, Data::read_from(&root().join("docs/settings.md"), None).raw());
}

fn write_table(page: &mut String, title: &str, prefix: &str, properties: &Value) {
    write!(page, "\n## {title}\n\n| key | default | meaning |\n| --- | --- | --- |\n").unwrap();
    let properties: BTreeMap<&String, &Value> = properties.as_object().unwrap().iter().collect();
    for (key, about) in properties {
        // Settings without effect are left out; nested settings have their own table.
        if about["writeOnly"] == true || about["default"].is_object() {
            continue;
        }
        let default = match &about["default"] {
            Value::Null => String::new(),
            Value::String(text) => format!("`{text}`"),
            other => format!("`{other}`"),
        };
        let meaning = about["description"].as_str().unwrap().replace('\n', " ").replace('|', "\\|");
        writeln!(page, "| `{prefix}{key}` | {default} | {meaning} |").unwrap();
    }
}
