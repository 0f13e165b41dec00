//! Whose use is whose: corrects a sample by what we know of our own models.
//!
//! A probe separates the use of our models' processes from all other use. In two cases that misleads. A server that
//! reports "unloaded" and keeps the memory leaves use that is read as ours, although nothing that we do releases it:
//! once it has outlived the time in which samples settle, it counts as others' use. And where a driver does not
//! separate them, as in a container without the host's process ids, ours is read as others': then growth while a model
//! of ours was being loaded counts as ours, up to what that model takes. Rates are not corrected: how much a model
//! takes of them is unknown.

use std::time::Duration;

use crate::model::Footprint;
use crate::sample::{Sample, Space};
use crate::time::Timestamp;
use crate::units::Bytes;

/// One of our models that holds memory, or is about to.
#[derive(Clone, Copy, Debug)]
pub struct Holding {
    /// What it takes at most.
    pub need: Footprint,
    /// The GPU that it is on.
    pub gpu: Option<u8>,
    /// Where it is in its life.
    pub phase: Phase,
}

/// The phase of a model, as far as its memory is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// It is being loaded.
    Coming,
    /// It is loaded.
    There,
    /// It is being unloaded.
    Going,
}

/// What is remembered from sample to sample.
#[derive(Clone, Debug, Default)]
pub struct Attribution {
    settle_limit: Duration,
    /// Main memory, then each GPU's.
    spaces: Vec<Watched>,
    /// What was unloaded within the last settle limit, whose memory may still come back.
    gone: Vec<(Timestamp, Footprint, Option<u8>)>,
}

/// One space.
#[derive(Clone, Copy, Debug, Default)]
struct Watched {
    /// The most that may be left of unloaded models.
    late: Bytes,
    /// What was left of them in the last sample, apart from what is still coming back.
    lingering: Bytes,
    /// Whether our use was ever reported here, and whether none is reported although there is some.
    is_reported: bool,
    is_unreported: bool,
    /// At the last sample: all use, our part of it, and what the loaded models take.
    last: Option<Last>,
}

#[derive(Clone, Copy, Debug)]
struct Last {
    used: Bytes,
    own: Bytes,
    there: Bytes,
    is_coming: bool,
    is_reported: bool,
}

/// What our models take of one space, by phase.
#[derive(Clone, Copy, Debug, Default)]
struct Needs {
    coming: Bytes,
    there: Bytes,
    going: Bytes,
    gone: Bytes,
}

impl Needs {
    fn held(self) -> Bytes {
        self.coming + self.there + self.going
    }

    fn all(self) -> Bytes {
        self.held() + self.gone
    }
}

impl Attribution {
    /// Begins with nothing loaded. The memory of unloaded models may come back up to `settle_limit` late.
    pub fn new(settle_limit: Duration) -> Self {
        Self { settle_limit, spaces: Vec::new(), gone: Vec::new() }
    }

    /// Changes the limit.
    pub fn set_settle_limit(&mut self, settle_limit: Duration) {
        self.settle_limit = settle_limit;
    }

    /// Notes that a model has gone, as reported by its server, or that its server will not unload it.
    pub fn note_gone(&mut self, now: Timestamp, need: Footprint, gpu: Option<u8>) {
        self.gone.push((now, need, gpu));
        // Only the next sample shows whether a GPU shares main memory: the larger bound does no harm.
        self.watched(0).late += need.ram + need.vram;
        if let Some(gpu) = gpu {
            self.watched(1 + usize::from(gpu)).late += need.vram;
        }
    }

    /// Returns what was left of unloaded models in the last sample, in main memory and on each GPU; it counts as
    /// others' use.
    pub fn lingering(&self) -> impl Iterator<Item = Bytes> {
        self.spaces.iter().map(|space| space.lingering)
    }

    fn watched(&mut self, index: usize) -> &mut Watched {
        if self.spaces.len() <= index {
            self.spaces.resize(index + 1, Watched::default());
        }
        &mut self.spaces[index]
    }

