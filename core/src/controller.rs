//! Policy and manager behind one interface: inputs in, outputs out.
//!
//! Feed one [`Input`] with [`Controller::handle`], drain [`Controller::poll_output`], then feed the next. It has no
//! clock, I/O, threads or randomness: the same inputs give the same outputs, and `verify` checks that of every log.

mod advice;
mod companions;
mod detail;
mod idle;
mod named;
mod order;

use std::collections::VecDeque;
use std::time::Duration;

use crate::attribution::Attribution;
use crate::catalog::{Catalog, Rung};
use crate::control::Control;
use crate::controller::companions::Companions;
use crate::controller::idle::Idleness;
use crate::controller::order::Order;
use crate::decision::{Action, Decision, Reason};
use crate::event::{Adopted, Input, Notice, Outcome, Output, Verdict};
use crate::manager::{Manager, Setback};
use crate::policy::{Change, Observation, Policy, PolicyError, Promises, Registry, Standing};
use crate::request::Request;
use crate::sample::Sample;
use crate::settings::{RawSettings, Settings};
use crate::time::{Timestamp, earliest};
use crate::units::Bytes;

pub use detail::{Detail, Saying};

/// The controller.
///
/// # Examples
/// ```
/// use tiershift_core::controller::{Controller, Detail};
/// use tiershift_core::event::{Command, Input, Output};
/// use tiershift_core::machine::Machine;
/// use tiershift_core::policy::Registry;
/// use tiershift_core::sample::{Sample, Space};
/// use tiershift_core::setup::Setup;
/// use tiershift_core::time::Timestamp;
/// use tiershift_core::units::Bytes;
///
/// let setup = Setup::of_machine(Machine { memory: Bytes::from_gib(16), ..Machine::default() });
/// let (settings, policies) = (setup.checked_settings()?, Registry::built_in());
/// let mut controller = Controller::new(&settings, &setup.catalog, Detail::Changes, &policies)?;
///
/// let [total, others, own] = [16, 2, 0].map(Bytes::from_gib);
/// let sample = Sample { memory: Some(Space { total, others, own }), ..Sample::default() };
/// controller.handle(Timestamp::ZERO, &Input::Sample(sample));
///
/// let mut commands = Vec::new();
/// while let Some(output) = controller.poll_output() {
///     if let Output::Command(command) = output {
///         commands.push(command);
///     }
/// }
/// assert_eq!(commands, [Command::Load { model: "large".into(), gpu: None }]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Controller {
    policy: Box<dyn Policy>,
    policies: Registry,
    manager: Manager,
    companions: Companions,
    /// The part of a sample that is ours.
    attribution: Attribution,
    /// The ladder, without the companions.
    catalog: Catalog,
    settings: Settings,
    saying: Saying,
    pinned: Option<Rung>,
    order: Option<Order>,
    idleness: Idleness,
    start: Option<Rung>,
    stale_after: Duration,
    suggestion_after: Duration,
    last_sample: Option<Timestamp>,
    /// The sample that the adviser was last asked about.
    asked_about: Option<Sample>,
    /// When the smallest tier, or nothing, began to serve; and whether the user was notified of what would help.
    smallest_since: Option<Timestamp>,
    suggested: bool,
    /// Whether the user was notified that a space is not read.
    told_unread: bool,
    /// The moment of the last input: time never runs backwards.
    now: Timestamp,
    /// When the manager wants a time-out. It is asked for more often than it changes.
    timeout: Option<Timestamp>,
    out: VecDeque<Output>,
}

impl Controller {
    /// Builds a controller with nothing loaded.
    ///
    /// # Errors
    /// When the settings name a policy that is not among `policies` or that refuses them, or a tier that the catalog
    /// does not have.
    pub fn new(
        settings: &Settings,
        catalog: &Catalog,
        detail: Detail,
        policies: &Registry,
    ) -> Result<Self, ControllerError> {
        let rung = |key, tier: Option<&String>| {
            let find = |tier: &String| {
                let unknown = || ControllerError::Tier {
                    key,
                    tier: tier.clone(),
                    known: catalog
                        .rungs_up()
                        .map(|rung| catalog.tier_name(rung).to_owned())
                        .collect(),
                };
                catalog.rung_of_tier(tier).ok_or_else(unknown)
            };
            tier.map(find).transpose()
        };
        let manager = &settings.manager;
        let ladder = catalog.without_companions();
        Ok(Self {
            policy: policies.build(settings, &ladder)?,
            policies: policies.clone(),
            manager: Manager::new(settings, &ladder),
            companions: Companions::new(settings, catalog),
            attribution: Attribution::new(settings.settle_limit),
            catalog: ladder,
            settings: settings.clone(),
            saying: Saying::new(detail),
            pinned: rung("manager.pin", manager.pin.as_ref())?,
            order: None,
            idleness: Idleness::default(),
            start: rung("manager.start", manager.start.as_ref())?,
            stale_after: settings.stale_after,
            suggestion_after: settings.suggestion_after,
            last_sample: None,
            asked_about: None,
            smallest_since: None,
            suggested: false,
            told_unread: false,
            now: Timestamp::ZERO,
            timeout: None,
            out: VecDeque::new(),
        })
    }

