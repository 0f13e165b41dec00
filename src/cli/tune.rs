//! `tiershift tune`: settings that suit recordings, judged on parts that the search has not seen.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use clap::{Args, ValueEnum};
use tiershift_core::policy::Registry;
use tiershift_core::settings::{Preset, RawSettings};
use tiershift_core::text::count;
use tiershift_core::time::{Timestamp, span_text};

use crate::cli::html::HtmlOption;
use crate::cli::input::Inputs;
use crate::cli::output::{self, Force};
use crate::cli::played::{Entry, MOST_IN_MEMORY, Replays, play_all};
use crate::cli::policy::{PolicyChange, PolicyOptions};
use crate::cli::recorded::{Recorded, RecordedOptions, reason};
use crate::cli::{Verdict, common};
use crate::exec;
use crate::files::policy::Changes;
use crate::files::whole_file::read_small_text;
use crate::report::comparison_page;
use crate::report::tune::{Tuning, policy_file, text};
use crate::sim::rng::Seed;
use crate::study::compare::{Compared, Figures, OnRecording, counts};
use crate::study::folder::{RecordingFile, is_folder_of_recordings, recordings};
use crate::study::pool;
use crate::study::sweep::{Axis, Unset, axes, check_axes, setting_text};
use crate::study::tune::{Candidate, Found, Held, Play, Worth, held, search, usual_axes};
use crate::summary::Summary;
use crate::wall::Part;

/// Search for the best settings for your recordings, judged on parts that the search has not seen
#[derive(Debug, Args)]
#[command(
    after_help = "The search sees the first two thirds of each recording; what it finds is judged on the last third. Where the gain is \
within the noise there, nothing is recommended, and no file is written.\n\nExamples:\n  \
tiershift tune traces --recipe balanced --out policy.toml\n  \
tiershift tune host.csv --recipe steady --trials 500\n  \
tiershift tune traces --search search.toml\n\n\
With another optimiser, such as Optuna:\n  \
optuna create-study --storage sqlite:///t.db --study-name t --direction maximize\n  \
optuna ask --storage sqlite:///t.db --study-name t --search-space '{..}'\n  \
tiershift replay host.csv --set price=42s --json | jq .share_of_optimum\n  \
optuna tell --storage sqlite:///t.db --study-name t --trial-number 0 --values 0.987"
)]
pub(super) struct Arguments {
    /// Recordings: resource traces, whose format is recognised (see `tiershift import --list`), or event logs. A folder
    /// stands for all that are in it
    #[arg(required = true, value_name = "RECORDING")]
    recordings: Vec<PathBuf>,
    /// Preset for the cost of changes and reversals, in the search and in the verdict
    #[arg(long, value_enum, default_value = "balanced")]
    recipe: Recipe,
    /// Number of candidates
    #[arg(long, value_name = "N", default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    trials: u32,
    /// The settings to search, as in [settings] of a sweep's plan (see `tiershift schema sweep`), instead of the usual ones
    #[arg(long, value_name = "FILE")]
    search: Option<PathBuf>,
    #[command(flatten)]
    policy: PolicyOptions,
    #[command(flatten)]
    recorded: RecordedOptions,
    /// Random seed
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Where to write the policy file, if one is recommended
    #[arg(long, short, value_name = "FILE")]
    out: Option<PathBuf>,
    #[command(flatten)]
    html: HtmlOption,
    #[command(flatten)]
    force: Force,
    #[command(flatten)]
    jobs: common::Jobs,
}

/// A preset.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Recipe {
    /// The best model most of the time; reversals cost 150 s
    Eager,
    /// Reversals cost 450 s
    Balanced,
    /// Few changes; reversals cost 1 h
    Steady,
}

/// The result of tuning, as JSON.
#[derive(serde::Serialize)]
struct Report<'a> {
    recipe: &'a str,
    found: &'a Found,
    #[serde(skip_serializing_if = "Option::is_none")]
    held: Option<Held>,
    #[serde(skip_serializing_if = "Option::is_none")]
    compared: Option<&'a Compared>,
    skipped: Vec<Skipped>,
}

/// What was not searched, and why.
#[derive(serde::Serialize)]
struct Skipped {
    recording: String,
    reason: String,
}

