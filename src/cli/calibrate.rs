//! `tiershift calibrate`: measures what the models of a folder need, and how fast they are, on this machine.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use anyhow::Result;
use clap::Args;
use tiershift_core::time::SpanText;

use crate::cli::output::{self, Force};
use crate::cli::{Verdict, common};
use crate::inventory::ladder::Wishes;
use crate::measure::calibrate::{CalibrationPlan, calibrate};
use crate::measure::calibration::{Calibration, MARK, MeasuredPhysics};
use crate::measure::stop;
use crate::probe::system::SystemProbe;
use crate::report::plot::calibration as plot;

/// Measure the models in a folder on this machine and write a catalog
#[derive(Debug, Args)]
#[command(
    after_help = "Nothing else should run during the measurement: figures from a busy machine are refused. A model that --catalog describes completely \
everything keeps its figures. Stops on Ctrl-C or SIGTERM, and then writes nothing. A plot is \
written beside the catalog.\n\nExamples:\n  \
tiershift calibrate --models ~/models --out measured.toml\n  \
tiershift calibrate --models ~/models --catalog measured.toml --out measured.toml\n  \
tiershift serve --models ~/models --catalog measured.toml\n  \
tiershift replay traces/models-come-and-go.csv --catalog measured.toml"
)]
pub(super) struct Arguments {
    /// The llama-server program
    #[arg(long, value_name = "PROGRAM", default_value = "llama-server")]
    llama_server: PathBuf,
    /// Folder with the .gguf files
    #[arg(long, value_name = "FOLDER")]
    models: PathBuf,
    /// Catalog with names, tiers, context lengths and slots; figures that it leaves out are estimated, then measured
    #[arg(long, value_name = "FILE")]
    catalog: Option<PathBuf>,
    /// Catalog to write; the plot is written beside it, with the extensions .svg and .png
    #[arg(long, short, value_name = "FILE", default_value = "measured.toml")]
    out: PathBuf,
    /// Number of measurements of each figure
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    repeats: u32,
    /// Measure again what the catalog already has
    #[arg(long)]
    again: bool,
    /// Accept the figures even if other programs use this machine
    #[arg(long)]
    allow_busy: bool,
    /// Time limit
    #[arg(long, default_value = "30m")]
    limit: SpanText,
    #[command(flatten)]
    force: Force,
}

pub(super) fn run(arguments: &Arguments, json: bool) -> Result<Verdict> {
    let pictures = ["svg", "png"].map(|end| arguments.out.with_extension(end));
    arguments.force.check(&arguments.out, MARK)?;
    for picture in &pictures {
        arguments.force.check(picture, crate::report::MARK)?;
    }
    let folder = common::folder(&arguments.models)?;
    let catalog = arguments.catalog.as_deref().map(common::catalog_file).transpose()?;
    let wishes = Wishes { catalog, ..Wishes::default() };
    let ladder = folder.ladder(&wishes, &SystemProbe::new().machine())?;
    let known = if arguments.again { BTreeSet::new() } else { ladder.known() };
    if known.len() == ladder.catalog.models().len() {
        common::print(
            "nothing to measure: the catalog already has every figure; use --again to measure them again",
        )?;
        return Ok(Verdict::Done);
    }
    let plan = CalibrationPlan {
        known,
        allow_busy: arguments.allow_busy,
        program: arguments.llama_server.clone(),
        launches: folder.launches(&ladder)?,
        folder,
        catalog: ladder.catalog,
        repeats: arguments.repeats,
        limit: arguments.limit.0,
    };
    let stop = Arc::new(AtomicBool::new(false));
    stop::on_signals(&stop)?;
    let mut progress = None;
    let calibration = calibrate(&plan, &stop, |step| {
        progress
            .get_or_insert_with(|| common::Progress::new("measuring", Some(step.of)))
            .set(step.done);
    })?;
    drop(progress);
    let catalog = calibration.to_toml()?;
    output::write(&arguments.out, catalog.as_bytes())?;
    let [picture, pixels] = pictures;
    output::write(&picture, plot::svg(&calibration).as_bytes())?;
    #[cfg(feature = "png")]
    output::write(&pixels, &plot::png(&calibration))?;
    if json {
        common::print_json(&Output { physics: calibration.physics(), calibration: &calibration })?;
    } else {
        let (out, picture) = (arguments.out.display(), picture.display());
        let about = calibration.about_the_machine();
        common::print(&format!("{catalog}\n{about}\nwritten to {out}, the plot to {picture}"))?;
    }
    Ok(Verdict::Done)
}

/// What `--json` prints.
#[derive(serde::Serialize)]
struct Output<'a> {
    #[serde(flatten)]
    calibration: &'a Calibration,
    physics: Option<MeasuredPhysics>,
}
