//! Sweeps: many settings on many recordings, in shards that can run on any machine.
//!
//! ```text
//! PLAN.toml --> Plan (points x recordings x seeds, cut into shards) --> Shard, one by one --> Compared
//! ```
//!
//! A plan has a hash of everything that the runs are made from. The result of a shard depends on nothing else, so that
//! it may be computed anywhere, twice, and in any order.

mod axis;
mod points;
mod shard;

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use tiershift_core::policy::Registry;
use tiershift_core::settings::RawSettings;
use toml::Table;

pub use crate::study::sweep::axis::{Axis, Range, Scale};
pub use crate::study::sweep::points::{Point, Points, axes, setting_text};
pub use crate::study::sweep::shard::{MergeError, OnShard, Shard, ShardError, merge};

use crate::files::document::{Document, DocumentError};
use crate::files::policy::{Changes, file_of};
use crate::files::schema;
use crate::sim::rng::Seed;

/// A plan file: what is swept.
#[derive(Clone, Debug, PartialEq, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct RawPlan {
    /// Recordings and folders of them. Names of files are relative to the plan's folder.
    pub recordings: Vec<PathBuf>,
    /// The policies: names, policy files, `exec:` commands. Default: `proactive` alone.
    #[serde(default = "proactive")]
    pub policies: Vec<String>,
    /// Catalogs, each swept with all settings. Default: the catalog of the recording, or default models for it.
    #[serde(default)]
    pub catalogs: Vec<PathBuf>,
    /// Number of seeds for each point. Default 1.
    #[serde(default = "one")]
    pub seeds: u64,
    /// First seed. Default 1.
    #[serde(default = "one")]
    pub seed: u64,
    /// Number of points to draw at random. Default: every combination of the values.
    #[serde(default)]
    pub points: Option<usize>,
    /// Random seed of the draw of `points`. Default 1.
    #[serde(default = "one")]
    pub draw_seed: u64,
    /// Options of every replay, as for `tiershift replay`: `memory = "16GiB"`, `requests = "day.csv"`, `loop-requests =
    /// true`.
    #[schemars(with = "serde_json::Map<String, serde_json::Value>")]
    #[serde(default)]
    pub replay: Table,
    /// Settings from which every point starts, as in a policy file. Scores and the optimum use these: their price and
    /// their lines.
    #[schemars(with = "serde_json::Map<String, serde_json::Value>")]
    #[serde(default)]
    pub base: Changes,
    /// The settings that are swept, by their keys in a policy file: a list of values, or a range.
    #[schemars(with = "std::collections::BTreeMap<String, Values>")]
    #[serde(default)]
    pub settings: Table,
}

/// The values of a setting.
#[derive(schemars::JsonSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "it only describes what the file may have")]
enum Values {
    /// These.
    Listed(Vec<serde_json::Value>),
    /// Those between two.
    Between(Range),
}

/// A complete plan: every run of it can be computed from this and the files that it names.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// The program that made it.
    pub made_by: String,
    /// The hash of everything else, as hexadecimal digits.
    pub hash: String,
    /// See [`RawPlan::replay`].
    pub replay: Table,
    /// See [`RawPlan::base`].
    pub base: Changes,
    /// The points. The first changes nothing.
    pub points: Vec<Point>,
    /// The seeds.
    pub seeds: Vec<u64>,
    /// The recordings.
    pub recordings: Vec<PlannedFile>,
    /// Other files that the runs are made from: catalogs, policies, requests.
    pub files: Vec<PlannedFile>,
    /// The shards: the first run of each, and the end.
    pub shards: Vec<[u64; 2]>,
}

/// A file that runs are made from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlannedFile {
    /// Its path, relative to the folder in which the plan was made.
    pub path: PathBuf,
    /// Whether it was found in a folder and not named; then it is skipped if it is not a recording.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_found: bool,
    /// Its size.
    pub bytes: u64,
    /// The hash of its content.
    pub blake3: String,
}

