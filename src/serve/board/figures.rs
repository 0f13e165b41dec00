//! Figures counted from the start, for `/metrics`.

use std::collections::BTreeMap;
use std::time::Duration;

use tiershift_core::decision::{Action, Code, Decision};
use tiershift_core::event::{OrderNews, Outcome};
use tiershift_core::model::ModelId;
use tiershift_core::request::{End, Rejection};

/// Counts that only grow.
#[derive(Debug, Default)]
pub(super) struct Figures {
    /// By action and reason.
    pub(super) decisions: BTreeMap<(&'static str, Code), u64>,
    /// By model and outcome.
    pub(super) models: BTreeMap<(ModelId, &'static str), u64>,
    /// By reason.
    pub(super) rejections: BTreeMap<Rejection, u64>,
    /// By outcome.
    pub(super) orders: BTreeMap<&'static str, u64>,
    pub(super) upgrades: u64,
    pub(super) downgrades: u64,
    pub(super) missing_samples: u64,
    pub(super) output_tokens: u64,
    pub(super) first_token: Histogram,
    pub(super) latency: Histogram,
}

impl Figures {
    pub(super) fn count_decision(&mut self, decision: &Decision) {
        let action = match decision.action {
            Action::Hold => "hold",
            Action::Upgrade { .. } => "upgrade",
            Action::Downgrade { .. } => "downgrade",
        };
        *self.decisions.entry((action, decision.reason.code())).or_default() += 1;
    }

    pub(super) fn count_outcome(&mut self, outcome: &Outcome) {
        let (model, became) = match outcome {
            Outcome::Loaded { model } => (model, "loaded"),
            Outcome::LoadFailed { model, .. } => (model, "load-failed"),
            Outcome::Unloaded { model } => (model, "unloaded"),
            Outcome::Crashed { model, .. } => (model, "crashed"),
            Outcome::Loading { .. }
            | Outcome::Tried(_)
            | Outcome::Done { .. }
            | Outcome::Failed { .. }
            | Outcome::Cancelled { .. } => return,
        };
        *self.models.entry((model.clone(), became)).or_default() += 1;
    }

    pub(super) fn count_order(&mut self, news: &OrderNews) {
        let became = match news {
            OrderNews::Taken { .. } => "taken",
            OrderNews::Refused { .. } => "refused",
            OrderNews::Released => "released",
            OrderNews::Unknown => "unknown-tier",
        };
        *self.orders.entry(became).or_default() += 1;
    }

    pub(super) fn count_end(&mut self, end: &End) {
        match end {
            End::Done { first_token, latency, output_tokens, .. } => {
                self.output_tokens += u64::from(*output_tokens);
                self.first_token.count_span(*first_token);
                self.latency.count_span(*latency);
            }
            End::Rejected { reason, .. } => {
                *self.rejections.entry(*reason).or_default() += 1;
            }
            End::Failed { .. } | End::Cancelled { .. } => {}
        }
    }
}

/// The outcomes of orders, so that each is present, even as zero.
pub(super) const ORDER_NEWS: [&str; 4] = ["taken", "refused", "released", "unknown-tier"];

/// The distribution of a span.
#[derive(Debug, Default)]
pub(super) struct Histogram {
    counts: [u64; BOUNDS.len() + 1],
    sum: Duration,
}

impl Histogram {
    fn count_span(&mut self, span: Duration) {
        self.counts[BOUNDS.partition_point(|&bound| bound < span)] += 1;
        self.sum += span;
    }

    /// Returns each bound with the number of spans up to it.
    pub(super) fn buckets(&self) -> impl Iterator<Item = (Duration, u64)> {
        BOUNDS.into_iter().zip(self.counts).scan(0, |sum, (bound, count)| {
            *sum += count;
            Some((bound, *sum))
        })
    }

    pub(super) fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    pub(super) fn sum(&self) -> Duration {
        self.sum
    }
}

/// Chosen: from the first token of a tiny model (10 ms measured) to the longest reply that is waited for, in steps of
/// about 2.5.
const BOUNDS: [Duration; 14] = [
    Duration::from_millis(10),
    Duration::from_millis(25),
    Duration::from_millis(50),
    Duration::from_millis(100),
    Duration::from_millis(250),
    Duration::from_millis(500),
    Duration::from_millis(1000),
    Duration::from_millis(2500),
    Duration::from_secs(5),
    Duration::from_secs(10),
    Duration::from_secs(30),
    Duration::from_secs(60),
    Duration::from_secs(180),
    Duration::from_secs(600),
];
