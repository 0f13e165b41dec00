//! A model server that is already running, as the daemon finds it: its address, its kind, and a catalog made from its
//! list.

use std::io;

use reqwest::Url;
use tiershift_core::model::ModelId;
use tiershift_core::units::Bytes;

use crate::backend::remote::client::ServerError;
use crate::backend::remote::entry::Entry;
use crate::backend::remote::server::Server;
use crate::files::document::suggestion;
use crate::files::model_table::ModelTable;
use crate::inventory::gguf::Dimensions;
use crate::inventory::ladder::{Found, Ladder, LadderError, Served, Wishes};

/// A model server on this machine.
#[derive(Clone, Debug)]
pub struct RemoteServer {
    pub(crate) server: Server,
    pub(crate) listed: Vec<Entry>,
    url: String,
}

impl RemoteServer {
    /// Finds out which server answers at an address, and which models it has.
    ///
    /// # Errors
    /// When the address is not on this machine, or no known server answers there.
    pub fn find(url: &str) -> Result<Self, ListingError> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(ListingError::Runtime)?;
        runtime.block_on(Self::look(url))
    }

    /// As [`RemoteServer::find`], in an existing runtime.
    pub(crate) async fn look(url: &str) -> Result<Self, ListingError> {
        let refuse = || ListingError::Url { url: url.to_owned() };
        // As in the settings of clients.
        let base = url.trim_end_matches('/');
        let base = base.strip_suffix("/v1").unwrap_or(base);
        let parsed = Url::parse(base).map_err(|_| refuse())?;
        let is_near = parsed.host_str().is_some_and(|host| {
            host == "localhost"
                || host
                    .trim_matches(['[', ']'])
                    .parse::<std::net::IpAddr>()
                    .is_ok_and(|address| address.is_loopback())
        });
        if parsed.scheme() != "http" || !is_near {
            return Err(refuse());
        }
        let found = async {
            let client = crate::backend::http::http_client().map_err(|_| ServerError::Away)?;
            let server = Server::recognise(client, &parsed).await?;
            let listed = server.list().await?;
            Ok((server, listed))
        };
        let (server, listed) = found
            .await
            .map_err(|source| ListingError::ServerError { url: url.to_owned(), source })?;
        Ok(Self { server, listed, url: url.to_owned() })
    }

    /// Returns the name of the server's kind, for users.
    pub fn name(&self) -> &'static str {
        self.server.kind().name()
    }

    /// Returns the models that are served, the largest on top: those that it lists and that complete, or those that a
    /// catalog names.
    ///
    /// # Errors
    /// When it has none, or does not report the size of one; or when the settings name a model that it does not have,
    /// or how its server is started.
    pub fn ladder(&self, wishes: &Wishes) -> Result<Ladder, ListingError> {
        let is_named = |entry: &&Entry| wishes.catalog.is_some() || !entry.embeds_only;
        let listed: Vec<&Entry> = self.listed.iter().filter(is_named).collect();
        let found: Vec<Found> = listed.iter().map(|entry| found(entry)).collect();
        let find = |table: &ModelTable| {
            let name = table.id.as_ref().or(table.file.as_ref()).ok_or(LadderError::Nameless)?;
            let place = listed.iter().position(|entry| self.server.calls(name, &entry.name));
            place.ok_or_else(|| {
                let names = listed.iter().map(|entry| entry.name.as_str());
                LadderError::Missing {
                    model: name.clone(),
                    wanted: format!("{} at {} to list it", self.name(), self.url),
                    remedy: suggestion(name, names),
                }
            })
        };
        let mut ladder = wishes.ladder(&found, find, None)?;
        if self.server.never_unloads() {
            ladder.notes.push(format!(
                "{} at {} can neither load nor unload models, so tiershift only forwards requests to it and frees no memory; give a folder of models (--models), or a server that switches models, such as llama-server's router",
                self.name(),
                self.url
            ));
        }
        let is_started_by_us = |served: &Served| !served.args.is_empty() || !served.env.is_empty();
        if let Some((model, _)) = ladder.rungs.iter().find(|(_, it)| is_started_by_us(it)) {
            return Err(ListingError::Started { server: self.name(), model: model.clone() });
        }
        Ok(ladder)
    }
}

fn found(entry: &Entry) -> Found {
    let dimensions = entry.file.as_ref().and_then(|file| Dimensions::read(file).ok());
    Found {
        id: entry.name.clone(),
        file: None,
        size: size(entry),
        context_tokens: entry.context_tokens,
        slots: entry.slots,
        dimensions: dimensions.unwrap_or_default(),
        can_see: false,
    }
}

/// Returns the size of a model's weights: as its server reports it, or that of its file, if that can be read.
fn size(entry: &Entry) -> Option<Bytes> {
    let of_file = || Some(Bytes::new(std::fs::metadata(entry.file.as_ref()?).ok()?.len()));
    entry.size.or_else(of_file)
}

impl ListingError {
    /// Returns whether this is the answer of a server that is not up yet: none, or that it is not ready.
    pub fn is_not_up_yet(&self) -> bool {
        let Self::ServerError { source, .. } = self else { return false };
        matches!(
            source,
            ServerError::Away | ServerError::Silent | ServerError::Refused { code: 502..=504, .. }
        )
    }
}

/// Why a server cannot be used.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "each variant's message says what it is")]
pub enum ListingError {
    #[error(
        "`{url}` is not the address of a server on this machine: give one such as http://127.0.0.1:11434"
    )]
    Url { url: String },
    #[error("no model server is found at {url}: start it, or check the address")]
    ServerError { url: String, source: ServerError },
    #[error(
        "`args` and `env` of model \"{model}\" only apply to a llama-server that the daemon starts, but {server} is already running: remove them"
    )]
    Started { server: &'static str, model: ModelId },
    #[error("the system gives no threads")]
    Runtime(#[source] io::Error),
    #[error(transparent)]
    Ladder(#[from] LadderError),
}
