//! A small world, exhaustively: two rungs, three levels of others' use, and every order of possible events, to a depth. Random
//! worlds have some orders of many events; this test has every order of few.
//!
//! A step is one event and the reading after it. All waits are set to one or two readings, so that much happens in few
//! steps. `TIERSHIFT_DEPTH` sets a greater depth: each additional step takes about seven times as long.

use std::collections::BTreeSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use tiershift::sim::Invariants;
use tiershift_core::catalog::{Catalog, RawCatalog};
use tiershift_core::controller::{Controller, Detail};
use tiershift_core::event::{Command, EventRef, Input, Observe, Outcome, Output};
use tiershift_core::machine::MachineClass;
use tiershift_core::model::ModelId;
use tiershift_core::policy::Registry;
use tiershift_core::request::{Request, RequestId};
use tiershift_core::sample::{Sample, Space};
use tiershift_core::settings::Settings;
use tiershift_core::time::Timestamp;
use tiershift_core::units::Bytes;

#[test]
fn whatever_the_order_of_what_happens_nothing_is_broken() {
    let depth = std::env::var("TIERSHIFT_DEPTH").map_or(DEPTH, |it| it.parse().unwrap());
    let (settings, catalog) = (settings(), catalog());
    let mut search = Search { settings, catalog, runs: 0, states: BTreeSet::new() };
    search.explore(&mut Vec::new(), depth);
    println!("depth {depth}: {} runs, {} states", search.runs, search.states.len());
    assert!(search.runs > 10_000 && search.states.len() > 300, "{} runs", search.runs);
}

/// The event of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Step {
    /// Others' use changes to this level.
    Level(usize),
    /// Nothing happens.
    Wait,
    /// The machine cannot be read.
    Missing,
    /// The last command to a model's server is complete.
    Done(usize),
    /// The load of a model fails.
    Fails(usize),
    /// The server of a model dies.
    Crashes(usize),
    /// A pending answer exceeds its time limit.
    TimesOut,
    /// A request arrives.
    Asks,
    /// The reply is complete.
    Replies,
    /// The reply breaks off.
    Breaks,
}

/// The last command to a model's server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
enum Server {
    #[default]
    Absent,
    Loading,
    Ready,
    Unloading,
}

struct Search {
    settings: Settings,
    catalog: Catalog,
    runs: u64,
    /// Digests of the states of the world and the last answers.
    states: BTreeSet<u64>,
}

impl Search {
    /// Plays every continuation of `steps` to a depth. A controller cannot be copied, so each is played from the start.
    fn explore(&mut self, steps: &mut Vec<Step>, depth: usize) {
        let world = self.play(steps);
        if steps.len() < depth {
            for step in world.possible() {
                steps.push(step);
                self.explore(steps, depth);
                steps.pop();
            }
        }
    }

    fn play(&mut self, steps: &[Step]) -> World {
        let mut world = World::new(&self.settings, &self.catalog);
        world.tick();
        for &step in steps {
            world.pass(step);
        }
        self.runs += 1;
        self.states.insert(world.digest());
        let end = world.now;
        let promises = world.controller.promises();
        let fresh = Invariants::new(&self.settings, &self.catalog, promises);
        let broken = std::mem::replace(&mut world.invariants, fresh).finish(end);
        assert!(broken.is_empty(), "{broken:#?} after {steps:?}");
        world
    }
}

/// The controller and its surroundings.
struct World {
    controller: Controller,
    invariants: Invariants,
    catalog: Catalog,
    now: Timestamp,
    level: usize,
    servers: [Server; MODELS.len()],
    /// The open request, and whether it is running.
    request: Option<(RequestId, bool)>,
    asked: u64,
    is_read: bool,
    last: Vec<String>,
}

