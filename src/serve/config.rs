//! The daemon's config file. Every key is optional, and command-line options override it.
//!
//! [`RawConfig`] is the file; together with the options it becomes a [`Plan`](crate::serve::Plan).

mod example;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::time::Duration;
use std::{fs, io};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tiershift_core::machine::MachineClass;
use tiershift_core::model::Task;
use tiershift_core::policy::Registry;
use tiershift_core::settings::{RawSettings, Settings};
use tiershift_core::time::SpanText;
use tiershift_core::units::{Bytes, BytesText};

use crate::files::document::{Document, DocumentError};
use crate::files::model_table::ModelTable;
use crate::inventory::ladder::ForAll;
use crate::serve::hooks::HookPlan;
use crate::serve::http::names::UnknownModel;
use crate::serve::recorder::RecordingPlan;

/// The config file of `tiershift serve`. Every key is optional.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct RawConfig {
    /// Where to listen for clients.
    pub listen: RawListen,
    /// Clients with tokens of their own: `[[client]]` tables. Default: none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub client: Vec<RawClient>,
    /// The model server: a llama-server that the daemon starts, or one that is already running.
    pub server: RawServer,
    /// The models to serve.
    pub models: RawModels,
    /// Figures of single models, which override the catalog: `[[model]]` tables as in a catalog. Default: none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub model: Vec<ModelTable>,
    /// Settings of the policy, as in a policy file (`tiershift schema policy`).
    pub policy: RawSettings,
    /// The flight recorder, which writes event logs.
    pub recording: RawRecording,
    /// Commands to run on events.
    pub hooks: RawHooks,
    /// Settings of a second policy that receives the same inputs and has no effect, for comparison. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shadow: Option<RawSettings>,
}

/// The `[listen]` table.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct RawListen {
    /// Address to listen on. Default `127.0.0.1`. An address that other machines can reach requires a token.
    pub host: IpAddr,
    /// Port to listen on. Default 8484; 0 picks a free port.
    pub port: u16,
    /// File that contains the token that every client must send. Default: no token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token_file: Option<PathBuf>,
    /// Environment variable that contains the token of clients, instead of a file. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token_env: Option<String>,
    /// Host names that clients may use for this machine, besides its addresses and `localhost`. Default: none. Requests
    /// to other names are refused.
    pub allowed_hosts: Vec<String>,
    /// Origins whose web pages may send requests, such as `http://localhost:3000`; `*` allows all. Default: none.
    pub allowed_origins: Vec<String>,
    /// File that contains the token for orders (`POST /switch`). Default: none. Then orders need no token, unless
    /// clients have one, which does not allow orders.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub order_token_file: Option<PathBuf>,
    /// Environment variable that contains the token for orders, instead of a file. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub order_token_env: Option<String>,
    /// Longest body of a request. Default `64MiB`, enough for some pictures. All bodies in memory together may take
    /// twice as much, and at least 128 MiB. Too low, and requests with pictures are refused; too high, and clients can
    /// fill the memory.
    pub body_limit: BytesText,
}

/// A `[[client]]` table: a client with a token of its own, which it may send instead of the token of all clients.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct RawClient {
    /// File that contains the client's token. Required here, or `token-env`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token_file: Option<PathBuf>,
    /// Environment variable that contains the client's token, instead of a file. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token_env: Option<String>,
    /// Priority of the client's requests, from 0 to 255; higher goes first. Default 0. The header `x-tiershift-priority` of
    /// a request takes precedence. If it is too high, other clients' requests wait for all of this one's.
    pub priority: u8,
    /// Longest wait of the client's requests for a model. Default: they wait as long as the client is connected. The header
    /// `x-tiershift-deadline` of a request takes precedence. Too short, and requests are refused while a model loads.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deadline: Option<SpanText>,
}

