//! Down-sampling that preserves peaks: the smallest, the largest and the last value of each column of time.

use tiershift_core::time::{Timestamp, nanos};

/// A series of any length in at most [`MOST_CELLS`] cells of equal width. The width doubles when there are not enough
/// cells, so that a month costs as much as ten minutes.
#[derive(Clone, Debug)]
pub(in crate::report) struct Columns {
    /// Where the first cell begins. Of earlier values, the last one is kept as the value at this moment.
    origin: Timestamp,
    /// A cell is `2^shift` ns wide.
    shift: u32,
    /// Cell `i` contains what happened from `i << shift` after the origin on.
    cells: Vec<Cell>,
    /// A step's last value and its moment.
    standing: Option<(Timestamp, u64)>,
}

/// What happened in a column of time. Empty while `min > max`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::report) struct Cell {
    pub(in crate::report) min: u64,
    pub(in crate::report) max: u64,
    pub(in crate::report) last: u64,
    sum: u64,
    count: u64,
}

impl Cell {
    const EMPTY: Self = Self { min: u64::MAX, max: 0, last: 0, sum: 0, count: 0 };

    fn is_empty(&self) -> bool {
        self.min > self.max
    }

    /// Returns the mean of the values, each counted once, or over time for steps.
    pub(in crate::report) fn mean(&self) -> u64 {
        self.sum.checked_div(self.count).unwrap_or(self.last)
    }

    /// Returns the sum of the values.
    pub(in crate::report) fn sum(&self) -> u64 {
        self.sum
    }

    /// Returns the cell with its edge extended to the value before it, so that steps are connected.
    pub(in crate::report) fn connected(self, before: u64) -> Self {
        Self { min: self.min.min(before), max: self.max.max(before), ..self }
    }

    pub(in crate::report) fn hold(value: u64) -> Self {
        Self { min: value, max: value, last: value, sum: value, count: 1 }
    }

    /// Adds what happened after this cell.
    fn join(self, later: Self) -> Self {
        if later.is_empty() {
            return self;
        }
        Self {
            min: self.min.min(later.min),
            max: self.max.max(later.max),
            last: later.last,
            sum: self.sum.saturating_add(later.sum),
            count: self.count + later.count,
        }
    }
}

impl Columns {
    pub(in crate::report) fn new(origin: Timestamp) -> Self {
        Self { origin, shift: FINEST, cells: Vec::new(), standing: None }
    }

    /// Adds a value that holds until the next one: means are then over time, and not over values.
    pub(in crate::report) fn step(&mut self, at: Timestamp, value: u64) {
        if let Some((since, before)) = self.standing
            && at > self.origin
        {
            let (since, at) = (since.since(self.origin), at.since(self.origin));
            self.reach(nanos(at));
            let mut from = nanos(since);
            while from < nanos(at) {
                let next = cell_start((from >> self.shift) + 1, self.shift);
                let to = next.as_nanos().min(nanos(at));
                // In microseconds, a thousand requests fit for five centuries.
                let weight = (to - from) / 1000;
                let cell = Cell { sum: before * weight, count: weight, ..Cell::hold(before) };
                self.put((from >> self.shift) as usize, cell);
                from = to;
            }
        }
        self.standing = Some((at, value));
        self.enter(at, Cell { sum: 0, count: 0, ..Cell::hold(value) });
    }

    pub(in crate::report) fn add(&mut self, at: Timestamp, value: u64) {
        self.enter(at, Cell::hold(value));
    }

    fn enter(&mut self, at: Timestamp, cell: Cell) {
        if at < self.origin {
            self.cells.clear();
        }
        let behind = nanos(at.since(self.origin));
        self.reach(behind);
        self.put((behind >> self.shift) as usize, cell);
    }

    /// Makes the cells wide enough for this many nanoseconds.
    fn reach(&mut self, behind: u64) {
        while behind >> self.shift >= MOST_CELLS {
            self.halve();
        }
    }

