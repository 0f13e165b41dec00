//! Everything the controller is told and everything it answers: plain data, in one total order.
//!
//! A [`Record`] is one line of an event log. Inputs are facts from the world; outputs are decisions,
//! commands and the ends of requests. Feeding a log's inputs to a new controller must give its outputs.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::catalog::{ModelId, Rung};
use crate::request::{End, Request, RequestId};
use crate::sample::Sample;
use crate::settings::{RawSettings, Resource};
use crate::time::{Timestamp, duration_ns};
use crate::units::{Bytes, Percent};

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

/// The form that a line is read through. `flatten` would read the same lines, but takes unknown keys, and
/// takes its time.
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
#[serde(rename_all = "kebab-case")]
pub enum Event {
    /// The controller was told something.
    Input(Input),
    /// The controller answered something.
    Output(Output),
}

/// What the controller is told.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
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
    /// A live run begins, and its backend has these loaded already: left by an earlier run, or by others.
    Adopt {
        /// The models that can serve now, in order of their names.
        models: Vec<Adopted>,
    },
    /// The policy's settings are these from now on. What the scaler had learned is forgotten; the models stay.
    Settings(Box<RawSettings>),
    /// Someone asks for a tier, past the scaler.
    Switch {
        /// The tier; `none` unloads.
        tier: String,
    },
    /// Stop: accept nothing, finish what runs, unload.
    Shutdown,
}

/// A model that is loaded and was not loaded by this run.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Adopted {
    /// The model.
    pub model: ModelId,
    /// The GPU that it is on; `None` for the processor.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gpu: Option<u8>,
}

/// What the controller answers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Output {
    /// The scaler decided. In a log that holds changes only, a hold is written when its reason changes.
    Decision(Decision),
    /// The backend shall do something.
    Command(Command),
    /// A request was accepted: it runs or waits.
    Accepted {
        /// The request.
        request: RequestId,
        /// What the pre-flight check said.
        verdict: Verdict,
    },
    /// A request ended.
    Ended {
        /// The request.
        request: RequestId,
        /// How.
        end: End,
    },
    /// Requests are served from this rung from now on; none while a switch has nothing to serve with.
    Serving {
        /// The rung.
        rung: Rung,
    },
    /// A switch of models is complete, or was given up (then `to` is `from`).
    Switched {
        /// The rung before.
        from: Rung,
        /// The rung that serves now.
        to: Rung,
        /// From the decision to this moment.
        #[serde(rename = "took_ns", with = "duration_ns")]
        took: Duration,
    },
    /// The user shall be told.
    Notice(Notice),
}

/// What the backend is asked to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
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
}

/// What the backend answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// A model is ready.
    Loaded {
        /// The model.
        model: ModelId,
    },
    /// A model did not load; nothing of it is left.
    LoadFailed {
        /// The model.
        model: ModelId,
        /// What the server said.
        error: String,
    },
    /// A model is gone. Its memory may come back a little later.
    Unloaded {
        /// The model.
        model: ModelId,
    },
    /// A model's process died. Its requests fail with it, each by an outcome of its own before this one.
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
        /// Tokens of the prompt that the server read, by its own count and without those that it had cached; absent
        /// where it says nothing.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        prompt_tokens: Option<u32>,
        /// Tokens of the reply.
        output_tokens: u32,
    },
    /// A request broke.
    Failed {
        /// The request.
        request: RequestId,
        /// What the server said.
        error: String,
    },
    /// A request was stopped as commanded.
    Cancelled {
        /// The request.
        request: RequestId,
    },
}

/// What the pre-flight check says about a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
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

/// What the scaler wants, and why. A hold carries its reason too.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decision {
    /// What to do.
    pub action: Action,
    /// The rung that served when this was decided.
    pub rung: Rung,
    /// Why.
    pub reason: Reason,
    /// Every condition that the next upgrade must pass, where the log asks for them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gates: Vec<Gate>,
}

