//! Companions: models beside the ladder, each loaded when there is room for it, whatever the ladder serves.
//!
//! To the ladder, what a companion may grow to is others' use, and to a companion, what the ladder may grow to. So the
//! ladder's policy and manager know nothing of companions, and each companion has its own manager, over a ladder of one
//! rung. Decided here is only which of them is unloaded. By default a smaller model with companions is better than a
//! larger one without: the ladder climbs only as far as it leaves room for a companion that is to come back, and a
//! companion is unloaded only before the ladder would go to none. `manager.companions-go` can reverse this.
//! none. `manager.companions-go` says it the other way round.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::time::Duration;

use crate::catalog::{Catalog, Rung};
use crate::controller::Controller;
use crate::decision::{Action, Decision, Reason, Urgency};
use crate::event::{CompanionNews, Notice, Output};
use crate::manager::Manager;
use crate::model::{Footprint, Model};
use crate::place::{
    Beside, Fit, Place, Projection, Resident, fit_together, is_critical, overruns, place, share_of,
};
use crate::request::{Request, Target};
use crate::sample::{ResourceKey, Sample};
use crate::settings::{CompanionsGo, Settings};
use crate::time::Timestamp;
use crate::units::Bytes;

/// The companions of a catalog, in the catalog's order.
#[derive(Clone, Debug)]
pub(super) struct Companions {
    each: Vec<Companion>,
    /// The last sample.
    seen: Sample,
    /// What has gone lately, of the ladder and of them: it may be on its way back.
    gone: Vec<(Timestamp, Footprint, Option<u8>)>,
}

#[derive(Clone, Debug)]
struct Companion {
    model: Model,
    /// Its manager, for a ladder with this model on its only rung.
    manager: Manager,
    /// Since when it has fitted while not loaded.
    fits_since: Option<Timestamp>,
    /// How often in a row it was given up soon after it was loaded, and when last.
    given_up: u32,
    given_up_at: Option<Timestamp>,
    /// Since when it serves.
    serves_since: Option<Timestamp>,
}

impl Companion {
    /// Returns whether it is loaded and is to stay so.
    fn stays(&self) -> bool {
        self.manager.rung() != Rung::NONE
    }

    /// Returns whether only a lack of room keeps it from being loaded.
    fn is_awaited(&self, now: Timestamp) -> bool {
        !self.stays() && !self.manager.is_switching() && !self.manager.rests(now, Rung(1))
    }

    fn need(&self) -> Footprint {
        self.model.footprint_to_load()
    }

    fn is_in(&self, space: ResourceKey, sample: &Sample) -> bool {
        self.manager.resident().is_in(space, sample)
    }

    /// Returns how long it must have fitted before it is loaded. The first load is at once.
    fn wait(&self, settings: &Settings) -> Duration {
        let again = self.given_up.checked_sub(1).map(|again| again.min(MOST_DOUBLINGS));
        again.map_or(Duration::ZERO, |again| settings.stabilization.longest() * (1 << again))
    }
}

