//! A model server that is already running: its kind, and the same few queries to each kind.

use std::collections::BTreeSet;

use reqwest::Url;

use crate::backend::endpoint::{Changes, Endpoint};
use crate::backend::remote::client::{ServerClient, ServerError};
use crate::backend::remote::entry::Entry;
use crate::backend::remote::protocol::Protocol;
use crate::backend::remote::{llama_swap, lm_studio, ollama, plain, router};

/// A server that was recognised.
#[derive(Clone, Debug)]
pub struct Server {
    kind: Kind,
    client: ServerClient,
}

/// The known kinds of servers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// llama.cpp's llama-server in router mode.
    Router,
    /// Ollama.
    Ollama,
    /// LM Studio 0.4 or later.
    LmStudio,
    /// llama-swap.
    LlamaSwap,
    /// A llama-server of one model.
    LlamaServer,
    /// Any server with OpenAI's API: it lists and completes, but loads and unloads nothing.
    Plain,
}

impl Kind {
    /// In the order in which they are recognised, by the content of answers: LM Studio answers 200 to any path (its bug
    /// tracker, 1680), and both Ollama and llama-swap have /api/version.
    pub const IN_ORDER: [Self; 6] = [
        Self::LmStudio,
        Self::LlamaSwap,
        Self::Router,
        Self::Ollama,
        Self::LlamaServer,
        Self::Plain,
    ];

    fn protocol(self) -> &'static Protocol {
        match self {
            Self::Router => &router::PROTOCOL,
            Self::Ollama => &ollama::PROTOCOL,
            Self::LmStudio => &lm_studio::PROTOCOL,
            Self::LlamaSwap => &llama_swap::PROTOCOL,
            Self::LlamaServer => &plain::LLAMA_SERVER,
            Self::Plain => &plain::PROTOCOL,
        }
    }

    /// Returns its name for users.
    pub fn name(self) -> &'static str {
        self.protocol().name
    }

    /// Reads its models, in its order, from its list of models and its list of loaded ones.
    ///
    /// # Errors
    /// When this kind of server would not answer like that.
    pub fn entries(self, list: &str, loaded: &str) -> Result<Vec<Entry>, ServerError> {
        (self.protocol().entries)(list, loaded)
    }
}

impl Server {
    /// Finds out which server answers at `url`.
    ///
    /// # Errors
    /// When nothing answers, or no known server.
    pub async fn recognise(client: reqwest::Client, url: &Url) -> Result<Self, ServerError> {
        let client = ServerClient::new(client, url.clone());
        let mut last = ServerError::Unclear;
        for kind in Kind::IN_ORDER {
            match (kind.protocol().recognise)(&client).await? {
                Ok(()) => return Ok(Self { kind, client }),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// Returns its kind.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Returns the same server with another client.
    #[must_use]
    pub fn with_client(&self, client: reqwest::Client) -> Self {
        Self { kind: self.kind, client: self.client.with(client) }
    }

    /// Returns the models that it has, in its order.
    pub async fn list(&self) -> Result<Vec<Entry>, ServerError> {
        let mut entries = self.entries().await?;
        if let Some(slots) = self.kind.protocol().slots {
            // A server that does not report them still serves.
            let slots = slots(&self.client).await.ok();
            entries.iter_mut().for_each(|entry| entry.slots = slots);
        }
        Ok(entries)
    }

    async fn entries(&self) -> Result<Vec<Entry>, ServerError> {
        let protocol = self.kind.protocol();
        let list = self.client.text(protocol.list).await??;
        let loaded = match &protocol.loaded {
            Some(loaded) => self.client.text(loaded.path).await??,
            None => String::new(),
        };
        let mut entries = (protocol.entries)(&list, &loaded)?;
        if protocol.is_one_process {
            let port = self.client.port();
            entries.iter_mut().for_each(|entry| entry.port = port);
        }
        Ok(entries)
    }

    /// Returns what is now known of one model.
    pub(super) async fn look(&self, name: &str) -> Result<Entry, ServerError> {
        let entries = match &self.kind.protocol().loaded {
            Some(loaded) => (loaded.entries)(&self.client.text(loaded.path).await??)?,
            None => self.entries().await?,
        };
        let absent = || Entry { name: name.to_owned(), ..Entry::default() };
        Ok(entries.into_iter().find(|entry| entry.name == name).unwrap_or_else(absent))
    }

    /// Returns whether the server uses this name for a model of the catalog: its id, or with the tag that it adds.
    pub(crate) fn calls(&self, model: &str, name: &str) -> bool {
        let tag = self.kind.protocol().default_tag;
        name == model || tag.is_some_and(|tag| name.strip_suffix(tag) == Some(model))
    }

    /// Asks for a model. If the server has no other way, this returns when it is loaded.
    pub(super) async fn load(&self, name: &str) -> Result<(), ServerError> {
        match self.kind.protocol().load {
            Some(load) => load(&self.client, name).await,
            // The next look shows whether it lists this one.
            None => Ok(()),
        }
    }

    /// Asks to drop a model. A look shows whether it has gone.
    pub(super) async fn unload(&self, name: &str) -> Result<(), ServerError> {
        match self.kind.protocol().unload {
            Some(unload) => unload(&self.client, name).await,
            None => Ok(()),
        }
    }

    /// Returns whether requests run on a model that an unload would cut, as far as the server reports it.
    pub(super) async fn is_busy(&self, name: &str) -> bool {
        match self.kind.protocol().is_busy {
            // A server that does not report it is not waited for: our own requests have ended.
            Some(is_busy) => is_busy(&self.client, name).await.unwrap_or(false),
            None => false,
        }
    }

    /// Asks again for a model to stay, after a request of another client has limited its time.
    pub(super) async fn renew(&self, name: &str) {
        if let Some(renew) = self.kind.protocol().renew {
            // The next look shows whether it helped.
            let _ = renew(&self.client, name).await;
        }
    }

    /// Returns whether a load that is under way can be ended by an unload.
    pub(super) fn can_cancel_load(&self) -> bool {
        self.kind.protocol().can_cancel_load
    }

    /// Returns whether a model cannot be unloaded.
    pub(crate) fn never_unloads(&self) -> bool {
        self.kind.protocol().unload.is_none()
    }

    /// Returns the processes in which a loaded model runs; none if they cannot be found.
    pub(super) fn processes(&self, entry: &Entry) -> BTreeSet<u32> {
        (self.kind.protocol().processes)(entry)
    }

    /// Returns the endpoint for what is not about one model.
    pub(super) fn bare_endpoint(&self) -> Endpoint {
        Endpoint::new(self.client.base())
    }

    /// Returns where requests for a model are sent.
    pub(super) fn endpoint(&self, name: &str) -> Endpoint {
        let &Protocol { query, keep_alive, .. } = self.kind.protocol();
        let changes = Changes { model: Some(name.to_owned()), keep_alive };
        Endpoint::new(self.client.base()).with_query(query).with_changes(changes)
    }
}
