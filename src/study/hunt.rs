//! The random hunt: worlds by name, each played once, and every broken invariant with the world that broke it.
//!
//! A number is a world, and always the same one. A hunt plays a range of numbers, and between them worlds made of those
//! that showed something new. It proceeds in rounds, each chosen by the results of the rounds before it, so that its
//! findings do not depend on the number of threads.

pub mod id;
mod novelty;
pub mod world;

use std::collections::BTreeSet;
use std::path::Path;

use tiershift_core::policy::Registry;
use tiershift_core::settings::PolicyName;
use toml::Table;

use crate::exec::{self, ExecError, Program};
use crate::scenario::{self, Scenario};
use crate::sim::adviser::Adviser;
use crate::study::hunt::id::WorldId;
use crate::study::hunt::novelty::{Feature, Guide, Signature};
use crate::study::minimise::{Keep, Minimised, Shown, minimise, shown_beside, shown_by};
use crate::study::pool;

/// The result of one world.
#[derive(Clone, Debug)]
pub struct Found {
    /// Its number.
    pub seed: u64,
    /// The broken rules, in order; including a panic or a refused scenario.
    pub violations: Vec<String>,
    /// The scenario file that repeats it.
    pub scenario: String,
}

/// Plays the world of a seed under a policy of `policies`.
pub fn play(seed: u64, policy: &str, options: &str, policies: &Registry) -> Found {
    let scenario = world::scenario(&seed.into(), policy, options);
    let violations = violations(&scenario, policies);
    Found { seed, violations, scenario }
}

/// Returns the violations of a scenario.
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

/// Reads a world. If one is refused, the generator is wrong.
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

/// A world that shows a defect.
#[derive(Clone, Debug)]
pub struct Caught {
    /// The world.
    pub world: WorldId,
    /// The first defect that it shows.
    pub shown: Shown,
    /// The scenario file that repeats it.
    pub scenario: String,
}

/// The result of a hunt.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tally {
    /// The number of worlds that were played.
    pub worlds: u64,
    /// How many of them are worlds of fresh numbers: from the first on, without a gap.
    pub fresh: u64,
    /// Their total virtual time \[s\].
    pub virtual_seconds: f64,
    /// The number of different things that happened in them: decisions by reason and rungs, successive steps of models,
    /// distances to limits by their power of two.
    pub situations: usize,
}

/// The policy for the worlds.
#[derive(Clone, Debug)]
pub enum Under {
    /// The policy of each world's number.
    ItsOwn,
    /// One policy.
    Policy(PolicyName),
    /// A program with this command line, which is started for each world: the first line that it reads describes the
    /// machine and the tiers.
    Program(String),
}

/// Returns the scenario file of a world.
pub fn scenario_of(world: &WorldId, under: &Under) -> String {
    match under {
        Under::ItsOwn => world::scenario(world, policy_of(world.number()), ""),
        Under::Policy(policy) => world::scenario(world, policy.name(), ""),
        Under::Program(command) => {
            let command = toml::Value::String(command.clone());
            world::scenario(world, exec::POLICY, &format!("command = {command}"))
        }
    }
}

/// A hunt under way.
#[derive(Debug)]
pub struct Hunt {
    first: u64,
    under: Under,
    is_guided: bool,
    guide: Guide,
    tally: Tally,
}

impl Hunt {
    /// Begins with the world of this number. A hunt that is not guided plays only numbered worlds.
    pub fn new(first: u64, under: Under, is_guided: bool) -> Self {
        Self { first, under, is_guided, guide: Guide::new(first), tally: Tally::default() }
    }

    /// Returns the result so far.
    pub fn tally(&self) -> Tally {
        self.tally
    }

