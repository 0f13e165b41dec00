//! `tiershift sweep`: many settings on many recordings, on one machine or in shards on many.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::{Args, Parser, Subcommand};
use tiershift_core::policy::Registry;
use tiershift_core::text::count;

use crate::cli::compare::verdict;
use crate::cli::input::Inputs;
use crate::cli::output::{self, Force};
use crate::cli::played::{self, MOST_IN_MEMORY, play_all};
use crate::cli::policy::{PolicyChange, PolicyOptions};
use crate::cli::recorded::{Recorded, RecordedOptions, reason};
use crate::cli::{Verdict, common, say};
use crate::files::policy::{Changes, file_of};
use crate::files::whole_file::read_small_text;
use crate::log::{run_log, runs, segments};
use crate::report::{compare as report, comparison_page, sweep as report_sweep};
use crate::study::compare::{About, Compared, Run, front};
use crate::study::folder::{RecordingFile, recordings};
use crate::study::pool;
use crate::study::sweep::{FILES, OnShard, Place, Plan, PlannedFile, RawPlan, Shard, merge};

/// Try many settings on many recordings, in shards that can run on several machines
#[derive(Debug, Args)]
#[command(
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true,
    after_help = "A plan names recordings, and the values of settings:\n\n  \
recordings = [\"traces\"]\n  [settings]\n  price = [\"15s\", \"60s\", \"5m\"]\n  \
calm = { from = \"30s\", to = \"2h\", scale = \"log\", steps = 5 }\n\n\
`tiershift schema sweep` has every key.\n\nExamples:\n  \
tiershift sweep plan.toml --out out/sweep\n  \
tiershift sweep plan plan.toml --out out/sweep\n  \
tiershift sweep run out/sweep --shard 3\n  \
tiershift sweep merge out/sweep"
)]
pub(super) struct Arguments {
    #[command(flatten)]
    whole: Whole,
    #[command(subcommand)]
    step: Option<Step>,
}

/// All steps at once.
#[derive(Debug, Args)]
struct Whole {
    #[command(flatten)]
    plan: PlanArguments,
    #[command(flatten)]
    jobs: common::Jobs,
}

#[derive(Debug, Args)]
struct PlanArguments {
    /// The plan
    #[arg(required = true)]
    plan: Option<PathBuf>,
    /// Folder for the plan's shards and their results
    #[arg(long, short, value_name = "DIR", required = true)]
    out: Option<PathBuf>,
    /// Approximate seconds that a shard takes on one processor
    #[arg(long, value_name = "N", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..))]
    target_shard_seconds: u64,
    #[command(flatten)]
    force: Force,
}

#[derive(Debug, Subcommand)]
enum Step {
    /// Cut the sweep into shards, and write the list of them
    Plan(PlanArguments),
    /// Compute one shard; a shard that is already done is left as it is
    #[command(
        after_help = "Exits with 65 where trying again cannot help (a file is not there, or not as it was planned), and with 75 \
where it may (no room on the disk, no memory)."
    )]
    Run(RunArguments),
    /// Combine the results of the shards
    Merge(MergeArguments),
}

#[derive(Debug, Args)]
struct RunArguments {
    /// The folder of the planned sweep
    folder: PathBuf,
    /// The shard's number, from 0. Without it: SLURM_ARRAY_TASK_ID, JOB_COMPLETION_INDEX or HQ_TASK_ID
    #[arg(long, value_name = "N")]
    shard: Option<usize>,
    #[command(flatten)]
    jobs: common::Jobs,
}

#[derive(Debug, Args)]
struct MergeArguments {
    /// The folder of the planned sweep
    folder: PathBuf,
}

impl Arguments {
    /// Returns the exit code for an error: the scheduler uses it to decide whether to try again.
    pub(super) fn exit_code(&self, error: &anyhow::Error) -> u8 {
        let is_of_the_system = |error: &io::Error| {
            use io::ErrorKind::{InvalidData, InvalidInput, NotFound, Other, UnexpectedEof};
            !matches!(error.kind(), InvalidData | InvalidInput | NotFound | Other | UnexpectedEof)
        };
        let mut causes = error.chain().filter_map(|cause| cause.downcast_ref::<io::Error>());
        match &self.step {
            Some(Step::Run(_)) if causes.any(is_of_the_system) => TRY_AGAIN,
            Some(Step::Run(_)) => BAD_INPUT,
            _ => 2,
        }
    }
}

