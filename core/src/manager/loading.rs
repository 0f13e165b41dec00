//! How long a load may take.

use std::time::Duration;

use crate::manager::Manager;
use crate::manager::lifecycle::Lifecycle;
use crate::model::ModelId;
use crate::time::Timestamp;

impl Manager {
    /// Notes that a load makes progress. From now on it fails when it stands still for a while, no longer at the end of
    /// its `load-timeout`, which applies only while no progress is reported.
    pub(super) fn note_progress(&mut self, now: Timestamp, model: &ModelId) {
        if self.catalog.model(model).is_none() {
            return;
        }
        let index = self.index_of(model.as_str());
        let slot = &mut self.slots[index];
        if slot.state == Lifecycle::Loading {
            slot.deadline = Some(now + LONGEST_STANDSTILL);
        }
    }
}

/// A load that has stood still for this long has failed. Chosen: a disk that others use slows a load, but does not stop
/// it for a minute; backends that see progress report it every twenty seconds.
const LONGEST_STANDSTILL: Duration = Duration::from_mins(1);
