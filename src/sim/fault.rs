//! Faults: data only. The simulated machine and backend act on them.
//!
//! # Source
//! The faults are those of local machines that users of similar programs report; each kind cites one.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tiershift_core::sample::Resource;
use tiershift_core::time::{SpanText, Timestamp};
use tiershift_core::units::{Bytes, BytesText, Percent, PercentText, is_default};

/// A fault in a window of time, checked.
#[derive(Clone, Debug, PartialEq)]
pub struct Fault {
    /// From this moment on; for [`FaultKind::Suspend`], [`FaultKind::Crash`] the moment itself.
    pub at: Timestamp,
    /// Until just before this moment; the run's end if the file gives none.
    pub until: Timestamp,
    /// Its probability at each occasion (a reading, a load, an unload, a moment).
    pub probability: Percent,
    /// The kind.
    pub kind: FaultKind,
}

impl Fault {
    /// Returns whether the window is open.
    pub fn is_open(&self, now: Timestamp) -> bool {
        (self.at..self.until).contains(&now)
    }
}

/// One `[[fault]]` table.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
// Serde refuses unknown keys in the flattened part; the schema must state that for editors.
#[schemars(extend("unevaluatedProperties" = false))]
pub struct RawFault {
    /// When it begins. Default: at the start.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub at: Option<SpanText>,
    /// When it ends. Default: with the run. Not for `suspend`, nor for `crash` without `every`, which are moments.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<SpanText>,
    /// Probability of the fault at each occasion. Default `100%`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub probability: Option<PercentText>,
    /// What goes wrong.
    #[serde(flatten)]
    pub kind: FaultKind,
}

/// The keys of [`RawFault`] itself.
pub(crate) const COMMON_KEYS: &[&str] = &["at", "until", "probability", "kind"];

