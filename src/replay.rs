//! From a recorded trace to a situation that can be simulated: others' use from the recording, own use from the
//! simulated backend.

use std::cell::RefCell;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;

use crate::catalog::Catalog;
use crate::hardware::Machine;
use crate::rng::Seed;
use crate::sample::Sample;
use crate::scenario::{Physics, RecordedRequest, Workload};
use crate::settings::RawSettings;
use crate::sim::{Others, Situation};
use crate::time::Timestamp;
use crate::trace::{
    Defects, Progress, ReadOptions, RequestReader, ResourceReader, ThreadedReader, TraceError,
};

/// A resource trace that is being replayed. It is read by a thread of its own, in order; what is known of its
/// defects is complete when the run is over.
#[derive(Clone)]
pub struct Recording {
    reader: Rc<RefCell<ThreadedReader>>,
    first: Option<(Timestamp, Sample)>,
    machine: Machine,
    notes: Vec<String>,
    progress: Progress,
}

impl Recording {
    /// Opens a trace and reads its first sample, which tells the machine.
    ///
    /// # Errors
    /// What the reader refuses.
    pub fn open(path: &Path, options: &ReadOptions) -> Result<Self, TraceError> {
        let mut reader = ResourceReader::open(path, options)?;
        let first = reader.next()?;
        Ok(Self {
            first,
            machine: reader.machine().clone(),
            notes: reader.header().notes.clone(),
            progress: reader.progress(),
            reader: Rc::new(RefCell::new(ThreadedReader::start(reader))),
        })
    }

    /// Returns what the trace tells of the machine.
    pub fn machine(&self) -> &Machine {
        &self.machine
    }

    /// Returns what a user should know about how the trace is read.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// Returns whether the trace tells the use of memory or video memory, without which nothing is loaded.
    pub fn tells_space(&self) -> bool {
        self.first.as_ref().is_some_and(|(_, sample)| {
            sample.memory.is_some() || sample.gpus.iter().any(|gpu| gpu.vram.is_some())
        })
    }

    /// Returns a view of how far the trace has been read.
    pub fn progress(&self) -> Progress {
        self.progress.clone()
    }

    /// Returns the digest of the trace's bytes, unpacked; `None` before the run is over.
    pub fn digest(&self) -> Option<blake3::Hash> {
        self.reader.borrow().reader().and_then(ResourceReader::digest)
    }

    /// Returns the defects of the trace; `None` before the run is over.
    pub fn defects(&self) -> Option<Defects> {
        self.reader.borrow().reader().map(|reader| reader.defects().clone())
    }

    /// Returns the situation in which `catalog`'s models meet the recorded others. `watch` is called now and
    /// then while the trace is read.
    pub fn situation(
        &self,
        catalog: Catalog,
        settings: RawSettings,
        workloads: Vec<Workload>,
        seed: Seed,
        mut watch: impl FnMut() + 'static,
    ) -> Situation {
        let reader = Rc::clone(&self.reader);
        let mut read = 0_u64;
        let rest = std::iter::from_fn(move || {
            read += 1;
            if read.is_multiple_of(WATCH_EVERY) {
                watch();
            }
            let mut reader = reader.borrow_mut();
            let next = reader.next().map_err(|error| error.to_string()).transpose()?;
            Some(next.map(|(at, sample)| (at, sample.clone())))
        });
        let readings = self.first.clone().into_iter().map(Ok).chain(rest);
        Situation {
            machine: self.machine.clone(),
            catalog,
            settings,
            seed,
            physics: Physics::default(),
            faults: Vec::new(),
            actions: Vec::new(),
            workloads,
            others: Others::recorded(readings),
            duration: None,
        }
    }
}

/// A request trace in memory.
#[derive(Clone, Debug)]
pub struct Requests {
    recorded: Arc<[RecordedRequest]>,
    defects: Defects,
}

impl Requests {
    /// Reads a request trace.
    ///
    /// # Errors
    /// What the reader refuses.
    pub fn read(path: &Path, options: &ReadOptions) -> Result<Self, TraceError> {
        let mut reader = RequestReader::open(path, options)?;
        let mut recorded = Vec::new();
        while let Some((at, request)) = reader.next()? {
            recorded.push(RecordedRequest { at, request });
        }
        Ok(Self { recorded: recorded.into(), defects: reader.defects().clone() })
    }

    /// Returns what was wrong with the file.
    pub fn defects(&self) -> &Defects {
        &self.defects
    }

    /// Returns the workload that plays them, once or again and again.
    pub fn workload(&self, repeat: bool) -> Workload {
        Workload::of_recorded(Arc::clone(&self.recorded), repeat)
    }
}

/// Samples between two looks at the progress: some milliseconds' work.
const WATCH_EVERY: u64 = 1 << 14;
