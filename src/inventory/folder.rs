//! A folder of model files: a catalog made from it, and the only place from which a model is loaded.

use std::collections::BTreeMap;
use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use tiershift_core::catalog::{Catalog, CatalogError};
use tiershift_core::model::{Model, ModelId, Task};

use crate::backend::llama_server::launch::{Embeddings, Launch};
use crate::inventory::guess::Step;
use crate::inventory::scan::{ModelFile, Scan, Skipped};

/// The models of a folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Folder {
    path: PathBuf,
    scan: Scan,
}

impl Folder {
    /// Looks into a folder and all that are in it.
    ///
    /// # Errors
    /// Where it cannot be read.
    pub fn open(path: &Path) -> Result<Self, FolderError> {
        let refuse = |source| FolderError::Read { path: path.to_owned(), source };
        // The model's process gets whole paths, wherever it runs.
        let path = fs::canonicalize(path).map_err(refuse)?;
        let scan = Scan::of(&path).map_err(refuse)?;
        Ok(Self { path, scan })
    }

    /// Returns what looks like a model and is left out.
    pub fn skipped(&self) -> &[Skipped] {
        &self.scan.skipped
    }

    /// Returns what has changed since an earlier look, in words: what is new, other than it was, or gone.
    pub fn changes_since(&self, earlier: &Self) -> Vec<String> {
        let (now, before) = (&self.scan.models, &earlier.scan.models);
        let new_or_changed = now.iter().filter_map(|(name, file)| match before.get(name) {
            None => Some(format!("`{name}` is new")),
            Some(was) if was != file => Some(format!("`{name}` is another file")),
            Some(_) => None,
        });
        let gone = before.keys().filter(|name| !now.contains_key(*name));
        new_or_changed.chain(gone.map(|name| format!("`{name}` is gone"))).collect()
    }

    /// Returns where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Claims the folder for one daemon, for as long as what is returned lives; `None` where the file system knows no
    /// locks. The system takes a claim back from a daemon that dies.
    ///
    /// # Errors
    /// Where another daemon serves from it.
    pub(crate) fn claim(&self) -> Result<Option<File>, FolderError> {
        let folder = File::open(&self.path)
            .map_err(|source| FolderError::Read { path: self.path.clone(), source })?;
        match folder.try_lock() {
            Ok(()) => Ok(Some(folder)),
            Err(TryLockError::WouldBlock) => Err(FolderError::Claimed { path: self.path.clone() }),
            Err(TryLockError::Error(_)) => Ok(None),
        }
    }

    /// Returns a ladder of the folder's models, the largest on top: `small`, `medium` and `large` where there are
    /// three at most, else tiers named after their files.
    ///
    /// A model's memory is its file, its KV cache for two full slots, and what the server needs beside them.
    ///
    /// # Errors
    /// A folder without a model that can be served.
    pub fn catalog(&self) -> Result<Catalog, FolderError> {
        let mut models: Vec<(&String, &ModelFile)> = self.scan.models.iter().collect();
        if models.is_empty() {
            let path = self.path.clone();
            let skipped = self.scan.skipped.iter().map(|it| format!("; `{}`: {}", it.name, it.why));
            return Err(FolderError::Empty { path, skipped: skipped.collect() });
        }
        models.sort_by_key(|&(name, model)| (model.size, name));
        let count = models.len();
        let models = models.into_iter().enumerate().map(|(place, (name, found))| {
            let step = Step { place, count };
            let mut model = step.model(&found.id, found.size, &found.dimensions);
            model.file = Some(name.clone());
            if found.projector.is_some() {
                model.tasks.push(Task::Vision);
            }
            model
        });
        Ok(Catalog::new(models.collect())?)
    }

    /// Returns how to start each of a catalog's models.
    ///
    /// # Errors
    /// A model whose file is not in the folder, whose name could be taken for an option or for two names.
    pub fn launches(&self, catalog: &Catalog) -> Result<BTreeMap<ModelId, Launch>, FolderError> {
        catalog.models().iter().map(|model| Ok((model.id.clone(), self.launch(model)?))).collect()
    }

    fn launch(&self, model: &Model) -> Result<Launch, FolderError> {
        let id = model.id.as_str();
        if id.starts_with('-') || id.contains(|c: char| c == ',' || c.is_control()) {
            return Err(FolderError::Name { model: model.id.clone() });
        }
        // Looked up, so that no name is ever a path.
        let Some(found) = self.find(id, model.file.as_deref()) else {
            let file = model.file.clone().unwrap_or_else(|| format!("{id}.gguf"));
            return Err(FolderError::Missing { model: model.id.clone(), file });
        };
        if model.can(Task::Speech) {
            return Err(FolderError::Speech { model: model.id.clone() });
        }
        let embeddings = if model.can(Task::Rerank) {
            Embeddings::Rank
        } else if !model.can(Task::Embedding) {
            Embeddings::None
        } else if found.dimensions.has_pooling() {
            Embeddings::AsTrained
        } else {
            Embeddings::Mean
        };
        Ok(Launch {
            file: found.path.clone(),
            projector: found.projector.clone(),
            context_tokens: model.context_tokens,
            slots: model.slots,
            embeddings,
        })
    }

