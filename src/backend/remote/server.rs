//! A model server that somebody else started: which one it is, and how each is asked for the same few things.

use std::path::PathBuf;
use std::time::Duration;

use reqwest::{StatusCode, Url};
use serde::de::DeserializeOwned;
use serde_json::Value;
use tiershift_core::model::Footprint;
use tiershift_core::units::Bytes;

use crate::backend::place::Place;
use crate::backend::remote::{llama_swap, lm_studio, ollama, plain, router};

/// A server that was recognised.
#[derive(Clone, Debug)]
pub struct Server {
    kind: Kind,
    wire: ServerClient,
}

/// The servers that are known.
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
    /// Any server with OpenAI's API: it lists and completes, and loads and unloads nothing.
    Plain,
}

impl Kind {
    /// Returns its name for people.
    pub fn name(self) -> &'static str {
        match self {
            Self::Router => "llama-server in router mode",
            Self::Ollama => "Ollama",
            Self::LmStudio => "LM Studio",
            Self::LlamaSwap => "llama-swap",
            Self::Plain => "an OpenAI-compatible server",
        }
    }

    /// Returns the paths of the list of its models and, where that is told apart, of what is loaded.
    fn lists(self) -> (&'static str, Option<&'static str>) {
        match self {
            Self::Router => ("/models", None),
            Self::Ollama => ("/api/tags", Some("/api/ps")),
            Self::LmStudio => ("/api/v1/models", None),
            Self::LlamaSwap => ("/v1/models", Some("/running")),
            Self::Plain => ("/v1/models", None),
        }
    }

    /// Reads its models, in its order, from what it answered at those paths.
    ///
    /// # Errors
    /// What this server would not say.
    pub fn entries(self, list: &str, loaded: &str) -> Result<Vec<Entry>, ServerError> {
        match self {
            Self::Router => Ok(read::<router::Models>(list)?.entries()),
            Self::Ollama => Ok(read::<ollama::Tags>(list)?.entries(&read(loaded)?)),
            Self::LmStudio => Ok(read::<lm_studio::Models>(list)?.entries()),
            Self::LlamaSwap => Ok(read::<llama_swap::Running>(loaded)?.entries(&read(list)?)),
            Self::Plain => Ok(read::<plain::Models>(list)?.entries()),
        }
    }
}

/// A model as its server tells of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Entry {
    /// What it is called there.
    pub name: String,
    /// Where it is in its life.
    pub presence: Presence,
    /// Bytes of its weights.
    pub size: Option<Bytes>,
    /// Its file, where the server tells that.
    pub file: Option<PathBuf>,
    /// The port of its own process.
    pub(super) port: Option<u16>,
    /// What it uses, by the server's own figures.
    pub(super) used: Option<Footprint>,
    /// Whether the server drops it by itself when it is idle for a while, because somebody asked for that.
    pub(super) expires: bool,
}

/// Where a model is in its life, as far as its server tells.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Presence {
    /// Not loaded.
    #[default]
    Absent,
    /// Not loaded, and its last process ended badly: a broken file, a crash, or an unload at a bad moment.
    Failed,
    /// On its way in or out.
    Loading,
    /// It can serve.
    Ready,
}

/// Why a server did not do what it was asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ServerError {
    /// Nobody listens there.
    #[error("the server is not there")]
    Away,
    /// It accepted, and did not answer in time.
    #[error("the server does not answer")]
    Silent,
    /// It answered with an error.
    #[error("the server answered {code}")]
    Refused {
        /// The status.
        code: u16,
        /// Its words. They may tell of this machine's folders, and so belong into no log.
        words: String,
    },
    /// What it answered is not what this server answers.
    #[error("the server's answer is not understood")]
    Unclear,
}

impl Server {
    /// Finds out which server answers at `url`.
    ///
    /// # Errors
    /// Where nothing answers, or nothing that is known.
    pub async fn recognise(client: reqwest::Client, url: &Url) -> Result<Self, ServerError> {
        let wire = ServerClient { client, base: url.clone() };
        // In this order, and by what stands in the body: LM Studio answers 200 to any path (its bug tracker, 1680),
        // and both Ollama and llama-swap have /api/version.
        let kind = if wire.get::<lm_studio::Models>("/api/v1/models").await?.is_ok() {
            Kind::LmStudio
        } else if wire.get::<llama_swap::Running>("/running").await?.is_ok() {
            Kind::LlamaSwap
        } else if wire.get::<router::Props>("/props").await?.is_ok_and(|it| it.is_router()) {
            Kind::Router
        } else if wire.text("/").await?.is_ok_and(|text| text.trim() == ollama::GREETING) {
            Kind::Ollama
        } else {
            wire.get::<plain::Models>("/v1/models").await??;
            Kind::Plain
        };
        Ok(Self { kind, wire })
    }

