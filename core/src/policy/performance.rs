//! How well each rung serves: replies in a sliding window, the age of requests that have not ended, failures; the
//! latency predicted for a rung, and what is remembered of it.

mod failures;
mod memory;
mod window;

use std::collections::VecDeque;
use std::time::Duration;

use crate::catalog::{Catalog, Rung, Rungs};
use crate::decision::Reason;
use crate::demand::{Demand, Performance};
use crate::policy::performance::failures::Failures;
use crate::policy::performance::memory::{Bounds, SlowMemory};
use crate::policy::performance::window::{Figure, Limits, Replies, rank_of_p95};
use crate::settings::Settings;
use crate::time::Timestamp;

/// What is known of every rung's service.
#[derive(Clone, Debug)]
pub(crate) struct Service {
    rungs: Vec<RungService>,
    limits: Limits,
    window: Duration,
    /// How long unfinished requests must show a rung to be slow.
    lasting: Duration,
    minimum: u32,
    failure_limit: u32,
    bounds: Bounds,
    /// The last sample that was judged; the rungs above that can serve some of the demand that only they can; and those
    /// that cannot serve what the present one can.
    asked: Option<(Timestamp, Rungs, Rungs)>,
}

#[derive(Clone, Debug)]
struct RungService {
    failures: Failures,
    replies: Replies,
    /// When requests were refused because no slot was free, and how many.
    refusals: VecDeque<(Timestamp, u32)>,
    last_reply: Option<Timestamp>,
    /// Since when unfinished requests have shown that it is slow.
    evident_since: Option<Timestamp>,
    /// The limit that the last complaint was about.
    broken_limit: Duration,
    memory: SlowMemory,
    /// By the catalog: the speed that each figure depends on, decoding or prefill.
    per_second: [f64; Figure::ALL.len()],
}

impl Service {
    pub(crate) fn new(settings: &Settings, catalog: &Catalog) -> Self {
        let lasting = settings.rate_sustained;
        let rung = |per_second| RungService {
            failures: Failures::new(lasting * FAILURE_WINDOW),
            replies: Replies::default(),
            refusals: VecDeque::new(),
            last_reply: None,
            evident_since: None,
            broken_limit: Duration::ZERO,
            memory: SlowMemory::default(),
            per_second,
        };
        let mut rungs = vec![rung([0.0; Figure::ALL.len()])];
        let models = catalog.rungs_up().filter_map(|rung| catalog.primary(rung));
        rungs.extend(models.map(|it| rung([it.decode_per_second, it.prefill_per_second])));
        Self {
            rungs,
            limits: [settings.latency_limit, settings.first_token_limit],
            window: settings.performance_window,
            lasting,
            minimum: settings.performance_minimum.max(1),
            failure_limit: settings.failure_limit.max(1),
            bounds: Bounds::new(settings),
            asked: None,
        }
    }

    /// Takes over what is remembered of slow rungs.
    pub(crate) fn learn_from(&mut self, before: &Self) {
        for (rung, known) in self.rungs.iter_mut().zip(&before.rungs) {
            rung.memory.clone_from(&known.memory);
        }
    }

    fn is_limited(&self) -> bool {
        self.limits.iter().any(Option::is_some)
    }

    /// Records the end of a request.
    pub(crate) fn record(&mut self, now: Timestamp, performance: &Performance) {
        let is_limited = self.is_limited();
        let service = &mut self.rungs[usize::from(performance.rung.0)];
        service.failures.record(now, performance.reply.is_none());
        let Some(reply) = performance.reply.filter(|_| is_limited) else { return };
        let is_over =
            |(limit, took): (&Option<Duration>, Duration)| limit.is_some_and(|it| took > it);
        let is_good = !self.limits.iter().zip([reply.latency, reply.first_token]).any(is_over);
        if let Some(last) = service.last_reply.replace(now)
            && is_good
        {
            // Time without requests is not good service.
            service.memory.serve_well(now.since(last).min(self.window));
        }
        service.replies.push(now, reply, now - self.window, &self.limits);
    }

