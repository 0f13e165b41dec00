//! The backends of a real machine: processes of our own, or a server that is already running.

use tiershift_core::backend::Backend;
use tiershift_core::event::{Command, Outcome};
use tiershift_core::model::{Footprint, ModelId};
use tiershift_core::time::Timestamp;

use crate::backend::dry_run::DryRun;
use crate::backend::endpoint::Endpoint;
use crate::backend::llama_server::LlamaServer;
use crate::backend::remote::{OwnSource, Remote};

/// What runs the models of a live run.
pub enum LiveBackend {
    /// Processes of our own.
    Processes(LlamaServer),
    /// A server that others started.
    Remote(Remote),
    /// Nothing.
    DryRun(DryRun),
}

impl LiveBackend {
    /// Returns where requests for a model are sent, once it was asked to load.
    pub fn endpoint(&self, model: &ModelId) -> Option<Endpoint> {
        match self {
            Self::Processes(server) => server.endpoint(model),
            Self::Remote(server) => server.endpoint(model),
            Self::DryRun(_) => None,
        }
    }

    /// Returns where queries are sent that take no slot: to a model that was asked to load, or to a server that runs
    /// without one.
    pub fn endpoint_aside(&self, model: Option<&ModelId>) -> Option<Endpoint> {
        let of_model = model.and_then(|model| self.endpoint(model));
        match self {
            Self::Processes(_) | Self::DryRun(_) => of_model,
            Self::Remote(server) => Some(of_model.unwrap_or_else(|| server.bare_endpoint())),
        }
    }

    /// Returns the ids of the processes that models run in, as far as they are known.
    pub fn pids(&self) -> Vec<u32> {
        match self {
            Self::Processes(server) => server.pids().collect(),
            Self::Remote(server) => server.pids().collect(),
            Self::DryRun(_) => Vec::new(),
        }
    }

    /// Returns what the models use whose processes are not known.
    pub fn figures(&self) -> Footprint {
        match self {
            Self::Processes(_) | Self::DryRun(_) => Footprint::default(),
            Self::Remote(server) => server.figures(),
        }
    }

    /// Sets the growth at a model's load, if nothing better is known.
    pub fn note_step(&mut self, model: &ModelId, came: Footprint) {
        match self {
            Self::Processes(_) | Self::DryRun(_) => {}
            Self::Remote(server) => server.note_step(model, came),
        }
    }

    /// Returns whether a model may be on a GPU: a server of others does not report which one it uses.
    pub fn may_be_on(&self, model: &ModelId, gpu: usize) -> bool {
        match self {
            Self::Processes(server) => server.gpu_of(model).map(usize::from) == Some(gpu),
            Self::Remote(_) => true,
            Self::DryRun(_) => false,
        }
    }

    /// Returns the source of each loaded model's own use.
    pub fn own_sources(&self) -> Vec<(ModelId, OwnSource)> {
        match self {
            Self::Processes(server) => {
                server.models().map(|model| (model.clone(), OwnSource::Processes)).collect()
            }
            Self::Remote(server) => {
                server.own_sources().map(|(model, source)| (model.clone(), source)).collect()
            }
            Self::DryRun(_) => Vec::new(),
        }
    }

    /// Returns whether no model is left.
    pub fn is_empty(&self) -> bool {
        match self {
            Self::Processes(server) => server.is_empty(),
            Self::Remote(server) => server.is_empty(),
            Self::DryRun(models) => models.is_empty(),
        }
    }
}

impl Backend for LiveBackend {
    fn submit(&mut self, now: Timestamp, command: &Command) {
        match self {
            Self::Processes(server) => server.submit(now, command),
            Self::Remote(server) => server.submit(now, command),
            Self::DryRun(models) => models.submit(now, command),
        }
    }

    fn poll(&mut self, now: Timestamp) -> Option<Outcome> {
        match self {
            Self::Processes(server) => server.poll(now),
            Self::Remote(server) => server.poll(now),
            Self::DryRun(models) => models.poll(now),
        }
    }

    fn next_wakeup(&self) -> Option<Timestamp> {
        match self {
            Self::Processes(server) => server.next_wakeup(),
            Self::Remote(server) => server.next_wakeup(),
            Self::DryRun(models) => models.next_wakeup(),
        }
    }
}