impl World {
    fn new(settings: &Settings, catalog: &Catalog) -> Self {
        let policies = Registry::built_in();
        let controller = Controller::new(settings, catalog, Detail::Silent, &policies).unwrap();
        Self {
            invariants: Invariants::new(settings, catalog, controller.promises()),
            controller,
            catalog: catalog.clone(),
            now: Timestamp::ZERO,
            level: 0,
            servers: [Server::Absent; MODELS.len()],
            request: None,
            asked: 0,
            is_read: true,
            last: Vec::new(),
        }
    }

    /// Returns the events that are possible next.
    fn possible(&self) -> Vec<Step> {
        let mut steps = vec![Step::Wait, Step::Missing];
        steps.extend((0..OTHERS_GIB.len()).filter(|&it| it != self.level).map(Step::Level));
        for (index, server) in self.servers.iter().enumerate() {
            match server {
                Server::Absent => {}
                Server::Loading => {
                    steps.extend([Step::Done(index), Step::Fails(index), Step::TimesOut]);
                }
                Server::Ready => steps.push(Step::Crashes(index)),
                Server::Unloading => steps.extend([Step::Done(index), Step::TimesOut]),
            }
        }
        match self.request {
            None => steps.push(Step::Asks),
            Some((_, true)) => steps.extend([Step::Replies, Step::Breaks]),
            Some((_, false)) => {}
        }
        steps.dedup();
        steps
    }

    fn pass(&mut self, step: Step) {
        self.last.clear();
        self.is_read = step != Step::Missing;
        match step {
            Step::Wait | Step::Missing => {}
            Step::Level(level) => self.level = level,
            Step::Done(index) => {
                let model = id(index);
                let (server, outcome) = match self.servers[index] {
                    Server::Unloading => (Server::Absent, Outcome::Unloaded { model }),
                    _ => (Server::Ready, Outcome::Loaded { model }),
                };
                self.servers[index] = server;
                self.hand(&Input::Outcome(outcome));
            }
            Step::Fails(index) => {
                self.servers[index] = Server::Absent;
                let (model, error) = (id(index), "no".to_owned());
                self.hand(&Input::Outcome(Outcome::LoadFailed { model, error }));
            }
            Step::Crashes(index) => self.crash(index),
            Step::TimesOut => {
                for _ in 0..READINGS_TO_A_TIME_OUT {
                    self.tick();
                }
            }
            Step::Asks => {
                self.asked += 1;
                let request = Request::chat(self.asked, 10, 10);
                self.request = Some((request.id, false));
                if self.controller.wants_sample(self.now, true) {
                    self.read();
                }
                self.hand(&Input::Request(request));
            }
            Step::Replies | Step::Breaks => self.reply(step == Step::Replies),
        }
        self.look();
        self.tick();
    }

    /// A server's running request ends with it.
    fn crash(&mut self, index: usize) {
        self.servers[index] = Server::Absent;
        if self.request.is_some_and(|(_, runs)| runs) {
            self.reply(false);
        }
        let (model, error) = (id(index), "no".to_owned());
        self.hand(&Input::Outcome(Outcome::Crashed { model, error }));
    }

    fn reply(&mut self, is_whole: bool) {
        let Some((request, _)) = self.request else { return };
        let outcome = match is_whole {
            true => {
                let (first_token, prompt_tokens, output_tokens) = (Duration::ZERO, None, 10);
                Outcome::Done { request, first_token, prompt_tokens, output_tokens }
            }
            false => Outcome::Failed { request, error: "no".to_owned() },
        };
        self.hand(&Input::Outcome(outcome));
    }

    /// Lets time pass until the next reading is due, and takes it.
    fn tick(&mut self) {
        let due = self.now + INTERVAL;
        while let Some(at) = self.controller.poll_timeout().filter(|&at| at < due) {
            self.now = self.now.max(at);
            self.hand(&Input::Timeout);
            self.look();
        }
        self.now = due;
        self.read();
        if self.controller.poll_timeout().is_some_and(|at| at <= due) {
            self.hand(&Input::Timeout);
        }
        self.look();
    }

    /// Reads the machine when the controller requests it, as the driver does.
    fn look(&mut self) {
        if self.controller.wants_sample(self.now, false) {
            self.read();
        }
    }

