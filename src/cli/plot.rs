//! `tiershift plot`: draws an event log.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::Args;
use tiershift_core::catalog::Rung;
use tiershift_core::event::{EventRef, Input, Observe};
use tiershift_core::policy::Registry;
use tiershift_core::sample::Sample;
use tiershift_core::time::{Timestamp, span_text};

use crate::cli::html::{HtmlOption, Over, Page, summary_of};
use crate::cli::input::Inputs;
use crate::cli::none_loaded::why_none;
use crate::cli::output::{self, Force, is_standard};
use crate::cli::{Verdict, common};
use crate::log::LogReader;
use crate::report::plot::{Run, Title};
use crate::report::{MARK, PlotData, plot};
use crate::study::oracle::Oracle;
use crate::study::retold::Retold;
use crate::summary::{Fold, Summary};
use crate::wall::{Part, WallClock};

/// Draw the decision plot of an event log
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  tiershift plot out/first --out first.png\n  \
tiershift plot out/first --html first.html\n  \
tiershift plot out/ours --over out/original --out both.svg --html both.html")]
pub(super) struct Arguments {
    /// The `--out` folder of a run, or an event log; plain, .gz or .zst, or a folder of its segments
    #[arg(value_name = "LOG")]
    log: PathBuf,
    /// File to write, as SVG or PNG by its extension (.svg or .png); - is SVG on standard output [default: decisions.svg, or none
    /// with --html]
    #[arg(long, short, value_name = "FILE")]
    out: Option<PathBuf>,
    #[command(flatten)]
    html: HtmlOption,
    /// Another run of the same recording, under another policy: drawn below this one in the picture, on equal axes, and over it
    /// on the page
    #[arg(long, value_name = "LOG")]
    over: Option<PathBuf>,
    #[command(flatten)]
    part: common::PartOption,
    #[command(flatten)]
    force: Force,
}

pub(super) fn run(arguments: &Arguments, policies: &Registry, json: bool) -> Result<Verdict> {
    let picture = match (&arguments.out, arguments.html.is_given()) {
        (None, true) => None,
        (out, _) => Some(out.as_deref().unwrap_or(Path::new(DEFAULT_OUT))),
    };
    let is_printed = picture.is_some_and(is_standard);
    anyhow::ensure!(
        !(is_printed && (json || arguments.html.is_printed())),
        "the plot and other output would both be written to standard output: give --out a file"
    );
    arguments.html.check(true, json)?;
    if let Some(picture) = picture {
        arguments.force.check(picture, MARK)?;
    }
    let inputs = Inputs::default();
    let path = inputs.path(&arguments.log)?;
    common::note_newest(&path);
    let header = LogReader::open(&path)?.header().clone();
    let part = arguments.part.part(|| {
        let mut log = LogReader::open(&path)?;
        let end = log.end_moment()?;
        Ok((log.clock().clone(), end))
    });
    let part = part.with_context(|| path.display().to_string())?;
    let mut page = arguments.html.begin(&header, part, arguments.force)?;
    let drawn = Drawn::read(&path, &arguments.log, part, policies, &mut page)?;
    let over =
        arguments.over.as_ref().map(|named| Ok::<_, anyhow::Error>((inputs.path(named)?, named)));
    let over = over.transpose()?;
    let below = match (&over, picture) {
        (Some((path, named)), Some(_)) => {
            Some(Drawn::read(path, named, part, policies, &mut None)?)
        }
        _ => None,
    };
    let page = match page {
        Some(page) => {
            let over = over.map(|(path, _)| Over::read(&path, part, policies)).transpose()?;
            let Drawn { title, summary, end, clock, optimum, .. } = &drawn;
            Some(page.finish_under(&title.name, summary, *end, clock, optimum, over.as_ref())?)
        }
        None => None,
    };
    if let Some(picture) = picture {
        let runs: Vec<Run<'_>> =
            [Some(&drawn), below.as_ref()].into_iter().flatten().map(Drawn::run).collect();
        output::write(picture, &draw(picture, &runs)?)?;
    }
    if json {
        common::print(&drawn.summary.to_json())?;
    } else if !(is_printed || arguments.html.is_printed()) {
        for place in picture.into_iter().chain(page.as_deref()) {
            common::print(&format!("written to {}", place.display()))?;
        }
    }
    Ok(Verdict::Done)
}

/// A run that was read from its log.
struct Drawn {
    title: Title,
    data: PlotData,
    summary: Summary,
    optimum: Vec<(Timestamp, Rung)>,
    clock: WallClock,
    end: Timestamp,
}

impl Drawn {
    /// Reads the log at `path`, which the user `named`, for a picture and, if requested, for a page.
    fn read(
        path: &Path,
        named: &Path,
        part: Part,
        policies: &Registry,
        page: &mut Option<Page>,
    ) -> Result<Self> {
        let log = LogReader::open(path)?;
        let header = log.header().clone();
        let settings = header.checked_settings()?;
        let catalog = header.checked_catalog()?;
        let mut data = PlotData::of_part(part, &catalog, &settings);
        let mut fold = Fold::new(&catalog, settings.reversal_window).judging_samples(&settings);
        // A log of changes leaves out most samples, and with them what was possible.
        let mut oracle = header.level.has_every_input().then(|| Oracle::new(&settings, &catalog));
        let mut first = First::default();
        let following = common::Following::new("reading", log.progress());
        let mut told = Retold::new(log, policies);
        let end = told.observe(&mut [&mut first, &mut data, page, &mut fold, &mut oracle])?;
        drop(following);
        let log = told.log();
        common::note_end(path, log);
        anyhow::ensure!(end >= part.from, "{}: {}", path.display(), part.nothing(log.clock(), end));
        data.finish(end);
        data.set_clock(log.clock());
        let mut summary = summary_of(fold, end, log);
        let optimum = oracle.map(|oracle| oracle.finish(&mut summary)).unwrap_or_default();
        data.set_optimum(&optimum);
        summary.warnings.extend(why_none(&summary, &catalog, &header.machine, first.0.as_ref()));
        let mut title = Title::of(&header, named);
        if !part.is_whole() {
            title.name = format!("{}, {}", title.name, between(part, end, log.clock()));
        }
        Ok(Self { title, data, summary, optimum, clock: log.clock().clone(), end })
    }

    fn run(&self) -> Run<'_> {
        Run { title: &self.title, data: &self.data, summary: &self.summary }
    }
}

/// The first sample of a run.
#[derive(Default)]
struct First(Option<Sample>);

impl Observe for First {
    fn observe(&mut self, _: Timestamp, event: EventRef<'_>) {
        if let (None, EventRef::Input(Input::Sample(sample))) = (&self.0, event) {
            self.0 = Some(sample.clone());
        }
    }
}

/// Returns which part of a run is drawn; the figures above the plot are for the whole run.
fn between(part: Part, end: Timestamp, clock: &WallClock) -> String {
    let [from, to] = [part.from, end.min(part.to)].map(|at| clock.moment_text(at, span_text));
    format!("from {from} to {to} (figures are of the whole run)")
}

fn draw(place: &Path, runs: &[Run<'_>]) -> Result<Vec<u8>> {
    let kind = place.extension().map(|end| end.to_string_lossy().to_ascii_lowercase());
    let kind = if is_standard(place) { Some("svg") } else { kind.as_deref() };
    match kind {
        Some("svg") => Ok(plot::svg(runs).into_bytes()),
        #[cfg(feature = "png")]
        Some("png") => Ok(plot::png(runs)),
        _ => anyhow::bail!("`{}` must end in .svg or .png", place.display()),
    }
}

const DEFAULT_OUT: &str = "decisions.svg";
