//! `tiershift schema`, `tiershift completions` and `tiershift man`: files for other programs.

use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::{Args, ValueEnum};
use schemars::JsonSchema;

use crate::cli::{Verdict, common};
use crate::exec;
use crate::files::{catalog, policy, schema};
use crate::log;
use crate::scenario;
use crate::study::compare::Compared;
use crate::study::parting::Parted;
use crate::study::sweep;
use crate::summary::Summary;
use crate::trace::import;

/// Print the JSON Schema of a file format, for editors
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  tiershift schema scenario > scenario.schema.json")]
pub(super) struct SchemaArguments {
    /// Which file
    #[arg(value_enum, default_value = "scenario")]
    file: File,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum File {
    /// scenarios/*.toml
    Scenario,
    /// A catalog of models
    Catalog,
    /// A policy file
    Policy,
    /// The plan of a sweep
    Sweep,
    /// The lines between tiershift and a policy that is a program
    PolicyProtocol,
    /// A mapping of a public format
    Mapping,
    /// summary.json, and what `run` and `replay` print with --json
    Summary,
    /// Each line of an event log
    Log,
    /// What `compare` prints with --json
    Compare,
    /// The config file of `tiershift serve`
    #[cfg(feature = "serve")]
    Serve,
    /// The answer of a daemon's `/status`
    #[cfg(feature = "serve")]
    Status,
}

/// Print a shell's completion script
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  tiershift completions bash > ~/.local/share/bash-completion/completions/tiershift"
)]
pub(super) struct CompletionArguments {
    /// The shell
    #[arg(value_enum)]
    shell: clap_complete::Shell,
}

/// The output of `compare`, for its schema.
#[derive(JsonSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "only its schema is of use")]
enum ComparedOrParted {
    /// Policies on recordings.
    Policies(Compared),
    /// Two runs, without --policies.
    Runs(Box<Parted>),
}

/// Write a manual page for each verb
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  tiershift man ~/.local/share/man/man1")]
pub(super) struct ManArguments {
    /// The folder to write them into, as tiershift.1 and tiershift-VERB.1
    #[arg(value_name = "DIR")]
    folder: PathBuf,
}

pub(super) fn schema(arguments: &SchemaArguments) -> Result<Verdict> {
    common::print(&match arguments.file {
        File::Scenario => scenario::schema(),
        File::Catalog => catalog::schema(),
        File::Policy => policy::schema(),
        File::Sweep => sweep::schema(),
        File::PolicyProtocol => exec::protocol_schema(),
        File::Mapping => import::schema(),
        File::Summary => schema::of_output::<Summary>(),
        File::Log => log::schema(),
        File::Compare => schema::of_output::<ComparedOrParted>(),
        #[cfg(feature = "serve")]
        File::Serve => crate::serve::config_schema(),
        #[cfg(feature = "serve")]
        File::Status => crate::serve::status_schema(),
    })?;
    Ok(Verdict::Done)
}

pub(super) fn completions(
    arguments: &CompletionArguments,
    command: &mut clap::Command,
) -> Result<Verdict> {
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, command, "tiershift", &mut script);
    common::print(&String::from_utf8(script)?)?;
    Ok(Verdict::Done)
}

pub(super) fn man(arguments: &ManArguments, command: clap::Command) -> Result<Verdict> {
    let folder = &arguments.folder;
    std::fs::create_dir_all(folder)
        .and_then(|()| clap_mangen::generate_to(command, folder))
        .with_context(|| format!("cannot write manual pages into `{}`", folder.display()))?;
    common::print(&format!("written to {}", folder.display()))?;
    Ok(Verdict::Done)
}
