//! One setting of a sweep: its possible values.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use tiershift_core::time::SpanText;
use tiershift_core::units::{Bytes, Percent};
use toml::Value;

/// The values of a setting, as in a plan.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Range {
    /// The first value: a span (`15s`), a share (`80%`), a size (`2GiB`) or a number.
    #[schemars(with = "serde_json::Value")]
    pub from: Value,
    /// The last value, in the same unit.
    #[schemars(with = "serde_json::Value")]
    pub to: Value,
    /// How values are spaced between `from` and `to`. Default `linear`; `log` has as many between 1 and 10 as between
    /// 10 and 100, which suits spans, and needs a first value above zero.
    #[serde(default)]
    pub scale: Scale,
    /// The number of values, including both ends. Without it, any value in between is possible, and points must be
    /// drawn at random (`points`).
    #[serde(default)]
    pub steps: Option<u32>,
}

/// How values lie between the ends of a range.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, schemars::JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum Scale {
    /// At equal distances.
    #[default]
    Linear,
    /// At equal ratios.
    Log,
}

/// The values of a setting, checked.
#[derive(Clone, Debug, PartialEq)]
pub enum Axis {
    /// One of these.
    Listed(Vec<Value>),
    /// Anything between two values with the same unit.
    Between(Between),
}

/// See [`Axis::Between`].
#[derive(Clone, Debug, PartialEq)]
pub struct Between {
    /// Both ends, as they are written.
    ends: [Value; 2],
    unit: Unit,
    from: f64,
    to: f64,
    scale: Scale,
}

/// The unit of numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Unit {
    Seconds,
    Percent,
    Bytes,
    Whole,
    Plain,
}

impl Axis {
    /// Checks a list, or a range.
    ///
    /// # Errors
    /// What is not valid, as a sentence.
    pub fn new(value: &Value) -> Result<Self, String> {
        match value {
            Value::Array(values) if values.is_empty() => Err("the list has no value".to_owned()),
            Value::Array(values) => Ok(Self::Listed(values.clone())),
            Value::Table(table) => {
                let range = table.clone().try_into::<Range>();
                Between::axis(&range.map_err(|error| error.message().to_owned())?)
            }
            other => Err(format!("it is {other}: give a list of values, or a range {RANGE}")),
        }
    }

    /// Returns the values of a grid; `None` for a range without steps.
    pub fn values(&self) -> Option<&[Value]> {
        match self {
            Self::Listed(values) => Some(values),
            Self::Between(_) => None,
        }
    }

    /// Returns values that would show a mistake: all of a list, the ends and the middle of a range.
    pub fn samples(&self) -> Vec<Value> {
        match self {
            Self::Listed(values) => values.clone(),
            Self::Between(between) => [0.0, 0.5, 1.0].map(|place| between.at(place)).to_vec(),
        }
    }

    /// Returns the value at a position in `[0, 1)`.
    pub fn at(&self, place: f64) -> Value {
        match self {
            Self::Listed(values) => {
                let index = (place * values.len() as f64) as usize;
                values[index.min(values.len() - 1)].clone()
            }
            Self::Between(between) => between.at(place),
        }
    }
}

impl Between {
    fn axis(range: &Range) -> Result<Axis, String> {
        let [(unit, from), (other, to)] = [quantity(&range.from)?, quantity(&range.to)?];
        let unit = match (unit, other) {
            (Unit::Whole, Unit::Plain) | (Unit::Plain, Unit::Whole) => Unit::Plain,
            (unit, other) if unit == other => unit,
            _ => return Err(format!("{} and {} have two units", range.from, range.to)),
        };
        if from > to {
            return Err(format!("{} is above {}: swap them", range.from, range.to));
        }
        if range.scale == Scale::Log && from <= 0.0 {
            return Err("a logarithmic scale begins above zero".to_owned());
        }
        let ends = [range.from.clone(), range.to.clone()];
        let between = Self { ends, unit, from, to, scale: range.scale };
        match range.steps {
            None => Ok(Axis::Between(between)),
            Some(0) => Err("steps = 0 leaves no value: give 2 or more".to_owned()),
            Some(1) if from < to => Err("steps = 1 covers one end only: give 2 or more".to_owned()),
            Some(steps) => {
                let place = |step: u32| f64::from(step) / f64::from((steps - 1).max(1));
                let mut values: Vec<Value> =
                    (0..steps).map(|step| between.at(place(step))).collect();
                // After rounding, two values may be equal.
                values.dedup();
                Ok(Axis::Listed(values))
            }
        }
    }

