//! Estimates for a model when only its file is known: the larger, the better.

use tiershift_core::machine::Machine;
use tiershift_core::model::Model;
use tiershift_core::units::{Bytes, Percent};

use crate::inventory::gguf::{CacheTypes, Dimensions};

/// A model's place among all, counted from the smallest.
#[derive(Clone, Copy, Debug)]
pub(super) struct Step {
    pub(super) place: usize,
    pub(super) count: usize,
}

impl Step {
    /// Returns a model whose speeds are guesses, and whose memory is its file, its KV cache for two full slots, and
    /// what the server needs besides them. Its tier is `small`, `medium` or `large` if there are at most three, or else
    /// it has its own name.
    pub(super) fn model(
        self,
        id: &str,
        file: Bytes,
        dimensions: &Dimensions,
        cache: CacheTypes,
    ) -> Model {
        let usual = USUAL_TIERS.get(self.place).filter(|_| self.count <= USUAL_TIERS.len());
        let scores = LOGITS_PER_WORD.saturating_mul(dimensions.vocabulary.unwrap_or_default());
        let ram = file + SERVER + scores;
        let mut model = Model::of_size(id, usual.copied().unwrap_or(id), self.quality(), ram);
        model.kv_per_token = dimensions.kv_per_token(cache).unwrap_or(USUAL_KV_PER_TOKEN);
        model.context_tokens = least_context(dimensions);
        model
    }

    /// Returns evenly spaced qualities, from 50 % for the smallest to 100 % for the largest.
    fn quality(self) -> Percent {
        let steps = self.count.saturating_sub(1).max(1);
        let from_top = self.count - 1 - self.place;
        // A folder of files does not reach the limit of a `u32`.
        let below = u32::try_from(50_000 * from_top / steps).unwrap_or(50_000);
        Percent::from_milli(100_000 - below)
    }
}

/// Returns the default context of each slot of a model: up to what the model was trained for, the largest whose cache
/// takes no more than the weights do, and no more than half of what they leave of the machine's memory; and at least
/// 8192 tokens, which a short document needs.
///
/// A cache that took all memory would leave none for the others, and the rungs would not differ.
pub(super) fn context(model: &Model, dimensions: &Dimensions, machine: &Machine) -> u32 {
    let least = least_context(dimensions);
    let Some(trained) = trained(dimensions) else { return least };
    let (weights, all) = match model.vram {
        Bytes::ZERO => (model.ram, machine.memory),
        vram => (vram, machine.gpus.iter().copied().max().unwrap_or_default()),
    };
    let cache = weights.min((all - weights).share(Percent::new(50)));
    let each = model.kv_per_token.saturating_mul(model.slots.into()).get().max(1);
    let tokens = u32::try_from(cache.get() / each).unwrap_or(u32::MAX);
    (tokens / CONTEXT_STEP * CONTEXT_STEP).clamp(least, trained.max(least))
}

fn least_context(dimensions: &Dimensions) -> u32 {
    trained(dimensions).map_or(USUAL_CONTEXT, |trained| trained.clamp(1, USUAL_CONTEXT))
}

fn trained(dimensions: &Dimensions) -> Option<u32> {
    dimensions.context_tokens.and_then(|tokens| u32::try_from(tokens).ok())
}

/// The tiers of up to three models.
const USUAL_TIERS: [&str; 3] = ["small", "medium", "large"];

/// llama-server without a model takes 19 MiB, and its buffers besides weights, cache and logits stayed under 30 MiB
/// with models of 20 to 630 MB (measured 2026-11-23).
const SERVER: Bytes = Bytes::from_mib(64);

/// Logits of a batch of 512 tokens, llama-server's default, as 32-bit numbers, for each word of the vocabulary.
const LOGITS_PER_WORD: Bytes = Bytes::from_kib(2);

/// If a file does not state it: the cache of an 8B model of the Llama 3 family.
const USUAL_KV_PER_TOKEN: Bytes = Bytes::from_kib(128);

/// Chosen; also the default of a catalog.
const USUAL_CONTEXT: u32 = 8192;

/// llama.cpp rounds a context up to a multiple of this.
const CONTEXT_STEP: u32 = 256;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_context_is_as_large_as_the_weights_and_the_machine_allow() {
        let check = |gib: f64, kv_kib: u64, trained: u64, memory: u64, want: u32| {
            let size = Bytes::new((gib * f64::from(1 << 30)) as u64);
            let mut model = Model::of_size("m", "m", Percent::ONE_HUNDRED, size);
            model.kv_per_token = Bytes::from_kib(kv_kib);
            let dimensions = Dimensions::trained_for(trained);
            let machine = Machine { memory: Bytes::from_gib(memory), ..Machine::default() };
            assert_eq!(context(&model, &dimensions, &machine), want, "{gib} GiB of {memory}");
        };
        // 8B of the Llama 3 family in four bits: limited by its weights, by a small machine, and not fitting.
        check(4.6, 128, 131_072, 64, 18_688);
        check(4.6, 128, 131_072, 10, 11_008);
        check(4.6, 128, 131_072, 4, 8192);
        // 7B of the Qwen 2.5 family, whose cache is smaller: as trained.
        check(4.7, 56, 32_768, 64, 32_768);
        // One that was trained for less, and one that does not state it.
        check(0.6, 22, 2048, 64, 2048);
        check(4.6, 128, 0, 64, 8192);
    }
}
