//! The real machine: its clock, its probe, its model servers, and the senders of messages to it.
//!
//! Everything arrives through one channel, and the moment at which the controller's thread takes a message out is the
//! moment at which it happened: the log is a total order.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::mpsc::Receiver;
use std::time::Duration;

use tiershift_core::backend::Backend;
use tiershift_core::catalog::Catalog;
use tiershift_core::driver::World;
use tiershift_core::event::{Adopted, Command, Input, OrderNews, Outcome};
use tiershift_core::model::{Footprint, ModelId};
use tiershift_core::probe::{Probe, ProbeError};
use tiershift_core::request::{End, RequestId};
use tiershift_core::sample::Sample;
use tiershift_core::time::{Clock, Timestamp};
use tokio::sync::oneshot;

use crate::backend::live::LiveBackend;
use crate::backend::remote::OwnSource;
use crate::probe::clock::SystemClock;
use crate::probe::system::OwnProcesses;
use crate::serve::load_steps::LoadSteps;
use crate::serve::message::{Message, Order, ReplyHandle, Started};
use crate::serve::own_rates::OwnRates;
use crate::serve::release_lag::ReleaseLag;
use crate::serve::sampler::Sampler;

/// The world of a live run.
pub(super) struct LiveWorld {
    clock: SystemClock,
    sampler: Sampler,
    lag: ReleaseLag,
    rates: OwnRates,
    steps: LoadSteps,
    /// The models that work: those being loaded, and those that have run a request since the last sample.
    at_work: BTreeSet<ModelId>,
    loading: BTreeSet<ModelId>,
    backend: LiveBackend,
    catalog: Catalog,
    interval: Duration,
    next_sample: Timestamp,
    inbox: Receiver<Message>,
    inputs: VecDeque<Input>,
    outcomes: VecDeque<Outcome>,
    /// The requests that have not ended.
    replies: BTreeMap<RequestId, ReplyHandle>,
    /// Those that run. An outcome of any other comes too late.
    running: BTreeMap<RequestId, ModelId>,
    /// Where the answers to orders go: for those that wait in `inputs`, and for the one that was just passed on.
    orders: VecDeque<oneshot::Sender<OrderNews>>,
    order: Option<oneshot::Sender<OrderNews>>,
    /// Set while the backend may have news.
    is_woken: bool,
    is_stopping: bool,
    is_aborted: bool,
}

/// The parts of a live world.
pub(super) struct Parts {
    pub(super) sampler: Sampler,
    pub(super) backend: LiveBackend,
    pub(super) catalog: Catalog,
    pub(super) interval: Duration,
    pub(super) inbox: Receiver<Message>,
    /// What the backend has already loaded.
    pub(super) adopted: Vec<Adopted>,
}

impl LiveWorld {
    /// Begins a run: its clock starts now.
    pub(super) fn new(parts: Parts) -> Self {
        let Parts { sampler, backend, catalog, interval, inbox, adopted } = parts;
        let adoption = (!adopted.is_empty()).then_some(Input::Adopt { models: adopted });
        let mut world = Self {
            clock: SystemClock::start(),
            sampler,
            lag: ReleaseLag::default(),
            rates: OwnRates::default(),
            steps: LoadSteps::default(),
            at_work: BTreeSet::new(),
            loading: BTreeSet::new(),
            backend,
            catalog,
            interval,
            next_sample: Timestamp::ZERO,
            inbox,
            inputs: adoption.into_iter().collect(),
            outcomes: VecDeque::new(),
            replies: BTreeMap::new(),
            running: BTreeMap::new(),
            orders: VecDeque::new(),
            order: None,
            is_woken: false,
            is_stopping: false,
            is_aborted: false,
        };
        world.update_probe();
        world
    }

    /// Returns whether it was asked to stop and nothing is left to do, or was asked to stop at once.
    pub(super) fn is_over(&self) -> bool {
        let is_idle = self.inputs.is_empty()
            && self.outcomes.is_empty()
            && self.replies.is_empty()
            && self.backend.is_empty();
        self.is_aborted || (self.is_stopping && is_idle)
    }

    /// Returns how many requests have not ended.
    pub(super) fn unanswered(&self) -> u64 {
        self.replies.len() as u64
    }

