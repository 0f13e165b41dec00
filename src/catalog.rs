//! The models that may be run, and the ladder that they form.
//!
//! A catalog file is TOML with one `[[model]]` table a model; [`RawCatalog`] is that file, [`Catalog`]
//! the checked ladder. Rung 0 is always *none*: nothing loaded.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::request::Task;
use crate::time::SpanText;
use crate::units::{Bytes, BytesText, Percent, PercentText};

/// Names a model. Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ModelId(Arc<str>);

impl ModelId {
    /// Returns the name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

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

/// A place on the ladder, counted from [`Rung::NONE`] upwards.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Rung(pub u8);

impl Rung {
    /// The lowest rung: nothing is loaded.
    pub const NONE: Self = Self(0);
}

/// The checked ladder: rungs in ascending quality, one primary model a rung.
#[derive(Clone, Debug, PartialEq)]
pub struct Catalog {
    /// In ascending order of (quality, id); not empty.
    models: Vec<Model>,
    /// `rungs[r - 1]` is the index of rung `r`'s primary model.
    rungs: Vec<usize>,
}

/// One model, checked.
#[derive(Clone, Debug, PartialEq)]
pub struct Model {
    /// Unique in the catalog.
    pub id: ModelId,
    /// The rung's name: `small`, `medium`, `large` or any other word.
    pub tier: String,
    /// How good its replies are, as a share of the best model's.
    pub quality: Percent,
    /// Name of its file in the folder of models, where it is not the id with `.gguf`.
    pub file: Option<String>,
    /// Main memory of the weights and the server, without the KV cache.
    pub ram: Bytes,
    /// Video memory of the weights, without the KV cache. Zero: the model runs on the processor.
    pub vram: Bytes,
    /// KV cache for one token of context, in video memory where the model has any, else in main memory.
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
    /// A load that takes longer has failed.
    pub load_timeout: Duration,
    /// What a request takes before its prompt is read and its reply begins, however short they are.
    pub request_overhead: Duration,
    /// Prompt tokens a second, alone on the machine.
    pub prefill_per_second: f64,
    /// Reply tokens a second, alone on the machine, with no context.
    pub decode_per_second: f64,
    /// The tokens of context behind which decoding is half as fast; where this is absent, context costs nothing.
    pub decode_halves_at: Option<u32>,
    /// Kinds of work it can do, in order.
    pub tasks: Vec<Task>,
    /// Models to try, in this order, when it does not load. No cycles.
    pub fallbacks: Vec<ModelId>,
}

/// Memory that a loaded model holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Footprint {
    /// Main memory.
    pub ram: Bytes,
    /// Video memory, on one GPU.
    pub vram: Bytes,
}

impl Model {
    /// Returns a model on the processor of which nothing but its size is known.
    ///
    /// # Source
    /// Decoding reads every weight once a token at 20 GB/s (two channels of DDR4, half their peak), a load
    /// reads the file at 1.1 GB/s cold (19.1 GB in 17 s, gpumod's benchmark report of 2026-02-07) and at 3.4 GB/s warm
    /// (3.38 GB in 1.0 s, llama-server measured on 2026-11-23).
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
            load_timeout: DEFAULT_LOAD_TIMEOUT,
            request_overhead: Duration::ZERO,
            prefill_per_second: 200.0 / gigabytes.max(0.001),
            decode_per_second: 20.0 / gigabytes.max(0.001),
            decode_halves_at: None,
            tasks: DEFAULT_TASKS.to_vec(),
            fallbacks: Vec::new(),
        }
    }

    /// Returns the memory with every slot's context full: weights + KV per token x context x slots.
    pub fn footprint(&self) -> Footprint {
        self.footprint_with(u64::from(self.context_tokens) * u64::from(self.slots))
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

    /// Returns whether it can do this kind of work.
    pub fn can(&self, task: Task) -> bool {
        self.tasks.contains(&task)
    }
}

impl Catalog {
    /// Returns the ladder for a machine of which nothing but its memory is known: models of 12.5, 31.25 and
    /// 56.25 % of it.
    ///
    /// # Source
    /// 2, 5 and 9 GiB on the 16 GiB host of the original specification. Speeds are [`Model::of_size`]'s.
    pub fn relative_to(memory: Bytes) -> Self {
        let rung = |tier, size_milli, quality| {
            let ram = memory.share(Percent::from_milli(size_milli));
            Model::of_size(tier, tier, Percent::new(quality), ram)
        };
        Self::new(vec![
            rung("small", 12_500, 50),
            rung("medium", 31_250, 75),
            rung("large", 56_250, 100),
        ])
        .expect("the built-in ladder keeps the rules of a catalog")
    }

