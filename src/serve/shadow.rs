//! A second policy on the same inputs, without effect: how it would have decided.
//!
//! It is a replay of the log while the log is written: others' use, requests and ordered tiers as they come, own use
//! from the simulated backend. `replay LOG --policy OTHER` gives the same result afterwards. It runs in its own thread,
//! always one sample behind, and if it cannot keep up it ends and reports that: serving never waits for it.

pub(super) mod compare;

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, SyncSender, TrySendError};
use std::time::Duration;

use tiershift_core::catalog::Catalog;
use tiershift_core::controller::Detail;
use tiershift_core::decision::Decision;
use tiershift_core::event::{Event, EventRef, Input, Observe, Output};
use tiershift_core::machine::Machine;
use tiershift_core::policy::Registry;
use tiershift_core::sample::Sample;
use tiershift_core::settings::RawSettings;
use tiershift_core::setup::Setup;
use tiershift_core::time::Timestamp;

use crate::exec::{self, ExecError, Program};
use crate::serve::shadow::compare::{Comparison, ShadowReport, ShadowState};
use crate::sim::adviser::Adviser;
use crate::sim::{Ground, ScheduledInputs, Situation, simulate};

/// The parts of a shadow.
pub(super) struct ShadowPlan {
    pub(super) machine: Machine,
    pub(super) catalog: Catalog,
    /// Settings of the policy in effect.
    pub(super) real: RawSettings,
    /// Settings of the shadow.
    pub(super) shadow: RawSettings,
    pub(super) policies: Registry,
}

/// Called with the comparison of the two, from any thread.
pub(super) type NotifyShadow = Arc<dyn Fn(ShadowReport) + Send + Sync>;

/// The controller's end of the shadow.
pub(super) struct Shadow {
    to: Option<SyncSender<(Timestamp, Event)>>,
    ended: Receiver<()>,
}

impl Shadow {
    /// Begins a run of the other policy at the beginning of this one. If that policy is a program, the program is
    /// started now.
    ///
    /// # Errors
    /// When the program, or the thread, cannot be started.
    pub(super) fn begin(plan: ShadowPlan, notify: NotifyShadow) -> Result<Self, ExecError> {
        let ShadowPlan { machine, catalog, real, shadow, policies } = plan;
        let setup = Setup { machine, catalog, settings: shadow, seed: REPLAYS_SEED };
        let program = match setup.settings.policy.name() == exec::POLICY {
            true => Some(Program::start(&setup)?),
            false => None,
        };
        let (to, inbox) = mpsc::sync_channel(MOST_BEHIND);
        let (ends, ended) = mpsc::channel();
        let thread = std::thread::Builder::new().name("shadow".to_owned());
        let spawned = thread.spawn(move || {
            play(setup, &real, program, &policies, inbox, &notify);
            drop(ends);
        });
        spawned.map_err(|error| ExecError::Start { command: "shadow".to_owned(), error })?;
        Ok(Self { to: Some(to), ended })
    }

    /// Returns no shadow.
    pub(super) fn off() -> Self {
        Self { to: None, ended: mpsc::channel().1 }
    }

    /// Lets it finish its work, and waits for its last report.
    pub(super) fn close(mut self) {
        if let Some(to) = self.to.take() {
            // The last input: a run that ends without it fell behind.
            let _ = to.try_send((Timestamp::MAX, Event::Input(Input::Shutdown)));
        }
        // A run that does not end in this time is abandoned: its last report stands.
        let _ = self.ended.recv_timeout(LAST_WORDS);
    }
}

impl Observe for Shadow {
    fn observe(&mut self, at: Timestamp, event: EventRef<'_>) {
        let Some(to) = &self.to else { return };
        let event = match event {
            EventRef::Input(Input::Timeout) => return,
            // The gates are not needed here.
            EventRef::Output(Output::Decision(decision)) => {
                Event::Output(Output::Decision(Decision {
                    gates: Vec::new(),
                    action: decision.action,
                    ..*decision
                }))
            }
            other => other.to_owned(),
        };
        match to.try_send((at, event)) {
            Ok(()) => {}
            // If the channel is closed in the middle, the run ends there: its state records that the end is missing.
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => self.to = None,
        }
    }
}

/// The shadow's own side of the comparison.
struct ShadowSide(Rc<RefCell<Comparison>>);

impl Observe for ShadowSide {
    fn observe(&mut self, at: Timestamp, event: EventRef<'_>) {
        self.0.borrow_mut().observe_shadow(at, event);
    }
}

/// Plays the other policy as long as inputs arrive.
fn play(
    setup: Setup,
    real: &RawSettings,
    program: Option<Program>,
    policies: &Registry,
    inbox: Receiver<(Timestamp, Event)>,
    notify: &NotifyShadow,
) {
    let compared = Comparison::new(&setup.machine, &setup.catalog, real, &setup.settings);
    let compared = match compared {
        Ok(compared) => Rc::new(RefCell::new(compared)),
        // Checked before it was begun.
        Err(_) => return,
    };
    let scheduled = ScheduledInputs::default();
    let read_next = {
        let (compared, scheduled, notify) =
            (Rc::clone(&compared), Rc::clone(&scheduled), Arc::clone(notify));
        let mut is_over = false;
        move |sample: &mut Sample| {
            if is_over {
                return Ok(None);
            }
            loop {
                let Ok((at, event)) = inbox.recv() else {
                    compared.borrow_mut().state = ShadowState::FellBehind;
                    break;
                };
                if at == Timestamp::MAX {
                    compared.borrow_mut().state = ShadowState::Ended;
                    break;
                }
                compared.borrow_mut().observe_real(at, &event);
                match event {
                    Event::Input(Input::Sample(reading)) => {
                        *sample = reading;
                        notify(compared.borrow().report());
                        return Ok(Some(at));
                    }
                    Event::Input(input @ (Input::Request(_) | Input::Switch { .. })) => {
                        scheduled.borrow_mut().push_back((at, input));
                    }
                    Event::Input(_) | Event::Output(_) => {}
                }
            }
            is_over = true;
            Ok(None)
        }
    };
    let ground = Ground::recorded_in_place(Box::new(read_next)).with_scheduled(scheduled);
    let adviser = program.map(|program| Box::new(program) as Box<dyn Adviser>);
    let situation = Situation { adviser, ..Situation::of_recording(setup, ground) };
    let mut side = ShadowSide(Rc::clone(&compared));
    let played = simulate(situation, policies, Detail::Changes, &mut [&mut side]);
    let mut compared = compared.borrow_mut();
    compared.finish();
    match played {
        Ok(summary) => compared.summary = Some(summary),
        Err(error) => compared.state = ShadowState::Failed { error: error.to_string() },
    }
    notify(compared.report());
}

/// The default of `replay`.
const REPLAYS_SEED: u64 = 1;

/// Chosen: a minute of a busy daemon, and some tens of megabytes.
const MOST_BEHIND: usize = 1 << 16;

/// Chosen: a simulated day takes a tenth of a second, and at most a minute is left.
const LAST_WORDS: Duration = Duration::from_secs(5);