impl Decision {
    /// Returns a decision on `rung`, without gates.
    pub(crate) fn new(rung: Rung, action: Action, reason: Reason) -> Self {
        Self { action, rung, reason, gates: Vec::new() }
    }
}

/// What to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Action {
    /// Stay.
    Hold,
    /// Go up.
    Upgrade {
        /// The rung to serve from.
        to: Rung,
    },
    /// Go down.
    Downgrade {
        /// The rung to serve from.
        to: Rung,
        /// How fast.
        urgency: Urgency,
    },
}

/// How fast a downgrade must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Urgency {
    /// A slow reply, a busy processor: finish running tasks under the usual deadline.
    Graceful,
    /// Above the degrade line, or full before a step down were complete: at once, running tasks finish first.
    Immediate,
    /// The machine has next to nothing left: the shorter drain deadline holds.
    Critical,
}

/// Why the scaler decided as it did, with the numbers that it decided on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reason {
    /// Hold: no sample has been read yet, or none that tells a constrained resource.
    NoData,
    /// Hold: the last good sample is too old.
    Stale {
        /// Its age.
        #[serde(rename = "age_ns", with = "duration_ns")]
        age: Duration,
    },
    /// Hold: a switch is under way.
    Switching,
    /// Hold: readings have not come to rest since the last switch.
    Settling {
        /// Time since the switch.
        #[serde(rename = "since_ns", with = "duration_ns")]
        since: Duration,
    },
    /// Hold: the highest rung serves.
    AtTop,
    /// Hold: the policy never leaves its rung.
    Fixed,
    /// Hold: the run is being stopped.
    Stopping,
    /// Hold: a higher rung fits, but has not done so for long enough.
    Window {
        /// The rung.
        to: Rung,
        /// What is left of the stabilization window.
        #[serde(rename = "remaining_ns", with = "duration_ns")]
        remaining: Duration,
    },
    /// Hold: the last change was too recent.
    Cooldown {
        /// What is left.
        #[serde(rename = "remaining_ns", with = "duration_ns")]
        remaining: Duration,
    },
    /// Hold: an upgrade that was undone has made the wait longer.
    Backoff {
        /// The rung.
        to: Rung,
        /// What is left.
        #[serde(rename = "remaining_ns", with = "duration_ns")]
        remaining: Duration,
    },
    /// Hold: a resource is above the upgrade line.
    AboveUpgradeLine {
        /// The resource.
        resource: Resource,
        /// Its use.
        #[serde(rename = "used_milli_percent")]
        used: Percent,
        /// The line.
        #[serde(rename = "line_milli_percent")]
        line: Percent,
    },
    /// Hold: the next rung would not fit after the switch.
    WouldNotFit {
        /// The next rung.
        to: Rung,
        /// The resource that is short.
        resource: Resource,
        /// The use after the switch.
        #[serde(rename = "projected_bytes")]
        projected: Bytes,
        /// The most it may be.
        #[serde(rename = "limit_bytes")]
        limit: Bytes,
    },
    /// Hold: the next rung would break the latency limit.
    WouldBeSlow {
        /// The next rung.
        to: Rung,
        /// What is predicted.
        #[serde(rename = "predicted_ns", with = "duration_ns")]
        predicted: Duration,
        /// The limit.
        #[serde(rename = "limit_ns", with = "duration_ns")]
        limit: Duration,
    },
    /// Upgrade: the rung fits and has done so for long enough.
    Room {
        /// The scarcest resource.
        resource: Resource,
        /// Its use after the switch.
        #[serde(rename = "projected_bytes")]
        projected: Bytes,
        /// The most it may be.
        #[serde(rename = "limit_bytes")]
        limit: Bytes,
        /// How long it has fitted.
        #[serde(rename = "good_for_ns", with = "duration_ns")]
        good_for: Duration,
    },
    /// Downgrade (or hold on the lowest rung): a space resource is above the degrade line or under the free floor.
    AboveDegradeLine {
        /// The resource.
        resource: Resource,
        /// Its use.
        #[serde(rename = "used_bytes")]
        used: Bytes,
        /// The most it may be.
        #[serde(rename = "limit_bytes")]
        limit: Bytes,
    },
    /// Downgrade (or hold): a rate resource has been above its line for long enough and does not fall.
    SustainedLoad {
        /// The resource.
        resource: Resource,
        /// Its use.
        #[serde(rename = "used_milli_percent")]
        used: Percent,
        /// The line.
        #[serde(rename = "line_milli_percent")]
        line: Percent,
        /// How long it has been above.
        #[serde(rename = "high_for_ns", with = "duration_ns")]
        high_for: Duration,
    },
    /// Downgrade: at the present rate the resource ends before a switch would.
    Exhaustion {
        /// The resource.
        resource: Resource,
        /// When it is full.
        #[serde(rename = "full_in_ns", with = "duration_ns")]
        full_in: Duration,
        /// What a step down takes.
        #[serde(rename = "lead_ns", with = "duration_ns")]
        lead: Duration,
    },
    /// Downgrade (or hold): replies are slower than the limit.
    Slow {
        /// The 95th percentile.
        #[serde(rename = "measured_ns", with = "duration_ns")]
        measured: Duration,
        /// The limit.
        #[serde(rename = "limit_ns", with = "duration_ns")]
        limit: Duration,
    },
    /// Downgrade (or hold): too many failures in a row.
    Failing {
        /// How many.
        failures: u32,
    },
    /// Change: someone asked for it.
    Asked,
}

