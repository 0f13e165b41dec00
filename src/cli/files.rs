//! `tiershift schema` and `tiershift completions`: files for other programs.

use anyhow::Result;
use clap::{Args, ValueEnum};

use crate::cli::{Verdict, common};
use crate::exec;
use crate::files::{catalog, policy};
use crate::scenario;
use crate::study::sweep;
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

pub(super) fn schema(arguments: &SchemaArguments) -> Result<Verdict> {
    common::print(&match arguments.file {
        File::Scenario => scenario::schema(),
        File::Catalog => catalog::schema(),
        File::Policy => policy::schema(),
        File::Sweep => sweep::schema(),
        File::PolicyProtocol => exec::protocol_schema(),
        File::Mapping => import::schema(),
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
