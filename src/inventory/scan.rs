//! Which models a folder holds, however people keep them: files side by side, folders of publishers and models as LM Studio has
//! them, links into the cache of Hugging Face, or the store of Ollama.
//!
//! One odd file is left out with the reason, and never keeps the others from being served.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use tiershift_core::units::Bytes;

use crate::inventory::gguf::Dimensions;

/// A model that may be served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ModelFile {
    /// What it is called.
    pub(super) id: String,
    /// The file, or the first of its pieces.
    pub(super) path: PathBuf,
    /// The size of all that is loaded: its pieces, and what it looks at pictures with.
    pub(super) size: Bytes,
    /// What it looks at pictures with.
    pub(super) projector: Option<PathBuf>,
    pub(super) dimensions: Dimensions,
}

/// A file that looks like a model and is none that can be served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Skipped {
    /// Its name, from the folder on.
    pub name: String,
    /// Why it is left out.
    pub why: String,
}

/// What a folder holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Scan {
    /// By their files' names, from the folder on.
    pub(super) models: BTreeMap<String, ModelFile>,
    pub(super) skipped: Vec<Skipped>,
}

impl Scan {
    /// Looks into a folder and all that are in it.
    ///
    /// # Errors
    /// Where the folder itself cannot be read.
    pub(super) fn of(folder: &Path) -> io::Result<Self> {
        let mut found = Found::default();
        found.walk(folder, "", 0)?;
        let mut scan = Self { models: BTreeMap::new(), skipped: found.skipped };
        scan.take_files(&found.files);
        if folder.join(MANIFESTS).is_dir() && folder.join(BLOBS).is_dir() {
            scan.take_store(folder);
        }
        scan.skipped.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(scan)
    }

    fn skip(&mut self, name: &str, why: impl Into<String>) {
        self.skipped.push(Skipped { name: name.to_owned(), why: why.into() });
    }

    /// Makes models of files: of the first piece of a split one, with what belongs to it.
    fn take_files(&mut self, files: &BTreeMap<String, (PathBuf, Bytes)>) {
        // The snapshots of a cache link to one blob again and again.
        let mut known = BTreeSet::new();
        for (name, (path, size)) in files {
            if is_projector(name) || piece(name).is_some_and(|piece| piece.number != 1) {
                continue;
            }
            if !known.insert(fs::canonicalize(path).unwrap_or_else(|_| path.clone())) {
                continue;
            }
            let mut all = *size;
            if let Some(Piece { stem, count, .. }) = piece(name) {
                let pieces: Vec<_> = files
                    .iter()
                    .filter(|(other, _)| piece(other).is_some_and(|it| it.stem == stem))
                    .collect();
                if pieces.len() != count {
                    let there = pieces.len();
                    self.skip(name, format!("{there} of its {count} pieces are here"));
                    continue;
                }
                let broken = pieces.iter().find_map(|(other, (path, _))| {
                    Dimensions::read(path).err().map(|error| format!("`{other}`: {error}"))
                });
                if let Some(why) = broken {
                    self.skip(name, why);
                    continue;
                }
                all = pieces.iter().map(|(_, (_, size))| *size).sum();
            }
            let projector = projector_of(name, files);
            if let Some((_, size)) = projector {
                all += *size;
            }
            self.take(name, stem_of(name), path, all, projector.map(|(path, _)| path.clone()));
        }
        let used: BTreeSet<_> =
            self.models.values().filter_map(|it| it.projector.clone()).collect();
        for (name, (path, _)) in files.iter().filter(|(name, _)| is_projector(name)) {
            if !used.contains(path) {
                self.skip(name, "no model beside it is the one that it lets see");
            }
        }
    }