pub(super) fn run(arguments: &Arguments, registry: &Registry, json: bool) -> Result<Verdict> {
    let recipe = match arguments.recipe {
        Recipe::Eager => Preset::Eager,
        Recipe::Balanced => Preset::Balanced,
        Recipe::Steady => Preset::Steady,
    };
    let mut base = RawSettings { preset: recipe, ..RawSettings::default() };
    arguments.policy.read(registry)?.apply(&mut base, registry)?;
    anyhow::ensure!(
        base.policy.name() != exec::POLICY,
        "tune cannot change the settings of a program: tune it with your own search, and score it with `tiershift compare --json`"
    );
    if let Some(out) = &arguments.out {
        arguments.force.check(out, MARK)?;
    }
    let page = arguments.html.place(&[(json, "--json")], arguments.force)?;
    let axes = match &arguments.search {
        Some(file) => read_axes(file, &base, registry)?,
        None => usual_axes(),
    };
    let worth = Worth { reversal: base.calm.map_or_else(|| base.preset.prices().1, Into::into) };
    let inputs = Inputs::default();
    let recorded = arguments.recorded.read(&inputs)?;
    let paths = arguments.recordings.iter().map(|named| inputs.path(named));
    let paths: Vec<PathBuf> = paths.collect::<Result<_>>()?;
    let files = recordings(&paths)?;
    let is_named = !paths.iter().any(|path| is_folder_of_recordings(path));
    let tuner = Tuner { recorded: &recorded, base: &base, registry, seed: arguments.seed };

    let done = common::Done::new("reading", files.len());
    let most = MOST_IN_MEMORY / files.len();
    let named: Vec<&RecordingFile> = files.iter().collect();
    let read =
        pool::map(arguments.jobs.count(), &named, |file| done.after(tuner.begin(file, most)))?;
    drop(done);
    let (mut ready, mut skipped) = (Vec::new(), Vec::new());
    for (file, read) in files.iter().zip(read) {
        let mut skip = |reason| skipped.push(Skipped { recording: file.name.clone(), reason });
        match read {
            Ok(Begun::Ready(one)) => ready.push(*one),
            Ok(Begun::SaysLittle) => skip(SAYS_LITTLE.to_owned()),
            Err(error) if is_named => return Err(error),
            Err(error) => skip(reason(&error)),
        }
    }
    anyhow::ensure!(
        !ready.is_empty(),
        "no recording can be used for tuning{}",
        first_reason(&skipped)
    );

    let search = Searching { tuner: &tuner, recordings: &ready, jobs: arguments.jobs };
    let mut luck = Seed(arguments.seed).stream("tune.candidates");
    let found =
        self::search(&axes, ready.len(), arguments.trials as usize, worth, &mut luck, &search)?;
    let compared =
        (!found.settings.is_empty()).then(|| tuner.hold_back(&ready, &found, arguments.jobs));
    let compared = compared.transpose()?;
    let held = compared.as_ref().and_then(|compared| held(compared, worth));
    let recipe = arguments
        .recipe
        .to_possible_value()
        .map_or_else(String::new, |it| it.get_name().to_owned());
    let tuning = Tuning {
        worth,
        recipe: &recipe,
        found: &found,
        searched: ready.len(),
        compared: compared.as_ref(),
        held,
    };
    if let (Some(place), Some(compared)) = (page, &compared) {
        let title = format!("tuned on {}", count(ready.len() as u64, "recording"));
        output::write(place, comparison_page(&title, compared).as_bytes())?;
    }
    if arguments.html.is_printed() {
        // Nothing else goes where the page went.
    } else if json {
        let compared = compared.as_ref();
        common::print_json(&Report { recipe: &recipe, found: &found, held, compared, skipped })?;
    } else {
        let skipped =
            skipped.iter().map(|one| format!("skipped {}: {}\n", one.recording, one.reason));
        common::print(&(text(&tuning) + &skipped.collect::<String>()))?;
    }
    if held.is_some_and(|held| held.is_recommended) {
        let settings = tuner.settings(&found)?;
        let made = provenance(arguments, &recipe, &ready, &found);
        let file = policy_file(&tuning, &settings, &made);
        match &arguments.out {
            Some(out) => {
                output::write(out, file.as_bytes())?;
                if !json && !arguments.html.is_printed() {
                    common::print(&format!("written to {}\n", out.display()))?;
                }
            }
            None if !json && !arguments.html.is_printed() => common::print(&format!("\n{file}"))?,
            None => {}
        }
    }
    let is_sound = compared.as_ref().is_none_or(Compared::is_sound);
    Ok(if is_sound { Verdict::Done } else { Verdict::Failed })
}

