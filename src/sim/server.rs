//! A model server that exists only in virtual time: loads, unloads, prefills and decodes at catalog speeds.
//!
//! Requests on one model share it: each further one slows the others, but less than in proportion, as batching does.
//! Others' use of the processor slows those that run on it, others' use of a GPU those on that GPU; memory beyond its
//! size slows those that use it, or kills them. Faults act here, so that the controller meets them as it would meet a
//! real server's: through outcomes, or through their absence.

mod instance;
mod shortage;
mod strikes;
mod surroundings;

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use tiershift_core::backend::Backend;
use tiershift_core::catalog::Catalog;
use tiershift_core::event::{Command, Outcome, Tried};
use tiershift_core::model::{Footprint, Model, ModelId};
use tiershift_core::request::{Request, RequestId};
use tiershift_core::sample::Resource;
use tiershift_core::time::{Timestamp, earliest, from_secs_f64, nanos};
use tiershift_core::units::{Bytes, Percent};

use crate::sim::fault::{Fault, FaultKind};
use crate::sim::physics::Physics;
use crate::sim::rng::{Seed, Stream};
use crate::sim::server::instance::{Active, Hang, Instance, Presence};
use crate::sim::server::strikes::{
    Strikes, is_grab, is_leak, is_load_fail, is_load_half, is_load_slow, is_release_lag,
    is_request_hang, is_sticky, is_unload_lie, is_unload_unconfirmed,
};

pub use surroundings::{GpuSurroundings, Surroundings};

/// The simulated server.
#[derive(Clone, Debug)]
pub struct SimulatedServer {
    catalog: Catalog,
    physics: Physics,
    faults: Strikes,
    instances: Vec<Instance>,
    /// Memory of unloaded models that is not back yet: until when, how much, on which GPU.
    lingering: Vec<(Timestamp, Footprint, Option<u8>)>,
    /// Memory taken by other programs at the moment of a load.
    grabs: Vec<(Timestamp, Footprint, Option<u8>)>,
    requests: BTreeMap<RequestId, Request>,
    outcomes: VecDeque<Outcome>,
    surroundings: Surroundings,
    /// Whether what our models hold or take may have changed since the last query.
    changed: bool,
    /// The earliest moment at which there is an outcome to report or memory to free; [`Timestamp::ZERO`] while an
    /// outcome waits. Stored, because it is needed at every step and few of them change it.
    next: Option<Timestamp>,
    /// Whether it works on anything that depends on the surroundings; stored for the same reason.
    working: bool,
    /// Whether a leak is growing; stored for the same reason.
    leaking: bool,
    load_stream: Stream,
    speed_stream: Stream,
    lag_stream: Stream,
}

impl SimulatedServer {
    /// Builds a server with nothing loaded.
    pub fn new(catalog: &Catalog, physics: &Physics, faults: &[Fault], seed: Seed) -> Self {
        let instance = |_: &Model| Instance::new(physics.page_cache_warm);
        Self {
            instances: catalog.models().iter().map(instance).collect(),
            catalog: catalog.clone(),
            physics: physics.clone(),
            faults: Strikes::new(faults, seed.stream("server.fault")),
            lingering: Vec::new(),
            grabs: Vec::new(),
            requests: BTreeMap::new(),
            outcomes: VecDeque::new(),
            surroundings: Surroundings::default(),
            changed: true,
            next: None,
            working: false,
            leaking: false,
            load_stream: seed.stream("server.load"),
            speed_stream: seed.stream("server.speed"),
            lag_stream: seed.stream("server.release-lag"),
        }
    }

    /// Announces a request, so that a start command can name it.
    pub fn announce(&mut self, request: &Request) {
        self.requests.insert(request.id, request.clone());
    }

    /// Forgets a request that has ended.
    pub fn forget(&mut self, request: RequestId) {
        self.requests.remove(&request);
    }

    /// Returns whether something runs, so that surroundings matter.
    pub fn is_busy(&self) -> bool {
        self.instances.iter().any(|instance| !instance.active.is_empty())
    }

    /// Returns whether it works on anything that depends on the surroundings: a request, or a load, whose end depends
    /// on how short memory is then.
    pub fn is_working(&self) -> bool {
        self.working
    }

