//! The simulated machine: others' use, our models' memory, faults, users, and a clock that jumps.

mod moment;
mod reading;

use std::collections::VecDeque;

use tiershift_core::backend::Backend;
use tiershift_core::driver::World;
use tiershift_core::event::{Command, Consult, Input, Outcome};
use tiershift_core::probe::{Probe, ProbeError};
use tiershift_core::request::{End, RequestId};
use tiershift_core::sample::Sample;
use tiershift_core::settings::Settings;
use tiershift_core::time::{Clock, Timestamp, earliest};
use tiershift_core::units::Bytes;

use crate::exec::ExecError;
use crate::sim::Situation;
use crate::sim::account::Pressure;
use crate::sim::action::{Action, ActionKind};
use crate::sim::adviser::Advised;
use crate::sim::ground::{Ground, ReadError};
use crate::sim::own_use::OwnUse;
use crate::sim::physics::{OomKiller, VramOvercommit};
use crate::sim::rng::Seed;
use crate::sim::server::{SimulatedServer, Surroundings};
use crate::sim::workload::{Arrival, Workloads};
use crate::sim::world::moment::{Moment, Moments};
use crate::sim::world::reading::{Distortion, swap_out};
use crate::summary::Account;

/// The world of a simulated run.
pub(super) struct SimulatedWorld {
    now: Timestamp,
    /// Others' use as it is now, plus `own`.
    ground: Ground,
    next_sample: Option<Timestamp>,
    server: SimulatedServer,
    own: OwnUse,
    users: Workloads,
    actions: VecDeque<Action>,
    advised: Option<Advised>,
    moments: Moments,
    distortion: Distortion,
    pressure: Pressure,
    /// The surroundings that the server was last given; kept for their capacity for GPUs.
    surroundings: Surroundings,
    vram_overcommit: VramOvercommit,
    oom_killer: OomKiller,
    /// Whether anything dies of memory beyond its size: checked at every change of the true state.
    is_deadly: bool,
}

impl SimulatedWorld {
    pub(super) fn new(situation: Situation, settings: &Settings) -> Self {
        let Situation {
            setup,
            physics,
            mut faults,
            actions,
            workloads,
            ground,
            adviser,
            duration: _,
        } = situation;
        let (catalog, seed) = (setup.catalog, Seed(setup.seed));
        let unload = catalog.models().iter().map(|model| model.unload).max().unwrap_or_default();
        let moments = Moments::new(&mut faults, seed);
        let vram_fails = physics.vram_overcommit == VramOvercommit::Fail;
        Self {
            now: Timestamp::ZERO,
            next_sample: ground.first_due(),
            ground,
            server: SimulatedServer::new(&catalog, &physics, &faults, seed),
            own: OwnUse::default(),
            users: Workloads::new(&workloads, seed),
            actions: actions.into(),
            advised: adviser.map(Advised::new),
            moments,
            distortion: Distortion::new(&faults, seed.stream("probe.fault")),
            pressure: Pressure::new(settings, &catalog, unload + physics.release_lag_max),
            surroundings: Surroundings::default(),
            vram_overcommit: physics.vram_overcommit,
            oom_killer: physics.oom_killer,
            is_deadly: physics.oom_killer != OomKiller::Off
                || (vram_fails && !setup.machine.gpus.is_empty()),
        }
    }

    pub(super) fn account(&mut self) -> Account {
        self.pressure.take_account()
    }

    /// Returns why the recording broke off, if it did.
    pub(super) fn take_error(&mut self) -> Option<ReadError> {
        self.ground.take_error()
    }

    /// Returns why the adviser can no longer be asked, if so.
    pub(super) fn take_adviser_error(&mut self) -> Option<ExecError> {
        self.advised.as_mut().and_then(Advised::take_error)
    }

    /// Returns all use as it is now, for the accounting.
    fn truth(&self) -> &Sample {
        self.ground.sample()
    }

