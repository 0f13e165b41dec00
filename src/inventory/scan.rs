//! Finds the models of a folder, however it is organised: files side by side, folders of publishers and models as in LM
//! Studio, links into the cache of Hugging Face, or the store of Ollama.
//!
//! An odd file is left out with the reason, and never prevents the others from being served. If a model's projector is
//! odd, the rest of the model is served.

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
    /// Its name.
    pub(super) id: String,
    /// The file, or the first of its pieces.
    pub(super) path: PathBuf,
    /// The size of everything that is loaded: its pieces, and its image projector.
    pub(super) size: Bytes,
    /// Its image projector.
    pub(super) projector: Option<PathBuf>,
    pub(super) dimensions: Dimensions,
}

/// A file that looks like a model but cannot be served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Skipped {
    /// Its name, relative to the folder.
    pub name: String,
    /// Why it is left out.
    pub why: String,
}

/// The content of a folder.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Scan {
    /// By their files' names, relative to the folder.
    pub(super) models: BTreeMap<String, ModelFile>,
    pub(super) skipped: Vec<Skipped>,
}

/// Files by their names, relative to the folder.
type Files = BTreeMap<String, (PathBuf, Bytes)>;

impl Scan {
    /// Reads a folder and everything below it.
    ///
    /// # Errors
    /// When the folder itself cannot be read.
    pub(super) fn of(folder: &Path) -> io::Result<Self> {
        let (mut scan, mut files) = (Self::default(), Files::new());
        scan.walk(folder, "", &mut BTreeSet::new(), &mut files)?;
        let (models, rest): (Files, Files) =
            files.into_iter().partition(|(name, _)| is_model(Path::new(name)));
        scan.take_files(&models);
        scan.take_store(&rest);
        scan.skipped.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(scan)
    }

    fn skip(&mut self, name: &str, why: impl Into<String>) {
        self.skipped.push(Skipped { name: name.to_owned(), why: why.into() });
    }

    /// Finds the files of a folder whose name so far is `prefix`, and of all folders in it that were not `seen` yet: a
    /// link may lead back.
    fn walk(
        &mut self,
        folder: &Path,
        prefix: &str,
        seen: &mut BTreeSet<PathBuf>,
        into: &mut Files,
    ) -> io::Result<()> {
        if prefix.matches('/').count() > DEEPEST || !seen.insert(fs::canonicalize(folder)?) {
            return Ok(());
        }
        let mut entries: Vec<_> = fs::read_dir(folder)?.collect::<Result<_, _>>()?;
        entries.sort_by_key(fs::DirEntry::file_name);
        for entry in entries {
            let path = entry.path();
            let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
            match fs::metadata(&path) {
                Ok(about) if about.is_dir() => {
                    if let Err(error) = self.walk(&path, &format!("{name}/"), seen, into) {
                        self.skip(&name, format!("it cannot be opened: {error}"));
                    }
                }
                Ok(about) if about.is_file() && entry.file_name().to_str().is_some() => {
                    into.insert(name, (path, Bytes::new(about.len())));
                }
                Ok(about) if about.is_file() && is_model(&path) => {
                    self.skip(&name, "its name is not UTF-8");
                }
                Err(error) if is_model(&path) => {
                    self.skip(&name, format!("it cannot be read: {error}"));
                }
                Ok(_) | Err(_) => {}
            }
        }
        Ok(())
    }

