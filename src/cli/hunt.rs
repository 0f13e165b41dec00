//! `tiershift hunt`: random worlds; every broken invariant is reduced to a small scenario.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;
use clap::Args;
use serde::Serialize;
use tiershift_core::policy::Registry;
use tiershift_core::text::count;
use tiershift_core::time::{Clock, Timestamp};

use crate::cli::offered::Offered;
use crate::cli::output::Force;
use crate::cli::policy::PolicyChoice;
use crate::cli::{Verdict, common, minimise, output, say};
use crate::exec::{self, ExecError};
use crate::probe::clock::SystemClock;
use crate::study::hunt::id::WorldId;
use crate::study::hunt::{Caught, Hunt, Tally, Under, make_small, scenario_of};
use crate::study::minimise::text as small_text;

/// Run random scenarios and look for broken invariants
#[derive(Debug, Args)]
#[command(after_help = "Exits with 1 when an invariant was broken.\n\nExamples:\n  \
tiershift hunt --worlds 2000 --seed 1\n  \
tiershift hunt --seconds 60 --jobs 2\n  \
tiershift hunt --world 300+faults=12 --print\n  \
tiershift hunt --worlds 500 --policy projecting\n  \
tiershift hunt --worlds 100 --policy \"exec:python3 examples/policy.py\"")]
pub(super) struct Arguments {
    /// How many worlds to play [default: 1000]
    #[arg(long, value_name = "N", conflicts_with = "seconds")]
    worlds: Option<u64>,
    /// For how long to play worlds
    #[arg(long, value_name = "N")]
    seconds: Option<u64>,
    /// The number of the first world. Each has its own number, and is the same whenever it is played
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Play this world alone, as a hunt names it: `300`, or `300+faults=12`, which has the faults of world 12
    #[arg(long, value_name = "NAME", conflicts_with_all = ["worlds", "seconds", "seed", "fresh"])]
    world: Option<WorldId>,
    /// Play only numbered worlds. Without it, some worlds are variations of earlier ones that showed something new,
    /// with a part or two of another; their share grows with the news that they have recently brought
    #[arg(long)]
    fresh: bool,
    /// The policy in every world: a name, or a program that answers each reading (see `tiershift schema policy-protocol`),
    /// which is started for each world. Without it, the default policy in most, and the baselines in some
    #[arg(long, value_name = "NAME|exec:COMMAND", value_parser = Offered::POLICIES, hide_possible_values = true)]
    policy: Option<String>,
    /// Print the worlds as scenario files instead of playing them
    #[arg(long, conflicts_with = "seconds")]
    print: bool,
    /// Folder for the scenarios that break an invariant, reduced to their smallest form
    #[arg(long, short, value_name = "DIR", default_value = "out/hunt")]
    out: PathBuf,
    #[command(flatten)]
    force: Force,
    #[command(flatten)]
    jobs: common::Jobs,
}

/// The result of a hunt, as JSON.
#[derive(Serialize)]
struct Report<'a> {
    first_world: u64,
    worlds: u64,
    /// How many of them are numbered worlds, from the first on; the others are made of parts.
    fresh_worlds: u64,
    virtual_seconds: f64,
    /// The number of different things that happened in them.
    situations: usize,
    caught: &'a [Found],
}

/// A world that broke an invariant.
#[derive(Serialize)]
struct Found {
    world: WorldId,
    shown: String,
    /// The reduced world; absent if an earlier one showed the same.
    #[serde(skip_serializing_if = "Option::is_none")]
    scenario: Option<String>,
}

pub(super) fn run(arguments: &Arguments, policies: &Registry, json: bool) -> Result<Verdict> {
    let under = match &arguments.policy {
        None => Under::ItsOwn,
        Some(policy) => match PolicyChoice::read(policy, policies)? {
            PolicyChoice::Named(name) if name.name() == exec::POLICY => {
                return Err(ExecError::NoCommand.into());
            }
            PolicyChoice::Named(name) => Under::Policy(name),
            PolicyChoice::Program { command } => Under::Program(command),
            PolicyChoice::MemoryOnly | PolicyChoice::File(_) => {
                anyhow::bail!(
                    "each random scenario has its own settings, so a policy file cannot be used here: give the name of a policy, or exec:COMMAND"
                )
            }
        },
    };
    if arguments.print {
        return print(arguments, &under);
    }
    let clock = SystemClock::start();
    let jobs = arguments.jobs.count();
    let mut ledger = Ledger {
        arguments,
        under: &under,
        policies,
        json,
        found: Vec::new(),
        known: BTreeMap::new(),
    };
    let tally = match &arguments.world {
        Some(world) => {
            let (caught, tally) = Hunt::play_one(world, &under, policies)?;
            ledger.take(caught)?;
            tally
        }
        None => {
            let until = arguments.seconds.map(|it| Timestamp::ZERO + Duration::from_secs(it));
            let most = match until {
                Some(_) => u64::MAX,
                None => arguments.worlds.unwrap_or(WORLDS),
            };
            let mut progress = common::Progress::new("hunting", until.is_none().then_some(most));
            let mut hunt = Hunt::new(arguments.seed, under.clone(), !arguments.fresh);
            while hunt.tally().worlds < most && until.is_none_or(|until| clock.now() < until) {
                let caught = hunt.play(most - hunt.tally().worlds, jobs, policies)?;
                progress.set(hunt.tally().worlds);
                ledger.take(caught)?;
            }
            hunt.tally()
        }
    };
    let Ledger { found, known, .. } = ledger;
    if json {
        common::print_json(&Report {
            first_world: arguments.first(),
            worlds: tally.worlds,
            fresh_worlds: tally.fresh,
            virtual_seconds: tally.virtual_seconds,
            situations: tally.situations,
            caught: &found,
        })?;
    } else {
        let broken = match found.len() {
            0 => "none broke an invariant".to_owned(),
            _ => format!("{} broke an invariant, in {} ways", found.len(), known.len()),
        };
        common::print(&format!(
            "{} ({}), {:.3} virtual years, {}: {broken}",
            count(tally.worlds, "world"),
            arguments.which(&tally),
            tally.virtual_seconds / YEAR,
            count(tally.situations as u64, "situation"),
        ))?;
    }
    // What depends on the machine is printed where nothing is compared.
    let seconds = clock.now().as_secs_f64().max(0.001);
    let rate = tally.worlds as f64 / seconds;
    say::note(&format!("{rate:.0} worlds a second, {seconds:.1} s"));
    Ok(if found.is_empty() { Verdict::Done } else { Verdict::Failed })
}

