//! Where a model fits: the one answer for the policy, the manager, a run's accounting and its optimum.
//!
//! A sample keeps others' use apart from our own. What a switch frees is credited by leaving our own use out, even
//! while its memory has yet to come back; what stays is counted as the larger of what is read and what it may grow to.
//! A space that is not read is neither full nor unlimited: nothing is loaded there, and nothing is unloaded because of
//! it.
//!
//! A model is whole on one GPU, or on the processor. One that only fits over several GPUs, or partly on the processor,
//! is [`Fit::Short`].

use crate::catalog::{Catalog, Rung};
use crate::model::{Footprint, Model};
use crate::sample::{GpuSample, Resource, ResourceKey, Sample, Space};
use crate::settings::Settings;
use crate::units::{Bytes, Percent};

/// What stays loaded of ours beside the model.
#[derive(Clone, Copy, Debug)]
pub enum Beside<'a> {
    /// Nothing: all of it goes first.
    Nothing,
    /// What is loaded stays. With nothing loaded, memory that has not come back is in the way.
    Resident(&'a Resident),
}

/// What our loaded models may grow to, whatever they use at the moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resident {
    read: Held,
    /// The same for those that no sample shows yet.
    unread: Held,
}

/// An amount of each space.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Held {
    ram: Bytes,
    vram: Vec<Bytes>,
}

impl Resident {
    /// Adds a model that is on `gpu`, or on the processor.
    pub fn add(&mut self, need: Footprint, gpu: Option<u8>) {
        self.read.add(need, gpu);
    }

    /// As [`Resident::add`], for a model whose load began after the sample that is judged: what that sample shows as
    /// ours belongs to other models.
    pub fn add_unread(&mut self, need: Footprint, gpu: Option<u8>) {
        self.unread.add(need, gpu);
    }

    /// Adds all of another.
    pub fn extend(&mut self, other: &Self) {
        self.read.extend(&other.read);
        self.unread.extend(&other.unread);
    }

    /// Returns what is in a space of the sampled machine, without what no sample shows yet.
    pub fn within(&self, space: ResourceKey, sample: &Sample) -> Bytes {
        self.read.within(space, sample)
    }

    /// Returns what no sample shows yet in a space.
    pub fn unread_within(&self, space: ResourceKey, sample: &Sample) -> Bytes {
        self.unread.within(space, sample)
    }

    /// Returns whether anything is in a space, even if no sample shows it yet.
    pub fn is_in(&self, space: ResourceKey, sample: &Sample) -> bool {
        [&self.read, &self.unread].iter().any(|held| held.within(space, sample) > Bytes::ZERO)
    }

    /// Returns what is in main memory, without what no sample shows yet.
    pub fn ram(&self) -> Bytes {
        self.read.ram
    }

    /// Returns what is on a GPU, without what no sample shows yet.
    pub fn vram_on(&self, gpu: u8) -> Bytes {
        self.read.on(gpu)
    }
}

impl Held {
    fn add(&mut self, need: Footprint, gpu: Option<u8>) {
        self.ram += need.ram;
        if let Some(gpu) = gpu.map(usize::from) {
            if self.vram.len() <= gpu {
                self.vram.resize(gpu + 1, Bytes::ZERO);
            }
            self.vram[gpu] += need.vram;
        }
    }

    fn extend(&mut self, other: &Self) {
        self.ram += other.ram;
        for (gpu, &vram) in (0..=u8::MAX).zip(&other.vram) {
            self.add(Footprint { ram: Bytes::ZERO, vram }, Some(gpu));
        }
    }

    fn within(&self, space: ResourceKey, sample: &Sample) -> Bytes {
        let is_shared = |gpu: u8| sample.gpus.get(usize::from(gpu)).is_some_and(|gpu| gpu.shared);
        match space.gpu {
            Some(gpu) => self.on(gpu),
            None => {
                let vram = (0..=u8::MAX).zip(&self.vram).filter(|&(gpu, _)| is_shared(gpu));
                self.ram + vram.map(|(_, &vram)| vram).sum()
            }
        }
    }

