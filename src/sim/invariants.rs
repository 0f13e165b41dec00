//! The invariants of a run that is not driven by [`simulate`](crate::sim::simulate).

use tiershift_core::catalog::Catalog;
use tiershift_core::control::Promises;
use tiershift_core::event::{EventRef, Observe};
use tiershift_core::settings::Settings;
use tiershift_core::time::Timestamp;

use crate::sim::checker::Checker;

/// Watches the invariants of a run from outside.
pub struct Invariants {
    checker: Checker,
}

impl Invariants {
    /// Begins before the first event of a run.
    pub fn new(settings: &Settings, catalog: &Catalog, promises: Promises) -> Self {
        Self { checker: Checker::new(settings, catalog, promises) }
    }

    /// Checks what follows against other promises: those of the policy that other settings name.
    pub fn hold_to(&mut self, promises: Promises) {
        self.checker.hold_to(promises);
    }

    /// Returns the broken invariants until `end`, in order.
    pub fn finish(self, end: Timestamp) -> Vec<String> {
        self.checker.finish(end)
    }
}

impl Observe for Invariants {
    fn observe(&mut self, at: Timestamp, event: EventRef<'_>) {
        self.checker.observe(at, event);
    }
}