    /// Returns the value at a position in `[0, 1]`, rounded as a person would write it.
    fn at(&self, place: f64) -> Value {
        let Self { from, to, .. } = *self;
        if place <= 0.0 || place >= 1.0 {
            return self.ends[usize::from(place > 0.0)].clone();
        }
        let value = match self.scale {
            Scale::Linear => from + (to - from) * place,
            Scale::Log => from * libm::pow(to / from, place),
        };
        // After rounding, it may lie outside.
        let rounded = two_digits(value).clamp(from, to);
        match self.unit {
            Unit::Seconds => {
                let milliseconds = (rounded * 1e3).round();
                SpanText(Duration::from_millis(milliseconds as u64)).to_string().into()
            }
            Unit::Percent => Percent::new(value.round() as u32).to_string().into(),
            Unit::Bytes => Bytes::from_mib((value / MIB).round() as u64).to_string().into(),
            Unit::Whole => Value::Integer(value.round() as i64),
            Unit::Plain => Value::Float(rounded),
        }
    }
}

/// Rounds to two significant digits: more would suggest that it was measured.
fn two_digits(value: f64) -> f64 {
    if value == 0.0 {
        return 0.0;
    }
    let unit = libm::pow(10.0, libm::floor(libm::log10(value.abs())) - 1.0);
    (value / unit).round() * unit
}

fn quantity(value: &Value) -> Result<(Unit, f64), String> {
    match value {
        Value::Integer(number) => Ok((Unit::Whole, *number as f64)),
        Value::Float(number) => Ok((Unit::Plain, *number)),
        Value::String(text) => {
            if let Ok(span) = text.parse::<SpanText>() {
                return Ok((Unit::Seconds, span.0.as_secs_f64()));
            }
            if let Ok(percent) = text.parse::<Percent>() {
                return Ok((Unit::Percent, percent.as_f64()));
            }
            if let Ok(bytes) = text.parse::<Bytes>() {
                return Ok((Unit::Bytes, bytes.get() as f64));
            }
            Err(format!(
                "`{text}` is not a span, share, size or number: values without an order must be listed"
            ))
        }
        other => Err(format!("{other} has no order: list values, {LIST}")),
    }
}

const MIB: f64 = 1_048_576.0;
const LIST: &str = "such as [\"auto\", \"5m\"]";
const RANGE: &str = "such as { from = \"15s\", to = \"5m\", scale = \"log\" }";

#[cfg(test)]
mod tests {
    use super::*;

    fn axis(text: &str) -> Result<Axis, String> {
        Axis::new(&crate::files::policy::value(text))
    }

    fn values(text: &str) -> Vec<String> {
        let axis = axis(text).unwrap();
        axis.values().unwrap().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_range_has_both_of_its_ends_and_steps_between_them() {
        let spans = "{ from = \"15s\", to = \"1h\", scale = \"log\", steps = 4 }";
        assert_eq!(values(spans), ["\"15s\"", "\"1m 33s\"", "\"9m 40s\"", "\"1h\""]);
        assert_eq!(
            values("{ from = \"70%\", to = \"75%\", steps = 3 }"),
            ["\"70%\"", "\"73%\"", "\"75%\""]
        );
        assert_eq!(
            values("{ from = \"1GiB\", to = \"2GiB\", steps = 2 }"),
            ["\"1GiB\"", "\"2GiB\""]
        );
        // Rounded to whole numbers, five steps are three.
        assert_eq!(values("{ from = 1, to = 3, steps = 5 }"), ["1", "2", "3"]);
        assert_eq!(values("[\"auto\", \"5m\"]"), ["\"auto\"", "\"5m\""]);
    }

    #[test]
    fn every_place_has_a_value_between_the_ends() {
        let axis = axis("{ from = \"149s\", to = \"1493s\", scale = \"log\" }").unwrap();
        assert_eq!(axis.values(), None);
        for step in 0..1000 {
            let value = axis.at(f64::from(step) / 1000.0);
            let span: SpanText = value.as_str().unwrap().parse().unwrap();
            assert!((149..=1493).contains(&span.0.as_secs()), "{value}");
        }
        let listed = axis_of_three();
        let drawn: Vec<Value> = (0..6).map(|step| listed.at(f64::from(step) / 6.0)).collect();
        assert_eq!(drawn, [1, 1, 2, 2, 3, 3].map(Value::Integer));
    }

    fn axis_of_three() -> Axis {
        axis("[1, 2, 3]").unwrap()
    }

    #[test]
    fn what_cannot_be_meant_is_refused() {
        let refused = |text: &str| axis(text).unwrap_err();
        assert!(refused("{ from = \"15s\", to = \"80%\" }").ends_with("have two units"));
        assert!(refused("{ from = 3, to = 1 }").ends_with("swap them"));
        assert!(refused("{ from = 0, to = 1, scale = \"log\" }").contains("above zero"));
        assert!(refused("{ from = \"soon\", to = \"later\" }").contains("`soon` is not a span"));
        assert!(refused("{ from = 1, too = 1 }").contains("too"));
        assert!(refused("[]").contains("no value"));
        assert!(refused("\"5m\"").contains("give a list of values, or a range"));
    }
}