    fn put(&mut self, place: usize, cell: Cell) {
        if self.cells.len() <= place {
            self.cells.resize(place + 1, Cell::EMPTY);
        }
        self.cells[place] = self.cells[place].join(cell);
    }

    pub(in crate::report) fn is_empty(&self) -> bool {
        self.cells.is_empty()
    }

    pub(in crate::report) fn max(&self) -> u64 {
        self.cells.iter().map(|cell| cell.max).max().unwrap_or(0)
    }

    /// Returns the sum of all values.
    pub(in crate::report) fn sum(&self) -> u64 {
        self.cells.iter().map(|cell| cell.sum).sum()
    }

    fn halve(&mut self) {
        self.shift += 1;
        let pairs = self.cells.chunks(2);
        self.cells = pairs.map(|pair| pair.iter().fold(Cell::EMPTY, |a, &b| a.join(b))).collect();
    }

    /// Returns the content of each of `scale.pixels` columns, with each value held until the next, but not through a
    /// gap.
    pub(in crate::report) fn held(
        &self,
        scale: Scale,
        gaps: &[(Timestamp, Timestamp)],
    ) -> Vec<Option<Cell>> {
        let mut out = self.points(scale);
        let mut value = None;
        let last = self.cells.len() as u64;
        let stop = scale.pixel(self.start_of(last));
        let gap =
            |x: usize| gaps.iter().any(|&(from, to)| scale.pixel(from) < x && x < scale.pixel(to));
        for (x, cell) in out.iter_mut().enumerate() {
            match cell {
                Some(cell) => {
                    if let Some(value) = value {
                        *cell = cell.connected(value);
                    }
                    value = Some(cell.last);
                }
                None if gap(x) => value = None,
                None if x <= stop || scale.holds_to_end => *cell = value.map(Cell::hold),
                None => {}
            }
        }
        out
    }

    fn start_of(&self, place: u64) -> Timestamp {
        self.origin + cell_start(place, self.shift).since(Timestamp::ZERO)
    }

    /// Returns what happened in each of `scale.pixels` columns, with nothing in between.
    pub(in crate::report) fn points(&self, scale: Scale) -> Vec<Option<Cell>> {
        let mut out: Vec<Option<Cell>> = vec![None; scale.pixels];
        for (place, cell) in (0u64..).zip(&self.cells) {
            if !cell.is_empty() {
                let x = scale.pixel(self.start_of(place));
                let joined = out[x].map_or(*cell, |earlier| earlier.join(*cell));
                out[x] = Some(joined);
            }
        }
        out
    }
}

/// How time becomes columns of pixels.
#[derive(Clone, Copy, Debug)]
pub(in crate::report) struct Scale {
    /// The first moment on the axis.
    pub(in crate::report) begin: Timestamp,
    /// The last moment on the axis.
    pub(in crate::report) end: Timestamp,
    /// Columns.
    pub(in crate::report) pixels: usize,
    /// Whether the last value holds to the end of the axis.
    pub(in crate::report) holds_to_end: bool,
}

impl Scale {
    /// Returns the column of a moment; earlier moments are in the first one, later ones in the last.
    pub(in crate::report) fn pixel(self, at: Timestamp) -> usize {
        let width = u128::from(nanos(self.end.since(self.begin)).max(1));
        let x = u128::from(nanos(at.since(self.begin))) * (self.pixels as u128 - 1) / width;
        (x as usize).min(self.pixels - 1)
    }
}

/// Latencies by column: the median to an eighth of an octave, the largest exactly.
#[derive(Clone, Debug)]
pub(in crate::report) struct SpanColumns {
    /// Where the first cell begins. Earlier latencies are left out.
    origin: Timestamp,
    shift: u32,
    cells: Vec<SpanCell>,
}

#[derive(Clone, Debug, Default)]
struct SpanCell {
    max: u64,
    /// Spans by size class; empty where there are none.
    classes: Vec<u32>,
}

impl SpanColumns {
    pub(in crate::report) fn new(origin: Timestamp) -> Self {
        Self { origin, shift: FINEST, cells: Vec::new() }
    }

