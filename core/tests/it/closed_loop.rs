//! A machine without faults: memory is free as soon as a model is unloaded, and every load, unload and reply takes as
//! long as the test sets. The result of a run depends only on the controller.

use std::collections::BTreeMap;
use std::time::Duration;

use tiershift_core::catalog::{Catalog, RawCatalog};
use tiershift_core::controller::{Controller, Detail};
use tiershift_core::event::{Command, Input, Outcome, Output};
use tiershift_core::machine::Machine;
use tiershift_core::request::Request;
use tiershift_core::sample::{GpuSample, Sample, Space};
use tiershift_core::settings::RawSettings;
use tiershift_core::time::{Timestamp, earliest};
use tiershift_core::units::Bytes;

use crate::rig::controller_for;

/// The inputs of a run.
#[derive(Clone, Debug)]
pub(crate) struct Run {
    pub(crate) machine: Machine,
    pub(crate) catalog: RawCatalog,
    pub(crate) settings: RawSettings,
    /// Others' use, one level after another: number of samples, use of memory, and use of each GPU's memory.
    pub(crate) others: Vec<(u32, Bytes, Vec<Bytes>)>,
    /// The arrival of each request, and how long it is served.
    pub(crate) requests: Vec<(Timestamp, Duration)>,
}

/// The result of a run.
pub(crate) struct Played {
    pub(crate) answers: Vec<Answer>,
}

/// An output and its time.
pub(crate) type Answer = (Timestamp, Output);

impl Run {
    /// Returns all answers of the controller.
    pub(crate) fn play(&self) -> Played {
        let catalog = Catalog::try_from(self.catalog.clone()).unwrap();
        let (class, settings) = (self.machine.class(), self.settings.clone());
        let mut bench = Bench {
            run: self,
            now: Timestamp::ZERO,
            controller: controller_for(class, settings, &catalog, Detail::Full),
            catalog,
            loaded: BTreeMap::new(),
            coming: BTreeMap::new(),
            seq: 0,
            played: Played { answers: Vec::new() },
        };
        bench.play();
        bench.played
    }

    /// Returns the length of a run.
    pub(crate) fn length(&self) -> Duration {
        self.settings.sampling_interval.0 * self.samples()
    }

    fn samples(&self) -> u32 {
        self.others.iter().map(|(samples, ..)| samples).sum()
    }
}

struct Bench<'r> {
    run: &'r Run,
    now: Timestamp,
    controller: Controller,
    catalog: Catalog,
    /// Loaded and half loaded models, and their GPUs.
    loaded: BTreeMap<String, Option<u8>>,
    /// Outcomes that will happen, in order.
    coming: BTreeMap<(Timestamp, u64), Outcome>,
    seq: u64,
    played: Played,
}

impl Bench<'_> {
    fn play(&mut self) {
        let interval = self.run.settings.sampling_interval.0;
        let mut others = self.run.others.iter().flat_map(|(samples, memory, vram)| {
            std::iter::repeat_n((*memory, vram.as_slice()), *samples as usize)
        });
        let mut requests = self.run.requests.iter().zip(0..).peekable();
        let (mut next_sample, mut level) = (Timestamp::ZERO, (Bytes::ZERO, [].as_slice()));
        loop {
            let outcome = self.coming.first_key_value().map(|(&(at, _), _)| at);
            let request = requests.peek().map(|&(&(at, _), _)| at);
            let timeout = self.controller.poll_timeout();
            let due = earliest([Some(next_sample), outcome, request, timeout]);
            self.now = self.now.max(due.expect("a sample is always due"));
            while let Some(entry) = self.coming.first_entry().filter(|e| e.key().0 <= self.now) {
                let outcome = entry.remove();
                if let Outcome::Unloaded { model } = &outcome {
                    self.loaded.remove(model.as_str());
                    // Before it is requested: the memory is known to be free.
                    self.sample(level);
                }
                self.feed(&Input::Outcome(outcome));
            }
            if next_sample <= self.now {
                let Some(next) = others.next() else { return };
                level = next;
                next_sample += interval;
                self.sample(level);
            }
            while let Some((_, id)) = requests.next_if(|((at, _), _)| *at <= self.now) {
                if self.controller.wants_sample(self.now, true) {
                    self.sample(level);
                }
                self.feed(&Input::Request(Request::chat(id, 10, 10)));
            }
            if self.controller.poll_timeout().is_some_and(|due| due <= self.now) {
                self.feed(&Input::Timeout);
            }
            if self.controller.wants_sample(self.now, false) {
                self.sample(level);
            }
        }
    }

    fn sample(&mut self, (memory, vram): (Bytes, &[Bytes])) {
        let own = |gpu: Option<usize>| {
            let models = self.loaded.iter().filter_map(|(model, on)| {
                let footprint = self.catalog.model(&model.as_str().into())?.footprint();
                match gpu {
                    None => Some(footprint.ram),
                    Some(gpu) => (on.map(usize::from) == Some(gpu)).then_some(footprint.vram),
                }
            });
            models.fold(Bytes::ZERO, |sum, bytes| sum + bytes)
        };
        let machine = &self.run.machine;
        let gpus = machine.gpus.iter().zip(vram).enumerate().map(|(gpu, (&total, &others))| {
            let vram = Some(Space { total, others, own: own(Some(gpu)) });
            GpuSample { vram, ..GpuSample::default() }
        });
        let memory = Some(Space { total: machine.memory, others: memory, own: own(None) });
        let sample = Sample { memory, gpus: gpus.collect(), ..Sample::default() };
        self.feed(&Input::Sample(sample));
    }

    fn feed(&mut self, input: &Input) {
        self.controller.handle(self.now, input);
        while let Some(output) = self.controller.poll_output() {
            if let Output::Command(command) = &output {
                self.obey(command);
            }
            self.played.answers.push((self.now, output));
        }
    }

    fn obey(&mut self, command: &Command) {
        let (span, outcome) = match command {
            Command::Load { model, gpu } => {
                self.loaded.insert(model.to_string(), *gpu);
                let span = self.catalog.model(model).unwrap().load_cold;
                (span, Outcome::Loaded { model: model.clone() })
            }
            Command::Unload { model } => {
                let is_load = |outcome: &Outcome| matches!(outcome, Outcome::Loaded { model: m } if m == model);
                self.coming.retain(|_, outcome| !is_load(outcome));
                let span = self.catalog.model(model).unwrap().unload;
                (span, Outcome::Unloaded { model: model.clone() })
            }
            Command::Start { request, .. } => {
                let span = self.run.requests[usize::try_from(request.0).unwrap()].1;
                let first_token = span / 2;
                let (prompt_tokens, output_tokens) = (None, 10);
                let request = *request;
                (span, Outcome::Done { request, first_token, prompt_tokens, output_tokens })
            }
            Command::Try { .. } => return,
            Command::Cancel { request } => {
                let is_reply = |outcome: &Outcome| matches!(outcome, Outcome::Done { request: r, .. } if r == request);
                self.coming.retain(|_, outcome| !is_reply(outcome));
                (Duration::ZERO, Outcome::Cancelled { request: *request })
            }
        };
        self.seq += 1;
        self.coming.insert((self.now + span, self.seq), outcome);
    }
}