pub(super) fn run(arguments: &Arguments, policies: &Registry, json: bool) -> Result<Verdict> {
    match &arguments.step {
        None => {
            let Whole { plan, jobs } = &arguments.whole;
            let folder = write_plan(plan, policies)?;
            Sweep::begin(&Planned::read(&folder)?, policies)?.run_all(*jobs)?;
            merge_shards(&folder, json)
        }
        Some(Step::Plan(plan)) => {
            let folder = write_plan(plan, policies)?;
            let plan = read_plan(&folder)?;
            match json {
                true => common::print_json(&plan)?,
                false => common::print(&planned(&plan, &folder))?,
            }
            Ok(Verdict::Done)
        }
        Some(Step::Run(run)) => {
            let number = run.shard.map_or_else(shard_of_environment, Ok)?;
            let planned = Planned::read(&run.folder)?;
            let sweep = Sweep::begin(&planned, policies)?;
            let shards = sweep.plan.shards.len();
            anyhow::ensure!(
                number < shards,
                "shard {number} does not exist: the plan has {shards}, numbered from 0"
            );
            let done = pool::map(run.jobs.count(), &[number], |&number| sweep.run(number, 1))?;
            let is_new = done.into_iter().collect::<Result<Vec<bool>>>()?[0];
            let said = if is_new { "written" } else { "there already" };
            common::print(&format!("shard {number}: {said}"))?;
            Ok(Verdict::Done)
        }
        Some(Step::Merge(merge)) => merge_shards(&merge.folder, json),
    }
}

fn planned(plan: &Plan, folder: &Path) -> String {
    format!(
        "{}, {}, {}: {} in {} (0 to {})\nwritten to {}",
        count(plan.points.len() as u64, "point"),
        count(plan.recordings.len() as u64, "recording"),
        count(plan.seeds.len() as u64, "seed"),
        count(plan.runs(), "run"),
        count(plan.shards.len() as u64, "shard"),
        plan.shards.len() - 1,
        folder.join(PLAN).display()
    )
}

/// Plans a sweep, and returns its folder. An existing plan is left as it is.
fn write_plan(arguments: &PlanArguments, policies: &Registry) -> Result<PathBuf> {
    let (Some(path), Some(out)) = (&arguments.plan, &arguments.out) else {
        anyhow::bail!("a plan file and --out are required: tiershift sweep PLAN.toml --out DIR");
    };
    let plan = plan(path, arguments.target_shard_seconds, policies)?;
    let place = out.join(PLAN);
    if let Ok(there) = read_plan(out) {
        if there.hash == plan.hash {
            return Ok(out.clone());
        }
        anyhow::ensure!(
            arguments.force.is_given(),
            "`{}` contains another plan: give another folder, or --force to start over in this one",
            out.display()
        );
    }
    arguments.force.check(&place, "\"made_by\": \"tiershift")?;
    fs::create_dir_all(out.join(SHARDS))
        .with_context(|| format!("cannot make the folder `{}`", out.display()))?;
    output::write(&place, format!("{}\n", serde_json::to_string_pretty(&plan)?).as_bytes())?;
    Ok(out.clone())
}

/// Reads a plan file, and everything that it names.
fn plan(path: &Path, shard_seconds: u64, policies: &Registry) -> Result<Plan> {
    let name = path.display().to_string();
    let text = read_small_text(path).with_context(|| format!("cannot read `{name}`"))?;
    let folder = path.parent().unwrap_or(Path::new(""));
    let (raw, points) = RawPlan::parse(&text, &name, folder, policies)?;
    let mut files: Vec<PathBuf> = raw.catalogs.clone();
    for policy in &raw.policies {
        PolicyOptions::named(policy).read(policies).with_context(|| name.clone())?;
        files.extend(file_of(policy).map(Path::to_owned));
    }
    // A mistake in its options must be found before anything is computed.
    for catalog in each_catalog(&points) {
        recorded_options(&raw.replay, catalog)?
            .read(&Inputs::default())
            .with_context(|| name.clone())?;
    }
    let named = FILES.iter().filter_map(|&key| raw.replay.get(key)?.as_str());
    files.extend(named.map(PathBuf::from).filter(|path| path.is_file()));
    let recordings = recordings(&raw.recordings)?;
    let recordings = recordings.iter().map(|file| planned_file(&file.path, file.is_found));
    let files = files.iter().map(|path| planned_file(path, false));
    let plan = Plan {
        made_by: concat!("tiershift ", env!("CARGO_PKG_VERSION")).to_owned(),
        hash: String::new(),
        seeds: raw.all_seeds(),
        replay: raw.replay,
        base: raw.base,
        points,
        recordings: recordings.collect::<Result<_>>()?,
        files: files.collect::<Result<_>>()?,
        shards: Vec::new(),
    };
    Ok(plan.complete(shard_seconds))
}

