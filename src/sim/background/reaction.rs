//! Others that react to the free room.
//!
//! Their use depends on that of our models, so that two policies in one scenario meet different others. A recording
//! reacts to nothing: its others are as they were.

use std::time::Duration;

use tiershift_core::time::Timestamp;
use tiershift_core::units::{Bytes, Percent};

use crate::sim::background::Amount;

/// How a layer reacts to the free room in its space. Its shape is the amount that it would like to have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reaction {
    /// What it does.
    pub kind: ReactionKind,
    /// The time to release, or to take, the whole amount of its shape; zero: at once.
    pub lag: Duration,
}

/// The reaction of a layer to the free room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReactionKind {
    /// It shrinks to leave a 64th of the space free, down to this floor, and grows again.
    GivesWay {
        /// The least that it keeps.
        floor: Amount,
    },
    /// It grows into the free room, and releases memory only when its shape falls.
    TakesFree,
}

/// The state of a background's layers that does not follow from their shapes.
#[derive(Clone, Debug, Default)]
pub struct OthersState {
    /// The present amount of each layer that reacts.
    held: Vec<f64>,
    /// Until when each killed layer uses nothing.
    dead_until: Vec<Timestamp>,
    /// The moment of this state.
    at: Timestamp,
}

impl OthersState {
    /// Begins with nothing held, and no layer killed.
    pub(super) fn new(layers: usize) -> Self {
        Self {
            held: vec![0.0; layers],
            dead_until: vec![Timestamp::ZERO; layers],
            at: Timestamp::ZERO,
        }
    }

    pub(super) fn is_dead(&self, layer: usize, now: Timestamp) -> bool {
        now < self.dead_until[layer]
    }

    /// Returns the present amount of a layer that reacts.
    pub(super) fn held(&self, layer: usize) -> f64 {
        self.held[layer]
    }

    /// Kills a layer's program. It is started again after a while, with nothing.
    pub(super) fn kill(&mut self, layer: usize, now: Timestamp) {
        self.dead_until[layer] = now + RESTART;
        self.held[layer] = 0.0;
    }

    /// Returns the amount of a layer at `now` that would like to have `wanted`, with `room` for it.
    pub(super) fn advance(
        &mut self,
        layer: usize,
        reaction: Reaction,
        now: Timestamp,
        Bounds { wanted, floor, room }: Bounds,
    ) -> f64 {
        let held = self.held[layer];
        let target = match reaction.kind {
            ReactionKind::GivesWay { .. } => room.clamp(floor.min(wanted), wanted),
            ReactionKind::TakesFree => room.max(held).min(wanted).max(0.0),
        };
        let passed = now.since(self.at).as_secs_f64();
        // At the start it has what it has always had.
        let is_at_once = reaction.lag.is_zero() || now == Timestamp::ZERO;
        let most =
            if is_at_once { f64::INFINITY } else { wanted * passed / reaction.lag.as_secs_f64() };
        // When its shape falls, the memory is released at once.
        let held = held.min(wanted.max(0.0));
        self.held[layer] = held + (target - held).clamp(-most, most);
        self.held[layer]
    }

    /// Notes that every layer has been advanced to `now`.
    pub(super) fn arrive(&mut self, now: Timestamp) {
        self.at = now;
    }
}

/// The bounds of a layer that reacts, in bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    pub(super) wanted: f64,
    pub(super) floor: f64,
    pub(super) room: f64,
}

/// The share of a space that layers which give way leave free.
///
/// # Source
/// ZFS: `zfs_arc_sys_free` of zfs(4), whose default is a 64th of all memory.
pub(super) const KEPT_FREE: Percent = Percent::from_milli(1563);

/// Chosen: a browser or a game is started again within a minute of being killed.
const RESTART: Duration = Duration::from_mins(1);

/// Returns the part of a space that layers which give way leave free.
pub(super) fn kept_free(total: Bytes) -> f64 {
    total.share(KEPT_FREE).get() as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIVES_WAY: ReactionKind = ReactionKind::GivesWay { floor: Amount::Bytes(Bytes::ZERO) };

    /// Returns what a layer has after each of (seconds, wanted, room), with a floor of 2.
    fn play(kind: ReactionKind, lag: u64, steps: &[(u64, f64, f64)]) -> Vec<f64> {
        let mut state = OthersState::new(1);
        let reaction = Reaction { kind, lag: Duration::from_secs(lag) };
        let step = |&(second, wanted, room): &(u64, f64, f64)| {
            let now = Timestamp::from_secs(second);
            let held = state.advance(0, reaction, now, Bounds { wanted, floor: 2.0, room });
            state.arrive(now);
            held
        };
        steps.iter().map(step).collect()
    }

    #[test]
    fn who_gives_way_shrinks_to_its_floor_and_grows_again() {
        let steps =
            [(0, 8.0, 20.0), (10, 8.0, 5.0), (20, 8.0, -4.0), (30, 8.0, 9.0), (40, 1.0, 9.0)];
        assert_eq!(play(GIVES_WAY, 0, &steps), [8.0, 5.0, 2.0, 8.0, 1.0]);
    }

    #[test]
    fn who_takes_what_is_free_keeps_it() {
        let steps =
            [(0, 8.0, 5.0), (10, 8.0, 1.0), (20, 8.0, -4.0), (30, 8.0, 30.0), (40, 3.0, 30.0)];
        assert_eq!(play(ReactionKind::TakesFree, 0, &steps), [5.0, 5.0, 5.0, 8.0, 3.0]);
    }

    #[test]
    fn a_reaction_takes_its_time() {
        // All 8 in 4 seconds: 2 a second.
        let steps = [(0, 8.0, 20.0), (1, 8.0, 2.0), (2, 8.0, 2.0), (9, 8.0, 2.0), (10, 8.0, 20.0)];
        assert_eq!(play(GIVES_WAY, 4, &steps), [8.0, 6.0, 4.0, 2.0, 4.0]);
        let taken = [(0, 8.0, 0.0), (1, 8.0, 9.0), (3, 8.0, 9.0)];
        assert_eq!(play(ReactionKind::TakesFree, 4, &taken), [0.0, 2.0, 6.0]);
    }
}
