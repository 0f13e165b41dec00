//! Several runs on one recording: it is read once, and its optimum is computed once.

use anyhow::Result;
use tiershift_core::catalog::Catalog;
use tiershift_core::controller::Detail;
use tiershift_core::machine::Machine;
use tiershift_core::policy::Registry;
use tiershift_core::settings::RawSettings;
use tiershift_core::setup::Setup;

use crate::cli::policy::PolicyChange;
use crate::cli::recorded::{Opened, Reopen};
use crate::sim::action::Action;
use crate::sim::workload::Workload;
use crate::sim::{Situation, simulate};
use crate::study::oracle::Oracle;
use crate::study::pool;
use crate::study::track::{Kept, Track};
use crate::summary::Summary;

/// One run: its policy and its seed.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) change: PolicyChange,
    pub(super) seed: u64,
}

/// A recording that was read, to be played again.
pub(super) struct Replays<'a> {
    kept: Kept,
    /// Used if the samples would take too much memory.
    reopen: Reopen,
    brought: Brought,
    registry: &'a Registry,
}

/// What a recording contributes.
struct Brought {
    machine: Machine,
    catalog: Catalog,
    settings: RawSettings,
    workloads: Vec<Workload>,
    actions: Vec<Action>,
}

impl Entry {
    fn simulate(
        &self,
        situation: Situation,
        reopen: &Reopen,
        registry: &Registry,
    ) -> Result<Summary> {
        let adviser = self.change.adviser(&situation.setup)?;
        let situation = Situation { adviser, ..situation };
        simulate(situation, registry, Detail::Silent, &mut [])
            .map_err(|error| reopen.refused(error))
    }
}

/// Plays runs on one recording, while `outside` recordings are worked on, with its optimum by the lines and the price
/// of `judge`.
pub(super) fn play_all(
    opened: Opened,
    judge: &PolicyChange,
    entries: &[Entry],
    outside: usize,
    registry: &Registry,
    most: usize,
) -> Result<Vec<Summary>> {
    let Some((first, others)) = entries.split_first() else { return Ok(Vec::new()) };
    let (replays, summary) = Replays::begin(opened, judge, first, registry, most)?;
    let mut summaries = vec![summary];
    summaries.extend(replays.play(outside, others)?);
    Ok(summaries)
}

impl<'a> Replays<'a> {
    /// Reads a recording with the first run on it. The optimum uses the lines and the price of `judge`. The samples are
    /// kept if they take no more than `most` bytes.
    pub(super) fn begin(
        opened: Opened,
        judge: &PolicyChange,
        first: &Entry,
        registry: &'a Registry,
        most: usize,
    ) -> Result<(Self, Summary)> {
        let mut brought = Brought {
            machine: opened.recording.machine().clone(),
            catalog: opened.catalog.clone(),
            settings: opened.settings(),
            workloads: opened.workloads.clone(),
            actions: Vec::new(),
        };
        let judge = brought.setup(judge, first.seed, registry)?.checked_settings()?;
        let track = Track::begin(Oracle::new(&judge, &brought.catalog), most);
        let setup = brought.setup(&first.change, first.seed, registry)?;
        let mut situation = opened.recording.situation(setup, brought.workloads.clone(), || ());
        situation.ground = situation.ground.with_tap(Track::tap(&track));
        brought.actions.clone_from(&situation.actions);
        let mut summary = first.simulate(situation, opened.reopen(), registry)?;
        opened.complete(&mut summary);
        let kept = Track::finish(track);
        kept.compare(std::slice::from_mut(&mut summary));
        Ok((Self { kept, reopen: opened.into_reopen(), brought, registry }, summary))
    }

    /// Returns whether the settings of a run are possible on this machine.
    pub(super) fn is_possible(&self, entry: &Entry) -> bool {
        let setup = self.brought.setup(&entry.change, entry.seed, self.registry);
        setup.is_ok_and(|setup| setup.checked_settings().is_ok())
    }

    /// Plays more runs, while `outside` recordings are worked on.
    pub(super) fn play(&self, outside: usize, entries: &[Entry]) -> Result<Vec<Summary>> {
        let play = |entry: &Entry| -> Result<Summary> {
            let setup = self.brought.setup(&entry.change, entry.seed, self.registry)?;
            let workloads = self.brought.workloads.clone();
            let situation = match self.kept.ground() {
                Some(ground) => Situation {
                    actions: self.brought.actions.clone(),
                    workloads,
                    ..Situation::of_recording(setup, ground)
                },
                None => self.reopen.open()?.situation(setup, workloads, || ()),
            };
            entry.simulate(situation, &self.reopen, self.registry)
        };
        let summaries = pool::map_inside(outside, entries, play);
        let mut summaries: Vec<Summary> = summaries.into_iter().collect::<Result<_>>()?;
        self.kept.compare(&mut summaries);
        Ok(summaries)
    }
}

impl Brought {
    fn setup(&self, change: &PolicyChange, seed: u64, registry: &Registry) -> Result<Setup> {
        let mut settings = self.settings.clone();
        change.apply(&mut settings, registry)?;
        Ok(Setup { machine: self.machine.clone(), catalog: self.catalog.clone(), settings, seed })
    }
}

/// Chosen: a month of two-second readings of a machine with one GPU.
pub(super) const MOST_IN_MEMORY: usize = 512 << 20;
