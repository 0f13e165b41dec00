//! A part of a recording, by the moments of the whole recording.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tiershift_core::time::{Timestamp, span_text};

use crate::wall::{WallClock, WallTime};

/// The selected part of a recording, by the moments of the whole recording; both ends belong to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Part {
    /// Where it begins.
    #[serde(rename = "from_ns")]
    pub from: Timestamp,
    /// Where it ends.
    #[serde(rename = "to_ns")]
    pub to: Timestamp,
}

impl Part {
    /// All of a recording.
    pub const WHOLE: Self = Self { from: Timestamp::ZERO, to: Timestamp::MAX };

    /// Returns whether nothing is left out.
    pub fn is_whole(self) -> bool {
        self == Self::WHOLE
    }

    /// Returns it for users: `from 1h to 2h 30m`.
    pub(crate) fn text(self) -> String {
        let [from, to] = [self.from, self.to].map(|at| span_text(at.since(Timestamp::ZERO)));
        match self.to {
            Timestamp::MAX => format!("from {from} on"),
            _ => format!("from {from} to {to}"),
        }
    }

    /// Returns the moment since the part's beginning; `None` outside of it.
    #[inline]
    pub(crate) fn place(self, at: Timestamp) -> Option<Timestamp> {
        let is_in = (self.from..=self.to).contains(&at);
        is_in.then(|| Timestamp::ZERO + at.since(self.from))
    }

    /// Returns the message that the part is empty, in a recording that lasts until `end`.
    pub(crate) fn nothing(self, clock: &WallClock, end: Timestamp) -> String {
        let span = |at: Timestamp| span_text(at.since(Timestamp::ZERO));
        let dates = [Timestamp::ZERO, end].map(|at| clock.at(at).map(WallTime::short));
        let dates = match dates {
            [Some(from), Some(to)] => format!(", from {from} to {to}"),
            _ => String::new(),
        };
        let to = match self.to {
            Timestamp::MAX => String::new(),
            to => format!(" up to {}", span(to)),
        };
        let (from, lasts) = (span(self.from), span(end));
        format!("the recording has nothing from {from} on{to}: it lasts {lasts}{dates}")
    }
}

impl Default for Part {
    fn default() -> Self {
        Self::WHOLE
    }
}