    fn on(&self, gpu: u8) -> Bytes {
        self.vram.get(usize::from(gpu)).copied().unwrap_or(Bytes::ZERO)
    }
}

/// Whether a model fits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fit {
    /// It does.
    Fits(Place),
    /// It fits nowhere: the space in which it comes closest.
    Short(Projection),
    /// Unknown: a space that it needs is not read.
    Unknown(ResourceKey),
}

/// Where a model fits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// The GPU to load it on; `None` for the processor.
    pub gpu: Option<u8>,
    /// Main memory with the model loaded, if that has a limit.
    pub memory: Option<Projection>,
    /// The GPU's memory with the model loaded, if that has a limit.
    pub vram: Option<Projection>,
}

/// A space as it would be with a model loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Projection {
    /// The resource: memory, or a GPU's.
    pub resource: Resource,
    /// The GPU, if the resource belongs to one.
    pub gpu: Option<u8>,
    /// Its use.
    pub projected: Bytes,
    /// The most that it may be.
    pub limit: Bytes,
    /// How much of it there is.
    pub total: Bytes,
}

impl Projection {
    /// The place of a model that no space limits.
    pub const UNLIMITED: Self = Self {
        resource: Resource::Memory,
        gpu: None,
        projected: Bytes::ZERO,
        limit: Bytes::MAX,
        total: Bytes::MAX,
    };

    /// Returns whether it stays within the limit.
    #[inline]
    pub fn fits(&self) -> bool {
        self.projected <= self.limit
    }

    /// Returns what is left below the limit, as a share of all there is.
    pub fn spare(&self) -> Percent {
        Percent::of(self.limit - self.projected, self.total)
    }
}

impl Fit {
    /// Returns where it fits, if it does.
    #[inline]
    pub fn place(self) -> Option<Place> {
        match self {
            Self::Fits(place) => Some(place),
            Self::Short(_) | Self::Unknown(_) => None,
        }
    }

    /// Returns whether it fits.
    #[inline]
    pub fn is_there(self) -> bool {
        matches!(self, Self::Fits(_))
    }
}

impl Place {
    /// Returns the spaces in which it has a limit.
    #[inline]
    pub fn spaces(self) -> impl Iterator<Item = Projection> {
        self.memory.into_iter().chain(self.vram)
    }

    /// Returns the space that comes closest to its limit.
    pub fn scarcest(self) -> Option<Projection> {
        match (self.memory, self.vram) {
            (Some(memory), Some(vram)) => Some(scarcer(memory, vram)),
            (memory, vram) => memory.or(vram),
        }
    }
}

/// Returns where a model that takes `need` fits beside what stays, with each constrained space held to
/// `limit_of(total)`. Of several GPUs, the one with the most room left is chosen, and the first among equals.
#[inline]
pub fn place(
    need: Footprint,
    beside: Beside<'_>,
    sample: &Sample,
    settings: &Settings,
    limit_of: impl Fn(Bytes) -> Bytes + Copy,
) -> Fit {
    if need.vram == Bytes::ZERO {
        let memory = in_memory(need.ram, Bytes::ZERO, beside, sample, settings, limit_of);
        return match memory {
            Err(unknown) => Fit::Unknown(unknown),
            Ok(Some(short)) if !short.fits() => Fit::Short(short),
            Ok(memory) => Fit::Fits(Place { gpu: None, memory, vram: None }),
        };
    }
    on_a_gpu(|_| true, need, beside, sample, settings, limit_of)
}

