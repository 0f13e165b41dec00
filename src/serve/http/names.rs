//! The names that clients use for models: tiers, ids, aliases, and unknown names.
//!
//! Case does not matter, nor does a final `.gguf`, nor a provider's name in front, as routers write it.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tiershift_core::catalog::Catalog;
use tiershift_core::model::ModelId;
use tiershift_core::request::Target;

/// How to answer a request for a model that does not exist here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum UnknownModel {
    /// The model that serves answers it, with a header that says so. Many tools have a fixed name.
    #[default]
    Auto,
    /// It is refused.
    Refuse,
}

/// The names by which models are requested.
#[derive(Clone, Debug)]
pub(in crate::serve) struct Names {
    /// In lower case.
    known: BTreeMap<String, Target>,
    aliases: Vec<String>,
    unknown: UnknownModel,
}

/// The meaning of a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Named {
    pub(super) target: Target,
    /// Whether the name is unknown here.
    pub(super) is_unknown: bool,
}

impl Names {
    /// Builds the names of a catalog's tiers and models, and their aliases. A tier takes precedence over a model of the
    /// same name, which is requested with `.gguf`.
    ///
    /// # Errors
    /// The alias that names nothing.
    pub(in crate::serve) fn new(
        catalog: &Catalog,
        aliases: &BTreeMap<String, String>,
        unknown: UnknownModel,
    ) -> Result<Self, String> {
        let mut known = BTreeMap::new();
        for model in catalog.models() {
            let target = Target::Model(model.id.clone());
            let id = model.id.as_str().to_lowercase();
            known.insert(format!("{}.gguf", without_ending(&id)), target.clone());
            known.entry(id).or_insert(target);
        }
        for rung in catalog.rungs_up() {
            let tier = catalog.tier_name(rung);
            known.insert(tier.to_lowercase(), Target::Tier(tier.to_owned()));
        }
        known.insert(AUTO.to_owned(), Target::Auto);
        let mut names = Self { known, aliases: Vec::new(), unknown };
        for (alias, of) in aliases {
            let target = names.find(of).cloned().ok_or_else(|| alias.clone())?;
            names.known.insert(alias.to_lowercase(), target);
            names.aliases.push(alias.clone());
        }
        Ok(names)
    }

    /// Returns what a name requests; `None` if it is refused.
    pub(super) fn resolve(&self, name: Option<&str>) -> Option<Named> {
        let name = name.unwrap_or_default().trim();
        let known = if name.is_empty() { Some(&Target::Auto) } else { self.find(name) };
        match (known, self.unknown) {
            (Some(target), _) => Some(Named { target: target.clone(), is_unknown: false }),
            (None, UnknownModel::Auto) => Some(Named { target: Target::Auto, is_unknown: true }),
            (None, UnknownModel::Refuse) => None,
        }
    }

    /// Returns the aliases, in order.
    pub(super) fn aliases(&self) -> impl Iterator<Item = (&str, &Target)> {
        self.aliases.iter().map(|alias| (alias.as_str(), &self.known[&alias.to_lowercase()]))
    }

    fn find(&self, name: &str) -> Option<&Target> {
        let name = name.to_lowercase();
        let as_it_is = |name: &str| {
            let found = self.known.get(name);
            found.or_else(|| self.known.get(without_ending(name)))
        };
        as_it_is(&name).or_else(|| as_it_is(name.split_once('/')?.1))
    }
}

/// Returns the name by which a model is requested: its id, unless a tier has the same name.
pub(super) fn name_of(catalog: &Catalog, model: &ModelId) -> String {
    let id = model.as_str();
    let is_tiers = catalog.rungs_up().any(|rung| catalog.tier_name(rung).eq_ignore_ascii_case(id));
    if is_tiers { format!("{id}.gguf") } else { id.to_owned() }
}

fn without_ending(name: &str) -> &str {
    name.strip_suffix(".gguf").unwrap_or(name)
}

/// The name of whatever model serves.
pub(super) const AUTO: &str = "auto";

#[cfg(test)]
mod tests {
    use tiershift_core::model::Model;
    use tiershift_core::units::{Bytes, Percent};

    use super::*;

    fn names(aliases: &[(&str, &str)], unknown: UnknownModel) -> Result<Names, String> {
        // The file named small belongs to the tier named medium.
        let models = [("tiny", "small", 50), ("small", "medium", 75), ("Org/Big", "large", 100)];
        let models = models.map(|(id, tier, quality)| {
            Model::of_size(
                id,
                tier,
                Percent::new(quality),
                Bytes::from_gib(u64::from(quality as u8)),
            )
        });
        let catalog = Catalog::new(models.to_vec()).unwrap();
        let aliases = aliases.iter().map(|&(alias, of)| (alias.to_owned(), of.to_owned()));
        assert_eq!(name_of(&catalog, &"small".into()), "small.gguf");
        assert_eq!(name_of(&catalog, &"tiny".into()), "tiny");
        Names::new(&catalog, &aliases.collect(), unknown)
    }

    #[test]
    fn a_name_is_a_tier_a_model_an_alias_or_whatever_serves() {
        let names = names(&[("gpt-4o", "TINY"), ("Best", "auto")], UnknownModel::Auto).unwrap();
        let model = |id: &str| Target::Model(id.into());
        for (name, want) in [
            ("auto", Target::Auto),
            ("", Target::Auto),
            ("small", Target::Tier("small".to_owned())),
            ("Large", Target::Tier("large".to_owned())),
            ("tiny", model("tiny")),
            ("TINY.GGUF", model("tiny")),
            ("openai/tiny", model("tiny")),
            ("small.gguf", model("small")),
            ("org/big", model("Org/Big")),
            ("gpt-4o", model("tiny")),
            ("BEST", Target::Auto),
        ] {
            let named = names.resolve(Some(name)).unwrap();
            assert_eq!(named, Named { target: want, is_unknown: false }, "{name}");
        }
        let unknown = names.resolve(Some("gpt-5")).unwrap();
        assert_eq!(unknown, Named { target: Target::Auto, is_unknown: true });
        assert_eq!(names.aliases().map(|(alias, _)| alias).collect::<Vec<_>>(), ["Best", "gpt-4o"]);
    }

    #[test]
    fn where_it_is_set_an_unknown_name_is_refused() {
        let strict = names(&[], UnknownModel::Refuse).unwrap();
        assert_eq!(strict.resolve(Some("gpt-5")), None);
        assert!(strict.resolve(None).is_some());
        assert_eq!(names(&[("a", "nothing")], UnknownModel::Auto).unwrap_err(), "a");
    }
}
