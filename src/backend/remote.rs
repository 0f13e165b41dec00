//! Runs models in a server that somebody else started: we ask it to load and unload, and send requests there.
//!
//! Each model is kept by a task that asks, looks whether it has come to be so, and reports. What differs from server
//! to server is in [`server`] and the modules of its kinds. Left alone on purpose: whatever else the server runs.

pub mod client;
pub mod entry;
mod llama_swap;
mod lm_studio;
mod ollama;
mod plain;
mod processes;
mod protocol;
mod router;
pub mod server;

use std::collections::{BTreeMap, BTreeSet};
use std::pin::pin;
use std::sync::{Arc, mpsc};
use std::time::Duration;

use serde::Serialize;
use tiershift_core::backend::Backend;
use tiershift_core::catalog::Catalog;
use tiershift_core::event::{Adopted, Command, Outcome};
use tiershift_core::model::{Footprint, Model, ModelId};
use tiershift_core::time::Timestamp;
use tiershift_core::units::Bytes;
use tokio::runtime::Handle;
use tokio::sync::oneshot;

use crate::backend::endpoint::Endpoint;
use crate::backend::llama_server::Callbacks;
use crate::backend::remote::client::ServerError;
use crate::backend::remote::entry::{Entry, Presence};
use crate::backend::remote::server::Server;

/// Models in a server that is not ours.
pub struct Remote {
    server: Arc<Server>,
    models: BTreeMap<ModelId, Known>,
    tools: Tools,
    /// The models that are there, from the command to load to the report of their end.
    held: BTreeMap<ModelId, Held>,
    reports: mpsc::Receiver<Report>,
}

/// What never changes about a model.
struct Known {
    /// What the server calls it.
    name: String,
    footprint: Footprint,
}

struct Held {
    own: OwnUse,
    /// Taken once it was told to go.
    stop: Option<oneshot::Sender<()>>,
}

/// How much a loaded model uses, and who says so.
#[derive(Clone, Debug, PartialEq, Eq)]
enum OwnUse {
    /// What is read of these processes.
    Processes(BTreeSet<u32>),
    /// The server's own figure.
    Server(Footprint),
    /// The catalog's.
    Catalog,
}

/// Where the figure of a model's own use comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum OwnSource {
    /// The system, of the processes that the model runs in.
    Processes,
    /// The model's server.
    Server,
    /// The catalog.
    Catalog,
}

/// What a keeper says.
enum Report {
    Own(ModelId, OwnUse),
    Outcome(Outcome),
}

/// What every keeper needs.
#[derive(Clone)]
struct Tools {
    runtime: Handle,
    report: mpsc::Sender<Report>,
    callbacks: Callbacks,
}

impl Remote {
    /// Prepares to run these models in this server, which knows each by its id; Ollama's `:latest` may be left out.
    ///
    /// # Errors
    /// A model that the server does not list.
    pub fn new(
        server: Server,
        listed: &[Entry],
        catalog: &Catalog,
        runtime: Handle,
        callbacks: Callbacks,
    ) -> Result<Self, Unlisted> {
        let known = |model: &Model| {
            let is_it = |entry: &&Entry| server.calls(model.id.as_str(), &entry.name);
            let entry = listed.iter().find(is_it).ok_or_else(|| Unlisted {
                model: model.id.clone(),
                listed: listed.iter().map(|entry| entry.name.clone()).collect(),
            })?;
            let known = Known { name: entry.name.clone(), footprint: model.footprint() };
            Ok((model.id.clone(), known))
        };
        let models = catalog.models().iter().map(known).collect::<Result<_, _>>()?;
        let (report, reports) = mpsc::channel();
        let tools = Tools { runtime, report, callbacks };
        Ok(Self { server: Arc::new(server), models, tools, held: BTreeMap::new(), reports })
    }

    /// Returns where requests for a model are sent, once it was told to load.
    pub fn endpoint(&self, model: &ModelId) -> Option<Endpoint> {
        let known = self.models.get(model).filter(|_| self.held.contains_key(model))?;
        Some(self.server.endpoint(&known.name))
    }