    /// Makes models of what Ollama has pulled: a manifest names the blobs of each.
    fn take_store(&mut self, folder: &Path) {
        let mut manifests = Vec::new();
        let root = folder.join(MANIFESTS);
        list(&root, 0, &mut manifests);
        for path in manifests {
            let words: Vec<_> = path.strip_prefix(&root).unwrap_or(&path).iter().collect();
            let words: Vec<_> = words.iter().map(|word| word.to_string_lossy()).collect();
            // Registry, namespace, model, tag; what is of the library is called by model and tag alone.
            let [.., namespace, model, tag] = &words[..] else { continue };
            let id = match &**namespace {
                "library" => format!("{model}:{tag}"),
                namespace => format!("{namespace}/{model}:{tag}"),
            };
            match Manifest::read(&path) {
                Ok(manifest) => {
                    let blob = |kind: &str| {
                        let layer =
                            manifest.layers.iter().find(|layer| layer.media_type == kind)?;
                        let path = folder.join(BLOBS).join(layer.digest.replace(':', "-"));
                        Some((fs::metadata(&path).map(|about| Bytes::new(about.len())), path))
                    };
                    let Some((size, file)) = blob(MODEL) else { continue };
                    let Ok(size) = size else {
                        self.skip(&id, "its blob is not here");
                        continue;
                    };
                    let projector =
                        blob(PROJECTOR).and_then(|(size, path)| Some((size.ok()?, path)));
                    let all = size + projector.as_ref().map_or(Bytes::ZERO, |(size, _)| *size);
                    self.take(&id, &id, &file, all, projector.map(|(_, path)| path));
                }
                Err(why) => self.skip(&id, why),
            }
        }
    }

    fn take(&mut self, name: &str, id: &str, path: &Path, size: Bytes, projector: Option<PathBuf>) {
        if let Some(why) = unfit(id) {
            return self.skip(name, why);
        }
        let dimensions = match Dimensions::read(path) {
            Ok(dimensions) => dimensions,
            Err(error) => return self.skip(name, error.to_string()),
        };
        // Two files of one name are told apart by their folders.
        let is_taken = self.models.values().any(|model| model.id == id);
        let id = if is_taken { name.to_owned() } else { id.to_owned() };
        let model = ModelFile { id, path: path.to_owned(), size, projector, dimensions };
        self.models.insert(name.to_owned(), model);
    }
}

/// Files that end as models do, by their names from the folder on.
#[derive(Default)]
struct Found {
    files: BTreeMap<String, (PathBuf, Bytes)>,
    skipped: Vec<Skipped>,
    /// Folders that were looked into: a link may lead back.
    seen: BTreeSet<PathBuf>,
}

impl Found {
    fn walk(&mut self, folder: &Path, prefix: &str, depth: u32) -> io::Result<()> {
        if depth > DEEPEST || !self.seen.insert(fs::canonicalize(folder)?) {
            return Ok(());
        }
        let mut entries: Vec<_> = fs::read_dir(folder)?.collect::<Result<_, _>>()?;
        entries.sort_by_key(fs::DirEntry::file_name);
        for entry in entries {
            let path = entry.path();
            let is_model = path.extension().is_some_and(|it| it.eq_ignore_ascii_case("gguf"));
            let raw = entry.file_name();
            let Some(name) = raw.to_str() else {
                if is_model {
                    let name = format!("{prefix}{}", raw.to_string_lossy());
                    self.skip(name, "its name is not UTF-8");
                }
                continue;
            };
            let name = format!("{prefix}{name}");
            match fs::metadata(&path) {
                Ok(about) if about.is_dir() => {
                    if let Err(error) = self.walk(&path, &format!("{name}/"), depth + 1) {
                        self.skip(name, format!("it cannot be looked into: {error}"));
                    }
                }
                Ok(about) if about.is_file() && is_model => {
                    self.files.insert(name, (path, Bytes::new(about.len())));
                }
                Err(error) if is_model => self.skip(name, format!("it cannot be read: {error}")),
                Ok(_) | Err(_) => {}
            }
        }
        Ok(())
    }

    fn skip(&mut self, name: String, why: impl Into<String>) {
        self.skipped.push(Skipped { name, why: why.into() });
    }
}

/// Lists the files of a folder and all that are in it, in order; what cannot be read is not there.
fn list(folder: &Path, depth: u32, into: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    let mut paths: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
    paths.sort();
    for path in paths {
        match path.is_dir() {
            true if depth < DEEPEST => list(&path, depth + 1, into),
            true => {}
            false => into.push(path),
        }
    }
}

/// What Ollama writes of a model.
#[derive(Deserialize)]
struct Manifest {
    layers: Vec<Layer>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Layer {
    media_type: String,
    digest: String,
}

impl Manifest {
    fn read(path: &Path) -> Result<Self, String> {
        let bytes =
            fs::read(path).map_err(|error| format!("its manifest cannot be read: {error}"))?;
        serde_json::from_slice(&bytes).map_err(|error| format!("its manifest is not one: {error}"))
    }
}

/// A piece of a split model, such as `name-00002-of-00005.gguf`.
struct Piece<'a> {
    /// From the folder on.
    stem: &'a str,
    number: usize,
    count: usize,
}

