//! The figures by which runs are compared: one table, for all that read it.

use std::collections::BTreeMap;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::Error as _;
use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::summary::Summary;

/// A figure of a run.
#[derive(Clone, Copy, Debug)]
pub struct Figure {
    /// Its name in JSON and CSV.
    pub key: &'static str,
    /// Its name in tables, in at most two lines.
    pub head: &'static str,
    /// Its name in sentences.
    pub name: &'static str,
    /// How it is shown.
    pub shown: Shown,
    /// Which direction is better; `None` if it is about the recording, not the policy.
    pub better: Option<Better>,
    of: fn(&Summary) -> Option<f64>,
}

/// How a figure is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shown {
    /// With this many decimals.
    Decimals(usize),
    /// As a whole number or, for a mean that is not one, with one decimal.
    Count,
}

/// Which direction of a figure is better.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Better {
    /// Higher.
    Higher,
    /// Lower.
    Lower,
}

impl Figure {
    /// Returns the figure of a run, to the millionth; `None` if the run has none.
    pub fn of(&self, summary: &Summary) -> Option<f64> {
        (self.of)(summary).map(millionths)
    }

    /// Returns the smallest value that is not shown as zero.
    pub fn visible(&self) -> f64 {
        let decimals = match self.shown {
            Shown::Decimals(decimals) => decimals,
            Shown::Count => 1,
        };
        (0..decimals).fold(0.5, |unit, _| unit / 10.0)
    }

    /// Returns a value rounded to the digits that are shown.
    pub fn rounded(&self, value: f64) -> f64 {
        self.text(value).parse().expect("a number that was written can be read")
    }

    /// Returns a value as it is shown.
    pub fn text(&self, value: f64) -> String {
        match self.shown {
            Shown::Decimals(decimals) => format!("{value:.decimals$}"),
            Shown::Count if value.fract() == 0.0 => format!("{value:.0}"),
            Shown::Count => format!("{value:.1}"),
        }
    }
}

/// The key of the score as a share of the best.
pub const SHARE_OF_OPTIMUM: &str = "share_of_optimum";
/// The key of the avoidable time over memory.
pub const OVER_MEMORY: &str = "seconds_over_memory_avoidable";

/// Every figure, in the order of the tables' columns.
pub const FIGURES: [Figure; 12] = [
    Figure {
        key: "hours",
        head: "hours",
        name: "hours",
        shown: Shown::Decimals(1),
        better: None,
        of: |run| Some(run.seconds / 3600.0),
    },
    Figure {
        key: "quality_served_fraction",
        head: "quality",
        name: "quality",
        shown: Shown::Decimals(3),
        better: Some(Better::Higher),
        of: |run| Some(run.quality_served_fraction),
    },
    Figure {
        key: "optimum_quality",
        head: "optimum",
        name: "the optimum's quality",
        shown: Shown::Decimals(3),
        better: None,
        of: |run| Some(run.comparison.as_ref()?.optimum.quality),
    },
    Figure {
        key: SHARE_OF_OPTIMUM,
        head: "share of\noptimum",
        name: "share of the optimum",
        shown: Shown::Decimals(4),
        better: Some(Better::Higher),
        of: |run| run.comparison.as_ref()?.share_of_optimum,
    },
    Figure {
        key: "share_of_optimum_without_reversals",
        head: "without\nreversals",
        name: "share of the optimum without reversals",
        shown: Shown::Decimals(4),
        better: Some(Better::Higher),
        of: |run| run.comparison.as_ref()?.share_of_optimum_without_reversals,
    },
    Figure {
        key: "switches",
        head: "switches",
        name: "switches",
        shown: Shown::Count,
        better: Some(Better::Lower),
        of: |run| Some(run.switches as f64),
    },
    Figure {
        key: "reversals",
        head: "reversals",
        name: "reversals",
        shown: Shown::Count,
        better: Some(Better::Lower),
        of: |run| Some(run.reversals as f64),
    },
    Figure {
        key: "wasted_loads",
        head: "wasted\nloads",
        name: "wasted loads",
        shown: Shown::Count,
        better: Some(Better::Lower),
        of: |run| Some(run.wasted_loads as f64),
    },
    Figure {
        key: OVER_MEMORY,
        head: "over\nmemory",
        name: "avoidable seconds over memory",
        shown: Shown::Decimals(0),
        better: Some(Better::Lower),
        // A run with less loaded may be over memory for less than the unavoidable time.
        of: |run| Some((run.seconds_over_memory - run.seconds_over_memory_unavoidable).max(0.0)),
    },
    Figure {
        key: "seconds_at_none_while_smallest_fitted",
        head: "at\nnone",
        name: "seconds without service while something fitted",
        shown: Shown::Decimals(0),
        better: Some(Better::Lower),
        of: |run| Some(run.comparison.as_ref()?.seconds_at_none_while_smallest_fitted),
    },
    Figure {
        key: "requests_refused",
        head: "refused",
        name: "requests refused",
        shown: Shown::Count,
        better: Some(Better::Lower),
        of: |run| (run.requests.arrived > 0).then_some(run.requests.rejected as f64),
    },
    Figure {
        key: "latency_p95_ms",
        head: "reply\ntime",
        name: "p95 latency [ms]",
        shown: Shown::Decimals(0),
        better: Some(Better::Lower),
        of: |run| run.latency_ms.map(|latency| latency.p95),
    },
];

