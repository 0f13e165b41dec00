//! The token of a daemon: from a file or an environment variable. On the command line every user could read it.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::Args;

/// Where a token is.
#[derive(Clone, Debug, Args)]
pub(super) struct TokenArguments {
    /// File that contains the token
    #[arg(long, value_name = "FILE")]
    pub(super) token_file: Option<PathBuf>,
    /// Environment variable that contains the token
    #[arg(long, value_name = "NAME", conflicts_with = "token_file")]
    pub(super) token_env: Option<String>,
}

/// Reads the token, if there is one. An error does not repeat it.
pub(super) fn read(file: Option<&Path>, variable: Option<&str>) -> Result<Option<String>> {
    let text = match (file, variable) {
        (None, None) => return Ok(None),
        (Some(_), Some(_)) => bail!("the token is given both in a file and in a variable: give one of them"),
        (Some(path), None) => fs::read_to_string(path)
            .with_context(|| format!("cannot read the token in `{}`", path.display()))?,
        (None, Some(name)) => std::env::var(name).with_context(|| {
            format!("the environment variable `{name}` is not set: set it to the token, or use --token-file")
        })?,
    };
    Ok(Some(text.trim().to_owned()))
}
