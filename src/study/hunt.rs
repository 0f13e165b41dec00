//! The random hunt: worlds by number, each played once, and every broken invariant with the number that broke it.
//!
//! A number is a world, and always the same one: a hunt is a range of numbers, and what it finds does not depend on how many
//! threads look.

pub mod world;

use std::path::Path;

use tiershift_core::policy::Registry;
use tiershift_core::settings::PolicyName;
use toml::Table;

use crate::exec::{self, ExecError, Program};
use crate::scenario::{self, Scenario};
use crate::sim::adviser::Adviser;
use crate::study::minimise::{Keep, Minimised, Shown, minimise, shown_beside, shown_by};
use crate::study::pool;

/// What became of one world.
#[derive(Clone, Debug)]
pub struct Found {
    /// Its number.
    pub seed: u64,
    /// What was broken, in order; a panic and a refused scenario too.
    pub violations: Vec<String>,
    /// The scenario file that repeats it.
    pub scenario: String,
}

/// Plays the world of a seed under a policy of `policies`.
pub fn play(seed: u64, policy: &str, options: &str, policies: &Registry) -> Found {
    let scenario = world::scenario(seed, policy, options);
    let violations = violations(&scenario, policies);
    Found { seed, violations, scenario }
}

/// Returns what a scenario breaks.
pub fn violations(text: &str, policies: &Registry) -> Vec<String> {
    let told = |Shown { keep, text, .. }| match keep {
        Keep::Error | Keep::Panic => format!("{keep}: {text}"),
        Keep::Invariant(_) | Keep::Expect(_) => text,
    };
    let all = match read(text, policies) {
        Ok(scenario) => shown_by(&scenario, policies),
        Err(refused) => vec![refused],
    };
    all.into_iter().map(told).collect()
}

/// Reads a world. One that is refused is a mistake of whoever makes worlds.
fn read(text: &str, policies: &Registry) -> Result<Scenario, Shown> {
    scenario::parse(text, "hunted.toml", Path::new(""), policies)
        .map_err(|error| Shown::error(&error))
}

/// Returns the rule that a violation names.
pub fn rule(violation: &str) -> &str {
    violation.split(' ').next().unwrap_or_default()
}

/// Returns the policy of a seed: ours for most, to which every rule applies, and the baselines under our manager.
pub fn policy_of(seed: u64) -> &'static str {
    match seed % 10 {
        7 => "projecting",
        8 => "original",
        9 => "fixed",
        _ => "proactive",
    }
}

/// The world of a number that shows what it should not.
#[derive(Clone, Debug)]
pub struct Caught {
    /// Its number.
    pub world: u64,
    /// What it shows first.
    pub shown: Shown,
    /// The scenario file that repeats it.
    pub scenario: String,
}

/// What several worlds came to.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// Worlds that were played.
    pub worlds: u64,
    /// How long they lasted, together, in virtual time \[s\].
    pub virtual_seconds: f64,
    /// What was caught, in the order of the numbers.
    pub caught: Vec<Caught>,
}

/// What worlds are played under.
#[derive(Clone, Debug)]
pub enum Under {
    /// The policy of each world's number.
    ItsOwn,
    /// One policy.
    Policy(PolicyName),
    /// A program with this command line, which is started for each world: the first line that it reads says what there is to
    /// choose from in a run.
    Program(String),
}

/// Returns the scenario file of a world.
pub fn scenario_of(world: u64, under: &Under) -> String {
    match under {
        Under::ItsOwn => world::scenario(world, policy_of(world), ""),
        Under::Policy(policy) => world::scenario(world, policy.name(), ""),
        Under::Program(command) => {
            let command = toml::Value::String(command.clone());
            world::scenario(world, exec::POLICY, &format!("command = {command}"))
        }
    }
}

/// Plays the worlds of `numbers`, `jobs` of them side by side.
///
/// # Errors
/// Where the system gives no threads, or the program that is the policy cannot be asked.
pub fn hunt(
    numbers: std::ops::Range<u64>,
    under: &Under,
    jobs: u16,
    policies: &Registry,
) -> Result<Tally, HuntError> {
    let numbers: Vec<u64> = numbers.collect();
    let mut tally = Tally::default();
    for played in pool::map(jobs, &numbers, |&world| play_under(world, under, policies))? {
        let (caught, seconds) = played?;
        tally.worlds += 1;
        tally.virtual_seconds += seconds;
        tally.caught.extend(caught);
    }
    Ok(tally)
}

/// Plays a world; returns what it shows first, and how long it lasts \[s\].
fn play_under(
    world: u64,
    under: &Under,
    policies: &Registry,
) -> Result<(Option<Caught>, f64), HuntError> {
    let text = scenario_of(world, under);
    let failed = |error| HuntError::Program { world, error };
    let (shown, seconds) = match read(&text, policies) {
        Err(refused) => (vec![refused], 0.0),
        Ok(scenario) => {
            let adviser: Option<Box<dyn Adviser>> = match under {
                Under::Program(_) => {
                    Some(Box::new(Program::start(&scenario.setup).map_err(failed)?))
                }
                Under::ItsOwn | Under::Policy(_) => None,
            };
            let shown = shown_beside(&scenario, adviser, policies).map_err(failed)?;
            (shown, scenario.duration.as_secs_f64())
        }
    };
    let shown = shown.into_iter().next();
    Ok((shown.map(|shown| Caught { world, shown, scenario: text }), seconds))
}

/// Why worlds cannot be played.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "each variant's message says what it is")]
pub enum HuntError {
    #[error(transparent)]
    Threads(#[from] rayon::ThreadPoolBuildError),
    #[error("world {world}: {error}")]
    Program { world: u64, error: ExecError },
}

/// Makes the scenario of a world small; `None` where it does not show the same again.
pub fn make_small(caught: &Caught, most_runs: u64, policies: &Registry) -> Option<Minimised> {
    let document: Table = caught.scenario.parse().ok()?;
    minimise(&document, &caught.shown.keep, most_runs, Path::new(""), policies)
}
