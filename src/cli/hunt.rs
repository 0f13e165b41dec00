//! `tiershift hunt`: random worlds, and every broken invariant made small.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anstream::eprintln;
use anyhow::{Context, Result};
use clap::Args;
use serde::Serialize;
use tiershift_core::policy::Registry;
use tiershift_core::text::count;
use tiershift_core::time::{Clock, Timestamp};

use crate::cli::output::Force;
use crate::cli::policy::PolicyChoice;
use crate::cli::{Verdict, common, minimise, output};
use crate::exec::{self, ExecError};
use crate::probe::clock::SystemClock;
use crate::study::hunt::{Caught, Tally, Under, hunt, make_small, scenario_of};
use crate::study::minimise::text as small_text;

/// Play random worlds, and look for what breaks an invariant
#[derive(Debug, Args)]
#[command(after_help = "Exits with 1 when an invariant was broken.\n\nExamples:\n  \
tiershift hunt --worlds 2000 --seed 1\n  \
tiershift hunt --seconds 60 --jobs 2\n  \
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
    /// The policy in every world: a name, or a program that answers each reading (see `tiershift schema policy-protocol`),
    /// which is started for each world. Without it, the default policy in most, and the baselines in some
    #[arg(long, value_name = "NAME|exec:COMMAND")]
    policy: Option<String>,
    /// Print the worlds as scenario files, and play none
    #[arg(long, conflicts_with = "seconds")]
    print: bool,
    /// Where to write what breaks an invariant, made small
    #[arg(long, value_name = "DIR", default_value = "out/hunt")]
    out: PathBuf,
    #[command(flatten)]
    force: Force,
    #[command(flatten)]
    jobs: common::Jobs,
}

/// What a hunt came to, as JSON.
#[derive(Serialize)]
struct Report<'a> {
    first_world: u64,
    worlds: u64,
    virtual_seconds: f64,
    caught: &'a [Found],
}

/// A world that broke an invariant.
#[derive(Serialize)]
struct Found {
    world: u64,
    shown: String,
    /// The world, made small; absent where an earlier one showed the same.
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
                    "each world has settings of its own: give a policy's name, or exec:COMMAND"
                )
            }
        },
    };
    if arguments.print {
        return print(arguments, &under);
    }
    let clock = SystemClock::start();
    let until = arguments.seconds.map(|seconds| Timestamp::ZERO + Duration::from_secs(seconds));
    let most = match until {
        Some(_) => u64::MAX,
        None => arguments.worlds.unwrap_or(WORLDS),
    };
    let total = until.is_none().then_some(most);
    let mut progress = common::Progress::new("hunting", total);
    let mut all = Tally::default();
    let mut found: Vec<Found> = Vec::new();
    let mut known: BTreeMap<String, u64> = BTreeMap::new();
    while all.worlds < most && until.is_none_or(|until| clock.now() < until) {
        let first = arguments.seed.saturating_add(all.worlds);
        let numbers = first..first.saturating_add(BATCH.min(most - all.worlds));
        anyhow::ensure!(!numbers.is_empty(), "there are no worlds of a higher number");
        let tally = hunt(numbers, &under, arguments.jobs.count(), policies)?;
        all.worlds += tally.worlds;
        all.virtual_seconds += tally.virtual_seconds;
        progress.set(all.worlds);
        for caught in tally.caught {
            let one = report(arguments, &under, &caught, &mut known, policies)?;
            if !json {
                common::print(&told(&one, known[&kind(&caught)], &repeat_with(&under)))?;
            }
            found.push(one);
        }
    }
    drop(progress);
    if json {
        common::print_json(&Report {
            first_world: arguments.seed,
            worlds: all.worlds,
            virtual_seconds: all.virtual_seconds,
            caught: &found,
        })?;
    } else {
        let (first, more) = (arguments.seed, all.worlds.saturating_sub(1));
        let last = first.saturating_add(more);
        let broken = match found.len() {
            0 => "none broke an invariant".to_owned(),
            _ => format!("{} broke an invariant, in {} ways", found.len(), known.len()),
        };
        common::print(&format!(
            "{} ({first} to {last}), {:.3} virtual years: {broken}",
            count(all.worlds, "world"),
            all.virtual_seconds / YEAR
        ))?;
    }
    // What depends on the machine goes where nothing is compared.
    let seconds = clock.now().as_secs_f64().max(0.001);
    eprintln!("note: {:.0} worlds a second, {seconds:.1} s", all.worlds as f64 / seconds);
    Ok(if found.is_empty() { Verdict::Done } else { Verdict::Failed })
}

/// Prints the worlds.
fn print(arguments: &Arguments, under: &Under) -> Result<Verdict> {
    for more in 0..arguments.worlds.unwrap_or(WORLDS) {
        let number = arguments.seed.saturating_add(more);
        let scenario = scenario_of(number, under);
        common::print(&format!(
            "# World {number} of `tiershift hunt`\n{}",
            small_text(&scenario.parse()?)
        ))?;
    }
    Ok(Verdict::Done)
}

/// Makes a world small and writes it, unless an earlier one showed the same.
fn report(
    arguments: &Arguments,
    under: &Under,
    caught: &Caught,
    known: &mut BTreeMap<String, u64>,
    policies: &Registry,
) -> Result<Found> {
    let Caught { world, shown, .. } = caught;
    let is_new = !known.contains_key(&kind(caught));
    known.entry(kind(caught)).or_insert(*world);
    let mut scenario = None;
    if is_new {
        let name = shown.keep.to_string().replace(' ', "-").to_lowercase();
        let out = arguments.out.join(format!("{world}-{name}.toml"));
        arguments.force.check(&out, minimise::MARK)?;
        let from = format!("world {world}");
        // What a program answers need not be the same again.
        let small = match under {
            Under::Program(_) => None,
            Under::ItsOwn | Under::Policy(_) => make_small(caught, MOST_RUNS, policies),
        };
        let file = match small {
            Some(small) => minimise::file(&small, &from, &out),
            None if matches!(under, Under::Program(_)) => format!(
                "{}: {from} whole, because a program's answers need not be the same again\n# {}\n# Repeat: tiershift run \
                 {}{}\n{}",
                minimise::MARK,
                shown.text.replace('\n', " "),
                out.display(),
                repeat_with(under),
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
        fs::create_dir_all(&arguments.out)
            .with_context(|| format!("cannot create `{}`", arguments.out.display()))?;
        output::write(&out, file.as_bytes())?;
        scenario = Some(out.display().to_string());
    }
    Ok(Found { world: *world, shown: shown.text.clone(), scenario })
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

/// Returns a finding in words, with the command that repeats it.
fn told(found: &Found, first: u64, repeat_with: &str) -> String {
    let Found { world, shown, scenario } = found;
    match scenario {
        Some(path) => format!("world {world}: {shown}\n  tiershift run {path}{repeat_with}"),
        None => format!("world {world}: {shown}\n  as world {first}"),
    }
}

/// Worlds that are played when nothing else is asked for.
const WORLDS: u64 = 1000;
/// Worlds between two looks at the clock: a second's work of two processors.
const BATCH: u64 = 256;
/// Runs that a world may take to be made small. Chosen: a minute or two.
const MOST_RUNS: u64 = 5000;
/// Seconds of a year.
const YEAR: f64 = 365.0 * 86_400.0;