/// Reads size and digest of a file, or of a folder of segments that is one log.
fn planned_file(path: &Path, is_found: bool) -> Result<PlannedFile> {
    let about = || {
        let parts = files_of(path)?;
        let mut hasher = blake3::Hasher::new();
        let mut bytes = 0;
        for part in parts {
            bytes += io::copy(&mut File::open(part)?, &mut hasher)?;
        }
        Ok::<_, io::Error>((bytes, hasher.finalize().to_hex().to_string()))
    };
    let (bytes, blake3) = about().with_context(|| format!("cannot read `{}`", path.display()))?;
    Ok(PlannedFile { path: path.to_owned(), is_found, bytes, blake3 })
}

/// Returns the file itself, or the files of the log in a folder: of the newest run, if there are several.
fn files_of(path: &Path) -> io::Result<Vec<PathBuf>> {
    if !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    if let Some(log) = run_log(path) {
        return Ok(vec![log]);
    }
    let newest = runs(path)?.pop();
    let segments = segments(newest.as_deref().unwrap_or(path))?;
    Ok(segments.into_iter().map(|segment| segment.path).collect())
}

fn read_plan(folder: &Path) -> Result<Plan> {
    let place = folder.join(PLAN);
    let shown = place.display();
    let text = fs::read_to_string(&place).with_context(|| {
        format!("`{shown}` cannot be read: plan the sweep first (tiershift sweep plan PLAN.toml --out {})", folder.display())
    })?;
    let plan: Plan = serde_json::from_str(&text)
        .with_context(|| format!("`{shown}` is not the plan of a sweep"))?;
    anyhow::ensure!(
        plan.is_whole(),
        "`{shown}` was changed since the sweep was planned: plan it again"
    );
    Ok(plan)
}

/// Returns the shard's number from the environment.
fn shard_of_environment() -> Result<usize> {
    let given = NUMBERS.iter().find_map(|name| Some((name, std::env::var(name).ok()?)));
    let (name, number) = given.with_context(|| {
        format!("which shard? Give --shard, or one of {} in the environment", NUMBERS.join(", "))
    })?;
    number.parse().with_context(|| {
        format!("{name} is `{number}`, which is not the number of a shard: give an integer from 0")
    })
}

/// A planned sweep, and how every recording of it is opened for each catalog.
struct Planned {
    folder: PathBuf,
    plan: Plan,
    options: Vec<(Option<PathBuf>, RecordedOptions)>,
}

impl Planned {
    fn read(folder: &Path) -> Result<Self> {
        let plan = read_plan(folder)?;
        let options = each_catalog(&plan.points).into_iter().map(|catalog| {
            Ok((catalog.map(Path::to_owned), recorded_options(&plan.replay, catalog)?))
        });
        let options = options.collect::<Result<_>>()?;
        for file in &plan.files {
            is_as_planned(file)?;
        }
        Ok(Self { folder: folder.to_owned(), plan, options })
    }
}

/// A sweep whose shards are computed: all files that its runs share are read.
struct Sweep<'a> {
    folder: &'a Path,
    plan: &'a Plan,
    recorded: Vec<(Option<&'a Path>, Recorded<'a>)>,
    changes: BTreeMap<&'a str, PolicyChange>,
    program: String,
    policies: &'a Registry,
}

impl<'a> Sweep<'a> {
    fn begin(planned: &'a Planned, policies: &'a Registry) -> Result<Self> {
        let Planned { folder, plan, options } = planned;
        let recorded = options
            .iter()
            .map(|(catalog, options)| Ok((catalog.as_deref(), options.read(&Inputs::default())?)));
        let mut changes = BTreeMap::new();
        for point in &plan.points {
            if let Entry::Vacant(place) = changes.entry(point.policy.as_str()) {
                place.insert(PolicyOptions::named(&point.policy).read(policies)?.with(&plan.base));
            }
        }
        let recorded = recorded.collect::<Result<_>>()?;
        Ok(Self { folder, plan, recorded, changes, program: program()?, policies })
    }

