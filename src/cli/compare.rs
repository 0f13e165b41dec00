//! `tiershift compare`: policies side by side on recordings.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use tiershift_core::controller::Detail;
use tiershift_core::policy::Registry;
use tiershift_core::setup::Setup;

use crate::cli::input::Inputs;
use crate::cli::policy::{PoliciesOptions, PolicyChange};
use crate::cli::recorded::{Recorded, RecordedOptions, Reopen, reason};
use crate::cli::{Verdict, common};
use crate::report::compare as report;
use crate::sim::{Situation, simulate};
use crate::study::compare::{Compared, OnRecording};
use crate::study::folder::{RecordingFile, is_folder_of_recordings, recordings};
use crate::study::oracle::Oracle;
use crate::study::pool;
use crate::study::track::Track;
use crate::summary::Summary;

/// Compare policies on recordings
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
tiershift compare traces --policies proactive,projecting,original\n  \
tiershift compare host.csv --policies proactive,mine.toml --seeds 10\n  \
tiershift compare traces --policies proactive,\"exec:python3 examples/policy.py\" --markdown > table.md")]
pub(super) struct Arguments {
    /// Recordings: resource traces, whose format is recognised (see `tiershift import --list`), or event logs. A folder
    /// stands for all that are in it. - is standard input
    #[arg(required = true, value_name = "RECORDING")]
    recordings: Vec<PathBuf>,
    #[command(flatten)]
    policies: PoliciesOptions,
    #[command(flatten)]
    recorded: RecordedOptions,
    /// Seed of everything random
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How many seeds to play, from --seed on: where luck matters, the figures then have intervals
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=1000))]
    seeds: u64,
    /// Print Markdown
    #[arg(long, conflicts_with = "csv")]
    markdown: bool,
    /// Print CSV, with a row for each run
    #[arg(long)]
    csv: bool,
    #[command(flatten)]
    jobs: common::Jobs,
}

/// What is played on every recording.
struct Plan<'a> {
    recorded: &'a Recorded<'a>,
    policies: &'a [(String, PolicyChange)],
    seeds: &'a [u64],
    registry: &'a Registry,
    /// Bytes of a recording's readings that are kept; a longer one is read once a run.
    most_in_memory: usize,
}

pub(super) fn run(arguments: &Arguments, registry: &Registry, json: bool) -> Result<Verdict> {
    anyhow::ensure!(
        !(json && (arguments.markdown || arguments.csv)),
        "one form at a time: give --json, --markdown or --csv"
    );
    anyhow::ensure!(
        !arguments.policies.is_empty(),
        "name the policies to compare: --policies proactive,projecting,mine.toml"
    );
    let policies = arguments.policies.read(registry)?;
    let inputs = Inputs::default();
    let recorded = arguments.recorded.read(&inputs)?;
    let paths = arguments.recordings.iter().map(|named| inputs.path(named));
    let paths: Vec<PathBuf> = paths.collect::<Result<_>>()?;
    let files = recordings(&paths)?;
    let seeds: Vec<u64> =
        (0..arguments.seeds).map(|more| arguments.seed.saturating_add(more)).collect();
    let plan = Plan {
        recorded: &recorded,
        policies: &policies,
        seeds: &seeds,
        registry,
        most_in_memory: MOST_IN_MEMORY,
    };
    let done = common::Done::new("comparing", files.len());
    let played = pool::map(arguments.jobs.count(), &files, |file| done.after(plan.play(file)))?;
    drop(done);
    let is_named = !paths.iter().any(|path| is_folder_of_recordings(path));
    let names: Vec<String> = policies.into_iter().map(|(name, _)| name).collect();
    let mut all = Vec::with_capacity(files.len());
    for (file, played) in files.iter().zip(played) {
        all.push(match played {
            Ok(summaries) => OnRecording::played(file.name.clone(), &names, &seeds, &summaries),
            // What was named must be played; what was found need not be a recording.
            Err(error) if is_named => return Err(error),
            Err(error) => OnRecording::skipped(file.name.clone(), reason(&error)),
        });
    }
    let compared = Compared::new(names, seeds, all);
    match (json, arguments.markdown, arguments.csv) {
        (true, ..) => common::print_json(&compared)?,
        (_, true, _) => common::print(&report::markdown(&compared))?,
        (.., true) => common::print(&String::from_utf8(report::csv(&compared))?)?,
        _ => common::print(&report::text(&compared))?,
    }
    let played = || compared.recordings.iter().filter(|one| one.skipped.is_none());
    anyhow::ensure!(played().count() > 0, "there is no recording that can be replayed");
    let mut runs = played().flat_map(|one| &one.policies).flat_map(|one| &one.runs);
    let is_sound = runs.all(|run| run.violations.is_empty());
    Ok(if is_sound { Verdict::Done } else { Verdict::Failed })
}

