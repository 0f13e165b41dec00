//! The random hunt: worlds by number, each played once, and every broken invariant with the number that broke it.
//!
//! A number is a world, and always the same one: a hunt is a range of numbers, and what it finds does not depend on how many
//! threads look.

pub mod world;

use std::path::Path;

use tiershift_core::policy::Registry;
use tiershift_core::settings::PolicyName;
use toml::Table;

use crate::scenario;
use crate::study::minimise::{Keep, Minimised, Shown, minimise, shown_by};
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
    look(text, policies).0.into_iter().map(told).collect()
}

/// Plays a scenario's text, and returns what it shows and how long it lasts [s]. One that is refused is a mistake of whoever
/// makes worlds.
fn look(text: &str, policies: &Registry) -> (Vec<Shown>, f64) {
    match scenario::parse(text, "hunted.toml", Path::new(""), policies) {
        Ok(scenario) => (shown_by(&scenario, policies), scenario.duration.as_secs_f64()),
        Err(error) => (vec![Shown { keep: Keep::Error, text: error.to_string(), side: None }], 0.0),
    }
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

/// Returns the scenario file of a world under a policy or, without one, under that of its number.
pub fn scenario_of(world: u64, policy: Option<&PolicyName>) -> String {
    world::scenario(world, policy.map_or_else(|| policy_of(world), PolicyName::name), "")
}

/// Plays the worlds of `numbers`, `jobs` of them side by side, each under `policy` or, without one, under that of its number.
///
/// # Errors
/// Where the system gives no threads.
pub fn hunt(
    numbers: std::ops::Range<u64>,
    policy: Option<&PolicyName>,
    jobs: u16,
    policies: &Registry,
) -> Result<Tally, rayon::ThreadPoolBuildError> {
    let numbers: Vec<u64> = numbers.collect();
    let play = |&world: &u64| {
        let text = scenario_of(world, policy);
        let (shown, seconds) = look(&text, policies);
        let shown = shown.into_iter().next();
        (shown.map(|shown| Caught { world, shown, scenario: text }), seconds)
    };
    let mut tally = Tally::default();
    for (caught, seconds) in pool::map(jobs, &numbers, play)? {
        tally.worlds += 1;
        tally.virtual_seconds += seconds;
        tally.caught.extend(caught);
    }
    Ok(tally)
}

/// Makes the scenario of a world small; `None` where it does not show the same again.
pub fn make_small(caught: &Caught, most_runs: u64, policies: &Registry) -> Option<Minimised> {
    let document: Table = caught.scenario.parse().ok()?;
    minimise(&document, &caught.shown.keep, most_runs, Path::new(""), policies)
}
