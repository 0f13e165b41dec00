//! Everything that the controller receives and everything that it answers: plain data, in one total order.
//!
//! A [`Record`] is one line of an event log. Inputs are facts from the world; outputs are decisions,
//! commands and the ends of requests. Feeding a log's inputs to a new controller must give its outputs.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::catalog::{LadderId, Rung};
use crate::decision::{Decision, Reason};
use crate::model::ModelId;
use crate::request::{End, Request, RequestId};
use crate::sample::{Resource, Sample};
use crate::settings::RawSettings;
use crate::time::{Timestamp, duration_ns, duration_ns_or_none};

/// One line of an event log: `{"seq":0,"at_ns":0,"input":{..}}` or the same with `"output"`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Line")]
pub struct Record {
    /// Counts from zero without gaps.
    pub seq: u64,
    /// When it happened. Never before the record above it.
    #[serde(rename = "at_ns")]
    pub at: Timestamp,
    /// What happened.
    #[serde(flatten)]
    pub event: Event,
}

/// The form that a line is read through. `flatten` would read the same lines, but it accepts unknown keys and is slow.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    seq: u64,
    at_ns: Timestamp,
    input: Option<Input>,
    output: Option<Output>,
}

impl TryFrom<Line> for Record {
    type Error = &'static str;

    fn try_from(line: Line) -> Result<Self, Self::Error> {
        let event = match (line.input, line.output) {
            (Some(input), None) => Event::Input(input),
            (None, Some(output)) => Event::Output(output),
            (Some(_), Some(_)) | (None, None) => {
                return Err("a record has either \"input\" or \"output\"");
            }
        };
        Ok(Self { seq: line.seq, at: line.at_ns, event })
    }
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Event {
    /// The controller received something.
    Input(Input),
    /// The controller answered something.
    Output(Output),
}

impl Event {
    /// Returns the event as it is handed to observers.
    pub fn as_ref(&self) -> EventRef<'_> {
        match self {
            Self::Input(input) => EventRef::Input(input),
            Self::Output(output) => EventRef::Output(output),
        }
    }
}

/// A borrowed [`Event`]: what passes between the controller and its world.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum EventRef<'a> {
    /// What the controller received.
    Input(&'a Input),
    /// What the controller answered.
    Output(&'a Output),
}

impl EventRef<'_> {
    /// Returns an owned copy.
    pub fn to_owned(self) -> Event {
        match self {
            Self::Input(input) => Event::Input(input.clone()),
            Self::Output(output) => Event::Output(output.clone()),
        }
    }
}

/// Observes a run, event by event in order. Logs, figures, plots, checkers and pages all follow a run through it, while
/// it lasts or from its log.
pub trait Observe {
    /// Observes the next event. `at` is never before the last one's.
    fn observe(&mut self, at: Timestamp, event: EventRef<'_>);
}

impl<T: Observe + ?Sized> Observe for &mut T {
    #[inline]
    fn observe(&mut self, at: Timestamp, event: EventRef<'_>) {
        (**self).observe(at, event);
    }
}

/// An optional observer.
impl<T: Observe> Observe for Option<T> {
    #[inline]
    fn observe(&mut self, at: Timestamp, event: EventRef<'_>) {
        if let Some(observer) = self {
            observer.observe(at, event);
        }
    }
}

/// Collects all records of a run, numbered on from those already there.
impl Observe for Vec<Record> {
    fn observe(&mut self, at: Timestamp, event: EventRef<'_>) {
        self.push(Record { seq: self.len() as u64, at, event: event.to_owned() });
    }
}

impl<T: Observe> Observe for [T] {
    #[inline]
    fn observe(&mut self, at: Timestamp, event: EventRef<'_>) {
        for observer in self {
            observer.observe(at, event);
        }
    }
}

/// What the controller receives.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Input {
    /// The machine was read.
    Sample(Sample),
    /// The machine could not be read.
    SampleMissing {
        /// Why not.
        error: String,
    },
    /// A request arrived.
    Request(Request),
    /// A client hung up.
    Cancel {
        /// Its request.
        request: RequestId,
    },
    /// The backend answered.
    Outcome(Outcome),
    /// The moment named by `poll_timeout` has come.
    Timeout,
    /// A live run begins, and its backend has these models loaded already: left by an earlier run, or loaded by others.
    Adopt {
        /// The models that can serve now, in order of their names.
        models: Vec<Adopted>,
    },
    /// The policy's settings are these from now on. The models stay; what the policy has learned is forgotten.
    Settings(Box<RawSettings>),
    /// A person or program orders a tier, whatever the policy decides. It is answered by [`Output::Order`].
    Switch {
        /// The tier; `none` unloads, and `auto` leaves it to the policy again.
        tier: String,
        /// How long the order holds once its wait is over; absent: until `auto` or another order.
        #[serde(
            default,
            rename = "for_ns",
            with = "duration_ns_or_none",
            skip_serializing_if = "Option::is_none"
        )]
        for_: Option<Duration>,
    },
    /// An outside adviser has answered a question of the policy. The controller does not wait for answers: one that is
    /// there at the moment of the sample counts for it, a later one for the next sample, and one that is too late
    /// changes nothing.
    Advice(Advice),
    /// Stop: accept nothing, finish what runs, unload.
    Shutdown,
}