    /// Returns why `rung` should be left, if it should. Called at each sample outside of switches, before the other
    /// questions.
    pub(crate) fn complaint(
        &mut self,
        now: Timestamp,
        rung: Rung,
        demand: &Demand,
    ) -> Option<Reason> {
        self.asked = Some((now, demand.only_above, demand.not_above));
        let is_limited = self.is_limited();
        let service = &mut self.rungs[usize::from(rung.0)];
        if let Some(failures) = service.failures.too_many(now, self.failure_limit) {
            return Some(Reason::Failing { failures });
        }
        if !is_limited {
            return None;
        }
        service.let_go_of_old(now - self.window, &self.limits);
        service.note_refusals(now, demand.refused);
        let mut is_evident = false;
        for figure in Figure::ALL {
            let Some(limit) = self.limits[figure as usize] else { continue };
            let mut found = service.slow_by_what_ended(figure, limit, self.minimum);
            if found.is_none()
                && let Some(age) = service.slow_so_far(figure, limit, self.minimum, demand)
            {
                is_evident = true;
                let since = *service.evident_since.get_or_insert(now);
                found = (now.since(since) >= self.lasting).then_some(age);
            }
            if let Some(measured) = found {
                service.broken_limit = limit;
                return Some(Reason::Slow { measured, limit });
            }
        }
        if !is_evident {
            service.evident_since = None;
        }
        None
    }

    /// If the figure predicted for `to` breaks its limit, returns it and the limit: the figure measured when the rung
    /// was last left for being slow, while that is remembered; or else the present rung's 95th percentile, scaled by
    /// the speeds of the catalog. For a rung that was once slow, the catalog's prediction counts for no longer than
    /// slowness can be remembered.
    pub(crate) fn would_be_slow(
        &self,
        now: Timestamp,
        from: Rung,
        to: Rung,
    ) -> Option<(Duration, Duration)> {
        let there = &self.rungs[usize::from(to.0)];
        // A rung that is no faster than a remembered slow one on the way is slow too.
        for rung in from.0.saturating_add(1)..=to.0 {
            let between = &self.rungs[usize::from(rung)];
            if there.per_second[0] <= between.per_second[0]
                && let Some(remembered) = between.memory.in_force(now, self.bounds)
            {
                return Some(remembered);
            }
        }
        if there.memory.is_due_for_a_try(now, self.bounds) {
            return None;
        }
        let here = &self.rungs[usize::from(from.0)];
        Figure::ALL.into_iter().find_map(|figure| {
            let limit = self.limits[figure as usize]?;
            let measured = here.replies.p95(figure, self.minimum)?;
            let slower = here.per_second[figure as usize] / there.per_second[figure as usize];
            let predicted = crate::time::from_secs_f64(measured.as_secs_f64() * slower);
            (predicted > limit).then_some((predicted, limit))
        })
    }

    /// Remembers that a rung is left for being slow, as in the last complaint about it.
    pub(crate) fn remember_slow(&mut self, now: Timestamp, rung: Rung, measured: Duration) {
        let service = &mut self.rungs[usize::from(rung.0)];
        service.memory.fail(now, measured, service.broken_limit, self.bounds);
    }

    /// Returns the rungs that can serve something requested that the present one cannot, by the demand at the sample of
    /// `now`.
    pub(crate) fn climb_wanted(&self, now: Timestamp) -> Rungs {
        let asked = self.asked.filter(|&(at, ..)| at == now);
        asked.map_or(Rungs::EMPTY, |(_, only_above, _)| only_above)
    }

    /// Returns whether a higher rung serves nothing requested that the present one cannot, and either fails to serve
    /// what the present one is given, or passes over a lower rung that would be needed.
    pub(crate) fn would_not_serve(&self, now: Timestamp, to: Rung) -> bool {
        let Some((_, only_above, not_above)) = self.asked.filter(|&(at, ..)| at == now) else {
            return false;
        };
        let goes_past = !only_above.is_empty() && only_above.above(to).is_empty();
        !only_above.contains(to) && (not_above.contains(to) || goes_past)
    }

    /// Forgets the measurements of a rung: it was left, and the next try starts anew. What is remembered of it stays.
    pub(crate) fn forget(&mut self, rung: Rung) {
        let service = &mut self.rungs[usize::from(rung.0)];
        service.failures.clear();
        service.replies.clear();
        service.refusals.clear();
        service.last_reply = None;
        service.evident_since = None;
    }
}