    /// Checks models and builds their ladder.
    ///
    /// # Errors
    /// What a catalog must not have: no model, a name twice, a tier whose models are not neighbours in
    /// quality, an unknown or cyclic fallback, more than 32 tiers.
    pub fn new(mut models: Vec<Model>) -> Result<Self, CatalogError> {
        if models.is_empty() {
            return Err(CatalogError::Empty);
        }
        models.sort_by(|a, b| (a.quality, &a.id).cmp(&(b.quality, &b.id)));
        for (i, model) in models.iter().enumerate() {
            if models[..i].iter().any(|earlier| earlier.id == model.id) {
                return Err(CatalogError::Twice { model: model.id.clone() });
            }
        }
        let mut rungs: Vec<usize> = Vec::new();
        for (i, model) in models.iter().enumerate() {
            match rungs.last() {
                Some(&last) if models[last].tier == model.tier => {}
                _ if rungs.iter().any(|&r| models[r].tier == model.tier) => {
                    return Err(CatalogError::Scattered { tier: model.tier.clone() });
                }
                _ => rungs.push(i),
            }
        }
        if rungs.len() > MAX_RUNGS {
            return Err(CatalogError::TooManyTiers { tiers: rungs.len() });
        }
        let catalog = Self { models, rungs };
        catalog.check_fallbacks()?;
        Ok(catalog)
    }

    /// Returns the highest rung.
    pub fn top(&self) -> Rung {
        Rung(u8::try_from(self.rungs.len()).expect("a catalog has at most 32 rungs"))
    }

    /// Returns the primary model of a rung; `None` for rung 0 and above the top.
    pub fn primary(&self, rung: Rung) -> Option<&Model> {
        let place = usize::from(rung.0).checked_sub(1)?;
        self.rungs.get(place).map(|&i| &self.models[i])
    }

    /// Returns the name of a rung's tier; `none` for rung 0.
    pub fn tier_name(&self, rung: Rung) -> &str {
        self.primary(rung).map_or("none", |model| &model.tier)
    }

    /// Returns the rung of the tier of this name.
    pub fn rung_of_tier(&self, tier: &str) -> Option<Rung> {
        self.rungs_up().find(|&rung| self.tier_name(rung) == tier)
    }

    /// Returns the rung that a model stands on.
    pub fn rung_of(&self, id: &ModelId) -> Option<Rung> {
        self.rung_of_tier(&self.model(id)?.tier)
    }

    /// Returns the model of this name.
    pub fn model(&self, id: &ModelId) -> Option<&Model> {
        self.models.iter().find(|model| model.id == *id)
    }

    /// Returns all models in ascending order of (quality, id); not empty.
    pub fn models(&self) -> &[Model] {
        &self.models
    }

    /// Returns the rungs that hold a model, ascending.
    pub fn rungs_up(&self) -> impl DoubleEndedIterator<Item = Rung> + use<> {
        (1..=self.top().0).map(Rung)
    }

    fn check_fallbacks(&self) -> Result<(), CatalogError> {
        for model in &self.models {
            for fallback in &model.fallbacks {
                if self.model(fallback).is_none() {
                    return Err(CatalogError::UnknownFallback {
                        model: model.id.clone(),
                        fallback: fallback.clone(),
                    });
                }
            }
            let mut reached = vec![&model.id];
            let mut next = 0;
            while next < reached.len() {
                let from = self.model(reached[next]).expect("fallbacks were looked up above");
                for fallback in &from.fallbacks {
                    if *fallback == model.id {
                        return Err(CatalogError::Cycle {
                            model: model.id.clone(),
                            through: from.id.clone(),
                        });
                    }
                    if !reached.contains(&fallback) {
                        reached.push(fallback);
                    }
                }
                next += 1;
            }
        }
        Ok(())
    }
}

/// A catalog file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct RawCatalog {
    /// The models, in any order.
    #[serde(rename = "model")]
    pub models: Vec<RawModel>,
}