    /// Returns what the policy promises of its decisions, and the manager of what it does with them: it carries out a
    /// blind policy's decisions unchecked.
    pub fn promises(&self) -> Promises {
        Promises { manager_keeps_word: !self.policy.is_blind(), ..self.policy.promises() }
    }

    /// Takes one input.
    ///
    /// # Panics
    /// When the outputs of the last input were not drained, or when time runs backwards: both are errors
    /// of the driver.
    pub fn handle(&mut self, now: Timestamp, input: &Input) {
        assert!(
            self.out.is_empty(),
            "the outputs of an input are drained before the next is handed in"
        );
        assert!(now >= self.now, "time never runs backwards");
        self.now = now;
        if !matches!(input, Input::Sample(_)) {
            self.show_shares();
        }
        match input {
            // Most samples change nothing: the manager then still wants the same time-out.
            Input::Sample(sample) if !self.handle_sample(now, sample) => return,
            Input::Sample(_) => {}
            Input::SampleMissing { .. } => {
                let decision = self.policy.missing(now, &self.standing());
                self.say(decision);
            }
            Input::Request(request) => self.handle_request(now, request),
            Input::Cancel { request } => {
                self.manager.handle_cancel(now, *request, &mut self.out);
                let cancel = |manager: &mut Manager, out: &mut _| {
                    manager.handle_cancel(now, *request, out);
                };
                self.tell_companions(now, cancel);
            }
            Input::Outcome(outcome) => self.handle_outcome(now, outcome),
            Input::Timeout => {
                self.expect_a_rescue(now);
                self.manager.handle_timeout(now, &mut self.out);
                self.note_setbacks(now);
                let time_out =
                    |manager: &mut Manager, out: &mut _| manager.handle_timeout(now, out);
                self.tell_companions(now, time_out);
            }
            Input::Adopt { models } => self.handle_adoption(now, models),
            Input::Settings(raw) => self.handle_settings(raw),
            Input::Switch { tier, for_ } => self.handle_order(now, tier, *for_),
            Input::Advice(advice) => self.handle_advice(now, advice),
            Input::Shutdown => {
                self.release_order();
                self.manager.handle_shutdown(now, &mut self.out);
                let stop = |manager: &mut Manager, out: &mut _| manager.handle_shutdown(now, out);
                self.tell_companions(now, stop);
            }
        }
        if matches!(input, Input::Sample(_)) {
            // What companions began because of the sample is in the way of what is loaded next.
            self.show_shares();
        }
        self.pursue_order(now);
        self.pursue_names(now);
        self.note_what_has_gone(now);
        let of_ladder = match (&self.order, self.pinned) {
            (None, None) => self.manager.next_timeout_with_names(now),
            _ => self.manager.next_timeout(),
        };
        let first = earliest([of_ladder, self.next_order_timeout()]);
        let timeouts = self.companions.managers().map(Manager::next_timeout);
        self.timeout = timeouts.fold(first, |first, next| earliest([first, next]));
    }

    /// Returns the next output of the last input.
    #[inline]
    pub fn poll_output(&mut self) -> Option<Output> {
        self.out.pop_front()
    }

    /// Returns the moment at which [`Input::Timeout`] is wanted, if nothing else happens.
    #[inline]
    pub fn poll_timeout(&self) -> Option<Timestamp> {
        self.timeout
    }

    /// Returns whether a fresh sample would change what happens next: a request is about to be judged on a stale
    /// one, or a switch waits for memory to come back. Asking has no effect.
    #[inline]
    pub fn wants_sample(&self, now: Timestamp, request_waits: bool) -> bool {
        let waits_for_room = self.manager.waits_for_room()
            || self.companions.managers().any(Manager::waits_for_room);
        if !(request_waits || waits_for_room) {
            return false;
        }
        let age = self.last_sample.map_or(Duration::MAX, |at| now.since(at));
        (request_waits && age > self.stale_after)
            || (waits_for_room && age >= self.manager.look_interval())
    }

