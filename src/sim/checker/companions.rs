//! S12: for lack of space, the ladder goes to none only after the companions in that space. L3 for companions: one that
//! has fitted beside all that is loaded for longer than all its waits together is loaded.

use std::time::Duration;

use tiershift_core::catalog::Rung;
use tiershift_core::decision::{Action, Decision, Reason};
use tiershift_core::event::CompanionNews;
use tiershift_core::model::{Footprint, ModelId};
use tiershift_core::place::{Beside, Resident, fit_together, place};
use tiershift_core::sample::ResourceKey;
use tiershift_core::time::Timestamp;
use tiershift_core::units::Bytes;

use crate::sim::checker::book::{Book, State};
use crate::sim::checker::violations::Violations;

/// Watches companions for room that is not used.
pub(super) struct Companions {
    /// By the catalog's order of companions, since when each has fitted.
    fits_since: Vec<Option<Timestamp>>,
    /// Whether each was ever given up: then it waits for longer.
    were_given_up: Vec<bool>,
    last_reading: Option<Timestamp>,
}

impl Companions {
    pub(super) fn new(book: &Book) -> Self {
        let count = book.catalog.companions().len();
        Self {
            fits_since: vec![None; count],
            were_given_up: vec![false; count],
            last_reading: None,
        }
    }

    /// Takes the news of a companion.
    pub(super) fn take(&mut self, book: &Book, model: &ModelId, news: CompanionNews) {
        let lane = book.catalog.companions().iter().position(|companion| companion.id == *model);
        let Some(lane) = lane else { return };
        self.were_given_up[lane] |= matches!(news, CompanionNews::GivenUp { .. });
        // It may come and go between two samples.
        self.fits_since[lane] = None;
    }

    /// Notes that a model broke, or that a user ordered something: each is a reason to wait again.
    pub(super) fn disturb(&mut self) {
        self.fits_since.fill(None);
    }

    /// Takes the sample that the book was just given.
    #[inline]
    pub(super) fn observe(&mut self, book: &Book, out: &mut Violations) {
        if !self.fits_since.is_empty() && book.promises.manager_keeps_word {
            self.judge(book, out);
        }
    }

    fn judge(&mut self, book: &Book, out: &mut Violations) {
        let before = self.last_reading.replace(book.now);
        let is_gap = before.is_none_or(|at| book.now.since(at) > book.settings.stale_after);
        if is_gap || book.stopping || book.is_in_flight() || book.change.is_some() {
            self.disturb();
            return;
        }
        let first = book.catalog.ladder_models().len();
        for (lane, since) in self.fits_since.iter_mut().enumerate() {
            let index = first + lane;
            if book.models[index].state != State::Absent || !has_room(book, index) {
                *since = None;
                continue;
            }
            let lasted = book.now.since(*since.get_or_insert(book.now));
            if lasted > longest_wait(book, self.were_given_up[lane]) {
                *since = None;
                let (model, lasted) = (book.name(index), lasted.as_secs());
                let what = format!("companion {model} fitted for {lasted} s and was not loaded");
                out.report(book.now, "L3", what);
            }
        }
    }
}

/// Returns whether a companion fits beside all that is loaded and, while nothing of the ladder is loaded, beside its
/// smallest model, if that fits alone.
fn has_room(book: &Book, index: usize) -> bool {
    let need = book.catalog.models()[index].footprint_to_load();
    let loaded = book.resident(|_, seen| seen.state != State::Absent);
    let limit_of = |total| book.settings.degrade_limit(total);
    let fits = place(need, Beside::Resident(&loaded), &book.reading, &book.settings, limit_of);
    let together =
        |needs: &[Footprint]| fit_together(needs, &book.ladders_share(), &book.settings, limit_of);
    let smallest = book.ladder.need(Rung(1));
    let is_in_its_way =
        book.rung == Rung::NONE && together(&[smallest]) && !together(&[smallest, need]);
    fits.is_there() && !is_in_its_way
}

/// Returns the longest time that a companion may wait: three doublings after it was given up, and its rest after it
/// failed.
fn longest_wait(book: &Book, was_given_up: bool) -> Duration {
    let settings = &book.settings;
    let again = if was_given_up { settings.stabilization.longest() * 8 } else { Duration::ZERO };
    again
        + settings.manager.load_retry * 32
        + settings.settle_limit
        + settings.sampling_interval * 4
}

/// S12: what a decision of the ladder must not be.
pub(super) fn check_decision(book: &Book, decision: &Decision, out: &mut Violations) {
    let Action::Downgrade { to: Rung::NONE, .. } = decision.action else { return };
    let (Reason::AboveDegradeLine { resource, gpu, .. } | Reason::Exhaustion { resource, gpu, .. }) =
        decision.reason
    else {
        return;
    };
    if !book.promises.manager_keeps_word {
        return;
    }
    let space = ResourceKey { resource, gpu };
    let holds = |index: usize| {
        let mut resident = Resident::default();
        resident.add(book.footprint(index), book.models[index].gpu);
        resident.within(space, &book.reading) > Bytes::ZERO
    };
    for index in book.catalog.ladder_models().len()..book.models.len() {
        let seen = &book.models[index];
        let stays = matches!(seen.state, State::Loading | State::Ready) && seen.given_up.is_none();
        if stays && holds(index) {
            let model = book.name(index);
            let what = format!("the ladder goes to none because space is short, and {model} stays");
            out.report(book.now, "S12", what);
        }
    }
}
