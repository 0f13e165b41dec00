//! Every gate of every higher rung, in detail for `explain`.
//!
//! Derived from the policy's state after the last sample; it changes nothing.

use std::time::Duration;

use crate::catalog::Rung;
use crate::decision::{Gate, GateName, Measure};
use crate::place::{Fit, Projection};
use crate::policy::Standing;
use crate::policy::proactive::Proactive;
use crate::time::{Timestamp, nanos};

impl Proactive {
    pub(super) fn spell_out_gates(&self, now: Timestamp, standing: &Standing) -> Vec<Gate> {
        let mut gates = Vec::with_capacity(GATES_OF_A_RUNG * self.rungs.len());
        if let Some(at) = self.last.at {
            let (age, limit) = (now.since(at), self.settings.stale_after);
            let open = age <= limit;
            let [value, limit] = [age, limit].map(span);
            gates.push(Gate { name: GateName::Fresh, rung: None, open, value, limit });
        }
        let busy = u32::from(standing.switching);
        let [value, limit] = [busy, 0].map(Measure::Count);
        gates.push(Gate { name: GateName::Idle, rung: None, open: busy == 0, value, limit });
        for rung in standing.rung.0 + 1..=self.ladder.top().0 {
            self.spell_out_gates_of(now, standing, Rung(rung), &mut gates);
        }
        gates
    }

    fn spell_out_gates_of(
        &self,
        now: Timestamp,
        standing: &Standing,
        to: Rung,
        gates: &mut Vec<Gate>,
    ) {
        let mut push = |name, open, value, limit| {
            gates.push(Gate { name, rung: Some(to), open, value, limit });
        };
        let is_rescue = standing.rung == Rung::NONE;
        let state = &self.rungs[usize::from(to.0)];
        let mut project = |projection: Projection| {
            let [value, limit] = [projection.projected, projection.limit].map(Measure::Bytes);
            push(GateName::Projection(projection.resource), projection.fits(), value, limit);
        };
        match state.fit {
            Some(Fit::Fits(place)) => place.spaces().for_each(project),
            Some(Fit::Short(short)) => project(short),
            Some(Fit::Unknown(_)) | None => {}
        }
        if !is_rescue {
            for (key, used, line) in self.uses_before_an_upgrade(standing.rung, to) {
                let [value, limit] = [used, line].map(Measure::MilliPercent);
                push(GateName::UpgradeLine(key.resource), used < line, value, limit);
            }
        }
        // From nothing, all wait for the smallest that fits, for which this is the only wait.
        let paced_by = if is_rescue { self.smallest_that_fits(now).unwrap_or(to) } else { to };
        let wait = self.window(standing, paced_by);
        let good_for = match is_rescue {
            true => self.rescue_age(now, paced_by),
            false => self.good_for(now, paced_by),
        };
        let open = self.rungs[usize::from(paced_by.0)].fits_since.is_some() && good_for >= wait;
        push(GateName::Window, open, span(good_for), span(wait));
        if let Some(change) = standing.last_change.filter(|_| !is_rescue) {
            let (since, limit) = (now.since(change.at), self.cooldown(now, change, standing, to));
            push(GateName::Cooldown, since >= limit, span(since), span(limit));
        }
        if is_rescue && to <= paced_by {
            return;
        }
        if !is_rescue && self.service.would_not_serve(now, to) {
            push(GateName::Unserved, false, Measure::Count(1), Measure::Count(0));
        }
        if let Some((waited, limit)) = self.broken_wait(now, to) {
            push(GateName::Backoff, waited >= limit, span(waited), span(limit));
        }
        if let Some(odds) = self.odds_of(now, standing, to) {
            let [value, limit] = [odds.risk, odds.worth].map(Measure::MilliPercent);
            push(GateName::Risk, odds.are_good(), value, limit);
        }
        if !is_rescue
            && let Some((predicted, limit)) = self.service.would_be_slow(now, standing.rung, to)
        {
            push(GateName::Latency, false, span(predicted), span(limit));
        }
    }
}

fn span(span: Duration) -> Measure {
    Measure::Nanos(nanos(span))
}

/// The most gates of one rung: two projections, two lines, window, cooldown, back-off, risk, latency, what it cannot
/// serve.
const GATES_OF_A_RUNG: usize = 10;
