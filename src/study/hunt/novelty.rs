//! What is new in a run, and worlds made of those that showed something new.
//!
//! Fresh numbers find what is common, but rarely what needs two rare parts at once. So some worlds of a hunt are made
//! of one that showed something new, with a part or two of another. The share of such worlds grows with the news that
//! they have recently brought.

use std::collections::{BTreeMap, BTreeSet};

use tiershift_core::catalog::Rung;
use tiershift_core::decision::{Action, Code};
use tiershift_core::event::{Command, EventRef, Input, Observe, Outcome, Output};
use tiershift_core::model::ModelId;
use tiershift_core::sample::ResourceKey;
use tiershift_core::settings::Settings;
use tiershift_core::time::Timestamp;
use tiershift_core::units::Bytes;

use crate::sim::rng::{Seed, Stream};
use crate::study::hunt::id::{Part, WorldId};

/// Something that happened in a run, coarse enough to happen again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Feature {
    /// A decision: its reason, and the rungs before and after it.
    Decision { reason: Code, from: Rung, to: Rung },
    /// Two successive reasons.
    Reasons { before: Code, after: Code },
    /// Two successive steps of one model.
    Steps { before: Step, after: Step },
    /// How close the use of a space came to its limit, from below or from above, as a power of two in bytes.
    Margin { space: ResourceKey, is_above: bool, log2: u8 },
}

/// A step of a model's life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Step {
    Load,
    Loading,
    Loaded,
    LoadFailed,
    Try,
    Tried,
    Serves,
    Start,
    Unload,
    Unloaded,
    Crashed,
}

/// Collects the features of a run.
pub(super) struct Signature {
    settings: Option<Settings>,
    features: BTreeSet<Feature>,
    last_reason: Option<Code>,
    last_steps: BTreeMap<ModelId, Step>,
    /// How close each space came to its limit, from below and from above.
    closest: BTreeMap<(ResourceKey, bool), Bytes>,
}

impl Signature {
    /// Begins a run under these settings.
    pub(super) fn new(settings: Option<Settings>) -> Self {
        Self {
            settings,
            features: BTreeSet::new(),
            last_reason: None,
            last_steps: BTreeMap::new(),
            closest: BTreeMap::new(),
        }
    }

    /// Returns all features of the run.
    pub(super) fn finish(mut self) -> BTreeSet<Feature> {
        let log2 = |margin: Bytes| margin.get().checked_ilog2().map_or(0, |log2| log2 as u8);
        let margin = |(&(space, is_above), &margin): (&(ResourceKey, bool), &Bytes)| {
            Feature::Margin { space, is_above, log2: log2(margin) }
        };
        self.features.extend(self.closest.iter().map(margin));
        self.features
    }

    fn step(&mut self, model: &ModelId, after: Step) {
        match self.last_steps.get_mut(model) {
            Some(last) => {
                let before = std::mem::replace(last, after);
                self.features.insert(Feature::Steps { before, after });
            }
            None => {
                self.last_steps.insert(model.clone(), after);
            }
        }
    }
}

impl Observe for Signature {
    fn observe(&mut self, _: Timestamp, event: EventRef<'_>) {
        match event {
            EventRef::Input(Input::Sample(sample)) => {
                let Some(settings) = &self.settings else { return };
                for (key, space) in sample.spaces() {
                    let (used, limit) = (space.used(), settings.degrade_limit(space.total));
                    let is_above = used > limit;
                    let margin = if is_above { used - limit } else { limit - used };
                    let closest = self.closest.entry((key, is_above)).or_insert(margin);
                    *closest = margin.min(*closest);
                }
            }
            EventRef::Input(Input::Outcome(outcome)) => match outcome {
                Outcome::Loading { model } => self.step(model, Step::Loading),
                Outcome::Loaded { model } => self.step(model, Step::Loaded),
                Outcome::LoadFailed { model, .. } => self.step(model, Step::LoadFailed),
                Outcome::Unloaded { model } => self.step(model, Step::Unloaded),
                Outcome::Crashed { model, .. } => self.step(model, Step::Crashed),
                Outcome::Tried(tried) => self.step(&tried.model, Step::Tried),
                Outcome::Done { .. } | Outcome::Failed { .. } | Outcome::Cancelled { .. } => {}
            },
            EventRef::Output(Output::Command(command)) => match command {
                Command::Load { model, .. } => self.step(model, Step::Load),
                Command::Unload { model } => self.step(model, Step::Unload),
                Command::Try { model, .. } => self.step(model, Step::Try),
                Command::Start { model, .. } => self.step(model, Step::Start),
                Command::Cancel { .. } => {}
            },
            EventRef::Output(Output::Serving { model: Some(model), .. }) => {
                self.step(model, Step::Serves);
            }
            EventRef::Output(Output::Decision(decision)) => {
                let (from, reason) = (decision.rung, decision.reason.code());
                let to = match decision.action {
                    Action::Hold => from,
                    Action::Upgrade { to } | Action::Downgrade { to, .. } => to,
                };
                self.features.insert(Feature::Decision { reason, from, to });
                if let Some(before) = self.last_reason.replace(reason)
                    && before != reason
                {
                    self.features.insert(Feature::Reasons { before, after: reason });
                }
            }
            EventRef::Input(_) | EventRef::Output(_) => {}
        }
    }
}

