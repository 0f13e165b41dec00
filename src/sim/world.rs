//! The simulated machine: others' use, our models' memory, faults, users, and a clock that jumps.

use std::collections::VecDeque;
use std::time::Duration;

use tiershift_core::backend::Backend;
use tiershift_core::driver::World;
use tiershift_core::event::{Command, Consult, Input, Outcome};
use tiershift_core::probe::{Probe, ProbeError};
use tiershift_core::request::{End, RequestId};
use tiershift_core::sample::{Rate, Resource, ResourceKey, Sample};
use tiershift_core::settings::Settings;
use tiershift_core::time::{Clock, Timestamp, earliest};
use tiershift_core::units::{Bytes, Percent};

use crate::sim::Situation;
use crate::sim::account::Pressure;
use crate::sim::action::{Action, ActionKind};
use crate::sim::adviser::Advised;
use crate::sim::fault::{Fault, FaultKind};
use crate::sim::ground::{Ground, ReadError};
use crate::sim::queue::EventQueue;
use crate::sim::rng::{Seed, Stream};
use crate::sim::server::{SimulatedServer, Surroundings};
use crate::sim::workload::{Arrival, Workloads};
use crate::summary::Account;

/// The world of a simulated run.
pub(super) struct SimulatedWorld {
    now: Timestamp,
    /// Others' use as it is now, with `own` put into it.
    ground: Ground,
    next_sample: Option<Timestamp>,
    server: SimulatedServer,
    own: OwnUse,
    users: Workloads,
    actions: VecDeque<Action>,
    advised: Option<Advised>,
    moments: EventQueue<Moment>,
    faults: Vec<Fault>,
    fault_stream: Stream,
    frozen: Option<Sample>,
    pressure: Pressure,
}

/// What the server holds and takes, kept until it changes: most samples find it as the one before did.
#[derive(Clone, Debug, Default)]
struct OwnUse {
    ram: Bytes,
    /// What was grabbed at the moment of a load, on top of others' use.
    grabbed: Bytes,
    cpu: Percent,
    /// Video memory held, video memory grabbed, and use of each GPU of the machine.
    gpus: Vec<(Bytes, Bytes, Percent)>,
}

impl OwnUse {
    /// Puts it into a sample of others' use.
    fn put_into(&self, sample: &mut Sample) {
        if let Some(memory) = &mut sample.memory {
            memory.own = self.ram;
            memory.others += self.grabbed;
        }
        if let Some(cpu) = &mut sample.cpu {
            cpu.own = self.cpu;
        }
        for (gpu, (held, grabbed, used)) in sample.gpus.iter_mut().zip(&self.gpus) {
            if let Some(vram) = &mut gpu.vram {
                vram.own = *held;
                vram.others += *grabbed;
            }
            if let Some(Rate { own, .. }) = &mut gpu.utilization {
                *own = *used;
            }
        }
    }

    /// Takes what was grabbed out of a sample that it was put into.
    fn take_out_of(&self, sample: &mut Sample) {
        if let Some(memory) = &mut sample.memory {
            memory.others = memory.others - self.grabbed;
        }
        for (gpu, (_, grabbed, _)) in sample.gpus.iter_mut().zip(&self.gpus) {
            if let Some(vram) = &mut gpu.vram {
                vram.others = vram.others - *grabbed;
            }
        }
    }
}

/// A fault that happens at a moment.
#[derive(Clone, Debug)]
enum Moment {
    Crash(Option<String>),
    Suspend(Duration),
}

impl SimulatedWorld {
    pub(super) fn new(situation: Situation, settings: &Settings) -> Self {
        let Situation { setup, physics, faults, actions, workloads, ground, adviser, duration: _ } =
            situation;
        let (catalog, seed) = (setup.catalog, Seed(setup.seed));
        let unload = catalog.models().iter().map(|model| model.unload).max().unwrap_or_default();
        let server = SimulatedServer::new(&catalog, &physics, &faults, seed);
        let mut moments = EventQueue::default();
        let mut luck = seed.stream("moment.fault");
        for fault in &faults {
            if fault.probability < Percent::ONE_HUNDRED
                && !luck.happens(fault.probability.fraction())
            {
                continue;
            }
            match &fault.kind {
                FaultKind::Crash { model } => moments.push(fault.at, Moment::Crash(model.clone())),
                FaultKind::Suspend { asleep } => moments.push(fault.at, Moment::Suspend(asleep.0)),
                _ => {}
            }
        }
        Self {
            now: Timestamp::ZERO,
            next_sample: ground.first_due(),
            ground,
            server,
            own: OwnUse::default(),
            users: Workloads::new(&workloads, seed),
            actions: actions.into(),
            advised: adviser.map(Advised::new),
            moments,
            fault_stream: seed.stream("probe.fault"),
            faults,
            frozen: None,
            pressure: Pressure::new(settings, &catalog, unload + physics.release_lag_max),
        }
    }

