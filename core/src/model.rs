//! One model that may be run: its name, what it needs, how fast it is and what it can do.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::time::SpanText;
use crate::units::{Bytes, BytesText, Percent, PercentText, is_default};

/// Identifies a model. Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(transparent)]
pub struct ModelId(Arc<str>);

impl From<&str> for ModelId {
    fn from(name: &str) -> Self {
        Self(name.into())
    }
}

impl fmt::Display for ModelId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl ModelId {
    /// Returns the name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// One model, checked.
#[derive(Clone, Debug, PartialEq)]
pub struct Model {
    /// Unique in the catalog.
    pub id: ModelId,
    /// The rung's name: `small`, `medium`, `large` or any other word. A companion's is its id.
    pub tier: String,
    /// How good its replies are, as a share of the best model's.
    pub quality: Percent,
    /// Name of its file in the folder of models; absent: the id with `.gguf`.
    pub file: Option<String>,
    /// Main memory of the weights and the server, without the KV cache.
    pub ram: Bytes,
    /// Video memory of the weights, without the KV cache. Zero: the model runs on the processor.
    pub vram: Bytes,
    /// KV cache for one token of context, in video memory if the model uses any, or else in main memory.
    pub kv_per_token: Bytes,
    /// Context that one slot can hold.
    pub context_tokens: u32,
    /// Requests that can run side by side.
    pub slots: u32,
    /// Main memory taken while loading, on top of the footprint.
    pub load_transient: Bytes,
    /// Time to load when the file is in the page cache.
    pub load_warm: Duration,
    /// Time to load when it is not.
    pub load_cold: Duration,
    /// Time to unload.
    pub unload: Duration,
    /// Time after which a load has failed.
    pub load_timeout: Duration,
    /// The time that a request takes in addition to its prompt and its reply, however short they are.
    pub request_overhead: Duration,
    /// Prompt tokens per second, alone on the machine.
    pub prefill_per_second: f64,
    /// Reply tokens per second, alone on the machine, with no context.
    pub decode_per_second: f64,
    /// Whether the speeds are guesses, as when only the size of the file is known: no load is judged by them.
    pub speeds_guessed: bool,
    /// The number of context tokens at which decoding is half as fast; absent: context costs nothing.
    pub decode_halves_at: Option<u32>,
    /// How long the model may be idle before it is unloaded; absent: the setting for all models applies.
    pub idle_unload: Option<Duration>,
    /// Kinds of work it can do, in order.
    pub tasks: Vec<Task>,
    /// Models to try, in this order, when it does not load. No cycles. It is preferred to those of its tier that it
    /// lists.
    pub fallbacks: Vec<ModelId>,
    /// Whether it is beside the ladder, on no rung.
    pub companion: bool,
}

/// Memory that a loaded model holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Footprint {
    /// Main memory.
    pub ram: Bytes,
    /// Video memory, on one GPU.
    pub vram: Bytes,
}

impl Model {
    /// Returns a model on the processor when only its size is known.
    ///
    /// # Source
    /// Decoding reads every weight once per token at 20 GB/s (two channels of DDR4, half their peak); a load reads the
    /// file at 1.1 GB/s cold (19.1 GB in 17 s, gpumod's benchmark report of 2026-02-07) and at 3.4 GB/s warm (3.38 GB
    /// in 1.0 s, llama-server measured on 2026-11-23).
    pub fn of_size(id: &str, tier: &str, quality: Percent, ram: Bytes) -> Self {
        let gigabytes = ram.get() as f64 / 1e9;
        Self {
            id: id.into(),
            tier: tier.to_owned(),
            quality,
            file: None,
            ram,
            vram: Bytes::ZERO,
            kv_per_token: Bytes::ZERO,
            context_tokens: default_context(),
            slots: default_slots(),
            load_transient: Bytes::ZERO,
            load_warm: crate::time::from_secs_f64(gigabytes / 3.4),
            load_cold: crate::time::from_secs_f64(gigabytes / 1.1),
            unload: DEFAULT_UNLOAD,
            load_timeout: usual_load_timeout(crate::time::from_secs_f64(gigabytes / 1.1)),
            request_overhead: Duration::ZERO,
            prefill_per_second: 200.0 / gigabytes.max(0.001),
            decode_per_second: 20.0 / gigabytes.max(0.001),
            decode_halves_at: None,
            speeds_guessed: true,
            idle_unload: None,
            tasks: DEFAULT_TASKS.to_vec(),
            fallbacks: Vec::new(),
            companion: false,
        }
    }

