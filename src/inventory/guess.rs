//! A ladder of models of which nothing but their files is known: the larger, the better.

use tiershift_core::model::Model;
use tiershift_core::units::{Bytes, Percent};

use crate::inventory::gguf::Dimensions;

/// A model's place among all, counted from the smallest.
#[derive(Clone, Copy, Debug)]
pub(super) struct Step {
    pub(super) place: usize,
    pub(super) count: usize,
}

impl Step {
    /// Returns a model whose speeds are guesses, and whose memory is its file, its KV cache for two full slots, and what the server needs beside
    /// them. Its tier is `small`, `medium` or `large` where there are three at most, else it has its own name.
    pub(super) fn model(self, id: &str, file: Bytes, dimensions: &Dimensions) -> Model {
        let usual = USUAL_TIERS.get(self.place).filter(|_| self.count <= USUAL_TIERS.len());
        let scores = LOGITS_PER_WORD.saturating_mul(dimensions.vocabulary.unwrap_or_default());
        let ram = file + SERVER + scores;
        let mut model = Model::of_size(id, usual.copied().unwrap_or(id), self.quality(), ram);
        model.kv_per_token = dimensions.kv_per_token().unwrap_or(USUAL_KV_PER_TOKEN);
        let trained = dimensions.context_tokens.and_then(|tokens| u32::try_from(tokens).ok());
        model.context_tokens =
            trained.map_or(model.context_tokens, |trained| trained.clamp(1, model.context_tokens));
        model
    }

    /// Returns qualities from a half for the smallest to all for the largest, evenly.
    fn quality(self) -> Percent {
        let steps = self.count.saturating_sub(1).max(1);
        let from_top = self.count - 1 - self.place;
        // A folder of files does not reach the bound of a `u32`.
        let below = u32::try_from(50_000 * from_top / steps).unwrap_or(50_000);
        Percent::from_milli(100_000 - below)
    }
}

/// The tiers of up to three models.
const USUAL_TIERS: [&str; 3] = ["small", "medium", "large"];

/// llama-server without a model takes 19 MiB, and its buffers beside weights, cache and logits stayed under 30 MiB
/// with models of 20 to 630 MB (measured 2026-11-23).
const SERVER: Bytes = Bytes::from_mib(64);

/// Logits of a batch of 512 tokens, llama-server's default, as 32-bit numbers, for each word of the vocabulary.
const LOGITS_PER_WORD: Bytes = Bytes::from_kib(2);

/// Where a file does not say it: the cache of an 8B model of the Llama 3 family.
const USUAL_KV_PER_TOKEN: Bytes = Bytes::from_kib(128);
