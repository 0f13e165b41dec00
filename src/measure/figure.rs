//! Several measurements of one quantity, as one figure with its spread.

use std::fmt;
use std::time::Duration;

use serde::Serialize;
use tiershift_core::time::from_secs_f64;

/// Several measurements of one quantity.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Figure {
    /// Half are below, half above.
    pub median: f64,
    /// The smallest.
    pub least: f64,
    /// The largest.
    pub most: f64,
    /// The number of measurements.
    pub count: usize,
}

impl Figure {
    /// Returns the figure of these measurements; `None` if there are none.
    pub fn of(measurements: &[f64]) -> Option<Self> {
        let mut sorted = measurements.to_vec();
        sorted.sort_by(f64::total_cmp);
        let (&least, &most) = (sorted.first()?, sorted.last()?);
        let count = sorted.len();
        let median = f64::midpoint(sorted[(count - 1) / 2], sorted[count / 2]);
        Some(Self { median, least, most, count })
    }

    /// Returns the median of figures in seconds, rounded up to whole milliseconds.
    pub(super) fn span(self) -> Duration {
        let millis = (self.median * 1000.0).ceil();
        from_secs_f64(millis / 1000.0)
    }
}

impl fmt::Display for Figure {
    /// Prints `0.125 (0.120 to 0.131, 3 times)`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { median, least, most, count } = self;
        let places = if *most < 10.0 { 3 } else { 1 };
        write!(f, "{median:.places$} ({least:.places$} to {most:.places$}, {count} times)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_stands_in_the_middle() {
        assert_eq!(Figure::of(&[3.0, 1.0, 2.0]).unwrap().median, 2.0);
        assert_eq!(Figure::of(&[3.0, 1.0]).unwrap().median, 2.0);
        assert_eq!(Figure::of(&[]), None);
    }
}