    /// Makes models from files: from the first piece of a split one, with what belongs to it.
    fn take_files(&mut self, files: &Files) {
        let mut projectors = Files::new();
        for (name, file) in files.iter().filter(|(name, _)| is_projector(name)) {
            match Dimensions::read(&file.0) {
                Ok(_) => drop(projectors.insert(name.clone(), file.clone())),
                Err(error) => self.skip(name, error.to_string()),
            }
        }
        // The snapshots of a cache contain many links to one blob.
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
            let projector = projector_of(name, &projectors);
            self.take(name, stem_of(name), (path, all), projector);
        }
        let used: BTreeSet<_> =
            self.models.values().filter_map(|it| it.projector.clone()).collect();
        for (name, (path, _)) in &projectors {
            if !used.contains(path) {
                self.skip(name, "the model that it belongs to is not in this folder");
            }
        }
    }

    /// Makes models from Ollama's store: a manifest names the blobs of each.
    fn take_store(&mut self, files: &Files) {
        for (name, (path, _)) in files {
            let words: Vec<_> = name.split('/').collect();
            // Registry, namespace, model, tag; models of the library are named by model and tag alone.
            let ["manifests", .., namespace, model, tag] = words[..] else { continue };
            let id = match namespace {
                "library" => format!("{model}:{tag}"),
                namespace => format!("{namespace}/{model}:{tag}"),
            };
            let manifest = match Manifest::read(path) {
                Ok(manifest) => manifest,
                Err(why) => {
                    self.skip(&id, why);
                    continue;
                }
            };
            let blob = |kind: &str| {
                let layer = manifest.layers.iter().find(|layer| layer.media_type == kind)?;
                Some(files.get(&format!("blobs/{}", layer.digest.replace(':', "-"))))
            };
            let Some(file) = blob(MODEL) else { continue };
            let Some((path, size)) = file else {
                self.skip(&id, "its blob is not here");
                continue;
            };
            let projector = blob(PROJECTOR).flatten().filter(|(path, _)| {
                let broken = Dimensions::read(path).err();
                if let Some(error) = &broken {
                    self.skip(&id, format!("without its projector for pictures: {error}"));
                }
                broken.is_none()
            });
            self.take(&id, &id, (path, *size), projector);
        }
    }

    fn take(
        &mut self,
        name: &str,
        id: &str,
        (path, size): (&Path, Bytes),
        projector: Option<&(PathBuf, Bytes)>,
    ) {
        if let Some(why) = unfit(id) {
            return self.skip(name, why);
        }
        let dimensions = match Dimensions::read(path) {
            Ok(dimensions) => dimensions,
            Err(error) => return self.skip(name, error.to_string()),
        };
        // Two files with one name are distinguished by their folders.
        let is_taken = self.models.values().any(|model| model.id == id);
        let id = if is_taken { name.to_owned() } else { id.to_owned() };
        let size = size + projector.map_or(Bytes::ZERO, |(_, size)| *size);
        let projector = projector.map(|(path, _)| path.clone());
        let model = ModelFile { id, path: path.to_owned(), size, projector, dimensions };
        self.models.insert(name.to_owned(), model);
    }
}

/// Ollama's manifest of a model.
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
        serde_json::from_slice(&bytes)
            .map_err(|error| format!("its manifest is not valid: {error}"))
    }
}

/// Returns whether a file has a model's extension.
fn is_model(path: &Path) -> bool {
    path.extension().is_some_and(|it| it.eq_ignore_ascii_case("gguf"))
}

/// A piece of a split model, such as `name-00002-of-00005.gguf`.
struct Piece<'a> {
    /// Relative to the folder.
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

/// Returns the name of a file without its folder, its extension, and the number of its piece.
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

/// Returns the image projector of a model: the one with its name or, in a separate folder, the first.
fn projector_of<'a>(name: &str, projectors: &'a Files) -> Option<&'a (PathBuf, Bytes)> {
    let beside = || projectors.iter().filter(|(other, _)| folder_of(other) == folder_of(name));
    let base = base_of(stem_of(name));
    let named = beside().find(|(other, _)| base_of(stem_of(other)) == base);
    let of_folder = || beside().next().filter(|_| !folder_of(name).is_empty());
    named.or_else(of_folder).map(|(_, file)| file)
}

/// Returns the name of a model without its quantisation, in small letters: `gemma-3-4b-it` for `gemma-3-4b-it-Q4_K_M`
/// and for `mmproj-gemma-3-4b-it-f16`.
fn base_of(stem: &str) -> String {
    let stem = stem.to_ascii_lowercase().replace("mmproj", "");
    let mut base = stem.trim_matches(SEPARATORS);
    while let Some((before, last)) = base.rsplit_once(['-', '.'])
        && (BESIDE_QUANTISATIONS.contains(&last) || is_quantisation(last))
    {
        base = before.trim_end_matches(SEPARATORS);
    }
    base.to_owned()
}

/// Returns the common name of models that differ in size, in quantisation, or in whether they follow instructions:
/// `qwen2.5` for `Qwen2.5-7B-Instruct-Q4_K_M` and for `qwen2.5:0.5b`. Empty if a name contains only a size.
pub(super) fn family_of(id: &str) -> String {
    let id = id.rsplit('/').next().unwrap_or(id);
    let base = base_of(if is_model(Path::new(id)) { stem_of(id) } else { id });
    let words = base.split(['-', '_', ':', ' ']);
    let is_of_family = |word: &&str| !is_size(word) && !NOT_OF_A_FAMILY.contains(word);
    words.filter(is_of_family).collect::<Vec<_>>().join("-")
}

/// Returns whether a word states how large a model is: `7b`, `0.5b`, `8x7b`, `e4b`, `360m`.
fn is_size(word: &str) -> bool {
    let number = word.strip_suffix(['b', 'm']).unwrap_or_default();
    let number = number.strip_prefix(['a', 'e']).unwrap_or(number);
    !number.is_empty() && number.chars().all(|c| c.is_ascii_digit() || c == '.' || c == 'x')
}