/// One `[[model]]` table.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct RawModel {
    /// Unique name.
    pub id: String,
    /// Name of the rung.
    pub tier: String,
    /// Quality as a share of the best model's.
    pub quality: PercentText,
    /// Name of its file in the folder of models, for a real server; the id with `.gguf` where none is given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// Main memory without the KV cache.
    pub ram: BytesText,
    /// Video memory without the KV cache.
    #[serde(default = "no_bytes", skip_serializing_if = "is_no_bytes")]
    pub vram: BytesText,
    /// KV cache for one token.
    #[serde(default = "no_bytes", skip_serializing_if = "is_no_bytes")]
    pub kv_per_token: BytesText,
    /// Context of one slot.
    #[serde(default = "default_context")]
    pub context_tokens: u32,
    /// Requests side by side.
    #[serde(default = "default_slots")]
    pub slots: u32,
    /// Extra main memory while loading.
    #[serde(default = "no_bytes", skip_serializing_if = "is_no_bytes")]
    pub load_transient: BytesText,
    /// Time to load from the page cache.
    pub load_warm: SpanText,
    /// Time to load from storage.
    pub load_cold: SpanText,
    /// Time to unload.
    #[serde(default = "default_unload")]
    pub unload: SpanText,
    /// A load that takes longer has failed.
    #[serde(default = "default_load_timeout")]
    pub load_timeout: SpanText,
    /// What a request takes on top of its tokens, before the first one of its reply. Default `0s`.
    #[serde(default = "no_time", skip_serializing_if = "is_no_time")]
    pub request_overhead: SpanText,
    /// Prompt tokens a second.
    pub prefill_tokens_per_second: f64,
    /// Reply tokens a second, with no context.
    pub decode_tokens_per_second: f64,
    /// The context behind which a reply's tokens take twice as long: attention looks at all of it. Without this, context costs
    /// nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decode_halves_at_tokens: Option<u32>,
    /// Kinds of work; chat and code where none are given.
    #[serde(default = "default_tasks")]
    pub tasks: Vec<Task>,
    /// Models to try when it does not load.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub fallbacks: Vec<String>,
}

impl TryFrom<RawCatalog> for Catalog {
    type Error = CatalogError;

    fn try_from(raw: RawCatalog) -> Result<Self, CatalogError> {
        Self::new(raw.models.into_iter().map(Model::try_from).collect::<Result<_, _>>()?)
    }
}

impl TryFrom<RawModel> for Model {
    type Error = CatalogError;

    fn try_from(raw: RawModel) -> Result<Self, CatalogError> {
        let id = ModelId::from(raw.id.as_str());
        let refuse = |field, want| CatalogError::Field { model: id.clone(), field, want };
        if raw.id.is_empty() {
            return Err(refuse("id", "a name"));
        }
        if raw.tier.is_empty() || raw.tier == "none" {
            return Err(refuse("tier", "a name other than \"none\", which is the empty rung"));
        }
        if raw.ram.0 == Bytes::ZERO && raw.vram.0 == Bytes::ZERO {
            return Err(refuse("ram", "more than nothing, in ram or in vram"));
        }
        if raw.slots == 0 || raw.context_tokens == 0 {
            return Err(refuse("slots", "at least one slot and one token of context"));
        }
        if raw.quality.0 > Percent::ONE_HUNDRED || raw.quality.0 == Percent::ZERO {
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
        Ok(Self {
            tier: raw.tier,
            quality: raw.quality.0,
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
            load_timeout: raw.load_timeout.0,
            request_overhead: raw.request_overhead.0,
            prefill_per_second: raw.prefill_tokens_per_second,
            decode_per_second: raw.decode_tokens_per_second,
            decode_halves_at: raw.decode_halves_at_tokens,
            tasks: raw.tasks,
            fallbacks: raw.fallbacks.iter().map(|name| name.as_str().into()).collect(),
            id,
        })
    }
}

impl From<&Catalog> for RawCatalog {
    fn from(catalog: &Catalog) -> Self {
        let raw = |model: &Model| RawModel {
            id: model.id.to_string(),
            tier: model.tier.clone(),
            quality: PercentText(model.quality),
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
            load_timeout: SpanText(model.load_timeout),
            request_overhead: SpanText(model.request_overhead),
            prefill_tokens_per_second: model.prefill_per_second,
            decode_tokens_per_second: model.decode_per_second,
            decode_halves_at_tokens: model.decode_halves_at,
            tasks: model.tasks.clone(),
            fallbacks: model.fallbacks.iter().map(ModelId::to_string).collect(),
        };
        Self { models: catalog.models.iter().map(raw).collect() }
    }
}

/// Why a catalog was refused.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[expect(missing_docs, reason = "each variant's message says what it is")]
pub enum CatalogError {
    #[error("the catalog has no model: give at least one [[model]]")]
    Empty,
    #[error("model \"{model}\" is listed twice: rename or remove one")]
    Twice { model: ModelId },
    #[error(
        "the models of tier \"{tier}\" are not neighbours in quality: a tier is one rung of the ladder"
    )]
    Scattered { tier: String },
    #[error("{tiers} tiers are more than the {MAX_RUNGS} that a ladder may have")]
    TooManyTiers { tiers: usize },
    #[error("model \"{model}\" falls back to \"{fallback}\", which is not in the catalog")]
    UnknownFallback { model: ModelId, fallback: ModelId },
    #[error("the fallbacks of \"{model}\" lead back to it through \"{through}\": break the circle")]
    Cycle { model: ModelId, through: ModelId },
    #[error("model \"{model}\": {field} must be {want}")]
    Field { model: ModelId, field: &'static str, want: &'static str },
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