    /// Plays one round of at most this many worlds, `jobs` of them side by side, and returns those that showed a
    /// defect, in the order of the worlds.
    ///
    /// # Errors
    /// When no number is left, the system provides no threads, or the program that is the policy cannot be asked.
    pub fn play(
        &mut self,
        most: u64,
        jobs: u16,
        policies: &Registry,
    ) -> Result<Vec<Caught>, HuntError> {
        let worlds = self.draw(most.min(ROUND))?;
        let mut caught = Vec::new();
        let under = &self.under;
        let played = pool::map(jobs, &worlds, |world| play_under(world, under, policies))?;
        for (world, played) in worlds.iter().zip(played) {
            let Played { shown, seconds, features } = played?;
            self.tally.worlds += 1;
            self.tally.virtual_seconds += seconds;
            caught.extend(shown);
            self.guide.learn(world, features);
        }
        self.tally.situations = self.guide.seen();
        Ok(caught)
    }

    /// Plays one world.
    ///
    /// # Errors
    /// When the program that is the policy cannot be asked.
    pub fn play_one(
        world: &WorldId,
        under: &Under,
        policies: &Registry,
    ) -> Result<(Option<Caught>, Tally), HuntError> {
        let Played { shown, seconds, features } = play_under(world, under, policies)?;
        let situations = features.len();
        Ok((shown, Tally { worlds: 1, fresh: 1, virtual_seconds: seconds, situations }))
    }

    /// Returns the worlds of the next round: fresh ones, then ones made of those that showed something new.
    fn draw(&mut self, count: u64) -> Result<Vec<WorldId>, HuntError> {
        let made = if self.is_guided { self.guide.share_of(count) } else { 0 };
        let made: Vec<WorldId> = (0..made).map_while(|_| self.guide.make()).collect();
        let mut worlds = Vec::new();
        for _ in made.len() as u64..count {
            let next = self.first.checked_add(self.tally.fresh);
            worlds.push(next.ok_or(HuntError::NoNumbers)?.into());
            self.tally.fresh += 1;
        }
        worlds.extend(made);
        Ok(worlds)
    }
}

/// The result of one world.
struct Played {
    shown: Option<Caught>,
    seconds: f64,
    features: BTreeSet<Feature>,
}

/// Plays a world.
fn play_under(world: &WorldId, under: &Under, policies: &Registry) -> Result<Played, HuntError> {
    let text = scenario_of(world, under);
    let failed = |error| HuntError::Program { world: world.clone(), error };
    let (shown, seconds, features) = match read(&text, policies) {
        Err(refused) => (vec![refused], 0.0, BTreeSet::new()),
        Ok(scenario) => {
            let adviser: Option<Box<dyn Adviser>> = match under {
                Under::Program(_) => {
                    Some(Box::new(Program::start(&scenario.setup).map_err(failed)?))
                }
                Under::ItsOwn | Under::Policy(_) => None,
            };
            let mut signature = Signature::new(scenario.setup.checked_settings().ok());
            let shown = shown_beside(&scenario, adviser, policies, Some(&mut signature));
            (shown.map_err(failed)?, scenario.duration.as_secs_f64(), signature.finish())
        }
    };
    let shown = shown.into_iter().next();
    let shown = shown.map(|shown| Caught { world: world.clone(), shown, scenario: text });
    Ok(Played { shown, seconds, features })
}

/// Worlds per round: they are chosen by the results of the rounds before.
const ROUND: u64 = 256;

/// Why worlds cannot be played.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "each variant's message says what it is")]
pub enum HuntError {
    #[error(transparent)]
    Threads(#[from] rayon::ThreadPoolBuildError),
    #[error("the numbers of worlds end here: give a smaller --seed or fewer --worlds")]
    NoNumbers,
    #[error("world {world}: {error}")]
    Program { world: WorldId, error: ExecError },
}

/// Reduces the scenario of a world; `None` if it does not show the same again.
pub fn make_small(caught: &Caught, most_runs: u64, policies: &Registry) -> Option<Minimised> {
    let document: Table = caught.scenario.parse().ok()?;
    minimise(&document, &caught.shown.keep, most_runs, Path::new(""), policies)
}
