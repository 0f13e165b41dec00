//! The demand on the models, and how it was served: a policy's basis for judging service.

use std::time::Duration;

use crate::catalog::{Rung, Rungs};

/// The demand on the models at the moment of a sample.
///
/// A request that waited for a switch is no evidence about the rung that serves after it: while it waits it is not
/// counted, and once it runs its age is counted from its start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Demand {
    /// Requests that wait because every slot of the serving model is taken.
    pub waiting: u32,
    /// Time since the arrival of the first of them.
    pub oldest_waiting: Option<Duration>,
    /// Requests that run on the serving model.
    pub running: u32,
    /// Those of `running` that have run for more than [`SLOW_FACTOR`] times what the catalog's speeds give for the whole
    /// reply.
    pub late: u32,
    /// Time since the arrival of the latest of the late ones.
    pub youngest_late: Option<Duration>,
    /// Requests refused since the last sample because every slot of the serving model was taken: the queue was full, or
    /// they had waited too long.
    pub refused: u32,
    /// The rungs above the present one whose primary model can serve a request that the present one cannot, and that
    /// waits or was refused within the last two performance windows.
    pub only_above: Rungs,
    /// The rungs above the present one whose primary model cannot serve a request that the present one was given within
    /// the last two performance windows: for this demand they are no better.
    pub not_above: Rungs,
}

impl Demand {
    /// No requests.
    pub const NONE: Self = Self {
        waiting: 0,
        oldest_waiting: None,
        running: 0,
        late: 0,
        youngest_late: None,
        refused: 0,
        only_above: Rungs::EMPTY,
        not_above: Rungs::EMPTY,
    };
}

/// The end of one request that is evidence about the model: one that its client cancelled, or that the server
/// rejected, is not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Performance {
    /// The rung that served it.
    pub rung: Rung,
    /// How long the reply took; `None` if the model failed.
    pub reply: Option<ReplyTimes>,
}

/// How long a reply took. A request that waited for a switch is counted from its start, any other from its arrival.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReplyTimes {
    /// Arrival to first token, including the wait in the queue.
    pub first_token: Duration,
    /// Arrival to last token.
    pub latency: Duration,
    /// Start to last token.
    pub ran: Duration,
    /// What the catalog's speeds give for `ran`, with the reply's number of tokens.
    pub by_catalog: Duration,
}

impl ReplyTimes {
    /// Returns whether the model was much slower than the catalog states.
    pub fn is_slow_by_catalog(&self) -> bool {
        self.ran > self.by_catalog.saturating_mul(SLOW_FACTOR)
    }
}

/// A model that takes this many times as long as the catalog states does not run as it was measured: some layers are on
/// the processor, or the GPU is throttled. Chosen: requests side by side and a busy processor cost a factor of two, see
/// the case of a model that comes up 25 times too slow.
pub const SLOW_FACTOR: u32 = 3;
