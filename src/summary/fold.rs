//! Reduces a run, event by event, to its figures.

use std::collections::VecDeque;
use std::time::Duration;

use tiershift_core::catalog::{Catalog, Rung};
use tiershift_core::decision::{Action, Decision};
use tiershift_core::event::{
    Adopted, Command, CompanionNews, EventRef, Input, Notice, Observe, OrderNews, Outcome, Output,
};
use tiershift_core::model::{Model, ModelId};
use tiershift_core::request::{CancelledBy, End};
use tiershift_core::sample::{Sample, Space};
use tiershift_core::settings::Settings;
use tiershift_core::text;
use tiershift_core::time::{Timestamp, nanos};
use tiershift_core::units::{Bytes, Percent};

use crate::summary::latency::Spans;
use crate::summary::{
    Account, CompanionFigures, OpenChanges, OverVram, RequestCounts, Summary, TierSeconds,
};

/// Counts a run's figures while it runs, or while its log is read: the result is the same.
///
/// Each event costs a few comparisons. Memory is constant except for the timeline, which takes 16 bytes per switch.
#[derive(Clone, Debug)]
pub struct Fold {
    catalog: Catalog,
    reversal_window: Duration,
    judge: Option<Settings>,
    summary: Summary,
    /// One state for each model, in the catalog's order.
    models: Vec<Life>,
    /// One for each companion, in the catalog's order.
    companions: Vec<Companion>,
    /// The rung that the last switch led to.
    rung: Rung,
    /// The rung that a ready model serves from, and its quality in thousandths of a percent.
    serving: (Rung, u32),
    /// The moment up to which the time on `serving` is counted.
    counted_to: Timestamp,
    /// Time on each rung in nanoseconds, rung 0 first.
    rung_nanos: Vec<u64>,
    /// Quality times time.
    quality_nanos: u128,
    last_switch: Option<Timestamp>,
    reversals: Reversals,
    shortest_dwell: Option<Duration>,
    /// The switches of the last hour.
    hour: VecDeque<Timestamp>,
    load_nanos: u64,
    /// Loads that were dropped before they served, and how many of them soon.
    unserved: u64,
    unserved_soon: u64,
    shutting_down: bool,
    client_cancels: u64,
    /// Decisions that are not carried out yet, and whether they were ordered.
    decided: OpenChanges<bool>,
    /// Quality of the models that answered, summed over the answered requests, in thousandths of a percent.
    answered_quality: u64,
    latency: Spans,
    first_token: Spans,
    strain: Strain,
    account: Option<Account>,
}

/// What a model is doing, according to its commands and outcomes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Life {
    Absent,
    Loading {
        since: Timestamp,
    },
    Ready {
        since: Timestamp,
        served: bool,
    },
    /// Asked to unload: while it was loading since a moment, or ready and idle since one, or neither.
    Leaving {
        loading: Option<Timestamp>,
        unserved_since: Option<Timestamp>,
    },
}

/// Time under memory pressure, as the samples show it.
#[derive(Clone, Debug, Default)]
struct Strain {
    since: Timestamp,
    above: bool,
    over: bool,
    unavoidable: bool,
    exhausted: bool,
    above_nanos: u64,
    over_nanos: u64,
    /// The GPUs of the last sample, and the time over their memory.
    gpus: Sample,
    over_vram: OverVram,
    unavoidable_nanos: u64,
    exhaustions: u64,
}

/// Recognises reversals: switches in the opposite direction of the one before them, soon after it.
///
/// The first load of a run has nothing before it that it could change, so that no switch reverses it. Nor does a switch
/// reverse an order, or an order a decision of the policy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Reversals {
    /// When the last switch was complete, and whether it went up.
    last: Option<(Timestamp, bool)>,
    loaded: bool,
}

impl Reversals {
    /// Takes a completed switch and returns whether it is a reversal.
    pub(crate) fn note(
        &mut self,
        now: Timestamp,
        from: Rung,
        to: Rung,
        ordered: bool,
        window: Duration,
    ) -> bool {
        let up = to > from;
        let reverses = !ordered
            && self.last.is_some_and(|(last, was_up)| up != was_up && now.since(last) < window);
        let is_first_load = !std::mem::replace(&mut self.loaded, true) && from == Rung::NONE;
        self.last = (!is_first_load && !ordered).then_some((now, up));
        reverses
    }
}