/// Tries in turn each GPU for which `may_be` holds.
fn on_a_gpu(
    may_be: impl Fn(u8) -> bool,
    need: Footprint,
    beside: Beside<'_>,
    sample: &Sample,
    settings: &Settings,
    limit_of: impl Fn(Bytes) -> Bytes + Copy,
) -> Fit {
    let constrained = settings.constrains(Resource::Vram);
    let mut best: Option<(Bytes, Place)> = None;
    let mut short: Option<Projection> = None;
    let mut unknown = None;
    for (gpu, reading) in (0..=u8::MAX).zip(&sample.gpus) {
        let Some(space) = reading.vram.as_ref().filter(|_| may_be(gpu)) else { continue };
        let own = match beside {
            Beside::Nothing => Bytes::ZERO,
            Beside::Resident(resident) => {
                space.own.max(resident.vram_on(gpu)) + resident.unread.on(gpu)
            }
        };
        let vram = Projection {
            resource: Resource::Vram,
            gpu: Some(gpu),
            projected: space.others + own + need.vram,
            limit: limit_of(space.total),
            total: space.total,
        };
        let shared = if reading.shared { need.vram } else { Bytes::ZERO };
        let memory = match in_memory(need.ram, shared, beside, sample, settings, limit_of) {
            Ok(memory) => memory,
            Err(key) => {
                unknown = Some(key);
                continue;
            }
        };
        let obstacle = (constrained && !vram.fits())
            .then_some(vram)
            .or_else(|| memory.filter(|memory| !memory.fits()));
        match obstacle {
            Some(obstacle) => short = Some(short.map_or(obstacle, |s| roomier(s, obstacle))),
            None => {
                let left = vram.limit - vram.projected;
                if best.is_none_or(|(most, _)| left > most) {
                    let vram = constrained.then_some(vram);
                    best = Some((left, Place { gpu: Some(gpu), memory, vram }));
                }
            }
        }
    }
    let unread = ResourceKey { resource: Resource::Vram, gpu: None };
    match (best, short) {
        (Some((_, place)), _) => Fit::Fits(place),
        (None, Some(short)) => Fit::Short(short),
        (None, None) => Fit::Unknown(unknown.unwrap_or(unread)),
    }
}

/// Returns main memory with another `ram` and `shared` of it taken; `None` if it has no limit.
#[inline]
fn in_memory(
    ram: Bytes,
    shared: Bytes,
    beside: Beside<'_>,
    sample: &Sample,
    settings: &Settings,
    limit_of: impl Fn(Bytes) -> Bytes,
) -> Result<Option<Projection>, ResourceKey> {
    let need = ram + shared;
    if need == Bytes::ZERO || !settings.constrains(Resource::Memory) {
        return Ok(None);
    }
    let Some(space) = &sample.memory else { return Err(ResourceKey::MEMORY) };
    let own = match beside {
        Beside::Nothing => Bytes::ZERO,
        Beside::Resident(resident) => {
            let key = ResourceKey::MEMORY;
            space.own.max(resident.within(key, sample)) + resident.unread_within(key, sample)
        }
    };
    Ok(Some(Projection {
        resource: Resource::Memory,
        gpu: None,
        projected: space.others + own + need,
        limit: limit_of(space.total),
        total: space.total,
    }))
}

/// Returns a sample from the view of the owner of `mine`, out of all that is ours: what the `rest` may grow to counts
/// as others' use. Any other use counts as mine, including what has yet to come back. What the rest has yet to take
/// fills a space up to `limit_of(total)` and no further: it is in the way of a load, but is no shortage.
pub fn share_of(
    sample: &Sample,
    mine: &Resident,
    rest: &Resident,
    limit_of: impl Fn(Bytes) -> Bytes,
) -> Sample {
    let mut share = sample.clone();
    for (key, space) in share.spaces_mut() {
        let [mine, rest, begun] =
            [&mine.read, &rest.read, &rest.unread].map(|held| held.within(key, sample));
        // While the rest has yet to grow this far, what is mine must not look like nothing.
        let least = if mine > Bytes::ZERO { space.own.min(Bytes::new(1)) } else { Bytes::ZERO };
        let most = space.used().max(limit_of(space.total));
        space.own = (space.own - rest).max(least);
        space.others = (space.others + rest + begun).min(most - space.own);
    }
    share
}

/// Returns whether models that take `needs` fit side by side with no other model of ours loaded, each that takes video
/// memory on any GPU: what [`place`] would find for each in the best order.
pub fn fit_together(
    needs: &[Footprint],
    sample: &Sample,
    settings: &Settings,
    limit_of: impl Fn(Bytes) -> Bytes + Copy,
) -> bool {
    let mut resident = Resident::default();
    seat(needs, &mut resident, sample, &|resident| fits_all(resident, sample, settings, limit_of))
}