impl Arguments {
    fn first(&self) -> u64 {
        self.world.as_ref().map_or(self.seed, WorldId::number)
    }

    /// Returns a description of the worlds that were played.
    fn which(&self, tally: &Tally) -> String {
        if let Some(world) = &self.world {
            return world.to_string();
        }
        let (first, last) = (self.seed, self.seed.saturating_add(tally.fresh.saturating_sub(1)));
        match tally.worlds - tally.fresh {
            0 => format!("{first} to {last}"),
            made => format!("{first} to {last}, and {made} made of parts"),
        }
    }
}

/// Prints the worlds.
fn print(arguments: &Arguments, under: &Under) -> Result<Verdict> {
    let numbers = (0..arguments.worlds.unwrap_or(WORLDS))
        .map(|more| arguments.seed.saturating_add(more).into());
    let worlds: Vec<WorldId> = match &arguments.world {
        Some(world) => vec![world.clone()],
        None => numbers.collect(),
    };
    for world in &worlds {
        let scenario = scenario_of(world, under);
        common::print(&format!(
            "# World {world} of `tiershift hunt`\n{}",
            small_text(&scenario.parse()?)
        ))?;
    }
    Ok(Verdict::Done)
}

/// The findings so far, and how they are reported.
struct Ledger<'a> {
    arguments: &'a Arguments,
    under: &'a Under,
    policies: &'a Registry,
    json: bool,
    found: Vec<Found>,
    /// The first world that showed each kind of finding.
    known: BTreeMap<String, WorldId>,
}

impl Ledger<'_> {
    fn take(&mut self, caught: impl IntoIterator<Item = Caught>) -> Result<()> {
        for caught in caught {
            let one = self.write(&caught)?;
            if !self.json {
                let first = &self.known[&kind(&caught)];
                common::print(&told(&one, first, &repeat_with(self.under)))?;
            }
            self.found.push(one);
        }
        Ok(())
    }

    /// Reduces a world and writes it, unless an earlier one showed the same.
    fn write(&mut self, caught: &Caught) -> Result<Found> {
        let Caught { world, shown, .. } = caught;
        let is_new = !self.known.contains_key(&kind(caught));
        self.known.entry(kind(caught)).or_insert_with(|| world.clone());
        let mut scenario = None;
        if is_new {
            let name = shown.keep.to_string().replace(' ', "-").to_lowercase();
            let out = self.arguments.out.join(format!("{world}-{name}.toml"));
            self.arguments.force.check(&out, minimise::MARK)?;
            let from = format!("world {world}");
            // A program's answers need not be the same again.
            let small = match self.under {
                Under::Program(_) => None,
                Under::ItsOwn | Under::Policy(_) => make_small(caught, MOST_RUNS, self.policies),
            };
            let file = match small {
                Some(small) => minimise::file(&small, &from, &out),
                None if matches!(self.under, Under::Program(_)) => format!(
                    "{}: {from} whole, because a program's answers need not be the same again\n# {}\n# Repeat: tiershift run \
                     {}{}\n{}",
                    minimise::MARK,
                    shown.text.replace('\n', " "),
                    out.display(),
                    repeat_with(self.under),
                    caught.scenario
                ),
                // It does not show the same again, which is a defect of its own.
                None => format!(
                    "{}: {from} whole, in which only the hunt has seen this\n# {}\n{}",
                    minimise::MARK,
                    shown.text.replace('\n', " "),
                    caught.scenario
                ),
            };
            output::write(&out, file.as_bytes())?;
            scenario = Some(out.display().to_string());
        }
        Ok(Found { world: world.clone(), shown: shown.text.clone(), scenario })
    }
}

/// Returns what a command that repeats a world must name, because a scenario starts no program by itself.
fn repeat_with(under: &Under) -> String {
    let Under::Program(command) = under else { return String::new() };
    let policy = format!("exec:{command}");
    format!(" --policy {}", shlex::try_quote(&policy).unwrap_or_default())
}

fn kind(caught: &Caught) -> String {
    format!("{}: {}", caught.shown.keep, caught.shown.shape())
}

/// Returns a finding as text, with the command that repeats it.
fn told(found: &Found, first: &WorldId, repeat_with: &str) -> String {
    let Found { world, shown, scenario } = found;
    match scenario {
        Some(path) => format!("world {world}: {shown}\n  tiershift run {path}{repeat_with}"),
        None => format!("world {world}: {shown}\n  as world {first}"),
    }
}

/// The default number of worlds.
const WORLDS: u64 = 1000;
/// The most runs for reducing a world. Chosen: a minute or two.
const MOST_RUNS: u64 = 5000;
/// Seconds of a year.
const YEAR: f64 = 365.0 * 86_400.0;
