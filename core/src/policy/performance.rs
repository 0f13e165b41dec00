//! How well each rung serves: latencies in a sliding window, failures in a row.

use std::collections::VecDeque;
use std::time::Duration;

use crate::catalog::{Catalog, Rung};
use crate::decision::Reason;
use crate::settings::Settings;
use crate::time::Timestamp;

/// The end of one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Performance {
    /// The rung that served it.
    pub rung: Rung,
    /// Arrival to last token, arrival to first token; `None` where it failed.
    pub reply: Option<ReplyTimes>,
}

/// How long a reply took.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReplyTimes {
    /// Start to first token.
    pub first_token: Duration,
    /// Start to last token.
    pub latency: Duration,
}

/// What is known of every rung's service.
#[derive(Clone, Debug)]
pub(crate) struct Service {
    rungs: Vec<RungService>,
    latency_limit: Option<Duration>,
    first_token_limit: Option<Duration>,
    window: Duration,
    minimum: usize,
    failure_limit: u32,
    /// How long a rung that was slow is remembered as slow.
    memory: Duration,
}

#[derive(Clone, Debug, Default)]
struct RungService {
    /// Replies of the window, in order of their end.
    replies: VecDeque<(Timestamp, ReplyTimes)>,
    failures_in_a_row: u32,
    decode_per_second: f64,
    /// When it was left for being slow, and how slow it was.
    left_slow: Option<(Timestamp, Duration)>,
}

impl Service {
    pub(crate) fn new(settings: &Settings, catalog: &Catalog) -> Self {
        let mut rungs = vec![RungService::default()];
        rungs.extend(catalog.rungs_up().map(|rung| RungService {
            decode_per_second: catalog.primary(rung).map_or(0.0, |model| model.decode_per_second),
            ..RungService::default()
        }));
        Self {
            rungs,
            latency_limit: settings.latency_limit,
            first_token_limit: settings.first_token_limit,
            window: settings.performance_window,
            minimum: settings.performance_minimum as usize,
            failure_limit: settings.failure_limit,
            memory: settings.stabilization.longest() * 24,
        }
    }

    pub(crate) fn record(&mut self, now: Timestamp, performance: &Performance) {
        let limited = self.latency_limit.is_some() || self.first_token_limit.is_some();
        let rung = &mut self.rungs[usize::from(performance.rung.0)];
        match performance.reply {
            None => rung.failures_in_a_row += 1,
            Some(reply) => {
                rung.failures_in_a_row = 0;
                if limited {
                    rung.replies.push_back((now, reply));
                    rung.drop_older(now - self.window);
                }
            }
        }
    }

    /// Returns why `rung` should be left, if it should.
    pub(crate) fn complaint(&mut self, now: Timestamp, rung: Rung) -> Option<Reason> {
        let service = &mut self.rungs[usize::from(rung.0)];
        if service.failures_in_a_row >= self.failure_limit {
            return Some(Reason::Failing { failures: service.failures_in_a_row });
        }
        if self.latency_limit.is_none() && self.first_token_limit.is_none() {
            return None;
        }
        service.drop_older(now - self.window);
        let latency = (self.latency_limit, service.p95(self.minimum, |reply| reply.latency));
        let first = (self.first_token_limit, service.p95(self.minimum, |reply| reply.first_token));
        [latency, first].into_iter().find_map(|pair| match pair {
            (Some(limit), Some(measured)) if measured > limit => {
                Some(Reason::Slow { measured, limit })
            }
            _ => None,
        })
    }

    /// Returns the latency predicted for `to` where it would break the limit: what it was when it was left for being
    /// slow, while that is remembered; else the present rung's 95th percentile, scaled by the decode speeds of
    /// the catalog.
    pub(crate) fn would_be_slow(
        &self,
        now: Timestamp,
        from: Rung,
        to: Rung,
    ) -> Option<(Duration, Duration)> {
        let limit = self.latency_limit?;
        if let Some((left, measured)) = self.rungs[usize::from(to.0)].left_slow
            && now.since(left) < self.memory
        {
            return Some((measured, limit));
        }
        let (here, there) = (&self.rungs[usize::from(from.0)], &self.rungs[usize::from(to.0)]);
        let measured = here.p95(self.minimum, |reply| reply.latency)?;
        let slower = here.decode_per_second / there.decode_per_second;
        let predicted = crate::time::from_secs_f64(measured.as_secs_f64() * slower);
        (predicted > limit).then_some((predicted, limit))
    }