impl RungService {
    fn let_go_of_old(&mut self, oldest: Timestamp, limits: &Limits) {
        self.replies.drop_older(oldest, limits);
        while self.refusals.front().is_some_and(|&(at, _)| at < oldest)
            || self.refusals.len() > MOST_REFUSALS
        {
            self.refusals.pop_front();
        }
    }

    fn note_refusals(&mut self, now: Timestamp, count: u32) {
        if count > 0 {
            self.refusals.push_back((now, count));
        }
    }

    /// Returns the 95th percentile of replies, if it is over the limit. Of few replies it is the longest, and one reply
    /// may be long by nature.
    fn slow_by_what_ended(
        &self,
        figure: Figure,
        limit: Duration,
        minimum: u32,
    ) -> Option<Duration> {
        let is_accident = self.replies.sum(figure).over < SEVERAL.min(minimum);
        self.replies.p95(figure, minimum).filter(|&p95| p95 > limit && !is_accident)
    }

    /// Returns how long unfinished requests have taken, if that shows that the rung is too slow: they count as replies
    /// over the limit, and either these are too many by the 95th percentile, or the model is not as fast as the catalog
    /// measured it.
    ///
    /// One long reply proves nothing: a running request counts only if it is late by the catalog.
    fn slow_so_far(
        &self,
        figure: Figure,
        limit: Duration,
        minimum: u32,
        demand: &Demand,
    ) -> Option<Duration> {
        // It is not known whether a running request has had its first token.
        let late_age = demand.youngest_late.filter(|_| figure == Figure::Latency);
        let late_age = late_age.filter(|&age| age > limit);
        let waiting_age = demand.oldest_waiting.filter(|&age| age > limit);
        let sum = self.replies.sum(figure);
        if late_age.is_none() && waiting_age.is_none() && sum.slow == 0 {
            return None;
        }
        let late = if late_age.is_some() { demand.late } else { 0 };
        let refused: u32 = self.refusals.iter().map(|&(_, count)| count).sum();
        let not_ended = late + refused + u32::from(waiting_age.is_some());
        let (all, over) = (self.replies.len() + not_ended, sum.over + not_ended);
        let is_over = all >= minimum
            && over >= SEVERAL.min(minimum)
            && ((all - over) as usize) < rank_of_p95(all as usize);
        let slow = sum.slow + late;
        let is_slow_by_catalog = slow >= SEVERAL && slow * 2 >= self.replies.len() + demand.running;
        let measured = [late_age, waiting_age, self.replies.p95(figure, 1)].into_iter().flatten();
        let measured = measured.max().filter(|&measured| measured > limit)?;
        (is_over || is_slow_by_catalog).then_some(measured)
    }
}

/// This many requests that are slow by the catalog are no accident, if they are half of all. Chosen: a model that comes
/// up far too slow must be left although hardly anything ends, and one long reply must not be enough.
const SEVERAL: u32 = 2;

/// The window for failures among successes, as a multiple of the time that a condition must last. Chosen: with the
/// default of 30 s it is two minutes; one bad minute an hour ago proves nothing.
const FAILURE_WINDOW: u32 = 4;