    /// Returns the rung that serves or that the switch in progress leads to.
    pub fn rung(&self) -> Rung {
        self.manager.rung()
    }

    /// Returns whether the manager may have moved on.
    fn handle_sample(&mut self, now: Timestamp, sample: &Sample) -> bool {
        if !sample.is_plausible() {
            // A value in the wrong unit is not a shortage: an impossible reading counts as none.
            let decision = self.policy.missing(now, &self.standing());
            self.say(decision);
            return false;
        }
        self.last_sample = Some(now);
        let holdings = self.manager.holdings();
        let beside = self.companions.managers().flat_map(Manager::holdings);
        let corrected = self.attribution.correct(now, sample, &holdings.chain(beside));
        let whole = corrected.as_ref().unwrap_or(sample);
        self.show_lingering();
        // The sample shows what was begun before it was taken.
        self.companions.managers_mut().for_each(|companion| companion.note_sample(now));
        let share = self.ladders_share(whole);
        let sample = &*share;
        let moved = self.manager.handle_sample(now, sample, &mut self.out);
        if moved {
            // What went wrong lengthens the waits that are reported.
            self.note_setbacks(now);
            // If an ordered switch has just ended elsewhere, it is refused before the policy begins another.
            self.pursue_order(now);
        }
        let standing = self.standing();
        if self.manager.is_stopping() {
            self.say(Decision::new(standing.rung, Action::Hold, Reason::Stopping));
            self.tend_companions(now, whole);
            return moved || !self.companions.is_empty();
        }
        let is_change = self.decide(now, whole, sample);
        self.ask_adviser(now, &standing, whole);
        self.note_setbacks(now);
        self.tend_companions(now, whole);
        moved || is_change || !self.companions.is_empty()
    }

    /// Decides with the whole sample and the ladder's share of it, `sample`, and has the decision carried out. Returns
    /// whether it is a change.
    fn decide(&mut self, now: Timestamp, whole: &Sample, sample: &Sample) -> bool {
        let standing = self.standing();
        let demand = self.manager.take_demand(now);
        let seen = Observation { demand: &demand, ..Observation::new(sample, &standing) };
        let mut decision = self.policy.observe(now, &seen);
        if let Some(start) = self.start {
            // If it does not fit, the policy's choice is as good a start.
            if self.manager.has_room_for(start) {
                decision.action = Action::Upgrade { to: start };
                decision.reason = Reason::Asked;
            }
            if decision.action != Action::Hold {
                self.start = None;
            }
        }
        self.keep_to_what_was_asked(now, &mut decision);
        self.heed_idleness(now, &mut decision);
        self.weigh_companions(now, whole, &mut decision);
        // What is decided is done: an action that would not be carried out becomes a hold with the reason.
        if let Some(reason) = self.objection(now, decision.action) {
            decision.action = Action::Hold;
            decision.reason = reason;
        }
        self.manager.lengthen_wait(now, &mut decision.reason);
        if self.saying.detail() == Detail::Full {
            decision.gates = self.policy.gates(now, &standing);
        }
        self.suggest_if_long_on_smallest(now, &decision);
        self.tell_what_is_not_read(&decision);
        let is_change = decision.action != Action::Hold;
        if is_change {
            let (action, reason) = (decision.action, decision.reason);
            self.note_unloaded(&decision);
            self.say(decision);
            self.manager.handle_decision(
                now,
                action,
                reason,
                self.policy.is_blind(),
                &mut self.out,
            );
        } else {
            self.say(decision);
        }
        is_change
    }

    /// Passes what lingers of unloaded models to the managers, which use it where a server reports nothing.
    fn show_lingering(&mut self) {
        let is_nothing = self.attribution.lingering().all(|left| left == Bytes::ZERO);
        if is_nothing && !self.manager.has_lingering() {
            return;
        }
        let lingering: Vec<Bytes> = self.attribution.lingering().collect();
        self.manager.set_lingering(&lingering);
        for companion in self.companions.managers_mut() {
            companion.set_lingering(&lingering);
        }
    }

    fn note_what_has_gone(&mut self, now: Timestamp) {
        let mut gone = self.manager.take_gone();
        gone.extend(self.companions.managers_mut().flat_map(Manager::take_gone));
        for (need, gpu) in gone {
            self.attribution.note_gone(now, need, gpu);
            self.companions.note_gone(now, need, gpu);
        }
    }