/// Returns whether a word is the name of a quantisation, as llama.cpp and publishers use it: `q4_k_m`, `iq3_xs`,
/// `bf16`, `mxfp4`.
fn is_quantisation(word: &str) -> bool {
    let number = word.trim_start_matches(|c: char| c.is_ascii_alphabetic());
    let kind = &word[..word.len() - number.len()];
    matches!(kind, "q" | "iq" | "tq" | "f" | "bf" | "fp" | "mxfp" | "nvfp")
        && number.starts_with(|c: char| c.is_ascii_digit())
}

/// Returns why a model cannot have this name.
fn unfit(id: &str) -> Option<&'static str> {
    let is_odd = |c: char| c == ',' || c.is_control();
    (id.starts_with('-') || id.contains(is_odd))
        .then_some("its name has a comma, or begins with `-`: rename it")
}

/// The greatest depth of folders that are read. The cache of Hugging Face has five.
const DEEPEST: usize = 8;
/// Words that publishers put before a quantisation, or in its place.
const BESIDE_QUANTISATIONS: [&str; 3] = ["model", "ud", "i1"];
/// Words that distinguish models of one family.
const NOT_OF_A_FAMILY: [&str; 14] = [
    "nano", "tiny", "mini", "small", "medium", "large", "xl", "instruct", "it", "chat", "gguf",
    "hf", "latest", "",
];
/// Separators between the words of a file's name.
const SEPARATORS: [char; 3] = ['-', '.', '_'];
/// Ollama's media types of a model's file, and of its image projector.
const MODEL: &str = "application/vnd.ollama.image.model";
const PROJECTOR: &str = "application/vnd.ollama.image.projector";

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    /// A folder with these files, none of which has information about its model.
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
    fn a_family_is_what_a_name_has_beside_sizes_and_quantisations() {
        for (id, want) in [
            ("Qwen2.5-7B-Instruct-Q4_K_M", "qwen2.5"),
            ("qwen2.5:0.5b", "qwen2.5"),
            ("hub/qwen2.5-0.5b-instruct-fp16.gguf", "qwen2.5"),
            ("gemma-3-4b-it-Q4_0", "gemma-3"),
            ("gemma-3n-E4B-it", "gemma-3n"),
            ("Mixtral-8x7B-Instruct-v0.1.Q5_K_M", "mixtral-v0.1"),
            ("Qwen3-30B-A3B-UD-Q4_K_XL", "qwen3"),
            ("small", ""),
            ("phi-4-mini", "phi-4"),
        ] {
            assert_eq!(family_of(id), want, "{id}");
        }
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
            "mmproj-gemma-3-4b-it-f16.gguf",
            "gemma-3-4b-it-Q4_K_M.gguf",
            "llava-v1.5-7b-mmproj-model-f16.gguf",
            "llava-v1.5-7b-UD-IQ3_XS.gguf",
            "llava-v1.5-7b-IQ3_XS.gguf",
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
                "gemma-3-4b-it-Q4_K_M + mmproj-gemma-3-4b-it-f16.gguf",
                "gemma-4b-f16-q4 + mmproj-gemma-4b-f16.gguf",
                "llava-v1.5-7b-IQ3_XS + llava-v1.5-7b-mmproj-model-f16.gguf",
                "llava-v1.5-7b-UD-IQ3_XS + llava-v1.5-7b-mmproj-model-f16.gguf",
                "llava-q4 + mmproj-model-f16.gguf",
                "other"
            ]
        );
        assert_eq!(
            skipped,
            [
                "mmproj-nobody.gguf: the model that it belongs to is not in this folder",
                "torn-00001-of-00003.gguf: 2 of its 3 pieces are here"
            ]
        );
        let scan = Scan::of(rig.0.path()).unwrap();
        assert_eq!(scan.models["big-00001-of-00002.gguf"].size, Bytes::new(48));
    }

    #[test]
    fn a_model_whose_projector_is_broken_is_served_without() {
        let rig = Rig::new(&["llava/llava-q4.gguf"]);
        fs::write(rig.0.path().join("llava/mmproj-model-f16.gguf"), b"GGUF").unwrap();
        let (models, skipped) = rig.scan();
        assert_eq!(models, ["llava-q4"]);
        let why = "it ends in its head: it was not downloaded whole";
        assert_eq!(skipped, [format!("llava/mmproj-model-f16.gguf: {why}")]);
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
        assert!(skipped[1].starts_with("odd:1b: its manifest is not valid"), "{skipped:?}");
    }
}
