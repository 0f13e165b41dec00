//! Files that verbs read: `-` is standard input, which is first copied to a file, because most readers read it twice.

use std::cell::RefCell;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use tempfile::TempDir;

use crate::cli::output::is_standard;
use crate::files::whole_file::unfinished::Unfinished;

/// The files of one call, and standard input while it is read.
#[derive(Default)]
pub(super) struct Inputs(RefCell<Option<(TempDir, Unfinished)>>);

impl Inputs {
    /// Returns the path from which to read a file that was named.
    pub(super) fn path(&self, named: &Path) -> Result<PathBuf> {
        if !is_standard(named) {
            return Ok(named.to_owned());
        }
        let mut spooled = self.0.borrow_mut();
        anyhow::ensure!(
            spooled.is_none(),
            "standard input (`-`) can be read only once: give a file for the other argument"
        );
        let spool = || {
            let mut builder = tempfile::Builder::new();
            let folder = Unfinished::create(|| builder.prefix(".tiershift-").tempdir())?;
            let path = folder.0.path().join(NAME);
            io::copy(&mut io::stdin().lock(), &mut File::create(&path)?)?;
            Ok::<_, io::Error>((folder, path))
        };
        let (folder, path) = spool().context("cannot keep standard input in a temporary file")?;
        *spooled = Some(folder);
        Ok(path)
    }
}

/// The name of standard input in messages and logs.
const NAME: &str = "standard-input";
