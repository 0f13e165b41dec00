//! Where a model fits: the one answer for policy, manager, the account of a run and its optimum.
//!
//! A sample keeps others' use apart from our own. What a switch frees is credited by leaving our own use out, also while
//! its memory has yet to come back; what stays is counted as the larger of what is read and what it may grow to. A space
//! that is not read is neither full nor unlimited: nothing is put there, and nothing is taken away because of it.
//!
//! A model is whole on one GPU, or on the processor. One that only fits over several GPUs, or partly on the processor,
//! is [`Fit::Short`].

use crate::catalog::{Catalog, Rung};
use crate::model::{Footprint, Model};
use crate::sample::{GpuSample, Resource, ResourceKey, Sample, Space};
use crate::settings::Settings;
use crate::units::{Bytes, Percent};

/// What of ours is there beside the model.
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
    ram: Bytes,
    vram: Vec<Bytes>,
}

impl Resident {
    /// Adds a model that is on `gpu`, or on the processor.
    pub fn add(&mut self, need: Footprint, gpu: Option<u8>) {
        self.ram += need.ram;
        if let Some(gpu) = gpu.map(usize::from) {
            if self.vram.len() <= gpu {
                self.vram.resize(gpu + 1, Bytes::ZERO);
            }
            self.vram[gpu] += need.vram;
        }
    }

    /// Returns what is in main memory.
    pub fn ram(&self) -> Bytes {
        self.ram
    }

    /// Returns what is on a GPU.
    pub fn vram_on(&self, gpu: u8) -> Bytes {
        self.vram.get(usize::from(gpu)).copied().unwrap_or(Bytes::ZERO)
    }
}

/// Whether a model fits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fit {
    /// It does.
    Fits(Place),
    /// Nowhere: the space in which it comes closest.
    Short(Projection),
    /// Nobody can say: a space that it needs is not read.
    Unknown(ResourceKey),
}

/// Where a model fits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// The GPU to load it on; `None` for the processor.
    pub gpu: Option<u8>,
    /// Main memory with it loaded, where that has a limit.
    pub memory: Option<Projection>,
    /// The GPU's memory with it loaded, where that has a limit.
    pub vram: Option<Projection>,
}

/// A space as it would be with a model loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Projection {
    /// The resource: memory, or a GPU's.
    pub resource: Resource,
    /// The GPU, where the resource is one of a GPU's.
    pub gpu: Option<u8>,
    /// Its use.
    pub projected: Bytes,
    /// The most it may be.
    pub limit: Bytes,
    /// How much of it there is.
    pub total: Bytes,
}

impl Projection {
    /// Of a model that no space limits.
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

    /// Returns whether it does.
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

/// Returns where a model fits that takes `need` beside what stays, held in each space that the settings constrain
/// against `limit_of(total)`. Of several GPUs it is the one that it leaves the most room on, and the first among equals.
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
    on_a_gpu(need, beside, sample, settings, limit_of)
}

