//! L3: whenever a rung has fitted for longer than all waits together, it or a better one is loaded.
//!
//! Checked at every sample, by the same `place` that decides. The clock of a rung restarts when it no longer fits, when
//! a switch is complete, when a model breaks or a switch is called off, when a rate is high enough to cause a step
//! down, and after a gap: each is a reason for a policy to wait again. A load takes as long as the server takes. Not
//! checked: runs with a limit on the time of replies, which is a reason of its own.

use std::time::Duration;

use tiershift_core::catalog::Rung;
use tiershift_core::decision::{Decision, Reason};
use tiershift_core::model::Model;
use tiershift_core::place::fit_together;
use tiershift_core::sample::{Resource, Sample};
use tiershift_core::time::Timestamp;

use crate::sim::checker::book::{Book, State};
use crate::sim::checker::safety::above_line;
use crate::sim::checker::violations::Violations;

/// Watches for room that is not used.
pub(super) struct Recovery {
    applies: bool,
    /// The highest rung that is wanted: an order's, the pinned one's, or the top.
    highest: Rung,
    unordered: Rung,
    /// By rung, since when it has fitted.
    fits_since: Vec<Option<Timestamp>>,
    /// Since when a rung should be on its way, and for how many samples.
    due: Option<(Timestamp, u32)>,
    /// How much longer it may take since a model broke.
    after_failure: Duration,
    last_reading: Option<Timestamp>,
    /// Whether a rate was so high at the last sample that a rung is left because of it.
    is_any_rate_high: bool,
    /// Whether nothing is loaded because the model was idle for longer than the settings allow.
    is_idle: bool,
}

impl Recovery {
    pub(super) fn new(book: &Book) -> Self {
        let settings = &book.settings;
        let pinned = settings.manager.pin.as_ref();
        let unordered =
            pinned.and_then(|tier| book.catalog.rung_of_tier(tier)).unwrap_or(book.catalog.top());
        let is_limited = settings.latency_limit.is_some() || settings.first_token_limit.is_some();
        Self {
            applies: book.promises.recovery_within.is_some() && !is_limited,
            highest: unordered,
            unordered,
            fits_since: vec![None; usize::from(book.catalog.top().0) + 1],
            due: None,
            after_failure: Duration::ZERO,
            last_reading: None,
            is_any_rate_high: false,
            is_idle: false,
        }
    }

    /// Notes that a user wants this rung, or none in particular.
    pub(super) fn order(&mut self, rung: Option<Rung>) {
        self.highest = rung.unwrap_or(self.unordered);
        self.disturb();
    }

    /// Notes an event that may be a reason to wait again.
    pub(super) fn disturb(&mut self) {
        self.fits_since.fill(None);
        self.due = None;
    }

    /// Takes a decision: it shows whether nothing is wanted because the model is idle.
    pub(super) fn take_decision(&mut self, decision: &Decision) {
        self.is_idle = matches!(decision.reason, Reason::Idle { .. });
    }

    /// Notes that a model did not load or died, that a switch was called off, or that a rung was left because of its
    /// service.
    pub(super) fn fail(&mut self, book: &Book) {
        self.after_failure = book.promises.retry_within.unwrap_or_default();
        self.disturb();
    }

    /// Returns the best rung that fits at the end, is open, and does not serve; and how long it may be waited for if
    /// nothing failed.
    pub(super) fn missed_at_the_end(&self, book: &Book) -> (Option<Rung>, Duration) {
        let bound = self.promised(book) + book.settings.sampling_interval * SLACK_READINGS;
        let is_wanted = !book.stopping && !self.is_idle && !self.is_any_rate_high;
        let is_judged = self.applies && is_wanted && book.is_read();
        if !is_judged {
            return (None, bound);
        }
        let share = book.ladders_share();
        let above = (book.rung.0 + 1..=self.highest.0).rev().map(Rung);
        let is_missed = |&rung: &Rung| {
            fits(book, &share, rung) && leaves_room(book, &share, rung) && is_open(book, rung)
        };
        (above.into_iter().find(is_missed), bound)
    }

    /// Takes the sample that the book was just given, with its rates.
    #[inline]
    pub(super) fn observe(&mut self, book: &Book, sample: &Sample, out: &mut Violations) {
        if !self.applies || book.rung >= self.highest {
            return;
        }
        self.judge(book, sample, out);
    }

