//! Watches the invariants of DESIGN from outside: it sees only what passes between controller and world.
//!
//! The manager checks before it commands; this checks again afterwards, from its own [`Book`]. A violation is a defect
//! of tiershift or of its policy, never of the scenario. The rules about *good* decisions hold for a policy that
//! promises them, those about the manager for ours; the baselines and the models of other programs promise nothing. S8,
//! that a log and its state agree, is checked by `verify`.

mod activity;
mod book;
mod companions;
mod orders;
mod quiet;
mod recovery;
mod relief;
mod requests;
mod safety;
mod violations;
mod waits;

use tiershift_core::catalog::Catalog;
use tiershift_core::decision::{Action, Decision, Reason};
use tiershift_core::event::{Command, EventRef, Input, Notice, Observe, Outcome, Output};
use tiershift_core::model::ModelId;
use tiershift_core::policy::Promises;
use tiershift_core::settings::{RawSettings, Settings};
use tiershift_core::time::Timestamp;

use crate::sim::checker::activity::Activity;
use crate::sim::checker::book::{Book, is_break};
use crate::sim::checker::companions::Companions;
use crate::sim::checker::orders::Orders;
use crate::sim::checker::quiet::Quiet;
use crate::sim::checker::recovery::Recovery;
use crate::sim::checker::relief::Relief;
use crate::sim::checker::requests::Requests;
use crate::sim::checker::violations::Violations;
use crate::sim::checker::waits::Waits;

/// The checker.
pub(super) struct Checker {
    book: Book,
    requests: Requests,
    relief: Relief,
    recovery: Recovery,
    companions: Companions,
    orders: Orders,
    waits: Waits,
    activity: Activity,
    quiet: Quiet,
    violations: Violations,
}

impl Observe for Checker {
    #[inline]
    fn observe(&mut self, now: Timestamp, event: EventRef<'_>) {
        match event {
            EventRef::Input(input) => self.input(now, input),
            EventRef::Output(output) => self.output(output),
        }
    }
}

impl Checker {
    pub(super) fn new(settings: &Settings, catalog: &Catalog, promises: Promises) -> Self {
        let book = Book::new(settings, catalog, promises);
        Self {
            recovery: Recovery::new(&book),
            companions: Companions::new(&book),
            book,
            requests: Requests::default(),
            relief: Relief::default(),
            orders: Orders::default(),
            waits: Waits::default(),
            activity: Activity::default(),
            quiet: Quiet::default(),
            violations: Violations::default(),
        }
    }

    /// Sets since when the world causes no events of its own, if known.
    #[must_use]
    pub(super) fn quiet_since(mut self, since: Option<Timestamp>) -> Self {
        self.quiet = Quiet::new(since);
        self
    }

    /// Returns what was broken, in order.
    pub(super) fn finish(mut self, end: Timestamp) -> Vec<String> {
        self.orders.settle(&self.book, &mut self.violations);
        self.end_moment(end);
        self.book.now = end;
        // Anything due before the end had to happen; anything due at the end may.
        let before_end = Timestamp::from_nanos(end.as_nanos().saturating_sub(1));
        self.requests.pass(&self.book, before_end, &mut self.violations);
        let missed = self.recovery.missed_at_the_end(&self.book);
        self.quiet.judge(&self.book, &self.requests, missed, &mut self.violations);
        self.violations.finish()
    }

    fn input(&mut self, now: Timestamp, input: &Input) {
        if now < self.book.now {
            let before = self.book.now.as_secs_f64();
            self.violations.report(now, "S7", format!("time ran back from {before} s"));
        }
        self.orders.settle(&self.book, &mut self.violations);
        self.activity.take_input(&self.book, matches!(input, Input::Timeout), &mut self.violations);
        if now > self.book.now {
            self.end_moment(now);
        }
        self.book.now = now;
        if let Input::Sample(sample) = input {
            // An impossible reading does not count.
            if sample.is_plausible() {
                // During a gap nothing could be waited for.
                if self.book.is_after_a_gap() {
                    self.waits.disturb();
                }
                self.book.read(sample);
                self.relief.observe(&self.book, &mut self.violations);
                self.recovery.observe(&self.book, sample, &mut self.violations);
                self.companions.observe(&self.book, &mut self.violations);
            }
        } else {
            self.rare_input(input);
        }
    }

    /// Called when all inputs of the book's moment have been answered.
    #[inline]
    fn end_moment(&mut self, next: Timestamp) {
        let (book, moment) = (&self.book, self.book.now);
        self.requests.pass(book, moment, &mut self.violations);
        self.orders.pass(book, moment, next, &mut self.violations);
        self.waits.pass(book, moment, &mut self.violations);
    }

    fn rare_input(&mut self, input: &Input) {
        match input {
            Input::Request(request) => {
                self.requests.arrive(&self.book, request, &mut self.violations);
            }
            Input::Cancel { request } => self.requests.hang_up(*request),
            Input::Outcome(outcome) => self.outcome(outcome),
            Input::Switch { tier, .. } => self.orders.ask(tier),
            Input::Settings(raw) => self.change_settings(raw),
            Input::Sample(_)
            | Input::SampleMissing { .. }
            | Input::Timeout
            | Input::Adopt { .. }
            | Input::Advice(_)
            | Input::Shutdown => {}
        }
        self.book.take_input(input);
    }