/// A companion's figures so far, and since when it has served.
#[derive(Clone, Debug)]
struct Companion {
    figures: CompanionFigures,
    since: Option<Timestamp>,
}

impl Companion {
    fn new(model: &Model) -> Self {
        let figures = CompanionFigures { model: model.id.to_string(), ..Default::default() };
        Self { figures, since: None }
    }

    fn finish(mut self, end: Timestamp) -> CompanionFigures {
        let still = self.since.map(|since| end.since(since)).unwrap_or_default();
        self.figures.seconds += still.as_secs_f64();
        self.figures
    }
}

impl Observe for Fold {
    #[inline]
    fn observe(&mut self, now: Timestamp, event: EventRef<'_>) {
        match event {
            EventRef::Input(input) => self.input(now, input),
            EventRef::Output(output) => self.output(now, output),
        }
    }
}

impl Fold {
    /// Begins at zero with nothing loaded.
    pub fn new(catalog: &Catalog, reversal_window: Duration) -> Self {
        Self {
            reversal_window,
            judge: None,
            summary: Summary {
                timeline: vec![(Timestamp::ZERO, Rung::NONE)],
                ..Summary::default()
            },
            models: vec![Life::Absent; catalog.models().len()],
            companions: catalog.companions().iter().map(Companion::new).collect(),
            rung: Rung::NONE,
            serving: (Rung::NONE, 0),
            counted_to: Timestamp::ZERO,
            rung_nanos: vec![0; usize::from(catalog.top().0) + 1],
            quality_nanos: 0,
            last_switch: None,
            reversals: Reversals::default(),
            shortest_dwell: None,
            hour: VecDeque::new(),
            load_nanos: 0,
            unserved: 0,
            unserved_soon: 0,
            shutting_down: false,
            client_cancels: 0,
            decided: OpenChanges::default(),
            answered_quality: 0,
            latency: Spans::default(),
            first_token: Spans::default(),
            strain: Strain::default(),
            account: None,
            catalog: catalog.clone(),
        }
    }

    /// Counts time above the lines from the samples, each of which holds until the next, however late that is. Without
    /// this, and without an [`Account`], those figures are zero.
    #[must_use]
    pub fn judging_samples(mut self, settings: &Settings) -> Self {
        self.judge = Some(settings.clone());
        self
    }

    /// Uses the simulated machine's account in place of the samples.
    pub fn set_account(&mut self, account: Account) {
        self.account = Some(account);
    }

    /// Counts an input of the controller.
    #[inline]
    fn input(&mut self, now: Timestamp, input: &Input) {
        if let Input::Sample(sample) = input {
            self.summary.samples += 1;
            if let Some(settings) = &self.judge {
                self.strain.advance(now);
                self.strain.judge(settings, sample);
            }
        } else {
            self.other_input(now, input);
        }
    }

    fn other_input(&mut self, now: Timestamp, input: &Input) {
        match input {
            Input::SampleMissing { .. } => self.summary.samples_missing += 1,
            Input::Request(_) => self.summary.requests.arrived += 1,
            Input::Outcome(outcome) => self.outcome(now, outcome),
            Input::Adopt { models } => {
                for Adopted { model, .. } in models {
                    // Loading it was no cost of this run, whatever happens to it.
                    self.enter(model, Life::Ready { since: now, served: true });
                }
            }
            Input::Settings(raw) => {
                let judge = self.judge.as_ref();
                if let Some(settings) = judge.and_then(|judge| judge.with((**raw).clone()).ok()) {
                    self.judge = Some(settings);
                }
            }
            Input::Shutdown => self.shutting_down = true,
            Input::Sample(_)
            | Input::Cancel { .. }
            | Input::Timeout
            | Input::Switch { .. }
            | Input::Advice(_) => {}
        }
    }