    pub(in crate::report) fn add(&mut self, at: Timestamp, span: std::time::Duration) {
        if at < self.origin {
            return;
        }
        let behind = nanos(at.since(self.origin));
        while behind >> self.shift >= MOST_SPAN_CELLS {
            self.halve();
        }
        let place = (behind >> self.shift) as usize;
        if self.cells.len() <= place {
            self.cells.resize(place + 1, SpanCell::default());
        }
        let micros = nanos(span) / 1000;
        self.cells[place].add(class_of(micros), 1);
        self.cells[place].max = self.cells[place].max.max(micros);
    }

    pub(in crate::report) fn is_empty(&self) -> bool {
        self.cells.is_empty()
    }

    fn halve(&mut self) {
        self.shift += 1;
        let join = |pair: &[SpanCell]| {
            let mut joined = pair[0].clone();
            for later in &pair[1..] {
                joined.max = joined.max.max(later.max);
                for (class, &count) in later.classes.iter().enumerate() {
                    joined.add(class, count);
                }
            }
            joined
        };
        self.cells = self.cells.chunks(2).map(join).collect();
    }

    /// Returns (first column, last column, median, maximum) in microseconds of each cell that is not empty.
    pub(in crate::report) fn blocks(&self, scale: Scale) -> Vec<(usize, usize, u64, u64)> {
        let block = |(place, cell): (u64, &SpanCell)| {
            let median = cell.median()?;
            let edge = |place: u64| {
                scale.pixel(self.origin + cell_start(place, self.shift).since(Timestamp::ZERO))
            };
            // The middle of a class may be above its largest member.
            Some((edge(place), edge(place + 1), median.min(cell.max), cell.max))
        };
        (0u64..).zip(&self.cells).filter_map(block).collect()
    }
}

impl SpanCell {
    fn add(&mut self, class: usize, count: u32) {
        if self.classes.len() <= class {
            self.classes.resize(class + 1, 0);
        }
        self.classes[class] = self.classes[class].saturating_add(count);
    }

    fn median(&self) -> Option<u64> {
        let count: u64 = self.classes.iter().map(|&n| u64::from(n)).sum();
        let mut below = 0;
        let class = self.classes.iter().position(|&n| {
            below += u64::from(n);
            n > 0 && below * 2 >= count
        })?;
        Some(middle_of(class))
    }
}