/// What goes wrong.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "kebab-case", rename_all_fields = "kebab-case")]
#[serde(deny_unknown_fields)]
pub enum FaultKind {
    /// The machine cannot be read. Occasion: each reading.
    ProbeGap,
    /// Readings repeat the last one before the fault: a frozen sensor. Occasion: each reading.
    ProbeStale {
        /// The resource whose sensor is frozen. Default: every one, including the time.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        resource: Option<Resource>,
        /// The GPU, for `vram` and `gpu`. Default: each.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        gpu: Option<u8>,
    },
    /// One resource is not a number (NaN, N/A): a probe leaves it out of the reading, and it then counts as neither
    /// full nor free. Occasion: each reading.
    ProbeNan {
        /// The resource. Default `memory`.
        #[serde(default = "memory")]
        resource: Resource,
        /// The GPU, for `vram` and `gpu`. Default: each.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        gpu: Option<u8>,
    },
    /// Our own use of one resource is read as others' use, as in a container without the host's process ids
    /// (NVIDIA/nvidia-docker#179), and under WSL 2. Occasion: each reading.
    ProbeBlind {
        /// The resource; not `pressure`, which has no owner. Default `vram`.
        #[serde(default = "vram")]
        resource: Resource,
        /// The GPU, for `vram` and `gpu`. Default: each.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        gpu: Option<u8>,
    },
    /// Readings of one resource are wrong by a factor: a mistaken unit (Lemonade #2648). Occasion: each reading.
    ProbeWrong {
        /// The resource that is misread. Default `memory`.
        #[serde(default = "memory")]
        resource: Resource,
        /// The GPU, for `vram` and `gpu`. Default: each.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        gpu: Option<u8>,
        /// Factor on others' use. No default; 1024 and 0.0009765625 are the usual mistakes.
        factor: f64,
    },
    /// The machine sleeps: nothing happens, then the clock has jumped. Occasion: the moment `at`.
    Suspend {
        /// How far the clock jumps. No default.
        asleep: SpanText,
    },
    /// Freed memory comes back late, in place of `physics.release-lag`. Occasion: each unload.
    ReleaseLag {
        /// Shortest delay. Default `500ms`.
        #[serde(default = "short_lag")]
        min: SpanText,
        /// Longest delay. Default `5s` (Ollama's time-out for the recovery of video memory).
        #[serde(default = "long_lag")]
        max: SpanText,
    },
    /// Another program takes memory at the moment when a load begins: a game, a browser. Occasion: each load.
    OutsideGrab {
        /// The model whose load is affected. Default: any.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        model: Option<String>,
        /// `memory` or `vram`. Default `memory`.
        #[serde(default = "memory")]
        resource: Resource,
        /// The GPU whose memory is taken. Default 0.
        #[serde(default)]
        gpu: u8,
        /// How much is taken. No default.
        amount: BytesText,
        /// How long it is held. Default `2m`.
        #[serde(default = "default_hold")]
        hold: SpanText,
    },
    /// Loads take longer: a cold page cache, a busy disk (16 s warm, 30 to 90 s cold for 22 GB,
    /// talos-argocd-proxmox#1312). Occasion: each load.
    LoadSlow {
        /// The model. Default: any.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        model: Option<String>,
        /// Factor on the load time. Default 4.
        #[serde(default = "default_slowness")]
        factor: f64,
    },
    /// Loads fail after half their time. Occasion: each load.
    LoadFail {
        /// The model. Default: any.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        model: Option<String>,
        /// Affect only this many loads, the first in the window. Default: all.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        count: Option<u32>,
    },
    /// Loads stop half way, hold their memory and report nothing until they are unloaded. Occasion: each load.
    LoadHalf {
        /// The model. Default: any.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        model: Option<String>,
        /// Affect only this many loads, the first in the window. Default: all.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        count: Option<u32>,
        /// The part of the footprint that is held. Default `50%`.
        #[serde(default = "half")]
        share: PercentText,
    },
    /// The backend reports "unloaded" at once but keeps the memory (Ollama #14364). Occasion: each unload.
    UnloadLies {
        /// The model. Default: any.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        model: Option<String>,
        /// How long the memory stays taken. Default `2m`.
        #[serde(default = "default_hold")]
        hold: SpanText,
    },
    /// The memory of an unloaded model comes back, but the backend never reports "unloaded". A repeated request after
    /// the window is answered. Occasion: each request to unload, repeated or not.
    UnloadUnconfirmed {
        /// The model. Default: any.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        model: Option<String>,
        /// Affect only this many of them, the first in the window. Default: all.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        count: Option<u32>,
    },
    /// A started request never gets a token and never ends, until it is cancelled or its model goes (llama.cpp #28443).
    /// It takes its share of the model's speed. Occasion: each start of a request.
    RequestHang {
        /// The model. Default: any.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        model: Option<String>,
        /// Affect only this many starts, the first in the window. Default: all.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        count: Option<u32>,
        /// Whether cancelling it has no effect either. Default false.
        #[serde(default, skip_serializing_if = "is_default")]
        deaf: bool,
    },
    /// A GPU falls off the bus (NVIDIA's Xid 79) and is back when the window ends: it is missing from readings, models
    /// on it die, and loads on it fail. Occasion: the moment `at`.
    GpuLost {
        /// The GPU. Default 0.
        #[serde(default)]
        gpu: u8,
        /// Whether the models on it die. Default true; false is a driver that reports nothing for a while.
        #[serde(default = "yes", skip_serializing_if = "is_yes")]
        crash: bool,
    },
    /// The backend does not answer during the window; its answers arrive at the end. A window up to the run's end is a
    /// backend that hangs forever.
    BackendHang,
    /// A model's process dies with its requests. Occasion: the moment `at`, or each moment given by `every`.
    Crash {
        /// The model. Default: every loaded model.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        model: Option<String>,
        /// Die repeatedly, the first time this long after `at`, until `until`. Default: once, at `at`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        every: Option<SpanText>,
        /// By how much of `every` each interval may be longer or shorter, evenly. Default `0%`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        jitter: Option<PercentText>,
    },
    /// A loaded model's memory grows until it is unloaded. Occasion: each load.
    Leak {
        /// The model. Default: any.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        model: Option<String>,
        /// Growth per minute. No default.
        per_minute: BytesText,
    },
    /// A model that is loaded while memory is short stays slow until it is loaded again, even when the shortage is over
    /// (50.9 to 19.7 tokens/s, Hermes #116078; LM Studio #1923). Occasion: each load.
    StickySlow {
        /// `memory` or `vram`. Default `vram`.
        #[serde(default = "vram")]
        resource: Resource,
        /// Use of the resource at the end of the load above which it stays slow. Default `90%`.
        #[serde(default = "tight")]
        above: PercentText,
        /// Factor on its speed. Default 0.39 (19.7 of 50.9 tokens/s).
        #[serde(default = "sticky_speed")]
        factor: f64,
    },
}

