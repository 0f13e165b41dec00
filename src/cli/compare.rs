//! `tiershift compare`: policies side by side on recordings, or two runs by their logs.

use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Args;
use tiershift_core::policy::Registry;

use crate::cli::html::HtmlOption;
use crate::cli::input::Inputs;
use crate::cli::output::{self, Force};
use crate::cli::played::{Entry, MOST_IN_MEMORY, play_all};
use crate::cli::policy::{PoliciesOptions, PolicyChange};
use crate::cli::recorded::{Recorded, RecordedOptions, reason};
use crate::cli::{Verdict, common};
use crate::log::LogReader;
use crate::report::{compare as report, comparison_page, parting};
use crate::study::compare::{Compared, OnRecording};
use crate::study::folder::{RecordingFile, is_folder_of_recordings, recordings};
use crate::study::parting::part;
use crate::study::pool;
use crate::study::retold::Retold;
use crate::summary::Summary;

/// Compare policies on recordings, or compare two runs
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
tiershift compare traces --policies proactive,projecting,original\n  \
tiershift compare host.csv --policies proactive,mine.toml --seeds 10\n  \
tiershift compare traces --policies proactive,\"exec:python3 examples/policy.py\" --markdown > table.md\n  \
tiershift compare traces --policies proactive,original --seeds 10 --html policies.html\n  \
tiershift compare out/first out/second")]
pub(super) struct Arguments {
    /// Recordings: resource traces, whose format is recognised (see `tiershift import --list`), or event logs. A folder
    /// stands for all that are in it. - is standard input. Two logs or --out folders without --policies are compared as they
    /// ran: for how long on the same tier, where they differ and why, and the results
    #[arg(required = true, value_name = "RECORDING")]
    recordings: Vec<PathBuf>,
    #[command(flatten)]
    policies: PoliciesOptions,
    #[command(flatten)]
    recorded: RecordedOptions,
    /// Random seed
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Number of seeds to play, starting with --seed; figures that depend on the seed then have intervals
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=1000))]
    seeds: u64,
    /// Print Markdown
    #[arg(long, conflicts_with = "csv")]
    markdown: bool,
    /// Print CSV, with a row for each run
    #[arg(long)]
    csv: bool,
    #[command(flatten)]
    html: HtmlOption,
    #[command(flatten)]
    force: Force,
    #[command(flatten)]
    jobs: common::Jobs,
}

/// What is played on every recording.
struct Plan<'a> {
    recorded: &'a Recorded<'a>,
    policies: &'a [(String, PolicyChange)],
    seeds: &'a [u64],
    registry: &'a Registry,
    /// The number of recordings.
    recordings: usize,
    /// Bytes of a recording's samples that are kept in memory; a longer recording is read once per run.
    most_in_memory: usize,
}

pub(super) fn run(arguments: &Arguments, registry: &Registry, json: bool) -> Result<Verdict> {
    anyhow::ensure!(
        !(json && (arguments.markdown || arguments.csv)),
        "only one output format is possible: give --json, --markdown or --csv"
    );
    if arguments.policies.is_empty() {
        return run_two(arguments, registry, json);
    }
    let (markdown, csv) = (arguments.markdown, arguments.csv);
    let printed = [(json, "--json"), (markdown, "--markdown"), (csv, "--csv")];
    let page = arguments.html.place(&printed, arguments.force)?;
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
        recordings: files.len(),
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
            // A recording that was named must be playable; a file that was found in a folder need not be a recording.
            Err(error) if is_named => return Err(error),
            Err(error) => OnRecording::skipped(file.name.clone(), reason(&error)),
        });
    }
    let compared = Compared::new(names, seeds, all);
    if let Some(page) = page {
        let page_of = comparison_page(&title(arguments, &compared), &compared);
        output::write(page, page_of.as_bytes())?;
    }
    match (json, markdown, csv) {
        (true, ..) => common::print_json(&compared)?,
        (_, true, _) => common::print(&report::markdown(&compared))?,
        (.., true) => common::print(&String::from_utf8(report::csv(&compared))?)?,
        _ if arguments.html.is_printed() => {}
        _ => {
            common::print(&report::text(&compared))?;
            if let Some(page) = page {
                common::print(&format!("page written to {}", page.display()))?;
            }
        }
    }
    verdict(&compared)
}