/// Returns the moment after the origin at which a cell begins; the end of time for the one after the last.
fn cell_start(place: u64, shift: u32) -> Timestamp {
    let nanos = u128::from(place) << shift;
    Timestamp::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

/// Sizes below 8 are classes of their own; above, each octave has eight.
fn class_of(value: u64) -> usize {
    if value < 8 {
        return value as usize;
    }
    let octave = 63 - value.leading_zeros();
    (octave as usize - 2) * 8 + (value >> (octave - 3)) as usize % 8
}

fn middle_of(class: usize) -> u64 {
    if class < 8 {
        return class as u64;
    }
    let octave = class / 8 + 2;
    let step = 1u64 << (octave - 3);
    (8 + class as u64 % 8) * step + step / 2
}

/// Four cells per pixel of a plot 1,100 pixels wide, so that a peak stays within a pixel of its place.
const MOST_CELLS: u64 = 4096;
/// A median needs a few values; 512 columns are two pixels wide.
const MOST_SPAN_CELLS: u64 = 512;
/// About a millisecond: finer than any sampling.
const FINEST: u32 = 20;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_peak_survives_a_month() {
        let mut columns = Columns::new(Timestamp::ZERO);
        for sample in 0..1_296_000u64 {
            let value = if sample == 700_001 { 999 } else { 100 + sample % 7 };
            columns.add(Timestamp::from_secs(sample * 2), value);
        }
        assert!(columns.cells.len() <= MOST_CELLS as usize);
        let scale = Scale {
            begin: Timestamp::ZERO,
            end: Timestamp::from_secs(2_592_000),
            pixels: 1000,
            holds_to_end: true,
        };
        let held = columns.held(scale, &[]);
        let peak = held.iter().position(|cell| cell.unwrap().max == 999).unwrap();
        assert!(peak.abs_diff(scale.pixel(Timestamp::from_secs(1_400_002))) <= 1, "{peak}");
        assert!(held[..999].iter().all(|cell| cell.unwrap().min == 100), "and so does a trough");
    }

    #[test]
    fn the_mean_of_steps_is_over_time() {
        let mut columns = Columns::new(Timestamp::ZERO);
        for (secs, value) in [(0, 0), (10, 6), (11, 0), (40, 2), (99, 2)] {
            columns.step(Timestamp::from_secs(secs), value * 1000);
        }
        let scale = Scale {
            begin: Timestamp::ZERO,
            end: Timestamp::from_secs(99),
            pixels: 1,
            holds_to_end: true,
        };
        let cell = columns.points(scale)[0].unwrap();
        // (1 s x 6 + 59 s x 2) / 99 s
        assert_eq!((cell.mean(), cell.max), (1252, 6000));
    }

    #[test]
    fn a_value_holds_until_the_next_but_not_through_a_gap() {
        let mut columns = Columns::new(Timestamp::ZERO);
        for (secs, value) in [(0, 1), (5, 2), (9, 3)] {
            columns.add(Timestamp::from_secs(secs), value);
        }
        let scale = Scale {
            begin: Timestamp::ZERO,
            end: Timestamp::from_secs(10),
            pixels: 11,
            holds_to_end: false,
        };
        let gap = (Timestamp::from_secs(5), Timestamp::from_secs(9));
        let got: Vec<Option<u64>> =
            columns.held(scale, &[gap]).iter().map(|cell| cell.map(|cell| cell.last)).collect();
        let one = Some(1);
        // A moment is in the cell that begins before it, so that 5 s is visible from column 4 on.
        let two = Some(2);
        assert_eq!(got, [one, one, one, one, two, two, None, None, Some(3), Some(3), None]);
    }

    #[test]
    fn of_what_was_before_the_origin_the_last_value_stands() {
        let secs = Timestamp::from_secs;
        let mut columns = Columns::new(secs(100));
        for (at, value) in [(0, 9), (50, 7), (110, 3), (120, 4)] {
            columns.add(secs(at), value);
        }
        let scale = Scale { begin: secs(100), end: secs(120), pixels: 5, holds_to_end: true };
        let held: Vec<_> =
            columns.held(scale, &[]).iter().map(|cell| cell.map(|cell| cell.last)).collect();
        // As above, a moment is visible from the column in which its cell begins.
        assert_eq!(held, [Some(7), Some(3), Some(3), Some(4), Some(4)]);
        let mut steps = Columns::new(secs(100));
        for (at, value) in [(0, 2000), (90, 6000), (110, 0), (120, 0)] {
            steps.step(secs(at), value);
        }
        let whole = Scale { begin: secs(100), end: secs(120), pixels: 1, holds_to_end: true };
        assert_eq!(steps.points(whole)[0].unwrap().mean(), 3000, "6 for half of the time");
    }

    #[test]
    fn the_median_is_within_an_eighth_of_an_octave() {
        let mut spans = SpanColumns::new(Timestamp::ZERO);
        for millis in 1..=1001u64 {
            spans.add(Timestamp::from_secs(5), Duration::from_millis(millis));
        }
        spans.add(Timestamp::from_secs(2_592_000), Duration::from_millis(1));
        let scale = Scale {
            begin: Timestamp::ZERO,
            end: Timestamp::from_secs(2_592_000),
            pixels: 9,
            holds_to_end: true,
        };
        let blocks = spans.blocks(scale);
        assert_eq!(blocks.len(), 2);
        assert!(blocks[0].2.abs_diff(501_000) <= 501_000 / 8, "{blocks:?}");
        assert_eq!(blocks[0].3, 1_001_000);
        for value in [0, 7, 8, 9, 100, 12_345, u64::MAX] {
            let middle = middle_of(class_of(value));
            assert!(middle.abs_diff(value) <= value / 8, "{value} -> {middle}");
        }
    }
}