/// Tries each GPU for each model, and returns whether one way to seat them all passes `test`.
fn seat(
    needs: &[Footprint],
    resident: &mut Resident,
    sample: &Sample,
    test: &dyn Fn(&Resident) -> bool,
) -> bool {
    let Some((&first, rest)) = needs.split_first() else { return test(resident) };
    let on = |gpu| {
        let mut with_it = resident.clone();
        with_it.add(first, gpu);
        seat(rest, &mut with_it, sample, test)
    };
    if first.vram == Bytes::ZERO {
        return on(None);
    }
    (0..=u8::MAX).zip(&sample.gpus).any(|(gpu, _)| on(Some(gpu)))
}

/// Returns whether all that is resident fits beside others' use.
fn fits_all(
    resident: &Resident,
    sample: &Sample,
    settings: &Settings,
    limit_of: impl Fn(Bytes) -> Bytes + Copy,
) -> bool {
    let within = |space: &Space, need| space.others + need <= limit_of(space.total);
    let mut ram = resident.ram();
    for (gpu, reading) in (0..=u8::MAX).zip(&sample.gpus) {
        let need = resident.vram_on(gpu);
        if need == Bytes::ZERO {
            continue;
        }
        ram += if reading.shared { need } else { Bytes::ZERO };
        let Some(space) = &reading.vram else { return false };
        if settings.constrains(Resource::Vram) && !within(space, need) {
            return false;
        }
    }
    ram == Bytes::ZERO
        || !settings.constrains(Resource::Memory)
        || sample.memory.as_ref().is_some_and(|space| within(space, ram))
}

/// Returns the constrained spaces that hold a model of ours and are used beyond `limit_of(total)` *now*, in order. A
/// space in which we hold nothing is skipped: we cannot relieve it.
#[inline]
pub fn overruns(
    sample: &Sample,
    settings: &Settings,
    limit_of: impl Fn(Bytes) -> Bytes,
) -> impl Iterator<Item = Projection> {
    sample.spaces().filter_map(move |(key, space)| {
        if space.own == Bytes::ZERO || !settings.constrains(key.resource) {
            return None;
        }
        let (projected, limit) = (space.used(), limit_of(space.total));
        let ResourceKey { resource, gpu } = key;
        let now = Projection { resource, gpu, projected, limit, total: space.total };
        (!now.fits()).then_some(now)
    })
}

/// Returns whether a constrained space that holds a model of ours is nearly full: a machine that is out of memory
/// finishes nothing, so what runs on the model that must go gets little time.
#[inline]
pub fn is_critical(sample: &Sample, settings: &Settings) -> bool {
    critical_overrun(sample, settings).is_some()
}

/// Returns the first such space.
#[inline]
pub fn critical_overrun(sample: &Sample, settings: &Settings) -> Option<Projection> {
    // At this share, not only beyond it.
    overruns(sample, settings, |total| total.share(CRITICAL_SHARE) - Bytes::new(1)).next()
}

/// A space this full is in a critical shortage. Chosen; at 97 % of 16 GiB, 0.5 GiB is left.
pub const CRITICAL_SHARE: Percent = Percent::new(97);

/// The ladder as a policy sees it: what each rung takes, ready for use with every sample.
#[derive(Clone, Debug)]
pub struct Ladder {
    /// By rung; the lowest takes nothing.
    needs: Vec<Footprint>,
    /// Whether any rung takes video memory.
    uses_vram: bool,
    settings: Settings,
}

impl Ladder {
    /// Builds it from the primary models of a catalog.
    pub fn new(settings: &Settings, catalog: &Catalog) -> Self {
        let needs = catalog
            .rungs_up()
            .filter_map(|rung| catalog.primary(rung))
            .map(Model::footprint_to_load);
        let needs: Vec<Footprint> = std::iter::once(Footprint::default()).chain(needs).collect();
        Self {
            uses_vram: needs.iter().any(|need| need.vram > Bytes::ZERO),
            needs,
            settings: settings.clone(),
        }
    }

    /// Returns the highest rung.
    #[inline]
    pub fn top(&self) -> Rung {
        Rung(u8::try_from(self.needs.len() - 1).expect("a catalog has at most 32 rungs"))
    }

