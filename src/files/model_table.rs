//! What a person says of one model, where what is left out can be had elsewhere: from the model's file, say.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use tiershift_core::model::{RawModel, Task};
use tiershift_core::time::SpanText;
use tiershift_core::units::{BytesText, PercentText};

/// One `[[model]]` table of a catalog, or of the daemon's config. Where models are served from a folder or by a server, `file` or
/// `id` is enough: what is left out is estimated from the file. A simulation has no file, and needs the rest.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct ModelTable {
    /// Unique name. Default: that of its file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// Its file, from the folder of models on. Default: the id with `.gguf`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// Whether it is a companion: loaded beside the ladder where there is room, for the tasks that it lists. Default false, but
    /// for a file that is made to embed or to rank.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub companion: Option<bool>,
    /// Name of the rung. A companion has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tier: Option<String>,
    /// Quality as a share of the best model's. A companion has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quality: Option<PercentText>,
    /// Main memory without the KV cache. None by default where `vram` is given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ram: Option<BytesText>,
    /// Video memory without the KV cache.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vram: Option<BytesText>,
    /// KV cache for one token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kv_per_token: Option<BytesText>,
    /// Context of one slot.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub context_tokens: Option<u32>,
    /// Requests side by side. Default 2.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub slots: Option<u32>,
    /// Extra main memory while loading.
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
    /// A load that takes longer has failed. Default: three times `load-cold`, and two minutes at least.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub load_timeout: Option<SpanText>,
    /// What a request takes on top of its tokens, before the first one of its reply. Default `0s`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request_overhead: Option<SpanText>,
    /// Prompt tokens a second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prefill_tokens_per_second: Option<f64>,
    /// Reply tokens a second, with no context.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub decode_tokens_per_second: Option<f64>,
    /// The context behind which a reply's tokens take twice as long: attention looks at all of it. Without this, context costs
    /// nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub decode_halves_at_tokens: Option<u32>,
    /// Whether the speeds are guesses, by which no load is judged slow. Default: whether `decode-tokens-per-second` is left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub speeds_guessed: Option<bool>,
    /// What nobody has asked for anything in this time is unloaded, and loaded again for the next request. Default:
    /// `manager.idle-unload`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub idle_unload: Option<SpanText>,
    /// Kinds of work; chat and code where none are given. A companion needs some, and leaves chat to the ladder.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tasks: Option<Vec<Task>>,
    /// Models to try when it does not load. Of the models of one tier the best serves, unless one lists another of its tier
    /// here: then it comes before it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fallbacks: Option<Vec<String>>,
    /// Arguments of its llama-server, such as `["--flash-attn", "on"]`, after those for all models. Those that the daemon sets
    /// itself are refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub args: Option<Vec<String>>,
    /// Variables of its llama-server's environment, besides those for all models.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub env: Option<BTreeMap<String, String>>,
}

impl ModelTable {
    /// Says this, too, and goes before what was said.
    #[cfg(feature = "serve")]
    pub(crate) fn update(&mut self, other: &Self) {
        let mut all = to_table(self);
        all.extend(to_table(other));
        *self = all.try_into().expect("its keys are those of two such tables");
    }

    /// Returns the whole table of a model, of which `estimate` says what this one leaves out.
    #[cfg(feature = "serve")]
    pub(crate) fn complete(&self, estimate: &RawModel) -> RawModel {
        let mut all = to_table(estimate);
        all.extend(self.of_model());
        all.try_into().expect("its keys are those of two tables of a model")
    }

    /// Returns the whole table of a model, where it is one.
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

    /// Returns the keys of a model's table: without what only its process is started with.
    fn of_model(&self) -> toml::Table {
        to_table(&Self { args: None, env: None, ..self.clone() })
    }
}

fn to_table(value: &impl Serialize) -> toml::Table {
    toml::Table::try_from(value).expect("a model's table is plain TOML")
}
