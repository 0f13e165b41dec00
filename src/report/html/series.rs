//! Series of numbers in a page: small integers that compress well.

use serde::Serialize;

/// A series as the difference of each value from the one before it, the first from zero; `null` if there is no value.
#[derive(Debug, Default, PartialEq, Serialize)]
#[serde(transparent)]
pub(super) struct Deltas(Vec<Option<i64>>);

impl Deltas {
    pub(super) fn of(values: impl IntoIterator<Item = Option<u64>>) -> Self {
        let mut before = 0;
        let delta = |value: Option<u64>| {
            let value = i64::try_from(value?).unwrap_or(i64::MAX);
            Some(value - std::mem::replace(&mut before, value))
        };
        Self(values.into_iter().map(delta).collect())
    }

    /// Returns nothing for a series without values, which is not drawn.
    pub(super) fn unless_empty(values: impl IntoIterator<Item = Option<u64>>) -> Option<Self> {
        let deltas = Self::of(values);
        deltas.0.iter().any(Option::is_some).then_some(deltas)
    }
}

/// A series that seldom changes: each value with its number of repetitions.
#[derive(Debug, Default, PartialEq, Serialize)]
#[serde(transparent)]
pub(super) struct Runs<T>(Vec<(T, u64)>);

impl<T: PartialEq> Runs<T> {
    pub(super) fn of(values: impl IntoIterator<Item = T>) -> Self {
        let mut runs: Vec<(T, u64)> = Vec::new();
        for value in values {
            match runs.last_mut() {
                Some((last, count)) if *last == value => *count += 1,
                _ => runs.push((value, 1)),
            }
        }
        Self(runs)
    }

    /// Returns whether a condition holds for any value.
    pub(super) fn any(&self, is: impl Fn(&T) -> bool) -> bool {
        self.0.iter().any(|(value, _)| is(value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_series_is_its_differences_and_its_runs() {
        let values = [Some(5), Some(7), None, Some(6), Some(6)];
        let json = |series: serde_json::Result<String>| series.unwrap();
        assert_eq!(json(serde_json::to_string(&Deltas::of(values))), "[5,2,null,-1,0]");
        assert_eq!(json(serde_json::to_string(&Runs::of(values))), "[[5,1],[7,1],[null,1],[6,2]]");
        assert_eq!(Deltas::unless_empty([None, None]), None);
    }
}