    fn read(&mut self) {
        if !self.is_read {
            return self.hand(&Input::SampleMissing { error: "no".to_owned() });
        }
        let holds = self.servers.iter().zip(self.catalog.models());
        let holds = holds.filter(|(server, _)| **server != Server::Absent);
        let own = holds.fold(Bytes::ZERO, |sum, (_, model)| sum + model.footprint().ram);
        let [total, others] = [MEMORY_GIB, OTHERS_GIB[self.level]].map(Bytes::from_gib);
        let memory = Some(Space { total, others, own });
        self.hand(&Input::Sample(Sample { memory, ..Sample::default() }));
    }

    fn hand(&mut self, input: &Input) {
        self.invariants.observe(self.now, EventRef::Input(input));
        self.controller.handle(self.now, input);
        let mut cut = false;
        while let Some(output) = self.controller.poll_output() {
            self.invariants.observe(self.now, EventRef::Output(&output));
            match &output {
                Output::Command(Command::Load { model, .. }) => self.ask(model, Server::Loading),
                Output::Command(Command::Unload { model }) => self.ask(model, Server::Unloading),
                Output::Command(Command::Start { request, .. }) => {
                    self.request = Some((*request, true));
                }
                Output::Command(Command::Cancel { .. }) => cut = true,
                Output::Ended { .. } => self.request = None,
                Output::Decision(decision) => self.last.push(decision.reason.kind().to_owned()),
                _ => {}
            }
        }
        if cut && let Some((request, _)) = self.request {
            self.hand(&Input::Outcome(Outcome::Cancelled { request }));
        }
    }

    fn ask(&mut self, model: &ModelId, server: Server) {
        let index = MODELS.iter().position(|name| model.as_str() == *name).unwrap();
        self.servers[index] = server;
    }

    fn digest(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        let waits = self.controller.poll_timeout().map(|at| at.since(self.now));
        (self.level, self.servers, self.request.map(|(_, runs)| runs), waits, &self.last)
            .hash(&mut hasher);
        hasher.finish()
    }
}

fn id(index: usize) -> ModelId {
    MODELS[index].into()
}

fn settings() -> Settings {
    let settings = "stabilization = '2s'\nreversal-window = '4s'\nprice = '0s'\ncalm = '0s'\nsettle-limit = '1s'\n\
        stale-after = '5s'\nfailure-limit = 1\nsampling-interval = '2s'\n[manager]\ndrain-deadline = '4s'\n\
        critical-drain-deadline = '2s'\nload-retry = '1s'\nload-attempts = 2\npatience = '10s'\n";
    Settings::new(toml::from_str(settings).unwrap(), MachineClass::MidRange).unwrap()
}

fn catalog() -> Catalog {
    let model = |(id, gib, quality): (&str, u64, u32)| {
        format!(
            "[[model]]\nid = '{id}'\ntier = '{id}'\nquality = '{quality}%'\nram = '{gib}GiB'\nload-warm = '1s'\n\
             load-cold = '1s'\nload-timeout = '8s'\nprefill-tokens-per-second = 100.0\ndecode-tokens-per-second = 10.0\n"
        )
    };
    let models = [(MODELS[0], 3, 50), (MODELS[1], 8, 100)].map(model).concat();
    let raw: RawCatalog = toml::from_str(&models).unwrap();
    Catalog::try_from(raw).unwrap()
}

/// The smaller one first.
const MODELS: [&str; 2] = ["small", "large"];
/// On 16 GiB: levels at which both fit, only the smaller one, and neither.
const MEMORY_GIB: u64 = 16;
const OTHERS_GIB: [u64; 3] = [2, 9, 15];
const INTERVAL: Duration = Duration::from_secs(2);
/// Longer than the limit of a load, and than the first wait for an unload.
const READINGS_TO_A_TIME_OUT: u32 = 10;
/// A million runs, in half a minute of one processor. Depth eight has 6.9 million, and took three minutes (measured 2026-11-28).
const DEPTH: usize = 7;
