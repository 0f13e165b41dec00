//! The optimum: the best possible schedule for a recording or a run, knowing all of it from the start.
//!
//! An [`Oracle`] takes the samples while a run passes, and afterwards computes two schedules of rungs by dynamic
//! programming over (rung, sample): the best of all, and the best without a reversal. Both maximise
//!
//! ```text
//! score = (quality of what serves, integrated over the run - price [s] * quality of the top rung * switches) / length
//! ```
//!
//! where `price` is [`Settings::price`]. It is paid in addition to the quality that a load costs, by the optimum and
//! equally by the run that is compared with it.
//!
//! # Model
//! - The machine changes only at samples, and each holds until the next. One that is missing or not plausible changes
//!   nothing. Our own use is left out: only others' use counts.
//! - A rung is *allowed* if its footprint with a full KV cache fits beside others under the degrade limit of every
//!   constrained space, and may be *loaded* if its load transient fits as well. A model in video memory may be on any
//!   GPU. Where a space is not read, what serves goes on as long as it fitted at the last reading of that space, and
//!   nothing is loaded there; one that was never read has no room.
//! - A switch begins at a sample, at most one at each. To `none` it takes no time. Otherwise, if both models fit side
//!   by side, the old one serves until the new one is ready, or until the two no longer fit; if they do not, nothing
//!   serves while the one unloads and the other loads. Completions fall between samples and are counted to the
//!   nanosecond.
//! - A rung must be allowed at every sample through its load and while it serves. At a sample that does not allow it,
//!   it is left.
//! - The optimum lasts as long as the run that it is compared with, which ends with the last thing that its policy
//!   began: apart from those seconds, it is the same for every policy on a recording.
//! - Nothing is loaded at the start, and a load that would be cut off by the end is not begun.
//! - A reversal is what [`Summary::reversals`] counts.
//!
//! # What the bound leaves out
//! The first load of a run takes [`load_cold`](tiershift_core::model::Model::load_cold), later ones
//! [`load_warm`](tiershift_core::model::Model::load_warm). The simulated server takes `load_cold` whenever a file is
//! not cached, so also the first time for a second model, varies each load's time a little, and keeps a model's memory
//! for a while after its unload; the manager drains requests before an unload. None of that is in the bound. So a
//! policy can beat it only by loads that happen to be quicker than their catalog states, by a switch between two
//! samples, and where a fault shows the policy another machine. A policy that serves beyond the degrade line, or that
//! follows orders, is not bound by it.

mod free;
mod ladder;
mod one_way;
mod sweep;
mod tape;
#[cfg(test)]
mod tests;
mod times;

use tiershift_core::catalog::{Catalog, Rung};
use tiershift_core::event::{EventRef, Input, Observe};
use tiershift_core::model::Footprint;
use tiershift_core::place::fit_together;
use tiershift_core::sample::{GpuSample, Resource, ResourceKey, Sample, Space};
use tiershift_core::settings::Settings;
use tiershift_core::time::{Timestamp, nanos};
use tiershift_core::units::{Bytes, Percent};

use crate::study::oracle::ladder::{Ladder, Worth, unpack};
use crate::study::oracle::tape::{Room, Tape};
use crate::summary::{Comparison, Optimum, Summary, TierSeconds};

/// Takes the samples of a run, and computes the optimum when it is over.
#[derive(Clone, Debug)]
pub struct Oracle {
    settings: Settings,
    ladder: Ladder,
    /// What each rung takes while it serves, and while it loads; `none` first.
    needs: Vec<(Footprint, Footprint)>,
    /// The sums of needs that decide what fits, of memory and of video memory.
    sums: [Vec<Bytes>; 2],
    /// The uses of each space that leave the same room as the last sample.
    cells: Vec<(ResourceKey, Cell)>,
    /// Each space as it was last read.
    known: Sample,
    tape: Tape,
}

/// The best possible schedule for a run of one length.
#[derive(Clone, Debug)]
pub struct Best {
    /// How long the run lasts [ns].
    end: u64,
    free: Worth,
    schedule: Vec<(Timestamp, Rung)>,
    one_way: Worth,
}

impl Best {
    /// Returns whether it is for a run of this length, to the nanosecond.
    pub fn is_of(&self, seconds: f64) -> bool {
        self.end == nanos(tiershift_core::time::from_secs_f64(seconds))
    }
}

/// A range of others' use of a space in which the same things fit.
#[derive(Clone, Copy, Debug)]
struct Cell {
    total: Bytes,
    least: u64,
    most: u64,
}

impl Observe for Oracle {
    /// Takes every sample that the controller was given.
    #[inline]
    fn observe(&mut self, now: Timestamp, event: EventRef<'_>) {
        if let EventRef::Input(Input::Sample(sample)) = event {
            self.read(now, sample);
        }
    }
}