/// One run of a plan, by its indices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The recording.
    pub recording: usize,
    /// The point.
    pub point: usize,
    /// The seed.
    pub seed: usize,
}

impl RawPlan {
    /// Reads a plan's text, and returns it with its points. File names are relative to `folder`.
    ///
    /// # Errors
    /// When it is not a plan; with the position and a remedy.
    pub fn parse(
        text: &str,
        name: &str,
        folder: &Path,
        policies: &Registry,
    ) -> Result<(Self, Vec<Point>), DocumentError> {
        let document = Document::new(name, text);
        let mut plan: Self = document.read(&[])?;
        plan.check(&document, policies)?;
        let axes = axes(&plan.settings).map_err(|(key, why)| {
            document.refuse_in("settings", &key, &format!("{key}: {why}"), VALUES)
        })?;
        check_axes(&axes, &RawSettings::default(), policies).map_err(
            |Unset { key, why, remedy }| document.refuse_in("settings", &key, &why, &remedy),
        )?;
        for path in plan.recordings.iter_mut().chain(&mut plan.catalogs) {
            *path = folder.join(&*path);
        }
        for policy in &mut plan.policies {
            let file = file_of(policy).map(|file| folder.join(file).display().to_string());
            *policy = file.unwrap_or_else(|| std::mem::take(policy));
        }
        for key in FILES {
            if let Some(toml::Value::String(file)) = plan.replay.get_mut(key)
                && folder.join(&*file).exists()
            {
                *file = folder.join(&*file).display().to_string();
            }
        }
        let points = Points { policies: &plan.policies, catalogs: &plan.catalogs, axes: &axes };
        let points = match plan.points {
            Some(count) => points.drawn(count, &mut Seed(plan.draw_seed).stream("sweep.points")),
            None => points.grid(),
        };
        let points = points.map_err(|(key, why)| match key.as_str() {
            "points" => document.refuse_key(
                "points",
                &why,
                "give fewer values, or draw some at random (points = 200)",
            ),
            key => document.refuse_in(
                "settings",
                key,
                &why,
                "give its `steps`, or draw points at random (points = 200)",
            ),
        })?;
        Ok((plan, points))
    }

    fn check(&self, document: &Document<'_>, policies: &Registry) -> Result<(), DocumentError> {
        let refuse =
            |key: &str, title: &str, remedy: &str| Err(document.refuse_key(key, title, remedy));
        if self.recordings.is_empty() {
            return refuse(
                "recordings",
                "the plan names no recordings",
                "name recordings, or a folder of them",
            );
        }
        if self.policies.is_empty() {
            return refuse("policies", "there is no policy", "name one, or leave the key out");
        }
        if self.seeds == 0 {
            return refuse("seeds", "there is no seed", "give 1 at least");
        }
        if self.points == Some(0) {
            return refuse(
                "points",
                "there is no point",
                "give 1 at least, or leave it out for all combinations",
            );
        }
        if let Err(error) = self.base.apply(&mut RawSettings::default(), "[base]", policies) {
            let (why, remedy) = without_place(&error);
            return refuse("base", &format!("it cannot be set: {why}"), &remedy);
        }
        Ok(())
    }

    /// Returns the seeds.
    pub fn all_seeds(&self) -> Vec<u64> {
        (0..self.seeds).map(|more| self.seed.saturating_add(more)).collect()
    }
}

/// Returns the JSON Schema of a plan file.
pub fn schema() -> String {
    schema::text::<RawPlan>()
}