/// The `[server]` table.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct RawServer {
    /// The llama-server program: a name is searched in `$PATH`, anything with a slash is a path. Default `llama-server`.
    pub llama_server: PathBuf,
    /// Address of a model server that is already running and is used instead, such as `http://127.0.0.1:11434`. Default:
    /// none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
}

/// The `[models]` table.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct RawModels {
    /// Folder with the `.gguf` files. Required here or on the command line, unless `server.url` is set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub folder: Option<PathBuf>,
    /// Catalog that chooses among the files and gives their figures. Default: all files, ranked by size.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub catalog: Option<PathBuf>,
    /// Names of the models to serve, the smallest first; other models are not served. Default: all, by size.
    pub ladder: Vec<String>,
    /// Arguments for every llama-server, such as `["--flash-attn", "on"]`. Default: none. Arguments that the daemon sets
    /// itself are refused.
    pub args: Vec<String>,
    /// Environment variables for every llama-server. Default: those of the daemon.
    pub env: BTreeMap<String, String>,
    /// Context length of each slot in tokens. Default: the largest, up to the trained length, whose cache takes no more
    /// than the weights and no more than half of the memory that they leave; at least 8192. Too short, and long prompts
    /// are refused; too long, and the cache takes memory from larger models.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub context_tokens: Option<u32>,
    /// Number of requests that a model serves at the same time. Default 2. More slots use more memory and make each
    /// reply slower.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub slots: Option<u32>,
    /// Tasks that the models can do. Default: chat and code; pictures if there is a projector; and what a file was made
    /// for, such as embeddings.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tasks: Option<Vec<Task>>,
    /// How to answer a request for a model that does not exist here: `auto` uses the model that serves, `refuse` refuses
    /// the request. Default: `auto` on loopback, otherwise `refuse`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unknown_model: Option<UnknownModel>,
    /// Other names for a tier, a model or `auto`. Default: none.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub aliases: BTreeMap<String, String>,
}

/// The `[recording]` table.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct RawRecording {
    /// Folder for recordings; each run gets a folder in it. Default: nothing is recorded.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub folder: Option<PathBuf>,
    /// Uncompressed size at which a segment is finished and compressed. Default `16MiB`, half a day of a daemon with few
    /// requests (measured 2026-11-24: 0.7 KB per sample with one resource, compressed to 4 %). Smaller segments compress
    /// worse; larger ones leave more data uncompressed.
    pub segment_size: BytesText,
    /// Age at which a segment is finished and compressed, whatever its size. Default `24h`.
    pub segment_age: SpanText,
    /// Disk space for all recordings; the oldest segments are deleted first. Default `1GiB`. A run without its first
    /// segment can still be read and replayed, but not verified.
    pub total_size: BytesText,
}

/// The `[hooks]` table: commands that get what happened as JSON on standard input. One runs at a time, 16 wait at most.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct RawHooks {
    /// Command with its arguments to run when another tier serves. It receives the event as JSON on standard input. A
    /// command with a slash is a path. Default `[]`: none.
    pub on_change: Vec<String>,
    /// Command with its arguments to run for each notice, for example that a smaller tier serves or that a model keeps
    /// failing. Default `[]`: none.
    pub on_notice: Vec<String>,
    /// Time after which a command is killed. Default `10s`. Up to 16 events wait while a command runs; further ones are
    /// skipped.
    pub time_limit: SpanText,
}

impl Default for RawHooks {
    fn default() -> Self {
        let time_limit = SpanText(Duration::from_secs(10));
        Self { on_change: Vec::new(), on_notice: Vec::new(), time_limit }
    }
}

impl RawHooks {
    /// Returns the commands to run.
    pub fn plan(self) -> HookPlan {
        let Self { on_change, on_notice, time_limit } = self;
        HookPlan { on_change, on_notice, time_limit: time_limit.0 }
    }
}