impl Companions {
    pub(super) fn new(settings: &Settings, catalog: &Catalog) -> Self {
        let companion = |model: &Model| Companion {
            manager: Manager::new(settings, &Catalog::of_companion(model)),
            model: model.clone(),
            fits_since: None,
            given_up: 0,
            given_up_at: None,
            serves_since: None,
        };
        Self {
            each: catalog.companions().iter().map(companion).collect(),
            seen: Sample::default(),
            gone: Vec::new(),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.each.is_empty()
    }

    /// Takes that a model has gone, of the ladder or one of them.
    pub(super) fn note_gone(&mut self, now: Timestamp, need: Footprint, gpu: Option<u8>) {
        if !self.is_empty() {
            self.gone.push((now, need, gpu));
        }
    }

    pub(super) fn managers(&self) -> impl Iterator<Item = &Manager> + Clone {
        self.each.iter().map(|companion| &companion.manager)
    }

    pub(super) fn managers_mut(&mut self) -> impl Iterator<Item = &mut Manager> {
        self.each.iter_mut().map(|companion| &mut companion.manager)
    }

    /// Returns what the companions for which `is_among` holds may grow to.
    fn resident(&self, is_among: impl Fn(usize) -> bool) -> Resident {
        let mut resident = Resident::default();
        for (_, companion) in self.each.iter().enumerate().filter(|(index, _)| is_among(*index)) {
            resident.extend(&companion.manager.resident());
        }
        resident
    }
}

impl Companion {
    fn tell(
        &mut self,
        now: Timestamp,
        out: &mut VecDeque<Output>,
        what: impl FnOnce(&mut Manager, &mut VecDeque<Output>),
    ) {
        let mut said = VecDeque::new();
        what(&mut self.manager, &mut said);
        // Its own manager lets a failed model rest; no policy learns from it.
        self.manager.take_setbacks();
        for output in said {
            let news = match output {
                Output::Serving { model: Some(_), .. } => CompanionNews::Serves,
                Output::Serving { model: None, .. } => CompanionNews::ServesNoMore,
                // Its own news is reported instead.
                Output::Switched { .. } | Output::Notice(Notice::Degraded { .. }) => continue,
                output => {
                    out.push_back(output);
                    continue;
                }
            };
            self.serves_since = (news == CompanionNews::Serves).then_some(now);
            out.push_back(Output::Companion { model: self.model.id.clone(), news });
        }
    }

    fn carry_out(
        &mut self,
        now: Timestamp,
        action: Action,
        news: impl Fn(Reason) -> CompanionNews,
        reason: Reason,
        out: &mut VecDeque<Output>,
    ) {
        out.push_back(Output::Companion { model: self.model.id.clone(), news: news(reason) });
        self.tell(now, out, |manager, out| {
            manager.handle_decision(now, action, reason, false, out);
        });
    }

    fn load(&mut self, now: Timestamp, reason: Reason, out: &mut VecDeque<Output>) {
        self.fits_since = None;
        let action = Action::Upgrade { to: Rung(1) };
        self.carry_out(now, action, |reason| CompanionNews::Wanted { reason }, reason, out);
    }

    fn give_up(
        &mut self,
        now: Timestamp,
        urgency: Urgency,
        reason: Reason,
        out: &mut VecDeque<Output>,
    ) {
        let held_out = self.serves_since.is_some_and(|since| now.since(since) >= GIVEN_UP_KEPT);
        self.given_up = if held_out { 1 } else { self.given_up + 1 };
        self.given_up_at = Some(now);
        let action = Action::Downgrade { to: Rung::NONE, urgency };
        self.carry_out(now, action, |reason| CompanionNews::GivenUp { reason }, reason, out);
    }
}

impl Controller {
    /// Returns the companion that a request is for: the one that it names, or one that does this kind of work. If that
    /// is not loaded, the ladder does the work, if it can.
    pub(super) fn companion_for(&mut self, request: &Request) -> Option<&mut Manager> {
        let is_for = |companion: &Companion| match &request.target {
            Target::Model(id) => companion.model.id == *id,
            Target::Tier(_) => false,
            Target::Auto => {
                companion.model.can(request.task)
                    && (companion.serves_since.is_some() || !self.ladder_can(request))
            }
        };
        let each = &self.companions.each;
        let best = (0..each.len())
            .filter(|&index| is_for(&each[index]))
            // The first that serves, or else the first.
            .min_by_key(|&index| (each[index].serves_since.is_none(), index))?;
        Some(&mut self.companions.each[best].manager)
    }

    fn ladder_can(&self, request: &Request) -> bool {
        self.catalog.models().iter().any(|model| request.is_for(model))
    }

