//! L2: space that is over its limit and holds one of our models is relieved within a bound.
//!
//! The time counts from the first sample above the limit until one below it. Time that the world needs for a step under
//! way does not count: an unload that was requested, running requests within their drain deadline. Nor does what
//! lingers of an unloaded model while its successor loads: then what stays is relief enough. A successor that loads
//! beside the model that must go is waited for as long as a drain may take. A decision alone resets nothing; memory
//! that a model has released does.

use std::time::Duration;

use tiershift_core::place::{is_critical, overruns};
use tiershift_core::sample::{Resource, Sample, Space};
use tiershift_core::settings::{AtDrainDeadline, Settings};
use tiershift_core::time::Timestamp;
use tiershift_core::units::Bytes;

use crate::sim::checker::book::{Book, State};
use crate::sim::checker::requests::CANCEL_TIMEOUT;
use crate::sim::checker::violations::Violations;

/// Watches for a shortage without a reaction.
#[derive(Default)]
pub(super) struct Relief {
    over: Option<Over>,
}

/// A shortage.
struct Over {
    /// Since when.
    since: Timestamp,
    last: Timestamp,
    /// How long nothing that counts was under way, and for how many samples.
    counted: Duration,
    readings: u32,
    critical_since: Option<Timestamp>,
}

impl Relief {
    /// Notes that a model has gone: that was relief, and what is left of the shortage is a new one, from the next
    /// sample on.
    pub(super) fn is_carried_out(&mut self) {
        self.over = None;
    }

    /// Takes the sample that the book was just given.
    #[inline]
    pub(super) fn observe(&mut self, book: &Book, out: &mut Violations) {
        let Some(bound) = book.promises.relief_within else { return };
        // Most samples end here, before anything is looked up.
        if book.stopping || !is_over(&book.reading, &book.settings) {
            self.over = None;
            return;
        }
        self.count(book, bound, out);
    }

    #[cold]
    fn count(&mut self, book: &Book, bound: Duration, out: &mut Violations) {
        let now = book.now;
        let over = self.over.get_or_insert(Over {
            since: now,
            last: now,
            counted: Duration::ZERO,
            readings: 0,
            critical_since: None,
        });
        let since_last = now.since(over.last);
        over.last = now;
        if is_critical(&book.reading, &book.settings) {
            over.critical_since.get_or_insert(now);
        }
        if !is_anything_left_to_do(book, over) {
            return;
        }
        // During a gap the shortage could not be seen.
        if since_last <= book.settings.stale_after {
            over.counted += since_last;
        }
        over.readings += 1;
        if over.counted > bound && over.readings > RELIEF_READINGS {
            let counted = over.counted.as_secs_f64();
            self.over = None;
            out.report(
                now,
                "L2",
                format!("space above its limit for {counted} s and nothing was done"),
            );
        }
    }
}

fn is_over(sample: &Sample, settings: &Settings) -> bool {
    let is_over = |space: &Space| {
        space.own > Bytes::ZERO && space.used() > settings.degrade_limit(space.total)
    };
    (settings.constrains(Resource::Memory) && sample.memory.as_ref().is_some_and(is_over))
        || (!sample.gpus.is_empty()
            && settings.constrains(Resource::Vram)
            && sample.gpus.iter().filter_map(|gpu| gpu.vram.as_ref()).any(is_over))
}

/// Returns whether a space that is over its limit holds a model that could go, and nothing that counts is under way.
fn is_anything_left_to_do(book: &Book, over: &Over) -> bool {
    let critical_since = over.critical_since;
    let is_loading = book.models.iter().any(|seen| seen.state == State::Loading);
    // A model that was to follow and is no longer wanted is unloaded before another is loaded.
    let is_to_come = is_loading || (0..book.models.len()).any(|index| book.is_leaving(index));
    if is_to_come && is_within_a_drain(book, over) {
        return false;
    }
    let limit_of = |total| book.settings.degrade_limit(total);
    overruns(&book.reading, &book.settings, limit_of).any(|over| {
        let holds = |index: usize| {
            let (need, gpu) = (book.footprint(index), book.models[index].gpu);
            match over.gpu {
                None => need.ram > Bytes::ZERO,
                Some(on) => gpu == Some(on) && need.vram > Bytes::ZERO,
            }
        };
        let mut stays = Bytes::ZERO;
        let mut is_there = false;
        for (index, seen) in book.models.iter().enumerate() {
            if !holds(index) {
                continue;
            }
            if book.is_leaving(index) || is_within_its_deadline(book, index, critical_since) {
                return false;
            }
            if matches!(seen.state, State::Loading | State::Ready) {
                is_there = true;
                let need = book.footprint(index);
                stays += if over.gpu.is_some() { need.vram } else { need.ram };
            }
        }
        let space = match over.gpu {
            None => book.reading.memory,
            Some(gpu) => book.reading.gpus.get(usize::from(gpu)).and_then(|gpu| gpu.vram),
        };
        let others = space.map_or(Bytes::ZERO, |space| space.others);
        is_there && !(is_loading && others + stays <= over.limit)
    })
}

/// Returns whether a model that must go may serve on while its successor loads: for as long as a drain may take.
fn is_within_a_drain(book: &Book, over: &Over) -> bool {
    let manager = &book.settings.manager;
    let usual = over.since + manager.drain_deadline;
    let critical = over.critical_since.filter(|_| has_deadline_of_its_own(book));
    let until = match critical {
        None => usual,
        // If it was critical from the beginning, it has its own deadline, even if that is the longer one.
        Some(since) if since <= over.since => over.since + manager.critical_drain_deadline,
        Some(since) => usual.min(since + manager.critical_drain_deadline),
    };
    book.now <= until
}

/// Returns whether a model that is to go finishes its requests, as the settings allow.
fn is_within_its_deadline(book: &Book, index: usize, critical_since: Option<Timestamp>) -> bool {
    let Some(left) = book.models[index].left_at.filter(|_| book.is_draining(index)) else {
        return false;
    };
    let manager = &book.settings.manager;
    let cut_after = |since: Timestamp, deadline| since.max(left) + deadline + CANCEL_TIMEOUT;
    let critical_since = critical_since.filter(|_| has_deadline_of_its_own(book));
    let critical = critical_since.map(|since| cut_after(since, manager.critical_drain_deadline));
    let is_up = book.change.is_some_and(|change| change.is_up());
    // A critical shortage has its own deadline, or none but the usual one.
    let is_usual = critical_since.is_none() && !is_up;
    let usual = (is_usual && manager.at_drain_deadline == AtDrainDeadline::Cancel)
        .then(|| cut_after(left, manager.drain_deadline));
    critical.into_iter().chain(usual).all(|cut| book.now <= cut)
}

/// Returns whether requests have another deadline than usual in a critical shortage.
fn has_deadline_of_its_own(book: &Book) -> bool {
    book.settings.manager.at_critical_drain_deadline == AtDrainDeadline::Cancel
}

/// Samples over the limit before relief is overdue: one to notice it, one in which a switch completes, one to settle,
/// and one more.
const RELIEF_READINGS: u32 = 4;
