//! Runs models in a server that is already running: we ask it to load and unload, and send requests to it.
//!
//! A task keeps each model in its state (`keeper`). The differences between servers are one table (`protocol`) in the
//! module of each kind. Other models that the server runs are left alone.

pub mod client;
pub mod entry;
mod keeper;
mod llama_swap;
mod lm_studio;
mod ollama;
mod plain;
mod processes;
mod protocol;
mod router;
pub mod server;

use std::collections::BTreeMap;
use std::sync::{Arc, mpsc};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tiershift_core::backend::Backend;
use tiershift_core::catalog::Catalog;
use tiershift_core::event::{Adopted, Command, Outcome};
use tiershift_core::model::{Footprint, Model, ModelId};
use tiershift_core::time::Timestamp;
use tiershift_core::units::Bytes;
use tokio::runtime::Handle;
use tokio::sync::oneshot;

use crate::backend::callbacks::Callbacks;
use crate::backend::endpoint::Endpoint;
use crate::backend::remote::client::ServerError;
use crate::backend::remote::entry::{Entry, Presence};
use crate::backend::remote::keeper::{Keeper, OwnUse, Report, Tools, WATCH_POLL};
use crate::backend::remote::server::Server;

/// Models in a server that is not ours.
pub struct Remote {
    server: Arc<Server>,
    models: BTreeMap<ModelId, Known>,
    tools: Tools,
    /// The existing models, from the command to load to the report of their end.
    held: BTreeMap<ModelId, Held>,
    reports: mpsc::Receiver<Report>,
}

/// The constant data of a model.
struct Known {
    /// Its name at the server.
    name: String,
    footprint: Footprint,
}

struct Held {
    own: OwnUse,
    /// Taken once it was asked to go.
    stop: Option<oneshot::Sender<()>>,
}

/// The source of the figure for a model's own use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum OwnSource {
    /// The system, for the processes in which the model runs.
    Processes,
    /// The model's server.
    Server,
    /// The growth of all use when it was loaded.
    Step,
    /// The catalog.
    Catalog,
}

impl Remote {
    /// Prepares to run these models in this server, which knows each by its id; Ollama's `:latest` may be left out.
    ///
    /// # Errors
    /// When the server does not list a model.
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
        let (sender, reports) = mpsc::channel();
        let tools = Tools { runtime, reports: sender, callbacks };
        Ok(Self { server: Arc::new(server), models, tools, held: BTreeMap::new(), reports })
    }

    /// Returns where requests for a model are sent, once it was asked to load.
    pub fn endpoint(&self, model: &ModelId) -> Option<Endpoint> {
        let known = self.models.get(model).filter(|_| self.held.contains_key(model))?;
        Some(self.server.endpoint(&known.name))
    }

    /// Returns the endpoint for what is not about one model.
    pub fn bare_endpoint(&self) -> Endpoint {
        self.server.bare_endpoint()
    }

    /// Returns the ids of the processes that models are known to run in.
    pub fn pids(&self) -> impl Iterator<Item = u32> {
        let pids = self.held.values().filter_map(|held| match &held.own {
            OwnUse::Processes(pids) => Some(pids.iter().copied()),
            OwnUse::Server(_) | OwnUse::Step(_) | OwnUse::Catalog => None,
        });
        pids.flatten()
    }

    /// Returns what the models use whose processes are not known.
    pub fn figures(&self) -> Footprint {
        let mut sum = Footprint::default();
        for (model, held) in &self.held {
            let figure = match &held.own {
                OwnUse::Processes(_) => continue,
                OwnUse::Server(figure) | OwnUse::Step(figure) => *figure,
                OwnUse::Catalog => self.models[model].footprint,
            };
            sum.ram += figure.ram;
            sum.vram += figure.vram;
        }
        sum
    }

    /// Sets the growth that was measured at a model's load, which overrides the catalog.
    pub fn note_step(&mut self, model: &ModelId, came: Footprint) {
        if let Some(held) = self.held.get_mut(model).filter(|held| held.own == OwnUse::Catalog) {
            held.own = OwnUse::Step(came);
        }
    }

    /// Returns the source of each loaded model's own use.
    pub fn own_sources(&self) -> impl Iterator<Item = (&ModelId, OwnSource)> {
        self.held.iter().map(|(model, held)| {
            let source = match held.own {
                OwnUse::Processes(_) => OwnSource::Processes,
                OwnUse::Server(_) => OwnSource::Server,
                OwnUse::Step(_) => OwnSource::Step,
                OwnUse::Catalog => OwnSource::Catalog,
            };
            (model, source)
        })
    }

    /// Returns whether no model is left that we requested.
    pub fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    /// Takes over what the server has already loaded, and returns those models.
    ///
    /// # Errors
    /// When the server does not list its models.
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
                keeper.report_own(&entry);
                runtime.spawn(async move { keeper.keep(stopped).await });
            }
        }
        let adopted = |(model, _): (&ModelId, &Held)| {
            // No server reports which GPU it is.
            let has_vram = self.models[model].footprint.vram > Bytes::ZERO;
            Adopted { model: model.clone(), gpu: has_vram.then_some(0) }
        };
        Ok(self.held.iter().map(adopted).collect())
    }

    /// Returns the server's list when nothing in it is loading or unloading, which is waited for a little.
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
        self.tools.report(Outcome::LoadFailed { model: model.clone(), error: error.to_owned() });
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
            // A repeated command: the answer is on its way.
            Some(held) => drop(held.stop.take().map(|stop| stop.send(()))),
            None => self.tools.report(Outcome::Unloaded { model: model.clone() }),
        }
    }
}

impl Backend for Remote {
    fn submit(&mut self, _: Timestamp, command: &Command) {
        match command {
            Command::Load { model, .. } => self.load(model),
            Command::Unload { model } => self.unload(model),
            // These pass between a client and the server.
            Command::Start { .. } | Command::Cancel { .. } => {}
            // Its speeds are guesses, or were measured beside other programs; the owner of the server takes care of it.
            Command::Try { .. } => {}
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

    /// Nothing is known in advance: `wake` is called instead.
    fn next_wakeup(&self) -> Option<Timestamp> {
        None
    }
}

/// A model of the catalog that a server does not list.
#[derive(Debug, thiserror::Error)]
#[error("the server does not list model \"{model}\": it has {}", listed.join(", "))]
pub struct Unlisted {
    model: ModelId,
    listed: Vec<String>,
}

/// Chosen: a load or unload under way at our start has 10 s to finish.
const LOOKS_BEFORE_ADOPTION: u32 = 20;