    /// Returns a sample as the ladder sees it: what companions may grow to is others' use.
    pub(super) fn ladders_share<'s>(&self, sample: &'s Sample) -> Cow<'s, Sample> {
        if self.companions.is_empty() {
            return Cow::Borrowed(sample);
        }
        Cow::Owned(self.ladders_share_beside(sample, |_| true))
    }

    fn ladders_share_beside(&self, sample: &Sample, stays: impl Fn(usize) -> bool) -> Sample {
        let rest = self.companions.resident(stays);
        let limit = |total| self.settings.degrade_limit(total);
        share_of(sample, &self.manager.resident(), &rest, limit)
    }

    /// Has each companion's manager do something, and reports the results. Each sees what those before it have begun.
    pub(super) fn tell_companions(
        &mut self,
        now: Timestamp,
        mut what: impl FnMut(&mut Manager, &mut VecDeque<Output>),
    ) {
        for index in 0..self.companions.each.len() {
            self.show_shares();
            self.companions.each[index].tell(now, &mut self.out, &mut what);
        }
    }

    /// Shows every manager its share of the last sample, after one of our models was loaded or unloaded.
    pub(super) fn show_shares(&mut self) {
        if self.companions.is_empty() {
            return;
        }
        let has_gone = self.manager.has_gone() || self.companions.managers().any(Manager::has_gone);
        let share = self.ladders_share(&self.companions.seen).into_owned();
        self.manager.see(&share, has_gone);
        for index in 0..self.companions.each.len() {
            let share = self.companions_share(&self.companions.seen, index);
            self.companions.each[index].manager.see(&share, has_gone);
        }
    }

    fn companions_share(&self, sample: &Sample, index: usize) -> Sample {
        let mut rest = self.companions.resident(|other| other != index);
        rest.extend(&self.manager.resident());
        let mine = self.companions.each[index].manager.resident();
        share_of(sample, &mine, &rest, |total| self.settings.degrade_limit(total))
    }

    /// Before a decision is carried out, has companions make way for the ladder, and the ladder leave room for them.
    pub(super) fn weigh_companions(
        &mut self,
        now: Timestamp,
        sample: &Sample,
        decision: &mut Decision,
    ) {
        if self.companions.is_empty() {
            return;
        }
        match decision.action {
            Action::Hold => {}
            Action::Upgrade { to } => {
                if self.lets_companions_go_first(now, sample, decision) {
                    decision.action = Action::Hold;
                    decision.reason = Reason::Switching;
                } else {
                    self.leave_room_for_companions(now, sample, to, decision);
                }
            }
            Action::Downgrade { to, urgency } => {
                let goes_first =
                    self.settings.manager.companions_go == CompanionsGo::BeforeAStepDown;
                let short = match decision.reason {
                    Reason::AboveDegradeLine { resource, gpu, .. }
                    | Reason::Exhaustion { resource, gpu, .. } => ResourceKey { resource, gpu },
                    _ => return,
                };
                let is_theirs = self.companions.each.iter().any(|it| it.is_in(short, sample));
                if is_theirs && !self.manager.resident().is_in(short, sample) {
                    // The ladder has nothing to give back there: companions relieve that space.
                    decision.action = Action::Hold;
                } else if goes_first || to == Rung::NONE {
                    self.let_companions_go(now, sample, short, urgency, decision);
                }
            }
        }
    }

    /// Before the ladder climbs from a rung that serves, loads a companion for which there is room, however long it
    /// still had to wait: what is safe enough for the ladder is safe enough for the smaller model. Returns whether one
    /// is being loaded.
    fn lets_companions_go_first(
        &mut self,
        now: Timestamp,
        sample: &Sample,
        decision: &Decision,
    ) -> bool {
        if decision.rung == Rung::NONE || self.manager.is_switching() {
            return false;
        }
        if self.companions.managers().any(Manager::is_switching) {
            return true;
        }
        for index in 0..self.companions.each.len() {
            if self.companions.each[index].is_awaited(now)
                && let Some(reason) = self.room_for_companion(now, sample, index)
            {
                self.load(now, sample, index, reason);
                return true;
            }
        }
        false
    }

    /// Limits an upgrade so that it leaves room for the awaited companions, as many of them as fit beside what serves.
    fn leave_room_for_companions(
        &self,
        now: Timestamp,
        sample: &Sample,
        to: Rung,
        decision: &mut Decision,
    ) {
        if self.settings.manager.companions_go == CompanionsGo::BeforeAStepDown {
            return;
        }
        let share = self.ladders_share(sample);
        let limit = |total| self.settings.degrade_limit(total);
        let fits = |rung: Rung, beside: &[Footprint]| {
            let needs = [&[self.need_of(rung)], beside].concat();
            fit_together(&needs, &share, &self.settings, limit)
        };
        let least = decision.rung.max(Rung(1));
        let mut beside = Vec::new();
        for companion in self.companions.each.iter().filter(|it| it.is_awaited(now)) {
            beside.push(companion.need());
            if !fits(least, &beside) {
                beside.pop();
            }
        }
        if beside.is_empty() || fits(to, &beside) {
            return;
        }
        let fit_now = |need| match decision.rung {
            Rung::NONE => self.place_on_empty(need, &share),
            _ => self.place_alone(need, &share),
        };
        let mut lower = (decision.rung.0 + 1..to.0).rev().map(Rung).filter(|&it| fits(it, &beside));
        let found = lower.find_map(|it| Some((it, fit_now(self.need_of(it)).place()?)));
        if let Some((lower, place)) = found {
            decision.action = Action::Upgrade { to: lower };
            decision.reason = room(place);
            return;
        }
        // The reason: how far it exceeds the limit with them, as if all were in the same spaces; or that memory has not
        // come back.
        let next = Rung(decision.rung.0 + 1);
        let sum = |sum: Footprint, need: &Footprint| Footprint {
            ram: sum.ram + need.ram,
            vram: sum.vram + need.vram,
        };
        let needs = beside.iter().fold(self.need_of(next), sum);
        decision.action = Action::Hold;
        if let Fit::Short(short) = fit_now(needs) {
            let Projection { resource, gpu, projected, limit, .. } = short;
            decision.reason = Reason::WouldNotFit { to: next, resource, gpu, projected, limit };
        }
    }

    /// Gives up companions in a space that is short, the last first, until the ladder has a rung that can stay.
    fn let_companions_go(
        &mut self,
        now: Timestamp,
        sample: &Sample,
        short: ResourceKey,
        urgency: Urgency,
        decision: &mut Decision,
    ) {
        let are_there: Vec<usize> = (0..self.companions.each.len())
            .filter(|&index| self.companions.each[index].is_in(short, sample))
            .collect();
        // Those already on their way out come first: they are waited for until their time is over.
        let (going, staying): (Vec<_>, Vec<_>) =
            are_there.into_iter().partition(|&index| !self.companions.each[index].stays());
        let mut gone: Vec<usize> =
            going.into_iter().filter(|&index| !self.should_have_gone(now, index)).collect();
        let mut found =
            self.highest_without(sample, decision.rung, &gone).filter(|_| !gone.is_empty());
        for &index in staying.iter().rev() {
            if found.is_some() {
                break;
            }
            gone.push(index);
            found = self.highest_without(sample, decision.rung, &gone);
            let urgency = urgency_of(sample, &self.settings);
            self.companions.each[index].give_up(now, urgency, decision.reason, &mut self.out);
        }
        let Some(rung) = found else { return };
        decision.action = if rung == decision.rung {
            Action::Hold
        } else {
            Action::Downgrade { to: rung, urgency }
        };
    }

    /// Returns the highest rung, up to `most`, that fits once these companions have gone.
    fn highest_without(&self, sample: &Sample, most: Rung, gone: &[usize]) -> Option<Rung> {
        let share = self.ladders_share_beside(sample, |index| !gone.contains(&index));
        let fits = |&rung: &Rung| self.place_alone(self.need_of(rung), &share).is_there();
        (1..=most.0).rev().map(Rung).find(fits)
    }

    /// Returns whether the time of a companion that was given up is over, and it is still there.
    fn should_have_gone(&self, now: Timestamp, index: usize) -> bool {
        let companion = &self.companions.each[index];
        let time = self.settings.manager.drain_deadline
            + companion.model.unload
            + self.settings.settle_limit;
        companion.given_up_at.is_some_and(|at| now.since(at) > time)
    }

    /// Shows the companions a sample, gives up those that must relieve a space without the ladder, and loads those that
    /// fit.
    pub(super) fn tend_companions(&mut self, now: Timestamp, sample: &Sample) {
        if self.companions.is_empty() {
            return;
        }
        self.companions.seen.clone_from(sample);
        for index in 0..self.companions.each.len() {
            let share = self.companions_share(sample, index);
            self.companions.each[index].tell(now, &mut self.out, |manager, out| {
                manager.handle_sample(now, &share, out);
            });
        }
        if self.manager.is_stopping() {
            return;
        }
        self.relieve_with_companions(now, sample);
        self.make_way_for_the_ladder(now, sample);
        self.load_a_companion(now, sample);
    }

    /// Gives up a companion in a space that is over its line and in which the ladder has nothing to give back.
    fn relieve_with_companions(&mut self, now: Timestamp, sample: &Sample) {
        let limit = |total| self.settings.degrade_limit(total);
        let ladder = self.manager.resident();
        let companions = self.companions.resident(|_| true);
        // Memory of a model that went a moment ago may still come back, in the spaces that the model was in.
        let settle_limit = self.settings.settle_limit;
        self.companions.gone.retain(|&(at, ..)| now.since(at) <= settle_limit);
        let mut lingering = Resident::default();
        for &(_, need, gpu) in &self.companions.gone {
            lingering.add(need, gpu);
        }
        let is_theirs = |over: &Projection| {
            let space = ResourceKey { resource: over.resource, gpu: over.gpu };
            let others = sample.space(space).map_or(Bytes::ZERO, |space| space.others);
            let stays = others + companions.within(space, sample);
            let may_linger = lingering.is_in(space, sample);
            !ladder.is_in(space, sample) && (!may_linger || stays > over.limit)
        };
        let Some(over) = overruns(sample, &self.settings, limit).find(is_theirs) else { return };
        let Projection { resource, gpu, projected: used, limit, .. } = over;
        let space = ResourceKey { resource, gpu };
        let urgency = urgency_of(sample, &self.settings);
        let are_there = self.companions.each.iter_mut().rev();
        let are_there = are_there.filter(|companion| companion.is_in(space, sample));
        // One at a time: one that is already on its way out may be enough.
        let mut are_there: Vec<&mut Companion> = are_there.collect();
        if are_there.iter().all(|companion| companion.stays())
            && let Some(last) = are_there.first_mut()
        {
            let reason = Reason::AboveDegradeLine { resource, gpu, used, limit };
            last.give_up(now, urgency, reason, &mut self.out);
        }
    }

    /// Gives up companions while nothing of the ladder is loaded and its smallest model fits only without them.
    fn make_way_for_the_ladder(&mut self, now: Timestamp, sample: &Sample) {
        if self.manager.is_switching() || !self.ladder_waits(now) {
            return;
        }
        let mut going: Vec<usize> = (0..self.companions.each.len())
            .filter(|&index| !self.companions.each[index].stays())
            .collect();
        let staying = (0..self.companions.each.len()).rev();
        let staying: Vec<usize> = staying.filter(|index| !going.contains(index)).collect();
        let before = going.len();
        let fit = self.place_alone(self.need_of(Rung(1)), &self.ladders_share(sample));
        let Fit::Short(Projection { resource, gpu, projected, limit, .. }) = fit else { return };
        let space = ResourceKey { resource, gpu };
        let mut found = self.highest_without(sample, Rung(1), &going).is_some();
        for index in staying.into_iter().filter(|&it| self.companions.each[it].is_in(space, sample))
        {
            if found {
                break;
            }
            going.push(index);
            found = self.highest_without(sample, Rung(1), &going).is_some();
        }
        if found {
            let reason = Reason::WouldNotFit { to: Rung(1), resource, gpu, projected, limit };
            for &index in &going[before..] {
                let companion = &mut self.companions.each[index];
                companion.give_up(now, Urgency::Graceful, reason, &mut self.out);
            }
        }
    }

    /// Loads the first companion that has fitted for long enough, one at a time and never while the ladder switches.
    fn load_a_companion(&mut self, now: Timestamp, sample: &Sample) {
        let is_busy =
            self.manager.is_switching() || self.companions.managers().any(Manager::is_switching);
        for index in 0..self.companions.each.len() {
            let room = self.room_for_companion(now, sample, index);
            let companion = &mut self.companions.each[index];
            let Some(reason) = room.filter(|_| companion.is_awaited(now)) else {
                companion.fits_since = None;
                continue;
            };
            let since = *companion.fits_since.get_or_insert(now);
            if !is_busy && now.since(since) >= companion.wait(&self.settings) {
                self.load(now, sample, index, reason);
                return;
            }
        }
    }

    /// Loads a companion, judged by its share of this sample.
    fn load(&mut self, now: Timestamp, sample: &Sample, index: usize, reason: Reason) {
        let share = self.companions_share(sample, index);
        let companion = &mut self.companions.each[index];
        companion.manager.see(&share, false);
        companion.load(now, reason, &mut self.out);
    }

    /// Returns the room that a companion has beside all that is loaded. While nothing of the ladder is loaded, it must
    /// also fit beside the ladder's smallest model, if that has a place.
    fn room_for_companion(&self, now: Timestamp, sample: &Sample, index: usize) -> Option<Reason> {
        let need = self.companions.each[index].need();
        let share = self.companions_share(sample, index);
        let reason = room(self.place_on_empty(need, &share).place()?);
        let limit = |total| self.settings.degrade_limit(total);
        let fits = |needs: &[Footprint]| fit_together(needs, &share, &self.settings, limit);
        let smallest = self.need_of(Rung(1));
        let is_in_its_way = self.ladder_waits(now) && fits(&[smallest]) && !fits(&[smallest, need]);
        (!is_in_its_way).then_some(reason)
    }

    /// Returns whether nothing of the ladder is loaded, and only a lack of room can be the cause.
    fn ladder_waits(&self, now: Timestamp) -> bool {
        self.manager.rung() == Rung::NONE
            && !self.keeps_to_none()
            && !self.manager.rests(now, Rung(1))
    }

    /// Returns where a model of the ladder fits once everything loaded of the ladder has gone.
    fn place_alone(&self, need: Footprint, share: &Sample) -> Fit {
        let limit = |total| self.settings.degrade_limit(total);
        place(need, Beside::Nothing, share, &self.settings, limit)
    }

    /// Returns where it fits while nothing of the ladder is loaded: memory of ours that has not come back yet is in the
    /// way.
    fn place_on_empty(&self, need: Footprint, share: &Sample) -> Fit {
        let limit = |total| self.settings.degrade_limit(total);
        place(need, Beside::Resident(&Resident::default()), share, &self.settings, limit)
    }

    fn need_of(&self, rung: Rung) -> Footprint {
        self.catalog.primary(rung).map(Model::footprint_to_load).unwrap_or_default()
    }
}

/// Returns how fast a companion must go. It is less urgent than the ladder is when a decision looks ahead.
fn urgency_of(sample: &Sample, settings: &Settings) -> Urgency {
    if is_critical(sample, settings) { Urgency::Critical } else { Urgency::Immediate }
}

/// Returns the reason that there is room, by the space that comes closest to its limit.
fn room(place: Place) -> Reason {
    let Projection { resource, gpu, projected, limit, .. } =
        place.scarcest().unwrap_or(Projection::UNLIMITED);
    Reason::Room { resource, gpu, projected, limit, good_for: Duration::ZERO, odds: None }
}

/// The wait after a companion was given up doubles each time, up to eight times the first. Chosen: forty minutes by
/// default.
const MOST_DOUBLINGS: u32 = 3;

/// After serving for this long, the count of how often it was given up starts again. Chosen: longer than that wait.
const GIVEN_UP_KEPT: Duration = Duration::from_hours(1);
