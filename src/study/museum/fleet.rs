//! What every idea has in common, so that each file contains only its idea: the loaded models, the queue, and the one
//! end of every request.
//!
//! A model that is to leave takes no more requests and goes when its last has ended. Two seconds after a model has
//! gone, its memory is assumed to be back; a load that failed is then tried again. Requests start in order of arrival;
//! priorities are ignored.

use std::cmp::{Ordering, Reverse};
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use tiershift_core::catalog::{Catalog, LadderId, Rung};
use tiershift_core::decision::{Action, Code, Decision, Measure, Reason, Urgency};
use tiershift_core::event::{Command, Input, Outcome, Output, Verdict};
use tiershift_core::model::{Model, ModelId};
use tiershift_core::request::{CancelledBy, End, Rejection, Request, RequestId, Target};
use tiershift_core::sample::{Resource, Sample, Space};
use tiershift_core::settings::Settings;
use tiershift_core::time::{Timestamp, earliest};
use tiershift_core::units::{Bytes, Percent};

/// The model that a request goes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Route {
    /// The best model that is ready: the idea is about one model at a time.
    Best,
    /// The model that it names, past those that wait for another.
    Asked,
    /// The model that it names, after all that arrived before it.
    InOrder,
}

/// The models, one per rung, and the requests.
#[derive(Debug)]
pub(super) struct Fleet {
    catalog: Catalog,
    settings: Settings,
    route: Route,
    /// The reason code of its decisions.
    code: Code,
    now: Timestamp,
    /// Until then, what was last unloaded may still be in memory.
    pause: Option<Timestamp>,
    /// By rung; that of `none` is never used.
    slots: Vec<Slot>,
    /// The only model that should be loaded, if the idea is about one at a time.
    goal: Option<Rung>,
    queue: VecDeque<Waiting>,
    running: BTreeMap<RequestId, Running>,
    sample: Option<Sample>,
    stopping: bool,
    /// What was last reported: the best that is loaded or wanted, the best that is ready, and the best when nothing was
    /// in progress.
    aim: Rung,
    serving: Rung,
    settled: Rung,
    unsettled_since: Option<Timestamp>,
    out: VecDeque<Output>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Slot {
    state: State,
    leaving: bool,
    running: u32,
    used: Timestamp,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Absent,
    Loading,
    Ready,
    Unloading,
}

#[derive(Clone, Debug)]
struct Waiting {
    request: Request,
    arrived: Timestamp,
    deadline: Timestamp,
}

#[derive(Clone, Copy, Debug)]
struct Running {
    rung: Rung,
    arrived: Timestamp,
    started: Timestamp,
    cancelled_by: Option<CancelledBy>,
}

impl Fleet {
    pub(super) fn new(settings: &Settings, catalog: &Catalog, route: Route, code: Code) -> Self {
        Self {
            code,
            now: Timestamp::ZERO,
            pause: None,
            aim: Rung::NONE,
            slots: vec![Slot::default(); usize::from(catalog.top().0) + 1],
            catalog: catalog.clone(),
            settings: settings.clone(),
            route,
            goal: None,
            queue: VecDeque::new(),
            running: BTreeMap::new(),
            sample: None,
            stopping: false,
            serving: Rung::NONE,
            settled: Rung::NONE,
            unsettled_since: None,
            out: VecDeque::new(),
        }
    }

    /// Takes an input, before the idea sees it. Inputs that occur only in a live run are ignored.
    pub(super) fn take(&mut self, now: Timestamp, input: &Input) {
        self.now = now;
        self.pause = self.pause.filter(|&until| until > now);
        match input {
            Input::Sample(sample) => {
                self.sample.get_or_insert_default().clone_from(sample);
                if self.goal.is_none() && self.route == Route::Best {
                    self.goal = Some(self.start());
                }
            }
            Input::Request(request) => self.admit(now, request),
            Input::Cancel { request } => self.hang_up(*request),
            Input::Outcome(outcome) => self.outcome(now, outcome),
            Input::Shutdown => self.stop(),
            Input::SampleMissing { .. }
            | Input::Timeout
            | Input::Adopt { .. }
            | Input::Settings(_)
            | Input::Switch { .. }
            | Input::Advice(_) => {}
        }
    }