    /// Returns the ids of the processes that models are known to run in.
    pub fn pids(&self) -> impl Iterator<Item = u32> {
        let pids = self.held.values().filter_map(|held| match &held.own {
            OwnUse::Processes(pids) => Some(pids.iter().copied()),
            OwnUse::Server(_) | OwnUse::Catalog => None,
        });
        pids.flatten()
    }

    /// Returns what the models use of which no process is known.
    pub fn figures(&self) -> Footprint {
        let mut sum = Footprint::default();
        for (model, held) in &self.held {
            let figure = match &held.own {
                OwnUse::Processes(_) => continue,
                OwnUse::Server(figure) => *figure,
                OwnUse::Catalog => self.models[model].footprint,
            };
            sum.ram += figure.ram;
            sum.vram += figure.vram;
        }
        sum
    }

    /// Returns where each loaded model's own use is taken from.
    pub fn own_sources(&self) -> impl Iterator<Item = (&ModelId, OwnSource)> {
        self.held.iter().map(|(model, held)| {
            let source = match held.own {
                OwnUse::Processes(_) => OwnSource::Processes,
                OwnUse::Server(_) => OwnSource::Server,
                OwnUse::Catalog => OwnSource::Catalog,
            };
            (model, source)
        })
    }

    /// Returns whether no model is left that we asked for.
    pub fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    /// Takes over what the server has loaded already, and returns those models.
    ///
    /// # Errors
    /// Where the server does not tell.
    pub fn adopt(&mut self) -> Result<Vec<Adopted>, ServerError> {
        let runtime = self.tools.runtime.clone();
        for entry in runtime.block_on(self.list_at_rest())? {
            let mut known = self.models.iter();
            let Some((model, _)) = known.find(|(_, known)| known.name == entry.name) else {
                continue;
            };
            if entry.presence == Presence::Ready {
                let model = model.clone();
                let (keeper, stopped) = self.keeper(&model);
                keeper.note_own(&entry);
                runtime.spawn(async move { keeper.keep(stopped).await });
            }
        }
        let adopted = |(model, _): (&ModelId, &Held)| {
            // Which GPU it is, no server tells.
            let has_vram = self.models[model].footprint.vram > Bytes::ZERO;
            Adopted { model: model.clone(), gpu: has_vram.then_some(0) }
        };
        Ok(self.held.iter().map(adopted).collect())
    }

    /// Returns what the server lists when nothing of it is on its way in or out, which is waited for a little.
    async fn list_at_rest(&self) -> Result<Vec<Entry>, ServerError> {
        let mut looks = 0;
        loop {
            let entries = self.server.list().await?;
            looks += 1;
            let is_at_rest = entries.iter().all(|entry| entry.presence != Presence::Loading);
            if is_at_rest || looks == LOOKS_BEFORE_ADOPTION {
                return Ok(entries);
            }
            tokio::time::sleep(WATCH_POLL).await;
        }
    }

    fn load(&mut self, model: &ModelId) {
        let error = if !self.models.contains_key(model) {
            "the server does not have it"
        } else if self.held.contains_key(model) {
            "its last unload has not ended"
        } else {
            let (keeper, stopped) = self.keeper(model);
            self.tools.runtime.spawn(keeper.load(stopped));
            return;
        };
        self.tools.tell(Outcome::LoadFailed { model: model.clone(), error: error.to_owned() });
    }

    fn keeper(&mut self, model: &ModelId) -> (Keeper, oneshot::Receiver<()>) {
        let (stop, stopped) = oneshot::channel();
        self.held.insert(model.clone(), Held { own: OwnUse::Catalog, stop: Some(stop) });
        let keeper = Keeper {
            model: model.clone(),
            name: self.models[model].name.clone(),
            server: Arc::clone(&self.server),
            tools: self.tools.clone(),
        };
        (keeper, stopped)
    }

    fn unload(&mut self, model: &ModelId) {
        match self.held.get_mut(model) {
            // Asked again: the answer is on its way.
            Some(held) => drop(held.stop.take().map(|stop| stop.send(()))),
            None => self.tools.tell(Outcome::Unloaded { model: model.clone() }),
        }
    }
}

