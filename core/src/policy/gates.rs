//! Every gate of the next upgrade, spelled out for `explain`.
//!
//! Derived from what the last sample left in the policy; asking changes nothing.

use crate::catalog::Rung;
use crate::decision::{Gate, GateName, Measure};
use crate::policy::Standing;
use crate::policy::proactive::Proactive;
use crate::sample::Resource;
use crate::time::{Timestamp, nanos};

impl Proactive {
    pub(super) fn spell_out_gates(&self, now: Timestamp, standing: &Standing) -> Vec<Gate> {
        let next = Rung(standing.rung.0 + 1);
        let mut gates = Vec::with_capacity(10);
        let mut push = |name, open, value, limit| gates.push(Gate { name, open, value, limit });
        if let Some(at) = self.last.at {
            let (age, limit) = (now.since(at), self.settings.stale_after);
            push(GateName::Fresh, age <= limit, span(age), span(limit));
        }
        let busy = u32::from(standing.switching);
        push(GateName::Idle, busy == 0, Measure::Count(busy), Measure::Count(0));
        for (resource, share) in Resource::ALL.into_iter().zip(self.last.shares) {
            let line = self.upgrade_line_of(resource);
            if let Some(used) = share {
                let (value, limit) = (Measure::MilliPercent(used), Measure::MilliPercent(line));
                push(GateName::UpgradeLine(resource), used < line, value, limit);
            }
        }
        if standing.rung >= self.ladder.top() {
            return gates;
        }
        let state = &self.rungs[usize::from(next.0)];
        if let Some(projection) = state.projection {
            let (value, limit) =
                (Measure::Bytes(projection.projected), Measure::Bytes(projection.limit));
            push(GateName::Projection(projection.resource), projection.fits(), value, limit);
        }
        if let Some(change) = standing.last_change {
            let (since, limit) = (now.since(change.at), self.cooldown(change, standing));
            push(GateName::Cooldown, since >= limit, span(since), span(limit));
        }
        let (good_for, window) = (
            state.fits_since.map(|since| now.since(since)).unwrap_or_default(),
            self.window(standing),
        );
        push(
            GateName::Window,
            good_for >= window && state.fits_since.is_some(),
            span(good_for),
            span(window),
        );
        if let Some(wait) = self.backoff_wait(next, standing) {
            let remaining = self.backoff_remaining(now, next, wait).unwrap_or_default();
            let waited = wait.checked_sub(remaining).unwrap_or_default();
            push(GateName::Backoff, remaining.is_zero(), span(waited), span(wait));
        }
        if let Some((predicted, limit)) = self.service.would_be_slow(now, standing.rung, next) {
            push(GateName::Latency, false, span(predicted), span(limit));
        }
        gates
    }
}

fn span(span: std::time::Duration) -> Measure {
    Measure::Nanos(nanos(span))
}
