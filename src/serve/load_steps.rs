//! Where a model is, if its use is not reported: from the growth at its load.
//!
//! A server whose processes are not known may put a model into main memory or onto a GPU, and may map or read its file.
//! The catalog's figures for that are a guess. What the whole use of a space gained from the load command to the first
//! sample after the load belongs to the model, up to what it should take in all.

use std::collections::BTreeMap;

use tiershift_core::model::{Footprint, ModelId};
use tiershift_core::sample::Sample;
use tiershift_core::units::{Bytes, Percent};

/// The loads that are under way, and the last sample.
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
    /// Notes that the load of a model begins.
    pub(super) fn begin(&mut self, model: &ModelId) {
        self.before.insert(model.clone(), Load { before: self.last, is_complete: false });
    }

    /// Notes that it is loaded.
    pub(super) fn complete(&mut self, model: &ModelId) {
        if let Some(load) = self.before.get_mut(model) {
            load.is_complete = true;
        }
    }

    /// Notes that it has gone, or that its use is known otherwise.
    pub(super) fn forget(&mut self, model: &ModelId) {
        self.before.remove(model);
    }

    /// Takes a sample as the probe made it, and returns the growth of the loads that were complete by then. `need` is
    /// what a model should take in all; growth of less than half of that is no evidence: its file was already in
    /// memory, or something else went at the same time.
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

    /// A sample of a machine with this use of main memory and of its GPU, in GiB.
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

    /// Loads a model that should take 8 GiB of main memory, between these two samples.
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
        // The catalog states main memory, but it went onto the GPU.
        assert_eq!(came((10, 2), (11, 9)), [(1, 7)]);
        // At most what it should take, though another program has grown too.
        assert_eq!(came((10, 2), (30, 2)), [(8, 0)]);
        // Its file was mapped, or another model was unloaded at the same time: that is no evidence.
        assert_eq!(came((10, 2), (12, 2)), []);
        assert_eq!(came((10, 2), (4, 2)), []);
    }
}