impl Oracle {
    /// Begins before the first sample, with nothing loaded.
    pub fn new(settings: &Settings, catalog: &Catalog) -> Self {
        let need = |rung| {
            let model = catalog.primary(rung);
            model.map_or_else(Default::default, |model| {
                (model.footprint(), model.footprint_to_load())
            })
        };
        let needs: Vec<(Footprint, Footprint)> =
            std::iter::once(Rung::NONE).chain(catalog.rungs_up()).map(need).collect();
        // Video memory that is part of main memory is taken there too.
        let in_memory = |need: &Footprint| [need.ram, need.ram + need.vram];
        let in_vram = |need: &Footprint| [need.vram; 2];
        let sums = [sums_of(&needs, in_memory), sums_of(&needs, in_vram)];
        Self {
            settings: settings.clone(),
            ladder: Ladder::new(catalog, settings.price, settings.reversal_window),
            needs,
            sums,
            cells: Vec::new(),
            known: Sample::default(),
            tape: Tape::default(),
        }
    }

    /// Takes a sample. Time does not go back.
    #[inline]
    pub fn read(&mut self, at: Timestamp, sample: &Sample) {
        if !sample.is_plausible() {
            return;
        }
        if self.is_as_before(sample) {
            self.tape.push_same(at.as_nanos());
        } else {
            self.read_change(at, sample);
        }
    }

    /// Returns the memory that the samples take, in bytes; the optimum takes about as much again.
    pub fn bytes(&self) -> usize {
        self.tape.bytes()
    }

    /// Computes the optimum of what was read, compares the run with it, and returns the schedule: what serves from
    /// which moment on, beginning with `none` at zero. The run lasted until `summary.seconds`.
    pub fn finish(&self, summary: &mut Summary) -> Vec<(Timestamp, Rung)> {
        let best = self.best(summary.seconds);
        self.compare(&best, summary);
        best.schedule
    }

