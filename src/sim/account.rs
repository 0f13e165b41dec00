//! Counts the time under memory pressure, by what really was and not by what samples saw.

use std::time::Duration;

use tiershift_core::sample::{ResourceKey, Sample, Space};
use tiershift_core::settings::Settings;
use tiershift_core::time::Timestamp;
use tiershift_core::units::Bytes;

use crate::summary::Account;

/// The running account.
#[derive(Clone, Debug)]
pub(super) struct Pressure {
    settings: Settings,
    /// What a policy that reacts at once needs to get rid of a model: unload and release.
    reaction: Duration,
    account: Account,
    others_before: Bytes,
    over: Option<Overrun>,
    exhausted: bool,
}

/// A time over memory.
#[derive(Clone, Copy, Debug)]
struct Overrun {
    /// Until when it is nobody's fault: others grew, and no reaction could have been quicker.
    excused_until: Timestamp,
}

impl Pressure {
    pub(super) fn new(settings: &Settings, reaction: Duration) -> Self {
        Self {
            settings: settings.clone(),
            reaction,
            account: Account::default(),
            others_before: Bytes::ZERO,
            over: None,
            exhausted: false,
        }
    }

    pub(super) fn account(&self) -> Account {
        self.account
    }

    /// Counts the time from `from` to `to`, in which the machine was as `truth` says.
    pub(super) fn count(&mut self, from: Timestamp, to: Timestamp, truth: &Sample) {
        let span = to.since(from);
        let above = |space: &Space| space.used() > self.settings.degrade_limit(space.total);
        let constrains = |key: ResourceKey| self.settings.constrains(key.resource);
        if truth.spaces().any(|(key, space)| constrains(key) && above(space)) {
            self.account.above_degrade_line += span;
        }
        let Some(memory) = &truth.memory else { return };
        if memory.used() > memory.total {
            let grew = memory.others > self.others_before;
            let excused_until = if grew { from + self.reaction } else { from };
            let over = *self.over.get_or_insert(Overrun { excused_until });
            self.account.over_memory += span;
            self.account.over_memory_unavoidable += if memory.others > memory.total {
                span
            } else {
                over.excused_until.min(to).since(from)
            };
        } else {
            self.over = None;
        }
        self.others_before = memory.others;
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

    /// Plays (seconds, others, own) on a 16 GiB machine with one second's reaction, and returns seconds
    /// above the line, over memory, unavoidable, and exhaustions.
    fn play(steps: &[(u64, u64, u64)]) -> (u64, u64, u64, u64) {
        let settings = Settings::new(RawSettings::default(), MachineClass::MidRange).unwrap();
        let mut pressure = Pressure::new(&settings, Duration::from_secs(1));
        for (i, &(at, others, own)) in steps.iter().enumerate() {
            let to = steps.get(i + 1).map_or(at + 10, |next| next.0);
            let [total, others, own] = [16, others, own].map(Bytes::from_gib);
            let truth = Sample { memory: Some(Space { total, others, own }), ..Sample::default() };
            pressure.count(Timestamp::from_secs(at), Timestamp::from_secs(to), &truth);
        }
        let account = pressure.account();
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
}