impl Plan {
    /// Completes a plan: cuts it into shards of about `shard_seconds`, by the sizes of the recordings, and gives it its
    /// hash.
    #[must_use]
    pub fn complete(mut self, shard_seconds: u64) -> Self {
        let most_runs = self.points.len() * self.seeds.len();
        let cost = |file: &PlannedFile| file.bytes.max(1);
        let all: u128 =
            self.recordings.iter().map(|file| u128::from(cost(file)) * most_runs as u128).sum();
        let each = u128::from(shard_seconds.max(1)) * BYTES_A_SECOND;
        let count = all.div_ceil(each).clamp(1, u128::from(self.runs()).max(1));
        self.shards = Vec::new();
        let (mut from, mut spent) = (0, 0_u128);
        for run in 0..self.runs() {
            spent += u128::from(cost(&self.recordings[self.place(run).recording]));
            // The shard ends when its share of the whole is reached.
            if spent * count >= all * (self.shards.len() as u128 + 1) {
                self.shards.push([from, run + 1]);
                from = run + 1;
            }
        }
        self.hash = self.digest();
        self
    }

    /// Returns whether the hash is that of the plan.
    pub fn is_whole(&self) -> bool {
        self.hash == self.digest()
    }

    /// Returns the hash of everything but the hash.
    fn digest(&self) -> String {
        let rest = Self { hash: String::new(), ..self.clone() };
        let text = serde_json::to_vec(&rest).expect("plain data with text keys is always JSON");
        blake3::hash(&text).to_hex()[..HASH_DIGITS].to_owned()
    }

    /// Returns the number of runs.
    pub fn runs(&self) -> u64 {
        (self.recordings.len() * self.points.len() * self.seeds.len()) as u64
    }

    /// Returns the run with a number: recording by recording, point by point, seed by seed.
    pub fn place(&self, run: u64) -> Place {
        let (run, seeds, points) = (run as usize, self.seeds.len(), self.points.len());
        Place { recording: run / seeds / points, point: run / seeds % points, seed: run % seeds }
    }
}

/// A value of a setting that cannot be set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unset {
    /// The setting.
    pub key: String,
    /// Why not, as a sentence.
    pub why: String,
    /// The remedy.
    pub remedy: String,
}

/// Tries settings on those of a policy file, with values that would show a mistake.
///
/// # Errors
/// The first that cannot be set.
pub fn check_axes(
    axes: &[(String, Axis)],
    base: &RawSettings,
    policies: &Registry,
) -> Result<(), Unset> {
    for (key, axis) in axes {
        for value in axis.samples() {
            let mut changes = Changes::default();
            let (why, remedy) = match changes.set(key, value.clone()) {
                false => ("it is not a key of a policy file".to_owned(), POLICY.to_owned()),
                true => match changes.apply(&mut base.clone(), key, policies) {
                    Ok(()) => continue,
                    Err(error) => without_place(&error),
                },
            };
            let why = format!("{key} = {value} cannot be set: {why}");
            return Err(Unset { key: key.clone(), why, remedy });
        }
    }
    Ok(())
}

/// Returns the message of an error about a setting, and its remedy: its position is in a text that the user did not
/// write.
fn without_place(error: &DocumentError) -> (String, String) {
    let text = error.to_string();
    let title = text.lines().next().unwrap_or_default();
    // A similar word is at the mark, all known ones below.
    let near = text.split_once("did you mean").map(|(_, near)| format!("did you mean{near}"));
    let near = near.and_then(|near| near.lines().next().map(str::to_owned));
    let help = || text.split_once("help: ").map(|(_, help)| help.trim().to_owned());
    let title = title.strip_prefix("error: ").unwrap_or(title).to_owned();
    (title, near.or_else(help).unwrap_or_else(|| POLICY.to_owned()))
}

fn proactive() -> Vec<String> {
    vec!["proactive".to_owned()]
}

fn one() -> u64 {
    1
}

