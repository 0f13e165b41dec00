//! A user's description of one model, which may leave out what is known otherwise, for example from the model's file.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use tiershift_core::model::{RawModel, Task};
use tiershift_core::time::SpanText;
use tiershift_core::units::{BytesText, PercentText};

/// One `[[model]]` table of a catalog, or of the daemon's config. If models are served from a folder or by a server,
/// `file` or `id` is enough: what is left out is estimated from the file. A simulation has no file, and needs the rest.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct ModelTable {
    /// Unique name of the model. Default: the name of its file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// Path of its file in the models folder. Default: the id with `.gguf`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// Whether it is a companion: loaded beside the ladder when there is space, for the tasks that it lists. Default
    /// false, except for files made for embeddings or reranking.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub companion: Option<bool>,
    /// Name of the tier. A companion has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tier: Option<String>,
    /// Quality relative to the best model, in percent. A companion has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quality: Option<PercentText>,
    /// Main memory without the KV cache. Default: none if `vram` is given. Too low, and the machine runs out of memory;
    /// too high, and the model is loaded less often.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ram: Option<BytesText>,
    /// Video memory without the KV cache. Too low, and loads fail on the GPU; too high, and the model is loaded less
    /// often.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vram: Option<BytesText>,
    /// Size of the KV cache for one token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kv_per_token: Option<BytesText>,
    /// Context length of one slot in tokens.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub context_tokens: Option<u32>,
    /// Number of requests that it serves at the same time. Default 2.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub slots: Option<u32>,
    /// Additional main memory while loading.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub load_transient: Option<BytesText>,
    /// Time to load from the page cache.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub load_warm: Option<SpanText>,
    /// Time to load from storage.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub load_cold: Option<SpanText>,
    /// Time to unload. Default `100ms`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unload: Option<SpanText>,
    /// Time after which a load counts as failed. Default: three times `load-cold`, and at least two minutes. Too short,
    /// and slow storage makes loads fail; too long, and a hung load blocks others.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub load_timeout: Option<SpanText>,
    /// Time of a request before its first token, in addition to its prompt. Default `0s`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request_overhead: Option<SpanText>,
    /// Prompt tokens per second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prefill_tokens_per_second: Option<f64>,
    /// Reply tokens per second with an empty context.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub decode_tokens_per_second: Option<f64>,
    /// Context length at which a reply token takes twice as long. Default: context has no cost.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub decode_halves_at_tokens: Option<u32>,
    /// Whether the speeds are estimates, so that no load is judged slow by them. Default: true if
    /// `decode-tokens-per-second` is not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub speeds_guessed: Option<bool>,
    /// Unload the model after no request for this long, and load it again for the next one. Default:
    /// `manager.idle-unload`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub idle_unload: Option<SpanText>,
    /// Tasks that it can do. Default: chat and code. A companion needs at least one, and leaves chat to the ladder.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tasks: Option<Vec<Task>>,
    /// Models to try when it fails to load. Within one tier the best model serves, unless another model of the tier is
    /// listed here: then this one is preferred.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fallbacks: Option<Vec<String>>,
    /// Arguments for its llama-server, such as `["--flash-attn", "on"]`, after those for all models. Arguments that the
    /// daemon sets itself are refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub args: Option<Vec<String>>,
    /// Environment variables for its llama-server, besides those for all models.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub env: Option<BTreeMap<String, String>>,
}

impl ModelTable {
    /// Adds another table, which overrides this one.
    #[cfg(feature = "serve")]
    pub(crate) fn update(&mut self, other: &Self) {
        let mut all = to_table(self);
        all.extend(to_table(other));
        *self = all.try_into().expect("its keys are those of two such tables");
    }

    /// Returns the complete table of a model, with missing keys taken from `estimate`.
    #[cfg(feature = "serve")]
    pub(crate) fn complete(&self, estimate: &RawModel) -> RawModel {
        let mut all = to_table(estimate);
        all.extend(self.of_model());
        all.try_into().expect("its keys are those of two tables of a model")
    }

    /// Returns the table of a model, if it is complete.
    ///
    /// # Errors
    /// The key that is missing.
    pub(crate) fn whole(&self) -> Result<RawModel, &'static str> {
        let needed = [
            ("id", self.id.is_some()),
            ("load-warm", self.load_warm.is_some()),
            ("load-cold", self.load_cold.is_some()),
            ("prefill-tokens-per-second", self.prefill_tokens_per_second.is_some()),
            ("decode-tokens-per-second", self.decode_tokens_per_second.is_some()),
        ];
        match needed.into_iter().find(|(_, is_there)| !is_there) {
            Some((key, _)) => Err(key),
            None => Ok(self.of_model().try_into().expect("it has every key that has no default")),
        }
    }

    /// Returns the keys of a model's table, without those for starting its process.
    fn of_model(&self) -> toml::Table {
        to_table(&Self { args: None, env: None, ..self.clone() })
    }
}

fn to_table(value: &impl Serialize) -> toml::Table {
    toml::Table::try_from(value).expect("a model's table is plain TOML")
}
