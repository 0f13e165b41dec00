//! The commented config file, generated from the schema and the defaults: no key can be missing in it, and no default
//! can be wrong.

use std::fmt::Write;

use serde::Serialize;
use serde_json::Value;
use tiershift_core::settings::{RawManagerSettings, RawSettings};

use crate::serve::config::{RawHooks, RawListen, RawModels, RawRecording, RawServer, schema};

/// Returns a config file that states the defaults. A key without a default is commented out, with a possible value.
pub(super) fn example() -> String {
    let schema = serde_json::from_str(&schema()).expect("a schema is plain JSON");
    let mut text = Text { text: HEAD.to_owned(), schema };
    text.table("listen", "RawListen", &RawListen::default());
    text.table("server", "RawServer", &RawServer::default());
    text.table("models", "RawModels", &RawModels::default());
    text.table("policy", "RawSettings", &RawSettings::default());
    text.table("policy.manager", "RawManagerSettings", &RawManagerSettings::default());
    text.table("recording", "RawRecording", &RawRecording::default());
    text.table("hooks", "RawHooks", &RawHooks::default());
    text.text += FOOT;
    text.text
}

struct Text {
    text: String,
    schema: Value,
}

impl Text {
    /// Adds a table: the keys with their defaults, then the optional ones.
    fn table(&mut self, name: &str, of: &str, default: &impl Serialize) {
        let properties = self.schema["$defs"][of]["properties"].as_object().cloned();
        let properties = properties.expect("every table is described in the schema");
        let defaults = toml::to_string(default).expect("a table of a config file is TOML");
        let of_this = defaults.lines().take_while(|line| !line.starts_with('['));
        let defaults: Vec<(&str, &str)> =
            of_this.filter_map(|line| line.split_once(" = ")).collect();
        self.line(&format!("\n[{name}]"));
        for &(key, value) in &defaults {
            self.describe(&properties[key]);
            self.line(&format!("{key} = {value}"));
        }
        for (key, about) in &properties {
            let is_there = defaults.iter().any(|(known, _)| known == key);
            // Obsolete keys are read, but not written.
            if is_there || about["writeOnly"] == true || is_table(name, key) {
                continue;
            }
            let example = EXAMPLES.iter().find(|(known, _)| known == key);
            let (_, value) = example.unwrap_or_else(|| panic!("{name}.{key} has an example"));
            self.describe(about);
            self.line(&format!("# {key} = {value}"));
        }
    }

    /// Adds the description of a key, as comments of usual width.
    fn describe(&mut self, about: &Value) {
        let mut line = "#".to_owned();
        for word in about["description"].as_str().unwrap_or_default().split_whitespace() {
            if line.len() + word.len() >= WIDTH {
                self.line(&line);
                "#".clone_into(&mut line);
            }
            line.push(' ');
            line += word;
        }
        self.line(&line);
    }

    fn line(&mut self, line: &str) {
        writeln!(self.text, "{line}").expect("a String takes whatever is written to it");
    }
}

/// Returns whether a key is a table that has its own head below.
fn is_table(table: &str, key: &str) -> bool {
    matches!((table, key), ("policy", "manager"))
}

/// Chosen: a comment may be read on a narrow terminal.
const WIDTH: usize = 100;

/// Possible values, for keys that have no default or whose default is not written.
const EXAMPLES: [(&str, &str); 26] = [
    ("aliases", "{ chatgpt = \"auto\" }"),
    ("calm", "\"450s\""),
    ("catalog", "\"catalog.toml\""),
    ("companions-go", "\"before-none\""),
    ("context-tokens", "8192"),
    ("env", "{ LLAMA_ARG_THREADS = \"4\" }"),
    ("first-token-limit", "\"5s\""),
    ("folder", "\"a-folder\""),
    ("idle-unload", "\"15m\""),
    ("latency-limit", "\"60s\""),
    ("named-stays", "\"5m\""),
    ("options", "{}"),
    ("order-token-env", "\"TIERSHIFT_ORDER_TOKEN\""),
    ("order-token-file", "\"order-token\""),
    ("pin", "\"small\""),
    ("preventive-line", "\"85%\""),
    ("price", "\"60s\""),
    ("reply-limit", "\"10m\""),
    ("slots", "2"),
    ("start", "\"small\""),
    ("tasks", "[\"chat\", \"code\"]"),
    ("token-env", "\"TIERSHIFT_TOKEN\""),
    ("token-file", "\"token\""),
    ("unknown-model", "\"auto\""),
    ("upgrade-line", "\"80%\""),
    ("url", "\"http://127.0.0.1:11434\""),
];

const HEAD: &str = "\
# What `tiershift serve --config FILE` reads, with every key. All keys are optional: those below have their defaults, and
# keys without a default are commented out. Command-line options override the file. Paths are relative to the file's
# folder. `tiershift schema serve` gives editors completion; on SIGHUP the daemon reads the file again and uses its [policy].
";

const FOOT: &str = "
# A client with a token of its own, from a file or a variable, which it may send instead of the token of all clients.
# [[client]]
# token-file = \"editor-token\"
# token-env = \"EDITOR_TOKEN\"
# priority = 10
# deadline = \"2m\"

# Figures of one model, as in a catalog (`tiershift schema catalog`), which they override. Figures that are given nowhere are
# estimated from the model's file.
# [[model]]
# id = \"qwen2.5-7b-instruct-q4_k_m\"

# A policy that is played beside the first on the same inputs, without effect. The same table as [policy].
# [shadow]
# policy = \"projecting\"
";
