//! How each state of a model reacts to each event.

use crate::attribution::Phase;
use crate::time::Timestamp;

/// Where a model is in its life.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Lifecycle {
    /// Not loaded.
    #[default]
    Absent,
    /// The backend was asked to load it.
    Loading,
    /// It can serve.
    Ready,
    /// It finishes what runs and takes nothing new.
    Draining,
    /// The backend was asked to unload it.
    Unloading,
    /// It did not load, or died; it rests until its retry.
    Failed,
}

/// One model's life.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Slot {
    pub(crate) state: Lifecycle,
    /// When the present state gives up: load or unload time-out, end of a failure's rest.
    pub(crate) deadline: Option<Timestamp>,
    /// When its last load began.
    pub(crate) began: Timestamp,
    pub(crate) gpu: Option<u8>,
    /// Failed loads and deaths in a row; a time of good service resets them.
    pub(crate) failures: u32,
    /// When the last of them was, and until when the model is not loaded because of it.
    pub(crate) failed_at: Timestamp,
    pub(crate) rests_until: Option<Timestamp>,
    /// Whether the user was notified of them.
    pub(crate) told: bool,
    /// Since when it can serve.
    pub(crate) ready_since: Option<Timestamp>,
    /// How often its unload was requested without effect.
    pub(crate) asked: u32,
    /// Requests that run on it.
    pub(crate) running: u32,
    pub(crate) tryout: Tryout,
}

impl Slot {
    /// Returns whether its server will not unload it. Its memory counts as taken, and is not waited for.
    pub(crate) fn is_lost(&self) -> bool {
        self.state == Lifecycle::Unloading && self.asked >= UNLOAD_ATTEMPTS
    }

    /// Returns the phase of its memory; `None` if it holds none of ours.
    #[inline]
    pub(crate) fn phase(&self) -> Option<Phase> {
        match self.state {
            Lifecycle::Loading => Some(Phase::Coming),
            Lifecycle::Ready | Lifecycle::Draining => Some(Phase::There),
            Lifecycle::Unloading => (!self.is_lost()).then_some(Phase::Going),
            Lifecycle::Absent | Lifecycle::Failed => None,
        }
    }
}

/// After this many requests, an unload is no longer waited for. Chosen: after a quarter, half and all of a minute.
pub(crate) const UNLOAD_ATTEMPTS: u32 = 3;

/// What is known of a model's try-outs.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Tryout {
    /// The backend has yet to answer.
    pub(crate) is_awaited: bool,
    /// Whether it was inconclusive and is repeated at an idle moment; and how often it was made since the load.
    pub(crate) is_due: bool,
    pub(crate) made: u32,
    /// The most requests that ran beside it, and whether others slowed it down.
    pub(crate) beside: u32,
    pub(crate) is_contended: bool,
    /// Loads in a row that came up slow.
    pub(crate) slow_loads: u32,
    /// It is unloaded to be loaded again.
    pub(crate) reloads: bool,
}

/// What can happen to a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trigger {
    /// We asked the backend to load it.
    Load,
    /// The backend reported that it is loaded.
    Loaded,
    /// The backend reported that it did not load.
    LoadFailed,
    /// We want it to finish and go.
    Drain,
    /// We want it back before it has gone.
    Resume,
    /// We asked the backend to unload it.
    Unload,
    /// The backend reported that it has gone.
    Unloaded,
    /// The backend reported that it died.
    Crashed,
    /// Its rest is over.
    Retry,
    /// It was loaded before we started.
    Adopted,
}