impl Default for RawRecording {
    fn default() -> Self {
        Self {
            folder: None,
            segment_size: BytesText(Bytes::from_mib(16)),
            segment_age: SpanText(Duration::from_hours(24)),
            total_size: BytesText(Bytes::from_gib(1)),
        }
    }
}

impl RawModels {
    /// Returns what applies to every model.
    pub(crate) fn for_all(&self) -> ForAll {
        ForAll {
            args: self.args.clone(),
            env: self.env.clone(),
            context_tokens: self.context_tokens,
            slots: self.slots,
            tasks: self.tasks.clone(),
        }
    }
}

impl RawRecording {
    /// Returns the key whose value is out of range, and what it must be.
    fn out_of_range(&self) -> Option<(&'static str, &'static str)> {
        let Self { segment_size, segment_age, total_size, .. } = self;
        if segment_size.0 < SMALLEST_SEGMENT || segment_size.0 > LARGEST_SEGMENT {
            return Some(("segment-size", "from 16KiB to 1GiB"));
        }
        if segment_age.0 < SHORTEST_SEGMENT {
            return Some(("segment-age", "at least 1s"));
        }
        let least = segment_size.0.get().saturating_mul(SEGMENTS_KEPT);
        (total_size.0.get() < least).then_some(("total-size", "at least four segments"))
    }

    /// Returns where to record, if anywhere.
    pub fn plan(&self) -> Option<RecordingPlan> {
        Some(RecordingPlan {
            folder: self.folder.clone()?,
            segment_size: self.segment_size.0,
            segment_age: self.segment_age.0,
            total_size: self.total_size.0,
        })
    }
}

impl Default for RawListen {
    fn default() -> Self {
        Self {
            host: IpAddr::V4(Ipv4Addr::LOCALHOST),
            port: 8484,
            token_file: None,
            token_env: None,
            allowed_hosts: Vec::new(),
            allowed_origins: Vec::new(),
            order_token_file: None,
            order_token_env: None,
            body_limit: BytesText(Bytes::from_mib(64)),
        }
    }
}

impl Default for RawServer {
    fn default() -> Self {
        Self { llama_server: PathBuf::from("llama-server"), url: None }
    }
}

impl RawConfig {
    /// Returns a commented config file with every key, which states the defaults.
    pub fn example() -> String {
        example::example()
    }

    /// Reads a config file for a machine of this machine class. Paths in it are relative to the file's folder.
    ///
    /// # Errors
    /// When the file cannot be read, is not TOML, or has a value out of range; with its position and a remedy.
    pub fn read(
        path: &Path,
        class: MachineClass,
        policies: &Registry,
    ) -> Result<Self, ConfigError> {
        let text = fs::read_to_string(path)
            .map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
        let name = path.display().to_string();
        let mut config = Self::parse(&text, &name, class, policies)?;
        config.resolve(path.parent().unwrap_or(Path::new("")));
        Ok(config)
    }

    fn parse(
        text: &str,
        name: &str,
        class: MachineClass,
        policies: &Registry,
    ) -> Result<Self, DocumentError> {
        let document = Document::new(name, text);
        let config: Self = document.read(&[])?;
        let remedy = format!("the machine is {}", class.name());
        for (table, settings) in
            [("policy", Some(&config.policy)), ("shadow", config.shadow.as_ref())]
        {
            let Some(settings) = settings else { continue };
            document.check_policy(Some(table), &settings.policy, policies)?;
            Settings::new(settings.clone(), class)
                .map_err(|error| document.refuse_table(table, &error.to_string(), &remedy))?;
        }
        if let Some((key, want)) = config.recording.out_of_range() {
            let title = format!("`{key}` must be {want}");
            return Err(document.refuse_in(
                "recording",
                key,
                &title,
                "leave it out for the default",
            ));
        }
        let BytesText(limit) = config.listen.body_limit;
        if limit < SMALLEST_BODY_LIMIT || limit > LARGEST_BODY_LIMIT {
            let title = "`body-limit` must be from 64KiB to 1GiB";
            return Err(document.refuse_in(
                "listen",
                "body-limit",
                title,
                "leave it out for the default",
            ));
        }
        Ok(config)
    }