/// Chooses the worlds of a hunt by the results of those before them.
#[derive(Debug)]
pub(super) struct Guide {
    luck: Stream,
    seen: BTreeSet<Feature>,
    /// The worlds that showed something new.
    kept: Vec<WorldId>,
    /// How productive fresh worlds and made ones were recently.
    fresh: Yield,
    made: Yield,
}

/// How much news a number of worlds brought.
#[derive(Clone, Copy, Debug, Default)]
struct Yield {
    worlds: u64,
    news: u64,
}

impl Yield {
    /// Returns the news per thousand worlds.
    fn in_a_thousand(self) -> u64 {
        self.news * 1000 / self.worlds.max(1)
    }

    /// Ends a round: earlier results count for half.
    fn age(&mut self) {
        (self.worlds, self.news) = (self.worlds / 2, self.news / 2);
    }
}

impl Guide {
    /// Begins a hunt whose first world has this number.
    pub(super) fn new(first: u64) -> Self {
        Self {
            luck: Seed(first).stream("hunt.guide"),
            seen: BTreeSet::new(),
            kept: Vec::new(),
            fresh: Yield::default(),
            made: Yield::default(),
        }
    }

    /// Takes the result of a world.
    pub(super) fn learn(&mut self, world: &WorldId, features: BTreeSet<Feature>) {
        let known = self.seen.len();
        self.seen.extend(features);
        let news = (self.seen.len() - known) as u64;
        let yields = if world.is_made() { &mut self.made } else { &mut self.fresh };
        yields.worlds += 1;
        yields.news += news;
        if news > 0 {
            self.kept.push(world.clone());
        }
    }

    /// Returns how many worlds of a round of this size are to be made of parts.
    pub(super) fn share_of(&mut self, round: u64) -> u64 {
        let [fresh, made] = [self.fresh, self.made].map(Yield::in_a_thousand);
        let share = match self.made.worlds {
            0 => round / 2,
            _ => round * made / (fresh + made).max(1),
        };
        self.fresh.age();
        self.made.age();
        let least = round / LEAST_SHARE;
        share.clamp(least, round - least)
    }

    /// Returns how many features have been seen.
    pub(super) fn seen(&self) -> usize {
        self.seen.len()
    }

    /// Makes a world from those that were kept; `None` while there are none.
    pub(super) fn make(&mut self) -> Option<WorldId> {
        let mut world = self.pick()?.clone();
        for _ in 0..=self.luck.below(MOST_PARTS - 1) {
            let (part, _) = Part::ALL[self.luck.below(Part::ALL.len() as u64) as usize];
            let number = match self.luck.below(2) {
                0 => self.pick()?.number_of(part),
                _ => self.luck.below(FRESH_NUMBERS),
            };
            world = world.with(part, number);
        }
        Some(world)
    }

    /// Picks one of those that were kept, preferably a late one: what it showed is rarer.
    fn pick(&mut self) -> Option<&WorldId> {
        let count = self.kept.len() as u64;
        if count == 0 {
            return None;
        }
        let index = self.luck.below(count).max(self.luck.below(count));
        Some(&self.kept[index as usize])
    }
}

/// At least one in this many worlds of a round is made, and one is fresh. Chosen: enough to notice when either becomes
/// more productive.
const LEAST_SHARE: u64 = 8;
/// Parts of a world that are changed at once.
const MOST_PARTS: u64 = 2;
/// Parts that are drawn again come from numbers below this: short to read, and enough of them.
const FRESH_NUMBERS: u64 = 1_000_000;