    /// Returns what a rung takes.
    #[inline]
    pub fn need(&self, rung: Rung) -> Footprint {
        self.needs[usize::from(rung.0)]
    }

    /// Returns whether a rung fits under the degrade line once all that is loaded has gone.
    #[inline]
    pub fn place(&self, sample: &Sample, rung: Rung) -> Fit {
        self.place_under(sample, rung, |total| self.settings.degrade_limit(total))
    }

    /// Returns whether a rung fits while nothing is loaded: memory of ours that has not come back yet is in the way.
    pub fn place_on_empty(&self, sample: &Sample, rung: Rung) -> Fit {
        let nothing = Resident::default();
        let limit_of = |total| self.settings.degrade_limit(total);
        place(self.need(rung), Beside::Resident(&nothing), sample, &self.settings, limit_of)
    }

    /// As [`Ladder::place`], under other limits.
    #[inline]
    pub fn place_under(
        &self,
        sample: &Sample,
        rung: Rung,
        limit_of: impl Fn(Bytes) -> Bytes + Copy,
    ) -> Fit {
        place(self.need(rung), Beside::Nothing, sample, &self.settings, limit_of)
    }

    /// As [`Ladder::place`], for a rung whose model is on this GPU, or will be.
    pub fn place_on(&self, sample: &Sample, rung: Rung, gpu: u8) -> Fit {
        let limit_of = |total| self.settings.degrade_limit(total);
        let (need, is_it) = (self.need(rung), |other| other == gpu);
        on_a_gpu(is_it, need, Beside::Nothing, sample, &self.settings, limit_of)
    }

    /// Returns whether a rung fits beside another that stays where it is.
    pub fn place_beside(&self, sample: &Sample, rung: Rung, other: Rung) -> Fit {
        let mut resident = Resident::default();
        let gpu = self.our_gpu(sample).and_then(|(gpu, _)| u8::try_from(gpu).ok());
        resident.add(self.need(other), gpu.filter(|_| self.need(other).vram > Bytes::ZERO));
        let limit_of = |total| self.settings.degrade_limit(total);
        place(self.need(rung), Beside::Resident(&resident), sample, &self.settings, limit_of)
    }

    /// Returns the highest rung below `rung` that fits; [`Rung::NONE`] if none does.
    pub fn highest_fitting_below(&self, sample: &Sample, rung: Rung) -> Rung {
        let fits = |&lower: &Rung| self.place(sample, lower).is_there();
        (1..rung.0).rev().map(Rung).find(fits).unwrap_or(Rung::NONE)
    }

    /// Returns the first space that is now used beyond its degrade limit and that we hold a part of.
    #[inline]
    pub fn overrun(&self, sample: &Sample) -> Option<Projection> {
        overruns(sample, &self.settings, |total| self.settings.degrade_limit(total)).next()
    }

    /// Returns the GPU whose load concerns us, with its number: the one that holds most of ours or, while we hold
    /// nothing, the one with the most room. `None` if no model of the catalog uses a GPU.
    #[inline]
    pub fn our_gpu<'s>(&self, sample: &'s Sample) -> Option<(usize, &'s GpuSample)> {
        if sample.gpus.is_empty() || !self.uses_vram {
            return None;
        }
        let rank = |(_, gpu): &(usize, &GpuSample)| {
            let space = gpu.vram.unwrap_or_default();
            (space.own, space.free())
        };
        // The first among equals, as in placement.
        sample.gpus.iter().enumerate().rev().max_by_key(rank)
    }
}

fn scarcer(a: Projection, b: Projection) -> Projection {
    // Compared as use over limit, cross-multiplied to stay in integers.
    let left = u128::from(a.projected.get()) * u128::from(b.limit.get());
    let right = u128::from(b.projected.get()) * u128::from(a.limit.get());
    if right > left { b } else { a }
}

/// Returns the one that lacks less; the first among equals.
fn roomier(a: Projection, b: Projection) -> Projection {
    if b.projected - b.limit < a.projected - a.limit { b } else { a }
}

#[cfg(test)]
mod tests;
