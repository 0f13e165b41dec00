//! The source of a daemon's models: its own processes, or a server that is already running.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::UNIX_EPOCH;

use tiershift_core::catalog::Catalog;
use tiershift_core::event::Adopted;
use tiershift_core::model::ModelId;
use tokio::runtime::Handle;

use crate::backend::callbacks::Callbacks;
use crate::backend::dry_run::DryRun;
use crate::backend::live::LiveBackend;
use crate::backend::llama_server::LlamaServer;
use crate::backend::llama_server::launch::Launch;
use crate::backend::remote::client::ServerError;
use crate::backend::remote::server::Kind;
use crate::backend::remote::{Remote, Unlisted};
use crate::inventory::folder::{Folder, FolderError};
use crate::inventory::listing::RemoteServer;

/// The source of the models.
#[derive(Clone, Debug)]
pub enum Source {
    /// A process of our own for each model.
    Processes {
        /// The `llama-server` program.
        program: PathBuf,
        /// The model files.
        folder: Folder,
        /// How each model is started.
        launches: BTreeMap<ModelId, Launch>,
    },
    /// A server that was started by others.
    Server(RemoteServer),
}

/// A backend that is ready for its first command.
pub(super) struct Started {
    pub(super) backend: LiveBackend,
    /// What it has already loaded.
    pub(super) adopted: Vec<Adopted>,
    /// Held as long as the daemon serves.
    pub(super) claim: Option<File>,
}

impl Started {
    /// Begins with nothing, and loads nothing.
    pub(super) fn dry_run(
        catalog: &Catalog,
        (runtime, _, callbacks): (Handle, reqwest::Client, Callbacks),
    ) -> Self {
        let models = DryRun::new(catalog.clone(), runtime, callbacks);
        Self { backend: LiveBackend::DryRun(models), adopted: Vec::new(), claim: None }
    }
}

impl Source {
    /// Returns when each model's file was written, in seconds since 1970, if known.
    pub(super) fn written(&self) -> BTreeMap<ModelId, i64> {
        let Self::Processes { launches, .. } = self else { return BTreeMap::new() };
        let seconds = |file: &Path| {
            let written = std::fs::metadata(file).ok()?.modified().ok()?;
            i64::try_from(written.duration_since(UNIX_EPOCH).ok()?.as_secs()).ok()
        };
        let each = launches.iter();
        each.filter_map(|(model, launch)| Some((model.clone(), seconds(&launch.file)?))).collect()
    }

    /// Returns each model's file, if we load it.
    pub(super) fn files(&self) -> BTreeMap<ModelId, PathBuf> {
        let Self::Processes { launches, .. } = self else { return BTreeMap::new() };
        launches.iter().map(|(model, launch)| (model.clone(), launch.file.clone())).collect()
    }

    /// Returns whether Ollama runs the models.
    pub(super) fn is_ollama(&self) -> bool {
        matches!(self, Self::Server(server) if server.server.kind() == Kind::Ollama)
    }

    /// Prepares to run a catalog's models.
    pub(super) fn start(
        &self,
        catalog: &Catalog,
        tools: (Handle, reqwest::Client, Callbacks),
    ) -> Result<Started, SourceError> {
        let (runtime, client, callbacks) = tools;
        match self {
            Self::Processes { program, folder, launches } => {
                check_program(program)?;
                let claim = folder.claim()?;
                let home = folder.path().to_owned();
                let (program, launches) = (program.clone(), launches.clone());
                let mut server =
                    LlamaServer::new(program, home, launches, runtime, client, callbacks);
                let adopted = if claim.is_some() { server.adopt() } else { Vec::new() };
                Ok(Started { backend: LiveBackend::Processes(server), adopted, claim })
            }
            Self::Server(RemoteServer { server, listed, .. }) => {
                let server = server.with_client(client);
                let mut server = Remote::new(server, listed, catalog, runtime, callbacks)?;
                let adopted = server.adopt()?;
                Ok(Started { backend: LiveBackend::Remote(server), adopted, claim: None })
            }
        }
    }
}

/// Checks that the program runs at all: a wrong path is reported now, not as a load that fails again and again.
fn check_program(program: &Path) -> Result<(), SourceError> {
    let mut command = Command::new(program);
    command.arg("--version").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let ran = command.status().and_then(|status| {
        if status.success() { Ok(()) } else { Err(io::Error::other(status.to_string())) }
    });
    ran.map_err(|source| SourceError::Program { program: program.to_owned(), source })
}

/// Why models cannot be run.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "each variant's message says what it is")]
pub enum SourceError {
    #[error("`{}` cannot be started: give the path of a llama-server with --llama-server; scripts/get-llama-server.sh downloads one", program.display())]
    Program { program: PathBuf, source: io::Error },
    #[error(transparent)]
    Folder(#[from] FolderError),
    #[error("{0}: correct the catalog, or add the model to the server")]
    Unlisted(#[from] Unlisted),
    #[error("the model server is gone: start it, or check the address")]
    Server(#[from] ServerError),
}
