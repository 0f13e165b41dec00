//! The regression suite: every scenario meets its expectations, has the same story as last time, runs to the same
//! bytes twice, and is failed by the baseline that it exists to catch.
//!
//! A *story* is a run's golden record, short enough to review as text: what changed, the figures, and the digest
//! of the full event log, so that nothing can differ unseen.

use std::fmt::Write as _;
use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use tiershift_core::controller::Detail;
use tiershift_core::decision::{Action, Decision};
use tiershift_core::event::{Command, EventRef, Input, Observe, Outcome, Output};
use tiershift_core::policy::Registry;
use tiershift_core::time::Timestamp;

use crate::files::whole_file::WholeFile;
use crate::log::{LogLevel, LogWriter};
use crate::scenario::{self, Scenario, ScenarioError};
use crate::sim::adviser::Adviser;
use crate::sim::{SimulationError, Situation, simulate};
use crate::study::compare::Figures;
use crate::summary::Summary;

/// The result of one scenario.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Checked {
    /// The scenario's name.
    pub name: String,
    /// What must happen and why; empty if the scenario could not be read.
    #[serde(skip)]
    pub description: String,
    /// What was not as required. Empty: it passed.
    pub failures: Vec<String>,
    /// Whether the golden story was overwritten.
    pub blessed: bool,
    /// The figures of its run; absent if there was none.
    #[serde(skip)]
    pub figures: Option<Figures>,
}

impl Checked {
    pub(crate) fn new(scenario: &Scenario, played: &Played, failures: Vec<String>) -> Self {
        Self {
            name: scenario.name.clone(),
            description: scenario.description.clone(),
            failures,
            blessed: false,
            figures: Some(Figures::of(&played.summary)),
        }
    }

    /// Returns whether the scenario could not be read or played at all.
    pub fn is_broken(&self) -> bool {
        self.figures.is_none()
    }

    /// Returns the result of a scenario that could not be checked at all.
    pub(crate) fn broken(path: &Path, reason: String) -> Self {
        Self {
            name: path.file_stem().unwrap_or_default().to_string_lossy().into_owned(),
            description: String::new(),
            failures: vec![reason],
            blessed: false,
            figures: None,
        }
    }
}

/// Which golden stories are written instead of compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bless {
    /// None.
    Nothing,
    /// Those of scenarios that meet everything else.
    WhatPasses,
    /// All.
    Anything,
}

/// Checks the scenario of a file.
///
/// # Errors
/// When the scenario cannot be read or run at all, or the golden story cannot be read or written.
pub fn check(path: &Path, bless: Bless, policies: &Registry) -> Result<Checked, SuiteError> {
    let scenario = scenario::load(path, policies)?;
    let first = play(&scenario, None, policies)?;
    let mut failures = first.failures(&play(&scenario, None, policies)?);
    failures.extend(toothless(&scenario, policies)?);
    if is_once_found(path) {
        return Ok(Checked::new(&scenario, &first, failures));
    }
    let golden = golden_path(path, &scenario.name);
    let mut blessed = false;
    let known = match fs::read_to_string(&golden) {
        Ok(known) => Some(known),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(source) => return Err(SuiteError::Golden { path: golden, source }),
    };
    if known.as_ref() != Some(&first.story) {
        let is_accepted = match bless {
            Bless::Nothing => false,
            Bless::WhatPasses => failures.is_empty(),
            Bless::Anything => true,
        };
        if is_accepted {
            write_golden(&golden, &first.story)?;
            blessed = true;
        } else if bless == Bless::WhatPasses {
            failures.push(format!(
                "{}: not written, because the scenario fails; --force writes it in any case",
                golden.display()
            ));
        } else {
            let place = match &known {
                None => "no golden story exists yet".to_owned(),
                Some(known) => first_difference(known, &first.story).unwrap_or_default(),
            };
            // A story that fails is mended before it is accepted.
            let accept = match failures.is_empty() {
                true => format!("\n  if it is right: tiershift check {} --bless", path.display()),
                false => String::new(),
            };
            failures.push(format!("{}: {place}{accept}", golden.display()));
        }
    }
    Ok(Checked { blessed, ..Checked::new(&scenario, &first, failures) })
}