    fn handle_request(&mut self, now: Timestamp, request: &Request) {
        let is_fresh = self.last_sample.is_some_and(|at| now.since(at) <= self.stale_after);
        if self.refuses_name(now, request) {
            return;
        }
        let mut out = std::mem::take(&mut self.out);
        if let Some(companion) = self.companion_for(request) {
            let verdict = preflight(companion, is_fresh);
            companion.handle_request(now, request, verdict, &mut out);
            self.out = out;
        } else {
            self.out = out;
            self.end_idleness(now);
            self.expect_a_rescue(now);
            let verdict = preflight(&self.manager, is_fresh);
            self.manager.handle_request(now, request, verdict, &mut self.out);
        }
    }

    fn handle_outcome(&mut self, now: Timestamp, outcome: &Outcome) {
        self.manager.handle_model_outcome(now, outcome, &mut self.out);
        let performance = self.manager.handle_request_outcome(now, outcome, &mut self.out);
        if let Some(performance) = performance {
            self.policy.served(now, &performance);
        }
        self.note_setbacks(now);
        self.tell_companions(now, |manager, out| {
            manager.handle_model_outcome(now, outcome, out);
            manager.handle_request_outcome(now, outcome, out);
        });
    }

    /// Continues with what an earlier run left loaded: nothing is loaded twice, and there is no start-up tier.
    fn handle_adoption(&mut self, now: Timestamp, models: &[Adopted]) {
        self.start = None;
        self.manager.handle_adoption(now, models, self.pinned, &mut self.out);
        self.tell_companions(now, |manager, out| {
            manager.handle_adoption(now, models, None, out);
        });
    }

    /// Continues under other settings. The sender refuses invalid ones; in a log that was edited, they change nothing.
    fn handle_settings(&mut self, raw: &RawSettings) {
        let Ok(settings) = self.settings.with(raw.clone()) else { return };
        let Ok(fresh) = Self::new(&settings, &self.catalog, self.saying.detail(), &self.policies)
        else {
            return;
        };
        self.manager.set_settings(&settings);
        let of_companion = |manager: &mut Manager, _: &mut _| manager.set_settings(&settings);
        self.tell_companions(self.now, of_companion);
        self.attribution.set_settle_limit(self.manager.settle_limit());
        let is_same =
            settings.policy == self.settings.policy && settings.options == self.settings.options;
        if !(is_same && self.policy.reconfigure(&settings, &self.catalog)) {
            self.policy = fresh.policy;
        }
        self.settings = settings;
        self.pinned = fresh.pinned;
        self.stale_after = fresh.stale_after;
        self.suggestion_after = fresh.suggestion_after;
    }

    /// While nothing serves, informs the manager of when something will be loaded: it may have to refuse a request.
    fn expect_a_rescue(&mut self, now: Timestamp) {
        if self.manager.serves_nothing() {
            let wait = self.policy.ready_in(now, &self.standing());
            self.manager.expect_ready_in(wait);
        }
    }

    /// Returns why the policy's action would not be carried out.
    fn objection(&self, now: Timestamp, action: Action) -> Option<Reason> {
        let objection = self.manager.objection(now, action)?;
        let is_about_room =
            matches!(objection, Reason::WouldNotFit { .. } | Reason::NotRead { .. });
        (!is_about_room || !self.policy.is_blind()).then_some(objection)
    }

    fn suggest_if_long_on_smallest(&mut self, now: Timestamp, decision: &Decision) {
        if decision.rung > Rung(1) || matches!(decision.reason, Reason::Idle { .. }) {
            self.smallest_since = None;
            self.suggested = false;
            return;
        }
        let since = *self.smallest_since.get_or_insert(now);
        if !self.suggested && now.since(since) >= self.suggestion_after {
            self.suggested = true;
            let notice = Notice::LongOnSmallest { for_: now.since(since), reason: decision.reason };
            self.out.push_back(Output::Notice(notice));
        }
    }

    fn tell_what_is_not_read(&mut self, decision: &Decision) {
        if let Reason::NotRead { to: rung, resource, .. } = decision.reason
            && !std::mem::replace(&mut self.told_unread, true)
        {
            self.out.push_back(Output::Notice(Notice::NotRead { rung, resource }));
        }
    }