impl FaultKind {
    /// Returns the name that files use.
    pub fn name(&self) -> &'static str {
        match self {
            Self::ProbeGap => "probe-gap",
            Self::ProbeStale { .. } => "probe-stale",
            Self::ProbeNan { .. } => "probe-nan",
            Self::ProbeBlind { .. } => "probe-blind",
            Self::ProbeWrong { .. } => "probe-wrong",
            Self::Suspend { .. } => "suspend",
            Self::ReleaseLag { .. } => "release-lag",
            Self::OutsideGrab { .. } => "outside-grab",
            Self::LoadSlow { .. } => "load-slow",
            Self::LoadFail { .. } => "load-fail",
            Self::LoadHalf { .. } => "load-half",
            Self::UnloadLies { .. } => "unload-lies",
            Self::UnloadUnconfirmed { .. } => "unload-unconfirmed",
            Self::RequestHang { .. } => "request-hang",
            Self::GpuLost { .. } => "gpu-lost",
            Self::BackendHang => "backend-hang",
            Self::Crash { .. } => "crash",
            Self::Leak { .. } => "leak",
            Self::StickySlow { .. } => "sticky-slow",
        }
    }

    /// Returns whether it happens at a moment and not in a window.
    pub fn is_moment(&self) -> bool {
        matches!(self, Self::Suspend { .. } | Self::Crash { every: None, .. })
    }

    /// Returns how long its last effect may outlast the window.
    pub(super) fn lasts_after(&self) -> Duration {
        match self {
            Self::OutsideGrab { hold, .. } | Self::UnloadLies { hold, .. } => hold.0,
            Self::ReleaseLag { max, .. } => max.0,
            _ => Duration::ZERO,
        }
    }

    /// Returns the model that it is about, if it is about one.
    pub fn model(&self) -> Option<&str> {
        match self {
            Self::LoadSlow { model, .. }
            | Self::LoadFail { model, .. }
            | Self::LoadHalf { model, .. }
            | Self::UnloadLies { model, .. }
            | Self::UnloadUnconfirmed { model, .. }
            | Self::RequestHang { model, .. }
            | Self::OutsideGrab { model, .. }
            | Self::Crash { model, .. }
            | Self::Leak { model, .. } => model.as_deref(),
            Self::ProbeGap
            | Self::ProbeStale { .. }
            | Self::ProbeNan { .. }
            | Self::ProbeBlind { .. }
            | Self::ProbeWrong { .. }
            | Self::GpuLost { .. }
            | Self::Suspend { .. }
            | Self::ReleaseLag { .. }
            | Self::BackendHang
            | Self::StickySlow { .. } => None,
        }
    }

    /// Returns the GPU that it is about, if it is about one, with the key to blame if there is no such GPU.
    pub(crate) fn gpu(&self) -> Option<(&'static str, u8)> {
        match self {
            Self::OutsideGrab { resource: Resource::Vram, gpu, .. } => Some(("resource", *gpu)),
            Self::GpuLost { gpu, .. } => Some(("gpu", *gpu)),
            _ => match self.sensor()? {
                (_, Some(gpu)) => Some(("gpu", gpu)),
                (Resource::Vram | Resource::Gpu, None) => Some(("resource", 0)),
                (Resource::Memory | Resource::Cpu | Resource::Pressure, None) => None,
            },
        }
    }

    /// Returns the resource, and the GPU, whose sensor it is about.
    fn sensor(&self) -> Option<(Resource, Option<u8>)> {
        match self {
            Self::ProbeWrong { resource, gpu, .. }
            | Self::ProbeNan { resource, gpu }
            | Self::ProbeBlind { resource, gpu }
            | Self::ProbeStale { resource: Some(resource), gpu } => Some((*resource, *gpu)),
            _ => None,
        }
    }

    /// Returns the most occasions on which it strikes.
    pub(crate) fn count(&self) -> Option<u32> {
        match self {
            Self::LoadFail { count, .. }
            | Self::LoadHalf { count, .. }
            | Self::UnloadUnconfirmed { count, .. }
            | Self::RequestHang { count, .. } => *count,
            _ => None,
        }
    }

    /// Returns the key whose value is not valid, and what it must be.
    pub(crate) fn mistake(&self) -> Option<(&'static str, &'static str)> {
        let is_space = |resource: &Resource| matches!(resource, Resource::Memory | Resource::Vram);
        if let Some((Resource::Memory | Resource::Cpu | Resource::Pressure, Some(_))) =
            self.sensor()
        {
            return Some(("gpu", "left out: only `vram` and `gpu` are a GPU's"));
        }
        if self.count() == Some(0) {
            return Some(("count", "at least 1"));
        }
        match self {
            Self::ProbeStale { resource: None, gpu: Some(_) } => {
                Some(("gpu", "left out if `resource` is: then the whole reading is frozen"))
            }
            Self::ProbeBlind { resource: Resource::Pressure, .. } => {
                Some(("resource", "`memory`, `vram`, `cpu` or `gpu`: pressure has no owner"))
            }
            Self::Crash { every: Some(every), .. } if every.0 < SHORTEST_EVERY => {
                Some(("every", "at least 1s"))
            }
            Self::Crash { every: None, jitter: Some(_), .. } => {
                Some(("jitter", "left out if `every` is: a moment has none"))
            }
            Self::Crash { jitter: Some(jitter), .. } if jitter.0 >= Percent::ONE_HUNDRED => {
                Some(("jitter", "less than 100%"))
            }
            Self::ProbeWrong { factor, .. }
            | Self::LoadSlow { factor, .. }
            | Self::StickySlow { factor, .. }
                if !(factor.is_finite() && *factor > 0.0 && *factor <= LARGEST_FACTOR) =>
            {
                Some(("factor", "a number above zero and at most 1000000"))
            }
            Self::OutsideGrab { resource, .. } | Self::StickySlow { resource, .. }
                if !is_space(resource) =>
            {
                Some(("resource", "`memory` or `vram`, which can be taken"))
            }
            Self::OutsideGrab { amount, .. } if amount.0 == Bytes::ZERO => {
                Some(("amount", "more than nothing"))
            }
            Self::Leak { per_minute, .. } if per_minute.0 == Bytes::ZERO => {
                Some(("per-minute", "more than nothing"))
            }
            Self::ReleaseLag { min, max } if min > max => Some(("max", "no shorter than `min`")),
            Self::LoadHalf { share, .. } if share.0 > Percent::ONE_HUNDRED => {
                Some(("share", "at most 100%"))
            }
            Self::Suspend { asleep } if asleep.0.is_zero() => Some(("asleep", "more than nothing")),
            _ => None,
        }
    }
}

fn yes() -> bool {
    true
}

fn is_yes(value: &bool) -> bool {
    *value
}

fn memory() -> Resource {
    Resource::Memory
}

fn vram() -> Resource {
    Resource::Vram
}

fn short_lag() -> SpanText {
    SpanText(Duration::from_millis(500))
}

fn long_lag() -> SpanText {
    SpanText(Duration::from_secs(5))
}

fn default_hold() -> SpanText {
    SpanText(Duration::from_mins(2))
}

fn default_slowness() -> f64 {
    4.0
}

fn half() -> PercentText {
    PercentText(Percent::new(50))
}

fn tight() -> PercentText {
    PercentText(Percent::new(90))
}

fn sticky_speed() -> f64 {
    0.39
}

/// Chosen: a model that dies more often never loads.
const SHORTEST_EVERY: Duration = Duration::from_secs(1);

/// Chosen: larger than any mistaken unit (1024), small enough that products of byte counts stay exact.
const LARGEST_FACTOR: f64 = 1e6;