    /// Takes other settings, as the controller does; every wait that they may change starts over.
    fn change_settings(&mut self, raw: &RawSettings) {
        let Ok(settings) = self.book.settings.with(raw.clone()) else { return };
        self.book.change_settings(settings);
        self.begin_anew();
    }

    /// Checks what follows against other promises: those of the policy that other settings name.
    pub(super) fn hold_to(&mut self, promises: Promises) {
        self.book.promises = promises;
        self.begin_anew();
    }

    fn begin_anew(&mut self) {
        self.recovery = Recovery::new(&self.book);
        self.recovery.order(self.orders.rung());
        self.companions.disturb();
        self.relief = Relief::default();
        self.waits.disturb();
    }

    fn outcome(&mut self, outcome: &Outcome) {
        if is_break(outcome) || self.book.is_slow_load(outcome) {
            self.fail();
            self.companions.disturb();
            self.orders.disturb();
            self.waits.disturb();
        }
        if is_break(outcome) || matches!(outcome, Outcome::Unloaded { .. }) {
            self.relief.is_carried_out();
        }
    }

    fn output(&mut self, output: &Output) {
        self.activity.take_output(output);
        match output {
            Output::Command(command) => self.command(command),
            Output::Decision(decision) => self.decision(decision),
            Output::Ended { request, .. } => {
                let on = self.requests.end(&self.book, *request, &mut self.violations);
                self.quiet.end_request(&self.book);
                if let Some(on) = on {
                    let seen = &mut self.book.models[on];
                    seen.running = seen.running.saturating_sub(1);
                }
            }
            Output::Switched { from, to, called_off, .. } => {
                self.waits.disturb();
                if from != to {
                    self.recovery.disturb();
                    self.quiet.switch(&self.book);
                }
                if called_off.is_some() {
                    self.fail();
                }
            }
            Output::Order { tier, news } => {
                self.orders.answer(&self.book, tier, news, &mut self.violations);
                self.waits.answer(&self.book, tier, news, &mut self.violations);
                self.recovery.order(self.orders.rung());
            }
            Output::Notice(Notice::Unanswered { .. }) => {
                self.fail();
                self.orders.disturb();
                self.waits.disturb();
            }
            Output::Serving { .. } => self.waits.begin(),
            Output::Companion { model, news } => self.companions.take(&self.book, model, *news),
            Output::Accepted { .. } | Output::Consult(_) | Output::Notice(_) => {}
        }
        self.book.take_output(output);
        if let Output::Switched { .. } = output {
            self.orders.take_end(&self.book);
        }
    }

    fn command(&mut self, command: &Command) {
        let (book, out) = (&self.book, &mut self.violations);
        match command {
            Command::Load { model, gpu } => match book.index_of(model) {
                Some(index) => {
                    safety::check_load(book, index, *gpu, out);
                    self.waits.load(&book.catalog.models()[index].tier);
                }
                None => self.stranger(model),
            },
            Command::Unload { model } => match book.index_of(model) {
                Some(index) => {
                    safety::check_unload(book, index, out);
                    // A server that must be asked again delays us.
                    if book.models[index].asked > 0 {
                        self.waits.disturb();
                    }
                }
                None => self.stranger(model),
            },
            Command::Start { request, model } => match book.index_of(model) {
                Some(index) => {
                    safety::check_start(book, *request, index, out);
                    self.requests.start(book, *request, index, out);
                    self.book.models[index].running += 1;
                }
                None => self.stranger(model),
            },
            // A request of our own: it is recognised by its name.
            Command::Try { .. } => {}
            Command::Cancel { request } => {
                if let Some(on) = self.requests.cut(book, *request) {
                    safety::check_cut(book, *request, on, out);
                }
            }
        }
    }

    fn stranger(&mut self, model: &ModelId) {
        let what = format!("{model} is asked for and is not in the catalog");
        self.violations.report(self.book.now, "S4", what);
    }

    fn decision(&mut self, decision: &Decision) {
        let (book, out) = (&self.book, &mut self.violations);
        self.waits.take_decision(book, decision, out);
        self.recovery.take_decision(decision);
        if decision.action == Action::Hold {
            return;
        }
        safety::check_upgrade(book, decision, out);
        companions::check_decision(book, decision, out);
        self.orders.check_decision(book, decision, out);
        self.activity.take_decision(book, decision, out);
        let is_for_service = matches!(
            decision.reason,
            Reason::Slow { .. } | Reason::Failing { .. } | Reason::SustainedLoad { .. }
        );
        if is_for_service {
            self.fail();
        }
    }

    /// Notes that something failed, or was treated as a failure.
    fn fail(&mut self) {
        self.recovery.fail(&self.book);
        self.quiet.fail(&self.book);
    }
}

#[cfg(test)]
mod tests;
