//! Each request gets the model that it names: the loaded one finishes and goes, and the next in the queue is loaded.
//!
//! A model of a proxy that swaps in order of arrival, as llama-swap did until its scheduler collated requests
//! (mostlygeek/llama-swap#612, #790), and of a scheduler whose queue is blocked by its head (ollama/ollama#14578). Left out:
//! groups of models that may stay side by side, and priorities.

use tiershift_core::event::Input;
use tiershift_core::time::Timestamp;

use crate::study::museum::fleet::{Fleet, Route};
use crate::study::museum::idea::Idea;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct LoadOnRequest;

impl Idea for LoadOnRequest {
    const NAME: &str = "load-on-request";
    const ABOUT: &str =
        "serves requests in order of arrival, and swaps models for each that asks for another";
    const ROUTE: Route = Route::InOrder;

    fn step(&mut self, _now: Timestamp, _input: &Input, fleet: &mut Fleet) {
        if let Some(&first) = fleet.asked().first()
            && fleet.is_settled()
        {
            fleet.go_to(first);
        }
    }
}