    fn receive(&mut self, message: Message) {
        match message {
            Message::Request(request, reply) => {
                self.replies.insert(request.id, reply);
                self.inputs.push_back(Input::Request(request));
            }
            Message::HangUp(request) => {
                if self.replies.contains_key(&request) {
                    self.inputs.push_back(Input::Cancel { request });
                }
            }
            Message::Outcome(outcome) => self.receive_outcome(outcome),
            Message::Settings(settings) => {
                self.interval = settings.sampling_interval.0;
                self.inputs.push_back(Input::Settings(settings));
            }
            Message::Switch(Order { tier, for_, answer }) => {
                self.orders.push_back(answer);
                self.inputs.push_back(Input::Switch { tier, for_ });
            }
            Message::Endpoint(model, answer) => {
                // The client may have hung up.
                let _ = answer.send(self.backend.endpoint_aside(model.as_ref()));
            }
            Message::Wake => self.is_woken = true,
            Message::Shutdown => {
                if !std::mem::replace(&mut self.is_stopping, true) {
                    self.inputs.push_back(Input::Shutdown);
                }
            }
            Message::Abort => self.is_aborted = true,
        }
    }

    fn receive_outcome(&mut self, outcome: Outcome) {
        let runs = match &outcome {
            Outcome::Done { request, .. }
            | Outcome::Failed { request, .. }
            | Outcome::Cancelled { request } => self.running.remove(request).is_some(),
            Outcome::Crashed { model, .. } => {
                self.steps.forget(model);
                self.loading.remove(model);
                let died: Vec<RequestId> = self
                    .running
                    .iter()
                    .filter_map(|(&request, on)| (on == model).then_some(request))
                    .collect();
                for request in died {
                    let error = "the model crashed".to_owned();
                    self.receive_outcome(Outcome::Failed { request, error });
                }
                true
            }
            Outcome::Loaded { model } => {
                self.steps.complete(model);
                self.loading.remove(model);
                true
            }
            Outcome::LoadFailed { model, .. } | Outcome::Unloaded { model } => {
                self.steps.forget(model);
                self.loading.remove(model);
                true
            }
            Outcome::Loading { .. } | Outcome::Tried(_) => true,
        };
        if runs {
            self.outcomes.push_back(outcome);
        }
    }

    fn start(&mut self, request: RequestId, model: &ModelId) {
        self.running.insert(request, model.clone());
        self.at_work.insert(model.clone());
        let Some(endpoint) = self.backend.endpoint(model) else {
            let error = "the model is no longer loaded".to_owned();
            return self.receive_outcome(Outcome::Failed { request, error });
        };
        let rung = self.catalog.rung_of(model);
        let tier = rung.map(|rung| self.catalog.tier_name(rung).to_owned());
        let started = Started { endpoint, model: model.clone(), tier };
        if let Some(start) = self.replies.get_mut(&request).and_then(|it| it.started.take()) {
            // A client that is gone has reported it, or is about to.
            let _ = start.send(started);
        }
    }

    /// Returns the source of each loaded model's own use.
    pub(super) fn own_sources(&self) -> Vec<(ModelId, OwnSource)> {
        self.backend.own_sources()
    }

    /// Counts the work of our models as ours, in rates that the probe cannot separate.
    fn count_what_works(&mut self, sample: &mut Sample) {
        let still: BTreeSet<ModelId> =
            self.running.values().chain(&self.loading).cloned().collect();
        let mut worked = std::mem::replace(&mut self.at_work, still.clone());
        worked.extend(still);
        let (rates, backend) = (&mut self.rates, &self.backend);
        rates.count(sample, |gpu| match gpu {
            None => !worked.is_empty(),
            Some(gpu) => worked.iter().any(|model| backend.may_be_on(model, gpu)),
        });
    }

    fn update_probe(&mut self) {
        self.sampler.set_own_processes(OwnProcesses::new(self.backend.pids()));
    }
}

impl Clock for LiveWorld {
    fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Returns early when a message has come.
    fn wait_until(&mut self, deadline: Timestamp) -> Timestamp {
        let has_news = self.is_woken || !self.inputs.is_empty() || !self.outcomes.is_empty();
        let span = if has_news { Duration::ZERO } else { deadline.since(self.clock.now()) };
        if let Ok(message) = self.inbox.recv_timeout(span) {
            self.receive(message);
            for _ in 1..MOST_MESSAGES_AT_ONCE {
                let Ok(message) = self.inbox.try_recv() else { break };
                self.receive(message);
            }
        }
        self.clock.now()
    }
}