/// Refuses a comparison in which nothing was played, and returns whether its runs broke no invariant.
pub(super) fn verdict(compared: &Compared) -> Result<Verdict> {
    let is_played = compared.recordings.iter().any(|one| one.skipped.is_none());
    anyhow::ensure!(
        is_played,
        "none of these recordings can be replayed: see the reason beside each"
    );
    Ok(if compared.is_sound() { Verdict::Done } else { Verdict::Failed })
}

/// Returns what is compared on what, if that is short.
fn title(arguments: &Arguments, compared: &Compared) -> String {
    let few = |names: &[String], many: String| match names.len() <= MOST_NAMED {
        true => names.join(", "),
        false => many,
    };
    let (policies, paths) = (&compared.policies, &arguments.recordings);
    let paths: Vec<String> = paths.iter().map(|path| path.display().to_string()).collect();
    let policies = few(policies, format!("{} policies", policies.len()));
    format!("{policies} on {}", few(&paths, format!("{} recordings", paths.len())))
}

/// Compares two runs by their logs.
fn run_two(arguments: &Arguments, registry: &Registry, json: bool) -> Result<Verdict> {
    let [left, right] = arguments.recordings.as_slice() else {
        anyhow::bail!(
            "name the policies to compare (--policies proactive,projecting,mine.toml), or the logs of two runs"
        );
    };
    anyhow::ensure!(
        !(arguments.markdown || arguments.csv),
        "--markdown and --csv are for --policies: two runs are compared as text or --json"
    );
    anyhow::ensure!(
        !arguments.html.is_given(),
        "--html is for --policies: the page of a run over another is `tiershift plot {} --over {} --html FILE`",
        left.display(),
        right.display()
    );
    let open = |path: &PathBuf| {
        LogReader::open(path).with_context(|| {
            format!(
                "`{}` must be the log of a run, or its --out folder; to compare policies on recordings, name them: --policies \
                 proactive,projecting",
                path.display()
            )
        })
    };
    let (a, b) = (open(left)?, open(right)?);
    let headers = [a.header().clone(), b.header().clone()];
    let following = common::Following::new("comparing", a.progress());
    // Holds that a log leaves out explain why a run did not follow the other.
    let [mut a, mut b] = [a, b].map(|log| Retold::new(log, registry));
    let parted = part([&headers[0], &headers[1]], [&mut a, &mut b])?;
    drop(following);
    common::note_end(left, a.log());
    common::note_end(right, b.log());
    if json {
        common::print_json(&parted)?;
        return Ok(Verdict::Done);
    }
    let catalogs = [headers[0].checked_catalog()?, headers[1].checked_catalog()?];
    let names = [left, right].map(|path| path.display().to_string());
    common::print(&parting::text(
        &parted,
        [&names[0], &names[1]],
        [&catalogs[0], &catalogs[1]],
        |at| common::moment(at, a.log().clock()),
    ))?;
    Ok(Verdict::Done)
}

impl Plan<'_> {
    /// Plays every policy under every seed on a recording; the runs of a policy are together.
    fn play(&self, file: &RecordingFile) -> Result<Vec<Summary>> {
        let entries = self.policies.iter().flat_map(|(_, change)| {
            self.seeds.iter().map(move |&seed| Entry { change: change.clone(), seed })
        });
        let entries: Vec<Entry> = entries.collect();
        let opened = self.recorded.open(file)?;
        let judge = &entries[0].change;
        play_all(opened, judge, &entries, self.recordings, self.registry, self.most_in_memory)
    }
}

/// The most policies or recordings that the title of a page names. Chosen: this many fit on a line.
const MOST_NAMED: usize = 3;

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
            let (seeds, recordings) = (&[1, 2], 1);
            let plan = Plan { recorded, policies, seeds, registry, recordings, most_in_memory };
            plan.play(&files[0]).unwrap()
        };
        let (kept, again) = (play(MOST_IN_MEMORY), play(1000));
        assert_eq!(kept, again);
        assert_eq!(kept.len(), 4);
        assert!(kept.iter().all(|run| run.samples >= 600 && run.comparison.is_some()));
        assert_ne!(kept[0].switches, kept[2].switches);
    }
}