    /// Counts an output of the controller.
    fn output(&mut self, now: Timestamp, output: &Output) {
        match output {
            Output::Command(command) => self.command(now, command),
            Output::Accepted { .. } => self.summary.requests.accepted += 1,
            Output::Ended { end, .. } => self.ended(end),
            Output::Serving { rung, model, .. } => self.serve_from(now, *rung, model.as_ref()),
            Output::Switched { from, to, called_off, .. } => {
                self.summary.switches_called_off += u64::from(called_off.is_some());
                self.switched(now, *from, *to);
            }
            Output::Decision(Decision {
                action: Action::Upgrade { to } | Action::Downgrade { to, .. },
                reason,
                ..
            }) => self.decided.decide(*to, reason.is_for_demand()),
            Output::Companion { model, news } => self.companion(now, model, *news),
            Output::Order { news: OrderNews::Refused { .. }, .. } => {
                self.summary.orders_refused += 1;
            }
            Output::Notice(Notice::Unanswered { .. }) => self.summary.timeouts += 1,
            Output::Notice(notice @ Notice::NotRead { .. }) => {
                self.summary.warnings.push(text::notice(notice, &self.catalog));
            }
            Output::Decision(_) | Output::Order { .. } | Output::Consult(_) | Output::Notice(_) => {
            }
        }
    }

    fn command(&mut self, now: Timestamp, command: &Command) {
        match command {
            Command::Load { model, .. } => {
                self.summary.loads += 1;
                self.enter(model, Life::Loading { since: now });
            }
            Command::Unload { model } => {
                let leaving = match self.life(model) {
                    Life::Loading { since } => {
                        Life::Leaving { loading: Some(since), unserved_since: None }
                    }
                    Life::Ready { since, served: false } => {
                        Life::Leaving { loading: None, unserved_since: Some(since) }
                    }
                    Life::Ready { served: true, .. } | Life::Absent => {
                        Life::Leaving { loading: None, unserved_since: None }
                    }
                    leaving @ Life::Leaving { .. } => leaving,
                };
                self.enter(model, leaving);
            }
            Command::Start { model, .. } => {
                if let Life::Ready { since, .. } = self.life(model) {
                    self.enter(model, Life::Ready { since, served: true });
                }
            }
            Command::Cancel { .. } | Command::Try { .. } => {}
        }
    }

    fn outcome(&mut self, now: Timestamp, outcome: &Outcome) {
        match outcome {
            Outcome::Loaded { model } => {
                if let Life::Loading { since } = self.life(model) {
                    self.load_nanos += nanos(now.since(since));
                    self.enter(model, Life::Ready { since: now, served: false });
                }
            }
            Outcome::LoadFailed { model, .. } => {
                self.summary.failed_loads += 1;
                if let Life::Loading { since } | Life::Leaving { loading: Some(since), .. } =
                    self.life(model)
                {
                    self.load_nanos += nanos(now.since(since));
                }
                if let Life::Leaving { loading: Some(_), .. } = self.life(model) {
                    self.drop_unserved(Duration::ZERO);
                }
                self.enter(model, Life::Absent);
            }
            Outcome::Unloaded { model } | Outcome::Crashed { model, .. } => {
                let has_died = matches!(outcome, Outcome::Crashed { .. });
                self.summary.crashes += u64::from(has_died);
                match self.life(model) {
                    Life::Leaving { loading: Some(since), .. } | Life::Loading { since } => {
                        self.load_nanos += nanos(now.since(since));
                        self.drop_unserved(Duration::ZERO);
                    }
                    Life::Leaving { unserved_since: Some(since), .. }
                    | Life::Ready { since, served: false } => self.drop_unserved(now.since(since)),
                    Life::Leaving { loading: None, unserved_since: None }
                    | Life::Ready { served: true, .. }
                    | Life::Absent => {}
                }
                self.enter(model, Life::Absent);
            }
            Outcome::Loading { .. }
            | Outcome::Tried(_)
            | Outcome::Done { .. }
            | Outcome::Failed { .. }
            | Outcome::Cancelled { .. } => {}
        }
    }

    fn drop_unserved(&mut self, age: Duration) {
        if !self.shutting_down {
            self.unserved += 1;
            self.unserved_soon += u64::from(age < self.reversal_window);
        }
    }