    /// Sets new surroundings; speeds change from `now` on.
    pub fn set_surroundings(&mut self, now: Timestamp, surroundings: &Surroundings) {
        if *surroundings == self.surroundings {
            return;
        }
        // If nothing runs, there is nothing to advance, and no appointment depends on the speed.
        if !self.is_busy() {
            self.surroundings.clone_from(surroundings);
            return;
        }
        self.changed = true;
        for index in 0..self.instances.len() {
            self.progress(now, index);
        }
        self.surroundings.clone_from(surroundings);
        for index in 0..self.instances.len() {
            self.reschedule(now, index);
        }
        self.look_ahead();
    }

    /// Returns whether what our models hold or take may have changed since [`SimulatedServer::take_changed`].
    pub fn has_changed(&self) -> bool {
        self.changed || self.leaking
    }

    /// Returns the same as [`SimulatedServer::has_changed`], and starts over.
    pub fn take_changed(&mut self) -> bool {
        let changed = self.has_changed();
        self.changed = false;
        changed
    }

    /// Returns the main memory that our models hold, including what lingers.
    pub fn ram(&self, now: Timestamp) -> Bytes {
        let resident: Bytes = self.held(now).map(|(footprint, _)| footprint.ram).sum();
        let late: Bytes = self.lingering.iter().map(|(_, footprint, _)| footprint.ram).sum();
        resident + late
    }

    /// Returns the video memory that our models hold on a GPU.
    pub fn vram(&self, now: Timestamp, gpu: u8) -> Bytes {
        let here = |on: Option<u8>| on == Some(gpu);
        let resident: Bytes = self.held(now).filter(|&(_, on)| here(on)).map(|(f, _)| f.vram).sum();
        let late: Bytes =
            self.lingering.iter().filter(|&&(_, _, on)| here(on)).map(|(_, f, _)| f.vram).sum();
        resident + late
    }

    /// Returns what other programs took at the moment of a load, in addition to the background.
    pub fn grabbed(&self, gpu: Option<u8>) -> Bytes {
        let taken = self.grabs.iter().filter(|&&(_, _, on)| on == gpu);
        taken.map(|(_, f, _)| if gpu.is_some() { f.vram } else { f.ram }).sum()
    }

    /// Returns our own share of the processors: all that others leave while something runs on them.
    pub fn cpu_own(&self) -> Percent {
        let runs = self
            .catalog
            .models()
            .iter()
            .zip(&self.instances)
            .any(|(model, instance)| model.vram == Bytes::ZERO && !instance.active.is_empty());
        if runs { Percent::ONE_HUNDRED - self.surroundings.cpu_others } else { Percent::ZERO }
    }

    /// Returns our own share of a GPU: all that others leave of it while something runs there.
    pub fn gpu_own(&self, gpu: u8) -> Percent {
        let runs = self.instances.iter().any(|i| i.gpu == Some(gpu) && !i.active.is_empty());
        let others = self.surroundings.gpu(gpu).others;
        if runs { Percent::ONE_HUNDRED - others } else { Percent::ZERO }
    }

    /// Kills the process of a model, or of every model.
    pub fn crash(&mut self, now: Timestamp, model: Option<&str>) {
        self.changed = true;
        for index in 0..self.instances.len() {
            let id = self.catalog.models()[index].id.as_str();
            let meant = model.is_none_or(|name| name == id);
            if meant && self.instances[index].presence != Presence::Absent {
                self.kill(now, index, "the model's process died");
            }
        }
        self.look_ahead();
    }

    /// Kills every model on a GPU that is lost.
    pub fn lose_gpu(&mut self, now: Timestamp, gpu: u8) {
        for index in 0..self.instances.len() {
            if self.instances[index].gpu == Some(gpu) {
                self.kill(now, index, "the GPU is lost");
            }
        }
        self.look_ahead();
    }

    /// Shifts every appointment by a sleep: while the machine sleeps nothing runs, and nothing is late.
    pub fn sleep(&mut self, span: Duration) {
        for instance in &mut self.instances {
            instance.shift(span);
        }
        for (until, ..) in self.lingering.iter_mut().chain(&mut self.grabs) {
            *until += span;
        }
        self.look_ahead();
    }

