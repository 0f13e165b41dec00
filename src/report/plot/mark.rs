//! The mark of a change: its shape and colour show its direction and its outcome.

use crate::report::plot::drawing::{Area, Ink};
use crate::report::plot::{DARK, GREEN, RED, Sheet};
use crate::report::timeline::Change;

/// The meaning of a mark.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    Upgrade,
    Downgrade,
    GivenUp,
    Reversal,
}

impl Kind {
    pub(super) fn of(change: &Change) -> Self {
        if change.reversal {
            Self::Reversal
        } else if change.completed.is_none() {
            Self::GivenUp
        } else if change.to > change.from {
            Self::Upgrade
        } else {
            Self::Downgrade
        }
    }
}

/// A triangle up or down, a cross for a reversal, a hollow square for a change that was given up.
pub(super) fn mark(sheet: &mut Sheet<'_>, (x, y): (i32, i32), kind: Kind) {
    let drawing = &mut sheet.drawing;
    match kind {
        Kind::Upgrade => drawing.polygon(vec![(x - 6, y + 5), (x + 7, y + 5), (x, y - 6)], GREEN),
        Kind::Downgrade => drawing.polygon(vec![(x - 6, y - 5), (x + 7, y - 5), (x, y + 6)], RED),
        Kind::GivenUp => {
            drawing.frame(Area { left: x - 5, top: y - 5, right: x + 6, bottom: y + 6 }, DARK);
        }
        Kind::Reversal => {
            let arm = |dx: i32, dy: i32| {
                vec![
                    (x - 6 * dx - 2, y - 6 * dy),
                    (x - 6 * dx + 2, y - 6 * dy),
                    (x + 6 * dx + 2, y + 6 * dy),
                    (x + 6 * dx - 2, y + 6 * dy),
                ]
            };
            drawing.polygon(arm(1, 1), REVERSAL);
            drawing.polygon(arm(-1, 1), REVERSAL);
        }
    }
}

/// Darker than the palette's purple, so that a thin cross is visible.
pub(super) const REVERSAL: Ink = Ink((150, 30, 120), 100);
