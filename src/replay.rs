//! From a recorded trace to a situation that can be simulated: others' use from the recording, own use from the
//! simulated backend.

use std::cell::RefCell;
use std::path::Path;
use std::rc::Rc;

use crate::catalog::Catalog;
use crate::hardware::Machine;
use crate::rng::Seed;
use crate::sample::Sample;
use crate::scenario::{Physics, Workload};
use crate::settings::RawSettings;
use crate::sim::{Others, Situation};
use crate::time::Timestamp;

use crate::trace::{Defects, ReadOptions, ResourceReader, TraceError};

/// A trace that is being replayed. Its defects are complete when the run is over.
#[derive(Clone)]
pub struct Recording {
    reader: Rc<RefCell<ResourceReader>>,
    first: Option<(Timestamp, Sample)>,
    machine: Machine,
}

impl Recording {
    /// Opens a trace and reads its first sample, which tells the machine.
    ///
    /// # Errors
    /// What the reader refuses, and a trace without a single sample.
    pub fn open(path: &Path, options: &ReadOptions) -> Result<Self, TraceError> {
        let mut reader = ResourceReader::open(path, options)?;
        let first = reader.next()?;
        let machine = reader.machine().clone();
        Ok(Self { reader: Rc::new(RefCell::new(reader)), first, machine })
    }

    /// Returns what the trace tells of the machine.
    pub fn machine(&self) -> &Machine {
        &self.machine
    }

    /// Returns the defects met so far.
    pub fn defects(&self) -> Defects {
        self.reader.borrow().defects().clone()
    }

    /// Returns the situation in which `catalog`'s models meet the recorded others.
    pub fn situation(
        &self,
        catalog: Catalog,
        settings: RawSettings,
        physics: Physics,
        workloads: Vec<Workload>,
        seed: Seed,
    ) -> Situation {
        let reader = Rc::clone(&self.reader);
        let rest = std::iter::from_fn(move || {
            reader.borrow_mut().next().map_err(|error| error.to_string()).transpose()
        });
        let readings = self.first.clone().into_iter().map(Ok).chain(rest);
        Situation {
            machine: self.machine.clone(),
            catalog,
            settings,
            seed,
            physics,
            faults: Vec::new(),
            actions: Vec::new(),
            workloads,
            others: Others::recorded(readings),
            duration: None,
        }
    }
}