    /// Does what follows, after the idea has decided.
    pub(super) fn settle(&mut self, now: Timestamp) {
        self.expire(now);
        self.approach_goal();
        self.say_what_changed();
        self.start_waiting(now);
        for rung in self.rungs() {
            let slot = self.slot(rung);
            let there = matches!(slot.state, State::Loading | State::Ready);
            if slot.leaving && slot.running == 0 && there {
                slot.state = State::Unloading;
                let model = self.id(rung);
                self.out.push_back(Output::Command(Command::Unload { model }));
            }
        }
        self.tell(now);
    }

    pub(super) fn poll_output(&mut self) -> Option<Output> {
        self.out.pop_front()
    }

    /// Returns when the next waiting request has waited for too long, or a load may begin.
    pub(super) fn next_deadline(&self) -> Option<Timestamp> {
        let impatient = self.queue.iter().map(|waiting| waiting.deadline).min();
        earliest([impatient, self.pause])
    }
}

/// The questions of an idea.
impl Fleet {
    pub(super) fn is_stopping(&self) -> bool {
        self.stopping
    }

    pub(super) fn top(&self) -> Rung {
        self.catalog.top()
    }

    /// Returns the rungs that have a model, upwards.
    pub(super) fn rungs(&self) -> impl DoubleEndedIterator<Item = Rung> + use<> {
        self.catalog.rungs_up()
    }

    /// Returns the model that is loaded or being loaded, for an idea about one at a time.
    pub(super) fn goal(&self) -> Rung {
        self.goal.unwrap_or(Rung::NONE)
    }

    /// Returns whether nothing is being loaded or unloaded, or is about to be.
    pub(super) fn is_settled(&self) -> bool {
        let rests = |slot: &Slot| match slot.state {
            State::Absent => true,
            State::Ready => !slot.leaving,
            State::Loading | State::Unloading => false,
        };
        // The next load waits for the memory of what has gone.
        let comes = self.goal.is_some_and(|goal| goal > Rung::NONE && !self.is_present(goal));
        self.slots.iter().all(rests) && (self.stopping || !comes)
    }

    /// Returns whether no request runs or waits.
    pub(super) fn is_idle(&self) -> bool {
        self.running.is_empty() && self.queue.is_empty()
    }

    /// Returns the models that are at least partly in memory, upwards.
    pub(super) fn present(&self) -> impl Iterator<Item = Rung> {
        self.rungs().filter(|&rung| self.at(rung).state != State::Absent)
    }

    pub(super) fn is_present(&self, rung: Rung) -> bool {
        self.at(rung).state != State::Absent
    }

    /// Returns the models that are ready and have no request, with the moment when they last had one.
    pub(super) fn idle(&self) -> impl Iterator<Item = (Rung, Timestamp)> {
        let is_idle = |rung: &Rung| {
            let slot = self.at(*rung);
            slot.state == State::Ready && slot.running == 0 && !slot.leaving
        };
        self.rungs().filter(is_idle).map(|rung| (rung, self.at(rung).used))
    }

    /// Returns whether a model has no request.
    pub(super) fn is_free(&self, rung: Rung) -> bool {
        self.at(rung).running == 0
    }

    /// Returns the rungs that the waiting requests name, in order of arrival.
    pub(super) fn asked(&self) -> Vec<Rung> {
        self.queue.iter().map(|waiting| self.asked_by(&waiting.request)).collect()
    }

    /// Returns the rung that a request names: the best if it names none.
    pub(super) fn asked_by(&self, request: &Request) -> Rung {
        let named = match &request.target {
            Target::Auto => None,
            Target::Tier(tier) => self.catalog.rung_of_tier(tier),
            Target::Model(id) => self.catalog.rung_of(id),
        };
        named.unwrap_or(self.top())
    }

    /// Returns what a rung takes in the space that it is loaded into.
    pub(super) fn need(&self, rung: Rung) -> Bytes {
        let model = self.model(rung);
        let footprint = model.footprint();
        if model.vram > Bytes::ZERO { footprint.vram } else { footprint.ram }
    }