impl Lifecycle {
    /// Returns the state after an event. A real server may answer late, twice or not at all: an answer that cannot
    /// change the state leaves it. `None` marks what only we could do, and never do.
    pub(crate) fn after(self, happening: Trigger) -> Option<Self> {
        use Trigger as H;
        let next = match (self, happening) {
            (Self::Absent, H::Load) => Self::Loading,
            (Self::Absent, H::Adopted) => Self::Ready,
            (Self::Absent, H::Loaded | H::LoadFailed | H::Unloaded | H::Crashed | H::Retry) => {
                Self::Absent
            }
            (Self::Absent, H::Drain | H::Resume | H::Unload) => return None,

            (Self::Loading, H::Loaded) => Self::Ready,
            (Self::Loading, H::LoadFailed | H::Crashed) => Self::Failed,
            // A half-loaded model runs nothing, so there is nothing to drain.
            (Self::Loading, H::Unload) => Self::Unloading,
            (Self::Loading, H::Unloaded) => Self::Absent,
            (Self::Loading, H::Adopted) => Self::Loading,
            (Self::Loading, H::Load | H::Drain | H::Resume | H::Retry) => return None,

            (Self::Ready, H::Drain) => Self::Draining,
            (Self::Ready, H::Crashed) => Self::Failed,
            (Self::Ready, H::Unloaded) => Self::Absent,
            (Self::Ready, H::Loaded | H::LoadFailed | H::Adopted) => Self::Ready,
            (Self::Ready, H::Load | H::Resume | H::Unload | H::Retry) => return None,

            (Self::Draining, H::Resume) => Self::Ready,
            (Self::Draining, H::Unload) => Self::Unloading,
            (Self::Draining, H::Unloaded) => Self::Absent,
            (Self::Draining, H::Crashed) => Self::Failed,
            (Self::Draining, H::Loaded | H::LoadFailed | H::Drain | H::Adopted) => Self::Draining,
            (Self::Draining, H::Load | H::Retry) => return None,

            // A crash while unloading is an unload; so is a load that fails because it was interrupted.
            (Self::Unloading, H::Unloaded | H::Crashed | H::LoadFailed) => Self::Absent,
            (Self::Unloading, H::Loaded | H::Unload | H::Adopted) => Self::Unloading,
            (Self::Unloading, H::Load | H::Drain | H::Resume | H::Retry) => return None,

            (Self::Failed, H::Retry) => Self::Absent,
            (Self::Failed, H::Loaded | H::LoadFailed | H::Unloaded | H::Crashed | H::Adopted) => {
                Self::Failed
            }
            (Self::Failed, H::Load | H::Drain | H::Resume | H::Unload) => return None,
        };
        Some(next)
    }

    /// Returns whether it holds memory.
    pub(crate) fn is_resident(self) -> bool {
        match self {
            Self::Loading | Self::Ready | Self::Draining | Self::Unloading => true,
            Self::Absent | Self::Failed => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Lifecycle::{Absent, Draining, Failed, Loading, Ready, Unloading};
    use super::*;

    const STATES: [Lifecycle; 6] = [Absent, Loading, Ready, Draining, Unloading, Failed];

    /// What each trigger makes of each of `STATES`; `None` where only we could cause it, and never do.
    #[rustfmt::skip]
    const TABLE: [(Trigger, [Option<Lifecycle>; 6]); 10] = [
        //                     Absent         Loading          Ready           Draining         Unloading        Failed
        (Trigger::Load,       [Some(Loading), None,            None,           None,            None,            None]),
        (Trigger::Loaded,     [Some(Absent),  Some(Ready),     Some(Ready),    Some(Draining),  Some(Unloading), Some(Failed)]),
        (Trigger::LoadFailed, [Some(Absent),  Some(Failed),    Some(Ready),    Some(Draining),  Some(Absent),    Some(Failed)]),
        (Trigger::Drain,      [None,          None,            Some(Draining), Some(Draining),  None,            None]),
        (Trigger::Resume,     [None,          None,            None,           Some(Ready),     None,            None]),
        (Trigger::Unload,     [None,          Some(Unloading), None,           Some(Unloading), Some(Unloading), None]),
        (Trigger::Unloaded,   [Some(Absent),  Some(Absent),    Some(Absent),   Some(Absent),    Some(Absent),    Some(Failed)]),
        (Trigger::Crashed,    [Some(Absent),  Some(Failed),    Some(Failed),   Some(Failed),    Some(Absent),    Some(Failed)]),
        (Trigger::Retry,      [Some(Absent),  None,            None,           None,            None,            Some(Absent)]),
        (Trigger::Adopted,    [Some(Ready),   Some(Loading),   Some(Ready),    Some(Draining),  Some(Unloading), Some(Failed)]),
    ];

    #[test]
    fn every_state_answers_every_trigger_as_the_table_says() {
        for (trigger, after) in TABLE {
            for (state, want) in STATES.into_iter().zip(after) {
                assert_eq!(state.after(trigger), want, "{trigger:?} of a model that is {state:?}");
            }
        }
    }

    #[test]
    fn a_model_holds_memory_from_load_to_unload() {
        let resident: Vec<_> = STATES.into_iter().filter(|state| state.is_resident()).collect();
        assert_eq!(resident, [Loading, Ready, Draining, Unloading]);
    }
}
