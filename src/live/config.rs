//! The daemon's config file. Every key is optional, and options of the command line go before it.
//!
//! [`RawConfig`] is the file; what it comes to with the options is a [`Plan`](crate::live::Plan).

use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::document::{Document, DocumentError};
use crate::hardware::HardwareTier;
use crate::settings::{RawSettings, Settings};

/// The config file of `tiershift serve`. Every key is optional.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct RawConfig {
    /// Where to listen.
    pub listen: RawListen,
    /// What runs the models.
    pub server: RawServer,
    /// The models.
    pub models: RawModels,
    /// The policy's settings, as in a policy file.
    pub policy: RawSettings,
}

/// The `[listen]` table.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct RawListen {
    /// The address. Default `127.0.0.1`; where it can be reached from elsewhere, a token is needed.
    pub host: IpAddr,
    /// The port. Default 8484; 0 takes any that is free.
    pub port: u16,
    /// A file that holds the token which every client must show. Default: no token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token_file: Option<PathBuf>,
    /// The environment variable that holds it. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token_env: Option<String>,
    /// Names that clients call this machine by, besides its addresses and `localhost`. Default: none.
    pub allowed_hosts: Vec<String>,
}

/// The `[server]` table.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct RawServer {
    /// The llama-server program. Default `llama-server`: a name is looked for in `$PATH`, anything with a slash is a
    /// path.
    pub llama_server: PathBuf,
}

/// The `[models]` table.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct RawModels {
    /// The folder of the `.gguf` files. Here or on the command line, it must be given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub folder: Option<PathBuf>,
    /// A catalog that says more of these files. Default: they are ranked by size.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub catalog: Option<PathBuf>,
}

impl Default for RawListen {
    fn default() -> Self {
        Self {
            host: IpAddr::V4(Ipv4Addr::LOCALHOST),
            port: 8484,
            token_file: None,
            token_env: None,
            allowed_hosts: Vec::new(),
        }
    }
}

impl Default for RawServer {
    fn default() -> Self {
        Self { llama_server: PathBuf::from("llama-server") }
    }
}

impl RawConfig {
    /// A commented config file, which says what holds without one.
    pub const EXAMPLE: &str = include_str!("../../assets/serve.toml");

    /// Reads a config file for a machine of this hardware tier. Paths in it are taken from the file's folder.
    ///
    /// # Errors
    /// What cannot be read, is no TOML, or cannot be meant; with its place and a remedy.
    pub fn read(path: &Path, tier: HardwareTier) -> Result<Self, ConfigError> {
        let text = fs::read_to_string(path)
            .map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
        let name = path.display().to_string();
        let mut config = Self::parse(&text, &name, tier)?;
        config.resolve(path.parent().unwrap_or(Path::new("")));
        Ok(config)
    }

    fn parse(text: &str, name: &str, tier: HardwareTier) -> Result<Self, DocumentError> {
        let document = Document::new(name, text);
        let config: Self = document.read(&[])?;
        let remedy = format!("the machine is {}", tier.name());
        Settings::new(config.policy.clone(), tier)
            .map_err(|error| document.refuse_table("policy", &error.to_string(), &remedy))?;
        Ok(config)
    }

    fn resolve(&mut self, folder: &Path) {
        let program = &mut self.server.llama_server;
        // A bare name is one of $PATH.
        if program.components().count() > 1 {
            *program = folder.join(&program);
        }
        let paths =
            [&mut self.models.folder, &mut self.models.catalog, &mut self.listen.token_file];
        for path in paths.into_iter().flatten() {
            *path = folder.join(&path);
        }
    }
}

/// Returns the JSON Schema of a config file.
pub fn schema() -> String {
    crate::scenario::schema_text::<RawConfig>()
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

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<RawConfig, String> {
        RawConfig::parse(text, "serve.toml", HardwareTier::MidRange).map_err(|e| e.to_string())
    }

    #[test]
    fn the_example_says_what_holds_without_it() {
        assert_eq!(parse(RawConfig::EXAMPLE).unwrap(), RawConfig::default());
    }

    #[test]
    fn what_the_example_leaves_out_can_be_put_in() {
        // A comment of which the rest is a key with its value.
        let is_key = |line: &str| {
            let key = line.split_once(" = ").map_or("", |(key, _)| key);
            !key.is_empty() && key.chars().all(|c| c.is_ascii_lowercase() || c == '-')
        };
        let lines = RawConfig::EXAMPLE.lines().map(|line| match line.strip_prefix("# ") {
            Some(rest) if is_key(rest) => rest,
            Some(_) | None => line,
        });
        let whole = lines.collect::<Vec<_>>().join("\n");
        let config = parse(&whole).unwrap();
        assert_eq!(config.models.catalog, Some(PathBuf::from("catalog.toml")));
        assert_eq!(config.policy.manager.start.as_deref(), Some("small"));
        assert!(!whole.contains("\n# upgrade-line"), "every key was put in:\n{whole}");
    }

    #[test]
    fn a_mistake_is_shown_with_its_place_and_a_remedy() {
        let cases = [
            ("[listen]\nprot = 1\n", "serve.toml:2:1", "did you mean `port`?"),
            ("[listen]\nhost = \"here\"\n", "serve.toml:2:", "IP address"),
            ("[modles]\n", "serve.toml:1:", "did you mean `models`?"),
            ("[policy]\ndegrade-line = \"120%\"\n", "serve.toml:2:1", "at most 100%"),
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