fn default_load_timeout() -> SpanText {
    SpanText(DEFAULT_LOAD_TIMEOUT)
}

fn default_tasks() -> Vec<Task> {
    DEFAULT_TASKS.to_vec()
}

/// The ladder's bound: more rungs than any catalog that we have seen, few enough for fixed arrays.
pub const MAX_RUNGS: usize = 32;

/// llama-server exits 30 to 140 ms after SIGTERM with 3.4 GB loaded (measured 2026-11-23).
const DEFAULT_UNLOAD: Duration = Duration::from_millis(100);

/// Twice the slowest cold load in our notes (54 s for 20 GB).
const DEFAULT_LOAD_TIMEOUT: Duration = Duration::from_secs(120);

/// What a model can do where its table does not say.
const DEFAULT_TASKS: [Task; 2] = [Task::Chat, Task::Code];

#[cfg(test)]
mod tests {
    use super::*;

    fn model(id: &str, tier: &str, quality: u32, fallbacks: &[&str]) -> Model {
        let template = Catalog::relative_to(Bytes::from_gib(16));
        Model {
            id: id.into(),
            tier: tier.to_owned(),
            quality: Percent::new(quality),
            fallbacks: fallbacks.iter().map(|&name| name.into()).collect(),
            ..template.models[0].clone()
        }
    }

    #[test]
    fn the_built_in_ladder_is_the_specifications_on_16_gib() {
        let catalog = Catalog::relative_to(Bytes::from_gib(16));
        let sizes: Vec<Bytes> =
            catalog.models().iter().map(|model| model.footprint().ram).collect();
        assert_eq!(sizes, [Bytes::from_gib(2), Bytes::from_gib(5), Bytes::from_gib(9)]);
        assert_eq!(catalog.top(), Rung(3));
        assert_eq!(catalog.tier_name(Rung::NONE), "none");
    }

    #[test]
    fn a_catalog_survives_its_file_form() {
        let catalog = Catalog::relative_to(Bytes::from_gib(16));
        let file = toml::to_string(&RawCatalog::from(&catalog)).unwrap();
        let raw: RawCatalog = toml::from_str(&file).unwrap();
        assert_eq!(Catalog::try_from(raw).unwrap(), catalog, "{file}");
    }

    #[test]
    fn bad_catalogs_are_refused_by_name() {
        let refused = |models| Catalog::new(models).unwrap_err().to_string();
        insta::assert_snapshot!(
            [
                refused(vec![]),
                refused(vec![model("a", "s", 10, &[]), model("a", "m", 20, &[])]),
                refused(vec![
                    model("a", "s", 10, &[]),
                    model("b", "m", 20, &[]),
                    model("c", "s", 30, &[])
                ]),
                refused(vec![model("a", "s", 10, &["z"])]),
                refused(vec![
                    model("a", "s", 10, &["b"]),
                    model("b", "m", 20, &["c"]),
                    model("c", "l", 30, &["a"])
                ]),
            ]
            .join("\n")
        );
    }
}
