//! What users ask of a model, and how it ends.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::model::{Model, ModelId, Task};
use crate::time::{duration_ns, duration_ns_or_none};
use crate::units::is_default;

/// One request, as the controller sees it: sizes and wishes, never the words.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Request {
    /// Unique in a run.
    pub id: RequestId,
    /// Length of the prompt.
    pub prompt_tokens: u32,
    /// Whether `prompt_tokens` is an estimate, as a proxy's is that has not counted them: nothing is refused for it. Absent in
    /// a log: it was counted.
    #[serde(default, skip_serializing_if = "is_default")]
    pub prompt_estimated: bool,
    /// Length of the reply; in a live run the most that was asked for. A reply ends where the context is full.
    pub output_tokens: u32,
    /// What kind of work it is; a model must list it among its capabilities.
    #[serde(default, skip_serializing_if = "is_default")]
    pub task: Task,
    /// What the user asked to be served by.
    #[serde(default, skip_serializing_if = "is_default")]
    pub target: Target,
    /// Higher goes first; of equals each client in its turn, then in order of arrival.
    #[serde(default, skip_serializing_if = "is_default")]
    pub priority: u8,
    /// Who asks. Requests of which it is not known are taken for one client's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client: Option<ClientId>,
    /// How long it may wait before it starts; the manager's setting where it has no wish of its own.
    #[serde(
        default,
        rename = "patience_ns",
        with = "duration_ns_or_none",
        skip_serializing_if = "Option::is_none"
    )]
    pub patience: Option<Duration>,
    /// Whether its client stays connected, and hangs up when it has had enough: while something is loaded or on its way that can
    /// serve it, it waits without a limit, and only with nothing loaded as long as its patience. Absent in a log: its patience
    /// counts from its arrival.
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

    /// Returns the tokens of the longest reply that a context has room for behind the prompt, no more than asked for: a reply
    /// ends where the context is full. A prompt that was not counted may be of any length.
    pub fn output_tokens_in(&self, context_tokens: u32) -> u32 {
        let prompt = if self.prompt_estimated { 0 } else { self.prompt_tokens };
        self.output_tokens.min(context_tokens.saturating_sub(prompt))
    }

    /// Returns whether a model can serve it at all: it does this kind of work, and its context holds the prompt, as far as
    /// that was counted, with room for a first token where there is to be a reply. How long the reply may become limits it,
    /// and is no need.
    pub fn is_for(&self, model: &Model) -> bool {
        let least = self.prompt_tokens.saturating_add(self.output_tokens.min(1));
        model.can(self.task) && (self.prompt_estimated || least <= model.context_tokens)
    }
}

/// Names a request within a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(transparent)]
pub struct RequestId(pub u64);

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#{}", self.0)
    }
}

/// Tells the clients of a run apart: a number without a meaning, which is not an address and no name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(transparent)]
pub struct ClientId(pub u64);

/// What a request asks to be served by.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Target {
    /// Whatever the controller keeps loaded.
    #[default]
    Auto,
    /// The tier of this name or, where that does not fit, the best below it.
    Tier(String),
    /// The model of this id and no other. It is loaded for what waits for it, one name after the other.
    Model(ModelId),
}

/// How an accepted request ended. Each ends exactly once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum End {
    /// The reply is complete.
    Done {
        /// What served it.
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
        /// What the server said.
        error: String,
    },
    /// The user hung up, or a drain deadline passed under `cancel`.
    Cancelled {
        /// Who ended it.
        by: CancelledBy,
        /// When to come back, where it is not the client's own doing.
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
        /// Whether that is an estimate, since it depends on what others do: the machine's other programs, how long replies
        /// are. Absent in a log: it depends on us alone.
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
    /// It waited longer than its patience.
    Deadline,
    /// No model of the catalog can do this task or hold a prompt of the length that was counted.
    Unservable,
    /// Only a model below the one that serves can: it is not loaded for a request.
    NotLoaded,
    /// It names a model, and somebody's order or the pinned tier keeps another one loaded.
    HeldElsewhere,
    /// No such tier or model.
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

    /// Returns what it is called in logs, scenarios and figures.
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