    #[inline]
    fn note_setbacks(&mut self, now: Timestamp) {
        if self.manager.has_setbacks() {
            // A switch may have been called off because memory comes back late here.
            self.attribution.set_settle_limit(self.manager.settle_limit());
            for setback in self.manager.take_setbacks() {
                match setback {
                    Setback::Broke(rung) => self.policy.broke(now, rung),
                    Setback::CalledOff(rung, cause) => self.policy.called_off(now, rung, cause),
                }
            }
        }
    }

    #[inline]
    fn say(&mut self, decision: Decision) {
        if self.saying.says(&decision) {
            self.out.push_back(Output::Decision(decision));
        }
    }

    fn standing(&self) -> Standing {
        Standing {
            rung: self.manager.rung(),
            gpu: self.manager.gpu(),
            switching: self.manager.is_switching(),
            last_change: self.manager.last_change().map(|(at, up)| Change { at, up }),
        }
    }
}

/// The check before a request. A loaded model has the memory of a full cache set aside, whether the machine can be read
/// or not; only one that is about to be unloaded for a shortage takes nothing new.
fn preflight(manager: &Manager, is_fresh: bool) -> Verdict {
    if is_fresh && manager.is_critically_short() { Verdict::Queue } else { Verdict::Proceed }
}

impl Control for Controller {
    fn handle(&mut self, now: Timestamp, input: &Input) {
        self.handle(now, input);
    }

    #[inline]
    fn poll_output(&mut self) -> Option<Output> {
        self.poll_output()
    }

    #[inline]
    fn poll_timeout(&self) -> Option<Timestamp> {
        self.poll_timeout()
    }

    #[inline]
    fn wants_sample(&self, now: Timestamp, request_waits: bool) -> bool {
        self.wants_sample(now, request_waits)
    }

    fn promises(&self) -> Promises {
        self.promises()
    }
}

/// Why a controller could not be built.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[expect(missing_docs, reason = "each variant's message says what it is")]
pub enum ControllerError {
    #[error("{key} names tier \"{tier}\", which the catalog does not have; it has {}", known.join(", "))]
    Tier { key: &'static str, tier: String, known: Vec<String> },
    #[error(transparent)]
    Policy(#[from] PolicyError),
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::LadderId;
    use crate::event::Command;
    use crate::machine::MachineClass;
    use crate::settings::RawSettings;
    use crate::units::Bytes;

    /// Returns the outputs of a controller that adopts these models.
    fn adopt(settings: &RawSettings, models: &[&str]) -> Vec<Output> {
        let settings = Settings::new(settings.clone(), MachineClass::MidRange).unwrap();
        let catalog = Catalog::relative_to(Bytes::from_gib(16));
        let mut controller =
            Controller::new(&settings, &catalog, Detail::Changes, &Registry::built_in()).unwrap();
        let models =
            models.iter().map(|&model| Adopted { model: model.into(), gpu: None }).collect();
        controller.handle(Timestamp::ZERO, &Input::Adopt { models });
        std::iter::from_fn(|| controller.poll_output()).collect()
    }

    fn unload(model: &str) -> Output {
        Output::Command(Command::Unload { model: model.into() })
    }

    fn switched(to: u8) -> Output {
        Output::Switched {
            ladder: LadderId::FIRST,
            from: Rung::NONE,
            to: Rung(to),
            took: Duration::ZERO,
            called_off: None,
        }
    }

    fn serving(rung: u8, model: &str) -> Output {
        let model = Some(model.into());
        Output::Serving { ladder: LadderId::FIRST, rung: Rung(rung), model }
    }

    #[test]
    fn what_is_loaded_already_serves_and_is_not_loaded_again() {
        let mut settings = RawSettings::default();
        settings.manager.start = Some("small".to_owned());
        assert_eq!(adopt(&settings, &["medium"]), [serving(2, "medium"), switched(2)]);
    }

    #[test]
    fn of_several_the_best_serves_and_the_rest_goes() {
        let settings = RawSettings::default();
        let outputs = adopt(&settings, &["large", "small", "unknown"]);
        assert_eq!(outputs, [serving(3, "large"), unload("small")]);
        assert_eq!(adopt(&settings, &["unknown"]), [switched(0)]);
    }

    #[test]
    fn what_is_above_the_pinned_tier_goes() {
        let mut settings = RawSettings::default();
        settings.manager.pin = Some("medium".to_owned());
        assert_eq!(adopt(&settings, &["large"]), [unload("large")]);
        assert_eq!(adopt(&settings, &["large", "medium"]), [serving(2, "medium"), unload("large")]);
    }
}