    /// Finds a model by the file that a catalog names, from the folder on or, where there is one of that name only, without
    /// its folder; else by its own name.
    fn find(&self, id: &str, file: Option<&str>) -> Option<&ModelFile> {
        let models = &self.scan.models;
        let Some(file) = file else { return models.values().find(|model| model.id == id) };
        let by_name = || {
            let mut of_name =
                models.iter().filter(|(name, _)| name.rsplit('/').next() == Some(file));
            of_name.next().filter(|_| of_name.next().is_none()).map(|(_, model)| model)
        };
        models.get(file).or_else(by_name)
    }
}

/// Why a folder cannot be served from.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "each variant's message says what it is")]
pub enum FolderError {
    #[error("cannot read the folder of models `{}`", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("another daemon serves from `{}`: stop it, or give each a folder of its own", path.display())]
    Claimed { path: PathBuf },
    #[error("`{}` has no model that can be served: put .gguf files there{skipped}", path.display())]
    Empty { path: PathBuf, skipped: String },
    #[error(
        "model \"{model}\" needs `{file}` in the folder of models: put it there, or name another with `file`"
    )]
    Missing { model: ModelId, file: String },
    #[error("model \"{model}\" cannot be served by this name: use no comma and no leading `-`")]
    Name { model: ModelId },
    #[error(
        "model \"{model}\" is for speech, which llama-server does not do: take it out of the catalog"
    )]
    Speech { model: ModelId },
    #[error(transparent)]
    Catalog(#[from] CatalogError),
}

#[cfg(test)]
mod tests {
    use tiershift_core::units::{Bytes, Percent};

    use super::*;

    /// A file of this size that says nothing about its model.
    fn put(folder: &Path, name: &str, size: usize) {
        let mut bytes = b"GGUF\x03\0\0\0".to_vec();
        bytes.resize(size.max(24), 0);
        fs::write(folder.join(name), bytes).unwrap();
    }

    fn folder(names: &[&str]) -> (tempfile::TempDir, Folder) {
        let place = tempfile::tempdir().unwrap();
        for (size, name) in names.iter().enumerate() {
            put(place.path(), name, 100 - size);
        }
        let folder = Folder::open(place.path()).unwrap();
        (place, folder)
    }

    #[test]
    fn a_folder_is_a_ladder_in_order_of_size() {
        let tiers = |names: &[&str]| -> Vec<(String, String, u32)> {
            let (_place, folder) = folder(names);
            let models = folder.catalog().unwrap();
            let each = models.models().iter();
            each.map(|it| (it.id.to_string(), it.tier.clone(), it.quality.milli())).collect()
        };
        let row = |id: &str, tier: &str, milli| (id.to_owned(), tier.to_owned(), milli);
        assert_eq!(tiers(&["a.gguf"]), [row("a", "small", 100_000)]);
        assert_eq!(
            tiers(&["b.gguf", "a.gguf", "notes.txt"]),
            [row("a", "small", 50_000), row("b", "medium", 100_000)]
        );
        let four = tiers(&[
            "d.gguf",
            "c.gguf",
            "b.gguf",
            "a-00001-of-00002.gguf",
            "a-00002-of-00002.gguf",
        ]);
        // All pieces of a split model count: together they are the largest.
        assert_eq!(four[0], row("b", "b", 50_000));
        assert_eq!(four[3], row("a", "a", 100_000));
    }

    #[test]
    fn a_model_is_started_from_the_folder_or_not_at_all() {
        let (place, folder) = folder(&["a.gguf"]);
        let refusal = |id: &str, file: Option<&str>| {
            let mut model = Model::of_size(id, "t", Percent::new(50), Bytes::from_gib(1));
            model.file = file.map(str::to_owned);
            let catalog = Catalog::new(vec![model]).unwrap();
            folder.launches(&catalog).map_err(|error| error.to_string())
        };
        let launches = refusal("a", None).unwrap();
        let want = place.path().canonicalize().unwrap().join("a.gguf");
        assert_eq!(launches[&ModelId::from("a")].file, want);
        for (id, file) in [
            ("b", None),
            ("b", Some("../a.gguf")),
            ("../a", None),
            ("--api-key", Some("a.gguf")),
            ("a,b", Some("a.gguf")),
        ] {
            refusal(id, file).unwrap_err();
        }
    }
}