    /// Returns the memory with every slot's context full: weights + KV per token x context x slots.
    pub fn footprint(&self) -> Footprint {
        self.footprint_with(u64::from(self.context_tokens) * u64::from(self.slots))
    }

    /// Returns the memory while it loads: the footprint plus the load transient.
    pub fn footprint_to_load(&self) -> Footprint {
        let Footprint { ram, vram } = self.footprint();
        Footprint { ram: ram + self.load_transient, vram }
    }

    /// Returns the memory with `tokens` tokens in the KV cache.
    pub fn footprint_with(&self, tokens: u64) -> Footprint {
        let kv = self.kv_per_token.saturating_mul(tokens);
        if self.vram == Bytes::ZERO {
            Footprint { ram: self.ram + kv, vram: Bytes::ZERO }
        } else {
            Footprint { ram: self.ram, vram: self.vram + kv }
        }
    }

    /// Returns how long a request of this size takes, alone on the machine: overhead + prompt / prefill + reply /
    /// decode, with decoding slowed by the prompt and, on average, half of the reply.
    pub fn reply_time(&self, prompt_tokens: u32, output_tokens: u32) -> Duration {
        let (prompt, output) = (f64::from(prompt_tokens), f64::from(output_tokens));
        let context = prompt + output / 2.0;
        let slower = self.decode_halves_at.map_or(0.0, |half| context / f64::from(half));
        let decode = self.decode_per_second / (1.0 + slower);
        let seconds = prompt / self.prefill_per_second + output / decode;
        self.request_overhead + crate::time::from_secs_f64(seconds)
    }

    /// Returns whether it can do this kind of work.
    pub fn can(&self, task: Task) -> bool {
        self.tasks.contains(&task)
    }
}

/// A kind of work.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Task {
    /// Conversation; every model can.
    #[default]
    Chat,
    /// Writing programs.
    Code,
    /// Looking at pictures.
    Vision,
    /// Turning text into vectors.
    Embedding,
    /// Ordering texts by how well they answer a question.
    Rerank,
    /// Turning speech into text, or text into speech.
    Speech,
}

impl Task {
    /// Returns whether its result is a reply of tokens.
    pub fn has_reply(self) -> bool {
        match self {
            Self::Chat | Self::Code | Self::Vision => true,
            Self::Embedding | Self::Rerank | Self::Speech => false,
        }
    }
}

