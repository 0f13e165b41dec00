//! How much is reported about decisions.

use crate::decision::{Action, Decision, Reason};

/// How much the controller reports about its decisions. Changes are always reported.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Detail {
    /// Every hold with every gate.
    Full,
    /// Every hold, without gates.
    Holds,
    /// A hold if its reason is of another kind than the last one's.
    #[default]
    Changes,
    /// No holds.
    Silent,
}

/// Which decisions are reported at a detail: by the controller, and by code that passes on a part of its reports.
#[derive(Clone, Copy, Debug, Default)]
pub struct Saying {
    detail: Detail,
    /// The reason of the last decision, if that was a hold.
    last_hold: Option<Reason>,
}

impl Saying {
    /// Starts before the first decision of a run.
    pub fn new(detail: Detail) -> Self {
        Self { detail, last_hold: None }
    }

    /// Returns the detail.
    pub fn detail(&self) -> Detail {
        self.detail
    }

    /// Returns whether the next decision is reported.
    #[inline]
    pub fn says(&mut self, decision: &Decision) -> bool {
        let is_hold = decision.action == Action::Hold;
        match self.detail {
            Detail::Full | Detail::Holds => true,
            Detail::Silent => !is_hold,
            Detail::Changes => {
                let is_news = !self.last_hold.is_some_and(|last| last.is_like(&decision.reason));
                self.last_hold = is_hold.then_some(decision.reason);
                !is_hold || is_news
            }
        }
    }
}
