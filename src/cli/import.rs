//! `tiershift import`: a public format becomes a native trace.

use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Args;

use crate::cli::{Verdict, common};
use crate::trace::import::sketch;
use crate::trace::{Format, ReadOptions, convert, extent};

/// Convert a public format into a native trace
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
tiershift import --list\n  \
tiershift import host.csv traces/host.csv\n  \
tiershift import games.hml traces/games.csv --memory 16GiB --vram 8GiB")]
pub(super) struct Arguments {
    /// The file to read
    #[arg(required_unless_present = "list", value_name = "FROM")]
    from: Option<PathBuf>,
    /// The native trace to write
    #[arg(required_unless_present_any = ["list", "sketch"], value_name = "TO")]
    to: Option<PathBuf>,
    /// List the formats
    #[arg(long, conflicts_with_all = ["from", "to"])]
    list: bool,
    /// Print a draft of a mapping for the file, from its first lines
    #[arg(long, requires = "from", conflicts_with_all = ["list", "to"])]
    sketch: bool,
    /// The format: a preset's name or a mapping file; recognised without it
    #[arg(long, value_name = "FORMAT")]
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
}

/// What an import came to.
#[derive(serde::Serialize)]
struct Imported {
    format: String,
    rows: u64,
    rejected_rows: u64,
    warnings: Vec<String>,
}

pub(super) fn run(arguments: &Arguments, json: bool) -> Result<Verdict> {
    if let (true, Some(from)) = (arguments.sketch, &arguments.from) {
        common::print(&sketch(from)?)?;
        return Ok(Verdict::Done);
    }
    let (Some(from), Some(to)) = (&arguments.from, &arguments.to) else {
        return list(json);
    };
    let is_itself = |to: std::io::Result<PathBuf>| {
        to.is_ok_and(|to| from.canonicalize().is_ok_and(|from| from == to))
    };
    anyhow::ensure!(
        !is_itself(to.canonicalize()),
        "`{}` would be written over itself: give the native trace another name",
        from.display()
    );
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
    let done = convert(from, to, &options)?;
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
    common::print(&format!(
        "{} rows of {} written to {}, {} rejected",
        imported.rows,
        imported.format,
        to.display(),
        imported.rejected_rows
    ))?;
    for warning in &imported.warnings {
        common::print(&format!("  {warning}"))?;
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