    /// Returns the space that a rung is loaded into, as it was last read: memory, or that of the GPU with the most
    /// free.
    pub(super) fn space(&self, rung: Rung) -> Option<Space> {
        let sample = self.sample.as_ref()?;
        match self.gpu(rung) {
            Some(gpu) => sample.gpus.get(usize::from(gpu))?.vram,
            None => sample.memory,
        }
    }

    /// Returns the best rung that keeps its space below a share of it, if all our models are unloaded first.
    pub(super) fn best_below(&self, line: Percent) -> Rung {
        self.best_beside(|space| space.others, line)
    }

    /// The same, as if there were no other programs.
    pub(super) fn best_on_an_empty_machine(&self, line: Percent) -> Rung {
        self.best_beside(|_| Bytes::ZERO, line)
    }

    fn best_beside(&self, others: impl Fn(Space) -> Bytes, line: Percent) -> Rung {
        let fits = |rung: &Rung| {
            let space = self.space(*rung);
            space.is_some_and(|s| others(s) + self.need(*rung) <= s.total.share(line))
        };
        self.rungs().rev().find(fits).unwrap_or(Rung::NONE)
    }
}

/// The actions of an idea.
impl Fleet {
    /// Keeps this model alone: the others leave, then it is loaded.
    pub(super) fn go_to(&mut self, rung: Rung) {
        self.goal = Some(rung);
    }

    /// Loads a model beside what is loaded, once the memory of what has gone is back. One that is on its way out but
    /// still there stays.
    pub(super) fn load(&mut self, rung: Rung) {
        if self.pause.is_some() && !self.is_present(rung) {
            return;
        }
        let gpu = self.gpu(rung);
        let model = self.id(rung);
        let slot = self.slot(rung);
        match slot.state {
            State::Absent => {
                slot.state = State::Loading;
                slot.leaving = false;
                self.out.push_back(Output::Command(Command::Load { model, gpu }));
            }
            State::Loading | State::Ready => slot.leaving = false,
            State::Unloading => {}
        }
    }

    /// Lets a model finish its requests, and go.
    pub(super) fn unload(&mut self, rung: Rung) {
        let slot = self.slot(rung);
        slot.leaving = slot.state != State::Absent;
    }

    /// Unloads a model now: its requests are cut off.
    pub(super) fn cut(&mut self, rung: Rung) {
        self.unload(rung);
        for (&request, running) in &mut self.running {
            if running.rung == rung && running.cancelled_by.is_none() {
                running.cancelled_by = Some(CancelledBy::DrainDeadline);
                self.out.push_back(Output::Command(Command::Cancel { request }));
            }
        }
    }
}

impl Fleet {
    fn model(&self, rung: Rung) -> &Model {
        self.catalog.primary(rung).expect("every rung above none has a model")
    }

    fn id(&self, rung: Rung) -> ModelId {
        self.model(rung).id.clone()
    }

    fn at(&self, rung: Rung) -> &Slot {
        &self.slots[usize::from(rung.0)]
    }

    fn slot(&mut self, rung: Rung) -> &mut Slot {
        &mut self.slots[usize::from(rung.0)]
    }

    /// Returns the GPU with the most free, for a model that needs one.
    fn gpu(&self, rung: Rung) -> Option<u8> {
        if rung == Rung::NONE || self.model(rung).vram == Bytes::ZERO {
            return None;
        }
        let gpus = self.sample.iter().flat_map(|sample| (0..=u8::MAX).zip(&sample.gpus));
        let free = gpus.filter_map(|(gpu, reading)| Some((reading.vram?.free(), gpu)));
        // The first among equals.
        let roomiest = free.min_by_key(|&(free, gpu)| (Reverse(free), gpu));
        Some(roomiest.map_or(0, |(_, gpu)| gpu))
    }

    /// Returns the rung to begin with: the tier that the settings name, or the best below the degrade line.
    fn start(&self) -> Rung {
        let named = self.settings.manager.start.as_ref();
        named
            .and_then(|tier| self.catalog.rung_of_tier(tier))
            .unwrap_or_else(|| self.best_below(self.settings.degrade_line))
    }

    fn approach_goal(&mut self) {
        let Some(goal) = self.goal.filter(|_| !self.stopping) else { return };
        for rung in self.rungs().filter(|&rung| rung != goal) {
            self.unload(rung);
        }
        let alone = self.present().all(|rung| rung == goal);
        if goal > Rung::NONE && alone {
            self.load(goal);
        }
    }

