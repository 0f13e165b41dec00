//! The points of a sweep: policy, catalog and settings of each.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use toml::{Table, Value};

use crate::sim::rng::Stream;
use crate::study::sweep::axis::Axis;

/// One combination.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Point {
    /// Its name in reports: its policy, its catalog if there are several, and its settings.
    pub name: String,
    /// The policy: a name, a policy file, an `exec:` command.
    pub policy: String,
    /// The catalog, if one is named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub catalog: Option<PathBuf>,
    /// Its settings, by the keys of a policy file.
    pub settings: Vec<(String, Value)>,
}

/// What points are made from.
#[derive(Clone, Copy, Debug)]
pub struct Points<'a> {
    /// The policies, at least one.
    pub policies: &'a [String],
    /// The catalogs, possibly none.
    pub catalogs: &'a [PathBuf],
    /// The settings.
    pub axes: &'a [(String, Axis)],
}

/// Returns the settings of a table; keys of inner tables are joined with dots.
///
/// # Errors
/// The key whose values are not valid, and why.
pub fn axes(table: &Table) -> Result<Vec<(String, Axis)>, (String, String)> {
    let mut axes = Vec::new();
    for (key, value) in table {
        match value {
            Value::Table(inner) if !inner.contains_key("from") && !inner.contains_key("to") => {
                let below = self::axes(inner)?.into_iter();
                axes.extend(below.map(|(inner, axis)| (format!("{key}.{inner}"), axis)));
            }
            value => axes.push((key.clone(), Axis::new(value).map_err(|why| (key.clone(), why))?)),
        }
    }
    Ok(axes)
}

impl Points<'_> {
    /// Returns every combination, after one without settings.
    ///
    /// # Errors
    /// The key of a range that has no steps, or `points` if there are too many; and why.
    pub fn grid(&self) -> Result<Vec<Point>, (String, String)> {
        let mut combinations: Vec<Vec<(String, Value)>> = vec![Vec::new()];
        for (key, axis) in self.axes {
            let values = axis.values();
            let values = values.ok_or_else(|| {
                (
                    key.clone(),
                    format!(
                        "{key} is a continuous range, which has no finite number of combinations"
                    ),
                )
            })?;
            let pairs = combinations.iter().flat_map(|set| {
                values.iter().map(move |value| {
                    let mut set = set.clone();
                    set.push((key.clone(), value.clone()));
                    set
                })
            });
            combinations = pairs.take(MOST_POINTS + 1).collect();
        }
        let mut points = vec![self.first()];
        for catalog in self.each_catalog() {
            for policy in self.policies {
                points.extend(
                    combinations.iter().map(|set| self.point(policy, catalog, set.clone())),
                );
                if points.len() > MOST_POINTS {
                    return Err((
                        "points".to_owned(),
                        format!("there are more than {MOST_POINTS} combinations"),
                    ));
                }
            }
        }
        Ok(distinct(points))
    }

    /// Returns this many points drawn at random, after one without settings. There are fewer if the values allow no
    /// more.
    ///
    /// # Errors
    /// When there are too many.
    pub fn drawn(&self, count: usize, luck: &mut Stream) -> Result<Vec<Point>, (String, String)> {
        if count > MOST_POINTS {
            return Err(("points".to_owned(), format!("{count} are more than {MOST_POINTS}")));
        }
        let catalogs: Vec<Option<&Path>> = self.each_catalog().collect();
        let draw = |luck: &mut Stream| {
            let catalog = catalogs[luck.below(catalogs.len() as u64) as usize];
            let policy = &self.policies[luck.below(self.policies.len() as u64) as usize];
            let set = self.axes.iter().map(|(key, axis)| (key.clone(), axis.at(luck.unit())));
            self.point(policy, catalog, set.collect())
        };
        let mut points = vec![self.first()];
        let mut known: BTreeSet<String> = points.iter().map(|point| point.name.clone()).collect();
        for _ in 0..count.saturating_mul(DRAWS) {
            let point = draw(luck);
            if known.insert(point.name.clone()) {
                points.push(point);
            }
            if points.len() > count {
                break;
            }
        }
        // One catalog after the other, so that a recording is read once for each.
        points[1..].sort_by_key(|point| {
            self.catalogs.iter().position(|one| point.catalog.as_ref() == Some(one))
        });
        Ok(points)
    }

    /// Returns the point with which all others are compared.
    fn first(&self) -> Point {
        let catalog = self.each_catalog().next().flatten();
        self.point(&self.policies[0], catalog, Vec::new())
    }

    fn each_catalog(&self) -> impl Iterator<Item = Option<&Path>> {
        let none = self.catalogs.is_empty().then_some(None);
        none.into_iter().chain(self.catalogs.iter().map(|path| Some(path.as_path())))
    }

    fn point(&self, policy: &str, catalog: Option<&Path>, settings: Vec<(String, Value)>) -> Point {
        let mut name = policy.to_owned();
        for (key, value) in &settings {
            name.push(' ');
            name.push_str(&setting_text(key, value));
        }
        if let Some(catalog) = catalog.filter(|_| self.catalogs.len() > 1) {
            name.push_str(&format!(" with {}", catalog.display()));
        }
        Point { name, policy: policy.to_owned(), catalog: catalog.map(Path::to_owned), settings }
    }
}

