//! Two policies side by side: how far they agree, where they part and why, and what each costs.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};
use tiershift_core::catalog::{Catalog, Rung};
use tiershift_core::decision::{Action, Reason};
use tiershift_core::event::{Event, EventRef, Input, Observe, Output};
use tiershift_core::machine::Machine;
use tiershift_core::settings::{RawSettings, Settings, SettingsError};
use tiershift_core::time::Timestamp;

use crate::summary::{Fold, Summary};

/// The real policy and its shadow, compared so far.
pub(super) struct Comparison {
    catalog: Catalog,
    policies: [String; 2],
    real: Side,
    shadow: Side,
    /// The real side's events, until the shadow has reached them.
    ahead: VecDeque<(Timestamp, Event)>,
    /// The moment up to which both are known.
    now: Timestamp,
    agreed_nanos: u64,
    is_over: bool,
    /// Whether the two are on, or on their way to, different tiers.
    differ: bool,
    differences: u64,
    last: Option<Difference>,
    pub(super) state: ShadowState,
    /// The summary of the shadow's run, when it is over.
    pub(super) summary: Option<Summary>,
}

/// One of the two.
struct Side {
    fold: Fold,
    /// The serving rung, and the goal of the last decision.
    serving: Rung,
    goal: Rung,
    reason: Option<Reason>,
}

/// The state of a shadow.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ShadowState {
    /// It keeps up.
    Running,
    /// It saw the whole run.
    Ended,
    /// It could not keep up, and its results end early.
    FellBehind,
    /// It failed.
    Failed {
        /// Why.
        error: String,
    },
}

/// A moment at which the two parted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Difference {
    /// When.
    #[serde(rename = "at_ns")]
    pub at: Timestamp,
    /// The tier that the real policy was on or on its way to, and its last reason.
    pub real: (String, Option<Reason>),
    /// The same for the shadow.
    pub shadow: (String, Option<Reason>),
}

/// The comparison of a shadow with the policy in effect.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ShadowReport {
    /// The policy in effect.
    pub policy: String,
    /// The shadow policy.
    pub shadow: String,
    /// The shadow's state.
    pub state: ShadowState,
    /// The tier that it would serve from now.
    pub tier: String,
    /// How long the two were compared.
    pub compared_seconds: f64,
    /// The share of that time in which both served the same tier.
    pub agreement: f64,
    /// How often they parted, to be on or on their way to different tiers.
    pub differences: u64,
    /// The last of them.
    pub last_difference: Option<Difference>,
    /// What the real policy cost, as measured.
    pub real_cost: Cost,
    /// What the shadow would have cost, as simulated.
    pub shadow_cost: Cost,
    /// What the shadow would have saved: the difference of the two. A negative value is a loss.
    pub saved: Saved,
    /// The shadow's whole summary, at the end: what `replay` of the log gives for this policy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub summary: Option<Summary>,
}

/// What a policy costs.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Cost {
    /// Completed changes of tier.
    pub switches: u64,
    /// Those that undid the one before them.
    pub reversals: u64,
    /// Time spent loading.
    pub reload_seconds: f64,
    /// Time above the degrade line, by the samples, each of which holds until the next.
    pub seconds_above_degrade_line: f64,
    /// Quality of what served, averaged over time.
    pub quality_served_fraction: f64,
}

/// How much less one policy costs than another.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Saved {
    /// Completed changes of tier.
    pub switches: i64,
    /// Time spent loading.
    pub reload_seconds: f64,
    /// Time above the degrade line.
    pub seconds_above_degrade_line: f64,
    /// How much higher the quality served would have been.
    pub quality_gained: f64,
}

impl Comparison {
    pub(super) fn new(
        machine: &Machine,
        catalog: &Catalog,
        real: &RawSettings,
        shadow: &RawSettings,
    ) -> Result<Self, SettingsError> {
        // Both are judged by the lines in effect.
        let judge = Settings::new(real.clone(), machine.class())?;
        let side = || Side {
            fold: Fold::new(catalog, real.reversal_window.0).judging_samples(&judge),
            serving: Rung::NONE,
            goal: Rung::NONE,
            reason: None,
        };
        Ok(Self {
            catalog: catalog.clone(),
            policies: [real, shadow].map(|settings| settings.policy.name().to_owned()),
            real: side(),
            shadow: side(),
            ahead: VecDeque::new(),
            now: Timestamp::ZERO,
            agreed_nanos: 0,
            is_over: false,
            differ: false,
            differences: 0,
            last: None,
            state: ShadowState::Running,
            summary: None,
        })
    }

