//! Percentiles of spans, in constant memory and with rounding that is the same everywhere.

use std::time::Duration;

use crate::summary::Percentiles;

/// Counts spans, in microseconds to four significant digits: `12.34 s` differs from `12.35 s`.
///
/// hdrhistogram would do the same in powers of two, and print 5 s as 5.001215 s.
#[derive(Clone, Debug, Default)]
pub(super) struct Spans {
    /// One table per decade, created at first use. Table 0 counts 0 to 9,999 µs one by one, table `d` the spans of
    /// `1000..10_000` times `10^d` µs, at its index.
    decades: Vec<Vec<u64>>,
    count: u64,
}

impl Spans {
    pub(super) fn add(&mut self, span: Duration) {
        let mut value = span.as_nanos() / 1000;
        let mut decade = 0;
        while value >= DIGITS as u128 {
            // Rounds to the nearest; the error of rounding twice is less than a digit.
            value = (value + 5) / 10;
            decade += 1;
        }
        if self.decades.len() <= decade {
            self.decades.resize(decade + 1, Vec::new());
        }
        let table = &mut self.decades[decade];
        if table.is_empty() {
            table.resize(DIGITS, 0);
        }
        table[value as usize] += 1;
        self.count += 1;
    }

    /// Returns the nearest-rank percentiles, `None` if nothing was counted.
    pub(super) fn percentiles(&self) -> Option<Percentiles> {
        (self.count > 0).then(|| Percentiles {
            p50: self.millis_at(50),
            p95: self.millis_at(95),
            p99: self.millis_at(99),
        })
    }

    /// Returns the smallest span that `percent` of all do not exceed.
    fn millis_at(&self, percent: u64) -> f64 {
        let rank = (u128::from(self.count) * u128::from(percent)).div_ceil(100).max(1);
        let mut below = 0;
        let mut unit = 1.0;
        for table in &self.decades {
            for (value, &count) in table.iter().enumerate() {
                below += u128::from(count);
                if below >= rank {
                    return value as f64 * unit / 1000.0;
                }
            }
            unit *= 10.0;
        }
        unreachable!("the counts add up to {}", self.count)
    }
}

/// Four significant digits.
const DIGITS: usize = 10_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(millis: impl Iterator<Item = u64>, want: [f64; 3]) {
        let mut spans = Spans::default();
        millis.for_each(|millis| spans.add(Duration::from_millis(millis)));
        let got = spans.percentiles().unwrap();
        assert_eq!([got.p50, got.p95, got.p99], want);
    }

    #[test]
    fn percentiles_are_of_the_nearest_rank() {
        check(1..=100, [50.0, 95.0, 99.0]);
        check([7].into_iter(), [7.0, 7.0, 7.0]);
        check([5000, 1, 3].into_iter(), [3.0, 5000.0, 5000.0]);
        check((1..=200).map(|n| n * 1000), [100_000.0, 190_000.0, 198_000.0]);
    }

    #[test]
    fn four_digits_are_kept_and_the_longest_span_fits() {
        let mut spans = Spans::default();
        spans.add(Duration::from_micros(1_234_567));
        spans.add(Duration::from_micros(1_234_567));
        spans.add(Duration::MAX);
        assert_eq!(spans.percentiles().unwrap().p50, 1235.0);
        assert!(spans.percentiles().unwrap().p99 > 1e21);
        assert_eq!(Spans::default().percentiles(), None);
    }
}