    /// Takes a sample and what our models hold, and returns the corrected sample; `None` if there is nothing to
    /// correct.
    #[inline]
    pub fn correct(
        &mut self,
        now: Timestamp,
        sample: &Sample,
        holdings: &(impl Iterator<Item = Holding> + Clone),
    ) -> Option<Sample> {
        let limit = self.settle_limit;
        if !self.gone.is_empty() {
            self.gone.retain(|&(at, ..)| now.since(at) <= limit);
        }
        self.watched(sample.gpus.len());
        let mut corrected: Option<Sample> = None;
        let memory = sample.memory.map(|space| (0, space));
        let gpus = sample.gpus.iter().enumerate();
        let gpus = gpus.filter_map(|(gpu, reading)| Some((gpu + 1, reading.vram?)));
        for (index, read) in memory.into_iter().chain(gpus) {
            let needs = self.needs(index, sample, holdings.clone());
            let own = self.spaces[index].own(&read, needs);
            if own == read.own {
                continue;
            }
            let meant = Space { own, others: read.used() - own, ..read };
            let corrected = corrected.get_or_insert_with(|| sample.clone());
            match index.checked_sub(1) {
                None => corrected.memory = Some(meant),
                Some(gpu) => corrected.gpus[gpu].vram = Some(meant),
            }
        }
        corrected
    }

    /// Adds up what our models take of a space.
    #[inline]
    fn needs(
        &self,
        index: usize,
        sample: &Sample,
        holdings: impl Iterator<Item = Holding>,
    ) -> Needs {
        let of = |need: Footprint, gpu: Option<u8>| match index.checked_sub(1) {
            Some(space) if gpu.map(usize::from) == Some(space) => need.vram,
            Some(_) => Bytes::ZERO,
            None => {
                let reading = gpu.and_then(|gpu| sample.gpus.get(usize::from(gpu)));
                let is_shared = reading.is_some_and(|gpu| gpu.shared);
                need.ram + if is_shared { need.vram } else { Bytes::ZERO }
            }
        };
        let mut needs = Needs::default();
        for Holding { need, gpu, phase } in holdings {
            let need = of(need, gpu);
            match phase {
                Phase::Coming => needs.coming += need,
                Phase::There => needs.there += need,
                Phase::Going => needs.going += need,
            }
        }
        needs.gone = self.gone.iter().map(|&(_, need, gpu)| of(need, gpu)).sum();
        needs
    }
}

impl Watched {
    /// Returns how much of a space's use is our models'.
    #[inline]
    fn own(&mut self, read: &Space, needs: Needs) -> Bytes {
        let is_reported = read.own > Bytes::ZERO;
        let own = if is_reported { read.own } else { self.unreported(read, needs) };
        if is_reported {
            (self.is_reported, self.is_unreported) = (true, false);
        }
        let is_coming = needs.coming > Bytes::ZERO;
        self.last =
            Some(Last { used: read.used(), own, there: needs.there, is_coming, is_reported });
        let own = if self.is_unreported { own } else { read.own };
        if self.late > Bytes::ZERO {
            self.lingering = self.lingering(own, needs);
        }
        own - self.lingering
    }

    /// Returns our part of a space's use if none of it is reported as ours.
    fn unreported(&mut self, read: &Space, needs: Needs) -> Bytes {
        let is_certain = needs.there > Bytes::ZERO;
        // If some use was reported before, there may be nothing to report yet of a load that has just begun.
        self.is_unreported |= is_certain || (needs.coming > Bytes::ZERO && !self.is_reported);
        self.is_unreported &= needs.all() > Bytes::ZERO;
        // An unloaded model does not grow: at most what it held before is left.
        let before = self.last.map_or(Bytes::ZERO, |last| last.own);
        let most = needs.held() + needs.gone.min(before);
        let own = match self.last {
            // What was there before the first sample was loaded unseen.
            None => needs.there,
            Some(last) => {
                let comes =
                    needs.coming > Bytes::ZERO || last.is_coming || needs.there > last.there;
                // If our use at the last sample has disappeared together with as much of all use, our model broke
                // before anyone reported it.
                let goes = needs.going + needs.gone > Bytes::ZERO || last.is_reported;
                let grown = if comes { read.used() - last.used } else { Bytes::ZERO };
                let shrunk = if goes { last.used - read.used() } else { Bytes::ZERO };
                last.own + grown - shrunk
            }
        };
        own.min(most).min(read.used())
    }