    /// Computes all missing shards.
    fn run_all(&self, jobs: common::Jobs) -> Result<()> {
        let numbers: Vec<usize> = (0..self.plan.shards.len()).collect();
        let done = common::Done::new("sweeping", numbers.len());
        let ran = pool::map(jobs.count(), &numbers, |&number| {
            done.after(self.run(number, numbers.len()))
        })?;
        drop(done);
        let ran: Vec<bool> = ran.into_iter().collect::<Result<_>>()?;
        let there = ran.iter().filter(|is_new| !**is_new).count();
        if there > 0 {
            say::note(&format!("{there} of {} shards were there already", ran.len()));
        }
        Ok(())
    }

    /// Computes a shard, and returns whether that was still to do. `outside` shards are computed side by side.
    fn run(&self, number: usize, outside: usize) -> Result<bool> {
        let place = shard_place(self.folder, number);
        let there = fs::read_to_string(&place).ok().and_then(|text| Shard::parse(&text).ok());
        if there.is_some_and(|shard| shard.is_of(self.plan, number, &self.program)) {
            return Ok(false);
        }
        let [mut run, end] = self.plan.shards[number];
        let mut parts = Vec::new();
        while run < end {
            let first = self.plan.place(run);
            let catalog = &self.plan.points[first.point].catalog;
            // Up to where the recording must be opened again.
            let is_same = |run: &u64| {
                let place = self.plan.place(*run);
                place.recording == first.recording
                    && self.plan.points[place.point].catalog == *catalog
            };
            let places: Vec<Place> =
                (run..end).take_while(is_same).map(|run| self.plan.place(run)).collect();
            parts.push(self.play(&places, outside)?);
            run += places.len() as u64;
        }
        let shard =
            Shard { number, plan: self.plan.hash.clone(), program: self.program.clone(), parts };
        output::write(&place, shard.to_text().as_bytes())?;
        Ok(true)
    }

    /// Plays runs on one recording with one catalog.
    fn play(&self, places: &[Place], outside: usize) -> Result<OnShard> {
        let first = places[0];
        let planned = &self.plan.recordings[first.recording];
        is_as_planned(planned)?;
        let catalog = self.plan.points[first.point].catalog.as_deref();
        let recorded = self.recorded.iter().find(|(of, _)| *of == catalog);
        let (_, recorded) = recorded.expect("there are options for each catalog");
        let part = OnShard { recording: first.recording, ..OnShard::default() };
        match self.play_on(planned, recorded, places, outside) {
            Ok((about, runs)) => {
                let about = (first.point == 0 && first.seed == 0).then_some(about);
                Ok(OnShard { about, runs, ..part })
            }
            // A recording that was named must be playable; a file that was found in a folder need not be a recording.
            Err(error) if planned.is_found => Ok(OnShard { skipped: Some(reason(&error)), ..part }),
            Err(error) => Err(error),
        }
    }

    fn play_on(
        &self,
        planned: &PlannedFile,
        recorded: &Recorded<'_>,
        places: &[Place],
        outside: usize,
    ) -> Result<(About, Vec<Run>)> {
        let file =
            RecordingFile { is_found: planned.is_found, ..RecordingFile::named(&planned.path) };
        let opened = recorded.open(&file)?;
        let entry = |place: &Place| {
            let point = &self.plan.points[place.point];
            let change = self.changes[point.policy.as_str()].clone();
            let change = change.with(&Changes::of(&point.settings));
            played::Entry { change, seed: self.plan.seeds[place.seed] }
        };
        let entries: Vec<played::Entry> = places.iter().map(entry).collect();
        let judge = PolicyChange::default().with(&self.plan.base);
        let summaries = play_all(opened, &judge, &entries, outside, self.policies, MOST_IN_MEMORY)?;
        let about = About::of(&summaries[0]);
        let seeds = entries.iter().map(|entry| entry.seed);
        let runs = seeds.zip(&summaries).map(|(seed, summary)| Run::of(seed, summary)).collect();
        Ok((about, runs))
    }
}