    fn held(&self, now: Timestamp) -> impl Iterator<Item = (Footprint, Option<u8>)> + '_ {
        self.catalog.models().iter().zip(&self.instances).filter_map(move |(model, instance)| {
            instance.holds(model, now).map(|footprint| (footprint, instance.gpu))
        })
    }

    fn load(&mut self, now: Timestamp, index: usize, gpu: Option<u8>) {
        let model = self.catalog.models()[index].clone();
        let name = model.id.as_str();
        if gpu.is_some_and(|gpu| self.faults.has_lost(now, gpu)) {
            let error = "the GPU is lost".to_owned();
            self.outcomes.push_back(Outcome::LoadFailed { model: model.id, error });
            return;
        }
        let cacheable = self.surroundings.free_memory.share(self.physics.page_cache_share);
        let instance = &self.instances[index];
        let warm = instance.cached && (instance.warm_start || cacheable >= model.footprint().ram);
        let usual = if warm { model.load_warm } else { model.load_cold };
        let mut takes = self.load_stream.jitter(usual, self.physics.load_jitter);
        if let Some(FaultKind::LoadSlow { factor, .. }) =
            self.faults.strikes(now, name, is_load_slow)
        {
            takes = from_secs_f64(takes.as_secs_f64() * factor);
        }
        if let Some(FaultKind::OutsideGrab { resource, gpu, amount, hold, .. }) =
            self.faults.strikes(now, name, is_grab)
        {
            let (footprint, on) = match resource {
                Resource::Vram => (Footprint { ram: Bytes::ZERO, vram: amount.0 }, Some(gpu)),
                Resource::Memory | Resource::Cpu | Resource::Gpu | Resource::Pressure => {
                    (Footprint { ram: amount.0, vram: Bytes::ZERO }, None)
                }
            };
            self.grabs.push((now + hold.0, footprint, on));
        }
        let half = self.faults.strikes(now, name, is_load_half);
        let fails = self.faults.strikes(now, name, is_load_fail).is_some();
        let leak = match self.faults.strikes(now, name, is_leak) {
            Some(FaultKind::Leak { per_minute, .. }) => Some(per_minute.0),
            _ => None,
        };
        let instance = &mut self.instances[index];
        instance.gpu = gpu;
        instance.leak = leak;
        instance.since = now;
        instance.cached = true;
        instance.presence = Presence::Loading { fails };
        instance.due = Some(if fails { now + takes / 2 } else { now + takes });
        let mut gets_on_for = if fails { takes / 2 } else { takes };
        if let Some(FaultKind::LoadHalf { share, .. }) = half {
            instance.presence = Presence::Stuck { share: share.0 };
            instance.due = None;
            gets_on_for = from_secs_f64(takes.as_secs_f64() * share.0.fraction());
        }
        // The first look shows the progress until then, even for a load that has got stuck.
        instance.gets_on_until = now + gets_on_for;
        let ends_before = instance.due.is_some_and(|due| due <= now + FIRST_LOOK);
        instance.gets_on = Some(now + FIRST_LOOK).filter(|_| !ends_before);
    }

    fn unload(&mut self, now: Timestamp, index: usize) {
        let model = &self.catalog.models()[index];
        let instance = &mut self.instances[index];
        match instance.presence {
            Presence::Absent => {
                let model = model.id.clone();
                self.confirm_unload(now, model);
            }
            Presence::Loading { .. } | Presence::Stuck { .. } | Presence::Ready => {
                (instance.gets_on, instance.tried) = (None, None);
                instance.presence = Presence::Unloading;
                instance.due = Some(now + model.unload);
            }
            Presence::Unloading => {}
        }
    }

    /// Reports that a model is unloaded, unless the answer is lost on the way.
    fn confirm_unload(&mut self, now: Timestamp, model: ModelId) {
        if self.faults.strikes(now, model.as_str(), is_unload_unconfirmed).is_none() {
            self.outcomes.push_back(Outcome::Unloaded { model });
        }
    }

    /// Releases a model's memory, late.
    fn release(&mut self, now: Timestamp, index: usize) {
        let model = self.catalog.models()[index].clone();
        let held = self.instances[index].holds(&model, now).unwrap_or_default();
        let gpu = self.instances[index].gpu;
        let (least, most) = match self.faults.strikes(now, model.id.as_str(), is_release_lag) {
            Some(FaultKind::ReleaseLag { min, max }) => (min.0, max.0),
            _ => (self.physics.release_lag_min, self.physics.release_lag_max),
        };
        let spread = nanos(most.saturating_sub(least));
        let lag = least + Duration::from_nanos(self.lag_stream.below(spread.saturating_add(1)));
        let lag = match self.faults.strikes(now, model.id.as_str(), is_unload_lie) {
            Some(FaultKind::UnloadLies { hold, .. }) => hold.0,
            _ => lag,
        };
        if !lag.is_zero() {
            self.lingering.push((now + lag, held, gpu));
        }
        self.instances[index].clear();
    }

    fn start(&mut self, now: Timestamp, id: RequestId, model: &ModelId) {
        let Some(index) = self.place(model) else { return };
        let Some(request) = self.requests.get(&id) else {
            let error = "the request is not known".to_owned();
            self.outcomes.push_back(Outcome::Failed { request: id, error });
            return;
        };
        if self.instances[index].presence != Presence::Ready {
            let error = format!("model \"{model}\" is not loaded");
            self.outcomes.push_back(Outcome::Failed { request: id, error });
            return;
        }
        // As in llama-server: a prompt that the context does not hold is the client's mistake, a reply ends when the
        // context is full.
        let context = self.catalog.models()[index].context_tokens;
        let prompt = request.prompt_tokens;
        if prompt.saturating_add(request.output_tokens.min(1)) > context {
            self.outcomes.push_back(Outcome::Cancelled { request: id });
            return;
        }
        let tokens = (prompt, request.output_tokens.min(context - prompt));
        self.progress(now, index);
        let shape = self.physics.speed_jitter;
        let speed = if shape == 0.0 { 1.0 } else { self.speed_stream.log_normal(1.0, shape) };
        let mut active = Active::new(id, tokens, &self.catalog.models()[index], now, speed);
        if let Some(FaultKind::RequestHang { deaf, .. }) =
            self.faults.strikes(now, model.as_str(), is_request_hang)
        {
            active.hang = Some(Hang { deaf });
        }
        self.instances[index].active.push(active);
        self.reschedule(now, index);
    }

    /// Tries a model at its present speed. It ends too soon to affect running requests.
    fn try_out(&mut self, now: Timestamp, model: &ModelId) {
        let Some(index) = self.place(model) else { return };
        if self.instances[index].presence == Presence::Ready {
            let beside = self.instances[index].active.len();
            let alone = self.speed_of(index) / side_by_side(beside.max(1), self.physics.batch_gain);
            let speed = alone * side_by_side(beside + 1, self.physics.batch_gain);
            let per_second = self.catalog.models()[index].decode_per_second * speed;
            let took = from_secs_f64(f64::from(TRY_TOKENS) / per_second).min(TRY_LIMIT);
            self.instances[index].tried = Some((now + took, took));
        }
    }

    fn cancel(&mut self, now: Timestamp, id: RequestId) {
        for index in 0..self.instances.len() {
            if let Some(place) = self.instances[index].active.iter().position(|a| a.id == id) {
                if self.instances[index].active[place].hang.is_some_and(|hang| hang.deaf) {
                    return;
                }
                self.progress(now, index);
                self.instances[index].active.remove(place);
                self.outcomes.push_back(Outcome::Cancelled { request: id });
                self.reschedule(now, index);
                return;
            }
        }
        // It has already ended, and its outcome is on the way.
    }

    /// Advances the requests of a model to `now`.
    fn progress(&mut self, now: Timestamp, index: usize) {
        let model = &self.catalog.models()[index];
        let speed = self.speed_of(index);
        for done in self.instances[index].progress(now, model, speed) {
            self.outcomes.push_back(done);
        }
    }

    fn reschedule(&mut self, now: Timestamp, index: usize) {
        let speed = self.speed_of(index);
        let model = &self.catalog.models()[index];
        self.instances[index].reschedule(now, model, speed);
    }

    /// Returns the part of its catalog speed at which a model runs its requests side by side.
    fn speed_of(&self, index: usize) -> f64 {
        let (around, instance) = (&self.surroundings, &self.instances[index]);
        let (others, contention) = match instance.gpu {
            Some(gpu) => (around.gpu(gpu).others, self.physics.gpu_contention),
            None => (around.cpu_others, self.physics.cpu_contention),
        };
        let left = 1.0 - others.fraction().min(1.0) * contention.fraction();
        let one = left.max(LEAST_SPEED) * self.memory_speed(index) * instance.stickiness;
        one * side_by_side(instance.active.len().max(1), self.physics.batch_gain)
    }

    /// Returns the part of its speed that memory beyond its size leaves to a model.
    fn memory_speed(&self, index: usize) -> f64 {
        let swapped = self.surroundings.swapped;
        let gpu = self.instances[index].gpu.map(|gpu| self.surroundings.gpu(gpu));
        let spilled = gpu.map_or(Percent::ZERO, |gpu| gpu.spilled);
        if (swapped, spilled) == (Percent::ZERO, Percent::ZERO) {
            return 1.0;
        }
        let Footprint { ram, vram } = self.catalog.models()[index].footprint();
        let in_memory = match gpu {
            Some(gpu) if !gpu.shared => Percent::of(ram, ram + vram).fraction(),
            Some(_) | None => 1.0,
        };
        self.physics.memory_speed(in_memory, swapped, spilled)
    }

    fn place(&self, model: &ModelId) -> Option<usize> {
        self.catalog.models().iter().position(|known| known.id == *model)
    }

    /// Carries out what is due for a model.
    fn come_due(&mut self, now: Timestamp, index: usize) {
        if self.instances[index].due.is_none_or(|due| due > now) {
            return;
        }
        self.changed = true;
        self.instances[index].due = None;
        let model = self.catalog.models()[index].id.clone();
        match self.instances[index].presence {
            Presence::Loading { fails: true } => {
                self.release(now, index);
                let error = "the model did not load".to_owned();
                self.outcomes.push_back(Outcome::LoadFailed { model, error });
            }
            Presence::Loading { fails: false } => {
                self.instances[index].presence = Presence::Ready;
                let gpu = self.instances[index].gpu;
                self.instances[index].stickiness = self.stickiness(now, model.as_str(), gpu);
                self.outcomes.push_back(Outcome::Loaded { model });
            }
            Presence::Unloading => {
                self.fail_active(index, "the model was unloaded");
                self.release(now, index);
                self.confirm_unload(now, model);
            }
            Presence::Ready => {
                self.progress(now, index);
                self.reschedule(now, index);
            }
            Presence::Absent | Presence::Stuck { .. } => {}
        }
    }

    fn stickiness(&mut self, now: Timestamp, model: &str, gpu: Option<u8>) -> f64 {
        let memory = self.surroundings.memory_used;
        let vram = gpu.map_or(Percent::ZERO, |gpu| self.surroundings.gpu(gpu).vram_used);
        match self.faults.strikes(now, model, is_sticky) {
            Some(FaultKind::StickySlow { resource, above, factor }) => {
                let used = if resource == Resource::Vram { vram } else { memory };
                if used > above.0 { factor } else { 1.0 }
            }
            _ => 1.0,
        }
    }
}