/// What an outside adviser answers to a [`Consult`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Advice {
    /// The question.
    pub question: u64,
    /// The rung that should serve.
    pub to: Rung,
}

/// What a policy asks an outside adviser, about the last sample.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Consult {
    /// Counts from one.
    pub question: u64,
    /// The rung that serves, or that the switch in progress leads to.
    pub rung: Rung,
    /// Whether a switch is in progress.
    pub switching: bool,
    /// Requests that run on the serving model.
    pub running: u32,
    /// Requests that wait because every slot of the serving model is taken.
    pub waiting: u32,
    /// Requests refused since the last sample because every slot was taken.
    pub refused: u32,
}

/// A model that is loaded and was not loaded by this run.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Adopted {
    /// The model.
    pub model: ModelId,
    /// The GPU that it is on; `None` for the processor.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gpu: Option<u8>,
}

/// What the controller answers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Output {
    /// The policy decided. In a log that holds changes only, a hold is written when its reason changes.
    Decision(Decision),
    /// The backend is to do something.
    Command(Command),
    /// A request was accepted: it runs or waits.
    Accepted {
        /// The request.
        request: RequestId,
        /// The result of the pre-flight check.
        verdict: Verdict,
    },
    /// A request ended.
    Ended {
        /// The request.
        request: RequestId,
        /// How.
        end: End,
    },
    /// Requests are served from this rung from now on; none while a switch has nothing loaded.
    Serving {
        /// The ladder that the rung belongs to.
        #[serde(default, skip_serializing_if = "LadderId::is_first")]
        ladder: LadderId,
        /// The rung.
        rung: Rung,
        /// The model that serves; absent with the rung that has none, and in logs of earlier versions.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        model: Option<ModelId>,
    },
    /// A switch of models is complete, or was given up.
    Switched {
        /// The ladder that the rungs belong to.
        #[serde(default, skip_serializing_if = "LadderId::is_first")]
        ladder: LadderId,
        /// The rung before.
        from: Rung,
        /// The rung that serves now.
        to: Rung,
        /// From the decision to this moment.
        #[serde(rename = "took_ns", with = "duration_ns")]
        took: Duration,
        /// The rung that it was to lead to, if it was given up on the way.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        called_off: Option<Rung>,
    },
    /// News of a companion.
    Companion {
        /// The model.
        model: ModelId,
        /// What happened to it.
        news: CompanionNews,
    },
    /// News of an order.
    Order {
        /// The tier that was asked for.
        tier: String,
        /// What happened to it.
        news: OrderNews,
    },
    /// An outside adviser is asked. The answer arrives as [`Input::Advice`], if it arrives.
    Consult(Consult),
    /// The user is to be notified.
    Notice(Notice),
}

/// What the backend is asked to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Command {
    /// Load a model.
    Load {
        /// The model.
        model: ModelId,
        /// The GPU to put it on; `None` runs it on the processor.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        gpu: Option<u8>,
    },
    /// Unload a model, loaded or half loaded.
    Unload {
        /// The model.
        model: ModelId,
    },
    /// Run a request on a loaded model.
    Start {
        /// The request.
        request: RequestId,
        /// The model.
        model: ModelId,
    },
    /// Stop a running request.
    Cancel {
        /// The request.
        request: RequestId,
    },
    /// Try a loaded model with a short request of our own and answer with [`Outcome::Tried`], if possible.
    Try {
        /// The model.
        model: ModelId,
    },
}

/// The result of trying a model with a short request of our own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Tried {
    /// The model.
    pub model: ModelId,
    /// Tokens of the reply; if it did not end in time, the number that was requested.
    pub output_tokens: u32,
    /// How long they took, without the prompt; if the reply did not end in time, the time limit.
    #[serde(rename = "decoded_in_ns", with = "duration_ns")]
    pub decoded_in: Duration,
}