/// Reads which settings to search.
fn read_axes(file: &Path, base: &RawSettings, registry: &Registry) -> Result<Vec<(String, Axis)>> {
    let name = file.display().to_string();
    let text = read_small_text(file).with_context(|| format!("cannot read `{name}`"))?;
    let table: toml::Table = text.parse().with_context(|| name.clone())?;
    let axes = axes(&table).map_err(|(key, why)| anyhow::anyhow!("{name}: {key}: {why}"))?;
    anyhow::ensure!(
        !axes.is_empty(),
        "{name}: lists no setting to search: add one under [settings]"
    );
    check_axes(&axes, base, registry)
        .map_err(|Unset { why, remedy, .. }| anyhow::anyhow!("{name}: {why}: {remedy}"))?;
    Ok(axes)
}

/// What all candidates share.
struct Tuner<'a> {
    recorded: &'a Recorded<'a>,
    /// The present settings: candidates change them, and are priced by them.
    base: &'a RawSettings,
    registry: &'a Registry,
    seed: u64,
}

/// A recording, with the searched part in memory.
struct Ready<'a> {
    file: &'a RecordingFile,
    /// The part that is held back.
    held: Part,
    replays: Replays<'a>,
}

/// The state of a recording before the search.
enum Begun<'a> {
    Ready(Box<Ready<'a>>),
    SaysLittle,
}

impl<'a> Tuner<'a> {
    /// Reads the first two thirds of a recording.
    fn begin(&self, file: &'a RecordingFile, most: usize) -> Result<Begun<'a>> {
        let whole = self.recorded.extent(file)?;
        let cut = whole.from + whole_seconds(whole.to.since(whole.from) * 2 / 3);
        let searched = Part { to: cut, ..whole };
        let held = Part { from: cut + ONE_SECOND, ..whole };
        let opened = self.recorded.open_part(file, searched)?;
        let there = self.entry(&Candidate::new());
        let (replays, summary) =
            Replays::begin(opened, &there.change, &there, self.registry, most)?;
        if !counts(&summary) {
            return Ok(Begun::SaysLittle);
        }
        Ok(Begun::Ready(Box::new(Ready { file, held, replays })))
    }

    fn entry(&self, candidate: &Candidate) -> Entry {
        let change = PolicyChange::to(self.base.clone()).with(&Changes::of(candidate));
        Entry { change, seed: self.seed }
    }

    /// Plays the present settings, the result, and each of its changes alone on the part that was held back.
    fn hold_back(
        &self,
        ready: &[Ready<'_>],
        found: &Found,
        jobs: common::Jobs,
    ) -> Result<Compared> {
        let all: Candidate = found.settings.clone().into_iter().collect();
        let mut names = vec!["default".to_owned(), "tuned".to_owned()];
        let mut candidates = vec![Candidate::new(), all.clone()];
        if all.len() > 1 {
            for (key, value) in all {
                names.push(format!("{} alone", setting_text(&key, &value)));
                candidates.push(vec![(key, value)]);
            }
        }
        let entries: Vec<Entry> = candidates.iter().map(|one| self.entry(one)).collect();
        // An interval needs several parts.
        let each = LEAST_PARTS.div_ceil(ready.len());
        let parts =
            ready.iter().flat_map(|one| parts(one.held, each).map(move |part| (one.file, part)));
        let parts: Vec<(&RecordingFile, Part)> = parts.collect();
        let done = common::Done::new("judging", parts.len());
        let played = pool::map(jobs.count(), &parts, |(file, part)| {
            done.after(self.play_part(file, *part, &entries, parts.len()))
        })?;
        drop(done);
        let mut all = Vec::with_capacity(parts.len());
        for ((file, part), played) in parts.iter().zip(played) {
            let from = span_text(part.from.since(Timestamp::ZERO));
            let name = format!("{} from {from}", file.name);
            all.push(match played {
                Ok(summaries) => OnRecording::played(name, &names, &[self.seed], &summaries),
                Err(error) => OnRecording::skipped(name, reason(&error)),
            });
        }
        Ok(Compared::new(names, vec![self.seed], all))
    }

    fn play_part(
        &self,
        file: &RecordingFile,
        part: Part,
        entries: &[Entry],
        outside: usize,
    ) -> Result<Vec<Summary>> {
        let opened = self.recorded.open_part(file, part)?;
        let judge = &entries[0].change;
        play_all(opened, judge, entries, outside, self.registry, MOST_IN_MEMORY)
    }

    /// Returns the settings of the result, as far as they are not the defaults.
    fn settings(&self, found: &Found) -> Result<toml::Table> {
        let mut settings = self.base.clone();
        let candidate: Candidate = found.settings.clone().into_iter().collect();
        self.entry(&candidate).change.apply(&mut settings, self.registry)?;
        let usual = toml::Table::try_from(RawSettings::default())?;
        Ok(changed(toml::Table::try_from(&settings)?, &usual))
    }
}

/// Returns the differences to another table.
fn changed(table: toml::Table, usual: &toml::Table) -> toml::Table {
    let differs = |(key, value): (String, toml::Value)| match (value, usual.get(&key)) {
        (toml::Value::Table(inner), Some(toml::Value::Table(usual))) => {
            let inner = changed(inner, usual);
            (!inner.is_empty()).then(|| (key, inner.into()))
        }
        (value, usual) => (usual != Some(&value)).then_some((key, value)),
    };
    table.into_iter().filter_map(differs).collect()
}

/// Cuts a part into this many of equal length.
fn parts(whole: Part, count: usize) -> impl Iterator<Item = Part> {
    let each = whole_seconds(whole.to.since(whole.from) / u32::try_from(count).unwrap_or(u32::MAX));
    (0..count as u32).map(move |number| Part {
        from: whole.from + each * number,
        to: if number as usize + 1 == count { whole.to } else { whole.from + each * (number + 1) },
    })
}

/// Returns a span without its fraction of a second, for readable starts of parts.
fn whole_seconds(span: Duration) -> Duration {
    Duration::from_secs(span.as_secs())
}

/// Plays the candidates of the search.
struct Searching<'a> {
    tuner: &'a Tuner<'a>,
    recordings: &'a [Ready<'a>],
    jobs: common::Jobs,
}

