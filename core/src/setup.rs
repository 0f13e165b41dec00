//! What a run starts from, in any world.

use crate::catalog::Catalog;
use crate::machine::Machine;
use crate::settings::{RawSettings, Settings, SettingsError};

/// The machine, the models, the policy and the seed of a run. A scenario, a replay, a log and the daemon each have one.
#[derive(Clone, Debug, PartialEq)]
pub struct Setup {
    /// What the machine has.
    pub machine: Machine,
    /// The models.
    pub catalog: Catalog,
    /// The policy.
    pub settings: RawSettings,
    /// The seed of every random stream; a live run uses no randomness.
    pub seed: u64,
}

impl Setup {
    /// Returns the default policy on a machine, with the built-in ladder for its memory.
    pub fn of_machine(machine: Machine) -> Self {
        let catalog = Catalog::relative_to(machine.memory);
        Self { machine, catalog, settings: RawSettings::default(), seed: 1 }
    }

    /// Returns the settings, checked for the machine.
    ///
    /// # Errors
    /// As [`Settings::new`].
    pub fn checked_settings(&self) -> Result<Settings, SettingsError> {
        Settings::new(self.settings.clone(), self.machine.class())
    }
}