/// What the backend answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// A model is ready.
    Loaded {
        /// The model.
        model: ModelId,
    },
    /// A model is still being loaded, and makes progress. A backend that can see this reports it soon after the start,
    /// and then at most every twenty seconds.
    Loading {
        /// The model.
        model: ModelId,
    },
    /// A model did not load; nothing of it is left.
    LoadFailed {
        /// The model.
        model: ModelId,
        /// The server's error.
        error: String,
    },
    /// A model is gone. Its memory may come back a little later.
    Unloaded {
        /// The model.
        model: ModelId,
    },
    /// A model's process died. Its requests fail with it, each with its own outcome before this one.
    Crashed {
        /// The model.
        model: ModelId,
        /// What is known.
        error: String,
    },
    /// A request is complete.
    Done {
        /// The request.
        request: RequestId,
        /// From the start command to the first token.
        #[serde(rename = "first_token_ns", with = "duration_ns")]
        first_token: Duration,
        /// Tokens of the prompt that the server read, by its own count and without those that it had cached; absent if
        /// the server does not report them.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        prompt_tokens: Option<u32>,
        /// Tokens of the reply.
        output_tokens: u32,
    },
    /// A request broke.
    Failed {
        /// The request.
        request: RequestId,
        /// The server's error.
        error: String,
    },
    /// A model was tried. A backend that cannot try a model sends no such outcome.
    Tried(Tried),
    /// A request was stopped as commanded.
    Cancelled {
        /// The request.
        request: RequestId,
    },
}

/// The result of the pre-flight check of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// Start it on the model that serves.
    Proceed,
    /// Start it on a smaller model than it asked for.
    ProceedSmaller {
        /// That model's rung.
        rung: Rung,
    },
    /// Let it wait.
    Queue,
}

/// What happens to a companion.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum CompanionNews {
    /// It is loaded, because there is room.
    Wanted {
        /// How much.
        reason: Reason,
    },
    /// It is unloaded, so that the ladder can stay, or because nothing else of ours is in a space that is short.
    GivenUp {
        /// Why.
        reason: Reason,
    },
    /// Requests are served from it from now on.
    Serves,
    /// It no longer serves: it is being unloaded, or it died.
    ServesNoMore,
}

/// What happens to an order. An order that was taken is carried out, or is refused later with the reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum OrderNews {
    /// It is carried out, and holds.
    Taken {
        /// How long it waits for the switch cooldown; absent: not at all.
        #[serde(
            default,
            rename = "wait_ns",
            with = "duration_ns_or_none",
            skip_serializing_if = "Option::is_none"
        )]
        wait: Option<Duration>,
        /// When it ends by itself; absent: at an order of `auto`.
        #[serde(default, rename = "until_ns", skip_serializing_if = "Option::is_none")]
        until: Option<Timestamp>,
    },
    /// It is not carried out, and does not hold.
    Refused {
        /// Why not.
        reason: Reason,
        /// When to ask again; an estimate if it depends on others.
        #[serde(rename = "retry_after_ns", with = "duration_ns")]
        retry_after: Duration,
    },
    /// There is no such tier.
    Unknown,
    /// It no longer holds: its time is over, or another order replaced it.
    Released,
}

/// What a server did not answer in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Unanswered {
    /// A load.
    Load,
    /// An unload.
    Unload,
    /// A request.
    Request,
}

/// What users are notified of. Upgrades are not included: good news needs no interruption.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Notice {
    /// A smaller model serves from now on.
    Degraded {
        /// The rung before.
        from: Rung,
        /// The rung that serves now.
        to: Rung,
        /// Why.
        reason: Reason,
    },
    /// The smallest tier has served for a long time; this is what blocks the next one.
    LongOnSmallest {
        /// How long.
        #[serde(rename = "for_ns", with = "duration_ns")]
        for_: Duration,
        /// What last stood in the way.
        reason: Reason,
    },
    /// A model came up much slower than the catalog states, and is loaded again, once; then another stands in. Reported
    /// once in a row.
    SlowLoad {
        /// Its rung.
        rung: Rung,
        /// How long a short reply took.
        #[serde(rename = "took_ns", with = "duration_ns")]
        took: Duration,
        /// How long it takes according to the catalog.
        #[serde(rename = "by_catalog_ns", with = "duration_ns")]
        by_catalog: Duration,
    },
    /// A space that a rung needs is not read, so that nothing is loaded there. Reported once.
    NotRead {
        /// The rung.
        rung: Rung,
        /// The resource.
        resource: Resource,
    },
    /// A model did not load, or died, several times in a row, and is tried less and less often. Reported once, until it
    /// has served well for a time.
    KeepsFailing {
        /// The model.
        model: ModelId,
        /// How often in a row.
        failures: u32,
    },
    /// The server did not answer in time, and is no longer waited for.
    Unanswered {
        /// The model.
        model: ModelId,
        /// What it did not answer.
        what: Unanswered,
    },
}