const POLICY: &str = "see `tiershift schema policy`";
/// Options of a replay that name files.
pub const FILES: [&str; 4] = ["requests", "catalog", "format", "requests-format"];
/// Bytes of a recording that its runs process in a second on one processor. Measured: 61 points on twelve months of
/// GWA-T-12 (Bitbrains), 166 MB/s. A shard's time need only be approximate.
const BYTES_A_SECOND: u128 = 150_000_000;
/// Chosen: 128 bits.
const HASH_DIGITS: usize = 32;
const VALUES: &str =
    "give a list of values ([\"15s\", \"1m\"]), or a range ({ from = \"15s\", to = \"5m\" })";

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(bytes: &[u64], points: usize, shard_seconds: u64) -> Plan {
        let file = |(number, &bytes): (usize, &u64)| PlannedFile {
            path: PathBuf::from(format!("{number}.csv")),
            is_found: false,
            bytes,
            blake3: String::new(),
        };
        let point = |number: usize| Point {
            name: number.to_string(),
            policy: "proactive".to_owned(),
            catalog: None,
            settings: Vec::new(),
        };
        let plan = Plan {
            made_by: String::new(),
            hash: String::new(),
            replay: Table::new(),
            base: Changes::default(),
            points: (0..points).map(point).collect(),
            seeds: vec![1, 2],
            recordings: bytes.iter().enumerate().map(file).collect(),
            files: Vec::new(),
            shards: Vec::new(),
        };
        plan.complete(shard_seconds)
    }

    #[test]
    fn shards_are_all_runs_once_and_about_as_long_as_asked_for() {
        let month = BYTES_A_SECOND as u64;
        for (bytes, points, seconds) in
            [(vec![month; 3], 10, 6), (vec![1, month, month / 7], 33, 5), (vec![0], 1, 60)]
        {
            let plan = plan(&bytes, points, seconds);
            let starts = plan.shards.iter().map(|[from, _]| *from);
            let ends = plan.shards.iter().map(|[_, to]| *to);
            assert!(std::iter::once(0).chain(ends).eq(starts.chain([plan.runs()])));
            assert!(plan.shards.iter().all(|[from, to]| from < to), "{:?}", plan.shards);
            for [from, to] in &plan.shards {
                let of = |run| bytes[plan.place(run).recording] as f64;
                let took = (*from..*to).map(of).sum::<f64>() / BYTES_A_SECOND as f64;
                assert!(took <= seconds as f64 + 1.0, "{took} s, not {seconds} s");
            }
        }
        assert_eq!(plan(&[month; 3], 10, 6).shards.len(), 10);
        assert_eq!(plan(&[month; 3], 10, 1000).shards, [[0, 60]]);
    }

    #[test]
    fn a_plan_that_is_changed_is_another() {
        let one = plan(&[1, 2], 3, 60);
        assert!(one.is_whole());
        let other = Plan { seeds: vec![1, 3], ..one.clone() };
        assert!(!other.is_whole());
        assert_ne!(other.complete(60).hash, one.hash);
        let text = serde_json::to_string(&one).unwrap();
        assert_eq!(serde_json::from_str::<Plan>(&text).unwrap(), one);
    }

    #[track_caller]
    fn check_refusal(text: &str, want: &str) {
        let policies = Registry::built_in();
        let error = RawPlan::parse(text, "plan.toml", Path::new(""), &policies).unwrap_err();
        assert!(error.to_string().contains(want), "{error}");
    }

    #[test]
    fn what_cannot_be_swept_is_refused_with_its_place() {
        check_refusal("recordings = []", "the plan names no recordings");
        check_refusal("recordings = ['a']\nseeds = 0", "there is no seed");
        check_refusal("recordings = ['a']\npolicies = []", "there is no policy");
        check_refusal("recordings = ['a']\n[settings]\nprise = ['1s']", "did you mean `price`");
        check_refusal("recordings = ['a']\n[settings]\nprice = ['soon']", "soon");
        check_refusal("recordings = ['a']\n[settings]\nprice = '5m'", "give a list of values");
        check_refusal(
            "recordings = ['a']\n[settings]\nprice = { from = '1s', to = '2s' }",
            "draw points at random",
        );
        check_refusal("recordings = ['a']\n[base]\nprise = '1s'", "it cannot be set");
    }
}