    /// Returns what unloaded models still use, which nothing that we do releases. It is the use beyond what is loaded,
    /// and at most what the unloaded models may have left: what a loaded model has leaked does not linger.
    fn lingering(&mut self, own: Bytes, needs: Needs) -> Bytes {
        // A model that is being loaded does not yet hold all that it will take, so it says nothing about what is left of
        // other models.
        self.late = self.late.min(own - (needs.there + needs.going));
        if self.late <= NEXT_TO_NOTHING {
            self.late = Bytes::ZERO;
        }
        let left = self.late.min(own - needs.all());
        // A model that has just gone may have held more than it should: that is still coming back too.
        if needs.gone > Bytes::ZERO { left.min(self.lingering) } else { left }
    }
}

/// What is left of an unloaded model counts as nothing up to this. Chosen: the usual tolerance of settled samples; a
/// model that has begun to leak is not mistaken for the rest of another.
const NEXT_TO_NOTHING: Bytes = Bytes::from_mib(256);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::GpuSample;

    const LIMIT: Duration = Duration::from_secs(5);

    fn gib(count: u64) -> Bytes {
        Bytes::from_gib(count)
    }

    fn need(ram: u64) -> Footprint {
        Footprint { ram: gib(ram), vram: Bytes::ZERO }
    }

    fn memory(others: u64, own: u64) -> Sample {
        let [total, others, own] = [32, others, own].map(gib);
        Sample { memory: Some(Space { total, others, own }), ..Sample::default() }
    }

    /// A machine whose memory is watched, read once a second; models are (GiB that it takes, phase).
    struct Watch {
        attribution: Attribution,
        now: Timestamp,
    }

    impl Watch {
        fn new() -> Self {
            Self { attribution: Attribution::new(LIMIT), now: Timestamp::ZERO }
        }

        /// Takes a sample of (others, own) GiB, and returns it corrected.
        fn read(&mut self, (others, own): (u64, u64), models: &[(u64, Phase)]) -> (u64, u64) {
            self.now += Duration::from_secs(1);
            let holding =
                |&(ram, phase): &(u64, Phase)| Holding { need: need(ram), gpu: None, phase };
            let sample = memory(others, own);
            let corrected =
                self.attribution.correct(self.now, &sample, &models.iter().map(holding));
            let space = corrected.unwrap_or(sample).memory.unwrap();
            (space.others.get() >> 30, space.own.get() >> 30)
        }

        fn gone(&mut self, ram: u64) {
            self.attribution.note_gone(self.now, need(ram), None);
        }
    }

    #[test]
    fn what_is_told_as_it_is_stays_so() {
        let mut watch = Watch::new();
        for reading in [(3, 0), (3, 4), (5, 9)] {
            assert_eq!(watch.read(reading, &[(9, Phase::Coming)]), reading);
        }
        // More than the model takes: it leaks, and all of that goes with it.
        assert_eq!(watch.read((5, 12), &[(9, Phase::There)]), (5, 12));
        watch.gone(9);
        assert_eq!(watch.read((5, 12), &[]), (5, 12));
        assert_eq!(watch.read((5, 0), &[]), (5, 0));
    }

    #[test]
    fn what_outlives_the_settle_limit_of_a_model_that_has_gone_is_others_until_it_is_free() {
        let mut watch = Watch::new();
        watch.read((3, 9), &[(9, Phase::There)]);
        watch.gone(9);
        for _ in 0..5 {
            assert_eq!(watch.read((3, 9), &[]), (3, 9));
        }
        assert_eq!(watch.read((3, 9), &[]), (12, 0));
        // What is loaded after that is separated, even during its load.
        assert_eq!(watch.read((3, 10), &[(2, Phase::Coming)]), (11, 2));
        assert_eq!(watch.read((3, 11), &[(2, Phase::There)]), (12, 2));
        assert_eq!(watch.read((3, 2), &[(2, Phase::There)]), (3, 2));
        assert!(watch.attribution.lingering().all(|left| left == Bytes::ZERO));
        // That memory was free once: what the next model leaks is its own.
        assert_eq!(watch.read((3, 6), &[(2, Phase::There)]), (3, 6));
    }

    #[test]
    fn where_nobody_is_told_apart_what_comes_while_we_load_is_ours_up_to_what_that_takes() {
        let mut watch = Watch::new();
        assert_eq!(watch.read((3, 0), &[]), (3, 0));
        assert_eq!(watch.read((7, 0), &[(9, Phase::Coming)]), (3, 4));
        // Others' use grows as well.
        assert_eq!(watch.read((15, 0), &[(9, Phase::There)]), (6, 9));
        assert_eq!(watch.read((10, 0), &[(9, Phase::There)]), (1, 9));
        assert_eq!(watch.read((14, 0), &[(9, Phase::There)]), (5, 9));
        // Use that disappears during an unload was ours.
        assert_eq!(watch.read((8, 0), &[(9, Phase::Going)]), (5, 3));
        watch.gone(9);
        assert_eq!(watch.read((5, 0), &[]), (5, 0));
        assert_eq!(watch.read((9, 0), &[]), (9, 0));
    }

    #[test]
    fn a_load_that_has_just_begun_says_nothing_where_our_use_was_told_before() {
        let mut watch = Watch::new();
        watch.read((3, 2), &[(2, Phase::There)]);
        watch.gone(2);
        watch.read((3, 0), &[]);
        // A game begins at the same moment.
        assert_eq!(watch.read((8, 0), &[(9, Phase::Coming)]), (8, 0));
        assert_eq!(watch.read((8, 3), &[(9, Phase::Coming)]), (8, 3));
        assert_eq!(watch.read((8, 9), &[(9, Phase::There)]), (8, 9));
        // A probe that loses sight of our use on the way is no longer believed.
        assert_eq!(watch.read((17, 0), &[(9, Phase::There)]), (8, 9));
        assert_eq!(watch.read((8, 9), &[(9, Phase::There)]), (8, 9));
    }

    #[test]
    fn what_broke_before_anybody_says_so_is_not_looked_for_in_others_use() {
        let mut watch = Watch::new();
        let (small, large) = ((2, Phase::There), (9, Phase::Coming));
        watch.read((3, 2), &[small]);
        assert_eq!(watch.read((3, 11), &[small, large]), (3, 11));
        assert_eq!(watch.read((3, 0), &[small, large]), (3, 0));
        // A game that starts at the same moment looks like a probe that loses sight of our use.
        watch.read((3, 11), &[small, large]);
        assert_eq!(watch.read((8, 0), &[small, large]), (3, 5));
    }

    #[test]
    fn each_space_is_judged_by_itself() {
        let space =
            |others, own| Some(Space { total: gib(24), others: gib(others), own: gib(own) });
        let gpu = |vram| GpuSample { vram, ..GpuSample::default() };
        let mut sample = memory(3, 2);
        sample.gpus = vec![gpu(space(1, 0)), gpu(space(1, 0))];
        let on_second = |phase| {
            let need = Footprint { ram: gib(2), vram: gib(18) };
            std::iter::once(Holding { need, gpu: Some(1), phase })
        };
        let mut attribution = Attribution::new(LIMIT);
        assert_eq!(attribution.correct(Timestamp::ZERO, &sample, &std::iter::empty()), None);
        sample.gpus[1].vram = space(19, 0);
        let at = Timestamp::from_secs(1);
        let meant = attribution.correct(at, &sample, &on_second(Phase::There)).unwrap();
        assert_eq!((meant.memory, meant.gpus[0].vram), (sample.memory, space(1, 0)));
        assert_eq!(meant.gpus[1].vram, space(1, 18));
    }
}