    pub(super) fn account(&self) -> Account {
        self.pressure.account()
    }

    /// Returns why the recording broke off, if it did.
    pub(super) fn take_error(&mut self) -> Option<ReadError> {
        self.ground.take_error()
    }

    /// Returns everybody's use as it is now: what the account is kept from.
    fn truth(&self) -> &Sample {
        self.ground.sample()
    }

    /// Brings the truth up to now, and the server's surroundings where it works: one at rest is told of them when it
    /// is given something to do.
    fn look(&mut self) {
        let is_new = self.ground.read(self.now);
        self.update_truth(is_new);
        if self.server.is_working() {
            self.tell_surroundings();
        }
    }

    /// Brings the truth and the server's surroundings up to now.
    fn refresh(&mut self) {
        let is_new = self.ground.read(self.now);
        self.update_truth(is_new);
        self.tell_surroundings();
    }

    fn tell_surroundings(&mut self) {
        let truth = self.ground.sample();
        let busiest =
            truth.gpus.iter().filter_map(|gpu| gpu.utilization).map(|rate| rate.others).max();
        let memory = truth.memory.unwrap_or_default();
        let vram = truth.gpus.iter().filter_map(|gpu| gpu.vram);
        let surroundings = Surroundings {
            cpu_others: truth.cpu.map_or(Percent::ZERO, |rate| rate.others),
            gpu_others: busiest.unwrap_or_default(),
            swapping: memory.total > Bytes::ZERO && memory.used() > memory.total,
            free_memory: memory.free(),
            memory_used: Percent::of(memory.used(), memory.total),
            vram_used: vram
                .map(|space| Percent::of(space.used(), space.total))
                .max()
                .unwrap_or_default(),
        };
        self.server.set_surroundings(self.now, surroundings);
    }

    /// Puts our own use into the truth, if either is another than before.
    fn update_truth(&mut self, is_new: bool) {
        let has_changed =
            self.server.take_changed() || self.own.gpus.len() != self.truth().gpus.len();
        if has_changed && !is_new {
            self.own.take_out_of(self.ground.sample_mut());
        }
        if has_changed {
            self.update_own();
        }
        if has_changed || is_new {
            self.own.put_into(self.ground.sample_mut());
        }
    }

    fn update_own(&mut self) {
        let (now, server) = (self.now, &self.server);
        let gpu = |gpu| (server.vram(now, gpu), server.grabbed(Some(gpu)), server.gpu_own(gpu));
        self.own.ram = server.ram(now);
        self.own.grabbed = server.grabbed(None);
        self.own.cpu = server.cpu_own();
        self.own.gpus.clear();
        self.own.gpus.extend((0..=u8::MAX).take(self.ground.sample().gpus.len()).map(gpu));
    }

    fn has_fault(&mut self, is_kind: impl Fn(&FaultKind) -> bool) -> Option<FaultKind> {
        for fault in &self.faults {
            let certain = fault.probability >= Percent::ONE_HUNDRED;
            if is_kind(&fault.kind)
                && fault.is_open(self.now)
                && (certain || self.fault_stream.happens(fault.probability.fraction()))
            {
                return Some(fault.kind.clone());
            }
        }
        None
    }

    /// Lets the faults happen whose moment has come.
    fn pass_moments(&mut self) {
        while let Some((_, moment)) = self.moments.pop(self.now) {
            match moment {
                Moment::Crash(model) => self.server.crash(self.now, model.as_deref()),
                Moment::Suspend(asleep) => {
                    // Nothing runs meanwhile, nothing is counted, and the clock has jumped.
                    self.server.sleep(asleep);
                    self.now += asleep;
                }
            }
        }
    }
}

impl Clock for SimulatedWorld {
    fn now(&self) -> Timestamp {
        self.now
    }

    fn wait_until(&mut self, deadline: Timestamp) -> Timestamp {
        if deadline > self.now {
            self.pressure.count(self.now, deadline, self.ground.sample());
            self.now = deadline;
        }
        self.pass_moments();
        self.now
    }
}

impl Probe for SimulatedWorld {
    fn sample(&mut self, now: Timestamp) -> Result<Sample, ProbeError> {
        let mut sample = Sample::default();
        self.sample_into(now, &mut sample)?;
        Ok(sample)
    }

