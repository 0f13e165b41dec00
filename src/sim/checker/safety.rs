//! Safety: what a single command or decision must not be, whatever came before it.

use tiershift_core::catalog::Rung;
use tiershift_core::decision::{Action, Decision, Reason, Urgency};
use tiershift_core::place::{Fit, Projection, Resident};
use tiershift_core::request::RequestId;
use tiershift_core::sample::{Resource, ResourceKey, Space};
use tiershift_core::settings::AtDrainDeadline;
use tiershift_core::units::{Bytes, Percent};

use crate::sim::checker::book::{Book, Seen, State};
use crate::sim::checker::violations::Violations;

/// S1: a request runs on a model that is ready.
pub(super) fn check_start(book: &Book, id: RequestId, on: usize, out: &mut Violations) {
    let state = book.models[on].state;
    if state != State::Ready {
        let model = book.name(on);
        out.report(
            book.now,
            "S1",
            format!("request {id} was started on {model}, which is {state:?}"),
        );
    }
}

/// S3 and S4: the result of a load, judged by the last sample of the machine.
pub(super) fn check_load(book: &Book, index: usize, gpu: Option<u8>, out: &mut Violations) {
    let model = book.name(index);
    let keeps_word = book.promises.manager_keeps_word;
    if keeps_word && !book.is_read() {
        out.report(book.now, "S4", format!("{model} was loaded without a fresh reading"));
    }
    if matches!(book.models[index].state, State::Loading | State::Ready) {
        out.report(book.now, "S3", format!("{model} was loaded a second time"));
    }
    let over = over_with(book, index, gpu);
    let is_beside_a_load = book.models.iter().any(|seen| seen.state == State::Loading);
    if is_beside_a_load && let Some(over) = &over {
        let over = over.resource.name();
        out.report(
            book.now,
            "S3",
            format!("{model} was loaded beside another load, and both do not fit in {over}"),
        );
    }
    if (book.promises.upgrades_fit || keeps_word)
        && let Some(Projection { resource, projected, limit, .. }) = over
    {
        let resource = resource.name();
        out.report(
            book.now,
            "S4",
            format!("loading {model} takes {resource} to {projected}, and the limit is {limit}"),
        );
    }
}

/// Returns the space that a load would take over its limit. Our own use counts as it was read, including what lingers
/// of an unloaded model, and as what is loaded may grow to if that is more.
fn over_with(book: &Book, index: usize, gpu: Option<u8>) -> Option<Projection> {
    // A model on its way out does not grow: what is left of it was read.
    let is_there = |state| matches!(state, State::Loading | State::Ready);
    let is_new = |after: u64| after == book.readings;
    let read = book.resident(|_, seen| is_there(seen.state) && !is_new(seen.loaded_after));
    let new = book.resident(|_, seen| is_there(seen.state) && is_new(seen.loaded_after));
    let need = book.catalog.models()[index].footprint_to_load();
    let limit_of = |total: Bytes| match book.promises.manager_keeps_word {
        true => book.settings.degrade_limit(total),
        false => total,
    };
    let over = |resource, gpu, space: &Space, own: Bytes| {
        let (projected, limit) = (space.others + own, limit_of(space.total));
        let over = Projection { resource, gpu, projected, limit, total: space.total };
        (book.settings.constrains(resource) && !over.fits()).then_some(over)
    };
    let in_memory = |resident: &Resident| resident.within(ResourceKey::MEMORY, &book.reading);
    let goes_to = gpu.and_then(|gpu| book.reading.gpus.get(usize::from(gpu)));
    let shared_need = match goes_to {
        Some(reading) if reading.shared => need.vram,
        _ => Bytes::ZERO,
    };
    let ram_need = need.ram + shared_need;
    let memory =
        book.reading.memory.as_ref().filter(|_| ram_need > Bytes::ZERO).and_then(|space| {
            let own = space.own.max(in_memory(&read)) + in_memory(&new) + ram_need;
            over(Resource::Memory, None, space, own)
        });
    memory.or_else(|| {
        let space = goes_to?.vram.as_ref().filter(|_| need.vram > Bytes::ZERO)?;
        let on = gpu?;
        let own = space.own.max(read.vram_on(on)) + new.vram_on(on) + need.vram;
        over(Resource::Vram, gpu, space, own)
    })
}

/// S6 and S9: what an unload must not be.
pub(super) fn check_unload(book: &Book, index: usize, out: &mut Violations) {
    let model = book.name(index);
    let seen = &book.models[index];
    // Requests that still run on a model that is being loaded began before that, and end by themselves.
    if seen.running > 0 && seen.state != State::Loading {
        let running = seen.running;
        out.report(
            book.now,
            "S6",
            format!("{model} was unloaded under {running} running requests"),
        );
    }
    if let Some(successor) = homeless_successor(book, index) {
        let successor = book.catalog.tier_name(successor);
        out.report(
            book.now,
            "S9",
            format!("{model}, which served, is unloaded for {successor}, which has no place"),
        );
    }
}