    fn admit(&mut self, now: Timestamp, request: &Request) {
        let can = |model: &Model| is_for(model, request);
        let refusal = if self.stopping {
            Some(Rejection::ShuttingDown)
        } else if !self.catalog.models().iter().any(can) {
            Some(Rejection::Unservable)
        } else if self.queue.len() >= self.settings.manager.queue_limit as usize {
            Some(Rejection::QueueFull)
        } else {
            None
        };
        if let Some(reason) = refusal {
            self.end(request.id, End::Rejected { reason, retry_after: None, estimate: false });
            return;
        }
        let verdict = Verdict::Queue;
        self.out.push_back(Output::Accepted { request: request.id, verdict });
        let deadline = now + request.patience.unwrap_or(self.settings.manager.patience);
        self.queue.push_back(Waiting { request: request.clone(), arrived: now, deadline });
    }

    fn start_waiting(&mut self, now: Timestamp) {
        let mut passed_over = VecDeque::new();
        while let Some(waiting) = self.queue.pop_front() {
            let rung = match self.route {
                Route::Best => self.best_ready(),
                Route::Asked | Route::InOrder => self.asked_by(&waiting.request),
            };
            if self.can_start(rung, &waiting.request) {
                self.start_on(now, rung, &waiting);
                continue;
            }
            passed_over.push_back(waiting);
            if self.route == Route::InOrder {
                break;
            }
        }
        passed_over.append(&mut self.queue);
        self.queue = passed_over;
    }

    fn can_start(&self, rung: Rung, request: &Request) -> bool {
        let slot = self.at(rung);
        rung > Rung::NONE
            && slot.state == State::Ready
            && !slot.leaving
            && slot.running < self.model(rung).slots
            && is_for(self.model(rung), request)
    }

    fn start_on(&mut self, now: Timestamp, rung: Rung, waiting: &Waiting) {
        let model = self.id(rung);
        let slot = self.slot(rung);
        slot.running += 1;
        slot.used = now;
        let (request, arrived) = (waiting.request.id, waiting.arrived);
        self.running.insert(request, Running { rung, arrived, started: now, cancelled_by: None });
        self.out.push_back(Output::Command(Command::Start { request, model }));
    }

    fn hang_up(&mut self, request: RequestId) {
        let by = CancelledBy::Client;
        if let Some(place) = self.queue.iter().position(|waiting| waiting.request.id == request) {
            self.queue.remove(place);
            self.end(request, End::Cancelled { by, retry_after: None });
        } else if let Some(running) = self.running.get_mut(&request)
            && running.cancelled_by.is_none()
        {
            running.cancelled_by = Some(by);
            self.out.push_back(Output::Command(Command::Cancel { request }));
        }
    }

    fn outcome(&mut self, now: Timestamp, outcome: &Outcome) {
        match outcome {
            Outcome::Loading { .. } | Outcome::Tried(_) => {}
            Outcome::Loaded { model } => {
                if let Some(rung) = self.catalog.rung_of(model)
                    && self.at(rung).state == State::Loading
                {
                    *self.slot(rung) = Slot { state: State::Ready, used: now, ..*self.at(rung) };
                }
            }
            Outcome::LoadFailed { model, .. }
            | Outcome::Unloaded { model }
            | Outcome::Crashed { model, .. } => {
                self.pause = Some(now + RELEASE);
                if let Some(rung) = self.catalog.rung_of(model) {
                    let running = self.at(rung).running;
                    *self.slot(rung) = Slot { running, ..Slot::default() };
                }
            }
            Outcome::Done { request, first_token, output_tokens, .. } => {
                let Some(running) = self.ended(now, *request) else { return };
                let end = End::Done {
                    model: self.id(running.rung),
                    first_token: running.started.since(running.arrived) + *first_token,
                    latency: now.since(running.arrived),
                    output_tokens: *output_tokens,
                };
                self.end(*request, end);
            }
            Outcome::Failed { request, error } => {
                if self.ended(now, *request).is_some() {
                    self.end(*request, End::Failed { error: error.clone() });
                }
            }
            Outcome::Cancelled { request } => {
                if let Some(running) = self.ended(now, *request) {
                    let by = running.cancelled_by.unwrap_or(CancelledBy::Client);
                    self.end(*request, End::Cancelled { by, retry_after: None });
                }
            }
        }
    }

