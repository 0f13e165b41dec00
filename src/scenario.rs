//! Scripted situations: a machine, its models, others' use, requests, faults, and the required result.
//!
//! A scenario is one TOML file in `scenarios/`. [`RawScenario`] is that file; [`Scenario`] is its checked form. Every
//! random part draws from streams of the scenario's seed, so that the same file gives the same run everywhere.

mod check;
pub mod expect;
mod file;

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tiershift_core::policy::Registry;
use tiershift_core::settings::PolicyName;
use tiershift_core::setup::Setup;

use crate::files::document::DocumentError;
use crate::files::schema;
use crate::files::whole_file::{read_small, read_small_text};
use crate::log::{Header, LogLevel, Source};
use crate::sim::action::Action;
use crate::sim::background::Background;
use crate::sim::fault::Fault;
use crate::sim::physics::Physics;
use crate::sim::rng::Seed;
use crate::sim::workload::{Workload, Workloads};
use crate::sim::{Ground, Situation};

pub use expect::{Baseline, Checker, Expect, Unmet};
pub use file::{RawAction, RawMachine, RawScenario};

/// A scripted situation, checked.
#[derive(Clone, Debug, PartialEq)]
pub struct Scenario {
    /// The file's name without its extension.
    pub name: String,
    /// What must happen and why: the `description` key, or the comment at the head of the file.
    pub description: String,
    /// The public report that it reconstructs, as `owner/repository#number`.
    pub incident: Option<String>,
    /// The machine, the models, the policy, valid for this machine, and the seed.
    pub setup: Setup,
    /// How long the run lasts.
    pub duration: Duration,
    /// Others' use.
    pub background: Background,
    /// The requests of users. See [`Workloads`].
    pub workloads: Vec<Workload>,
    /// The faults, in the order of the file.
    pub faults: Vec<Fault>,
    /// How the machine behaves.
    pub physics: Physics,
    /// Actions on the controller, in order of time.
    pub actions: Vec<Action>,
    /// The required result of the run.
    pub expect: Expect,
    /// A policy that must not meet the expectations.
    pub baseline: Option<Baseline>,
    /// Warnings about the traces that the file names: rows that were refused, gaps.
    pub warnings: Vec<String>,
    /// Digest of the content of the file and of the traces that it names; comments do not count.
    pub digest: String,
}

impl Scenario {
    /// Returns the same situation with another seed.
    #[must_use]
    pub fn with_seed(mut self, seed: Seed) -> Self {
        self.setup.seed = seed.0;
        self.background.set_seed(seed);
        self
    }

    /// Returns the same situation under another policy.
    #[must_use]
    pub fn with_policy(mut self, policy: &PolicyName) -> Self {
        self.setup.settings.set_policy(policy.clone());
        self
    }

    /// Returns what determines its run.
    pub fn situation(&self) -> Situation {
        Situation {
            setup: self.setup.clone(),
            physics: self.physics.clone(),
            faults: self.faults.clone(),
            actions: self.actions.clone(),
            workloads: self.workloads.clone(),
            ground: Ground::scripted(
                self.background.clone(),
                self.setup.settings.sampling_interval.0,
            ),
            adviser: None,
            duration: Some(self.duration),
        }
    }

    /// Returns the header of its run's log, whose only source is the scenario: [`Scenario::digest`].
    pub fn header(&self, level: LogLevel) -> Header {
        let source = Source { name: format!("{}.toml", self.name), played: None, part: None };
        Header::of(&self.setup, level, &self.name, vec![source])
    }

    /// Returns the arrivals of all workloads.
    pub fn arrivals(&self) -> Workloads {
        Workloads::new(&self.workloads, Seed(self.setup.seed))
    }
}

/// Reads and checks a scenario file. Files that it names are looked for beside it.
///
/// # Errors
/// When it cannot be read, is not TOML, or is not valid; with its position and a remedy.
pub fn load(path: &Path, policies: &Registry) -> Result<Scenario, ScenarioError> {
    let name = path.display().to_string();
    let bytes =
        read_small(path).map_err(|source| ScenarioError::Read { path: path.to_owned(), source })?;
    let text = String::from_utf8(bytes).map_err(|error| ScenarioError::NotText {
        path: path.to_owned(),
        offset: error.utf8_error().valid_up_to(),
    })?;
    parse(&text, &name, path.parent().unwrap_or(Path::new("")), policies)
}

/// Checks a scenario's text. `name` is what errors print, and its file stem names the scenario; files that it
/// names are looked for in `base_dir`.
///
/// # Errors
/// See [`load`].
pub fn parse(
    text: &str,
    name: &str,
    base_dir: &Path,
    policies: &Registry,
) -> Result<Scenario, ScenarioError> {
    check::parse(text, name, base_dir, policies)
}

/// Returns whether a file is meant to be a scenario, valid or not.
pub fn is_scenario(path: &Path) -> bool {
    let text = read_small_text(path).unwrap_or_default();
    let table: toml::Table = toml::from_str(&text).unwrap_or_default();
    table.contains_key("duration") && table.contains_key("machine")
}

/// Returns the JSON Schema of a scenario file.
pub fn schema() -> String {
    schema::text::<RawScenario>()
}

/// Why a scenario was refused.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "each variant's message says what it is")]
pub enum ScenarioError {
    #[error("cannot read `{path}`: check the path", path = path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error(
        "{path}: invalid UTF-8 at byte {offset}: is this a scenario file?",
        path = path.display()
    )]
    NotText { path: PathBuf, offset: usize },
    #[error(transparent)]
    Document(#[from] DocumentError),
}

#[cfg(test)]
mod tests;
