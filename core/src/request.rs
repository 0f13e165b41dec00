//! Requests of users to a model, and how they end.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::model::{Model, ModelId, Task};
use crate::time::{duration_ns, duration_ns_or_none};
use crate::units::is_default;

/// One request, as the controller sees it: sizes and wishes, never the text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Request {
    /// Unique in a run.
    pub id: RequestId,
    /// Length of the prompt.
    pub prompt_tokens: u32,
    /// Whether `prompt_tokens` is an estimate, as in a proxy that has not counted them: no request is refused because
    /// of it. Absent in a log: it was counted.
    #[serde(default, skip_serializing_if = "is_default")]
    pub prompt_estimated: bool,
    /// Length of the reply; in a live run the most that was requested. A reply ends when the context is full.
    pub output_tokens: u32,
    /// The kind of work; a model must list it among its tasks.
    #[serde(default, skip_serializing_if = "is_default")]
    pub task: Task,
    /// The model that the user wants.
    #[serde(default, skip_serializing_if = "is_default")]
    pub target: Target,
    /// Higher goes first; among equals each client in turn, then in order of arrival.
    #[serde(default, skip_serializing_if = "is_default")]
    pub priority: u8,
    /// The client. Requests of unknown clients count as one client's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client: Option<ClientId>,
    /// How long it may wait before it starts; absent: the manager's setting.
    #[serde(
        default,
        rename = "patience_ns",
        with = "duration_ns_or_none",
        skip_serializing_if = "Option::is_none"
    )]
    pub patience: Option<Duration>,
    /// Whether its client stays connected, and hangs up when it has waited enough: while a model that can serve it is
    /// loaded or being loaded, it waits without limit; with nothing loaded, only for its patience. Absent in a log: its
    /// patience counts from its arrival.
    #[serde(default, skip_serializing_if = "is_default")]
    pub connected: bool,
}

impl Request {
    /// Returns an ordinary chat request.
    pub fn chat(id: u64, prompt_tokens: u32, output_tokens: u32) -> Self {
        Self {
            id: RequestId(id),
            prompt_tokens,
            prompt_estimated: false,
            output_tokens,
            task: Task::Chat,
            target: Target::Auto,
            priority: 0,
            client: None,
            patience: None,
            connected: false,
        }
    }

    /// Returns the tokens of the longest reply for which a context has room after the prompt, at most the requested
    /// number: a reply ends when the context is full. A prompt that was not counted may have any length.
    pub fn output_tokens_in(&self, context_tokens: u32) -> u32 {
        let prompt = if self.prompt_estimated { 0 } else { self.prompt_tokens };
        self.output_tokens.min(context_tokens.saturating_sub(prompt))
    }

    /// Returns whether a model can serve it at all: it does this kind of work, and its context holds the prompt, as far
    /// as that was counted, with room for a first token if there is to be a reply. The length of the reply is a limit,
    /// not a requirement.
    pub fn is_for(&self, model: &Model) -> bool {
        let least = self.prompt_tokens.saturating_add(self.output_tokens.min(1));
        model.can(self.task) && (self.prompt_estimated || least <= model.context_tokens)
    }
}

/// Identifies a request within a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(transparent)]
pub struct RequestId(pub u64);

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#{}", self.0)
    }
}

/// Identifies a client within a run: a number without meaning, neither an address nor a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(transparent)]
pub struct ClientId(pub u64);

/// What a request wants to be served by.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Target {
    /// Whatever the controller keeps loaded.
    #[default]
    Auto,
    /// The tier of this name or, if that does not fit, the best below it.
    Tier(String),
    /// The model with this id and no other. It is loaded for waiting requests, one name after the other.
    Model(ModelId),
}

/// How an accepted request ended. Each ends exactly once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum End {
    /// The reply is complete.
    Done {
        /// The model that served it.
        model: ModelId,
        /// From arrival to the first token.
        #[serde(rename = "first_token_ns", with = "duration_ns")]
        first_token: Duration,
        /// From arrival to the last token.
        #[serde(rename = "latency_ns", with = "duration_ns")]
        latency: Duration,
        /// Tokens of the reply.
        output_tokens: u32,
    },
    /// The model or its server broke.
    Failed {
        /// The server's error.
        error: String,
    },
    /// The user hung up, or a drain deadline passed under `cancel`.
    Cancelled {
        /// Who ended it.
        by: CancelledBy,
        /// When to come back, if the client did not end it itself.
        #[serde(
            default,
            rename = "retry_after_ns",
            with = "duration_ns_or_none",
            skip_serializing_if = "Option::is_none"
        )]
        retry_after: Option<Duration>,
    },
    /// It was not served.
    Rejected {
        /// Why not.
        reason: Rejection,
        /// When to try again.
        #[serde(
            default,
            rename = "retry_after_ns",
            with = "duration_ns_or_none",
            skip_serializing_if = "Option::is_none"
        )]
        retry_after: Option<Duration>,
        /// Whether that is an estimate, because it depends on others: the machine's other programs, or the length of
        /// replies. Absent in a log: it depends on us alone.
        #[serde(default, skip_serializing_if = "is_default")]
        estimate: bool,
    },
}

/// Who ended a running request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum CancelledBy {
    /// The client hung up.
    Client,
    /// The drain deadline passed and the setting says `cancel`.
    DrainDeadline,
    /// The daemon stops.
    Shutdown,
}

/// Why a request was not served.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Rejection {
    /// The queue is at its limit.
    QueueFull,
    /// It waited for longer than its patience.
    Deadline,
    /// No model of the catalog can do this task or hold a prompt of the counted length.
    Unservable,
    /// Only a model below the serving one can serve it, and that is not loaded for a request.
    NotLoaded,
    /// It names a model, and an order or the pinned tier keeps another one loaded.
    HeldElsewhere,
    /// There is no such tier or model.
    UnknownTarget,
    /// The daemon stops.
    ShuttingDown,
}

impl Rejection {
    /// Every reason, in the order of the type.
    pub const ALL: [Self; 7] = [
        Self::QueueFull,
        Self::Deadline,
        Self::Unservable,
        Self::NotLoaded,
        Self::HeldElsewhere,
        Self::UnknownTarget,
        Self::ShuttingDown,
    ];

    /// Returns its name in logs, scenarios and figures.
    pub const fn name(self) -> &'static str {
        match self {
            Self::QueueFull => "queue-full",
            Self::Deadline => "deadline",
            Self::Unservable => "unservable",
            Self::NotLoaded => "not-loaded",
            Self::HeldElsewhere => "held-elsewhere",
            Self::UnknownTarget => "unknown-target",
            Self::ShuttingDown => "shutting-down",
        }
    }
}