    /// Returns which one it is.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Returns the same server, asked through another client.
    #[must_use]
    pub fn with_client(&self, client: reqwest::Client) -> Self {
        Self { kind: self.kind, wire: ServerClient { client, base: self.wire.base.clone() } }
    }

    /// Returns the models that it has, in its order.
    pub async fn list(&self) -> Result<Vec<Entry>, ServerError> {
        let (list, loaded) = self.kind.lists();
        let list = self.wire.text(list).await??;
        let loaded = match loaded {
            Some(path) => self.wire.text(path).await??,
            None => String::new(),
        };
        self.kind.entries(&list, &loaded)
    }

    /// Returns what is known of one model now.
    pub(super) async fn look(&self, name: &str) -> Result<Entry, ServerError> {
        let wire = &self.wire;
        let entries = match self.kind {
            Kind::Ollama => wire.ask::<ollama::Loaded>("/api/ps").await?.entries(),
            Kind::LlamaSwap => wire
                .ask::<llama_swap::Running>("/running")
                .await?
                .entries(&plain::Models::default()),
            Kind::Router | Kind::LmStudio | Kind::Plain => self.list().await?,
        };
        let absent = || Entry { name: name.to_owned(), ..Entry::default() };
        Ok(entries.into_iter().find(|entry| entry.name == name).unwrap_or_else(absent))
    }

    /// Asks for a model. Where the server can be asked no otherwise, this returns when it is loaded.
    pub(super) async fn load(&self, name: &str) -> Result<(), ServerError> {
        match self.kind {
            Kind::Router => router::load(&self.wire, name).await,
            Kind::Ollama => ollama::keep(&self.wire, name, ollama::FOR_EVER).await,
            Kind::LmStudio => lm_studio::load(&self.wire, name).await,
            Kind::LlamaSwap => llama_swap::load(&self.wire, name).await,
            // What it lists is taken as loaded; the look that follows tells whether it lists this one.
            Kind::Plain => Ok(()),
        }
    }

    /// Asks to drop a model. Whether it has gone, a look tells.
    pub(super) async fn unload(&self, name: &str) -> Result<(), ServerError> {
        match self.kind {
            Kind::Router => router::unload(&self.wire, name).await,
            Kind::Ollama => ollama::keep(&self.wire, name, ollama::NO_LONGER).await,
            Kind::LmStudio => lm_studio::unload(&self.wire, name).await,
            Kind::LlamaSwap => llama_swap::unload(&self.wire, name).await,
            Kind::Plain => Ok(()),
        }
    }

    /// Returns whether requests run on a model that an unload would cut, as far as the server tells.
    pub(super) async fn is_busy(&self, name: &str) -> bool {
        match self.kind {
            Kind::Router => router::is_busy(&self.wire, name).await,
            // Ollama finishes what runs by itself; the others tell nothing, and what we sent has ended.
            Kind::Ollama | Kind::LmStudio | Kind::LlamaSwap | Kind::Plain => false,
        }
    }

    /// Says again that a model shall stay, after somebody else's request has said otherwise.
    pub(super) async fn keep(&self, name: &str) {
        if self.kind == Kind::Ollama {
            // The next look tells whether it helped.
            let _ = ollama::keep(&self.wire, name, ollama::FOR_EVER).await;
        }
    }

    /// Returns whether a load that is under way can be ended by an unload.
    pub(super) fn can_cancel_load(&self) -> bool {
        match self.kind {
            Kind::LlamaSwap | Kind::Plain => true,
            // The router answers at once; an unload that came before its load would miss it.
            Kind::Router | Kind::Ollama | Kind::LmStudio => false,
        }
    }

    /// Returns whether a model stays whatever it is told.
    pub(super) fn never_unloads(&self) -> bool {
        self.kind == Kind::Plain
    }

