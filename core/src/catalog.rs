//! The models that may be run, and the ladder that they form.
//!
//! A catalog file is TOML with one `[[model]]` table per model; [`RawCatalog`] is that file, [`Catalog`] the checked
//! ladder. Rung 0 is always *none*: nothing loaded. Companions are beside it, on no rung: each is loaded when there is
//! room, whatever the ladder serves.

use std::cmp::Reverse;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::model::{Model, ModelError, ModelId, RawModel};
use crate::units::{Bytes, Percent};

/// A place on the ladder, counted from [`Rung::NONE`] upwards.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(transparent)]
pub struct Rung(pub u8);

/// Identifies a ladder of a run. There is one today; a log of several would name each.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(transparent)]
pub struct LadderId(pub u8);

impl LadderId {
    /// The first ladder, usually the only one. Logs leave it out.
    pub const FIRST: Self = Self(0);

    /// Returns whether it is the first.
    pub fn is_first(&self) -> bool {
        *self == Self::FIRST
    }
}

impl Rung {
    /// The lowest rung: nothing is loaded.
    pub const NONE: Self = Self(0);
}

/// A set of rungs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rungs(u64);

impl Rungs {
    /// No rung.
    pub const EMPTY: Self = Self(0);

    /// Returns whether the set is empty.
    pub fn is_empty(self) -> bool {
        self == Self::EMPTY
    }

    /// Returns whether a rung is in it.
    pub fn contains(self, rung: Rung) -> bool {
        self.0 & Self::of(rung) != 0
    }

    /// Returns the rungs in it that are above a rung.
    #[must_use]
    pub fn above(self, rung: Rung) -> Self {
        Self(self.0 & !(Self::of(rung) | (Self::of(rung) - 1)))
    }

    fn of(rung: Rung) -> u64 {
        1_u64.checked_shl(rung.0.into()).expect("a ladder has at most 32 rungs")
    }
}

impl FromIterator<Rung> for Rungs {
    fn from_iter<T: IntoIterator<Item = Rung>>(rungs: T) -> Self {
        Self(rungs.into_iter().fold(0, |set, rung| set | Self::of(rung)))
    }
}

impl std::ops::BitOr for Rungs {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// The checked ladder: rungs in ascending quality, one primary model per rung. Cheap to clone.
///
/// # Examples
/// ```
/// use tiershift_core::catalog::{Catalog, RawCatalog, Rung};
/// use tiershift_core::units::Bytes;
///
/// let file: RawCatalog = toml::from_str(
///     r#"
///     [[model]]
///     id = "tiny"
///     tier = "small"
///     quality = "40%"
///     ram = "1GiB"
///     load-warm = "1s"
///     load-cold = "3s"
///     prefill-tokens-per-second = 300.0
///     decode-tokens-per-second = 30.0
///     "#,
/// )?;
/// let catalog = Catalog::try_from(file)?;
/// assert_eq!(catalog.top(), Rung(1));
/// assert_eq!(catalog.tier_name(Rung(1)), "small");
/// assert_eq!(catalog.primary(Rung(1)).unwrap().footprint().ram, Bytes::from_gib(1));
/// assert_eq!(catalog.primary(Rung::NONE), None);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Catalog {
    /// The ladder's models in ascending order of (quality, id), at least one; then the companions in the order of the
    /// file.
    models: Arc<[Model]>,
    /// `rungs[r - 1]` is the index of rung `r`'s primary model.
    rungs: Arc<[usize]>,
}

impl Catalog {
    /// Returns the ladder for a machine whose memory is all that is known: models of 12.5, 31.25 and 56.25 % of it.
    ///
    /// # Source
    /// 2, 5 and 9 GiB on the 16 GiB host of the original specification. Speeds are [`Model::of_size`]'s.
    pub fn relative_to(memory: Bytes) -> Self {
        let rung = |tier, size_milli, quality| {
            let ram = memory.share(Percent::from_milli(size_milli));
            let model = Model::of_size(tier, tier, Percent::new(quality), ram);
            // A replay with this ladder has no other speeds.
            Model { speeds_guessed: false, ..model }
        };
        Self::new(vec![
            rung("small", 12_500, 50),
            rung("medium", 31_250, 75),
            rung("large", 56_250, 100),
        ])
        .expect("the built-in ladder keeps the rules of a catalog")
    }

