//! Whether models fit beside others' use: the one question that the account of a run and its optimum both ask.

use tiershift_core::model::Model;
use tiershift_core::sample::{Resource, Sample, Space};
use tiershift_core::settings::Settings;
use tiershift_core::units::Bytes;

/// Memory that a model wants.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Need {
    pub(crate) ram: Bytes,
    pub(crate) vram: Bytes,
}

impl Need {
    /// Returns what a model takes with a full KV cache.
    pub(crate) fn of(model: &Model) -> Self {
        let footprint = model.footprint();
        Self { ram: footprint.ram, vram: footprint.vram }
    }

    /// Returns what it takes while it loads: the load transient on top.
    pub(crate) fn of_load(model: &Model) -> Self {
        let need = Self::of(model);
        Self { ram: need.ram + model.load_transient, ..need }
    }
}

/// Returns whether all of `needs` fit together beside others' use, under the degrade limit of every constrained space.
/// Own use is left out. Each model in video memory may be on any GPU. A space that is needed and was not read has
/// no room.
pub(crate) fn fits(settings: &Settings, sample: &Sample, needs: &[Need]) -> bool {
    let room =
        |space: &Space| settings.degrade_limit(space.total).get().checked_sub(space.others.get());
    let ram = needs.iter().fold(Bytes::ZERO, |sum, need| sum + need.ram);
    if ram > Bytes::ZERO && settings.constrains(Resource::Memory) {
        let left = sample.memory.as_ref().and_then(room);
        if left.is_none_or(|left| ram.get() > left) {
            return false;
        }
    }
    let mut vram = needs.iter().map(|need| need.vram.get()).filter(|&vram| vram > 0).peekable();
    if vram.peek().is_none() || !settings.constrains(Resource::Vram) {
        return true;
    }
    let mut rooms: Vec<u64> =
        sample.gpus.iter().filter_map(|gpu| gpu.vram.as_ref().and_then(room)).collect();
    place(&mut rooms, &vram.collect::<Vec<_>>())
}

/// Returns whether each of `needs` finds a room; several may share one.
fn place(rooms: &mut [u64], needs: &[u64]) -> bool {
    let Some((first, rest)) = needs.split_first() else { return true };
    (0..rooms.len()).any(|gpu| {
        let Some(left) = rooms[gpu].checked_sub(*first) else { return false };
        let before = std::mem::replace(&mut rooms[gpu], left);
        let found = place(rooms, rest);
        rooms[gpu] = before;
        found
    })
}

#[cfg(test)]
mod tests {
    use tiershift_core::machine::MachineClass;
    use tiershift_core::sample::GpuSample;
    use tiershift_core::settings::RawSettings;

    use super::*;

    #[track_caller]
    fn check(memory: Option<u64>, gpus: &[u64], needs: &[(u64, u64)], want: bool) {
        let settings = Settings::new(RawSettings::default(), MachineClass::MidRange).unwrap();
        let space = |others| Space {
            total: Bytes::from_gib(20),
            others: Bytes::from_gib(others),
            own: Bytes::from_gib(20),
        };
        let gpu = |&others: &u64| GpuSample { vram: Some(space(others)), ..GpuSample::default() };
        let gpus = gpus.iter().map(gpu).collect();
        let sample = Sample { memory: memory.map(space), gpus, ..Sample::default() };
        let need = |&(ram, vram)| Need { ram: Bytes::from_gib(ram), vram: Bytes::from_gib(vram) };
        let needs: Vec<Need> = needs.iter().map(need).collect();
        assert_eq!(fits(&settings, &sample, &needs), want, "{memory:?} {needs:?}");
    }

    #[test]
    fn a_model_fits_up_to_the_degrade_limit_whatever_we_use_ourselves() {
        check(Some(8), &[], &[(10, 0)], true);
        check(Some(8), &[], &[(11, 0)], false);
        check(Some(8), &[], &[(4, 0), (7, 0)], false);
        check(Some(19), &[], &[], true);
    }

    #[test]
    fn models_in_video_memory_find_their_gpus_and_what_was_not_read_has_no_room() {
        check(Some(0), &[17, 3], &[(1, 15)], true);
        check(Some(0), &[17, 3], &[(1, 16)], false);
        // The first must make way for the second, which fits on one GPU only.
        check(Some(0), &[8, 3], &[(1, 10), (1, 15)], true);
        check(Some(0), &[8, 3], &[(1, 10), (1, 15), (0, 1)], false);
        check(None, &[3], &[(1, 1)], false);
        check(None, &[3], &[(0, 1)], true);
        check(Some(0), &[], &[(0, 1)], false);
    }
}
