//! A folder of model files: a catalog made from it, and the only place from which a model is loaded.

use std::collections::BTreeMap;
use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use tiershift_core::catalog::{Catalog, CatalogError};
use tiershift_core::model::{Model, ModelId, Task};
use tiershift_core::units::Bytes;

use crate::backend::llama_server::launch::{Embeddings, Launch};
use crate::inventory::gguf::Dimensions;
use crate::inventory::guess::Step;

/// The model files of a folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Folder {
    path: PathBuf,
    /// By name.
    files: BTreeMap<String, Bytes>,
}

impl Folder {
    /// Looks into a folder.
    ///
    /// # Errors
    /// Where it cannot be read.
    pub fn open(path: &Path) -> Result<Self, FolderError> {
        let refuse = |source| FolderError::Read { path: path.to_owned(), source };
        // The model's process gets whole paths, wherever it runs.
        let path = fs::canonicalize(path).map_err(refuse)?;
        let mut files = BTreeMap::new();
        for entry in fs::read_dir(&path).map_err(refuse)? {
            let entry = entry.map_err(refuse)?;
            let Ok(name) = entry.file_name().into_string() else { continue };
            if !name.ends_with(".gguf") {
                continue;
            }
            let about = fs::metadata(entry.path()).map_err(refuse)?;
            if about.is_file() {
                files.insert(name, Bytes::new(about.len()));
            }
        }
        Ok(Self { path, files })
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
    /// A folder without a model, or with one that cannot be read.
    pub fn catalog(&self) -> Result<Catalog, FolderError> {
        let mut files: Vec<(&String, Bytes)> = self
            .files
            .iter()
            .filter(|(name, _)| !is_part(name))
            .map(|(name, _)| (name, self.size(name)))
            .collect();
        if files.is_empty() {
            return Err(FolderError::Empty { path: self.path.clone() });
        }
        files.sort_by_key(|&(name, size)| (size, name));
        let count = files.len();
        let models = files.into_iter().enumerate().map(|(place, (name, size))| {
            let stem = name.trim_end_matches(".gguf");
            self.model(name, stem, Step { place, count }, size)
        });
        Ok(Catalog::new(models.collect::<Result<_, _>>()?)?)
    }

    /// Returns the size of a model's file, or of all pieces of a split one.
    fn size(&self, name: &str) -> Bytes {
        let pieces = self.files.iter().filter(|(other, _)| {
            *other == name || split_stem(name).is_some_and(|stem| split_stem(other) == Some(stem))
        });
        pieces.map(|(_, &size)| size).sum()
    }

    fn model(&self, name: &str, id: &str, step: Step, size: Bytes) -> Result<Model, FolderError> {
        let mut model = step.model(id, size, &self.dimensions(name)?);
        model.file = Some(name.to_owned());
        Ok(model)
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
        let file = model.file.clone().unwrap_or_else(|| format!("{id}.gguf"));
        // Looked up, so that no name is ever a path.
        if !self.files.contains_key(&file) {
            return Err(FolderError::Missing { model: model.id.clone(), file });
        }
        if model.can(Task::Speech) {
            return Err(FolderError::Speech { model: model.id.clone() });
        }
        let embeddings = if model.can(Task::Rerank) {
            Embeddings::Rank
        } else if model.can(Task::Embedding) {
            self.embeddings(&file)?
        } else {
            Embeddings::None
        };
        Ok(Launch {
            file: self.path.join(file),
            context_tokens: model.context_tokens,
            slots: model.slots,
            embeddings,
        })
    }

    fn embeddings(&self, name: &str) -> Result<Embeddings, FolderError> {
        let dimensions = self.dimensions(name)?;
        Ok(if dimensions.has_pooling() { Embeddings::AsTrained } else { Embeddings::Mean })
    }

    fn dimensions(&self, name: &str) -> Result<Dimensions, FolderError> {
        Dimensions::read(&self.path.join(name))
            .map_err(|source| FolderError::Model { file: name.to_owned(), source })
    }
}

/// Returns whether a file is a part of a model only: a later piece of a split one, or an image projector.
fn is_part(name: &str) -> bool {
    name.contains("mmproj") || (split_stem(name).is_some() && !name.contains("-00001-of-"))
}

/// Returns the model's name, for a piece such as `name-00002-of-00005.gguf`.
fn split_stem(name: &str) -> Option<&str> {
    let (before, _) = name.rsplit_once("-of-")?;
    let (stem, number) = before.rsplit_once('-')?;
    (number.len() == 5 && number.bytes().all(|byte| byte.is_ascii_digit())).then_some(stem)
}

/// Why a folder cannot be served from.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "each variant's message says what it is")]
pub enum FolderError {
    #[error("cannot read the folder of models `{}`", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("another daemon serves from `{}`: stop it, or give each a folder of its own", path.display())]
    Claimed { path: PathBuf },
    #[error("`{}` has no model: put .gguf files there", path.display())]
    Empty { path: PathBuf },
    #[error("cannot read the model `{file}`: remove or replace it")]
    Model { file: String, source: io::Error },
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
    use tiershift_core::units::Percent;

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
            tiers(&["b.gguf", "a.gguf", "notes.txt", "mmproj-b.gguf"]),
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
        assert_eq!(four[3], row("a-00001-of-00002", "a-00001-of-00002", 100_000));
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