    fn resolve(&mut self, folder: &Path) {
        let program = &mut self.server.llama_server;
        // A bare name is searched in $PATH.
        let is_path = |program: &Path| program.components().count() > 1;
        if is_path(program) {
            *program = folder.join(&program);
        }
        for hook in [&mut self.hooks.on_change, &mut self.hooks.on_notice] {
            if let Some(program) = hook.first_mut().filter(|it| is_path(Path::new(it))) {
                *program = folder.join(&program).to_string_lossy().into_owned();
            }
        }
        let paths = [
            &mut self.models.folder,
            &mut self.models.catalog,
            &mut self.listen.token_file,
            &mut self.listen.order_token_file,
            &mut self.recording.folder,
        ];
        let of_clients = self.client.iter_mut().map(|client| &mut client.token_file);
        for path in paths.into_iter().chain(of_clients).flatten() {
            *path = folder.join(&path);
        }
    }
}

/// Returns the JSON Schema of a config file.
pub fn schema() -> String {
    crate::files::schema::text::<RawConfig>()
}

/// Why a config file was refused.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "each variant's message says what it is")]
pub enum ConfigError {
    #[error("cannot read the config `{}`: check the path", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error(transparent)]
    Document(#[from] DocumentError),
}

/// Chosen: a long prompt, and many pictures.
const SMALLEST_BODY_LIMIT: Bytes = Bytes::from_kib(64);
const LARGEST_BODY_LIMIT: Bytes = Bytes::from_gib(1);

/// Chosen: a few seconds of a busy log; each segment has a header of some kilobytes.
const SMALLEST_SEGMENT: Bytes = Bytes::from_kib(16);

/// Chosen: packed in a few seconds.
const LARGEST_SEGMENT: Bytes = Bytes::from_gib(1);

/// Chosen: compressing must not be the only work.
const SHORTEST_SEGMENT: Duration = Duration::from_secs(1);

/// Chosen: the one being written, the one being compressed beside its compressed form, and one to look at.
const SEGMENTS_KEPT: u64 = 4;

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn parse(text: &str) -> Result<RawConfig, String> {
        RawConfig::parse(text, "serve.toml", MachineClass::MidRange, &Registry::built_in())
            .map_err(|e| e.to_string())
    }

    #[test]
    fn the_example_says_what_holds_without_it() {
        assert_eq!(parse(&RawConfig::example()).unwrap(), RawConfig::default());
    }

    #[test]
    fn what_the_example_leaves_out_can_be_put_in() {
        let example = RawConfig::example();
        const TABLES: [&str; 3] = ["[[client]]", "[[model]]", "[shadow]"];
        // A comment whose text is a key with its value.
        let is_key = |line: &str| {
            let key = line.split_once(" = ").map_or("", |(key, _)| key);
            !key.is_empty() && key.chars().all(|c| c.is_ascii_lowercase() || c == '-')
        };
        let lines = example.lines().map(|line| match line.strip_prefix("# ") {
            Some(rest) if is_key(rest) || TABLES.contains(&rest) => rest,
            Some(_) | None => line,
        });
        let whole = lines.collect::<Vec<_>>().join("\n");
        let config = parse(&whole).unwrap();
        assert_eq!(config.models.catalog, Some(PathBuf::from("catalog.toml")));
        assert_eq!(config.policy.manager.start.as_deref(), Some("small"));
        assert!(config.shadow.is_some());
        assert_eq!(config.models.aliases.len(), 1);
        assert_eq!(config.client[0].priority, 10);
        assert!(!whole.contains("\n# upgrade-line"), "every key was put in:\n{whole}");
    }