/// Limits memory: samples at which something was refused.
const MOST_REFUSALS: usize = 512;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demand::ReplyTimes;
    use crate::machine::MachineClass;
    use crate::settings::RawSettings;
    use crate::units::Bytes;

    const LIMIT: Duration = seconds(10);
    const LATENCY: &str = "latency-limit = '10s'";
    const FIRST_TOKEN: &str = "first-token-limit = '10s'";

    const fn seconds(count: u64) -> Duration {
        Duration::from_secs(count)
    }

    const fn at(second: u64) -> Timestamp {
        Timestamp::from_secs(second)
    }

    /// Returns a service under settings as a policy file has them; its three rungs decode 9.3, 3.7 and 2.1 tokens a second.
    fn service(settings: &str) -> Service {
        let raw: RawSettings = toml::from_str(settings).unwrap();
        let settings = Settings::new(raw, MachineClass::MidRange).unwrap();
        Service::new(&settings, &Catalog::relative_to(Bytes::from_gib(16)))
    }

    /// Returns a reply that took this long, half of it to its first token, and its time by the catalog.
    fn reply_at(rung: u8, took: u64, by_catalog: u64) -> Performance {
        let latency = seconds(took);
        let reply = ReplyTimes {
            first_token: latency / 2,
            latency,
            ran: latency,
            by_catalog: seconds(by_catalog),
        };
        Performance { rung: Rung(rung), reply: Some(reply) }
    }

    fn reply(rung: u8, took: u64) -> Performance {
        reply_at(rung, took, took)
    }

    fn slow(measured: u64) -> Option<Reason> {
        Some(Reason::Slow { measured: seconds(measured), limit: LIMIT })
    }

    #[test]
    fn failures_are_a_complaint_about_the_rung_that_failed() {
        let mut service = service("");
        for _ in 0..3 {
            service.record(at(1), &Performance { rung: Rung(2), reply: None });
        }
        let failing = Some(Reason::Failing { failures: 3 });
        assert_eq!(service.complaint(at(1), Rung(2), &Demand::NONE), failing);
        assert_eq!(service.complaint(at(1), Rung(1), &Demand::NONE), None);
        service.forget(Rung(2));
        assert_eq!(service.complaint(at(1), Rung(2), &Demand::NONE), None);
    }

    #[test]
    fn slow_replies_complain_only_while_they_are_in_the_window() {
        let mut service = service(LATENCY);
        for second in 0..20 {
            service.record(at(second), &reply(3, 12));
        }
        assert_eq!(service.complaint(at(20), Rung(3), &Demand::NONE), slow(12));
        assert_eq!(service.complaint(at(1000), Rung(3), &Demand::NONE), None);
    }

    #[test]
    fn one_long_reply_is_an_accident_unless_one_is_all_that_is_asked_for() {
        let (long, good) = (reply(3, 12), reply(3, 5));
        let replies = [good, good, good, good, good, good, good, good, long, long];
        check(LATENCY, &replies[1..], Demand::NONE, None);
        check(LATENCY, &replies[..9], Demand::NONE, None);
        check(LATENCY, &replies, Demand::NONE, Some((0, slow(12))));
        check(LATENCY, &[&replies[..9], &[good]].concat(), Demand::NONE, None);
        let any = "latency-limit = '10s'\nperformance-minimum = 1";
        check(any, &[long], Demand::NONE, Some((0, slow(12))));
    }

    /// Reads samples every two seconds for a minute under one demand, after some replies, and checks when the complaint
    /// comes and its content.
    #[track_caller]
    fn check(
        settings: &str,
        replies: &[Performance],
        demand: Demand,
        want: Option<(u64, Option<Reason>)>,
    ) {
        let mut service = service(settings);
        for reply in replies {
            service.record(at(100), reply);
        }
        let complaint = (100..=160).step_by(2).find_map(|second| {
            let complaint = service.complaint(at(second), Rung(3), &demand)?;
            Some((second - 100, Some(complaint)))
        });
        assert_eq!(complaint, want, "{settings}, {replies:?}, {demand:?}");
    }

    #[test]
    fn what_runs_late_counts_although_nothing_ends() {
        let late = |late, age| Demand {
            running: 2,
            late,
            youngest_late: Some(seconds(age)),
            ..Demand::NONE
        };
        check(LATENCY, &[], late(2, 11), Some((30, slow(11))));
        check(LATENCY, &[], late(2, 10), None);
        check(FIRST_TOKEN, &[], late(2, 11), None);
        check("", &[], late(2, 11), None);
        // One is an accident, until another ends as badly.
        check(LATENCY, &[], late(1, 11), None);
        check(LATENCY, &[reply_at(3, 40, 10)], late(1, 11), Some((30, slow(40))));
        check(LATENCY, &[reply_at(3, 40, 20)], late(1, 11), None);
        // Most of what ended went well.
        check(LATENCY, &[reply(3, 5); 3], late(2, 11), None);
    }

    #[test]
    fn a_long_reply_that_runs_shows_nothing() {
        let long = Demand { running: 2, ..Demand::NONE };
        check(LATENCY, &[reply(3, 5); 20], long, None);
        check(LATENCY, &[], long, None);
    }

    #[test]
    fn what_waits_and_what_was_refused_count_like_replies_over_the_limit() {
        let waiting = |age, refused| Demand {
            waiting: 5,
            oldest_waiting: Some(seconds(age)),
            running: 2,
            refused,
            ..Demand::NONE
        };
        // Nine and one make the minimum; two are more than a twentieth of twenty-two, and not of forty-two.
        let one_over = |good: usize| {
            let mut replies = vec![reply(3, 5); good];
            replies.push(reply(3, 22));
            replies
        };
        check(LATENCY, &one_over(8), waiting(11, 0), Some((30, slow(22))));
        check(FIRST_TOKEN, &one_over(8), waiting(12, 0), Some((30, slow(12))));
        check(LATENCY, &one_over(20), waiting(11, 0), Some((30, slow(11))));
        check(LATENCY, &one_over(40), waiting(11, 0), None);
        check(LATENCY, &one_over(8), waiting(10, 0), None);
        check(LATENCY, &one_over(7), waiting(11, 0), None);
        check(LATENCY, &[reply(3, 5); 9], waiting(11, 0), None);
        // One is refused at each sample: the tenth, with the one that waits, comes after 16 s.
        check(LATENCY, &[], waiting(11, 1), Some((46, slow(11))));
    }

    #[test]
    fn evidence_that_passes_is_no_complaint() {
        let mut service = service(LATENCY);
        let late = Demand { running: 2, late: 2, youngest_late: Some(seconds(11)), ..Demand::NONE };
        for second in 0..100 {
            let demand = if second % 30 == 29 { Demand::NONE } else { late };
            assert_eq!(service.complaint(at(second), Rung(3), &demand), None, "{second} s");
        }
    }

    #[test]
    fn two_replies_that_are_slow_by_the_catalog_are_enough_where_they_are_half() {
        check(LATENCY, &[reply_at(3, 40, 10); 2], Demand::NONE, Some((30, slow(40))));
        check(LATENCY, &[reply_at(3, 30, 10); 2], Demand::NONE, None);
        check(LATENCY, &[reply_at(3, 10, 1); 2], Demand::NONE, None);
        check(FIRST_TOKEN, &[reply_at(3, 40, 10); 2], Demand::NONE, Some((30, slow(20))));
        check("", &[reply_at(3, 40, 10); 2], Demand::NONE, None);
        let (bad, good) = (reply_at(3, 40, 10), reply(3, 5));
        check(LATENCY, &[bad, bad, good, good, good], Demand::NONE, None);
    }

    #[test]
    fn a_larger_model_is_predicted_slower_by_the_catalogs_speeds() {
        let mut service = service(LATENCY);
        for second in 0..20 {
            service.record(at(second), &reply(1, 4));
        }
        assert_eq!(service.would_be_slow(at(20), Rung(1), Rung(2)), None);
        let (predicted, _) = service.would_be_slow(at(20), Rung(1), Rung(3)).unwrap();
        assert_eq!(predicted.as_secs(), 18);
    }

    #[test]
    fn the_first_token_is_predicted_too() {
        let mut service = service("first-token-limit = '10s'\nlatency-limit = '1h'");
        for second in 0..20 {
            service.record(at(second), &reply(1, 6));
        }
        assert_eq!(service.would_be_slow(at(20), Rung(1), Rung(2)), None);
        let (predicted, limit) = service.would_be_slow(at(20), Rung(1), Rung(3)).unwrap();
        assert_eq!((predicted.as_millis(), limit), (13_500, LIMIT));
    }

    /// Lets "large" break its limit now, and leaves it because of that.
    #[track_caller]
    fn prove_slow(service: &mut Service, now: Timestamp, took: u64) {
        for _ in 0..10 {
            service.record(now, &reply(3, took));
        }
        let complaint = service.complaint(now, Rung(3), &Demand::NONE);
        let Some(Reason::Slow { measured, .. }) = complaint else { panic!("{complaint:?}") };
        service.forget(Rung(3));
        service.remember_slow(now, Rung(3), measured);
    }

    #[test]
    fn what_was_slow_is_remembered_under_either_limit_and_tried_again_less_and_less_often() {
        for (settings, took) in [(LATENCY, 12), (FIRST_TOKEN, 24)] {
            let mut service = service(settings);
            let mut now = at(0);
            for minutes in [30, 60, 120, 240] {
                prove_slow(&mut service, now, took);
                let almost = now + Duration::from_mins(minutes) - seconds(1);
                let remembered = Some((seconds(12), LIMIT));
                assert_eq!(service.would_be_slow(almost, Rung(2), Rung(3)), remembered);
                now = almost + seconds(1);
                assert_eq!(service.would_be_slow(now, Rung(2), Rung(3)), None);
            }
        }
    }

    #[test]
    fn what_was_slow_once_is_tried_once_a_day_whatever_is_predicted() {
        let mut service = service(LATENCY);
        prove_slow(&mut service, at(0), 12);
        for _ in 0..10 {
            service.record(at(0), &reply(2, 9));
        }
        let day = Timestamp::ZERO + Duration::from_hours(24);
        for hours in [1, 12, 23] {
            let now = Timestamp::ZERO + Duration::from_hours(hours);
            let (predicted, _) = service.would_be_slow(now, Rung(2), Rung(3)).unwrap();
            assert_eq!(predicted.as_millis(), 16_200);
        }
        assert_eq!(service.would_be_slow(day, Rung(2), Rung(3)), None);
    }

    #[test]
    fn good_service_makes_up_for_what_is_remembered_and_idleness_does_not() {
        let kept_away_after = |replies_every: u64| {
            let mut service = service(LATENCY);
            prove_slow(&mut service, at(0), 12);
            let back = 10_000;
            for second in (back..=back + 7200).step_by(replies_every as usize) {
                service.record(at(second), &reply(3, 5));
            }
            service.forget(Rung(3));
            let now = at(100_000);
            prove_slow(&mut service, now, 12);
            (0..1000).find(|&minutes| {
                let then = now + Duration::from_mins(minutes);
                service.would_be_slow(then, Rung(2), Rung(3)).is_none()
            })
        };
        assert_eq!(kept_away_after(60), Some(30));
        // Two hours with three replies are ten good minutes.
        assert_eq!(kept_away_after(3600), Some(60));
    }

    #[test]
    fn what_a_rung_was_too_slow_for_a_slower_one_above_is_too() {
        let mut service = service(LATENCY);
        for _ in 0..10 {
            service.record(at(0), &reply(2, 12));
        }
        service.complaint(at(0), Rung(2), &Demand::NONE);
        service.remember_slow(at(0), Rung(2), seconds(12));
        let remembered = Some((seconds(12), LIMIT));
        assert_eq!(service.would_be_slow(at(1), Rung(1), Rung(3)), remembered);
        // From where it serves, it is not on the way.
        service.forget(Rung(2));
        assert_eq!(service.would_be_slow(at(1), Rung(2), Rung(3)), None);
    }

    #[test]
    fn a_climb_is_wanted_while_something_is_asked_for_that_only_a_higher_rung_can_serve() {
        let mut service = service("");
        let [wanted, unfit] = [[Rung(3)], [Rung(2)]].map(Rungs::from_iter);
        let demand = Demand { only_above: wanted, not_above: unfit, ..Demand::NONE };
        service.complaint(at(1), Rung(1), &demand);
        assert_eq!(service.climb_wanted(at(1)), wanted);
        assert!(service.would_not_serve(at(1), Rung(2)));
        assert!(!service.would_not_serve(at(1), Rung(3)));
        service.complaint(at(2), Rung(1), &Demand::NONE);
        assert!(service.climb_wanted(at(2)).is_empty());
        assert!(!service.would_not_serve(at(2), Rung(2)));
        // What waits must not be passed over.
        let demand = Demand { only_above: unfit, ..Demand::NONE };
        service.complaint(at(3), Rung(1), &demand);
        assert!(service.would_not_serve(at(3), Rung(3)));
        // A rung that does not serve everything requested may be worth it for what only it can serve.
        let demand = Demand { only_above: unfit | wanted, ..demand };
        service.complaint(at(4), Rung(1), &demand);
        assert!(!service.would_not_serve(at(4), Rung(2)));
    }
}
