//! Where a model of which nobody says what it uses has gone: what came at its load.
//!
//! A server whose processes are not known may put a model into main memory or onto a GPU, and maps its file or reads it. What the
//! catalog says of that is a guess. What all use of a space gained from the command to load to the first reading after the load is
//! the model's, up to what it is to take in all.

use std::collections::BTreeMap;

use tiershift_core::model::{Footprint, ModelId};
use tiershift_core::sample::Sample;
use tiershift_core::units::{Bytes, Percent};

/// The loads that are under way, and the last reading.
#[derive(Debug, Default)]
pub(super) struct LoadSteps {
    last: Footprint,
    before: BTreeMap<ModelId, Load>,
}

#[derive(Clone, Copy, Debug)]
struct Load {
    before: Footprint,
    is_complete: bool,
}

impl LoadSteps {
    /// Takes that a model is to be loaded.
    pub(super) fn begin(&mut self, model: &ModelId) {
        self.before.insert(model.clone(), Load { before: self.last, is_complete: false });
    }

    /// Takes that it is loaded.
    pub(super) fn complete(&mut self, model: &ModelId) {
        if let Some(load) = self.before.get_mut(model) {
            load.is_complete = true;
        }
    }

    /// Takes that it has gone, or that its use is known otherwise.
    pub(super) fn forget(&mut self, model: &ModelId) {
        self.before.remove(model);
    }

    /// Takes a reading as the probe made it, and returns what came with the loads that are complete by it. `need` says what a
    /// model is to take in all; what came with less than half of that says nothing: its file was there already, or something
    /// else went at the same time.
    pub(super) fn read(
        &mut self,
        sample: &Sample,
        need: impl Fn(&ModelId) -> Option<Footprint>,
    ) -> Vec<(ModelId, Footprint)> {
        self.last = Footprint {
            ram: sample.memory.map_or(Bytes::ZERO, |space| space.used()),
            vram: sample.gpus.iter().filter_map(|gpu| gpu.vram).map(|space| space.used()).sum(),
        };
        let last = self.last;
        let came = |model: &ModelId, before: Footprint| {
            let need = need(model)?;
            let all = need.ram + need.vram;
            let vram = (last.vram - before.vram).min(all);
            let ram = (last.ram - before.ram).min(all - vram);
            (ram + vram >= all.share(Percent::new(50))).then_some(Footprint { ram, vram })
        };
        let mut found = Vec::new();
        self.before.retain(|model, load| {
            if load.is_complete {
                found.extend(came(model, load.before).map(|came| (model.clone(), came)));
            }
            !load.is_complete
        });
        found
    }
}

#[cfg(test)]
mod tests {
    use tiershift_core::sample::{GpuSample, Space};

    use super::*;

    /// A reading of a machine whose whole use of main memory and of its GPU is this, in GiB.
    fn reading(ram: u64, vram: u64) -> Sample {
        let space = |total, used| {
            Some(Space {
                total: Bytes::from_gib(total),
                others: Bytes::from_gib(used),
                own: Bytes::ZERO,
            })
        };
        let gpu = GpuSample { vram: space(24, vram), ..GpuSample::default() };
        Sample { memory: space(64, ram), gpus: vec![gpu], ..Sample::default() }
    }

    /// Loads a model that is to take 8 GiB of main memory, between these two readings.
    fn came(before: (u64, u64), after: (u64, u64)) -> Vec<(u64, u64)> {
        let need = |_: &ModelId| Some(Footprint { ram: Bytes::from_gib(8), vram: Bytes::ZERO });
        let (mut steps, model) = (LoadSteps::default(), ModelId::from("m"));
        assert!(steps.read(&reading(before.0, before.1), need).is_empty());
        steps.begin(&model);
        assert!(steps.read(&reading(after.0, after.1), need).is_empty(), "it is on its way");
        steps.complete(&model);
        let found = steps.read(&reading(after.0, after.1), need);
        assert!(steps.read(&reading(50, 20), need).is_empty(), "it is asked once");
        let gib = |bytes: Bytes| bytes.get() >> 30;
        found.into_iter().map(|(_, came)| (gib(came.ram), gib(came.vram))).collect()
    }

    #[test]
    fn a_model_is_where_use_has_grown_at_its_load() {
        assert_eq!(came((10, 2), (18, 2)), [(8, 0)]);
        // The catalog says main memory, and it went onto the GPU.
        assert_eq!(came((10, 2), (11, 9)), [(1, 7)]);
        // No more than it is to take, though somebody else has come too.
        assert_eq!(came((10, 2), (30, 2)), [(8, 0)]);
        // Its file was mapped, or another model was unloaded at the same time: that says nothing.
        assert_eq!(came((10, 2), (12, 2)), []);
        assert_eq!(came((10, 2), (4, 2)), []);
    }
}