/// One `[[model]]` table.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct RawModel {
    /// Unique name of the model.
    pub id: String,
    /// Whether it is a companion: loaded beside the ladder when there is space, for the tasks that it lists. Default
    /// false.
    #[serde(default, skip_serializing_if = "is_default")]
    pub companion: bool,
    /// Name of the tier. A companion has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tier: Option<String>,
    /// Quality relative to the best model, in percent. A companion has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quality: Option<PercentText>,
    /// Name of its file in the models folder, for a real server. Default: the id with `.gguf`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// Main memory without the KV cache. Default: none, for a model that is entirely on a GPU. Too low, and the machine runs
    /// out of memory; too high, and the model is loaded less often.
    // Always written, so that a log's setup stays exactly the same.
    #[serde(default = "no_bytes")]
    pub ram: BytesText,
    /// Video memory without the KV cache. Too low, and loads fail on the GPU; too high, and the model is loaded less
    /// often.
    #[serde(default = "no_bytes", skip_serializing_if = "is_no_bytes")]
    pub vram: BytesText,
    /// Size of the KV cache for one token.
    #[serde(default = "no_bytes", skip_serializing_if = "is_no_bytes")]
    pub kv_per_token: BytesText,
    /// Context length of one slot in tokens.
    #[serde(default = "default_context")]
    pub context_tokens: u32,
    /// Number of requests that it serves at the same time.
    #[serde(default = "default_slots")]
    pub slots: u32,
    /// Additional main memory while loading.
    #[serde(default = "no_bytes", skip_serializing_if = "is_no_bytes")]
    pub load_transient: BytesText,
    /// Time to load from the page cache.
    pub load_warm: SpanText,
    /// Time to load from storage.
    pub load_cold: SpanText,
    /// Time to unload.
    #[serde(default = "default_unload")]
    pub unload: SpanText,
    /// Time after which a load counts as failed. Default: three times `load-cold`, and at least two minutes. Too short,
    /// and slow storage makes loads fail; too long, and a hung load blocks others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub load_timeout: Option<SpanText>,
    /// Time of a request before its first token, in addition to its prompt. Default `0s`.
    #[serde(default = "no_time", skip_serializing_if = "is_no_time")]
    pub request_overhead: SpanText,
    /// Prompt tokens per second.
    pub prefill_tokens_per_second: f64,
    /// Reply tokens per second with an empty context.
    pub decode_tokens_per_second: f64,
    /// Context length at which a reply token takes twice as long. Default: context has no cost.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decode_halves_at_tokens: Option<u32>,
    /// Whether the speeds are estimates, so that no load is judged slow by them. Default false.
    #[serde(default, skip_serializing_if = "is_default")]
    pub speeds_guessed: bool,
    /// Unload the model after no request for this long, and load it again for the next one. Default:
    /// `manager.idle-unload`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idle_unload: Option<SpanText>,
    /// Tasks that it can do. Default: chat and code. A companion needs at least one, and leaves chat to the ladder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tasks: Option<Vec<Task>>,
    /// Models to try when it fails to load. Within one tier the best model serves, unless another model of the tier is
    /// listed here: then this one is preferred.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub fallbacks: Vec<String>,
}

impl TryFrom<RawModel> for Model {
    type Error = ModelError;

    fn try_from(raw: RawModel) -> Result<Self, ModelError> {
        let id = ModelId::from(raw.id.as_str());
        let refuse = |field, want| ModelError { model: id.clone(), field, want };
        if raw.id.is_empty() {
            return Err(refuse("id", "a name"));
        }
        let (tier, quality, tasks) = if raw.companion {
            let is_its_own =
                raw.tier.is_none() && raw.quality.is_none() && raw.fallbacks.is_empty();
            if !is_its_own {
                return Err(refuse(
                    "tier, quality and fallbacks",
                    "absent: a companion is on no rung",
                ));
            }
            let tasks = raw.tasks.filter(|tasks| !tasks.is_empty() && !tasks.contains(&Task::Chat));
            let Some(tasks) = tasks else {
                return Err(refuse("tasks", "what a companion is for, other than chat"));
            };
            (raw.id.clone(), Percent::ONE_HUNDRED, tasks)
        } else {
            let tier = raw.tier.filter(|tier| !tier.is_empty() && tier != "none");
            let Some(tier) = tier else {
                return Err(refuse("tier", "a name other than \"none\", which is the empty rung"));
            };
            let Some(PercentText(quality)) = raw.quality else {
                return Err(refuse("quality", "more than 0% and at most 100%"));
            };
            (tier, quality, raw.tasks.unwrap_or_else(|| DEFAULT_TASKS.to_vec()))
        };
        if raw.ram.0 == Bytes::ZERO && raw.vram.0 == Bytes::ZERO {
            return Err(refuse("ram", "more than nothing, in ram or in vram"));
        }
        if raw.slots == 0 || raw.context_tokens == 0 {
            return Err(refuse("slots", "at least one slot and one token of context"));
        }
        if quality > Percent::ONE_HUNDRED || quality == Percent::ZERO {
            return Err(refuse("quality", "more than 0% and at most 100%"));
        }
        for speed in [raw.prefill_tokens_per_second, raw.decode_tokens_per_second] {
            if !(speed.is_finite() && speed > 0.0) {
                return Err(refuse(
                    "prefill- and decode-tokens-per-second",
                    "finite numbers above zero",
                ));
            }
        }
        if raw.decode_halves_at_tokens == Some(0) {
            return Err(refuse("decode-halves-at-tokens", "at least one token"));
        }
        if raw.idle_unload.is_some_and(|span| span.0.is_zero()) {
            return Err(refuse("idle-unload", "more than no time"));
        }
        Ok(Self {
            companion: raw.companion,
            tier,
            quality,
            file: raw.file,
            ram: raw.ram.0,
            vram: raw.vram.0,
            kv_per_token: raw.kv_per_token.0,
            context_tokens: raw.context_tokens,
            slots: raw.slots,
            load_transient: raw.load_transient.0,
            load_warm: raw.load_warm.0,
            load_cold: raw.load_cold.0,
            unload: raw.unload.0,
            load_timeout: raw
                .load_timeout
                .map_or_else(|| usual_load_timeout(raw.load_cold.0), Into::into),
            request_overhead: raw.request_overhead.0,
            prefill_per_second: raw.prefill_tokens_per_second,
            decode_per_second: raw.decode_tokens_per_second,
            decode_halves_at: raw.decode_halves_at_tokens,
            speeds_guessed: raw.speeds_guessed,
            idle_unload: raw.idle_unload.map(Into::into),
            tasks,
            fallbacks: raw.fallbacks.iter().map(|name| name.as_str().into()).collect(),
            id,
        })
    }
}