    /// Returns the ladder for a machine whose models run on a GPU, and whose memory is all that is known: models of
    /// 12.5, 31.25 and 56.25 % of its video memory, each with `ram` of main memory beside it.
    ///
    /// # Source
    /// The shares are those of [`Catalog::relative_to`]. Fifteen times as fast as on the processor: desktop GPUs read
    /// their memory at 300 GB/s and more, two channels of DDR4 at 20.
    pub fn relative_to_vram(vram: Bytes, ram: Bytes) -> Self {
        let in_memory = Self::relative_to(vram);
        let models = in_memory.models.iter().map(|model| Model {
            ram,
            vram: model.ram,
            prefill_per_second: model.prefill_per_second * 15.0,
            decode_per_second: model.decode_per_second * 15.0,
            ..model.clone()
        });
        Self::new(models.collect()).expect("the built-in ladder keeps the rules of a catalog")
    }

    /// Checks models and builds their ladder.
    ///
    /// # Errors
    /// When there is no model on the ladder, a name occurs twice, the models of a tier are not neighbours in quality, a
    /// fallback is unknown or cyclic, or there are more than 32 tiers.
    pub fn new(models: Vec<Model>) -> Result<Self, CatalogError> {
        let (companions, mut models): (Vec<_>, Vec<_>) =
            models.into_iter().partition(|model| model.companion);
        if models.is_empty() {
            return Err(CatalogError::Empty);
        }
        models.sort_by(|a, b| (a.quality, &a.id).cmp(&(b.quality, &b.id)));
        let on_ladder = models.len();
        models.extend(companions);
        for (i, model) in models.iter().enumerate() {
            if models[..i].iter().any(|earlier| earlier.id == model.id) {
                return Err(CatalogError::Twice { model: model.id.clone() });
            }
        }
        let mut rungs: Vec<usize> = Vec::new();
        for (i, model) in models[..on_ladder].iter().enumerate() {
            match rungs.last() {
                Some(&last) if models[last].tier == model.tier => {}
                _ if rungs.iter().any(|&r| models[r].tier == model.tier) => {
                    return Err(CatalogError::Scattered { tier: model.tier.clone() });
                }
                _ => rungs.push(i),
            }
        }
        if rungs.len() > MAX_RUNGS {
            return Err(CatalogError::TooManyTiers { tiers: rungs.len() });
        }
        // Their first models, until fallbacks are known to be free of cycles.
        let catalog = Self { models: models.into(), rungs: rungs.into() };
        catalog.check_fallbacks()?;
        let rungs = catalog.rungs.iter().map(|&first| catalog.first_choice(first)).collect();
        Ok(Self { rungs, ..catalog })
    }

    /// Returns the primary model of the tier whose models begin at `first`: the best one that no other of the tier
    /// falls back to; among equals the first by id.
    fn first_choice(&self, first: usize) -> usize {
        let models = &self.ladder_models()[first..];
        let tier = &models[0].tier;
        let of_tier = || models.iter().take_while(|model| model.tier == *tier).enumerate();
        let is_named = |id| of_tier().any(|(_, model)| model.fallbacks.contains(id));
        let best = of_tier()
            .filter(|(_, model)| !is_named(&model.id))
            .max_by_key(|&(place, model)| (model.quality, Reverse(place)));
        first + best.expect("fallbacks form no circle, so that one is named by none").0
    }

    /// Returns the highest rung.
    pub fn top(&self) -> Rung {
        Rung(u8::try_from(self.rungs.len()).expect("a catalog has at most 32 rungs"))
    }

    /// Returns the primary model of a rung, which serves when the rung is chosen; `None` for rung 0 and above the top.
    ///
    /// It is the best of the tier's models, unless the catalog orders them: a model that lists another of its tier
    /// among its fallbacks comes before it.
    pub fn primary(&self, rung: Rung) -> Option<&Model> {
        self.primary_index(rung).map(|index| &self.models[index])
    }

    /// Returns the index of a rung's primary model in [`Catalog::models`].
    pub(crate) fn primary_index(&self, rung: Rung) -> Option<usize> {
        self.rungs.get(usize::from(rung.0).checked_sub(1)?).copied()
    }