impl Reason {
    /// Returns the kind as the log spells it.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::NoData => "no-data",
            Self::Stale { .. } => "stale",
            Self::Switching => "switching",
            Self::Settling { .. } => "settling",
            Self::AtTop => "at-top",
            Self::Fixed => "fixed",
            Self::Stopping => "stopping",
            Self::Window { .. } => "window",
            Self::Cooldown { .. } => "cooldown",
            Self::Backoff { .. } => "backoff",
            Self::AboveUpgradeLine { .. } => "above-upgrade-line",
            Self::WouldNotFit { .. } => "would-not-fit",
            Self::WouldBeSlow { .. } => "would-be-slow",
            Self::Room { .. } => "room",
            Self::AboveDegradeLine { .. } => "above-degrade-line",
            Self::SustainedLoad { .. } => "sustained-load",
            Self::Exhaustion { .. } => "exhaustion",
            Self::Slow { .. } => "slow",
            Self::Failing { .. } => "failing",
            Self::Asked => "asked",
        }
    }
}

/// One condition that an upgrade must pass.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gate {
    /// What it looks at.
    pub name: GateName,
    /// Whether it is open.
    pub open: bool,
    /// What was found.
    pub value: Measure,
    /// What is allowed.
    pub limit: Measure,
}

/// What a gate looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum GateName {
    /// Age of the sample; at most the limit.
    Fresh,
    /// Switches under way; none allowed.
    Idle,
    /// Time since the last change; at least the limit.
    Cooldown,
    /// Time since conditions became good for the next rung; at least the limit.
    Window,
    /// Time since the rung's last failure; at least the learned wait.
    Backoff,
    /// Use of a resource now; at most the upgrade line.
    UpgradeLine(Resource),
    /// Use of a space resource after the switch, forecast included; at most the limit.
    Projection(Resource),
    /// Predicted latency; at most the limit.
    Latency,
}

/// A gate's number with its unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Measure {
    /// An amount of memory.
    Bytes(Bytes),
    /// A share.
    MilliPercent(Percent),
    /// A span of time in nanoseconds.
    Nanos(u64),
    /// A number of things.
    Count(u32),
}

/// What the user is told. Upgrades are not: nobody is disturbed by good news.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
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
    /// The smallest tier has served for a long time; this is what stands in the way of the next.
    LongOnSmallest {
        /// How long.
        #[serde(rename = "for_ns", with = "duration_ns")]
        for_: Duration,
        /// What stood in the way last.
        reason: Reason,
    },
}
