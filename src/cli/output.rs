//! Files that verbs write: to standard output for `-`, and never over a file of other origin.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;

use anyhow::{Context, Result};

use crate::files::packed::unpack;
use crate::files::whole_file::WholeFile;

/// Whether files of other origin may be overwritten.
#[derive(Clone, Copy, Debug, clap::Args)]
pub(super) struct Force {
    /// Overwrite files that tiershift did not write
    #[arg(long)]
    force: bool,
}

impl Force {
    /// Returns whether anything may be overwritten.
    pub(super) fn is_given(self) -> bool {
        self.force
    }

    /// Refuses an existing file that this verb did not write: one without `mark` in its first bytes.
    pub(super) fn check(self, file: &Path, mark: &str) -> Result<()> {
        let is_free = self.force || is_standard(file) || !file.is_file() || is_marked(file, mark)?;
        anyhow::ensure!(
            is_free,
            "`{}` exists and was not written by tiershift: give another name, or --force to overwrite it",
            file.display()
        );
        Ok(())
    }
}

/// Returns whether a file is empty, or contains a mark in its first bytes.
fn is_marked(file: &Path, mark: &str) -> Result<bool> {
    let mut head = Vec::new();
    let read = File::open(file).and_then(unpack);
    let read = read.and_then(|file| file.take(HEAD).read_to_end(&mut head));
    // If it is truncated, or cannot be unpacked, what was read counts.
    match read {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            Err(error).with_context(|| format!("cannot read `{}`", file.display()))
        }
        _ => Ok(head.is_empty() || head.windows(mark.len()).any(|bytes| bytes == mark.as_bytes())),
    }
}

/// Returns whether a name stands for standard input or output.
pub(super) fn is_standard(file: &Path) -> bool {
    file == Path::new("-")
}

/// Writes a complete file, or to standard output.
pub(super) fn write(file: &Path, bytes: &[u8]) -> Result<()> {
    let written = match is_standard(file) {
        true => io::stdout().lock().write_all(bytes),
        false => WholeFile::create(file).and_then(|mut whole| {
            whole.write_all(bytes)?;
            whole.finish()
        }),
    };
    written.with_context(|| format!("cannot write `{}`", file.display()))
}

/// The first bytes of a file in which its mark is looked for. Chosen: a native trace names its maker in the first
/// lines.
const HEAD: u64 = 4096;