    /// Returns the name of a rung's tier; `none` for rung 0.
    pub fn tier_name(&self, rung: Rung) -> &str {
        self.primary(rung).map_or("none", |model| &model.tier)
    }

    /// Returns the rung of the tier of this name.
    pub fn rung_of_tier(&self, tier: &str) -> Option<Rung> {
        self.rungs_up().find(|&rung| self.tier_name(rung) == tier)
    }

    /// Returns the rung that a model stands on; `None` for a companion.
    pub fn rung_of(&self, id: &ModelId) -> Option<Rung> {
        self.rung_of_tier(&self.model(id).filter(|model| !model.companion)?.tier)
    }

    /// Returns the model with this id.
    pub fn model(&self, id: &ModelId) -> Option<&Model> {
        self.models.iter().find(|model| model.id == *id)
    }

    /// Returns all models: the ladder's in ascending order of (quality, id), then the companions; not empty.
    pub fn models(&self) -> &[Model] {
        &self.models
    }

    /// Returns the models of the ladder in ascending order of (quality, id); not empty.
    pub fn ladder_models(&self) -> &[Model] {
        &self.models[..self.ladder_len()]
    }

    /// Returns the models beside the ladder, in the order of the file: of two, the first is given up last.
    pub fn companions(&self) -> &[Model] {
        &self.models[self.ladder_len()..]
    }

    fn ladder_len(&self) -> usize {
        self.models.partition_point(|model| !model.companion)
    }

    /// Returns the catalog without its companions.
    pub(crate) fn without_companions(&self) -> Self {
        Self { models: self.ladder_models().into(), rungs: self.rungs.clone() }
    }

    /// Returns a catalog in which one companion is the only rung of a ladder.
    pub(crate) fn of_companion(companion: &Model) -> Self {
        let alone = Model { companion: false, ..companion.clone() };
        Self { models: [alone].into(), rungs: [0].into() }
    }

    /// Returns the rungs that hold a model, ascending.
    pub fn rungs_up(&self) -> impl DoubleEndedIterator<Item = Rung> + use<> {
        (1..=self.top().0).map(Rung)
    }

    /// Returns the rungs for whose primary model `is` holds, given its index in [`Catalog::models`].
    pub(crate) fn rungs_where(&self, is: impl Fn(usize) -> bool) -> Rungs {
        let of_rung = |rung: &Rung| self.primary_index(*rung).is_some_and(&is);
        self.rungs_up().filter(of_rung).collect()
    }

    fn check_fallbacks(&self) -> Result<(), CatalogError> {
        for model in self.models.iter() {
            for fallback in &model.fallbacks {
                if self.rung_of(fallback).is_none() {
                    return Err(CatalogError::UnknownFallback {
                        model: model.id.clone(),
                        fallback: fallback.clone(),
                    });
                }
            }
            let mut reached = vec![&model.id];
            let mut next = 0;
            while next < reached.len() {
                let from = self.model(reached[next]).expect("fallbacks were looked up above");
                for fallback in &from.fallbacks {
                    if *fallback == model.id {
                        return Err(CatalogError::Cycle {
                            model: model.id.clone(),
                            through: from.id.clone(),
                        });
                    }
                    if !reached.contains(&fallback) {
                        reached.push(fallback);
                    }
                }
                next += 1;
            }
        }
        Ok(())
    }
}

/// A catalog file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct RawCatalog {
    /// The models, in any order.
    #[serde(rename = "model")]
    pub models: Vec<RawModel>,
}

impl TryFrom<RawCatalog> for Catalog {
    type Error = CatalogError;

    fn try_from(raw: RawCatalog) -> Result<Self, CatalogError> {
        Self::new(raw.models.into_iter().map(Model::try_from).collect::<Result<_, _>>()?)
    }
}

impl From<&Catalog> for RawCatalog {
    fn from(catalog: &Catalog) -> Self {
        Self { models: catalog.models.iter().map(RawModel::from).collect() }
    }
}