fn piece(name: &str) -> Option<Piece<'_>> {
    let (before, count) = without_ending(name).rsplit_once("-of-")?;
    let (stem, number) = before.rsplit_once('-')?;
    let is_number = |text: &str| text.len() == 5 && text.bytes().all(|byte| byte.is_ascii_digit());
    if !is_number(number) || !is_number(count) {
        return None;
    }
    Some(Piece { stem, number: number.parse().ok()?, count: count.parse().ok()? })
}

/// Returns what a file is called, without its folder, its ending, and the number of its piece.
fn stem_of(name: &str) -> &str {
    let stem = piece(name).map_or(without_ending(name), |piece| piece.stem);
    stem.rsplit('/').next().unwrap_or(stem)
}

fn without_ending(name: &str) -> &str {
    name.rsplit_once('.').map_or(name, |(before, _)| before)
}

fn folder_of(name: &str) -> &str {
    name.rsplit_once('/').map_or("", |(folder, _)| folder)
}

/// Returns whether a file is an image projector: a part of a model, by the name that llama.cpp's tools give it.
fn is_projector(name: &str) -> bool {
    name.rsplit('/').next().unwrap_or(name).to_ascii_lowercase().contains("mmproj")
}

/// Returns the image projector of a model: the one that has its name or, in a folder of its own, the first.
fn projector_of<'a>(
    name: &str,
    files: &'a BTreeMap<String, (PathBuf, Bytes)>,
) -> Option<&'a (PathBuf, Bytes)> {
    let beside = || {
        files.iter().filter(|(other, _)| is_projector(other) && folder_of(other) == folder_of(name))
    };
    let stem = stem_of(name).to_ascii_lowercase();
    let is_named = |other: &str| {
        let projector = stem_of(other).to_ascii_lowercase().replace("mmproj", "");
        let bare = projector.trim_matches(['-', '.', '_']);
        !bare.is_empty() && (stem.starts_with(bare) || bare.starts_with(&stem))
    };
    let named = beside().find(|(other, _)| is_named(other));
    let of_folder = || beside().next().filter(|_| !folder_of(name).is_empty());
    named.or_else(of_folder).map(|(_, file)| file)
}

/// Returns why a model cannot be called so.
fn unfit(id: &str) -> Option<&'static str> {
    let is_odd = |c: char| c == ',' || c.is_control();
    (id.starts_with('-') || id.contains(is_odd))
        .then_some("its name has a comma, or begins with `-`: rename it")
}