impl From<&Model> for RawModel {
    fn from(model: &Model) -> Self {
        Self {
            id: model.id.to_string(),
            companion: model.companion,
            tier: (!model.companion).then(|| model.tier.clone()),
            quality: (!model.companion).then_some(PercentText(model.quality)),
            file: model.file.clone(),
            ram: BytesText(model.ram),
            vram: BytesText(model.vram),
            kv_per_token: BytesText(model.kv_per_token),
            context_tokens: model.context_tokens,
            slots: model.slots,
            load_transient: BytesText(model.load_transient),
            load_warm: SpanText(model.load_warm),
            load_cold: SpanText(model.load_cold),
            unload: SpanText(model.unload),
            load_timeout: Some(SpanText(model.load_timeout)),
            request_overhead: SpanText(model.request_overhead),
            prefill_tokens_per_second: model.prefill_per_second,
            decode_tokens_per_second: model.decode_per_second,
            decode_halves_at_tokens: model.decode_halves_at,
            speeds_guessed: model.speeds_guessed,
            idle_unload: model.idle_unload.map(SpanText),
            tasks: Some(model.tasks.clone()),
            fallbacks: model.fallbacks.iter().map(ModelId::to_string).collect(),
        }
    }
}

/// Why a model's table was refused.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("model \"{model}\": {field} must be {want}")]
pub struct ModelError {
    /// The model.
    pub model: ModelId,
    /// The key that is wrong.
    pub field: &'static str,
    /// What it must be.
    pub want: &'static str,
}

fn no_bytes() -> BytesText {
    BytesText(Bytes::ZERO)
}

fn is_no_bytes(amount: &BytesText) -> bool {
    amount.0 == Bytes::ZERO
}

fn no_time() -> SpanText {
    SpanText(Duration::ZERO)
}

fn is_no_time(span: &SpanText) -> bool {
    span.0.is_zero()
}

fn default_context() -> u32 {
    8192
}

fn default_slots() -> u32 {
    2
}

fn default_unload() -> SpanText {
    SpanText(DEFAULT_UNLOAD)
}

/// Returns the default time after which a load has failed: a disk that others use too is slower by a factor.
fn usual_load_timeout(load_cold: Duration) -> Duration {
    load_cold.saturating_mul(3).max(SHORTEST_LOAD_TIMEOUT)
}

/// llama-server exits 30 to 140 ms after SIGTERM with 3.4 GB loaded (measured 2026-11-23).
const DEFAULT_UNLOAD: Duration = Duration::from_millis(100);

/// Twice the slowest cold load in our notes (54 s for 20 GB).
const SHORTEST_LOAD_TIMEOUT: Duration = Duration::from_secs(120);

/// What a model can do if its table does not say.
const DEFAULT_TASKS: [Task; 2] = [Task::Chat, Task::Code];