    fn ended(&mut self, end: &End) {
        let requests = &mut self.summary.requests;
        match end {
            End::Done { model, first_token, latency, .. } => {
                requests.done += 1;
                let quality = self.catalog.model(model).map_or(0, |model| model.quality.milli());
                self.answered_quality += u64::from(quality);
                self.latency.add(*latency);
                self.first_token.add(*first_token);
            }
            End::Failed { .. } => requests.failed += 1,
            End::Cancelled { by, .. } => {
                requests.cancelled += 1;
                self.client_cancels += u64::from(*by == CancelledBy::Client);
            }
            End::Rejected { .. } => requests.rejected += 1,
        }
    }

    fn switched(&mut self, now: Timestamp, from: Rung, to: Rung) {
        let ordered = self.decided.take(to).unwrap_or_default();
        // Stopping a run ends what it serves: that is not a switch.
        if from != to && !self.shutting_down {
            let up = to > from;
            self.summary.switches += 1;
            *(if up { &mut self.summary.upgrades } else { &mut self.summary.downgrades }) += 1;
            let reverses = self.reversals.note(now, from, to, ordered, self.reversal_window);
            self.summary.reversals += u64::from(reverses);
            if let Some(last) = self.last_switch {
                let dwell = now.since(last);
                self.shortest_dwell = Some(self.shortest_dwell.map_or(dwell, |d| d.min(dwell)));
            }
            self.last_switch = Some(now);
            while self.hour.front().is_some_and(|&first| now.since(first) >= HOUR) {
                self.hour.pop_front();
            }
            self.hour.push_back(now);
            let peak = &mut self.summary.switches_per_hour_peak;
            *peak = (*peak).max(self.hour.len() as u64);
        }
        self.rung = to;
    }

    /// Counts from now on the model that really serves; in an earlier version's log, the rung's first model.
    fn serve_from(&mut self, now: Timestamp, rung: Rung, model: Option<&ModelId>) {
        self.count_time(now);
        let model = model.and_then(|id| self.catalog.model(id));
        let model = model.or_else(|| self.catalog.primary(rung));
        let quality = model.map_or(0, |model| model.quality.milli());
        self.serving = (rung, quality);
        self.summary.timeline.push((now, rung));
    }

    fn companion(&mut self, now: Timestamp, model: &ModelId, news: CompanionNews) {
        let mut each = self.catalog.companions().iter().zip(&mut self.companions);
        let Some((_, Companion { figures, since })) = each.find(|(known, _)| known.id == *model)
        else {
            return;
        };
        match news {
            CompanionNews::Wanted { .. } => figures.loads += 1,
            CompanionNews::GivenUp { .. } => figures.given_up += 1,
            CompanionNews::Serves => *since = Some(now),
            CompanionNews::ServesNoMore => {
                let served = since.take().map(|since| now.since(since));
                figures.seconds += served.unwrap_or_default().as_secs_f64();
            }
        }
    }

    fn place(&self, model: &ModelId) -> Option<usize> {
        self.catalog.models().iter().position(|known| known.id == *model)
    }

    fn life(&self, model: &ModelId) -> Life {
        self.place(model).map_or(Life::Absent, |place| self.models[place])
    }

    fn enter(&mut self, model: &ModelId, life: Life) {
        if let Some(place) = self.place(model) {
            self.models[place] = life;
        }
    }

    fn count_time(&mut self, now: Timestamp) {
        let span = nanos(now.since(self.counted_to));
        let (rung, quality) = self.serving;
        self.rung_nanos[usize::from(rung.0)] += span;
        self.quality_nanos += u128::from(quality) * u128::from(span);
        self.counted_to = self.counted_to.max(now);
    }