/// Why a catalog was refused.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[expect(missing_docs, reason = "each variant's message says what it is")]
pub enum CatalogError {
    #[error(
        "the catalog has no model on its ladder: give at least one [[model]] that is not a companion"
    )]
    Empty,
    #[error("model \"{model}\" is listed twice: rename or remove one")]
    Twice { model: ModelId },
    #[error(
        "the models of tier \"{tier}\" are not neighbours in quality: a tier is one rung of the ladder"
    )]
    Scattered { tier: String },
    #[error("{tiers} tiers are more than the {MAX_RUNGS} that a ladder may have")]
    TooManyTiers { tiers: usize },
    #[error("model \"{model}\" falls back to \"{fallback}\", which is not on the ladder")]
    UnknownFallback { model: ModelId, fallback: ModelId },
    #[error("the fallbacks of \"{model}\" lead back to it through \"{through}\": break the circle")]
    Cycle { model: ModelId, through: ModelId },
    #[error(transparent)]
    Model(#[from] ModelError),
}

/// The most rungs of a ladder: more than in any catalog that we have seen, few enough for fixed arrays.
pub const MAX_RUNGS: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    fn model(id: &str, tier: &str, quality: u32, fallbacks: &[&str]) -> Model {
        let template = Catalog::relative_to(Bytes::from_gib(16));
        Model {
            id: id.into(),
            tier: tier.to_owned(),
            quality: Percent::new(quality),
            fallbacks: fallbacks.iter().map(|&name| name.into()).collect(),
            ..template.models[0].clone()
        }
    }

    #[test]
    fn the_built_in_ladder_is_the_specifications_on_16_gib() {
        let catalog = Catalog::relative_to(Bytes::from_gib(16));
        let sizes: Vec<Bytes> =
            catalog.models().iter().map(|model| model.footprint().ram).collect();
        assert_eq!(sizes, [Bytes::from_gib(2), Bytes::from_gib(5), Bytes::from_gib(9)]);
        assert_eq!(catalog.top(), Rung(3));
        assert_eq!(catalog.tier_name(Rung::NONE), "none");
    }

    #[test]
    fn a_catalog_survives_its_file_form() {
        let catalog = Catalog::relative_to(Bytes::from_gib(16));
        let file = toml::to_string(&RawCatalog::from(&catalog)).unwrap();
        let raw: RawCatalog = toml::from_str(&file).unwrap();
        assert_eq!(Catalog::try_from(raw).unwrap(), catalog, "{file}");
    }

    #[test]
    fn the_best_of_a_tier_is_primary_unless_its_models_name_each_other_as_fallbacks() {
        #[track_caller]
        fn check(models: [(&str, u32, &[&str]); 3], want: &str) {
            let below = model("below", "small", 10, &[]);
            let above = model("above", "large", 100, &["a"]);
            let tier = models.map(|(id, quality, names)| model(id, "medium", quality, names));
            let catalog = Catalog::new([vec![below, above], tier.to_vec()].concat()).unwrap();
            assert_eq!(catalog.primary(Rung(2)).unwrap().id.as_str(), want, "{models:?}");
            assert_eq!(catalog.primary(Rung(1)).unwrap().id.as_str(), "below");
            assert_eq!(catalog.primary(Rung(3)).unwrap().id.as_str(), "above");
        }
        check([("a", 60, &[]), ("b", 70, &[]), ("c", 65, &[])], "b");
        check([("a", 70, &[]), ("b", 70, &[]), ("c", 65, &[])], "a");
        check([("a", 60, &["b"]), ("b", 70, &[]), ("c", 55, &[])], "a");
        check([("a", 60, &["b"]), ("b", 70, &[]), ("c", 65, &[])], "c");
        check([("a", 60, &["b"]), ("b", 70, &["c"]), ("c", 65, &["below"])], "a");
    }

    #[test]
    fn bad_catalogs_are_refused_by_name() {
        let refused = |models| Catalog::new(models).unwrap_err().to_string();
        insta::assert_snapshot!(
            [
                refused(vec![]),
                refused(vec![model("a", "s", 10, &[]), model("a", "m", 20, &[])]),
                refused(vec![
                    model("a", "s", 10, &[]),
                    model("b", "m", 20, &[]),
                    model("c", "s", 30, &[])
                ]),
                refused(vec![model("a", "s", 10, &["z"])]),
                refused(vec![
                    model("a", "s", 10, &["b"]),
                    model("b", "m", 20, &["c"]),
                    model("c", "l", 30, &["a"])
                ]),
            ]
            .join("\n")
        );
    }
}