/// Tries each GPU in turn.
fn on_a_gpu(
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
        let Some(space) = &reading.vram else { continue };
        let own = match beside {
            Beside::Nothing => Bytes::ZERO,
            Beside::Resident(resident) => space.own.max(resident.vram_on(gpu)),
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

/// Returns main memory with `ram` and `shared` more of it taken; `None` where it has no limit.
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
            let gpus = (0..=u8::MAX).zip(&sample.gpus).filter(|(_, gpu)| gpu.shared);
            let shared: Bytes = gpus.map(|(gpu, _)| resident.vram_on(gpu)).sum();
            space.own.max(resident.ram + shared)
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

/// Returns whether models that take `needs` fit side by side with nothing else of ours there, each that takes video memory
/// on any GPU: what [`place`] would find for each in the best order.
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
    let mut ram = resident.ram;
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

/// Returns the constrained spaces that hold something of ours and are used beyond `limit_of(total)` *now*, in order. Use of
/// a space in which we hold nothing is not ours to relieve, and is passed over.
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

/// Returns whether a constrained space that holds something of ours is all but full: a machine that is out of memory
/// finishes nothing, and what runs on the model that must go is not waited for long.
#[inline]
pub fn is_critical(sample: &Sample, settings: &Settings) -> bool {
    critical_overrun(sample, settings).is_some()
}

/// Returns the first such space.
#[inline]
pub fn critical_overrun(sample: &Sample, settings: &Settings) -> Option<Projection> {
    // At the share, not only beyond it.
    overruns(sample, settings, |total| total.share(CRITICAL_SHARE) - Bytes::new(1)).next()
}

/// A space this full is in a critical shortage. Chosen; at 97 % of 16 GiB, 0.5 GiB is left.
pub const CRITICAL_SHARE: Percent = Percent::new(97);

/// The ladder as a policy looks at it: what each rung takes, ready for use in every sample.
#[derive(Clone, Debug)]
pub struct Ladder {
    /// By rung; the lowest takes nothing.
    needs: Vec<Footprint>,
    /// Whether any rung takes video memory.
    uses_vram: bool,
    settings: Settings,
}

impl Ladder {
    /// Builds it of the primary models of a catalog.
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

    /// Returns whether a rung fits where nothing is loaded: what of ours has not come back yet is in the way.
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

    /// Returns whether a rung fits beside another that stays where it is.
    pub fn place_beside(&self, sample: &Sample, rung: Rung, other: Rung) -> Fit {
        let mut resident = Resident::default();
        let gpu = self.our_gpu(sample).and_then(|(gpu, _)| u8::try_from(gpu).ok());
        resident.add(self.need(other), gpu.filter(|_| self.need(other).vram > Bytes::ZERO));
        let limit_of = |total| self.settings.degrade_limit(total);
        place(self.need(rung), Beside::Resident(&resident), sample, &self.settings, limit_of)
    }

    /// Returns the highest rung below `rung` that fits; [`Rung::NONE`] where none does.
    pub fn highest_fitting_below(&self, sample: &Sample, rung: Rung) -> Rung {
        let fits = |&lower: &Rung| self.place(sample, lower).is_there();
        (1..rung.0).rev().map(Rung).find(fits).unwrap_or(Rung::NONE)
    }

    /// Returns the first space that is used beyond its degrade limit now and of which we hold some.
    #[inline]
    pub fn overrun(&self, sample: &Sample) -> Option<Projection> {
        overruns(sample, &self.settings, |total| self.settings.degrade_limit(total)).next()
    }

    /// Returns the GPU whose load concerns us, with its number: the one that holds the most of ours or, while we hold
    /// nothing, the one with the most room. `None` where no model of the catalog goes to a GPU.
    #[inline]
    pub fn our_gpu<'s>(&self, sample: &'s Sample) -> Option<(usize, &'s GpuSample)> {
        if sample.gpus.is_empty() || !self.uses_vram {
            return None;
        }
        let rank = |(_, gpu): &(usize, &GpuSample)| {
            let space = gpu.vram.unwrap_or_default();
            (space.own, space.free())
        };
        // The first among equals, as placement has it.
        sample.gpus.iter().enumerate().rev().max_by_key(rank)
    }
}

fn scarcer(a: Projection, b: Projection) -> Projection {
    // Compared as use over limit, cross-multiplied to stay in integers.
    let left = u128::from(a.projected.get()) * u128::from(b.limit.get());
    let right = u128::from(b.projected.get()) * u128::from(a.limit.get());
    if right > left { b } else { a }
}

/// Returns the one that is short of less; the first among equals.
fn roomier(a: Projection, b: Projection) -> Projection {
    if b.projected - b.limit < a.projected - a.limit { b } else { a }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::MachineClass;
    use crate::settings::RawSettings;

    fn gib(count: u64) -> Bytes {
        Bytes::from_gib(count)
    }

    fn space(total: u64, others: u64, own: u64) -> Option<Space> {
        let [total, others, own] = [total, others, own].map(gib);
        Some(Space { total, others, own })
    }

    /// A machine of 16 GiB with GPUs of 24 GiB, of which others use so much.
    fn sample(others: u64, own: u64, gpus: &[u64]) -> Sample {
        let gpu = |&others: &u64| GpuSample { vram: space(24, others, 0), ..GpuSample::default() };
        let gpus = gpus.iter().map(gpu).collect();
        Sample { memory: space(16, others, own), gpus, ..Sample::default() }
    }

    fn settings(file: &str) -> Settings {
        let raw: RawSettings = toml::from_str(file).unwrap();
        Settings::new(raw, MachineClass::MidRange).unwrap()
    }

    fn try_in(need: (u64, u64), beside: Beside<'_>, sample: &Sample, file: &str) -> Fit {
        let need = Footprint { ram: gib(need.0), vram: gib(need.1) };
        place(need, beside, sample, &settings(file), |total| total)
    }

    #[test]
    fn memory_of_a_model_that_has_gone_is_in_the_way_until_it_shows_no_more() {
        let nothing = Resident::default();
        let beside = Beside::Resident(&nothing);
        assert!(try_in((9, 0), beside, &sample(2, 0, &[]), "").is_there());
        assert!(!try_in((9, 0), beside, &sample(2, 9, &[]), "").is_there());
        assert!(try_in((9, 0), Beside::Nothing, &sample(2, 9, &[]), "").is_there());
    }

    #[test]
    fn what_is_loaded_counts_as_much_as_it_may_grow_to() {
        let mut resident = Resident::default();
        resident.add(Footprint { ram: gib(8), vram: Bytes::ZERO }, None);
        let beside = Beside::Resident(&resident);
        assert!(try_in((5, 0), beside, &sample(3, 2, &[]), "").is_there());
        assert!(!try_in((5, 0), beside, &sample(4, 2, &[]), "").is_there());
    }

    #[test]
    fn a_model_goes_to_the_gpu_with_the_most_room_and_the_first_among_equals() {
        let on = |gpus: &[u64]| match try_in((1, 10), Beside::Nothing, &sample(1, 0, gpus), "") {
            Fit::Fits(place) => Ok(place.gpu),
            Fit::Short(short) => Err(Some((short.gpu, short.projected))),
            Fit::Unknown(_) => Err(None),
        };
        assert_eq!(on(&[12, 3]), Ok(Some(1)));
        assert_eq!(on(&[3, 3]), Ok(Some(0)));
        // Of two that are short, the one that lacks less is named.
        assert_eq!(on(&[22, 20]), Err(Some((Some(1), gib(30)))));
        assert_eq!(on(&[]), Err(None));
    }

    #[test]
    fn what_is_not_read_is_neither_full_nor_unlimited() {
        let unread = Sample { memory: None, ..sample(1, 0, &[3]) };
        let on_a_gpu = try_in((1, 10), Beside::Nothing, &unread, "");
        assert_eq!(on_a_gpu, Fit::Unknown(ResourceKey::MEMORY));
        assert!(try_in((0, 10), Beside::Nothing, &unread, "").is_there());
        // Where main memory is not constrained, it need not be read.
        assert!(try_in((1, 10), Beside::Nothing, &unread, "constrain = ['vram']").is_there());
        let mut blind = sample(1, 0, &[3]);
        blind.gpus[0].vram = None;
        let unread = ResourceKey { resource: Resource::Vram, gpu: None };
        assert_eq!(try_in((1, 10), Beside::Nothing, &blind, ""), Fit::Unknown(unread));
    }

    #[test]
    fn a_gpu_that_shares_main_memory_takes_its_part_of_it() {
        let mut machine = sample(4, 0, &[0]);
        assert!(try_in((1, 12), Beside::Nothing, &machine, "").is_there());
        machine.gpus[0].shared = true;
        assert!(!try_in((1, 12), Beside::Nothing, &machine, "").is_there());
        assert!(try_in((1, 11), Beside::Nothing, &machine, "").is_there());
        // What is loaded there is in main memory, too.
        let mut resident = Resident::default();
        resident.add(Footprint { ram: gib(1), vram: gib(5) }, Some(0));
        let beside = Beside::Resident(&resident);
        assert!(try_in((1, 5), beside, &machine, "").is_there());
        assert!(!try_in((1, 6), beside, &machine, "").is_there());
    }

    #[test]
    fn of_our_spaces_the_first_that_is_over_is_told() {
        let settings = settings("");
        let over = |sample: &Sample| {
            overruns(sample, &settings, |total| settings.degrade_limit(total)).next()
        };
        assert_eq!(over(&sample(15, 0, &[])), None);
        let memory = over(&sample(14, 1, &[])).unwrap();
        assert_eq!((memory.resource, memory.projected), (Resource::Memory, gib(15)));
        let mut machine = sample(1, 1, &[23, 20]);
        machine.gpus[1].vram = space(24, 20, 2);
        assert_eq!(over(&machine).unwrap().gpu, Some(1));
    }

    /// Fits models that take (main memory, video memory) side by side where others use so much of 20 GiB each.
    #[track_caller]
    fn check_together(memory: Option<u64>, gpus: &[u64], needs: &[(u64, u64)], want: bool) {
        let settings = settings("");
        let gpu = |&others: &u64| GpuSample { vram: space(20, others, 20), ..GpuSample::default() };
        let gpus = gpus.iter().map(gpu).collect();
        let memory = memory.and_then(|others| space(20, others, 20));
        let sample = Sample { memory, gpus, ..Sample::default() };
        let need = |&(ram, vram)| Footprint { ram: gib(ram), vram: gib(vram) };
        let needs: Vec<Footprint> = needs.iter().map(need).collect();
        let got = fit_together(&needs, &sample, &settings, |total| settings.degrade_limit(total));
        assert_eq!(got, want, "{memory:?} {needs:?}");
    }

    #[test]
    fn models_fit_together_up_to_the_limit_whatever_we_use_ourselves() {
        check_together(Some(8), &[], &[(10, 0)], true);
        check_together(Some(8), &[], &[(11, 0)], false);
        check_together(Some(8), &[], &[(4, 0), (7, 0)], false);
        check_together(Some(19), &[], &[], true);
    }

    #[test]
    fn models_in_video_memory_find_their_gpus_and_what_was_not_read_has_no_room() {
        check_together(Some(0), &[17, 3], &[(1, 15)], true);
        check_together(Some(0), &[17, 3], &[(1, 16)], false);
        // The first must make way for the second, which fits on one GPU only.
        check_together(Some(0), &[8, 3], &[(1, 10), (1, 15)], true);
        check_together(Some(0), &[8, 3], &[(1, 10), (1, 15), (0, 1)], false);
        check_together(None, &[3], &[(1, 1)], false);
        check_together(None, &[3], &[(0, 1)], true);
        check_together(Some(0), &[], &[(0, 1)], false);
    }
}