    /// Returns the figures of the run, which ended at `end`.
    ///
    /// What the fold cannot know is left empty: fingerprint, digest, policy, rejected rows, violations, warnings.
    pub fn finish(mut self, end: Timestamp) -> Summary {
        self.count_time(end);
        self.strain.advance(end);
        // A load that is interrupted by the end has cost its time too.
        for life in &self.models {
            if let Life::Loading { since } | Life::Leaving { loading: Some(since), .. } = life {
                self.load_nanos += nanos(end.since(*since));
            }
        }
        let account = self.account.unwrap_or_else(|| self.strain.account());
        let mut summary = Summary { account: account.clone(), ..self.summary };
        let requests = &mut summary.requests;
        let ended = requests.done + requests.failed + requests.rejected + requests.cancelled;
        requests.open = requests.arrived.saturating_sub(ended);
        let counted = ended - self.client_cancels;
        summary.availability = (counted > 0).then(|| requests.done as f64 / counted as f64);
        summary.quality_by_requests = (counted > 0).then(|| {
            let best = f64::from(Percent::ONE_HUNDRED.milli());
            self.answered_quality as f64 / best / counted as f64
        });
        let none_arrived = *requests == RequestCounts::default();
        summary.wasted_loads = if none_arrived { self.unserved_soon } else { self.unserved };
        summary.seconds = seconds(end.as_nanos());
        summary.reload_seconds = seconds(self.load_nanos);
        summary.shortest_dwell_seconds = self.shortest_dwell.map(|dwell| dwell.as_secs_f64());
        summary.seconds_above_degrade_line = account.above_degrade_line.as_secs_f64();
        summary.seconds_over_memory = account.over_memory.as_secs_f64();
        let OverVram { any, by_gpu } = &account.over_vram;
        summary.seconds_over_vram = (!by_gpu.is_empty()).then_some(any.as_secs_f64());
        if by_gpu.len() > 1 {
            let each = by_gpu.iter().map(Duration::as_secs_f64);
            summary.seconds_over_vram_by_gpu = each.collect();
        }
        summary.seconds_over_memory_unavoidable = account.over_memory_unavoidable.as_secs_f64();
        summary.out_of_memory_events = account.out_of_memory_events;
        if end > Timestamp::ZERO {
            let best = u128::from(Percent::ONE_HUNDRED.milli());
            let all = u128::from(end.as_nanos()) * best;
            summary.quality_served_fraction = self.quality_nanos as f64 / all as f64;
        }
        let tier = |(rung, &nanos): (u8, &u64)| TierSeconds {
            tier: self.catalog.tier_name(Rung(rung)).to_owned(),
            seconds: seconds(nanos),
        };
        summary.tier_seconds = (0..).zip(&self.rung_nanos).map(tier).collect();
        summary.companions = self.companions.into_iter().map(|it| it.finish(end)).collect();
        summary.latency_ms = self.latency.percentiles();
        summary.first_token_ms = self.first_token.percentiles();
        summary.final_tier = self.catalog.tier_name(self.serving.0).to_owned();
        summary
    }
}

impl Strain {
    fn advance(&mut self, now: Timestamp) {
        let span = nanos(now.since(self.since));
        self.above_nanos += if self.above { span } else { 0 };
        self.over_nanos += if self.over { span } else { 0 };
        self.unavoidable_nanos += if self.unavoidable { span } else { 0 };
        if !self.gpus.gpus.is_empty() {
            self.over_vram.count(now.since(self.since), &self.gpus);
        }
        self.since = self.since.max(now);
    }

    fn judge(&mut self, settings: &Settings, sample: &Sample) {
        let above = |space: &Space| space.used() > settings.degrade_limit(space.total);
        let mut spaces = sample.spaces();
        self.above = spaces.any(|(key, space)| settings.constrains(key.resource) && above(space));
        self.over = sample.memory.is_some_and(|space| space.used() > space.total);
        self.unavoidable = sample.memory.is_some_and(|space| space.others > space.total);
        if !(self.gpus.gpus.is_empty() && sample.gpus.is_empty()) {
            self.gpus.gpus.clone_from(&sample.gpus);
        }
        let no_swap = sample.swap.is_none_or(|swap| swap.free() == Bytes::ZERO);
        let exhausted = self.over && no_swap;
        self.exhaustions += u64::from(exhausted && !self.exhausted);
        self.exhausted = exhausted;
    }

    fn account(&self) -> Account {
        Account {
            above_degrade_line: Duration::from_nanos(self.above_nanos),
            over_memory: Duration::from_nanos(self.over_nanos),
            over_vram: self.over_vram.clone(),
            over_memory_unavoidable: Duration::from_nanos(self.unavoidable_nanos),
            out_of_memory_events: self.exhaustions,
        }
    }
}

fn seconds(nanos: u64) -> f64 {
    Timestamp::from_nanos(nanos).as_secs_f64()
}

const HOUR: Duration = Duration::from_hours(1);