    /// Observes an input or output of the real controller.
    pub(super) fn observe_real(&mut self, at: Timestamp, event: &Event) {
        self.ahead.push_back((at, event.clone()));
    }

    /// Observes an input or output of the shadow, after everything that the real one did before.
    pub(super) fn observe_shadow(&mut self, at: Timestamp, event: EventRef<'_>) {
        while let Some((at, event)) = self.ahead.pop_front_if(|(real, _)| *real <= at) {
            self.observe_in_turn(at, &event);
        }
        if !self.is_over {
            self.advance(at);
            self.shadow.observe(at, event);
        }
    }

    /// Observes the real side's events, up to its request to stop: the shadow is not stopped.
    fn observe_in_turn(&mut self, at: Timestamp, event: &Event) {
        self.is_over |= matches!(event, Event::Input(Input::Shutdown));
        if !self.is_over {
            self.advance(at);
            self.real.observe(at, event.as_ref());
        }
    }

    /// Observes the real side's events after the shadow's end.
    pub(super) fn finish(&mut self) {
        for (at, event) in std::mem::take(&mut self.ahead) {
            self.observe_in_turn(at, &event);
        }
    }

    /// Counts the time up to `at`, in which nothing changed. Only now both sides of the last moment are known.
    fn advance(&mut self, at: Timestamp) {
        if at <= self.now {
            return;
        }
        let differ = self.real.goal != self.shadow.goal;
        if differ && !self.differ {
            let about = |side: &Side| (self.catalog.tier_name(side.goal).to_owned(), side.reason);
            let (real, shadow) = (about(&self.real), about(&self.shadow));
            self.last = Some(Difference { at: self.now, real, shadow });
            self.differences += 1;
        }
        self.differ = differ;
        if self.real.serving == self.shadow.serving {
            self.agreed_nanos += tiershift_core::time::nanos(at.since(self.now));
        }
        self.now = at;
    }

    pub(super) fn report(&self) -> ShadowReport {
        let [policy, shadow] = self.policies.clone();
        let (real_cost, shadow_cost) = (self.real.cost(self.now), self.shadow.cost(self.now));
        let nanos = self.now.as_nanos().max(1);
        ShadowReport {
            policy,
            shadow,
            state: self.state.clone(),
            tier: self.catalog.tier_name(self.shadow.serving).to_owned(),
            compared_seconds: self.now.as_secs_f64(),
            agreement: self.agreed_nanos as f64 / nanos as f64,
            differences: self.differences,
            last_difference: self.last.clone(),
            saved: real_cost.less(&shadow_cost),
            real_cost,
            shadow_cost,
            summary: self.summary.clone(),
        }
    }
}

impl Observe for Side {
    fn observe(&mut self, at: Timestamp, event: EventRef<'_>) {
        self.fold.observe(at, event);
        let EventRef::Output(output) = event else { return };
        match output {
            Output::Decision(decision) => {
                self.reason = Some(decision.reason);
                match decision.action {
                    Action::Hold => {}
                    Action::Upgrade { to } | Action::Downgrade { to, .. } => self.goal = to,
                }
            }
            Output::Serving { rung, .. } => self.serving = *rung,
            // A switch may end elsewhere than was decided.
            Output::Switched { to, .. } => self.goal = *to,
            Output::Companion { .. }
            | Output::Command(_)
            | Output::Accepted { .. }
            | Output::Ended { .. }
            | Output::Order { .. }
            | Output::Consult(_)
            | Output::Notice(_) => {}
        }
    }
}

impl Side {
    fn cost(&self, now: Timestamp) -> Cost {
        let summary = self.fold.clone().finish(now);
        Cost {
            switches: summary.switches,
            reversals: summary.reversals,
            reload_seconds: summary.reload_seconds,
            seconds_above_degrade_line: summary.seconds_above_degrade_line,
            quality_served_fraction: summary.quality_served_fraction,
        }
    }
}

impl Cost {
    fn less(&self, other: &Self) -> Saved {
        let above = self.seconds_above_degrade_line - other.seconds_above_degrade_line;
        Saved {
            switches: self.switches.cast_signed() - other.switches.cast_signed(),
            reload_seconds: self.reload_seconds - other.reload_seconds,
            seconds_above_degrade_line: above,
            quality_gained: other.quality_served_fraction - self.quality_served_fraction,
        }
    }
}
