//! The latest request determines which model is loaded; what is loading or serving for another makes way at once.
//!
//! A model of a router that chooses its victim without asking what it is doing, as llama.cpp's did with `--models-max 1`
//! while it loaded (ggml-org/llama.cpp#25528) and while it served (ggml-org/llama.cpp#24849). Left out: that such a router
//! forced the process to end after ten seconds.

use tiershift_core::event::Input;
use tiershift_core::time::Timestamp;

use crate::study::museum::fleet::{Fleet, Route};
use crate::study::museum::idea::Idea;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct LatestRequestWins;

impl Idea for LatestRequestWins {
    const NAME: &str = "latest-request-wins";
    const ABOUT: &str = "loads what the latest request asks for, and unloads whatever is loading or serving for another";
    const ROUTE: Route = Route::Asked;

    fn step(&mut self, _now: Timestamp, input: &Input, fleet: &mut Fleet) {
        let wanted = match input {
            Input::Request(request) => fleet.asked_by(request),
            // The request that lost keeps waiting, and is next when no request runs.
            _ if fleet.is_settled() && fleet.present().all(|rung| fleet.is_free(rung)) => {
                match fleet.asked().first() {
                    Some(&first) => first,
                    None => return,
                }
            }
            _ => return,
        };
        for rung in fleet.rungs().filter(|&rung| rung != wanted) {
            fleet.cut(rung);
        }
        fleet.go_to(wanted);
    }
}
