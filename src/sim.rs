//! A run in virtual time: from a situation to a summary, with every event passed on in order.
//!
//! [`Situation`] is everything that determines a run; [`simulate`] plays it through the one driver with the shipped
//! controller, keeps the [`Fold`] of figures, and lets an independent checker watch the invariants.

mod account;
pub mod action;
pub mod adviser;
pub mod background;
mod checker;
pub mod fault;
mod ground;
mod invariants;
mod own_use;
pub mod physics;
pub mod queue;
mod quiet;
pub mod rng;
pub mod server;
pub mod workload;
mod world;

use std::time::Duration;

use tiershift_core::catalog::Catalog;
use tiershift_core::control::Control;
use tiershift_core::controller::{Controller, ControllerError, Detail};
use tiershift_core::driver::{self, Livelock};
use tiershift_core::event::{EventRef, Observe};
use tiershift_core::policy::{Promises, Registry};
use tiershift_core::settings::{Settings, SettingsError};
use tiershift_core::setup::Setup;
use tiershift_core::time::Timestamp;

use crate::exec::{self, ExecError};
use crate::sim::action::Action;
use crate::sim::adviser::Adviser;
use crate::sim::checker::Checker;
use crate::sim::fault::Fault;
use crate::sim::physics::{Physics, VramOvercommit};
use crate::sim::quiet::quiet_since;
use crate::sim::workload::Workload;
use crate::sim::world::SimulatedWorld;
use crate::summary::{Fold, Summary};

pub use crate::sim::ground::{Ground, ReadError, RecordedSample, ScheduledInputs, Tap};
pub use crate::sim::invariants::Invariants;

/// Everything that determines a run.
pub struct Situation {
    /// The machine, the models, the policy and the seed.
    pub setup: Setup,
    /// How the machine behaves.
    pub physics: Physics,
    /// The faults.
    pub faults: Vec<Fault>,
    /// Actions on the controller.
    pub actions: Vec<Action>,
    /// The requests of users.
    pub workloads: Vec<Workload>,
    /// Others' use, and when the machine is read.
    pub ground: Ground,
    /// The adviser that the policy asks, if it asks one.
    pub adviser: Option<Box<dyn Adviser>>,
    /// How long the run lasts; `None` runs until nothing is left to happen.
    pub duration: Option<Duration>,
}

impl Situation {
    /// Returns the situation of a recording that is replayed: the machine as it is, without faults. What others held of
    /// a GPU they had been given, so that none of our models dies because others filled it: models on a GPU that is
    /// over its size are slow instead.
    pub fn of_recording(setup: Setup, ground: Ground) -> Self {
        Self {
            setup,
            physics: Physics { vram_overcommit: VramOvercommit::Spill, ..Physics::default() },
            faults: Vec::new(),
            actions: Vec::new(),
            workloads: Vec::new(),
            ground,
            adviser: None,
            duration: None,
        }
    }
}

/// Plays a situation before observers, under the policy that its settings name. Without observers, and with
/// [`Detail::Silent`], a run costs no more than its decisions.
///
/// # Errors
/// When the policy is unknown, the settings do not suit the machine or the catalog, a trace breaks off, or in a
/// livelock.
pub fn simulate(
    situation: Situation,
    policies: &Registry,
    detail: Detail,
    observers: &mut [&mut dyn Observe],
) -> Result<Summary, SimulationError> {
    let settings = situation.setup.checked_settings()?;
    let lost_keys = situation.setup.settings.lost_keys();
    let catalog = situation.setup.catalog.clone();
    let until = situation.duration.map_or(Timestamp::MAX, |span| Timestamp::ZERO + span);
    if situation.adviser.is_none() && settings.policy.name() == exec::POLICY {
        return Err(ExecError::NoCommand.into());
    }
    let mut decider = Decider::new(&settings, &catalog, detail, policies)?;
    let mut stands = Stands {
        fold: Fold::new(&catalog, settings.reversal_window),
        checker: Checker::new(&settings, &catalog, decider.promises())
            .quiet_since(quiet_since(&situation)),
        observers,
    };
    let mut world = SimulatedWorld::new(situation, &settings);
    let end = match &mut decider {
        Decider::Ours(controller) => {
            driver::run(&mut **controller, &mut world, until, &mut stands)?
        }
        Decider::Other(control) => driver::run(&mut **control, &mut world, until, &mut stands)?,
    };
    if let Some(error) = world.take_error() {
        return Err(SimulationError::Trace(error));
    }
    if let Some(error) = world.take_adviser_error() {
        return Err(SimulationError::Exec(error));
    }
    let Stands { mut fold, checker, .. } = stands;
    fold.set_account(world.account());
    let mut summary = fold.finish(end);
    summary.policy = settings.policy.name().to_owned();
    summary.violations = checker.finish(end);
    summary.warnings.extend(lost_keys.iter().map(|key| lost_key(key)));
    Ok(summary)
}

/// Returns the warning about an obsolete key of a policy.
pub(crate) fn lost_key(key: &str) -> String {
    format!("the key `{key}` of the policy is obsolete and is ignored: remove it")
}

/// What decides in a run. Ours is not called through dynamic dispatch: it is called for every sample of a recording.
enum Decider {
    Ours(Box<Controller>),
    Other(Box<dyn Control>),
}

impl Decider {
    fn new(
        settings: &Settings,
        catalog: &Catalog,
        detail: Detail,
        policies: &Registry,
    ) -> Result<Self, ControllerError> {
        Ok(match policies.build_control(settings, catalog)? {
            Some(control) => Self::Other(control),
            None => Self::Ours(Box::new(Controller::new(settings, catalog, detail, policies)?)),
        })
    }

    fn promises(&self) -> Promises {
        match self {
            Self::Ours(controller) => controller.promises(),
            Self::Other(control) => control.promises(),
        }
    }
}

/// All observers of a simulated run.
struct Stands<'a, 'o> {
    fold: Fold,
    checker: Checker,
    observers: &'a mut [&'o mut dyn Observe],
}

impl Observe for Stands<'_, '_> {
    #[inline]
    fn observe(&mut self, at: Timestamp, event: EventRef<'_>) {
        self.fold.observe(at, event);
        self.checker.observe(at, event);
        self.observers.observe(at, event);
    }
}

/// Why a run could not be played to its end.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "each variant's message says what it is")]
pub enum SimulationError {
    #[error(transparent)]
    Settings(#[from] SettingsError),
    #[error(transparent)]
    Controller(#[from] ControllerError),
    #[error(transparent)]
    Livelock(#[from] Livelock),
    #[error(transparent)]
    Trace(ReadError),
    #[error(transparent)]
    Exec(#[from] ExecError),
}
