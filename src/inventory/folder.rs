//! A folder of model files: a catalog is made from it, and models are loaded from nowhere else.

use std::collections::BTreeMap;
use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use tiershift_core::machine::Machine;
use tiershift_core::model::{Model, ModelId, Task};

use crate::backend::llama_server::launch::{self, Embeddings, Launch, RefusedArgument};
use crate::files::model_table::ModelTable;
use crate::inventory::ladder::{Found, Ladder, LadderError, Served, Wishes};
use crate::inventory::scan::{ModelFile, Scan, Skipped};

/// The models of a folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Folder {
    path: PathBuf,
    scan: Scan,
}

impl Folder {
    /// Reads a folder and everything below it.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn open(path: &Path) -> Result<Self, FolderError> {
        let refuse = |source| FolderError::Read { path: path.to_owned(), source };
        // The model's process is given absolute paths, wherever it runs.
        let path = fs::canonicalize(path).map_err(refuse)?;
        let scan = Scan::of(&path).map_err(refuse)?;
        Ok(Self { path, scan })
    }

    /// Returns files that look like models and are left out.
    pub fn skipped(&self) -> &[Skipped] {
        &self.scan.skipped
    }

    /// Returns the changes since an earlier look, as text: what is new, changed or gone.
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

    /// Returns its path.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Claims the folder for one daemon, as long as the result lives; `None` if the file system has no locks. The
    /// system releases the claim of a daemon that dies.
    ///
    /// # Errors
    /// When another daemon serves from it.
    pub(crate) fn claim(&self) -> Result<Option<File>, FolderError> {
        let folder = File::open(&self.path)
            .map_err(|source| FolderError::Read { path: self.path.clone(), source })?;
        match folder.try_lock() {
            Ok(()) => Ok(Some(folder)),
            Err(TryLockError::WouldBlock) => Err(FolderError::Claimed { path: self.path.clone() }),
            Err(TryLockError::Error(_)) => Ok(None),
        }
    }

    /// Returns the models that are served, the largest on top: `small`, `medium` and `large` if there are at most
    /// three, or else tiers named after their files; the user's settings override this.
    ///
    /// A model's memory is its file, its KV cache for full slots, and what the server needs besides them.
    ///
    /// # Errors
    /// When the folder has no model that can be served, or the settings name one that is missing or not valid.
    pub fn ladder(&self, wishes: &Wishes, machine: &Machine) -> Result<Ladder, FolderError> {
        if self.scan.models.is_empty() {
            let path = self.path.clone();
            let skipped = self.scan.skipped.iter().map(|it| format!("; `{}`: {}", it.name, it.why));
            return Err(FolderError::Empty { path, skipped: skipped.collect() });
        }
        let found: Vec<Found> = self.scan.models.iter().map(found).collect();
        Ok(wishes.ladder(&found, |table| self.find(table), Some(machine))?)
    }

    /// Returns how to start each model of a ladder of this folder.
    ///
    /// # Errors
    /// When a model's name could be mistaken for an option or for two names, or its server would be given an argument
    /// that users cannot set.
    pub fn launches(&self, ladder: &Ladder) -> Result<BTreeMap<ModelId, Launch>, FolderError> {
        let models = ladder.catalog.models().iter();
        models
            .map(|model| Ok((model.id.clone(), self.launch(model, &ladder.rungs[&model.id])?)))
            .collect()
    }

    fn launch(&self, model: &Model, served: &Served) -> Result<Launch, FolderError> {
        let id = model.id.as_str();
        if id.starts_with('-') || id.contains(|c: char| c == ',' || c.is_control()) {
            return Err(FolderError::Name { model: model.id.clone() });
        }
        if model.can(Task::Speech) {
            return Err(FolderError::Speech { model: model.id.clone() });
        }
        let refuse = |source| FolderError::Refused { model: model.id.clone(), source };
        launch::check(&served.args, &served.env).map_err(refuse)?;
        let found =
            self.scan.models.values().nth(served.found).expect("it was found in this folder");
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
            args: served.args.clone(),
            env: served.env.clone(),
        })
    }

    /// Finds a model by the file that a table names, relative to the folder or, if only one file has that name, without
    /// its folder; otherwise by its own name. So no name is ever used as a path.
    fn find(&self, table: &ModelTable) -> Result<usize, LadderError> {
        let models = || self.scan.models.iter();
        let missing = || {
            let names = models().map(|(name, _)| name.as_str());
            LadderError::missing(table, "in the folder of models", names)
        };
        let Some(file) = table.file.as_deref() else {
            let by_id = models().position(|(_, model)| Some(&model.id) == table.id.as_ref());
            return by_id.ok_or_else(missing);
        };
        let of_name = |name: &str| name.rsplit('/').next() == Some(file);
        let is_only = || models().filter(|(name, _)| of_name(name)).count() == 1;
        let whole = models().position(|(name, _)| name == file);
        let place =
            whole.or_else(|| models().position(|(name, _)| of_name(name)).filter(|_| is_only()));
        place.ok_or_else(missing)
    }
}

