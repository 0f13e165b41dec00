//! The ladder of an optimum: the worth of each rung, and every move from one to another.

use std::time::Duration;

use tiershift_core::catalog::{Catalog, Rung};
use tiershift_core::time::nanos;

use crate::study::oracle::tape::Room;

/// What an optimum maximises: quality [thousandths of a percent] times time [ns], in the upper bits, less one for each
/// switch in the lower 32. One comparison prefers what is worth more and, among equals, the fewer switches.
pub(super) type Worth = i128;

/// The worth of what is impossible. Adding any worth to it leaves it below [`POSSIBLE`].
pub(super) const NEVER: Worth = -(1 << 124);
/// Everything possible is worth more.
pub(super) const POSSIBLE: Worth = -(1 << 123);
/// Bits of a worth that count switches.
const COUNT_BITS: u32 = 32;

/// The ladder and what a switch costs.
#[derive(Clone, Debug)]
pub(super) struct Ladder {
    /// Quality of each rung in thousandths of a percent, `none` first.
    pub(super) qualities: Vec<u64>,
    /// Every move from one rung to another.
    pub(super) moves: Vec<Move>,
    /// The moves that begin a run: no file is cached yet.
    pub(super) first_loads: Vec<Move>,
    /// The price of a switch, as a worth.
    pub(super) toll: Worth,
    /// A change of direction sooner than this after a switch is a reversal [ns].
    pub(super) window: u64,
}

/// A move from one rung to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Move {
    pub(super) from: usize,
    pub(super) to: usize,
    pub(super) kind: Kind,
    /// From its beginning until the rung that it leads to serves [ns].
    pub(super) takes: u64,
}

/// What happens on the way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// The old rung is left, and nothing follows.
    Leave,
    /// The new model loads beside the old one, which serves for as long as both fit.
    Beside,
    /// The old model is unloaded first, and nothing serves until the new one is ready.
    After,
}

impl Ladder {
    pub(super) fn new(catalog: &Catalog, price: Duration, window: Duration) -> Self {
        let model =
            |rung: usize| u8::try_from(rung).ok().and_then(|rung| catalog.primary(Rung(rung)));
        let rungs = usize::from(catalog.top().0) + 1;
        let quality = |rung| model(rung).map_or(0, |model| u64::from(model.quality.milli()));
        let load = |rung| model(rung).map_or(0, |model| nanos(model.load_warm));
        let load_first = |rung| model(rung).map_or(0, |model| nanos(model.load_cold));
        let unload = |rung| model(rung).map_or(0, |model| nanos(model.unload));
        let mut moves = Vec::new();
        for from in 0..rungs {
            for to in (0..rungs).filter(|&to| to != from) {
                let mut add = |kind, takes| moves.push(Move { from, to, kind, takes });
                match (from, to) {
                    (_, 0) => add(Kind::Leave, 0),
                    // From `none` there is nothing to unload.
                    (0, _) => add(Kind::Beside, load(to)),
                    _ => {
                        add(Kind::Beside, load(to));
                        add(Kind::After, unload(from).saturating_add(load(to)));
                    }
                }
            }
        }
        let first_load = |to| Move { from: 0, to, kind: Kind::Beside, takes: load_first(to) };
        let qualities: Vec<u64> = (0..rungs).map(quality).collect();
        let top = qualities.last().copied().unwrap_or(0);
        let toll = worth(top, nanos(price)) + 1;
        let first_loads = (1..rungs).map(first_load).collect();
        Self { qualities, moves, first_loads, toll, window: nanos(window) }
    }

    /// Returns the longest time that a move takes [ns].
    pub(super) fn longest(&self) -> u64 {
        self.moves.iter().chain(&self.first_loads).map(|way| way.takes).max().unwrap_or(0)
    }

    pub(super) fn rungs(&self) -> usize {
        self.qualities.len()
    }

    /// Returns whether a move may begin at a sample.
    pub(super) fn is_open(&self, room: &Room, way: &Move) -> bool {
        match way.kind {
            Kind::Leave => true,
            Kind::Beside => room.fits_beside(way.from, way.to),
            Kind::After => room.loads(way.to) && !room.fits_beside(way.from, way.to),
        }
    }
}

impl Move {
    pub(super) fn goes_up(&self) -> bool {
        self.to > self.from
    }
}

/// Returns what a quality is worth over a time [ns].
#[inline]
pub(super) fn worth(quality: u64, nanos: u64) -> Worth {
    (i128::from(quality) * i128::from(nanos)) << COUNT_BITS
}

/// Returns the two parts of a worth: quality times time less the prices paid, and the switches.
pub(super) fn unpack(worth: Worth) -> (i128, u64) {
    let switches = worth.wrapping_neg() & ((1 << COUNT_BITS) - 1);
    let switches = u64::try_from(switches).expect("32 bits of a number fit in 64");
    ((worth + i128::from(switches)) >> COUNT_BITS, switches)
}