    fn judge(&mut self, book: &Book, sample: &Sample, out: &mut Violations) {
        let before = self.last_reading.replace(book.now);
        let is_gap = before.is_none_or(|at| book.now.since(at) > book.settings.stale_after);
        self.is_any_rate_high = is_any_rate_high(book, sample);
        if is_gap || book.stopping || self.is_any_rate_high || self.is_idle {
            self.disturb();
            return;
        }
        let share = book.ladders_share();
        let mut overdue = None;
        for rung in (book.rung.0 + 1..=self.highest.0).map(Rung) {
            let since = &mut self.fits_since[usize::from(rung.0)];
            if !fits(book, &share, rung) || !leaves_room(book, &share, rung) {
                *since = None;
                continue;
            }
            let since = *since.get_or_insert(book.now);
            let lasted = book.now.since(since);
            if lasted > self.bound(book) && is_open(book, rung) {
                overdue = Some((rung, lasted));
            }
        }
        let Some((rung, lasted)) = overdue.filter(|_| !is_engaged(book)) else {
            self.due = None;
            return;
        };
        let (since, readings) = self.due.map_or((book.now, 1), |(since, n)| (since, n + 1));
        self.due = Some((since, readings));
        let settings = &book.settings;
        let slack = settings.settle_limit + settings.sampling_interval * 2;
        if readings > SLACK_READINGS && book.now.since(since) > slack {
            let tier = book.catalog.tier_name(rung);
            let lasted = lasted.as_secs();
            out.report(book.now, "L3", format!("{tier} fitted for {lasted} s and was not loaded"));
            self.disturb();
        }
    }

    fn bound(&self, book: &Book) -> Duration {
        self.promised(book) + self.after_failure
    }

    fn promised(&self, book: &Book) -> Duration {
        let recovery = book.promises.recovery_within.unwrap_or_default();
        match book.rung {
            Rung::NONE => book.promises.rescue_within.unwrap_or(recovery),
            _ => recovery,
        }
    }
}

/// Returns whether a rung has a place, by what is loaded now.
fn fits(book: &Book, share: &Sample, rung: Rung) -> bool {
    let is_empty = book.rung == Rung::NONE && book.change.is_none();
    let fit = match is_empty {
        true => book.ladder.place_on_empty(share, rung),
        false => book.ladder.place(share, rung),
    };
    fit.is_there()
}

/// Returns whether only the policy's waits keep a rung away.
fn is_open(book: &Book, rung: Rung) -> bool {
    let primary = book.catalog.primary(rung).and_then(|model| book.index_of(&model.id));
    let is_absent = primary.is_some_and(|index| book.models[index].state == State::Absent);
    is_absent && above_line(book, book.rung, rung).is_none()
}

/// Returns whether a rung leaves room for the awaited companions, which take precedence over all but the smallest rung.
fn leaves_room(book: &Book, share: &Sample, rung: Rung) -> bool {
    let absent = book.catalog.companions().iter().filter(|model| {
        let index = book.index_of(&model.id);
        index.is_some_and(|index| book.models[index].state == State::Absent)
    });
    let needs: Vec<_> = absent.map(Model::footprint_to_load).collect();
    if needs.is_empty() || rung == Rung(1) {
        return true;
    }
    let needs = [&[book.ladder.need(rung)], &needs[..]].concat();
    let limit_of = |total| book.settings.degrade_limit(total);
    fit_together(&needs, share, &book.settings, limit_of)
}

/// Returns whether a switch is in progress, whose waits have bounds of their own. A switch that was decided, and then
/// shows no further events, is not in progress.
fn is_engaged(book: &Book) -> bool {
    let settings = &book.settings;
    let idle = settings.manager.drain_deadline + settings.stale_after + settings.settle_limit;
    book.is_in_flight() || book.change.is_some_and(|change| book.now.since(change.since) <= idle)
}

fn is_any_rate_high(book: &Book, sample: &Sample) -> bool {
    let settings = &book.settings;
    let is_high = |used| used >= settings.degrade_line;
    let cpu = sample.cpu.is_some_and(|rate| is_high(rate.others));
    let gpu = sample.gpus.iter().any(|gpu| gpu.utilization.is_some_and(|it| is_high(it.others)));
    let pressure = sample.pressure;
    let pressure = pressure.is_some_and(|it| it.memory_some >= settings.pressure_degrade_line);
    (cpu && settings.constrains(Resource::Cpu))
        || (gpu && settings.constrains(Resource::Gpu))
        || (pressure && settings.constrains(Resource::Pressure))
}

/// The number of samples for which a rung may be overdue before it is reported, as for relief.
const SLACK_READINGS: u32 = 4;