    #[test]
    fn the_example_has_every_key_of_the_schema() {
        let schema: serde_json::Value = serde_json::from_str(&schema()).unwrap();
        let example = RawConfig::example();
        let mut table = "";
        let mut shown: BTreeSet<(&str, &str)> = BTreeSet::new();
        for line in example.lines().map(|line| line.trim_start_matches("# ")) {
            if line.starts_with('[') && line.ends_with(']') {
                table = line.trim_matches(['[', ']']);
                shown.insert(table.rsplit_once('.').unwrap_or(("", table)));
            } else if let Some((key, _)) = line.split_once(" = ") {
                shown.insert((table, key));
            }
        }
        // For the second policy, and for a single model, one key stands for all.
        shown.remove(&("shadow", "policy"));
        shown.remove(&("model", "id"));
        let tables = [
            ("listen", "RawListen"),
            ("client", "RawClient"),
            ("server", "RawServer"),
            ("models", "RawModels"),
            ("policy", "RawSettings"),
            ("policy.manager", "RawManagerSettings"),
            ("recording", "RawRecording"),
            ("hooks", "RawHooks"),
        ];
        let of = |of: &serde_json::Value| of["properties"].as_object().unwrap().clone();
        let whole = ("", of(&schema));
        let inner = tables.map(|(table, name)| (table, of(&schema["$defs"][name])));
        let mut want = BTreeSet::new();
        for (table, keys) in std::iter::once(whole).chain(inner) {
            // Obsolete keys are read, but not written.
            let written = keys.into_iter().filter(|(_, about)| about["writeOnly"] != true);
            want.extend(written.map(|(key, _)| (table, key)));
        }
        let want: BTreeSet<(&str, &str)> =
            want.iter().map(|(table, key)| (*table, key.as_str())).collect();
        assert_eq!(shown, want);
    }

    #[test]
    fn an_error_is_shown_with_its_position_and_a_remedy() {
        let cases = [
            ("[listen]\nprot = 1\n", "serve.toml:2:1", "did you mean `port`?"),
            ("[listen]\nhost = \"here\"\n", "serve.toml:2:", "IP address"),
            ("[listen]\nbody-limit = \"1KiB\"\n", "serve.toml:2:1", "from 64KiB to 1GiB"),
            ("[models]\nunknown-model = \"any\"\n", "serve.toml:2:", "refuse"),
            ("[modles]\n", "serve.toml:1:", "did you mean `models`?"),
            ("[policy]\ndegrade-line = \"120%\"\n", "serve.toml:2:1", "at most 100%"),
            ("[shadow]\ndegrade-line = \"120%\"\n", "serve.toml:2:1", "at most 100%"),
            ("[recording]\nsegment-size = \"1KiB\"\n", "serve.toml:2:1", "from 16KiB to 1GiB"),
            ("[recording]\ntotal-size = \"20MiB\"\n", "serve.toml:2:1", "at least four segments"),
            ("[policy.manager]\nqueue-limt = 1\n", "serve.toml:2:1", "did you mean `queue-limit`?"),
        ];
        for (text, place, remedy) in cases {
            let refused = parse(text).unwrap_err();
            assert!(refused.contains(place) && refused.contains(remedy), "{text}\n{refused}");
        }
    }

    #[test]
    fn paths_are_taken_from_the_folder_of_the_file() {
        let mut config =
            parse("[models]\nfolder = \"models\"\ncatalog = \"/etc/catalog.toml\"\n").unwrap();
        config.resolve(Path::new("conf"));
        assert_eq!(config.models.folder, Some(PathBuf::from("conf/models")));
        assert_eq!(config.models.catalog, Some(PathBuf::from("/etc/catalog.toml")));
        assert_eq!(config.server.llama_server, PathBuf::from("llama-server"));
        config.server.llama_server = PathBuf::from("./llama-server");
        config.resolve(Path::new("conf"));
        assert_eq!(config.server.llama_server, PathBuf::from("conf/./llama-server"));
    }
}