    /// Removes a request from its model. A server may answer twice; a request ends once.
    fn ended(&mut self, now: Timestamp, request: RequestId) -> Option<Running> {
        let running = self.running.remove(&request)?;
        let slot = self.slot(running.rung);
        slot.running -= 1;
        slot.used = now;
        Some(running)
    }

    fn end(&mut self, request: RequestId, end: End) {
        self.out.push_back(Output::Ended { request, end });
    }

    fn expire(&mut self, now: Timestamp) {
        let is_over = |waiting: &Waiting| waiting.deadline <= now;
        while let Some(place) = self.queue.iter().position(is_over) {
            let Some(waiting) = self.queue.remove(place) else { return };
            let reason = Rejection::Deadline;
            self.end(
                waiting.request.id,
                End::Rejected { reason, retry_after: None, estimate: false },
            );
        }
    }

    /// Refuses what waits, and lets every model go when it has finished.
    fn stop(&mut self) {
        self.stopping = true;
        while let Some(waiting) = self.queue.pop_front() {
            let reason = Rejection::ShuttingDown;
            self.end(
                waiting.request.id,
                End::Rejected { reason, retry_after: None, estimate: false },
            );
        }
        for rung in self.rungs() {
            self.unload(rung);
        }
    }

    fn best_ready(&self) -> Rung {
        let is_ready = |rung: &Rung| {
            let slot = self.at(*rung);
            slot.state == State::Ready && !slot.leaving
        };
        self.rungs().rev().find(is_ready).unwrap_or(Rung::NONE)
    }

    /// Reports a decision if the best that is loaded or wanted has changed.
    fn say_what_changed(&mut self) {
        let stays = |rung: &Rung| self.is_present(*rung) && !self.at(*rung).leaving;
        let there = self.rungs().rev().find(stays).unwrap_or(Rung::NONE);
        let aim = self.goal.filter(|_| !self.stopping).unwrap_or(there);
        let rung = std::mem::replace(&mut self.aim, aim);
        let action = match aim.cmp(&rung) {
            Ordering::Greater => Action::Upgrade { to: aim },
            Ordering::Less => Action::Downgrade { to: aim, urgency: Urgency::Immediate },
            Ordering::Equal => return,
        };
        let space = self.space(rung.max(Rung(1))).filter(|_| self.route == Route::Best);
        let on_a_gpu = self.gpu(rung.max(Rung(1))).is_some();
        let reason = Reason::Own {
            code: self.code,
            resource: space.map(|_| if on_a_gpu { Resource::Vram } else { Resource::Memory }),
            value: space.map(|s| Measure::MilliPercent(Percent::of(s.used(), s.total))),
            limit: None,
            lasted: None,
        };
        let decision = Decision { action, rung, reason, gates: Vec::new() };
        self.out.push_back(Output::Decision(decision));
    }

    /// Reports what serves, and that a switch is complete once nothing is in progress.
    fn tell(&mut self, now: Timestamp) {
        let (ladder, best) = (LadderId::FIRST, self.best_ready());
        if best != self.serving {
            self.serving = best;
            let model = (best > Rung::NONE).then(|| self.id(best));
            self.out.push_back(Output::Serving { ladder, rung: best, model });
        }
        if !self.is_settled() {
            self.unsettled_since.get_or_insert(now);
            return;
        }
        let took = now.since(self.unsettled_since.take().unwrap_or(now));
        if best != self.settled {
            let from = std::mem::replace(&mut self.settled, best);
            self.out.push_back(Output::Switched { ladder, from, to: best, took, called_off: None });
        }
    }
}

/// The longest time from "unloaded" to free memory in a comment of Ollama's scheduler, and one sample: programs wait
/// this long.
const RELEASE: Duration = Duration::from_secs(2);

/// Returns whether a model can serve a request at all.
fn is_for(model: &Model, request: &Request) -> bool {
    model.can(request.task) && request.prompt_tokens <= model.context_tokens
}