fn found((name, model): (&String, &ModelFile)) -> Found {
    Found {
        id: model.id.clone(),
        file: Some(name.clone()),
        size: Some(model.size),
        context_tokens: None,
        slots: None,
        dimensions: model.dimensions,
        can_see: model.projector.is_some(),
    }
}

/// Why models cannot be served from a folder.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "each variant's message says what it is")]
pub enum FolderError {
    #[error("cannot read the folder of models `{}`", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("another daemon serves from `{}`: stop it, or give each a folder of its own", path.display())]
    Claimed { path: PathBuf },
    #[error("`{}` has no model that can be served: put .gguf files there{skipped}", path.display())]
    Empty { path: PathBuf, skipped: String },
    #[error("the server of model \"{model}\" cannot be started so: {source}")]
    Refused { model: ModelId, source: RefusedArgument },
    #[error("model \"{model}\" cannot be served by this name: use no comma and no leading `-`")]
    Name { model: ModelId },
    #[error(
        "model \"{model}\" is for speech, which llama-server does not do: take it out of the catalog"
    )]
    Speech { model: ModelId },
    #[error(transparent)]
    Ladder(#[from] LadderError),
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::catalog::CatalogFile;

    /// Returns the ladder of a folder with this catalog, and how its models are started.
    fn served(
        folder: &Folder,
        catalog: &str,
    ) -> Result<(Ladder, BTreeMap<ModelId, Launch>), String> {
        let catalog = (!catalog.is_empty()).then(|| CatalogFile::parse(catalog, "c.toml").unwrap());
        let wishes = Wishes { catalog, ..Wishes::default() };
        let ladder =
            folder.ladder(&wishes, &Machine::default()).map_err(|error| error.to_string())?;
        let launches = folder.launches(&ladder).map_err(|error| error.to_string())?;
        Ok((ladder, launches))
    }

    /// A file of this size without information about its model.
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
            let models = served(&folder, "").unwrap().0.catalog;
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
            let file = file.map(|file| format!("file = \"{file}\"\n")).unwrap_or_default();
            served(&folder, &format!("[[model]]\nid = \"{id}\"\n{file}"))
        };
        let (_, launches) = refusal("a", None).unwrap();
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

    #[test]
    fn families_form_no_ladder_in_silence_and_a_person_settles_it() {
        let (_place, folder) =
            folder(&["qwen2.5-7b-q8_0.gguf", "qwen2.5-7b-q4_k_m.gguf", "llama-3.2-3b-q4_0.gguf"]);
        let ladder = |names: &[&str], catalog: &str| {
            let catalog =
                (!catalog.is_empty()).then(|| CatalogFile::parse(catalog, "c.toml").unwrap());
            let ladder = names.iter().map(|&name| name.to_owned()).collect();
            let wishes = Wishes { ladder, catalog, ..Wishes::default() };
            let ladder = folder.ladder(&wishes, &Machine::default());
            ladder.map_err(|error| error.to_string()).map(|ladder| {
                let ids = ladder.catalog.models().iter().map(|model| model.id.to_string());
                (ids.collect::<Vec<_>>(), ladder.notes)
            })
        };
        let (ids, notes) = ladder(&[], "").unwrap();
        assert_eq!(ids, ["llama-3.2-3b-q4_0", "qwen2.5-7b-q4_k_m", "qwen2.5-7b-q8_0"]);
        let [note] = &notes[..] else { panic!("{notes:?}") };
        assert!(
            note.contains("`llama-3.2-3b-q4_0`, qwen2.5 (`qwen2.5-7b-q4_k_m`, `qwen2.5-7b-q8_0`)"),
            "{note}"
        );
        assert!(
            note.ends_with("--ladder llama-3.2-3b-q4_0,qwen2.5-7b-q4_k_m,qwen2.5-7b-q8_0"),
            "{note}"
        );

        // Quantisations of one model are the rungs, and models that are not named are not served.
        let (ids, notes) = ladder(&["Qwen2.5-7B-Q4_K_M.gguf", "qwen2.5-7b-q8_0"], "").unwrap();
        assert_eq!(ids, ["qwen2.5-7b-q4_k_m", "qwen2.5-7b-q8_0"]);
        assert_eq!(notes, ["`llama-3.2-3b-q4_0` is left out: --ladder does not name it"]);
        // The order that the user gives overrides sizes.
        let (ids, _) = ladder(&["qwen2.5-7b-q8_0", "llama-3.2-3b-q4_0"], "").unwrap();
        assert_eq!(ids, ["qwen2.5-7b-q8_0", "llama-3.2-3b-q4_0"]);

        let error = ladder(&["qwen2.5-7b-q8_1"], "").unwrap_err();
        assert!(error.contains("did you mean `qwen2.5-7b-q8_0`?"), "{error}");
        let rated = "[[model]]\nid = \"qwen2.5-7b-q8_0\"\nquality = \"40%\"\n[[model]]\nid = \"llama-3.2-3b-q4_0\"\nquality = \"60%\"\n";
        assert_eq!(ladder(&[], rated).unwrap().1, Vec::<String>::new());
        assert!(ladder(&["llama-3.2-3b-q4_0", "qwen2.5-7b-q8_0"], rated).is_err());
    }

    #[test]
    fn a_table_needs_a_file_and_says_more_where_a_person_knows_more() {
        let (_place, folder) = folder(&["a.gguf", "b.gguf", "c.gguf"]);
        let text = r#"
            [[model]]
            file = "a.gguf"
            [[model]]
            id = "b"
            slots = 4
            decode-tokens-per-second = 7.5
            args = ["--flash-attn", "on"]
            env = { GGML_LOG = "1" }
        "#;
        let (ladder, launches) = served(&folder, text).unwrap();
        let [small, medium] = ladder.catalog.models() else { panic!("two of three") };
        assert_eq!((small.id.as_str(), small.tier.as_str(), small.slots), ("b", "small", 4));
        assert_eq!((small.decode_per_second, small.speeds_guessed), (7.5, false));
        assert_eq!((medium.id.as_str(), medium.quality.milli()), ("a", 100_000));
        assert!(medium.speeds_guessed);
        let launch = &launches[&small.id];
        assert_eq!(launch.args, ["--flash-attn", "on"]);
        assert_eq!(launch.env["GGML_LOG"], "1");
        let lines = ladder.lines();
        assert!(
            lines[0].ends_with("; estimated: quality, memory, cache, load times, speeds"),
            "{lines:?}"
        );

        for (text, want) in [
            ("[[model]]\n", "neither `id` nor `file`"),
            (
                "[[model]]\nfile = \"d.gguf\"\n",
                "model \"d.gguf\" needs `d.gguf` in the folder of models",
            ),
            ("[[model]]\nid = \"a\"\nslots = 0\n", "c.toml:3:1"),
            ("[[model]]\nid = \"a\"\nargs = [\"--port\", \"1\"]\n", "`--port`"),
            ("[[model]]\nid = \"a\"\n[[model]]\nid = \"a\"\n", "c.toml:"),
        ] {
            let error = served(&folder, text).unwrap_err();
            assert!(error.contains(want), "{text}{error}");
        }
    }
}
