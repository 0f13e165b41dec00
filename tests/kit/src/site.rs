//! A folder to serve from.

use std::fs;
use std::ops::Deref;
use std::path::{Path, PathBuf};

use tempfile::{NamedTempFile, TempDir};

use crate::gguf::{self, Shape};
use crate::policy::POLICY;

/// A folder with model files in `models/` and [`POLICY`] in `policy.toml`. It is removed on drop.
#[derive(Debug)]
pub struct Site {
    folder: TempDir,
}

impl Site {
    /// Makes one with models of these names. `kept` is a folder that is not removed: each shape is written there once, and linked.
    pub fn new(kept: &Path, models: &[(&str, Shape)]) -> Self {
        // On the same file system, because links cannot cross file systems.
        let site = Self { folder: tempfile::tempdir_in(kept).unwrap() };
        fs::create_dir(site.models()).unwrap();
        for (name, shape) in models {
            let model = written_once(kept, *shape);
            fs::hard_link(model, site.models().join(format!("{name}.gguf"))).unwrap();
        }
        site.put("policy.toml", POLICY);
        site
    }

    /// Writes a file into it.
    pub fn put(&self, name: &str, text: &str) {
        fs::write(self.join(name), text).unwrap();
    }

    /// Returns the folder of the models.
    pub fn models(&self) -> PathBuf {
        self.join("models")
    }
}

impl Deref for Site {
    type Target = Path;

    fn deref(&self) -> &Path {
        self.folder.path()
    }
}

fn written_once(kept: &Path, shape: Shape) -> PathBuf {
    let path = kept.join(format!("{}.gguf", shape.name()));
    if !path.exists() {
        let whole = NamedTempFile::new_in(kept).unwrap();
        gguf::write(whole.path(), shape).unwrap();
        whole.persist(&path).unwrap();
    }
    path
}