/// Returns the rung for which a serving model is unloaded although it has no place. What a shortage forces is not
/// judged: it goes whatever follows it.
fn homeless_successor(book: &Book, index: usize) -> Option<Rung> {
    if !book.promises.manager_keeps_word || book.stopping || book.served_last != Some(index) {
        return None;
    }
    let change = book.change.filter(|change| change.urgency == Urgency::Graceful)?;
    let is_ready = |(other, seen): (usize, &Seen)| {
        other != index && !book.is_companion(other) && seen.state == State::Ready
    };
    if book.models[index].state != State::Ready
        || book.models[index].is_broken
        || change.to == Rung::NONE
        || book.models.iter().enumerate().any(is_ready)
    {
        return None;
    }
    // What lingers of an earlier model counts as others' use by then.
    let share = book.ladders_share();
    let has_place = |rung: Rung| match book.ladder.place(&share, rung) {
        Fit::Fits(_) => true,
        Fit::Short(_) => false,
        // What is not read any more says nothing against a load that had its place.
        Fit::Unknown(_) => {
            let primary = book.catalog.primary(rung).and_then(|model| book.index_of(&model.id));
            primary.is_some_and(|index| book.models[index].state == State::Loading)
        }
    };
    let finds_one = match change.is_disturbed {
        // A fallback or a lower rung may stand in.
        true => book.catalog.rungs_up().any(has_place),
        false => has_place(change.to),
    };
    (!finds_one).then_some(change.to)
}

/// S6: a request is cut only if a drain deadline has passed that allows it.
pub(super) fn check_cut(book: &Book, id: RequestId, on: usize, out: &mut Violations) {
    if !book.promises.manager_keeps_word || book.stopping || may_cut(book, on) {
        return;
    }
    let model = book.name(on);
    out.report(
        book.now,
        "S6",
        format!("request {id} was cut on {model} before a deadline that says so"),
    );
}

fn may_cut(book: &Book, on: usize) -> bool {
    let manager = &book.settings.manager;
    let Some(change) = book.change_of(on) else { return false };
    if book.models[on].state != State::Ready || !book.is_draining(on) {
        return false;
    }
    let is_late = book.now >= change.since + manager.drain_deadline;
    // A critical shortage leaves running requests less time, never more.
    let is_critical = change.critical_since.is_some_and(|since| {
        change.urgency == Urgency::Critical
            && manager.at_critical_drain_deadline == AtDrainDeadline::Cancel
            && (is_late || book.now >= since + manager.critical_drain_deadline)
    });
    is_critical || (is_late && manager.at_drain_deadline == AtDrainDeadline::Cancel)
}

/// S5: what an upgrade must not be.
pub(super) fn check_upgrade(book: &Book, decision: &Decision, out: &mut Violations) {
    let Action::Upgrade { to } = decision.action else { return };
    if matches!(decision.reason, Reason::Asked) {
        return;
    }
    let promises = &book.promises;
    // From nothing loaded other waits apply, and the climb after the first load belongs to the start.
    let is_between_rungs = decision.rung != Rung::NONE && book.changes > 1;
    if let Some((last, was_up)) = book.last_change.filter(|_| is_between_rungs) {
        let since = book.now.since(last);
        if promises.window.is_some_and(|window| since < window) {
            out.report(book.now, "S5", "an upgrade inside the stabilization window");
        } else if promises.no_reversal && !was_up && since < book.settings.reversal_window {
            out.report(book.now, "S5", "an upgrade that reverses a downgrade");
        }
    }
    if !promises.upgrades_fit {
        return;
    }
    let Some(at) = book.read_at else {
        out.report(book.now, "S5", "an upgrade without a sample");
        return;
    };
    if at != book.now {
        let age = book.now.since(at).as_secs_f64();
        out.report(book.now, "S5", format!("an upgrade on a sample of {age} s ago"));
        return;
    }
    let share = book.ladders_share();
    let fit = match decision.rung {
        Rung::NONE => book.ladder.place_on_empty(&share, to),
        _ => book.ladder.place(&share, to),
    };
    if let Some((what, line)) = above_line(book, decision.rung, to) {
        out.report(book.now, "S5", format!("an upgrade with {what} above {line}"));
    } else if !fit.is_there() {
        let to = book.catalog.tier_name(to);
        out.report(book.now, "S5", format!("an upgrade to {to}, which does not fit"));
    }
}

/// Returns what is too high for an upgrade, and the line that it is above. A rescue is not an upgrade. Between rungs, a
/// space counts if the higher one takes more of it; of several GPUs, the one that holds ours counts or, if none does,
/// the one with most room. Pressure counts if main memory does, and at least half of that is used.
pub(super) fn above_line(book: &Book, from: Rung, to: Rung) -> Option<(&'static str, Percent)> {
    if from == Rung::NONE {
        return None;
    }
    let [from, to] = [from, to].map(|rung| book.ladder.need(rung));
    let line = book.settings.upgrade_line;
    let is_high = |space: &Space| Percent::of(space.used(), space.total) >= line;
    let constrains = |resource| book.settings.constrains(resource);
    let memory = book.reading.memory.as_ref();
    let takes_memory = to.ram > from.ram;
    if takes_memory && constrains(Resource::Memory) && memory.is_some_and(is_high) {
        return Some(("memory", line));
    }
    // A companion's use is not the ladder's.
    let share = book.ladders_share();
    let our_gpu = || book.ladder.our_gpu(&share);
    if to.vram > from.vram
        && constrains(Resource::Vram)
        && our_gpu().and_then(|(_, gpu)| gpu.vram).is_some_and(|space| is_high(&space))
    {
        return Some(("video memory", line));
    }
    let pressure_line = book.settings.pressure_upgrade_line;
    let is_pressed =
        || book.reading.pressure.is_some_and(|pressure| pressure.memory_some >= pressure_line);
    let is_half_used = |space: &Space| Percent::of(space.used(), space.total) >= Percent::new(50);
    let counts = takes_memory && constrains(Resource::Pressure);
    (counts && memory.is_none_or(is_half_used) && is_pressed())
        .then_some(("memory pressure", pressure_line))
}