    fn sample_into(&mut self, now: Timestamp, sample: &mut Sample) -> Result<(), ProbeError> {
        self.read(now, sample)?;
        if let Some(advised) = &mut self.advised {
            advised.see(sample);
        }
        Ok(())
    }
}

impl SimulatedWorld {
    /// Reads the machine, with what goes wrong with that.
    fn read(&mut self, now: Timestamp, sample: &mut Sample) -> Result<(), ProbeError> {
        self.look();
        if self.next_sample.is_some_and(|due| due <= now) {
            self.next_sample = self.ground.due_after(now);
            self.pressure.read(now, self.ground.sample());
        }
        sample.clone_from(self.truth());
        if self.faults.is_empty() {
            return Ok(());
        }
        if self.has_fault(|kind| matches!(kind, FaultKind::ProbeGap)).is_some() {
            return Err(ProbeError("the probe did not answer".to_owned()));
        }
        if self.has_fault(|kind| matches!(kind, FaultKind::ProbeStale)).is_some() {
            sample.clone_from(self.frozen.get_or_insert_with(|| self.ground.sample().clone()));
            return Ok(());
        }
        self.frozen = Some(self.truth().clone());
        if let Some(FaultKind::ProbeWrong { resource, factor }) =
            self.has_fault(|kind| matches!(kind, FaultKind::ProbeWrong { .. }))
        {
            misread(sample, resource, factor);
        }
        Ok(())
    }
}

impl Backend for SimulatedWorld {
    fn submit(&mut self, now: Timestamp, command: &Command) {
        self.refresh();
        self.server.submit(now, command);
        self.update_truth(false);
    }

    fn poll(&mut self, now: Timestamp) -> Option<Outcome> {
        let outcome = self.server.poll(now);
        self.update_truth(false);
        outcome
    }

    fn next_wakeup(&self) -> Option<Timestamp> {
        earliest([self.server.next_change(self.now), self.moments.next_at()])
    }
}

impl World for SimulatedWorld {
    fn next_sample(&self) -> Option<Timestamp> {
        self.next_sample
    }

    fn next_input(&self) -> Option<Timestamp> {
        let action = self.actions.front().map(|action| action.at);
        // A replay lasts as long as its recording: what has begun is finished, nothing new comes.
        let [arrival, coming] = match self.next_sample {
            Some(_) => [self.users.next_at(), self.ground.next_scheduled()],
            None => [None, None],
        };
        let advice = self.advised.as_ref().and_then(Advised::next_at);
        earliest([arrival, coming, action, advice])
    }

    fn poll_input(&mut self, now: Timestamp) -> Option<Input> {
        if self.actions.front().is_some_and(|action| action.at <= now) {
            let action = self.actions.pop_front()?;
            return Some(match action.kind {
                ActionKind::Switch { tier, for_ } => Input::Switch { tier, for_ },
                ActionKind::Shutdown => Input::Shutdown,
            });
        }
        if let Some(advice) = self.advised.as_mut().and_then(|advised| advised.pop(now)) {
            return Some(Input::Advice(advice));
        }
        let input = match self.users.pop(now) {
            Some(Arrival::Request(request)) => Input::Request(request),
            Some(Arrival::HangUp(request)) => Input::Cancel { request },
            None => self.ground.pop_scheduled(now)?,
        };
        if let Input::Request(request) = &input {
            self.server.announce(request);
        }
        Some(input)
    }

    fn consult(&mut self, now: Timestamp, consult: &Consult) {
        if let Some(advised) = &mut self.advised {
            advised.ask(now, consult);
        }
    }

    fn ended(&mut self, now: Timestamp, request: RequestId, _: &End) {
        self.server.forget(request);
        self.users.ended(now, request);
    }
}

/// Multiplies what a broken probe says of others' use.
fn misread(sample: &mut Sample, resource: Resource, factor: f64) {
    // `as` saturates.
    let bytes = |amount: Bytes| Bytes::new((amount.get() as f64 * factor) as u64);
    let share = |share: Percent| Percent::from_milli((f64::from(share.milli()) * factor) as u32);
    let is_it = |key: ResourceKey| key.resource == resource;
    for (_, space) in sample.spaces_mut().filter(|(key, _)| is_it(*key)) {
        space.others = bytes(space.others);
    }
    for (_, rate) in sample.rates_mut().filter(|(key, _)| is_it(*key)) {
        rate.others = share(rate.others);
    }
    if let (Resource::Pressure, Some(pressure)) = (resource, &mut sample.pressure) {
        pressure.memory_some = share(pressure.memory_some);
    }
}