impl Backend for SimulatedServer {
    fn submit(&mut self, now: Timestamp, command: &Command) {
        self.changed = true;
        match command {
            Command::Load { model, gpu } => match self.place(model) {
                Some(index) => self.load(now, index, *gpu),
                None => {
                    let (model, error) = (model.clone(), "no such model".to_owned());
                    self.outcomes.push_back(Outcome::LoadFailed { model, error });
                }
            },
            Command::Unload { model } => match self.place(model) {
                Some(index) => self.unload(now, index),
                None => self.outcomes.push_back(Outcome::Unloaded { model: model.clone() }),
            },
            Command::Start { request, model } => self.start(now, *request, model),
            Command::Cancel { request } => self.cancel(now, *request),
            Command::Try { model } => self.try_out(now, model),
        }
        self.look_ahead();
    }

    #[inline]
    fn poll(&mut self, now: Timestamp) -> Option<Outcome> {
        if self.next.is_some_and(|next| next <= now) { self.poll_due(now) } else { None }
    }

    fn next_wakeup(&self) -> Option<Timestamp> {
        self.next
    }
}

impl SimulatedServer {
    fn poll_due(&mut self, now: Timestamp) -> Option<Outcome> {
        if !(self.lingering.is_empty() && self.grabs.is_empty()) {
            self.changed = true;
            self.lingering.retain(|&(until, ..)| until > now);
            self.grabs.retain(|&(until, ..)| until > now);
        }
        for index in 0..self.instances.len() {
            if self.instances[index].is_seen_to_get_on(now) {
                let model = self.catalog.models()[index].id.clone();
                self.outcomes.push_back(Outcome::Loading { model });
            }
            if let Some((_, decoded_in)) = self.instances[index].tried.take_if(|it| it.0 <= now) {
                let (model, output_tokens) = (self.catalog.models()[index].id.clone(), TRY_TOKENS);
                self.outcomes.push_back(Outcome::Tried(Tried { model, output_tokens, decoded_in }));
            }
            self.come_due(now, index);
        }
        let hangs = self.faults.hangs_until(now).is_some();
        let outcome = if hangs { None } else { self.outcomes.pop_front() };
        self.look_ahead();
        outcome
    }

