//! The scenario file.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tiershift_core::model::RawModel;
use tiershift_core::settings::RawSettings;
use tiershift_core::time::SpanText;
use tiershift_core::units::{BytesText, is_default};
use toml::Spanned;

use crate::files::document::{Document, DocumentError};
use crate::scenario::expect::{Baseline, Expect};
use crate::sim::background::{self, RawBackground};
use crate::sim::fault::{self, RawFault};
use crate::sim::physics::RawPhysics;
use crate::sim::workload::{self, RawWorkload};

/// A scenario file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct RawScenario {
    /// What must happen and why. Default: the comment at the head of the file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// The public report that it reconstructs, as `owner/repository#number`. Such a scenario needs a baseline, and
    /// `check --museum` shows it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub incident: Option<String>,
    /// Random seed. Default 1.
    #[serde(default = "first_seed")]
    pub seed: u64,
    /// How long the run lasts, in virtual time.
    pub duration: SpanText,
    /// `relative` for models of 12.5, 31.25 and 56.25 % of the machine's memory, or a catalog file beside the
    /// scenario. Default `relative`, unless the file has `[[model]]` tables of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub catalog: Option<String>,
    /// What the machine has.
    pub machine: RawMachine,
    /// The policy's settings.
    #[serde(default, skip_serializing_if = "is_default")]
    pub policy: RawSettings,
    /// How the machine behaves.
    #[serde(default, skip_serializing_if = "is_default")]
    pub physics: RawPhysics,
    /// The models.
    #[serde(default, rename = "model", skip_serializing_if = "Vec::is_empty")]
    pub models: Vec<RawModel>,
    /// What other programs use; several shapes add up.
    #[serde(default, rename = "background", skip_serializing_if = "Vec::is_empty")]
    #[schemars(with = "Vec<RawBackground>")]
    pub backgrounds: Vec<Spanned<RawBackground>>,
    /// The requests of users.
    #[serde(default, rename = "workload", skip_serializing_if = "Vec::is_empty")]
    #[schemars(with = "Vec<RawWorkload>")]
    pub workloads: Vec<Spanned<RawWorkload>>,
    /// Faults.
    #[serde(default, rename = "fault", skip_serializing_if = "Vec::is_empty")]
    #[schemars(with = "Vec<RawFault>")]
    pub faults: Vec<Spanned<RawFault>>,
    /// Actions on the controller.
    #[serde(default, rename = "action", skip_serializing_if = "Vec::is_empty")]
    #[schemars(with = "Vec<RawAction>")]
    pub actions: Vec<Spanned<RawAction>>,
    /// The required result of the run.
    #[serde(default, skip_serializing_if = "is_default")]
    pub expect: Expect,
    /// A policy that must not meet the expectations.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub baseline: Option<Baseline>,
}

/// The `[machine]` table.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct RawMachine {
    /// Main memory.
    pub memory: BytesText,
    /// Swap space. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub swap: Option<BytesText>,
    /// Processors. Default 8.
    #[serde(default = "usual_cpus")]
    pub cpus: u32,
    /// Video memory of each GPU. Default: no GPU.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gpus: Vec<BytesText>,
    /// Whether the GPUs use main memory, each at most as much as `gpus` states (Apple's, AMD's APUs, NVIDIA's GB10):
    /// memory used through a GPU then also counts as main memory. Default false.
    #[serde(default, skip_serializing_if = "is_default")]
    pub unified: bool,
}

/// One `[[action]]` table: exactly one of `switch` and `shutdown`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct RawAction {
    /// When.
    pub at: SpanText,
    /// Order this tier, whatever the policy decides: `none` unloads, `auto` returns control to the policy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub switch: Option<String>,
    /// How long the order holds. Default: until `auto`, or another order.
    #[serde(default, rename = "for", skip_serializing_if = "Option::is_none")]
    pub for_: Option<SpanText>,
    /// Stop: finish running requests, unload.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shutdown: Option<bool>,
}

impl RawScenario {
    /// Returns the equivalent file, for tools that write scenarios.
    ///
    /// # Errors
    /// Never for what was read from a file.
    pub fn to_toml(&self) -> Result<String, toml::ser::Error> {
        toml::to_string(self)
    }
}

/// Reads a scenario's text without checking its meaning.
///
/// # Errors
/// When it is not TOML or has an unknown key; with the position.
pub(super) fn read(document: &Document<'_>) -> Result<RawScenario, DocumentError> {
    document.read(&[
        ("background", background::COMMON_KEYS),
        ("workload", workload::COMMON_KEYS),
        ("fault", fault::COMMON_KEYS),
    ])
}

fn first_seed() -> u64 {
    1
}

fn usual_cpus() -> u32 {
    8
}