/// Combines the shards, and writes the results.
fn merge_shards(folder: &Path, json: bool) -> Result<Verdict> {
    let plan = read_plan(folder)?;
    let mut shards = Vec::with_capacity(plan.shards.len());
    let mut missing = Vec::new();
    for number in 0..plan.shards.len() {
        let place = shard_place(folder, number);
        match fs::read_to_string(&place) {
            Ok(text) => {
                shards.push(Shard::parse(&text).with_context(|| place.display().to_string())?);
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => missing.push(number),
            Err(error) => return Err(error).with_context(|| place.display().to_string()),
        }
    }
    if let Some(first) = missing.first() {
        anyhow::bail!(
            "{} of {} shards are missing, {first} among them: tiershift sweep run {} --shard {first}",
            missing.len(),
            plan.shards.len(),
            folder.display()
        );
    }
    let compared = merge(&plan, &shards)?;
    let report = Report { plan: &plan.hash, front: front(&compared.overall), compared: &compared };
    let text = format!("{}\n", serde_json::to_string_pretty(&report)?);
    output::write(&folder.join("sweep.json"), text.as_bytes())?;
    output::write(&folder.join("runs.csv"), &report::csv(&compared))?;
    let points = count(plan.points.len() as u64, "point");
    let title = format!("{points} on {}", count(plan.recordings.len() as u64, "recording"));
    output::write(&folder.join("sweep.html"), comparison_page(&title, &compared).as_bytes())?;
    match json {
        true => common::print(&text)?,
        false => {
            let written = format!("written to {}\n", folder.display());
            common::print(&(report_sweep::text(&compared) + &written))?;
        }
    }
    verdict(&compared)
}

/// The result of a sweep, as JSON.
#[derive(serde::Serialize)]
struct Report<'a> {
    /// The plan's hash.
    plan: &'a str,
    /// The indices of the points that no other one beats.
    front: Vec<usize>,
    #[serde(flatten)]
    compared: &'a Compared,
}

fn each_catalog(points: &[crate::study::sweep::Point]) -> Vec<Option<&Path>> {
    let mut all: Vec<Option<&Path>> = Vec::new();
    for point in points {
        let catalog = point.catalog.as_deref();
        if !all.contains(&catalog) {
            all.push(catalog);
        }
    }
    all
}

/// Reads the options of a replay from a table, as from its command line.
fn recorded_options(table: &toml::Table, catalog: Option<&Path>) -> Result<RecordedOptions> {
    #[derive(Parser)]
    #[command(no_binary_name = true)]
    struct Line {
        #[command(flatten)]
        recorded: RecordedOptions,
    }
    let argument = |(key, value): (&String, &toml::Value)| match value {
        toml::Value::Boolean(true) => format!("--{key}"),
        toml::Value::String(text) => format!("--{key}={text}"),
        toml::Value::Array(values) => {
            let texts = values
                .iter()
                .map(|value| value.as_str().map_or_else(|| value.to_string(), str::to_owned));
            format!("--{key}={}", texts.collect::<Vec<_>>().join(","))
        }
        other => format!("--{key}={other}"),
    };
    let catalog = catalog.map(|path| format!("--catalog={}", path.display()));
    let line = table.iter().map(argument).chain(catalog);
    Line::try_parse_from(line).map(|line| line.recorded).map_err(|error| {
        let message = error.to_string();
        let first = message.lines().next().unwrap_or_default();
        anyhow::anyhow!("[replay]: {}", first.strip_prefix("error: ").unwrap_or(first))
    })
}

fn is_as_planned(file: &PlannedFile) -> Result<()> {
    let now = planned_file(&file.path, file.is_found)?;
    anyhow::ensure!(
        now.blake3 == file.blake3,
        "`{}` was changed since the sweep was planned: plan it again",
        file.path.display()
    );
    Ok(())
}

/// Returns the hash of this program: another program's results may differ.
fn program() -> Result<String> {
    let mut hasher = blake3::Hasher::new();
    let read = std::env::current_exe().and_then(File::open);
    read.and_then(|mut file| io::copy(&mut file, &mut hasher))
        .context("cannot read this program")?;
    Ok(hasher.finalize().to_hex()[..32].to_owned())
}

fn shard_place(folder: &Path, number: usize) -> PathBuf {
    folder.join(SHARDS).join(format!("{number:06}.json"))
}

const PLAN: &str = "plan.json";
const SHARDS: &str = "shards";
/// The variables by which Slurm, Kubernetes and HyperQueue number a shard.
const NUMBERS: [&str; 3] = ["SLURM_ARRAY_TASK_ID", "JOB_COMPLETION_INDEX", "HQ_TASK_ID"];
/// As in `sysexits.h`: the data is wrong, and trying again does not help.
const BAD_INPUT: u8 = 65;
/// As in `sysexits.h`: trying again may help.
const TRY_AGAIN: u8 = 75;