impl Probe for LiveWorld {
    fn sample(&mut self, now: Timestamp) -> Result<Sample, ProbeError> {
        if self.next_sample <= now {
            // A fixed grid, unless a moment of it was missed: a machine that slept is read once.
            self.next_sample += self.interval;
            if self.next_sample <= now {
                self.next_sample = now + self.interval;
            }
        }
        let mut sample = self.sampler.sample(now)?;
        if let LiveBackend::DryRun(models) = &self.backend {
            models.add_to(&mut sample);
            return Ok(sample);
        }
        self.count_what_works(&mut sample);
        let need = |model: &ModelId| Some(self.catalog.model(model)?.footprint());
        for (model, came) in self.steps.read(&sample, need) {
            self.backend.note_step(&model, came);
        }
        attribute(&mut sample, self.backend.figures());
        if let Some(memory) = &mut sample.memory {
            self.lag.count(now, memory);
        }
        Ok(sample)
    }
}

impl Backend for LiveWorld {
    fn submit(&mut self, now: Timestamp, command: &Command) {
        match command {
            Command::Load { model, .. } => {
                self.steps.begin(model);
                // It may be over before the next sample.
                self.at_work.insert(model.clone());
                self.loading.insert(model.clone());
                self.backend.submit(now, command);
                self.update_probe();
            }
            Command::Unload { .. } => {
                self.backend.submit(now, command);
                self.update_probe();
            }
            Command::Try { model } => {
                self.at_work.insert(model.clone());
                self.backend.submit(now, command);
            }
            Command::Start { request, model } => self.start(*request, model),
            // Its connection is closed when its client is notified of the end, which follows.
            Command::Cancel { request } => {
                self.receive_outcome(Outcome::Cancelled { request: *request });
            }
        }
    }

    fn poll(&mut self, now: Timestamp) -> Option<Outcome> {
        if self.outcomes.is_empty() && self.is_woken {
            match self.backend.poll(now) {
                Some(outcome) => self.receive_outcome(outcome),
                None => self.is_woken = false,
            }
            self.update_probe();
        }
        self.outcomes.pop_front()
    }

    fn next_wakeup(&self) -> Option<Timestamp> {
        (self.is_woken || !self.outcomes.is_empty()).then(|| self.clock.now())
    }
}

impl World for LiveWorld {
    /// Nothing is decided on a sample before it is known what is already loaded.
    fn next_sample(&self) -> Option<Timestamp> {
        let adopts = matches!(self.inputs.front(), Some(Input::Adopt { .. }));
        (!adopts).then_some(self.next_sample)
    }

    fn next_input(&self) -> Option<Timestamp> {
        (!self.inputs.is_empty()).then(|| self.clock.now())
    }

    fn poll_input(&mut self, _: Timestamp) -> Option<Input> {
        let input = self.inputs.pop_front();
        if let Some(Input::Switch { .. }) = input {
            self.order = self.orders.pop_front();
        }
        input
    }

    /// The first news of an order is the answer to it.
    fn ordered(&mut self, news: &OrderNews) {
        if let Some(answer) = self.order.take() {
            // The client may have hung up.
            let _ = answer.send(*news);
        }
    }

    fn ended(&mut self, _: Timestamp, request: RequestId, end: &End) {
        self.running.remove(&request);
        if let Some(reply) = self.replies.remove(&request) {
            let _ = reply.ended.send(end.clone());
        }
    }
}

/// Moves what our models use by their figures from others' use to own use: the probe sees no process of theirs.
fn attribute(sample: &mut Sample, figures: Footprint) {
    let vram = sample.gpus.first_mut().and_then(|gpu| gpu.vram.as_mut());
    for (space, figure) in [(sample.memory.as_mut(), figures.ram), (vram, figures.vram)] {
        if let Some(space) = space {
            // No more than there is: a figure is not a measurement.
            let own = figure.min(space.others);
            space.others = space.others - own;
            space.own += own;
        }
    }
}

/// Chosen: waiting messages are handed over together, but a flood does not block the rest.
const MOST_MESSAGES_AT_ONCE: usize = 1024;