/// Returns the scenario files that paths stand for: files as they are, folders as their `*.toml`, in order of name.
///
/// # Errors
/// When a path does not exist, or a folder contains no scenario.
pub fn scenario_files(paths: &[PathBuf]) -> Result<Vec<PathBuf>, SuiteError> {
    let mut files = Vec::new();
    for path in paths {
        let refuse = |source| SuiteError::List { path: path.clone(), source };
        if !path.is_dir() {
            fs::metadata(path).map_err(refuse)?;
            files.push(path.clone());
            continue;
        }
        let entries: Vec<PathBuf> = fs::read_dir(path)
            .map_err(refuse)?
            .map(|entry| entry.map(|entry| entry.path()))
            .collect::<Result<_, _>>()
            .map_err(refuse)?;
        let mut found: Vec<PathBuf> = entries
            .into_iter()
            .filter(|file| file.extension().is_some_and(|e| e == "toml"))
            .collect();
        if found.is_empty() {
            return Err(SuiteError::Empty { path: path.clone() });
        }
        found.sort();
        files.extend(found);
    }
    Ok(files)
}

/// One run of a scenario.
pub(crate) struct Played {
    pub(super) summary: Summary,
    pub(super) unmet: Vec<String>,
    pub(super) unmet_keys: Vec<&'static str>,
    story: String,
    digest: String,
}

impl Played {
    /// Returns what was not as expected, and where another run of the same scenario differs.
    pub(crate) fn failures(&self, again: &Self) -> Vec<String> {
        let mut failures = self.unmet.clone();
        if self.digest != again.digest {
            let place = first_difference(&self.story, &again.story);
            failures.push(format!(
                "two runs differ: {}",
                place.unwrap_or_else(|| "in their full logs only".to_owned())
            ));
        }
        failures
    }
}

/// Plays a scenario, with the program that its policy asks.
pub(crate) fn play(
    scenario: &Scenario,
    adviser: Option<Box<dyn Adviser>>,
    policies: &Registry,
) -> Result<Played, SuiteError> {
    let header = scenario.header(LogLevel::Full);
    let sources = [scenario.digest.clone()];
    let sunk = "a log into nothing cannot fail";
    let mut log = LogWriter::new(io::sink(), header.clone()).expect(sunk);
    let mut checker = scenario.expect.checker(&scenario.setup.catalog);
    let mut story = Story::default();
    let observers: &mut [&mut dyn Observe] = &mut [&mut log, &mut checker, &mut story];
    let situation = Situation { adviser, ..scenario.situation() };
    let summary = simulate(situation, policies, Detail::Full, observers)?;
    let Story(mut story) = story;
    let digest = log.finish(&sources).expect(sunk).unwrap_or_default();
    story.push_str(&summary.to_json());
    // Last, so that differences in substance are found first.
    writeln!(story, "\nfingerprint {}\nfull log {digest}", header.fingerprint(&sources))
        .expect("a string takes all");
    let unmet = checker.finish(&summary);
    Ok(Played {
        unmet_keys: unmet.iter().map(|unmet| unmet.expectation).collect(),
        unmet: unmet.iter().map(ToString::to_string).collect(),
        summary,
        story,
        digest,
    })
}

/// Returns what the baseline meets although the scenario states that it must not.
fn toothless(scenario: &Scenario, policies: &Registry) -> Result<Vec<String>, SuiteError> {
    let Some(baseline) = &scenario.baseline else { return Ok(Vec::new()) };
    let played = play(&scenario.clone().with_policy(&baseline.policy), None, policies)?;
    let met = baseline.fails.iter().filter(|key| !played.unmet_keys.contains(&key.as_str()));
    Ok(met
        .map(|key| {
            format!(
                "the scenario does not discriminate: the baseline {} also satisfies `{key}` ({} switches, {} reversals)",
                baseline.policy.name(),
                played.summary.switches,
                played.summary.reversals
            )
        })
        .collect())
}

/// A run's story, as it grows.
#[derive(Default)]
struct Story(String);