impl Play for Searching<'_> {
    type Error = anyhow::Error;

    fn is_possible(&self, candidate: &Candidate) -> bool {
        let entry = self.tuner.entry(candidate);
        self.recordings.iter().all(|one| one.replays.is_possible(&entry))
    }

    fn play(&self, recordings: &[usize], candidates: &[Candidate]) -> Result<Vec<Vec<Figures>>> {
        let entries: Vec<Entry> = candidates.iter().map(|one| self.tuner.entry(one)).collect();
        let done = common::Done::new("searching", recordings.len());
        let played = pool::map(self.jobs.count(), recordings, |&place| {
            done.after(self.recordings[place].replays.play(recordings.len(), &entries))
        })?;
        let figures = |summaries: Vec<Summary>| summaries.iter().map(Figures::of).collect();
        played.into_iter().map(|played| played.map(figures)).collect()
    }
}

/// Returns the comment about the origin of the policy file.
fn provenance(
    arguments: &Arguments,
    recipe: &str,
    ready: &[Ready<'_>],
    found: &Found,
) -> Vec<String> {
    let mut lines = vec![
        format!(
            "{MARK} {}: recipe {recipe}, seed {}, {}",
            env!("CARGO_PKG_VERSION"),
            arguments.seed,
            count(found.tried as u64, "trial")
        ),
        format!("Searched on the first two thirds of {}:", count(ready.len() as u64, "recording")),
    ];
    lines.extend(ready.iter().map(|one| format!("  {}", one.file.name)));
    lines
}

fn first_reason(skipped: &[Skipped]) -> String {
    // A recording that is too short is nearer to a useful one than a file that is not a recording.
    let nearest = skipped.iter().find(|one| one.reason == SAYS_LITTLE).or(skipped.first());
    nearest.map_or_else(String::new, |one| format!(": {}: {}", one.recording, one.reason))
}

const MARK: &str = "Found by tiershift tune";
/// The gap between what is searched and what is held back, so that no sample is in both. Chosen.
const ONE_SECOND: Duration = Duration::from_secs(1);
/// The least number of held-back parts: with fewer, an interval is wide whatever was found. Chosen.
const LEAST_PARTS: usize = 6;
const SAYS_LITTLE: &str = "too short to search, or hardly anything can be served on it";