    /// Returns where requests for a model are sent.
    pub(super) fn place(&self, name: &str) -> Place {
        let place = Place::new(self.wire.base.as_str().trim_end_matches('/')).named(name);
        match self.kind {
            // A model that has just gone is not to come back behind our back.
            Kind::Router => place.with_query("?autoload=false"),
            // The last request decides how long a model stays, and this one is not to shorten it.
            Kind::Ollama => place.with_field("keep_alive", ollama::FOR_EVER),
            Kind::LmStudio | Kind::LlamaSwap | Kind::Plain => place,
        }
    }
}

fn read<T: DeserializeOwned>(text: &str) -> Result<T, ServerError> {
    serde_json::from_str(text).map_err(|_| ServerError::Unclear)
}

/// Talks to a server.
#[derive(Clone, Debug)]
pub(super) struct ServerClient {
    client: reqwest::Client,
    base: Url,
}

impl ServerClient {
    /// Returns what is found at a path.
    pub(super) async fn ask<T: DeserializeOwned>(&self, path: &str) -> Result<T, ServerError> {
        self.get(path).await?
    }

    /// As `ask`, with what is not there or not understood apart from a server that is not there.
    async fn get<T: DeserializeOwned>(
        &self,
        path: &str,
    ) -> Result<Result<T, ServerError>, ServerError> {
        let text = self.text(path).await?;
        Ok(text.and_then(|text| read(&text)))
    }

    async fn text(&self, path: &str) -> Result<Result<String, ServerError>, ServerError> {
        let request = self.client.get(self.at(path)).timeout(LOOK_TIMEOUT);
        match answer(request).await {
            Err(trouble @ (ServerError::Away | ServerError::Silent)) => Err(trouble),
            told => Ok(told),
        }
    }

    /// Asks with no other limit than the client's own: the answer may be a whole load away.
    pub(super) async fn get_slowly(&self, segments: &[&str]) -> Result<(), ServerError> {
        let mut url = self.base.clone();
        if let Ok(mut path) = url.path_segments_mut() {
            // A name is one segment, whatever stands in it.
            path.pop_if_empty().extend(segments);
        }
        answer(self.client.get(url)).await.map(drop)
    }

    /// Posts a JSON object with no other limit than the client's own, and returns the answer.
    ///
    /// # Errors
    /// An answer with an "error" in it is one, whatever its status.
    pub(super) async fn post(&self, path: &str, body: &Value) -> Result<Value, ServerError> {
        let text = answer(self.client.post(self.at(path)).json(body)).await?;
        let answer: Value = serde_json::from_str(&text).unwrap_or_default();
        match answer.get("error") {
            Some(error) => Err(ServerError::Refused {
                code: StatusCode::OK.as_u16(),
                words: error.to_string(),
            }),
            None => Ok(answer),
        }
    }

    /// Posts to a path whose last part is a name.
    pub(super) async fn post_to(&self, path: &str, name: &str) -> Result<(), ServerError> {
        let mut url = self.base.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(path.split('/')).push(name);
        }
        answer(self.client.post(url)).await.map(drop)
    }

    fn at(&self, path: &str) -> String {
        format!("{}{path}", self.base.as_str().trim_end_matches('/'))
    }
}

async fn answer(request: reqwest::RequestBuilder) -> Result<String, ServerError> {
    let of = |error: &reqwest::Error| {
        if error.is_timeout() { ServerError::Silent } else { ServerError::Away }
    };
    let mut answer = request.send().await.map_err(|error| of(&error))?;
    let status = answer.status();
    let mut bytes = Vec::new();
    while let Some(part) = answer.chunk().await.map_err(|error| of(&error))? {
        if bytes.len() + part.len() > LONGEST_ANSWER {
            return Err(ServerError::Unclear);
        }
        bytes.extend(part);
    }
    let text = String::from_utf8_lossy(&bytes).into_owned();
    if status.is_success() {
        Ok(text)
    } else {
        Err(ServerError::Refused {
            code: status.as_u16(),
            words: text.chars().take(MOST_WORDS).collect(),
        })
    }
}

/// Chosen: all of these servers answer in milliseconds what they know already.
pub(super) const LOOK_TIMEOUT: Duration = Duration::from_secs(2);

/// Chosen: a thousand models take about 2 MB.
const LONGEST_ANSWER: usize = 16 << 20;

/// Chosen: the reason stands in the first lines.
const MOST_WORDS: usize = 2000;