impl Backend for Remote {
    fn submit(&mut self, _: Timestamp, command: &Command) {
        match command {
            Command::Load { model, .. } => self.load(model),
            Command::Unload { model } => self.unload(model),
            // These are between a client and the server.
            Command::Start { .. } | Command::Cancel { .. } => {}
        }
    }

    fn poll(&mut self, _: Timestamp) -> Option<Outcome> {
        loop {
            match self.reports.try_recv().ok()? {
                Report::Own(model, own) => {
                    if let Some(held) = self.held.get_mut(&model) {
                        held.own = own;
                    }
                }
                Report::Outcome(outcome) => {
                    if let Outcome::LoadFailed { model, .. }
                    | Outcome::Unloaded { model }
                    | Outcome::Crashed { model, .. } = &outcome
                    {
                        self.held.remove(model);
                    }
                    return Some(outcome);
                }
            }
        }
    }

    /// Nothing is known beforehand: `wake` is called instead.
    fn next_wakeup(&self) -> Option<Timestamp> {
        None
    }
}

impl Tools {
    fn tell(&self, outcome: Outcome) {
        self.report(Report::Outcome(outcome));
    }

    fn report(&self, report: Report) {
        // Nobody listens any more when the daemon has ended.
        let _ = self.report.send(report);
        (self.callbacks.wake)();
    }
}

/// Keeps one model as it shall be, and says what becomes of it.
struct Keeper {
    model: ModelId,
    name: String,
    server: Arc<Server>,
    tools: Tools,
}

impl Keeper {
    async fn load(self, mut stopped: oneshot::Receiver<()>) {
        // A load may be answered after minutes; whether the server is there at all is known sooner.
        if let Err(error) = self.server.look(&self.name).await {
            return self.load_failed(&error);
        }
        let answer = {
            let mut asked = pin!(self.server.load(&self.name));
            tokio::select! {
                answer = &mut asked => answer,
                _ = &mut stopped => {
                    // What cannot be called back takes its memory all the same, and is dropped when it is there.
                    if !self.server.can_cancel_load() {
                        let _ = tokio::time::timeout(UNLOAD_PATIENCE, asked).await;
                    }
                    return self.unload().await;
                }
            }
        };
        if let Err(error) = answer {
            return self.load_failed(&error);
        }
        let (mut has_begun, mut looks) = (false, 0);
        loop {
            match self.server.look(&self.name).await {
                Ok(entry) => match entry.presence {
                    Presence::Ready => {
                        self.note_own(&entry);
                        self.tools.tell(Outcome::Loaded { model: self.model.clone() });
                        return self.keep(stopped).await;
                    }
                    Presence::Loading => {
                        has_begun = true;
                        self.note_own(&entry);
                    }
                    // Before it has begun, this is what the last run of it has come to.
                    Presence::Absent | Presence::Failed if !has_begun && looks < LOOKS_TO_BEGIN => {
                    }
                    Presence::Absent | Presence::Failed => {
                        let error = "the server did not bring it up".to_owned();
                        return self
                            .tools
                            .tell(Outcome::LoadFailed { model: self.model.clone(), error });
                    }
                },
                Err(error @ ServerError::Away) => return self.load_failed(&error),
                // Whether it takes too long, the manager says.
                Err(_) => {}
            }
            looks += 1;
            tokio::select! {
                () = tokio::time::sleep(LOAD_POLL) => {}
                _ = &mut stopped => return self.unload().await,
            }
        }
    }

