//! The moments of the samples, in blocks: most recordings are nearly regular, and need four bytes a sample or none.

use std::ops::Range;

/// Nanoseconds since the run began, strictly rising.
#[derive(Clone, Debug, Default)]
pub(super) struct Times {
    blocks: Vec<Block>,
    /// Those after the last whole block.
    rest: Vec<u64>,
    /// What the blocks have put elsewhere, in bytes.
    boxed: usize,
}

/// The moments of [`BLOCK`] samples.
#[derive(Clone, Debug)]
enum Block {
    /// All equally far apart.
    Even { first: u64, step: u64 },
    /// Each at most some seconds later than if they were: how much later.
    Near { first: u64, step: u64, later: Box<[u32; BLOCK]> },
    /// As they are.
    Any(Box<[u64; BLOCK]>),
}

impl Times {
    /// Adds a moment after all others.
    #[inline]
    pub(super) fn push(&mut self, at: u64) {
        self.rest.push(at);
        if self.rest.len() == BLOCK {
            let block = Block::of(&self.rest);
            self.boxed += block.boxed();
            self.blocks.push(block);
            self.rest.clear();
        }
    }

    #[inline]
    pub(super) fn len(&self) -> usize {
        self.blocks.len() * BLOCK + self.rest.len()
    }

    /// Returns the moment of a sample that there is.
    #[inline]
    pub(super) fn at(&self, sample: usize) -> u64 {
        let (block, place) = (sample / BLOCK, sample % BLOCK);
        match self.blocks.get(block) {
            Some(block) => block.at(place),
            None => self.rest[sample - self.blocks.len() * BLOCK],
        }
    }

    #[inline]
    pub(super) fn last(&self) -> Option<u64> {
        match self.rest.last() {
            Some(&last) => Some(last),
            None => self.blocks.last().map(|block| block.at(BLOCK - 1)),
        }
    }

    /// Returns how many are at `moment` or before it.
    pub(super) fn count_up_to(&self, moment: u64) -> usize {
        first_in(0..self.len(), |sample| self.at(sample) > moment)
    }

    /// Returns the bytes that they take.
    pub(super) fn bytes(&self) -> usize {
        self.blocks.capacity() * size_of::<Block>() + self.boxed
    }
}

impl Block {
    fn of(times: &[u64]) -> Self {
        let (first, last) = (times[0], times[BLOCK - 1]);
        let step = (last - first) / (BLOCK as u64 - 1);
        // The regular time of each: none may be later than what was recorded.
        let regular = |place: usize| step * place as u64;
        let early = |(place, &at): (usize, &u64)| (first + regular(place)).saturating_sub(at);
        let earliest = times.iter().enumerate().map(early).max().unwrap_or(0);
        let Some(first) = first.checked_sub(earliest) else { return Self::any(times) };
        let mut later = Box::new([0; BLOCK]);
        for (place, at) in times.iter().enumerate() {
            match u32::try_from(at - first - regular(place)) {
                Ok(by) => later[place] = by,
                Err(_) => return Self::any(times),
            }
        }
        if later.iter().all(|&by| by == 0) {
            Self::Even { first, step }
        } else {
            Self::Near { first, step, later }
        }
    }

    fn any(times: &[u64]) -> Self {
        let mut all = Box::new([0; BLOCK]);
        all.copy_from_slice(times);
        Self::Any(all)
    }

    fn boxed(&self) -> usize {
        match self {
            Self::Even { .. } => 0,
            Self::Near { later, .. } => size_of_val(&**later),
            Self::Any(times) => size_of_val(&**times),
        }
    }

    #[inline]
    fn at(&self, place: usize) -> u64 {
        match self {
            Self::Even { first, step } => first + step * place as u64,
            Self::Near { first, step, later } => {
                first + step * place as u64 + u64::from(later[place])
            }
            Self::Any(times) => times[place],
        }
    }
}

/// Returns the first index of a range from which on `holds`, or its end, as `partition_point` of a slice does.
pub(super) fn first_in(range: Range<usize>, holds: impl Fn(usize) -> bool) -> usize {
    let Range { start: mut first, end: mut last } = range;
    while first < last {
        let middle = first.midpoint(last);
        if holds(middle) {
            last = middle;
        } else {
            first = middle + 1;
        }
    }
    first
}

/// Chosen: the entry of a block is then small beside its samples, and a lone gap costs little.
const BLOCK: usize = 128;

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn times(of: impl Fn(u64) -> u64) -> (Vec<u64>, Times) {
        let all: Vec<u64> = (0..1000).map(of).collect();
        let mut times = Times::default();
        for &at in &all {
            times.push(at);
        }
        (all, times)
    }

    fn check((all, times): &(Vec<u64>, Times)) {
        assert_eq!((times.len(), times.last()), (all.len(), all.last().copied()));
        assert_eq!((0..all.len()).map(|place| times.at(place)).collect::<Vec<_>>(), *all);
        for moment in [0, all[0], all[5], all[5] + 1, all[500] - 1, all[999], all[999] + 1] {
            assert_eq!(times.count_up_to(moment), all.partition_point(|&at| at <= moment));
        }
    }

    #[test]
    fn every_moment_is_kept_whatever_the_spacing() {
        let regular = times(|place| 3 + 2 * SECOND * place);
        let jitters = times(|place| 2 * SECOND * place + place * 7919 % 200 * 1_000_000);
        // The first is the one that is late.
        let late = times(|place| 2 * SECOND * place + if place % 128 == 0 { SECOND } else { 0 });
        let gaps = times(|place| SECOND * place + place / 300 * 90_000 * SECOND);
        let huge = times(|place| u64::MAX - (1000 - place) * SECOND);
        for times in [&regular, &jitters, &late, &gaps, &huge] {
            check(times);
        }
        let [regular, jitters, gaps] = [&regular, &jitters, &gaps].map(|times| times.1.bytes());
        assert!(
            regular < 1000 && jitters < 5 * 1000 && gaps < 9 * 1000,
            "{regular} {jitters} {gaps}"
        );
    }
}