/// Folders in folders that are looked into. The cache of Hugging Face has five.
const DEEPEST: u32 = 8;
/// Where Ollama keeps what it has pulled.
const MANIFESTS: &str = "manifests";
const BLOBS: &str = "blobs";
const MODEL: &str = "application/vnd.ollama.image.model";
const PROJECTOR: &str = "application/vnd.ollama.image.projector";

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    /// A folder with these files, each of which says nothing about its model.
    struct Rig(tempfile::TempDir);

    impl Rig {
        fn new(names: &[&str]) -> Self {
            let rig = Self(tempfile::tempdir().unwrap());
            for name in names {
                rig.put(name);
            }
            rig
        }

        fn put(&self, name: &str) {
            let path = self.0.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, [b"GGUF\x03\0\0\0".as_slice(), &[0; 16]].concat()).unwrap();
        }

        /// Returns each model's name, and why the others are left out.
        fn scan(&self) -> (Vec<String>, Vec<String>) {
            let scan = Scan::of(self.0.path()).unwrap();
            let skipped = scan.skipped.iter().map(|it| format!("{}: {}", it.name, it.why));
            let models = scan.models.into_values();
            let models = models.map(|model| match model.projector {
                Some(path) => format!("{} + {}", model.id, path.file_name().unwrap().display()),
                None => model.id,
            });
            (models.collect(), skipped.collect())
        }
    }

    #[test]
    fn one_odd_file_keeps_no_other_from_being_served() {
        let rig = Rig::new(&["good.gguf", "shout.GGUF", "a,b.gguf", "-x.gguf", "notes.txt"]);
        let put = |name: &str, bytes: &[u8]| fs::write(rig.0.path().join(name), bytes).unwrap();
        put("empty.gguf", b"");
        put("page.gguf", b"<html>not found</html>");
        symlink("nowhere", rig.0.path().join("dangling.gguf")).unwrap();
        let (models, skipped) = rig.scan();
        assert_eq!(models, ["good", "shout"]);
        let names: Vec<_> = skipped.iter().map(|line| line.split_once(": ").unwrap()).collect();
        assert_eq!(names[0], ("-x.gguf", "its name has a comma, or begins with `-`: rename it"));
        assert_eq!(names[1].0, "a,b.gguf");
        assert!(names[2].0 == "dangling.gguf" && names[2].1.starts_with("it cannot be read"));
        assert_eq!(names[3], ("empty.gguf", "it ends in its head: it was not downloaded whole"));
        assert_eq!(names[4], ("page.gguf", "it is not a GGUF file"));
    }

    #[test]
    fn folders_of_publishers_and_links_into_a_cache_are_looked_into() {
        let hub = "hub/models--org--name/snapshots";
        let rig = Rig::new(&["lm/org/one/one-q4.gguf", "lm/org/two/one-q4.gguf"]);
        rig.put("hub/models--org--name/blobs/0a1b");
        for snapshot in ["aa", "bb"] {
            let folder = rig.0.path().join(hub).join(snapshot);
            fs::create_dir_all(&folder).unwrap();
            symlink("../../blobs/0a1b", folder.join("cached.gguf")).unwrap();
        }
        // A link that leads back.
        symlink("..", rig.0.path().join("lm/back")).unwrap();
        let (models, skipped) = rig.scan();
        assert_eq!(models, ["cached", "one-q4", "lm/org/two/one-q4.gguf"]);
        assert_eq!(skipped, Vec::<String>::new());
    }

    #[test]
    fn pieces_and_projectors_belong_to_their_models() {
        let rig = Rig::new(&[
            "big-00001-of-00002.gguf",
            "big-00002-of-00002.gguf",
            "torn-00001-of-00003.gguf",
            "torn-00003-of-00003.gguf",
            "mmproj-gemma-4b-f16.gguf",
            "gemma-4b-f16-q4.gguf",
            "other.gguf",
            "mmproj-nobody.gguf",
            "llava/llava-q4.gguf",
            "llava/mmproj-model-f16.gguf",
        ]);
        let (models, skipped) = rig.scan();
        assert_eq!(
            models,
            [
                "big",
                "gemma-4b-f16-q4 + mmproj-gemma-4b-f16.gguf",
                "llava-q4 + mmproj-model-f16.gguf",
                "other"
            ]
        );
        assert_eq!(
            skipped,
            [
                "mmproj-nobody.gguf: no model beside it is the one that it lets see",
                "torn-00001-of-00003.gguf: 2 of its 3 pieces are here"
            ]
        );
        let scan = Scan::of(rig.0.path()).unwrap();
        assert_eq!(scan.models["big-00001-of-00002.gguf"].size, Bytes::new(48));
    }

    #[test]
    fn what_ollama_has_pulled_is_called_as_there() {
        let rig = Rig::new(&["blobs/sha256-aa", "blobs/sha256-bb"]);
        let manifest = |name: &str, text: &str| {
            let path = rig.0.path().join("manifests/registry.ollama.ai").join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        let layer = |kind: &str, digest: &str| {
            format!(
                r#"{{"mediaType": "application/vnd.ollama.image.{kind}", "digest": "{digest}"}}"#
            )
        };
        let of = |layers: &[String]| format!(r#"{{"layers": [{}]}}"#, layers.join(", "));
        let sees = [layer("model", "sha256:aa"), layer("projector", "sha256:bb")];
        manifest("library/llava/7b", &of(&sees));
        manifest("me/mine/latest", &of(&[layer("model", "sha256:bb")]));
        manifest("library/gone/1b", &of(&[layer("model", "sha256:cc")]));
        manifest("library/odd/1b", "no JSON");
        let (models, skipped) = rig.scan();
        assert_eq!(models, ["llava:7b + sha256-bb", "me/mine:latest"]);
        assert_eq!(skipped[0], "gone:1b: its blob is not here");
        assert!(skipped[1].starts_with("odd:1b: its manifest is not one"), "{skipped:?}");
    }
}