impl Observe for Story {
    /// Writes one line: the moment and the event. Gates are left to the full log.
    fn observe(&mut self, at: Timestamp, event: EventRef<'_>) {
        if !belongs(event) {
            return;
        }
        let without_gates;
        let event = match event {
            EventRef::Output(Output::Decision(decision)) => {
                let decision = Decision { gates: Vec::new(), ..decision.clone() };
                without_gates = Output::Decision(decision);
                EventRef::Output(&without_gates)
            }
            other => other,
        };
        let json = serde_json::to_string(&event).expect("events are plain data");
        writeln!(self.0, "{:.6} {json}", at.as_secs_f64()).expect("a string takes all");
    }
}

/// Returns whether an event belongs to the story: what changed, and nothing about single requests.
fn belongs(event: EventRef<'_>) -> bool {
    match event {
        EventRef::Input(input) => match input {
            Input::Outcome(outcome) => match outcome {
                Outcome::Loaded { .. }
                | Outcome::LoadFailed { .. }
                | Outcome::Unloaded { .. }
                | Outcome::Crashed { .. } => true,
                Outcome::Loading { .. }
                | Outcome::Tried(_)
                | Outcome::Done { .. }
                | Outcome::Failed { .. }
                | Outcome::Cancelled { .. } => false,
            },
            Input::Adopt { .. } | Input::Settings(_) | Input::Switch { .. } | Input::Shutdown => {
                true
            }
            Input::Sample(_)
            | Input::SampleMissing { .. }
            | Input::Request(_)
            | Input::Cancel { .. }
            | Input::Advice(_)
            | Input::Timeout => false,
        },
        EventRef::Output(output) => match output {
            Output::Decision(decision) => decision.action != Action::Hold,
            Output::Command(command) => {
                matches!(command, Command::Load { .. } | Command::Unload { .. })
            }
            Output::Serving { .. }
            | Output::Switched { .. }
            | Output::Companion { .. }
            | Output::Order { .. }
            | Output::Notice(_) => true,
            Output::Accepted { .. } | Output::Consult(_) | Output::Ended { .. } => false,
        },
    }
}

/// Returns the first line in which two stories differ, as got and want.
fn first_difference(want: &str, got: &str) -> Option<String> {
    let mut lines = (want.lines(), got.lines());
    let mut number = 0;
    loop {
        number += 1;
        match (lines.0.next(), lines.1.next()) {
            (None, None) => return None,
            (want, got) if want == got => {}
            (want, got) => {
                let shown = |line: Option<&str>| line.unwrap_or("(the end)").to_owned();
                return Some(format!(
                    "line {number} differs\n  want {}\n  got  {}",
                    shown(want),
                    shown(got)
                ));
            }
        }
    }
}

/// Returns whether a scenario is one of those that the hunt once found. Such a world is checked against the invariants,
/// and has no story, which would not be reviewed.
fn is_once_found(scenario: &Path) -> bool {
    scenario.parent().is_some_and(|folder| folder.ends_with(BOOK))
}

/// The folder of what the hunt once found, in the folder of scenarios.
const BOOK: &str = "seeds";

fn golden_path(scenario: &Path, name: &str) -> PathBuf {
    scenario.parent().unwrap_or(Path::new("")).join("golden").join(format!("{name}.txt"))
}

fn write_golden(path: &Path, story: &str) -> Result<(), SuiteError> {
    let refuse = |source| SuiteError::Golden { path: path.to_owned(), source };
    let folder = path.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(folder).map_err(refuse)?;
    let mut file = WholeFile::create(path).map_err(refuse)?;
    file.write_all(story.as_bytes()).map_err(refuse)?;
    file.finish().map_err(refuse)
}

/// Why a suite could not be run.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "each variant's message says what it is")]
pub enum SuiteError {
    #[error(transparent)]
    Scenario(#[from] ScenarioError),
    #[error(transparent)]
    Simulation(#[from] SimulationError),
    #[error("cannot list `{}`: give scenario files or folders of them", path.display())]
    List { path: PathBuf, source: io::Error },
    #[error("`{}` contains no scenario (*.toml)", path.display())]
    Empty { path: PathBuf },
    #[error("the golden story `{}` cannot be read or written", path.display())]
    Golden { path: PathBuf, source: io::Error },
}
