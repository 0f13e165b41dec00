//! Decisions to change that are not carried out yet. Another may be made while the last one is still being carried out.

use tiershift_core::catalog::Rung;

/// The data about each such decision, in order.
#[derive(Clone, Debug)]
pub(crate) struct OpenChanges<T> {
    open: Vec<(Rung, T)>,
}

impl<T> Default for OpenChanges<T> {
    fn default() -> Self {
        Self { open: Vec::new() }
    }
}

impl<T> OpenChanges<T> {
    /// Adds a decision that leads to a rung.
    pub(crate) fn decide(&mut self, to: Rung, about: T) {
        if self.open.len() == MOST_OPEN {
            self.open.remove(0);
        }
        self.open.push((to, about));
    }

    /// Takes out the decision that a completed switch carried out, or one that was given up. Those before it were
    /// replaced; if none led there, something else intervened, and all are over.
    pub(crate) fn take(&mut self, to: Rung) -> Option<T> {
        let Some(place) = self.open.iter().rposition(|&(rung, _)| rung == to) else {
            self.open.clear();
            return None;
        };
        self.open.drain(..=place).next_back().map(|(_, about)| about)
    }

    /// Returns the last one.
    pub(crate) fn last(&self) -> Option<&T> {
        self.open.last().map(|(_, about)| about)
    }
}

/// Chosen: more than can be under way. A custom policy may decide at every sample what cannot be carried out.
const MOST_OPEN: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_switch_is_of_the_last_decision_that_leads_there() {
        let mut changes = OpenChanges::default();
        for (to, about) in [(2, "up"), (1, "down"), (3, "up once more")] {
            changes.decide(Rung(to), about);
        }
        // The first was replaced before it was complete; the third was made while the second was carried out.
        assert_eq!(changes.take(Rung(1)), Some("down"));
        assert_eq!(changes.last(), Some(&"up once more"));
        assert_eq!(changes.take(Rung(3)), Some("up once more"));
        changes.decide(Rung(2), "up");
        assert_eq!(changes.take(Rung(0)), None);
        assert_eq!(changes.take(Rung(2)), None);
    }
}