/// A value for each figure; `None` where there is none.
#[derive(Clone, Debug, PartialEq)]
pub struct PerFigure<T>(pub [Option<T>; FIGURES.len()]);

/// The figures of a run, or their means over several.
pub type Figures = PerFigure<f64>;

impl<T> PerFigure<T> {
    /// Builds it by the index of each figure in [`FIGURES`].
    pub fn from_fn(of: impl FnMut(usize) -> Option<T>) -> Self {
        Self(std::array::from_fn(of))
    }

    /// Returns the existing values, each with its figure.
    pub fn iter(&self) -> impl Iterator<Item = (&'static Figure, &T)> {
        FIGURES.iter().zip(&self.0).filter_map(|(figure, value)| Some((figure, value.as_ref()?)))
    }
}

impl<T: Copy> PerFigure<T> {
    /// Returns the value of a figure, by its key.
    pub fn by_key(&self, key: &str) -> Option<T> {
        self.iter().find_map(|(figure, value)| (figure.key == key).then_some(*value))
    }
}

impl Figures {
    /// Takes the figures of a run.
    pub fn of(summary: &Summary) -> Self {
        Self::from_fn(|place| FIGURES[place].of(summary))
    }

    /// Returns the mean of each, over those that have it.
    pub fn mean<'a>(all: impl Iterator<Item = &'a Self>) -> Self {
        let all: Vec<&Self> = all.collect();
        Self::from_fn(|place| mean(all.iter().filter_map(|one| one.0[place])))
    }

    /// Leaves a figure out, by its key.
    #[must_use]
    pub fn without(mut self, key: &str) -> Self {
        for (figure, value) in FIGURES.iter().zip(&mut self.0) {
            if figure.key == key {
                *value = None;
            }
        }
        self
    }

    /// Returns the score as a share of the best.
    pub fn share_of_optimum(&self) -> Option<f64> {
        self.by_key(SHARE_OF_OPTIMUM)
    }
}

/// Written as a table from key to value, without missing ones.
impl<T: Serialize> Serialize for PerFigure<T> {
    fn serialize<S: Serializer>(&self, out: S) -> Result<S::Ok, S::Error> {
        let mut map = out.serialize_map(None)?;
        for (figure, value) in self.iter() {
            map.serialize_entry(figure.key, value)?;
        }
        map.end()
    }
}

impl<T: JsonSchema> JsonSchema for PerFigure<T> {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        format!("FiguresOf_{}", T::schema_name()).into()
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let properties: serde_json::Map<_, _> = FIGURES
            .iter()
            .map(|figure| {
                let mut schema = generator.subschema_for::<T>();
                schema.insert("description".to_owned(), figure.name.into());
                (figure.key.to_owned(), schema.into())
            })
            .collect();
        json_schema!({ "type": "object", "properties": properties, "additionalProperties": false })
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for PerFigure<T> {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        let mut by_key: BTreeMap<String, T> = BTreeMap::deserialize(input)?;
        let figures = Self::from_fn(|place| by_key.remove(FIGURES[place].key));
        match by_key.keys().next() {
            Some(key) => Err(D::Error::custom(format!("unknown figure `{key}`"))),
            None => Ok(figures),
        }
    }
}

/// Returns the mean, summed in order, to the millionth; `None` without values.
pub(super) fn mean(values: impl Iterator<Item = f64>) -> Option<f64> {
    let (sum, count) = values.fold((0.0, 0_u32), |(sum, count), value| (sum + value, count + 1));
    (count > 0).then(|| millionths(sum / f64::from(count)))
}

/// Rounds to the millionth: smaller differences are rounding, not measurement.
pub(super) fn millionths(value: f64) -> f64 {
    (value * 1e6).round() / 1e6
}
