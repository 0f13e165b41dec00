//! A model is loaded on request and unloaded after five minutes without one; memory is not considered.
//!
//! A model of unloading by idle time alone: Ollama's `keep_alive` as its users meet it (intelowlproject/IntelOwl#3855,
//! stavsap/comfyui-ollama#10), and LM Studio's time to live. Left out: that Ollama itself makes room for another of its
//! models.

use std::time::Duration;

use tiershift_core::event::Input;
use tiershift_core::time::Timestamp;

use crate::study::museum::fleet::{Fleet, Route};
use crate::study::museum::idea::Idea;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct KeepAlive;

impl Idea for KeepAlive {
    const NAME: &str = "keep-alive";
    const ABOUT: &str =
        "loads a model on request, unloads it after five idle minutes, and never looks at memory";
    const ROUTE: Route = Route::Asked;

    fn step(&mut self, now: Timestamp, _input: &Input, fleet: &mut Fleet) {
        for rung in fleet.asked() {
            fleet.load(rung);
        }
        let unused: Vec<_> = fleet.idle().filter(|&(_, used)| used + IDLE <= now).collect();
        for (rung, _) in unused {
            fleet.unload(rung);
        }
    }

    fn wakeup(&self, fleet: &Fleet) -> Option<Timestamp> {
        fleet.idle().map(|(_, used)| used + IDLE).min()
    }
}

/// Default of Ollama's `OLLAMA_KEEP_ALIVE`.
const IDLE: Duration = Duration::from_mins(5);
