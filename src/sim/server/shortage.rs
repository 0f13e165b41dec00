//! Models that die for lack of memory.

use tiershift_core::event::Outcome;
use tiershift_core::model::Footprint;
use tiershift_core::time::Timestamp;
use tiershift_core::units::Bytes;

use crate::sim::server::SimulatedServer;
use crate::sim::server::instance::Presence;

impl SimulatedServer {
    /// Lets allocations fail on a GPU whose memory is overused by `over`: loads, the latest first, and then the models
    /// that are working there, the largest first, until the rest fits. An idle model allocates nothing and stays.
    /// Returns whether anything died.
    #[cold]
    pub fn fail_allocations(&mut self, now: Timestamp, gpu: u8, mut over: Bytes) -> bool {
        let mut has_died = false;
        while over > Bytes::ZERO
            && let Some(index) = self.loading_on(gpu)
        {
            over = over - self.held_by(now, index).vram;
            // It was never given the memory, so that nothing comes back late.
            self.instances[index].clear();
            let model = self.catalog.models()[index].id.clone();
            let error = "the GPU has not enough memory for the model".to_owned();
            self.outcomes.push_back(Outcome::LoadFailed { model, error });
            self.changed = true;
            has_died = true;
        }
        // Memory that dead models have yet to give back is no reason to die.
        let late = self.lingering.iter().filter(|&&(_, _, on)| on == Some(gpu));
        over = over - late.map(|(_, footprint, _)| footprint.vram).sum();
        while over > Bytes::ZERO
            && let Some(index) = self.largest_at_work_on(now, gpu)
        {
            over = over - self.held_by(now, index).vram;
            self.kill(now, index, "the GPU has no memory left");
            has_died = true;
        }
        self.look_ahead();
        has_died
    }

    /// Kills the model that holds the most main memory when main memory and swap lack `over`. Does nothing if the
    /// memory that dead models have yet to give back is enough. Returns whether it killed.
    #[cold]
    pub fn kill_largest(&mut self, now: Timestamp, over: Bytes) -> bool {
        let late: Bytes = self
            .lingering
            .iter()
            .map(|(_, footprint, gpu)| self.in_main_memory(*footprint, *gpu))
            .sum();
        let held = |&index: &usize| {
            self.in_main_memory(self.held_by(now, index), self.instances[index].gpu)
        };
        let largest = (0..self.instances.len())
            .filter(|index| held(index) > Bytes::ZERO)
            .max_by_key(|index| (held(index), std::cmp::Reverse(*index)));
        let Some(index) = largest.filter(|_| over > late) else { return false };
        self.kill(now, index, "killed: the machine was out of memory");
        self.look_ahead();
        true
    }

    /// Ends a model's process with its requests.
    pub(super) fn kill(&mut self, now: Timestamp, index: usize, error: &str) {
        self.changed = true;
        self.fail_active(index, error);
        self.release(now, index);
        let model = self.catalog.models()[index].id.clone();
        self.outcomes.push_back(Outcome::Crashed { model, error: error.to_owned() });
    }

    /// Breaks the requests that run on a model.
    pub(super) fn fail_active(&mut self, index: usize, error: &str) {
        for active in std::mem::take(&mut self.instances[index].active) {
            let error = error.to_owned();
            self.outcomes.push_back(Outcome::Failed { request: active.id, error });
        }
    }

    fn held_by(&self, now: Timestamp, index: usize) -> Footprint {
        self.instances[index].holds(&self.catalog.models()[index], now).unwrap_or_default()
    }

    fn in_main_memory(&self, held: Footprint, gpu: Option<u8>) -> Bytes {
        let shared = gpu.is_some_and(|gpu| self.surroundings.gpu(gpu).shared);
        held.ram + if shared { held.vram } else { Bytes::ZERO }
    }

    /// Returns the load that began last on a GPU.
    fn loading_on(&self, gpu: u8) -> Option<usize> {
        let is_loading =
            |presence| matches!(presence, Presence::Loading { .. } | Presence::Stuck { .. });
        (0..self.instances.len())
            .filter(|&index| self.instances[index].gpu == Some(gpu))
            .filter(|&index| is_loading(self.instances[index].presence))
            .max_by_key(|&index| self.instances[index].since)
    }

    fn largest_at_work_on(&self, now: Timestamp, gpu: u8) -> Option<usize> {
        (0..self.instances.len())
            .filter(|&index| {
                let instance = &self.instances[index];
                instance.gpu == Some(gpu) && !instance.active.is_empty()
            })
            .max_by_key(|&index| (self.held_by(now, index).vram, std::cmp::Reverse(index)))
    }
}