    /// Computes the optimum of a run of this length. Both schedules are computed side by side.
    pub fn best(&self, seconds: f64) -> Best {
        let end = nanos(tiershift_core::time::from_secs_f64(seconds));
        let one_way = || one_way::best(&self.ladder, &self.tape, end);
        std::thread::scope(|scope| {
            let other = std::thread::Builder::new().spawn_scoped(scope, one_way);
            let (free, schedule) = free::best(&self.ladder, &self.tape, end);
            // If the system provides no thread, this one computes both, with the same result.
            let one_way = match other {
                Ok(other) => other.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)),
                Err(_) => one_way(),
            };
            Best { end, free, schedule, one_way }
        })
    }

    /// Compares a run with the optimum of its length.
    pub fn compare(&self, best: &Best, summary: &mut Summary) {
        let end = best.end;
        let (at_none, below_best) = self.missed(&summary.timeline, end);
        let fitting = |(tier, nanos): (&TierSeconds, u64)| TierSeconds {
            tier: tier.tier.clone(),
            seconds: Timestamp::from_nanos(nanos).as_secs_f64(),
        };
        // `none` always fits.
        let tiers = summary.tier_seconds.iter().zip(self.fitting(end)).skip(1);
        let tier_seconds_fitting = tiers.map(fitting).collect();
        let price = self.settings.price.as_secs_f64() * self.top_quality();
        summary.comparison = (end > 0).then(|| {
            let optimum = self.optimum(best.free, end);
            let without_reversals = self.optimum(best.one_way, end);
            let tolls = price * summary.switches as f64 / summary.seconds;
            let score = summary.quality_served_fraction - tolls;
            let share = |best: &Optimum| (best.score > 0.0).then(|| score / best.score);
            Comparison {
                price_seconds: self.settings.price.as_secs_f64(),
                score,
                share_of_optimum: share(&optimum),
                share_of_optimum_without_reversals: share(&without_reversals),
                optimum,
                optimum_without_reversals: without_reversals,
                seconds_at_none_while_smallest_fitted: Timestamp::from_nanos(at_none).as_secs_f64(),
                seconds_below_best_fitting: Timestamp::from_nanos(below_best).as_secs_f64(),
                tier_seconds_fitting,
            }
        });
    }

    fn top_quality(&self) -> f64 {
        let top = self.ladder.qualities.last().copied().unwrap_or(0);
        top as f64 / f64::from(Percent::ONE_HUNDRED.milli())
    }

    fn optimum(&self, worth: Worth, end: u64) -> Optimum {
        let (net, switches) = unpack(worth);
        let (toll, _) = unpack(self.ladder.toll - 1);
        let whole = end as f64 * f64::from(Percent::ONE_HUNDRED.milli());
        let quality = (net + toll * i128::from(switches)) as f64 / whole;
        Optimum { quality, switches, score: net as f64 / whole }
    }

    /// Returns how long nothing served although the smallest rung fitted, and how long what served was below the highest
    /// fitting rung [ns].
    fn missed(&self, timeline: &[(Timestamp, Rung)], end: u64) -> (u64, u64) {
        let (mut at_none, mut below_best) = (0, 0);
        let mut place = 0;
        for (mut now, until, room) in self.tape.spans(end) {
            while now < until {
                while timeline.get(place + 1).is_some_and(|next| next.0.as_nanos() <= now) {
                    place += 1;
                }
                let next =
                    timeline.get(place + 1).map_or(until, |next| next.0.as_nanos().min(until));
                let serves = timeline.get(place).map_or(0, |served| usize::from(served.1.0));
                at_none += if serves == 0 && room.fits(1) { next - now } else { 0 };
                below_best += if serves < room.best_that_fits() { next - now } else { 0 };
                now = next;
            }
        }
        (at_none, below_best)
    }

    /// Returns how long each rung fitted, `none` first [ns].
    fn fitting(&self, end: u64) -> Vec<u64> {
        let mut fitting = vec![0; self.needs.len()];
        for (from, until, room) in self.tape.spans(end) {
            for (rung, nanos) in fitting.iter_mut().enumerate() {
                *nanos += if room.fits(rung) { until - from } else { 0 };
            }
        }
        fitting
    }

    #[inline]
    fn is_as_before(&self, sample: &Sample) -> bool {
        let mut cells = self.cells.iter();
        let same = sample.spaces().all(|(key, space)| {
            cells.next().is_some_and(|(known, cell)| *known == key && cell.holds(space))
        });
        same && cells.next().is_none() && self.tape.times.last().is_some()
    }

    fn read_change(&mut self, at: Timestamp, sample: &Sample) {
        self.note_what_is_read(sample);
        let room = self.room(sample);
        self.tape.push(at.as_nanos(), room);
        let cell = |(key, space): (ResourceKey, &Space)| {
            let sums = &self.sums[usize::from(key.resource == Resource::Vram)];
            (key, Cell::around(space, self.settings.degrade_limit(space.total), sums))
        };
        let cells: Vec<(ResourceKey, Cell)> = sample.spaces().map(cell).collect();
        self.cells = cells;
    }

    /// Keeps each space that a sample reads; one that it does not read stays as it was.
    fn note_what_is_read(&mut self, sample: &Sample) {
        let before = std::mem::replace(&mut self.known, sample.clone());
        self.known.memory = sample.memory.or(before.memory);
        let gpus = self.known.gpus.len().max(before.gpus.len());
        self.known.gpus.resize(gpus, GpuSample::default());
        for (gpu, before) in self.known.gpus.iter_mut().zip(before.gpus) {
            if gpu.vram.is_none() {
                (gpu.vram, gpu.shared) = (before.vram, before.shared);
            }
        }
    }

    /// Returns what fits beside others' use in a sample.
    fn room(&self, sample: &Sample) -> Room {
        let limit = |total| self.settings.degrade_limit(total);
        let fits_in =
            |sample, needs: &[Footprint]| fit_together(needs, sample, &self.settings, limit);
        let is_read = |need: &Footprint| fits_in(sample, &[*need]);
        let fit = |needs: &[Footprint]| fits_in(&self.known, needs);
        let rungs = || self.needs.iter().enumerate();
        let bits = |is_set: &dyn Fn(&(Footprint, Footprint)) -> bool| {
            rungs().fold(0, |bits, (rung, need)| bits | u64::from(is_set(need)) << rung)
        };
        Room {
            // `none` fits everywhere.
            fitting: bits(&|(kept, _)| is_read(kept)) | 1,
            allowed: bits(&|(kept, _)| fit(&[*kept])) | 1,
            loadable: bits(&|(_, load)| is_read(load)),
            beside: rungs()
                .map(|(_, (_, load))| bits(&|(kept, _)| is_read(load) && fit(&[*kept, *load])))
                .collect(),
        }
    }
}

/// Returns what each rung takes of a space, alone and beside another that loads, in order.
fn sums_of(needs: &[(Footprint, Footprint)], of: impl Fn(&Footprint) -> [Bytes; 2]) -> Vec<Bytes> {
    let kept = || needs.iter().flat_map(|(kept, _)| of(kept));
    let loads = || needs.iter().flat_map(|(_, load)| of(load));
    let both = kept().flat_map(|kept| loads().map(move |load| kept + load));
    let mut sums: Vec<Bytes> = both.chain(kept()).collect();
    sums.sort_unstable();
    sums.dedup();
    sums
}

impl Cell {
    /// Returns the uses of a space for which the same sums fit under a limit.
    fn around(space: &Space, limit: Bytes, sums: &[Bytes]) -> Self {
        let (mut least, mut most) = (0, u64::MAX);
        for sum in sums {
            match limit.get().checked_sub(sum.get()) {
                Some(room) if room >= space.others.get() => most = most.min(room),
                Some(room) => least = least.max(room + 1),
                None => {}
            }
        }
        Self { total: space.total, least, most }
    }

    #[inline]
    fn holds(&self, space: &Space) -> bool {
        self.total == space.total && (self.least..=self.most).contains(&space.others.get())
    }
}