    /// Updates the true state, and the server's surroundings if it works: a server at rest is updated when it is given
    /// something to do.
    fn look(&mut self) {
        let is_new = self.ground.read(self.now, &self.own);
        self.update_truth(is_new);
        if self.server.is_working() {
            self.tell_surroundings();
        }
    }

    /// Updates the true state and the server's surroundings.
    fn refresh(&mut self) {
        let is_new = self.ground.read(self.now, &self.own);
        self.update_truth(is_new);
        self.tell_surroundings();
    }

    fn tell_surroundings(&mut self) {
        self.surroundings.look_at(self.ground.sample());
        self.server.set_surroundings(self.now, &self.surroundings);
    }

    /// Adds our own use to the true state, if either has changed.
    fn update_truth(&mut self, is_new: bool) {
        let gpus = self.truth().gpus.len();
        let has_changed = self.server.take_changed() || self.own.gpus() != gpus;
        if has_changed && !is_new {
            self.own.take_out_of(self.ground.sample_mut());
        }
        if has_changed {
            self.own.update(self.now, &self.server, gpus);
            self.ground.read_again(self.now, &self.own);
        }
        if has_changed || is_new {
            self.own.put_into(self.ground.sample_mut());
            if self.is_deadly {
                self.kill_what_has_no_memory();
            }
        }
    }

    /// Kills what has no memory left: models on a GPU, and the victim of the out-of-memory killer.
    fn kill_what_has_no_memory(&mut self) {
        let mut has_died = false;
        if self.vram_overcommit == VramOvercommit::Fail {
            for (gpu, reading) in (0..=u8::MAX).zip(&self.ground.sample().gpus) {
                let vram = reading.vram.unwrap_or_default();
                if vram.used() > vram.total {
                    let over = vram.used() - vram.total;
                    has_died |= self.server.fail_allocations(self.now, gpu, over);
                }
            }
        }
        let (memory, swap) = (self.truth().memory.unwrap_or_default(), self.truth().swap);
        let lacks = memory.used() - memory.total - swap.unwrap_or_default().free();
        let mut is_new = false;
        if self.oom_killer != OomKiller::Off && lacks > Bytes::ZERO {
            self.pressure.exhaust();
            match self.oom_killer {
                OomKiller::Off => {}
                OomKiller::LargestOfOurs => {
                    has_died |= self.server.kill_largest(self.now, lacks);
                }
                OomKiller::LargestOfOthers => {
                    is_new = self.ground.kill_largest(self.now, &self.own);
                }
            }
        }
        // Each call kills a process, so this ends.
        if is_new || has_died {
            self.update_truth(is_new);
        }
    }

    /// Carries out the faults whose moment has come.
    fn pass_moments(&mut self) {
        while let Some(moment) = self.moments.pop(self.now) {
            match moment {
                Moment::Crash(model) => self.server.crash(self.now, model.as_deref()),
                Moment::LoseGpu(gpu) => self.server.lose_gpu(self.now, gpu),
                Moment::Suspend(asleep) => {
                    // Nothing runs during this time, nothing is counted, and the clock has jumped.
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
    /// Reads the machine, with the faults of probes.
    fn read(&mut self, now: Timestamp, sample: &mut Sample) -> Result<(), ProbeError> {
        self.look();
        if self.next_sample.is_some_and(|due| due <= now) {
            self.next_sample = self.ground.due_after(now);
            self.pressure.read(now, self.ground.sample());
        }
        sample.clone_from(self.truth());
        if self.ground.is_scripted() {
            swap_out(sample);
        }
        self.distortion.distort(now, sample)
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
        // A replay lasts as long as its recording, and what is loaded then; whether that is fast no longer matters.
        let is_over = self.next_sample.is_none() && self.server.only_tries_out();
        let server = if is_over { None } else { self.server.next_change(self.now) };
        earliest([server, self.moments.next_at()])
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
            if advised.has_failed() {
                self.next_sample = None;
            }
        }
    }

    fn ended(&mut self, now: Timestamp, request: RequestId, _: &End) {
        self.server.forget(request);
        self.users.ended(now, request);
    }
}
