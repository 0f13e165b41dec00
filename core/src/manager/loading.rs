//! How long a load may take.

use std::time::Duration;

use crate::manager::Manager;
use crate::manager::lifecycle::Lifecycle;
use crate::model::ModelId;
use crate::time::Timestamp;

impl Manager {
    /// Takes that a load gets on: from now on it has failed when it has not done so for a while, and no longer when its
    /// `load-timeout` is over, which holds where nobody sees.
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

/// A load that has not got on for so long has failed. Chosen: a disk that others use makes a load slow, and does not stop it
/// for a minute; backends that see it say so every twenty seconds.
const LONGEST_STANDSTILL: Duration = Duration::from_mins(1);
