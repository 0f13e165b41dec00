//! Whether a model fits beside what is there, by the freshest sample.

use crate::model::{Footprint, Model};
use crate::sample::{Resource, Sample, Space};
use crate::settings::Settings;
use crate::units::Bytes;

/// The spaces of the last sample.
#[derive(Clone, Debug, Default)]
pub(crate) struct Room {
    memory: Option<Space>,
    vram: Vec<Space>,
}

/// What our loaded models may grow to, whatever they use at the moment.
#[derive(Clone, Debug, Default)]
pub(crate) struct Resident {
    ram: Bytes,
    vram: Vec<Bytes>,
}

/// What is short.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Short;

impl Resident {
    pub(crate) fn add(&mut self, footprint: Footprint, gpu: Option<u8>) {
        self.ram += footprint.ram;
        if let Some(gpu) = gpu.map(usize::from) {
            if self.vram.len() <= gpu {
                self.vram.resize(gpu + 1, Bytes::ZERO);
            }
            self.vram[gpu] += footprint.vram;
        }
    }
}

impl Room {
    pub(crate) fn observe(&mut self, sample: &Sample) {
        self.memory = sample.memory;
        self.vram.clear();
        self.vram.extend(sample.gpus.iter().map(|gpu| gpu.vram.unwrap_or_default()));
    }

    /// Returns whether a constrained space that we hold some of is used beyond its degrade limit.
    pub(crate) fn is_over(&self, settings: &Settings) -> bool {
        let over = |space: &Space| {
            space.own > Bytes::ZERO && space.used() > settings.degrade_limit(space.total)
        };
        (settings.constrains(Resource::Memory) && self.memory.iter().any(over))
            || (settings.constrains(Resource::Vram) && self.vram.iter().any(over))
    }

    /// Returns the GPU to load `model` on (`None`: the processor).
    ///
    /// With `resident`, own use counts as the larger of what is read and what the loaded models may grow to:
    /// memory of a model that has gone but shows still is in the way. Without, own use is left out.
    ///
    /// # Errors
    /// When it does not fit under `limit_of(total)` anywhere.
    pub(crate) fn gpu_for(
        &self,
        model: &Model,
        resident: Option<&Resident>,
        limit_of: impl Fn(Bytes) -> Bytes,
    ) -> Result<Option<u8>, Short> {
        let need = model.footprint();
        let taken = |space: &Space, resident: Option<Bytes>| {
            space.others + resident.map_or(Bytes::ZERO, |grown| space.own.max(grown))
        };
        if let Some(memory) = &self.memory {
            let own = resident.map(|resident| resident.ram);
            let after = taken(memory, own) + need.ram + model.load_transient;
            if after > limit_of(memory.total) {
                return Err(Short);
            }
        }
        if need.vram == Bytes::ZERO {
            return Ok(None);
        }
        let best = self
            .vram
            .iter()
            .enumerate()
            .filter_map(|(gpu, space)| {
                let own = resident.map(|r| r.vram.get(gpu).copied().unwrap_or(Bytes::ZERO));
                let after = taken(space, own) + need.vram;
                let limit = limit_of(space.total);
                (after <= limit).then_some((limit - after, gpu))
            })
            // The most room; the first GPU among equals.
            .max_by_key(|&(left, gpu)| (left, std::cmp::Reverse(gpu)));
        match best {
            Some((_, gpu)) => Ok(u8::try_from(gpu).ok()),
            None => Err(Short),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::Catalog;
    use crate::sample::GpuSample;

    fn gib(count: u64) -> Bytes {
        Bytes::from_gib(count)
    }

    fn room(others: u64, own: u64, gpus: &[u64]) -> Room {
        let space =
            |total, others, own| Space { total: gib(total), others: gib(others), own: gib(own) };
        let gpus = gpus
            .iter()
            .map(|&others| GpuSample { vram: Some(space(24, others, 0)), ..GpuSample::default() })
            .collect();
        let mut room = Room::default();
        room.observe(&Sample { memory: Some(space(16, others, own)), gpus, ..Sample::default() });
        room
    }

    #[test]
    fn memory_of_a_model_that_has_gone_is_in_the_way_until_it_shows_no_more() {
        let catalog = Catalog::relative_to(gib(16));
        let large = &catalog.models()[2];
        let all = |total| total;
        assert_eq!(room(2, 0, &[]).gpu_for(large, Some(&Resident::default()), all), Ok(None));
        assert_eq!(room(2, 9, &[]).gpu_for(large, Some(&Resident::default()), all), Err(Short));
        assert_eq!(room(2, 9, &[]).gpu_for(large, None, all), Ok(None));
    }

    #[test]
    fn a_model_goes_to_the_gpu_with_the_most_room_and_the_first_among_equals() {
        let mut model = Catalog::relative_to(gib(16)).models()[0].clone();
        model.vram = gib(10);
        let place = |gpus: &[u64]| room(1, 0, gpus).gpu_for(&model, None, |total| total);
        assert_eq!(place(&[12, 3]), Ok(Some(1)));
        assert_eq!(place(&[3, 3]), Ok(Some(0)));
        assert_eq!(place(&[20, 20]), Err(Short));
        assert_eq!(place(&[]), Err(Short));
    }
}
