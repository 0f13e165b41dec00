//! `tiershift import`: converts a public format to a native trace.

use std::path::PathBuf;

use anstream::eprintln;
use anyhow::{Context, Result};
use clap::Args;

use crate::cli::input::Inputs;
use crate::cli::offered::Offered;
use crate::cli::output::{self, Force};
use crate::cli::{Verdict, common, say};
use crate::trace::import::sketch;
use crate::trace::{Format, MADE_BY_IMPORT, ReadOptions, convert, convert_to, extent};

/// Convert a recording in another format to a native trace
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
tiershift import --list\n  \
tiershift import host.csv traces/host.csv\n  \
tiershift import games.hml traces/games.csv --memory 16GiB --vram 8GiB")]
pub(super) struct Arguments {
    /// The file to read; - is standard input
    #[arg(required_unless_present = "list", value_name = "FROM")]
    from: Option<PathBuf>,
    /// The native trace to write, compressed if its name ends in .gz or .zst; - is standard output
    #[arg(required_unless_present_any = ["list", "sketch"], value_name = "TO")]
    to: Option<PathBuf>,
    /// List the formats
    #[arg(long, conflicts_with_all = ["from", "to"])]
    list: bool,
    /// Print a draft of a mapping for the file, from its first lines
    #[arg(long, requires = "from", conflicts_with_all = ["list", "to"])]
    sketch: bool,
    /// The format: a preset's name or a mapping file; recognised without it
    #[arg(long, value_name = "FORMAT", value_parser = Offered::FORMATS, hide_possible_values = true)]
    format: Option<String>,
    #[command(flatten)]
    totals: common::Totals,
    #[command(flatten)]
    says: common::Says,
    #[command(flatten)]
    part: common::PartOption,
    /// Refuse a file with any defect
    #[arg(long)]
    strict: bool,
    #[command(flatten)]
    force: Force,
}

/// The result of an import.
#[derive(serde::Serialize)]
struct Imported {
    format: String,
    rows: u64,
    rejected_rows: u64,
    warnings: Vec<String>,
}

pub(super) fn run(arguments: &Arguments, json: bool) -> Result<Verdict> {
    let inputs = Inputs::default();
    let Some(from) = &arguments.from else { return list(json) };
    let from = &inputs.path(from)?;
    let Some(to) = &arguments.to else {
        common::print(&sketch(from)?)?;
        return Ok(Verdict::Done);
    };
    let is_printed = output::is_standard(to);
    anyhow::ensure!(
        !(is_printed && json),
        "--json and the trace would both be written to standard output: name a file for the trace"
    );
    let is_itself = |to: std::io::Result<PathBuf>| {
        to.is_ok_and(|to| from.canonicalize().is_ok_and(|from| from == to))
    };
    anyhow::ensure!(
        !is_itself(to.canonicalize()),
        "`{}` is both input and output: give the native trace another name",
        from.display()
    );
    arguments.force.check(to, MADE_BY_IMPORT)?;
    let format = arguments.format.as_deref().map(Format::named).transpose()?;
    let mut options = ReadOptions {
        format,
        strict: arguments.strict,
        machine: arguments.totals.machine(),
        told: arguments.says.told(),
        ..ReadOptions::default()
    };
    options.part = arguments
        .part
        .part(|| Ok(extent(from, &options)?))
        .with_context(|| from.display().to_string())?;
    let mut following = None;
    let started = |pass| {
        // The progress bar of the previous pass must go first.
        following = None;
        following = Some(common::Following::new("importing", pass));
    };
    let done = match is_printed {
        true => convert_to(from, std::io::stdout().lock(), &options, started)?,
        false => convert(from, to, &options, started)?,
    };
    drop(following);
    let mut warnings = done.header.notes.clone();
    warnings.extend(done.defects.warnings());
    let imported = Imported {
        format: done.header.format.clone(),
        rows: done.rows,
        rejected_rows: done.defects.rejected_rows(),
        warnings,
    };
    if json {
        common::print_json(&imported)?;
        return Ok(Verdict::Done);
    }
    let mut lines = vec![format!(
        "{} rows of {} written to {}, {} rejected",
        imported.rows,
        imported.format,
        if is_printed { "standard output".into() } else { to.display().to_string() },
        imported.rejected_rows
    )];
    lines.extend(imported.warnings.iter().map(|warning| format!("  {warning}")));
    let text = lines.join("\n");
    if is_printed {
        if !say::is_quiet() {
            eprintln!("{text}");
        }
    } else {
        common::print(&text)?;
    }
    Ok(Verdict::Done)
}

fn list(json: bool) -> Result<Verdict> {
    let formats = Format::known();
    if json {
        let names: Vec<_> = formats.iter().map(|format| (format.name(), format.about())).collect();
        common::print_json(&names)?;
        return Ok(Verdict::Done);
    }
    for format in &formats {
        common::print(&format!("{:20} {}", format.name(), format.about()))?;
    }
    Ok(Verdict::Done)
}