    /// Remembers that a rung is left for being slow.
    pub(crate) fn remember_slow(&mut self, now: Timestamp, rung: Rung, measured: Duration) {
        self.rungs[usize::from(rung.0)].left_slow = Some((now, measured));
    }

    /// Forgets what was seen of a rung: it was left, and the next try begins afresh.
    pub(crate) fn forget(&mut self, rung: Rung) {
        let service = &mut self.rungs[usize::from(rung.0)];
        service.replies.clear();
        service.failures_in_a_row = 0;
    }
}

impl RungService {
    fn drop_older(&mut self, than: Timestamp) {
        while self.replies.front().is_some_and(|&(at, _)| at < than)
            || self.replies.len() > MOST_REPLIES
        {
            self.replies.pop_front();
        }
    }

    /// Returns the 95th percentile (nearest rank); `None` under `minimum` replies.
    fn p95(&self, minimum: usize, figure: impl Fn(&ReplyTimes) -> Duration) -> Option<Duration> {
        if self.replies.len() < minimum.max(1) {
            return None;
        }
        let mut figures: Vec<Duration> =
            self.replies.iter().map(|(_, reply)| figure(reply)).collect();
        let rank = (figures.len() * 95).div_ceil(100) - 1;
        Some(*figures.select_nth_unstable(rank).1)
    }
}

/// A bound on memory and on the work of a percentile: 512 replies pin the 95th percentile to within 1 %.
const MOST_REPLIES: usize = 512;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::MachineClass;
    use crate::settings::RawSettings;
    use crate::time::SpanText;
    use crate::units::Bytes;

    fn service(latency_limit: Option<Duration>) -> Service {
        let raw =
            RawSettings { latency_limit: latency_limit.map(SpanText), ..RawSettings::default() };
        let settings = Settings::new(raw, MachineClass::MidRange).unwrap();
        Service::new(&settings, &Catalog::relative_to(Bytes::from_gib(16)))
    }

    fn reply(rung: u8, seconds: u64) -> Performance {
        let latency = Duration::from_secs(seconds);
        Performance {
            rung: Rung(rung),
            reply: Some(ReplyTimes { first_token: latency / 2, latency }),
        }
    }

    #[test]
    fn three_failures_in_a_row_are_a_complaint_and_a_success_forgives() {
        let mut service = service(None);
        let failed = Performance { rung: Rung(2), reply: None };
        let now = Timestamp::from_secs(1);
        for _ in 0..2 {
            service.record(now, &failed);
        }
        service.record(now, &reply(2, 1));
        assert_eq!(service.complaint(now, Rung(2)), None);
        for _ in 0..3 {
            service.record(now, &failed);
        }
        assert_eq!(service.complaint(now, Rung(2)), Some(Reason::Failing { failures: 3 }));
        assert_eq!(service.complaint(now, Rung(1)), None);
    }

    #[test]
    fn slow_replies_complain_only_while_they_are_in_the_window() {
        let limit = Duration::from_secs(10);
        let mut service = service(Some(limit));
        for second in 0..20 {
            service.record(Timestamp::from_secs(second), &reply(3, 12));
        }
        let slow = Reason::Slow { measured: Duration::from_secs(12), limit };
        assert_eq!(service.complaint(Timestamp::from_secs(20), Rung(3)), Some(slow));
        assert_eq!(service.complaint(Timestamp::from_secs(1000), Rung(3)), None);
    }

    #[test]
    fn a_larger_model_is_predicted_slower_by_the_catalogs_speeds() {
        let mut service = service(Some(Duration::from_secs(10)));
        for second in 0..20 {
            service.record(Timestamp::from_secs(second), &reply(1, 4));
        }
        assert_eq!(service.would_be_slow(Timestamp::from_secs(20), Rung(1), Rung(2)), None);
        let (predicted, _) =
            service.would_be_slow(Timestamp::from_secs(20), Rung(1), Rung(3)).unwrap();
        assert_eq!(predicted.as_secs(), 18);
    }
}