    /// Updates the stored values: called by everything that changes an instance.
    fn look_ahead(&mut self) {
        let due = self
            .instances
            .iter()
            .fold(None, |first, one| earliest([first, one.due, one.gets_on, one.tried_at()]));
        let late = self.lingering.iter().map(|&(until, ..)| until).min();
        let grabbed = self.grabs.iter().map(|&(until, ..)| until).min();
        let pending = (!self.outcomes.is_empty()).then_some(Timestamp::ZERO);
        self.next = earliest([due, late, grabbed, pending]);
        self.working = self.instances.iter().any(|instance| {
            !instance.active.is_empty() || matches!(instance.presence, Presence::Loading { .. })
        });
        self.leaking = self.instances.iter().any(|instance| instance.leak.is_some());
    }

    /// Returns whether only try-outs are under way.
    pub fn only_tries_out(&self) -> bool {
        let tries = |one: &Instance| one.tried.is_some() && one.due.is_none();
        let rests = |one: &Instance| one.due.is_none() && one.gets_on.is_none();
        self.outcomes.is_empty()
            && self.lingering.is_empty()
            && self.grabs.is_empty()
            && self.instances.iter().all(|one| tries(one) || rests(one))
    }

    /// Returns the next moment at which the server has an outcome or its memory changes.
    #[inline]
    pub fn next_change(&self, now: Timestamp) -> Option<Timestamp> {
        let next = self.next?.max(now);
        // A server that hangs reports its outcomes when the hang is over; memory still changes during it.
        match self.faults.hangs_until(now) {
            Some(until) if next <= now => {
                let instances = self.instances.iter();
                let dues =
                    instances.flat_map(|one| [one.due, one.gets_on, one.tried_at()]).flatten();
                let memory = self.lingering.iter().chain(&self.grabs).map(|&(until, ..)| until);
                Some(dues.chain(memory).filter(|&at| at > now).min().unwrap_or(until).min(until))
            }
            _ => Some(next),
        }
    }
}

/// Returns the part of its speed that each of `count` requests keeps.
fn side_by_side(count: usize, gain: Percent) -> f64 {
    let count = count as f64;
    (1.0 + gain.fraction() * (count - 1.0)) / count
}

/// When a load is first looked at, as in `llama_server/progress.rs`.
const FIRST_LOOK: Duration = Duration::from_secs(2);

/// A try-out's number of tokens, and how long it may take, as in `llama_server/tryout.rs`.
const TRY_TOKENS: u32 = 8;
const TRY_LIMIT: Duration = Duration::from_secs(45);

/// However busy the others are, a scheduler gives every task a share: one of twenty equal tasks.
const LEAST_SPEED: f64 = 0.05;

#[cfg(test)]
mod tests;
