//! Counts the time under memory pressure, by the true state and not by what samples showed.

use std::time::Duration;

use tiershift_core::catalog::{Catalog, Rung};
use tiershift_core::model::{Footprint, Model};
use tiershift_core::place::fit_together;
use tiershift_core::sample::{Resource, ResourceKey, Sample, Space};
use tiershift_core::settings::Settings;
use tiershift_core::time::Timestamp;
use tiershift_core::units::Bytes;

use crate::summary::Account;

/// The running totals.
#[derive(Clone, Debug)]
pub(super) struct Pressure {
    settings: Settings,
    /// The time in which a policy that reacts at once can release a model: unload and release.
    reaction: Duration,
    /// What each rung with a model takes, the lowest first.
    needs: Vec<Footprint>,
    account: Account,
    /// The spaces of the last sample.
    before: Sample,
    /// Until when time over memory is unavoidable: others jumped to where the best rung that was allowed before is too
    /// much, and no reaction could have been quicker.
    excused_until: Timestamp,
    /// What the best rung that was allowed before that jump takes.
    excused: Bytes,
    exhausted: bool,
}

impl Pressure {
    pub(super) fn new(settings: &Settings, catalog: &Catalog, reaction: Duration) -> Self {
        let primary = |rung: Rung| catalog.primary(rung).map(Model::footprint);
        Self {
            settings: settings.clone(),
            reaction,
            needs: catalog.rungs_up().filter_map(primary).collect(),
            account: Account::default(),
            before: Sample::default(),
            excused_until: Timestamp::ZERO,
            excused: Bytes::ZERO,
            exhausted: false,
        }
    }

    pub(super) fn take_account(&mut self) -> Account {
        std::mem::take(&mut self.account)
    }

    /// Counts that memory and swap are exhausted, if a process is killed at once because of it.
    pub(super) fn exhaust(&mut self) {
        self.account.out_of_memory_events += u64::from(!self.exhausted);
        self.exhausted = true;
    }

    /// Takes a sample of the machine: what is excused follows from others' use at samples alone, and so is the same for
    /// every policy.
    pub(super) fn read(&mut self, now: Timestamp, truth: &Sample) {
        let Some(memory) = truth.memory else { return };
        let line = match self.settings.constrains(Resource::Memory) {
            true => self.settings.degrade_limit(memory.total),
            false => memory.total,
        };
        let others = self.before.memory.unwrap_or(memory).others;
        // What was allowed stayed below the line: a smaller step does not take it beyond the memory.
        if memory.others > others + (memory.total - line) {
            self.judge_jump(now, &memory);
        }
        self.before.memory = Some(memory);
        if !(truth.gpus.is_empty() && self.before.gpus.is_empty()) {
            self.before.gpus.clone_from(&truth.gpus);
        }
    }

    #[cold]
    fn judge_jump(&mut self, now: Timestamp, memory: &Space) {
        let allowed = |need: &&Footprint| {
            fit_together(&[**need], &self.before, &self.settings, |total| {
                self.settings.degrade_limit(total)
            })
        };
        let shared = self.before.gpus.iter().any(|gpu| gpu.shared);
        let in_memory = |need: &Footprint| need.ram + if shared { need.vram } else { Bytes::ZERO };
        let best = self.needs.iter().rev().find(allowed).map_or(Bytes::ZERO, in_memory);
        if memory.others + best > memory.total {
            self.excused_until = now + self.reaction;
            self.excused = best;
        }
    }

    /// Counts the time from `from` to `to`, in which the machine was in the state `truth`.
    pub(super) fn count(&mut self, from: Timestamp, to: Timestamp, truth: &Sample) {
        let span = to.since(from);
        let above = |space: &Space| space.used() > self.settings.degrade_limit(space.total);
        let constrains = |key: ResourceKey| self.settings.constrains(key.resource);
        if truth.spaces().any(|(key, space)| constrains(key) && above(space)) {
            self.account.above_degrade_line += span;
        }
        if !truth.gpus.is_empty() {
            self.account.over_vram.count(span, truth);
        }
        let Some(memory) = &truth.memory else { return };
        if memory.used() > memory.total {
            self.account.over_memory += span;
        }
        self.account.over_memory_unavoidable += if memory.others > memory.total {
            span
        } else if memory.others + self.excused > memory.total {
            self.excused_until.min(to).since(from)
        } else {
            Duration::ZERO
        };
        let swap = truth.swap.map_or(Bytes::ZERO, |swap| swap.free());
        let exhausted = memory.used() > memory.total + swap;
        self.account.out_of_memory_events += u64::from(exhausted && !self.exhausted);
        self.exhausted = exhausted;
    }
}

#[cfg(test)]
mod tests {
    use tiershift_core::machine::MachineClass;
    use tiershift_core::settings::RawSettings;

    use super::*;

    /// Plays (seconds, others, own) on a 16 GiB machine with models of 2, 5 and 9 GiB and one second's reaction, and
    /// returns seconds above the line, over memory, unavoidable, and exhaustions.
    fn play(steps: &[(u64, u64, u64)]) -> (u64, u64, u64, u64) {
        let settings = Settings::new(RawSettings::default(), MachineClass::MidRange).unwrap();
        let catalog = Catalog::relative_to(Bytes::from_gib(16));
        let mut pressure = Pressure::new(&settings, &catalog, Duration::from_secs(1));
        for (i, &(at, others, own)) in steps.iter().enumerate() {
            let to = steps.get(i + 1).map_or(at + 10, |next| next.0);
            let [total, others, own] = [16, others, own].map(Bytes::from_gib);
            let truth = Sample { memory: Some(Space { total, others, own }), ..Sample::default() };
            let [from, to] = [at, to].map(Timestamp::from_secs);
            pressure.read(from, &truth);
            pressure.count(from, to, &truth);
        }
        let account = pressure.take_account();
        let [above, over, unavoidable] =
            [account.above_degrade_line, account.over_memory, account.over_memory_unavoidable]
                .map(|span| span.as_secs());
        (above, over, unavoidable, account.out_of_memory_events)
    }

    #[test]
    fn a_jump_of_others_is_excused_for_as_long_as_a_reaction_takes() {
        assert_eq!(play(&[(0, 4, 9), (10, 8, 9), (11, 8, 2)]), (1, 1, 1, 1));
        assert_eq!(play(&[(0, 4, 9), (10, 8, 9), (15, 8, 2)]), (5, 5, 1, 1));
    }

    #[test]
    fn our_own_load_has_no_excuse_and_others_alone_have_every() {
        assert_eq!(play(&[(0, 8, 0), (10, 8, 9), (12, 8, 2)]), (2, 2, 0, 1));
        assert_eq!(play(&[(0, 17, 0), (30, 8, 2)]), (30, 30, 30, 1));
    }

    #[test]
    fn what_is_unavoidable_is_the_same_whatever_was_loaded() {
        let unavoidable = |own| play(&[(0, 4, own), (10, 8, own), (20, 4, own), (30, 17, own)]).2;
        assert_eq!([0, 2, 5, 9].map(unavoidable), [11; 4]);
        // A jump after which the best rung still has a place excuses nothing.
        assert_eq!(play(&[(0, 4, 9), (10, 6, 9)]).2, 0);
    }
}