    /// From the moment at which it can serve.
    async fn keep(&self, mut stopped: oneshot::Receiver<()>) {
        let mut unanswered = 0;
        loop {
            tokio::select! {
                () = tokio::time::sleep(WATCH_POLL) => {}
                _ = &mut stopped => return self.unload().await,
            }
            let model = self.model.clone();
            let crashed = match self.server.look(&self.name).await {
                Ok(entry) => {
                    unanswered = 0;
                    match entry.presence {
                        Presence::Ready if entry.expires => {
                            self.server.renew(&self.name).await;
                            continue;
                        }
                        Presence::Ready | Presence::Loading => continue,
                        Presence::Failed => "its process ended".to_owned(),
                        // Dropped to make room for another, idle for too long, or unloaded by somebody else.
                        Presence::Absent => return self.tools.tell(Outcome::Unloaded { model }),
                    }
                }
                Err(error) => {
                    unanswered += 1;
                    if error != ServerError::Away && unanswered < MOST_UNANSWERED {
                        continue;
                    }
                    error.to_string()
                }
            };
            return self.tools.tell(Outcome::Crashed { model, error: crashed });
        }
    }

    async fn unload(&self) {
        if !self.server.never_unloads() {
            let idle = async {
                while self.server.is_busy(&self.name).await {
                    tokio::time::sleep(LOAD_POLL).await;
                }
            };
            // Our own requests have ended; somebody else's are not waited for without end.
            let _ = tokio::time::timeout(BUSY_LIMIT, idle).await;
            let gone = tokio::time::timeout(UNLOAD_PATIENCE, self.until_gone());
            if gone.await.is_err() {
                let words = "its server was asked to unload it and has not, so its memory counts as others' now";
                (self.tools.callbacks.exit_message)(&self.model, words);
            }
        }
        self.tools.tell(Outcome::Unloaded { model: self.model.clone() });
    }

    async fn until_gone(&self) {
        loop {
            let asked = tokio::time::timeout(UNLOAD_AGAIN, self.server.unload(&self.name)).await;
            if asked == Ok(Err(ServerError::Away)) {
                return;
            }
            for _ in 0..LOOKS_TO_GO {
                match self.server.look(&self.name).await {
                    Ok(Entry { presence: Presence::Absent | Presence::Failed, .. })
                    | Err(ServerError::Away) => return,
                    Ok(_) | Err(_) => tokio::time::sleep(LOAD_POLL).await,
                }
            }
        }
    }

    fn load_failed(&self, error: &ServerError) {
        if let ServerError::Refused { words, .. } = error {
            (self.tools.callbacks.exit_message)(&self.model, words);
        }
        let (model, error) = (self.model.clone(), error.to_string());
        self.tools.tell(Outcome::LoadFailed { model, error });
    }

    fn note_own(&self, entry: &Entry) {
        let pids = self.server.processes(entry);
        let own = match entry.used {
            _ if !pids.is_empty() => OwnUse::Processes(pids),
            Some(used) => OwnUse::Server(used),
            None => OwnUse::Catalog,
        };
        self.tools.report(Report::Own(self.model.clone(), own));
    }
}

/// A model of the catalog that a server does not list.
#[derive(Debug, thiserror::Error)]
#[error("the server does not list model \"{model}\": it has {}", listed.join(", "))]
pub struct Unlisted {
    model: ModelId,
    listed: Vec<String>,
}

/// A small model loads in a router in 75 ms (measured 2026-11-23).
const LOAD_POLL: Duration = Duration::from_millis(50);

/// Chosen: an end that nobody told of is seen this soon, for a thousandth of a processor.
const WATCH_POLL: Duration = Duration::from_millis(500);

/// A router says that it loads a model some milliseconds after it was asked, and that a file is broken within 1.5 s
/// (measured 2026-11-23): together 2 s.
const LOOKS_TO_BEGIN: u32 = 40;

/// Chosen: 10 s of no answer, at 2 s and a pause each.
const MOST_UNANSWERED: u32 = 4;

/// Chosen: what is on its way at our start has 10 s to arrive.
const LOOKS_BEFORE_ADOPTION: u32 = 20;

/// The manager's own drain deadline, by default.
const BUSY_LIMIT: Duration = Duration::from_mins(2);

/// Chosen: an unload that has not helped in 5 s is asked for again.
const UNLOAD_AGAIN: Duration = Duration::from_secs(5);
const LOOKS_TO_GO: u32 = 100;

/// Chosen: three times the longest stop time-out of these servers (10 s).
const UNLOAD_PATIENCE: Duration = Duration::from_secs(30);