/// Returns a setting as in a name, without a space: `price=1m30s`.
pub fn setting_text(key: &str, value: &Value) -> String {
    let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    format!("{key}={}", value.replace(' ', ""))
}

/// Removes duplicates.
fn distinct(points: Vec<Point>) -> Vec<Point> {
    let mut known = BTreeSet::new();
    points.into_iter().filter(|point| known.insert(point.name.clone())).collect()
}

/// Chosen: a hundred thousand points on ten recordings are a day's work for a hundred processors.
const MOST_POINTS: usize = 100_000;
/// The most draws for each point that is wanted. Chosen.
const DRAWS: usize = 20;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::rng::Seed;

    fn all_axes(text: &str) -> Vec<(String, Axis)> {
        axes(&text.parse().unwrap()).unwrap()
    }

    fn names(points: &[Point]) -> Vec<&str> {
        points.iter().map(|point| point.name.as_str()).collect()
    }

    #[test]
    fn a_grid_is_every_combination_after_one_that_sets_nothing() {
        let policies = ["proactive".to_owned(), "projecting".to_owned()];
        let axes = all_axes("price = ['15s', '1m 30s']\nmanager.load-attempts = [1, 2]");
        let points = Points { policies: &policies, catalogs: &[], axes: &axes }.grid().unwrap();
        let want = [
            "proactive",
            "proactive manager.load-attempts=1 price=15s",
            "proactive manager.load-attempts=1 price=1m30s",
            "proactive manager.load-attempts=2 price=15s",
            "proactive manager.load-attempts=2 price=1m30s",
            "projecting manager.load-attempts=1 price=15s",
        ];
        assert_eq!(names(&points)[..6], want);
        assert_eq!(points.len(), 9);
        // Without settings, a point is a policy.
        let points = Points { policies: &policies, catalogs: &[], axes: &[] }.grid().unwrap();
        assert_eq!(names(&points), ["proactive", "projecting"]);
    }

    #[test]
    fn what_is_drawn_is_distinct_and_the_same_for_a_seed() {
        let policies = ["proactive".to_owned()];
        let axes = all_axes("price = { from = '15s', to = '10m', scale = 'log' }");
        let catalogs = ["a.toml", "b.toml"].map(PathBuf::from);
        let points = Points { policies: &policies, catalogs: &catalogs, axes: &axes };
        let draw = |seed: u64| points.drawn(20, &mut Seed(seed).stream("test")).unwrap();
        assert_eq!(draw(1), draw(1));
        assert_ne!(draw(1), draw(2));
        let drawn = draw(1);
        assert_eq!(drawn.len(), 21);
        let catalogs = drawn.iter().map(|point| point.catalog.clone().unwrap());
        assert!(catalogs.clone().is_sorted(), "{:?}", catalogs.collect::<Vec<_>>());
        // Two values allow two points, however many are wanted.
        let axes = all_axes("price = ['15s', '60s']");
        let points = Points { policies: &policies, catalogs: &[], axes: &axes };
        assert_eq!(points.drawn(20, &mut Seed(1).stream("test")).unwrap().len(), 3);
    }

    #[test]
    fn a_grid_has_an_end() {
        let policies = ["proactive".to_owned()];
        let refused = |text: &str| {
            let axes = all_axes(text);
            Points { policies: &policies, catalogs: &[], axes: &axes }.grid().unwrap_err()
        };
        let (key, why) = refused("price = { from = '15s', to = '10m' }");
        assert_eq!((key.as_str(), why.contains("no finite number")), ("price", true));
        let thousand: Vec<String> = (0..1000).map(|value| value.to_string()).collect();
        let thousand = thousand.join(", ");
        let (key, _) = refused(&format!("a = [{thousand}]\nb = [{thousand}]"));
        assert_eq!(key, "points");
    }
}