impl Plan<'_> {
    /// Plays every policy under every seed on a recording; the runs of a policy are together.
    fn play(&self, file: &RecordingFile) -> Result<Vec<Summary>> {
        let opened = self.recorded.open(file)?;
        let setup = |policy: &PolicyChange, seed: u64| -> Result<Setup> {
            let mut settings = opened.settings();
            policy.apply(&mut settings, self.registry)?;
            let machine = opened.recording.machine().clone();
            Ok(Setup { machine, catalog: opened.catalog.clone(), settings, seed })
        };
        let mut runs = Vec::new();
        for (_, policy) in self.policies {
            for &seed in self.seeds {
                runs.push((setup(policy, seed)?, policy));
            }
        }
        let (first, others) = runs.split_first().expect("there is a policy, and a seed");
        let oracle = Oracle::new(&first.0.checked_settings()?, &opened.catalog);
        let track = Track::begin(oracle, self.most_in_memory);
        let workloads = &opened.workloads;
        let mut situation = opened.recording.situation(first.0.clone(), workloads.clone(), || ());
        situation.ground = situation.ground.with_tap(Track::tap(&track));
        let actions = situation.actions.clone();
        let reopen = opened.reopen();
        let mut summary = self.simulate(situation, first, reopen)?;
        opened.complete(&mut summary);
        let laid = Track::finish(track);
        let play = |run: &(Setup, &PolicyChange)| -> Result<Summary> {
            let situation = match laid.ground() {
                Some(ground) => Situation {
                    actions: actions.clone(),
                    workloads: workloads.clone(),
                    ..Situation::of_recording(run.0.clone(), ground)
                },
                None => reopen.open()?.situation(run.0.clone(), workloads.clone(), || ()),
            };
            self.simulate(situation, run, reopen)
        };
        let mut summaries = vec![summary];
        for summary in pool::map_inside(others, play) {
            summaries.push(summary?);
        }
        laid.compare(&mut summaries);
        Ok(summaries)
    }

    fn simulate(
        &self,
        situation: Situation,
        (setup, policy): &(Setup, &PolicyChange),
        reopen: &Reopen,
    ) -> Result<Summary> {
        let adviser = policy.adviser(setup)?;
        let situation = Situation { adviser, ..situation };
        simulate(situation, self.registry, Detail::Silent, &mut [])
            .map_err(|error| reopen.refused(error))
    }
}

/// Chosen: a month of two-second readings of a machine with one GPU.
const MOST_IN_MEMORY: usize = 512 << 20;

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        arguments: Arguments,
    }

    #[test]
    fn a_recording_that_is_too_long_to_keep_is_read_again_to_the_same_figures() {
        let folder = tempfile::tempdir().unwrap();
        let mut rows =
            "# tiershift resource trace 1\nat_ns,memory_total_bytes,memory_others_bytes\n"
                .to_owned();
        for minute in 0..600_u64 {
            let others = 2_000_000_000 + (minute * minute * 7_919 % 13) * 900_000_000;
            writeln!(rows, "{},16000000000,{others}", minute * 60_000_000_000).unwrap();
        }
        let trace = folder.path().join("trace.csv");
        std::fs::write(&trace, rows).unwrap();
        let trace = trace.to_str().unwrap();
        let line = ["compare", trace, "--policies", "proactive,original", "--seeds", "2"];
        let arguments = Line::parse_from(line).arguments;
        let registry = Registry::built_in();
        let policies = arguments.policies.read(&registry).unwrap();
        let recorded = arguments.recorded.read(&Inputs::default()).unwrap();
        let files = recordings(&arguments.recordings).unwrap();
        let play = |most_in_memory: usize| {
            let (recorded, policies, registry) = (&recorded, &policies, &registry);
            let plan = Plan { recorded, policies, seeds: &[1, 2], registry, most_in_memory };
            plan.play(&files[0]).unwrap()
        };
        let (kept, again) = (play(MOST_IN_MEMORY), play(1000));
        assert_eq!(kept, again);
        assert_eq!(kept.len(), 4);
        assert!(kept.iter().all(|run| run.samples >= 600 && run.comparison.is_some()));
        assert_ne!(kept[0].switches, kept[2].switches);
    }
}
