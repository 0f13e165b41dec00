//! A fixed number of the most recently used models stays; memory is not considered.
//!
//! A model of what routers with a limit on the number of models do, as their users meet it: llama.cpp's router mode
//! (`--models-max`, ggml-org/llama.cpp#25326), and a program that manages one (NousResearch/hermes-agent#116078). Left
//! out: what such a router does once a load has failed.

use tiershift_core::event::Input;
use tiershift_core::time::Timestamp;

use crate::study::museum::fleet::{Fleet, Route};
use crate::study::museum::idea::Idea;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct LruByCount;

impl Idea for LruByCount {
    const NAME: &str = "lru-by-count";
    const ABOUT: &str =
        "keeps the most recently used models, a fixed number of them, and never looks at memory";
    const ROUTE: Route = Route::Asked;

    fn step(&mut self, _now: Timestamp, _input: &Input, fleet: &mut Fleet) {
        for rung in fleet.asked() {
            if !fleet.is_present(rung) && fleet.present().count() >= MOST_MODELS {
                let least_recent = fleet.idle().min_by_key(|&(rung, used)| (used, rung));
                let Some((victim, _)) = least_recent else { return };
                fleet.unload(victim);
                return;
            }
            fleet.load(rung);
        }
    }
}

/// Default of llama.cpp's `--models-max`, according to its documentation of August 2026.
const MOST_MODELS: usize = 4;
